"""What a check finds, with its fix, and the training that it is asked about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import TrainConfig

if TYPE_CHECKING:  # seconds to import, and perhaps broken: each check imports what it needs
    import torch

    from pipeline.samples import Dataset


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination.

    Attributes:
        status: ``ok``, ``warning`` (look at it once) or ``error`` (would stop or spoil a training).
        text: What was found.
        fix: What to do or run; empty when all is well.
    """

    status: str
    text: str
    fix: str = ""


def ok(text: str) -> Finding:
    """Nothing to mend."""
    return Finding("ok", text)


def warning(text: str, fix: str) -> Finding:
    """To be looked at; training can go on."""
    return Finding("warning", text, fix)


def error(text: str, fix: str) -> Finding:
    """What would stop or spoil a training."""
    return Finding("error", text, fix)


def refused(reason: Exception, *, fix: str) -> Finding:
    """What a training would refuse; our errors end in advice after their last semicolon, ``fix`` is for those without.

    Args:
        reason: What was raised.
        fix: What to do when the message does not say it.
    """
    problem, _, advice = said(reason).rpartition("; ")
    return error(problem, advice) if problem else error(advice, fix)


def said(reason: Exception) -> str:
    """An exception's message in one line of at most 300 letters; its type when it has none."""
    line = " ".join(str(reason).split()) or type(reason).__name__
    return line if len(line) <= 300 else line[:297] + "..."


def size(n_bytes: int) -> str:
    """A number of bytes as people say it."""
    return f"{n_bytes / 2**30:,.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:,.1f} MiB"


def many(number: int, what: str) -> str:
    """A number of things: 1 core, 2 cores."""
    return f"{number} {what}{'s' * (number != 1)}"


@dataclass(frozen=True)
class Case:
    """The training that somebody intends; what several checks want of it is worked out once.

    Attributes:
        config: Its settings.
        data: A folder or a CSV; None = not checked.
        artifacts: Where it would write.
    """

    config: TrainConfig
    data: Path | None
    artifacts: Path

    @cached_property
    def device(self) -> torch.device:
        """Where it would run.

        Raises:
            ConfigError: That device is not there.
        """
        from pipeline.engine import choose_device

        return choose_device(self.config.device)

    @cached_property
    def dataset(self) -> Dataset | None:
        """Its photos and labels, None when they are not to be checked.

        Raises:
            LayoutError: They cannot be loaded.
        """
        from pipeline.layouts import load_dataset

        if self.data is None:
            return None
        return load_dataset(self.data, fixes=self.config.fixes, no_fixes=self.config.no_fixes)

    @cached_property
    def parameters(self) -> int:
        """How many parameters the network has; nothing is allocated.

        Raises:
            NetworkError: It cannot be built.
        """
        import torch

        from pipeline.network import build_network

        with torch.device("meta"):
            network = build_network(replace(self.config, weights="none"), n_outputs=1)
        return sum(parameter.numel() for parameter in network.parameters())


Check = Callable[[Case], Iterator[Finding]]
