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
