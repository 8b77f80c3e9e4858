"""Joint rules: ways from the probabilities of heads to those of all combinations of their classes.

A rule is fitted on labelled out-of-fold rows and called on others. The joint class is the mixed-radix number of the
heads' classes, the last head's running fastest.

Legend: N samples, C_h classes of head h, H heads, J joint classes (the product of the C_h), F features (their sum).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any, Protocol

import numpy as np

from ensemble.logs import FLOOR, outer, softmax
from ensemble.metrics import require_classes
from ensemble.predictions import Array, EnsembleError, Indices

PSEUDO_ROWS = 700.0  # 100 people of 7 photos: rows of one person are of one class of gender and age
RIDGE = 0.1  # on the mean log-loss in nats per unit of squared weight
RARE = 1e-4  # features are not told smaller probabilities apart: a confident head must not move the others without end
STEPS = 500  # of L-BFGS; some 50 are used


class JointRule(Protocol):
    """A fitted way from heads to joint classes."""

    def __call__(self, heads: Sequence[Array]) -> Array:
        """(N, J) probabilities; rows sum to 1.

        Args:
            heads: H arrays (N, C_h) of calibrated probabilities.

        Raises:
            EnsembleError: If there is no head, heads differ in rows, or class counts are not those of the fit.
        """
        ...

    def as_dict(self) -> dict[str, Any]:
        """What was fitted, ready for JSON, with its ``kind``."""
        ...


JointFit = Callable[[Sequence[Array], Indices], JointRule]  # H times (N, C_h), (N,) joint targets -> a fitted rule


@dataclass(frozen=True, slots=True)
class Product:
    """Heads taken as independent given the photo."""

    def __call__(self, heads: Sequence[Array]) -> Array:
        """(N, J) probabilities."""
        _sizes(heads)
        return _normalised(reduce(outer, heads))

    def as_dict(self) -> dict[str, Any]:
        """Its kind; nothing is fitted."""
        return {"kind": "product"}


@dataclass(frozen=True, slots=True)
class TrainJoint:
    """The product times how much more frequent each combination is than independent classes would make it.

    It is Bayes' rule for heads that are independent given the joint class, each trained under its own marginal: with
    ``p_h(c|x) / pi_h(c)`` in proportion to the likelihood of x, the posterior is in proportion to
    ``pi_j prod_h p_h / pi_h`` (the change of priors of Saerens, Latinne & Decaestecker 2002, equation 4,
    https://doi.org/10.1162/089976602753284446, from the product of the marginals to the joint).

    Attributes:
        sizes: H class counts.
        ratio: J factors.
        pseudo_rows: How many rows of independent classes were added to the counts.
    """

    sizes: tuple[int, ...]
    ratio: tuple[float, ...]
    pseudo_rows: float

    def __call__(self, heads: Sequence[Array]) -> Array:
        """(N, J) probabilities."""
        _require_sizes(heads, self.sizes)
        return _normalised(reduce(outer, heads) * np.array(self.ratio))

    def as_dict(self) -> dict[str, Any]:
        """``sizes``, ``ratio`` and ``pseudo_rows``."""
        return {
            "kind": "train-joint",
            "sizes": list(self.sizes),
            "ratio": list(self.ratio),
            "pseudo_rows": self.pseudo_rows,
        }


@dataclass(frozen=True, slots=True)
class Stacker:
    """The product's log-probabilities plus what a ridge logistic regression on the heads' log-probabilities adds.

    Attributes:
        sizes: H class counts.
        weights: J rows of F weights, on each head's log-probabilities about their mean.
        biases: J biases, in nats.
        ridge: What the squared weights and biases cost; the larger, the nearer to the product.
    """

    sizes: tuple[int, ...]
    weights: tuple[tuple[float, ...], ...]
    biases: tuple[float, ...]
    ridge: float

    def __call__(self, heads: Sequence[Array]) -> Array:
        """(N, J) probabilities."""
        _require_sizes(heads, self.sizes)
        return softmax(_log_product(heads) + _features(heads) @ np.array(self.weights).T + np.array(self.biases))

    def as_dict(self) -> dict[str, Any]:
        """``sizes``, ``weights``, ``biases`` and ``ridge``."""
        return {
            "kind": "stacker",
            "sizes": list(self.sizes),
            "weights": [list(row) for row in self.weights],
            "biases": list(self.biases),
            "ridge": self.ridge,
        }


def product(heads: Sequence[Array], targets: Indices) -> Product:
    """The product of the heads; there is nothing to fit, and targets may be unknown."""
    return Product()


def train_joint(heads: Sequence[Array], targets: Indices, *, pseudo_rows: float = PSEUDO_ROWS) -> TrainJoint:
    """The product, corrected by the joint frequencies of the labelled rows.

    The counts get ``pseudo_rows`` rows more, spread as the product of the marginals spreads them: that shrinks the
    factors towards 1 and leaves the marginals as they are. A combination of which a class never occurs keeps 1.

    Args:
        heads: H arrays (N, C_h); only their class counts are looked at.
        targets: (N,) joint class indices.
        pseudo_rows: At least 0.

    Raises:
        EnsembleError: If there is no head, heads differ in rows, a target is not in 0 to J-1, or ``pseudo_rows`` is
            negative.
    """
    sizes = _labelled_sizes(heads, targets)
    if not pseudo_rows >= 0:
        raise EnsembleError(f"pseudo_rows is {pseudo_rows}; give 0 or more")
    counts = np.bincount(targets, minlength=prod(sizes)).reshape(sizes) / len(targets)
    axes = range(len(sizes))
    marginals = [counts.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes]
    independent = reduce(np.multiply.outer, marginals)
    share = pseudo_rows / (pseudo_rows + len(targets))
    joint = (1 - share) * counts + share * independent
    ratio = np.divide(joint, independent, out=np.ones(sizes), where=independent > 0)
    ratio = np.maximum(ratio, FLOOR)  # heads may be certain of what never occurred
    return TrainJoint(sizes, tuple(ratio.ravel().tolist()), pseudo_rows)


def stacker(heads: Sequence[Array], targets: Indices, *, ridge: float = RIDGE) -> Stacker:
    """The multinomial logistic regression with the least penalised log-loss that starts from the product.

    The loss is convex: the mean log-loss plus ``ridge / 2`` times the sum of squared weights and biases. With the
    product's log-probabilities as an offset the penalty pulls towards the product, not towards equal classes.

    Args:
        heads: H arrays (N, C_h) of calibrated probabilities.
        targets: (N,) joint class indices.
        ridge: Above 0.

    Raises:
        EnsembleError: If there is no head, heads differ in rows, a target is not in 0 to J-1, or the ridge is not
            above 0.
    """
    sizes = _labelled_sizes(heads, targets)
    if not ridge > 0:
        raise EnsembleError(f"ridge is {ridge}; give one above 0, or weights of classes that never occur have no end")
    solved = _least_loss(_with_ones(_features(heads)), _log_product(heads), targets, ridge)  # (J, F + 1)
    weights = tuple(tuple(row) for row in solved[:, :-1].tolist())
    return Stacker(sizes, weights, tuple(solved[:, -1].tolist()), ridge)


def _least_loss(features: Array, offset: Array, targets: Indices, ridge: float) -> Array:
    """(J, F) weights with the least penalised log-loss; see `stacker`."""
    from scipy.optimize import minimize  # takes longer to import than the rest of the command

    n, n_classes = offset.shape
    truth = np.eye(n_classes)[targets]

    def loss(flat: Array) -> tuple[float, Array]:
        weights = flat.reshape(n_classes, -1)
        probs = softmax(offset + features @ weights.T)
        given = np.maximum(probs[np.arange(n), targets], np.finfo(np.float64).tiny)
        slope = (probs - truth).T @ features / n + ridge * weights
        return float(-np.log(given).mean() + ridge / 2 * flat @ flat), slope.ravel()

    start = np.zeros(n_classes * features.shape[1])
    done = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS, "gtol": 1e-7, "ftol": 1e-13})
    return np.asarray(done.x, dtype=np.float64).reshape(n_classes, -1)


def _sizes(heads: Sequence[Array]) -> tuple[int, ...]:
    """H class counts of heads that fit together."""
    if len({len(head) for head in heads}) != 1:
        raise EnsembleError(
            f"heads have {[len(head) for head in heads]} rows; give at least one head, all of equal rows"
        )
    return tuple(head.shape[1] for head in heads)


def _labelled_sizes(heads: Sequence[Array], targets: Indices) -> tuple[int, ...]:
    sizes = _sizes(heads)
    if len(targets) != len(heads[0]):
        raise EnsembleError(f"got {len(targets)} targets for {len(heads[0])} rows of heads; give one target a row")
    require_classes("targets", targets, prod(sizes))
    return sizes


def _require_sizes(heads: Sequence[Array], sizes: tuple[int, ...]) -> None:
    if (found := _sizes(heads)) != sizes:
        raise EnsembleError(f"heads have {found} classes, but the joint rule was fitted on {sizes}; fit anew")


def _features(heads: Sequence[Array]) -> Array:
    """(N, F) each head's log-probabilities about their mean."""
    logs = [np.log(np.maximum(head, RARE)) for head in heads]
    return np.concatenate([log - log.mean(axis=1, keepdims=True) for log in logs], axis=1)


def _with_ones(features: Array) -> Array:
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)


def _log_product(heads: Sequence[Array]) -> Array:
    """(N, J) logarithms of the product, up to a constant for each row."""
    return np.asarray(np.log(reduce(outer, [np.maximum(head, FLOOR) for head in heads])))


def _normalised(joint: Array) -> Array:
    return np.asarray(joint / joint.sum(axis=1, keepdims=True))


# from the simplest to the one with most to fit
JOINT_RULES: dict[str, JointFit] = {"product": product, "train-joint": train_joint, "stacker": stacker}
