"""Define the verbs of the library: each parses its arguments and makes one Python call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mri_recon._system.outputs import FIGURE_SUFFIXES
from mri_recon._system.text import printable
from mri_recon.batch.inputs import names_several
from mri_recon.cli.batches import Comparisons, compare_files, reconstruct_files
from mri_recon.cli.messages import warn
from mri_recon.cli.options import (
    AccelerationOption,
    AxesOption,
    CenterOption,
    CheckOption,
    CsvOption,
    DeviceOption,
    FigureOption,
    FileArgument,
    FilesArgument,
    JsonOption,
    KindOption,
    LikeOption,
    LowOption,
    MaskOption,
    MethodOptions,
    NoRetryOption,
    OneSliceOption,
    OptionsByMethod,
    PersonsOption,
    PictureSliceOption,
    PrewhitenOption,
    SeedOption,
    ThreadsOption,
    VariableOption,
    VirtualCoilsOption,
    WorkersOption,
    check_slice,
    method_list,
    noise_source,
    options_by_method,
    parse_option,
)
from mri_recon.cli.outputs import CSV_SUFFIXES, JSON_SUFFIXES, claim, files_read, tell
from mri_recon.cli.progress import working
from mri_recon.cli.reports import tell_comparison, tell_run, write_comparison
from mri_recon.cli.tables import make_console
from mri_recon.errors import ConfigError

_METHODS = "zero-filled, cs-wavelet, unet, unrolled"  # with spaces, at which the help can break it

__all__ = ["compare", "convert", "info", "methods", "reconstruct", "replay"]


def info(context: typer.Context, file: FileArgument, axes: AxesOption = None, variable: VariableOption = None) -> None:
    """Describe FILE: shapes, coils, sampled lines, achieved acceleration, noise, reference.

    Of a result of reconstruct (.h5, .npz, .dcm, .dcm.zip): method, mask, size, source.

    Example: mri-recon info knee.h5
    """
    work = context.with_resource(working(f"reading {file}"))
    from rich.table import Table
    from rich.text import Text

    from mri_recon.cli.results import describe_result
    from mri_recon.io import load
    from mri_recon.results.summary import NOISE_RULE, summarize

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    chosen = axes is not None or variable is not None
    result = None if chosen else describe_result(file)
    for what, value in result or summarize(load(file, axes=axes, variable=variable)):
        table.add_row(what, Text(printable(value)))
    work.end()
    console = make_console()
    console.print(Text(printable(file), style="italic"), soft_wrap=True)
    console.print(table)
    if result is None:
        console.print(f"Noise: {NOISE_RULE}.", style="dim", highlight=False)


def convert(
    context: typer.Context,
    file: FileArgument,
    output: Annotated[
        Path,
        typer.Argument(
            help="File to write. K-space: .h5, .npy, .npz, .mat, .cfl, .mrd; of a result also .dcm, .dcm.zip, .nii, "
            ".nii.gz, .png",
            metavar="OUT",
        ),
    ],
    axes: AxesOption = None,
    variable: VariableOption = None,
    slice_index: OneSliceOption = None,
    like: LikeOption = None,
) -> None:
    """Write the content of FILE in the format of OUT's suffix, and say what OUT cannot hold.

    FILE is k-space of any format, or a result of reconstruct in .h5.

    Example: mri-recon convert meas.dat scan.h5
    """
    work = context.with_resource(working(f"reading {file}"))
    from mri_recon.io import files_beside
    from mri_recon.io.conversion import CONVERT_SUFFIXES
    from mri_recon.io.conversion import convert as run

    claim({"OUT": output}, files_read(file, like=like), suffixes={"OUT": CONVERT_SUFFIXES}, beside=files_beside)
    left_out = run(file, output, axes=axes, variable=variable, slices=slice_index, like=like)
    work.end()
    tell(f"{output}: converted from {file}")
    if left_out:
        tell(left_out)


def methods(
    names: Annotated[
        list[str] | None, typer.Argument(help="Methods to describe; default: all", metavar="METHOD...")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Describe the reconstruction methods: summary, options, their defaults, allowed values and meaning.

    Example: mri-recon methods cs-wavelet
    """
    from mri_recon._system.jsonable import json_text
    from mri_recon.cli.method_pages import describe_method, print_method
    from mri_recon.methods.table import get_method, method_names

    for name in names or []:
        get_method(name)  # an unknown name is refused before anything is printed
    found = [describe_method(name) for name in names or method_names()]
    if json:
        typer.echo(json_text({"methods": found}), nl=False)
        return
    for number, one in enumerate(found):
        print_method(one, first=number == 0)


