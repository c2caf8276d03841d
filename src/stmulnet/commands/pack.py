"""``stmulnet pack DATASET OUT``."""

from pathlib import Path

from stmulnet.commands.extract import NEEDED_BY_TEST
from stmulnet.errors import ConfigError
from stmulnet.video.pack import PackSummary, pack_dataset

POSITIONAL = ("dataset", "out")


def pack(dataset: Path, out: Path, *, shard_megabytes: int = 1024) -> PackSummary:
    """Pack a data set into tar shards, which all commands read like its folder; run again, it goes on.

    Args:
        dataset: Folder with frames and flow, in any known tree.
        out: Folder for shard-00000.tar ..., index.npy, pack.json and copies of annotations/ and manifest.json: a new or
            an empty one, or that of an earlier run, which is brought up to date and, where it is damaged, mended.
        shard_megabytes: Size of a shard, in units of 2**20 bytes; a shard holds whole videos.

    Returns:
        The summary, which is printed as well.

    Raises:
        DatasetError: The data set is in no known tree, or an image cannot be read.
        ConfigError: The size is below 1, or the output cannot be written or holds something else.
    """
    if shard_megabytes < 1:
        raise ConfigError(f"shard_megabytes must be 1 or more, got {shard_megabytes}")
    summary = pack_dataset(dataset, out, shard_bytes=shard_megabytes * 2**20, needed=NEEDED_BY_TEST)
    print(summary)
    return summary
