"""Variables of a MATLAB file, version 5, as plain Python objects.

SciPy reads such files too, but its compiled reader trusts what it reads: one wrong byte in a file that is not
compressed can end the interpreter. Here, whatever the bytes say, the worst is an error.

Layout: "MAT-File Format" (MathWorks). A file is a header and one element per variable; an element is a tag (type,
number of bytes), then data, padded to 8 bytes. A matrix, of whatever class, is an element made of elements: flags,
dimensions, name, then its content. Arrays are stored column by column.
"""

import math
import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES, TAG_BYTES = 128, 8
NAME_WITHIN = 4096  # bytes of a variable: flags, dimensions and name come first
PIECE_BYTES = 2**16  # of compressed data at a time, so that none can fill the memory at once
MAX_AXES = 32
SHORT_BYTES = 4  # of data that may stand in the second half of a tag
COMPLEX = 0x800  # among a matrix's flags
INT8, MATRIX, COMPRESSED = 1, 14, 15  # types of elements
INTEGERS = {5: "i", 6: "I"}
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
CELL, STRUCT, TEXT, OPAQUE = 1, 2, 4, 17  # classes of matrices
NUMERIC = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
OTHERS = {3: "an object", 5: "a sparse matrix", 16: "a function", 17: "an object"}


@dataclass(frozen=True)
class Other:
    """Something that is none of numbers, text, cell and struct."""

    what: str


