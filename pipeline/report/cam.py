"""Maps of what in a photo spoke for the network's answer: Grad-CAM.

N photos, F features, h x w cells of the last feature map, S side of the network's input in pixels.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heads.base import FloatArray
from heads.registry import JOINT, head_named
from heads.task import Task
from pipeline.augment import Pixels
from pipeline.config import TrainConfig
from pipeline.drawing import encode_photo
from pipeline.errors import NetworkError
from pipeline.images import stacked
from pipeline.members import PARTS
from pipeline.network import Network, build_network, load_trained
from pipeline.page.thumbnails import SIDE
from pipeline.plan import task_of, values_of
from pipeline.report.photos import Photos
from pipeline.report.shown import SIZES, Known, Shown

WARM = np.array([255.0, 64.0, 0.0])  # RGB of a cell that spoke most


def with_maps(photos: Photos, shown: Shown, wrong: Mapping[str, Sequence[Mapping[str, Any]]], most: int) -> Photos:
    """The photos with maps of the first mistakes of each head, by the network that did not see the person.

    Args:
        photos: With pictures.
        shown: The runs.
        wrong: Head -> its mistakes.
        most: Of each head.

    Raises:
        PipelineError: A fold's weights are missing or damaged, or the backbone has no feature map.
    """
    found: dict[tuple[str, str], str] = {}
    for head, mistakes in wrong.items():
        some = [one for one in mistakes[:most] if one["photo"] in photos.thumbs]
        for fold in sorted({one["fold"] for one in some}):
            of_fold = [one for one in some if one["fold"] == fold]
            maps = _of_fold(photos, shown.runs[head], head, of_fold, fold)
            found |= {(head, one["photo"]): drawn for one, drawn in zip(of_fold, maps, strict=True)}
    return replace(photos, cams=found)


def _of_fold(photos: Photos, pair: Known, head: str, mistakes: Sequence[Mapping[str, Any]], fold: int) -> list[str]:
    run, info = pair
    config = TrainConfig.load(None, dict(info["config"]))
    heads = [head_named(name) for name in info["classes"]]
    assert photos.samples is not None, "there are pictures"
    task = task_of(heads, config, values_of(heads, photos.samples))
    network = build_network(replace(config, weights="none", grad_checkpointing=False), task.n_outputs)
    load_trained(network, run.folder / f"fold{fold}.safetensors")
    paths = photos.paths
    files = [paths[one["photo"]] for one in mistakes]
    taken = torch.tensor([one["taken"] for one in mistakes])
    pixels = torch.from_numpy(stacked(files, config.image_size)).permute(0, 3, 1, 2)
    maps = grad_cam(network.eval(), pixels, lambda outputs: _log_probability(task, head, outputs, taken))
    return _overlaid(files, maps)


def _log_probability(task: Task, head: str, outputs: Tensor, taken: Tensor) -> Tensor:
    """(N,) logarithm of what each photo's answer was given; the sum over the other heads for a head of the 18."""
    names = [each.name for each in task.heads]
    if head in names:
        probs = task.decode(outputs)[names.index(head)]
    else:
        number = PARTS.index(head)
        others = [1 + axis for axis in range(len(SIZES)) if axis != number]
        probs = task.decode(outputs)[names.index(JOINT.name)].reshape(-1, *SIZES).sum(others)
    return probs.gather(1, taken[:, None])[:, 0].clamp(min=1e-12).log()


def grad_cam(network: Network, pixels: Tensor, score: Callable[[Tensor], Tensor]) -> FloatArray:
    """(N, h, w) maps from 0 to 1 of where the last feature map raises the score.

    Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391, equations 1 and 2: features weighted with the mean
    gradient of the score, what is negative cut off. The paper's score is the output before the softmax; not every
    objective has one, so callers here take the log-probability.

    Args:
        network: In evaluation mode.
        pixels: (N, 3, S, S) uint8.
        score: (N, K) outputs -> (N,) scores, each of its own photo.

    Raises:
        NetworkError: The backbone has no feature map.
    """
    kept: list[Tensor] = []
    backbone: Any = network.backbone
    features = backbone.forward_features

    def watched(images: Tensor, **further: Any) -> Tensor:
        found: Tensor = features(images, **further).requires_grad_()
        kept.append(found)
        return found

    backbone.forward_features = watched  # what the backbone itself calls, so that nothing of its forward is repeated
    try:
        with torch.enable_grad():
            total = score(network(pixels)).sum()
    finally:
        del backbone.forward_features
    if not kept or kept[0].ndim != 4:
        raise NetworkError(f"--cam needs a backbone with a feature map, and {type(backbone).__name__} has none")
    (gradient,) = torch.autograd.grad(total, kept[0])
    gradient, activation = gradient.detach(), kept[0].detach()
    if activation.shape[1] != backbone.num_features == activation.shape[-1]:  # features last, as in Swin
        gradient, activation = gradient.permute(0, 3, 1, 2), activation.permute(0, 3, 1, 2)
    weights = gradient.mean(dim=(2, 3), keepdim=True)  # equation 1
    maps = (weights * activation).sum(dim=1).clamp(min=0)  # equation 2
    highest = maps.amax(dim=(1, 2), keepdim=True)
    return np.asarray((maps / highest.clamp(min=1e-12)).double())


def _overlaid(files: Sequence[Path], maps: FloatArray) -> list[str]:
    """Each photo as a ``data:`` address, redder where its map is higher."""
    small: Pixels = stacked(files, SIDE)
    large = torch.nn.functional.interpolate(
        torch.from_numpy(maps)[:, None], size=(SIDE, SIDE), mode="bilinear", align_corners=False
    )
    share = 0.65 * large[:, 0, :, :, None].numpy()
    drawn = (small * (1 - share) + WARM * share).astype(np.uint8)
    return ["data:image/jpeg;base64," + base64.b64encode(encode_photo(photo, ".jpg")).decode() for photo in drawn]
