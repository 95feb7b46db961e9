from __future__ import annotations

from typing import Any

import pytest

from mri_recon.errors import CheckpointError, ConfigError, MethodError
from mri_recon_training.evaluation.preflight import check_unseen, try_methods


def test_every_method_tells_of_itself() -> None:
    found = try_methods(["zero-filled", "cg-sense"], options={"cg-sense": {"reg_weight": 0.5}}, num_coils=(1, 2))
    assert found["cg-sense"]["reg_weight"] == 0.5
    assert found["cg-sense"]["maps"] == "espirit", "the last number of coils counts"
    assert found["zero-filled"]["combination"] == "rss"


@pytest.mark.parametrize(
    ("methods", "options", "error", "message"),
    [
        (["magic"], {}, MethodError, "got 'magic'"),
        (["cg-sense"], {"cg-sense": {"x": 1}}, MethodError, "got 'x'"),
        (["cg-sense"], {"cg-sense": {"reg_weight": -1}}, MethodError, "expected reg_weight >= 0"),
        (["unrolled"], {"unrolled": {"model": "absent"}}, CheckpointError, "unknown model 'absent'"),
    ],
)
def test_what_cannot_run_says_so(
    methods: list[str], options: dict[str, dict[str, Any]], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        try_methods(methods, options=options)


def test_a_method_that_breaks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("mri_recon_training.evaluation.preflight.reconstruct", broken)
    with pytest.raises(MethodError, match="method 'cg-sense' fails on a small phantom .ZeroDivisionError: division by"):
        try_methods(["cg-sense"])


def test_weights_that_know_a_person_are_not_measured_on_that_person() -> None:
    check_unseen(["zero-filled", "unet", "unrolled"], {"ulf-patient-6b", "head-sagittal"})
    check_unseen(["zero-filled", "cs-wavelet"], {"ulf-patient-6a"})
    check_unseen(["network-of-others"], {"ulf-patient-6a"}, {"network-of-others": {"model": "large"}})
    with pytest.raises(ConfigError, match="unet: expected weights .* got unet, which knows ms-patient-01, ulf-pat"):
        check_unseen(["cs-wavelet", "unet"], {"ulf-patient-6a", "ms-patient-01", "head-sagittal"})
    with pytest.raises(ConfigError, match="unrolled: expected weights .* got unet, which knows ulf-patient-6a"):
        check_unseen(["unrolled"], {"ulf-patient-6a"}, {"unrolled": {"model": "unet"}})
    with pytest.raises(ConfigError, match="unet: expected weights .* got unet, which knows ulf-patient-6a"):
        check_unseen(["auto"], {"ulf-patient-6a"})
    check_unseen(["auto"], {"ulf-patient-6a"}, {"auto": {"candidates": "cs-wavelet,cg-sense"}})
