"""Check the values of a method's options against the types and ranges that its signature declares.

    def my_method(kspace, mask, *, maps: Annotated[str, OneOf("espirit", "center")],
                  reg_weight: Annotated[float, Between(0, 1e6, cure="0.03 is a common start")] = 0.03): ...

An option of another type than bool, int, float, str and None, for example a tensor, is checked by the method itself.
"""

from __future__ import annotations

import contextlib
import inspect
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import MethodError

__all__ = ["LARGEST", "Between", "OneOf", "allowed_values", "check_values", "option_types", "parse_value"]

LARGEST = 1e38
"""Largest magnitude of a number that is an option. Single precision, in which methods compute, ends at 3.4e38."""


@dataclass(frozen=True)
class Between:
    """Allow a range of numbers, its ends included. Numbers that overflow single precision are never allowed.

    Attributes:
        least: smallest value, by default that of single precision.
        most: largest value, by default that of single precision.
        open_below: `least` itself is not allowed.
        cure: advice for the message.
    """

    least: float = -LARGEST
    most: float = LARGEST
    open_below: bool = False
    cure: str = "correct it"

    def __contains__(self, value: Any) -> bool:
        above = value > self.least if self.open_below else value >= self.least
        return bool(above and value <= self.most)

    def __str__(self) -> str:
        return f"{'>' if self.open_below else '>='} {self.least:g} and <= {self.most:g}"


class OneOf:
    """Allow certain words.

    Args:
        words: the allowed words.
    """

    def __init__(self, *words: str) -> None:
        self.words = words

    def __contains__(self, value: Any) -> bool:
        return value in self.words

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}" if len(self.words) > 1 else f'"{self.words[0]}"'


def option_types(function: Callable[..., Any]) -> dict[str, Any]:
    """Read the types of a method's parameters, with their ranges; an empty dictionary if they cannot be read."""
    with contextlib.suppress(NameError, TypeError, AttributeError):
        return get_type_hints(function, include_extras=True)
    return {}


def check_values(method: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse options outside the type or range that the signature of the method declares.

    Args:
        method: name of the method, for the message.
        function: the method.
        options: its options by name; one without a type in the signature is not checked.

    Raises:
        MethodError: a value of another type, not finite, larger than `LARGEST`, out of range, or not one of the valid
            words.
    """
    types = option_types(function)
    for name, value in options.items():
        parts = _parts(types.get(name, Any))
        if not any(_allows(kind, rule, value) for kind, rule in parts):
            cures = [rule.cure for _, rule in parts if isinstance(rule, Between)]
            words = [rule for _, rule in parts if isinstance(rule, OneOf)]
            cure = cures[0] if cures else "choose one of them" if words else "correct it"
            near = did_you_mean(value, [word for rule in words for word in rule.words])
            raise MethodError(
                f"method {method!r}: expected {name} {_described(parts)}, got {_shown(value)}{near}: {cure}"
            )


def allowed_values(kind: Any) -> str:
    """Describe the values that the type of an option allows, e.g. "a number >= 0 and <= 1"; "" if it allows any."""
    parts = _parts(kind)
    if parts == [(Any, None)]:
        return ""
    return _described(parts).removeprefix("to be ").replace(f" and <= {LARGEST:g}", "")


def parse_value(text: str, kind: Any = Any) -> Any:
    """Convert the text of an option to its type; an option of type `str` stays text, even if it looks like a number.

    Args:
        text: as typed.
        kind: type of the option; a text that fits none of its types stays text, and `check_values` refuses it.
    """
    text = text.strip()
    kinds = {one for one, _ in _parts(kind)}
    everything = kinds == {Any}
    readers: list[tuple[Any, Callable[[str], Any]]] = [
        (NoneType, lambda text: {"None": None, "null": None}[text]),
        (bool, lambda text: {"true": True, "false": False}[text.lower()]),
        (int, int),
        (float, _number_with_digits if everything else float),
    ]
    for of, read in readers:
        if of in kinds or everything:
            with contextlib.suppress(ValueError, KeyError, OverflowError):
                return read(text)
    return text


def _number_with_digits(text: str) -> float:
    """Convert as `float` does, but refuse "nan" and "infinity", which are words if the option's type is not known."""
    if not any(map(str.isdigit, text)):
        raise ValueError(text)
    return float(text)


def _parts(hint: Any, rule: Any = None) -> list[tuple[Any, Any]]:
    """List the types of a union, each with its range or words."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *rules = get_args(hint)
        return _parts(inner, next((one for one in rules if isinstance(one, Between | OneOf)), rule))
    if origin in (Union, UnionType):
        return [part for one in get_args(hint) for part in _parts(one, rule)]
    return [(Any if hint is inspect.Parameter.empty else hint, rule)]


def _allows(kind: Any, rule: Between | OneOf | None, value: Any) -> bool:
    if kind is NoneType:
        return value is None
    if kind is bool:
        return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")
    if kind is str:
        return isinstance(value, str) and (value in rule if rule is not None else value != "" and "\0" not in value)
    if kind in (int, float):
        number = numbers.Integral if kind is int else numbers.Real
        if isinstance(value, bool) or not isinstance(value, number):
            return False
        try:
            fits = abs(float(value)) <= LARGEST
        except OverflowError:  # a whole number beyond any float
            return False
        return fits and (rule is None or value in rule)
    return kind is Any or not isinstance(value, str | bool | numbers.Number | NoneType)


def _described(parts: list[tuple[Any, Any]]) -> str:
    if len(parts) == 1 and parts[0][0] is float:
        return str(parts[0][1] or f"to be a finite number of at most {LARGEST:g}")
    said = [_described_part(kind, rule) for kind, rule in parts]
    return "to be " + (said[0] if len(said) == 1 else f"{', '.join(said[:-1])} or {said[-1]}")


def _described_part(kind: Any, rule: Any) -> str:
    if kind is NoneType:
        return "None"
    if kind is bool:
        return "True or False"
    if kind in (int, float):
        limits = f"of at most {LARGEST:g}" if rule is None and kind is float else rule or ""
        return f"a {'whole ' if kind is int else ''}number {limits}".rstrip()
    if kind is str:
        return "a text that is not empty" if rule is None else str(rule)
    return f"a {getattr(kind, '__name__', kind)}"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number with more digits than Python prints
        text = "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:80]}..."
