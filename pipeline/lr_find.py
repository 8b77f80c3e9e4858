"""Which learning rate to begin with: a short training whose rate rises until the loss explodes.

Smith 2017, https://arxiv.org/abs/1506.01186, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.cache import cache_of
from pipeline.engine import Trainer, seed_everything
from pipeline.errors import ConfigError
from pipeline.files import write_csv
from pipeline.fold import FoldJob
from pipeline.fold_data import photos_an_epoch
from pipeline.freezing import set_frozen
from pipeline.images import load_steps, one_behind_another
from pipeline.network import build_network
from pipeline.ordering import READING
from pipeline.plan import Plan, fold_data
from pipeline.progress import counted

LOWEST, HIGHEST = 1e-6, 10.0
STEPS = 100
SMOOTH = 0.9  # of the loss before, in the moving average
EXPLODED = 4  # times the lowest loss
LEAST = 10  # steps that a suggestion needs
SHOWN = 12  # lines of the table


@dataclass(frozen=True, slots=True)
class Range:
    """What a range test saw.

    Attributes:
        rates: (n,) learning rates, rising.
        losses: (n,) mean loss of each step's photos.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def smooth(self) -> tuple[float, ...]:
        """(n,) moving average of the losses, as if there had been steps before."""
        return smoothed(self.losses)

    @property
    def steepest(self) -> float:
        """The rate at which the smoothed loss falls fastest, before its lowest point."""
        smooth = np.array(self.smooth)
        end = max(int(smooth.argmin()), 1) + 1
        slopes = np.gradient(smooth[:end], np.log(self.rates[:end]))
        return self.rates[int(slopes.argmin())]

    @property
    def lowest(self) -> float:
        """The rate at the lowest smoothed loss; a tenth of it is safe."""
        return self.rates[int(np.argmin(self.smooth))]

    def table(self) -> str:
        """Some of the steps, and what they suggest."""
        chosen = np.unique(np.linspace(0, len(self.rates) - 1, SHOWN).round().astype(int))
        smooth = self.smooth
        lines = [f"{'rate':>10} {'loss':>8} {'smooth':>8}"]
        lines += [f"{self.rates[i]:10.2e} {self.losses[i]:8.4f} {smooth[i]:8.4f}" for i in chosen]
        lines.append(f"steepest descent at {self.steepest:.1e}, lowest loss at {self.lowest:.1e}")
        lines.append(f"try --lr {self.steepest:.1e} or, a tenth of the lowest, {self.lowest / 10:.1e}")
        return "\n".join(lines)


def smoothed(losses: Sequence[float]) -> tuple[float, ...]:
    """The exponential moving average of losses, freed of its bias towards the start.

    Kingma & Ba 2015, https://arxiv.org/abs/1412.6980, section 3.
    """
    found, average = [], 0.0
    for step, loss in enumerate(losses, start=1):
        average = SMOOTH * average + (1 - SMOOTH) * loss
        found.append(average / (1 - SMOOTH**step))
    return tuple(found)


def has_exploded(losses: Sequence[float]) -> bool:
    """Whether the smoothed loss has left its lowest point for good."""
    smooth = smoothed(losses)
    return smooth[-1] > EXPLODED * min(smooth)


def rates_of(steps: int) -> tuple[float, ...]:
    """Rates from the lowest to the highest, each the same factor above the one before."""
    return tuple(float(rate) for rate in np.geomspace(LOWEST, HIGHEST, steps))


def find_rates(plan: Plan, artifacts: Path, steps: int = STEPS) -> Range:
    """Train on fold 0's training rows while the rate rises; no run is touched.

    Args:
        plan: Of the training that needs a rate.
        artifacts: Its cache of photos is used.
        steps: How many at most.

    Raises:
        ConfigError: The loss explodes at once.
    """
    config, size = plan.config, plan.config.batch_size
    with ExitStack() as held:
        cache = held.enter_context(cache_of(config, artifacts))
        photos = one_behind_another(
            held.enter_context(cache.opened(files, cache.content(files), config.image_size, READING[part])).open()
            for part, files in plan.files.items()
            if part != "eval"
        )
        data = fold_data(plan, 0, photos, np.empty((0, 1, 1, 3), dtype=np.uint8))
        epochs = math.ceil(steps * size * config.accumulate / photos_an_epoch(data.train, data.persons, config)) + 1
        config = replace(config, epochs=epochs)
        return _follow(FoldJob(plan.task, data, config, plan.device, plan.workers, size, _unheard, _unheard), steps)


def _unheard(*told: object) -> None:
    """What a fold would report."""


def _follow(job: FoldJob, steps: int) -> Range:
    """Take the steps of a fold at rising rates, until the loss explodes.

    Raises:
        ConfigError: It does so at once.
    """
    seed_everything(*job.key)
    config, phase = replace(job.config, schedule="constant", schedule_args={}, warmup=0.0), job.main_phase()
    network = build_network(config, job.task.n_outputs).to(job.device)
    trainer = Trainer.of(network, job.task, config, job.device, steps, job.micro_batch)
    network.train()
    set_frozen(network, config, 0)
    rates: list[float] = []
    losses: list[float] = []
    with counted("trying rates", steps) as display:
        batches = load_steps(phase.photos, phase.steps[:steps], job.workers, pin=job.device.type == "cuda")
        for rate, batch in zip(rates_of(steps), batches, strict=False):
            trainer = replace(trainer, config=replace(config, lr=rate))
            try:
                losses.append(trainer.step(0, batch) / len(batch[0]))
            except ConfigError:  # it is no number any more
                break
            rates.append(rate)
            display.advance(1, f"rate {rate:.1e}")
            if has_exploded(losses):
                break
    if len(rates) < LEAST:
        raise ConfigError(
            f"the loss exploded after {len(rates)} steps, at a rate of {rates_of(steps)[len(rates)]:.1e}: the network "
            "cannot learn so; try other weights, or another precision"
        )
    return Range(tuple(rates), tuple(losses))


def write_plot(found: Range, file: Path) -> None:
    """Draw loss over rate into ``file``, and write what is drawn as CSV beside it."""
    from matplotlib.figure import Figure

    rows = zip(found.rates, found.losses, found.smooth, strict=True)
    write_csv(file.with_suffix(".csv"), ("rate", "loss", "smooth"), [tuple(map(repr, row)) for row in rows])
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(found.rates, found.losses, color="0.8", label="loss")
    axes.plot(found.rates, found.smooth, label="smoothed")
    axes.axvline(found.steepest, linestyle=":", color="0.4", label=f"steepest {found.steepest:.1e}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    axes.legend()
    figure.savefig(file)
