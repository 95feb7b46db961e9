"""Turn the texts of a form into typed values, or into errors that list the valid names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import MethodError
from mri_recon.methods.candidate import parse_candidates
from mri_recon.methods.table import check_option_names, check_options, get_method, method_names, method_options
from mri_recon.models.checkpoint import shipped_models
from mri_recon_service.problems import Problem, invalid_request, shown
from mri_recon_service.schemas import CompareFields, ReconstructionFields, ScanFields

__all__ = ["compare_fields", "reconstruction_fields"]

F = TypeVar("F", bound=ScanFields)

_FINITE = ConfigDict(allow_inf_nan=False)
_ANY: TypeAdapter[Any] = TypeAdapter(Any)


def reconstruction_fields(
    texts: Mapping[str, str], *, limits: Mapping[str, int]
) -> tuple[ReconstructionFields, dict[str, Any]]:
    """Read the fields of a reconstruction and the method's options.

    Raises:
        Problem: invalid-request, unknown-method, unknown-option, invalid-option, unknown-model.
    """
    known, rest = _split(texts, ReconstructionFields)
    fields = _validated(ReconstructionFields, known)
    _check_method(fields.method)
    return fields, _options(fields.method, rest, prefix="", limits=limits)


def compare_fields(
    texts: Mapping[str, str], *, limits: Mapping[str, int]
) -> tuple[CompareFields, list[str], dict[str, dict[str, Any]]]:
    """Read the fields of a comparison, its methods, and the options of each.

    Raises:
        Problem: as `reconstruction_fields`.
    """
    known, rest = _split(texts, CompareFields)
    fields = _validated(CompareFields, known)
    methods = list(dict.fromkeys(name.strip() for name in fields.methods.split(",") if name.strip()))
    if not methods:
        raise Problem(
            "unknown-method", "expected at least one method in 'methods', got none: name some", valid=method_names()
        )
    texts_of: dict[str, dict[str, str]] = {name: {} for name in methods}
    for name in methods:
        _check_method(name)
    for key, value in rest.items():
        method, dot, option = key.partition(".")
        if not dot or method not in methods:
            valid = [*CompareFields.model_fields, *(f"{m}.{o}" for m in methods for o in method_options(m))]
            raise Problem(
                "unknown-option",
                f"expected a field of {', '.join(CompareFields.model_fields)}, or METHOD.OPTION of a compared method, "
                f"got {shown(key)}{did_you_mean(key, valid)}: correct its name",
                valid=valid,
            )
        texts_of[method][option] = value
    return fields, methods, {m: _options(m, t, prefix=f"{m}.", limits=limits) for m, t in texts_of.items()}


def _split(texts: Mapping[str, str], model: type[ScanFields]) -> tuple[dict[str, str], dict[str, str]]:
    given = {name: value for name, value in texts.items() if value != ""}  # an empty form field counts as left out
    known = {name: value for name, value in given.items() if name in model.model_fields}
    return known, {name: value for name, value in given.items() if name not in known}


def _validated(model: type[F], texts: Mapping[str, str]) -> F:
    try:
        return model.model_validate(texts)
    except ValidationError as error:
        missing_method = any(one["loc"] == ("method",) for one in error.errors())
        raise invalid_request(error, valid={"valid_methods": method_names()} if missing_method else None) from error


def _check_method(name: str) -> None:
    try:
        get_method(name)
    except MethodError as error:
        # The names are looked up only now: finding the methods of other packages reads the disk.
        valid = method_names()
        if name in valid:  # registered by a package that cannot be loaded
            raise Problem(
                "method-unavailable", f"method {name!r} cannot be loaded here: see the service's log"
            ) from error
        raise Problem(
            "unknown-method",
            f"expected one of the methods {', '.join(valid)}, got {shown(name)}{did_you_mean(name, valid)}: choose one "
            "of them",
            valid=valid,
        ) from error


def _options(method: str, texts: Mapping[str, str], *, prefix: str, limits: Mapping[str, int]) -> dict[str, Any]:
    try:
        check_option_names(method, texts)
    except MethodError as error:
        fields = ReconstructionFields.model_fields if not prefix else CompareFields.model_fields
        own = method_options(method)
        unknown = next(name for name in texts if name not in own)
        near = did_you_mean(unknown, [*own, *fields])
        raise Problem(
            "unknown-option",
            f"expected one of the options {', '.join(own) or '(none)'} of {method}, or one of the fields "
            f"{', '.join(fields)}, got {shown(prefix + unknown)}{near}: correct its name",
            valid=[*(prefix + name for name in own), *fields],
        ) from error
    hints = _hints(method)
    options = {name: _typed(prefix + name, text, hints.get(name, _ANY)) for name, text in texts.items()}
    _check_limits(options, prefix=prefix, limits=limits)
    try:
        check_options(method, options)
        candidates = parse_candidates(options["candidates"]) if method == "auto" and "candidates" in options else []
    except MethodError as error:
        raise Problem("invalid-option", str(error)) from error
    for candidate in candidates:
        _check_limits(candidate.options, prefix=f"{prefix}candidates: {candidate.method}:", limits=limits)
    return options


def _hints(method: str) -> dict[str, TypeAdapter[Any]]:
    """Find the types of a method's options. The method itself checks an option without a usable annotation."""
    try:
        hints = get_type_hints(get_method(method))
    except (NameError, TypeError):
        return {}
    adapters: dict[str, TypeAdapter[Any]] = {}
    for name in method_options(method):
        with suppress(PydanticUserError):  # a tensor, say
            adapters[name] = TypeAdapter(hints.get(name, Any), config=_FINITE)
    return adapters


def _typed(name: str, text: str, adapter: TypeAdapter[Any]) -> Any:
    """Convert a text to the type of an option: to a number, true, false or null if it is such JSON."""
    try:
        candidates = [json.loads(text, parse_constant=lambda constant: text), text]
    except (ValueError, RecursionError):
        candidates = [text]
    for candidate in candidates:
        if not isinstance(candidate, list | dict):
            try:
                return adapter.validate_python(candidate)
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
    raise Problem("invalid-option", f"option {name!r}: {reason}, got {shown(text)}: correct its value")


def _check_limits(options: Mapping[str, Any], *, prefix: str, limits: Mapping[str, int]) -> None:
    """Check the limits that the service sets for options, whatever the method allows."""
    for name, most in limits.items():
        value = options.get(name)
        if isinstance(value, int) and value > most:
            raise Problem(
                "invalid-option",
                f"option '{prefix}{name}': expected at most {most}, the limit of this service, got {value}: "
                "ask for fewer, or have the limit raised",
            )
    if "model" in options and options["model"] not in shipped_models():
        # Never a path: a request must not choose files of the server.
        names, got = list(shipped_models()), shown(str(options["model"]))
        raise Problem(
            "unknown-model",
            f"expected one of the models {', '.join(names) or '(none installed)'}, got {got}"
            f"{did_you_mean(options['model'], names)}: choose a registered name",
            valid=names,
        )
