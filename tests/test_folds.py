"""Folds: people whole, classes balanced, one table for all heads, refusals with advice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heads.registry import HEADS
from pipeline.errors import LayoutError
from pipeline.folds import fold_digest, make_folds, require_classes, share_table
from pipeline.layouts import load_dataset
from pipeline.samples import Samples


def people(n: int, seed: int = 0, *, old: int = 5) -> Samples:
    """A table of ``n`` people with one to seven photos each."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 8, n)
    persons = np.repeat([f"p{number:04}" for number in range(n)], counts)
    gender = np.repeat(np.where(rng.random(n) < 0.6, "female", "male"), counts)
    age = np.repeat(np.where(np.arange(n) < old, 60, rng.integers(18, 59, n)), counts).astype(np.str_)
    mask = rng.choice(["wear", "incorrect", "normal", ""], len(persons))
    ids = np.asarray([f"{person}/{number}" for number, person in enumerate(persons)])
    return Samples(ids, tuple(Path(i) for i in ids), persons, {"mask": mask, "gender": gender, "age": age})


@settings(max_examples=15)
@given(st.integers(6, 40), st.integers(2, 6), st.integers(0, 3))
def test_nobody_is_in_two_folds_and_everybody_is_in_one(n: int, k: int, seed: int) -> None:
    samples = people(n, seed)
    folds = make_folds(samples, k, seed)
    assert set(folds.tolist()) == set(range(k))
    for person in np.unique(samples.persons):
        assert len(set(folds[samples.persons == person].tolist())) == 1
    np.testing.assert_array_equal(folds, make_folds(samples, k, seed))


def test_folds_are_balanced_better_than_chance() -> None:
    samples = people(200, old=20)
    age = HEADS["age"].labels(HEADS["age"].values(samples.columns))

    def spread(folds: np.typing.NDArray[np.int64]) -> float:
        return float(np.std([(age[folds == k] == 2).mean() for k in range(5)]))

    names = np.unique(samples.persons, return_inverse=True)[1]
    chance = np.median([spread(np.random.default_rng(seed).integers(0, 5, 200)[names]) for seed in range(50)])
    assert spread(make_folds(samples, 5)) < chance / 2


def test_too_few_people_are_refused() -> None:
    with pytest.raises(LayoutError, match="6 people cannot fill 10 folds; use --folds 6"):
        make_folds(people(6), 10)


def test_a_class_that_a_fold_lacks_is_refused() -> None:
    samples = people(40, old=3)
    folds = make_folds(samples, 5)
    with pytest.raises(LayoutError, match=r"holds no 'old' of age \(3 people, 5 folds\); use --folds 3"):
        require_classes(HEADS["age"], samples, folds)
    with pytest.raises(LayoutError, match="no photo has class 'old' of age"):
        require_classes(HEADS["age"], people(40, old=0), folds)
    require_classes(HEADS["gender"], samples, folds)


def test_other_labels_or_people_change_the_digest() -> None:
    samples = people(20)
    folds = make_folds(samples, 4)
    moved = np.where(samples.persons == samples.persons[0], (folds + 1) % 4, folds)
    assert fold_digest(samples, folds) != fold_digest(samples, moved)
    order = np.random.default_rng(0).permutation(len(folds))
    assert fold_digest(samples, folds) == fold_digest(samples.take(order), folds[order])


def test_the_share_table_adds_up(data: Path) -> None:
    samples = load_dataset(data).samples
    lines = share_table(samples, make_folds(samples, 3)).splitlines()
    numbers = [[float(cell.rstrip("%")) for cell in line.split()[1:]] for line in lines[1:]]
    assert sum(row[0] for row in numbers[:-1]) == numbers[-1][0] == 18
    assert sum(row[1] for row in numbers[:-1]) == numbers[-1][1] == 126
    assert all(sum(row[2:5]) == pytest.approx(100, abs=0.2) for row in numbers)
