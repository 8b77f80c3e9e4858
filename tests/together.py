"""Laws of several processes that work on one network: what all of them do, and what one would do alone.

Everything is imported once, in a process that has run no kernel yet; the processes of a law are forks of it. Used by
tests/test_ranks.py.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from heads.registry import HEADS
from heads.task import Task
from pipeline.batchnorm import span_processes
from pipeline.config import TrainConfig
from pipeline.engine import Trainer
from pipeline.interrupts import Terminated
from pipeline.network import build_network
from pipeline.ranks import ALONE, Ranks
from tests.builders import batch_of

CPU = torch.device("cpu")


def norms() -> list[tuple[nn.Module, Tensor]]:
    """Kinds of batch normalisation, each with seven photos or features of five channels that are not centred."""
    images = torch.randn(7, 5, 3, 4) * 3 + 100
    return [
        (nn.BatchNorm2d(5), images),
        (nn.BatchNorm2d(5, momentum=None), images.contiguous(memory_format=torch.channels_last)),
        (nn.BatchNorm2d(5, affine=False), images),
        (nn.BatchNorm2d(5, affine=False, track_running_stats=False), images),
        (BatchNormAct2d(5), images),
        (nn.BatchNorm1d(5), images[:, :, 0, 0]),
    ]


def batch_normalisation_is_that_of_the_whole_batch(ranks: Ranks) -> None:
    """Outputs, gradients and running statistics, also where a process has no photo."""
    torch.manual_seed(0)
    for whole, images in norms():
        for parameter in whole.parameters():
            nn.init.normal_(parameter)
        pull = torch.randn_like(images)
        for ends in ([0, 4, 7, 7], [0, 0, 3, 7])[: ranks.size]:  # the photos of process r are ends[r] to ends[r + 1]
            cut = slice(ends[ranks.rank], 7 if ranks.rank == ranks.size - 1 else ends[ranks.rank + 1])
            alone, shared = copy.deepcopy(whole), copy.deepcopy(whole)
            span_processes(shared)
            all_photos, own = images.clone().requires_grad_(), images[cut].clone().requires_grad_()
            for _ in range(2):  # running statistics are not the same after the second
                expected, found = alone(all_photos), shared(own)
            (expected * pull).sum().backward()
            (found * pull[cut]).sum().backward()
            torch.testing.assert_close(found, expected[cut], rtol=1e-4, atol=1e-4)
            assert all_photos.grad is not None
            torch.testing.assert_close(own.grad, all_photos.grad[cut], rtol=1e-4, atol=1e-4)
            for ours, theirs in zip(shared.parameters(), alone.parameters(), strict=True):
                assert ours.grad is not None
                dist.all_reduce(ours.grad)
                torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-3)
            torch.testing.assert_close(shared.state_dict(), alone.state_dict(), rtol=1e-5, atol=1e-5)
            if whole.state_dict():
                torch.testing.assert_close(shared.eval()(own), alone.eval()(all_photos)[cut], rtol=1e-4, atol=1e-4)


def a_step_is_that_of_one_process(ranks: Ranks) -> None:
    """Loss, gradients and running statistics; of two photos the third process has none, and one layer is not used."""
    rng = np.random.default_rng(0)
    task = Task.of(HEADS["mask"], HEADS["gender"])
    config = TrainConfig(backbone="test_resnet", weights="none", image_size=32)
    for n in (2, 7, 12):
        pixels = torch.from_numpy(rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8))
        values = torch.from_numpy(rng.integers(0, 2, (n, 2))).float()
        values[0, 0] = torch.nan  # the share of labels differs between the processes
        found = {}
        for who in (ALONE, ranks):
            torch.manual_seed(ranks.rank if who.size > 1 else 0)  # the first one's weights count
            network = build_network(config, task.n_outputs)
            network.add_module("idle", nn.Linear(3, 3))
            spread = who.spread(network, CPU, 32)
            trainer = replace(Trainer.of(network, task, config, CPU, 10, n), ranks=who, spread=spread)
            network.train()
            mine = who.share(np.arange(n))
            for step in range(2):
                loss = trainer.step(step, batch_of(pixels[mine], values[mine]), n)
                if not step:
                    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
                    assert gradients.keys() == {name for name, _ in network.named_parameters() if "idle" not in name}
                    found[who.size] = loss, gradients, {name: b.clone() for name, b in network.named_buffers()}
        (loss, *others), (alone, *theirs) = found[ranks.size], found[1]
        torch.testing.assert_close(loss, alone, rtol=1e-5, atol=0)
        for ours, expected in zip(others, theirs, strict=True):
            for name in expected:
                apart = (ours[name] - expected[name]).double().norm()
                assert apart <= 1e-3 * expected[name].double().norm(), (name, apart)


def every_row_comes_back_in_its_place(ranks: Ranks) -> None:
    """Also where there are fewer rows than processes."""
    for n in (1, 2, 7):
        rows = torch.from_numpy(ranks.share(np.arange(n))).double()
        outputs = torch.stack([rows + 0.5, -rows], dim=1)
        assert ranks.joined(outputs, n).tolist() == [[row + 0.5, -row] for row in range(n)]


def one_word_counts_for_all(ranks: Ranks) -> None:
    """Sums, the first one's say, and the wish of any to stop."""
    assert ranks.total(0.1 + ranks.rank) == sum(0.1 + rank for rank in range(ranks.size))
    assert ranks.same({"from": ranks.rank}) == {"from": 0}
    last = ranks.rank == ranks.size - 1
    assert ranks.agreed(None) is None
    assert isinstance(ranks.agreed(KeyboardInterrupt() if last else None), KeyboardInterrupt)
    assert isinstance(ranks.agreed(Terminated() if last else KeyboardInterrupt()), Terminated)


LAWS: dict[str, Callable[[Ranks], None]] = {
    law.__name__: law
    for law in (
        batch_normalisation_is_that_of_the_whole_batch,
        a_step_is_that_of_one_process,
        every_row_comes_back_in_its_place,
        one_word_counts_for_all,
    )
}


def _process(ranks: Ranks, folder: Path) -> None:
    """Be one of the processes and keep the laws in turn; never returns. What goes wrong is written into the folder."""
    torch.set_num_threads(1)
    where = (folder / "store").as_uri()
    dist.init_process_group("gloo", init_method=where, rank=ranks.rank, world_size=ranks.size)
    for name, law in LAWS.items():
        try:
            law(ranks)
            (folder / f"{name}-{ranks.rank}").touch()
        except BaseException:
            (folder / f"{name}-{ranks.rank}").write_text(traceback.format_exc())
            break
    os._exit(0)


def verdicts(size: int) -> dict[str, list[str]]:
    """Law -> what went wrong in each process that came so far; all are empty when it was kept."""
    with tempfile.TemporaryDirectory() as name:
        for rank in range(size):
            if not os.fork():
                _process(Ranks(rank, size), Path(name))
        for _ in range(size):
            os.wait()
        return {law: [file.read_text() for file in Path(name).glob(f"{law}-*")] for law in LAWS}


if __name__ == "__main__":
    json.dump(verdicts(int(sys.argv[1])), sys.stdout)
