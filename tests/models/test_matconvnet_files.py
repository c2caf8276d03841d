"""Files that are no network's or are damaged anywhere, and networks that such a file cannot hold."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from tests.models.refusing import refused_file
from tests.oracle import files

from stmulnet import create_model, load_model
from stmulnet.errors import CheckpointError
from stmulnet.models.matconvnet import export_mat
from stmulnet.models.multiplier import Network


def save(path: Path, **variables: Any) -> None:
    scipy.io.savemat(path, variables)


NO_NETWORK: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (Path.touch, "not a MATLAB file of version 5; an interrupted download or an error page of a server?"),
    "an error page": (
        lambda path: path.write_text("<html>404 Not Found</html>"),
        "not a MATLAB file of version 5; an interrupted",
    ),
    "safetensors": (
        lambda path: path.write_bytes(b"\x40\0\0\0\0\0\0\0" + b'{"x": 1}'.ljust(64)),
        "not a MATLAB file of version 5; it looks like a safetensors file: give it the suffix .safetensors",
    ),
    "MATLAB 4": (
        lambda path: scipy.io.savemat(path, {"x": np.ones((3, 3))}, format="4"),
        r"perhaps one of version 4; in MATLAB, load it and save it again with save\(file, 'net', '-v7'\)",
    ),
    "a folder": (Path.mkdir, "is a folder"),
    "MATLAB 7.3": (
        lambda path: path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n"),
        r"a MATLAB 7.3 file; in MATLAB, load it and save it again with save\(file, 'net', '-v7'\)",
    ),
    "a header alone": (
        lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"),
        r"holds no DagNN, which has layers and params \(in net or by themselves\); it holds nothing",
    ),
    "half a header": (lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file"), "the header is not that of"),
    "other variables": (lambda path: save(path, state=1.0, stats=2.0), "it holds state, stats"),
    "layers without params": (lambda path: save(path, layers=1.0, meta=2.0), "it holds layers, meta"),
    "net is a number": (lambda path: save(path, net=1.0), "it holds net with nothing"),
    "a SimpleNN": (
        lambda path: save(path, net={"layers": np.array([[{"type": "conv"}]], object), "meta": {"x": 1.0}}),
        "it holds net with layers, meta",
    ),
    "layers that are a number": (lambda path: save(path, layers=1.0, params=2.0), "layer 1 has no field 'name'"),
    "layers without inputs": (
        lambda path: save(path, layers={"name": "x", "type": "dagnn.ReLU"}, params={"name": "x", "value": 1.0}),
        "layer 1 has no field 'inputs'",
    ),
}


@pytest.mark.parametrize("case", NO_NETWORK)
def test_files_that_hold_no_network(case: str, tmp_path: Path) -> None:
    make, message = NO_NETWORK[case]
    make(tmp_path / "x.mat")
    refused_file(tmp_path / "x.mat", message)


# ---- damage anywhere ----


def stream_file(path: Path, *, compress: bool) -> bytes:
    files.write(files.base_stream("flow", units=(1, 1, 1, 1), width=2, num_classes=2), path, compress=compress)
    return path.read_bytes()


def outcome(path: Path, data: bytes) -> dict[str, torch.Tensor] | None:
    """The tensors of a file with these bytes; None if it is refused."""
    path.write_bytes(data)
    try:
        return load_model(path).state_dict()
    except CheckpointError as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
    return None


@pytest.mark.parametrize("compress", [True, False])
def test_a_file_cut_off_anywhere_is_refused(compress: bool, tmp_path: Path) -> None:
    data = stream_file(tmp_path / "x.mat", compress=compress)
    places = {0, 1, 127, 128, 130, 136, len(data) - 1, *range(0, len(data), len(data) // 40)}
    for place in places:
        assert outcome(tmp_path / "x.mat", data[:place]) is None, place


def flipped(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        damaged[rng.randrange(len(damaged))] ^= rng.randrange(1, 256)
    return bytes(damaged)


def test_a_damaged_compressed_file_is_refused_or_makes_no_difference(tmp_path: Path) -> None:
    data, rng = stream_file(tmp_path / "x.mat", compress=True), random.Random(11)
    right = outcome(tmp_path / "x.mat", data)
    assert right is not None
    outcomes = [outcome(tmp_path / "x.mat", flipped(data, rng)) for _ in range(100)]
    for tensors in outcomes:
        assert tensors is None or all(torch.equal(tensors[name], tensor) for name, tensor in right.items())
    assert outcomes.count(None) > 90


def test_a_damaged_file_that_is_not_compressed_is_refused_or_read(tmp_path: Path) -> None:
    """Such a file has no check sum, so a wrong number is a number; but nothing else may happen."""
    data, rng = stream_file(tmp_path / "x.mat", compress=False), random.Random(12)
    outcomes = [outcome(tmp_path / "x.mat", flipped(data, rng)) for _ in range(100)]
    assert 30 < outcomes.count(None) < 100


# ---- networks that such a file cannot hold ----


def exportable(**options: Any) -> Network:
    size: dict[str, Any] = {"units": (1, 1, 1, 1), "width_mult": 1 / 32, "input_size": 64, "head_pool": 2}
    return create_model("appearance_resnet50", 3, **{**size, **options})


def nan_somewhere() -> Network:
    model = exportable()
    with torch.no_grad():
        model.get_parameter("appearance.res3.a.branch2b.0.weight")[0, 0, 0, 0] = torch.nan
    return model


def with_deviation() -> Network:
    model = exportable()
    model.rgb_std.fill_(58.0)
    return model


NOT_EXPORTABLE: dict[str, tuple[Callable[[], Network], str, str]] = {
    "global average": (lambda: exportable(head_pool="global"), "x.mat", "head_pool 'global' has no layer"),
    "standard deviation": (with_deviation, "x.mat", "divides its images by a standard deviation"),
    "not finite": (nan_somewhere, "x.mat", "tensor appearance.res3.a.branch2b.0.weight holds .* not finite"),
    "suffix": (exportable, "x.safetensors", "MatConvNet files end in .mat; give the file that suffix"),
    "no suffix": (exportable, "x", "MatConvNet files end in .mat"),
}


@pytest.mark.parametrize("case", NOT_EXPORTABLE)
def test_what_cannot_be_written_leaves_nothing_behind(case: str, tmp_path: Path) -> None:
    make, name, message = NOT_EXPORTABLE[case]
    path = tmp_path / name
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: .*{message}"):
        export_mat(make(), path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.mat"
    export_mat(exportable(), path)
    before = path.read_bytes()

    def fail(file: Any, *_: Any, **__: Any) -> None:
        file.write(before[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scipy.io, "savemat", fail)
    with pytest.raises(OSError, match="No space left"):
        export_mat(exportable(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
