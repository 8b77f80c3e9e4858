"""Optimisers: the same bytes after a checkpoint, groups and rates of layers, clipping, sharpness-aware steps."""

from __future__ import annotations

import math
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from heads.registry import HEADS
from heads.task import Task
from pipeline.config import TrainConfig
from pipeline.engine import Trainer, make_scaler
from pipeline.errors import ConfigError, NetworkError
from pipeline.images import Batch
from pipeline.network import Network, build_network
from pipeline.optimizers import TIMM, make_optimizer, parameter_groups, set_rates, sharpened, try_optimizer
from pipeline.state import restore, tensors_of

CPU = torch.device("cpu")
NONE = make_scaler("fp32", CPU)
NAMED = ("adamw", "adam", "sgd", "momentum", "nadam", "radam", "adamp", "lion", "nadamw", "lamb", "muon", "madgrad")
TASK = Task.of(HEADS["gender"])


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def learn(network: nn.Module, optimizer: torch.optim.Optimizer, first: int, end: int) -> None:
    pixels = torch.randn(end, 8, 6, generator=torch.Generator().manual_seed(1))
    for step in range(first, end):
        set_rates(optimizer, 0.01 / (step + 1))
        optimizer.zero_grad()
        network(pixels[step]).square().mean().backward()
        optimizer.step()


def require_equal_after_restore(name: str, args: dict[str, Any]) -> None:
    config = TrainConfig(optimizer=name, optimizer_args=args)
    whole, cut, resumed = small(), small(), small()
    learn(whole, make_optimizer(whole, config), 0, 7)
    optimizer = make_optimizer(cut, config)
    learn(cut, optimizer, 0, 4)
    kept = {name: tensor.clone() for name, tensor in tensors_of(cut, optimizer, NONE).items()}
    optimizer = make_optimizer(resumed, config)
    restore(kept, resumed, optimizer, NONE)
    learn(resumed, optimizer, 4, 7)
    for uninterrupted, interrupted, start in zip(
        whole.parameters(), resumed.parameters(), small().parameters(), strict=True
    ):
        assert torch.equal(uninterrupted, interrupted)
        assert not torch.equal(uninterrupted, start)


@pytest.mark.parametrize("name", NAMED)
def test_a_checkpoint_holds_all_that_an_optimiser_keeps(name: str) -> None:
    require_equal_after_restore(name, {})


