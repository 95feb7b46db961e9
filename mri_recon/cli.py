"""The command `mri-recon`: argument parsing only. What each verb does is a Python call.

Verbs of other rooms and of other packages join by the entry-point group `mri_recon.commands`: a `typer.Typer`
application with verbs of its own, or a function that becomes one verb.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from mri_recon.errors import ConfigError, MethodError, MriReconError, ShapeError

if TYPE_CHECKING:
    from torch import Tensor

    from mri_recon.io import Scan
    from mri_recon.provenance import InputFile

__all__ = [
    "COMMAND_GROUP",
    "CommandGroup",
    "build_app",
    "method_list",
    "options_by_method",
    "parse_option",
    "print_results",
]

COMMAND_GROUP = "mri_recon.commands"
PROGRAM = "mri-recon"

FileArgument = Annotated[Path, typer.Argument(help="k-space: fastMRI .h5, .npy, .npz or MATLAB .mat", metavar="FILE")]
AxesOption = Annotated[
    str | None,
    typer.Option(help="What the file's axes are, e.g. 'coil readout phase'; needed where the default is wrong"),
]
VariableOption = Annotated[str | None, typer.Option(help="Which array of a .npz or .mat file")]
MaskOption = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        help="Mask file (.npy, .npz, .mat, fastMRI .h5), or from-zeros: what is zero was not sampled",
        metavar="FILE",
    ),
]
AccelerationOption = Annotated[float | None, typer.Option(help="Draw a mask with this many times fewer columns")]
CenterOption = Annotated[
    float | None, typer.Option(help="Fraction of columns kept at the centre; by default 0.08 below 6x, else 0.04")
]
LowOption = Annotated[int | None, typer.Option(help="The same as a number of columns")]
SeedOption = Annotated[int, typer.Option(help="Seed of the drawn mask")]
KindOption = Annotated[str, typer.Option(help="Kind of the drawn mask: random or equispaced")]
PrewhitenOption = Annotated[
    str | None,
    typer.Option(
        help="Whiten the noise of the coils: a file of noise samples (coil, sample), or edge for the edge of k-space",
        metavar="FILE",
    ),
]
VirtualCoilsOption = Annotated[int | None, typer.Option(help="Compress the coils to this many")]
DeviceOption = Annotated[str | None, typer.Option(help="Where to compute, cpu (the default) or e.g. cuda")]


class CommandGroup(TyperGroup):
    """Verbs whose expected errors end in one line and exit status 2, wherever the verb comes from."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; an `MriReconError` becomes one line on stderr."""
        try:
            return super().invoke(ctx)
        except MriReconError as error:
            message = " ".join(str(error).split())
        except OSError as error:  # a full disk, a folder that may not be read
            message = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        typer.echo(f"{PROGRAM}: error: {message}", err=True)
        raise typer.Exit(2)


def info(file: FileArgument, axes: AxesOption = None, variable: VariableOption = None) -> None:
    """What is in FILE: shapes, coils, sampled lines, realised acceleration, noise, reference.

    Example: mri-recon info knee.h5
    """
    from rich.console import Console
    from rich.table import Table

    from mri_recon.io import load
    from mri_recon.summary import NOISE_RULE, summarize

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), title=str(file), title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for what, value in summarize(load(file, axes=axes, variable=variable)):
        table.add_row(what, value)
    console = Console()
    console.print(table)
    console.print(f"Noise: {NOISE_RULE}.", style="dim", highlight=False)


