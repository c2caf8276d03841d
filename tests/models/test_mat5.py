"""The reader of MATLAB files against SciPy's, on files of SciPy and of MATLAB, and on bytes put together by hand."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray
from scipy.io import loadmat, savemat

from stmulnet.models.matconvnet.mat5 import Other, read_variables

MATLAB_FILES = Path(scipy.io.__file__).parent / "matlab" / "tests" / "data"  # saved by MATLAB 5.3 to 8
KINDS = (
    *("cell", "cellnest", "complex", "double", "emptycell", "matrix", "minus", "onechar", "string", "stringarray"),
    *("struct", "structarr", "structnest", "unicode", "3dmatrix", "multi"),
)


def cell(*items: Any) -> NDArray[Any]:
    array = np.empty((1, len(items)), object)
    for index, item in enumerate(items):
        array[0, index] = item
    return array


def content(rng: np.random.Generator) -> dict[str, Any]:
    numbers = rng.normal(size=(2, 3, 4))
    records = np.empty((2, 2), [("name", object), ("value", object)])
    for index in np.ndindex(2, 2):
        records[index] = (f"n{index}", rng.integers(0, 9, (1, 2)))
    return {
        "single": numbers.astype(np.float32),
        "numbers": numbers,
        "complex": numbers + 1j * rng.normal(size=numbers.shape),
        **{f"i{kind}": rng.integers(0, 100, (3, 1)).astype(kind) for kind in ("u1", "i2", "u4", "i8", "u8")},
        "logical": np.array([[True, False]]),
        "empty": np.zeros((0, 3)),
        "text": "größer µ",
        "no_text": "",
        "records": records,
        "nested": {"a": {"b": cell("x", 3.0, cell(), cell(cell(numbers)))}, "c": {}},
    }


def assert_same(ours: Any, theirs: Any) -> None:
    """Ours: arrays, strings, lists and dictionaries; theirs: arrays of SciPy's `struct_as_record=False`."""
    if hasattr(theirs, "_fieldnames"):
        (ours,) = ours
        assert list(ours) == list(theirs._fieldnames)
        for name, value in ours.items():
            assert_same(value, getattr(theirs, name))
    elif isinstance(ours, np.ndarray) and theirs.dtype != object:
        np.testing.assert_array_equal(ours, theirs)  # SciPy keeps the type in which numbers are stored
    elif isinstance(ours, str):
        assert ours == (str(theirs.item()) if theirs.size else "")
    elif theirs.dtype.kind == "U":
        assert [row.rstrip() for row in ours] == [str(row).rstrip() for row in theirs.ravel(order="F")]
    elif theirs.size == 1 and hasattr(theirs.item(), "_fieldnames"):
        assert_same(ours, theirs.item())
    else:
        assert len(ours) == theirs.size
        for mine, other in zip(ours, theirs.ravel(order="F"), strict=True):
            assert_same([mine] if isinstance(mine, dict) else mine, other)


def compare(path: Path) -> None:
    theirs = {k: v for k, v in loadmat(path, struct_as_record=False).items() if not k.startswith("__")}
    ours = read_variables(path, theirs)
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert_same(value, theirs[name])


@pytest.mark.parametrize("compress", [True, False])
def test_what_scipy_writes(compress: bool, rng: np.random.Generator, tmp_path: Path) -> None:
    values = content(rng)
    savemat(tmp_path / "x.mat", values, do_compression=compress)
    compare(tmp_path / "x.mat")
    ours = read_variables(tmp_path / "x.mat", values)
    assert ours["single"].dtype == np.float32
    assert ours["complex"].dtype == complex
    assert ours["text"] == values["text"]
    assert [record["name"] for record in ours["records"]] == ["n(0, 0)", "n(1, 0)", "n(0, 1)", "n(1, 1)"]
    ours["numbers"][0, 0, 0] = 1  # arrays of their own, which may be changed


@pytest.mark.parametrize("kind", KINDS)
def test_what_matlab_writes(kind: str) -> None:
    """Big-endian files of Solaris and little-endian ones, of MATLAB 6, 7.1 (compressed from there on) and 7.4."""
    files = [path for path in MATLAB_FILES.glob(f"test{kind}_*.mat") if "_4.2c" not in path.name]
    if not files:
        pytest.skip("this SciPy comes without its test files")
    for path in files:
        compare(path)


def test_variables_that_are_not_wanted_are_only_named(rng: np.random.Generator, tmp_path: Path) -> None:
    savemat(tmp_path / "x.mat", content(rng) | {"sparse": scipy.sparse.eye(3)}, do_compression=True)
    found = read_variables(tmp_path / "x.mat", ["text", "sparse"])
    assert list(found) == [*content(rng), "sparse"]
    assert {name for name, value in found.items() if value is not None} == {"text", "sparse"}
    assert found["sparse"] == Other("a sparse matrix")


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<2I", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def matrix(*content: bytes, kind: int = 6, sides: tuple[int, ...] = (1, 1), name: bytes = b"x") -> bytes:
    flags = element(6, struct.pack("<2I", kind, 0))
    head = flags + element(5, struct.pack(f"<{len(sides)}i", *sides)) + element(1, name)
    return element(14, head + b"".join(content))


