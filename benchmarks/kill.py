"""Kills one training again and again and compares what it ends in with an undisturbed one, byte for byte.

Half of the kills come at random moments, half at a random step of writing a file (in the middle of a write, at an
fsync, a replace, a removal). The worker processes change from try to try. At the end, one more training shows that the
comparison can fail: with torch's random state not restored, the bytes must differ.

    python -m benchmarks.kill --kills 120 --seed 0
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

from pipeline.demo_data import draw_dataset
from tests.killing import End, Nursery, predictions_and_weights

SETTINGS = "backbone_args = { drop_rate = 0.3 }\nbatch_size = 16\nfolds = 3\nepochs = 2\ncheckpoint_every = 3\n"
WORKERS = (0, 2, 4)


class Line:
    """A 3-fold training of a small network with dropout on drawn people."""

    def __init__(self, root: Path) -> None:
        """Draw the people and train once without disturbance."""
        self.root, self.nursery = root, Nursery()
        draw_dataset(root / "data", people=36, eval_people=12)
        (root / "settings.toml").write_text(SETTINGS)
        self.train("undisturbed")
        self.undisturbed = self.train("undisturbed", "--fresh")
        self.bytes = self.result("undisturbed")
        self.steps = int(re.findall(r"steps of writing: (\d+)", self.undisturbed.output)[0])

    def train(self, name: str, *flags: object, **how: float | str) -> End:
        """Train under this name, disturbed as ``how`` says."""
        flags = ("mask", "--data", self.root / "data", "--config", self.root / "settings.toml", *flags)
        network = (
            "--backbone",
            "test_resnet",
            "--weights",
            "none",
            "--image-size",
            32,
            "--device",
            "cpu",
            "--precision",
            "fp32",
        )
        place = ("--artifacts", self.root / "artifacts", "--name", name)
        return self.nursery.train([*flags, *network, *place], self.root / f"{name}.log", **how)

    def result(self, name: str) -> dict[str, bytes]:
        """What may not depend on interruptions."""
        return predictions_and_weights(self.root / "artifacts" / "runs" / name)


def killed_to_its_end(line: Line, name: str, rng: random.Random, kills: Counter[str], most: int) -> None:
    """Kill one training until it is finished, or ``most`` kills are done; then let it end.

    Raises:
        AssertionError: It ended otherwise than by the kill or whole.
    """
    while kills.total() < most:
        inside = rng.random() < 0.5
        how = (
            {"at": rng.randint(2, line.steps // 3)} if inside else {"after": rng.uniform(0.1, line.undisturbed.seconds)}
        )
        end = line.train(name, "--workers", rng.choice(WORKERS), **how)
        if not end.code:
            return
        if end.code != -signal.SIGKILL:
            raise AssertionError(end.output)
        kills["inside a write" if inside else "at a moment"] += 1
    if (end := line.train(name)).code:
        raise AssertionError(end.output)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    start, rng, kills = time.perf_counter(), random.Random(given.seed), Counter[str]()
    root = Path(tempfile.mkdtemp())
    line = Line(root)
    print(f"undisturbed: {line.undisturbed.seconds:.1f} s, {len(line.bytes)} files, {line.steps} steps of writing")
    runs = 0
    while kills.total() < given.kills:
        runs += 1
        killed_to_its_end(line, f"killed{runs}", rng, kills, given.kills)
        same = line.result(f"killed{runs}") == line.bytes
        print(f"run {runs}: {kills.total()} kills so far, bytes {'equal' if same else 'DIFFER'}", flush=True)
        if not same:
            raise SystemExit(1)
    line.train("control", at=line.steps // 4)
    line.train("control", forget="cpu")
    differs = line.result("control") != line.bytes
    print(
        f"{dict(kills)}, {runs} runs, all equal; control without the random state: {'differs' if differs else 'EQUAL'}"
    )
    print(f"{time.perf_counter() - start:.0f} s")
    line.nursery.close()
    shutil.rmtree(root)
    raise SystemExit(0 if differs else 1)


if __name__ == "__main__":
    main()
