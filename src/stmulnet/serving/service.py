"""What page and HTTP interface share: networks, limits, turns, temporary files, and errors in words for strangers."""

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from stmulnet.console import notice
from stmulnet.errors import BusyError, ConfigError, StmulnetError
from stmulnet.predictor import Prediction, PreparedVideo, VideoPredictor
from stmulnet.serving.limits import Limits
from stmulnet.serving.turns import Turns
from stmulnet.serving.uploads import Uploads
from stmulnet.video.io import VideoInfo


class ServiceError(StmulnetError):
    """An error in words for whoever sent the request: no path of this machine, nothing of its inside.

    Attributes:
        status: The HTTP status that says the same.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Service:
    """Networks that answer strangers; a context manager, at whose end all temporary files are removed.

    Args:
        predictors: The networks by the names that users see; the first one is the default.
        limits: What a video may cost.
        jobs: Predictions at the same time.

    Raises:
        ConfigError: No network, or a number out of range.
    """

    def __init__(
        self, predictors: Mapping[str, VideoPredictor], *, limits: Limits | None = None, jobs: int = 1
    ) -> None:
        if not predictors:
            raise ConfigError("no network to serve; give one or more weight files")
        if jobs < 1:
            raise ConfigError(f"jobs must be 1 or more, got {jobs}")
        self.predictors = dict(predictors)
        self.limits = limits or Limits()
        self.jobs = jobs
        self.turns = Turns(jobs, self.limits.waiting)
        self.uploads = Uploads(self.limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Send away those who wait, wait for the others, and remove all temporary files."""
        self.turns.close()
        try:
            self.turns.wait_until_idle()
        finally:
            self.uploads.close()

    def predictor(self, name: str | None) -> VideoPredictor:
        """The network of that name; None is the first one.

        Raises:
            ServiceError: There is none of that name.
        """
        if name is None:
            return next(iter(self.predictors.values()))
        if name not in self.predictors:
            raise ServiceError(f"no network {name!r} here; there are {', '.join(self.predictors)}", 400)
        return self.predictors[name]

    def check(self, path: Path, name: str) -> VideoInfo:
        """Refuse an upload that is no video or beyond the limits.

        Args:
            path: The file.
            name: What its sender calls it.

        Raises:
            ServiceError: It is refused.
        """
        with self.words_for(path, name):
            return self.limits.check(path)

    def predict(self, path: Path, name: str, network: str | None = None) -> Prediction:
        """Check an upload, wait for a turn, and recognise the action in it.

        Args:
            path: The file.
            name: What its sender calls it.
            network: Name of the network; None is the first one.

        Raises:
            ServiceError: It is refused, or too many wait already.
        """
        predictor = self.predictor(network)
        self.check(path, name)
        with self.words_for(path, name), self.turns.turn():
            return predictor(path)

    def prepare(self, path: Path, name: str, network: str | None = None) -> PreparedVideo:
        """What the network sees of an upload that was predicted before; arguments and errors as in `predict`."""
        predictor = self.predictor(network)
        with self.words_for(path, name), self.turns.turn():
            return predictor.prepare(path)

    @contextmanager
    def words_for(self, path: Path, name: str) -> Iterator[None]:
        """Turn any error of the block into a ServiceError that speaks of the upload by its own name.

        Args:
            path: The file.
            name: What its sender calls it.
        """
        try:
            yield
        except ServiceError:
            raise
        except BusyError as error:
            raise ServiceError(str(error), 503) from error
        except StmulnetError as error:
            raise ServiceError(self._without_paths(str(error), path, name), 422) from error
        except FileNotFoundError as error:
            raise ServiceError(f"{name}: the file is no longer here; send it again", 422) from error
        except Exception as error:  # our own mistake: the details are for the log, not for strangers
            notice("".join(traceback.format_exception(error)))
            raise ServiceError(
                f"{name}: something went wrong here, which the log of the server describes", 500
            ) from error

    def _without_paths(self, message: str, path: Path, name: str) -> str:
        for known in (str(path), path.name, f"{self.uploads.folder}/"):
            message = message.replace(known, name if known != f"{self.uploads.folder}/" else "")
        return message
