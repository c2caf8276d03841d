"""Spatiotemporal multiplier networks for video action recognition (Feichtenhofer, Pinz, Wildes, CVPR 2017)."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# name -> module. Loaded on first use: importing torch takes seconds, and `stmulnet --help` must not.
_PUBLIC = {
    "ModelConfig": "stmulnet.models.config",
    "TwoStreamDataset": "stmulnet.datasets.base",
    "VideoPredictor": "stmulnet.predictor",
    "ablate": "stmulnet.commands.ablate",
    "annotate": "stmulnet.commands.annotate",
    "bench": "stmulnet.commands.bench",
    "convert": "stmulnet.commands.convert",
    "create_model": "stmulnet.models.zoo",
    "evaluate": "stmulnet.commands.evaluate",
    "explain": "stmulnet.commands.explain",
    "export": "stmulnet.commands.export",
    "extract": "stmulnet.commands.extract",
    "import_archive": "stmulnet.commands.import_archive",
    "list_models": "stmulnet.models.zoo",
    "live": "stmulnet.commands.live",
    "load_model": "stmulnet.models.checkpoint",
    "pack": "stmulnet.commands.pack",
    "predict": "stmulnet.commands.predict",
    "push": "stmulnet.commands.push",
    "save_model": "stmulnet.models.checkpoint",
    "serve": "stmulnet.commands.serve",
    "timeline": "stmulnet.commands.timeline",
    "train": "stmulnet.commands.train",
    "tvl1": "stmulnet.flow.tvl1",
    "verify": "stmulnet.commands.verify",
    "weights": "stmulnet.commands.weights",
}
_MODULES = ("datasets", "errors", "evaluation", "explanation", "flow", "models", "training", "video")

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from stmulnet import datasets as datasets
    from stmulnet import errors as errors
    from stmulnet import explanation as explanation
    from stmulnet import flow as flow
    from stmulnet.commands.ablate import ablate as ablate
    from stmulnet.commands.annotate import annotate as annotate
    from stmulnet.commands.bench import bench as bench
    from stmulnet.commands.convert import convert as convert
    from stmulnet.commands.evaluate import evaluate as evaluate
    from stmulnet.commands.explain import explain as explain
    from stmulnet.commands.export import export as export
    from stmulnet.commands.extract import extract as extract
    from stmulnet.commands.import_archive import import_archive as import_archive
    from stmulnet.commands.live import live as live
    from stmulnet.commands.pack import pack as pack
    from stmulnet.commands.predict import predict as predict
    from stmulnet.commands.push import push as push
    from stmulnet.commands.serve import serve as serve
    from stmulnet.commands.timeline import timeline as timeline
    from stmulnet.commands.train import train as train
    from stmulnet.commands.verify import verify as verify
    from stmulnet.commands.weights import weights as weights
    from stmulnet.datasets.base import TwoStreamDataset as TwoStreamDataset
    from stmulnet.flow.tvl1 import tvl1 as tvl1
    from stmulnet.models.checkpoint import load_model as load_model
    from stmulnet.models.checkpoint import save_model as save_model
    from stmulnet.models.config import ModelConfig as ModelConfig
    from stmulnet.models.zoo import create_model as create_model
    from stmulnet.models.zoo import list_models as list_models
    from stmulnet.predictor import VideoPredictor as VideoPredictor


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        found = getattr(importlib.import_module(_PUBLIC[name]), name)
        if _PUBLIC[name].startswith("stmulnet.commands."):  # verbs: from Python, a path may be text
            from stmulnet.values import with_paths

            found = with_paths(found)
        return globals().setdefault(name, found)
    if name in _MODULES:
        return importlib.import_module(f"stmulnet.{name}")
    raise AttributeError(f"module 'stmulnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_MODULES]
