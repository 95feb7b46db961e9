"""The opener of foreign HDF5: what points outside, or is not what it declares, is refused before it is followed."""

from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mri_recon.errors import FormatError
from mri_recon.io import load, load_mask
from mri_recon.io.reading.hdf5 import MAX_OBJECTS, get_dataset, open_hdf5, read_array, read_attribute, read_text
from mri_recon.io.reading.heaps import check_heaps
from tests.support.damage import assert_cuts_are_refused
from tests.support.patience import PATIENCE

CANARY = 8765.4321
SECRET = "canary-of-another-file"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that nothing may read: k-space and text that a leak would show."""
    path = tmp_path / "outside.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = np.full((1, 8, 12), CANARY + 0j, np.complex64)
        file["mask"] = np.ones(12, bool)
        file["ismrmrd_header"] = SECRET
        file["group/kspace"] = file["kspace"][()]
    path.with_suffix(".bin").write_bytes(np.full((1, 8, 12), CANARY + 0j, np.complex64).tobytes())
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every read of data that h5py is asked for."""
    asked: list[Any] = []
    original = h5py.Dataset.__getitem__

    def spy(self: h5py.Dataset, *args: Any, **kwargs: Any) -> Any:
        asked.append(self.name)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
    return asked


def good(file: h5py.File, *leave_out: str) -> None:
    if "kspace" not in leave_out:
        file["kspace"] = np.ones((1, 8, 12), np.complex64)


def soft_link(file: h5py.File, outside: Path) -> None:
    file["real"] = np.ones((1, 8, 12), np.complex64)
    file["kspace"] = h5py.SoftLink("/real")


def dangling_link(file: h5py.File, outside: Path) -> None:
    good(file)
    file["mask"] = h5py.SoftLink("/nowhere")


def external_link(file: h5py.File, outside: Path) -> None:
    file["kspace"] = h5py.ExternalLink(str(outside), "/kspace")


def external_group(file: h5py.File, outside: Path) -> None:
    file["group"] = h5py.ExternalLink(str(outside), "/group")


def external_header(file: h5py.File, outside: Path) -> None:
    good(file)
    file["ismrmrd_header"] = h5py.ExternalLink(str(outside), "/ismrmrd_header")


def external_link_deep_inside(file: h5py.File, outside: Path) -> None:
    good(file)
    file["a/b/c/d"] = h5py.ExternalLink(str(outside), "/kspace")


def soft_link_through_an_external_one(file: h5py.File, outside: Path) -> None:
    file["x"] = h5py.ExternalLink(str(outside), "/")
    file["kspace"] = h5py.SoftLink("/x/kspace")


def external_storage(file: h5py.File, outside: Path) -> None:
    shape = (1, 8, 12)
    file.create_dataset("kspace", shape, np.complex64, external=[(str(outside.with_suffix(".bin")), 0, 8 * 96)])


def external_storage_of_a_bystander(file: h5py.File, outside: Path) -> None:
    good(file)
    file.create_dataset("other", (4,), "f4", external=[(str(outside.with_suffix(".bin")), 0, 16)])


def virtual_dataset(file: h5py.File, outside: Path) -> None:
    layout = h5py.VirtualLayout((1, 8, 12), np.complex64)
    layout[:] = h5py.VirtualSource(str(outside), "kspace", shape=(1, 8, 12))
    file.create_virtual_dataset("kspace", layout)


def virtual_dataset_without_end(file: h5py.File, outside: Path) -> None:
    """An unlimited mapping makes the library open its sources as soon as anyone asks for the shape."""
    layout = h5py.VirtualLayout((1, 8, 12), np.complex64, maxshape=(None, 8, 12))
    source = h5py.VirtualSource(str(outside), "kspace", shape=(1, 8, 12), maxshape=(None, 8, 12))
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    file.create_virtual_dataset("kspace", layout)


def virtual_mask(file: h5py.File, outside: Path) -> None:
    good(file)
    layout = h5py.VirtualLayout((12,), bool)
    layout[:] = h5py.VirtualSource(str(outside), "mask", shape=(12,))
    file.create_virtual_dataset("mask", layout)


def references(file: h5py.File, outside: Path) -> None:
    good(file)
    file["refs"] = np.array([file["kspace"].ref], dtype=h5py.ref_dtype)