def read_variables(path: Path, wanted: Collection[str]) -> dict[str, Any]:
    """Read variables of a file.

    Numbers become arrays (complex where they are), text becomes a string (a list of them if it has several rows),
    cells become lists and struct arrays lists of dictionaries, both column by column; `Other` is what remains.

    Args:
        path: The file.
        wanted: Names of the variables to read.

    Returns:
        All variables of the file by name, None for those that are not wanted.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged, or no MATLAB file of version 5.
    """
    variables: dict[str, Any] = {}
    try:
        with path.open("rb") as file:
            order = _byte_order(file.read(HEADER_BYTES))
            for open_variable in _variables(file, order):
                name = _header(_Elements(open_variable(NAME_WITHIN), order))[2]
                if name in variables:
                    raise ValueError(f"the variable {name} stands in the file twice")
                if name:  # MATLAB keeps parts of its objects without a name
                    variables[name] = _named_matrix(open_variable(None), order)[1] if name in wanted else None
    except (struct.error, zlib.error, RecursionError, MemoryError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    return variables


def _byte_order(header: bytes) -> str:
    orders = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
    if header[-4:] not in orders or len(header) < HEADER_BYTES:
        raise ValueError("the header is not that of a MATLAB file of version 5")
    return orders[header[-4:]]


def _variables(file: BinaryIO, order: str) -> Iterator[Callable[[int | None], memoryview]]:
    """For each variable, what gives the start of its matrix, or all of it."""
    while tag := file.read(TAG_BYTES):
        if len(tag) < TAG_BYTES:
            raise ValueError("the file is cut off in the middle of a tag")
        kind, size = struct.unpack(f"{order}2I", tag)
        data = file.read(size)
        if len(data) < size:
            raise ValueError(f"the file is cut off: it ends {size - len(data)} bytes too early")
        if kind == COMPRESSED:
            yield partial(_inflate, data, order)
        elif kind == MATRIX:
            yield partial(_start, memoryview(data))
        else:
            raise ValueError(f"an element of type {kind} stands where a variable should")


def _start(data: memoryview, limit: int | None) -> memoryview:
    return data[:limit]


def _inflate(data: bytes, order: str, limit: int | None) -> memoryview:
    """The start of a compressed matrix, or all of it; then the check sum must be right."""
    stream, inflated, stated = zlib.decompressobj(), bytearray(), 0
    for at in range(0, len(data), PIECE_BYTES):
        inflated += stream.decompress(memoryview(data)[at : at + PIECE_BYTES])
        kind, stated = struct.unpack_from(f"{order}2I", inflated)
        if kind != MATRIX:
            raise ValueError(f"an element of type {kind} stands where a matrix should")
        if len(inflated) > TAG_BYTES + stated:
            raise ValueError(f"a compressed variable has more than the {stated} bytes it states")
        if limit is not None and len(inflated) >= TAG_BYTES + limit:
            break
    else:
        if not stream.eof or len(inflated) < TAG_BYTES + stated:
            raise ValueError(f"a compressed variable ends after {len(inflated)} of {TAG_BYTES + stated} bytes")
    return memoryview(inflated)[TAG_BYTES:][:limit]


class _Elements:
    """The elements of a matrix, one after the other."""

    def __init__(self, data: memoryview, order: str) -> None:
        self.data, self.order, self.at = data, order, 0

    def next(self) -> tuple[int, memoryview]:
        """Type and data of the next element."""
        if self.at + TAG_BYTES > len(self.data):
            raise ValueError(f"a matrix of {len(self.data)} bytes ends where another element should be")
        first, second = struct.unpack_from(f"{self.order}2I", self.data, self.at)
        size = first >> 16
        if size:  # tag and data in 8 bytes
            if size > SHORT_BYTES:
                raise ValueError(f"a short element states {size} bytes")
            start = self.at + SHORT_BYTES
            self.at += TAG_BYTES
            return first & 0xFFFF, self.data[start : start + size]
        start, self.at = self.at + TAG_BYTES, self.at + TAG_BYTES + second + -second % 8
        if start + second > len(self.data):
            raise ValueError(f"an element reaches {start + second - len(self.data)} bytes too far")
        return first, self.data[start : start + second]

    def numbers(self) -> NDArray[Any]:
        """The next element, which must be of numbers."""
        kind, data = self.next()
        if kind not in NUMBERS:
            raise ValueError(f"an element of type {kind} stands where numbers should")
        return np.frombuffer(data, self.order + NUMBERS[kind])

    def integers(self) -> tuple[int, ...]:
        """The next element, which must be of 32-bit integers; faster than an array, of which few numbers are wanted."""
        kind, data = self.next()
        if kind not in INTEGERS:
            raise ValueError(f"an element of type {kind} stands where 32-bit integers should")
        return struct.unpack(f"{self.order}{len(data) // 4}{INTEGERS[kind]}", data)

    def text(self) -> str:
        """The next element, which must be characters."""
        kind, data = self.next()
        if kind not in ENCODINGS:
            raise ValueError(f"an element of type {kind} stands where text should")
        encoding = ENCODINGS[kind]
        if encoding in ("utf-16", "utf-32"):
            encoding += "-le" if self.order == "<" else "-be"
        return str(data, encoding, errors="replace")  # names are compared, other text does not matter

    def matrix(self) -> Any:
        """The next element, which must be a matrix."""
        kind, data = self.next()
        if kind != MATRIX:
            raise ValueError(f"an element of type {kind} stands where a matrix should")
        return _named_matrix(data, self.order)[1] if data else np.zeros((0, 0))


def _header(elements: _Elements) -> tuple[int, tuple[int, ...], str]:
    """Flags, dimensions and name at the start of a matrix."""
    flags = elements.integers()
    if len(flags) != 2:
        raise ValueError(f"a matrix has {len(flags)} numbers as flags, needs 2")
    if flags[0] & 0xFF == OPAQUE:  # these have no dimensions
        return flags[0], (), elements.text()
    dimensions = elements.integers()
    if not 2 <= len(dimensions) <= MAX_AXES or min(dimensions) < 0:
        raise ValueError(f"a matrix has the dimensions {dimensions[:MAX_AXES]}")
    return flags[0], dimensions, elements.text()


def _named_matrix(data: memoryview, order: str) -> tuple[str, Any]:
    elements = _Elements(data, order)
    flags, dimensions, name = _header(elements)
    kind, count = flags & 0xFF, math.prod(dimensions)
    if kind in NUMERIC:
        return name, _numeric(elements, NUMERIC[kind], dimensions, is_complex=bool(flags & COMPLEX))
    if kind == TEXT:
        return name, _rows(elements.text() if count else "", dimensions)
    if kind == CELL:
        return name, [elements.matrix() for _ in range(count)]
    if kind == STRUCT:
        fields = _field_names(elements)
        count = count if fields else min(count, 1)  # nothing but the data limits a count
        return name, [{field: elements.matrix() for field in fields} for _ in range(count)]
    if kind in OTHERS:
        return name, Other(OTHERS[kind])
    raise ValueError(f"a matrix is of the unknown class {kind}")


def _numeric(elements: _Elements, kind: str, dimensions: tuple[int, ...], *, is_complex: bool) -> NDArray[Any]:
    """Numbers as their class says; whole numbers may be stored in fewer bytes."""
    values = elements.numbers()
    if values.size != math.prod(dimensions):
        raise ValueError(f"a matrix of {dimensions} holds {values.size} numbers")
    array: NDArray[Any] = values.astype(kind)  # a copy, which does not keep the rest of the file in memory
    if is_complex:
        imaginary = elements.numbers()
        if imaginary.size != array.size:
            raise ValueError(f"a matrix of {array.size} numbers has {imaginary.size} imaginary parts")
        array = array + 1j * imaginary
    return array.reshape(dimensions, order="F")


def _rows(text: str, dimensions: tuple[int, ...]) -> str | list[str]:
    """Characters, column by column, as one string, or one per row."""
    rows = dimensions[0]
    return text if rows <= 1 else [text[row::rows] for row in range(min(rows, len(text)))]


def _field_names(elements: _Elements) -> list[str]:
    size, *others = elements.integers() or (0,)
    kind, names = elements.next()
    if kind != INT8 or others or size < 1 or len(names) % size:
        raise ValueError(f"{len(names)} bytes of field names are not names of the stated length")
    parts = (bytes(names[start : start + size]) for start in range(0, len(names), size))
    return [part.split(b"\0")[0].decode("latin-1") for part in parts]
