"""Model the acquisition as a linear operator: image to sampled multi-coil k-space and back.

`SenseOperator` takes and gives centred k-space. Inside, samples are kept in FFT order, so that no product shifts
anything: solvers and networks convert their k-space once (`samples_of`) and then stay there.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from mri_recon.errors import MaskError, ShapeError
from mri_recon.solvers.problem import LinearMap
from mri_recon.transforms.fourier import fft1c, ifft1c

__all__ = ["SenseOperator", "fft_order_ramp", "in_fft_order", "weighted_sum"]


class SenseOperator:
    """`A = P F S C`: crop, coil sensitivities, centred orthonormal FFT, sampling.

        (A x)_c   = P F (S_c (C x))
        A^H y     = C^H sum_c conj(S_c) F^-1 (P y_c)

    `C` keeps the centre of the image. It is the identity unless `image_size` is larger than the maps. Its adjoint pads
    with zeros. `||A||^2` is at most `norm_bound`, which is 1 for maps with sum |S|^2 <= 1.

    In plain code, where `image_size` is None and `mask` is the centred mask that the constructor takes,

        A x   = mask * fft2c(sens_maps * x[..., None, :, :])
        A^H y = (sens_maps.conj() * ifft2c(mask * y)).sum(-3)

    This is all that the class computes; the rest makes it fast. Every product is differentiable.

    - Centred k-space: `forward` is A, `adjoint` (also called `H`) is A^H.
    - FFT order, for solvers: `sample` is A, `combine` is A^H; `samples_of` and `kspace_of` convert between the two.
    - Image to image: `gram` is A^H A.

    Why it is cheap:

    - `F^H P F` is a circular convolution, which commutes with circular shifts. So the mask is brought to FFT order
      once, and no product shifts its input.
    - Where the mask is constant along the readout, the transforms along that axis cancel in `F^H P F`. Rows are then
      independent problems (`dims` is `(-1,)`), and one-dimensional FFTs along the phase axis do. Samples remain an
      image along the readout.
    - Maps are never copied or conjugated.

    Shapes:
        x: complex `(..., H, W)` with `(H, W) = image_size`; y and samples: complex `(..., coil, h, w)`.

    Attributes:
        sens_maps: S, complex `(..., coil, h, w)`.
        mask: P in FFT order, real, 1 where sampled, broadcastable to samples.
        dims: axes along which samples are k-space, `(-1,)` or `(-2, -1)`.
        image_size: `(H, W)`.

    Source: Pruessmann et al., Magn Reson Med 2001.
    """

    def __init__(self, mask: Tensor, sens_maps: Tensor, image_size: tuple[int, int] | None = None) -> None:
        """Bind mask and maps.

        Args:
            mask: bool, centred, broadcastable to the k-space `(..., coil, h, w)`, e.g. `(w,)` or `(h, w)`.
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
        self.dims = (-1,) if mask.ndim == 1 or mask.shape[-2] == 1 else (-2, -1)
        in_order: Tensor = torch.fft.ifftshift(mask, dim=self.dims)
        self.mask = in_order.to(device=sens_maps.device, dtype=sens_maps.real.dtype)
        self._bind(sens_maps, image_size)

    def _bind(self, sens_maps: Tensor, image_size: tuple[int, int] | None) -> None:
        h, w = sens_maps.shape[-2:]
        self.image_size = (h, w) if image_size is None else image_size
        if self.image_size[0] < h or self.image_size[1] < w:
            raise ShapeError(
                f"expected an image of at least the k-space size {(h, w)}, got {self.image_size}: "
                "the crop in A only makes images smaller"
            )
        self.sens_maps = sens_maps
        # N//2 of the large image falls on N//2 of the small one, so that the centre stays the centre.
        self._top = self.image_size[0] // 2 - h // 2
        self._left = self.image_size[1] // 2 - w // 2

    def with_maps(
        self, sens_maps: Tensor, image_size: tuple[int, int] | None = None, *, mask: Tensor | None = None
    ) -> SenseOperator:
        """Keep the sampling and bind other maps, for example a part of the slices or rows, and another image size.

        Args:
            sens_maps: complex; moved maps, or maps of another precision, take the mask with them.
            image_size: as in the constructor.
            mask: replaces `mask`, in FFT order and real; the axes in `dims` stay the same.

        Raises:
            ShapeError: an image smaller than the maps.
        """
        other = copy.copy(self)
        other.mask = (self.mask if mask is None else mask).to(device=sens_maps.device, dtype=sens_maps.real.dtype)
        other._bind(sens_maps, image_size)
        return other

    @property
    def kspace_size(self) -> tuple[int, int]:
        """Size (h, w) of the k-space and the maps."""
        return self.sens_maps.shape[-2], self.sens_maps.shape[-1]

    def coverage(self) -> Tensor:
        """Compute `sum_c |S_c|^2`, real `(..., h, w)`."""
        coils = torch.view_as_real(self.sens_maps).unbind(-4)
        total = torch.zeros_like(coils[0][..., 0])
        for coil in coils:
            total.addcmul_(coil[..., 0], coil[..., 0]).addcmul_(coil[..., 1], coil[..., 1])
        return total

    @property
    def norm_bound(self) -> float:
        """An upper bound on `||A||^2`: the largest sum over coils of |S|^2, since P, F and C have norm 1."""
        return float(self.coverage().max())

    def forward(self, x: Tensor) -> Tensor:
        """Compute `A x`: image `(..., H, W)` to sampled k-space `(..., coil, h, w)`.

        Raises:
            ShapeError: the image has another size.
        """
        return self.kspace_of(self.sample(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """Compute `A^H y`: k-space `(..., coil, h, w)` to image `(..., H, W)`.

        Raises:
            ShapeError: the k-space has another size or other coils.
        """
        return self.combine(self.samples_of(y))

    @property
    def H(self) -> LinearMap:
        """`A^H` as a function: `A.H(y)` is `A.adjoint(y)`."""
        return self.adjoint

    def gram(self, x: Tensor) -> Tensor:
        """Compute `A^H A x`, image to image, without a shift.

        Raises:
            ShapeError: the image has another size.
        """
        return self.combine(self.sample(x))

    def sample(self, x: Tensor) -> Tensor:
        """Compute `A x` in FFT order, see `samples_of`.

        Raises:
            ShapeError: the image has another size.
        """
        coil_images = self.sens_maps * self.crop(x).unsqueeze(-3)
        samples: Tensor = torch.fft.fftn(coil_images, dim=self.dims, norm="ortho")
        return samples.mul_(self.mask)

    def combine(self, samples: Tensor) -> Tensor:
        """Apply `A^H` to samples in FFT order that are zero where not sampled."""
        coil_images = torch.fft.ifftn(samples, dim=self.dims, norm="ortho")
        return self.pad(weighted_sum(self.sens_maps, coil_images))

    def samples_of(self, kspace: Tensor) -> Tensor:
        """Bring centred k-space to FFT order, and to an image along the readout where `dims` is `(-1,)`.

        With i = ifftshift and E the plain FFT, the centred transform is F = i^-1 E i. The samples y' = i y, multiplied
        by the phase ramp of the image's origin (`in_fft_order`), satisfy y' = P' E S C x without a shift. Where the
        mask did not sample, they are 0.

        Raises:
            ShapeError: the k-space has another size or other coils.
        """
        if kspace.ndim < 3 or kspace.shape[-3:] != self.sens_maps.shape[-3:]:
            raise ShapeError(
                f"expected k-space (..., coil, readout, phase) ending in {tuple(self.sens_maps.shape[-3:])}, got "
                f"{tuple(kspace.shape)}: the maps belong to another scan"
            )
        if self.dims == (-2, -1):
            return in_fft_order(kspace, self.dims).mul_(self.mask)
        width = kspace.shape[-1]
        if self.mask.numel() != width:
            return in_fft_order(ifft1c(kspace, dim=-2), self.dims).mul_(self.mask)
        # One mask for all: only the sampled columns are transformed.
        places = self.mask.flatten().nonzero().flatten()
        columns = kspace[..., (places + width // 2) % width]
        samples = torch.zeros_like(kspace)
        samples[..., places] = ifft1c(columns, dim=-2) * fft_order_ramp(kspace, -1).flatten()[places]
        return samples

    def kspace_of(self, samples: Tensor) -> Tensor:
        """Bring samples in FFT order back to centred k-space: the inverse of `samples_of`."""
        for dim in self.dims:
            samples = samples * fft_order_ramp(samples, dim).conj()
        kspace: Tensor = torch.fft.fftshift(samples, dim=self.dims)
        return kspace if self.dims == (-2, -1) else fft1c(kspace, dim=-2)

    def crop(self, x: Tensor) -> Tensor:
        """Compute `C x`: the centre of the image that k-space sees, `(..., H, W)` to `(..., h, w)`.

        Raises:
            ShapeError: the image has another size.
        """
        if x.ndim < 2 or tuple(x.shape[-2:]) != self.image_size:
            raise ShapeError(f"expected an image (..., h, w) of size {self.image_size}, got {tuple(x.shape)}")
        h, w = self.kspace_size
        return x[..., self._top : self._top + h, self._left : self._left + w]

    def pad(self, x: Tensor) -> Tensor:
        """Compute `C^H x`: zeros around the image that k-space sees, `(..., h, w)` to `(..., H, W)`.

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


def weighted_sum(maps: Tensor, coil_images: Tensor) -> Tensor:
    """Compute `sum_c conj(S_c) x_c` of `(..., coil, h, w)`, overwriting the coil images."""
    # The conjugate of sum S conj(x), to avoid a conjugated copy of the maps.
    return coil_images.conj_physical_().mul_(maps).sum(dim=-3).conj_physical_()


def in_fft_order(kspace: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Bring centred k-space to FFT order: the plain FFT of the image, `exp(-2 pi i k (N//2) / N) ifftshift(y)`.

    Iterative solvers call this once and then use plain FFTs without shifts.

    Args:
        kspace: complex, centred along `dims`.
        dims: of the last two axes, -2 or -1.
    """
    samples: Tensor = torch.fft.ifftshift(kspace, dim=dims)
    for dim in dims:
        samples = samples * fft_order_ramp(kspace, dim)
    return samples


def fft_order_ramp(like: Tensor, dim: int) -> Tensor:
    """Compute `exp(-2 pi i k (N//2) / N)`, k = 0 ... N-1, along axis -1 or -2 of `like`, shaped to multiply it.

    This phase ramp moves the image's origin from N//2 to 0.
    """
    n = like.shape[dim]
    k = torch.arange(n, dtype=torch.float64, device=like.device)
    # The product k (N//2) is reduced modulo N first, because the angle of a large number would lose digits.
    angle = -2 * torch.pi * ((k * (n // 2)) % n) / n
    ramp = torch.polar(torch.ones_like(angle), angle).to(like.dtype)
    return ramp if dim == -1 else ramp[:, None]
