"""Small files in the scanners' formats, packed byte by byte from the formats' descriptions, without a library."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Complex = npt.NDArray[np.complex64]

FLAGS = {"ACQEND": 0, "SYNCDATA": 5, "PHASCOR": 21, "PATREFSCAN": 22, "PATREFANDIMASCAN": 23, "REFLECT": 24}
FLAGS |= {"NOISEADJSCAN": 25}
COUNTERS = ("Lin", "Ave", "Sli", "Par", "Eco", "Phs", "Rep", "Set", "Seg", "Ida", "Idb", "Idc", "Idd", "Ide")


@dataclass(frozen=True)
class Block:
    """One readout: samples `(coil, readout)`, its flags and counters."""

    data: Complex
    flags: tuple[str, ...] = ()
    counters: dict[str, int] = field(default_factory=dict)
    center_column: int = 0
    center_line: int = 0
    center_partition: int = 0
    place: tuple[float, ...] = (0.0,) * 7  # position (LPS, mm) and quaternion (w, x, y, z) of the slice
    channels: tuple[int, ...] = ()  # numbers of the receive channels; by default 0, 1, 2, ...

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the channels."""
        return self.channels or tuple(range(len(self.data)))


def lines_of(kspace: Complex, **about: Any) -> list[Block]:
    """Blocks of k-space `(slice, coil, readout, phase)`, line by line, slice by slice."""
    return [
        Block(np.ascontiguousarray(plane[..., line]), counters={"Lin": line, "Sli": number}, **about)
        for number, plane in enumerate(kspace)
        for line in range(kspace.shape[-1])
    ]


def twix_ve(
    path: Path, *measurements: list[Block], oversampling: float = 1.0, length_known: bool = True, protocol: str = ""
) -> Path:
    """A VD/VE file: a table of measurements, each a protocol and blocks."""
    content = bytearray(10240)
    struct.pack_into("<II", content, 0, 0, len(measurements))
    for number, blocks in enumerate(measurements):
        start = len(content)
        content += _protocol(oversampling, protocol)
        for block in blocks:
            content += _block_ve(block)
        content += _end(192)
        length = len(content) - start if length_known else 0
        struct.pack_into("<IIQQ", content, 8 + 152 * number, number, number, start, length)
        content += bytes(-len(content) % 512)
    path.write_bytes(content)
    return path


def twix_vb(path: Path, blocks: list[Block], *, oversampling: float = 1.0, protocol: str = "") -> Path:
    """A VB file: a protocol and blocks, with a header before every channel."""
    content = bytearray(_protocol(oversampling, protocol))
    for block in blocks:
        channels, samples = block.data.shape
        for channel, data in enumerate(block.data):
            head = bytearray(128)
            struct.pack_into("<IiIII", head, 0, 128 + 8 * samples, 0, 1, 0, 0)
            struct.pack_into("<QHH14H", head, 20, _mask(block), samples, channels, *_counters(block))
            struct.pack_into("<H", head, 64, block.center_column)
            struct.pack_into("<HH", head, 76, block.center_line, block.center_partition)
            struct.pack_into("<7f", head, 96, *block.place)
            struct.pack_into("<H", head, 124, block.numbers[channel])
            content += head + data.astype("<c8").tobytes()
    path.write_bytes(content + _end(128))
    return path


def _block_ve(block: Block) -> bytes:
    channels, samples = block.data.shape
    head = bytearray(192)
    struct.pack_into("<I", head, 0, 192 + channels * (32 + 8 * samples))
    struct.pack_into("<QHH14H", head, 40, _mask(block), samples, channels, *_counters(block))
    struct.pack_into("<H", head, 84, block.center_column)
    struct.pack_into("<HH", head, 96, block.center_line, block.center_partition)
    struct.pack_into("<7f", head, 100, *block.place)
    if "SYNCDATA" in block.flags:
        return bytes(head) + block.data.astype("<c8").tobytes() + bytes(32 * channels)
    return bytes(head) + b"".join(
        bytes(24) + struct.pack("<H", number) + bytes(6) + data.astype("<c8").tobytes()
        for number, data in zip(block.numbers, block.data, strict=True)
    )


