"""Declare the arguments that several verbs share, and turn their texts into values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import ConfigError, MethodError, ShapeError
from mri_recon.methods.option_values import option_types, parse_value

if TYPE_CHECKING:
    from mri_recon.io import Scan

__all__ = [
    "AccelerationOption",
    "AxesOption",
    "CenterOption",
    "CheckOption",
    "CsvOption",
    "DeviceOption",
    "FigureOption",
    "FileArgument",
    "FilesArgument",
    "JsonOption",
    "KindOption",
    "LikeOption",
    "LowOption",
    "MaskOption",
    "MethodOptions",
    "NoRetryOption",
    "OneSliceOption",
    "OptionsByMethod",
    "PersonsOption",
    "PictureSliceOption",
    "PrewhitenOption",
    "SeedOption",
    "ThreadsOption",
    "VariableOption",
    "VirtualCoilsOption",
    "WorkersOption",
    "check_slice",
    "method_list",
    "noise_source",
    "options_by_method",
    "parse_option",
]

FilesArgument = Annotated[
    list[Path],
    typer.Argument(
        help="k-space: .h5, .mrd, .npy, .npz, .mat, Siemens .dat, GE .7, BART .cfl, Agilent fid; several, a folder, or "
        "a quoted pattern such as 'scans/**/*.h5'",
        metavar="FILE...",
        show_default=False,
    ),
]
WorkersOption = Annotated[
    str | None,
    typer.Option(
        "--workers",
        help="Several files: processes at once (default: one for each core, as memory allows), or ray for Ray Data",
        metavar="N",
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", help="Several files: threads of each file; default 1", min=1, max=1024, metavar="N"),
]
NoRetryOption = Annotated[
    bool,
    typer.Option(
        "--no-retry-failed",
        help="Several files: leave aside what failed in an earlier run of this command and is unchanged",
    ),
]
CsvOption = Annotated[Path | None, typer.Option("--csv", help="Write the results to this table", metavar="OUT.csv")]
PersonsOption = Annotated[
    str | None,
    typer.Option(
        "--persons",
        help="Several files: whose each is, for the means: folder (one person a folder) or a .csv with the columns "
        "file and person; default: the patient that the file names",
        metavar="WHO",
    ),
]
FileArgument = Annotated[
    Path,
    typer.Argument(
        help="k-space: .h5, .mrd, .npy, .npz, .mat, Siemens .dat, GE .7, BART .cfl, Agilent fid", metavar="FILE"
    ),
]
AxesOption = Annotated[
    str | None,
    typer.Option(
        help="Axes of the array, e.g. 'coil readout phase'; needed where the default is wrong", metavar="AXES"
    ),
]
VariableOption = Annotated[
    str | None,
    typer.Option(
        help="Which array of a .npz or .mat file, or which k-space of a scanner file, e.g. echo=1", metavar="NAME"
    ),
]
MaskOption = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        help="Mask file (.npy, .npz, .mat, fastMRI .h5); or file: the scan's own mask; or from-zeros: zeros of k-space "
        "count as not sampled",
        metavar="FILE",
    ),
]
AccelerationOption = Annotated[
    float | None, typer.Option(help="Draw a mask with this many times fewer phase-encoding lines", metavar="R")
]
CenterOption = Annotated[
    float | None,
    typer.Option(
        help="Fraction of the lines kept in the fully sampled centre; default 0.08 below 6x, else 0.04", metavar="F"
    ),
]
LowOption = Annotated[int | None, typer.Option(help="The same as a number of lines", metavar="N")]
SeedOption = Annotated[int, typer.Option(help="Seed of the drawn mask", metavar="S")]
KindOption = Annotated[str, typer.Option(help="Kind of the drawn mask: random or equispaced", metavar="KIND")]
PrewhitenOption = Annotated[
    str | None,
    typer.Option(
        help="Whiten the noise of the coils: a file of noise samples (coil, sample), or edge for the edge of k-space",
        metavar="FILE",
    ),
]
VirtualCoilsOption = Annotated[
    int | None, typer.Option(help="Compress the coils to this number of virtual coils", metavar="N")
]
CheckOption = Annotated[
    str | None,
    typer.Option(
        help="holdout: predict measured lines that the method was not shown; the method runs 4 times",
        metavar="CHECK",
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option(help="Device to compute on, cpu (the default) or e.g. cuda", metavar="NAME")
]
LikeOption = Annotated[
    Path | None,
    typer.Option(
        "--like", help="DICOM image of the same examination: patient, study and sequence for .dcm", metavar="FILE.dcm"
    ),
]

JsonOption = Annotated[
    Path | None, typer.Option("--json", help="Write the results to this file; - is standard output", metavar="OUT.json")
]
FigureOption = Annotated[
    Path | None, typer.Option("--figure", help="Draw the picture in this file: .png, .pdf or .svg", metavar="OUT.png")
]
OneSliceOption = Annotated[
    int | None,
    typer.Option("--slice", help="Read and reconstruct only this slice, from 0; -1 is the last", metavar="N"),
]
PictureSliceOption = Annotated[
    int | None, typer.Option("--slice", help="Slice of the picture, from 0; by default the middle one", metavar="N")
]
MethodOptions = Annotated[
    list[str] | None, typer.Option(help="Option of the method, e.g. reg_weight=0.01", metavar="KEY=VALUE")
]
OptionsByMethod = Annotated[
    list[str] | None,
    typer.Option(help="Option of one method: METHOD.KEY=VALUE, e.g. unrolled.adapt=200", metavar="OPTION"),
]


def parse_option(text: str, method: str | None = None) -> tuple[str, Any]:
    """Split `key=value` and convert the value to the type in the method's signature; a word stays text, even "1".

    Args:
        text: as typed.
        method: method that has the option. If None, the value becomes a number, True, False or None if possible, else
            text.

    Raises:
        ConfigError: no `=`, or no key.
        MethodError: an unknown method.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"expected an option as KEY=VALUE, got {text!r}: write e.g. reg_weight=0.01")
    name = key.strip().replace("-", "_")
    types: dict[str, Any] = {}
    if method is not None:
        from mri_recon.methods.table import get_method

        types = option_types(get_method(method))
    return name, parse_value(value, types.get(name, Any))


