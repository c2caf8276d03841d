"""What page and HTTP interface share: networks, limits, turns, temporary files, and errors in words for strangers."""

import copy
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stmulnet.console import notice
from stmulnet.errors import BusyError, ConfigError, StmulnetError
from stmulnet.explanation.gates import gate_maps, receiving_streams
from stmulnet.models.multiplier import Network
from stmulnet.predictor import Prediction, PreparedVideo, VideoPredictor
from stmulnet.serving.limits import Limits, Measured
from stmulnet.serving.moments import Moment, score_moments
from stmulnet.serving.turns import Turns
from stmulnet.serving.uploads import Uploads

Tell = Callable[[float, str], None]


class ServiceError(StmulnetError):
    """An error in words for whoever sent the request: no path of this machine, nothing of its inside.

    Attributes:
        status: The HTTP status that says the same.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Look:
    """The answer to a video, and what the network saw of it."""

    prediction: Prediction
    prepared: PreparedVideo


@dataclass(frozen=True)
class CloserLook:
    """What the network says of parts of a video; by stage what its gates let through (T, h, w), None without gates."""

    moments: list[Moment]
    gates: dict[str, NDArray[np.float32]] | None


def _nobody(share: float, doing: str) -> None:
    """Takes progress that nobody wants to know."""


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
        self._copies: dict[VideoPredictor, Network] = {}
        self._copying = threading.Lock()

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

    def check(self, path: Path, name: str) -> Measured:
        """Refuse an upload that is no video or beyond the limits.

        Args:
            path: The file.
            name: What its sender calls it.

        Raises:
            ServiceError: It is refused.
        """
        with self.words_for(path, name):
            return self.limits.check(path)

    def look(self, path: Path, name: str, network: str | None = None, *, tell: Tell = _nobody) -> Look:
        """Check an upload, wait for a turn, and recognise the action in it.

        Args:
            path: The file.
            name: What its sender calls it.
            network: Name of the network; None is the first one.
            tell: Gets how far it is, 0..1, and what is done next, in words.

        Raises:
            ServiceError: It is refused, or too many wait already.
        """
        predictor = self.predictor(network)
        self.check(path, name)
        seconds: dict[str, float] = {}
        with self.words_for(path, name):
            tell(0.05, "Waiting for a turn")
            with self.turns.turn():
                tell(0.1, "Reading the video, computing its optical flow")
                prepared = predictor.prepare(path, seconds=seconds)
                tell(0.6, "Asking the network")
                return Look(predictor.predict_prepared(prepared, seconds=seconds), prepared)

    def look_closer(self, look: Look, name: str, network: str | None = None) -> CloserLook:
        """What the network says of parts of the video, and what its gates let through.

        Args:
            look: From `look`.
            name: What the sender calls the video.
            network: As for `look`.

        Raises:
            ServiceError: Too many wait already.
        """
        predictor = self.predictor(network)
        with self.words_for(Path(name), name), self.turns.turn():
            moments = score_moments(predictor, look.prepared)
            gates = None
            if receiving_streams(predictor.model):
                with self._watched(predictor) as model:
                    gates = gate_maps(model, look.prepared)
        return CloserLook(moments, gates)

    @contextmanager
    def _watched(self, predictor: VideoPredictor) -> Iterator[Network]:
        """A network that no other thread runs meanwhile: with several jobs, a copy of it."""
        if self.jobs == 1:
            yield predictor.model
            return
        with self._copying:
            if predictor not in self._copies:
                self._copies[predictor] = copy.deepcopy(predictor.model)
            yield self._copies[predictor]

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
