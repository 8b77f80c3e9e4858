"""Predictions that carry their sample ids, classes, folds and targets, and check themselves when made.

Legend: N samples, C classes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Names = npt.NDArray[np.str_]

ROW_SUM_TOLERANCE = 1e-4  # a float32 softmax stays well within; further off is not rounding


class EnsembleError(ValueError):
    """Something that cannot be combined or scored; the message says what to do instead."""


class MisalignedPredictions(EnsembleError):
    """Predictions that do not speak of the same samples, classes, folds or targets."""


def examples(values: Iterable[object]) -> str:
    """The first three values as text, to be quoted in a message."""
    return ", ".join(repr(str(value)) for value in islice(values, 3))


def repeated(ids: Names) -> Names:
    """The ids that stand more than once, each once."""
    ordered = np.sort(ids)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def order_of(ids: Names, wanted: Names) -> Indices:
    """(N,) the rows of ``ids`` in which ``wanted`` stand.

    Args:
        ids: (N,) ids, each once.
        wanted: (N,) the same ids in another order.

    Raises:
        MisalignedPredictions: If ``wanted`` repeats one, lacks one or asks for one that is not here.
    """
    if len(twice := repeated(wanted)):
        raise MisalignedPredictions(
            f"{len(twice)} ids are asked for more than once, e.g. {examples(twice)}; ask for each id once"
        )
    missing, surplus = np.setdiff1d(wanted, ids), np.setdiff1d(ids, wanted)
    if len(missing) or len(surplus):
        raise MisalignedPredictions(_gap(missing, surplus, len(wanted), len(ids)))
    by_name = np.argsort(ids)
    return by_name[np.searchsorted(ids, wanted, sorter=by_name)]


def are_distributions(probs: Array) -> bool:
    """Whether all rows of (N, C) are finite, non-negative and sum to 1 within 1e-4, found quickly."""
    if not probs.size or not probs.min() >= 0:  # a NaN is not
        return False
    with np.errstate(all="ignore"):  # what overflows is no distribution either
        return bool((np.abs(probs @ np.ones(probs.shape[1]) - 1) <= ROW_SUM_TOLERANCE).all())


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Class probabilities of N samples, keyed by sample id.

    The arrays are copied and made read-only.

    Attributes:
        ids: (N,) sample ids, each once.
        classes: C class names, in the order of the columns of ``probs``.
        probs: (N, C) probabilities; rows sum to 1 within 1e-4 and are kept as given.
        folds: (N,) the fold that held the sample out; -1 is a test sample.
        targets: (N,) index of the true class; -1 is unknown.

    Raises:
        EnsembleError: If lengths differ, an id repeats, a row is no distribution, or a fold or target is out of range.
    """

    ids: Names
    classes: tuple[str, ...]
    probs: Array
    folds: Indices
    targets: Indices

    def __post_init__(self) -> None:
        """Copy, freeze and check what was given."""
        object.__setattr__(self, "classes", tuple(self.classes))
        for name, kind in (("ids", np.str_), ("probs", np.float64), ("folds", np.int64), ("targets", np.int64)):
            array = np.array(getattr(self, name), dtype=kind)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        _check_shapes(self)
        _check_ids(self.ids)
        _check_probs(self)
        _check_ranges(self)

    @property
    def labels(self) -> Indices:
        """(N,) index of the most probable class; the lower index where two are equal."""
        labels: Indices = self.probs.argmax(axis=1)
        return labels

    def take(self, rows: Indices | Mask) -> "Predictions":
        """The given rows, in the given order.

        Args:
            rows: Row numbers, or an (N,) mask.

        Raises:
            EnsembleError: If a row is asked for twice.
        """
        return Predictions(self.ids[rows], self.classes, self.probs[rows], self.folds[rows], self.targets[rows])

    def ordered_as(self, ids: Names | Sequence[str]) -> "Predictions":
        """The same predictions in another order of ids.

        Args:
            ids: (N,) every id of these predictions, once.

        Raises:
            MisalignedPredictions: If ``ids`` repeats one, lacks one or asks for one that is not here.
        """
        return self.take(order_of(self.ids, np.array(ids, dtype=np.str_)))


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """One value with the rows of all parts, in order: folds become out-of-fold predictions.

    Args:
        parts: Predictions of disjoint samples over the same classes.

    Raises:
        EnsembleError: If there are no parts.
        MisalignedPredictions: If classes or their order differ, or a sample stands in two parts.
    """
    if not parts:
        raise EnsembleError("nothing to concatenate: got 0 parts; give at least one")
    for number, part in enumerate(parts):
        if part.classes != parts[0].classes:
            raise MisalignedPredictions(
                f"part {number} has classes {part.classes} but part 0 has {parts[0].classes}; "
                "concatenate parts of one head, with one class order"
            )
    ids = np.concatenate([part.ids for part in parts])
    if len(twice := repeated(ids)):
        raise MisalignedPredictions(
            f"{len(twice)} ids stand in more than one of the {len(parts)} parts, e.g. {examples(twice)}; "
            "every sample is predicted by one part"
        )
    return Predictions(
        ids=ids,
        classes=parts[0].classes,
        probs=np.concatenate([part.probs for part in parts]),
        folds=np.concatenate([part.folds for part in parts]),
        targets=np.concatenate([part.targets for part in parts]),
    )


