"""Any k-space through any writer and reader: values, order, mask and place come back, as far as the format has them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mri_recon.io import Geometry, Scan, convert, load, save, save_scan
from mri_recon.io.conversion import KSPACE_SUFFIXES
from mri_recon.masks.types import ColumnMask
from mri_recon.reconstruction import reconstruct
from mri_recon.transforms.fourier import fft2c
from tests.io.mrd_files import NAVIGATOR, REVERSE, Complex, Readout, mrd, readouts_of, step, xml
from tests.io.scanner_files import Block, fid, lines_of, pfile, twix_vb, twix_ve
from tests.io.test_same_values import write_mat73
from tests.support.geometries import geometries, quaternions, rotation
from tests.support.places import brightest_place, place_of

BOUNDED = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FEW = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
AXES = {"npy": "slice coil readout phase", "npz": "slice coil readout phase", "mat": "readout phase coil slice"}
HOLD_A_MASK = (".h5", ".mrd", ".npz", ".mat")
HOLD_A_PLACE = (".h5", ".mrd")
SUFFIXES = tuple(one for one in KSPACE_SUFFIXES if one != ".hdf5")


@dataclass(frozen=True)
class Case:
    """k-space of whole numbers `(slice, coil, readout, phase)`, with the acquired columns, and what lies about it."""

    kspace: Complex
    lines: np.ndarray
    averages: int
    reflected: bool
    others: bool


@st.composite
def cases(draw: Any, *, undersampled: bool = True) -> Case:
    """Any small shape from one slice and coil; the outermost columns are acquired, and two in the middle."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(2, 11)), draw(st.integers(6, 13)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kspace = (rng.integers(1, 99, shape) - 1j * rng.integers(1, 99, shape)).astype(np.complex64)
    width = shape[-1]
    lines = np.ones(width, dtype=np.bool_)
    if undersampled and draw(st.booleans()):
        lines = rng.random(width) < 0.4
        lines[[0, width // 2 - 1, width // 2, -1]] = True
    return Case(np.where(lines, kspace, 0), lines, draw(st.integers(1, 2)), draw(st.booleans()), draw(st.booleans()))


def _blocks(case: Case) -> list[Block]:
    """Siemens lines: averages, reflected lines, and noise and phase-correction lines between."""
    blocks = [
        replace(
            one,
            data=one.data[:, ::-1] if case.reflected else one.data,
            flags=("REFLECT",) if case.reflected else (),
            counters={**one.counters, "Ave": average},
        )
        for average in range(case.averages)
        for one in lines_of(case.kspace, center_line=case.kspace.shape[-1] // 2)
        if case.lines[one.counters["Lin"]]
    ]
    coils = case.kspace.shape[1]
    more = [Block(np.ones((coils, 5), np.complex64), (flag,)) for flag in ("NOISEADJSCAN", "PHASCOR")]
    return [*more, *blocks, more[1]] if case.others else blocks


def _readouts(case: Case) -> list[Readout]:
    """ISMRMRD readouts: averages, reversed lines, and navigators between."""
    found = [
        replace(
            one,
            data=one.data[:, ::-1] if case.reflected else one.data,
            flags=REVERSE if case.reflected else 0,
            idx={**one.idx, "average": average},
        )
        for average in range(case.averages)
        for one in readouts_of(case.kspace)
        if case.lines[one.idx["kspace_encode_step_1"]]
    ]
    more = [Readout(np.ones((case.kspace.shape[1], 3), np.complex64), NAVIGATOR)]
    return [*more, *found, *more] if case.others else found


def _mrd(path: Path, case: Case) -> Path:
    width = case.kspace.shape[-1]
    limits = step("kspace_encoding_step_1", width - 1, width // 2)
    return mrd(path / "a.h5", _readouts(case), xml((case.kspace.shape[-2], width, 1), limits=limits))


def _mrd2(path: Path, case: Case) -> Path:
    pytest.importorskip("mrd", reason="the extra 'scanners' is not installed")
    from tests.io.mrd_files import stream_header, write_stream

    width = case.kspace.shape[-1]
    header = stream_header((case.kspace.shape[-2], width, 1), center=width // 2)
    return write_stream(path / "a.mrd", _readouts(case), header)


def _bart(path: Path, case: Case) -> Path:
    slices, coils, readout, phase = case.kspace.shape
    dims = [readout, phase, 1, coils, *[1] * 9, slices, 1, 1]
    (path / "a.hdr").write_text("# Dimensions\n" + " ".join(map(str, dims)) + "\n")
    case.kspace.transpose(2, 3, 1, 0).astype("<c8").reshape(-1, order="F").tofile(path / "a.cfl")
    return path / "a.cfl"


def _numpy(path: Path, case: Case) -> Path:
    np.save(path / "a.npy", case.kspace)
    return path / "a.npy"


def _npz(path: Path, case: Case) -> Path:
    np.savez(path / "a.npz", kspace=case.kspace, mask=case.lines)
    return path / "a.npz"


def _matlab(path: Path, case: Case) -> Path:
    scipy.io.savemat(path / "a.mat", {"kspace": case.kspace.transpose(2, 3, 1, 0), "mask": case.lines.astype(np.uint8)})
    return path / "a.mat"


def _matlab73(path: Path, case: Case) -> Path:
    return write_mat73(path / "a.mat", kspace=case.kspace.transpose(2, 3, 1, 0), mask=case.lines[None])


def _fastmri(path: Path, case: Case) -> Path:
    with h5py.File(path / "a.h5", "w") as file:
        file.create_dataset("kspace", data=case.kspace)
        file.create_dataset("mask", data=case.lines.astype(np.float32))
        file.attrs["acquisition"] = "AXT2"
    return path / "a.h5"


WRITERS: dict[str, Callable[[Path, Case], Path]] = {
    "twix-vb": lambda path, case: twix_vb(path / "a.dat", _blocks(case)),
    "twix-ve": lambda path, case: twix_ve(path / "a.dat", _blocks(case)),
    "mrd": _mrd,
    "mrd2": _mrd2,
    "bart": _bart,
    "npy": _numpy,
    "npz": _npz,
    "mat": _matlab,
    "mat73": _matlab73,
    "fastmri": _fastmri,
}
"""Writers of the tests, none of which uses this package."""


def _needs_twixtools(name: str) -> None:
    if name.startswith("twix"):
        pytest.importorskip("twixtools", reason="the extra 'scanners' is not installed")


def _axes(name: str) -> str | None:
    return AXES.get(name[:3]) if name[:3] in ("npy", "npz", "mat") else None


def _assert_mask(scan: Scan, case: Case) -> None:
    if case.lines.all():
        assert scan.fully_sampled
    else:
        assert isinstance(scan.mask, ColumnMask)
        np.testing.assert_array_equal(scan.mask.lines, case.lines)


@pytest.mark.parametrize("name", WRITERS)
@given(case=cases(), data=st.data())
@BOUNDED
def test_what_others_write_is_read(name: str, case: Case, data: Any) -> None:
    """Values, the order of axes and slices, single slices, and the mask where the format has one."""
    _needs_twixtools(name)
    with tempfile.TemporaryDirectory() as folder:
        path = WRITERS[name](Path(folder), case)
        scan = load(path, axes=_axes(name))
        wanted = data.draw(st.lists(st.integers(-len(case.kspace), len(case.kspace) - 1), min_size=1, max_size=4))
        some = load(path, axes=_axes(name), slices=wanted)
    np.testing.assert_array_equal(scan.samples, case.kspace)
    np.testing.assert_array_equal(some.samples, case.kspace[wanted])
    if name not in ("bart", "npy"):
        _assert_mask(scan, case)


@given(case=cases(undersampled=False))
@BOUNDED
@pytest.mark.parametrize("name", ["pfile", "fid"])
def test_fully_sampled_files_of_scanners(name: str, case: Case) -> None:
    kspace = case.kspace[:, :1] if name == "fid" else case.kspace
    with tempfile.TemporaryDirectory() as folder:
        if name == "fid":
            path = fid(Path(folder, "fid"), kspace.transpose(1, 0, 2, 3))
        else:
            path = pfile(Path(folder, "P1.7"), kspace, point_size=4 if case.reflected else 2)
        np.testing.assert_array_equal(load(path).samples, kspace)
        np.testing.assert_array_equal(load(path, slices=-1).samples, kspace[-1:])


@st.composite
def placed(draw: Any) -> tuple[Case, Geometry, tuple[int, int]]:
    """A case, where its slices lie, and its acquired columns: those outside are zero-filled."""
    case = draw(cases())
    left, right = draw(st.integers(0, 2)), case.kspace.shape[-1] - draw(st.integers(0, 2))
    inside = np.arange(case.kspace.shape[-1])
    inside = (inside >= left) & (inside < right)
    case = replace(case, kspace=np.where(inside, case.kspace, 0), lines=case.lines & inside)
    return case, draw(geometries(len(case.kspace))), (left, right)


@pytest.mark.parametrize("first", SUFFIXES)
@pytest.mark.parametrize("second", SUFFIXES)
@given(found=placed())
@FEW
def test_convert_between_every_pair(first: str, second: str, found: Any) -> None:
    """Through two formats: nothing is lost that both can hold."""
    case, geometry, padding = found
    full = bool(case.lines[slice(*padding)].all())
    mask = None if full else ColumnMask(case.lines)
    with tempfile.TemporaryDirectory() as folder:
        source, one, two = (Path(folder, name) for name in ("scan.h5", f"a{first}", f"b{second}"))
        save_scan(source, case.kspace, mask=mask, padding=padding, geometry=geometry, acquisition="AXT1")
        told = convert(source, one)
        convert(one, two, axes=_axes(first[1:]))
        back = load(two, axes=_axes(second[1:]))
    np.testing.assert_array_equal(back.samples, case.kspace)
    if first in HOLD_A_MASK and second in HOLD_A_MASK:
        if full:
            assert back.fully_sampled
        else:
            assert isinstance(back.mask, ColumnMask)
            np.testing.assert_array_equal(back.mask.lines, case.lines)
    if first in HOLD_A_PLACE and second in HOLD_A_PLACE:
        assert back.geometry is not None
        np.testing.assert_allclose(back.geometry.positions, geometry.positions, atol=1e-3)
        np.testing.assert_allclose(back.geometry.directions, geometry.directions, atol=1e-5)
        np.testing.assert_allclose(back.geometry.voxel_size, geometry.voxel_size, rtol=1e-5)
        assert back.geometry.patient_position == geometry.patient_position
        assert back.meta["acquisition"] == "AXT1"
        assert np.flatnonzero(back.support)[[0, -1]].tolist() == [padding[0], padding[1] - 1]
    assert ("the geometry" in told) == (first not in HOLD_A_PLACE)
    assert ("the mask" in told) == (mask is not None and first not in HOLD_A_MASK)


@st.composite
def marked(draw: Any) -> tuple[Complex, tuple[int, int, int]]:
    """K-space of one bright voxel over a faint block, and its slice, row and column."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(4, 9)), draw(st.integers(6, 11)))
    mark = tuple(draw(st.integers(0, n - 1)) for n in shape)
    image = torch.full((shape[0], 1, *shape[1:]), 0.01, dtype=torch.complex64)
    image[mark[0], 0, mark[1], mark[2]] = 7 - 3j
    return fft2c(image).numpy(), (mark[0], mark[1], mark[2])


def _assert_outputs(scan: Scan, expected: Any, folder: Path) -> None:
    """The bright voxel of a reconstruction is at its place in every format, by the libraries of others."""
    result = reconstruct(scan.kspace, ColumnMask(np.ones(scan.width, dtype=np.bool_)), method="zero-filled")
    for suffix in (".h5", ".dcm", ".dcm.zip", ".nii", ".nii.gz", ".mrd"):
        save(folder / f"out{suffix}", result, scan)
        np.testing.assert_allclose(brightest_place(folder / f"out{suffix}"), expected, atol=2e-3, err_msg=suffix)


def _needs_clinical() -> None:
    for library in ("pydicom", "nibabel", "ismrmrd"):
        pytest.importorskip(library, reason=f"{library} is not installed")


@given(found=marked(), data=st.data())
@FEW
@pytest.mark.parametrize("raw", [".h5", ".mrd"])
def test_a_voxel_stays_where_it_is_through_raw_data_and_every_output(raw: str, found: Any, data: Any) -> None:
    _needs_clinical()
    kspace, mark = found
    geometry = data.draw(geometries(len(kspace)))
    with tempfile.TemporaryDirectory() as folder:
        save_scan(Path(folder, "scan.h5"), kspace, geometry=geometry)
        convert(Path(folder, "scan.h5"), Path(folder, f"raw{raw}"))
        scan = load(Path(folder, f"raw{raw}"))
        _assert_outputs(scan, place_of(geometry, kspace.shape[-2:], *mark), Path(folder))


@given(found=marked(), quaternion=quaternions(), middle=st.tuples(*[st.floats(-150, 150, width=32)] * 3))
@FEW
@pytest.mark.parametrize("kind", ["mrd", "twix-vb", "twix-ve"])
def test_a_voxel_of_a_scanners_file_stays_where_it_is(kind: str, found: Any, quaternion: Any, middle: Any) -> None:
    """Oblique slices of the tests' own writers: the directions are the columns of the quaternion's rotation."""
    _needs_clinical()
    _needs_twixtools(kind)
    kspace, mark = found
    phase, readout, normal = rotation(quaternion).T
    _, _, h, w = kspace.shape
    places = [np.asarray(middle) + 6.0 * number * normal for number in range(len(kspace))]
    geometry = Geometry(
        (1.5, 2.5, 5.0),
        tuple(tuple(one) for one in places),
        (tuple(readout), tuple(phase), tuple(normal)),  # type: ignore[arg-type]
    )
    with tempfile.TemporaryDirectory() as folder:
        if kind == "mrd":
            heads = {"read_dir": readout, "phase_dir": phase, "slice_dir": normal}
            lines = [
                replace(one, fields={**one.fields, **heads, "position": places[one.idx["slice"]]})
                for one in readouts_of(kspace)
            ]
            path = mrd(Path(folder, "a.h5"), lines, xml((h, w, 1), fov=(1.5 * h, 2.5 * w, 5.0)))
        else:
            text = "".join(
                f"sSliceArray.asSlice[0].{key}\t = \t{value!r}\n"
                for key, value in (("dReadoutFOV", 1.5 * h), ("dPhaseFOV", 2.5 * w), ("dThickness", 5.0))
            )
            blocks = [replace(one, place=(*places[one.counters["Sli"]], *quaternion)) for one in lines_of(kspace)]
            path = (twix_vb if kind == "twix-vb" else twix_ve)(Path(folder, "a.dat"), blocks, protocol=text)
        scan = load(path)
        _assert_outputs(scan, place_of(geometry, (h, w), *mark), Path(folder))
