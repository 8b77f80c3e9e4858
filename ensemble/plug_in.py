"""Labels with a high expected macro F1, found from the probabilities alone: no label is needed.

Were a row of class k with probability ``p_k``, and rows independent, a labelling would expect ``T_k`` hits among the
``P_k`` rows it calls k, and ``N_k`` rows of class k in all. Its expected macro F1 is taken as the mean over classes of
``F_k = 2 T_k / (P_k + N_k)``, the ratio of expectations; the expectation of the ratio differs by a term that falls
with the number of rows of the class (Ye, Chai, Lee & Chieu 2012, https://arxiv.org/abs/1206.4625, on both).

Legend: N samples, C classes.
"""

from typing import NamedTuple

import numpy as np

from ensemble.logs import FLOOR
from ensemble.predictions import Array, Indices

STEPS = 100  # some ten are used
HALVINGS = 10
GAIN = 1e-12  # of expected macro F1; less is rounding


class Rule(NamedTuple):
    """A classifier that is linear in the probabilities: ``argmax_k(worth_k * p_k - charge_k)``, (C,) each."""

    worth: Array
    charge: Array

    def __call__(self, probs: Array) -> Indices:
        """(N,) labels; a tie goes to the lower index."""
        return np.asarray((probs * self.worth - self.charge).argmax(axis=1))

    def towards(self, other: "Rule", share: float) -> "Rule":
        """The rule that lies ``share`` of the way to another."""
        worth, charge = ((1 - share) * mine + share * its for mine, its in zip(self, other, strict=True))
        return Rule(worth, charge)


class Expected(NamedTuple):
    """What a labelling expects of each class: F1, and rows called so plus rows that are so, (C,) each."""

    f1: Array
    total: Array


def expected(probs: Array, labels: Indices, weights: Array) -> Expected:
    """The F1 that each class would have on average, as a ratio of expectations; 0 where it is undefined.

    Args:
        probs: (N, C) probabilities, taken at their word: calibrate first.
        labels: (N,) labels.
        weights: (N,) how much each row counts.
    """
    n_classes = probs.shape[1]
    given = np.take_along_axis(probs, labels[:, None], axis=1)[:, 0]
    hits = np.bincount(labels, weights * given, minlength=n_classes)
    total = np.bincount(labels, weights, minlength=n_classes) + weights @ probs
    return Expected(np.divide(2 * hits, total, out=np.zeros(n_classes), where=total > 0), total)


def plug_in(probs: Array, weights: Array) -> Indices:
    """(N,) labels that no small step betters in expected macro F1, starting from the most probable classes.

    Calling one more row of weight w class k changes the sum of the ``F_k`` by ``w (2 p_k - F_k) / (P_k + N_k)``, to
    first order. So labels can only be the best if each row has the class with the largest such change: a fixed point
    of ``argmax_k (2 p_k - F_k) / (P_k + N_k)``, which is linear in the probabilities, as the best classifier for a
    function of the confusion matrix must be (Narasimhan, Ramaswamy & Agarwal 2015, https://arxiv.org/abs/1501.00287).
    With two classes of which one is scored it is the threshold ``F/2`` of Lipton, Elkan & Narayanaswamy 2014,
    https://arxiv.org/abs/1402.1892. The condition is necessary, not sufficient: expected macro F1 is not concave.

    Each step goes to the rule that the labels at hand ask for. If that loses, the step is halved until it gains, so
    that it never circles and never ends below its start.

    Args:
        probs: (N, C) calibrated probabilities of the whole set that is scored.
        weights: (N,) how much each row counts; non-negative, not all zero.
    """
    shares = weights / weights.sum()
    rule = Rule(np.ones(probs.shape[1]), np.zeros(probs.shape[1]))
    labels = rule(probs)
    now = expected(probs, labels, shares)
    for _ in range(STEPS):
        asked = _asked_for(now)
        for halved in range(HALVINGS):
            tried = rule.towards(asked, 0.5**halved)
            called = tried(probs)
            found = expected(probs, called, shares)
            if found.f1.mean() > now.f1.mean() + GAIN:
                break
        else:
            break
        rule, labels, now = tried, called, found
    return labels


def _asked_for(now: Expected) -> Rule:
    """The rule of the first-order condition; scaled, which changes no label, to a worth of 1 if classes are equal."""
    per = 1 / (len(now.f1) * np.maximum(now.total, FLOOR))
    return Rule(2 * per, now.f1 * per)
