"""NumPy files: arrays in, and nothing that a header or an archive claims without having it."""

from __future__ import annotations

import io
import os
import tempfile
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mri_recon.errors import FormatError
from mri_recon.io import load
from mri_recon.masks.types import ColumnMask
from tests.support.damage import assert_cuts_are_refused, assert_flips_are_errors_or_harmless


def npy_header(shape: tuple[int, ...], descr: str = "<c8", *, fortran: bool = False) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": fortran, "shape": shape})
    return out.getvalue()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<c8", ">c8", "<c16", ">c16"])
@pytest.mark.parametrize(
    ("shape", "wanted"), [((7, 5), (1, 1, 7, 5)), ((3, 7, 5), (3, 1, 7, 5)), ((3, 2, 7, 5), (3, 2, 7, 5))]
)
def test_ranks_types_and_orders(noise: Any, tmp_path: Path, shape: Any, wanted: Any, dtype: str, order: Any) -> None:
    kspace = noise(*shape)
    np.save(tmp_path / "a.npy", np.asarray(kspace.astype(dtype), order=order))
    scan = load(tmp_path / "a.npy")
    np.testing.assert_array_equal(scan.kspace, kspace.reshape(wanted))
    assert scan.kspace.is_contiguous()
    assert scan.meta["axes_assumed"] is True
    assert scan.meta["format"] == "NumPy .npy"
    assert scan.recon_size == (7, 5)


@settings(max_examples=20)
@given(st.permutations(["slice", "coil", "readout", "phase"]), st.booleans())
def test_named_axes_in_any_order(names: list[str], commas: bool) -> None:
    rng = np.random.default_rng(0)
    kspace = (rng.standard_normal((3, 2, 7, 5)) + 1j).astype(np.complex64)
    order = ["slice", "coil", "readout", "phase"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npy"
        np.save(path, kspace.transpose([order.index(name) for name in names]))
        scan = load(path, axes=(", " if commas else " ").join(names))
    np.testing.assert_array_equal(scan.kspace, kspace)
    assert scan.meta["axes_assumed"] is False


def test_axes_that_a_scan_lacks_get_length_one(noise: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", noise(4, 7, 5))
    assert load(tmp_path / "a.npy", axes="coil readout phase").kspace.shape == (1, 4, 7, 5)
    assert load(tmp_path / "a.npy", axes="coil phase readout").kspace.shape == (1, 4, 5, 7)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("coil readout", "expected axes out of slice, coil, readout, phase, each once, readout and phase among them"),
        ("coil readout readout", "each once"),
        ("h w phase", "got 'h w phase': write e.g. 'coil readout phase'"),
        ("readout phase", r"expected one name an axis, got 'readout phase' for a.npy of shape \(4, 7, 5\)"),
        ("", "expected axes out of"),
    ],
)
def test_axes_that_do_not_fit(noise: Any, tmp_path: Path, axes: str, message: str) -> None:
    np.save(tmp_path / "a.npy", noise(4, 7, 5))
    with pytest.raises(FormatError, match=message):
        load(tmp_path / "a.npy", axes=axes)


@pytest.mark.parametrize("shape", [(), (5,), (1, 1, 1, 2, 2)])
def test_ranks_that_are_no_scan(noise: Any, tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.asarray(noise(*shape)))
    with pytest.raises(FormatError, match="expected k-space of 2 to 4 axes, a.npy has shape"):
        load(tmp_path / "a.npy")


def test_slices(noise: Any, tmp_path: Path) -> None:
    kspace = noise(4, 7, 5)
    np.save(tmp_path / "a.npy", kspace)
    np.testing.assert_array_equal(load(tmp_path / "a.npy", slices=slice(1, 3)).kspace[:, 0], kspace[1:3])


def test_an_archive(noise: Any, tmp_path: Path) -> None:
    kspace, mask = noise(2, 7, 5), np.array([1, 0, 1, 1, 0])
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", kspace=kspace * mask, mask=mask, other=np.arange(3))
        scan = load(tmp_path / "a.npz")
        np.testing.assert_array_equal(scan.kspace[:, 0], kspace * mask)
        assert isinstance(scan.mask, ColumnMask)
        assert scan.mask.lines.tolist() == [True, False, True, True, False]
        assert scan.meta["variable"] == "kspace"
        assert not scan.fully_sampled


