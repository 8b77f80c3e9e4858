"""Decoders: ways from probabilities to labels that do well in macro F1.

A decoder is fitted on labelled out-of-fold rows, then called on others. Row weights say how many samples a row stands
for, in the fit and in the call. All but ``argmax`` rely on calibrated probabilities, most of all ``plug-in``.

Legend: N samples, J classes, H heads whose class counts multiply to J.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np

from ensemble.biases import TIE, Labelled, tuned
from ensemble.logs import FLOOR, log
from ensemble.metrics import require_classes, require_weights
from ensemble.plug_in import plug_in
from ensemble.predictions import Array, EnsembleError, Indices, Mask

TAUS = np.arange(31) / 20  # 0 to 1.5: 0 is argmax, 1 is as if all classes were equally frequent


class Decoder(Protocol):
    """A fitted way to labels."""

    def __call__(self, probs: Array, weights: Array) -> Indices:
        """(N,) labels; a tie goes to the lower index.

        Args:
            probs: (N, J) probabilities.
            weights: (N,) how many samples each row counts for; only ``plug-in`` looks at them.

        Raises:
            EnsembleError: If the weights are not N finite, non-negative numbers with a positive sum, or J is not
                that of the fit.
        """
        ...

    def as_dict(self) -> dict[str, Any]:
        """What was fitted, ready for JSON, with its ``kind``."""
        ...


# (N, J) probabilities, (N,) targets, (N,) weights, H class counts -> a fitted decoder
Fit = Callable[[Array, Indices, Array, tuple[int, ...]], Decoder]


@dataclass(frozen=True, slots=True)
class Argmax:
    """The most probable class: the best choice for accuracy, not for macro F1."""

    def __call__(self, probs: Array, weights: Array) -> Indices:
        """(N,) labels."""
        require_weights(weights, len(probs))
        return np.asarray(probs.argmax(axis=1))

    def as_dict(self) -> dict[str, Any]:
        """Its kind; nothing is fitted."""
        return {"kind": "argmax"}


@dataclass(frozen=True, slots=True)
class PlugIn:
    """The labels with a high expected macro F1 of the whole set it is called on; see `ensemble.plug_in`.

    A row's label depends on the other rows: decode all that are scored together in one call.
    """

    def __call__(self, probs: Array, weights: Array) -> Indices:
        """(N,) labels."""
        require_weights(weights, len(probs))
        return plug_in(probs, weights)

    def as_dict(self) -> dict[str, Any]:
        """Its kind; nothing is fitted."""
        return {"kind": "plug-in"}


@dataclass(frozen=True, slots=True)
class LogitAdjust:
    """The largest ``log p_k - tau log prior_k``, which favours rare classes.

    Post-hoc logit adjustment, Menon et al. 2021, https://arxiv.org/abs/2007.07314. A class without any prior is not
    adjusted.

    Attributes:
        tau: At least 0; how strongly.
        prior: J shares of the classes.
    """

    tau: float
    prior: tuple[float, ...]

    def __call__(self, probs: Array, weights: Array) -> Indices:
        """(N,) labels."""
        _require(probs, weights, len(self.prior))
        adjusted = log(probs) - self.tau * _log_prior(np.array(self.prior))
        return np.asarray(adjusted.argmax(axis=1))

    def as_dict(self) -> dict[str, Any]:
        """``tau`` and ``prior``."""
        return {"kind": "logit-adjust", "tau": self.tau, "prior": list(self.prior)}


@dataclass(frozen=True, slots=True)
class Biased:
    """The largest log-probability after each head's classes got biases of their own.

    Attributes:
        kind: ``head-bias`` or ``class-bias``.
        biases: One row of biases a head, in nats; the first of each is 0. The last head's class runs fastest.
    """

    kind: str
    biases: tuple[tuple[float, ...], ...]

    def __call__(self, probs: Array, weights: Array) -> Indices:
        """(N,) labels."""
        sizes = tuple(len(row) for row in self.biases)
        _require(probs, weights, prod(sizes))
        lifted = log(probs) + np.concatenate(self.biases) @ groups(sizes)
        return np.asarray(lifted.argmax(axis=1))

    def as_dict(self) -> dict[str, Any]:
        """``biases``, one list a head."""
        return {"kind": self.kind, "biases": [list(row) for row in self.biases]}


def groups(sizes: tuple[int, ...]) -> Mask:
    """(G, J) which joint classes each class of each head is part of; G is the sum of the sizes."""
    of_heads = np.unravel_index(np.arange(prod(sizes)), sizes)
    return np.concatenate([np.arange(size)[:, None] == own for size, own in zip(sizes, of_heads, strict=True)])


def argmax(probs: Array, targets: Indices, weights: Array, sizes: tuple[int, ...]) -> Argmax:
    """The most probable class; there is nothing to fit, and targets may be unknown."""
    return Argmax()


def expected_best(probs: Array, targets: Indices, weights: Array, sizes: tuple[int, ...]) -> PlugIn:
    """The Bayes rule for macro F1; there is nothing to fit, and targets may be unknown."""
    return PlugIn()


def logit_adjust(probs: Array, targets: Indices, weights: Array, sizes: tuple[int, ...]) -> LogitAdjust:
    """The ``tau`` of `TAUS` with the highest weighted macro F1; of equals the smallest.

    The prior is the weighted mean of the probabilities, so that it is that of the mix the weights stand for.

    Args:
        probs: (N, J) out-of-fold probabilities.
        targets: (N,) true class indices.
        weights: (N,) how many samples each row counts for.
        sizes: H class counts; not looked at.

    Raises:
        EnsembleError: If a target or weight is unfit, or no row is there.
    """
    rows = _labelled(probs, targets, weights)
    prior = rows.weights @ probs
    adjustment = _log_prior(prior)
    scores = [rows._replace(scores=rows.scores - tau * adjustment).macro_f1() for tau in TAUS]
    chosen = np.flatnonzero(np.array(scores) >= max(scores) - TIE)[0]
    return LogitAdjust(float(TAUS[chosen]), tuple(prior.tolist()))


def head_bias(probs: Array, targets: Indices, weights: Array, sizes: tuple[int, ...]) -> Biased:
    """The biases of each head's classes with the highest weighted macro F1 that a coordinate ascent finds.

    Args:
        probs: (N, J) out-of-fold probabilities.
        targets: (N,) true class indices.
        weights: (N,) how many samples each row counts for.
        sizes: H class counts whose product is J.

    Raises:
        EnsembleError: If a target or weight is unfit, no row is there, or the sizes do not multiply to J.
    """
    return _biased("head-bias", probs, targets, weights, sizes)


def class_bias(probs: Array, targets: Indices, weights: Array, sizes: tuple[int, ...]) -> Biased:
    """The same with one bias for each joint class: kept as a warning.

    It gains most on the rows it was fitted on and least on others: each bias of a rare class rests on a few persons.

    Args:
        probs: (N, J) out-of-fold probabilities.
        targets: (N,) true class indices.
        weights: (N,) how many samples each row counts for.
        sizes: H class counts; not looked at.

    Raises:
        EnsembleError: If a target or weight is unfit, or no row is there.
    """
    return _biased("class-bias", probs, targets, weights, (probs.shape[1],))


def _biased(kind: str, probs: Array, targets: Indices, weights: Array, sizes: tuple[int, ...]) -> Biased:
    rows = _labelled(probs, targets, weights)
    if prod(sizes) != probs.shape[1]:
        raise EnsembleError(
            f"sizes {sizes} make {prod(sizes)} joint classes, but probs have {probs.shape[1]}; "
            "give the class counts of the heads"
        )
    firsts = np.cumsum((0, *sizes))[:-1]  # a head's biases mean the same with a constant added: the first stays 0
    free = np.setdiff1d(np.arange(sum(sizes)), firsts)
    biases = np.zeros(sum(sizes))
    biases[free] = tuned(rows, groups(sizes)[free])
    return Biased(kind, tuple(tuple(part.tolist()) for part in np.split(biases, firsts[1:])))


def _labelled(probs: Array, targets: Indices, weights: Array) -> Labelled:
    if len(targets) != len(probs):
        raise EnsembleError(f"got {len(targets)} targets for {len(probs)} rows of probs; give one target a row")
    require_classes("targets", targets, probs.shape[1])
    require_weights(weights, len(probs))
    return Labelled(log(probs), targets, weights / weights.sum())


def _require(probs: Array, weights: Array, n_classes: int) -> None:
    require_weights(weights, len(probs))
    if probs.shape[1] != n_classes:
        raise EnsembleError(f"probs have {probs.shape[1]} classes, but the decoder was fitted on {n_classes}; fit anew")


def _log_prior(prior: Array) -> Array:
    """(J,) logarithms; 0 for a class that nothing speaks for, which would else win every row."""
    return np.where(prior > FLOOR, log(prior), 0.0)


# from the simplest to the one with most to fit
DECODERS: dict[str, Fit] = {
    "argmax": argmax,
    "plug-in": expected_best,
    "logit-adjust": logit_adjust,
    "head-bias": head_bias,
    "class-bias": class_bias,
}
LOOKS_AT_TARGETS = frozenset({"logit-adjust", "head-bias", "class-bias"})  # the fit does; their score is in-sample
