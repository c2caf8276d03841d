"""The horizontal flip of a two-stream clip: part of the test protocol and of the training augmentation."""

# T frames, C channels, H x W pixels; any leading axes may stand before C.

from torch import Tensor


def mirror_rgb(rgb: Tensor) -> Tensor:
    """Frames (..., 3, H, W) reversed along the width."""
    return rgb.flip(-1)


def mirror_flow(flow: Tensor) -> Tensor:
    """Flow stacks (..., 2L, H, W), channels u v u v ..., 0..255, reversed along the width, u turned to 255 - u.

    A zero displacement, level 128, turns into 127: minus one after the mean is subtracted, as in the official
    code (cnn_get_im_flow_batch.m:219, 345). v is only reversed.
    """
    mirrored = flow.flip(-1)
    u_channels = mirrored[..., 0::2, :, :]
    u_channels.copy_(255 - u_channels)
    return mirrored