def objects(file: h5py.File, outside: Path) -> None:
    good(file)
    file.create_dataset("mask", (12,), dtype=h5py.vlen_dtype(np.uint8))


def records(file: h5py.File, outside: Path) -> None:
    """What a raw ISMRMRD file looks like."""
    file.create_dataset("dataset/data", data=np.zeros(3, dtype=[("head", "u2"), ("traj", "f4")]))


def opaque(file: h5py.File, outside: Path) -> None:
    good(file)
    file["blob"] = np.void(b"\x00" * 64)


def foreign_filter(file: h5py.File, outside: Path) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((1, 8, 12))
    plist.set_filter(305, h5py.h5z.FLAG_OPTIONAL, ())
    kind = h5py.h5t.py_create(np.dtype(np.complex64))
    h5py.h5d.create(file.id, b"kspace", kind, h5py.h5s.create_simple((1, 8, 12)), plist)


def gzip_in_gzip(file: h5py.File, outside: Path) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((1, 8, 12))
    for _ in range(2):
        plist.set_filter(h5py.h5z.FILTER_DEFLATE, h5py.h5z.FLAG_MANDATORY, (4,))
    kind = h5py.h5t.py_create(np.dtype(np.complex64))
    h5py.h5d.create(file.id, b"kspace", kind, h5py.h5s.create_simple((1, 8, 12)), plist)


def endless_stream(file: h5py.File, outside: Path) -> None:
    """A chunk of 768 bytes whose stored stream unpacks to 32 MiB: the library unpacks all of it."""
    dataset = file.create_dataset("kspace", (1, 8, 12), np.complex64, chunks=(1, 8, 12), compression="gzip")
    dataset.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(2**25)))


def huge_chunk(file: h5py.File, outside: Path) -> None:
    file.create_dataset(
        "kspace",
        (1, 8, 12),
        np.complex64,
        maxshape=(None, None, None),
        chunks=(1 << 8, 1 << 10, 1 << 8),
        compression="gzip",
    )


def shape_bomb(file: h5py.File, outside: Path) -> None:
    file.create_dataset("kspace", (1 << 20, 1 << 10, 1 << 10), np.complex64, chunks=(1, 64, 64), compression="gzip")


def sparse_bomb(file: h5py.File, outside: Path) -> None:
    """Below the limit of memory, but nothing of it was ever stored."""
    file.create_dataset("kspace", (512, 256, 256), np.complex64, chunks=(1, 256, 256))


def many_objects(file: h5py.File, outside: Path) -> None:
    group = file.create_group("g")
    for index in range(MAX_OBJECTS + 1):
        group[f"{index}"] = file["/"]


ATTACKS: list[tuple[Callable[[h5py.File, Path], None], str]] = [
    (soft_link, "expected plain arrays in a.h5, got the link 'kspace': links are not followed"),
    (dangling_link, "got the link 'mask'"),
    (external_link, "got the link 'kspace'"),
    (external_group, "got the link 'group'"),
    (external_header, "got the link 'ismrmrd_header'"),
    (external_link_deep_inside, "got the link 'd'"),
    (soft_link_through_an_external_one, "got the link"),
    (external_storage, "expected an array stored in the file, 'kspace' of a.h5 has external storage"),
    (external_storage_of_a_bystander, "'other' of a.h5 has external storage"),
    (virtual_dataset, "'kspace' of a.h5 is a virtual dataset"),
    (virtual_dataset_without_end, "'kspace' of a.h5 is a virtual dataset"),
    (virtual_mask, "'mask' of a.h5 is a virtual dataset"),
    (references, "'refs' of a.h5 has records, references or objects"),
    (objects, "'mask' of a.h5 has records, references or objects"),
    (records, "convert it to arrays of numbers first"),
    (opaque, "'blob' of a.h5 has records, references or objects"),
    (foreign_filter, "expected gzip, lzf, szip or no compression, 'kspace' of a.h5 uses the HDF5 filter 305"),
    (gzip_in_gzip, "expected each filter once, 'kspace' of a.h5 has one twice"),
    (
        endless_stream,
        r"expected at most 5632 stored bytes in '/kspace' of a.h5, got \d+: it is damaged or a decompress",
    ),
    (huge_chunk, "expected chunks no larger than the array, 'kspace' of a.h5 has chunks of"),
    (shape_bomb, r"expected at most 17179869184 bytes, '/kspace' of a.h5 declares shape \(1048576, 1024, 1024\)"),
    (sparse_bomb, "declares 268435456 bytes but stores 0: it is damaged or a decompression bomb"),
    (many_objects, f"expected at most {MAX_OBJECTS} objects in a.h5, found more"),
]


