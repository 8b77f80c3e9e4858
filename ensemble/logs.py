"""Logarithms, exponentials and products of probabilities, of which some may be 0.

Legend: N samples, A and B classes.
"""

import numpy as np

from ensemble.predictions import Array

FLOOR = float(np.finfo(np.float64).eps)  # a class that was ruled out is very unlikely, not impossible


def log(probs: Array) -> Array:
    """Natural logarithm of probabilities, those of 0 raised to the floor."""
    made: Array = np.log(np.maximum(probs, FLOOR))
    return made


def softmax(logits: Array) -> Array:
    """(..., C) probabilities of logits."""
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    made: Array = odds / odds.sum(axis=-1, keepdims=True)
    return made


def outer(first: Array, second: Array) -> Array:
    """(N, A * B) products of (N, A) and (N, B); the second runs fastest."""
    return (first[:, :, None] * second[:, None, :]).reshape(len(first), -1)
