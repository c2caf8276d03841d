"""Where the time of `stmulnet predict` goes: start, decoding, flow, network; both presets, cold and warm.

    python benchmarks/predict.py [VIDEO] [--repeats 3] [--presets paper fast] [--network st_mulnet_resnet50]

The network is of full size, with random weights and 101 classes, which take as long as trained ones. Every repeat is a
process of its own: "cold" is its first prediction, with imports and weights, "warm" is its second one. The smallest
value of the repeats is shown: whatever else runs on the machine only adds to it. "flow" is the time from the last frame
to the last field, as flow is computed while decoding goes on; "cores" is what all threads together used, in seconds.
Without VIDEO a clip of 7 s is made.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PARTS = ("import", "load", "decode", "flow", "network", "total", "cores")
CLASSES = 101
SYNTHETIC_FRAMES, SYNTHETIC_FPS = 175, 25.0


def main() -> int:
    options = _options()
    if options.child:
        _child(options.video, options.weights, options.child)
        return 0
    from stmulnet.models.checkpoint import save_model
    from stmulnet.models.zoo import create_model
    from stmulnet.video.io import probe

    with tempfile.TemporaryDirectory() as folder:
        video, weights = options.video or _synthetic(Path(folder)), Path(folder) / "random.safetensors"
        names = [f"class {number}" for number in range(CLASSES)]
        save_model(create_model(options.network, CLASSES, class_names=names), weights)
        info = probe(video)
        print(f"{video.name}: {info.width}x{info.height}, {info.duration_s or 0:.1f} s; {options.network}")
        print(f"seconds, smallest of {options.repeats} runs")
        print(f"{'preset':<8}{'':<6}" + "".join(f"{part:>9}" for part in PARTS))
        for preset in options.presets:
            runs = [_run(video, weights, preset) for _ in range(options.repeats)]
            for state in ("cold", "warm"):
                _print_row(preset, state, [run[state] for run in runs])
            print(f"{'':14}{runs[0]['said']}", flush=True)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--presets", nargs="+", default=["paper", "fast"])
    parser.add_argument("--network", default="st_mulnet_resnet50")
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def _synthetic(folder: Path) -> Path:
    from stmulnet.video.io import write_video

    noise = np.random.default_rng(0).integers(0, 256, (60, 110, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    path = folder / "synthetic.mp4"
    write_video(path, (noise[:, t // 2 : t // 2 + 320] for t in range(SYNTHETIC_FRAMES)), fps=SYNTHETIC_FPS)
    return path


def _run(video: Path, weights: Path, preset: str) -> dict[str, dict[str, float]]:
    command = [sys.executable, __file__, str(video), "--weights", str(weights), "--child", preset]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def _child(video: Path, weights: Path, preset: str) -> None:
    start = time.perf_counter()
    from stmulnet.predictor import VideoPredictor

    imported = time.perf_counter()
    predictor = VideoPredictor(weights, preset=preset)  # type: ignore[arg-type] # a name of the command line
    loaded = time.perf_counter()
    cold = predictor(video).seconds
    cold |= {"import": imported - start, "load": loaded - imported}
    cold |= {"total": time.perf_counter() - start, "cores": time.process_time()}
    before = time.process_time()
    prediction = predictor(video)
    warm = prediction.seconds | {"cores": time.process_time() - before}
    print(json.dumps({"cold": cold, "warm": warm, "said": prediction.preset}))


def _print_row(preset: str, state: str, runs: list[dict[str, float]]) -> None:
    cells = [min(run[part] for run in runs) if part in runs[0] else None for part in PARTS]
    print(f"{preset:<8}{state:<6}" + "".join(f"{'' if cell is None else f'{cell:.2f}':>9}" for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
