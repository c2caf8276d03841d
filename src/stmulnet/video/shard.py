"""Dividing the videos of an extraction among several machines."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from stmulnet.errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts of a set of videos; every machine comes to the same division by itself.

    Attributes:
        index: 1 ... count.
        count: Number of parts.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read ``"2/8"``.

        Raises:
            ConfigError: The text is something else.
        """
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(f"shard must be i/n with i from 1 to n, e.g. 2/8 for the second of eight; got {text!r}")
        return cls(int(match[1]), int(match[2]))

    def owns(self, name: str) -> bool:
        """Whether a video belongs to this part: by its name alone, whatever other videos there are."""
        digest = hashlib.sha256(name.encode("utf-8")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1

    @property
    def label(self) -> str:
        """For names of files: ``"shard-2-of-8"``."""
        return f"shard-{self.index}-of-{self.count}"

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def shards_in(names: Iterable[str]) -> list[Shard]:
    """The shards whose labels are in names of files, by number of shards, then in order."""
    matches = (re.search(r"shard-([0-9]+)-of-([0-9]+)", name) for name in names)
    shards = {Shard(int(match[1]), int(match[2])) for match in matches if match}
    return sorted(shards, key=lambda shard: (shard.count, shard.index))
