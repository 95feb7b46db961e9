"""Every candidate makes the image that its method makes by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mri_recon as mr
from mri_recon.coils.scan_maps import ScanMaps
from mri_recon.errors import MethodError
from mri_recon.methods.candidate import Candidate, parse_candidates
from mri_recon.methods.candidate_runs import run_candidate
from mri_recon.methods.holdout import hold_out, predict
from mri_recon.methods.table import get_method, method_names
from tests.methods.test_holdout_check import masked
from tests.support.methods import add_method

CPU = torch.device("cpu")


@pytest.mark.parametrize("coils", [1, 3])
@pytest.mark.parametrize("text", ["cg-sense", "cs-wavelet:max_iters=5", "unet", "unrolled"])
def test_a_candidate_makes_the_image_of_its_method(text: str, coils: int) -> None:
    kspace, mask = masked((2, coils, 40, 45))
    (candidate,) = parse_candidates(text)
    image, _ = run_candidate(candidate, kspace, mask, ScanMaps.of(kspace, mask), device=CPU)
    alone = mr.reconstruct(kspace, mask, method=candidate.method, **candidate.options).image
    torch.testing.assert_close(image, alone, rtol=0, atol=2e-4 * float(alone.abs().max()))


def test_a_magnitude_gets_the_phase_that_predicts_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    def magnitude(kspace: Any, mask: Any, **given: Any) -> Any:
        image, info = get_method("cg-sense")(kspace, mask, reg_weight=1e-3, sens_maps=given["sens_maps"])
        return image.abs(), info

    assert "magnitude" not in method_names()
    add_method(monkeypatch, "magnitude", magnitude)
    kspace, mask = masked((1, 3, 40, 45))
    maps = ScanMaps.of(kspace, mask)
    image, _ = run_candidate(Candidate("magnitude"), kspace, mask, maps, device=CPU)
    assert image.is_complex()
    data = hold_out(kspace, mask, maps.everywhere)
    assert predict(data, lambda y, m: image)[0].isfinite().all()
    expected, _ = run_candidate(Candidate("cg-sense", {"reg_weight": 1e-3}), kspace, mask, maps, device=CPU)
    bright = expected.abs() > 0.3 * expected.abs().max()
    assert float(((image / expected).angle().abs() * bright).max()) < 0.5


def test_an_image_of_another_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    add_method(monkeypatch, "small", lambda kspace, mask, **_: (kspace[:, 0, 1:], {}))
    kspace, mask = masked((1, 1, 20, 45))
    with pytest.raises(MethodError, match=r"expected a finite image \(1, 20, 45\), got \(1, 19, 45\)"):
        run_candidate(Candidate("small"), kspace, mask, ScanMaps.of(kspace, mask), device=CPU)
