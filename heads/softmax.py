"""Objectives of a softmax over classes or fine bins, with any of the losses for them.

N samples, K outputs, C classes, T classes in training.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from heads.base import FloatArray, Head, HeadError
from heads.cuts import above, bins_of, increasing, listed
from heads.losses import SoftmaxLoss, loss_of
from heads.objective import Objective
from heads.recipe import PLAIN, UNKNOWN, Recipe, numbers


def classes(head: Head, recipe: Recipe = PLAIN, values: FloatArray = UNKNOWN) -> Objective:
    """Softmax over the head's own classes, or over those that ``train_edges`` cut.

    Raises:
        HeadError: The recipe's arguments do not fit.
    """
    numbers("objective classes", recipe.objective_args)
    if recipe.train_edges and head.edges:
        return _recut(head, recipe, values)
    counts = (
        np.bincount(head.labels(values), minlength=len(head.classes)) if len(values) else np.ones(len(head.classes))
    )
    rule = loss_of(recipe, torch.from_numpy(counts))

    def loss(outputs: Tensor, values: Tensor, done: float) -> Tensor:
        targets = above(values, head.edges) if head.edges else values.long()
        return rule.loss(outputs, targets, done)

    return Objective(
        len(head.classes),
        loss,
        lambda outputs: outputs.softmax(dim=1),
        mix=lambda photos: _reweighted(photos, rule),
    )


def binned(head: Head, recipe: Recipe = PLAIN, values: FloatArray = UNKNOWN) -> Objective:
    """Softmax over fine bins of the quantity; a class gets the probability mass of its bins.

    The expected value is the mean of the bins' centres under that mass (DEX, Rothe et al. 2018, equation 3,
    https://doi.org/10.1007/s11263-016-0940-3). Quantities beyond the outer edges count to the outer bins.

    Args:
        head: A head with class edges.
        recipe: Its bins and its loss, for which every bin is a class.
        values: (N,) values of the labelled training photos.

    Raises:
        HeadError: The edges do not increase, or a class edge is missing.
    """
    numbers("objective bins", recipe.objective_args)
    bins = bins_of(head, recipe, values)
    counts = bins.counts(values)
    rule = loss_of(recipe, torch.from_numpy(counts))
    member, centres = bins.member, bins.centres
    of_class = member.numpy().T.astype(np.float64)  # (C, K)
    photos = np.where((of_class @ counts > 0)[:, None], of_class * counts, of_class)
    within = photos / photos.sum(axis=1, keepdims=True)  # (C, K) share of each bin in its class

    def loss(outputs: Tensor, values: Tensor, done: float) -> Tensor:
        return rule.loss(outputs, above(values, bins.inner), done)

    def mix(photos: FloatArray) -> FloatArray:
        return np.asarray(_reweighted(photos @ within, rule) @ of_class.T) if rule.shifts else photos

    return Objective(
        len(bins),
        loss,
        lambda outputs: outputs.softmax(dim=1) @ member.to(outputs),
        lambda outputs: outputs.softmax(dim=1) @ centres.to(outputs),
        mix,
    )


def _recut(head: Head, recipe: Recipe, values: FloatArray) -> Objective:
    """Softmax over classes that are cut elsewhere in training; ``train_edges`` (30, 58) makes "old from 58" of 60.

    Decoded back by the shares of the real classes among the training photos of each trained one: P(real | x) is the sum
    of P(trained | x) P(real | trained), which holds as far as x tells no more about the real class than about the
    trained one.
    """
    edges, n_classes = _train_edges(recipe), len(head.classes)
    known = values if len(values) else _every_year(head, edges)
    trained = np.digitize(known, edges)
    joint = np.zeros((len(edges) + 1, n_classes))  # (T, C) photos
    np.add.at(joint, (trained, head.labels(known)), 1)
    if not joint.sum(axis=1).all():
        raise HeadError(f"train_edges {listed(edges)} make a class without photos; move the edges")
    real = joint / joint.sum(axis=1, keepdims=True)  # (T, C), P(real | trained)
    of_real = (joint / joint.sum(axis=0).clip(min=1)).T  # (C, T), P(trained | real)
    counts = np.bincount(np.digitize(values, edges), minlength=len(joint))
    rule, back = loss_of(recipe, torch.from_numpy(counts)), torch.from_numpy(real)

    def loss(outputs: Tensor, values: Tensor, done: float) -> Tensor:
        return rule.loss(outputs, above(values, edges), done)

    return Objective(
        len(edges) + 1,
        loss,
        lambda outputs: outputs.softmax(dim=1) @ back.to(outputs),
        mix=lambda photos: np.asarray(_reweighted(photos @ of_real, rule) @ real),
    )


def _every_year(head: Head, edges: tuple[float, ...]) -> FloatArray:
    """One value a year over all edges, where nothing is known of the photos."""
    return np.arange(min(edges[0], head.edges[0]) - 1, max(edges[-1], head.edges[-1]) + 1)


def _train_edges(recipe: Recipe) -> tuple[float, ...]:
    edges = recipe.train_edges
    if len(edges) > 1:
        increasing(edges)
    return tuple(float(edge) for edge in edges)


def _reweighted(mix: FloatArray, rule: SoftmaxLoss) -> FloatArray:
    """The mix that a loss makes of one, both of the classes that it tells apart; untouched where it changes none."""
    if not rule.shifts:
        return mix
    changed = mix * rule.factors.numpy()
    return np.asarray(changed / changed.sum())
