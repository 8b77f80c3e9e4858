"""The class mix of unlabelled photos, estimated from their probabilities, and probabilities moved to another mix.

All of it assumes label shift: classes come in other shares, but photos of one class look as before.

Legend: N out-of-fold samples, C classes, E photos to predict.
"""

from collections.abc import Callable

import numpy as np

from ensemble.calibration import bias_corrected
from ensemble.logs import FLOOR
from ensemble.mixture import mixture_weights
from ensemble.predictions import Array, EnsembleError, Indices

Estimator = Callable[[Array, Indices, Array], Array]  # (N, C) and (N,) out-of-fold, (E, C) unlabelled -> (C,) mix

BIAS_STEPS = 100
HALVINGS = 30
CLOSE = 1e-10
PULL = 1e-5  # towards the mix of training: where classes cannot be told apart, they keep their proportions
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


def undone(probs: Array, *, trained: Array, photos: Array) -> Array:
    """(..., C) probabilities with the mix that a sampler or loss pretended taken back to that of the photos.

    Args:
        probs: (..., C) of a network that was trained under another mix.
        trained: (C,) the mix that they are under.
        photos: (C,) that of the photos; where both are equal, nothing changes.
    """
    if np.allclose(trained, photos, rtol=0, atol=1e-6):
        return probs
    return corrected(probs, np.divide(photos, trained, out=np.zeros_like(photos), where=trained > 0))


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
    """(C,) the mix under which the photos are most likely: Saerens, Latinne & Decaestecker 2002, equation 2.9.

    The log-likelihood ``sum_n log sum_k mix_k p_nk / trained_k`` is concave (Alexandari et al. 2020,
    https://arxiv.org/abs/1901.06852). What expectation-maximisation climbs in hundreds of steps is the problem of the
    weights of a mixture, and is solved as that.

    It takes the probabilities at their word, so they are first calibrated with a bias for each class, as the same paper
    asks for.

    Args:
        probs: (N, C) out-of-fold probabilities.
        targets: (N,) true classes.
        unlabelled: (E, C) probabilities of the photos to predict.
    """
    calibrated = bias_corrected(probs, targets)
    return most_likely(calibrated(probs), targets, calibrated(unlabelled))


def most_likely(probs: Array, targets: Indices, unlabelled: Array) -> Array:
    """(C,) what `em` finds of probabilities that are calibrated already."""
    likelihood = likelihoods(probs, targets, unlabelled)
    there = likelihood.max(axis=0) > 0
    mix = np.zeros(likelihood.shape[1])
    mix[there] = mixture_weights([np.maximum(likelihood[:, there].T, FLOOR)])
    return mix


def likelihoods(probs: Array, targets: Indices, unlabelled: Array) -> Array:
    """(E, C) how likely each photo is among those of each class, but for a factor of the photo.

    Probabilities are first made right in the large: photos like those out-of-fold are then most likely in their mix.
    A class without out-of-fold rows has zeros: of it nothing is known.

    Args:
        probs: (N, C) calibrated out-of-fold probabilities.
        targets: (N,) true classes.
        unlabelled: (E, C) calibrated probabilities of the photos to predict.
    """
    trained = mix_of(targets, probs.shape[1])
    there = np.flatnonzero(trained)
    ratio = right_in_the_large(probs[:, there], trained[there])
    made = np.zeros(unlabelled.shape)
    made[:, there] = corrected(unlabelled[:, there], ratio) / trained[there]
    return made


def right_in_the_large(probs: Array, mix: Array) -> Array:
    """(C,) factors with which the mean of (N, C) probabilities is this mix, the largest being 1.

    Their logarithms are biases ``b`` that minimise the convex ``mean_n log sum_k p_nk exp(b_k) - mix @ b``: Newton's
    steps, halved until they descend.
    """
    safe = np.maximum(probs, FLOOR)
    biases = np.zeros(len(mix))

    def loss(tried: Array) -> float:
        return float(np.log(safe @ np.exp(tried)).mean() - mix @ tried)

    now = loss(biases)
    for _ in range(BIAS_STEPS):
        p = corrected(safe, np.exp(biases))
        slope = p.mean(axis=0) - mix
        if np.abs(slope).max() < CLOSE:
            break
        curvature = np.diag(p.mean(axis=0)) - p.T @ p / len(p)
        step = np.linalg.lstsq(curvature, slope, rcond=1e-12)[0]
        step = step / max(1.0, np.abs(step).max())  # a nat at a time
        tried = next((t for t in (biases - 0.5**halved * step for halved in range(HALVINGS)) if loss(t) < now), None)
        if tried is None:
            break  # rounding is all that is left
        biases, now = tried - tried.max(), loss(tried)
    factors: Array = np.exp(biases)
    return factors


def _solved(probs: Array, targets: Indices, seen: Array) -> Array:
    """(C,) the mix whose mixture of the classes' mean rows is (C,) ``seen``, as nearly as mixes can."""
    from scipy.optimize import nnls  # a tenth of a second that votes without it need not wait

    means, trained = class_means(probs, targets), mix_of(targets, probs.shape[1])
    there = np.flatnonzero(trained)  # of other classes nothing is known
    pull = PULL * np.eye(len(there))
    matrix = np.vstack([means[there].T, np.full(len(there), SUM_WEIGHT), pull])
    found, _ = nnls(matrix, np.concatenate([seen, [SUM_WEIGHT], pull @ trained[there]]))
    mix = np.zeros(len(trained))
    mix[there] = found / found.sum()
    return mix


def class_means(probs: Array, targets: Indices) -> Array:
    """(C, C) the mean of (N, C) probabilities over the rows of each true class; a row of zeros for an absent one."""
    n_classes = probs.shape[1]
    sums = np.stack([np.bincount(targets, weights=column, minlength=n_classes) for column in probs.T], axis=1)
    means: Array = sums / np.maximum(np.bincount(targets, minlength=n_classes), 1)[:, None]
    return means


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
