"""A two-stream loader as ports of the network usually have it: Pillow, one image at a time.

Every image of every stack is opened, decoded, cropped, resized and made float by itself, however often it is needed.
It takes the same frames and the same crops as the loader of the package, so that the two differ in nothing else but
Pillow's own bicubic kernel (a = -0.5, antialiased like MATLAB's).
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from stmulnet.datasets.annotations import VideoRecord
from stmulnet.datasets.base import FrameSampling
from stmulnet.datasets.sampling import flow_numbers
from stmulnet.datasets.transforms import Crop, TrainTransform

RGB_MEAN, RGB_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FLOW_MEAN, FLOW_STD = 0.5, 0.226


class PilClips(Dataset[tuple[Tensor, Tensor, int]]):
    """Clips of a data set in the package's own tree: (T, 3, S, S) and (T, 20, S, S) float32, normalised, and label.

    Args:
        dataset: Folder with images/ and flows/.
        records: Its videos.
        sampling: Which frames of a video.
        size: Side of the crops, pixels.
    """

    def __init__(self, dataset: Path, records: list[VideoRecord], sampling: FrameSampling, size: int) -> None:
        self.images, self.flows = dataset / "images", dataset / "flows"
        self.records = records
        self.sampling = sampling
        self.transform = TrainTransform(size, repaired=True)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        record, rng = self.records[index], np.random.default_rng([0, 0, index])
        times = self.sampling(record.num_frames, rng)
        with Image.open(self.images / record.video / "frame000001.jpg") as first:
            crop = self.transform.draw(first.height, first.width, rng)
        rgb, flow = [], []
        for time in times:
            rgb.append(self._rgb(record.video, time, crop))
            planes = [
                self._flow(axis, record.video, field, crop) for field in flow_numbers(time) for axis in ("u", "v")
            ]
            flow.append(torch.cat(planes))
        return torch.stack(rgb), torch.stack(flow), record.label

    def _rgb(self, video: str, number: int, crop: Crop) -> Tensor:
        image = Image.open(self.images / video / f"frame{number:06d}.jpg").convert("RGB")
        pixels = _to_tensor(self._augment(image, crop))
        return (pixels - torch.tensor(RGB_MEAN).view(3, 1, 1)) / torch.tensor(RGB_STD).view(3, 1, 1)

    def _flow(self, axis: str, video: str, number: int, crop: Crop) -> Tensor:
        image = Image.open(self.flows / axis / video / f"frame{number:06d}.jpg").convert("L")
        levels = _to_tensor(self._augment(image, crop))
        if crop.flip and axis == "u":
            levels = 1 - levels
        return (levels - FLOW_MEAN) / FLOW_STD

    def _augment(self, image: Image.Image, crop: Crop) -> Image.Image:
        size = (self.transform.size, self.transform.size)
        box = (crop.left, crop.top, crop.left + crop.width, crop.top + crop.height)
        image = image.crop(box).resize(size, Image.Resampling.BICUBIC)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if crop.flip else image


def _to_tensor(image: Image.Image) -> Tensor:
    """(C, H, W) float32, 0..1."""
    pixels = np.asarray(image, np.float32) / 255
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1).contiguous()
