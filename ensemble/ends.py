"""The end of the chain: joint probabilities in the eval set's class mix, and the labels decoded from them.

Legend: N samples, J joint classes, E photos to predict.
"""

from dataclasses import dataclass

import numpy as np

from ensemble.final import Decoded, Scored, decode
from ensemble.mix import Mix, under
from ensemble.predictions import Array, Indices
from ensemble.priors import corrected


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """Labels; those of out-of-fold rows are cross-fitted.

    Attributes:
        trained: Truth of the N rows, each counting 1.
        scored: The same rows re-weighted to the eval set's mix; ``trained`` itself when no other is assumed.
        as_trained: How labels are made in the mix of training.
        decoded: How they are made in the eval set's mix.
        in_sample: (N,) labels by fits that have seen these very rows.
        test: (E, J) probabilities of the photos to predict, in the eval set's mix; no rows when there are none.
        answers: (E,) their labels.
        uncorrected: (E,) their labels in the mix of training.
    """

    trained: Scored
    scored: Scored
    as_trained: Decoded
    decoded: Decoded
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
    scored = under(trained, mix.ratio) if mix.moved else trained
    as_trained = decode(fair, trained, decoder)
    decoded = decode(corrected(fair, mix.ratio), scored, decoder) if mix.moved else as_trained
    moved = corrected(test, mix.ratio) if mix.moved else test
    return Ends(
        trained=trained,
        scored=scored,
        as_trained=as_trained,
        decoded=decoded,
        in_sample=decoded.decoder(corrected(seen, mix.ratio) if mix.moved else seen, scored.weights),
        test=moved,
        answers=_labels(decoded, moved),
        uncorrected=_labels(as_trained, test),
    )


def _labels(decoded: Decoded, probs: Array) -> Indices:
    if len(probs) == 0:
        return np.empty(0, dtype=np.int64)
    return decoded.decoder(probs, np.ones(len(probs)))
