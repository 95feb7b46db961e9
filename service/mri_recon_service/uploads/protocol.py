"""Define the messages between the service and its parser processes, and write and read their arrays.

Requests and answers are lines of JSON; arrays are a safetensors file. Each side validates the data of the other.
"""

from __future__ import annotations

import json
import math
import os
import signal
import stat
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

__all__ = [
    "ANSWER_FILE",
    "DTYPES",
    "END_WORKER",
    "MAX_HEADER",
    "NO_ROOM",
    "NO_ROOM_STATUS",
    "TOO_LARGE",
    "Findings",
    "ParserConfig",
    "Refusal",
    "Request",
    "read_arrays",
    "read_json",
    "write_arrays",
]

ANSWER_FILE = "answer.safetensors"
"""The arrays of an answer, in the outbox."""

MAX_HEADER = 2**16
"""Largest header of that file, in bytes."""

NO_ROOM = "OutputError"
"""The error of a `Refusal` whose arrays could not be written."""

TOO_LARGE = "TooLargeError"
"""The error of a `Refusal` with the size of an array that exceeds `Request.max_bytes`."""

NO_ROOM_STATUS = 4
"""Exit status of a template that could not write its first files."""

END_WORKER = signal.SIGUSR1
"""Signal that asks the template to end its worker and to fork another."""

DTYPES = {
    "complex64": "C64",
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}
"""Name of a type in NumPy, and in safetensors."""

_MAX_AXES = 16
_NUMBERS = {short: np.dtype(name) for name, short in DTYPES.items()}
_ALLOWED: dict[str, set[str]] = {
    "kspace": {"C64"},
    "target": {"F32"},
    "mask": set(DTYPES.values()),
    "mask_file": set(DTYPES.values()),
}
_RANKS = {"kspace": 4, "target": 3}
_LARGEST_MASK_ITEM = 8
_Size = Annotated[int, Field(gt=0, lt=2**31)]
_Column = Annotated[int, Field(gt=-(2**31), lt=2**31)]


class ParserConfig(BaseModel):
    """Configuration of a parser process.

    Attributes:
        inbox: folder of the files that it reads.
        outbox: folder for its arrays.
        requests, answers, events: inherited file descriptors.
        memory_bytes: address space beyond that of the imported readers.
        file_bytes: size of the largest file that it may write.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    inbox: Path
    outbox: Path
    requests: int
    answers: int
    events: int
    memory_bytes: int
    file_bytes: int


class Request(BaseModel):
    """A file to read, with its mask.

    Attributes:
        number: number of the request, which the answer repeats.
        scan, mask: paths in the inbox.
        axes, variable: as in `mri_recon.io.load`.
        last: whether the worker ends after this request.
        max_bytes: largest array, as in `mri_recon.io.load`.
        memory_bytes: address space beyond that of the imported readers, at most that of the configuration.
        cpu_seconds: processor time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    scan: str
    mask: str | None
    axes: str | None
    variable: str | None
    last: bool
    max_bytes: int
    memory_bytes: int
    cpu_seconds: float


class Findings(BaseModel):
    """The parts of `mri_recon.io.RawScan` that are no arrays."""

    model_config = ConfigDict(strict=True, extra="forbid")

    number: int
    name: Annotated[str, StringConstraints(max_length=300)]
    meta: dict[str, JsonValue]
    padding: Annotated[list[_Column], Field(min_length=2, max_length=2)] | None
    recon_size: Annotated[list[_Size], Field(min_length=2, max_length=2)] | None
    target_source: Annotated[str, StringConstraints(max_length=300)]


class Refusal(BaseModel):
    """The error that a reader raised, with the size of an array that is too large, or the field that does not fit."""

    model_config = ConfigDict(strict=True, extra="forbid")

    number: int
    error: Annotated[str, StringConstraints(max_length=60)]
    message: Annotated[str, StringConstraints(max_length=8000)]
    size: Annotated[int, Field(ge=0)] | None = None
    argument: Literal["", "axes", "variable"] = ""


def write_arrays(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write a safetensors file straight from the arrays. A copy of large k-space would double its memory.

    The file may exist: a process that makes no files writes into one that is there.
    Source: the format as github.com/huggingface/safetensors describes it.
    """
    header: dict[str, Any] = {}
    position = 0
    for name, array in arrays.items():
        end = position + array.nbytes
        header[name] = {
            "dtype": DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def read_arrays(path: Path, *, max_bytes: int) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of an untrusted safetensors file. Each is checked before memory is allocated for it.

    They are copied, never mapped: the writer may still change the file.

    Args:
        path: file to read.
        max_bytes: largest size of each array.

    Raises:
        ValueError: the file holds more or less than the arrays of a scan, one after another, in their types and ranks.
        OSError: the file does not exist.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise ValueError("expected a regular file")
        length = int.from_bytes(_exactly(stream, 8), "little")
        if length > MAX_HEADER:
            raise ValueError(f"expected a header of at most {MAX_HEADER} bytes, got {length}")
        header = read_json(_exactly(stream, length))
        if "kspace" not in header:
            raise ValueError("expected k-space")
        places = {name: _place(name, one, max_bytes) for name, one in header.items()}
        plane = math.prod(places["kspace"][0][-2:]) * _LARGEST_MASK_ITEM
        if any(end - begin > plane for name, (_, _, begin, end) in places.items() if name in ("mask", "mask_file")):
            raise ValueError("expected masks with one entry for each sample")
        position = 0
        for _, _, begin, end in places.values():
            if begin != position:
                raise ValueError("expected arrays one after another")
            position = end
        if info.st_size != 8 + length + position:
            raise ValueError(f"expected {8 + length + position} bytes, got {info.st_size}")
        return {name: _fill(stream, shape, dtype) for name, (shape, dtype, _, _) in places.items()}


def read_json(data: bytes | bytearray) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ValueError: the text is no JSON object, or nested too deeply.
    """
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError("expected flat JSON") from error
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")
    return value


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise ValueError("expected more bytes")
    return data


def _place(name: str, one: Any, max_bytes: int) -> tuple[tuple[int, ...], np.dtype[Any], int, int]:
    """Check an entry of the header. Returns the array's shape, type, first byte and the byte after its last."""
    if name not in _ALLOWED or not isinstance(one, dict) or set(one) != {"dtype", "shape", "data_offsets"}:
        raise ValueError("expected an array of a scan")
    shape, offsets = one["shape"], one["data_offsets"]
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or len(numbers) > _MAX_AXES:
            raise ValueError("expected a list of numbers")
        if not all(type(number) is int and 0 <= number < 2**62 for number in numbers):
            raise ValueError("expected whole numbers")
    if one["dtype"] not in _ALLOWED[name] or len(shape) != _RANKS.get(name, len(shape)) or len(offsets) != 2:
        raise ValueError(f"expected another type or rank of {name}")
    dtype = _NUMBERS[one["dtype"]]
    size = math.prod(shape) * dtype.itemsize
    if size > max_bytes or size != offsets[1] - offsets[0]:
        raise ValueError(f"expected another size of {name}")
    return tuple(shape), dtype, offsets[0], offsets[1]


def _fill(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    array = np.empty(shape, dtype=dtype)
    view: memoryview = array.reshape(-1).view(np.uint8).data
    while view:
        count = stream.readinto(view)  # type: ignore[attr-defined]  # an unbuffered file has it
        if not count:
            raise ValueError("expected more bytes")
        view = view[count:]
    return array
