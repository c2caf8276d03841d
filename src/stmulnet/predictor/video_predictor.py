"""The class that takes videos and gives predictions."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stmulnet.console import notice
from stmulnet.constants import JPEG_QUALITY, STORED_SHORT_SIDE
from stmulnet.datasets.transforms import TestTransform
from stmulnet.device import choose_device
from stmulnet.errors import ConfigError, StmulnetError
from stmulnet.evaluation.clip_views import Clip, ViewMaker
from stmulnet.evaluation.metrics import top_classes
from stmulnet.evaluation.protocol import ClipScorer, VideoScores, video_scores
from stmulnet.flow.estimate import flow_record
from stmulnet.memory import return_freed_memory
from stmulnet.models.checkpoint import load_model
from stmulnet.models.multiplier import Network
from stmulnet.predictor.clips import protocol_clips
from stmulnet.predictor.features import Features, pooled_features
from stmulnet.predictor.prediction import Prediction, PreparedVideo, Ranking
from stmulnet.predictor.presets import Precision, Preset, check_positive, choose_settings, prepare_network
from stmulnet.predictor.reading import FlowWorkers, ReadVideo, VideoReader
from stmulnet.video.ahead import in_thread
from stmulnet.video.inputs import FrameSource, Given, open_source
from stmulnet.video.pool import default_workers
from stmulnet.video.store import through_jpeg

Image = NDArray[np.uint8]
Video = TypeVar("Video", bound=Given | FrameSource)

LEAVE_SEC = 2.0  # how long an interrupted `predict_many` waits for the video that is being fetched or read


class VideoPredictor:
    """Recognises the action in videos with one network.

    Frames are resized to the short side the network was trained with, flow is computed only where the sampled frames
    need it, and the scores come from the official test protocol, of which presets change parts. They are computed by a
    copy of the network that is made fast for inference (`stmulnet.models.optimize`); a network that is given as a path
    is itself made fast, and `model` reads it once more.

    Deviation D11: by default frames and flow do not go through JPEG, which is quicker and loses nothing; with
    ``jpeg=True`` the scores are those of ``extract`` and ``evaluate``.

    Args:
        model: A network with class names, or the path of its weights.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ... (see ``choose_device``).
        preset: ``"paper"``: the official protocol. ``"fast"``: fewer frames, DIS flow, no mirrored view, and bf16 where
            the processor has it. The following four replace parts of it.
        num_frames: Frames sampled per video (paper: 25, fast: 10).
        flow_backend: Implementation of the flow, see ``estimate_flow`` (paper: tvl1, fast: dis).
        precision: float32 or bf16 (fast: bf16, but float32 on a device without it).
        mirrored: Whether the scores of the mirrored clip are averaged in (paper: True, fast: False).
        top: Number of classes in the rankings of a prediction.
        threads: Threads for decoding and for the flow; None takes one per processor core.
        jpeg: Whether frames and flow are compressed as on disk before the network sees them.
        features: Whether predictions have the features that the classifiers see.
        allow_addresses: Whether addresses and cameras are opened, see ``open_source``.
        live_seconds: How long a camera or an rtsp server is watched before the answer.

    Raises:
        CheckpointError: The weights cannot be read.
        ConfigError: A network without class names, or an argument out of range.
    """

    def __init__(
        self,
        model: Network | str | Path,
        *,
        device: str = "auto",
        preset: Preset = "paper",
        num_frames: int | None = None,
        flow_backend: str | None = None,
        precision: Precision | None = None,
        mirrored: bool | None = None,
        top: int = 5,
        threads: int | None = None,
        jpeg: bool = False,
        features: bool = False,
        allow_addresses: bool = False,
        live_seconds: float = 10.0,
    ) -> None:
        check_positive(top=top, threads=threads, num_frames=num_frames, live_seconds=live_seconds)
        self.device = choose_device(device)
        self.settings = choose_settings(
            preset,
            self.device,
            num_frames=num_frames,
            flow_backend=flow_backend,
            precision=precision,
            mirrored=mirrored,
        )
        record = flow_record(self.settings.flow_backend)
        network = model if isinstance(model, Network) else load_model(model)  # the seconds that bad input need not take
        if network.class_names is None:
            raise ConfigError(
                "the network has no class names to answer with; train it with `stmulnet train` or set model.class_names"
            )
        network.config.check_frames(self.num_frames)
        self._given = model
        self._scorer, self.settings = prepare_network(
            network, self.settings, self.device, precision, inplace=network is not model
        )
        self.config = network.config
        self.class_names: list[str] = network.class_names
        self.top = top
        self.threads = threads or default_workers()
        self.flow_record = record if "motion" in network.config.streams else None
        self.jpeg = jpeg
        self.features = features
        self.allow_addresses = allow_addresses
        self.live_seconds = live_seconds
        # What `stmulnet train` copied from the manifest of the data set; absent for networks made otherwise.
        preprocessing = network.metadata.get("preprocessing", {})
        self.short_side = int(preprocessing.get("frames", {}).get("short_side", STORED_SHORT_SIDE))
        self.jpeg_quality = int(preprocessing.get("frames", {}).get("jpeg_quality", JPEG_QUALITY))
        trained_with = preprocessing.get("flow", {}).get("backend", self.flow_backend)
        if self.flow_record and trained_with != self.flow_backend:
            notice(f"note: the network was trained with {trained_with} flow and now gets {self.flow_backend} flow")

    @cached_property
    def model(self) -> Network:
        """The network as it was given, in evaluation mode: for looking into. A file is read for it once more."""
        network = self._given if isinstance(self._given, Network) else load_model(self._given)
        return network.to(self.device).eval()

    @property
    def num_frames(self) -> int:
        """Frames sampled per video."""
        return self.settings.num_frames

    @property
    def flow_backend(self) -> str:
        """Implementation of the flow."""
        return self.settings.flow_backend

    @property
    def preset(self) -> str:
        """The settings that decide about the scores, in words."""
        views = "original and mirrored" if self.settings.mirrored else "not mirrored"
        flow = f", {self.flow_backend} flow" if self.flow_record else ""
        precision = ", bf16" if self.settings.precision == "bf16" else ""
        jpeg = ", through JPEG" if self.jpeg else ""
        return f"{self.num_frames} frames, short side {self.short_side}, {views}{flow}{precision}{jpeg}"

    def __call__(self, video: Given | FrameSource) -> Prediction:
        """Recognise the action in one video.

        Args:
            video: At least 11 frames: a video file, a folder of images, or an array (T, H, W, 3) of uint8 RGB; see
                ``open_source``.

        Raises:
            VideoDecodeError: It cannot be decoded completely.
            VideoTooShortError: It has fewer than 11 frames.
        """
        seconds: dict[str, float] = {}
        with _clock(seconds, "total"):
            prediction = self.predict_prepared(self.prepare(video, seconds=seconds), seconds=seconds)
        return prediction

    def predict_prepared(self, prepared: PreparedVideo, *, seconds: dict[str, float] | None = None) -> Prediction:
        """Recognise the action in a video that `prepare` has read.

        Args:
            prepared: From `prepare` of this predictor.
            seconds: What `prepare` has noted.
        """
        seconds = {} if seconds is None else seconds
        scores, features = self._score(prepared, seconds)
        seconds["total"] = sum(seconds.values())
        return self._answer(scores, features, prepared.num_frames, seconds)

    def predict_many(self, videos: Iterable[Video]) -> Iterator[tuple[Video, Prediction | StmulnetError]]:
        """Recognise the actions in many videos: while the network sees one, the next is decoded and gets its flow.

        Args:
            videos: What ``__call__`` takes. Iterated in a thread, at most three videos ahead.

        Yields:
            Each video, in order, with its prediction, or with the reason why there is none.
        """
        with self._reader() as reader:
            prepared = in_thread(self._prepare_each(videos, reader), ahead=1, name="prepare", leave_sec=LEAVE_SEC)
            with closing(prepared):
                try:
                    for video, outcome, seconds in prepared:
                        yield video, self._outcome(outcome, seconds)
                finally:
                    reader.stop()

    def prepare(self, video: Given | FrameSource, *, seconds: dict[str, float] | None = None) -> PreparedVideo:
        """Decode one video and compute its flow: what the network will see of it.

        Args:
            video: As for ``__call__``.
            seconds: Gets the time spent on ``decode`` and, after that, on ``flow``.

        Raises:
            VideoDecodeError: It cannot be decoded completely.
            VideoTooShortError: It has fewer than 11 frames.
        """
        with self._reader() as reader:
            return self._prepare(video, reader, {} if seconds is None else seconds)

    def stored(self, image: Image) -> Image:
        """A frame or a plane of a field as the network is to see it: through JPEG where that is wanted."""
        return through_jpeg(image, quality=self.jpeg_quality) if self.jpeg else image

    def score_frames(
        self,
        times: list[int],
        frames: dict[int, Image],
        fields: dict[int, Image],
        through: Callable[[Network], ClipScorer] | None = None,
    ) -> VideoScores:
        """Score frames and flow that were read elsewhere, as if they were a video.

        Args:
            times: Numbers of the sampled frames; they may repeat.
            frames: These by number, (H, W, 3), uint8, not through JPEG yet; perhaps others.
            fields: The flow fields of their stacks by number, (2, H, W), 8-bit levels; none without motion stream.
            through: Gives what scores the views, one after the other, with the network; None: the network does.
        """
        prepared = self._clips(ReadVideo(len(frames), times, frames, fields))
        return self._score(prepared, {}, through)[0]

    def _prepare_each(
        self, videos: Iterable[Video], reader: VideoReader
    ) -> Iterator[tuple[Video, PreparedVideo | StmulnetError, dict[str, float]]]:
        for video in videos:
            seconds: dict[str, float] = {}
            try:
                outcome: PreparedVideo | StmulnetError = self._prepare(video, reader, seconds)
            except StmulnetError as error:
                outcome = error
            yield video, outcome, seconds

    def _outcome(self, outcome: PreparedVideo | StmulnetError, seconds: dict[str, float]) -> Prediction | StmulnetError:
        if isinstance(outcome, StmulnetError):
            return outcome
        try:
            return self.predict_prepared(outcome, seconds=seconds)
        except StmulnetError as error:
            return error

    @contextmanager
    def _reader(self) -> Iterator[VideoReader]:
        options: dict[str, Any] = {"short_side": self.short_side, "threads": self.threads}
        options["live_seconds"] = self.live_seconds
        if self.flow_record is None:
            yield VideoReader(self.num_frames, workers=None, **options)
            return
        device = str(self.device)
        with FlowWorkers(self.flow_backend, threads=self.threads, device=device, stored=self.stored) as workers:
            yield VideoReader(self.num_frames, workers=workers, **options)

    def _prepare(self, video: Given | FrameSource, reader: VideoReader, seconds: dict[str, float]) -> PreparedVideo:
        with self._opened(video) as source:
            found = reader.read(source, seconds)
        return self._clips(found)

    def _opened(self, video: Given | FrameSource) -> Any:
        """A context with the source; one that was given stays open."""
        source = open_source(video, allow_addresses=self.allow_addresses)
        return nullcontext(source) if source is video else source

    def _clips(self, found: ReadVideo) -> PreparedVideo:
        rgb = flow = None
        if "appearance" in self.config.streams:
            rgb = {number: self.stored(found.frames[number]) for number in found.times}
        if self.flow_record:
            flow = found.fields
        clips = protocol_clips(found.times, rgb, flow, TestTransform(self.config.input_size))
        return PreparedVideo(found.times, *clips, found.num_frames)

    def _score(
        self,
        prepared: PreparedVideo,
        seconds: dict[str, float],
        through: Callable[[Network], ClipScorer] | None = None,
    ) -> tuple[VideoScores, Features]:
        collected = pooled_features(self._scorer) if self.features else nullcontext(Features())
        scorer = self._scorer if through is None else through(self._scorer)
        with _clock(seconds, "network"), collected as features:
            views = _frugal(self.settings.views)
            scores = video_scores(scorer, prepared.rgb, prepared.flow, device=self.device, views=views)
        return scores, features

    def _answer(
        self, scores: VideoScores, features: Features, num_frames: int, seconds: dict[str, float]
    ) -> Prediction:
        top_k = self._ranking(scores.fused)
        assert top_k is not None
        return Prediction(
            label=top_k[0][0],
            score=top_k[0][1],
            top_k=top_k,
            appearance=self._ranking(scores.appearance),
            motion=self._ranking(scores.motion),
            num_frames=num_frames,
            preset=self.preset,
            flow_record=self.flow_record,
            seconds=seconds,
            scores=scores,
            settings=self._settings_record(),
            features=features,
        )

    def _settings_record(self) -> dict[str, Any]:
        record = dataclasses.asdict(self.settings) | {"short_side": self.short_side, "jpeg": self.jpeg}
        return record if self.flow_record else record | {"flow_backend": None}

    def _ranking(self, scores: NDArray[np.float64] | None) -> Ranking | None:
        return None if scores is None else top_classes(scores, self.class_names, self.top)


def _frugal(views: ViewMaker) -> ViewMaker:
    """The same views; before each, free memory goes back: of frames, of weights put in order, of the last view."""

    def make(rgb: Tensor | None, flow: Tensor | None) -> Iterator[Clip]:
        for view in views(rgb, flow):
            return_freed_memory()
            yield view

    return make


@contextmanager
def _clock(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
