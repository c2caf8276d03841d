"""The weight files that the authors published: names, addresses, and how to get them here.

The base address, the folders and the names are those of the authors' scripts (STMulNet.m, STMuNet_test.m,
STResNet_stage1.m, STResNet_stage2.m, STResNet_test.m). The files themselves are not part of this package.
"""

import difflib
import functools
import json
import os
import shutil
import struct
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stmulnet.console import notice
from stmulnet.download import download
from stmulnet.errors import CheckpointError, ConfigError, DownloadError
from stmulnet.files import atomic_path, check_output, locked, sha256_of, write_json
from stmulnet.models.hub import fetch_from_hub, is_hub_address

BASE_ADDRESS = "http://ftp.tugraz.at/pub/feichtenhofer/"
MIRROR_VARIABLE = "STMULNET_MIRROR"
CACHE_VARIABLE = "STMULNET_CACHE"
HAND_FOLDER = Path("experiment/base_pretrained_nets")  # where the scripts and earlier ports keep them
CHECKSUMS_NAME = "checksums.json"
DATASETS = ("ucf101", "hmdb51")
SPLITS = (1, 2, 3)
LICENCE_NOTE = (
    "The authors state no licence for these files. They are not part of stmulnet, and its licence does not cover them."
)
_MATLAB5, _HDF5 = b"MATLAB 5.0 MAT-file", b"\x89HDF\r\n\x1a\n"
_MATLAB5_HEADER_BYTES = 128
_HDF5_OFFSETS = (0, 512)  # MATLAB writes a text before it


@dataclass(frozen=True)
class WeightFile:
    """One published file.

    Attributes:
        name: The file's name; with its folder where two files of that name are published.
        path: Below the base address.
        dataset: ``"ucf101"`` or ``"hmdb51"``.
        split: 1 to 3.
        what: What the file holds.
        inferred: Whether the name is not known but put together as the authors' scripts would.
    """

    name: str
    path: str
    dataset: str
    split: int
    what: str
    inferred: bool = False


def entries() -> tuple[WeightFile, ...]:
    """All published files: finals, base streams, then those of ST-ResNet."""
    return _table()


def find(name: str) -> WeightFile:
    """The file of a name, with or without ``.mat``, or of a path below the base address.

    Raises:
        ConfigError: No such file; says which names are close.
    """
    wanted = name.removesuffix(".mat") + ".mat"
    for entry in entries():
        if wanted in (entry.name, entry.path):
            return entry
    close = difflib.get_close_matches(wanted, [entry.name for entry in entries()], n=3)
    advice = f"did you mean {' or '.join(close)}? " if close else ""
    raise ConfigError(f"no published weight file is called {name!r}; {advice}`stmulnet weights list` names all")