def reconstruct(
    context: typer.Context,
    files: FilesArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="File to write: .h5, .npy, .npz, .mat, .png, .dcm, .dcm.zip, .nii, .nii.gz, .mrd, .cfl, "
            "or of several "
            "files, the folder of the results",
            metavar="OUT.h5",
        ),
    ],
    method: Annotated[
        str,
        typer.Option(
            help="Name of the method, e.g. cs-wavelet or unrolled; `mri-recon methods` lists them", metavar="NAME"
        ),
    ],
    acceleration: AccelerationOption = None,
    center_fraction: CenterOption = None,
    num_low_frequencies: LowOption = None,
    seed: SeedOption = 0,
    mask: MaskOption = None,
    mask_kind: KindOption = "random",
    slice_index: OneSliceOption = None,
    option: MethodOptions = None,
    prewhiten: PrewhitenOption = None,
    num_virtual_coils: VirtualCoilsOption = None,
    check: CheckOption = None,
    axes: AxesOption = None,
    variable: VariableOption = None,
    device: DeviceOption = None,
    like: LikeOption = None,
    suffix: Annotated[
        str | None,
        typer.Option("--suffix", help="Several files: format of the results; default .h5", metavar=".h5"),
    ] = None,
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
    no_retry_failed: NoRetryOption = False,
) -> None:
    """Reconstruct FILEs with one method and save the images.

    The mask is --mask FILE, else one drawn for --acceleration, else the file's own.

    Of several files, -o is a folder for an image of each, results.csv and results.json.
    A file that fails ends no other: the exit status is 1 then. The same command again does what is left.

    Example: mri-recon reconstruct knee.h5 --method cs-wavelet --acceleration 4 --seed 0 -o knee-cs.h5

    Example: mri-recon reconstruct scans --method unrolled --mask file -o results
    """
    several = names_several(files) or not (
        suffix is None and workers is None and threads is None and not no_retry_failed
    )
    work = context.with_resource(working("starting"))
    from mri_recon.io import RESULT_SUFFIXES, files_beside
    from mri_recon.methods.checks import check_name
    from mri_recon.methods.table import check_options
    from mri_recon.results.recipe import MaskChoice, Recipe, reconstruct_file

    options = dict(parse_option(text, method) for text in option or [])
    file = None if several else files[0]
    read = files_read(file, mask=mask, prewhiten=prewhiten, options=[options], like=like)
    if not several:
        claim({"-o": output}, read, suffixes={"-o": RESULT_SUFFIXES}, beside=files_beside)
    check_options(method, options)
    check_name(check)
    recipe = Recipe(
        method,
        options,
        MaskChoice(mask, acceleration, center_fraction, num_low_frequencies, seed, mask_kind),
        prewhiten=noise_source(prewhiten),
        num_virtual_coils=num_virtual_coils,
        check=check,
        axes=axes,
        variable=variable,
        slices=slice_index,
        device=device,
    )
    if file is None:
        reconstruct_files(
            files,
            output,
            recipe,
            work,
            read,
            like=like,
            suffix=suffix,
            workers=workers,
            threads=threads,
            retry_failed=not no_retry_failed,
        )
        return
    work.step(f"reading {file}")
    run = reconstruct_file(file, recipe, output, like=like, on_progress=work.on_progress)
    work.end()
    tell_run(run, output)


