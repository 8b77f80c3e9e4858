"""Learning-rate schedules against torch's own, warm-up, arguments."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.rules import RULES
from pipeline.schedules import SCHEDULE_ARGS, SCHEDULES, learning_rate

LR = 0.2
Maker = Callable[[torch.optim.Optimizer], Any]


def torchs(make: Maker, steps: int) -> list[float]:
    """The learning rates of one of torch's schedulers."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def ours(schedule: str, total: int, warm: int, args: dict[str, Any], *, epochs: int = 5) -> list[float]:
    config = TrainConfig(lr=LR, warmup=warm / total, schedule=schedule, schedule_args=args, epochs=epochs)
    return [learning_rate(step, total, config) for step in range(total)]


@pytest.mark.parametrize(
    ("schedule", "args", "make"),
    [
        ("cosine", {}, lambda o: lr_scheduler.CosineAnnealingLR(o, 60)),
        ("constant", {}, lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
        ("restarts", {"cycles": 3}, lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 20)),
        ("restarts", {"cycles": 4, "growth": 2}, lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4, 2)),
        ("polynomial", {"power": 0.9}, lambda o: lr_scheduler.PolynomialLR(o, 60, 0.9)),
        ("polynomial", {"power": 2.0}, lambda o: lr_scheduler.PolynomialLR(o, 60, 2.0)),
    ],
)
def test_after_the_warm_up_rates_are_those_of_torch(schedule: str, args: dict[str, Any], make: Maker) -> None:
    warm, total = 6, 66
    assert ours(schedule, total, warm, args)[warm:] == pytest.approx(torchs(make, total - warm), abs=1e-9)


@pytest.mark.parametrize(("warmup", "start", "end"), [(0.3, 25.0, 1e4), (0.5, 10.0, 100.0)])
def test_one_cycle_is_torchs(warmup: float, start: float, end: float) -> None:
    def make(optimizer: torch.optim.Optimizer) -> Any:
        return lr_scheduler.OneCycleLR(
            optimizer,
            LR,
            total_steps=60,
            pct_start=warmup,
            div_factor=start,
            final_div_factor=end,
            cycle_momentum=False,
        )

    rates = ours("one-cycle", 60, round(warmup * 60), {"start": start, "end": end})
    assert rates == pytest.approx(torchs(make, 60), abs=1e-9)


@given(per_epoch=st.integers(1, 7), epochs=st.integers(1, 9), every=st.integers(1, 4), gamma=st.floats(0.05, 1))
def test_steps_are_those_of_torch_epoch_by_epoch(per_epoch: int, epochs: int, every: int, gamma: float) -> None:
    by_epoch = torchs(lambda o: lr_scheduler.StepLR(o, every, gamma), epochs)
    rates = ours("step", per_epoch * epochs, 0, {"gamma": gamma, "every": every}, epochs=epochs)
    assert rates == pytest.approx([rate for rate in by_epoch for _ in range(per_epoch)])


@given(
    losses=st.lists(st.sampled_from([0.5, 0.6, 0.61, 0.7, 1.0]), max_size=15),
    patience=st.integers(0, 3),
    factor=st.sampled_from([0.1, 0.5, 1.0]),
)
def test_the_plateau_is_torchs(losses: list[float], patience: int, factor: float) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    if factor < 1:  # torch wants it below 1
        scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=factor, patience=patience, eps=0.0)
        for loss in losses:
            scheduler.step(loss)
    config = TrainConfig(
        lr=LR, warmup=0.0, schedule="plateau", schedule_args={"factor": factor, "patience": patience}, epochs=20
    )
    assert learning_rate(50, 100, config, losses) == pytest.approx(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_rises_to_the_rate_and_never_above(schedule: str) -> None:
    rates = ours(schedule, 40, 8, {})
    assert all(a < b for a, b in itertools.pairwise(rates[:8]))
    assert rates[7] == pytest.approx(LR)
    assert max(rates) == pytest.approx(LR)
    assert min(rates) >= 0
    if schedule != "one-cycle":
        assert rates[:8] == pytest.approx([LR * (step + 1) / 8 for step in range(8)])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_after_the_schedule_the_rate_is_that_of_the_finish(schedule: str) -> None:
    config = TrainConfig(lr=LR, schedule=schedule, finish_lr=0.25)
    assert {learning_rate(step, 40, config) for step in (40, 41, 400)} == {LR * 0.25}


def test_the_rules_name_the_schedules_that_there_are() -> None:
    holds, wanted = RULES["schedule"]
    assert wanted == "one of " + ", ".join(SCHEDULES)
    assert all(map(holds, SCHEDULES))
    assert SCHEDULE_ARGS.keys() <= SCHEDULES.keys()


@pytest.mark.parametrize(
    ("schedule", "args", "message"),
    [
        ("step", {"gama": 0.1}, "unknown 'gama' in schedule_args; schedule 'step' takes gamma, every"),
        ("cosine", {"gamma": 0.1}, "unknown 'gamma' in schedule_args; schedule 'cosine' takes none"),
        ("step", {"every": 0}, "schedule_args.every must be a number of epochs above 0, got 0"),
        ("step", {"gamma": True}, "schedule_args.gamma must be a number, got True"),
        ("restarts", {"cycles": 1.5}, "schedule_args.cycles must be a whole number, got 1.5"),
        ("polynomial", {"power": 10**400}, "schedule_args.power must be from 0 to 100, got inf"),
    ],
)
def test_wrong_arguments_are_refused(schedule: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        learning_rate(0, 10, TrainConfig(schedule=schedule, schedule_args=args))