def cache_folder() -> Path:
    """Where fetched files lie: ``$STMULNET_CACHE``, or a folder in the user's cache; it need not exist."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "stmulnet" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "stmulnet"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stmulnet"


def local_path(name: str) -> Path | None:
    """Where a published file lies on this machine: in the cache, or put by hand into the `HAND_FOLDER`."""
    entry = find(name)
    places = (cache_folder() / entry.name, HAND_FOLDER / entry.name)
    return next((place for place in places if place.is_file()), None)


def locate(name: str | Path) -> Path:
    """A weight file: as given, or in `HAND_FOLDER`, or, by a published name, in the cache, or from the hub.

    Raises:
        CheckpointError: In none of these places, or no file; says what to do.
    """
    if not str(name):
        raise CheckpointError("the name of the weight file is empty; give a file")
    if is_hub_address(name):
        return fetch_from_hub(name)
    for place in (Path(name), HAND_FOLDER / name):
        if place.is_file():
            return place
        if place.is_dir():
            raise CheckpointError(f"{place}: is a folder; name the weight file in it")
        if place.is_symlink() and not place.exists():
            raise CheckpointError(f"{place}: is a link to {place.readlink()}, which does not exist")
        if place.exists():
            raise CheckpointError(f"{place}: is no regular file, from which weights could be read")
    places = f"neither as given nor in {HAND_FOLDER} or {cache_folder()}"
    try:
        if fetched := local_path(str(name)):
            return fetched
    except ConfigError as error:
        raise CheckpointError(
            f"{name}: no such weight file, {places}; give the model.safetensors of a run folder (`stmulnet train`, "
            f"`stmulnet demo`) or a file of the authors (.mat). {str(error)[0].upper()}{str(error)[1:]}"
        ) from error
    raise CheckpointError(f"{name}: not here yet, {places}; `stmulnet weights fetch {str(name)!r}` gets it")


def fetch(name: str, *, mirror: str | None = None, out: Path | None = None) -> Path:
    """Get a published file, unless it is here already.

    The SHA-256 is recorded at the first fetch, in ``checksums.json`` of the cache; another file under the same name is
    refused from then on.

    Args:
        name: As `find` takes it.
        mirror: Base address (http, https, file) or folder instead of the authors'; ``$STMULNET_MIRROR`` by default.
        out: Folder for the file; the cache by default.

    Returns:
        The file.

    Raises:
        ConfigError: An unknown name, a mirror that is none, or a folder that cannot be written.
        CheckpointError: The file cannot be had, is no weight file, or is another one than at the first fetch.
    """
    entry = find(name)
    there = local_path(name) if out is None else out / entry.name
    if there is not None and there.is_file():
        _check_recorded(entry, there, str(there))
        notice(f"{there}: already there")
        return there
    target = (out or cache_folder()) / entry.name
    for folder in (target.parent, cache_folder()):
        check_output(folder)
        folder.mkdir(parents=True, exist_ok=True)
    here = local_path(name)
    source = here or _source(entry, mirror)
    if here is not None:
        notice(f"{target}: copied from {here}, where it is already; nothing was fetched")
    if isinstance(source, Path):
        _copy(entry, source, target)
    else:
        _download(entry, source, target)
    _record(entry, target, str(source))
    return target


def recorded_sha256(path: Path) -> str | None:
    """What was recorded when a published file of this name was first fetched; None for any other file."""
    for entry in sorted(entries(), key=lambda entry: -len(entry.name)):  # the names with folders first
        if path.as_posix() == entry.name or path.as_posix().endswith(f"/{entry.name}"):
            record = _records().get(entry.name)
            return None if record is None else str(record["sha256"])
    return None


@functools.cache
def _table() -> tuple[WeightFile, ...]:
    return (*_finals(), *_base_streams(), *_st_resnet())


def _splits() -> Iterator[tuple[str, int]]:
    return ((dataset, split) for dataset in DATASETS for split in SPLITS)


def _finals() -> Iterator[WeightFile]:
    for dataset, split in _splits():
        for depth, final in ((50, "-final"), (152, "")):
            name = f"{dataset}ST-MulNet-img50-flow{depth}{final}-split={split}.mat"
            yield WeightFile(name, f"st-mul/final/{name}", dataset, split, f"ST-MulNet, ResNet-50 and ResNet-{depth}")


def _base_streams() -> Iterator[WeightFile]:
    for dataset, split in _splits():
        for depth in (50, 152):
            dropout = "0.9" if (dataset, depth) == ("hmdb51", 152) else "0.8"
            for stream, short, rate in (("appearance", "img", "0"), ("motion", "flow", dropout)):
                name = f"{dataset}-{short}-resnet{depth}-split{split}-dr{rate}.mat"
                yield WeightFile(name, f"st-mul/ts-base/{name}", dataset, split, f"{stream} stream, ResNet-{depth}")


def _st_resnet() -> Iterator[WeightFile]:
    for dataset, split in _splits():
        base, motion = f"{dataset}-img-resnet50-split{split}-dr0.mat", f"{dataset}-resnet50-split{split}-dr0.8.mat"
        stage1, stage2 = f"-ST-ResNet50-split={split}.mat", f"ST-ResNet50-final-split={split}.mat"
        for path, what in (
            (f"ts-base/{base}", "appearance stream for ST-ResNet"),
            (f"ts-base/{motion}", "motion stream for ST-ResNet"),
            (f"stage1/{dataset}{stage1}", "ST-ResNet after stage 1"),
            (f"stage2/{dataset}-{stage2}", "ST-ResNet after stage 2"),
            (f"stage2/{dataset}{stage2}", "the same, as STResNet_test.m calls it"),  # one of the two exists
        ):
            path = f"st-res/{path}"
            name = path if path.endswith(base) else path.rpartition("/")[2]  # ST-MulNet has a base of this name
            yield WeightFile(name, path, dataset, split, what, inferred=True)


def _source(entry: WeightFile, mirror: str | None) -> str | Path:
    """The file's address, or its place in a local mirror."""
    base = mirror or os.environ.get(MIRROR_VARIABLE) or BASE_ADDRESS
    scheme, separator, rest = base.partition("://")
    scheme = scheme.lower() if separator else "folder"
    if scheme not in ("http", "https", "file", "folder") or rest.startswith("/") != (scheme == "file"):
        raise ConfigError(f"mirror {base!r}: give a base address (http://HOST/, https://, file:///) or a folder")
    if scheme in ("http", "https"):
        return base.rstrip("/") + "/" + urllib.parse.quote(entry.path, safe="/=")
    folder = Path(urllib.request.url2pathname(rest) if scheme == "file" else base).expanduser()
    for place in (folder / entry.path, folder / entry.name):
        if place.is_file():
            return place
    if not folder.is_dir():
        raise CheckpointError(f"mirror {folder}: no such folder; give another one, or a base address")
    raise CheckpointError(f"mirror {folder}: holds neither {entry.path} nor {entry.name}")


