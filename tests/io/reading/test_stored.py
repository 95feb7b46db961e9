"""Where HDF5 arrays are stored: damage that ends the process or makes the library hang is refused before it reads."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mri_recon.errors import FormatError
from mri_recon.io import load
from tests.io.mrd_files import Complex, mrd, readouts_of, xml


def _kspace() -> Complex:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((2, 2, 12, 10)) + 1j * rng.standard_normal((2, 2, 12, 10))).astype(np.complex64)


def _mrd(folder: Path) -> Path:
    return mrd(folder / "a.h5", readouts_of(_kspace()), xml((12, 10, 1)))


def _patched(path: Path, old: bytes, new: bytes, count: int = 1) -> Path:
    content = path.read_bytes()
    assert content.count(old) >= 1
    path.write_bytes(content.replace(old, new, count))
    return path


@pytest.mark.parametrize("size", [0, 3])
def test_a_chunk_that_is_shorter_than_its_checksum(size: int, tmp_path: Path) -> None:
    """The library takes the four bytes of the checksum off the length, whatever it is, and ends the process."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", data=_kspace()[:, 0], chunks=(1, 12, 10), fletcher32=True)
        info = file["kspace"].id.get_chunk_info(0)
    key = struct.pack("<II", info.size, 0)
    with pytest.raises(FormatError, match="readable HDF5 file, got a.h5, whose index of '/kspace' is damaged"):
        load(_patched(path, key, struct.pack("<II", size, 0)))


def test_a_chunk_outside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", data=_kspace()[:, 0], chunks=(1, 12, 10))
        info = file["kspace"].id.get_chunk_info(1)
    with pytest.raises(FormatError, match="whose index of '/kspace' is damaged"):
        load(_patched(path, struct.pack("<Q", info.byte_offset), struct.pack("<Q", 10**6)))


@pytest.mark.parametrize("length", [2**31 - 1, 47, 1])
def test_a_list_with_another_length_than_is_stored(length: int, tmp_path: Path) -> None:
    """The library takes and converts memory for the declared length first: eight gigabytes in the first case."""
    path = _mrd(tmp_path)
    with h5py.File(path, "r") as file:
        data = file["dataset/data"]
        _, record = data.id.read_direct_chunk((3,))
        reference = record[356:372]
    with pytest.raises(FormatError, match=r"a.h5"):
        load(_patched(path, reference, struct.pack("<I", length) + reference[4:]))


def test_numbers_in_a_format_that_no_machine_has(tmp_path: Path) -> None:
    """A flipped bit in the exponent's bias: converting such records ends the process."""
    path = _mrd(tmp_path)
    single = struct.pack("<HHBBBBI", 0, 32, 23, 8, 0, 23, 127)
    with pytest.raises(FormatError, match="numbers in another binary format: it is damaged, or store it again"):
        load(_patched(path, single, struct.pack("<HHBBBBI", 0, 32, 23, 8, 0, 23, 127 + 512)))


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (7,)},
        {"chunks": (7,), "compression": "gzip"},
        {"chunks": (3,), "compression": "gzip", "shuffle": True},
        {"chunks": (3,), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {},
    ],
)
def test_records_of_every_layout_are_read(options: dict[str, Any], tmp_path: Path) -> None:
    source = _mrd(tmp_path)
    with h5py.File(source, "r") as old, h5py.File(tmp_path / "b.h5", "w") as new:
        group = new.create_group("dataset")
        old.copy("dataset/xml", group)
        data = old["dataset/data"]
        made = group.create_dataset("data", shape=data.shape, dtype=data.dtype, **options)
        made[...] = data[...]
    np.testing.assert_array_equal(load(tmp_path / "b.h5").samples, _kspace())


def test_records_packed_otherwise_are_refused(tmp_path: Path) -> None:
    source = _mrd(tmp_path)
    with h5py.File(source, "r") as old, h5py.File(tmp_path / "b.h5", "w") as new:
        group = new.create_group("dataset")
        old.copy("dataset/xml", group)
        made = group.create_dataset("data", shape=(20,), dtype=old["dataset/data"].dtype, compression="lzf")
        made[...] = old["dataset/data"][...]
    with pytest.raises(FormatError, match="or by gzip in b.h5, got another filter.*h5repack -f NONE"):
        load(tmp_path / "b.h5")


def test_a_text_with_another_length_than_is_stored(tmp_path: Path) -> None:
    path = _mrd(tmp_path)
    length = len(xml((12, 10, 1)).encode())
    with h5py.File(path, "r") as file:
        start = file["dataset/xml"].id.get_offset()
    content = bytearray(path.read_bytes())
    assert struct.unpack_from("<I", content, start)[0] == length
    struct.pack_into("<I", content, start, 2**31 - 1)
    path.write_bytes(content)
    with pytest.raises(FormatError, match="whose index of '/dataset/xml' is damaged"):
        load(path)
