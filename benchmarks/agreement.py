"""Whether the network made fast answers as the plain one, official protocol: 25 frames, original and mirrored.

    python -m benchmarks.agreement WEIGHTS --dataset FOLDER [--split N]   every test video of a data set
    python -m benchmarks.agreement [WEIGHTS] --clips FOLDER [--every N] [--frames N]   video files

Without WEIGHTS the network is that of the paper at full size, with random weights whose statistics are those of the
clips. Scores of random classifiers nearly tie, so that the margin between the best class and the second says more of
such a network than the answers: what rounding changes is shown as a share of it, too.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stmulnet.commands.bench import full_network
from stmulnet.commands.scoring import OpenSplit, open_candidate, score_videos
from stmulnet.console import progress
from stmulnet.evaluation.protocol import video_scores
from stmulnet.models.checkpoint import load_model
from stmulnet.models.multiplier import Network
from stmulnet.models.optimize import fast_dtype, optimize
from stmulnet.predictor import PreparedVideo, VideoPredictor

SUFFIXES = (".avi", ".mp4")
Scores = NDArray[np.float64]  # (V, K): videos, classes
COLUMNS = ("computed in", "same answer", "same five best", "rank correlation", "largest difference", "of the margin")


def main() -> None:
    """Print a table."""
    options = _options()
    dtypes = list(dict.fromkeys((torch.float32, fast_dtype())))
    plain, fast = _of_dataset(options, dtypes) if options.dataset else _of_clips(options, dtypes)
    print(f"{len(plain)} videos, {plain.shape[1]} classes; against the plain network in float32")
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for dtype, scores in zip(dtypes, fast, strict=True):
        print(f"| {str(dtype).removeprefix('torch.')} | {in_words(plain, scores)} |", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--split", type=int, default=1)
    parser.add_argument("--clips", type=Path, help="folder searched for .avi and .mp4 files")
    parser.add_argument("--every", type=int, default=1, help="take every n-th clip only")
    parser.add_argument("--frames", type=int, help="sampled per clip instead of 25, which is quicker")
    options = parser.parse_args()
    if bool(options.dataset) == bool(options.clips) or (options.dataset and not options.weights):
        parser.error("give --dataset with WEIGHTS, or --clips")
    return options


def _of_dataset(options: argparse.Namespace, dtypes: list[torch.dtype]) -> tuple[Scores, list[Scores]]:
    candidate = open_candidate(options.weights, OpenSplit.open(options.dataset, options.split), allow_mismatch=False)
    networks = [candidate.network, *(optimize(candidate.network, dtype=dtype) for dtype in dtypes)]
    cpu = torch.device("cpu")
    tables = [score_videos(network, candidate.videos, device=cpu, as_given=True) for network in networks]
    for name, table in zip(("plain", *map(str, dtypes)), tables, strict=True):
        print(f"top-1 {name}: {(table.fused.argmax(1) == table.labels).mean():.1%}")
    return tables[0].fused, [table.fused for table in tables[1:]]


def _of_clips(options: argparse.Namespace, dtypes: list[torch.dtype]) -> tuple[Scores, list[Scores]]:
    paths = sorted(path for path in options.clips.rglob("*") if path.suffix in SUFFIXES)[:: options.every]
    if not paths:
        sys.exit(f"no .avi or .mp4 file under {options.clips}; give another folder")
    network = load_model(options.weights) if options.weights else full_network()
    predictor = VideoPredictor(network, num_frames=options.frames)
    if not options.weights:
        calibrate(network, [predictor.prepare(path) for path in paths[:: max(len(paths) // 4, 1)]])
    return score_clips(predictor, [network, *(optimize(network, dtype=dtype) for dtype in dtypes)], paths)


def calibrate(network: Network, videos: list[PreparedVideo]) -> None:
    """Give BatchNorm the statistics of a few videos; five of their frames each, equally far apart."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all
    size = network.config.input_size
    with torch.no_grad():
        for video in videos:
            clips = [clip[None, :: max(len(clip) // 5, 1)] for clip in (video.rgb, video.flow) if clip is not None]
            network.train()(*(clip[:, :5, :, :size, :size] for clip in clips))
    network.eval()


def score_clips(predictor: VideoPredictor, networks: list[Network], paths: list[Path]) -> tuple[Scores, list[Scores]]:
    """Scores (V, K) of the first network and of the others; every video is read once."""
    found: list[list[Scores]] = [[] for _ in networks]
    with progress(len(paths), "score", "videos") as advance:
        for path in paths:
            video = predictor.prepare(path)
            for network, scores in zip(networks, found, strict=True):
                scores.append(video_scores(network, video.rgb, video.flow, device=torch.device("cpu")).fused)
            advance(1)
    plain, *others = (np.stack(scores) for scores in found)
    return plain, others


def in_words(plain: Scores, fast: Scores) -> str:
    """The cells of one row."""
    same = int((plain.argmax(1) == fast.argmax(1)).sum())
    best = min(5, plain.shape[1])
    five = [len({*np.argsort(a)[-best:]} & {*np.argsort(b)[-best:]}) / best for a, b in zip(plain, fast, strict=True)]
    ranks = [np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1] for a, b in zip(plain, fast, strict=True)]
    difference = np.abs(plain - fast).max(1)
    second, first = np.sort(plain, axis=1)[:, -2:].T
    share = difference / (first - second)
    return (
        f"{same} of {len(plain)} | {np.mean(five):.1%} | {np.mean(ranks):.5f}, least {min(ranks):.5f} "
        f"| {difference.max() / np.abs(plain).max():.1e} of the largest score "
        f"| {np.median(share):.1e} (median), {share.max():.1e} (largest)"
    )


if __name__ == "__main__":
    main()
