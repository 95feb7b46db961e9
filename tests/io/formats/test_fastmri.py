"""fastMRI HDF5, written here with plain h5py in the layout of the public files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mri_recon.errors import FormatError
from mri_recon.io import load
from mri_recon.io.formats.fastmri import FastMRIFile
from mri_recon.masks.types import ColumnMask, PatternMask
from mri_recon.results.scan_warnings import scan_warnings


def rss_by_numpy(kspace: np.ndarray) -> np.ndarray:
    """Independent of the library: numpy's own FFT."""
    axes = (-2, -1)
    images = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=axes), norm="ortho"), axes=axes)
    return np.sqrt((np.abs(images) ** 2).sum(axis=1))


def fastmri_padding(encoded_y: int, center: int, maximum: int) -> tuple[int, int]:
    """The rule of fastMRI's SliceDataset, in its words."""
    enc_limits_max = maximum + 1
    padding_left = encoded_y // 2 - center
    return padding_left, padding_left + enc_limits_max


def test_a_knee_in_the_layout_of_the_public_files(noise: Any, write_fastmri: Any, make_header: Any) -> None:
    """15 coils, 640 x 368 with padded columns, target 320 x 320."""
    left, right = fastmri_padding(368, center=161, maximum=321)
    kspace = noise(1, 15, 640, 368)
    kspace[..., :left] = 0
    kspace[..., right:] = 0
    target = np.abs(noise(1, 320, 320, seed=1))
    path = write_fastmri(
        kspace,
        ismrmrd_header=make_header(640, 368, 320, 320, coils=15, center=161, maximum=321),
        reconstruction_rss=target,
        attrs={"acquisition": "CORPD_FBK", "max": target.max(), "norm": 1.0, "patient_id": "abc0123"},
    )
    scan = load(path)
    assert scan.kspace.shape == (1, 15, 640, 368)
    assert (scan.num_slices, scan.num_coils, scan.width) == (1, 15, 368)
    np.testing.assert_array_equal(scan.kspace.numpy(), kspace)
    assert scan.recon_size == (320, 320)
    assert np.flatnonzero(scan.support)[[0, -1]].tolist() == [left, right - 1]
    assert scan.support.sum() == 322
    assert scan.fully_sampled
    assert scan.mask is None
    assert scan.target_source == "file: reconstruction_rss"
    np.testing.assert_array_equal(scan.target, target)
    assert scan.meta["padding"] == [left, right]
    assert scan.meta["acquisition"] == "CORPD_FBK"
    assert scan.meta["patient_id"] == "abc0123"
    assert scan.meta["format"] == "fastMRI HDF5"


def test_a_reference_is_made_where_the_file_has_none(noise: Any, write_fastmri: Any, make_header: Any) -> None:
    kspace = noise(2, 3, 21, 15)
    scan = load(write_fastmri(kspace, ismrmrd_header=make_header(21, 15, 10, 11)))
    assert scan.target_source == "rss of the full k-space"
    assert scan.target is not None
    np.testing.assert_allclose(scan.target, rss_by_numpy(kspace)[:, 5:15, 2:13], rtol=1e-4)


def test_a_single_coil_has_no_coil_axis_in_the_file(noise: Any, write_fastmri: Any) -> None:
    kspace = noise(2, 9, 7)
    esc = np.abs(noise(2, 5, 5, seed=1))
    scan = load(write_fastmri(kspace, reconstruction_esc=esc, reconstruction_rss=2 * esc))
    assert scan.kspace.shape == (2, 1, 9, 7)
    assert scan.target_source == "file: reconstruction_esc"
    assert scan.recon_size == (5, 5), "without a header the reference says what size is wanted"
    np.testing.assert_array_equal(scan.target, esc)


def test_several_coils_take_the_root_sum_of_squares(noise: Any, write_fastmri: Any) -> None:
    esc = np.abs(noise(2, 5, 5, seed=1))
    scan = load(write_fastmri(noise(2, 3, 9, 7), reconstruction_esc=esc, reconstruction_rss=2 * esc))
    assert scan.target_source == "file: reconstruction_rss"


def test_narrow_k_space_limits_the_reconstruction_size(noise: Any, write_fastmri: Any, make_header: Any) -> None:
    """Some brain files ask for 320 x 320 of 213 columns."""
    scan = load(write_fastmri(noise(1, 2, 32, 13), ismrmrd_header=make_header(32, 13, 16, 16)))
    assert scan.recon_size == (16, 13)
    assert scan.target is not None
    assert scan.target.shape == (1, 16, 13)


