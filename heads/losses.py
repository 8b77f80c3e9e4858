"""Losses of softmax outputs, chosen by name; most of them are for classes that are rare.

N samples, C classes (or bins). ``counts`` are the (C,) numbers of training photos of each class, at least 1. Where a
loss makes the probabilities those of another class mix than the photos', ``factors`` tells it: under a photo mix q the
softmax estimates P(y | x) under the mix proportional to q * factors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from heads.base import HeadError
from heads.recipe import Recipe, numbers


@dataclass(frozen=True, slots=True)
class SoftmaxLoss:
    """A loss, and what it does to the class mix.

    Attributes:
        loss: (N, C) logits, (N,) class indices and the share of the training that is done -> (N,) losses.
        factors: (C,) what the class mix of the photos is multiplied by, up to one common factor.
    """

    loss: Callable[[Tensor, Tensor, float], Tensor]
    factors: Tensor

    @property
    def shifts(self) -> bool:
        """Whether it changes the mix at all."""
        return not bool((self.factors == self.factors[0]).all())


Arguments = Mapping[str, Any]
Builder = Callable[[Arguments, Tensor, float], SoftmaxLoss]


def loss_of(recipe: Recipe, counts: Tensor) -> SoftmaxLoss:
    """The loss of a recipe for classes of which there are ``counts`` photos.

    Raises:
        HeadError: It is unknown, or its arguments do not fit.
    """
    if recipe.loss not in LOSSES:
        raise HeadError(f"unknown loss {recipe.loss!r}; losses are: {', '.join(LOSSES)}")
    if recipe.label_smoothing and recipe.loss in UNSMOOTHED:
        raise HeadError(
            f"label_smoothing does not go with loss {recipe.loss}, which {UNSMOOTHED[recipe.loss]}; set it to 0"
        )
    return LOSSES[recipe.loss](recipe.loss_args, counts.double().clamp(min=1), recipe.label_smoothing)


def cross_entropy(arguments: Arguments, counts: Tensor, smoothing: float) -> SoftmaxLoss:
    """Cross-entropy; smoothed labels after Szegedy et al. 2016, section 7, https://arxiv.org/abs/1512.00567."""
    numbers("loss cross-entropy", arguments)
    return _weighted(torch.ones_like(counts), smoothing)


def weighted(arguments: Arguments, counts: Tensor, smoothing: float) -> SoftmaxLoss:
    """Cross-entropy weighted by (N / (C n_c)) ** power, King and Zeng 2001, equation 8.

    https://doi.org/10.1093/oxfordjournals.pan.a004868. With ``power`` 1 all classes weigh alike, 0 is cross-entropy.
    """
    (power,) = numbers("loss weighted", arguments, power=(1.0, 0.0, 4.0))
    return _weighted((counts.mean() / counts) ** power, smoothing)


def class_balanced(arguments: Arguments, counts: Tensor, smoothing: float) -> SoftmaxLoss:
    """Cross-entropy weighted by one over the effective number of photos.

    Cui et al. 2019, equation 2 and section 4, https://arxiv.org/abs/1901.05555; weights sum to C. ``beta`` 0 is
    cross-entropy, and towards 1 weights become those of ``weighted`` up to a factor.
    """
    (beta,) = numbers("loss class-balanced", arguments, beta=(0.999, 0.0, 1 - 1e-9))
    return _weighted(_effective(counts, beta), smoothing)


def focal(arguments: Arguments, counts: Tensor, smoothing: float) -> SoftmaxLoss:
    """Cross-entropy that counts well-classified samples less: (1 - p) ** gamma times it.

    Lin et al. 2017, equation 4, https://arxiv.org/abs/1708.02002; ``gamma`` 0 is cross-entropy. Smoothed labels weigh
    the terms of all classes. Its probabilities are too unsure (Charoenphakdee et al. 2021,
    https://arxiv.org/abs/2011.09172), by the same rule for all classes: the mix stays, calibration undoes the rest.
    """
    (gamma,) = numbers("loss focal", arguments, gamma=(2.0, 0.0, 20.0))

    def loss(logits: Tensor, targets: Tensor, done: float) -> Tensor:
        log_p = logits.log_softmax(dim=1)
        terms = -((1 - log_p.exp()).clamp(min=1e-12) ** gamma) * log_p  # the slope of a root at 0 is infinite
        return (terms * _smoothed(logits, targets, smoothing)).sum(dim=1)

    return SoftmaxLoss(loss, torch.ones_like(counts))


def soft_f1(arguments: Arguments, counts: Tensor, smoothing: float) -> SoftmaxLoss:
    """1 - macro F1 of the batch, with probabilities in place of decisions: one number for all its samples.

    Bénédict et al. 2021, section 3, with the softmax in place of their sigmoid, https://arxiv.org/abs/2108.10566.
    Only classes that occur in the batch count. Its probabilities estimate no mix; the photos' is kept.
    """
    numbers("loss soft-f1", arguments)

    def loss(logits: Tensor, targets: Tensor, done: float) -> Tensor:
        probs, truth = logits.softmax(dim=1), _smoothed(logits, targets, 0.0)
        there = truth.sum(dim=0)
        f1 = 2 * (probs * truth).sum(dim=0) / (probs.sum(dim=0) + there).clamp(min=1e-12)
        mean = f1.sum() / (there > 0).sum().clamp(min=1)  # of an absent class it is 0 whatever the outputs
        return (1 - mean).expand(len(targets))

    return SoftmaxLoss(loss, torch.ones_like(counts))