def reconstruct(
    file: FileArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="fastMRI-style HDF5 to write", metavar="OUT.h5")],
    method: Annotated[
        str, typer.Option(help="zero-filled, cg-sense, cs-wavelet, unet, unrolled, or one of an installed package")
    ],
    acceleration: AccelerationOption = None,
    center_fraction: CenterOption = None,
    num_low_frequencies: LowOption = None,
    seed: SeedOption = 0,
    mask: MaskOption = None,
    mask_kind: KindOption = "random",
    slice_index: Annotated[int | None, typer.Option("--slice", help="Reconstruct this slice alone, from 0")] = None,
    option: Annotated[list[str] | None, typer.Option(help="The method's own: KEY=VALUE, e.g. reg_weight=0.01")] = None,
    prewhiten: PrewhitenOption = None,
    num_virtual_coils: VirtualCoilsOption = None,
    axes: AxesOption = None,
    variable: VariableOption = None,
    device: DeviceOption = None,
) -> None:
    """Reconstruct FILE with one method and save the images.

    The mask is --mask FILE, else one drawn for --acceleration, else the file's own.

    Example: mri-recon reconstruct knee.h5 --method cs-wavelet --acceleration 4 --seed 0 -o knee-cs.h5
    """
    from mri_recon.compare import preparation_caption
    from mri_recon.io import load, save
    from mri_recon.masks import undersample
    from mri_recon.methods import check_options
    from mri_recon.methods import reconstruct as run
    from mri_recon.provenance import describe, input_file
    from mri_recon.sampling import choose_mask

    check_folder(output)
    options = dict(parse_option(text) for text in option or [])
    check_options(method, options)
    noise = noise_source(prewhiten)
    scan = load(file, axes=axes, variable=variable)
    chosen = choose_mask(
        scan,
        mask_file=mask,
        acceleration=acceleration,
        center_fraction=center_fraction,
        num_low_frequencies=num_low_frequencies,
        seed=seed,
        kind=mask_kind,
    )
    if slice_index is not None:
        scan = one_slice(scan, slice_index)
    result = run(
        undersample(scan.kspace, chosen),
        chosen,
        method=method,
        prewhiten=noise,
        num_virtual_coils=num_virtual_coils,
        device=device,
        **options,
    )
    slices = None if slice_index is None else (slice_index, slice_index + 1)
    provenance = describe(
        result,
        input_file(file, axes=axes, variable=variable, slices=slices),
        chosen,
        options=options,
        prewhiten=noise_record(prewhiten),
        num_virtual_coils=num_virtual_coils,
        device=device,
    )
    save(output, result, scan, chosen, provenance=provenance)
    shape = " x ".join(str(n) for n in result.image.shape)
    typer.echo(f"{output}: {method}, {shape} (slice x h x w), {result.info['seconds']:.2f} s")
    if done := preparation_caption(result.info):
        typer.echo(done)


def compare(
    file: FileArgument,
    methods: Annotated[str, typer.Option(help="Names, separated by commas")] = "zero-filled,cs-wavelet,unet,unrolled",
    acceleration: AccelerationOption = None,
    center_fraction: CenterOption = None,
    num_low_frequencies: LowOption = None,
    seed: SeedOption = 0,
    mask: MaskOption = None,
    mask_kind: KindOption = "random",
    json: Annotated[Path | None, typer.Option("--json", help="Write the results here", metavar="OUT.json")] = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="Draw the picture here", metavar="OUT.png")] = None,
    slice_index: Annotated[
        int | None, typer.Option("--slice", help="Slice of the picture, from 0; by default the middle one")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Of one method: METHOD.KEY=VALUE, e.g. cs-wavelet.reg_weight=0.01")
    ] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Measure again with the background masked")] = False,
    prewhiten: PrewhitenOption = None,
    num_virtual_coils: VirtualCoilsOption = None,
    axes: AxesOption = None,
    variable: VariableOption = None,
    device: DeviceOption = None,
) -> None:
    """Several methods on the same undersampled FILE: a table, and on request JSON and a picture.

    The mask is --mask FILE, else one drawn for --acceleration, else the file's own.

    Example: mri-recon compare knee.h5 --acceleration 4 --methods zero-filled,unrolled --json out.json --figure out.png
    """
    from mri_recon.compare import check_methods, convention, mask_caption, preparation_caption, write_json
    from mri_recon.compare import compare as run
    from mri_recon.io import load
    from mri_recon.provenance import describe, input_file
    from mri_recon.sampling import choose_mask

    for target in (json, figure):
        if target is not None:
            check_folder(target)
    names = method_list(methods)
    options = options_by_method(option or [], names)
    check_methods(names, options)
    noise = noise_source(prewhiten)
    scan = load(file, axes=axes, variable=variable)
    if slice_index is not None:
        one_slice(scan, slice_index)  # an error now, not after the reconstructions
    chosen = choose_mask(
        scan,
        mask_file=mask,
        acceleration=acceleration,
        center_fraction=center_fraction,
        num_low_frequencies=num_low_frequencies,
        seed=seed,
        kind=mask_kind,
    )
    comparison = run(
        scan,
        chosen,
        names,
        prewhiten=noise,
        num_virtual_coils=num_virtual_coils,
        device=device,
        options=options,
        file=file.name,
        foreground=foreground,
    )
    done = preparation_caption(comparison.rows[0]["info"])
    print_results(
        comparison.rows,
        title=f"{comparison.file}{' (simulated)' if comparison.simulated else ''}: {mask_caption(comparison.receipt)}",
        notes=[convention(comparison.target_source, foreground=foreground), *([done] if done else [])],
    )
    if json is not None:
        source = input_file(file, axes=axes, variable=variable)
        noise_file = noise_record(prewhiten)
        provenance = {
            name: describe(
                result,
                source,
                chosen,
                options=options.get(name, {}),
                prewhiten=noise_file,
                num_virtual_coils=num_virtual_coils,
                device=device,
            ).model_dump(mode="json")
            for name, result in comparison.reconstructions.items()
        }
        write_json(json, {**comparison.document(), "provenance": provenance})
        typer.echo(f"results: {json}")
    if figure is not None:
        from mri_recon.figures import comparison_figure

        comparison_figure(comparison, figure, slice_index=slice_index)
        typer.echo(f"picture: {figure}")


