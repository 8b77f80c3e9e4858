"""Losses of softmax outputs: limiting cases, second implementations, and the class mix that each trains under."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from heads.base import FloatArray, HeadError
from heads.losses import LOSSES, UNSMOOTHED, loss_of
from heads.recipe import Recipe
from heads.registry import HEADS
from heads.task import Task
from pipeline.rules import LOSS_NAMES

COUNTS = torch.tensor([60, 25, 5])
TARGETS = torch.tensor([0] * 12 + [1] * 5 + [2])
LOGITS = 2 * torch.randn(18, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
PLAIN = F.cross_entropy(LOGITS, TARGETS, reduction="none")


def losses(name: str, *, counts: Tensor = COUNTS, smoothing: float = 0.0, done: float = 0.0, **args: float) -> Tensor:
    rule = loss_of(Recipe(loss=name, loss_args=args, label_smoothing=smoothing), counts)
    return rule.loss(LOGITS, TARGETS, done)


def test_the_settings_name_all_losses() -> None:
    assert tuple(LOSSES) == LOSS_NAMES


LIMITS: list[tuple[str, dict[str, Any]]] = [
    ("cross-entropy", {}),
    ("weighted", {"power": 0}),
    ("weighted", {"counts": torch.tensor([7, 7, 7])}),
    ("focal", {"gamma": 0}),
    ("class-balanced", {"beta": 0}),
    ("balanced-softmax", {"counts": torch.tensor([7, 7, 7])}),
    ("logit-adjusted", {"tau": 0}),
    ("ldam", {"max_margin": 0, "done": 0.5}),
    ("lade", {"alpha": 0, "counts": torch.tensor([7, 7, 7])}),
]


@pytest.mark.parametrize(("name", "args"), LIMITS, ids=[f"{name}-{'-'.join(args)}" for name, args in LIMITS])
def test_at_its_limit_a_loss_is_cross_entropy(name: str, args: dict[str, Any]) -> None:
    torch.testing.assert_close(losses(name, **args), PLAIN)
    if name not in UNSMOOTHED:
        smooth = F.cross_entropy(LOGITS, TARGETS, reduction="none", label_smoothing=0.2)
        torch.testing.assert_close(losses(name, smoothing=0.2, **args), smooth)


def test_weights_are_those_of_scikit_learn_and_the_end_of_class_balanced() -> None:
    of_classes = np.repeat(np.arange(3), COUNTS.numpy())
    weights = torch.from_numpy(compute_class_weight("balanced", classes=np.arange(3), y=of_classes))
    torch.testing.assert_close(losses("weighted"), PLAIN * weights[TARGETS])
    torch.testing.assert_close(losses("weighted", power=0.5), PLAIN * weights[TARGETS].sqrt())
    balanced = losses("class-balanced", beta=1 - 1e-9) / losses("weighted")
    torch.testing.assert_close(balanced, balanced[:1].expand(18), rtol=1e-5, atol=0)


def test_balanced_softmax_multiplies_by_counts() -> None:
    raised = LOGITS.exp() * COUNTS
    by_hand = -(raised / raised.sum(dim=1, keepdim=True))[torch.arange(18), TARGETS].log()
    torch.testing.assert_close(losses("balanced-softmax"), by_hand)
    torch.testing.assert_close(losses("logit-adjusted", tau=1), by_hand)
    torch.testing.assert_close(losses("lade", alpha=0), by_hand)


def test_sure_decisions_have_a_soft_f1_of_the_real_one() -> None:
    sure = F.one_hot(LOGITS.argmax(dim=1), 3).double() * 1000
    found = loss_of(Recipe(loss="soft-f1"), COUNTS).loss(sure, TARGETS, 0.0)
    np.testing.assert_allclose(found, 1 - f1_score(TARGETS, LOGITS.argmax(dim=1), average="macro"))


def test_ldam_margins_grow_as_classes_get_rarer() -> None:
    margins = [0.4 * (5 / n) ** 0.25 for n in COUNTS.tolist()]
    lowered = LOGITS.clone()
    for row, target in enumerate(TARGETS.tolist()):
        lowered[row, target] -= margins[target]
    torch.testing.assert_close(losses("ldam", max_margin=0.4), F.cross_entropy(lowered, TARGETS, reduction="none"))
    late = losses("ldam", max_margin=0, drw=0.7, beta=0.99, done=0.7)
    torch.testing.assert_close(late, losses("class-balanced", beta=0.99))


def test_lade_bounds_are_those_of_a_loop() -> None:
    share, pull = (COUNTS / COUNTS.sum()).tolist(), 0.0
    for c in range(3):
        own = [float(LOGITS[i, c]) for i in range(18) if TARGETS[i] == c]
        spread = np.log(np.mean([np.exp(float(LOGITS[i, c])) / 3 / share[TARGETS[i]] for i in range(18)]))
        pull += share[c] * (np.mean(own) - spread - 0.3 * spread**2)
    expected = losses("balanced-softmax") - 0.2 * pull
    torch.testing.assert_close(losses("lade", alpha=0.2, lam=0.3), expected, rtol=1e-6, atol=1e-6)


# of losses that change the mix and nothing else; the others' probabilities are no estimate of P(y | x)
PROPER: list[tuple[str, dict[str, float]]] = [
    ("cross-entropy", {}),
    ("weighted", {}),
    ("weighted", {"power": 0.5}),
    ("focal", {"gamma": 0}),
    ("class-balanced", {"beta": 0.99}),
    ("balanced-softmax", {}),
    ("logit-adjusted", {"tau": 0.7}),
    ("ldam", {"max_margin": 0, "beta": 0.99}),
    ("lade", {}),
]
AGES = np.array([20, 27, 35, 42, 52, 58, 63])  # each in a bin of its own
PER_AGE = np.array([40, 24, 32, 16, 8, 24, 8])  # photos
LIKELY = np.array([[0.5, 0.25, 0.25, 0], [0.25, 0.25, 0.25, 0.25], [0, 0.25, 0.25, 0.5]])  # P(pattern | class)


@pytest.mark.parametrize("objective", ["classes", "bins"])
@pytest.mark.parametrize(("name", "args"), PROPER, ids=[f"{name}-{'-'.join(args)}" for name, args in PROPER])
@pytest.mark.parametrize("oversampled", [1, 3], ids=["plain", "old photos thrice"])
def test_undoing_the_mix_gives_the_truth(name: str, args: dict[str, float], objective: str, oversampled: int) -> None:
    """Softmax regression on patterns that tell the class only: what it must find is known exactly."""
    age = HEADS["age"]
    task = Task.of(
        age,
        recipe=Recipe(objective=objective, loss=name, loss_args=args),
        values=np.repeat(AGES, PER_AGE).astype(float)[:, None],
    )
    owner = age.labels(AGES.astype(float))
    photos = np.bincount(owner, PER_AGE)
    seen = photos * [1, 1, oversampled]
    table = (LIKELY[owner] * (PER_AGE * np.where(owner == 2, oversampled, 1))[:, None]).astype(int)  # (ages, patterns)
    values = torch.from_numpy(np.repeat(np.tile(AGES, (4, 1)).T.ravel(), table.ravel())).double()[:, None]
    patterns = torch.from_numpy(np.repeat(np.tile(np.arange(4), (len(AGES), 1)).ravel(), table.ravel()))
    outputs = fitted(task, patterns, values)
    found = task.decode(outputs)[0].numpy() * (photos / photos.sum()) / task.mix(0, seen / seen.sum())
    truth = LIKELY.T * photos.astype(float)
    np.testing.assert_allclose(normalised(found), normalised(truth), atol=2e-3)


def fitted(task: Task, patterns: Tensor, values: Tensor) -> Tensor:
    """The (4, K) outputs for each pattern that minimise the task's loss at the end of training."""
    outputs = torch.zeros(4, task.n_outputs, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([outputs], max_iter=200, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = task.losses(outputs[patterns], values, 0.99).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return outputs.detach()


def normalised(rows: FloatArray) -> FloatArray:
    return np.asarray(rows / rows.sum(axis=1, keepdims=True))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"loss": "focl"}, "unknown loss 'focl'; losses are: cross-entropy, weighted"),
    ({"loss": "focal", "loss_args": {"gama": 2}}, "loss focal takes no argument 'gama'; it takes: gamma"),
    ({"loss": "focal", "loss_args": {"gamma": "2"}}, "gamma of loss focal must be a number from 0 to 20, got '2'"),
    ({"loss": "class-balanced", "loss_args": {"beta": 1.5}}, "beta of loss class-balanced must be"),
    ({"loss_args": {"gamma": 1}}, "loss cross-entropy takes no argument 'gamma'; it takes: none"),
    ({"loss": "ldam", "label_smoothing": 0.1}, "label_smoothing does not go with loss ldam"),
    ({"objective": "coral", "loss": "focal"}, "loss and label_smoothing are for objectives bins and classes"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_does_not_fit_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(HeadError, match=message):
        Task.of(HEADS["age"], recipe=Recipe(**settings))
