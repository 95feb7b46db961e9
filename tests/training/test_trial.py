from __future__ import annotations

from typing import Any

import pytest

from mri_recon.errors import CheckpointError, MethodError
from mri_recon.training.trial import try_methods


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

    monkeypatch.setattr("mri_recon.training.trial.reconstruct", broken)
    with pytest.raises(MethodError, match="method 'cg-sense' fails on a small phantom .ZeroDivisionError: division by"):
        try_methods(["cg-sense"])
