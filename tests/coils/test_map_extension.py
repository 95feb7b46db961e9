from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mri_recon.coils.map_extension import extend_maps
from tests.support.helpers import complex_randn, smooth_maps


def _disc(h: int, w: int, radius: float = 0.7) -> Tensor:
    y, x = torch.linspace(-1, 1, h)[:, None], torch.linspace(-1, 1, w)
    return ((y / radius) ** 2 + (x / radius) ** 2 < 1)[None]


@pytest.mark.parametrize("shape", [(1, 4, 37, 52), (1, 1, 33, 24), (1, 16, 64, 31)])
def test_known_values_stay_and_the_rest_is_near_the_truth(shape: tuple[int, ...]) -> None:
    _, coils, h, w = shape
    truth = smooth_maps(coils, h, w)[None].to(torch.complex64)
    truth = truth / torch.linalg.vector_norm(truth, dim=1, keepdim=True)
    known = _disc(h, w)
    found = extend_maps(truth * known.unsqueeze(1), known)
    inside = known.unsqueeze(1).expand_as(found)
    torch.testing.assert_close(found[inside], truth[inside])
    torch.testing.assert_close(torch.linalg.vector_norm(found, dim=1), torch.ones(1, h, w))
    # Just outside the crop, where anatomy may still be, the angle to the true map is small.
    ring = (_disc(h, w, 0.8) & ~known)[0]
    agreement = (found[0].conj() * truth[0]).sum(dim=0).abs()[ring]
    assert float(agreement.min()) > 0.85
    assert float(agreement.mean()) > 0.93


def test_there_is_no_step_at_the_crop() -> None:
    """Neighbours across the crop differ no more than three times as much as neighbours of the true maps do."""
    truth = smooth_maps(8, 64, 64)[None].to(torch.complex64)
    truth = truth / torch.linalg.vector_norm(truth, dim=1, keepdim=True)
    known = _disc(64, 64)
    found = extend_maps(truth * known.unsqueeze(1), known)

    def steps(maps: Tensor) -> float:
        return float((maps[..., 1:] - maps[..., :-1]).abs().max())

    assert steps(truth * known.unsqueeze(1)) > 4 * steps(truth)
    assert steps(found) < 3 * steps(truth)


@settings(max_examples=25)
@given(
    h=st.integers(1, 20), w=st.integers(1, 20), coils=st.integers(1, 5), share=st.floats(0, 1), seed=st.integers(0, 9)
)  # fmt: skip
def test_any_shape_and_any_part(h: int, w: int, coils: int, share: float, seed: int) -> None:
    maps = complex_randn(2, coils, h, w, seed=seed).to(torch.complex64)
    known = torch.rand(2, h, w, generator=torch.Generator().manual_seed(seed)) < share
    found = extend_maps(maps * known.unsqueeze(1), known)
    assert torch.isfinite(found.abs()).all()
    torch.testing.assert_close(torch.linalg.vector_norm(found, dim=1), torch.ones(2, h, w))
