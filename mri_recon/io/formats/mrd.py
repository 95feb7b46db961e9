"""Read ISMRMRD (MRD) raw data, version 1 in HDF5 or as a recorded session, and version 2; Cartesian.

`mrd_readouts`, `mrd_session` and `mrd_stream` read headers and samples, this module selects the readouts of one
contrast, `mrd_order` fills k-space.
"""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.formats.ismrmrd import SCAN_MARKS, SIDES, Header
from mri_recon.io.formats.mrd_order import Layout, fill, lay_out
from mri_recon.io.formats.mrd_readouts import FLAGS, Readouts, is_mrd, open_readouts
from mri_recon.io.formats.mrd_session import is_mrd_session, open_session
from mri_recon.io.formats.mrd_stream import is_mrd_stream, open_stream
from mri_recon.io.formats.readout_lines import noise_scale, partitions_to_slices, without_oversampling
from mri_recon.io.geometry import Geometry, Vector
from mri_recon.io.reading.axes import refuse_axes
from mri_recon.io.reading.choice import parse_choice, pick_index
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES, check_declared
from mri_recon.io.reading.slices import Slices, chosen_slices, slices_meta
from mri_recon.io.scan import RawScan

__all__ = ["is_mrd", "is_mrd_session", "is_mrd_stream", "read_mrd", "read_mrd_noise"]

Chosen = npt.NDArray[np.int64]

_NAMES = {
    "encoding": "encoding space",
    "contrast": "contrast",
    "repetition": "repetition",
    "cardiac": "cardiac phase",
    "set": "set",
}
_COUNTERS = {"contrast": "contrast", "repetition": "repetition", "cardiac": "phase", "set": "set"}
_IMAGE_KINDS = ("calibration lines", "calibration and image lines", "reversed lines")
_TOLERANCE = 1e-3


