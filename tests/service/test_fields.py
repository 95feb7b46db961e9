from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from mri_recon_service.fields import reconstruction_fields
from mri_recon_service.problems import Problem
from tests.support.methods import add_method


def _method(
    kspace: Tensor, mask: Any, *, sens_maps: Tensor | None, sigma: float | Tensor | None = None, levels: int = 3
) -> tuple[Tensor, dict[str, Any]]:
    return kspace[:, 0], {}


def _no_type(kspace: Tensor, mask: Any, *, sens_maps: Tensor | None, levels: Unheard = 3) -> Any:  # type: ignore[name-defined]  # noqa: F821
    return kspace[:, 0], {}


@pytest.fixture
def options_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(function: Any) -> Any:
        add_method(monkeypatch, "it", function)
        return lambda **texts: reconstruction_fields({"method": "it", **texts}, limits={"max_iters": 9})[1]

    return install


def test_an_option_without_a_type_here_does_not_free_the_others(options_of: Any) -> None:
    options = options_of(_method)
    assert options(sigma="0.5", levels="2") == {"sigma": 0.5, "levels": 2}
    with pytest.raises(Problem, match="option 'levels'"):
        options(levels="many")


def test_annotations_that_cannot_be_read_leave_the_options_to_the_method(options_of: Any) -> None:
    assert options_of(_no_type)(levels="many") == {"levels": "many"}


@pytest.mark.parametrize(
    ("candidates", "code", "message"),
    [
        ("cs-wavelet,unet:model=/etc/passwd", "unknown-model", "expected one of the models"),
        ("cs-wavelet:max_iters=100000", "invalid-option", "candidates: cs-wavelet:max_iters': expected at most"),
        ("unet:adapt=5", "invalid-option", "candidates: unet:adapt': expected at most 0"),
        ("dream", "invalid-option", "expected one of the methods"),
        ("cs-wavelet:maps=center", "invalid-option", "without the option maps"),
    ],
)
def test_candidates_have_the_limits_of_their_methods(candidates: str, code: str, message: str) -> None:
    with pytest.raises(Problem) as refused:
        reconstruction_fields({"method": "auto", "candidates": candidates}, limits={"max_iters": 500, "adapt": 0})
    assert refused.value.code == code
    assert message in refused.value.detail


def test_candidates_reach_the_method() -> None:
    _, options = reconstruction_fields(
        {"method": "auto", "candidates": "cs-wavelet:max_iters=9,unet"}, limits={"max_iters": 500, "adapt": 0}
    )
    assert options == {"candidates": "cs-wavelet:max_iters=9,unet"}
