"""Files that somebody might upload to do harm. Each is made when a test asks for it; none is kept in the repository."""

from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

__all__ = ["ATTACKS", "MASK_ATTACKS", "MAX_DECODED", "Attack", "Canary", "sound_files"]

MAX_DECODED = 1 << 24
"""Limit for decoded bytes that the bombs are built for."""

_SHAPE = (1, 2, 24, 20)


class Canary:
    """Files of the machine that nobody may see: k-space of one value, raw numbers and text."""

    text = "canary-4f1d27-of-the-machine"
    value = np.complex64(8765.4321)

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.hdf5, self.raw, self.note = folder / "outside.h5", folder / "outside.bin", folder / "note.txt"
        kspace = np.full(_SHAPE, self.value)
        with h5py.File(self.hdf5, "w") as file:
            file["kspace"] = kspace
            file["mask"] = np.ones(_SHAPE[-1], bool)
            file["ismrmrd_header"] = self.text
            file["group/kspace"] = kspace
        self.raw.write_bytes(kspace.tobytes())
        self.note.write_text(self.text)

    def leaks_into(self, answer: bytes) -> bool:
        """Whether any of it stands in an answer or a log."""
        return any(secret in answer for secret in (self.text.encode(), self.value.tobytes() * 2, b"8765.4"))


@dataclass(frozen=True)
class Attack:
    """One hostile file.

    Attributes:
        name: what it tries.
        suffix: of the file's name.
        make: writes it, given its path and the canary.
        says: what the refusal says; empty for a file that is harmless and may be read.
        variable: name of the k-space to ask for.
    """

    name: str
    suffix: str
    make: Callable[[Path, Canary], None]
    says: str
    variable: str | None = None

    def write(self, folder: Path, canary: Canary, stem: str = "upload") -> Path:
        """The file."""
        path = folder / f"{stem}{self.suffix}"
        self.make(path, canary)
        return path


