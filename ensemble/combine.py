"""Bringing predictions together: views averaged, blocks of rows decided on, heads composed to joint classes.

Legend: N samples, C classes, M members, H heads, J joint classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ensemble.logs import outer
from ensemble.members import Member, Members, mean_of, refuse_other
from ensemble.predictions import Array, EnsembleError, Indices, MisalignedPredictions, Names, Predictions
from ensemble.voting import soft_vote

RowWise = Callable[[slice, Array], npt.NDArray[Any]]  # rows, (M, B, C) -> (B, ...), each row by itself


def average_views(views: Sequence[Predictions]) -> Predictions:
    """The mean of several views of the same samples: mirrored photos, fold networks, runs.

    Args:
        views: Predictions of the same samples.

    Raises:
        EnsembleError: If there is no view.
        MisalignedPredictions: If two views differ in ids, classes, folds or targets.
    """
    return average([Member.of(view) for view in views]).predictions()


def average(views: Sequence[Member]) -> Member:
    """The mean of several views, which stay where they are; raises what `average_views` raises."""
    members = Members.align(views, [f"view {number}" for number in range(len(views))])
    if len(views) == 1:
        return views[0]
    return mean_of(members, lambda probs: soft_vote(probs, np.ones(len(views))))


def row_by_row(members: Members, *functions: RowWise) -> list[npt.NDArray[Any]]:
    """What each function gives for all rows: (N, ...) each, found in one pass over the members.

    Args:
        members: M aligned members.
        functions: Rows and their (M, B, C) probabilities -> (B, ...), each row by itself.
    """
    parts: list[list[npt.NDArray[Any]]] = [[] for _ in functions]
    for rows, probs in members.blocks():
        for function, found in zip(functions, parts, strict=True):
            found.append(function(rows, probs))
    return [np.concatenate(found) for found in parts]


def compose(heads: Sequence[Predictions], *, classes: tuple[str, ...]) -> Predictions:
    """Joint predictions of heads that are taken as independent given the photo.

    The samples are those that every head has, in the first head's order. The last head's class runs
    fastest; the joint target is -1 where any head's is.

    Args:
        heads: H predictions, each over its own classes.
        classes: J joint class names, J being the product of the heads' class counts.

    Raises:
        EnsembleError: If there is no head, or not one name a joint class.
        MisalignedPredictions: If no sample has every head, or two heads differ in folds.
    """
    sizes = tuple(len(head.classes) for head in heads)
    if not heads or len(classes) != prod(sizes):
        raise EnsembleError(
            f"got {len(classes)} joint classes for {len(heads)} heads of {sizes} classes; "
            f"give at least one head, and {prod(sizes)} joint classes"
        )
    shared = _shared_ids(heads)
    heads = [head.take(np.isin(head.ids, shared)).ordered_as(shared) for head in heads]
    for number, head in enumerate(heads):
        refuse_other(shared, "folds", heads[0].folds, head.folds, ("head 0", f"head {number}"))
    joint = reduce(outer, (head.probs for head in heads))
    return Predictions(
        ids=shared,
        classes=classes,
        probs=joint / joint.sum(axis=1, keepdims=True),  # each head's rounding is allowed for; their product's is not
        folds=heads[0].folds,
        targets=_joint_targets([head.targets for head in heads], sizes),
    )


def marginal(joint: Predictions, sizes: tuple[int, ...], axis: int, classes: tuple[str, ...]) -> Predictions:
    """One head's predictions out of joint ones: the other heads are summed away.

    Args:
        joint: Predictions over J joint classes, the last head's class running fastest.
        sizes: H class counts, whose product is J.
        axis: Which head, 0 to H-1.
        classes: That head's class names.

    Raises:
        EnsembleError: If the sizes do not multiply to J, or ``classes`` does not fit the head.
    """
    return marginal_of(Member.of(joint), sizes, axis, classes).predictions()


def marginal_of(joint: Member, sizes: tuple[int, ...], axis: int, classes: tuple[str, ...]) -> Member:
    """The same of a member whose probabilities may lie on disk; raises what `marginal` raises."""
    if prod(sizes) != len(joint.classes):
        raise EnsembleError(f"sizes {sizes} make {prod(sizes)} joint classes, but there are {len(joint.classes)}")
    if not 0 <= axis < len(sizes) or len(classes) != sizes[axis]:
        raise EnsembleError(f"head {axis} of sizes {sizes} does not have the {len(classes)} classes {classes}")
    others = tuple(1 + head for head in range(len(sizes)) if head != axis)
    targets = np.unravel_index(np.maximum(joint.targets, 0), sizes)[axis]
    return replace(
        joint,
        classes=classes,
        read=lambda rows: joint.read(rows).reshape(-1, *sizes).sum(axis=others),
        targets=np.where(joint.targets < 0, -1, targets),
    )


def _shared_ids(heads: Sequence[Predictions]) -> Names:
    """The ids that every head has, in the first head's order."""
    ids = heads[0].ids
    for head in heads[1:]:
        ids = ids[np.isin(ids, head.ids)]
    if not len(ids):
        counts = [len(head.ids) for head in heads]
        raise MisalignedPredictions(
            f"no sample has every head: the {len(heads)} heads have {counts} samples and share none; "
            "compose heads trained on the same sample table"
        )
    return ids


def _joint_targets(targets: Sequence[Indices], sizes: tuple[int, ...]) -> Indices:
    """(N,) mixed-radix index of the heads' targets; -1 where any is."""
    stacked = np.stack(targets)  # (H, N)
    joint = np.ravel_multi_index(tuple(np.maximum(stacked, 0)), sizes)
    return np.where((stacked < 0).any(axis=0), -1, joint)
