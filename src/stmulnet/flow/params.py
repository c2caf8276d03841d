"""The numbers of TV-L1, the same for every implementation of it."""

import dataclasses

from stmulnet.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class TVL1Params:
    """The numbers of TV-L1; the defaults are those of OpenCV's DualTVL1OpticalFlow.

    Attributes:
        tau: Time step of the dual update.
        lambda_: Weight of the data term; smaller is smoother.
        theta: Coupling between data term and smoothness.
        scales: Pyramid levels, fewer where a side would fall below 16 px.
        scale_step: Size of a level relative to the one below it, in [0.1, 1).
        warps: Linearisations per level.
        epsilon: Iterations stop when the root mean squared update is at most this, px.
        inner_iterations: Iterations between two median filters.
        outer_iterations: Median filters per warp.
        median_size: Side of the median filter: 1 (none), 3 or 5 px.
    """

    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    scales: int = 5
    scale_step: float = 0.8
    warps: int = 5
    epsilon: float = 0.01
    inner_iterations: int = 30
    outer_iterations: int = 10
    median_size: int = 5

    def __post_init__(self) -> None:
        for name in ("tau", "lambda_", "theta"):
            # Numbers that overflow would end as positions that are not numbers, and lookups anywhere in memory.
            self._require(name, 1e-3 <= getattr(self, name) <= 1e3, "between 0.001 and 1000")
        for name in ("scales", "warps", "inner_iterations", "outer_iterations"):
            self._require(name, getattr(self, name) >= 1, "an integer of at least 1")
        self._require("epsilon", self.epsilon >= 0, "at least 0")
        self._require("scale_step", 0.1 <= self.scale_step < 1, "at least 0.1 and below 1")
        self._require("median_size", self.median_size in (1, 3, 5), "1 (no filter), 3 or 5")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ConfigError(f"TV-L1 parameter {name} must be {allowed}, got {getattr(self, name)!r}")
