"""Typed configurations from TOML files with overrides, for any pydantic model."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mri_recon.errors import ConfigError

__all__ = ["read_tables", "validated"]

Model = TypeVar("Model", bound=BaseModel)


def read_tables(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The tables of a TOML file after `section.key=value` overrides (values in TOML syntax; bare words are strings).

    Raises:
        ConfigError: no such file, bad TOML, or an override that is not one.
    """
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(
            f"configuration {path}: cannot be read ({error.strerror}): give the path of a TOML file"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"configuration {path}: not TOML ({error})") from error
    for override in overrides:
        _apply(tables, override)
    return tables


def validated(model: type[Model], tables: dict[str, Any]) -> Model:
    """`tables` as `model`.

    Raises:
        ConfigError: an unknown key (the valid ones are listed) or an impossible value.
    """
    try:
        return model.model_validate(tables)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            valid = ", ".join(_keys(model, first["loc"][:-1]))
            raise ConfigError(f"unknown key {where}: expected one of {valid}") from error
        raise ConfigError(f"{where}: {first['msg']}, got {first['input']!r}") from error


def _apply(tables: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"--set: expected section.key=value, got {override!r}")
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = tables
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override}: {part} is a value, not a section")
    table[parts[-1]] = value


def _keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        annotation = model.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return sorted(model.model_fields)
