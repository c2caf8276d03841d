"""Trees of files, archives of them and damage, for the tests of the import."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Files = dict[str, bytes]


def some_files(rng: np.random.Generator, *, videos: int = 5, frames: int = 4) -> Files:
    """Names and contents as in the official archives, with their blemishes; half of the contents can be packed."""
    files: Files = {}
    for video in range(videos):
        for folder in ("jpegs_256", "tvl1_flow/u", "tvl1_flow/v"):
            for number in range(1, frames + 1):
                size = int(rng.integers(1, 400))
                content = rng.bytes(size) if number % 2 else bytes([video]) * size
                files[f"{folder}/v_Run (x)+!_g{video:02d}/frame{number:06d}.jpg"] = content
        files[f"tvl1_flow/u/v_Run (x)+!_g{video:02d}.bin"] = rng.bytes(16)
    files["jpegs_256/v_Run (x)+!_g01/TSP flows/frame000001.jpg"] = b""
    files["readme.txt"] = b"stay"
    return files


def write_zip(path: Path, files: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip archive of the files, with entries for some folders as most programs write them."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in sorted({name.rpartition("/")[0] for name in files} - {""}):
            archive.mkdir(name)
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: Mapping[str, bytes], *, mode: Any = "w", before: str = "./") -> Path:
    """A tar archive, its names as `tar cf x.tar .` writes them."""
    with tarfile.open(path, mode) as archive:
        folder = tarfile.TarInfo(before)
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            member = tarfile.TarInfo(before + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def cut(path: Path, piece_bytes: int) -> list[Path]:
    """Cut a file into pieces .001, .002, ... and remove it."""
    data = path.read_bytes()
    pieces = []
    for number, start in enumerate(range(0, len(data), piece_bytes), start=1):
        pieces.append(path.with_name(f"{path.name}.{number:03d}"))
        pieces[-1].write_bytes(data[start : start + piece_bytes])
    path.unlink()
    return pieces


def patch(path: Path, at: int, new: bytes) -> None:
    """Overwrite bytes of a file."""
    data = bytearray(path.read_bytes())
    data[at : at + len(new)] = new
    path.write_bytes(bytes(data))


def contents(folder: Path) -> Files:
    """Everything below a folder but what the import keeps about itself."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    own = {"imports.json"} | {f".importing/{path.name}" for path in files if path.suffix == ".jsonl"}
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return {name: content for name, content in found.items() if name not in own}
