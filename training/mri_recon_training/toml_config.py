"""Typed configurations from TOML files with overrides, for any pydantic model."""

from __future__ import annotations

import itertools
import json
import math
import tomllib
from collections.abc import Iterator, Sequence
from importlib.resources import files as package_files
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mri_recon._system.nearest import did_you_mean, did_you_mean_word
from mri_recon.errors import ConfigError

__all__ = ["apply_overrides", "config_file", "named_configs", "read_json", "read_tables", "validated"]

Model = TypeVar("Model", bound=BaseModel)

_MAX_BYTES = 1_000_000
"""No configuration is larger; /dev/zero is."""

_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}


def config_file(given: Path, folder: str = "configs") -> Path:
    """Find a configuration: a file of the user's, or a shipped one by its name without `.toml`.

    Args:
        given: path of a file, or a bare name such as `unrolled`; a file of that name comes first.
        folder: folder of this package with the shipped configurations.

    Raises:
        ConfigError: a bare name that is neither; the shipped names are listed.
    """
    if len(given.parts) != 1 or given.exists():
        return given
    shipped = _shipped(folder)
    names = list(shipped)
    if given.name in names:  # before the suffix is looked at: that of `unet-0.1` would be `.1`
        return shipped[given.name]
    if given.suffix:
        return given
    raise ConfigError(
        f"configuration: expected a TOML file or one of {', '.join(names)}, got {str(given)!r}"
        f"{did_you_mean(str(given), names)}: correct its name"
    )


def named_configs(folder: str = "configs") -> dict[str, tuple[str, int | None]]:
    """Say what each shipped configuration is, by the comment in its first lines, and how many steps it takes.

    None steps: those of the default.

    Args:
        folder: folder of this package with the configurations.
    """
    found = {}
    for name, path in _shipped(folder).items():
        text = path.read_text(encoding="utf-8")
        comment = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
        steps = tomllib.loads(text).get("run", {}).get("steps")
        found[name] = (" ".join(line.removeprefix("#").strip() for line in comment), steps)
    return found


def _shipped(folder: str) -> dict[str, Path]:
    found = Path(str(package_files("mri_recon_training") / folder))
    return {path.name.removesuffix(".toml"): path for path in sorted(found.glob("*.toml"), key=lambda path: path.stem)}


def read_tables(path: Path, overrides: Sequence[str] = (), model: type[BaseModel] | None = None) -> dict[str, Any]:
    """Read the tables of a TOML file and put `section.key=value` overrides over them.

    The value of an override is text where its key is text, though it look like a date or a number; else it is TOML, and
    text where it is not.

    Args:
        path: the file, UTF-8 with or without a byte-order mark.
        overrides: as typed after `--set`.
        model: model of the tables, for the types of the keys.

    Raises:
        ConfigError: no such file, another encoding, bad TOML, or an override that is not one.
    """
    text = _text(path)
    try:
        tables: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # bad TOML, a number of thousands of digits, a thousand brackets
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ConfigError(f"configuration {path}: not TOML ({reason}): correct it there") from error
    apply_overrides(tables, overrides, model)
    return tables


def apply_overrides(tables: dict[str, Any], overrides: Sequence[str], model: type[BaseModel] | None = None) -> None:
    """Put `section.key=value` overrides over tables, see `read_tables`.

    Raises:
        ConfigError: an override that is not one.
    """
    for override in overrides:
        _apply(tables, override, model)


def read_json(path: Path) -> dict[str, Any]:
    """Read the tables of a configuration that a run wrote as JSON.

    Raises:
        ConfigError: no such file, or another content.
    """
    try:
        tables = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"configuration {path}: not JSON ({error}): it is damaged, start a new run") from error
    if not isinstance(tables, dict):
        raise ConfigError(f"configuration {path}: expected tables, got {type(tables).__name__}: start a new run")
    return tables


def validated(model: type[Model], tables: dict[str, Any]) -> Model:
    """Validate tables as a model.

    Raises:
        ConfigError: an unknown key (the valid ones are listed) or an impossible value.
    """
    for where, value in _leaves(tables):
        if isinstance(value, str):
            if "\0" in value:
                raise ConfigError(
                    f"{where}: expected text without the character NUL, got {_shown(value)}: leave it out"
                )
        elif not abs(value) < 2**63 if isinstance(value, int) else not math.isfinite(value):
            raise ConfigError(f"{where}: expected a finite number below 2^63, got {_shown(value)}: correct it")
    try:
        return model.model_validate(tables)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden" and (keys := _keys(model, first["loc"][:-1])):
            near = did_you_mean(str(first["loc"][-1]), keys)
            raise ConfigError(f"unknown key {where}{near}: expected one of {', '.join(keys)}") from error
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: {reason}, got {_shown(first['input'])}{did_you_mean_word(first)}") from error


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"configuration {path}: cannot be read ({reason}): give the path of a TOML file") from error
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"configuration {path}: expected at most {_MAX_BYTES} bytes, got more: give a TOML file")
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            raise ConfigError(f"configuration {path}: expected UTF-8, got {encoding}: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"configuration {path}: expected UTF-8, got the byte 0x{content[error.start]:02x} in line {line}: "
            "save it as UTF-8"
        ) from error


def _apply(tables: dict[str, Any], override: str, model: type[BaseModel] | None) -> None:
    key, separator, text = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not separator or not all(parts):
        raise ConfigError(f"--set: expected section.key=value, got {override!r}")
    table = tables
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override}: {part} is a value, not a section")
    table[parts[-1]] = _value(text.strip(), words=model is not None and _is_text(model, parts))


def _value(text: str, *, words: bool) -> Any:
    """Parse the value of an override as TOML; keep the text where it is not TOML, or where the key takes only text."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    if set(parsed) != {"value"} or (words and not isinstance(parsed["value"], str)):
        return text
    return parsed["value"]


def _is_text(annotation: Any, parts: Sequence[str]) -> bool:
    """Tell whether the field at `parts` of a type takes text only."""
    kinds = list(_kinds(annotation))
    if not parts:
        words = [kind for kind in kinds if kind is not NoneType]
        return bool(words) and all(kind is str for kind in words)
    fields = [
        kind.model_fields[parts[0]].annotation
        for kind in kinds
        if isinstance(kind, type) and issubclass(kind, BaseModel) and parts[0] in kind.model_fields
    ]
    return bool(fields) and all(_is_text(field, parts[1:]) for field in fields)


def _kinds(annotation: Any) -> Iterator[Any]:
    """List the types of a union; for a literal those of its values."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for one in get_args(annotation):
            yield from _kinds(one)
    elif origin is Literal:
        yield from (type(value) for value in get_args(annotation))
    else:
        yield annotation


def _leaves(value: Any, where: str = "") -> Iterator[tuple[str, int | float | str]]:
    """List the numbers and texts of nested tables, each with its key."""
    match value:
        case dict():
            for key, item in value.items():
                yield from _leaves(item, f"{where}.{key}" if where else str(key))
        case list() | tuple():
            for item in value:
                yield from _leaves(item, where)
        case bool():
            return
        case int() | float() | str():
            yield where, value


def _keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """List the keys of the table at a location; none where it is not a table of one known type."""
    for part in location:
        field = model.model_fields.get(str(part))
        annotation = None if field is None else field.annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return sorted(model.model_fields)


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python prints
        text = "a number of thousands of digits"
    return text if len(text) <= 200 else f"{text[:200]}..."
