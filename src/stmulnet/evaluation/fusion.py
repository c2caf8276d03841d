"""Late fusion: weighted means of score tables, of streams, of networks, and with scores of another method."""

# V videos, K classes

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stmulnet.constants import STREAMS
from stmulnet.errors import ConfigError
from stmulnet.evaluation.protocol import ScoreTable

Floats = NDArray[np.float64]


def fuse_streams(table: ScoreTable, weights: Sequence[float]) -> ScoreTable:
    """Fuse the two streams of a table with other weights than one each.

    Args:
        table: Scores of both streams.
        weights: Of appearance and of motion, 0 or more; only their ratio counts.

    Raises:
        ConfigError: There is one stream only, or the weights are none.
    """
    if table.appearance is None or table.motion is None:
        raise ConfigError("fusion_weights weigh the appearance stream against the motion stream: there is only one")
    check_weights(weights, 2, "the appearance and the motion stream")
    return replace(table, fused=weighted_mean([table.appearance, table.motion], weights))


def merge_tables(tables: Sequence[ScoreTable], weights: Sequence[float]) -> ScoreTable:
    """One table of several networks' scores of the same videos.

    The fused scores are the weighted mean of the tables' fused scores, those of a stream the weighted mean of the
    tables that have it. So a table of an appearance network and one of a motion network make one of both streams.

    Args:
        tables: Scores of the same videos, in any order.
        weights: One per table, 0 or more.

    Returns:
        Videos in the order of the first table; without scores of other methods, and with those of single views where
        one table alone has the stream.

    Raises:
        ConfigError: The tables are not of the same videos, classes and labels, or the weights are none.
    """
    check_weights(weights, len(tables), "the tables")
    aligned = [_in_order(table, tables[0]) for table in tables]
    streams: dict[str, Floats | None] = {}
    for name in STREAMS:
        having = [pair for pair in zip(aligned, weights, strict=True) if getattr(pair[0], name) is not None]
        streams[name] = streams[f"{name}_views"] = None
        if sum(weight for _, weight in having) > 0:
            streams[name] = weighted_mean([getattr(table, name) for table, _ in having], [w for _, w in having])
        if len(having) == 1:
            streams[f"{name}_views"] = getattr(having[0][0], f"{name}_views")
    fused = weighted_mean([table.fused for table in aligned], weights)
    return ScoreTable(tables[0].videos, tables[0].labels, fused=fused, **streams)


def add_external(table: ScoreTable, external: Floats, weight: float) -> ScoreTable:
    """Combine the fused scores with those of another method, such as the margins of SVMs on trajectory features.

    Both have scales of their own, which differ from video to video as well. So the K scores of a video are divided by
    their Euclidean norm, on either side, and the weighted mean is taken, the fused scores having the weight 1.

    Args:
        table: Scores of the networks.
        external: (V, K) scores of the other method, videos and classes in the order of the table.
        weight: Of the other method, 0 or more.

    Raises:
        ConfigError: The weight is negative or not finite.
    """
    check_weights([1.0, weight], 2, "the network and the external scores")
    combined = weighted_mean([unit_norm(table.fused), unit_norm(external)], [1.0, weight])
    return replace(table, external=external, combined=combined)


def unit_norm(scores: Floats) -> Floats:
    """Rows (V, K) divided by their Euclidean norms; a row of zeros remains one."""
    norms = np.linalg.norm(scores, axis=1, keepdims=True)
    return np.asarray(scores / np.where(norms > 0, norms, 1.0))


def weighted_mean(tables: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Weighted mean of equally shaped tables; equal weights give the plain mean."""
    shares = [weight / sum(weights) for weight in weights]
    terms = [share * table for share, table in zip(shares, tables, strict=True)]
    return np.asarray(np.sum(terms, axis=0), dtype=np.float64)


def check_weights(weights: Sequence[float], count: int, what: str) -> None:
    """Refuse weights that weigh nothing.

    Raises:
        ConfigError: Not ``count`` finite numbers of 0 or more with a positive sum.
    """
    if len(weights) != count or not all(0 <= weight < math.inf for weight in weights) or not sum(weights) > 0:
        raise ConfigError(
            f"{what} need {count} weights of 0 or more, not all 0, such as {[1.0] * count}, got {list(weights)}"
        )


def _in_order(table: ScoreTable, first: ScoreTable) -> ScoreTable:
    """The table with its videos in the order of the first."""
    if table.fused.shape[1] != first.fused.shape[1] or set(table.videos) != set(first.videos):
        raise ConfigError(
            f"scores can be fused of the same videos and classes, got {len(first.videos)} videos of "
            f"{first.fused.shape[1]} classes and {len(table.videos)} videos of {table.fused.shape[1]} classes, "
            f"{len(set(table.videos) & set(first.videos))} videos in common"
        )
    places = {video: place for place, video in enumerate(table.videos)}
    order = [places[video] for video in first.videos]
    if not np.array_equal(table.labels[order], first.labels):
        video = first.videos[int(np.flatnonzero(table.labels[order] != first.labels)[0])]
        raise ConfigError(f"scores can be fused of the same labels, those of {video} differ")
    names = [*STREAMS, *(f"{name}_views" for name in STREAMS)]
    found = {name: getattr(table, name) for name in names}
    streams = {name: None if scores is None else scores[order] for name, scores in found.items()}
    return ScoreTable(first.videos, first.labels, fused=table.fused[order], **streams)