def test_a_checkpoint_holds_an_optimiser_without_moments() -> None:
    require_equal_after_restore("momentum", {"momentum": 0.0})
    require_equal_after_restore("adamw", {"betas": [0.8, 0.9], "amsgrad": True})


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM.list_optimizers())
def test_every_optimiser_goes_on_from_a_checkpoint_or_is_refused(name: str) -> None:
    try:
        try_optimizer(TrainConfig(optimizer=name))
    except ConfigError:
        return
    require_equal_after_restore(name, {})


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("adamww", {}, "unknown optimizer 'adamww'; did you mean 'adamw'"),
        ("zzzzzz", {}, "unknown optimizer 'zzzzzz'; there are: adabelief, "),
        ("adamw", {"beta": 1}, "unknown 'beta' in optimizer_args; optimizer 'adamw' takes betas, eps"),
        ("sgd", {"lr": 1}, "unknown 'lr' in optimizer_args; optimizer 'sgd' takes momentum, "),
        ("adam", {"betas": 3}, "optimizer 'adam' cannot be made with optimizer_args = {'betas': 3}: "),
        ("adamw", {"eps": -1}, "optimizer 'adamw' cannot be made with optimizer_args = {'eps': -1}: Invalid epsilon"),
        ("adahessian", {}, "optimizer 'adahessian' needs second derivatives"),
    ],
)
def test_what_no_optimiser_takes_is_refused_in_one_line(name: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        try_optimizer(TrainConfig(optimizer=name, optimizer_args=args))
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def built(**settings: Any) -> tuple[Network, TrainConfig]:
    config = TrainConfig(**({"backbone": "test_resnet", "weights": "none"} | settings))
    torch.manual_seed(0)
    return build_network(config, TASK.n_outputs), config


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext"])
def test_layers_learn_at_the_rates_that_timm_gives_them(backbone: str) -> None:
    network, config = built(backbone=backbone, layer_decay=0.7)
    names = {parameter: name for name, parameter in network.named_parameters()}
    ours = {
        names[parameter]: (group["lr_scale"], group["weight_decay"])
        for group in parameter_groups(network, config)
        for parameter in group["params"]
    }
    whole = timm.create_model(backbone, num_classes=2)
    theirs = TIMM.param_groups_layer_decay(whole, weight_decay=0.05, layer_decay=0.7)
    known = {parameter: f"backbone.{name}" for name, parameter in whole.named_parameters()}
    expected = {known[p]: (group["lr_scale"], group["weight_decay"]) for group in theirs for p in group["params"]}
    shared = ours.keys() & expected.keys()
    assert len(shared) == len(ours) - 2  # all but weight and bias of the head
    for place in range(2):  # scale, then decay
        of_timm = {name: expected[name][place] for name in shared}
        assert {name: ours[name][place] for name in shared} == pytest.approx(of_timm)
    assert ours["head.weight"] == (1.0, 0.05)
    assert ours["head.bias"] == (1.0, 0.0)
    assert min(scale for scale, _ in ours.values()) < 0.7


def test_rates_follow_the_schedule_layer_by_layer() -> None:
    network, config = built(layer_decay=0.5)
    optimizer = make_optimizer(network, config)
    set_rates(optimizer, 0.08)
    assert all(group["lr"] == 0.08 * group["lr_scale"] for group in optimizer.param_groups)
    set_rates(optimizer, 0.02)
    assert max(group["lr"] for group in optimizer.param_groups) == 0.02


def test_a_backbone_whose_layers_nobody_knows_is_refused() -> None:
    class Unknown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Linear(2, 2)

    with pytest.raises(NetworkError, match="timm cannot tell the layers of Linear apart; leave layer_decay"):
        make_optimizer(Unknown(), TrainConfig(layer_decay=0.5))


def a_batch(n: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randint(0, 256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    values = torch.arange(n).remainder(2).float()[:, None, None]
    return pixels, values, torch.ones_like(values)


def trained(steps: int = 1, **settings: Any) -> tuple[Network, float]:
    network, config = built(optimizer="momentum", optimizer_args={"momentum": 0}, weight_decay=0.0, **settings)
    trainer = Trainer.of(network.train(), TASK, config, CPU, 10, 8)
    return network, sum(trainer.step(step, a_batch()) for step in range(steps))


def moved(network: Network) -> float:
    """How far the weights are from those that they began with."""
    start, _ = built()
    apart = [(a - b).norm() for a, b in zip(network.parameters(), start.parameters(), strict=True)]
    return float(torch.stack(apart).detach().norm())


def test_a_clipped_step_is_as_long_as_allowed_and_a_high_limit_changes_nothing() -> None:
    free, _ = trained(lr=0.5, warmup=0.0)
    assert moved(free) > 0.5 * 0.01
    assert moved(trained(lr=0.5, warmup=0.0, clip=0.01)[0]) == pytest.approx(0.5 * 0.01, rel=1e-2)
    unlimited, _ = trained(lr=0.5, warmup=0.0, clip=1e9)
    assert all(torch.equal(a, b) for a, b in zip(free.parameters(), unlimited.parameters(), strict=True))


def test_sharpness_of_a_bowl_is_where_the_formula_says() -> None:
    # loss w^2 / 2: the gradient is w, the sharpest point w + r w / |w|, and the gradient there as well
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    (weight.square().sum() / 2).backward()  # type: ignore[no-untyped-call]
    with sharpened(optimizer, 0.5):
        torch.testing.assert_close(weight.detach(), torch.tensor([3.3, 4.4]))
        assert weight.grad is None
        (weight.square().sum() / 2).backward()  # type: ignore[no-untyped-call]
    assert torch.equal(weight.detach(), torch.tensor([3.0, 4.0]))
    torch.testing.assert_close(weight.grad, torch.tensor([3.3, 4.4]))


def test_sharpness_aware_steps_count_batch_statistics_once_and_a_small_radius_changes_little() -> None:
    plain, loss = trained()
    sharp, sharp_loss = trained(sam=0.5)
    still, _ = trained(sam=1e-6)
    assert sharp_loss == loss
    for (name, before), after in zip(plain.named_buffers(), sharp.buffers(), strict=True):
        assert torch.equal(before, after), name
    distance = {name: _apart(plain, other) for name, other in (("sharp", sharp), ("still", still))}
    assert distance["still"] < distance["sharp"] / 10


def _apart(one: nn.Module, other: nn.Module) -> float:
    apart: list[Tensor] = [(a - b).abs().max() for a, b in zip(one.parameters(), other.parameters(), strict=True)]
    return float(torch.stack(apart).detach().max())


def test_sharpness_aware_steps_refuse_scaled_gradients() -> None:
    network, config = built(sam=0.1, precision="fp16")
    with pytest.raises(ConfigError, match="sam does not work in fp16"):
        Trainer.of(network, TASK, config, CPU, 10, 8)


def test_a_step_of_every_kind_is_finite() -> None:
    for settings in ({"sam": 0.05, "clip": 1.0}, {"layer_decay": 0.8}, {"freeze": -1, "sam": 0.1}):
        _, loss = trained(steps=2, **settings)
        assert math.isfinite(loss)


def test_an_argument_that_only_a_step_minds_is_refused_before_the_training() -> None:
    with pytest.raises(ConfigError, match="adafactor' cannot take a step with optimizer_args"):
        try_optimizer(TrainConfig(optimizer="adafactor", optimizer_args={"decay_rate": "x"}))
