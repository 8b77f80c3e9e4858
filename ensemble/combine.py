"""Bringing members' predictions together: aligned by sample id, voted on, composed from heads.

Legend: N samples, C classes, M members, H heads, J joint classes.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from math import prod

import numpy as np

from ensemble.predictions import Array, EnsembleError, Indices, MisalignedPredictions, Names, Predictions
from ensemble.voting import Voter, soft_vote
from ensemble.weights import WeightRule


def align(members: Sequence[Predictions], names: Sequence[str]) -> tuple[Predictions, Array]:
    """The first member, and the (M, N, C) probabilities of all members in its order of ids.

    Args:
        members: M predictions of the same samples.
        names: M names by which a message calls them.

    Raises:
        EnsembleError: If there is no member, or not one name a member.
        MisalignedPredictions: If two members differ in ids, classes, folds or targets.
    """
    if not members or len(members) != len(names):
        raise EnsembleError(f"got {len(members)} members and {len(names)} names; give one or more, and a name for each")
    reference = members[0]
    aligned = [_as_reference(reference, member, (names[0], name)) for member, name in zip(members, names, strict=True)]
    return reference, np.stack([member.probs for member in aligned])


def average_views(views: Sequence[Predictions]) -> Predictions:
    """The mean of several views of the same samples: mirrored photos, fold networks, runs.

    Args:
        views: Predictions of the same samples.

    Raises:
        EnsembleError: If there is no view.
        MisalignedPredictions: If two views differ in ids, classes, folds or targets.
    """
    return vote(views, [f"view {number}" for number in range(len(views))], soft_vote, np.ones(len(views)))


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
    reference, probs = align(members, names)
    return replace(reference, probs=voter(probs, weights))


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
    reference, probs = align(members, names)
    voted = np.empty_like(reference.probs)
    for fold in _two_or_more_folds(reference):
        held_out = reference.folds == fold
        fit = ~held_out & (reference.targets >= 0)
        if not fit.any():
            raise EnsembleError(f"no sample outside fold {fold} has a target; weights need labelled samples to fit on")
        weights = rule(probs[:, fit], reference.targets[fit])
        voted[held_out] = voter(probs[:, held_out], weights)
    return replace(reference, probs=voted)


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
        _refuse_other(heads[0], head, "folds", ("head 0", f"head {number}"))
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
    if prod(sizes) != len(joint.classes):
        raise EnsembleError(f"sizes {sizes} make {prod(sizes)} joint classes, but there are {len(joint.classes)}")
    if not 0 <= axis < len(sizes) or len(classes) != sizes[axis]:
        raise EnsembleError(f"head {axis} of sizes {sizes} does not have the {len(classes)} classes {classes}")
    others = tuple(1 + head for head in range(len(sizes)) if head != axis)
    targets = np.unravel_index(np.maximum(joint.targets, 0), sizes)[axis]
    return replace(
        joint,
        classes=classes,
        probs=joint.probs.reshape(-1, *sizes).sum(axis=others),
        targets=np.where(joint.targets < 0, -1, targets),
    )


def _as_reference(reference: Predictions, member: Predictions, pair: tuple[str, str]) -> Predictions:
    """The member in the reference's order, if both speak of the same samples."""
    if member.classes != reference.classes:
        raise MisalignedPredictions(
            f"{pair[0]!r} has classes {reference.classes} but {pair[1]!r} has {member.classes}; "
            "combine members of one head, with one class order"
        )
    try:
        member = member.ordered_as(reference.ids)
    except MisalignedPredictions as error:
        raise MisalignedPredictions(f"{pair[0]!r} and {pair[1]!r} predict other samples: {error}") from error
    _refuse_other(reference, member, "folds", pair)
    _refuse_other(reference, member, "targets", pair)
    return member


def _refuse_other(first: Predictions, second: Predictions, field: str, pair: tuple[str, str]) -> None:
    """Refuse two predictions with the same ids whose ``folds`` or ``targets`` differ."""
    mine, others = getattr(first, field), getattr(second, field)
    if len(rows := np.flatnonzero(mine != others)):
        row = rows[0]
        raise MisalignedPredictions(
            f"{pair[0]!r} and {pair[1]!r} have other {field} for {len(rows)} of {len(mine)} samples, "
            f"e.g. {str(first.ids[row])!r}: {mine[row]} and {others[row]}; "
            "combine members made from the same samples and folds"
        )


def _two_or_more_folds(reference: Predictions) -> Indices:
    folds = np.unique(reference.folds)
    if n_test := int((reference.folds < 0).sum()):
        raise EnsembleError(f"{n_test} of {len(reference.ids)} samples are test samples; give out-of-fold predictions")
    if len(folds) < 2:
        raise EnsembleError(f"cross-fitting takes 2 or more folds, got {folds.tolist()}; train with more folds")
    return folds


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