@pytest.mark.parametrize(("attack", "message"), ATTACKS, ids=[attack.__name__ for attack, _ in ATTACKS])
def test_attacks_are_refused_before_anything_is_read(
    tmp_path: Path, outside: Path, reads: list[Any], attack: Callable[[h5py.File, Path], None], message: str
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="latest") as file:
        attack(file, outside)
    reads.clear()
    with pytest.raises(FormatError, match=message) as caught:
        load(path)
    assert reads == [], "nothing is read before the whole file is checked"
    told = f"{caught.value} {caught.value.__cause__}"
    assert SECRET not in told
    assert "8765" not in told
    assert str(outside) not in told


@pytest.mark.parametrize("attack", [external_link, virtual_mask, external_storage_of_a_bystander, objects])
def test_the_outside_file_is_not_even_opened(
    tmp_path: Path, outside: Path, attack: Callable[[h5py.File, Path], None]
) -> None:
    """With the target gone the answer is the same: nobody looked whether it exists."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        attack(file, outside)
    with pytest.raises(FormatError) as there:
        load(path)
    outside.unlink()
    outside.with_suffix(".bin").unlink()
    with pytest.raises(FormatError) as gone:
        load(path)
    assert str(there.value) == str(gone.value)


def test_mask_files_go_through_the_same_door(tmp_path: Path, outside: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        virtual_mask(file, outside)
    with pytest.raises(FormatError, match="'mask' of a.h5 is a virtual dataset"):
        load_mask(tmp_path / "a.h5")


def test_rings_of_hard_links_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        good(file)
        file["a/b"] = file["/"]
        file["a/c"] = file["kspace"]
    assert load(tmp_path / "a.h5").kspace.shape == (1, 1, 8, 12)
    assert load(tmp_path / "a.h5", variable="a/b/a/c").kspace.shape == (1, 1, 8, 12)


def test_cut_short_at_any_length(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", data=np.ones((1, 8, 12), np.complex64), chunks=(1, 8, 12), compression="gzip")
        file["mask"] = np.ones(12, bool)
    assert_cuts_are_refused(path, path.stat().st_size // 40)


FUZZ = """
import sys
import h5py, numpy as np
from mri_recon.errors import FormatError
from mri_recon.io import load

path, libver = sys.argv[1:]
with h5py.File(path, "w", libver=libver) as file:
    file.create_dataset("kspace", data=np.ones((1, 2, 3, 4), np.complex64), chunks=(1, 1, 3, 4), fletcher32=True)
    file["ismrmrd_header"] = "<ismrmrdHeader/>"
    file["mask"] = np.ones(4, bool)
    file.attrs["patient_id"] = "p" * 40
with open(path, "rb") as stream:
    whole = stream.read()
