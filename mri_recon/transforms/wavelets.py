"""Orthonormal periodised two-dimensional wavelet transform on batched complex tensors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pywt
import torch
from torch import Tensor

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import MethodError, ShapeError

__all__ = ["WaveletTransform", "default_levels", "orthogonal_filters", "padded_size"]

# Halve while a side has this many samples, as BART does: a coarse pixel is then an eighth to a sixteenth of the image.
_MIN_SIDE = 16
# Below this many samples a side the copies of the banded form cost more than its shorter products save.
_MIN_BANDED = 112
# With fewer samples a side, the compiled loops save less time than loading them takes.
_MIN_COMPILED = 112
# The buffers of the compiled loops are made for this much.
_MAX_SIDE = 2048
_MAX_TAPS = 112


def default_levels(h: int, w: int) -> int:
    """Halvings (rounded up) until the shorter side has fewer than 16 samples; at least 1."""
    side, levels = -(-min(h, w) // 2), 1
    while side >= _MIN_SIDE:
        side, levels = -(-side // 2), levels + 1
    return levels


def padded_size(h: int, w: int, levels: int) -> tuple[int, int]:
    """Find the smallest size of at least `(h, w)` with both sides divisible by `2^levels`."""
    step = 1 << levels
    return -(-h // step) * step, -(-w // step) * step


def orthogonal_filters(wavelet: str) -> pywt.Wavelet:
    """Look up the filters of PyWavelets by name.

    Raises:
        MethodError: an unknown or not orthogonal wavelet.
    """
    if wavelet not in pywt.wavelist(kind="discrete") or not pywt.Wavelet(wavelet).orthogonal:
        names = [name for name in pywt.wavelist(kind="discrete") if pywt.Wavelet(name).orthogonal]
        near = did_you_mean(wavelet, names)
        raise MethodError(f"expected an orthogonal wavelet, got {wavelet!r}{near}: choose one of {', '.join(names)}")
    return pywt.Wavelet(wavelet)


class WaveletTransform:
    """Mallat transform `c = W x`, `W^H W = W W^H = 1`.

    Each level takes the approximation `a` of the level before to `L a R^T`, where the orthogonal matrices `L`, `R` hold
    the low-pass rows above the high-pass rows, and puts it in the place of `a`. With the filters f of PyWavelets,

        out[k] = sum_j f[j] x[(2 k + n/2 - j) mod N],   n taps,

    so the result equals `pywt.coeffs_to_array(pywt.wavedec2(x, wavelet, mode="periodization", level=levels))`.

    On the processor, large images go through compiled loops where numba is installed (the extra `fast`); the first
    transform in each precision then compiles for some seconds, or loads the code that an earlier process compiled.
    Those loops are serial. Everything else is products of matrices in torch, with the same result up to rounding.

    Shapes:
        x, c: real or complex `(..., h, w)`, both sides divisible by `2^levels`.

    Source: Mallat, IEEE PAMI 1989; Daubechies, Comm Pure Appl Math 1988.
    """

    def __init__(
        self, wavelet: str, levels: int, size: tuple[int, int], device: torch.device | str | None = None
    ) -> None:
        """Build the matrices of every level, in double precision and in single.

        Raises:
            MethodError: an unknown or not orthogonal wavelet, or fewer than one level.
            ShapeError: a side that is not divisible by `2^levels`.
        """
        filters = orthogonal_filters(wavelet)
        if levels < 1:
            raise MethodError(f"expected at least one wavelet level, got {levels}")
        if size != padded_size(*size, levels) or min(size) < 1:
            raise ShapeError(
                f"expected both sides divisible by 2^{levels} = {1 << levels}, got {size}: "
                f"pad to {padded_size(*size, levels)}"
            )
        self.wavelet = wavelet
        self.levels = levels
        self.size = size
        self.device = torch.device("cpu" if device is None else device)
        sides = [(size[0] >> level, size[1] >> level) for level in range(levels)]
        self._double = _TorchLevels([_level(h, w, filters, self.device) for h, w in sides])
        self._single = self._double.float()
        self._compiled = _compiled_levels(size, levels, filters, self.device)

    def forward(self, x: Tensor) -> Tensor:
        """Compute `W x`: image to coefficients, the approximation in the top left corner.

        Raises:
            ShapeError: the image has another size.
        """
        planes = self._planes(x)
        return _join(self._levels(planes).forward(planes), x)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Compute `W^H c`: coefficients to image; inverse and adjoint of `forward`.

        Raises:
            ShapeError: the coefficients have another size.
        """
        planes = self._planes(coefficients)
        return _join(self._levels(planes).inverse(planes), coefficients)

    def _planes(self, x: Tensor) -> Tensor:
        """Make a real tensor `(part, ..., h, w)`: real matrices act on both parts of a complex number alike."""
        if x.ndim < 2 or tuple(x.shape[-2:]) != self.size:
            raise ShapeError(f"expected a tensor (..., h, w) of size {self.size}, got {tuple(x.shape)}")
        return torch.stack((x.real, x.imag)) if x.is_complex() else x[None]

    def _levels(self, planes: Tensor) -> _CompiledLevels | _TorchLevels:
        if self._compiled is not None and self._compiled.takes(planes):
            return self._compiled
        return self._double if planes.dtype == torch.float64 else self._single


