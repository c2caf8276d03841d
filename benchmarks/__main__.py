"""The package against the alternatives, side by side in one run: ``python -m benchmarks [PART ...] [--rounds N]``.

Parts, all by default; some 35 minutes on two cores with the default of five rounds, a table after every part:

* network: 5 frames through the network; frames: 25 whole ones; training: a step; against 3-D layers and ONNX Runtime
* flow, predict: TV-L1, and a whole prediction; against OpenCV
* memory: that of `stmulnet predict`
* loader: training samples per core; against Pillow
* extraction: `stmulnet extract` with one process, two, ... up to the number of cores
* growth: the network's time and memory by frames, resolution, depth and clips

Real clips are used where there are any (``--clips``, or ../shared/data/clips beside the project), else synthetic ones.
An alternative that cannot run here has a row that says why.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from benchmarks.alternatives import conv3d_forward, conv3d_step, usual
from benchmarks.apart import Apart, Make, Run
from benchmarks.baselines.onnx_network import onnx_network
from benchmarks.extraction import extraction_contest
from benchmarks.growth import growth_contests
from benchmarks.loader import loader_rows
from benchmarks.peak import peak_of_command

from stmulnet.commands import bench
from stmulnet.commands.contests import Contest, Missing, Row, as_json, attempt, clips, markdown
from stmulnet.commands.sample_video import write_sample
from stmulnet.memory import keep_freed_memory
from stmulnet.models.checkpoint import save_model
from stmulnet.timing import Clock
from stmulnet.video.io import probe

SHARED_CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
SHORT_WORK, WHOLE_WORK = "5 frames of 224x224", "25 whole frames of 341x256"
SUFFIXES = (".avi", ".mp4")
SECONDS = 7.0  # length of the clip to predict; the one that comes closest
FLOW_VIDEOS = 5


@dataclass
class Bench:
    """What the parts work with.

    Attributes:
        folder: A temporary one.
        videos: Real clips, or a synthetic one.
        rounds: Measurements of each contender.
        processor_time: Whether that is measured instead of the wall's, with one thread.
        compiled: Whether torch.compile takes part.
    """

    folder: Path
    videos: list[Path]
    rounds: int
    processor_time: bool = False
    compiled: bool = False
    _processes: list[Apart] = field(default_factory=list)

    @property
    def clock(self) -> Clock:
        """What measures."""
        return time.process_time if self.processor_time else time.perf_counter

    def apart(self, make: Make) -> Run | Missing:
        """A contender in a process of its own; here where the processor's time is meant, which is that of this one."""
        return attempt(make if self.processor_time else partial(self._start, make))

    def _start(self, make: Make) -> Run:
        self._processes.append(Apart(make))
        return self._processes[-1]

    def close(self) -> None:
        """End the processes."""
        while self._processes:
            self._processes.pop().close()

    def nearest(self) -> Path:
        """The video whose length is closest to 7 seconds."""
        return min(self.videos, key=lambda path: abs((probe(path).duration_s or 0.0) - SECONDS))


def network(bench_: Bench, work: str = SHORT_WORK, *, whole: bool = False) -> Iterator[Contest]:
    """Clips through the network."""
    size = bench.WHOLE_FRAMES if whole else bench.SHORT_CLIP
    others = {
        "Conv3d float32": bench_.apart(partial(conv3d_forward, size)),
        "ONNX Runtime float32": attempt(partial(_onnx, size, bench_.folder)),
    }
    yield bench.forward_contest(work, size, others=others, compiled=bench_.compiled and not whole)


def _onnx(size: tuple[int, int, int], folder: Path) -> Callable[..., object]:
    model = bench.full_network()
    return onnx_network(model, clips(model.config, 1, *size), folder)


def training(bench_: Bench) -> Iterator[Contest]:
    """A training step."""
    yield bench.training_contest({"Conv3d float32": bench_.apart(conv3d_step)})


def flow(bench_: Bench) -> Iterator[Contest]:
    """A few pairs of several videos."""
    for video in bench_.videos[:: max(len(bench_.videos) // FLOW_VIDEOS, 1)]:
        yield bench.flow_contest(video)


def predict(bench_: Bench) -> Iterator[Contest]:
    """A prediction from a video file."""
    video = bench_.nearest()
    others = {"OpenCV's TV-L1, all threads, and Conv3d float32": bench_.apart(partial(usual, video))}
    yield bench.predict_contest(video, others)


def memory(bench_: Bench) -> Iterator[list[Row]]:
    """Peak memory of `stmulnet predict`, summed over its processes."""
    weights = bench_.folder / "network.safetensors"
    save_model(bench.full_network(), weights)
    command = [sys.executable, "-m", "stmulnet", "predict", str(bench_.nearest()), "--weights", str(weights)]
    for preset in ("paper", "fast"):
        peak = attempt(partial(peak_of_command, [*command, "--preset", preset]))
        found = {"missing": peak.reason} if isinstance(peak, Missing) else {"peak_gb": peak}
        yield [Row("memory of predict, all processes", f"{preset} preset", **found)]


PARTS: dict[str, Callable[[Bench], Iterator[Contest | list[Row]]]] = {
    "network": network,
    "frames": partial(network, work=WHOLE_WORK, whole=True),
    "training": training,
    "flow": flow,
    "predict": predict,
    "memory": memory,
    "loader": lambda bench_: iter([loader_rows(bench_.videos, bench_.folder, bench_.rounds)]),
    "extraction": lambda bench_: iter([extraction_contest(bench_.videos, bench_.folder)]),
    "growth": lambda bench_: growth_contests(),
}


def main(words: Sequence[str] | None = None) -> None:
    """Print a table after every part, and all of them at the end."""
    options = _options(words)
    if options.processor_time:
        torch.set_num_threads(1)
    keep_freed_memory()
    rows: list[Row] = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        videos = sorted(path for path in options.clips.rglob("*") if path.suffix in SUFFIXES)
        videos = videos or [write_sample(Path(temporary) / "sample.mp4")]
        bench_ = Bench(Path(temporary), videos, options.rounds, options.processor_time, options.compile)
        for found in measure(bench_, options.parts or list(PARTS)):
            rows += found
            print(markdown(found), file=sys.stderr, flush=True)
            if options.json:
                text = json.dumps(as_json(rows, options.rounds), indent=2)
                options.json.write_text(text + "\n", encoding="utf-8")
    minutes = (time.perf_counter() - start) / 60
    print(f"{torch.get_num_threads()} threads, {options.rounds} rounds, torch {torch.__version__}, {minutes:.1f} min")
    print(markdown(rows))


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=Path, default=SHARED_CLIPS, help="folder searched for .avi and .mp4 files")
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile on 5 frames; minutes more")
    parser.add_argument("--processor-time", action="store_true", help="one thread, time of the processor")
    parser.add_argument("--json", type=Path, help="also write the rows there, after every part")
    return parser.parse_args(words)


def measure(bench_: Bench, parts: Sequence[str]) -> Iterator[list[Row]]:
    """What is measured, one after the other, so that only one contest's networks are in memory."""
    for part in parts:
        for found in PARTS[part](bench_):
            yield found if isinstance(found, list) else found.run(bench_.rounds, bench_.clock)
            bench_.close()


if __name__ == "__main__":
    main()
