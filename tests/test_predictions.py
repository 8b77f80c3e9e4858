"""Predictions check themselves, and keep every row with its id."""

import dataclasses
import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.predictions import EnsembleError, MisalignedPredictions, Predictions, concatenate

CLASSES = ("young", "middle", "old")
seeds = st.integers(0, 2**32 - 1)


def some(n: int = 6, seed: int = 0, prefix: str = "s") -> Predictions:
    """Predictions of ``n`` samples."""
    rng = np.random.default_rng(seed)
    return Predictions(
        ids=np.array([f"{prefix}{i:03d}" for i in rng.permutation(n)], dtype=np.str_),
        classes=CLASSES,
        probs=rng.dirichlet(np.ones(3), size=n),
        folds=rng.integers(-1, 3, size=n),
        targets=rng.integers(-1, 3, size=n),
    )


def same(first: Predictions, second: Predictions) -> bool:
    """Whether every field agrees, row by row."""
    pairs = zip(dataclasses.astuple(first), dataclasses.astuple(second), strict=True)
    return all(np.array_equal(mine, other) for mine, other in pairs)


def with_value(array: npt.NDArray[Any], value: object) -> npt.NDArray[Any]:
    """A copy with the third row replaced."""
    array = array.copy()
    array[2] = value
    return array


SOME = some()
CORRUPTED = {
    "an id twice": ({"ids": with_value(SOME.ids, SOME.ids[0])}, r"1 ids repeat, e\.g\. 's\d+'; give every sample one"),
    "a missing id": ({"ids": SOME.ids[1:]}, r"probs have shape \(6, 3\), not \(5, 3\)"),
    "a missing fold": ({"folds": SOME.folds[1:]}, r"folds have shape \(5,\), not \(6,\)"),
    "a missing target": ({"targets": SOME.targets[1:]}, r"targets have shape \(5,\), not \(6,\)"),
    "a missing column": ({"probs": SOME.probs[:, 1:]}, r"probs have shape \(6, 2\), not \(6, 3\).*one column a class"),
    "flat probs": ({"probs": SOME.probs[:, 0]}, r"probs have shape \(6,\)"),
    "no classes": ({"classes": (), "probs": SOME.probs[:, :0]}, r"classes are \(\); give at least one"),
    "a class twice": ({"classes": ("a", "b", "a")}, r"'a', 'b', 'a'.*each once"),
    "nan": ({"probs": with_value(SOME.probs, np.nan)}, r"1 of 6 samples have probs that are not finite, e\.g\. 's\d+'"),
    "inf": ({"probs": with_value(SOME.probs, [np.inf, -np.inf, 1])}, r"not finite.*the first: inf.*diverged"),
    "a negative": ({"probs": with_value(SOME.probs, [-0.5, 0.5, 1])}, r"negative probs.*the first: -0\.5\); decode"),
    "logits": ({"probs": SOME.probs * 3}, r"6 of 6 samples have probs that do not sum to 1.*the first: 3\)"),
    "a sum just off": ({"probs": SOME.probs + 5e-5}, r"do not sum to 1.*the first: 1\.00015\)"),
    "a class that is not": ({"targets": with_value(SOME.targets, 3)}, r"the first: 3\); targets are 0 to 2, or -1"),
    "a target below": ({"targets": with_value(SOME.targets, -2)}, r"targets out of range"),
    "a fold below": ({"folds": with_value(SOME.folds, -2)}, r"the first: -2\); folds are 0 or more, or -1"),
}


@pytest.mark.parametrize(("changes", "message"), CORRUPTED.values(), ids=CORRUPTED.keys())
def test_what_is_corrupted_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EnsembleError, match=message):
        dataclasses.replace(SOME, **changes)


def test_the_message_names_the_first_sample_at_fault() -> None:
    with pytest.raises(EnsembleError, match=f"e.g. '{SOME.ids[2]}'"):
        dataclasses.replace(SOME, probs=with_value(SOME.probs, np.nan))


def test_float32_rows_are_kept_as_given() -> None:
    probs = SOME.probs.astype(np.float32).astype(np.float64)
    assert np.array_equal(dataclasses.replace(SOME, probs=probs).probs, probs)


def test_arrays_are_read_only_copies() -> None:
    probs = SOME.probs.copy()
    made = dataclasses.replace(SOME, probs=probs)
    probs[0] = 9
    assert same(made, SOME)
    for name in ("ids", "probs", "folds", "targets"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(made, name)[0] = getattr(made, name)[1]


def test_labels_are_the_most_probable_classes() -> None:
    assert np.array_equal(SOME.labels, SOME.probs.argmax(axis=1))


def test_predictions_travel_between_processes() -> None:
    assert same(pickle.loads(pickle.dumps(SOME)), SOME)


@given(seed=seeds, n=st.integers(0, 12))
def test_reordering_moves_whole_rows(seed: int, n: int) -> None:
    made = some(n, seed)
    order = np.random.default_rng(seed).permutation(n)
    assert same(made.ordered_as(made.ids[order]), made.take(order))
    assert same(made.ordered_as(made.ids[order]).ordered_as(list(made.ids)), made)


def test_an_order_says_how_many_are_missing_and_surplus() -> None:
    wanted = [*SOME.ids[:4], "x1", "x2", "x3", "x4"]
    with pytest.raises(MisalignedPredictions, match=r"8 ids of 6.*4 missing here, e\.g\. 'x1', 'x2', 'x3'; 2 here but"):
        SOME.ordered_as(wanted)


def test_an_order_that_is_a_part_is_refused() -> None:
    with pytest.raises(MisalignedPredictions, match=r"3 ids of 6 predictions: 3 here but not asked for"):
        SOME.ordered_as(SOME.ids[:3])


def test_an_order_that_repeats_is_refused() -> None:
    with pytest.raises(MisalignedPredictions, match=f"1 ids are asked for more than once, e.g. '{SOME.ids[0]}'"):
        SOME.ordered_as([*SOME.ids, SOME.ids[0]])


def test_rows_are_taken_by_number_or_mask() -> None:
    mask = SOME.folds == SOME.folds[0]
    assert same(SOME.take(mask), SOME.take(np.flatnonzero(mask)))
    with pytest.raises(EnsembleError, match="repeat"):
        SOME.take(np.array([0, 0]))


@given(seed=seeds, cuts=st.lists(st.integers(0, 9), max_size=3).map(sorted))
def test_parts_make_the_whole_again(seed: int, cuts: list[int]) -> None:
    whole = some(9, seed)
    parts = [whole.take(rows) for rows in np.split(np.arange(9), cuts)]
    assert same(concatenate(parts), whole)


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(EnsembleError, match="got 0 parts"):
        concatenate([])
    with pytest.raises(MisalignedPredictions, match=r"part 1 has classes \('old', 'middle', 'young'\) but part 0"):
        concatenate([SOME, dataclasses.replace(some(prefix="t"), classes=CLASSES[::-1])])
    with pytest.raises(MisalignedPredictions, match=r"6 ids stand in more than one of the 3 parts, e\.g\. 's000'"):
        concatenate([SOME, some(prefix="t"), SOME])
