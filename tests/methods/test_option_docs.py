from __future__ import annotations

from typing import Annotated, Any

import pytest

from mri_recon.errors import MethodError
from mri_recon.methods import option_docs as module
from mri_recon.methods.option_docs import option_docs
from mri_recon.methods.option_values import Between, OneOf
from mri_recon.methods.table import method_options
from tests.support.methods import BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_option_of_a_method_has_a_meaning_and_allowed_values(name: str) -> None:
    found = option_docs(name)
    assert {one.name: one.default for one in found} == method_options(name)
    for one in found:
        assert one.meaning.endswith("."), f"{name}.{one.name}: its docstring says what it does"
        assert "  " not in one.meaning
        assert one.allowed, f"{name}.{one.name}: its signature says which values it takes"
        assert "1e+38" not in one.allowed


def test_the_meaning_is_read_from_the_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    def method(
        kspace: Any,
        mask: Any,
        *,
        keep: Annotated[float, Between(0, 1)] = 0.5,
        first: Annotated[str, OneOf("a", "b")] = "a",
        second: Any = None,
        silent: int | None = 3,
    ) -> None:
        """Do something.

        Args:
            kspace: not an option.
            keep: share
                of the lines; see: below.
            first, second: two at once.

        Returns:
            silent: this is no argument.
        """

    monkeypatch.setattr(module, "get_method", lambda name: method)
    monkeypatch.setattr("mri_recon.methods.table.get_method", lambda name: method)
    assert [(one.name, one.default, one.allowed, one.meaning) for one in option_docs("any")] == [
        ("keep", 0.5, ">= 0 and <= 1", "share of the lines; see: below."),
        ("first", "a", "one of a, b", "two at once."),
        ("second", None, "", "two at once."),
        ("silent", 3, "a whole number or None", ""),
    ]


def test_an_unknown_method() -> None:
    with pytest.raises(MethodError, match="expected one of the methods zero-filled, "):
        option_docs("none-such")