def read_mrd(
    path: Path,
    *,
    axes: str | None = None,
    variable: str | None = None,
    slices: Slices | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> RawScan:
    """Read one k-space of ISMRMRD raw data; see `mri_recon.io.load`.

    The centre of k-space comes to N//2 of each axis by the header's limits and the echo of the readouts. Repeated
    readouts are averaged, reversed ones turned round, readout oversampling is removed, and partitions of a 3-D scan
    become slices. Calibration lines count where the header calls them embedded or interleaved. `meta["done"]` and
    `meta["left_out"]` list which of these happened.

    Args:
        path: the file.
        axes: must be None, because the file defines the axes.
        variable: which k-space to read if there are several, e.g. "contrast=1, repetition=0"; by default the encoding
            with most image lines, and the first of everything else.
        slices: slices to read, as in `load`.
        max_bytes: largest array to read.

    Raises:
        FormatError: damaged, not Cartesian, or no image lines.
    """
    refuse_axes(axes, f"the MRD file {path.name}", "it says them itself")
    chosen = parse_choice(variable, _NAMES, where=path.name)
    kind, opened = _open(path)
    with opened as readouts:
        left_out: Counter[str] = Counter()
        indices, number = _image_lines(readouts, chosen, left_out)
        header = readouts.header(number)
        if header.trajectory not in ("cartesian", "epi", ""):
            raise FormatError(
                f"expected a Cartesian trajectory in {path.name}, got {header.trajectory!a}: not read, grid it first"
            )
        indices = _choose(readouts, indices, header, chosen, left_out)
        depth = header.depth or 1
        count = len({int(one) for one in readouts.counter("slice")[indices]}) * depth
        numbers = chosen_slices(slices, count, where=path.name)
        order = numbers
        if numbers is not None and depth == 1:  # the slices of a 3-D scan result from a transform of all partitions
            slabs = sorted({int(one) for one in readouts.counter("slice")[indices]})
            wanted = sorted(set(numbers))
            order = [wanted.index(one) for one in numbers]
            indices = indices[np.isin(readouts.counter("slice")[indices], [slabs[one] for one in wanted])]
        layout = lay_out(readouts, indices, header, max_bytes=max_bytes)
        kspace, acquired, repeats = fill(readouts, indices, layout)
        geometry, doubt = _geometry(readouts, indices, header, layout)
        num_noise = int(readouts.has("noise scans").sum())
    done = _done(layout, acquired, repeats, int(readouts.has("reversed lines")[indices].sum()))
    if depth > 1:
        done.append(f"{depth} partitions transformed to slices")
        planes = partitions_to_slices(kspace, depth // 2, path.name)
    else:
        planes = kspace[:, 0]
    if geometry is not None:
        geometry = geometry.of_slices(order)
    planes, cropped = without_oversampling(planes if order is None else planes[order], _oversampling(header))
    first, last = layout.padding or (int(np.flatnonzero(acquired)[0]), int(np.flatnonzero(acquired)[-1]) + 1)
    notes = [doubt] if doubt else []
    if num_noise:
        notes.append(f"{num_noise} noise scans can whiten the coils: give this file to --prewhiten")
    warnings = []
    if header.trajectory == "epi":
        warnings.append(
            "Some lines were acquired in the opposite direction (echo-planar imaging): they are turned round, but "
            "their phase is not corrected, so ghosts are to be expected half a field of view away."
        )
    return RawScan(
        planes,
        name=path.name,
        meta={
            "format": kind,
            "file": path.name,
            "axes": "slice coil readout phase",
            "axes_assumed": False,
            "readout_oversampling": _oversampling(header),
            "done": done + cropped,
            "left_out": [f"{number} {what}" for what, number in left_out.items()] + list(readouts.others),
            **slices_meta(numbers, count),
            **({} if geometry is None else {"geometry": geometry.as_dict()}),
            **({"acquisition": header.protocol} if header.protocol else {}),
            **{name: True for name in SCAN_MARKS if name in header.marks},
            **({"reader_notes": notes} if notes else {}),
            **({"reader_warnings": warnings} if warnings else {}),
        },
        mask=None if acquired[first:last].all() else acquired.astype(np.uint8),
        padding=None if (first, last) == (0, len(acquired)) else (first, last),
        recon_size=header.recon_size,
    )


def read_mrd_noise(path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> npt.NDArray[np.complex64]:
    """Read the noise scans of ISMRMRD raw data, complex64 `(coil, sample)`, in the units of its image lines.

    Noise of another sample time, through a receiver filter that is not flat, and beside averaged lines is scaled as
    `noise_scale` says.

    Raises:
        FormatError: no noise scans, or as `read_mrd`.
    """
    with _open(path)[1] as readouts:
        noise = np.flatnonzero(readouts.has("noise scans"))
        if not noise.size:
            raise FormatError(f"expected noise scans in {path.name}, found none: give another file, or edge")
        indices, number = _image_lines(readouts, {}, Counter())
        header = readouts.header(number)
        image = _choose(readouts, indices, header, {}, Counter())
        channels = readouts.field("active_channels")
        noise = noise[channels[noise] == channels[image[0]]]
        if not noise.size:
            raise FormatError(
                f"expected noise scans of {channels[image[0]]} coils in {path.name}, got others: give another file"
            )
        samples = int(readouts.field("number_of_samples")[noise].sum())
        check_declared((int(channels[image[0]]), samples), 8, where=path.name, max_bytes=max_bytes)
        times = readouts.heads["sample_time_us"].astype(np.float64)
        repeats = _repeats(readouts, image)
        found = []
        for index, data in readouts.samples([int(one) for one in noise]):
            scale = noise_scale(float(times[index]), float(times[image[0]]), header.noise_bandwidth, repeats)
            found.append(data * scale)
    return np.concatenate(found, axis=1)


def _repeats(readouts: Readouts, indices: Chosen) -> int:
    """Count how often most places of k-space were acquired."""
    counters = ("kspace_encode_step_1", "kspace_encode_step_2", "slice")
    places = np.stack([readouts.counter(one)[indices] for one in counters], axis=1)
    _, counts = np.unique(places, axis=0, return_counts=True)
    return int(Counter(counts.tolist()).most_common(1)[0][0])


def _open(path: Path) -> tuple[str, AbstractContextManager[Readouts]]:
    """Return the name of a file's kind, and the context that opens it."""
    with path.open("rb") as stream:
        head = stream.read(64)
    if is_mrd_stream(head):
        return "MRD raw data (version 2)", open_stream(path)
    if is_mrd_session(head):
        return "MRD raw data (recorded session)", open_session(path)
    return "ISMRMRD raw data (MRD, HDF5)", open_readouts(path)


def _image_lines(readouts: Readouts, chosen: dict[str, str], left_out: Counter[str]) -> tuple[Chosen, int]:
    """Find the lines that make an image, calibration lines included, of one encoding space; and its number."""
    kept = np.ones(len(readouts.heads), dtype=np.bool_)
    for kind in FLAGS:
        if kind not in _IMAGE_KINDS:
            found = readouts.has(kind) & kept
            if found.any():
                left_out[kind] += int(found.sum())
            kept &= ~found
    indices = np.flatnonzero(kept)
    if not indices.size:
        raise FormatError(f"expected image lines in {readouts.name}, found none: it holds adjustments or other data")
    spaces = readouts.field("encoding_space_ref")
    counts = Counter(int(one) for one in spaces[indices])
    values = sorted(counts)
    default = values.index(max(values, key=lambda value: counts[value]))
    number = values[pick_index(chosen, "encoding", len(values), where=readouts.name, default=default)]
    others = f"lines of other encoding spaces ({len(values)} in all, this is number {values.index(number)})"
    return _keep(indices, spaces == number, left_out, others), number


def _choose(
    readouts: Readouts, indices: Chosen, header: Header, chosen: dict[str, str], left_out: Counter[str]
) -> Chosen:
    """Choose the lines of one contrast, repetition, cardiac phase and set, and of one size."""
    calibration = readouts.has("calibration lines") & ~readouts.has("calibration and image lines")
    if not header.calibration_in_image:
        image = _keep(indices, ~calibration, left_out, "calibration lines of parallel imaging")
        indices = image if image.size else indices
    for what, counter in _COUNTERS.items():
        numbers = readouts.counter(counter)
        values = sorted({int(one) for one in numbers[indices]})
        value = values[pick_index(chosen, what, len(values), where=readouts.name)]
        others = f"lines of other values of {what} ({len(values)} in all, this is number {values.index(value)})"
        indices = _keep(indices, numbers == value, left_out, others)
    sizes = [readouts.field(one) for one in ("number_of_samples", "active_channels", "center_sample", "discard_pre")]
    shapes = np.stack(sizes, axis=1)
    (size, _), *_ = Counter(tuple(int(one) for one in shapes[index]) for index in indices).most_common(1)
    return _keep(indices, (shapes == np.asarray(size)).all(axis=1), left_out, "lines of another size")


def _keep(indices: Chosen, condition: npt.NDArray[np.bool_], left_out: Counter[str], what: str) -> Chosen:
    kept = indices[condition[indices]]
    if kept.size < indices.size:
        left_out[what] += int(indices.size - kept.size)
    return kept


def _oversampling(header: Header) -> float:
    """Compute how much larger the encoded field of view is along readout than the reconstructed one; at least 1."""
    if header.field_of_view is None or header.recon_field_of_view is None:
        return 1.0
    factor = header.field_of_view[0] / header.recon_field_of_view[0]
    return factor if 1.0 < factor <= 16.0 else 1.0


def _done(layout: Layout, acquired: npt.NDArray[np.bool_], repeats: int, reflected: int) -> list[str]:
    done = []
    if reflected:
        done.append(f"{reflected} reversed lines turned round")
    if repeats > 1:
        done.append(f"up to {repeats} averages of a line averaged")
    if layout.asymmetric:
        done.append("asymmetric echo: unacquired samples are zero, with the centre of k-space in the middle")
    middle = len(acquired) // 2
    if not (acquired[:middle].any() and acquired[middle:].any()):
        done.append("lines on one side of the centre of k-space only")
    elif layout.padding is not None and layout.padding != (0, len(acquired)):
        done.append("columns outside the limits of the header are zero, with the centre of k-space in the middle")
    return done


def _geometry(readouts: Readouts, indices: Chosen, header: Header, layout: Layout) -> tuple[Geometry | None, str]:
    """Make the geometry of all slices or partitions from the first readout of each slice; and one sentence of doubt."""
    if header.field_of_view is None:
        return None, ""
    _, depth, _, readout, phase = layout.shape
    x, y, z = header.field_of_view
    slices = readouts.counter("slice")
    first = [int(indices[np.flatnonzero(slices[indices] == slab)[0]]) for slab in layout.slabs]
    voxel = (x / readout, y / phase, z / depth)
    names = ("read_dir", "phase_dir", "slice_dir")
    every = np.stack([[readouts.heads[name][index] for name in names] for index in first]).astype(np.float64)
    plain = Geometry(voxel, patient_position=header.patient_position)
    if not every.any():
        return plain, ""
    if np.abs(every - every[0]).max() > _TOLERANCE:
        return plain, "the slices are not parallel: their places are left out"
    try:
        positions = np.asarray([readouts.heads["position"][index] for index in first], dtype=np.float64)
        offsets = (np.arange(depth) - depth // 2) * voxel[2]
        places = positions[:, None] + offsets[:, None] * every[0][2]
        directions = tuple(_vector(one) for one in every[0])
        return (
            Geometry(
                voxel,
                tuple(_vector(one) for one in places.reshape(-1, 3)),
                (directions[0], directions[1], directions[2]),
                header.patient_position,
                sides_assumed=SIDES in header.marks,
            ),
            "",
        )
    except FormatError as error:
        return plain, f"the places of the slices are left out ({error})"


def _vector(values: Any) -> Vector:
    x, y, z = (float(one) for one in values)
    return x, y, z