def _protocol(oversampling: float, more: str = "") -> bytes:
    text = f'Config\0....<XProtocol>\n<ParamDouble."flReadoutOSFactor">  {{ <Precision> 6  {oversampling:.6f}  }}\n'
    text += more
    body = text.encode() + bytes(10240 - 8 - len(text))
    return struct.pack("<II", 10240, 1) + body


def _mask(block: Block) -> int:
    return sum(1 << FLAGS[flag] for flag in block.flags)


def _counters(block: Block) -> list[int]:
    return [block.counters.get(name, 0) for name in COUNTERS]


def _end(size: int) -> bytes:
    head = bytearray(size)
    struct.pack_into("<I", head, 0, size + 160)
    struct.pack_into("<Q", head, 40 if size == 192 else 20, 1)
    return bytes(head) + bytes(160)


def pfile(
    path: Path,
    kspace: Complex,
    *,
    revision: float = 26.002,
    point_size: int = 2,
    echoes: int = 1,
    tables: tuple[float, float, dict[int, tuple[float, float, float]]] | None = None,
) -> Path:
    """A GE P-file of k-space `(slice, coil, readout, phase)` of whole numbers.

    `tables` has thickness, gap and the centres (RAS) of coronal slices by their number in the file, in table order.
    """
    slices, coils, samples, lines = kspace.shape
    head = bytearray(2048)
    if tables is not None:
        thickness, gap, centers = tables
        struct.pack_into("<I", head, 4 + 4 * 3, 512)
        struct.pack_into("<I", head, 4 + 4 * 9, 1400)
        struct.pack_into("<2f", head, 1400 + 316, thickness, gap)
        for index, (number, (x, y, z)) in enumerate(centers.items()):
            corners = (x + 50, y, z - 50, x + 50, y, z + 50, x - 50, y, z - 50)
            struct.pack_into("<hh9f", head, 512 + 72 * index, 0, number + 1, *corners)
    struct.pack_into("<fi", head, 0, revision, len(head))
    head[110:120] = b"GE_MED_NMR"
    struct.pack_into("<8H", head, 144, slices, echoes, 1, lines, 0, 0, samples, point_size)
    struct.pack_into("<H", head, 180, lines + 1)
    struct.pack_into("<hh", head, 264, 0, coils - 1)
    signs = np.where(np.arange(lines) % 2, -1, 1)
    stored = np.moveaxis(kspace * signs, (0, 1, 2, 3), (1, 0, 3, 2))
    stored = np.concatenate([np.full((coils, slices, 1, samples), 7 + 7j), stored], axis=2)
    numbers = np.stack([stored.real, stored.imag], axis=-1).astype(f"<i{point_size}")
    path.write_bytes(bytes(head) + numbers.tobytes())
    return path


def fid(folder: Path, kspace: Complex, *, kind: str = ">f4", **parameters: str) -> Path:
    """An Agilent fid with procpar of k-space `(array, slice, readout, phase)`."""
    arrayed, slices, samples, lines = kspace.shape
    size = np.dtype(kind).itemsize
    status = {">f4": 0x8, ">i4": 0x4, ">i2": 0}[kind] | 0x41
    trace = 2 * samples * size
    content = bytearray(
        struct.pack(">iiiiiihhi", lines * arrayed, slices, 2 * samples, size, trace, slices * trace + 28, 0, status, 1)
    )
    for line in range(lines):
        for element in range(arrayed):
            block = np.stack([kspace[element, :, :, line].real, kspace[element, :, :, line].imag], axis=-1)
            content += bytes(28) + block.astype(kind).tobytes()
    values = {"nv": lines, "ns": slices, "seqcon": '"ncsnn"', "array": '"ti"', "petable": '"n"', **parameters}
    text = "".join(f"{name} 1 1 64 0 1 2 1 9 1 64\n1 {value} \n0 \n" for name, value in values.items())
    folder.mkdir(exist_ok=True)
    (folder / "procpar").write_text(text)
    (folder / "fid").write_bytes(content)
    return folder / "fid"
