"""List the reconstruction methods by name, and define the interface of a method.

A method is a function from undersampled k-space and its mask to an image:

    def my_method(kspace, mask, *, sens_maps, device, my_option=1.0):
        ...
        return image, {"iterations": 7}

`kspace` is complex64 `(slice, coil, readout, phase)`, already on `device`, zero outside `mask`. `image` is
`(slice, h, w)`. An image with pixels that are not finite is refused.

The parameters after the fixed names `kspace`, `mask`, `sens_maps`, `device` and `on_progress` are the options of the
method, with their defaults. A method that does not use `device` may leave it out. A method that takes long has a
parameter `on_progress=None` and calls it as `mri_recon.progress` says. A method with an option `sigma` receives the
noise, `sqrt(E|n|^2)` of one sample, where pre-whitening made it known and the caller did not give it. The names of
`reconstruct`'s own arguments cannot be options.

The type of an option declares the allowed values, if needed with a range or a list of words
(`Annotated[float, Between(0, 1)]`, see `mri_recon.methods.option_values`). Other values are refused before any work.

A package adds a method under the entry-point group `mri_recon.methods`

    [project.entry-points."mri_recon.methods"]
    my-method = "my_package.my_module:my_method"

and the command line, the service and the evaluation have it. No module of a method is imported before the method is
used.

A method that can take several problems at once has an attribute `batch`, which is a function:

    def my_method_batch(problems, *, device, my_option=1.0):
        ...
        return [(image, info) for each of the problems]

    my_method.batch = my_method_batch

`problems` is a list of `(kspace, mask)` as above, the k-space of one shape. The result has one `(image, info)` for each
problem, in order. `device` and `on_progress` are treated as above. The options are those of the method, or some of
them: with another one, a problem runs alone.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Protocol, cast

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import MethodError
from mri_recon.masks.types import Mask
from mri_recon.methods.option_values import check_values

if TYPE_CHECKING:  # listing names and options must not wait for the import of torch
    import torch
    from torch import Tensor

__all__ = [
    "ENTRY_POINT_GROUP",
    "FIXED_PARAMETERS",
    "BatchMethod",
    "Method",
    "MethodEntry",
    "alone_options",
    "batch_methods",
    "can_batch",
    "check_option_names",
    "check_options",
    "get_batch",
    "get_method",
    "method_names",
    "method_options",
    "method_summary",
]


ENTRY_POINT_GROUP = "mri_recon.methods"

FIXED_PARAMETERS = ("kspace", "mask", "sens_maps", "device", "on_progress")


class Method(Protocol):
    """Describe the signature of a reconstruction method."""

    def __call__(
        self, kspace: Tensor, mask: Mask, *, sens_maps: Tensor | None, device: torch.device, **options: Any
    ) -> tuple[Tensor, dict[str, Any]]:
        """Turn k-space `(slice, coil, readout, phase)` and its mask into the image `(slice, h, w)` and `info`."""
        ...


class BatchMethod(Protocol):
    """Describe the signature of a method for several problems at once."""

    def __call__(
        self, problems: Sequence[tuple[Tensor, Mask]], *, device: torch.device, **options: Any
    ) -> list[tuple[Tensor, dict[str, Any]]]:
        """Turn each k-space `(slice, coil, readout, phase)` and its mask into the image `(slice, h, w)` and `info`."""
        ...


@dataclass(frozen=True)
class MethodEntry:
    """Name a method and say where its functions are.

    Attributes:
        name: name of the method.
        function: where the function is, "module:name".
        batch: where the function for several problems is; None: the attribute `batch` of `function`, if it has one.
        summary: one sentence about the method; None: the first paragraph of its docstring.
    """

    name: str
    function: str
    batch: str | None = None
    summary: str | None = None


_BUILT_IN: dict[str, MethodEntry] = {
    entry.name: entry
    for entry in (
        MethodEntry(
            "zero-filled",
            "mri_recon.methods.zero_filled:zero_filled",
            summary="Inverse Fourier transform of the measured samples; the coils are combined afterwards.",
        ),
        MethodEntry(
            "cg-sense",
            "mri_recon.methods.cg_sense:cg_sense",
            summary="SENSE by conjugate gradients: least squares with coil sensitivity maps and a Tikhonov term.",
        ),
        MethodEntry(
            "cs-wavelet",
            "mri_recon.methods.cs_wavelet:cs_wavelet",
            summary="Compressed sensing: least squares with a sparsity prior in wavelets or finite differences.",
        ),
        MethodEntry(
            "unet",
            "mri_recon.methods.networks:unet",
            "mri_recon.methods.networks:unet_batch",
            "U-Net on the zero-filled image, followed by data consistency.",
        ),
        MethodEntry(
            "unrolled",
            "mri_recon.methods.networks:unrolled",
            "mri_recon.methods.networks:unrolled_batch",
            "Unrolled network: steps of data consistency between learned refinements.",
        ),
        MethodEntry(
            "auto",
            "mri_recon.methods.auto:auto",
            summary="Mixture of the methods that best predict measured lines they were not shown.",
        ),
    )
}


def method_names() -> list[str]:
    """List the names that `reconstruct` accepts: the built-in methods, then those of installed packages."""
    return [*_BUILT_IN, *sorted(_third_party())]


def get_method(name: str) -> Callable[..., tuple[Tensor, dict[str, Any]]]:
    """Import the function of a method.

    Raises:
        MethodError: unknown name (the message lists the valid ones), or the package that registers it cannot be loaded.
    """
    return _loaded(name, _entry(name).function)


def get_batch(name: str) -> BatchMethod | None:
    """Import the function of a method that takes several problems at once; None if the method takes only one at a time.

    Raises:
        MethodError: as `get_method`.
    """
    batch = _entry(name).batch
    if batch is not None:
        return cast(BatchMethod, _loaded(name, batch))
    function = getattr(get_method(name), "batch", None)
    if function is not None and not callable(function):
        raise MethodError(
            f"method {name!r}: expected its attribute batch to be a function, got {type(function).__name__}: repair it"
        )
    return cast(BatchMethod | None, function)


def can_batch(name: str, options: Iterable[str] = ()) -> bool:
    """Tell whether `reconstruct_batch` takes a method with these options.

    Raises:
        MethodError: as `get_method`.
    """
    function = get_batch(name)
    return function is not None and not alone_options(function, options)


def alone_options(function: BatchMethod, options: Iterable[str]) -> list[str]:
    """List those of a method's options that its function for several problems does not have."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return []
    return [name for name in options if name not in parameters]


