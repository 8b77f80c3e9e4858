"""What a fold keeps, chooses and averages while it trains, and that a stop at any moment changes none of it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.averages import Kept, greedy_soup, mean_of
from pipeline.folds import grouped_part
from pipeline.inner import inner_people
from pipeline.orders import say_epoch
from pipeline.phases import Phase
from pipeline.state import Progress, Tensors
from pipeline.work import Work
from tests.craft import Fold, StopAt, fold_of, result_bytes

FINISHED: dict[str, Any] = {"inner": 0.25, "finish_epochs": 1}
SURE = {"wear": 0.2, "incorrect": 0.2, "normal": 0.2}
BEST: dict[str, Any] = {"inner": 0.25, "keep": "best"}
SURER: dict[str, Any] = {"pseudo": SURE, "pseudo_epochs": 1}
DROPOUT = {"drop_rate": 0.3}
COMBOS: dict[str, dict[str, Any]] = {
    "best": {**BEST, "epochs": 3},
    "best of averages, then finished": {**BEST, "ema": 0.9, "epochs": 3, **FINISHED},
    "soup, then all": {"average": "greedy", "average_epochs": 2, "ema": 0.9, "epochs": 2, **SURER, **FINISHED},
    "swa of dropout": {"average": "swa", "backbone_args": DROPOUT, "epochs": 3, **SURER},
    "patience": {**BEST, "patience": 1, "epochs": 5, "finish_epochs": 1, "lr": 0.3},
    "improved": {**BEST, "validate_when": "improved", "validate_every": 2, "epochs": 4, "sam": 0.05},
    "average": {"ema": 0.99, "epochs": 2, "backbone_args": DROPOUT},
}


@pytest.fixture(scope="module")
def photos() -> dict[Path, object]:
    """Photos that were read."""
    return {}


def stops(fold: Fold) -> tuple[dict[str, bytes], int]:
    """What an undisturbed training gives, and how often it looks whether to stop."""
    counted = StopAt()
    return result_bytes(fold.run(counted)), counted.looks


@pytest.mark.parametrize(
    "name", ["best of averages, then finished", pytest.param("swa of dropout", marks=pytest.mark.slow)]
)
def test_a_training_that_was_stopped_ends_in_the_same_bytes(data: Path, photos: dict[Path, object], name: str) -> None:
    fold = fold_of(data, photos=photos, **COMBOS[name])
    expected, looks = stops(fold)
    rng = random.Random(name)
    assert result_bytes(fold.stopped_at(rng.randint(1, looks // 2), rng.randint(1, looks // 2))) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", COMBOS)
def test_a_training_that_is_stopped_at_any_look_ends_in_the_same_bytes(
    data: Path, photos: dict[Path, object], name: str
) -> None:
    fold = fold_of(data, photos=photos, **COMBOS[name])
    expected, looks = stops(fold)
    for look in range(1, looks + 1):
        assert result_bytes(fold.stopped_at(look)) == expected, look


def test_inner_people_are_apart_and_no_extra_photo_is_theirs(data: Path, photos: dict[Path, object]) -> None:
    found = [fold_of(data, photos=photos, inner=0.25, fold=number) for number in range(3)]
    for fold in found:
        persons, parts = fold.plan.data.samples.persons, (fold.data.train, fold.data.inner, fold.data.held_out)
        people = [set(persons[rows]) for rows in parts]
        assert sum(map(len, people)) == len(set.union(*people)) == 18
        assert sorted(np.concatenate(parts)) == fold.plan.labelled.tolist()
        assert len(people[1]) == 3
    again = fold_of(data, photos=photos, inner=0.25, seed=5, lr=0.1)
    np.testing.assert_array_equal(again.data.inner, found[0].data.inner)


def test_inner_people_have_the_classes_of_all() -> None:
    persons = np.repeat([f"p{number}" for number in range(100)], 3)
    strata = np.repeat(np.arange(100) % 4, 3)
    rows = np.flatnonzero(np.arange(300) % 7 > 0)
    chosen = [inner_people(rows, persons, strata, share=0.2, seed=seed) for seed in (0, 0, 1)]
    assert set(chosen[0]) <= set(rows)
    assert set(persons[chosen[0]]).isdisjoint(persons[np.setdiff1d(rows, chosen[0])])
    assert np.bincount(strata[chosen[0]]) == pytest.approx(np.bincount(strata[rows]) / 5, abs=3)
    assert chosen[0].tolist() == chosen[1].tolist() != chosen[2].tolist()
    assert len(inner_people(rows[:2], persons, strata, share=0.2, seed=0)) == 0


def test_more_parts_than_any_class_has_photos() -> None:
    persons = np.array([f"p{number}" for number in range(12)])
    part = grouped_part(np.arange(12) % 4, persons, 12, 0)
    assert len(part) == 1


def test_held_out_labels_choose_nothing(data: Path, photos: dict[Path, object]) -> None:
    fold = fold_of(data, photos=photos, **COMBOS["best of averages, then finished"] | {"epochs": 2})
    values = fold.data.values.copy()
    values[fold.data.held_out] = 2 - values[fold.data.held_out]
    one, other = result_bytes(fold.run()), result_bytes(fold.with_data(values=values).run())
    assert one.pop("history") != other.pop("history")
    assert one == other


def test_the_moving_average_is_that_of_a_loop(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensors] = []
    honest = Kept.after_step

    def noted(kept: Kept, network: torch.nn.Module, step: int) -> None:
        seen.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        honest(kept, network, step)

    monkeypatch.setattr(Kept, "after_step", noted)
    weights = fold_of(data, ema=0.7).run().weights
    average = dict(seen[0])
    for step, state in enumerate(seen[1:], start=1):
        decay = min(0.7, 1 - step ** (-2 / 3))  # the first two steps are copied
        average = {
            name: decay * average[name] + (1 - decay) * tensor if tensor.is_floating_point() else tensor
            for name, tensor in state.items()
        }
    assert len(seen) > 3
    torch.testing.assert_close(weights, average, rtol=1e-4, atol=1e-6)


def test_swa_is_the_mean_of_the_last_epochs_with_normalisation_measured_anew(
    data: Path, photos: dict[Path, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[dict[int, Tensors]] = []
    honest = Work._settle

    def noted(work: Work, main: Phase) -> bool:
        kept.append(work.kept.epochs)
        return honest(work, main)

    monkeypatch.setattr(Work, "_settle", noted)
    weights = fold_of(data, photos=photos, average="swa", average_epochs=2, epochs=3).run().weights
    (epochs,) = kept
    assert list(epochs) == [1, 2]
    for name, tensor in weights.items():
        mean = torch.stack([state[name].double() for state in epochs.values()]).mean(dim=0)
        same = torch.allclose(tensor.double(), mean, atol=1e-6)
        assert same == ("running" not in name and "num_batches" not in name), name


def test_a_greedy_soup_takes_what_does_no_harm() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        states = {epoch: {"w": torch.from_numpy(rng.normal(size=3))} for epoch in range(4)}
        goal = torch.from_numpy(rng.normal(size=3))

        def judge(weights: Tensors, goal: torch.Tensor = goal) -> float:
            return -float((weights["w"] - goal).square().sum())

        scores = {epoch: judge(weights) for epoch, weights in states.items()}
        taken: list[int] = []
        for epoch in sorted(scores, key=lambda epoch: -scores[epoch]):
            tried = torch.stack([states[number]["w"] for number in [*taken, epoch]]).mean(dim=0)
            before = torch.stack([states[number]["w"] for number in taken or [epoch]]).mean(dim=0)
            taken += [epoch] if judge({"w": tried}) >= judge({"w": before}) else []
        expected = mean_of([states[epoch] for epoch in taken])
        torch.testing.assert_close(greedy_soup(states, scores, judge), expected)


def test_the_best_epoch_is_the_earliest_of_the_best_and_patience_counts_from_it() -> None:
    progress = Progress(1)
    for score in (0.2, 0.5, 0.5, 0.1):
        progress.end_epoch({})
        progress.judged(score)
    assert (progress.best_epoch, progress.best, progress.waited()) == (1, 0.5, 2)


def test_an_early_stop_leaves_the_best_weights(data: Path, photos: dict[Path, object]) -> None:
    how = {**BEST, "schedule": "constant", "warmup": 0.0, "lr": 0.1, "metric": "loss"}
    result = fold_of(data, photos=photos, **how, epochs=8, patience=2).run()
    history, best = result.progress.history, result.progress.best_epoch
    losses = [row["inner_loss"] for row in history]
    assert best == int(np.argmin(losses))
    assert len(history) == min(8, best + 3)
    again = fold_of(data, photos=photos, **how | {"keep": "last"}, epochs=best + 1).run()
    assert result_bytes(again)["weights"] == result_bytes(result)["weights"]


def phases_of(fold: Fold, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Phase], Any]:
    """The phases of a training, and what it gave."""
    phases: list[Phase] = []
    honest = Work._learn

    def noted(work: Work, phase: Phase) -> torch.Tensor | None:
        phases.append(phase)
        return honest(work, phase)

    monkeypatch.setattr(Work, "_learn", noted)
    return phases, fold.run()


def test_the_finish_sees_inner_people_alone_and_pseudo_labels_nobody_held_out(
    data: Path, photos: dict[Path, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = fold_of(data, photos=photos, **FINISHED, **SURER, mixing="mixup", finish_lr=0.25)
    (main, finish, further), result = phases_of(fold, monkeypatch)
    n, rows = len(fold.data.values), [np.concatenate([rows for _, rows in p.steps]) for p in (main, finish, further)]
    assert sorted(rows[0]) == sorted(fold.data.train)
    assert sorted(rows[1]) == sorted(fold.data.inner)
    assert finish.photos.augmentation is not None
    assert finish.photos.augmentation.mixing is not None
    assert all(set(pool) <= set(fold.data.inner) for pool in finish.photos.augmentation.mixing.pools.values())
    assert set(rows[2][rows[2] < n]) == {*fold.data.train, *fold.data.inner}
    taken = rows[2][rows[2] >= n]
    assert len(taken) == 6  # each has a class of probability above a third
    assert set(further.photos.values[taken, 0]) <= {0, 1, 2}
    np.testing.assert_array_equal(further.photos.photos[taken[:1]][0], fold.data.test[taken[0] - n])
    assert [row["lr"] for row in result.progress.history[1:]] == [0.25e-3] * 2
    assert ["inner_loss" in row for row in result.progress.history] == [True, False, False]


def test_no_eval_photo_that_is_sure_is_said(
    data: Path, photos: dict[Path, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fold = fold_of(data, photos=photos, pseudo={"wear": 1.0}, pseudo_epochs=1)
    (_, further), _ = phases_of(fold, monkeypatch)
    assert (
        "0 of 6 eval photos reach a threshold of pseudo; going on with the training photos" in capsys.readouterr().out
    )
    assert {row for _, rows in further.steps for row in rows} == set(fold.data.train)


def test_epochs_that_were_not_judged_read_well(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"fold": 0.0, "epoch": 1.0, "train_loss": 0.5, "images_per_second": 90.0}
    say_epoch(row)
    say_epoch(row | {"mask_macro_f1": 0.25, "inner_macro_f1": 0.5})
    assert capsys.readouterr().out.splitlines() == [
        "fold 0 epoch  1  loss 0.5000  90 img/s",
        "fold 0 epoch  1  loss 0.5000  mask F1 0.250  inner F1 0.500  90 img/s",
    ]