def replay(
    result: Annotated[Path, typer.Argument(help="HDF5 that reconstruct wrote", metavar="RESULT.h5")],
    input_file: Annotated[
        Path | None,
        typer.Option("--input", help="Its k-space; by default looked for beside RESULT and here", metavar="FILE"),
    ] = None,
    noise: Annotated[
        Path | None, typer.Option("--noise", help="Its file of noise samples, likewise", metavar="FILE")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="Its weights, where they are elsewhere now", metavar="FILE")
    ] = None,
) -> None:
    """Compute RESULT again from its input and say whether it comes out the same.

    Exit status 0: bit-identical, or within 1e-5 where no more is promised (another machine, other versions, a batch);
    1: not so; 2: it cannot be computed again.

    Example: mri-recon replay knee-cs.h5 --input knee.h5
    """
    from mri_recon.provenance import TOLERANCE
    from mri_recon.provenance import replay as run

    done = run(result, input_file, noise=noise, model=model)
    for note in done.differences:
        _warn(note)
    record = done.provenance
    if done.identical:
        outcome = "bit-identical"
    else:
        promise = "bit-identity" if done.exact else f"{TOLERANCE:g}"
        outcome = f"largest relative difference {done.relative_difference:.2g} (promised: {promise})"
    typer.echo(f"{result}: {record.method}{', computed in a batch' if record.batched else ''}: {outcome}")
    if not done.kept:
        raise typer.Exit(1)


def build_app() -> typer.Typer:
    """The command with its own verbs and those of the entry-point group; one that cannot be loaded is a warning."""
    app = typer.Typer(
        name=PROGRAM,
        cls=CommandGroup,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Accelerated MRI reconstruction: undersampled k-space in, images out. Research only, not for diagnosis.",
    )

    @app.callback()
    def _start() -> None:
        """Keep verbs verbs, however many there are."""

    for verb in (info, reconstruct, compare, replay):
        app.command(verb.__name__)(verb)
    _add_commands(app, taken={"info", "reconstruct", "compare", "replay"})
    return app


def main() -> None:
    """Entry point of the console script."""
    build_app()()


