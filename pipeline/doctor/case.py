"""The training that the doctor is asked about, and what a check of it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import TrainConfig
from pipeline.findings import Finding, error, said

if TYPE_CHECKING:  # seconds to import, and perhaps broken: each check imports what it needs
    import torch

    from pipeline.samples import Dataset


def refused(reason: Exception, *, fix: str) -> Finding:
    """What a training would refuse; our errors end in advice after their last semicolon, ``fix`` is for those without.

    Args:
        reason: What was raised.
        fix: What to do when the message does not say it.
    """
    problem, _, advice = said(reason).rpartition("; ")
    return error(problem, advice) if problem else error(advice, fix)


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
