"""The horizontal flip of a two-stream clip: part of the test protocol and of the training augmentation."""

# T frames, H x W pixels

from torch import Tensor


def mirror_clip(rgb: Tensor | None, flow: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Mirror a clip left to right.

    The u channels of the flow become 255 - u, as in the official code (cnn_get_im_flow_batch.m:219, 345): a
    displacement of zero, 128, turns into 127, which is -1 after the mean. v is only mirrored.

    Args:
        rgb: Frames (..., 3, H, W), uint8; None stays None.
        flow: Flow (..., 2k, H, W), uint8, channels u v u v ...; None stays None.

    Returns:
        New tensors of the same shapes.
    """
    if rgb is not None:
        rgb = rgb.flip(-1)
    if flow is not None:
        flow = flow.flip(-1)  # a copy, so that the next line leaves the caller's tensor alone
        flow[..., 0::2, :, :] = 255 - flow[..., 0::2, :, :]
    return rgb, flow
