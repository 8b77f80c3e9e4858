"""When memory or a worker process fails, a fold goes on with less of either, and learns the same."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from heads.registry import HEADS
from heads.task import Task
from pipeline.config import TrainConfig
from pipeline.engine import Trainer, is_out_of_memory, parts_of
from pipeline.errors import ConfigError, Stopped
from pipeline.images import Batch, PhotoSet
from pipeline.network import Network
from pipeline.plan import fitting_workers
from pipeline.recover import worker_fault
from pipeline.store import Run
from tests.builders import batch_of
from tests.conftest import train


@given(n=st.integers(2, 200), size=st.integers(2, 64))
def test_parts_are_a_batch_cut_up_and_never_one_photo(n: int, size: int) -> None:
    batch = torch.arange(n), torch.arange(n) * 2, torch.arange(n) * 3
    parts = parts_of(batch, size)
    for index in range(3):
        torch.testing.assert_close(torch.cat([part[index] for part in parts]), batch[index])
    sizes = [len(pixels) for pixels, *_ in parts]
    assert min(sizes) >= 2
    assert max(sizes) <= max(size, 3)  # three photos cannot be cut into parts of two or more
    assert len(parts) == 1 or n > size


class Plain(nn.Module):
    """A backbone without batch normalisation, which would see the parts and not the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, stride=4)
        self.num_features = 8

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.conv(images).relu().mean(dim=(2, 3))
        return features


