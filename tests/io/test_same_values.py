"""The same numbers come out of every reader, whatever type, byte order, layout and choice of slices."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mri_recon.errors import FormatError
from mri_recon.io import load

ORDER = ("slice", "coil", "readout", "phase")
SHAPE = (5, 2, 8, 6)
FIELDS = [("real", "imag"), ("r", "i"), ("re", "im"), ("Real", "Imag"), ("i", "r")]


def integers(seed: int) -> npt.NDArray[np.complex64]:
    """k-space of small integers: every type holds them exactly."""
    rng = np.random.default_rng(seed)
    return (rng.integers(-900, 900, SHAPE) + 1j * rng.integers(-900, 900, SHAPE)).astype(np.complex64)


def stored(kspace: npt.NDArray[Any], kind: str, part: str, order: str, fields: tuple[str, str]) -> npt.NDArray[Any]:
    """k-space as complex numbers, as records of two, or as an axis of 2, of parts of a type and byte order."""
    real = np.dtype(part).newbyteorder(order)  # type: ignore[arg-type]
    if kind == "complex":
        return kspace.astype({4: "c8", 8: "c16", 16: "c32"}[real.itemsize]).astype(
            np.dtype({4: "c8", 8: "c16", 16: "c32"}[real.itemsize]).newbyteorder(order)  # type: ignore[arg-type]
        )
    if kind == "records":
        pairs = np.empty(kspace.shape, dtype=[(name, real) for name in fields])
        by_name = {name.lower()[0]: name for name in fields}
        pairs[by_name["r"]], pairs[by_name["i"]] = kspace.real, kspace.imag
        return pairs
    return np.stack([kspace.real, kspace.imag], axis=-1).astype(real)


def write(path: Path, name: str, array: npt.NDArray[Any]) -> Path:
    match name:
        case "npy":
            np.save(path / "a.npy", array)
        case "npz":
            np.savez_compressed(path / "a.npz", kspace=array)
        case "npz-stored":
            np.savez(path / "a.npz", kspace=array)
        case "hdf5":
            with h5py.File(path / "a.h5", "w") as file:
                file.create_dataset("kspace", data=array)
        case "hdf5-chunks":
            with h5py.File(path / "a.h5", "w") as file:
                chunks = tuple(max(1, n // 2) for n in array.shape)
                file.create_dataset("kspace", data=array, chunks=chunks, compression="gzip", shuffle=True)
        case "mat":
            scipy.io.savemat(path / "a.mat", {"kspace": array}, do_compression=True)
        case "mat-hdf5":
            write_mat73(path / "a.mat", kspace=array)
    (found,) = path.iterdir()
    return found


def write_mat73(path: Path, **arrays: npt.NDArray[Any]) -> Path:
    """A file as MATLAB's save(..., '-v7.3') makes it."""
    classes = {"f8": "double", "f4": "single", "b1": "logical", "i2": "int16", "u1": "uint8", "u2": "uint16"}
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            if array.dtype.kind == "c":
                pairs = np.empty(array.shape, dtype=[("real", array.real.dtype), ("imag", array.real.dtype)])
                pairs["real"], pairs["imag"] = array.real, array.imag
                array, told = pairs, classes.get(array.real.dtype.str[1:], "double")
            else:
                told = "double" if array.dtype.names else classes.get(array.dtype.str[1:], "double")
                array = array.astype(np.uint8) if array.dtype.kind == "b" else array
            dataset = file.create_dataset(name, data=array.T)
            dataset.attrs["MATLAB_class"] = np.bytes_(told)
    raw = bytearray(path.read_bytes())
    raw[:128] = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Sat Nov 28".ljust(116) + bytes(8) + b"\x00\x02IM"
    path.write_bytes(raw)
    return path


READERS = ["npy", "npz", "npz-stored", "hdf5", "hdf5-chunks", "mat", "mat-hdf5"]


