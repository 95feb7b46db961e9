"""Which instances results hold, what is refused, and which identifiers they have."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from mri_recon.errors import DataError, FormatError
from mri_recon.pacs import collect
from tests.support.oblique import oblique

pydicom = pytest.importorskip("pydicom", reason="the extra 'pacs' is not installed")


def _foreign(path: Path, **changes: object) -> Path:
    """An image of a scanner."""
    data = pydicom.Dataset()
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4.5"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.PatientID = "1.2.3", "1.2.3.1", "4711"
    data.ImageType = ["ORIGINAL", "PRIMARY"]
    for name, value in changes.items():
        setattr(data, name, value)
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    return path


def test_a_zip_file_its_folder_and_its_files_hold_the_same(written: Callable[..., Path]) -> None:
    folder = written("a/", trust=True)
    zipped = folder.parent / "series.dcm.zip"
    files = sorted(one for one in folder.rglob("*") if one.is_file())
    expected = [pydicom.dcmread(one).SOPInstanceUID for one in files]
    for given in ([zipped], [folder], files, [zipped, folder, files[0]]):
        found = collect(given).instances
        assert [one.sop_instance for one in found] == expected
        assert found[0].read() == files[0].read_bytes()
        assert found[0].patient_id == "p-1"
    assert collect([zipped]).instances[0].name == "series.dcm.zip:DICOM/IM000001"
    assert collect([folder]).instances[0].name == "a/DICOM/IM000001"


def test_what_is_no_dicom_in_a_folder_is_named(written: Callable[..., Path]) -> None:
    folder = written("a/")
    (folder / "notes\n.txt").write_text("text")
    (folder / "empty").touch()
    os.mkfifo(folder / "pipe")
    (folder / "broken").symlink_to("nowhere")
    (folder / "DICOM" / "loop").symlink_to(folder)
    found = collect([folder])
    assert len(found.instances) == 3
    (note,) = found.notes
    assert "4 files that are no DICOM are not sent" in note
    assert "\n" not in note
    shutil.rmtree(folder / "DICOM")
    with pytest.raises(FormatError, match="expected DICOM files in the folder .*, found none"):
        collect([folder])


def test_identifiers_follow_the_content_of_the_result(written: Callable[..., Path], tmp_path: Path) -> None:
    path = written("a.h5", trust=True)
    copy = tmp_path / "renamed.h5"
    shutil.copy(path, copy)
    os.utime(copy, (0, 1_000_000_000))
    first, second = collect([path]).instances, collect([copy]).instances
    assert [one.sop_instance for one in first] == [one.sop_instance for one in second]
    assert (first[0].series, first[0].study) == (second[0].series, second[0].study)
    assert len({one.sop_instance for one in first}) == 6
    assert len({one.series for one in first}) == 2
    for one in first:
        for uid in (one.sop_instance, one.series, one.study):
            assert pydicom.uid.UID(uid).is_valid
    with h5py.File(copy, "r+") as file:
        file["reconstruction"][0, 0, 0] += 1
    third = collect([copy]).instances
    assert not {one.sop_instance for one in first} & {one.sop_instance for one in third}
    like = _foreign(tmp_path / "like.dcm")
    fourth = collect([path], like=like).instances
    assert not {one.sop_instance for one in first} & {one.sop_instance for one in fourth}
    assert {one.study for one in fourth} == {"1.2.3"}
    assert {one.patient_id for one in fourth} == {"4711"}


def test_the_same_instances_have_the_same_bytes(written: Callable[..., Path]) -> None:
    for name in ("a.h5", "a.npz"):
        path = written(name)
        once = [one.read() for one in collect([path]).instances]
        assert once == [one.read() for one in collect([path]).instances]


def test_the_time_is_that_of_the_provenance(written: Callable[..., Path]) -> None:
    path = written("a.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["provenance"] = json.dumps({"created": "2024-02-29T23:59:59+02:00"})
    data = collect([path]).instances[0].dataset()
    assert (data.InstanceCreationDate, data.InstanceCreationTime) == ("20240229", "215959")
    for damaged in (
        '{"created": "yesterday"}',
        "[1]",
        "{",
        '{"created": 5}',
        '{"created": "0001-01-01T00:00:00+00:00"}',
    ):
        with h5py.File(path, "r+") as file:
            file.attrs["provenance"] = damaged
        os.utime(path, (0, 1_000_000_000))
        assert collect([path]).instances[0].dataset().InstanceCreationDate == "20010909"


@pytest.mark.parametrize("num_slices", [1, 3])
@pytest.mark.parametrize("placed", [True, False])
def test_npz_and_hdf5_become_the_same_images(num_slices: int, placed: bool, written: Callable[..., Path]) -> None:
    geometry = oblique(num_slices) if placed else None
    about = {"geometry": geometry, "num_slices": num_slices, "trust": True}
    for ours, theirs in zip(
        collect([written("a.h5", **about)]).instances, collect([written("a.npz", **about)]).instances, strict=True
    ):
        one, other = ours.dataset(), theirs.dataset()
        assert ours.sop_class == theirs.sop_class
        assert one.PixelData == other.PixelData
        assert one.get("ImagePositionPatient") == other.get("ImagePositionPatient")
        assert one.DerivationDescription == other.DerivationDescription
        assert one.SeriesDescription == other.SeriesDescription


def test_images_of_others_are_refused_unless_asked_for(written: Callable[..., Path], tmp_path: Path) -> None:
    foreign = _foreign(tmp_path / "foreign.dcm")
    own = written("a.dcm")
    with pytest.raises(FormatError, match="expected DICOM that mri-recon wrote .*, got foreign.dcm, .*--foreign"):
        collect([own, foreign])
    assert len(collect([own, foreign], foreign=True).instances) == 2
    for name, value in (("ImageComments", "nice"), ("ImageType", ["ORIGINAL"]), ("ContributingEquipmentSequence", [])):
        data = pydicom.dcmread(own)
        setattr(data, name, value)
        data.save_as(tmp_path / "changed.dcm")
        with pytest.raises(FormatError, match="expected DICOM that mri-recon wrote"):
            collect([tmp_path / "changed.dcm"])


def test_two_contents_of_one_identifier(written: Callable[..., Path], tmp_path: Path) -> None:
    own = written("a.dcm")
    data = pydicom.dcmread(own)
    data.PatientID = "another"
    data.save_as(tmp_path / "b.dcm")
    with pytest.raises(FormatError, match=r"two of SOP Instance UID 2\.25\.\d+: a.dcm and b.dcm; send one of them"):
        collect([own, tmp_path / "b.dcm"])


def test_instances_without_identifiers(tmp_path: Path) -> None:
    for name in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        path = _foreign(tmp_path / "a.dcm")
        data = pydicom.dcmread(path)
        delattr(data, name)
        pydicom.dcmwrite(path, data)
        with pytest.raises(FormatError, match="series, study and transfer syntax in a.dcm, one is missing"):
            collect([path], foreign=True)


def test_what_is_no_result(written: Callable[..., Path], tmp_path: Path) -> None:
    own = written("a.dcm")
    (tmp_path / "text.dcm").write_text("no DICOM")
    (tmp_path / "cut.dcm").write_bytes(own.read_bytes()[:200])
    (tmp_path / "cut.dcm.zip").write_bytes(written("b.dcm.zip").read_bytes()[:-40])
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.mkdir("folder")
    np.savez(tmp_path / "kspace.npz", kspace=np.ones((2, 3)))
    np.savez(tmp_path / "odd.npz", image=np.ones((1, 2, 3)), metadata=np.frombuffer(b"[1]", np.uint8))
    np.savez(tmp_path / "text.npz", image=np.ones((1, 2, 3)), metadata=np.array(["{}"]))
    np.savez(tmp_path / "flat.npz", image=np.ones((2, 3)), metadata=np.frombuffer(b"{}", np.uint8))
    np.savez(tmp_path / "size.npz", image=np.ones((1, 2, 3)), metadata=np.frombuffer(b'{"recon_size": [1]}', np.uint8))
    for name, told in (
        ("nothing", "found nothing at"),
        ("text.dcm", "is none of them: reconstruct k-space first"),
        ("scan.h5", "is none of them: reconstruct k-space first"),
        ("cut.dcm", "expected .* in cut.dcm, one is missing|got cut.dcm, which is none or is damaged"),
        ("cut.dcm.zip", "damaged, encrypted or cut short"),
        ("texts.zip", "expected DICOM, got texts.zip:a.txt, which is none or is damaged"),
        ("none.zip", "expected DICOM files in none.zip, found none"),
        ("kspace.npz", "expected the arrays 'image' and 'metadata' of a reconstruction in kspace.npz, found kspace"),
        ("odd.npz", "expected a record in 'metadata' of odd.npz"),
        ("text.npz", "expected"),
        ("flat.npz", r"expected images \(slice, h, w\) in flat.npz"),
        ("size.npz", "expected two whole numbers as recon_size of size.npz"),
    ):
        with pytest.raises(FormatError, match=told):
            collect([tmp_path / name])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FormatError, match="is a pipe, socket or device"):
        collect([tmp_path / "pipe"])


def test_like_is_for_results_of_arrays(written: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="got DICOM alone, which is sent as it is: leave it out"):
        collect([written("a.dcm")], like=_foreign(tmp_path / "like.dcm"))


def test_a_result_of_a_scan_that_may_not_be_pictured(written: Callable[..., Path]) -> None:
    path = written("a.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["no_pictures"] = True
    with pytest.raises(DataError, match="expected a scan that may be pictured"):
        collect([path])


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_one_name_are_both_taken(written: Callable[..., Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(written("b.dcm.zip")) as archive:
        one, other, _ = (archive.read(name) for name in archive.namelist())
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as twice:
        twice.writestr("IM", one)
        twice.writestr("IM", other)
    assert [instance.read() for instance in collect([tmp_path / "c.zip"]).instances] == [one, other]


def test_files_larger_than_the_limit(written: Callable[..., Path]) -> None:
    with pytest.raises(FormatError, match="more than 1000 bytes"):
        collect([written("a.dcm")], max_bytes=1000)
    with pytest.raises(FormatError, match="unpacks to more than 1000 bytes: unpack it, and send the folder"):
        collect([written("a.dcm.zip")], max_bytes=1000)
