"""Networks: any timm backbone, normalisation inside, a neck on top. N photos, F features, K outputs."""

from __future__ import annotations

import os
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from pipeline.config import TrainConfig
from pipeline.errors import ConfigError, NetworkError, hint
from pipeline.freezing import frozen_names, layers_of
from pipeline.hub import fetching
from pipeline.necks import build_neck


class Network(nn.Module):
    """A backbone with a neck that gives all outputs of a task; takes raw pixels.

    Attributes:
        layout: How its images lie in memory.
    """

    mean: Tensor
    std: Tensor

    layout = torch.channels_last

    def __init__(self, backbone: nn.Module, head: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Put a (N, F) -> (N, K) head on a backbone whose inputs are normalised by channel mean and std (0-1)."""
        super().__init__()
        self.backbone, self.head = backbone, head
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, S, S) uint8 pixels -> (N, K) outputs in float32."""
        images = (pixels.float() - self.mean) / self.std
        features = self.backbone(images.contiguous(memory_format=self.layout))
        with torch.autocast(pixels.device.type, enabled=False):  # outputs in bf16 would tie
            return self.head(features.float())  # type: ignore[no-any-return]


def build_network(config: TrainConfig, n_outputs: int) -> Network:
    """A fresh network of ``config``, weights loaded; new layers drawn from torch's global generator.

    Raises:
        NetworkError: The backbone is unknown, or its weights cannot be had or do not fit, or it cannot be trained as
            is asked for.
        ConfigError: The arguments of the neck are not as they must be.
    """
    require_backbone(config.backbone)
    pretrained = config.weights == "imagenet"
    try:
        source = imagenet_source(config.backbone) if pretrained else None
        with fetching(config.backbone, source) if source else nullcontext():
            backbone = timm.create_model(config.backbone, pretrained=pretrained, num_classes=0, **config.backbone_args)
    except NetworkError:
        raise
    except (TypeError, AssertionError) as error:
        raise NetworkError(
            f"{config.backbone} cannot be built with backbone_args = {config.backbone_args}: {error}"
        ) from error
    except Exception as error:
        if not pretrained:
            wanted = f"backbone {config.backbone!r} and backbone_args = {config.backbone_args}"
            raise NetworkError(f"no network can be built of {wanted}: {error}") from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NetworkError(
            f"cannot get the imagenet weights of {config.backbone} ({reason}); "
            "check the connection, or use --weights FILE or --weights none"
        ) from error
    if config.weights not in ("imagenet", "none"):
        load_weights(backbone, Path(config.weights), config.backbone)
    if config.grad_checkpointing:
        _checkpoint_gradients(backbone, config.backbone)
    frozen_names(backbone, config.freeze)  # what cannot be frozen shows now, and not when training begins
    if config.layer_decay != 1:
        layers_of(backbone, coarse=False, setting="layer_decay")
    cfg: Any = backbone.pretrained_cfg
    features = int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)  # type: ignore[arg-type]
    head = build_neck(config, features, n_outputs)
    network = Network(backbone, head, config.mean or tuple(cfg["mean"]), config.std or tuple(cfg["std"]))
    if config.precision.endswith("-contiguous"):
        network.layout = torch.contiguous_format
    return network.to(memory_format=network.layout)


def _checkpoint_gradients(backbone: nn.Module, name: str) -> None:
    """Let a backbone forget its activations and compute them again for the gradients.

    Chen et al. 2016, https://arxiv.org/abs/1604.06174.
    """
    try:
        backbone.set_grad_checkpointing(enable=True)  # type: ignore[operator]
    except (AttributeError, AssertionError, NotImplementedError):
        raise NetworkError(f"{name} has no gradient checkpointing; set grad_checkpointing = false") from None


def try_network(config: TrainConfig, n_outputs: int) -> None:
    """Build the network once and send one grey photo through it.

    Raises:
        NetworkError: It cannot be built, or does not take photos of this size.
        ConfigError: The arguments of the neck are not as they must be.
    """
    try:
        network = build_network(config, n_outputs).eval()
        with torch.inference_mode():
            network(torch.full((1, 3, config.image_size, config.image_size), 128, dtype=torch.uint8))
    except (ConfigError, NetworkError):
        raise
    except Exception as error:  # each backbone has its own way to refuse
        raise NetworkError(
            f"{config.backbone} does not take photos of {config.image_size} px ({error}); use another --image-size, "
            f"or backbone_args = {{ img_size = {config.image_size} }} in the settings file"
        ) from error


