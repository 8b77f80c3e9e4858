"""The precision is the fastest that was timed, kept with the run, and an earlier one wins a near tie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from heads.registry import HEADS
from heads.task import Task
from pipeline import precision
from pipeline.config import TrainConfig
from pipeline.engine import Trainer, autocast, outputs_of
from pipeline.errors import ArtifactError
from pipeline.images import Batch
from pipeline.network import build_network
from pipeline.optimizers import make_optimizer
from pipeline.precision import GAIN, choose_precision, fastest
from pipeline.rules import PRECISIONS
from pipeline.state import restore, tensors_of
from pipeline.store import Run
from tests.builders import batch_of
from tests.conftest import train

CPU = torch.device("cpu")
TASK = Task.of(HEADS["mask"])
CONFIG = TrainConfig(backbone="test_resnet", weights="none", image_size=32, batch_size=8)


@given(st.dictionaries(st.sampled_from(PRECISIONS), st.floats(0, 1e6), min_size=1).filter(lambda r: any(r.values())))
def test_what_is_chosen_is_nearly_the_fastest_and_nothing_before_it_is(rates: dict[str, float]) -> None:
    chosen = fastest(rates)
    best = max(rates.values())
    assert rates[chosen] >= GAIN * best
    before = list(rates)[: list(rates).index(chosen)]
    assert all(rates[name] < GAIN * best for name in before)


def pretend(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float], *, error: str = "") -> list[str]:
    """Let steps seem to take so long; what is not named there fails. The steps that were asked for."""
    asked: list[str] = []

    def step(trainer: Trainer, batch: object) -> float:
        asked.append(trainer.config.precision)
        if trainer.config.precision not in seconds:
            raise RuntimeError(error)
        return seconds[trainer.config.precision]

    monkeypatch.setattr(precision, "_step", step)
    return asked


def test_speeds_are_kept_and_a_damaged_file_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "precision.json"
    seconds = {"fp32": 0.5, "fp32-contiguous": 0.6, "bf16": 0.25, "bf16-contiguous": 0.24}
    asked = pretend(monkeypatch, seconds)
    first = choose_precision(TASK, CONFIG, CPU, file)
    assert (first.chosen, first.remembered, first.rates["bf16"]) == ("bf16", False, 32.0)
    asked.clear()
    again = choose_precision(TASK, CONFIG, CPU, file)
    assert (again.chosen, again.remembered, asked) == ("bf16", True, [])
    assert not choose_precision(TASK, replace(CONFIG, image_size=48), CPU, file).remembered  # another question
    for damage in ("", "[]", '{"schema": 1, "images_per_second": {"x": {"fp32": "fast"}}}', '{"schema": 1}'):
        file.write_text(damage)
        assert not choose_precision(TASK, CONFIG, CPU, file).remembered
        assert choose_precision(TASK, CONFIG, CPU, file).remembered


def test_a_candidate_without_room_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {"bf16": 1.0}, error="out of memory")
    timing = choose_precision(TASK, CONFIG, CPU, tmp_path / "precision.json")
    assert timing.chosen == "bf16"
    assert timing.rates["fp32"] == 0
    assert "does not run" in timing.table()
    assert max(map(len, timing.table().splitlines())) <= 80


def test_where_no_batch_fits_parts_are_timed_and_nothing_is_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, most = Trainer.step, 4

    def step(trainer: Trainer, number: int, batch: Batch) -> float:
        if len(batch[0]) > most:
            raise RuntimeError("out of memory")
        return honest(trainer, number, batch)

    monkeypatch.setattr(Trainer, "step", step)
    assert all(precision.time_all(TASK, CONFIG, CPU).values())
    most = 1
    timing = choose_precision(TASK, CONFIG, CPU, tmp_path / "precision.json")
    assert (timing.chosen, set(timing.rates.values())) == ("fp32", {0.0})
    assert not choose_precision(TASK, CONFIG, CPU, tmp_path / "precision.json").remembered


def test_a_learning_rate_that_diverges_does_not_spoil_the_timing() -> None:
    assert all(precision.time_all(TASK, replace(CONFIG, lr=1e30), CPU).values())


def test_real_steps_are_timed(tmp_path: Path) -> None:
    timing = choose_precision(TASK, CONFIG, CPU, tmp_path / "precision.json")
    assert list(timing.rates) == [name for name in PRECISIONS if not name.startswith("fp16")]
    assert all(rate > 0 for rate in timing.rates.values())


@pytest.mark.slow
def test_a_run_keeps_the_precision_that_it_began_in(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = dict.fromkeys(("fp32", "fp32-contiguous", "bf16-contiguous"), 1.0) | {"bf16": 0.5}
    asked = pretend(monkeypatch, seconds)
    run = Run(train(data, tmp_path, "mask", precision="auto"))
    assert run.settings()["config"]["precision"] == "bf16"
    (tmp_path / "precision.json").unlink()
    seconds["fp32"] = 0.1
    asked.clear()
    run.drop_fold(1)
    (run.folder / "run.json").rename(tmp_path / "kept.json")
    (run.folder / "fold1.json").write_bytes(b"")  # as after a kill: work is there, the run is not whole
    train(data, tmp_path, "mask", precision="auto")
    assert asked == []
    assert run.settings()["config"]["precision"] == "bf16"
    with pytest.raises(ArtifactError, match="precision was bf16, is fp32"):
        train(data, tmp_path, "mask", precision="fp32")


@pytest.mark.parametrize("name", PRECISIONS)
def test_every_precision_trains_and_predicts_in_its_layout(name: str) -> None:
    torch.manual_seed(0)
    config = replace(CONFIG, precision=name)
    network = build_network(config, TASK.n_outputs)
    seen: list[tuple[bool, torch.dtype]] = []
    network.backbone.register_forward_hook(
        lambda module, given, out: seen.append((given[0].is_contiguous(memory_format=torch.channels_last), out.dtype))
    )
    trainer = Trainer.of(network, TASK, config, CPU, 10, 8)
    batch = batch_of(torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8), torch.zeros(8, 1))
    trainer.step(0, batch)
    views = outputs_of(network, [batch], ["identity", "hflip"], config=config, device=CPU, done=lambda n: None)
    assert {out.dtype for out in views.values()} == {torch.float32}
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(name[:4], torch.float32)
    assert {kind for _, kind in seen} == {half}
    assert {last for last, _ in seen} == {not name.endswith("-contiguous")}


def test_the_loss_scale_goes_into_a_checkpoint() -> None:
    config = replace(CONFIG, precision="fp16")
    batches = [batch_of(torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8), torch.zeros(8, 1)) for _ in range(6)]

    def fresh() -> Trainer:
        torch.manual_seed(0)
        network = build_network(config, TASK.n_outputs).train()
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=2)  # overflows at first, then grows
        return Trainer(network, TASK, make_optimizer(network, config), config, CPU, 10, 8, scaler)

    whole, first, second = fresh(), fresh(), fresh()
    for step, batch in enumerate(batches):
        whole.step(step, batch)
    for step, batch in enumerate(batches[:3]):
        first.step(step, batch)
    kept = tensors_of(first.network, first.optimizer, first.scaler)
    assert kept["scaler/scale"].item() != 2.0**40
    restore({name: tensor.clone() for name, tensor in kept.items()}, second.network, second.optimizer, second.scaler)
    for step, batch in enumerate(batches[3:], start=3):
        second.step(step, batch)
    assert second.scaler.state_dict() == whole.scaler.state_dict()
    for a, b in zip(whole.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_undecided_is_exact() -> None:
    with autocast("auto", CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_network_learns_and_predicts_what_the_plain_one_does(data: Path, tmp_path: Path) -> None:
    plain, compiled = (Run(train(data, tmp_path / str(word), "mask", compile=word)) for word in (False, True))
    probs = [run.load_predictions("mask", "oof", "identity").probs for run in (plain, compiled)]
    np.testing.assert_allclose(probs[1], probs[0], atol=1e-3)
    assert plain.info()["files"].keys() == compiled.info()["files"].keys()
    weights = [load_file(run.folder / "fold0.safetensors") for run in (plain, compiled)]
    assert weights[0].keys() == weights[1].keys()
