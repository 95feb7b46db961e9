"""Read Agilent and Varian raw k-space: a file `fid` of samples and the text file `procpar` beside it.

`fid` has a header of 32 bytes, then blocks: headers of 28 bytes and `ntraces` traces of `np` numbers, all big-endian.
`seqcon` in procpar defines the loops over traces and blocks. It has a letter each for echoes, slices, phase-encoding
lines and two further encodings: c for a loop inside a block, s for a loop over blocks, n for no loop. Inside a block
the slices run over the traces; over the blocks, an arrayed parameter, such as the inversion time, runs fastest.
"""

from __future__ import annotations

import itertools
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.geometry import Geometry
from mri_recon.io.reading.axes import refuse_axes
from mri_recon.io.reading.choice import parse_choice, pick_index
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES, check_declared, show
from mri_recon.io.reading.slices import Slices, chosen_slices, slices_meta
from mri_recon.io.scan import RawScan

__all__ = ["HEAD_SIZE", "is_fid", "read_fid"]

HEAD_SIZE = 32
"""Length of the header in bytes."""

_BLOCK_HEADER = 28
_MAX_PROCPAR = 2**24
_FLOAT, _INT32 = 0x8, 0x4  # bits of the status
_NAMES = {"array": "element of the arrayed parameter, e.g. of the inversion times"}


@dataclass(frozen=True)
class _Layout:
    blocks: int
    traces: int
    numbers: int
    kind: np.dtype[Any]
    block_bytes: int
    header_bytes: int


def is_fid(head: bytes, size: int) -> bool:
    """Tell from its first bytes whether a file of `size` bytes is an Agilent fid, whose sizes must add up."""
    return _layout(head, size) is not None


def _layout(head: bytes, size: int) -> _Layout | None:
    if len(head) < HEAD_SIZE:
        return None
    blocks, traces, numbers, element, trace_bytes, block_bytes, _, status, headers = struct.unpack_from(
        ">iiiiiihhi", head
    )
    kind = ">f4" if status & _FLOAT else ">i4" if status & _INT32 else ">i2"
    fits = (
        min(blocks, traces, numbers, headers) >= 1
        and numbers % 2 == 0
        and element == np.dtype(kind).itemsize
        and trace_bytes == numbers * element
        and block_bytes == traces * trace_bytes + headers * _BLOCK_HEADER
        and size == HEAD_SIZE + blocks * block_bytes
    )
    return _Layout(blocks, traces, numbers, np.dtype(kind), block_bytes, headers * _BLOCK_HEADER) if fits else None