def _gap(missing: Names, surplus: Names, n_wanted: int, n_here: int) -> str:
    """What stands between the ids asked for and the ids that are here, as a message."""
    sides = [
        f"{len(ids)} {what}, e.g. {examples(ids)}"
        for ids, what in ((missing, "missing here"), (surplus, "here but not asked for"))
        if len(ids)
    ]
    return (
        f"asked for {n_wanted} ids of {n_here} predictions: {'; '.join(sides)}; "
        "use predictions made from the same sample table"
    )


def _check_shapes(made: Predictions) -> None:
    if not made.classes or len(set(made.classes)) < len(made.classes):
        raise EnsembleError(f"classes are {made.classes}; give at least one class name, each once")
    n = len(made.ids) if made.ids.ndim else 0
    wanted = {"ids": (n,), "probs": (n, len(made.classes)), "folds": (n,), "targets": (n,)}
    for name, shape in wanted.items():
        if (got := getattr(made, name).shape) != shape:
            raise EnsembleError(
                f"{name} have shape {got}, not {shape}: {n} ids and {len(made.classes)} classes were given; "
                "give one row a sample and one column a class"
            )


def _check_ids(ids: Names) -> None:
    if len(twice := repeated(ids)):
        raise EnsembleError(f"{len(twice)} ids repeat, e.g. {examples(twice)}; give every sample one row")


def _check_probs(made: Predictions) -> None:
    if are_distributions(made.probs):
        return
    largest, smallest = np.abs(made.probs).max(axis=1), made.probs.min(axis=1)
    _refuse(made, ~np.isfinite(largest), largest, "probs that are not finite", "look for a diverged network")
    _refuse(made, smallest < 0, smallest, "negative probs", "decode outputs to probabilities first")
    sums = made.probs.sum(axis=1)
    off = np.abs(sums - 1) > ROW_SUM_TOLERANCE
    _refuse(made, off, sums, "probs that do not sum to 1", "decode outputs to probabilities first")


def _check_ranges(made: Predictions) -> None:
    folds, targets, last = made.folds, made.targets, len(made.classes) - 1
    _refuse(made, folds < -1, folds, "folds out of range", "folds are 0 or more, or -1 for a test sample")
    out = (targets < -1) | (targets > last)
    _refuse(made, out, targets, "targets out of range", f"targets are 0 to {last}, or -1 for none")


def _refuse(made: Predictions, rows: Mask, values: Array | Indices, what: str, remedy: str) -> None:
    if rows.any():
        raise EnsembleError(
            f"{rows.sum()} of {len(rows)} samples have {what}, e.g. {examples(made.ids[rows])} "
            f"(the first: {values[rows][0]:.6g}); {remedy}"
        )
