"""Voxel size, position and orientation: the numbers themselves, and from every header that has them."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mri_recon._arrays import center_crop
from mri_recon.errors import FormatError, ShapeError
from mri_recon.io import Geometry, load, save_scan
from mri_recon.io.geometry import make_geometry
from mri_recon.results.summary import summarize
from mri_recon_data import registry
from tests.io.conftest import WriteFastMRI, header
from tests.io.scanner_files import Complex, fid, lines_of, pfile, twix_vb, twix_ve
from tests.io.second_reader import places_by_mapvbvd
from tests.support.geometries import Quaternion, quaternions, rotation
from tests.support.oblique import ROTATION, oblique


def _noise(*shape: int) -> Complex:
    rng = np.random.default_rng(0)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def test_a_centred_crop_keeps_each_pixel_in_its_place() -> None:
    geometry = oblique(3)
    image = np.arange(3 * 11 * 8).reshape(3, 11, 8)
    small = center_crop(image, (5, 6))
    for number, row, column in [(0, 0, 0), (1, 4, 5), (2, 2, 1)]:
        (whole,) = np.argwhere(image[number] == small[number, row, column])
        place = geometry.affine((5, 6)) @ [row, column, number, 1]
        np.testing.assert_allclose(place, geometry.affine((11, 8)) @ [*whole, number, 1], atol=1e-9)


def test_the_affine_is_built_from_directions_sizes_and_positions() -> None:
    geometry = oblique(4, gap=1.0)
    found = geometry.affine((7, 6))
    np.testing.assert_allclose(found @ [3, 3, 2, 1], [*geometry.positions[2], 1])  # type: ignore[index]
    np.testing.assert_allclose(found[:3, :3], ROTATION.T * [1.5, 2.0, 5.0 + 1.0])
    np.testing.assert_allclose(found @ [0, 0, 1, 1], [*geometry.corners((7, 6))[1], 1])
    assert geometry.slice_spacing == pytest.approx(6.0)
    assert geometry.slice_order == [0, 1, 2, 3]


def test_slices_out_of_order_are_told_and_have_no_affine() -> None:
    geometry = oblique(4).of_slices([0, 2, 1, 3])
    assert geometry.slice_order == [0, 2, 1, 3]
    assert geometry.slice_spacing == pytest.approx(5.0)
    assert "from one end to the other: 0, 2, 1, 3" in dict(geometry.describe())["slice positions"]
    with pytest.raises(ShapeError, match="expected equally spaced slices in the order of their places"):
        geometry.affine((7, 6))
    assert oblique(1).slice_spacing is None
    assert oblique(1).affine((3, 3))[:3, 2] == pytest.approx(ROTATION[2] * 5.0)


def test_slices_at_one_place_have_no_affine_and_unknown_places_none() -> None:
    with pytest.raises(ShapeError, match="expected equally spaced slices"):
        oblique(2).of_slices([1, 1]).affine((4, 4))
    unknown = Geometry((1.0, 2.0, 3.0))
    assert (unknown.known, unknown.slice_order, unknown.slice_spacing) == (False, None, None)
    for call in (unknown.affine, unknown.corners):
        with pytest.raises(ShapeError, match="expected a geometry with positions and directions, got one without"):
            call((4, 4))


def test_words_of_a_geometry() -> None:
    lines = dict(replace(oblique(2), patient_position="FFS").describe())
    assert lines["voxel size"] == "1.5 x 2 x 5 mm (readout x phase x slice)"
    assert lines["orientation"].startswith("axial, oblique by ")
    assert lines["orientation"].endswith("patient position FFS")
    straight = Geometry((1.0, 1.0, 1.0), ((0.0, 0.0, 0.0),), ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, -1.0)))
    assert dict(straight.describe())["orientation"] == "axial; rows run to L, columns to P"


def test_json_values_come_back_the_same_and_wrong_ones_are_errors() -> None:
    geometry = oblique(3)
    assert make_geometry(json.loads(json.dumps(geometry.as_dict()))) == geometry
    good = geometry.as_dict()
    for change in (
        {"voxel_size": [1, 2]},
        {"voxel_size": [1, 2, 0]},
        {"voxel_size": [1, 2, float("inf")]},
        {"positions": "x"},
        {"positions": []},
        {"positions": [[1, 2, float("nan")]]},
        {"directions": [[1, 0, 0], [0, 1, 0]]},
        {"directions": [[1, 0, 0], [0, 1, 0], [0, 1, 1]]},
        {"directions": [[1, 0, 0], [0, 1, 0], [0, "a", 1]]},
        {"patient_position": "upside down"},
    ):
        with pytest.raises(FormatError, match="expected .*: correct the header"):
            make_geometry({**good, **change})


@pytest.mark.parametrize("vb", [False, True])
def test_siemens_lines_carry_place_and_quaternion(vb: bool, tmp_path: Path) -> None:
    """A rotation by 20 degrees about z: phase, readout and slice are the columns of its matrix."""
    kspace = _noise(2, 2, 8, 6)
    half = np.deg2rad(20) / 2
    places = {number: (1.0, 2.0, 3.0 + 7 * number, np.cos(half), 0.0, 0.0, np.sin(half)) for number in range(2)}
    blocks = [replace(block, place=places[block.counters["Sli"]]) for block in lines_of(kspace)]
    text = "\n".join(
        f"sSliceArray.asSlice[0].{key}\t = \t{value}"
        for key, value in {"dThickness": 5.0, "dPhaseFOV": 120.0, "dReadoutFOV": 80.0}.items()
    )
    text += '\n<ParamString."tPatientPosition">  { "HFP"  }'
    write = twix_vb if vb else twix_ve
    path = write(tmp_path / "meas.dat", blocks, oversampling=2.0, protocol=text)
    geometry = load(path).geometry
    assert geometry is not None
    assert geometry.voxel_size == pytest.approx((80 / 4, 120 / 6, 5.0))  # 8 samples over twice 80 mm
    np.testing.assert_allclose(geometry.positions, [(1, 2, 3), (1, 2, 10)])
    c, s = np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))
    np.testing.assert_allclose(geometry.directions, [(-s, c, 0), (c, s, 0), (0, 0, 1)], atol=1e-6)
    assert (geometry.patient_position, geometry.sides_assumed) == ("HFP", True)
    assert "are not verified: compare one image" in dict(geometry.describe())["orientation"]
    one = load(path, slices=1).geometry
    assert one is not None
    assert one.positions == geometry.positions[1:]  # type: ignore[index]


def test_siemens_partitions_lie_side_by_side_and_oversampling_counts(tmp_path: Path) -> None:
    kspace = _noise(5, 1, 4, 6)  # five partitions of one slab
    blocks = [
        replace(
            block, counters={"Lin": block.counters["Lin"], "Par": block.counters["Sli"]}, place=(0, 0, 9, 1, 0, 0, 0)
        )
        for block in lines_of(kspace)
    ]
    text = "\n".join(
        f"{key}\t = \t{value}"
        for key, value in {
            "sSliceArray.asSlice[0].dThickness": 20.0,
            "sSliceArray.asSlice[0].dPhaseFOV": 60.0,
            "sSliceArray.asSlice[0].dReadoutFOV": 80.0,
            "sKSpace.dPhaseOversamplingForDialog": 0.5,
            "sKSpace.dSliceOversamplingForDialog": 0.25,
        }.items()
    )
    geometry = load(twix_ve(tmp_path / "meas.dat", blocks, protocol=text)).geometry
    assert geometry is not None
    assert geometry.voxel_size == pytest.approx((20.0, 15.0, 5.0))
    np.testing.assert_allclose(geometry.positions, [(0, 0, z) for z in (-1, 4, 9, 14, 19)])


def test_siemens_files_without_a_field_of_view_have_no_geometry(tmp_path: Path) -> None:
    assert load(twix_ve(tmp_path / "meas.dat", lines_of(_noise(1, 1, 4, 4)))).geometry is None


def test_ge_slices_lie_where_the_table_says_in_the_order_of_the_file(tmp_path: Path) -> None:
    kspace = np.round(_noise(3, 2, 10, 20) * 99)
    centers = {0: (3.0, -20.0, 4.0), 2: (3.0, -12.0, 4.0), 1: (3.0, -4.0, 4.0)}
    geometry = load(pfile(tmp_path / "P1.7", kspace, tables=(6.0, 2.0, centers))).geometry
    assert geometry is not None
    assert geometry.voxel_size == pytest.approx((10.0, 5.0, 6.0))
    np.testing.assert_allclose(geometry.positions, [(-3, 20, 4), (-3, 4, 4), (-3, 12, 4)])
    assert geometry.directions is None
    assert geometry.slice_order in ([0, 2, 1], [1, 2, 0])
    for tables in ((6.0, 3.0, centers), (6.0, 2.0, {**centers, 1: (9.0, 9.0, 9.0)}), (6.0, 2.0, {0: (0, 0, 0)})):
        scan = load(pfile(tmp_path / "P2.7", kspace, tables=tables))
        assert scan.geometry is None
        assert "the positions of the slices are not read" in scan.meta["note"]


def test_agilent_has_voxel_sizes_alone(tmp_path: Path) -> None:
    scan = load(fid(tmp_path, _noise(1, 2, 8, 4), lro="2.4", lpe="1.6", thk="0.5"))
    assert scan.geometry == Geometry((3.0, 4.0, 0.5))
    assert load(fid(tmp_path, _noise(1, 2, 8, 4), lro="x", lpe="1.6", thk="0.5")).geometry is None


def test_fastmri_headers_have_a_field_of_view_and_a_patient_position(write_fastmri: WriteFastMRI) -> None:
    path = write_fastmri(_noise(2, 3, 28, 23), ismrmrd_header=header(28, 23, 14, 20, coils=3))
    scan = load(path)
    assert scan.geometry == Geometry((10.0, 7.0, 4.5), patient_position="HFS")
    assert ("voxel size", "10 x 7 x 4.5 mm (readout x phase x slice)") in summarize(scan)


def test_what_save_scan_is_given_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    save_scan(path, _noise(3, 2, 9, 8), geometry=oblique(3))
    assert load(path).geometry == oblique(3)
    assert load(path, slices=[2, 0]).geometry == oblique(3).of_slices([2, 0])
    save_scan(path, _noise(3, 2, 9, 8), geometry=oblique(2))
    scan = load(path)
    assert scan.geometry is None
    assert "2 positions of slices" in scan.meta["note"]
    save_scan(path, _noise(3, 2, 9, 8), attributes={"geometry": "{]"})
    assert "the attribute geometry cannot be read" in load(path).meta["note"]
    save_scan(path, _noise(3, 2, 9, 8))
    assert load(path).geometry is None  # its header holds 1 x 1 x 1 mm, which stands for unknown


def _assert_same_places(geometry: Geometry, places: np.ndarray, normal: np.ndarray | None) -> None:
    """Compare with positions and quaternions of each line that another reader found, and the protocol's normal."""
    assert geometry.directions is not None
    np.testing.assert_allclose(geometry.positions, np.unique(places[:, :3], axis=0), atol=1e-4)
    for quaternion in np.unique(places[:, 3:], axis=0):
        phase, readout, along = rotation(tuple(quaternion)).T
        np.testing.assert_allclose(geometry.directions, [readout, phase, along], atol=1e-5)
    if normal is not None:
        np.testing.assert_allclose(geometry.slice_direction, normal, atol=1e-6)