def test_the_files_own_mask(noise: Any, write_fastmri: Any, make_header: Any) -> None:
    """An undersampled test file: support is what the header says, not what was sampled."""
    kspace = noise(2, 3, 16, 20)
    mask = np.zeros(20, dtype=bool)
    mask[[0, 3, 8, 9, 10, 11, 15, 19]] = True
    inside = np.zeros(20, dtype=bool)
    inside[2:18] = True
    kspace[..., ~(mask & inside)] = 0
    path = write_fastmri(kspace, mask=mask, ismrmrd_header=make_header(16, 20, 16, 16, center=8, maximum=15))
    scan = load(path)
    assert not scan.fully_sampled
    assert scan.target is None
    assert scan.target_source == "none"
    assert isinstance(scan.mask, ColumnMask)
    assert np.flatnonzero(scan.mask.lines).tolist() == [3, 8, 9, 10, 11, 15], "padding is never sampled"
    assert scan.mask.support_width == 16
    np.testing.assert_array_equal(scan.support, inside)
    assert scan.mask.num_low_frequencies == 4
    assert "note" not in scan.meta


def test_a_mask_beside_full_k_space_was_not_applied(noise: Any, write_fastmri: Any) -> None:
    mask = np.arange(12) % 2 == 0
    scan = load(write_fastmri(noise(1, 2, 8, 12), mask=mask.astype(np.uint8)))
    assert scan.fully_sampled
    assert scan.mask is not None
    assert scan.target is not None
    assert scan.meta["note"] == "the file's mask leaves out samples that the file holds: it was not applied"


def test_a_mask_of_everything_is_a_full_scan(noise: Any, write_fastmri: Any) -> None:
    scan = load(write_fastmri(noise(1, 2, 8, 12), mask=np.ones(12)))
    assert scan.fully_sampled
    assert "note" not in scan.meta


