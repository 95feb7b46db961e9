"""Write reconstructions as NIfTI volumes with the scan's affine, and a BIDS-style JSON file beside them.

Voxels are indexed (row, column, slice): readout, phase, slices sorted by their places. The affine is in NIfTI's frame
RAS, in both sform and qform, with code 1 (scanner). Where position or orientation are not known the codes are 0 and the
header holds voxel sizes alone.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np

from mri_recon._arrays import center_crop
from mri_recon._system.files import Content
from mri_recon.errors import OutputError, ShapeError
from mri_recon.io.geometry import SIDES_ASSUMED, Geometry
from mri_recon.io.writers.dicom_modules import derivation, sides_assumed
from mri_recon.io.writers.result import NOTICE, Encoded, SavedResult, Writer, notice_of

__all__ = ["NIFTI", "NIFTI_GZ", "TO_RAS", "check_spacing"]

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Matrix from DICOM's frame, left, back, head, to NIfTI's, right, front, head."""

_MAX_SIDE = 32767


def check_spacing(geometry: Geometry) -> None:
    """Refuse slices that no affine describes: at one place, or not equally spaced.

    Raises:
        OutputError: such slices.
    """
    if not geometry.known:
        return
    try:
        geometry.of_slices(geometry.slice_order).affine((1, 1))
    except ShapeError as error:
        raise OutputError(
            "expected parallel slices at equal distances for NIfTI, the scan has others (repetitions or several "
            "stacks): choose one with --slice, or write .dcm or .h5"
        ) from error


def _encode(result: SavedResult, *, packed: bool) -> Encoded:
    import nibabel

    make: Any = nibabel.Nifti1Image  # nibabel's methods have no types

    magnitude = result.magnitude
    if result.recon_size is not None:
        magnitude = center_crop(magnitude, result.recon_size)
    geometry = result.geometry
    order = list(range(len(magnitude)))
    affine = np.eye(4)
    if geometry is not None and geometry.known:
        check_spacing(geometry)
        order = geometry.slice_order or order
        affine = TO_RAS @ geometry.of_slices(order).affine(magnitude.shape[-2:])
    elif geometry is not None:
        affine = np.diag([*geometry.voxel_size, 1.0])
    known = geometry is not None and geometry.known
    image = make(np.moveaxis(magnitude[order], 0, -1), affine)
    image.header.set_xyzt_units("mm")
    made = "SIMULATED. " if result.metadata.get("simulated") else ""
    image.header["descrip"] = f"{made}{NOTICE}".encode()[:79]
    image.header.set_dim_info(freq=0, phase=1, slice=2)
    image.set_sform(affine, code=1 if known else 0)
    image.set_qform(affine, code=1 if known else 0)
    content: Content = image.to_bytes()
    if packed:
        content = gzip.compress(content, mtime=0)
    text = json.dumps(_sidecar(result, geometry, order), indent=2, allow_nan=False).encode() + b"\n"
    places = "" if known else "; the scan has no known place in the patient, so the file has none"
    if sides_assumed(result):
        places = f". {SIDES_ASSUMED}"
    return Encoded(
        content,
        f"NIfTI holds magnitudes, no phase, no map of trust and no provenance: .h5 does{places}",
        {".json": text},
    )


def _sidecar(result: SavedResult, geometry: Geometry | None, order: list[int]) -> dict[str, Any]:
    """Describe the volume in the terms of the Brain Imaging Data Structure where it has one."""
    metadata = result.metadata
    software, _, version = str(metadata.get("software", "mri-recon")).partition(" ")
    found: dict[str, Any] = {
        "Modality": "MR",
        "ImageType": ["DERIVED", "SECONDARY"],
        "ConversionSoftware": software,
        "ConversionSoftwareVersion": version,
        "ReconstructionMethod": metadata.get("method"),
        "ReconstructionDescription": derivation(metadata),
        "PhaseEncodingAxis": "j",
        "Notice": notice_of(metadata),
    }
    mask = metadata.get("mask")
    if isinstance(mask, dict) and isinstance(mask.get("realised_acceleration"), int | float):
        found["ParallelReductionFactorInPlane"] = mask["realised_acceleration"]
    if metadata.get("acquisition"):
        found["SeriesDescription"] = metadata["acquisition"]
    if geometry is not None:
        found["SliceThickness"] = geometry.voxel_size[2]
        if geometry.slice_spacing is not None:
            found["SpacingBetweenSlices"] = geometry.slice_spacing
        if sides_assumed(result):
            found["OrientationNote"] = SIDES_ASSUMED
        if geometry.patient_position:
            found["PatientPosition"] = geometry.patient_position
        if geometry.directions is not None:
            readout, phase, _ = geometry.directions
            found["ImageOrientationPatientDICOM"] = [*phase, *readout]
    if order != sorted(order):
        found["SlicesOfTheScan"] = order
    return found


def _encode_plain(result: SavedResult) -> Encoded:
    return _encode(result, packed=False)


def _encode_packed(result: SavedResult) -> Encoded:
    return _encode(result, packed=True)


NIFTI = Writer((".nii",), _encode_plain, max_side=_MAX_SIDE, beside=(".json",), needs=("nibabel",), check=check_spacing)
"""Writer of float32 magnitudes, cropped to the scan's reconstruction size, with a JSON file."""

NIFTI_GZ = Writer(
    (".nii.gz",), _encode_packed, max_side=_MAX_SIDE, beside=(".json",), needs=("nibabel",), check=check_spacing
)
"""Writer of the same, packed with gzip."""