class _CompiledLevels:
    """Transform all levels of real planes by the loops of `_wavelet_kernels`."""

    def __init__(self, levels: int, filters: pywt.Wavelet) -> None:
        from mri_recon.transforms import _wavelet_kernels

        self._kernels = _wavelet_kernels
        self._count = levels
        self._analysis = _wavelet_kernels.analysis(filters.dec_lo, filters.dec_hi)
        self._synthesis = _wavelet_kernels.synthesis(filters.dec_lo, filters.dec_hi)

    def takes(self, planes: Tensor) -> bool:
        """Tell whether a tensor has single or double precision, lies on the CPU and records no gradient."""
        recorded = planes.requires_grad and torch.is_grad_enabled()
        return planes.dtype in (torch.float32, torch.float64) and planes.device.type == "cpu" and not recorded

    def forward(self, planes: Tensor) -> Tensor:
        source, out = _flat(planes), planes.new_empty(planes.shape)
        self._kernels.forward(source.numpy(), _flat(out).numpy(), self._count, self._analysis)
        return out

    def inverse(self, planes: Tensor) -> Tensor:
        source, out = _flat(planes), planes.new_empty(planes.shape)
        self._kernels.inverse(source.numpy(), _flat(out).numpy(), self._count, self._synthesis)
        return out


class _TorchLevels:
    """Transform level after level, each in the corner that holds the approximation of the last one."""

    def __init__(self, levels: list[_DenseLevel | _BandedLevel]) -> None:
        self.levels = levels

    def float(self) -> _TorchLevels:
        return _TorchLevels([level.float() for level in self.levels])

    def forward(self, planes: Tensor) -> Tensor:
        first, *others = self.levels
        result = first.forward(planes)
        for level in others:
            corner = result[..., : level.size[0], : level.size[1]]
            corner.copy_(level.forward(corner))
        return result

    def inverse(self, planes: Tensor) -> Tensor:
        first, *others = self.levels
        if others:
            planes = planes.clone()
            for level in reversed(others):
                corner = planes[..., : level.size[0], : level.size[1]]
                corner.copy_(level.inverse(corner))
        return first.inverse(planes)


class _DenseLevel:
    """One level as two orthogonal matrices: `c = L x R^T`, `x = L^T c R`."""

    def __init__(self, left: Tensor, right: Tensor) -> None:
        self.size = (left.shape[0], right.shape[0])
        self._left, self._right = left, right

    def float(self) -> _DenseLevel:
        return _DenseLevel(self._left.float(), self._right.float())

    def forward(self, x: Tensor) -> Tensor:
        return self._left @ x @ self._right.T

    def inverse(self, c: Tensor) -> Tensor:
        return self._left.T @ c @ self._right


