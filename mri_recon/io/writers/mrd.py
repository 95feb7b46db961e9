"""Write reconstructions as ISMRMRD (MRD) images in HDF5, as Gadgetron and the vendors' converters read them.

The file has a group `dataset` with `xml`, the header, and `images_0`: `header` (a record for each slice), `data`
`(slice, channel, z, phase, readout)` and `attributes` (an XML text for each slice). `images_1` is the map of trust.
Inati et al., ISMRM Raw data format, Magn Reson Med 77:411 (2017); https://ismrmrd.readthedocs.io.
"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

import h5py
import numpy as np

from mri_recon._arrays import center_crop
from mri_recon.io.geometry import SIDES_ASSUMED, Geometry
from mri_recon.io.writers.dicom_modules import derivation, sides_assumed
from mri_recon.io.writers.hdf5 import hdf5_content, write_xml
from mri_recon.io.writers.result import Encoded, SavedResult, Writer, notice_of

__all__ = ["IMAGE_HEADER", "MRD"]

IMAGE_HEADER = np.dtype(
    [
        ("version", "<u2"), ("data_type", "<u2"), ("flags", "<u8"), ("measurement_uid", "<u4"),
        ("matrix_size", "<u2", 3), ("field_of_view", "<f4", 3), ("channels", "<u2"), ("position", "<f4", 3),
        ("read_dir", "<f4", 3), ("phase_dir", "<f4", 3), ("slice_dir", "<f4", 3),
        ("patient_table_position", "<f4", 3), ("average", "<u2"), ("slice", "<u2"), ("contrast", "<u2"),
        ("phase", "<u2"), ("repetition", "<u2"), ("set", "<u2"), ("acquisition_time_stamp", "<u4"),
        ("physiology_time_stamp", "<u4", 3), ("image_type", "<u2"), ("image_index", "<u2"),
        ("image_series_index", "<u2"), ("user_int", "<i4", 8), ("user_float", "<f4", 8),
        ("attribute_string_len", "<u4"),
    ]
)  # fmt: skip
"""Header of an image, version 1."""

_PAIR = np.dtype([("real", "<f4"), ("imag", "<f4")])
_FLOAT, _COMPLEX = 5, 7  # values of data_type
_MAGNITUDE, _COMPLEX_IMAGE = 1, 5  # values of image_type


def _encode(result: SavedResult) -> Encoded:
    image = result.image
    if result.recon_size is not None:
        image = center_crop(image, result.recon_size)
    is_complex = image.dtype.kind == "c"
    attributes = _attributes(result)
    headers = np.zeros(len(image), dtype=IMAGE_HEADER)
    _fill_headers(headers, image.shape[-2:], result.geometry, is_complex, len(attributes))

    def fill(file: h5py.File) -> None:
        group = file.create_group("dataset")
        write_xml(group, "xml", [_xml(result)])
        _write_images(group, "images_0", image, headers, attributes)
        if result.trust_map is not None:
            trust = result.trust_map if result.recon_size is None else center_crop(result.trust_map, result.recon_size)
            about = _attributes(result, role="Map of trust: bound of the error of the magnitude")
            heads = np.zeros(len(trust), dtype=IMAGE_HEADER)
            _fill_headers(heads, trust.shape[-2:], result.geometry, False, len(about))
            heads["image_series_index"] = 1
            _write_images(group, "images_1", trust, heads, about)

    known = result.geometry is not None and result.geometry.known
    places = "" if known else "; the scan has no known place in the patient, so the headers have none"
    if sides_assumed(result):
        places = f". {SIDES_ASSUMED}"
    return Encoded(hdf5_content(fill), f"MRD images hold no mask and no provenance: .h5 does{places}")


def _write_images(group: h5py.Group, name: str, image: Any, headers: Any, attributes: str) -> None:
    images = group.create_group(name)
    images.create_dataset("header", data=headers)
    # x is the readout: rows of our image are columns there.
    pixels = np.ascontiguousarray(image.transpose(0, 2, 1)[:, None, None])
    images.create_dataset("data", data=pixels.view(_PAIR) if pixels.dtype.kind == "c" else pixels)
    write_xml(images, "attributes", [attributes] * len(image))


def _fill_headers(
    headers: Any, plane: tuple[int, int], geometry: Geometry | None, is_complex: bool, attribute_bytes: int
) -> None:
    headers["version"] = 1
    headers["data_type"] = _COMPLEX if is_complex else _FLOAT
    headers["image_type"] = _COMPLEX_IMAGE if is_complex else _MAGNITUDE
    headers["matrix_size"] = (plane[0], plane[1], 1)
    headers["channels"] = 1
    headers["slice"] = headers["image_index"] = np.arange(len(headers))
    headers["image_index"] += 1
    headers["attribute_string_len"] = attribute_bytes
    if geometry is None:
        return
    x, y, z = geometry.voxel_size
    headers["field_of_view"] = (x * plane[0], y * plane[1], z)
    if geometry.positions is not None and geometry.directions is not None:
        headers["position"] = geometry.positions
        headers["read_dir"], headers["phase_dir"], headers["slice_dir"] = geometry.directions


def _attributes(result: SavedResult, role: str = "Image") -> str:
    values = {
        "DataRole": role,
        "ImageComment": notice_of(result.metadata),
        "ImageProcessingHistory": derivation(result.metadata),
    }
    body = "".join(f"<meta><name>{name}</name><value>{escape(value)}</value></meta>" for name, value in values.items())
    return f'<?xml version="1.0"?><ismrmrdMeta>{body}</ismrmrdMeta>'


def _xml(result: SavedResult) -> str:
    """Make a minimal header of the whole file, with what the schema requires."""
    height, width = result.recon_size or result.image.shape[-2:]
    voxel = (1.0, 1.0, 1.0) if result.geometry is None else result.geometry.voxel_size
    position = "" if result.geometry is None else result.geometry.patient_position
    measurement = (
        f"<measurementInformation><patientPosition>{position}</patientPosition></measurementInformation>"
        if position
        else ""
    )
    space = (
        f"<matrixSize><x>{height}</x><y>{width}</y><z>1</z></matrixSize><fieldOfView_mm><x>{voxel[0] * height:g}</x>"
        f"<y>{voxel[1] * width:g}</y><z>{voxel[2]:g}</z></fieldOfView_mm>"
    )
    last = len(result.image) - 1
    limits = f"<slice><minimum>0</minimum><maximum>{last}</maximum><center>0</center></slice>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        f"{measurement}<experimentalConditions><H1resonanceFrequency_Hz>0</H1resonanceFrequency_Hz>"
        f"</experimentalConditions><encoding><encodedSpace>{space}</encodedSpace><reconSpace>{space}</reconSpace>"
        f"<encodingLimits>{limits}</encodingLimits><trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"
    )


MRD = Writer((".mrd",), _encode, max_side=2**16 - 1)
"""Writer of MRD images: complex where the method yields phase, cropped to the scan's reconstruction size."""
