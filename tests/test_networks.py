"""Necks, frozen layers, gradient checkpointing, and one step of every family of backbones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from heads.registry import HEADS
from heads.task import Task
from pipeline.config import TrainConfig
from pipeline.engine import Trainer
from pipeline.errors import ConfigError, NetworkError
from pipeline.freezing import frozen_names, require_steady, set_frozen
from pipeline.necks import ACTIVATIONS, INITS, NECK_ARGS, NECKS, build_neck
from pipeline.network import Network, build_network, try_network
from pipeline.rules import RULES
from tests.builders import batch_of

CPU = torch.device("cpu")
TASK = Task.of(HEADS["gender"])


def built(**settings: Any) -> tuple[Network, TrainConfig]:
    usual: dict[str, Any] = {"backbone": "test_resnet", "weights": "none", "image_size": 32}
    config = TrainConfig(**usual | settings)
    torch.manual_seed(0)
    return build_network(config, TASK.n_outputs).train(), config


def stepped(network: Network, config: TrainConfig, *, epoch: int = 0, n: int = 4) -> Trainer:
    trainer = Trainer.of(network, TASK, config, CPU, 10, n)
    set_frozen(network.train(), config, epoch)
    rng = np.random.default_rng(0)
    size = config.image_size
    pixels = torch.from_numpy(rng.integers(0, 256, (n, 3, size, size), dtype=np.uint8))
    for step in range(2):
        trainer.step(step, batch_of(pixels, torch.arange(n).remainder(2).float()[:, None]))
    return trainer


def neck(name: str, features: int = 6, outputs: int = 3, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_neck(TrainConfig(neck=name, **settings), features, outputs)


def test_the_rules_name_the_necks_and_beginnings_that_there_are() -> None:
    assert RULES["neck"][1] == "one of " + ", ".join(NECKS)
    assert RULES["init"][1] == "one of " + ", ".join(INITS)
    assert NECKS.keys() == NECK_ARGS.keys()


@pytest.mark.parametrize("name", NECKS)
@pytest.mark.parametrize("init", INITS)
def test_every_neck_gives_outputs_and_passes_gradients_on(name: str, init: str) -> None:
    built_neck, features = neck(name, init=init), torch.randn(5, 6, requires_grad=True)
    outputs = built_neck(features)
    assert outputs.shape == (5, 3)
    (outputs**2 + outputs).sum().backward()
    assert all(parameter.grad is not None for parameter in built_neck.parameters())
    if init == "zeros":
        assert not outputs.any()
        last = [module for module in built_neck.modules() if isinstance(module, nn.Linear)][-1]
        assert last.weight.grad is not None
        assert last.weight.grad.any()


def test_a_linear_neck_is_the_layer_that_torch_makes() -> None:
    torch.manual_seed(0)
    expected = nn.Linear(6, 3)
    assert torch.equal(neck("linear").state_dict()["weight"], expected.weight)
    names = dict(built()[0].named_parameters())
    assert {name for name in names if name.startswith("head")} == {"head.weight", "head.bias"}


def test_the_limits_of_necks_are_linear_layers() -> None:
    features = torch.randn(7, 6)
    linear = neck("linear")
    for limit in (neck("multi-dropout", neck_args={"dropout": 0}), neck("mlp", neck_args={"widths": [6]})):
        weights = [layer for layer in limit.modules() if isinstance(layer, nn.Linear)]
        weights[-1].load_state_dict(linear.state_dict())
        if len(weights) > 1:  # a hidden layer that changes nothing, with all above zero
            nn.init.eye_(weights[0].weight)
            nn.init.zeros_(weights[0].bias)
        given = features.abs() if len(weights) > 1 else features
        torch.testing.assert_close(limit(given), linear(given))
    norm = neck("batchnorm", neck_args={"dropout": 0.0})
    norm[2].load_state_dict(linear.state_dict())  # type: ignore[index]
    centred = (features - features.mean(dim=0)) / (features.var(dim=0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(norm(centred), linear(centred), atol=1e-4, rtol=1e-4)


def test_many_dropout_masks_tell_the_same_on_average_with_less_spread() -> None:
    features = torch.ones(2000, 6)
    few, many = (neck("multi-dropout", neck_args={"dropout": 0.5, "samples": n}) for n in (1, 16))
    few.load_state_dict(many.state_dict())
    expected = many.eval()(features[:1])[0]
    one, mean = few(features), many.train()(features)
    torch.testing.assert_close(mean.mean(dim=0), expected, atol=0.02, rtol=0)
    ratio = one.var(dim=0) / mean.var(dim=0)
    assert ((ratio > 12) & (ratio < 21)).all()  # 16 masks, a sixteenth of the variance


@pytest.mark.parametrize(("init", "deviation"), [("trunc-normal", 0.02), ("kaiming", (2 / 400) ** 0.5)])
def test_weights_begin_with_the_spread_that_the_paper_gives(init: str, deviation: float) -> None:
    layer = neck("linear", 400, 300, init=init).state_dict()
    assert float(layer["weight"].std()) == pytest.approx(deviation, rel=0.02)
    assert not layer["bias"].any()


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("linear", {"dropout": 0.1}, "unknown 'dropout' in neck_args; neck 'linear' takes none"),
        ("batchnorm", {"samples": 3}, "unknown 'samples' in neck_args; neck 'batchnorm' takes dropout"),
        ("mlp", {"widths": 64}, "neck_args.widths must be a list, got 64"),
        ("mlp", {"widths": [64, 0.5]}, "neck_args.widths must be a list of 1 to 20 whole numbers"),
        ("mlp", {"activation": "tanhh"}, f"neck_args.activation must be one of {', '.join(ACTIVATIONS)}"),
        ("multi-dropout", {"dropout": 1.0}, "neck_args.dropout must be from 0 to below 1, got 1.0"),
    ],
)
def test_wrong_arguments_of_a_neck_are_refused(name: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message.replace('[', '.')}"):
        try_network(TrainConfig(backbone="test_resnet", weights="none", neck=name, neck_args=args), 2)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("freeze", [1, 2, -1])
def test_frozen_layers_keep_their_bytes_and_the_others_learn(backbone: str, freeze: int) -> None:
    network, config = built(backbone=backbone, freeze=freeze, image_size=160 if "vit" in backbone else 32)
    names = {f"backbone.{name}" for name in frozen_names(network.backbone, freeze)}
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    stepped(network, config)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name in names), name
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == (name in names), name


def test_no_backward_pass_goes_through_a_frozen_stem() -> None:
    network, config = built(freeze=2)
    stepped(network, config)
    outputs: Tensor = network.get_submodule("backbone.layer1")(
        network.get_submodule("backbone.conv1")(torch.rand(2, 3, 32, 32))
    )
    assert not outputs.requires_grad


def test_layers_thaw_at_their_epoch_whoever_begins_there() -> None:
    network, config = built(freeze=-1, unfreeze_epoch=2)
    trainer = stepped(network, config, epoch=1)
    assert len(trainer.optimizer.state) == 2  # the head's weight and bias
    assert not any(module.training for module in network.backbone.modules() if isinstance(module, _BatchNorm))
    set_frozen(network.train(), config, 2)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(module.training for module in network.modules())
    _, thawed = network, stepped(network, config, epoch=2)
    assert len(thawed.optimizer.state) == len(list(network.parameters()))


def test_a_checkpoint_before_the_thaw_has_room_for_what_learns_later() -> None:
    from pipeline.state import restore, tensors_of

    whole, config = built(freeze=-1, unfreeze_epoch=1)
    trainer = stepped(whole, config)
    kept = {name: tensor.clone() for name, tensor in tensors_of(whole, trainer.optimizer, trainer.scaler).items()}
    again, _ = built(freeze=-1, unfreeze_epoch=1)
    resumed = Trainer.of(again, TASK, config, CPU, 10, 4)
    restore(kept, again, resumed.optimizer, resumed.scaler)
    batch = batch_of(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.arange(4).remainder(2).float()[:, None])
    for one in (trainer, resumed):
        set_frozen(one.network.train(), config, 1)
        one.step(2, batch)
        one.step(3, batch)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_freezing_more_than_there_is_is_refused() -> None:
    with pytest.raises(NetworkError, match="freeze = 99, but the backbone has 5 groups of layers; -1 freezes all"):
        built(freeze=99)
    with pytest.raises(ConfigError, match="unfreeze_epoch does not work under torchrun"):
        require_steady(TrainConfig(freeze=1, unfreeze_epoch=1), 2)
    require_steady(TrainConfig(freeze=1), 2)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "test_vit"])
def test_checkpointed_gradients_are_those_of_one_pass(backbone: str) -> None:
    size = 160 if "vit" in backbone else 32
    found = []
    for twice in (False, True):
        network, config = built(backbone=backbone, grad_checkpointing=twice, image_size=size)
        stepped(network, config)
        found.append(({n: p.grad for n, p in network.named_parameters()}, network.state_dict()))
    (gradients, state), (gradients_twice, state_twice) = found
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_twice[name], gradient, msg=name)
    for name, tensor in state.items():  # running statistics too: photos are counted once
        torch.testing.assert_close(state_twice[name], tensor, msg=name)


def test_a_backbone_that_cannot_compute_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(backbone: nn.Module, enable: bool = True) -> None:
        assert not enable, "gradient checkpointing not supported"  # as timm does

    monkeypatch.setattr("timm.models.resnet.ResNet.set_grad_checkpointing", refuse)
    with pytest.raises(NetworkError, match="test_resnet has no gradient checkpointing; set grad_checkpointing = false"):
        try_network(TrainConfig(backbone="test_resnet", weights="none", grad_checkpointing=True), 2)


@pytest.mark.parametrize(
    ("backbone", "settings"),
    [
        ("test_convnext", {}),
        ("test_efficientnet", {}),
        ("test_vit", {"image_size": 64, "backbone_args": {"img_size": 64}}),
        ("test_byobnet", {}),
    ],
)
def test_a_step_of_each_small_family(backbone: str, settings: dict[str, Any]) -> None:
    require_a_step(backbone, settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "settings"),
    [
        ("swin_tiny_patch4_window7_224", {"image_size": 64, "backbone_args": {"img_size": 64, "window_size": 2}}),
        ("swinv2_tiny_window8_256", {"image_size": 64, "backbone_args": {"img_size": 64}}),
        ("swinv2_cr_tiny_224", {"image_size": 64, "backbone_args": {"img_size": 64}}),
        ("resnext26ts", {}),
        ("resnext50_32x4d", {}),
        ("convnext_atto", {}),
        ("convnextv2_atto", {}),
        ("efficientnet_b0", {}),
        ("tf_efficientnetv2_b0", {}),
        ("vit_tiny_patch16_224", {"image_size": 64, "backbone_args": {"img_size": 64}}),
        ("deit3_small_patch16_224", {"image_size": 32, "backbone_args": {"img_size": 32}}),
    ],
)
def test_a_step_of_each_family(backbone: str, settings: dict[str, Any]) -> None:
    require_a_step(backbone, settings)
    require_a_step(backbone, settings | {"layer_decay": 0.8, "freeze": 1, "grad_checkpointing": True})


def require_a_step(backbone: str, settings: dict[str, Any]) -> None:
    network, config = built(backbone=backbone, **settings)
    before = [parameter.clone() for parameter in network.parameters()]
    stepped(network, config)
    learnt = [not torch.equal(a, b) for a, b in zip(network.parameters(), before, strict=True)]
    frozen = frozen_names(network.backbone, config.freeze)
    assert sum(learnt) >= 0.9 * (len(before) - len(frozen))  # some have none: the last bias before a normalisation
    network.eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, config.image_size, config.image_size, dtype=torch.uint8)).shape == (2, 2)
