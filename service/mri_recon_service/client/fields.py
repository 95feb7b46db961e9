"""Write the values of a request as the texts of a form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from mri_recon.errors import ConfigError

__all__ = ["FieldValue", "compare_texts", "field_texts"]

FieldValue: TypeAlias = str | int | float | bool | None
"""Value of a field or an option. None leaves it out."""


def field_texts(fields: Mapping[str, Any]) -> dict[str, str]:
    """Write fields as texts; those of None are left out.

    Raises:
        ConfigError: a value that is no text, number or truth value.
    """
    return {name: _text(name, value) for name, value in fields.items() if value is not None}


def compare_texts(
    methods: str | Iterable[str] | None, options: Mapping[str, Mapping[str, Any]] | None
) -> dict[str, str]:
    """Write the methods of a comparison, and the options of each as `METHOD.OPTION`.

    Raises:
        ConfigError: as `field_texts`.
    """
    texts = {} if methods is None else {"methods": methods if isinstance(methods, str) else ",".join(methods)}
    for method, given in (options or {}).items():
        if not isinstance(given, Mapping):
            raise ConfigError(
                f"expected the options of {method!r} by name, got {type(given).__name__}: "
                "options={'cs-wavelet': {'max_iters': 50}}, for example"
            )
        texts |= field_texts({f"{method}.{name}": value for name, value in given.items()})
    return texts


def _text(name: str, value: Any) -> str:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a number of NumPy
        value = value.item()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise ConfigError(
        f"{name}: expected a text, a number, True or False, got {type(value).__name__}: only these can be a field"
    )
