"""Bringing members' predictions together: aligned by sample id, voted on, composed from heads.

Legend: N samples, C classes, M members, H heads, J joint classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from math import prod
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from ensemble.members import Member, Members, mean_of, refuse_other
from ensemble.predictions import Array, EnsembleError, Indices, MisalignedPredictions, Names, Predictions
from ensemble.voting import Voter, soft_vote
from ensemble.weights import InBlocks, WeightRule, in_blocks

RowWise = Callable[[slice, Array], npt.NDArray[Any]]  # rows, (M, B, C) -> (B, ...), each row by itself


def align(members: Sequence[Predictions], names: Sequence[str]) -> tuple[Predictions, Array]:
    """The first member, and the (M, N, C) probabilities of all members in its order of ids.

    Args:
        members: M predictions of the same samples.
        names: M names by which a message calls them.

    Raises:
        EnsembleError: If there is no member, or not one name a member.
        MisalignedPredictions: If two members differ in ids, classes, folds or targets.
    """
    aligned = Members.of(members, names)
    return members[0], np.stack([read(slice(None)) for read in aligned.readers])


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


def vote(members: Sequence[Predictions], names: Sequence[str], voter: Voter, weights: Array) -> Predictions:
    """The members' decision on every sample, with the first member's ids, folds and targets.

    Args:
        members: M predictions of the same samples.
        names: M names by which a message calls them.
        voter: How they vote.
        weights: (M,) non-negative, not all zero.

    Raises:
        EnsembleError: If there is no member, or not one name and one weight a member.
        MisalignedPredictions: If two members differ in ids, classes, folds or targets.
    """
    aligned = Members.of(members, names)
    return aligned.decided(row_by_row(aligned, voted(voter, weights))[0])


def cross_fitted(members: Sequence[Predictions], names: Sequence[str], voter: Voter, rule: WeightRule) -> Predictions:
    """The members' decision when fold k is voted on with weights fitted on the other folds.

    Its score is honest: no weight has seen the samples that it is scored on.

    Args:
        members: M out-of-fold predictions of the same samples.
        names: M names by which a message calls them.
        voter: How they vote.
        rule: How weights are fitted, on the samples of the other folds whose target is known.

    Raises:
        EnsembleError: If there are test samples, fewer than two folds, or no target to fit a fold's weights on.
        MisalignedPredictions: If two members differ in ids, classes, folds or targets.
    """
    aligned = Members.of(members, names)
    blockwise = in_blocks(rule)
    by_fold = fold_weights(aligned, blockwise, seen_by_fold(aligned, blockwise.look)[0])
    return aligned.decided(row_by_row(aligned, voted_by_fold(voter, by_fold, aligned.folds))[0])


def seen_by_fold(members: Members, *looks: Callable[[Array, Indices], Any]) -> list[dict[int, Any]]:
    """For every look at the data: fold -> what it saw of the fold's samples whose target is known.

    Args:
        members: M aligned members.
        looks: (M, B, C) probabilities and (B,) true class indices -> what adds up with ``+``, see `InBlocks`.
    """
    seen: list[dict[int, Any]] = [{} for _ in looks]
    for rows, probs in members.blocks():
        folds, targets = members.folds[rows], members.targets[rows]
        for fold in np.unique(folds[targets >= 0]).tolist():
            chosen = np.flatnonzero((folds == fold) & (targets >= 0))
            part = probs[:, chosen]
            for look, found in zip(looks, seen, strict=True):
                saw = look(part, targets[chosen])
                found[fold] = found[fold] + saw if fold in found else saw
    return seen


def weights_of(rule: InBlocks, seen: Mapping[int, Any], *, without: int | None = None) -> Array:
    """(M,) weights that the rule gives on all folds, or on all but one.

    Raises:
        EnsembleError: If no sample there has a target.
    """
    parts = [saw for fold, saw in seen.items() if fold != without]
    if not parts:
        where = "" if without is None else f" outside fold {without}"
        raise EnsembleError(f"no sample{where} has a target; weights need labelled samples to fit on")
    return rule.weigh(reduce(add, parts))


def fold_weights(members: Members, rule: InBlocks, seen: Mapping[int, Any]) -> dict[int, Array]:
    """Fold -> (M,) weights fitted on the other folds.

    Args:
        members: M aligned out-of-fold members.
        rule: How weights are fitted.
        seen: What the rule's look saw, by fold.

    Raises:
        EnsembleError: If there are test samples, fewer than two folds, or no target to fit a fold's weights on.
    """
    folds = np.unique(members.folds).tolist()
    if n_test := int((members.folds < 0).sum()):
        raise EnsembleError(f"{n_test} of {len(members.ids)} samples are test samples; give out-of-fold predictions")
    if len(folds) < 2:
        raise EnsembleError(f"cross-fitting takes 2 or more folds, got {folds}; train with more folds")
    return {fold: weights_of(rule, seen, without=fold) for fold in folds}


def voted(voter: Voter, weights: Array) -> RowWise:
    """The members' decision under one set of weights, for `row_by_row`."""
    return lambda rows, probs: voter(probs, weights)


def voted_by_fold(voter: Voter, weights: Mapping[int, Array], folds: Indices) -> RowWise:
    """The members' decision, each fold under weights of its own, for `row_by_row`."""

    def decide(rows: slice, probs: Array) -> Array:
        decided = np.empty(probs.shape[1:])
        for fold in np.unique(folds[rows]).tolist():
            held_out = folds[rows] == fold
            decided[held_out] = voter(probs[:, held_out], weights[fold])
        return decided

    return decide


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
    joint = reduce(_outer, (head.probs for head in heads))
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


def _outer(first: Array, second: Array) -> Array:
    """(N, A * B) products of (N, A) and (N, B); the second runs fastest."""
    return (first[:, :, None] * second[:, None, :]).reshape(len(first), -1)


def _joint_targets(targets: Sequence[Indices], sizes: tuple[int, ...]) -> Indices:
    """(N,) mixed-radix index of the heads' targets; -1 where any is."""
    stacked = np.stack(targets)  # (H, N)
    joint = np.ravel_multi_index(tuple(np.maximum(stacked, 0)), sizes)
    return np.where((stacked < 0).any(axis=0), -1, joint)