@st.composite
def cases(draw: Any) -> dict[str, Any]:
    reader = draw(st.sampled_from(READERS))
    kind = draw(st.sampled_from(["complex", "axis"] if reader == "mat" else ["complex", "records", "axis"]))
    if kind == "complex":
        parts = ["f4", "f8"] if reader.startswith("mat") else ["f4", "f8", "g"]
    else:
        parts = ["f4", "f8", "i2", "i4"] if reader == "mat" else ["f2", "f4", "f8", "g", "i2", "i4"]
    part = draw(st.sampled_from(parts))
    orders = "=" if reader == "mat" else "<>"
    if part == "g" and kind == "complex" and reader.startswith("hdf5"):
        orders = "="  # h5py 3.16 writes other ones with the wrong byte order declared
    return {
        "reader": reader,
        "kind": kind,
        "part": part,
        "order": draw(st.sampled_from(orders)),
        "fields": draw(st.sampled_from(FIELDS)),
        "names": draw(st.permutations(ORDER)),
        "layout": draw(st.sampled_from(["C", "F", "negative strides"])),
        "first": draw(st.booleans()),
        "seed": draw(st.integers(0, 99)),
        "slices": draw(
            st.one_of(
                st.none(),
                st.integers(-5, 4),
                st.lists(st.integers(-5, 4), min_size=1, max_size=7),
                st.builds(slice, st.integers(0, 2), st.integers(3, 7), st.integers(1, 3)),
                st.sampled_from([slice(None, None, -1), slice(3, 0, -2), slice(-2, None), slice(1, 4)]),
            )
        ),
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_the_same_values_come_out(case: dict[str, Any]) -> None:
    kspace = integers(case["seed"])
    names = list(case["names"])
    array = stored(
        kspace.transpose([ORDER.index(n) for n in names]), case["kind"], case["part"], case["order"], case["fields"]
    )
    if case["kind"] == "axis":
        names = ["complex", *names] if case["first"] else [*names, "complex"]
        array = np.moveaxis(array, -1, 0) if case["first"] else array
    array = np.asarray(array, order="F") if case["layout"] == "F" else array
    if case["layout"] == "negative strides":
        array = array[::-1].copy()[::-1]
    chosen = case["slices"]
    wanted = kspace if chosen is None else kspace[[chosen] if isinstance(chosen, int) else chosen]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), case["reader"], array)
        scan = load(path, axes=" ".join(names), slices=chosen)
    assert scan.kspace.dtype.is_complex
    np.testing.assert_array_equal(scan.kspace.numpy(), wanted)
    assert scan.meta["axes_assumed"] is False
    if chosen is None:
        assert "slices" not in scan.meta
    else:
        assert scan.meta["slices"] == np.arange(5)[[chosen] if isinstance(chosen, int) else chosen].tolist()
        assert scan.meta["num_slices_in_file"] == 5


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "slices", [5, -6, [0, 5], [], slice(2, 2), slice(9, None), True, [True, False], 1.5, "0", ["a"], slice(0, 4, 0)]
)
def test_slices_that_are_not_there(tmp_path: Path, reader: str, slices: Any) -> None:
    kspace = integers(0)
    path = write(tmp_path, reader, kspace if not reader.startswith("mat") else kspace.transpose(2, 3, 1, 0))
    with pytest.raises(
        FormatError, match=rf"expected slices of {path.name}, which has 0 to 4, got .*: choose a number"
    ):
        load(path, slices=slices)


@pytest.mark.parametrize("reader", READERS)
def test_a_single_slice_without_an_axis(tmp_path: Path, reader: str) -> None:
    path = write(tmp_path, reader, integers(0)[0, 0])
    for chosen in (0, -1, [0], slice(None, 1)):
        np.testing.assert_array_equal(load(path, slices=chosen).kspace[0, 0], integers(0)[0, 0])
    with pytest.raises(FormatError, match="which has 0 alone, got 1: choose"):
        load(path, slices=1)


@pytest.mark.parametrize("reader", ["npy", "npz", "npz-stored", "hdf5", "hdf5-chunks", "mat-hdf5"])
def test_the_limit_counts_the_chosen_slices(tmp_path: Path, reader: str) -> None:
    kspace = integers(0)
    path = write(tmp_path, reader, kspace if not reader.startswith("mat") else kspace.transpose(2, 3, 1, 0))
    one = kspace[0].nbytes
    assert load(path, slices=3, max_bytes=one).num_slices == 1
    with pytest.raises(FormatError, match=f"expected at most {one} bytes"):
        load(path, max_bytes=one)
    with pytest.raises(FormatError, match=f"expected at most {one} bytes"):
        load(path, slices=[0, 1], max_bytes=one)


@pytest.mark.parametrize("reader", ["npy", "npz", "hdf5", "mat-hdf5"])
def test_support_and_reference_are_of_the_chosen_slices(tmp_path: Path, reader: str) -> None:
    kspace = integers(0) + 1
    kspace[3, :, :, 0] = 0
    path = write(tmp_path, reader, kspace if not reader.startswith("mat") else kspace.transpose(2, 3, 1, 0))
    assert load(path).support.all()
    scan = load(path, slices=3)
    assert scan.support.tolist() == [False] + [True] * 5
    assert scan.target is not None
    assert scan.target.shape == (1, 8, 6)
    kspace[4] = 0
    path.unlink()
    path = write(tmp_path, reader, kspace if not reader.startswith("mat") else kspace.transpose(2, 3, 1, 0))
    with pytest.raises(FormatError, match=r"has zeros only in the slices \[4\]: choose others"):
        load(path, slices=4)


# ---------------------------------------------------------------------------------------------- pairs