def batch_methods() -> list[str]:
    """List the methods that `reconstruct_batch` takes; one that cannot be loaded is left out."""
    found = []
    for name in method_names():
        with suppress(MethodError):
            if can_batch(name):
                found.append(name)
    return found


def method_summary(name: str) -> str:
    """Give one sentence about a method.

    Raises:
        MethodError: as `get_method`.
    """
    summary = _entry(name).summary
    if summary is not None:
        return summary
    return (inspect.getdoc(get_method(name)) or "").partition("\n\n")[0].replace("\n", " ")


def method_options(name: str) -> dict[str, Any]:
    """Read the options of a method and their defaults from its signature.

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
            raise MethodError(
                f"method {name!r}: expected {has}, got {key!r}{did_you_mean(key, valid)}: leave it out or correct its "
                "name"
            )


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse unknown options and values that are not allowed, before any work is done.

    Raises:
        MethodError: unknown method or option (the message lists the valid ones), or a value outside the type or range
            in the method's signature (`mri_recon.methods.option_values`).
    """
    check_option_names(name, options)
    check_values(name, get_method(name), options)


def _entry(name: str) -> MethodEntry:
    if isinstance(name, str):
        if name in _BUILT_IN:
            return _BUILT_IN[name]
        third_party = _third_party()
        if name in third_party:
            return third_party[name]
    names = method_names()
    raise MethodError(
        f"expected one of the methods {', '.join(names)}, got {name!r}{did_you_mean(name, names)}: choose one of them"
    )


def _loaded(name: str, where: str) -> Callable[..., Any]:
    try:
        function = EntryPoint(name, where, ENTRY_POINT_GROUP).load()
    except Exception as error:  # the import of a third-party package can raise any error
        raise MethodError(
            f"method {name!r} ({where}) cannot be loaded ({type(error).__name__}: {error}): "
            "repair or uninstall the package that registers it"
        ) from error
    if not callable(function):
        raise MethodError(f"method {name!r} ({where}) is a {type(function).__name__}, expected a function: repair it")
    return cast(Callable[..., Any], function)


def _third_party() -> dict[str, MethodEntry]:
    found: dict[str, MethodEntry] = {}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name in _BUILT_IN:
            warnings.warn(
                f"method {entry.name!r} of {entry.value} has the name of a built-in method and is ignored: rename it",
                RuntimeWarning,
                stacklevel=3,
            )
        else:
            found[entry.name] = MethodEntry(entry.name, entry.value)
    return found