def noise(*shape: int, seed: int = 0) -> Any:
    """Complex white noise: every sample is there."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def sound_files(folder: Path) -> list[Path]:
    """Sound files of every format, small, to be cut and flipped."""
    kspace, lines = noise(*_SHAPE), np.arange(_SHAPE[-1]) % 2 == 0
    np.save(folder / "a.npy", kspace)
    np.savez(folder / "a.npz", kspace=kspace, mask=lines)
    np.savez_compressed(folder / "b.npz", kspace=kspace, mask=lines)
    matlab = {"kspace": kspace.transpose(2, 3, 1, 0), "mask": lines.astype(np.uint8)}
    scipy.io.savemat(folder / "a.mat", matlab)
    scipy.io.savemat(folder / "b.mat", matlab, do_compression=True)
    for name, options in (("a.h5", {"libver": "earliest"}), ("b.h5", {"libver": "latest"})):
        with h5py.File(folder / name, "w", **options) as file:
            file.create_dataset("kspace", data=kspace, chunks=(1, 1, 24, 20), compression="gzip", fletcher32=True)
            file["mask"] = lines
            file["ismrmrd_header"] = _header("")
            file.attrs["acquisition"] = "none"
    return sorted(folder.iterdir())


# ---------------------------------------------------------------------------------------------- HDF5


def _hdf5(write: Callable[[h5py.File, Canary], None]) -> Callable[[Path, Canary], None]:
    def make(path: Path, canary: Canary) -> None:
        with h5py.File(path, "w", libver="latest") as file:
            write(file, canary)

    return make


def _external_link(file: h5py.File, canary: Canary) -> None:
    file["kspace"] = h5py.ExternalLink(str(canary.hdf5), "/kspace")


def _external_folder(file: h5py.File, canary: Canary) -> None:
    """The name that is asked for is `group/kspace`; the link is in the middle of it."""
    file["group"] = h5py.ExternalLink(str(canary.hdf5), "/group")


def _external_header(file: h5py.File, canary: Canary) -> None:
    file["kspace"] = noise(*_SHAPE)
    file["ismrmrd_header"] = h5py.ExternalLink(str(canary.hdf5), "/ismrmrd_header")


def _soft_chain(file: h5py.File, canary: Canary) -> None:
    file["out"] = h5py.ExternalLink(str(canary.hdf5), "/")
    file["c"] = h5py.SoftLink("/out/kspace")
    file["b"] = h5py.SoftLink("/c")
    file["kspace"] = h5py.SoftLink("/b")


def _soft_ring(file: h5py.File, canary: Canary) -> None:
    file["kspace"] = h5py.SoftLink("/b")
    file["b"] = h5py.SoftLink("/kspace")


def _soft_folder(file: h5py.File, canary: Canary) -> None:
    file["real/kspace"] = noise(*_SHAPE)
    file["group"] = h5py.SoftLink("/real")


def _external_storage(file: h5py.File, canary: Canary) -> None:
    file.create_dataset("kspace", _SHAPE, np.complex64, external=[(str(canary.raw), 0, h5py.h5f.UNLIMITED)])


def _external_storage_of_text(file: h5py.File, canary: Canary) -> None:
    file["kspace"] = noise(*_SHAPE)
    file.create_dataset("mask", (20,), "u1", external=[(str(canary.note), 0, 20)])


def _virtual(file: h5py.File, canary: Canary) -> None:
    layout = h5py.VirtualLayout(_SHAPE, np.complex64)
    layout[:] = h5py.VirtualSource(str(canary.hdf5), "kspace", shape=_SHAPE)
    file.create_virtual_dataset("kspace", layout)


def _virtual_mask(file: h5py.File, canary: Canary) -> None:
    file["kspace"] = noise(*_SHAPE)
    layout = h5py.VirtualLayout((20,), bool)
    layout[:] = h5py.VirtualSource(str(canary.hdf5), "mask", shape=(20,))
    file.create_virtual_dataset("mask", layout)


def _reference(file: h5py.File, canary: Canary) -> None:
    file["kspace"] = noise(*_SHAPE)
    file.create_dataset("mask", data=np.array([file["kspace"].ref], dtype=h5py.ref_dtype))


def _shape_bomb(file: h5py.File, canary: Canary) -> None:
    file.create_dataset("kspace", (1 << 20, 1 << 10, 1 << 10), np.complex64, chunks=(1, 256, 256), compression="gzip")


def _sparse_bomb(file: h5py.File, canary: Canary) -> None:
    """Chunks that were never written cost nothing in the file, and read as zeros."""
    file.create_dataset("kspace", (1 << 10, 1 << 10), np.complex64, chunks=(256, 256))
    file.create_dataset("mask", (1 << 10, 1 << 20), np.uint8, chunks=(256, 256))


def _deflate_bomb(file: h5py.File, canary: Canary) -> None:
    shape = (64, 1 << 10, 1 << 10)
    dataset = file.create_dataset("kspace", shape, np.complex64, chunks=(1, 1 << 10, 1 << 10), compression="gzip")
    chunk = zlib.compress(bytes(1 << 23), 9)
    for index in range(shape[0]):
        dataset.id.write_direct_chunk((index, 0, 0), chunk)


def _endless_stream(file: h5py.File, canary: Canary) -> None:
    dataset = file.create_dataset("kspace", (1, 24, 20), np.complex64, chunks=(1, 24, 20), compression="gzip")
    dataset.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(1 << 26), 1))


def _filters(*codes: int) -> Callable[[h5py.File, Canary], None]:
    def write(file: h5py.File, canary: Canary) -> None:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk(_SHAPE)
        for code in codes:
            plist.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (4,))
        kind = h5py.h5t.py_create(np.dtype(np.complex64))
        h5py.h5d.create(file.id, b"kspace", kind, h5py.h5s.create_simple(_SHAPE), plist)

    return write


def _huge_chunk(file: h5py.File, canary: Canary) -> None:
    file.create_dataset("kspace", _SHAPE, np.complex64, maxshape=(None,) * 4, chunks=(1 << 9, 1 << 4, 1 << 9, 1 << 4))


def _many_objects(file: h5py.File, canary: Canary) -> None:
    for number in range(5000):
        file[f"{number}"] = 0


def _xml(declaration: str, use: str) -> Callable[[h5py.File, Canary], None]:
    def write(file: h5py.File, canary: Canary) -> None:
        file["kspace"] = noise(*_SHAPE)
        file["ismrmrd_header"] = _header(use, declaration.replace("CANARY", canary.note.as_uri()))

    return write


def _header(use: str, declaration: str = "") -> str:
    return (
        f'<?xml version="1.0"?>{declaration}<ismrmrdHeader><encoding><encodedSpace><matrixSize><x>24{use}</x><y>20</y>'
        "</matrixSize></encodedSpace></encoding></ismrmrdHeader>"
    )


_LAUGHS = "<!DOCTYPE x [<!ENTITY a0 'ha'>" + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 10))


def _xml_in_utf16(file: h5py.File, canary: Canary) -> None:
    """An encoding in which a search for DOCTYPE finds nothing."""
    file["kspace"] = noise(*_SHAPE)
    text = _header("&a9;", _LAUGHS + "]>").encode("utf-16-le")
    file.create_dataset("ismrmrd_header", data=np.array(b"\xff\xfe" + text, dtype=f"S{len(text) + 2}"))


def _deep_xml(file: h5py.File, canary: Canary) -> None:
    file["kspace"] = noise(*_SHAPE)
    file["ismrmrd_header"] = "<a>" * 140_000 + "</a>" * 140_000


# ---------------------------------------------------------------------------------------------- NumPy


def _npy_header(shape: Any, descr: str = "<c8") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text


def _raw(content: bytes) -> Callable[[Path, Canary], None]:
    return lambda path, canary: path.write_bytes(content) and None


class _Payload:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def _object_array(canary: Canary) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([_Payload(canary.folder / "executed")], dtype=object), allow_pickle=True)
    return out.getvalue()


def _zip(*entries: tuple[str, bytes], deflate: bool = False) -> Callable[[Path, Canary], None]:
    def make(path: Path, canary: Canary) -> None:
        kind = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", kind) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that come twice
            for name, content in entries:
                archive.writestr(name, content)

    return make


def _zip_with(content: Callable[[Canary], bytes]) -> Callable[[Path, Canary], None]:
    return lambda path, canary: _zip(("kspace.npy", content(canary)))(path, canary)


def _overlapping(path: Path, canary: Canary) -> None:
    """Every entry of the directory begins at the first one's bytes."""
    content = _npy_header(_SHAPE[-2:]) + noise(*_SHAPE[-2:]).tobytes()
    _zip(*((f"{n:03d}.npy", content) for n in range(3)))(path, canary)
    raw = bytearray(path.read_bytes())
    position = raw.index(b"PK\x01\x02")
    while position >= 0:
        raw[position + 42 : position + 46] = bytes(4)
        position = raw.find(b"PK\x01\x02", position + 4)
    path.write_bytes(raw)


