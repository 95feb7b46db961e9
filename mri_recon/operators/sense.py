"""The acquisition as a linear operator: image to sampled multi-coil k-space and back."""

from __future__ import annotations

import torch
from torch import Tensor

from mri_recon.coils.combine import combine, expand
from mri_recon.errors import MaskError, ShapeError
from mri_recon.transforms.fourier import fft2c, ifft2c

__all__ = ["SenseOperator"]


class SenseOperator:
    """`A = P F S C`: crop, coil sensitivities, centred orthonormal FFT, sampling.

        (A x)_c   = P F (S_c (C x))
        A^H y     = C^H sum_c conj(S_c) F^-1 (P y_c)

    `C` keeps the centre of the image; it is the identity unless `image_size` is larger than the maps. Its adjoint pads
    with zeros. `||A||^2` is at most `norm_bound`, which is 1 for maps with sum |S|^2 <= 1.

    Shapes:
        x: complex `(..., H, W)` with `(H, W) = image_size`; y: complex `(..., coil, h, w)`.

    Source: Pruessmann et al., Magn Reson Med 2001.
    """

    def __init__(self, mask: Tensor, sens_maps: Tensor, image_size: tuple[int, int] | None = None) -> None:
        """Bind mask and maps.

        Args:
            mask: bool, broadcastable to the k-space `(..., coil, h, w)`, e.g. `(w,)` or `(h, w)`.
            sens_maps: complex, `(..., coil, h, w)`.
            image_size: size of the image that A takes; `None` is the size of the maps.

        Raises:
            ShapeError: maps that are not complex or lack axes, or an image smaller than the maps.
            MaskError: a mask that is not boolean, or does not broadcast to the maps.
        """
        if sens_maps.ndim < 3 or not sens_maps.is_complex():
            raise ShapeError(
                f"expected complex sensitivity maps (..., coil, h, w), got {sens_maps.dtype} of shape "
                f"{tuple(sens_maps.shape)}: for one coil use ones with a coil axis of 1"
            )
        if mask.dtype != torch.bool:
            raise MaskError(f"expected a boolean mask, got {mask.dtype}: pass mask != 0")
        if not all(m in (1, s) for m, s in zip(reversed(mask.shape), reversed(sens_maps.shape), strict=False)):
            raise MaskError(
                f"expected a mask that broadcasts to k-space {tuple(sens_maps.shape)}, got {tuple(mask.shape)}: "
                "use (phase,) or (readout, phase)"
            )
        h, w = sens_maps.shape[-2:]
        self.image_size = (h, w) if image_size is None else image_size
        if self.image_size[0] < h or self.image_size[1] < w:
            raise ShapeError(
                f"expected an image of at least the k-space size {(h, w)}, got {self.image_size}: "
                "the crop in A only makes images smaller"
            )
        self.sens_maps = sens_maps
        self.mask = mask.to(device=sens_maps.device, dtype=sens_maps.real.dtype)
        # N//2 of the large image falls on N//2 of the small one, so that the centre stays the centre.
        self._top = self.image_size[0] // 2 - h // 2
        self._left = self.image_size[1] // 2 - w // 2

    def with_maps(self, sens_maps: Tensor, image_size: tuple[int, int] | None = None) -> SenseOperator:
        """The same sampling with other maps, e.g. some of the slices, and another image size; errors as above."""
        return SenseOperator(self.mask > 0, sens_maps, image_size)

    @property
    def kspace_size(self) -> tuple[int, int]:
        """Size (h, w) of the k-space and the maps."""
        return self.sens_maps.shape[-2], self.sens_maps.shape[-1]

    @property
    def norm_bound(self) -> float:
        """An upper bound on `||A||^2`: the largest sum over coils of |S|^2, since P, F and C have norm 1."""
        return float((self.sens_maps.abs() ** 2).sum(dim=-3).max())

    def forward(self, x: Tensor) -> Tensor:
        """`A x`: image `(..., H, W)` to sampled k-space `(..., coil, h, w)`.

        Raises:
            ShapeError: the image has another size.
        """
        return self.mask * fft2c(expand(self.crop(x), self.sens_maps))

    def adjoint(self, y: Tensor) -> Tensor:
        """`A^H y`: k-space `(..., coil, h, w)` to image `(..., H, W)`.

        Raises:
            ShapeError: the k-space has another size or other coils.
        """
        if y.ndim < 3 or y.shape[-3:] != self.sens_maps.shape[-3:]:
            raise ShapeError(
                f"expected k-space (..., coil, readout, phase) ending in {tuple(self.sens_maps.shape[-3:])}, got "
                f"{tuple(y.shape)}: the maps belong to another scan"
            )
        return self.pad(combine(ifft2c(self.mask * y), self.sens_maps))

    def normal(self, x: Tensor) -> Tensor:
        """`A^H A x`, image to image."""
        return self.adjoint(self.forward(x))

    def crop(self, x: Tensor) -> Tensor:
        """`C x`: the centre of the image that k-space sees, `(..., H, W)` to `(..., h, w)`.

        Raises:
            ShapeError: the image has another size.
        """
        if x.ndim < 2 or tuple(x.shape[-2:]) != self.image_size:
            raise ShapeError(f"expected an image (..., h, w) of size {self.image_size}, got {tuple(x.shape)}")
        h, w = self.kspace_size
        return x[..., self._top : self._top + h, self._left : self._left + w]

    def pad(self, x: Tensor) -> Tensor:
        """`C^H x`: zeros around the image that k-space sees, `(..., h, w)` to `(..., H, W)`.

        Raises:
            ShapeError: the image has not the size of k-space.
        """
        if x.ndim < 2 or tuple(x.shape[-2:]) != self.kspace_size:
            raise ShapeError(f"expected an image (..., h, w) of size {self.kspace_size}, got {tuple(x.shape)}")
        h, w = self.kspace_size
        if (h, w) == self.image_size:
            return x
        right, bottom = self.image_size[1] - w - self._left, self.image_size[0] - h - self._top
        return torch.nn.functional.pad(x, (self._left, right, self._top, bottom))
