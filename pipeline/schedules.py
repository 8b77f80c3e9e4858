"""How high the learning rate is at each step."""

from __future__ import annotations

import math

from pipeline.config import TrainConfig


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """The learning rate of a step: a linear warm-up, then half a cosine down to zero (Loshchilov & Hutter 2017).

    https://arxiv.org/abs/1608.03983, equation 5 without restarts.
    """
    warm = max(1, round(config.warmup * total))
    if step < warm:
        return config.lr * (step + 1) / warm
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))