class _BandedLevel:
    """One level by blocks: the matrices of `_DenseLevel` are banded, and each block of outputs needs few inputs.

    A block of `2 b` consecutive samples gives `b` low and `b` high coefficients; it needs the samples of the block and
    `n/2 - 1` more on either side, n taps. One small matrix serves all blocks, so that an axis of N costs
    `(2 b + n - 2) / N` of the dense product. The way back is the transpose: blocks overlap and add.
    """

    def __init__(self, size: tuple[int, int], reach: int, blocks: tuple[Tensor, Tensor]) -> None:
        self.size = size
        self._reach = reach  # samples beyond the block on either side
        self._rows, self._columns = blocks  # (2 b, 2 b + 2 reach) for each axis

    def float(self) -> _BandedLevel:
        return _BandedLevel(self.size, self._reach, (self._rows.float(), self._columns.float()))

    def forward(self, x: Tensor) -> Tensor:
        (h, w), reach = self.size, self._reach
        rows, columns = self._rows.shape[0], self._columns.shape[0]
        planes = x.reshape(-1, h, w)
        padded = x.new_empty(planes.shape[0], h + 2 * reach, w + 2 * reach)
        inside = padded[:, reach : reach + h]
        inside[:, :, reach : reach + w] = planes
        if reach:
            inside[:, :, :reach] = planes[:, :, w - reach :]
            inside[:, :, reach + w :] = planes[:, :, :reach]
            padded[:, :reach] = inside[:, h - reach :]
            padded[:, reach + h :] = inside[:, :reach]
        line = w + 2 * reach
        partial = x.new_empty(planes.shape[0], h // rows, rows, line)
        blocks = self._rows.expand(h // rows, -1, -1)
        for plane, out in zip(padded, partial, strict=True):
            windows = plane.as_strided((h // rows, rows + 2 * reach, line), (rows * line, line, 1))
            torch.bmm(blocks, windows, out=out)
        windows = partial.as_strided((w // columns, planes.shape[0] * h, columns + 2 * reach), (columns, line, 1))
        result = torch.bmm(windows, self._columns.T.expand(w // columns, -1, -1))
        split = result.view(w // columns, -1, h // rows, 2, rows // 2, 2, columns // 2)
        return split.permute(1, 3, 2, 4, 5, 0, 6).reshape(x.shape)

    def inverse(self, c: Tensor) -> Tensor:
        (h, w), reach = self.size, self._reach
        rows, columns = self._rows.shape[0], self._columns.shape[0]
        split = c.reshape(-1, 2, h // rows, rows // 2, 2, w // columns, columns // 2)
        blocks = split.permute(5, 0, 2, 1, 3, 4, 6).reshape(w // columns, -1, columns)
        spread = torch.bmm(blocks, self._columns.expand(w // columns, -1, -1))
        lines = _overlap_add(spread.unsqueeze(0), reach)[0]
        partial = lines.view(w // columns, -1, h, columns).permute(1, 2, 0, 3).reshape(-1, h // rows, rows, w)
        turned = self._rows.T.contiguous().expand(h // rows, -1, -1)
        wide = c.new_empty(partial.shape[0], h // rows, rows + 2 * reach, w)
        for plane, out in zip(partial, wide, strict=True):
            torch.bmm(turned, plane, out=out)
        return _overlap_add(wide.transpose(-1, -2), reach).transpose(-1, -2).reshape(c.shape)


def _overlap_add(windows: Tensor, reach: int) -> Tensor:
    """Periodic sum of overlapping windows `(..., block, line, reach + side + reach)`, to `(..., block, line, side)`.

    Adds in place: the margins of a window belong to its neighbours, and with a single block to itself.
    """
    middle = windows[..., reach : windows.shape[-1] - reach]
    if reach:
        before, after = windows[..., :reach], windows[..., windows.shape[-1] - reach :]
        start, end = middle[..., :reach], middle[..., middle.shape[-1] - reach :]
        end[..., :-1, :, :] += before[..., 1:, :, :]
        end[..., -1, :, :] += before[..., 0, :, :]
        start[..., 1:, :, :] += after[..., :-1, :, :]
        start[..., 0, :, :] += after[..., -1, :, :]
    return middle


def _compiled_levels(
    size: tuple[int, int], levels: int, filters: pywt.Wavelet, device: torch.device
) -> _CompiledLevels | None:
    """Choose the compiled form where it pays and numba, which is loaded here, is installed."""
    if device.type != "cpu" or min(size) < _MIN_COMPILED or size[1] > _MAX_SIDE or len(filters.dec_lo) > _MAX_TAPS:
        return None
    try:
        return _CompiledLevels(levels, filters)
    except ImportError:
        return None


def _level(h: int, w: int, filters: pywt.Wavelet, device: torch.device) -> _DenseLevel | _BandedLevel:
    """Choose the faster form of one level; on a GPU the dense products win at every size that occurs."""
    blocks = (_block_side(h), _block_side(w))
    reach = len(filters.dec_lo) // 2 - 1
    if device.type == "cpu" and min(h, w) >= _MIN_BANDED and all(blocks) and reach <= min(blocks):
        rows, columns = (_analysis_block(side, filters, device) for side in blocks)
        return _BandedLevel((h, w), reach, (rows, columns))
    return _DenseLevel(_analysis(h, filters, device), _analysis(w, filters, device))


def _block_side(n: int) -> int:
    """Return the samples of one block: the larger of 32 and 16 that divides n; 0 if neither does."""
    return next((side for side in (32, 16) if n % side == 0), 0)


def _flat(planes: Tensor) -> Tensor:
    """Return contiguous real planes `(plane, h, w)`, without a copy if they are already contiguous."""
    return planes.detach().resolve_neg().contiguous().view(-1, *planes.shape[-2:])


def _join(planes: Tensor, like: Tensor) -> Tensor:
    return torch.complex(planes[0], planes[1]) if like.is_complex() else planes[0]


def _analysis(n: int, filters: pywt.Wavelet, device: torch.device) -> Tensor:
    """Make the orthogonal matrix `(n, n)` of one level: low-pass rows above high-pass rows, periodic."""
    matrix: npt.NDArray[np.float64] = np.zeros((n, n))
    rows = np.arange(n // 2)
    for first, taps in ((0, filters.dec_lo), (n // 2, filters.dec_hi)):
        for j, tap in enumerate(taps):
            # add.at: a filter longer than the signal wraps onto itself, and the taps that meet add up.
            np.add.at(matrix, (first + rows, (2 * rows + len(taps) // 2 - j) % n), tap)
    return torch.from_numpy(matrix).to(device)


def _analysis_block(side: int, filters: pywt.Wavelet, device: torch.device) -> Tensor:
    """Make rows of `_analysis` that start in a block of `side` samples, `(side, side + n - 2)`: low-pass, then high."""
    taps = len(filters.dec_lo)
    matrix: npt.NDArray[np.float64] = np.zeros((side, side + taps - 2))
    rows = np.arange(side // 2)
    for first, values in ((0, filters.dec_lo), (side // 2, filters.dec_hi)):
        for j, tap in enumerate(values):
            matrix[first + rows, 2 * rows + taps - 1 - j] = tap
    return torch.from_numpy(matrix).to(device)