@pytest.mark.parametrize("micro_batch", [2, 5, 16, 37])
def test_accumulated_gradients_and_losses_are_those_of_the_whole_batch(micro_batch: int) -> None:
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (37, 3, 16, 16), dtype=np.uint8))
    values = torch.from_numpy(np.where(rng.random((37, 2)) < 0.2, np.nan, rng.integers(0, 2, (37, 2)))).float()
    found = {}
    for size in (37, micro_batch):
        torch.manual_seed(0)
        task = Task.of(HEADS["mask"], HEADS["gender"])
        network = Network(Plain(), nn.Linear(8, task.n_outputs), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        config = TrainConfig(weights="none")
        trainer = Trainer.of(network, task, config, torch.device("cpu"), 10, size)
        loss = trainer.step(0, batch_of(pixels, values))
        found[size] = loss, [p.grad for p in network.parameters()]
    assert found[micro_batch][0] == pytest.approx(found[37][0], rel=1e-5)
    torch.testing.assert_close(found[micro_batch][1], found[37][1], rtol=1e-4, atol=1e-7)


def out_of_memory_above(monkeypatch: pytest.MonkeyPatch, most: int, *, error: type[Exception], text: str) -> list[int]:
    """Let networks fail on more than ``most`` training photos at once; the numbers that they were given."""
    honest, given_sizes = Network.forward, []

    def forward(network: Network, pixels: Tensor) -> Tensor:
        if network.training:
            given_sizes.append(len(pixels))
            if len(pixels) > most:
                raise error(text)
        return honest(network, pixels)

    monkeypatch.setattr(Network, "forward", forward)
    return given_sizes


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2.00 GiB."),
        (RuntimeError, "[enforce fail at alloc_cpu.cpp:128] DefaultCPUAllocator: can't allocate memory: you tried"),
        pytest.param(RuntimeError, "MPS backend out of memory (MPS allocated: 17.92 GB)", marks=pytest.mark.slow),
        pytest.param(MemoryError, "", marks=pytest.mark.slow),
    ],
)
def test_out_of_memory_halves_what_goes_at_once_says_so_and_keeps_it(
    error: type[Exception],
    text: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes = out_of_memory_above(monkeypatch, 9, error=error, text=text)
    run = Run(train(data, tmp_path, "mask", batch_size=32))
    out = capsys.readouterr().out
    assert "out of memory on cpu with 32 photos at once; going on with 16, batches of 32 in parts" in out
    assert "out of memory on cpu with 16 photos at once; going on with 8, batches of 32 in parts" in out
    assert out.count("out of memory") == 2  # the later folds begin with what the first came down to
    assert sizes[:2] == [32, 16]
    assert max(sizes[2:]) == 8
    assert run.info()["micro_batch"] == 8
    assert len(run.load_predictions("mask", "oof", "identity").ids) == 126


def test_as_many_are_predicted_at_once_as_memory_holds(
    artifacts: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, seen = Network.forward, []

    def forward(network: Network, pixels: Tensor) -> Tensor:
        if not network.training:
            seen.append(len(pixels))
            if len(pixels) > 40:
                raise torch.OutOfMemoryError("CUDA out of memory.")
        return honest(network, pixels)

    monkeypatch.setattr(Network, "forward", forward)
    monkeypatch.setattr("pipeline.work.AT_ONCE", {"cpu": 160})
    probs = [
        Run(folder).load_predictions("gender", "oof", "hflip").probs
        for folder in (train(data, tmp_path, "gender"), artifacts / "runs" / "gender")
    ]
    np.testing.assert_allclose(probs[0], probs[1], atol=1e-5)
    assert {42, 40} <= set(seen)  # the 42 held out at once, then in parts


@pytest.mark.slow
def test_not_even_two_photos_fit(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out_of_memory_above(monkeypatch, 1, error=torch.OutOfMemoryError, text="CUDA out of memory.")
    with pytest.raises(
        ConfigError, match="does not fit into the memory of cpu even with 2 photos at once; use a small"
    ):
        train(data, tmp_path, "mask")


@pytest.mark.slow
def test_memory_that_fails_later_loses_only_the_steps_since_the_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest, calls = Trainer.step, []

    def step(trainer: Trainer, number: int, batch: Batch, whole: int, losses: Sequence[float]) -> float:
        calls.append((number, trainer.micro_batch))
        if len(calls) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return honest(trainer, number, batch, whole, losses)

    monkeypatch.setattr(Trainer, "step", step)
    train(data, tmp_path, "mask", batch_size=16, checkpoint_every=2)
    assert calls[:6] == [(0, 16), (1, 16), (2, 16), (3, 16), (2, 8), (3, 8)]
    assert "fold 0 goes on after step 2, in epoch 1" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_killed_worker_is_told_and_fewer_go_on_to_the_same_bytes(
    artifacts: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = PhotoSet.__getitem__

    def deadly(photos: PhotoSet, step: tuple[int, object]) -> object:
        info = torch.utils.data.get_worker_info()
        if info is not None and info.num_workers > 1 and info.id == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return honest(photos, step)  # type: ignore[arg-type]

    monkeypatch.setattr(PhotoSet, "__getitem__", deadly)
    folder = train(data, tmp_path, "gender", workers=2)
    said = "a worker process ended unexpectedly (memory is what lacks most often); going on with 1 worker instead of 2"
    assert said in capsys.readouterr().out
    for file in (artifacts / "runs" / "gender").glob("*.npz"):
        assert (folder / file.name).read_bytes() == file.read_bytes()


def test_no_more_workers_begin_than_shared_memory_has_room_for(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # two batches a worker, of 32 photos of 3 x 32 x 32 bytes
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("pipeline.plan.SHARED_MEMORY", tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage._replace(free=2 * 32 * 3 * 32 * 32))
    config = TrainConfig(weights="none", batch_size=32, image_size=32)
    assert [fitting_workers(config, workers) for workers in (0, 1, 2, 64)] == [0, 1, 1, 1]
    monkeypatch.undo()
    monkeypatch.setattr("pipeline.ordering.fitting_workers", lambda config, workers: 0)
    train(data, tmp_path, "mask", workers=2)
    assert "shared memory (/dev/shm) has room for 0 workers, not for 2" in capsys.readouterr().out


def test_faults_of_workers_name_their_cause() -> None:
    bus = (
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        "shared memory. Please try to raise your shared memory limit."
    )
    full = "unable to write to file </torch_1_2_3>: No space left on device (28)"
    assert all("the shared memory (/dev/shm" in worker_fault(text) for text in (bus, full))
    assert "ulimit -n" in worker_fault("Too many open files. Communication with the workers is no longer possible.")
    assert worker_fault("shapes do not match") == ""
    memory, files = (f"Caught {kind} in DataLoader worker process 0." for kind in ("MemoryError", "OSError"))
    assert worker_fault(memory) == worker_fault(files) == "a worker process had too little memory or files"
    assert not is_out_of_memory(MemoryError(memory))
    assert is_out_of_memory(MemoryError(""))
    many_files = "unable to open file </torch_1_2_3>: Too many open files (24)"
    assert "ulimit -n" in worker_fault(many_files)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_stop_is_heeded_while_workers_hang(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = PhotoSet.__getitem__

    def hanging(photos: PhotoSet, step: tuple[int, object]) -> object:
        if torch.utils.data.get_worker_info() is not None:
            os.kill(os.getppid(), signal.SIGINT)
            time.sleep(60)
        return honest(photos, step)  # type: ignore[arg-type]

    monkeypatch.setattr(PhotoSet, "__getitem__", hanging)
    monkeypatch.setattr("pipeline.images.LOOK", 1)
    begun = time.monotonic()
    with pytest.raises(Stopped, match="0 of 3 folds and a checkpoint of the next are kept"):
        train(data, tmp_path, "gender", workers=1)
    assert time.monotonic() - begun < 30
    assert multiprocessing.active_children() == []  # a worker left would send its next signal into another test