def test_which_array_of_an_archive(noise: Any, tmp_path: Path) -> None:
    kspace = noise(7, 5)
    np.savez(tmp_path / "a.npz", data=2 * kspace, ksp=kspace, x=3 * kspace)
    np.testing.assert_array_equal(load(tmp_path / "a.npz").kspace[0, 0], kspace)
    np.testing.assert_array_equal(load(tmp_path / "a.npz", variable="x").kspace[0, 0], 3 * kspace)
    with pytest.raises(
        FormatError, match="expected an array 'y' in a.npz, found: 'data', 'ksp', 'x': choose one of these"
    ):
        load(tmp_path / "a.npz", variable="y")
    np.savez(tmp_path / "b.npz", a=kspace, b=kspace)
    with pytest.raises(FormatError, match="expected one array in b.npz, found several: 'a', 'b': name the k-space"):
        load(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", mask=kspace)
    with pytest.raises(FormatError, match="expected an array of k-space in c.npz, found: 'mask'"):
        load(tmp_path / "c.npz")
    np.save(tmp_path / "d.npy", kspace)
    with pytest.raises(FormatError, match="expected no variable for d.npy, got 'x'"):
        load(tmp_path / "d.npy", variable="x")


# ---------------------------------------------------------------------------------------------- content


@pytest.mark.parametrize(
    ("dtype", "why"),
    [
        (np.float32, "is not joined as real and imaginary part unless it is named, e.g. axes='readout phase complex'"),
        (np.int16, "is not joined"),
        (np.bool_, "images and masks are no k-space"),
        (np.uint8, "images and masks are no k-space"),
    ],
)
def test_real_arrays_are_not_taken(tmp_path: Path, dtype: Any, why: str) -> None:
    np.save(tmp_path / "a.npy", np.ones((7, 5, 2), dtype))
    with pytest.raises(FormatError, match=f"expected complex k-space in a.npy, got .* of shape .*{why}"):
        load(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("kspace", "message"),
    [
        (np.zeros((7, 5), np.complex64), "expected k-space with signal, a.npy has zeros only"),
        (
            np.zeros((0, 5), np.complex64),
            r"expected k-space with samples, a.npy has an empty array of shape \(1, 1, 0, 5\)",
        ),
        (np.full((7, 5), np.nan + 0j, np.complex64), "expected finite k-space, a.npy has NaN or infinite samples"),
        (np.full((7, 5), 1j * np.inf, np.complex64), "expected finite k-space"),
        (np.full((7, 5), 1e300 + 0j), "or larger ones than single precision holds"),
    ],
)
def test_contents_that_are_no_k_space(tmp_path: Path, kspace: Any, message: str) -> None:
    np.save(tmp_path / "a.npy", kspace)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FormatError, match=message):
            load(tmp_path / "a.npy")


# ---------------------------------------------------------------------------------------------- attacks