def test_a_two_dimensional_mask(noise: Any, write_fastmri: Any) -> None:
    pattern = np.random.default_rng(0).random((8, 12)) < 0.4
    kspace = noise(1, 2, 8, 12) * pattern
    scan = load(write_fastmri(kspace, mask=pattern[None, None].astype(np.float32)))
    assert isinstance(scan.mask, PatternMask)
    np.testing.assert_array_equal(scan.mask.pattern, pattern)
    assert not scan.fully_sampled


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (
            np.ones(11, dtype=bool),
            r"expected a mask \(12,\) or \(8, 12\) beside the k-space of file.h5, got bool of shape",
        ),
        (np.full(12, 2), "expected a mask of 0 and 1 in file.h5"),
        (np.zeros(12, dtype=bool), "expected a mask that samples some of the acquired columns of file.h5, got none"),
    ],
)
def test_a_mask_that_does_not_fit(noise: Any, write_fastmri: Any, mask: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        load(write_fastmri(noise(1, 2, 8, 12), mask=mask))


def test_padding_by_attributes_comes_first_as_in_fastmri(noise: Any, write_fastmri: Any, make_header: Any) -> None:
    kspace = noise(1, 1, 8, 12)
    scan = load(
        write_fastmri(kspace, ismrmrd_header=make_header(8, 12, 8, 12), attrs={"padding_left": 1, "padding_right": 9})
    )
    assert scan.support.tolist() == [False] + [True] * 8 + [False] * 3
    assert scan.meta["padding"] == [1, 9]


def test_padding_and_data_are_intersected(noise: Any, write_fastmri: Any, make_header: Any) -> None:
    kspace = noise(1, 1, 8, 12)
    kspace[..., 2] = 0
    scan = load(write_fastmri(kspace, ismrmrd_header=make_header(8, 12, 8, 12, center=4, maximum=7)))
    assert np.flatnonzero(scan.support).tolist() == [3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(("center", "maximum"), [(600, 3), (4, 0)])
def test_padding_that_leaves_nothing_is_ignored_and_said(
    noise: Any, write_fastmri: Any, make_header: Any, center: int, maximum: int
) -> None:
    kspace = noise(1, 1, 8, 12)
    kspace[..., :4] = 0
    scan = load(write_fastmri(kspace, ismrmrd_header=make_header(8, 12, 8, 12, center=center, maximum=maximum)))
    assert scan.support.sum() == 8
    assert "leaves no columns with data and is ignored" in scan.meta["note"]
    assert scan.meta["padding"] is None


def test_slices_are_read_alone(noise: Any, write_fastmri: Any) -> None:
    kspace, target = noise(5, 2, 8, 12), np.abs(noise(5, 8, 12, seed=1))
    path = write_fastmri(kspace, reconstruction_rss=target)
    scan = load(path, slices=slice(3, 5))
    np.testing.assert_array_equal(scan.kspace, kspace[3:])
    np.testing.assert_array_equal(scan.target, target[3:])
    with pytest.raises(FormatError, match=r"expected slices of file\.h5, which has 0 to 4, got slice\(7, 9, None\)"):
        load(path, slices=slice(7, 9))
    stepped = load(path, slices=slice(0, 4, 2))
    np.testing.assert_array_equal(stepped.kspace, kspace[0:4:2])
    np.testing.assert_array_equal(stepped.target, target[0:4:2])


@pytest.mark.parametrize("chunks", [None, (1, 1, 8, 12), (2, 2, 3, 5), (5, 2, 8, 12)])
def test_chunks_of_any_shape_and_filters(noise: Any, tmp_path: Path, chunks: Any) -> None:
    kspace = noise(5, 2, 8, 12)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        options = {} if chunks is None else {"compression": "gzip", "shuffle": True, "fletcher32": True}
        file.create_dataset("kspace", data=kspace, chunks=chunks, **options)
    np.testing.assert_array_equal(load(tmp_path / "a.h5").kspace, kspace)
    np.testing.assert_array_equal(load(tmp_path / "a.h5", slices=slice(1, 4)).kspace, kspace[1:4])


def test_other_axes_and_names_in_hdf5(noise: Any, tmp_path: Path) -> None:
    kspace = noise(8, 12, 3, 2).astype(np.complex128)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["scan/raw"] = kspace
    scan = load(tmp_path / "a.h5", axes="readout, phase, coil, slice", variable="scan/raw", slices=slice(1, 2))
    np.testing.assert_array_equal(scan.kspace, kspace.transpose(3, 2, 0, 1)[1:].astype(np.complex64))


def test_the_open_file(noise: Any, write_fastmri: Any) -> None:
    with FastMRIFile(write_fastmri(noise(3, 2, 8, 12), attrs={"patient_id": "p1"})) as file:
        assert (file.num_slices, file.num_coils, file.patient_id) == (3, 2, "p1")
        assert file.read_target() is None
        assert file.read_mask() is None
        assert file.padding is None
        assert file.read_kspace(slice(0, 1)).shape == (1, 2, 8, 12)


def test_simulated_data_says_so(noise: Any, write_fastmri: Any) -> None:
    assert load(write_fastmri(noise(1, 8, 12), attrs={"simulated": True})).meta["simulated"] is True


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"reconstruction_rss": np.ones((3, 8, 12))},
            r"expected real images \(2, h, w\) as reconstruction_rss of file.h5",
        ),
    ],
)
def test_parts_that_are_not_what_they_should_be(noise: Any, write_fastmri: Any, arrays: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message + r".*name the axes of the k-space"):
        load(write_fastmri(noise(2, 3, 8, 12), **arrays))
    path = write_fastmri(noise(2, 3, 8, 12), **arrays)
    scan = load(path, axes="slice coil readout phase")  # who gives the axes has been asked
    assert scan.target_source == "rss of the full k-space"
    assert "reconstruction_rss of the file is left out: expected real images (2, h, w)" in " ".join(scan.warnings)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("reconstruction_rss", np.ones((2, 8, 12), complex), "expected real images (2, h, w), got complex128"),
        ("reconstruction_rss", np.ones((2, 0, 12)), "expected real images (2, h, w), got float64 of shape (2, 0, 12)"),
        ("reconstruction_rss", np.ones((8, 12)), "expected real images (2, h, w), got float64 of shape (8, 12)"),
        ("reconstruction_rss", "a text", "expected real images (2, h, w), got object of shape ()"),
        ("reconstruction_rss", h5py.Empty("f4"), "expected an array, got an empty one"),
        ("reconstruction_rss/inside", np.ones(12), "expected an array, got no array"),
        ("reconstruction_rss", np.full((2, 8, 12), np.nan), "has NaN or infinite values"),
        ("mask/inside", np.ones(12), "expected an array, got no array"),
        ("mask", h5py.Empty("f4"), "expected an array, got an empty one"),
        ("mask", np.dtype("f4"), "expected an array, got no array"),
    ],
)
def test_what_is_not_needed_refuses_no_scan_and_is_told(
    noise: Any, write_fastmri: Any, name: str, value: Any, told: str
) -> None:
    """K-space without its reference or an empty mask is a scan; what was left out is said with every result."""
    path = write_fastmri(noise(2, 3, 8, 12), attrs={"acquisition": "x"})
    with h5py.File(path, "r+") as file:
        file[name] = value
    scan = load(path)
    assert scan.mask is None
    assert scan.target_source == "rss of the full k-space"
    (warning,) = scan.warnings
    assert warning.startswith(f"The {name.split('/')[0]} of the file ")
    assert told in warning
    assert warning in scan_warnings(scan)


