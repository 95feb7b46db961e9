"""Turn the outcome of work, which holds tensors, into the arrays and files that answers are made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch

from mri_recon._arrays import center_crop
from mri_recon._system.jsonable import jsonable
from mri_recon.coils.combine import rss
from mri_recon.io import Scan, check_holds, encode_result
from mri_recon.io.save import encode_saved
from mri_recon.io.saved import identified, read_saved
from mri_recon.io.writers.result import Encoded
from mri_recon.masks.convert import undersample
from mri_recon.metrics import per_slice
from mri_recon.notice import RESEARCH_ONLY
from mri_recon.reconstruction import Reconstruction
from mri_recon.results.comparison import Comparison
from mri_recon.results.provenance import Provenance
from mri_recon_service.answers.bundle import FAINTEST, Bundle, FloatArray
from mri_recon_service.answers.rendering import WINDOW_PERCENTILE
from mri_recon_service.work import Outcome, Prepared

__all__ = ["SCAN_PART", "bundle_of", "encoded", "encoded_file", "geometry_of", "hdf5_of", "method_hdf5", "part_of"]

SCAN_PART = "scan"
"""Name of the part of a comparison that is there before its first method; the others have the methods' names."""

ERROR_PERCENTILE = 99.5
"""Percentile of each error map. The largest value over the methods is displayed as white."""


def bundle_of(outcome: Outcome, *, with_kspace: bool = True) -> Bundle:
    """Collect the arrays and metadata of a result.

    Args:
        outcome: the finished work.
        with_kspace: whether a comparison includes its sampled k-space.
    """
    prepared = outcome.prepared
    mask = prepared.mask
    arrays: dict[str, npt.NDArray[Any]] = {"mask": mask.array.astype(np.uint8)}
    if isinstance(outcome.result, Reconstruction):
        result = outcome.result
        arrays = {"image": result.image.detach().cpu().resolve_conj().numpy(), **arrays}
        if result.trust_map is not None:
            arrays["trust_map"] = _float_array(result.trust_map)
        metadata = {
            "method": result.method,
            "info": jsonable(result.info),
            "mask": jsonable(mask.receipt()),
            "slice": prepared.slice_index,
            "num_slices": int(result.image.shape[0]),
            "recon_size": list(prepared.scan.recon_size),
            "provenance": outcome.provenance[result.method].model_dump(mode="json"),
            "research_only": RESEARCH_ONLY,
        }
        return Bundle("reconstruction", arrays, metadata)
    comparison = outcome.result
    for name in comparison.reconstructions:
        arrays |= _method_arrays(comparison, name)
    arrays |= _scan_arrays(comparison, prepared, with_kspace=with_kspace)
    metadata = {
        **comparison.document(),
        "images": _picture_numbers(arrays, comparison, prepared.slice_index),
        "slices": {name: _slice_metrics(comparison, name) for name in comparison.reconstructions},
        "geometry": geometry_of(prepared.scan),
        "simulated": comparison.simulated,
        "research_only": RESEARCH_ONLY,
    }
    return Bundle("comparison", arrays, metadata)


def part_of(comparison: Comparison, prepared: Prepared) -> tuple[str, Bundle]:
    """Collect what an unfinished comparison got last: its scan, or the image of its latest method.

    Returns:
        Name of the part, and a bundle with the arrays that the whole result will have. Its `metadata` has the members
        of the result's that belong to the part; `results` has one row, or none.
    """
    if not comparison.rows:
        mask = {"mask": prepared.mask.array.astype(np.uint8)}
        document = comparison.document()
        metadata = {
            **{name: document[name] for name in ("convention", "mask", "results")},
            "geometry": geometry_of(prepared.scan),
            "simulated": comparison.simulated,
            "research_only": RESEARCH_ONLY,
        }
        return SCAN_PART, Bundle("comparison", {**mask, **_scan_arrays(comparison, prepared)}, metadata)
    row = comparison.rows[-1]
    name = row["method"]
    metadata = {"results": jsonable([row]), "slices": {name: _slice_metrics(comparison, name)}}
    return name, Bundle("comparison", _method_arrays(comparison, name), metadata)


def method_hdf5(comparison: Comparison, method: str, prepared: Prepared) -> bytes:
    """Encode one method's image of a comparison as the file that `mri_recon.save` writes, with its provenance."""
    result, provenance = comparison.reconstructions[method], comparison.provenance[method]
    return bytes(encode_result(".h5", result, prepared.scan, prepared.mask, provenance=provenance).content)


