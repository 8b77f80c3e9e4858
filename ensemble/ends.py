"""The end of the chain: joint probabilities in the eval set's class mix, and the labels decoded from them.

Legend: N samples, J joint classes, E photos to predict.
"""

from dataclasses import dataclass

import numpy as np

from ensemble.choice import assembled, keys, rows_for
from ensemble.final import Decoded, Scored, decode
from ensemble.mix import Mix, under
from ensemble.predictions import Array, Indices
from ensemble.priors import corrected


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """Labels; those of out-of-fold rows are cross-fitted.

    Attributes:
        trained: Truth of the N rows, each counting 1.
        scored: The same rows re-weighted to the eval set's mix; ``trained`` itself when no other is believed.
        as_trained: How labels are made in the mix of training.
        decoded: How they are made in the eval set's mix, by the strength that was chosen on all rows.
        strength: The power of the mix's ratio that probabilities are multiplied by.
        strengths: What was tried -> macro F1 in the eval set's mix.
        moved: (N,) most probable classes of the corrected probabilities.
        labels: (N,) labels in the eval set's mix, each fold's by choices and fits that did not see it.
        in_sample: (N,) labels by choices and fits that have seen these very rows.
        test: (E, J) probabilities of the photos to predict, in the eval set's mix; no rows when there are none.
        answers: (E,) their labels.
        uncorrected: (E,) their labels in the mix of training.
    """

    trained: Scored
    scored: Scored
    as_trained: Decoded
    decoded: Decoded
    strength: float
    strengths: dict[float, float]
    moved: Indices
    labels: Indices
    in_sample: Indices
    test: Array
    answers: Indices
    uncorrected: Indices


def ends(fair: Array, seen: Array, test: Array, trained: Scored, mix: Mix, decoder: str) -> Ends:
    """Labels of all rows.

    Args:
        fair: (N, J) cross-fitted probabilities in the mix of training.
        seen: (N, J) the same by fits that have seen the rows.
        test: (E, J) those of the photos to predict; no rows when there are none.
        trained: Truth of the N rows.
        mix: Of the eval set.
        decoder: Key of ``DECODERS``, or ``auto``.
    """
    as_trained = decode(fair, trained, decoder)
    scored = under(trained, mix.ratio) if mix.moved else trained
    tried = _tried(fair, scored, mix, decoder)
    chosen = {key: scored.best(tried, rows_for(key, scored.folds)) for key in keys(scored.folds)}
    moved = {power: at(fair, mix, power) for power in set(chosen.values())}
    decoded = {power: decode(probs, scored, decoder) if mix.moved else as_trained for power, probs in moved.items()}
    best = chosen[None]
    answers = at(test, mix, best)
    return Ends(
        trained=trained,
        scored=scored,
        as_trained=as_trained,
        decoded=decoded[best],
        strength=best,
        strengths={power: scored.score(labels) for power, labels in tried.items()},
        moved=assembled({key: moved[power].argmax(axis=1) for key, power in chosen.items()}, scored.folds),
        labels=assembled({key: decoded[power].labels for key, power in chosen.items()}, scored.folds),
        in_sample=decoded[best].decoder(at(seen, mix, best), scored.weights),
        test=answers,
        answers=_labels(decoded[best], answers),
        uncorrected=_labels(as_trained, test),
    )


def at(probs: Array, mix: Mix, strength: float) -> Array:
    """(N, J) probabilities corrected with this power of the mix's ratio."""
    return corrected(probs, mix.ratio**strength) if mix.moved and strength and len(probs) else probs


def _tried(fair: Array, scored: Scored, mix: Mix, decoder: str) -> dict[float, Indices]:
    """Strength -> (N,) labels; by the decoder that was asked for, or by the Bayes rule for macro F1."""
    if not mix.moved:
        return {0.0: fair.argmax(axis=1)}
    name = "plug-in" if decoder == "auto" else decoder
    return {power: decode(at(fair, mix, power), scored, name).labels for power in mix.strengths}


def _labels(decoded: Decoded, probs: Array) -> Indices:
    if len(probs) == 0:
        return np.empty(0, dtype=np.int64)
    return decoded.decoder(probs, np.ones(len(probs)))
