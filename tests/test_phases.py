"""What a fold keeps, chooses and averages while it trains, and that a stop at any moment changes none of it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.craft import Fold, StopAt, fold_of, result_bytes

FINISHED: dict[str, Any] = {"inner": 0.25, "finish_epochs": 1}
SURE = {"wear": 0.2, "incorrect": 0.2, "normal": 0.2}
COMBOS: dict[str, dict[str, Any]] = {
    "best": {"inner": 0.25, "keep": "best", "epochs": 3},
    "best of averages, then finished": {"keep": "best", "ema": 0.9, "epochs": 3, **FINISHED},
    "soup, then all": {
        "average": "greedy", "ema": 0.9, "epochs": 3, "pseudo": SURE, "pseudo_epochs": 1, **FINISHED
    },
    "swa of dropout": {"average": "swa", "backbone_args": {"drop_rate": 0.3}, "epochs": 3, "pseudo": SURE, "pseudo_epochs": 1},
    "patience": {"inner": 0.25, "keep": "best", "patience": 1, "epochs": 5, "finish_epochs": 1, "lr": 0.3},
    "improved": {"inner": 0.25, "keep": "best", "validate_when": "improved", "validate_every": 2, "epochs": 4, "sam": 0.05},
    "average": {"ema": 0.99, "epochs": 2, "backbone_args": {"drop_rate": 0.3}},
}


@pytest.fixture(scope="module")
def photos() -> dict[Path, object]:
    """Photos that were read."""
    return {}


def stops(fold: Fold) -> tuple[dict[str, bytes], int]:
    """What an undisturbed training gives, and how often it looks whether to stop."""
    counted = StopAt()
    return result_bytes(fold.run(counted)), counted.looks


@pytest.mark.parametrize("name", ["soup, then all", "swa of dropout"])
def test_a_training_that_was_stopped_ends_in_the_same_bytes(data: Path, photos: dict[Path, object], name: str) -> None:
    fold = fold_of(data, photos=photos, **COMBOS[name])
    expected, looks = stops(fold)
    rng = random.Random(name)
    assert result_bytes(fold.stopped_at(rng.randint(1, looks // 2), rng.randint(1, looks // 2))) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", COMBOS)
def test_a_training_that_is_stopped_at_any_look_ends_in_the_same_bytes(
    data: Path, photos: dict[Path, object], name: str
) -> None:
    fold = fold_of(data, photos=photos, **COMBOS[name])
    expected, looks = stops(fold)
    for look in range(1, looks + 1):
        assert result_bytes(fold.stopped_at(look)) == expected, look