rng = np.random.default_rng(0)
for _ in range(200):
    damaged = bytearray(whole)
    damaged[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
    with open(path, "wb") as stream:
        stream.write(damaged)
    try:
        assert load(path).kspace.numel() > 0
    except FormatError as error:
        assert "a.h5" in str(error)
"""


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_flipped_bits_are_an_error_or_harmless(tmp_path: Path, libver: str) -> None:
    """Whatever bit is flipped: a scan or a FormatError, never another exception, a crash or a hang of the library.

    In a process of its own, for a hang in C cannot be interrupted. A flip in a value without a checksum is not seen.
    """
    command = [sys.executable, "-c", FUZZ, str(tmp_path / "a.h5"), libver]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("size", [0, 1 << 40])
def test_a_heap_in_which_the_library_would_hang(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        good(file)
        file["ismrmrd_header"] = "<ismrmrdHeader/>"
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    free = heap + 16 + 16 + len("<ismrmrdHeader/>")  # the heap's head, the text's head, the text: 16 needs no padding
    assert content[free : free + 2] == b"\0\0", "the free space that follows"
    content[free + 8 : free + 16] = size.to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(FormatError, match="expected a readable HDF5 file, got a.h5, which is damaged or cut short"):
        load(path)


def test_heaps_are_walked_to_their_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    obj = b"\1\0\1\0\0\0\0\0" + (3).to_bytes(8, "little") + b"abc\0\0\0\0\0"
    head = b"GCOL\1\0\0\0"
    for content, sound in [
        (b"", True),
        (b"no heap", True),
        (head + (16 + 48).to_bytes(8, "little") + obj + obj, True),
        (head + (16 + 48).to_bytes(8, "little") + obj, False),
        (head + (16 + 20).to_bytes(8, "little") + obj, False),
        (head + (8).to_bytes(8, "little") + obj, False),
        (head, False),
    ]:
        path.write_bytes(content)
        if sound:
            check_heaps(path)
        else:
            with pytest.raises(FormatError, match="expected a readable HDF5 file, got a.bin"):
                check_heaps(path)


def test_checksums_find_a_changed_sample(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "kspace", data=np.full((1, 8, 12), 3 + 4j, np.complex64), chunks=(1, 8, 12), fletcher32=True
        )
        offset = file["kspace"].id.get_chunk_info(0).byte_offset
    damaged = bytearray(path.read_bytes())
    damaged[offset + 100] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(FormatError, match="expected a readable HDF5 file, got a.h5, which is damaged or cut short"):
        load(path)


def test_the_limit_counts_what_is_selected(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = np.ones((4, 8, 12), np.complex64)
    assert load(tmp_path / "a.h5", max_bytes=2 * 8 * 96, slices=slice(1, 3)).num_slices == 2
    with pytest.raises(
        FormatError, match="expected at most 1536 bytes, '/kspace' of a.h5 declares shape .*which takes 3072"
    ):
        load(tmp_path / "a.h5", max_bytes=2 * 8 * 96)


def test_no_such_file_and_no_hdf5(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="expected an HDF5 file, found nothing at"), open_hdf5(tmp_path / "no.h5"):
        pass
    (tmp_path / "a.h5").write_bytes(b"no hdf5" * 100)
    with pytest.raises(FormatError, match="expected a readable HDF5 file, got a.h5"), open_hdf5(tmp_path / "a.h5"):
        pass


def test_an_error_of_the_caller_stays_the_callers(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        good(file)
    with pytest.raises(ZeroDivisionError), open_hdf5(tmp_path / "a.h5"):
        raise ZeroDivisionError


def test_parts_of_an_open_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["g/x"] = np.arange(6, dtype=">f8").reshape(2, 3)
        file["scalar"] = 5
        file["none"] = np.zeros((0, 3))
        file["text"] = "käse"
        file["fixed"] = np.bytes_(b"abc")
        file["long"] = np.bytes_(b"a" * (2**20 + 1))
        file["texts"] = ["a", "b"]
        file.attrs["a"] = "x\x1b\ny"
        file.attrs["long"] = np.bytes_(b"x" * 60000)
        file.attrs["n"] = np.float32(2)
        file.attrs["empty"] = h5py.Empty("f4")
    with open_hdf5(tmp_path / "a.h5") as file:
        assert get_dataset(file, "nothing/x") is None
        assert get_dataset(file, "scalar/x") is None
        found = {name: get_dataset(file, name) for name in ("g/x", "scalar", "none", "text", "fixed", "long", "texts")}
        assert read_array(found["g/x"]).tolist() == [[0, 1, 2], [3, 4, 5]]
        assert read_array(found["g/x"]).dtype == np.float64
        assert read_array(found["scalar"]) == 5
        assert read_array(found["none"]).shape == (0, 3)
        assert read_text(found["text"]) == "käse"
        assert read_text(found["fixed"]) == "abc"
        assert read_attribute(file, "a") == "xy"
        assert read_attribute(file, "n") == 2
        assert read_attribute(file, "none") is None
        for name, message in {"long": "at most 1048576 characters", "texts": "expected one text"}.items():
            with pytest.raises(FormatError, match=message):
                read_text(found[name])
        with pytest.raises(FormatError, match="expected numbers in '/text' of a.h5"):
            read_array(found["text"])
        with pytest.raises(FormatError, match="expected the attribute 'empty' of a.h5 to be one number or text"):
            read_attribute(file, "empty")
        with pytest.raises(FormatError, match="expected an array 'g' in a.h5, found a group"):
            get_dataset(file, "g")
