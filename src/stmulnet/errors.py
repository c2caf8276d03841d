"""Errors a caller can cause.

Every message says what was given, what is allowed and what to do. The command line prints the message on
one line and ends with exit code 2; ``assert`` in this package is only for our own mistakes.
"""


class StmulnetError(Exception):
    """Base of every error this package raises on purpose."""


class VideoDecodeError(StmulnetError):
    """A video file cannot be (completely) decoded, or its format is refused."""


class VideoTooShortError(StmulnetError):
    """A clip has fewer frames than one flow stack needs (11)."""


class DatasetError(StmulnetError):
    """A folder of frames, flow or videos is missing, incomplete or in no known layout."""


class AnnotationError(StmulnetError):
    """A split list or an annotation file is malformed or contradicts itself or the disk."""


class CheckpointError(StmulnetError):
    """A weight file is damaged or does not fit the network."""


class ConfigError(StmulnetError):
    """An argument or a configuration value is out of range or contradicts another one."""


class DownloadError(StmulnetError):
    """A file cannot be had from its address."""


class HubError(CheckpointError):
    """The hub cannot be reached, or refuses, or has no such weight file."""


class LimitError(StmulnetError):
    """A video is larger or longer than whoever serves the network allows."""


class BusyError(StmulnetError):
    """So many wait already that another one is sent away."""


class WeightFileWarning(UserWarning):
    """Something about a weight file is odd, e.g. its name contradicts its content; says what counts."""


class MissingExtraError(StmulnetError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional dependency: pip install 'stmulnet[{extra}]'")