def balanced_softmax(arguments: Arguments, counts: Tensor, smoothing: float) -> SoftmaxLoss:
    """Cross-entropy of a softmax whose classes are multiplied by their counts; the logits are then under an even mix.

    Ren et al. 2020, equation 3, https://arxiv.org/abs/2007.10740; logit adjustment with tau = 1.
    """
    numbers("loss balanced-softmax", arguments)
    return _adjusted(counts, 1.0, smoothing)


def logit_adjusted(arguments: Arguments, counts: Tensor, smoothing: float) -> SoftmaxLoss:
    """Cross-entropy of logits to which tau times the logarithm of the class mix is added, in training only.

    Menon et al. 2021, equation 10, https://arxiv.org/abs/2007.07314; ``tau`` 0 is cross-entropy.
    """
    (tau,) = numbers("loss logit-adjusted", arguments, tau=(1.0, 0.0, 4.0))
    return _adjusted(counts, tau, smoothing)


def ldam(arguments: Arguments, counts: Tensor, smoothing: float) -> SoftmaxLoss:
    """Margins that grow as classes get rarer; from ``drw`` of the training on, rare classes also weigh more.

    Cao et al. 2019, loss L_LDAM and algorithm 1, https://arxiv.org/abs/1906.07413; the rarest class has
    ``max_margin``, and the weights are those of ``class-balanced`` with ``beta``. There the last layer gives cosines,
    which a scale of 30 turns into logits. Ours gives logits of any size: a scale would only multiply its learning rate
    and make margins of 15 logits, so there is none and margins are in logits. The mix is that of the weights, which are
    there at the end. Margins change probabilities too, but not as a mix does; calibration has to undo that.
    """
    max_margin, drw, beta = numbers(
        "loss ldam", arguments, max_margin=(0.5, 0.0, 100.0), drw=(0.8, 0.0, 1.0), beta=(0.9999, 0.0, 1 - 1e-9)
    )
    margins = max_margin * (counts / counts.min()) ** -0.25
    early, late = torch.ones_like(counts), _effective(counts, beta)

    def loss(logits: Tensor, targets: Tensor, done: float) -> Tensor:
        lowered = logits - _smoothed(logits, targets, 0.0) * margins.to(logits)
        weights = early if done < drw else late
        return F.cross_entropy(lowered, targets, weight=weights.to(logits), reduction="none")

    return SoftmaxLoss(loss, late if drw < 1 else early)


def lade(arguments: Arguments, counts: Tensor, smoothing: float) -> SoftmaxLoss:
    """Balanced softmax, and a bound that pulls logit c towards log P(x | c) / P(x) under an even mix.

    Hong et al. 2021, loss L_LADE in section 3, https://arxiv.org/abs/2012.00321: for each class the regularised
    Donsker-Varadhan bound, estimated on the batch and weighted by the class's share. A class that does not occur in the
    batch has no estimate and is left out. ``alpha`` weighs the bounds, ``lam`` their regulariser.
    """
    alpha, lam = numbers("loss lade", arguments, alpha=(0.1, 0.0, 100.0), lam=(0.1, 0.0, 100.0))
    shares = counts / counts.sum()
    plain = _adjusted(counts, 1.0, 0.0)

    def loss(logits: Tensor, targets: Tensor, done: float) -> Tensor:
        truth, share = _smoothed(logits, targets, 0.0), shares.to(logits)
        there = truth.sum(dim=0)
        own = (logits * truth).sum(dim=0) / there.clamp(min=1)
        evened = (len(share) * share[targets]).log()[:, None] + torch.tensor(max(len(targets), 1)).log().to(logits)
        spread = (logits - evened).logsumexp(dim=0) if len(targets) else own
        bounds = own - spread - lam * spread**2
        pull = (bounds * share * (there > 0)).sum()
        return plain.loss(logits, targets, done) - alpha * pull

    return SoftmaxLoss(loss, plain.factors)


def _weighted(weights: Tensor, smoothing: float) -> SoftmaxLoss:
    """Cross-entropy whose classes weigh so much: as if a class had so many times its photos."""
    even = bool((weights == 1).all())

    def loss(logits: Tensor, targets: Tensor, done: float) -> Tensor:
        weight = None if even else weights.to(logits)
        return F.cross_entropy(logits, targets, weight=weight, reduction="none", label_smoothing=smoothing)

    return SoftmaxLoss(loss, weights)


def _adjusted(counts: Tensor, tau: float, smoothing: float) -> SoftmaxLoss:
    """Cross-entropy with ``tau`` times the logarithm of the class mix added to the logits."""
    shift = tau * (counts / counts.sum()).log()

    def loss(logits: Tensor, targets: Tensor, done: float) -> Tensor:
        return F.cross_entropy(logits + shift.to(logits), targets, reduction="none", label_smoothing=smoothing)

    return SoftmaxLoss(loss, counts**-tau)


def _effective(counts: Tensor, beta: float) -> Tensor:
    """(C,) weights inverse to the effective numbers, which sum to C."""
    weights = (1 - beta) / (1 - beta**counts)
    return weights / weights.mean()


def _smoothed(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """(N, C) target probabilities, of which a share is spread over all classes."""
    hard = F.one_hot(targets, logits.shape[1]).to(logits)
    return hard * (1 - smoothing) + smoothing / logits.shape[1]


# losses that smoothed labels make no sense for, and why
UNSMOOTHED = {
    "soft-f1": "counts whole photos of a class",
    "ldam": "gives the one true class a margin",
    "lade": "compares the photos of one class with all",
}
LOSSES: dict[str, Builder] = {
    "cross-entropy": cross_entropy,
    "weighted": weighted,
    "focal": focal,
    "class-balanced": class_balanced,
    "soft-f1": soft_f1,
    "balanced-softmax": balanced_softmax,
    "logit-adjusted": logit_adjusted,
    "ldam": ldam,
    "lade": lade,
}
