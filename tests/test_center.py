from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mri_recon._arrays import center_crop, center_window
from mri_recon.coils.combine import rss
from mri_recon.io.scan import make_scan
from mri_recon.metrics import nmse
from mri_recon.transforms.fourier import ifft2c


@given(full=st.tuples(st.integers(1, 12), st.integers(1, 12)), size=st.tuples(st.integers(1, 12), st.integers(1, 12)))
def test_the_centre_stays_the_centre(full: tuple[int, int], size: tuple[int, int]) -> None:
    image = torch.zeros(full)
    image[full[0] // 2, full[1] // 2] = 1
    part = center_crop(image, size)
    assert part.shape == tuple(min(n, wanted) for n, wanted in zip(full, size, strict=True))
    assert part[part.shape[0] // 2, part.shape[1] // 2] == 1
    assert np.array_equal(image.numpy()[center_window(full, size)], part.numpy())


@pytest.mark.parametrize("recon_size", [(11, 9), (10, 8), (11, 12), (16, 12)])
def test_reference_and_image_are_cut_at_the_same_place(recon_size: tuple[int, int]) -> None:
    # An even side cut to an odd one: two rules that both look right differ by a pixel here.
    rng = np.random.default_rng(0)
    kspace = rng.normal(size=(2, 3, 16, 12, 2)).view(np.complex128)[..., 0]
    scan = make_scan(kspace, name="test", meta={}, recon_size=recon_size)
    assert scan.target is not None
    assert scan.target.shape == (2, *recon_size)
    assert nmse(rss(ifft2c(scan.kspace)), scan.target) == pytest.approx(0, abs=1e-12)