def test_one_image_of_one_slice_needs_no_slice_axis(noise: Any, write_fastmri: Any) -> None:
    scan = load(write_fastmri(noise(1, 3, 8, 12), attrs={"acquisition": "x"}, reconstruction_rss=np.ones((8, 12))))
    assert scan.target is not None
    assert scan.target.shape == (1, 8, 12)
    assert scan.warnings == ()


@pytest.mark.parametrize(
    ("attrs", "note"),
    [
        ({"acquisition": np.arange(3)}, "expected the attribute 'acquisition' of file.h5 to be one number or text"),
        ({"patient_id": h5py.Empty("f4")}, "expected the attribute 'patient_id' of file.h5 to be one number or text"),
        ({"norm": np.zeros(2, [("a", "f4"), ("b", "i2"), ("c", "i2")])}, "expected the attribute 'norm'"),
        ({"padding_left": 0.5, "padding_right": 3}, "padding_left and padding_right are left out (expected whole"),
        ({"padding_left": "x", "padding_right": 3}, "expected whole numbers, got 'x' and '3'"),
        ({"padding_left": float("nan"), "padding_right": 3}, "expected whole numbers, got 'nan' and '3'"),
    ],
)
def test_an_attribute_that_is_not_needed_refuses_no_scan(noise: Any, write_fastmri: Any, attrs: Any, note: str) -> None:
    kspace = noise(2, 3, 8, 12)
    scan = load(write_fastmri(kspace, attrs=attrs))
    np.testing.assert_array_equal(scan.kspace, kspace)
    assert note in scan.meta["note"]
    assert scan.support.all()


def test_attributes_of_every_type_are_read_or_noted(noise: Any, write_fastmri: Any) -> None:
    path = write_fastmri(noise(1, 2, 8, 12), attrs={"patient_id": np.bytes_(b"p-7"), "max": np.array([2.5])})
    with h5py.File(path, "a") as file:
        file.attrs["unknown"] = file["kspace"].ref
        file.attrs.create("acquisition", ["a", "b"], dtype=h5py.string_dtype())
    scan = load(path)
    assert scan.meta["patient_id"] == "p-7"
    assert scan.meta["max"] == 2.5
    assert "'acquisition' of file.h5 to be one number or text" in scan.meta["note"]


def test_real_pairs_are_not_joined(write_fastmri: Any) -> None:
    with pytest.raises(
        FormatError, match=r"expected complex k-space in 'kspace' of file.h5, got float32 of shape \(3, 8, 12, 2\)"
    ):
        load(write_fastmri(np.ones((3, 8, 12, 2), np.float32)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("reconstruction", "got a reconstruction: load the scan itself, or read it with load_image"),
        ("x\x1b[31m", r"expected a dataset 'kspace' in a.h5, found: 'x\\x1b\[31m'"),
    ],
)
def test_files_without_k_space(tmp_path: Path, name: str, message: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[name] = np.ones((1, 8, 8))
    with pytest.raises(FormatError, match=message):
        load(tmp_path / "a.h5")


# ---------------------------------------------------------------------------------------------- the header


def with_header(write: Callable[..., Path], text: str | bytes) -> Path:
    return write(np.ones((1, 8, 12), np.complex64), ismrmrd_header=text)


def test_a_header_without_namespace_and_without_limits(write_fastmri: Any, make_header: Any) -> None:
    text = make_header(8, 12, 6, 6).replace('xmlns="http://www.ismrm.org/ISMRMRD"', "")
    assert load(with_header(write_fastmri, text)).recon_size == (6, 6)
    scan = load(with_header(write_fastmri, "<ismrmrdHeader/>"))
    assert scan.recon_size == (8, 12)
    assert scan.meta["padding"] is None


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>'


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        '<?xml version="1.0"?>\n<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        '<!doctype a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
    ],
)
def test_entities_and_document_types_are_refused(write_fastmri: Any, text: str) -> None:
    with pytest.raises(FormatError, match="expected an ISMRMRD header without DOCTYPE and ENTITY in file.h5"):
        load(with_header(write_fastmri, text))


