"""From heads to answers: joint probabilities, the eval set's class mix, and the decoder, every step scored.

Legend: N samples, H heads, C classes of a head, J joint classes, E photos to predict.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

import numpy as np

from ensemble.bootstrap import Draws
from ensemble.choice import Key, assembled, keys, rows_for
from ensemble.decoding import DECODERS, Decoder
from ensemble.metrics import accuracy, macro_f1
from ensemble.predictions import Array, Indices, Mask

# for auto: the Bayes rule for macro F1 first, then that for accuracy, then what is fitted; class-bias overfits
CANDIDATES = ("plug-in", "argmax", "logit-adjust", "head-bias")
ROUNDS = 1000  # of people drawn for intervals
ERRORS = 2.0  # standard errors that a gain in macro F1 must exceed: it is far noisier than log-loss
CHOICE_ROUNDS = 200  # for standard errors, which need fewer
Fitted = TypeVar("Fitted")
Candidate = TypeVar("Candidate", str, float)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Labelled out-of-fold rows under one class mix.

    Attributes:
        targets: (N,) true joint classes.
        folds: (N,) folds.
        draws: People drawn for intervals, the same for everything that is compared.
        few: Fewer draws of them, for standard errors.
        weights: (N,) what each row counts: 1 as trained, new over old share of its class under another mix.
        sizes: H class counts.
    """

    targets: Indices
    folds: Indices
    draws: Draws
    few: Draws
    weights: Array
    sizes: tuple[int, ...]

    @property
    def n_classes(self) -> int:
        """J."""
        return int(np.prod(self.sizes))

    def score(self, labels: Indices) -> float:
        """Macro F1 of the J classes."""
        return macro_f1(self.targets, labels, self.n_classes, weights=self.weights)

    def score_of(self, labels: Indices, rows: Mask) -> float:
        """Macro F1 on some of the rows."""
        return macro_f1(self.targets[rows], labels[rows], self.n_classes, weights=self.weights[rows])

    def drawn(self, labels: Indices) -> Array:
        """(R,) macro F1 when people are drawn."""
        return self.draws.macro_f1(self.targets * self.n_classes + labels, self.n_classes, self.weights)

    def error(self, before: Indices, after: Indices, rows: Mask) -> float:
        """Standard error, on some of the rows, of the difference in macro F1, people being drawn."""
        cells, weights = self.targets * self.n_classes, self.weights * rows
        one, other = (self.few.macro_f1(cells + labels, self.n_classes, weights) for labels in (before, after))
        return float((other - one).std())

    def best(self, labels: Mapping[Candidate, Indices], rows: Mask) -> Candidate:
        """The candidate that pays on some rows: each takes the place of the best before it if it gains ``ERRORS``."""
        names = list(labels)
        best = names[0]
        for other in names[1:]:
            gained = self.score_of(labels[other], rows) - self.score_of(labels[best], rows)
            best = other if gained > ERRORS * self.error(labels[best], labels[other], rows) else best
        return best

    def summary(self, labels: Indices) -> dict[str, Any]:
        """Macro F1 with its 95 % interval over people, accuracy, number of photos."""
        low, high = np.quantile(self.drawn(labels), [0.025, 0.975])
        return {
            "macro_f1": self.score(labels),
            "interval_95": [float(low), float(high)],
            "accuracy": accuracy(self.targets, labels, self.n_classes, weights=self.weights),
            "photos": len(self.targets),
        }

    def difference(self, before: Indices, after: Indices) -> dict[str, Any]:
        """How much macro F1 the second labels have more, with the 95 % interval of the paired difference."""
        low, high = np.quantile(self.drawn(after) - self.drawn(before), [0.025, 0.975])
        return {"macro_f1": self.score(after) - self.score(before), "interval_95": [float(low), float(high)]}


def cross_fit(fit: Callable[[Mask], Fitted], folds: Indices) -> dict[Key, Fitted]:
    """What is fitted on all rows, and without each fold."""
    return {key: fit(rows_for(key, folds)) for key in keys(folds)}


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """How joint probabilities become labels.

    Attributes:
        name: Key of ``DECODERS``.
        decoder: It, fitted on all rows.
        labels: (N,) out-of-fold labels, each fold by what did not see it.
        trials: Decoder -> macro F1 cross-fitted, its gain over the most probable class, the standard error of that.
    """

    name: str
    decoder: Decoder
    labels: Indices
    trials: dict[str, dict[str, float]]


def decode(probs: Array, scored: Scored, asked: str) -> Decoded:
    """Labels of (N, J) probabilities by the decoder that was asked for, or by the one that pays.

    ``auto`` begins with the plug-in rule, which is right for probabilities that are. Another decoder takes its place
    when its cross-fitted macro F1 is more than two standard errors higher (paired, people drawn). For each fold the
    others' rows decide.

    Args:
        probs: (N, J) joint probabilities.
        scored: The rows' truth and weight.
        asked: Key of ``DECODERS``, or ``auto``.
    """
    names = CANDIDATES if asked == "auto" else (asked,)
    fits = {name: _fits(name, probs, scored) for name in names}
    fair = {name: _fair(by_key, probs, scored) for name, by_key in fits.items()}
    chosen = {key: scored.best(fair, rows_for(key, scored.folds)) for key in keys(scored.folds)}
    labels = assembled({key: fair[name] for key, name in chosen.items()}, scored.folds)
    name = chosen[None]
    return Decoded(name, fits[name][None], labels, _trials(probs, fair, scored))


def _fits(name: str, probs: Array, scored: Scored) -> dict[Key, Decoder]:
    def fit(rows: Mask) -> Decoder:
        return DECODERS[name](probs[rows], scored.targets[rows], scored.weights[rows], scored.sizes)

    return cross_fit(fit, scored.folds)


def _fair(fits: Mapping[Key, Decoder], probs: Array, scored: Scored) -> Indices:
    """(N,) labels by decoders that did not see the fold; a decoder may look at the probabilities of all rows."""
    parts: dict[Key, Indices] = {key: fit(probs, scored.weights) for key, fit in fits.items() if key is not None}
    return assembled(parts, scored.folds)


def _trials(probs: Array, fair: Mapping[str, Indices], scored: Scored) -> dict[str, dict[str, float]]:
    plain, every = probs.argmax(axis=1), np.ones(len(probs), dtype=bool)
    return {
        name: {
            "macro_f1": scored.score(labels),
            "gain": scored.score(labels) - scored.score(plain),
            "error": scored.error(plain, labels, every),
        }
        for name, labels in fair.items()
    }


def outer(ratios: Sequence[Array]) -> Array:
    """(J,) products of H heads' ratios, the last head running fastest."""
    return reduce(lambda left, right: np.outer(left, right).ravel(), ratios)
