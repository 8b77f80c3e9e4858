"""What the JSON files of a run must hold before anything reads a field of them; other keys may stand beside these."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypeVar, cast

from pydantic import ConfigDict, Field, PlainValidator, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from pipeline.errors import ArtifactError
from pipeline.files import read_json

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+-]{0,99}$")]  # becomes part of a file's name

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,199}$")]  # of the run's own folder


def _is_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("Input should be text")
    return value


PathText = Annotated[str, PlainValidator(_is_text)]  # pydantic's own text has no place for names that are not UTF-8
Number = Annotated[float, Field(ge=-1e300, le=1e300)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[Number, Field(ge=0)]
SUM_TOLERANCE = 1e-3  # of the shares of a mix
ONLY_THESE = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
OTHER_KEYS = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


@with_config(OTHER_KEYS)
class Config(TypedDict):
    """The settings that reports and votes read; `TrainConfig` knows all."""

    folds: Annotated[int, Field(ge=2, le=100)]
    backbone: str
    weights: PathText
    image_size: Count
    epochs: Annotated[int, Field(ge=1, lt=2**31)]
    views: Annotated[list[Name], Field(min_length=1, max_length=100)]
    seed: Count
    note: NotRequired[str]


@with_config(OTHER_KEYS)
class Settings(TypedDict):
    """``settings.json``: under what the folds of a run are trained; fingerprints as text."""

    heads: Annotated[dict[Name, str], Field(min_length=1)]
    config: Config
    data: str
    folds: str
    eval: str
    photo_bytes: NotRequired[dict[str, str]]  # earlier versions did not look at them


@with_config(OTHER_KEYS)
class Scores(TypedDict):
    """What a head reached out-of-fold; the error is in the label's unit."""

    macro_f1: Share
    accuracy: Share
    mean_absolute_error: NotRequired[Annotated[Number, Field(ge=0)]]


class Mix(TypedDict):
    """Shares of a head's classes: among the photos, and as the network saw them (sampler and loss count)."""

    photos: Annotated[list[Share], Field(min_length=1)]
    trained: Annotated[list[Share], Field(min_length=1)]


class Full(TypedDict):
    """The full fit of a run: one more network, for the eval photos."""

    epochs: Count
    seconds: Seconds


class RunInfo(Settings):
    """``run.json``: a finished run."""

    classes: dict[Name, Annotated[list[str], Field(min_length=1)]]
    scores: dict[Name, Scores]
    mix: NotRequired[dict[Name, Mix]]  # earlier versions trained under the photos' own
    epochs_used: NotRequired[Annotated[list[Annotated[int, Field(ge=1, lt=2**31)]], Field(min_length=1)]]
    full: NotRequired[Full]
    files: dict[FileName, str]
    data_root: PathText
    device: list[str]
    seconds: Seconds
    resumed: Count
    micro_batch: Count
    peak_memory: Count
    finished: str


class Training(TypedDict):
    """How the training of a fold went so far, see `pipeline.state.Progress`."""

    micro_batch: Annotated[int, Field(ge=1, lt=2**31)]
    step: Count
    seconds: Seconds
    checkpoint_seconds: Seconds
    resumed: Count
    peak_memory: Count


@with_config(OTHER_KEYS)
class FoldFacts(Training):
    """``fold<k>.json``: what one fold gave; errors are their sum and number."""

    fold: Count
    settings: str
    files: dict[FileName, str]
    device: str
    threads: NotRequired[Count]
    processes: NotRequired[Count]
    absolute_errors: dict[Name, Annotated[tuple[Number, Annotated[int, Field(ge=1, lt=2**63)]], Field(strict=False)]]
    history: Annotated[list[dict[str, Number]], Field(min_length=1)]


@with_config(ONLY_THESE)
class Position(Training):
    """Where a checkpoint stands in its fold."""

    loss: Number
    photos: Count
    epoch_seconds: Seconds
    history: list[dict[str, Number]]
    epoch: Count
    best: Number | None
    best_epoch: Annotated[int, Field(ge=-1, lt=2**31)]
    scores: list[Annotated[tuple[Count, Number], Field(strict=False)]]
    settled: bool


@with_config(OTHER_KEYS)
class CheckpointFacts(TypedDict):
    """``fold<k>.<step>.json``: what a checkpoint belongs to, and the SHA-256 of its tensors."""

    fold: Count
    settings: str
    machine: dict[str, str | int]
    progress: Position
    sha256: str


@with_config(OTHER_KEYS)
class CacheFacts(TypedDict):
    """``<key>.json`` in the cache: how many photos an array holds, of what size, and the SHA-256 of its file."""

    photos: Count
    pixels: Count
    sha256: str


@with_config(OTHER_KEYS)
class ContentFacts(TypedDict):
    """``contents-<key>.json`` in the cache: a fingerprint of photos, and of the state of their files then."""

    states: str
    content: str


@with_config(OTHER_KEYS)
class AskedOfHeads(TypedDict):
    """How heads were voted on, see `ensemble.chain.HeadChoices`."""

    strategy: str
    calibration: str
    weights: str
    view_weights: str


@with_config(OTHER_KEYS)
class AskedOfEnsemble(TypedDict):
    """What ``pipe ensemble`` was asked for, see `ensemble.line.Choices`; words are checked as flags are."""

    heads: AskedOfHeads
    views: Annotated[list[Name], Field(min_length=1, max_length=100)]
    joint: str
    prior: str
    prior_over: str
    given: dict[Name, list[Number]]
    decoder: str
    by_state: str
    consistent: list[Name]


@with_config(OTHER_KEYS)
class EnsembleInfo(TypedDict):
    """``ensemble.json``: what must be known to make an ensemble again."""

    asked: AskedOfEnsemble
    runs: Annotated[dict[str, str], Field(min_length=1)]


Kind = TypeVar("Kind", Settings, RunInfo, FoldFacts, CheckpointFacts, CacheFacts, ContentFacts, EnsembleInfo)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)  # made in 15 ms, and a command reads many files of a kind


def read_checked(file: Path, kind: type[Kind]) -> Kind:
    """The JSON object in ``file``, as it stands there, when it is of this kind.

    Raises:
        ArtifactError: It is missing, damaged or lacks something; the message names the first field that is wrong.
    """
    content = read_json(file)
    try:
        _adapter(cast(Any, kind)).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ArtifactError(f"{file} is damaged: {place}: {first['msg']}") from error
    return cast(Kind, content)


def read_run(file: Path) -> RunInfo:
    """The ``run.json`` in ``file``.

    Raises:
        ArtifactError: It is no such file, or its heads, classes and scores are not of the same heads.
    """
    info = read_checked(file, RunInfo)
    if not info["heads"].keys() == info["classes"].keys() == info["scores"].keys():
        raise ArtifactError(f"{file} is damaged: heads, classes and scores name different heads; train the run again")
    for head, mix in info.get("mix", {}).items():
        if {len(mix["photos"]), len(mix["trained"])} != {len(info["classes"].get(head, ()))}:
            raise ArtifactError(f"{file} is damaged: the mix of {head!r} is not of its classes; train the run again")
        shared = any(photos * trained > 0 for photos, trained in zip(mix["photos"], mix["trained"], strict=True))
        if not shared or max(abs(sum(shares) - 1) for shares in (mix["photos"], mix["trained"])) > SUM_TOLERANCE:
            raise ArtifactError(f"{file} is damaged: the mix of {head!r} is none; train the run again")
    return info
