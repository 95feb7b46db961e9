"""Record where a result comes from, in enough detail to reproduce it.

A result carries its provenance: the SHA-256 of the input, the preparation, the mask with its lines, method, options,
weights, versions and machine.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mri_recon._system.hashes import array_sha256, file_sha256, file_size
from mri_recon._system.jsonable import jsonable
from mri_recon._system.text import storable
from mri_recon.errors import FormatError, MaskError
from mri_recon.masks.types import ColumnMask, Mask, PatternMask
from mri_recon.notice import RESEARCH_ONLY
from mri_recon.reconstruction import Reconstruction, resolve_device
from mri_recon.results.machine import device_name, versions

__all__ = [
    "ImageRecord",
    "InputFile",
    "MaskRecord",
    "ModelRecord",
    "Provenance",
    "describe",
    "image_array",
    "input_file",
    "mask_of",
    "mask_record",
    "read_provenance",
]


_MAX_PATTERN = 1 << 28

_SHA256 = Field(pattern=r"^[0-9a-f]{64}$")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputFile(_Record):
    """Record a file that was read, and how it was read."""

    name: str
    bytes: int = Field(ge=0)
    sha256: str = _SHA256
    axes: str | None = Field(default=None, description="as given to `load`; null: by the rank of the array")
    variable: str | None = Field(default=None, description="as given to `load`")
    slices: tuple[int, int] | None = Field(default=None, description="first and one after the last; null: all")


class MaskRecord(_Record):
    """Record a mask in full: the receipt lists the lines of a column mask, `pattern` holds the points of any other."""

    receipt: dict[str, Any]
    pattern: str | None = Field(default=None, description="base64 of the deflated packed bits, row by row")


class ModelRecord(_Record):
    """Record the weights of a network."""

    name: str
    sha256: str = _SHA256
    candidate: str | None = Field(default=None, description="the candidate of `auto` that has them")


class ImageRecord(_Record):
    """Record the image as it is stored: complex64, or float32 magnitudes if the method yields no phase."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the samples, little-endian, slice by slice")
    shape: tuple[int, ...]
    dtype: Literal["complex64", "float32"]


class Provenance(_Record):
    """Record everything needed to compute a result again."""

    format: Literal[1] = 1
    created: str = Field(description="UTC, ISO 8601")
    research_only: str = RESEARCH_ONLY
    input: InputFile
    simulated: bool = Field(default=False, description="whether the input says that its k-space is simulated")
    prewhiten: Literal["edge", "samples"] | None = None
    noise: InputFile | None = Field(default=None, description='the noise samples, for prewhiten "samples"')
    num_virtual_coils: int | None = None
    mask: MaskRecord
    seed: int | str | None = Field(default=None, description="of the mask; no method draws numbers of its own")
    method: str
    options: dict[str, Any]
    model: ModelRecord | None = None
    models: tuple[ModelRecord, ...] = Field(default=(), description="of a method that tries several networks")
    stop: str | None = Field(default=None, description="why an iterative method ended")
    batched: bool = Field(default=False, description="computed together with others, see `reconstruct_batch`")
    versions: dict[str, str | None]
    device: str = Field(description="cpu, cuda, ...")
    device_name: str
    threads: int = Field(ge=1)
    image: ImageRecord


def input_file(
    path: str | Path, *, axes: str | None = None, variable: str | None = None, slices: tuple[int, int] | None = None
) -> InputFile:
    """Record a file that was read with these arguments; bytes of its name that are not UTF-8 are escaped.

    Raises:
        FormatError: the file cannot be read.
    """
    path = Path(path)
    return InputFile(
        name=storable(path.name),
        bytes=file_size(path),
        sha256=file_sha256(path),
        axes=axes,
        variable=variable,
        slices=slices,
    )