@pytest.mark.parametrize(
    ("stored", "note"),
    [
        *[
            (text, "expected an ISMRMRD header in XML in file.h5")
            for text in ("", "<a>", "no xml", "<a>&b;</a>", '<?xml version="1.0" encoding="utf-16"?><a>\x01</a>')
        ],
        (np.ones(3), "expected one text in '/ismrmrd_header' of file.h5"),
        (b"<a>\xff</a>", "expected UTF-8 text"),
        ("x" * (1 << 20) + "x", "expected at most 1048576 characters"),
    ],
)
def test_a_header_that_cannot_be_read_refuses_no_scan(write_fastmri: Any, noise: Any, stored: Any, note: str) -> None:
    kspace = noise(1, 2, 8, 12)
    scan = load(write_fastmri(kspace, ismrmrd_header=stored))
    np.testing.assert_array_equal(scan.kspace, kspace)
    assert "the header cannot be read and is left out" in scan.meta["note"]
    assert note in scan.meta["note"]
    assert scan.recon_size == (8, 12)
    assert scan.meta["padding"] is None


def test_entities_cannot_hide_in_another_encoding(write_fastmri: Any) -> None:
    hidden = f'<?xml version="1.0" encoding="utf-16"?>{BOMB}'.encode("utf-16")
    scan = load(with_header(write_fastmri, np.void(hidden).tobytes().replace(b"\x00", b"\x01")))
    assert "the header cannot be read and is left out" in scan.meta["note"], "it is not even parsed"


@pytest.mark.parametrize("value", ["-1", "0", "1e9", "12345678901", "", "٣", "8.5"])
def test_sizes_have_to_be_integers(write_fastmri: Any, make_header: Any, value: str) -> None:
    text = make_header(8, 12, 6, 6).replace("<x>6</x>", f"<x>{value}</x>")
    scan = load(with_header(write_fastmri, text))
    said = "expected an integer of at least 1 for encoding/reconSpace/matrixSize/x in file.h5"
    assert said in scan.meta["note"]
    assert scan.recon_size == (8, 12), "nothing of a header is believed in part"


@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("is_test", [False, True])
def test_the_four_flavours_of_the_public_files(
    coils: int, is_test: bool, noise: Any, write_fastmri: Any, make_header: Any
) -> None:
    """Single and several coils, for training (full, with a reconstruction) and for testing (masked, without)."""
    kspace = noise(3, coils, 24, 20) if coils > 1 else noise(3, 24, 20)
    reference = np.abs(noise(3, 12, 12)).astype(np.float32)
    arrays: dict[str, Any] = {"ismrmrd_header": make_header(24, 20, 12, 12, coils=coils)}
    if is_test:
        mask = np.arange(20) % 2 == 0
        mask[8:12] = True
        kspace = kspace * mask
        arrays["mask"] = mask.astype(np.uint8)
    else:
        arrays["reconstruction_rss"] = reference
        if coils == 1:
            arrays["reconstruction_esc"] = 2 * reference
    scan = load(write_fastmri(kspace, attrs={"acquisition": "CORPD_FBK", "patient_id": "p1"}, **arrays))
    np.testing.assert_array_equal(scan.samples, kspace.reshape(3, coils, 24, 20))
    assert (scan.recon_size, scan.meta["axes_assumed"], scan.fully_sampled) == ((12, 12), False, not is_test)
    assert scan.geometry is not None
    assert scan.geometry.voxel_size == pytest.approx((280 / 24, 161 / 20, 4.5))
    if is_test:
        assert scan.target is None
        assert scan.mask is not None
        np.testing.assert_array_equal(scan.mask.array, mask)
    else:
        assert scan.mask is None
        assert scan.target_source == ("file: reconstruction_rss" if coils > 1 else "file: reconstruction_esc")
        np.testing.assert_array_equal(scan.reference, reference if coils > 1 else 2 * reference)