def require_backbone(name: str) -> None:
    """Refuse a name that timm does not know.

    Raises:
        NetworkError: It is unknown; the message names its neighbour.
    """
    if timm.is_model(name):
        return
    nearest = hint(name, timm.list_models(), "timm.list_models() lists them")
    raise NetworkError(f"unknown backbone {name!r}; {nearest}")


def imagenet_source(name: str) -> Any:
    """Where timm gets the imagenet weights of a backbone, as its entry says: ``hf_hub_id`` goes before ``url``.

    Raises:
        NetworkError: The backbone is unknown, or timm has no weights of it.
    """
    require_backbone(name)
    try:
        source = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # an unknown tag after the dot
        raise NetworkError(f"no imagenet weights of {name}: {error}") from error
    if source is None or not source.has_weights:
        raise NetworkError(f"timm has no imagenet weights of {name}; use --weights FILE or --weights none")
    return source


def load_weights(backbone: nn.Module, file: Path, name: str) -> None:
    """Load a file with timm's names into ``backbone``; its classifier is left out, everything else must fit.

    Raises:
        NetworkError: The file is missing, no such file, or of another network.
    """
    state = _read_state(file)
    classifier = backbone.pretrained_cfg.get("classifier") or ()  # type: ignore[union-attr, operator]
    prefixes = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    state = {key: value for key, value in state.items() if key.rsplit(".", 1)[0] not in prefixes}
    own = backbone.state_dict()
    missing = [key for key in own if key not in state]
    surplus = [key for key in state if key not in own]
    misfit = [key for key in own if key in state and own[key].shape != state[key].shape]
    for what, keys in (("lacks", missing), ("has a surplus", surplus), ("has another shape of", misfit)):
        if keys:
            fits = len(own) - len(missing) - len(misfit)
            raise NetworkError(
                f"{file} is not of {name}: {fits} of {len(own)} tensors fit; it {what} {keys[0]!r}; "
                "give the --backbone that the file was made for"
            )
    if unsound := [key for key in own if not _is_sound(state[key], own[key])]:
        raise NetworkError(
            f"{file}: {len(unsound)} of {len(own)} tensors are not finite numbers, e.g. {unsound[0]!r}; "
            "the training that made it has diverged, or the file is damaged"
        )
    backbone.load_state_dict(state)


def load_trained(network: nn.Module, file: Path) -> None:
    """Load what a fold kept into a network of its settings.

    Raises:
        NetworkError: The file is missing, damaged, or of another network.
    """
    state = _read_state(file)
    own = network.state_dict()
    if {key: value.shape for key, value in state.items()} != {key: value.shape for key, value in own.items()}:
        raise NetworkError(f"{file} is of another network than the run's settings say")
    if unsound := [key for key in own if not _is_sound(state[key], own[key])]:
        raise NetworkError(f"{file}: {len(unsound)} of {len(own)} tensors are not finite numbers")
    network.load_state_dict(state)


def _is_sound(given: Tensor, own: Tensor) -> bool:
    """Whether a tensor can take the place of the network's own."""
    try:
        same_kind = given.is_floating_point() == own.is_floating_point()
        return same_kind and bool(given.to(own.dtype).isfinite().all())
    except (RuntimeError, NotImplementedError):  # sparse, quantised, or without content
        return False


def _read_state(file: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    if not os.path.isfile(file):  # false, not an error, for names that no disk can hold
        raise NetworkError(f"no weights file {file}; --weights takes imagenet, none or a file")
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except Exception as error:  # a damaged header can promise anything
            raise NetworkError(f"cannot read weights from {file}: {error}") from error
    _require_unpacked(file)
    try:
        state: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise NetworkError(f"cannot read weights from {file}: {error}") from error
    except Exception as error:  # weights_only refuses with pickle.UnpicklingError and others
        raise NetworkError(f"{file} holds more than weights and is not opened; save it as safetensors") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise NetworkError(f"{file} holds no table of weights")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _require_unpacked(file: Path) -> None:
    """Refuse a file that grows by being unpacked, to any size."""
    try:
        with zipfile.ZipFile(file) as archive:
            claimed = sum(item.file_size for item in archive.infolist())
    except Exception:  # no zip, or a damaged one, which torch refuses
        return
    if claimed > file.stat().st_size:
        raise NetworkError(f"{file} claims {claimed:,} bytes of weights, more than it has; save it as safetensors")