def describe(
    result: Reconstruction,
    source: InputFile,
    mask: Mask,
    *,
    options: Mapping[str, Any],
    prewhiten: InputFile | str | None = None,
    num_virtual_coils: int | None = None,
    device: str | torch.device | None = None,
    batched: bool = False,
    simulated: bool = False,
) -> Provenance:
    """Record the provenance of a result that this process has just computed.

    Args:
        result: result of `reconstruct` for `undersample(scan.kspace, mask)`, without sens_maps.
        source: the file of the scan.
        mask: the undersampling mask.
        options: options of the method as given; omitted ones are the defaults of the recorded version.
        prewhiten: "edge", or the file of noise samples; None for no pre-whitening.
        num_virtual_coils: as given to `reconstruct`.
        device: where the result was computed; None is the CPU.
        batched: whether the result was computed together with others.
        simulated: whether the scan says that its k-space is simulated.

    Raises:
        MethodError: a device that this machine does not have.
    """
    chosen = resolve_device(device)
    image = image_array(result)
    model = result.model
    receipt = mask.receipt()
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        input=source,
        simulated=simulated,
        prewhiten="samples" if isinstance(prewhiten, InputFile) else "edge" if prewhiten is not None else None,
        noise=prewhiten if isinstance(prewhiten, InputFile) else None,
        num_virtual_coils=num_virtual_coils,
        mask=mask_record(mask),
        seed=receipt.get("seed"),
        method=result.method,
        options=jsonable(dict(options)),
        model=None if model is None else ModelRecord(name=model.name, sha256=model.sha256),
        models=tuple(ModelRecord(**asdict(one)) for one in result.models) if model is None else (),
        stop=result.info.get("stop"),
        batched=batched,
        versions=versions(),
        device=chosen.type,
        device_name=device_name(chosen),
        threads=torch.get_num_threads(),
        image=ImageRecord(
            sha256=array_sha256(image),
            shape=image.shape,
            dtype="complex64" if image.dtype.kind == "c" else "float32",
        ),
    )


def image_array(result: Reconstruction) -> npt.NDArray[Any]:
    """Convert the image to the types of files: complex64, or float32 magnitudes of a real image, `(slice, h, w)`."""
    image = result.image.detach().cpu()
    array = image.to(torch.complex64) if image.is_complex() else result.magnitude.detach().cpu()
    return np.ascontiguousarray(array.numpy())


def mask_record(mask: Mask) -> MaskRecord:
    """Record a mask in full, for JSON."""
    if isinstance(mask, ColumnMask):
        return MaskRecord(receipt=jsonable(mask.receipt()))
    packed = zlib.compress(np.packbits(mask.pattern).tobytes(), 9)
    return MaskRecord(receipt=jsonable(mask.receipt()), pattern=base64.b64encode(packed).decode())


def mask_of(record: MaskRecord) -> Mask:
    """Rebuild the mask that `mask_record` recorded.

    Raises:
        MaskError: a damaged record.
    """
    receipt = record.receipt
    try:
        if record.pattern is None:
            lines = np.zeros(int(receipt["width"]), dtype=np.bool_)
            lines[receipt["lines"]] = True
            mask: Mask = ColumnMask(
                lines=lines,
                kind=receipt["kind"],
                acceleration=receipt["requested_acceleration"],
                num_low_frequencies=receipt["num_low_frequencies"],
                center_start=receipt["center_start"],
                seed=receipt["seed"],
                support_width=receipt["support_width"],
            )
        else:
            height, width = (int(n) for n in receipt["shape"])
            unpacker = zlib.decompressobj()
            bits = unpacker.decompress(base64.b64decode(record.pattern, validate=True), _MAX_PATTERN // 8)
            pattern = np.unpackbits(np.frombuffer(bits, np.uint8), count=height * width).astype(np.bool_)
            mask = PatternMask(pattern.reshape(height, width), source=receipt["source"])
    except (KeyError, TypeError, ValueError, IndexError, binascii.Error, zlib.error) as error:
        raise MaskError(
            f"expected the record of a mask, got one that cannot be read ({error!r}): it is damaged"
        ) from error
    if jsonable(mask.receipt()) != receipt:
        raise MaskError(
            "expected a mask with its receipt, got another mask than the receipt says: the record is damaged"
        )
    return mask


def read_provenance(text: str | None, name: str) -> Provenance:
    """Read the provenance of a result.

    Args:
        text: JSON of the provenance; None if the result has none.
        name: name of the result, for messages.

    Raises:
        FormatError: no provenance, or one of another format.
    """
    if text is None:
        raise FormatError(
            f"expected a result with its provenance, {name} has none: it was written by an earlier version, or without "
            "saying where it comes from; reconstruct it again to have one"
        )
    try:
        return Provenance.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "(top)"
        raise FormatError(
            f"expected a provenance of format 1 in {name}, got one with a wrong {where} ({first['msg']}): "
            "the file is damaged, or of a later version"
        ) from error
