"""Objectives of a quantity: second implementations, limiting cases, bins by rule, and classes cut elsewhere."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy, norm
from torch import Tensor

from heads.base import HeadError
from heads.cuts import bins_of
from heads.objective import Objective
from heads.objectives import build
from heads.recipe import UNKNOWN, Recipe
from heads.registry import HEADS
from heads.task import Task
from pipeline.config import TrainConfig
from tests.conftest import train

AGE = HEADS["age"]
YEARS = torch.tensor([18.0, 29, 30, 44, 59, 60, 71], dtype=torch.float64)
BIN = np.clip((YEARS.numpy() - 15) // 5, 0, 9).astype(int)  # of the head's own ten
SINGLE = np.clip(YEARS.numpy() - 15, 0, 49).astype(int)


def objective(name: str, **args: float) -> Objective:
    return build(AGE, name, Recipe(objective=name, objective_args=args), UNKNOWN)


def some_outputs(made: Objective) -> Tensor:
    return torch.randn(len(YEARS), made.n_outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_dldl_is_the_divergence_from_a_discretised_normal_distribution() -> None:
    made = objective("dldl", sigma=3)
    outputs = some_outputs(made)
    cuts = np.concatenate([[-np.inf], np.arange(16, 65) - 0.5, [np.inf]])
    targets = np.diff(norm.cdf(cuts, loc=YEARS.numpy()[:, None], scale=3), axis=1)
    expected = entropy(targets, outputs.softmax(dim=1).numpy(), axis=1)
    np.testing.assert_allclose(made.loss(outputs, YEARS, 0.0), expected, rtol=1e-6)


def test_sord_targets_fall_with_the_distance_of_the_bins() -> None:
    made = objective("sord", power=2)
    outputs = some_outputs(made)
    log_p = outputs.log_softmax(dim=1).numpy()
    for row, own in enumerate(SINGLE):
        raw = np.array([np.exp(-(abs(own - k) ** 2.0)) for k in range(50)])
        expected = -(raw / raw.sum() * log_p[row]).sum()
        assert float(made.loss(outputs, YEARS, 0.0)[row]) == pytest.approx(expected)


def test_mean_variance_is_cross_entropy_with_moments() -> None:
    made = objective("mean-variance", mean=0.3, variance=0.1)
    outputs = some_outputs(made)
    probs, support = outputs.softmax(dim=1).numpy(), np.arange(15, 65)
    plain = -np.log(probs[np.arange(len(YEARS)), SINGLE])
    mean = probs @ support
    error = mean - YEARS.numpy().clip(15, 64)
    variance = probs @ support**2 - mean**2
    np.testing.assert_allclose(made.loss(outputs, YEARS, 0.0), plain + 0.15 * error**2 + 0.1 * variance)
    np.testing.assert_allclose(objective("mean-variance", mean=0, variance=0).loss(outputs, YEARS, 0.0), plain)


def test_coral_asks_each_edge_and_its_answers_fall() -> None:
    made = objective("coral")
    outputs = some_outputs(made)
    for row, own in enumerate(BIN):
        logit, expected, passing = float(outputs[row, 0]), 0.0, []
        for k in range(9):
            logit -= np.log1p(np.exp(float(outputs[row, k]))) if k else 0.0
            passing.append(1 / (1 + np.exp(-logit)))
            expected -= np.log(passing[-1] if own > k else 1 - passing[-1])
        assert float(made.loss(outputs, YEARS, 0.0)[row]) == pytest.approx(expected)
        cut = [1.0, passing[2], passing[8], 0.0]  # at 30 and 60
        np.testing.assert_allclose(made.decode(outputs)[row], -np.diff(cut))


def test_corn_is_the_likelihood_of_the_bin() -> None:
    made = objective("corn")
    outputs = some_outputs(made)
    yes = outputs.sigmoid().numpy()
    probs = np.stack([np.prod(yes[:, :k], axis=1) * (1 - yes[:, k] if k < 9 else 1) for k in range(10)], axis=1)
    np.testing.assert_allclose(made.loss(outputs, YEARS, 0.0), -np.log(probs[np.arange(len(YEARS)), BIN]))
    classes = np.stack([probs[:, :3].sum(axis=1), probs[:, 3:9].sum(axis=1), probs[:, 9]], axis=1)
    np.testing.assert_allclose(made.decode(outputs), classes)


def test_gaussian_is_the_likelihood_of_a_normal_distribution() -> None:
    made = objective("gaussian")
    outputs = some_outputs(made)
    mean, spread = 40 + 25 * outputs[:, 0], 25 * (F.softplus(outputs[:, 1]) + 0.02)
    shift = np.log(np.sqrt(2 * np.pi)) + np.log(25)
    np.testing.assert_allclose(made.loss(outputs, YEARS, 0.0), -norm.logpdf(YEARS, mean, spread) - shift)


@pytest.mark.parametrize("name", ["l1", "huber"])
def test_a_point_loss_teaches_the_mean_and_the_likelihood_the_spread(name: str) -> None:
    made, likelihood = objective(name), objective("gaussian")
    outputs, same = (some_outputs(made).requires_grad_() for _ in range(2))
    made.loss(outputs, YEARS, 0.0).sum().backward()  # type: ignore[no-untyped-call]
    likelihood.loss(same, YEARS, 0.0).sum().backward()  # type: ignore[no-untyped-call]
    assert outputs.grad is not None
    assert same.grad is not None
    error = 40 + 25 * outputs[:, 0].detach() - YEARS
    slope = error.sign() if name == "l1" else (error / 5).clamp(-1, 1)
    torch.testing.assert_close(outputs.grad[:, 0], slope)
    torch.testing.assert_close(outputs.grad[:, 1], same.grad[:, 1])


@pytest.mark.parametrize("name", AGE.objectives)
def test_an_auxiliary_output_learns_years_and_decodes_nothing(name: str) -> None:
    plain = build(AGE, name, Recipe(objective=name), UNKNOWN)
    made = build(AGE, name, Recipe(objective=name, auxiliary=2.0), UNKNOWN)
    assert made.n_outputs == plain.n_outputs + 1
    outputs = some_outputs(made)
    kept, beside = outputs[:, :-1], outputs[:, -1]
    torch.testing.assert_close(made.decode(outputs), plain.decode(kept))
    if plain.expect and made.expect:
        torch.testing.assert_close(made.expect(outputs), plain.expect(kept))
    error = 25 * F.huber_loss(40 / 25 + beside, YEARS / 25, reduction="none", delta=5 / 25) / 5
    torch.testing.assert_close(made.loss(outputs, YEARS, 0.0) - plain.loss(kept, YEARS, 0.0), 2 * error)


@settings(max_examples=50)
@given(st.sampled_from(["width", "frequency"]), st.integers(3, 60), st.lists(st.integers(0, 90), max_size=200))
def test_bins_by_rule_hold_the_class_edges(rule: str, count: int, ages: list[int]) -> None:
    recipe, values = Recipe(bin_rule=rule, bin_count=count), np.array(ages, dtype=float)
    bins = bins_of(AGE, recipe, values)
    assert {30.0, 60.0} <= set(bins.inner)
    assert (np.diff(bins.edges) > 0).all()
    assert (bins.edges[0], bins.edges[-1]) == (15, 65)
    assert len(bins) == count or (rule == "frequency" and len(ages) and 3 <= len(bins) < count)
    assert bins.counts(values).sum() == len(ages)


def test_bins_of_equal_frequency_part_the_photos_evenly() -> None:
    ages = np.repeat(np.arange(20, 60), np.arange(1, 41)).astype(float)
    counts = bins_of(AGE, Recipe(bin_rule="frequency", bin_count=8), ages).counts(ages)
    free = counts[[2, 3, 4, 5]]  # whose edges no class edge has moved
    assert abs(free - len(ages) / 8).max() <= 40


def test_classes_cut_elsewhere_are_decoded_by_the_shares_of_the_photos() -> None:
    ages = np.array([20.0] * 4 + [45] * 5 + [58] * 3 + [60] * 2)
    task = Task.of(AGE, recipe=Recipe(train_edges=(30, 58)), values=ages[:, None])
    sure = torch.eye(3, dtype=torch.float64) * 100
    torch.testing.assert_close(task.decode(sure)[0], torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0.6, 0.4]]).double())
    photos = np.array([4, 8, 2]) / 14
    np.testing.assert_allclose(task.mix(0, photos), photos)
    old_from_58 = task.losses(sure, torch.full((3, 1), 58.0))[:, 0]
    assert [loss < 1e-6 for loss in old_from_58.tolist()] == [False, False, True]


WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"objective": "dldl", "objective_args": {"sgima": 1}},
        "dldl takes no argument 'sgima'; it takes: sigma",
    ),
    ({"objective_args": {"sigma": 1}}, "objective classes takes no argument 'sigma'; it takes: none"),
    ({"objective": "bins", "bin_rule": "width", "bin_count": 2}, "bin_count = 2 gives too few bins for the classes"),
    ({"bin_rule": "width"}, "bins are set, but no head learns them"),
    ({"objective": "bins", "train_edges": (30, 58)}, "age is trained as bins; use objective classes"),
    ({"train_edges": (58, 30)}, "two or more and increase"),
]


@pytest.mark.parametrize(("recipe", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_does_not_fit_is_refused(recipe: dict[str, Any], message: str) -> None:
    with pytest.raises(HeadError, match=message):
        Task.of(AGE, recipe=Recipe(**recipe))


@pytest.mark.parametrize("setting", [{"auxiliary": 1.0}, {"train_edges": (30, 58)}], ids=["auxiliary", "train_edges"])
def test_what_only_quantities_have_is_refused_for_classes(setting: dict[str, Any]) -> None:
    with pytest.raises(HeadError, match="is for heads of a quantity, such as age; mask, gender names classes"):
        Task.of(HEADS["mask"], HEADS["gender"], recipe=Recipe(**setting))
    Task.of(HEADS["mask"], AGE, recipe=Recipe(**setting))


def test_a_recipe_is_part_of_the_settings() -> None:
    defaults = TrainConfig()
    assert {item.name: getattr(defaults, item.name) for item in fields(Recipe)} == asdict(Recipe())


def test_a_shared_network_gives_arguments_to_the_head_that_knows_them() -> None:
    task = Task.of(HEADS["mask"], AGE, recipe=Recipe(objective="dldl", objective_args={"sigma": 4}, loss="focal"))
    assert task.names == ("classes", "dldl")
    assert [made.n_outputs for made in task.objectives] == [3, 50]


def test_a_run_tells_the_mix_it_was_trained_under_and_can_be_verified(data: Path, tmp_path: Path) -> None:
    from pipeline.store import Run, Store
    from pipeline.verify import verify_runs

    craft: dict[str, Any] = {"loss": "balanced-softmax", "train_edges": (50,), "auxiliary": 0.1, "folds": 2}
    mix = Run(train(data, tmp_path, "mask", "age", **craft)).info()["mix"]["mask"]
    np.testing.assert_allclose(mix["photos"], np.array([5, 1, 1]) / 7)
    np.testing.assert_allclose(mix["trained"], np.full(3, 1 / 3))
    found = verify_runs(Store(tmp_path), [], None)
    assert {finding.status for group in found.groups.values() for finding in group} == {"ok"}
