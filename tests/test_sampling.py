"""Samplers: what they draw, how often, that the mix they announce is the one that comes, and the border band."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heads.base import IntArray
from heads.registry import head_named
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.sampling import (
    SAMPLERS,
    Groups,
    counted,
    groups_of,
    require_border,
    seen_mix,
    training_steps,
    weights_of,
)

CLASSES = np.repeat([0, 1, 2], [60, 30, 6])  # 96 photos, the last class rare
PERSONS = np.concatenate([np.arange(60) // 3, 20 + np.arange(30) // 5, 26 + np.arange(6) // 6])
GROUPS = Groups(CLASSES, PERSONS)
ROWS = np.arange(len(CLASSES))
AGE, MASK = head_named("age"), head_named("mask")


def epoch_of(sampler: str, epoch: int = 0, *, batch_size: int = 8, drop_last: bool = False) -> list[IntArray]:
    epochs = range(epoch, epoch + 1)
    steps = training_steps(
        ROWS, batch_size=batch_size, epochs=epochs, key=(1, 2), sampler=sampler, groups=GROUPS, drop_last=drop_last
    )
    return [rows for _, rows in steps]


def test_shuffled_gives_the_order_that_it_always_gave() -> None:
    rows = np.arange(50) * 3
    steps = training_steps(rows, batch_size=50, epochs=range(2, 3), key=(4, 5))
    assert steps[0][1].tolist() == np.random.default_rng([4, 5, 2]).permutation(rows).tolist()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_epoch_is_a_function_of_its_key(sampler: str) -> None:
    both = training_steps(ROWS, batch_size=8, epochs=range(3), key=(1, 2), sampler=sampler, groups=GROUPS)
    alone = epoch_of(sampler, 2)
    later = [rows for epoch, rows in both if epoch == 2]
    assert all(np.array_equal(a, b) for a, b in zip(alone, later, strict=True))
    assert not np.array_equal(alone[0], epoch_of(sampler, 1)[0])


@pytest.mark.parametrize("sampler", SAMPLERS)
@given(n=st.integers(2, 40), batch_size=st.integers(2, 9), seed=st.integers(0, 99), drop_last=st.booleans())
def test_batches_hold_known_rows_and_never_one_alone(
    sampler: str, n: int, batch_size: int, seed: int, *, drop_last: bool
) -> None:
    rng = np.random.default_rng(seed)
    groups = Groups(rng.integers(0, 4, 3 * n), np.arange(3 * n) // 2)
    rows = rng.permutation(3 * n)[:n]
    if len(np.unique(groups.persons[rows])) == 1:
        return
    steps = training_steps(
        rows, batch_size=batch_size, epochs=range(2), key=(seed,), sampler=sampler, groups=groups, drop_last=drop_last
    )
    for epoch in range(2):
        shown = np.concatenate([batch for number, batch in steps if number == epoch])
        assert set((shown % (3 * n)).tolist()) <= set(rows.tolist())
        assert len(set(shown.tolist())) == len(shown)  # a photo that comes again is another one
    assert all(2 <= len(batch) <= batch_size + 1 for _, batch in steps)
    if drop_last:
        assert len({len(batch) for _, batch in steps}) == 1
    elif sampler != "one-per-person":
        assert sum(len(batch) for _, batch in steps) == 2 * n


def test_balanced_batches_hold_every_class_equally_often_and_the_rest_rotates() -> None:
    batches = epoch_of("balanced-batches", batch_size=8)
    counts = np.stack([np.bincount(CLASSES[rows % 96], minlength=3) for rows in batches])
    assert set(counts.ravel().tolist()) == {2, 3}
    assert np.ptp(counts.sum(axis=0)) <= 1
    assert len({tuple(row) for row in counts.tolist()}) == 3
    seen = np.bincount(np.concatenate(batches) % 96, minlength=len(ROWS))
    for label in range(3):  # within a class, nobody is seen again before all were
        assert np.ptp(seen[label == CLASSES]) <= 1


def test_one_per_person_takes_one_photo_of_each_and_in_time_all_photos() -> None:
    epochs = [np.concatenate(epoch_of("one-per-person", epoch)) for epoch in range(60)]
    assert all(sorted(PERSONS[rows].tolist()) == list(range(27)) for rows in epochs)
    assert set(np.concatenate(epochs).tolist()) == set(ROWS.tolist())


def test_one_per_person_needs_two_people() -> None:
    groups = Groups(np.zeros(4, dtype=np.int64), np.zeros(4, dtype=np.int64))
    with pytest.raises(ConfigError, match="needs two people"):
        training_steps(np.arange(4), batch_size=2, epochs=range(1), key=(0,), sampler="one-per-person", groups=groups)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_mix_that_is_announced_is_the_mix_that_comes(sampler: str) -> None:
    targets = np.where(ROWS % 5 == 0, -1, np.where(ROWS % 2, CLASSES, 0))  # a head that cuts across the joint classes
    weights = np.where(ROWS % 3, 1.0, 0.5)
    epochs = 200
    steps = training_steps(ROWS, batch_size=96, epochs=range(epochs), key=(3,), sampler=sampler, groups=GROUPS)
    rows = np.concatenate([batch for _, batch in steps]) % 96
    mass = np.bincount(targets[rows][targets[rows] >= 0], weights=weights[rows][targets[rows] >= 0], minlength=3)
    told = seen_mix(sampler, GROUPS, targets, 3, there=np.ones(len(ROWS)), weights=weights)
    np.testing.assert_allclose(mass / mass.sum(), told, atol=0.015)
    assert told.sum() == pytest.approx(1)


def test_balanced_samplers_see_the_classes_equally_and_root_lies_between() -> None:
    shares = {
        name: seen_mix(name, GROUPS, CLASSES, 3, there=np.ones(96), weights=np.ones(96))
        for name in ("shuffled", "balanced", "sqrt-balanced", "balanced-batches")
    }
    np.testing.assert_allclose(shares["balanced"], 1 / 3)
    np.testing.assert_allclose(shares["balanced-batches"], 1 / 3)
    np.testing.assert_allclose(shares["shuffled"], np.array([60, 30, 6]) / 96)
    roots = np.sqrt([60, 30, 6])
    np.testing.assert_allclose(shares["sqrt-balanced"], roots / roots.sum())


def test_a_label_that_is_not_given_is_a_class_and_eval_photos_are_people_of_their_own() -> None:
    values = np.array([[0, 23], [0, 29], [0, 41], [0, np.nan], [1, np.nan], [1, np.nan]])
    groups = groups_of((MASK, AGE), values, np.array([0, 0, 1, 1]))
    assert len(set(groups.classes.tolist())) == 4
    assert groups.classes[0] == groups.classes[1]
    assert groups.persons.tolist() == [0, 0, 1, 1, 2, 3]


def test_the_border_band_counts_its_ends_and_only_where_there_is_a_quantity() -> None:
    values = np.array([[0, 56.9], [1, 57], [2, 59], [0, 59.1], [1, np.nan]])
    config = TrainConfig(border=(57, 59), border_weight=0.25)
    assert weights_of((MASK, AGE), values, config).tolist() == [[1, 1], [1, 0.25], [1, 0.25], [1, 1], [1, 1]]
    assert weights_of((MASK, AGE), values, TrainConfig()).tolist() == [[1, 1]] * 5


def test_photos_that_count_for_no_head_are_left_out() -> None:
    values = np.array([[0, 50], [np.nan, 58], [1, 58], [np.nan, np.nan]])
    config = TrainConfig(border=(57, 59))
    assert counted(values, weights_of((MASK, AGE), values, config)).tolist() == [True, False, True, False]
    assert counted(values[:, 1:], weights_of((AGE,), values[:, 1:], config)).tolist() == [True, False, False, False]


def test_a_border_band_that_does_nothing_or_takes_a_class_away_is_refused() -> None:
    values = np.array([[0, 20], [1, 45], [2, 60]])
    require_border((MASK, AGE), values, TrainConfig(border=(57, 59)))
    require_border((MASK, AGE), values, TrainConfig(border=(57, 60), border_weight=0.1))
    with pytest.raises(ConfigError, match="border is for heads of a quantity, such as age; mask names classes"):
        require_border((MASK,), values[:, :1], TrainConfig(border=(57, 59)))
    with pytest.raises(ConfigError, match="border 57-60 leaves out every photo of 'old'"):
        require_border((MASK, AGE), values, TrainConfig(border=(57, 60)))
    with pytest.raises(ConfigError, match="add border"):
        TrainConfig(border_weight=0.5)
