"""Batch normalisation over a batch that lies in parts on several processes. R processes, N photos here, C channels.

torch's own ``SyncBatchNorm`` refuses CPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def span_processes(network: nn.Module) -> None:
    """Let all batch normalisation in training mode see the whole batch; modules, names and buffers stay as they are."""
    for module in network.modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
            module.forward = partial(_forward, module, module.forward)  # type: ignore[method-assign]


@contextmanager
def still_statistics(network: nn.Module) -> Iterator[None]:
    """Let batches that were seen before pass again without being counted twice in the running statistics."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    momenta = [norm.momentum for norm in norms]
    counts = [None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone() for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and count is not None:
                norm.num_batches_tracked.copy_(count)


def _forward(norm: _BatchNorm, alone: Any, images: Tensor) -> Tensor:
    if not norm.training:
        return alone(images)  # type: ignore[no-any-return]
    mean, variance, n = _moments(images.detach())
    if norm.track_running_stats:
        _remember(norm, mean, variance * n / (n - 1))
    normalised: Tensor = _Normalise.apply(images, norm.weight, norm.bias, mean, (variance + norm.eps).rsqrt(), n)
    for extra in ("drop", "act"):  # timm's BatchNormAct2d
        if hasattr(norm, extra):
            normalised = getattr(norm, extra)(normalised)
    return normalised


def _remember(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Update the running statistics as ``nn.BatchNorm2d`` does, with the unbiased variance."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), share)


def _moments(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(C,) mean and biased variance over all processes, and the number of values a channel; a part may be empty.

    The parts' moments are joined, not sums of squares, which would cancel: Chan, Golub & LeVeque 1983,
    https://doi.org/10.1080/00031305.1983.10483115, equation 2.1.
    """
    n = images.numel() // images.shape[1]
    if n:
        variance, mean = torch.var_mean(images.float(), _others(images), correction=0)
    else:
        variance = mean = images.new_zeros(images.shape[1], dtype=torch.float32)
    own = torch.stack([torch.full_like(mean, n), mean, variance * n])
    every = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(every, own)
    counts, means, apart = torch.stack(every, dim=1)  # (R, C) each
    total = counts.sum(dim=0)
    mean = (counts * means).sum(dim=0) / total
    return mean, (apart + counts * (means - mean) ** 2).sum(dim=0) / total, total


def _others(images: Tensor) -> list[int]:
    """All dimensions but that of the channels."""
    return [0, *range(2, images.ndim)]


class _Normalise(torch.autograd.Function):
    """``(images - mean) * scale``, then weight and bias; its gradient knows that the moments are of all processes.

    Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167, section 3.
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, scale: Tensor, n: Tensor
    ) -> Tensor:
        """(N, C, ...) normalised images; ``scale`` is 1 / deviation, (C,), and ``n`` the values a channel, (C,)."""
        ctx.save_for_backward(images, weight, mean, scale, n)
        factor = scale if weight is None else scale * weight
        shift = -mean * factor if bias is None else bias - mean * factor
        shape = _shape(images)
        return torch.addcmul(shift.view(shape), images.float(), factor.view(shape)).to(images.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Of the images with the sums of all processes; of weight and bias this process's share."""
        images, weight, mean, scale, n = ctx.saved_tensors
        shape, dims = _shape(images), _others(images)
        gradient = gradients[0].float()
        apart = (images.float() - mean.view(shape)) * scale.view(shape)
        own = torch.stack([gradient.sum(dims), (gradient * apart).sum(dims)])
        sums = own.clone()
        dist.all_reduce(sums)
        bent = gradient - (sums[0] / n).view(shape) - apart * (sums[1] / n).view(shape)
        factor = scale if weight is None else scale * weight
        of_weight, of_bias = (None, None) if weight is None else (own[1].to(weight.dtype), own[0].to(weight.dtype))
        return (bent * factor.view(shape)).to(images.dtype), of_weight, of_bias, None, None, None


def _shape(images: Tensor) -> list[int]:
    """The shape in which (C,) values meet images."""
    return [1, -1, *[1] * (images.ndim - 2)]
