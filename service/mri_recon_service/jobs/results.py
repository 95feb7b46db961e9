"""Turn the outcome of work, which holds tensors, into the arrays and files that answers are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mri_recon._system.jsonable import jsonable
from mri_recon.coils.combine import rss
from mri_recon.io import check_holds, encode_result
from mri_recon.io.save import encode_saved
from mri_recon.io.saved import read_saved
from mri_recon.io.writers.result import Encoded
from mri_recon.masks.convert import undersample
from mri_recon.notice import RESEARCH_ONLY
from mri_recon.reconstruction import Reconstruction
from mri_recon.results.comparison import Comparison
from mri_recon.results.provenance import Provenance
from mri_recon_service.answers.bundle import FAINTEST, Bundle, FloatArray
from mri_recon_service.answers.rendering import WINDOW_PERCENTILE
from mri_recon_service.work import Outcome

__all__ = ["bundle_of", "encoded", "encoded_file", "hdf5_of"]

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
        arrays[f"image.{name}"] = _float_array(comparison.magnitude(name))
        trust = comparison.trust_map(name)
        if trust is not None:
            arrays[f"trust.{name}"] = _float_array(trust)
    if comparison.target is not None:
        arrays["reference"] = _float_array(comparison.target)
    if with_kspace:
        arrays["kspace"] = _log_kspace(undersample(prepared.scan.kspace, mask))
    metadata = {
        **comparison.document(),
        "images": _picture_numbers(arrays, comparison, prepared.slice_index),
        "research_only": RESEARCH_ONLY,
    }
    return Bundle("comparison", arrays, metadata)


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


def encoded_file(path: Path, bundle: Bundle, suffix: str) -> Encoded:
    """Encode the reconstruction in a file of `hdf5_of`, on this service's own disk, for another suffix.

    Raises:
        OutputError: an image that the format cannot hold.
    """
    saved = read_saved(path)
    check_holds(suffix, saved.image.shape, saved.metadata)
    return encode_saved(
        suffix, replace(saved, metadata={**saved.metadata, "provenance": bundle.metadata["provenance"]})
    )


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