def _copy(entry: WeightFile, source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
        with temporary.open("rb") as file:
            _check_head(str(source), file.read(_MATLAB5_HEADER_BYTES + _HDF5_OFFSETS[-1]))
        _check_file(entry, temporary, str(source))


def _download(entry: WeightFile, address: str, target: Path) -> None:
    try:
        download(
            address,
            target,
            check_head=lambda head: _check_head(address, head),
            check=lambda path: _check_file(entry, path, address),
        )
    except DownloadError as error:
        guess = " The name of this file is inferred and may be another one there." if entry.inferred else ""
        host = " The authors' host has been unreachable at times." if address.startswith(BASE_ADDRESS) else ""
        raise CheckpointError(
            f"{error}.{host}{guess} Give another base address or a folder "
            f"with --mirror or ${MIRROR_VARIABLE} (instead of {BASE_ADDRESS}), or get {entry.name} elsewhere and put "
            f"it into {HAND_FOLDER} or {cache_folder()}"
        ) from error


def _check_head(source: str, head: bytes) -> None:
    if head.startswith(_MATLAB5) or any(head[offset:].startswith(_HDF5) for offset in _HDF5_OFFSETS):
        return
    text = head.lstrip().lower()
    found = f"something that starts {head[:16]!r}" if head else "an empty file"
    if text.startswith((b"<!doctype html", b"<html")):
        found = "an HTML page"
    raise CheckpointError(f"{source}: {found}, not a MATLAB file; nothing is kept: give another --mirror")


def _check_file(entry: WeightFile, path: Path, source: str) -> None:
    if not _is_whole(path):
        raise CheckpointError(f"{source}: the file is cut off; nothing is kept: fetch again or give another --mirror")
    _check_recorded(entry, path, source)


def _is_whole(path: Path) -> bool:
    """Follow the lengths of a MATLAB 5 file's elements to its end; for servers that do not say how long it is."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(_MATLAB5_HEADER_BYTES)
        if not header.startswith(_MATLAB5):
            return True  # HDF5 says its own length to its reader
        order, position = (">" if header.endswith(b"MI") else "<"), _MATLAB5_HEADER_BYTES
        while position + 8 <= size:
            file.seek(position)
            _, length = struct.unpack(f"{order}II", file.read(8))
            position += 8 + length
    return position == size > _MATLAB5_HEADER_BYTES


def _check_recorded(entry: WeightFile, path: Path, source: str) -> None:
    record = _records().get(entry.name)
    if record is None or (found := sha256_of(path)) == record["sha256"]:
        return
    raise CheckpointError(
        f"{source}: has SHA-256 {found}, but {record['sha256']} was recorded when {entry.name} was first fetched from "
        f"{record['address']}: damaged, or another file. Remove or replace it; if you trust it, remove the entry "
        f"{entry.name!r} from {cache_folder() / CHECKSUMS_NAME} and run the command again"
    )


def _records() -> dict[str, Any]:
    path = cache_folder() / CHECKSUMS_NAME
    if not path.exists():
        return {}
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(record["sha256"], str) and isinstance(record["address"], str) for record in records.values()):
            return dict(records)
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise ConfigError(f"{path}: not a list of checksums, or damaged; remove it, the next fetches make it again")


def _record(entry: WeightFile, path: Path, source: str) -> None:
    record = {"sha256": sha256_of(path), "bytes": path.stat().st_size, "address": source}
    with locked(cache_folder(), None):
        records = _records()
        if entry.name not in records:
            write_json(cache_folder() / CHECKSUMS_NAME, {**records, entry.name: record})
