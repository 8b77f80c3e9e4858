"""Errors that are the user's to mend: they end in one line and exit code 2. Anything else is a bug: a traceback.

PipelineError
├── ConfigError      a setting that is unknown, of the wrong kind or out of range
├── LayoutError      photos, label tables or folders that are not as they should be
├── NetworkError     a backbone or weights file that does not exist or does not fit
├── ArtifactError    a run or ensemble that is missing, incomplete, different or cannot be written
└── Stopped          Ctrl-C, with what is kept

``heads.base.HeadError`` and ``ensemble.predictions.EnsembleError`` stand beside it: their packages know nothing of
this one.
"""


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


class Stopped(PipelineError):
    """The user pressed Ctrl-C; what was finished is kept."""
