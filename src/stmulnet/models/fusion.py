"""Where the motion stream enters the appearance stream."""

from torch import Tensor, nn

from stmulnet.models.config import FusionConfig


class Gate(nn.Module):
    """Joins motion features with the appearance sum; the result feeds a residual branch, never the shortcut.

    Official wiring (STMulNet.m:239-305): the motion state is taken after its ReLU, the appearance
    sum *before* its ReLU, so the product can be negative. Gradients flow into both.
    """

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.operation = config.operation

    def forward(self, appearance_sum: Tensor, motion_state: Tensor) -> Tensor:
        """Two tensors of one shape (N*T, C, H, W) to a third."""
        if self.operation == "multiply":
            return motion_state * appearance_sum
        return motion_state + appearance_sum