def _zip_symlink(path: Path, canary: Canary) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("kspace.npy")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, str(canary.hdf5))


# ---------------------------------------------------------------------------------------------- MATLAB


def _mat(*, pack: bool = True, **arrays: Any) -> Callable[[Path, Canary], None]:
    return lambda path, canary: scipy.io.savemat(path, arrays, do_compression=pack)


def _mat_bomb(path: Path, canary: Canary) -> None:
    """A name that unpacks to a gigabyte."""
    flags = np.array([6, 8, 0x0807, 0], "<u4").tobytes()
    dimensions = np.array([5, 8, 24, 20], "<i4").tobytes()
    name = np.array([1, 1 << 30], "<u4").tobytes() + bytes(1 << 26)
    body = flags + dimensions + name
    element = zlib.compress(np.array([14, len(body)], "<u4").tobytes() + body, 9)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    path.write_bytes(header + np.array([15, len(element)], "<u4").tobytes() + element)


_BIG = "expected at most 16777216 bytes"

ATTACKS = [
    Attack("external link", ".h5", _hdf5(_external_link), "links are not followed"),
    Attack("external link in a path", ".h5", _hdf5(_external_folder), "links are not followed", "group/kspace"),
    Attack("external link to a header", ".h5", _hdf5(_external_header), "links are not followed"),
    Attack("soft links to an external one", ".h5", _hdf5(_soft_chain), "links are not followed"),
    Attack("ring of soft links", ".h5", _hdf5(_soft_ring), "links are not followed"),
    Attack("soft link in a path", ".h5", _hdf5(_soft_folder), "links are not followed", "group/kspace"),
    Attack("external storage", ".h5", _hdf5(_external_storage), "has external storage"),
    Attack("external storage of text", ".h5", _hdf5(_external_storage_of_text), "has external storage"),
    Attack("virtual dataset", ".h5", _hdf5(_virtual), "is a virtual dataset"),
    Attack("virtual mask", ".h5", _hdf5(_virtual_mask), "is a virtual dataset"),
    Attack("object reference", ".h5", _hdf5(_reference), "has records, references or objects"),
    Attack("HDF5 shape bomb", ".h5", _hdf5(_shape_bomb), _BIG),
    Attack("HDF5 sparse bomb", ".h5", _hdf5(_sparse_bomb), "expected "),
    Attack("deflate bomb", ".h5", _hdf5(_deflate_bomb), _BIG),
    Attack("stream longer than its chunk", ".h5", _hdf5(_endless_stream), "decompression bomb"),
    Attack("unknown filter", ".h5", _hdf5(_filters(32015)), "uses the HDF5 filter 32015"),
    Attack("n-bit filter", ".h5", _hdf5(_filters(5)), "uses the HDF5 filter 5"),
    Attack("deflate in deflate", ".h5", _hdf5(_filters(1, 1)), "has one twice"),
    Attack("huge chunk", ".h5", _hdf5(_huge_chunk), "expected chunks no larger than the array"),
    Attack("many objects", ".h5", _hdf5(_many_objects), "expected at most 4096 objects"),
    Attack("billion laughs", ".h5", _hdf5(_xml(_LAUGHS + "]>", "&a9;")), "without DOCTYPE and ENTITY"),
    Attack(
        "external entity",
        ".h5",
        _hdf5(_xml('<!DOCTYPE x [<!ENTITY a SYSTEM "CANARY">]>', "&a;")),
        "without DOCTYPE and ENTITY",
    ),
    Attack("external DTD", ".h5", _hdf5(_xml('<!DOCTYPE x SYSTEM "CANARY">', "")), "without DOCTYPE and ENTITY"),
    Attack("entity without a declaration", ".h5", _hdf5(_xml("", "&a;")), ""),  # the header is left out, unread
    Attack("entities in UTF-16", ".h5", _hdf5(_xml_in_utf16), ""),
    Attack("deep XML", ".h5", _hdf5(_deep_xml), ""),
    Attack("HDF5 by name only", ".h5", _raw(b"\x89HDF\r\n\x1a\n" + bytes(600)), "damaged or cut short"),
    Attack("npy shape bomb", ".npy", _raw(_npy_header((1 << 40, 1 << 10))), _BIG),
    Attack("npy shape of overflow", ".npy", _raw(_npy_header((1 << 62, 4, 1 << 62))), _BIG),
    Attack("npy negative shape", ".npy", _raw(_npy_header((-24, -20))), "it is damaged"),
    Attack("npy header with code", ".npy", _raw(_npy_header("__import__('os').getpid()")), "it is damaged"),
    Attack("npy header without end", ".npy", _raw(_npy_header("(" * 9000)), "it is damaged"),
    Attack("npy with a long header", ".npy", _raw(_npy_header((24, 20))[:8] + b"\xff\xff\xff\xff"), "it is damaged"),
    Attack("pickle in npy", ".npy", lambda path, canary: _raw(_object_array(canary))(path, canary), "pickled objects"),
    Attack(
        "bare pickle",
        ".npy",
        lambda path, canary: _raw(pickle.dumps(_Payload(canary.folder / "executed")))(path, canary),
        "is another",
    ),
    Attack("huge elements", ".npy", _raw(_npy_header((2,), "|V2000000000")), "elements of another kind"),
    Attack("pickle in npz", ".npz", _zip_with(_object_array), "pickled objects"),
    Attack(
        "zip bomb",
        ".npz",
        _zip(("kspace.npy", _npy_header((1 << 11, 1 << 12)) + bytes(1 << 26)), deflate=True),
        _BIG,
    ),
    Attack(
        "zip bomb in a header",
        ".npz",
        _zip(("kspace.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\x0f" + b" " * (1 << 27)), deflate=True),
        "it is damaged",
    ),
    Attack("overlapping entries", ".npz", _overlapping, "they overlap"),
    Attack("entries of one name", ".npz", _zip(("kspace.npy", b"x"), ("kspace.npy", b"y")), "two of one name"),
    Attack("many entries", ".npz", _zip(*((f"{n}.npy", b"") for n in range(2000))), "expected at most 1024 arrays"),
    Attack("entry that is a link", ".npz", _zip_symlink, "it is damaged"),
    Attack(
        "entry with a path",
        ".npz",
        _zip(("../../../executed.npy", _npy_header((24, 20)) + noise(24, 20).tobytes())),
        "",
    ),
    Attack(
        "entry with an absolute path", ".npz", _zip(("/etc/x.npy", _npy_header((24, 20)) + noise(24, 20).tobytes())), ""
    ),
    Attack("MATLAB shape bomb", ".mat", _mat(kspace=np.zeros((1 << 11, 1 << 11), np.complex64)), _BIG),
    Attack("MATLAB name bomb", ".mat", _mat_bomb, "damaged or cut short"),
    Attack("MATLAB cells", ".mat", _mat(kspace=np.array([[1, "x"]], dtype=object)), "found"),
    Attack(
        "MATLAB 7.3", ".mat", _raw(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n"), "damaged or cut short"
    ),
]

MASK_ATTACKS = [
    Attack(
        "mask behind an external link",
        ".h5",
        _hdf5(lambda file, canary: file.__setitem__("mask", h5py.ExternalLink(str(canary.hdf5), "/mask"))),
        "links are not followed",
    ),
    Attack("pickled mask", ".npy", lambda path, canary: _raw(_object_array(canary))(path, canary), "pickled objects"),
    Attack("mask bomb", ".npy", _raw(_npy_header((1 << 40,), "|u1")), "expected at most"),
    Attack(
        "mask larger than the scan",
        ".npz",
        _zip(("mask.npy", _npy_header((1 << 20,), "|u1") + bytes(1 << 20)), deflate=True),
        "expected a mask",
    ),
    Attack(
        "huge elements of a mask",
        ".npz",
        _zip(("mask.npy", _npy_header((8,), "<U100000000")), deflate=True),
        "elements of another kind",
    ),
]