def geometry_of(scan: Scan) -> dict[str, Any] | None:
    """Describe voxel size and orientation for a display, see `schemas.ImageGeometry`; None if the file has none."""
    geometry = scan.geometry
    if geometry is None:
        return None
    toward = None if geometry.sides_assumed else geometry.toward
    return {
        "voxel_size": list(geometry.voxel_size),
        "toward": None if toward is None else list(toward),
        "sides_assumed": geometry.sides_assumed,
        "description": dict(geometry.describe())["orientation"],
    }


def hdf5_of(outcome: Outcome, bundle: Bundle) -> bytes:
    """Encode a reconstruction as the file that `mri_recon.save` writes, with the provenance of its bundle."""
    return bytes(encoded(outcome, bundle, ".h5").content)


def encoded(outcome: Outcome, bundle: Bundle, suffix: str) -> Encoded:
    """Encode a reconstruction as the file that `mri_recon.save` writes for a suffix.

    Raises:
        OutputError: an image that the format cannot hold.
    """
    assert isinstance(outcome.result, Reconstruction)
    provenance = Provenance.model_validate(bundle.metadata["provenance"])
    prepared = outcome.prepared
    return encode_result(suffix, outcome.result, prepared.scan, prepared.mask, provenance=provenance)


def encoded_file(path: Path, bundle: Bundle | None, suffix: str) -> Encoded:
    """Encode the reconstruction in a file of `hdf5_of` or `method_hdf5` for another suffix.

    Args:
        path: the file, on this service's own disk.
        bundle: bundle with the provenance; None takes that of the file, since this service wrote it.
        suffix: suffix of the wanted format.

    Raises:
        OutputError: an image that the format cannot hold.
    """
    saved = read_saved(path)
    check_holds(suffix, saved.image.shape, saved.metadata)
    provenance = _provenance_in(path) if bundle is None else bundle.metadata["provenance"]
    described = replace(saved, metadata={**saved.metadata, "provenance": provenance})
    return encode_saved(suffix, identified(described, path))


def _provenance_in(path: Path) -> Any:
    with h5py.File(path) as file:
        return json.loads(file.attrs["provenance"])


def _scan_arrays(
    comparison: Comparison, prepared: Prepared, *, with_kspace: bool = True
) -> dict[str, npt.NDArray[Any]]:
    arrays = {} if comparison.target is None else {"reference": _float_array(comparison.target)}
    if with_kspace:
        arrays["kspace"] = _log_kspace(undersample(prepared.scan.kspace, prepared.mask))
    return arrays


def _method_arrays(comparison: Comparison, name: str) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {f"image.{name}": _float_array(comparison.magnitude(name))}
    trust, image = comparison.trust_map(name), comparison.reconstructions[name].image.detach().cpu()
    if trust is not None:
        arrays[f"trust.{name}"] = _float_array(trust)
    if image.is_complex():
        arrays[f"phase.{name}"] = _phase_levels(center_crop(image, comparison.image_size))
    return arrays


def _phase_levels(image: torch.Tensor) -> npt.NDArray[np.uint8]:
    """Divide the circle of phases into 256 levels from -pi on: a quarter of the bytes, to 0.7 degrees."""
    turns = (torch.angle(image) + torch.pi) / (2 * torch.pi)
    return np.asarray((turns * 256).round().remainder(256).to(torch.uint8).numpy())


def _slice_metrics(comparison: Comparison, name: str) -> dict[str, list[float | None]] | None:
    if comparison.target is None:
        return None
    numbers: dict[str, list[float | None]] = jsonable(per_slice(comparison.magnitude(name), comparison.target))
    return numbers


def _log_kspace(kspace: torch.Tensor) -> FloatArray:
    magnitude = torch.stack([rss(one) for one in kspace])
    shown = torch.log10(magnitude / magnitude.max()).clamp_min(FAINTEST)
    return _float_array(shown)


def _picture_numbers(arrays: Mapping[str, npt.NDArray[Any]], comparison: Comparison, index: int) -> dict[str, Any]:
    images = {name: arrays[f"image.{name}"][index] for name in comparison.reconstructions}
    reference = arrays["reference"][index] if "reference" in arrays else None
    shown = list(images.values()) if reference is None else [reference]
    high = max(float(np.percentile(image, WINDOW_PERCENTILE)) for image in shown)
    errors = [] if reference is None else [np.abs(image - reference) for image in images.values()]
    limit = max((float(np.percentile(error, ERROR_PERCENTILE)) for error in errors), default=0.0)
    first = next(iter(images.values()))
    return {
        "slice": index,
        "num_slices": int(next(iter(comparison.reconstructions.values())).image.shape[0]),
        "size": [int(first.shape[0]), int(first.shape[1])],
        "window": [0.0, high],
        "error_window": None if reference is None else [0.0, limit],
    }


def _float_array(image: torch.Tensor) -> FloatArray:
    return np.asarray(image.detach().cpu().numpy(), dtype=np.float32)