def read_fid(
    path: Path,
    *,
    axes: str | None = None,
    variable: str | None = None,
    slices: Slices | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> RawScan:
    """Read one k-space of each slice of an Agilent fid; see `mri_recon.io.load`.

    Args:
        path: the fid; `procpar` lies beside it.
        axes: must be None, because procpar defines the axes.
        variable: "array=N" takes element N of an arrayed parameter; the first one by default.
        slices: slices to read, as in `load`.
        max_bytes: largest array to read.

    Raises:
        FormatError: damaged, no procpar, or not sampled line by line.
    """
    refuse_axes(axes, f"the Agilent file {path.name}", "procpar says them")
    with path.open("rb") as stream:
        layout = _layout(stream.read(HEAD_SIZE), path.stat().st_size)
    if layout is None:
        raise FormatError(
            f"expected an Agilent fid, got {path.name}, which is damaged or cut short: copy or export it again"
        )
    parameters = _read_procpar(path.with_name("procpar"))
    lines, planes, arrayed = _shape(parameters, layout, path.name)
    chosen = parse_choice(variable, _NAMES, where=path.name)
    index = pick_index(chosen, "array", arrayed, where=path.name)
    samples = layout.numbers // 2
    check_declared((planes, samples, lines), 2 * layout.kind.itemsize, where=path.name, max_bytes=max_bytes)
    stored = np.memmap(path, dtype=np.uint8, mode="r", offset=HEAD_SIZE, shape=(layout.blocks, layout.block_bytes))
    numbers: npt.NDArray[Any] = stored[:, layout.header_bytes :].view(layout.kind)
    # Over the blocks the arrayed parameter runs fastest, the phase-encoding line slowest.
    numbers = numbers.reshape(lines, arrayed, planes, samples, 2)[:, index]
    wanted = chosen_slices(slices, planes, where=path.name)
    if wanted is not None:
        numbers = numbers[:, wanted]
    numbers = np.moveaxis(numbers, (0, 1, 2), (2, 0, 1))  # to (slice, readout, phase)
    kspace = np.empty((numbers.shape[0], 1, samples, lines), dtype=np.complex64)
    with np.errstate(over="ignore", invalid="ignore"):
        kspace.real[:, 0], kspace.imag[:, 0] = numbers[..., 0], numbers[..., 1]
    name = parameters.get("array", [""])[0]
    left_out = [f"{arrayed - 1} other values of {show(name)}"] if arrayed > 1 else []
    geometry = _geometry(parameters, samples, lines)
    return RawScan(
        kspace,
        name=path.name,
        meta={
            "format": "Agilent fid",
            "file": path.name,
            "axes": "phase array slice readout",
            "axes_assumed": False,
            **slices_meta(wanted, planes),
            "left_out": left_out,
            **({} if geometry is None else {"geometry": geometry.as_dict()}),
            **({"arrayed_parameter": ascii(name)[1:-1], "array": index, "num_array": arrayed} if arrayed > 1 else {}),
        },
    )


def _geometry(parameters: dict[str, list[str]], samples: int, lines: int) -> Geometry | None:
    """Read the voxel size: field of view `lro`, `lpe` in cm, thickness `thk` in mm; None if one is missing.

    Where slices lie in the patient is not read: programs disagree on the signs of the angles `psi`, `phi`, `theta`.
    """
    try:
        readout, phase, thickness = (float(parameters[key][0]) for key in ("lro", "lpe", "thk"))
        sizes = (10 * readout / samples, 10 * phase / lines, thickness)
        return Geometry(sizes) if all(map(math.isfinite, sizes)) else None
    except (KeyError, ValueError, FormatError):
        return None


def _shape(parameters: dict[str, list[str]], layout: _Layout, name: str) -> tuple[int, int, int]:
    """Return the numbers of phase-encoding lines, slices and elements of the arrayed parameter."""
    seqcon = parameters.get("seqcon", [""])[0]
    lines, planes = (_integer(parameters, key, name) for key in ("nv", "ns"))
    if not re.fullmatch(r"n[cs]snn", seqcon) and not (planes == 1 and re.fullmatch(r"[ncs][ncs]snn", seqcon)):
        raise FormatError(
            f"expected one phase-encoding line a block (seqcon 'ncsnn') in procpar of {name}, got {show(seqcon)}: "
            "other orders (several echoes or lines a block, 3-D) are not read"
        )
    if any(_integer(parameters, key, name, default=1) > 1 for key in ("ne", "etl")):
        raise FormatError(f"expected one echo a line in {name}, procpar has several (ne, etl): these are not read")
    if parameters.get("petable", ["n"])[0] not in ("n", ""):
        raise FormatError(f"expected lines in order in {name}, procpar names a table of lines (petable): not read")
    if seqcon[1:2] == "s" and planes > 1:
        raise FormatError(
            f"expected the slices inside a block in {name} (seqcon 'ncsnn'), got {show(seqcon)}: not read"
        )
    if lines < 1 or planes != layout.traces or layout.blocks % lines:
        raise FormatError(
            f"expected {layout.traces} slices and a divisor of {layout.blocks} as lines in procpar of {name}, "
            f"got ns = {planes}, nv = {lines}: procpar belongs to another scan"
        )
    return lines, planes, layout.blocks // lines


def _integer(parameters: dict[str, list[str]], key: str, name: str, *, default: int | None = None) -> int:
    value = parameters.get(key, [str(default)])[0]
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise FormatError(f"expected a whole number {key} in procpar of {name}, got {show(value)}: copy procpar again")
    return int(value)


def _read_procpar(path: Path) -> dict[str, list[str]]:
    """Parse parameters and their values as text: a line of name and properties, then a line of count and values."""
    if not path.is_file():
        raise FormatError(f"expected a file procpar beside the Agilent fid, found none at {path}: keep both together")
    if path.stat().st_size > _MAX_PROCPAR:
        raise FormatError(f"expected at most {_MAX_PROCPAR} bytes in {path.name}, it has more: it is damaged")
    rows = path.read_bytes().decode("latin-1").split("\n")
    found: dict[str, list[str]] = {}
    for head, values in itertools.pairwise(rows):
        words = head.split(" ")
        if len(words) not in (11, 12) or not re.fullmatch(r"[A-Za-z_]\w{0,63}", words[0]):
            continue
        count, _, rest = values.partition(" ")
        if count.isdecimal():
            found.setdefault(words[0], re.findall(r'"[^"]*"|[^\s"]+', rest) or [""])
    return {key: [value.strip('"') for value in values] for key, values in found.items()}
