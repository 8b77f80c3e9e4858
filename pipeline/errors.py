"""Errors that are the user's to mend: they end in one line and exit code 2. Anything else is a bug: a traceback.

PipelineError
├── ConfigError      a setting that is unknown, of the wrong kind or out of range
├── LayoutError      photos, label tables or folders that are not as they should be
├── NetworkError     a backbone or weights file that does not exist or does not fit
├── ArtifactError    a run or ensemble that is missing, incomplete, different or cannot be written
├── FoldError        folds that failed while others went on
├── RankError        another process that trains the same network has ended
└── Stopped          Ctrl-C or SIGTERM, with what is kept

``heads.base.HeadError`` and ``ensemble.predictions.EnsembleError`` stand beside it: their packages know nothing of
this one.
"""

import difflib
from collections.abc import Iterable


def hint(name: str, known: Iterable[str], otherwise: str) -> str:
    """What to say after an unknown name: the nearest of those that are known, or else what is given."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise


class PipelineError(Exception):
    """The root of every error here."""


class ConfigError(PipelineError):
    """A setting is unknown, of the wrong kind or out of range."""


class LayoutError(PipelineError):
    """Photos, label tables or folders are not as they should be."""


class NetworkError(PipelineError):
    """A backbone or a weights file does not exist or does not fit."""


class ArtifactError(PipelineError):
    """A run or an ensemble is missing, incomplete, different or cannot be written."""


class FoldError(PipelineError):
    """Folds failed while others, trained side by side with them, went on; the message names them."""


class RankError(PipelineError):
    """Another process that trains the same network has ended."""


class Stopped(PipelineError):
    """The user pressed Ctrl-C, or the system sent SIGTERM; what was done is kept."""

    def __init__(self, message: str, code: int) -> None:
        """Say what is kept, and with which exit code to leave: 130 after Ctrl-C, 143 after SIGTERM."""
        super().__init__(message)
        self.code = code
