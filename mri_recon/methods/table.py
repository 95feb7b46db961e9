"""The table of reconstruction methods by name, and what a method looks like.

A method is a function from undersampled k-space and its mask to an image:

    def my_method(kspace, mask, *, sens_maps, device, my_option=1.0):
        ...
        return image, {"iterations": 7}

A method that takes long names `on_progress=None` too, and calls it as `mri_recon.progress` says where it is not None.

`kspace` is complex64 `(slice, coil, readout, phase)`, already on `device`, zero outside `mask`; `image` is
`(slice, h, w)`. What follows these fixed names in the signature are the method's options, with their defaults; a
method that has no use for `device` may leave it out. A method with an option `sigma` is told the noise, `sqrt(E|n|^2)`
of one sample, where pre-whitening made it known and the caller did not give it, and `info["sigma_source"]` says so. The
names of `reconstruct`'s own arguments are no options.

The type of an option, with a range or a list of words where there is one (`Annotated[float, Between(0, 1)]`, see
`mri_recon.methods.option_values`), says what it may be. Other values are refused before any work.
An image with pixels that are not finite is refused after it.

A package adds a method under the entry-point group `mri_recon.methods`

    [project.entry-points."mri_recon.methods"]
    my-method = "my_package.my_module:my_method"

and it appears in the command line, the service and the evaluation. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from mri_recon.errors import MethodError
from mri_recon.masks.types import Mask
from mri_recon.methods.option_values import check_values

__all__ = [
    "BATCHES",
    "ENTRY_POINT_GROUP",
    "FIXED_PARAMETERS",
    "Method",
    "can_batch",
    "check_option_names",
    "check_options",
    "get_method",
    "method_names",
    "method_options",
]


ENTRY_POINT_GROUP = "mri_recon.methods"

FIXED_PARAMETERS = ("kspace", "mask", "sens_maps", "device", "on_progress")


class Method(Protocol):
    """What a reconstruction method looks like from outside."""

    def __call__(
        self, kspace: Tensor, mask: Mask, *, sens_maps: Tensor | None, device: torch.device, **options: Any
    ) -> tuple[Tensor, dict[str, Any]]:
        """k-space `(slice, coil, readout, phase)` and its mask to the image `(slice, h, w)` and `info`."""
        ...


def _zero_filled() -> Callable[..., Any]:
    from mri_recon.methods.zero_filled import zero_filled

    return zero_filled


def _cg_sense() -> Callable[..., Any]:
    from mri_recon.methods.cg_sense import cg_sense

    return cg_sense


def _cs_wavelet() -> Callable[..., Any]:
    from mri_recon.methods.cs_wavelet import cs_wavelet

    return cs_wavelet


def _unet() -> Callable[..., Any]:
    from mri_recon.methods.networks import unet

    return unet


def _unrolled() -> Callable[..., Any]:
    from mri_recon.methods.networks import unrolled

    return unrolled


# Loaders, not functions: naming a method costs no import of what it needs.
_BUILT_IN: dict[str, Callable[[], Callable[..., Any]]] = {
    "zero-filled": _zero_filled,
    "cg-sense": _cg_sense,
    "cs-wavelet": _cs_wavelet,
    "unet": _unet,
    "unrolled": _unrolled,
}


def _unet_batch() -> Callable[..., Any]:
    from mri_recon.methods.networks import unet_batch

    return unet_batch


def _unrolled_batch() -> Callable[..., Any]:
    from mri_recon.methods.networks import unrolled_batch

    return unrolled_batch


# What does several problems at once.
BATCHES: dict[str, Callable[[], Callable[..., Any]]] = {"unet": _unet_batch, "unrolled": _unrolled_batch}


def method_names() -> list[str]:
    """Names that `reconstruct` accepts: the built-in ones, then those of installed packages."""
    return [*_BUILT_IN, *sorted(_third_party())]


def get_method(name: str) -> Callable[..., tuple[Tensor, dict[str, Any]]]:
    """The function behind a name.

    Raises:
        MethodError: unknown name (the message lists the valid ones), or the package that registers it cannot be loaded.
    """
    if not isinstance(name, str):
        raise _unknown_method(name)
    if name in _BUILT_IN:
        return _BUILT_IN[name]()
    third_party = _third_party()
    if name not in third_party:
        raise _unknown_method(name)
    entry = third_party[name]
    try:
        function = entry.load()
    except Exception as error:  # whatever a foreign package raises while it is imported
        raise MethodError(
            f"method {name!r} ({entry.value}) cannot be loaded ({type(error).__name__}: {error}): "
            "repair or uninstall the package that registers it"
        ) from error
    if not callable(function):
        raise MethodError(
            f"method {name!r} ({entry.value}) is a {type(function).__name__}, expected a function: repair it"
        )
    return cast(Callable[..., tuple[Tensor, dict[str, Any]]], function)


def _unknown_method(name: object) -> MethodError:
    return MethodError(f"expected one of the methods {', '.join(method_names())}, got {name!r}: choose one of them")


def method_options(name: str) -> dict[str, Any]:
    """Options of a method and their defaults, read from its signature.

    Raises:
        MethodError: unknown method.
    """
    return {
        key: None if parameter.default is inspect.Parameter.empty else parameter.default
        for key, parameter in inspect.signature(get_method(name)).parameters.items()
        if key not in FIXED_PARAMETERS and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }


def check_option_names(name: str, options: Iterable[str]) -> None:
    """Refuse an option that the method does not have.

    Raises:
        MethodError: unknown method or option; the message lists the valid ones.
    """
    parameters = inspect.signature(get_method(name)).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return  # the method takes anything, and checks for itself
    valid = method_options(name)
    for key in options:
        if key not in valid:
            has = f"one of its options {', '.join(valid)}" if valid else "no option, for it has none"
            raise MethodError(f"method {name!r}: expected {has}, got {key!r}: leave it out or correct its name")


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an option that the method does not have, and a value that it may not have, before any work is done.

    Raises:
        MethodError: unknown method or option, the message lists the valid ones; or a value of another type, or out of
            the range, than the method's signature says (`mri_recon.methods.option_values`).
    """
    check_option_names(name, options)
    check_values(name, get_method(name), options)


def can_batch(method: str) -> bool:
    """Whether `reconstruct_batch` takes the method.

    Raises:
        MethodError: unknown method.
    """
    get_method(method)
    return method in BATCHES


def _third_party() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name in _BUILT_IN:
            warnings.warn(
                f"method {entry.name!r} of {entry.value} has the name of a built-in method and is ignored: rename it",
                RuntimeWarning,
                stacklevel=3,
            )
        else:
            found[entry.name] = entry
    return found