def test_every_registered_siemens_file_agrees_with_a_second_reader(real_data: Path) -> None:
    files = [file for file in registry.files() if file.name.endswith(".dat")]
    assert len(files) == 9
    for file in files:
        geometry = load(real_data / file.name).geometry
        assert geometry is not None
        places, normal = places_by_mapvbvd(real_data / file.name)
        assert normal is not None
        _assert_same_places(geometry, places, normal)


@pytest.mark.parametrize("vb", [False, True])
@given(quaternion=quaternions(), middle=st.tuples(*[st.floats(-150, 150, width=32)] * 3), count=st.integers(1, 3))
@settings(max_examples=4, deadline=None)
def test_oblique_siemens_slices_agree_with_a_second_reader(
    vb: bool, quaternion: Quaternion, middle: tuple[float, ...], count: int
) -> None:
    normal = rotation(quaternion)[:, 2]
    places = [np.asarray(middle) + 5.0 * number * normal for number in range(count)]
    places.sort(key=lambda one: tuple(one.astype(np.float32)))
    blocks = [
        replace(block, place=(*places[block.counters["Sli"]], *quaternion))
        for block in lines_of(_noise(count, 2, 6, 5))
    ]
    text = "".join(
        f"sSliceArray.asSlice[0].{key}\t = \t{value}\n"
        for key, value in {"dThickness": 5.0, "dPhaseFOV": 120.0, "dReadoutFOV": 80.0}.items()
    )
    with tempfile.TemporaryDirectory() as folder:
        path = (twix_vb if vb else twix_ve)(Path(folder, "meas.dat"), blocks, protocol=text)
        geometry = load(path).geometry
        assert geometry is not None
        _assert_same_places(geometry, *places_by_mapvbvd(path))


def test_the_registered_ge_file_has_slices_18_mm_apart_interleaved(real_data: Path) -> None:
    (file,) = registry.files(name="phantom-ge-8ch")
    geometry = file.load().geometry
    assert geometry is not None
    assert geometry.slice_spacing == pytest.approx(18.0)
    assert geometry.slice_order == [0, 4, 1, 5, 2, 6, 3]