def options_by_method(texts: Sequence[str], methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Sort `METHOD.KEY=VALUE` texts into the options of each method.

    Raises:
        ConfigError: a text of the wrong form.
        MethodError: a method that is not among `methods`, or is unknown.
    """
    options: dict[str, dict[str, Any]] = {}
    for text in texts:
        method, dot, rest = text.partition(".")
        if not dot or "=" in method:
            raise ConfigError(
                f"expected an option as METHOD.KEY=VALUE, got {text!r}: write e.g. cs-wavelet.reg_weight=0.01"
            )
        if method not in methods:
            raise MethodError(
                f"expected an option of one of {', '.join(methods)}, got one of {method!r}"
                f"{did_you_mean(method, methods)}: add it to --methods"
            )
        key, value = parse_option(rest, method)
        options.setdefault(method, {})[key] = value
    return options


def method_list(text: str) -> list[str]:
    """Split names at commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def noise_source(text: str | None) -> Path | str | None:
    """Read `--prewhiten`: keep the word "edge", and take any other text as the path of a file."""
    from mri_recon.coils.prepare import EDGE

    return text if text is None or text == EDGE else Path(text)


def check_slice(scan: Scan, index: int | None) -> None:
    """Refuse the number of a slice that a scan does not have.

    Raises:
        ShapeError: no such slice.
    """
    if index is not None and not 0 <= index < scan.num_slices:
        raise ShapeError(f"expected a slice between 0 and {scan.num_slices - 1}, got {index}: choose one of these")