def parse_option(text: str) -> tuple[str, Any]:
    """`key=value` to the key and the Python value: a number, True, False or None where it reads as one, else text.

    Raises:
        ConfigError: no `=`, or no key.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"expected an option as KEY=VALUE, got {text!r}: write e.g. reg_weight=0.01")
    try:
        return key.strip().replace("-", "_"), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return key.strip().replace("-", "_"), value.strip()


def options_by_method(texts: Sequence[str], methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`METHOD.KEY=VALUE` texts to the options of each method.

    Raises:
        ConfigError: not of that form.
        MethodError: a method that is not among `methods`.
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
                f"expected an option of one of {', '.join(methods)}, got one of {method!r}: add it to --methods"
            )
        key, value = parse_option(rest)
        options.setdefault(method, {})[key] = value
    return options


def method_list(text: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def check_folder(path: Path) -> None:
    """Refuse an output whose folder does not exist, before the work and not after it.

    Raises:
        ConfigError: no such folder, or the path is one.
    """
    if path.is_dir():
        raise ConfigError(f"expected a file to write, got the folder {path}: add a file name")
    if not path.parent.is_dir():
        raise ConfigError(f"expected to write into a folder that exists, got {path.parent}: create it first")


def noise_source(text: str | None) -> Tensor | str | None:
    """What `reconstruct` takes for `prewhiten`: the word "edge" as it is, the samples of a file.

    Raises:
        FormatError: no such file, or no noise samples in it.
    """
    from mri_recon.io import load_noise
    from mri_recon.preparation import EDGE

    return text if text is None or text == EDGE else load_noise(text)


def noise_record(text: str | None) -> InputFile | str | None:
    """What a provenance says of `prewhiten`: the word "edge" as it is, the record of a file.

    Raises:
        FormatError: no such file.
    """
    from mri_recon.preparation import EDGE
    from mri_recon.provenance import input_file

    return text if text is None or text == EDGE else input_file(text)


def one_slice(scan: Scan, index: int) -> Scan:
    """A scan of one slice of another.

    Raises:
        ShapeError: no such slice.
    """
    if not 0 <= index < scan.num_slices:
        raise ShapeError(f"expected a slice between 0 and {scan.num_slices - 1}, got {index}: choose one of these")
    target = None if scan.target is None else scan.target[index : index + 1]
    return replace(scan, kspace=scan.kspace[index : index + 1], target=target)


def print_results(rows: Sequence[dict[str, Any]], *, title: str, notes: Sequence[str], with_file: bool = False) -> None:
    """Rows of a comparison as a table, with the convention and other notes under it."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file has no width; a narrow default would break the lines
    console.print(title, style="bold", highlight=False, soft_wrap=True)
    table = Table()
    for name in ["file", "R", "seed"] if with_file else []:
        table.add_column(name, overflow="fold")
    table.add_column("method", no_wrap=True)
    second = any("foreground" in row for row in rows)
    headings = ["NMSE", "PSNR / dB", "SSIM", *(["NMSE fg", "PSNR fg", "SSIM fg"] if second else []), "seconds"]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        where = [str(row["file"]), number(row["acceleration"], "g"), str(row["seed"])] if with_file else []
        measured = [number(row[name], form) for name, form in _FORMATS.items()]
        if second:
            measured += [number(row["foreground"][name], form) for name, form in _FORMATS.items()]
        table.add_row(*where, str(row["method"]), *measured, number(row["seconds"], ".2f"))
    console.print(table)
    for note in notes:
        console.print(note, style="dim", highlight=False, soft_wrap=True)


def number(value: float | None, form: str) -> str:
    """A number for a table; a dash where there is none."""
    return "-" if value is None else format(value, form)


_FORMATS = {"nmse": ".4f", "psnr": ".2f", "ssim": ".4f"}


def _add_commands(app: typer.Typer, *, taken: set[str]) -> None:
    for entry in sorted(entry_points(group=COMMAND_GROUP), key=lambda entry: entry.name):
        if entry.name in taken:
            _warn(f"verb {entry.name!r} of {entry.value} is ignored: the name is taken, rename it")
            continue
        try:
            command = entry.load()
        except Exception as error:  # whatever a foreign package raises while it is imported
            _warn(
                f"verb {entry.name!r} of {entry.value} is left out, for it cannot be loaded "
                f"({type(error).__name__}: {error}): repair or uninstall that package"
            )
            continue
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        elif callable(command):
            app.command(entry.name)(command)
        else:
            _warn(f"verb {entry.name!r} of {entry.value} is left out: expected a function or a typer.Typer")
            continue
        taken.add(entry.name)


def _warn(message: str) -> None:
    typer.echo(f"{PROGRAM}: warning: {message}", err=True)


if __name__ == "__main__":
    main()
