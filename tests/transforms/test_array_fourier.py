from __future__ import annotations

import numpy as np
import pytest
import torch

from mri_recon.transforms.array_fourier import fft_of_array, ifft_of_array
from mri_recon.transforms.fourier import fft2c, ifft1c, ifft2c


@pytest.mark.parametrize("shape", [(8, 6), (7, 9), (3, 1, 5), (2, 4, 5, 8)])
def test_arrays_are_transformed_as_tensors_are(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    tensor = torch.from_numpy(x)
    for found, expected in (
        (fft_of_array(x, (-2, -1)), fft2c(tensor)),
        (ifft_of_array(x, (-2, -1)), ifft2c(tensor)),
        (ifft_of_array(x, (0,)), ifft1c(tensor, dim=0)),
    ):
        assert found.dtype == np.complex64
        np.testing.assert_allclose(found, expected.numpy(), atol=2e-6)
