"""MATLAB v5 files, written by SciPy and by hand."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from mri_recon.errors import FormatError
from mri_recon.io import load
from mri_recon.masks.types import ColumnMask
from tests.support.damage import assert_cuts_are_refused, assert_flips_are_errors_or_harmless


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("shape", "wanted", "order"),
    [
        ((7, 5), (1, 1, 7, 5), (0, 1)),
        ((7, 5, 3), (3, 1, 7, 5), (2, 0, 1)),
        ((7, 5, 2, 3), (3, 2, 7, 5), (3, 2, 0, 1)),
    ],
)
def test_ranks(noise: Any, tmp_path: Path, shape: Any, wanted: Any, order: Any, compress: bool) -> None:
    kspace = noise(*shape)
    scipy.io.savemat(tmp_path / "a.mat", {"kspace": kspace.astype(np.complex128)}, do_compression=compress)
    scan = load(tmp_path / "a.mat")
    np.testing.assert_array_equal(scan.kspace, kspace.transpose(order).reshape(wanted))
    assert scan.meta["format"] == "MATLAB v5"
    assert scan.meta["variable"] == "kspace"
    assert scan.meta["axes_assumed"] is True


def test_named_axes_and_slices(noise: Any, tmp_path: Path) -> None:
    kspace = noise(4, 7, 5)
    scipy.io.savemat(tmp_path / "a.mat", {"x": kspace})
    np.testing.assert_array_equal(load(tmp_path / "a.mat", axes="coil readout phase").kspace[0], kspace)
    scan = load(tmp_path / "a.mat", axes="slice readout phase", slices=slice(2, 3))
    np.testing.assert_array_equal(scan.kspace[:, 0], kspace[2:3])


@pytest.mark.parametrize("compress", [False, True])
def test_which_variable(noise: Any, tmp_path: Path, compress: bool) -> None:
    kspace, mask = noise(7, 5), np.array([[1, 0, 1, 1, 0]])
    content = {
        "text": "abc",
        "data": 2 * kspace,
        "ksp": kspace * mask,
        "mask": mask,
        "cells": np.array([1, "a"], object),
    }
    scipy.io.savemat(tmp_path / "a.mat", content, do_compression=compress)
    scan = load(tmp_path / "a.mat")
    np.testing.assert_array_equal(scan.kspace[0, 0], kspace * mask)
    assert isinstance(scan.mask, ColumnMask)
    assert scan.mask.lines.tolist() == [True, False, True, True, False]
    np.testing.assert_array_equal(load(tmp_path / "a.mat", variable="data").kspace[0, 0], 2 * kspace)
    with pytest.raises(
        FormatError, match="expected an array 'z' in a.mat, found: 'data', 'ksp', 'mask': choose one of these"
    ):
        load(tmp_path / "a.mat", variable="z")


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("abc", "text"),
        (np.array([1, "a"], object), "cell"),
        ({"field": 1.0}, "struct"),
        (scipy.sparse.csc_array(np.eye(3)), "sparse"),
    ],
)
def test_what_is_no_array_of_numbers(tmp_path: Path, value: Any, kind: str, compress: bool) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"kspace": value}, do_compression=compress)
    with pytest.raises(FormatError, match=f"expected numbers in 'kspace' of a.mat, got {kind}: save an array"):
        load(tmp_path / "a.mat", variable="kspace")
    with pytest.raises(FormatError, match=rf"expected an array of k-space in a.mat, found 'kspace' \({kind}\)"):
        load(tmp_path / "a.mat")


def test_real_arrays_are_not_taken(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"image": np.ones((7, 5))})
    with pytest.raises(
        FormatError, match=r"expected complex k-space in 'image' of a.mat, got float64 of shape \(7, 5\)"
    ):
        load(tmp_path / "a.mat")


# ---------------------------------------------------------------------------------------------- by hand


def element(
    shape: tuple[int, ...],
    parts: list[bytes],
    *,
    order: str = "<",
    name: bytes = b"kspace",
    flags: int = 0x0806,
    kind: int = 9,
) -> bytes:
    """A matrix element as the format's description has it, the parts' lengths as they are."""

    def part(code: int, data: bytes) -> bytes:
        return struct.pack(f"{order}II", code, len(data)) + data + b"\0" * (-len(data) % 8)

    body = (
        part(6, struct.pack(f"{order}II", flags, 0))
        + part(5, struct.pack(f"{order}{len(shape)}i", *shape))
        + part(1, name)
    )
    body += b"".join(part(kind, data) for data in parts)
    return struct.pack(f"{order}II", 14, len(body)) + body


def mat(*elements: bytes, order: str = "<") -> bytes:
    version = struct.pack(f"{order}H", 0x0100) + (b"IM" if order == "<" else b"MI")
    return b"MATLAB 5.0 MAT-file".ljust(124) + version + b"".join(elements)


def deflated(data: bytes) -> bytes:
    packed = zlib.compress(data, 9)
    return struct.pack("<II", 15, len(packed)) + packed


def test_big_endian(tmp_path: Path) -> None:
    values = np.arange(1.0, 7.0)
    parts = [values.astype(">f8").tobytes(), (-values).astype(">f8").tobytes()]
    (tmp_path / "a.mat").write_bytes(mat(element((3, 2), parts, order=">"), order=">"))
    wanted = (values - 1j * values).reshape(2, 3).T
    np.testing.assert_array_equal(load(tmp_path / "a.mat").kspace[0, 0], wanted.astype(np.complex64))


def test_integers_stored_for_doubles(tmp_path: Path) -> None:
    """MATLAB stores a double array whose values fit into bytes as bytes."""
    values = np.arange(1, 7, dtype=np.uint8)
    (tmp_path / "a.mat").write_bytes(mat(deflated(element((3, 2), [values.tobytes()] * 2, kind=2))))
    assert load(tmp_path / "a.mat").kspace[0, 0].tolist() == [[1 + 1j, 4 + 4j], [2 + 2j, 5 + 5j], [3 + 3j, 6 + 6j]]


@pytest.mark.parametrize("pack", [bytes, deflated])
def test_declared_sizes_are_checked_before_memory_is_taken(tmp_path: Path, pack: Any) -> None:
    (tmp_path / "a.mat").write_bytes(mat(pack(element((1 << 20, 1 << 20), [b"\0" * 64] * 2))))
    with pytest.raises(
        FormatError, match=r"expected at most 17179869184 bytes, 'kspace' of a.mat declares shape \(1048576"
    ):
        load(tmp_path / "a.mat")
    (tmp_path / "a.mat").write_bytes(mat(pack(element((1 << 10, 1 << 10), [b"\0" * 64] * 2))))
    with pytest.raises(FormatError, match="expected numbers in 'kspace' of a.mat, which is damaged or cut short"):
        load(tmp_path / "a.mat")
    (tmp_path / "a.mat").write_bytes(mat(pack(element((3, -2), [b"\0" * 64] * 2))))
    with pytest.raises(FormatError, match=r"a.mat declares shape \(3, -2\): it is damaged"):
        load(tmp_path / "a.mat")


def test_a_small_array_that_unpacks_to_much(tmp_path: Path) -> None:
    """Two numbers declared, 64 MiB in the part that holds them."""
    (tmp_path / "a.mat").write_bytes(mat(deflated(element((2, 1), [bytes(1 << 26)] * 2))))
    with pytest.raises(FormatError, match="expected 32 bytes in 'kspace' of a.mat, it unpacks to more"):
        load(tmp_path / "a.mat")
    (tmp_path / "a.mat").write_bytes(mat(element((2, 1), [bytes(1 << 20)] * 2)))
    with pytest.raises(FormatError, match="expected 32 bytes in 'kspace' of a.mat, it holds"):
        load(tmp_path / "a.mat")


def test_a_name_that_unpacks_to_much(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(mat(deflated(element((2, 1), [bytes(16)] * 2, name=bytes(1 << 26)))))
    with pytest.raises(FormatError, match="expected a MATLAB v5 file, got a.mat, which is damaged or cut short"):
        load(tmp_path / "a.mat")


def test_more_declared_than_stored_can_unpack_to(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(mat(deflated(element((1 << 13, 1 << 12), [bytes(64)] * 2))))
    with pytest.raises(FormatError, match="declares 33554432 bytes but stores .*decompression bomb"):
        load(tmp_path / "a.mat")


def test_a_part_longer_than_its_element(tmp_path: Path) -> None:
    inner = bytearray(element((2, 1), [struct.pack("<2d", 1, 2)] * 2))
    at = inner.index(struct.pack("<II", 9, 16))
    inner[at + 4 : at + 8] = struct.pack("<I", 0xFFFFFFF0)
    for whole in (bytes(inner), deflated(bytes(inner))):
        (tmp_path / "a.mat").write_bytes(mat(whole))
        with pytest.raises(FormatError, match="expected numbers in 'kspace' of a.mat, which is damaged"):
            load(tmp_path / "a.mat")


def test_opaque_objects_are_passed_over(tmp_path: Path) -> None:
    opaque = element((1, 1), [], flags=0x11)
    good = element((2, 1), [struct.pack("<2d", 1, 2)] * 2, name=b"k")
    (tmp_path / "a.mat").write_bytes(mat(opaque, good))
    assert load(tmp_path / "a.mat").meta["variable"] == "k"


def test_other_versions_and_many_variables(tmp_path: Path) -> None:
    raw = bytearray(mat())
    raw[124:126] = struct.pack("<H", 0x0300)
    (tmp_path / "a.mat").write_bytes(raw)
    with pytest.raises(FormatError, match="a.mat has another version: save it with -v7 or as .npy"):
        load(tmp_path / "a.mat")
    one = element((1, 1), [bytes(8)] * 2)
    (tmp_path / "a.mat").write_bytes(mat(*[one] * 4097))
    with pytest.raises(FormatError, match="expected at most 4096 variables in a.mat, found more"):
        load(tmp_path / "a.mat")


@pytest.mark.parametrize("compress", [False, True])
def test_cut_short_and_flipped(noise: Any, tmp_path: Path, compress: bool) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"kspace": noise(7, 5)}, do_compression=compress)
    assert_cuts_are_refused(path, 11)
    assert_flips_are_errors_or_harmless(path)


@pytest.mark.real_data
def test_every_real_file_equals_what_scipy_reads(real_data: Path) -> None:
    files = sorted((real_data / "raw").glob("*/*.mat"))
    assert files
    for path in files:
        content = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
        (array,) = content.values()
        wanted = array if array.ndim == 2 else np.moveaxis(array, 2, 0)
        scan = load(path)
        np.testing.assert_array_equal(scan.kspace[:, 0].squeeze(), wanted.astype(np.complex64))
        assert scan.fully_sampled
        assert scan.target is not None
        found = np.abs(array).reshape(*array.shape[:2], -1).max(axis=(0, 2)) > 1e-8 * np.abs(array).max()
        np.testing.assert_array_equal(scan.support, found)


@pytest.mark.parametrize("is_complex", [False, True])
def test_numbers_of_a_type_that_does_not_exist_are_refused(is_complex: bool, tmp_path: Path) -> None:
    """SciPy would look it up outside its table, and end the process."""
    array = np.ones((4, 5, 3), np.complex64 if is_complex else np.float32)
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"kspace": array})
    content = bytearray(path.read_bytes())
    tag = struct.pack("<II", 7, 240)  # single precision, 60 numbers
    positions = [at for at in range(len(content) - 8) if content[at : at + 8] == tag]
    assert len(positions) == (2 if is_complex else 1)
    for position in positions:
        for kind in (0, 8, 39, 2**16 + 7, 2**31):
            changed = content.copy()
            struct.pack_into("<I", changed, position, kind)
            path.write_bytes(changed)
            with pytest.raises(FormatError, match="a.mat"):
                load(path)