def write(path: Path, *variables: bytes) -> Path:
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"".join(variables))
    return path


def compressed(data: bytes) -> bytes:
    packed = zlib.compress(data)
    return struct.pack("<2I", 15, len(packed)) + packed


EIGHT = element(9, struct.pack("<d", 8))
MANY = 2**31 - 1
DAMAGED = {
    "a type that is none": (matrix(element(4711, b"12345678")), "element of type 4711 stands where numbers should"),
    "an element beyond its matrix": (matrix(struct.pack("<2I", 9, 800)), "reaches 800 bytes too far"),
    "a tag cut off": (matrix(b"\x09\0\0\0"), "ends where another element should be"),
    "a short element that is long": (matrix(struct.pack("<2I", 9 | 5 << 16, 0)), "short element states 5 bytes"),
    "too few numbers": (matrix(EIGHT, sides=(2, 3)), r"a matrix of \(2, 3\) holds 1 numbers"),
    "bytes that are no numbers": (matrix(element(9, b"123")), "multiple of element size"),
    "endless cells": (matrix(kind=1, sides=(MANY, MANY)), "ends where another element should be"),
    "endless structs": (
        matrix(element(5, b"\x04\0\0\0"), element(1, b"abc\0"), kind=2, sides=(MANY, MANY)),
        "ends where another element should be",
    ),
    "a negative side": (matrix(EIGHT, sides=(-1, 1)), r"dimensions \(-1, 1\)"),
    "one side": (matrix(EIGHT, sides=(1,)), r"dimensions \(1,\)"),
    "forty sides": (matrix(EIGHT, sides=(1,) * 40), "dimensions"),
    "a class that is none": (matrix(EIGHT, kind=99), "unknown class 99"),
    "fields without length": (
        matrix(element(5, b"\0\0\0\0"), element(1, b"abcd"), kind=2),
        "4 bytes of field names are not names of the stated length",
    ),
    "no variable": (element(9, b"12345678"), "type 9 stands where a variable should"),
    "one variable twice": (matrix(EIGHT) * 2, "the variable x stands in the file twice"),
    "cut off": (matrix(EIGHT)[:-3], "it ends 3 bytes too early"),
    "cut off in a tag": (matrix(EIGHT) + b"\x0e\0\0", "the file is cut off"),
    "compressed, not a matrix": (compressed(element(9, b"12345678")), "type 9 stands where a matrix should"),
    "compressed, longer than stated": (compressed(matrix(EIGHT) + b"more"), "more than the 64 bytes it states"),
    "compressed, shorter than stated": (compressed(matrix(EIGHT)[:-8]), "ends after 64 of 72 bytes"),
    "compressed, cut off": (
        struct.pack("<2I", 15, 30) + zlib.compress(matrix(EIGHT))[:30],
        "a compressed variable ends after",
    ),
    "nothing compressed": (struct.pack("<2I", 15, 0), "ends after 0 of 8 bytes"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damage_is_refused(damage: str, tmp_path: Path) -> None:
    data, message = DAMAGED[damage]
    with pytest.raises(ValueError, match=message):
        read_variables(write(tmp_path / "x.mat", data), ["x"])


def test_the_bytes_put_together_by_hand_are_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mat", matrix(EIGHT), compressed(matrix(element(2, b"\x07"), name=b"narrow")))
    found = read_variables(path, ["x", "narrow"])
    assert found == {"x": [[8.0]], "narrow": [[7.0]]}
    assert found["narrow"].dtype == np.float64


def test_cells_in_cells_in_cells(tmp_path: Path) -> None:
    """Deeper than Python's stack: an error, not the end of the interpreter."""
    data = matrix(EIGHT)
    for _ in range(3000):
        data = matrix(data, kind=1)
    with pytest.raises(ValueError, match="recursion"):
        read_variables(write(tmp_path / "x.mat", data), ["x"])


def test_compressed_nothing_does_not_fill_the_memory(tmp_path: Path) -> None:
    """A file of 1 MB that states 64 bytes and would become 1 GB."""
    packed = zlib.compressobj()
    data = packed.compress(struct.pack("<2I", 14, 64)) + packed.compress(b"\0" * 2**20)
    for _ in range(50):
        data += packed.compress(b"\0" * 2**20)
    data += packed.flush()
    with pytest.raises(ValueError, match="more than the 64 bytes"):
        read_variables(write(tmp_path / "x.mat", struct.pack("<2I", 15, len(data)) + data), ["x"])
