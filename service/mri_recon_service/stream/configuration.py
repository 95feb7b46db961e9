"""Read the text with which a client chooses a method: a name and plain options, never code and never a path.

cs-wavelet
unrolled acceleration=4 seed=1
{"parameters": {"config": "cg-sense", "max_iters": "20"}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mri_recon._system.nearest import did_you_mean
from mri_recon.methods.table import method_names, method_options
from mri_recon_service.problems import Problem, shown
from mri_recon_service.stream.errors import SessionError
from mri_recon_service.work import read_task

__all__ = ["Choice", "allowed_methods", "read_choice"]

FIELDS = ("acceleration", "center_fraction", "num_low_frequencies", "seed", "mask_kind", "check")
"""Fields of the service's reconstructions that a client may set, besides the method and its options."""

_BY_SLICE = ("zero-filled", "cg-sense", "cs-wavelet", "unet", "unrolled")


@dataclass(frozen=True)
class Choice:
    """A configuration.

    Attributes:
        fields: fields of a reconstruction, as the service's form has them.
        key: the API key that came with it; "" without one.
    """

    fields: Mapping[str, str]
    key: str = ""

    @property
    def by_slice(self) -> bool:
        """Whether a slice alone gives the image that it gives among the others.

        `auto`, the hold-out check and adaptation look at all slices of a scan together. What methods of other packages
        do is not known.
        """
        return self.fields["method"] in _BY_SLICE and not {"check", "adapt"} & set(self.fields)

    def __str__(self) -> str:
        return " ".join(value if name == "method" else f"{name}={value}" for name, value in self.fields.items())


def allowed_methods(chosen: Sequence[str]) -> tuple[str, ...]:
    """Return the methods that clients may name: all, or those of the operator.

    Raises:
        SessionError: the operator named one that does not exist.
    """
    known = method_names()
    for name in chosen:
        if name not in known:
            near = did_you_mean(name, known)
            raise SessionError(
                f"expected some of the methods {', '.join(known)}, got {shown(name)}{near}: correct the name"
            )
    return tuple(chosen) or tuple(known)


def read_choice(
    text: str,
    *,
    allowed: Sequence[str],
    limits: Mapping[str, int],
    names: Mapping[str, str] = MappingProxyType({}),
    before: Choice | None = None,
) -> Choice:
    """Read a configuration.

    Args:
        text: a method and options NAME=VALUE between white space, or a JSON object whose `parameters` has the method as
            `config` and options. The name of a configuration file may end in `.xml`.
        allowed: methods that may be named.
        limits: largest values of options (`Settings.option_limits`).
        names: configurations in words by the names that the operator gave them. Options of the text come on top.
        before: an earlier configuration of the same client. The text may then leave the method out, and its options are
            added. An option `key` is an API key, not one of the method.

    Raises:
        SessionError: another text, an unknown name, or an impossible value.
    """
    given, options = _from_json(text) if text.lstrip().startswith("{") else _from_words(text)
    name = (given or "").removesuffix(".xml")
    if given is None and before is not None:
        earlier = dict(before.fields)
        method, options = earlier.pop("method"), {"key": before.key, **earlier, **options}
    elif name in names:
        named, defaults = _from_words(names[name])
        method, options = named or "", {**defaults, **options}
    elif name in allowed:
        method = name
    else:
        got = shown(name) + did_you_mean(name, [*names, *allowed]) if name else "none"
        raise SessionError(
            f"expected one of the configurations {', '.join([*names, *allowed])}, got {got}: name one of them, with "
            "its options as NAME=VALUE"
        )
    key = options.pop("key", "")
    known = [*method_options(method), *FIELDS]
    for option in options:
        if option not in known:
            raise SessionError(
                f"expected one of the options {', '.join(known)} of {method}, got {shown(option)}"
                f"{did_you_mean(option, known)}: name one"
            )
    fields = {"method": method, **options}
    try:
        read_task("reconstruction", fields, limits=limits)
    except Problem as problem:
        raise SessionError(problem.detail) from problem
    return Choice(fields, key)


def _from_words(text: str) -> tuple[str | None, dict[str, str]]:
    method: str | None = None
    options: dict[str, str] = {}
    for number, word in enumerate(text.split()):
        name, equals, value = word.partition("=")
        if not equals and number == 0:
            method = name
        elif not equals or not name or not value:
            raise SessionError(
                f"expected a method and options as NAME=VALUE, got {shown(word)}: write e.g. 'cs-wavelet max_iters=50'"
            )
        elif name in options:
            raise SessionError(f"expected the option {shown(name)} once, got it twice: leave one out")
        else:
            options[name] = value
    return method, options


def _from_json(text: str) -> tuple[str | None, dict[str, str]]:
    wrong = (
        "expected a JSON object with an object 'parameters' of texts, numbers, true and false, got another: correct it"
    )
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SessionError(wrong) from error
    parameters = document.get("parameters")
    if not isinstance(parameters, dict) or not all(isinstance(one, str | int | float) for one in parameters.values()):
        raise SessionError(wrong)
    options = {name: _plain(value) for name, value in parameters.items()}
    method = options.pop("config", None)
    return method, options


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