@pytest.mark.parametrize("reader", ["npy", "npz", "hdf5", "mat", "mat-hdf5"])
@pytest.mark.parametrize("axis", [0, -1])
def test_five_real_axes_with_one_of_two_are_pairs(tmp_path: Path, reader: str, axis: int) -> None:
    """Nothing else explains them; it is noted all the same."""
    kspace = integers(1)
    array = kspace if not reader.startswith("mat") else kspace.transpose(2, 3, 1, 0)
    pairs = np.stack([array.real, array.imag], axis=axis).astype(np.float32)
    scan = load(write(tmp_path, reader, pairs))
    np.testing.assert_array_equal(scan.kspace.numpy(), kspace)
    which = "first" if axis == 0 else "last"
    assert f"the {which} axis, of length 2, was taken for real and imaginary part" in scan.meta["note"]


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ((2, 3, 4, 5, 2), "f4", r"unless it is named, e.g. axes='slice coil readout phase complex'"),
        ((3, 8, 6, 2), "f4", r"unless it is named, e.g. axes='slice readout phase complex'"),
        ((2, 8, 6), "f8", r"unless it is named, e.g. axes='readout phase complex'"),
        ((8, 2), "i2", r"unless it is named"),
        ((8, 6), "f4", "magnitudes, images and masks are no k-space"),
        ((3, 3, 8, 6, 2), "u1", "magnitudes, images and masks are no k-space"),
    ],
)
@pytest.mark.parametrize("reader", ["npy", "hdf5"])
def test_ambiguous_pairs_are_asked_about(tmp_path: Path, reader: str, shape: Any, kind: str, message: str) -> None:
    with pytest.raises(FormatError, match=rf"expected complex k-space in .*, got .*{message}"):
        load(write(tmp_path, reader, np.ones(shape, kind)))


@pytest.mark.parametrize(
    ("array", "axes", "message"),
    [
        (np.ones((3, 8, 6), np.float32), "complex readout phase", "the axis 'complex' of a.npy has 3"),
        (np.ones((2, 8, 6), np.complex64), "complex readout phase", "expected real numbers where an axis is named"),
        (np.ones((2, 8, 6), np.float32), "complex readout complex", "each once"),
        (np.ones((2, 8, 6), np.float32), "complex readout", "readout and phase among them"),
    ],
)
def test_a_named_pair_that_is_none(tmp_path: Path, array: Any, axes: str, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(FormatError, match=message):
        load(tmp_path / "a.npy", axes=axes)


@pytest.mark.parametrize(
    "fields",
    [
        [("real", "f4"), ("imag", "f8")],
        [("x", "f4"), ("y", "f4")],
        [("real", "f4"), ("imag", "f4"), ("t", "f4")],
        [("real", "u1"), ("imag", "u1")],
        [("real", "f4", (2,)), ("imag", "f4", (2,))],
    ],
)
def test_records_that_are_no_complex_numbers(tmp_path: Path, fields: Any) -> None:
    array = np.zeros((1, 8, 6), dtype=fields)
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(FormatError, match="expected numbers in a.npy, got elements of another kind"):
        load(tmp_path / "a.npy")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("kspace", data=array)
    with pytest.raises(FormatError, match=r"'kspace' of a.h5 has records, references or objects"):
        load(tmp_path / "a.h5")


# ---------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("reader", ["npz", "hdf5", "mat", "mat-hdf5"])
@pytest.mark.parametrize("kind", ["?", "u1", "i4", "f4", "f8", "c8", "c16"])
def test_masks_of_every_type(tmp_path: Path, reader: str, kind: str) -> None:
    mask = np.array([1, 0, 1, 1, 0, 1])
    kspace = (integers(0)[0, 0] + 1j) * mask
    content = {"kspace": kspace, "mask": mask.astype(kind)}
    match reader:
        case "npz":
            np.savez(tmp_path / "a.npz", **content)
        case "hdf5":
            with h5py.File(tmp_path / "a.h5", "w") as file:
                file["kspace"], file["mask"] = kspace[None], content["mask"]
        case "mat":
            scipy.io.savemat(tmp_path / "a.mat", content)
        case _:
            write_mat73(tmp_path / "a.mat", kspace=kspace, mask=content["mask"][None])
    (path,) = tmp_path.iterdir()
    scan = load(path)
    assert scan.mask is not None
    assert scan.mask.lines.tolist() == mask.astype(bool).tolist()  # type: ignore[union-attr]


def test_a_mask_of_255_is_asked_about(tmp_path: Path) -> None:
    mask = np.array([255, 0, 255, 255, 0, 255], np.uint8)
    np.savez(tmp_path / "a.npz", kspace=integers(0)[0, 0], mask=mask)
    with pytest.raises(
        FormatError, match=r"expected a mask of 0 and 1 in a.npz, got other values up to 255 \(uint8\): .*mask > 0"
    ):
        load(tmp_path / "a.npz")