class Canary:
    """A pickle that leaves a trace when somebody loads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    objects = np.empty((2, 2), dtype=object)
    objects[:] = Canary(trace)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", kspace=objects)
    (tmp_path / "raw.npy").write_bytes(npy_header((2, 2), "|O") + b"cos\nmkdir\n")
    for name in ("a.npy", "a.npz", "raw.npy"):
        with pytest.raises(FormatError, match="got pickled objects, which are never loaded"):
            load(tmp_path / name)
    assert not trace.exists()


def test_a_bare_pickle_is_not_a_known_format(tmp_path: Path) -> None:
    import pickle

    (tmp_path / "a.npy").write_bytes(pickle.dumps(Canary(tmp_path / "trace")))
    with pytest.raises(FormatError, match="expected fastMRI HDF5"):
        load(tmp_path / "a.npy")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("descr", ["|V8", "<U4", "|S4", "<M8[s]"])
def test_other_elements_are_refused(tmp_path: Path, descr: str) -> None:
    (tmp_path / "a.npy").write_bytes(npy_header((2, 2), descr) + b"\0" * 64)
    with pytest.raises(FormatError, match="expected numbers in a.npy, got elements of another kind"):
        load(tmp_path / "a.npy")


def test_declared_sizes_are_checked_before_memory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy_header((1 << 20, 1 << 20)))
    with pytest.raises(
        FormatError, match=r"expected at most 17179869184 bytes, a.npy declares shape \(1048576, 1048576\)"
    ):
        load(tmp_path / "a.npy")
    (tmp_path / "b.npy").write_bytes(npy_header((1 << 10, 1 << 10)))
    with pytest.raises(
        FormatError, match=r"expected 8388608 bytes for shape \(1024, 1024\) in b.npy, it holds .*cut short"
    ):
        load(tmp_path / "b.npy")
    (tmp_path / "c.npy").write_bytes(npy_header((2, -3)) + b"\0" * 64)
    with pytest.raises(FormatError, match=r"c\.npy declares \(2, -3\)|format in c\.npy"):
        load(tmp_path / "c.npy")
    np.save(tmp_path / "d.npy", np.ones((8, 8), np.complex64))
    with pytest.raises(FormatError, match="expected at most 100 bytes"):
        load(tmp_path / "d.npy", max_bytes=100)


def test_zip_bombs(tmp_path: Path) -> None:
    """100 MB of zeros deflate to 100 kB; the ratio alone is legal, so the limit decides; a lie about it does too."""
    content = npy_header((1 << 12, 1 << 11)) + bytes(1 << 26)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("kspace.npy", content)
    with pytest.raises(FormatError, match="expected at most 1048576 bytes"):
        load(tmp_path / "a.npz", max_bytes=1 << 20)
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("kspace.npy", content)
    with pytest.raises(
        FormatError, match="expected a stored or deflated array, 'kspace.npy' of b.npz is packed otherwise"
    ):
        load(tmp_path / "b.npz")
    # A directory that claims far more than the member can unpack to.
    with zipfile.ZipFile(tmp_path / "c.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("kspace.npy", npy_header((1 << 12, 1 << 12)) + bytes(1000))
        size = archive.getinfo("kspace.npy").file_size
    raw = bytearray((tmp_path / "c.npz").read_bytes())
    central = raw.rindex(b"PK\x01\x02")
    assert int.from_bytes(raw[central + 24 : central + 28], "little") == size
    raw[central + 24 : central + 28] = (1 << 28).to_bytes(4, "little")
    (tmp_path / "c.npz").write_bytes(raw)
    with pytest.raises(FormatError, match="declares 268435456 bytes but stores .*decompression bomb"):
        load(tmp_path / "c.npz")


def test_entries_that_share_bytes_or_a_name(noise: Any, tmp_path: Path) -> None:
    content = npy_header((7, 5)) + noise(7, 5).tobytes()
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("kspace.npy", content)
        archive.writestr("mask.npy", content)
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    second = raw.rindex(b"PK\x01\x02")
    raw[second + 42 : second + 46] = bytes(4)  # the entry begins where the first one does
    (tmp_path / "a.npz").write_bytes(raw)
    with pytest.raises(FormatError, match=r"expected arrays beside each other in a\.npz, they overlap: it is a bomb"):
        load(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own about the name
        archive.writestr("kspace.npy", content)
        archive.writestr("kspace.npy", content)
    with pytest.raises(FormatError, match=r"expected each array of b\.npz once, got two of one name"):
        load(tmp_path / "b.npz")


def test_a_header_that_unpacks_to_much(tmp_path: Path) -> None:
    """NumPy reads as much as the header's length says before it finds it too long."""
    head = b"\x93NUMPY\x02\x00" + (1 << 26).to_bytes(4, "little")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("kspace.npy", head + b" " * (1 << 26))
    tracemalloc.start()
    with pytest.raises(FormatError, match=r"expected an array in NumPy's format in 'kspace\.npy' of a\.npz"):
        load(tmp_path / "a.npz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 22


def test_many_members(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for number in range(1025):
            archive.writestr(f"{number}.npy", b"")
    with pytest.raises(FormatError, match="expected at most 1024 arrays in a.npz, got 1025"):
        load(tmp_path / "a.npz")


def test_paths_inside_an_archive_are_only_names(noise: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("../../evil.npy", npy_header((7, 5)) + noise(7, 5).tobytes())
    assert load(tmp_path / "a.npz").kspace.shape == (1, 1, 7, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz"]


@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_cut_short_and_flipped(noise: Any, tmp_path: Path, save: Any) -> None:
    path = tmp_path / ("a.npy" if save is np.save else "a.npz")
    if save is np.save:
        np.save(path, noise(7, 5))
    else:
        save(path, kspace=noise(7, 5))
    assert_cuts_are_refused(path, 7)
    assert_flips_are_errors_or_harmless(path)