def compare(
    context: typer.Context,
    files: FilesArgument,
    methods: Annotated[str, typer.Option(help="Methods, separated by commas", metavar="NAMES")] = _METHODS,
    acceleration: AccelerationOption = None,
    center_fraction: CenterOption = None,
    num_low_frequencies: LowOption = None,
    seed: SeedOption = 0,
    mask: MaskOption = None,
    mask_kind: KindOption = "random",
    json: JsonOption = None,
    csv: CsvOption = None,
    figure: FigureOption = None,
    slice_index: PictureSliceOption = None,
    option: OptionsByMethod = None,
    check: CheckOption = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Measure again with the background masked")] = False,
    prewhiten: PrewhitenOption = None,
    num_virtual_coils: VirtualCoilsOption = None,
    axes: AxesOption = None,
    variable: VariableOption = None,
    device: DeviceOption = None,
    persons: PersonsOption = None,
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
    no_retry_failed: NoRetryOption = False,
) -> None:
    """Compare several methods on the same undersampled FILE: a table, and on request JSON, CSV and a picture.

    The mask is --mask FILE, else one drawn for --acceleration, else the file's own.

    Of several files: a table of each and of their means; --figure is a folder of pictures.
    A file that fails ends no other: the exit status is 1 then.
    With --json or --csv, the same command again does what is left.

    Example: mri-recon compare knee.h5 --acceleration 4 --methods zero-filled,unrolled --json out.json --figure out.png

    Example: mri-recon compare scans --acceleration 4 --csv out.csv
    """
    names = method_list(methods)
    several = names_several(files) or not (
        persons is None and workers is None and threads is None and not no_retry_failed
    )
    work = context.with_resource(working("starting", names))
    from mri_recon.methods.checks import check_name
    from mri_recon.results.comparison import check_methods, compare_recipes
    from mri_recon.results.recipe import MaskChoice, Recipe, load_scan, source_record

    options = options_by_method(option or [], names)
    file = None if several else files[0]
    read = files_read(file, mask=mask, prewhiten=prewhiten, options=options.values())
    if not several:
        piped = claim(
            {"--json": json, "--csv": csv, "--figure": figure},
            read,
            suffixes={"--json": JSON_SUFFIXES, "--csv": CSV_SUFFIXES, "--figure": FIGURE_SUFFIXES},
        )
    check_methods(names, options)
    check_name(check)
    choice = MaskChoice(mask, acceleration, center_fraction, num_low_frequencies, seed, mask_kind)
    recipes = [
        Recipe(
            name,
            options.get(name, {}),
            choice,
            prewhiten=noise_source(prewhiten),
            num_virtual_coils=num_virtual_coils,
            check=check,
            axes=axes,
            variable=variable,
            device=device,
        )
        for name in dict.fromkeys(names)
    ]
    if file is None:
        if slice_index is not None:
            raise ConfigError("expected --slice with one file, got several files: leave it out")
        request = Comparisons(json, csv, figure, persons, foreground)
        compare_files(
            files,
            recipes,
            [choice],
            request,
            work,
            read,
            workers=workers,
            threads=threads,
            retry_failed=not no_retry_failed,
        )
        return
    work.step(f"reading {file}")
    scan = load_scan(file, recipes[0])
    check_slice(scan, slice_index)
    source = None if json is None else source_record(file, recipes[0], scan)
    comparison = compare_recipes(scan, recipes, source=source, foreground=foreground, on_progress=work.on_progress)
    written = write_comparison(comparison, None if piped else json, figure, slice_index, csv=csv)
    work.end()
    tell_comparison(comparison, written, foreground=foreground, piped=piped)


def replay(
    context: typer.Context,
    result: Annotated[Path, typer.Argument(help="HDF5 file that reconstruct wrote", metavar="RESULT.h5")],
    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="Its k-space; by default searched beside RESULT and here",
            metavar="FILE",
        ),
    ] = None,
    noise: Annotated[
        Path | None,
        typer.Option("--noise", help="Its noise samples; by default searched likewise", metavar="FILE"),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="Its weights, if they were moved", metavar="FILE")
    ] = None,
) -> None:
    """Compute RESULT again from its input and check that the image is the same.

    Exit status 0: bit-identical, or within 1e-3 if bit-equality is not promised (another machine, other versions, a
    batch); 1: a difference; 2: RESULT cannot be computed again.

    Example: mri-recon replay knee-cs.h5 --input knee.h5
    """
    work = context.with_resource(working(f"reading {result}"))
    from mri_recon.results.replay import TOLERANCE
    from mri_recon.results.replay import replay as run

    done = run(result, input_file, noise=noise, model=model, on_progress=work.on_progress)
    work.end()
    for note in done.differences:
        warn(note)
    record = done.provenance
    if done.identical:
        outcome = "bit-identical"
    else:
        promise = "bit-identity" if done.exact else f"{TOLERANCE:g}"
        outcome = f"largest relative difference {done.relative_difference:.2g} (promised: {promise})"
    tell(f"{result}: {record.method}{', computed in a batch' if record.batched else ''}: {outcome}")
    if not done.kept:
        raise typer.Exit(1)
