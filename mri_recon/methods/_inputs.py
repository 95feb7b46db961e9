"""What the classical methods check, estimate and build before they iterate."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from mri_recon.coils.espirit import espirit_maps
from mri_recon.coils.sensitivity_maps import sens_maps_from_center
from mri_recon.errors import FormatError, ShapeError
from mri_recon.masks.convert import as_mask
from mri_recon.masks.types import Mask
from mri_recon.methods.option_values import Between, OneOf
from mri_recon.operators.data_term import SenseDataTerm
from mri_recon.operators.sense import SenseOperator
from mri_recon.progress import OnProgress, Progress

_Maps = Annotated[str, OneOf("espirit", "center")]

_Iterations = Annotated[int, Between(1, 1_000_000_000)]


def _checked(kspace: Tensor) -> None:
    """Refuse what would become an image without meaning."""
    if kspace.ndim != 4 or not kspace.is_complex() or 0 in kspace.shape:
        raise ShapeError(
            f"expected complex k-space (slice, coil, readout, phase), got {kspace.dtype} {tuple(kspace.shape)}: "
            "a single image of one coil is kspace[None, None]"
        )
    largest = _largest_part(kspace)
    if not bool(torch.isfinite(largest).all()):
        raise FormatError("expected finite k-space, got infinite or not-a-number samples: repair or mask them out")
    empty = (largest == 0).nonzero().flatten().tolist()
    if empty:
        raise FormatError(f"expected a signal in every slice, got only zeros in slices {empty}: leave them out")


def _largest_part(x: Tensor) -> Tensor:
    """The largest |Re| or |Im| of each item, in one pass; not a number where an entry is not."""
    extremes = [torch.aminmax(item) for item in torch.view_as_real(x)]  # item by item: along an axis it is far slower
    return torch.stack([torch.maximum(-least, most) for least, most in extremes])


def _checked_maps(sens_maps: Tensor, kspace: Tensor) -> Tensor:
    if tuple(sens_maps.shape) not in (tuple(kspace.shape), tuple(kspace.shape[1:])) or not sens_maps.is_complex():
        raise ShapeError(
            f"expected complex sens_maps {tuple(kspace.shape[1:])} or {tuple(kspace.shape)}, got {sens_maps.dtype} of "
            f"shape {tuple(sens_maps.shape)}: give one map a coil"
        )
    largest = _largest_part(sens_maps if sens_maps.ndim == 4 else sens_maps[None])
    if not bool(((largest > 1e-6) & (largest < 1e6)).all()):
        raise FormatError(
            "expected finite sens_maps whose largest magnitude in each slice is near 1, between 1e-6 and 1e6, got "
            f"{largest.tolist()}: normalise them or estimate them again"
        )
    return sens_maps.to(device=kspace.device, dtype=kspace.dtype).expand(kspace.shape)


def _operator(
    kspace: Tensor,
    mask: Mask | Tensor,
    sens_maps: Tensor | None,
    maps: str,
    method: str,
    on_progress: OnProgress | None,
) -> tuple[SenseOperator, str]:
    """A, and where its maps come from."""
    checked_mask = as_mask(mask, kspace.shape)
    if sens_maps is not None:
        found, source = _checked_maps(sens_maps, kspace), "given"
    elif kspace.shape[1] == 1:
        found, source = torch.ones_like(kspace), "one coil"
    else:
        if on_progress is not None:
            on_progress(Progress(method, "maps", 0, None))
        found = _espirit(kspace, checked_mask) if maps == "espirit" else sens_maps_from_center(kspace, checked_mask)
        source = maps
    return SenseOperator(checked_mask.tensor(kspace.device), found), source


def _espirit(kspace: Tensor, mask: Mask) -> Tensor:
    found = espirit_maps(kspace, mask).maps[:, 0]
    nowhere = (found == 0).flatten(1).all(dim=1).nonzero().flatten().tolist()
    if nowhere:
        raise FormatError(
            f"expected coils that agree on an object, got none in the centre of slices {nowhere}: "
            'leave them out, or give maps="center" or sens_maps'
        )
    return found


def _data_term(operator: SenseOperator, kspace: Tensor) -> SenseDataTerm:
    data = SenseDataTerm(operator, kspace)
    if not bool((data.scale > 0).all()):
        raise FormatError(
            "expected k-space samples on the mask, got a slice without any: the mask belongs to another scan"
        )
    return data


def _largest_coverage(data: SenseDataTerm) -> Tensor:
    """`||A||^2` of each slice at most, shaped to divide images."""
    return data.coverage.flatten(1).amax(dim=1)[:, None, None]


def _seen(image: Tensor, data: SenseDataTerm, source: str) -> Tensor:
    """The image as the coils see it: weighted by estimated maps, 0 where given ones are 0."""
    if source == "one coil":
        return image
    return image * ((data.coverage > 0) if source == "given" else data.coverage.sqrt())
