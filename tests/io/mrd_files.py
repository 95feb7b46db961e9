"""Small ISMRMRD (MRD) raw-data files: version 1 by plain h5py from its description, version 2 by its library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

Complex = npt.NDArray[np.complex64]

NOISE, CALIBRATION, CALIBRATION_AND_IMAGE, REVERSE, NAVIGATOR = (1 << (bit - 1) for bit in (19, 20, 21, 22, 23))

COUNTERS = (
    "kspace_encode_step_1",
    "kspace_encode_step_2",
    "average",
    "slice",
    "contrast",
    "phase",
    "repetition",
    "set",
)
_IDX = np.dtype([*((name, "<u2") for name in (*COUNTERS, "segment")), ("user", "<u2", 8)])
_HEAD = np.dtype(
    [
        ("version", "<u2"), ("flags", "<u8"), ("measurement_uid", "<u4"), ("scan_counter", "<u4"),
        ("acquisition_time_stamp", "<u4"), ("physiology_time_stamp", "<u4", 3), ("number_of_samples", "<u2"),
        ("available_channels", "<u2"), ("active_channels", "<u2"), ("channel_mask", "<u8", 16), ("discard_pre", "<u2"),
        ("discard_post", "<u2"), ("center_sample", "<u2"), ("encoding_space_ref", "<u2"),
        ("trajectory_dimensions", "<u2"), ("sample_time_us", "<f4"), ("position", "<f4", 3), ("read_dir", "<f4", 3),
        ("phase_dir", "<f4", 3), ("slice_dir", "<f4", 3), ("patient_table_position", "<f4", 3), ("idx", _IDX),
        ("user_int", "<i4", 8), ("user_float", "<f4", 8),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Readout:
    """Samples `(coil, sample)`, flags, counters, and other fields of the header."""

    data: Complex
    flags: int = 0
    idx: dict[str, int] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)


def readouts_of(kspace: Complex, **fields: Any) -> list[Readout]:
    """Readouts of k-space `(slice, coil, readout, phase)`, line by line, slice by slice."""
    return [
        Readout(
            np.ascontiguousarray(plane[..., line]),
            idx={"kspace_encode_step_1": line, "slice": number},
            fields={"center_sample": kspace.shape[-2] // 2, **fields},
        )
        for number, plane in enumerate(kspace)
        for line in range(kspace.shape[-1])
    ]


def xml(
    encoded: Sequence[int],
    recon: Sequence[int] | None = None,
    *,
    fov: Sequence[float] = (1, 1, 1),
    recon_fov: Sequence[float] | None = None,
    limits: str = "",
    calibration: str = "",
    trajectory: str = "cartesian",
    copies: int = 1,
) -> str:
    """A header; `limits` is the XML inside `encodingLimits`."""

    def space(name: str, size: Sequence[int], length: Sequence[float]) -> str:
        sizes = "".join(f"<{axis}>{one}</{axis}>" for axis, one in zip("xyz", size, strict=True))
        lengths = "".join(f"<{axis}>{one}</{axis}>" for axis, one in zip("xyz", length, strict=True))
        return f"<{name}><matrixSize>{sizes}</matrixSize><fieldOfView_mm>{lengths}</fieldOfView_mm></{name}>"

    parallel = f"<parallelImaging><calibrationMode>{calibration}</calibrationMode></parallelImaging>" * bool(
        calibration
    )
    encoding = (
        f"<encoding>{space('encodedSpace', encoded, fov)}{space('reconSpace', recon or encoded, recon_fov or fov)}"
        f"<encodingLimits>{limits}</encodingLimits><trajectory>{trajectory}</trajectory>{parallel}</encoding>"
    )
    return (
        '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><measurementInformation>'
        "<patientPosition>HFS</patientPosition><protocolName>t1_se</protocolName></measurementInformation>"
        f"{encoding * copies}</ismrmrdHeader>"
    )


def step(name: str, maximum: int, center: int) -> str:
    """Limits of one counter."""
    return f"<{name}><minimum>0</minimum><maximum>{maximum}</maximum><center>{center}</center></{name}>"


def mrd(path: Path, readouts: Sequence[Readout], header: str, *, waveforms: int = 0) -> Path:
    """Write a file; the C++ library writes records in chunks of one."""
    vlen = h5py.vlen_dtype(np.float32)
    records = np.zeros(len(readouts), dtype=np.dtype([("head", _HEAD), ("traj", vlen), ("data", vlen)]))
    for record, one in zip(records, readouts, strict=True):
        head = record["head"]
        head["flags"], head["version"] = one.flags, 1
        head["active_channels"], head["number_of_samples"] = one.data.shape
        for name, value in one.idx.items():
            head["idx"][name] = value
        for name, value in one.fields.items():
            head[name] = value
        record["traj"] = np.zeros(0, np.float32)
        record["data"] = np.ascontiguousarray(one.data, dtype=np.complex64).reshape(-1).view(np.float32)
    with h5py.File(path, "w") as file:
        group = file.create_group("dataset")
        group.create_dataset("xml", data=np.array([header], dtype=object), dtype=h5py.string_dtype())
        group.create_dataset("data", data=records, chunks=(1,), maxshape=(None,))
        if waveforms:
            group.create_dataset("waveforms", data=np.zeros(waveforms, np.uint32))
    return path


def write_stream(path: Path, readouts: list[Readout], header: Any, *, waveform: bool = False) -> Path:
    """Write a stream of MRD version 2, by the library mrd-python."""
    import mrd

    items = []
    for one in readouts:
        head = mrd.AcquisitionHeader(flags=mrd.AcquisitionFlags(one.flags), idx=mrd.EncodingCounters(**one.idx))
        for name, value in one.fields.items():
            setattr(head, name, np.asarray(value, np.float32) if np.ndim(value) else value)
        items.append(mrd.StreamItem.Acquisition(mrd.Acquisition(head=head, data=one.data.astype(np.complex64))))
    if waveform:
        items.append(mrd.StreamItem.WaveformUint32(mrd.Waveform(data=np.zeros((1, 5), np.uint32))))
    with mrd.BinaryMrdWriter(str(path)) as writer:
        writer.write_header(header)
        writer.write_data(items)
    return path


def stream_header(
    encoded: tuple[int, int, int], *, fov: tuple[float, ...] = (1, 1, 1), center: int | None = None
) -> Any:
    """Make a header of MRD version 2."""
    import mrd

    space = mrd.EncodingSpaceType(
        matrix_size=mrd.MatrixSizeType(**dict(zip("xyz", encoded, strict=True))),
        field_of_view_mm=mrd.FieldOfViewMm(**dict(zip("xyz", fov, strict=True))),
    )
    limits = mrd.EncodingLimitsType()
    if center is not None:
        limits.kspace_encoding_step_1 = mrd.LimitType(
            maximum=encoded[1] - 1 - (encoded[1] // 2 - center), center=center
        )
    about = mrd.MeasurementInformationType(patient_position=mrd.PatientPosition.F_FP, protocol_name="t2")
    encoding = mrd.EncodingType(encoded_space=space, recon_space=space, encoding_limits=limits)
    return mrd.Header(encoding=[encoding], measurement_information=about)


def messages_of(readouts: Sequence[Readout], *, trajectory: int = 0) -> list[Any]:
    """Make the acquisitions of the library ismrmrd from readouts."""
    import ismrmrd

    found = []
    for one in readouts:
        path = np.zeros((one.data.shape[1], trajectory), np.float32)
        acquisition = ismrmrd.Acquisition.from_array(np.ascontiguousarray(one.data, np.complex64), path)
        head = acquisition.getHead()
        head.flags = one.flags
        for name, value in one.idx.items():
            setattr(head.idx, name, value)
        for name, value in one.fields.items():
            setattr(head, name, tuple(np.asarray(value).tolist()) if np.ndim(value) else value)
        acquisition.setHead(head)
        found.append(acquisition)
    return found


def write_session(
    path: Path,
    readouts: Sequence[Readout],
    header: str,
    *,
    waveforms: int = 0,
    images: int = 0,
    texts: int = 0,
    trajectory: int = 0,
) -> Path:
    """Record a session by the serializer of the library ismrmrd; the header is written as it is."""
    import ismrmrd
    from ismrmrd.serialization import ISMRMRDMessageID, ProtocolSerializer

    with path.open("wb") as stream, ProtocolSerializer(stream) as session:
        content = header.encode()
        stream.write(int(ISMRMRDMessageID.HEADER).to_bytes(2, "little") + len(content).to_bytes(4, "little") + content)
        for number in range(texts):
            session.serialize(f"text {number}")
        for _ in range(waveforms):
            session.serialize(ismrmrd.Waveform.from_array(np.zeros((2, 5), np.uint32)))
        for _ in range(images):
            session.serialize(ismrmrd.Image.from_array(np.zeros((1, 1, 3, 5), np.complex64)))
        for one in messages_of(readouts, trajectory=trajectory):
            session.serialize(one)
    return path
