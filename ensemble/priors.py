"""The class mix of unlabelled photos, estimated from their probabilities, and probabilities moved to another mix.

All of it assumes label shift: classes come in other shares, but photos of one class look as before.

Legend: N out-of-fold samples, C classes, E photos to predict.
"""

from collections.abc import Callable

import numpy as np

from ensemble.predictions import Array, EnsembleError, Indices
from ensemble.weights import FLOOR

Estimator = Callable[[Array, Indices, Array], Array]  # (N, C) and (N,) out-of-fold, (E, C) unlabelled -> (C,) mix

EM_STEPS = 2000
BIAS_STEPS = 200
CLOSE = 1e-10
SUM_WEIGHT = 1e3  # how much more the equation counts that shares sum to 1


def mix_of(targets: Indices, n_classes: int) -> Array:
    """(C,) the share of each class among (N,) targets."""
    counts = np.bincount(targets, minlength=n_classes)
    shares: Array = counts / counts.sum()
    return shares


def corrected(probs: Array, ratio: Array) -> Array:
    """(..., C) probabilities under another mix: Saerens, Latinne & Decaestecker 2002, equation 2.4.

    https://doi.org/10.1162/089976602753284446

    Args:
        probs: (..., C) probabilities.
        ratio: (C,) new share over old share of each class, none negative.
    """
    moved = np.maximum(probs, FLOOR) * ratio
    made: Array = moved / moved.sum(axis=-1, keepdims=True)
    return made


def bbse_soft(probs: Array, targets: Indices, unlabelled: Array) -> Array:
    """(C,) the mix under which mean probabilities of each class add up to those seen: Lipton et al. 2018.

    https://arxiv.org/abs/1802.03916, equation 3, with probabilities in place of labels; least squares over mixes. It
    is consistent whether the probabilities are calibrated or not.

    Args:
        probs: (N, C) out-of-fold probabilities.
        targets: (N,) true classes.
        unlabelled: (E, C) probabilities of the photos to predict.
    """
    return _solved(probs, targets, unlabelled.mean(axis=0))


def bbse_hard(probs: Array, targets: Indices, unlabelled: Array) -> Array:
    """(C,) the same of the most probable classes: the confusion matrix that Lipton et al. 2018 invert."""
    unit = np.eye(probs.shape[1])
    return _solved(unit[probs.argmax(axis=1)], targets, unit[unlabelled.argmax(axis=1)].mean(axis=0))


def em(probs: Array, targets: Indices, unlabelled: Array) -> Array:
    """(C,) the mix with the highest likelihood of the photos: Saerens, Latinne & Decaestecker 2002, equation 2.9.

    It takes the probabilities at their word, so they are first given biases with which their mean out-of-fold is the
    mix of training: without that, what they overstate grows from step to step (Alexandari et al. 2020,
    https://arxiv.org/abs/1901.06852).

    Args:
        probs: (N, C) out-of-fold probabilities.
        targets: (N,) true classes.
        unlabelled: (E, C) probabilities of the photos to predict.
    """
    trained = mix_of(targets, probs.shape[1])
    ratio = right_in_the_large(probs, trained)
    likelihood = corrected(unlabelled, ratio) / np.maximum(trained, FLOOR)
    mix = trained
    for _ in range(EM_STEPS):
        joint = likelihood * mix
        better = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(better - mix).max() < CLOSE:
            break
        mix = better
    return mix


def right_in_the_large(probs: Array, mix: Array) -> Array:
    """(C,) factors with which the mean of (N, C) probabilities is this mix."""
    factors = np.ones(len(mix))
    for _ in range(BIAS_STEPS):
        mean = corrected(probs, factors).mean(axis=0)
        if np.abs(mean - mix).max() < CLOSE:
            break
        factors = factors * mix / mean
    return factors / factors.max()


def _solved(probs: Array, targets: Indices, seen: Array) -> Array:
    """(C,) the mix whose mixture of the classes' mean rows is (C,) ``seen``, as nearly as mixes can."""
    from scipy.optimize import nnls  # a tenth of a second that votes without it need not wait

    n_classes = probs.shape[1]
    counts = np.bincount(targets, minlength=n_classes)
    sums = np.stack([np.bincount(targets, weights=column, minlength=n_classes) for column in probs.T], axis=1)
    means = sums / np.maximum(counts, 1)[:, None]  # (C, C), a row for each true class
    there = np.flatnonzero(counts)  # of other classes nothing is known
    matrix = np.vstack([means[there].T, np.full(len(there), SUM_WEIGHT)])
    found, _ = nnls(matrix, np.append(seen, SUM_WEIGHT))
    mix = np.zeros(n_classes)
    mix[there] = found / found.sum()
    return mix


def require_mix(name: str, given: Array, n_classes: int) -> None:
    """Refuse what is no class mix.

    Raises:
        EnsembleError: There are other than C shares, one is not positive, or they do not sum to 1.
    """
    if len(given) != n_classes or not (given > 0).all() or not np.isclose(given.sum(), 1, atol=0.02):
        raise EnsembleError(
            f"the class mix given for {name!r} is {given.tolist()}; give {n_classes} positive shares that sum to 1"
        )


ESTIMATORS: dict[str, Estimator] = {"bbse-soft": bbse_soft, "bbse-hard": bbse_hard, "em": em}
