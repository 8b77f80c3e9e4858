"""A study on disk: Optuna's trials in SQLite, several processes at once, nothing lost when one is killed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import ArtifactError, ConfigError
from pipeline.files import remove
from pipeline.locks import locked
from pipeline.store import plain_name
from pipeline.tune.space import Dimension

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

PATIENCE = 120.0  # seconds to wait for another process that takes a trial
STARTUP = 5  # finished trials before any is pruned


def library() -> Any:
    """Optuna, silent.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ConfigError("pipe tune needs the library optuna; pip install 'optuna>=4'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@dataclass(frozen=True, slots=True)
class Study:
    """The trials of one search.

    Attributes:
        study: Optuna's.
        folder: ``artifacts/studies``.
        name: Of the study.
        space: What is varied.
        seed: Of the suggestions.
    """

    study: optuna.Study
    folder: Path
    name: str
    space: tuple[Dimension, ...]
    seed: int

    @property
    def work(self) -> Path:
        """Where trials in training are, and the locks of those who train them."""
        return self.folder / self.name

    def finished(self) -> list[FrozenTrial]:
        """Trials that are complete or were pruned."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.name in ("COMPLETE", "PRUNED")]

    def best(self) -> FrozenTrial:
        """The complete trial of the highest score, the first of equals.

        Raises:
            ArtifactError: None is complete.
        """
        complete = [trial for trial in self.finished() if trial.state.name == "COMPLETE"]
        if not complete:
            raise ArtifactError(f"no trial of study {self.name!r} is complete; give more --trials")
        return max(complete, key=lambda trial: (trial.values[0], -trial.number))

    def values(self, trial: FrozenTrial) -> dict[str, Any]:
        """The settings of a finished trial."""
        return {dimension.name: dimension.value_of(trial.params[dimension.name]) for dimension in self.space}

    @contextlib.contextmanager
    def claimed(self, most: int) -> Iterator[tuple[Trial, dict[str, Any]] | None]:
        """The next trial and its settings, held for this process; None when ``most`` are finished or in training.

        A trial whose process was killed is tried again first.
        """
        with contextlib.ExitStack() as held:
            with self._alone():
                self._recover()
                trials = self.study.get_trials(deepcopy=False)
                begun = sum(trial.state.name in ("COMPLETE", "PRUNED", "RUNNING") for trial in trials)
                claimed = None
                if begun < most:
                    claimed = self._next(begun)
                    held.enter_context(locked(self._lock(claimed[0].number), f"trial {claimed[0].number}"))
            yield claimed
        if claimed:
            remove([self._lock(claimed[0].number)])

    def _next(self, begun: int) -> tuple[Trial, dict[str, Any]]:
        """Ask for a trial; what is suggested depends on the seed, the trials before and their number alone."""
        seed = int(np.random.SeedSequence([self.seed, begun]).generate_state(1)[0])
        self.study.sampler = library().samplers.TPESampler(seed=seed)
        trial = self.study.ask()
        return trial, {dimension.name: dimension.suggest(trial) for dimension in self.space}

    def again(self, number: int) -> None:
        """Give a trial up that did not come to its end; its settings are tried next."""
        trial = self.study.get_trials(deepcopy=False)[number]
        if trial.state.name != "RUNNING":
            return  # it was told already
        self.study.tell(number, state=library().trial.TrialState.FAIL)
        self.study.enqueue_trial(trial.params)

    def _recover(self) -> None:
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.name == "RUNNING":
                with contextlib.suppress(ArtifactError), locked(self._lock(trial.number), f"trial {trial.number}"):
                    self.again(trial.number)

    def in_training(self) -> bool:
        """Whether another process is at work on a trial."""
        with self._alone():
            self._recover()
            return any(trial.state.name == "RUNNING" for trial in self.study.get_trials(deepcopy=False))

    def _lock(self, number: int) -> Path:
        return self.work / f".trial-{number}.lock"

    def _alone(self) -> contextlib.AbstractContextManager[str]:
        return locked(self.folder / f".{self.name}.lock", f"study {self.name!r}", doing="searched", patience=PATIENCE)


@contextlib.contextmanager
def opened(folder: Path, name: str, space: Sequence[Dimension], asked: dict[str, Any], seed: int) -> Iterator[Study]:
    """The study of this name, begun when it is not there.

    Args:
        folder: Where studies are.
        name: Its name.
        space: What is varied.
        asked: What must be the same for trials to be compared, as JSON.
        seed: Of the suggestions.

    Raises:
        ArtifactError: It was begun with something else, or cannot be read.
    """
    optuna = library()
    file = folder / f"{plain_name(name)}.db"
    (folder / name).mkdir(parents=True, exist_ok=True)
    storage = None
    try:
        with locked(folder / f".{name}.lock", f"study {name!r}", doing="searched", patience=PATIENCE):
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{file}", engine_kwargs={"connect_args": {"timeout": PATIENCE}}
            )
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
            )
            _require_same(study, name, json.loads(json.dumps(asked)))
        yield Study(study, folder, name, tuple(space), seed)
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()


def _require_same(study: optuna.Study, name: str, asked: dict[str, Any]) -> None:
    before = study.user_attrs.get("asked")
    if before is None:
        study.set_user_attr("asked", asked)
        return
    for key in sorted(before.keys() | asked.keys()):
        if before.get(key) != asked.get(key):
            raise ArtifactError(
                f"study {name!r} was begun with {key} {before.get(key)}, not {asked.get(key)}; give another --study"
            )
