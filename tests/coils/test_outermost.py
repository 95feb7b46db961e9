from __future__ import annotations

import numpy as np
import pytest
import torch

from mri_recon.coils.noise import noise_samples_from_edge, sigma_of_samples
from mri_recon.coils.outermost import edge_samples, sigma_of_array
from mri_recon.errors import FormatError


def _noise(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@pytest.mark.parametrize("shift", [0, 13])
@pytest.mark.parametrize("shape", [(2, 3, 40, 36), (1, 1, 31, 47)])
def test_an_array_is_read_where_a_tensor_is(shape: tuple[int, ...], shift: int) -> None:
    """But for positions that are equally far out: their choice is free, their number is not."""
    kspace = _noise(*shape)
    y, x = (np.arange(n) - n // 2 for n in shape[-2:])
    kspace *= 1 + 1e3 * np.roll(np.exp(-0.05 * (y[:, None] ** 2 + x**2)), shift, -1)
    tensor = torch.from_numpy(kspace)
    found, expected = edge_samples(kspace), noise_samples_from_edge(tensor, np.ones(shape[-1], dtype=bool)).numpy()
    assert found.shape == expected.shape
    assert len(np.intersect1d(found, expected)) > 0.97 * found.size
    assert sigma_of_array(found) == pytest.approx(sigma_of_samples(torch.from_numpy(expected)), rel=0.02)


def test_nothing_acquired_or_nothing_finite() -> None:
    with pytest.raises(FormatError, match="only zeros there"):
        edge_samples(np.zeros((1, 2, 8, 8), dtype=np.complex64))
    broken = _noise(1, 2, 8, 8)
    broken[0, 0, 3, 3] = np.inf
    with pytest.raises(FormatError, match="expected finite k-space"):
        edge_samples(broken)
