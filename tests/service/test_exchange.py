"""The files between the service and its parser processes: written as the library reads them, read with suspicion."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from mri_recon_service.uploads.protocol import read_arrays, read_json, write_arrays

KSPACE = np.arange(24, dtype=np.float32).reshape(1, 1, 4, 6).astype(np.complex64)
LIMIT = 1 << 12


def crafted(path: Path, header: Any, content: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + content)
    return path


def entry(shape: list[Any], end: Any, dtype: str = "C64", begin: Any = 0) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_there_and_back(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "kspace": KSPACE,
        "target": np.ones((1, 3, 5), np.float32),
        "mask": np.array([True, False, True]),
        "mask_file": np.array([[1, 0]], np.int16),
    }
    write_arrays(tmp_path / "a", arrays)
    ours, theirs = read_arrays(tmp_path / "a", max_bytes=LIMIT), load_file(tmp_path / "a")
    assert set(ours) == set(theirs) == set(arrays)
    for name, array in arrays.items():
        for other in (ours[name], theirs[name]):
            assert other.dtype == array.dtype
            np.testing.assert_array_equal(other, array)
    write_arrays(tmp_path / "a", {"mask": arrays["mask"]})  # in the place of what is there
    assert set(load_file(tmp_path / "a")) == {"mask"}


GOOD = entry([1, 1, 4, 6], 192)


@pytest.mark.parametrize(
    ("header", "content"),
    [
        ({}, b""),
        ({"mask": entry([6], 6, "U8")}, bytes(6)),
        ({"kspace": GOOD}, bytes(191)),
        ({"kspace": GOOD}, bytes(193)),
        ({"kspace": entry([1, 1, 4, 6], 191)}, bytes(191)),
        ({"kspace": entry([1, 1, 4, 6], 192, "F64")}, bytes(192)),
        ({"kspace": entry([1, 1, 4, 6], 192, "PICKLE")}, bytes(192)),
        ({"kspace": entry([4, 6], 192)}, bytes(192)),
        ({"kspace": entry([1, 1, -4, -6], 192)}, bytes(192)),
        ({"kspace": entry([1, 1, 4.0, 6], 192)}, bytes(192)),
        ({"kspace": entry([1, 1, True, 24], 192)}, bytes(192)),
        ({"kspace": entry([1] * 40, 8)}, bytes(8)),
        ({"kspace": entry([1 << 40, 1, 1 << 40, 1], 1 << 83)}, b""),
        ({"kspace": entry([1, 1, 64, 64], 1 << 15)}, bytes(1 << 15)),  # more than the limit
        ({"kspace": entry([1, 1, 4, 6], 200, begin=8)}, bytes(200)),
        ({"kspace": GOOD, "target": entry([1, 4, 6], 96, "F32")}, bytes(192)),  # one over the other
        ({"kspace": GOOD, "mask": entry([30, 30], 1092, "U8", 192)}, bytes(1092)),  # more than a plane
        ({"kspace": GOOD, "other": entry([1], 193, "U8", 192)}, bytes(193)),
        ({"kspace": GOOD | {"more": 1}}, bytes(192)),
        ({"kspace": [1]}, bytes(192)),
        ({"kspace": entry("1146", 192)}, bytes(192)),  # type: ignore[arg-type]
        ([], b""),
        (b"[" * 60_000, b""),
        (b"\xff\xfe", b""),
        (b"{", b""),
        (b" " * 70_000, b""),
    ],
)
def test_what_is_no_answer(tmp_path: Path, header: Any, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"xpect|decode"):
        read_arrays(crafted(tmp_path / "a", header, content), max_bytes=LIMIT)


def test_lengths_that_lie(tmp_path: Path) -> None:
    for length in (1 << 63, 1 << 16, 500):
        with pytest.raises(ValueError, match="expected"):
            read_arrays(crafted(tmp_path / "a", {"kspace": GOOD}, bytes(192), length), max_bytes=LIMIT)


def test_what_is_no_file(tmp_path: Path) -> None:
    write_arrays(tmp_path / "real", {"kspace": KSPACE})
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(OSError, match="symbolic links"):
        read_arrays(tmp_path / "link", max_bytes=LIMIT)
    os.mkfifo(tmp_path / "pipe")  # must not wait for a writer
    with pytest.raises(ValueError, match="expected a regular file"):
        read_arrays(tmp_path / "pipe", max_bytes=LIMIT)
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "absent", max_bytes=LIMIT)


def test_json() -> None:
    assert read_json(b'{"a": [1]}') == {"a": [1]}
    for text in (b"1", b"[]", b"{", b"[" * 100_000, b'{"a":' * 100_000):
        with pytest.raises(ValueError, match=r"xpect"):
            read_json(text)
