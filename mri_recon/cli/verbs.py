"""The verbs of the library: each is argument parsing and one Python call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mri_recon._system.outputs import FIGURE_SUFFIXES
from mri_recon._system.text import printable
from mri_recon.cli.messages import warn
from mri_recon.cli.options import (
    AccelerationOption,
    AxesOption,
    CenterOption,
    DeviceOption,
    FileArgument,
    KindOption,
    LowOption,
    MaskOption,
    PrewhitenOption,
    SeedOption,
    VariableOption,
    VirtualCoilsOption,
    method_list,
    noise_record,
    noise_source,
    one_slice,
    options_by_method,
    parse_option,
)
from mri_recon.cli.outputs import JSON_SUFFIXES, claim, files_read, tell
from mri_recon.cli.progress import working
from mri_recon.cli.tables import print_results

__all__ = ["compare", "info", "reconstruct", "replay"]


def info(context: typer.Context, file: FileArgument, axes: AxesOption = None, variable: VariableOption = None) -> None:
    """What is in FILE: shapes, coils, sampled lines, realised acceleration, noise, reference.

    Example: mri-recon info knee.h5
    """
    work = context.with_resource(working(f"reading {file}"))
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mri_recon.io import load
    from mri_recon.results.summary import NOISE_RULE, summarize

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for what, value in summarize(load(file, axes=axes, variable=variable)):
        table.add_row(what, Text(printable(value)))
    work.end()
    console = Console()
    console.print(Text(printable(file), style="italic"), soft_wrap=True)
    console.print(table)
    console.print(f"Noise: {NOISE_RULE}.", style="dim", highlight=False)


def reconstruct(
    context: typer.Context,
    file: FileArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write: .h5, .npy, .npz, .mat, .png", metavar="OUT.h5")
    ],
    method: Annotated[
        str, typer.Option(help="zero-filled, cg-sense, cs-wavelet, unet, unrolled, or one of an installed package")
    ],
    acceleration: AccelerationOption = None,
    center_fraction: CenterOption = None,
    num_low_frequencies: LowOption = None,
    seed: SeedOption = 0,
    mask: MaskOption = None,
    mask_kind: KindOption = "random",
    slice_index: Annotated[
        int | None, typer.Option("--slice", help="Read and reconstruct this slice alone, from 0; -1 is the last")
    ] = None,
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
    work = context.with_resource(working("starting"))
    from mri_recon.io import RESULT_SUFFIXES, check_holds, load, save
    from mri_recon.io.masks import choose_mask
    from mri_recon.masks.convert import undersample
    from mri_recon.methods.table import check_options
    from mri_recon.reconstruction import reconstruct as run
    from mri_recon.reconstruction import with_scan_warnings
    from mri_recon.results.comparison import preparation_caption
    from mri_recon.results.provenance import describe, input_file
    from mri_recon.results.summary import scan_warnings

    options = dict(parse_option(text, method) for text in option or [])
    claim(
        {"-o": output},
        files_read(file, mask=mask, prewhiten=prewhiten, options=[options]),
        suffixes={"-o": RESULT_SUFFIXES},
    )
    check_options(method, options)
    noise = noise_source(prewhiten)
    work.step(f"reading {file}")
    scan = load(file, axes=axes, variable=variable, slices=slice_index)
    chosen = choose_mask(
        scan,
        mask_file=mask,
        acceleration=acceleration,
        center_fraction=center_fraction,
        num_low_frequencies=num_low_frequencies,
        seed=seed,
        kind=mask_kind,
    )
    check_holds(output, (scan.num_slices, *scan.kspace.shape[-2:]), scan.meta)
    result = run(
        undersample(scan.kspace, chosen),
        chosen,
        method=method,
        prewhiten=noise,
        num_virtual_coils=num_virtual_coils,
        device=device,
        on_progress=work.on_progress,
        **options,
    )
    result = with_scan_warnings(result, scan_warnings(scan))
    slices = None
    if slice_index is not None:
        (number,) = scan.meta["slices"]
        slices = (number, number + 1)
    provenance = describe(
        result,
        input_file(file, axes=axes, variable=variable, slices=slices),
        chosen,
        options=options,
        prewhiten=noise_record(prewhiten),
        num_virtual_coils=num_virtual_coils,
        device=device,
    )
    left_out = save(output, result, scan, chosen, provenance=provenance)
    work.end()
    shape = " x ".join(str(n) for n in result.image.shape)
    tell(f"{output}: {method}, {shape} (slice x h x w), {result.info['seconds']:.2f} s")
    if left_out:
        tell(left_out)
    if slices is not None:
        count = scan.meta["num_slices_in_file"]
        typer.echo(f"Slice {slices[0]} of {count} alone: support, noise and a drawn mask are found in it.")
    if done := preparation_caption(result.info):
        typer.echo(done)
    for warning in result.warnings:
        warn(warning)


def compare(
    context: typer.Context,
    file: FileArgument,
    methods: Annotated[str, typer.Option(help="Names, separated by commas")] = "zero-filled,cs-wavelet,unet,unrolled",
    acceleration: AccelerationOption = None,
    center_fraction: CenterOption = None,
    num_low_frequencies: LowOption = None,
    seed: SeedOption = 0,
    mask: MaskOption = None,
    mask_kind: KindOption = "random",
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the results here; - is standard output", metavar="OUT.json")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Draw the picture here: .png, .pdf or .svg", metavar="OUT.png")
    ] = None,
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
    names = method_list(methods)
    work = context.with_resource(working("starting", names))
    from mri_recon._system.jsonable import json_text, write_json
    from mri_recon.io import load
    from mri_recon.io.masks import choose_mask
    from mri_recon.results.comparison import check_methods, convention, mask_caption, preparation_caption
    from mri_recon.results.comparison import compare as run
    from mri_recon.results.provenance import describe, input_file

    names = method_list(methods)
    options = options_by_method(option or [], names)
    piped = claim(
        {"--json": json, "--figure": figure},
        files_read(file, mask=mask, prewhiten=prewhiten, options=options.values()),
        suffixes={"--json": JSON_SUFFIXES, "--figure": FIGURE_SUFFIXES},
    )
    check_methods(names, options)
    noise = noise_source(prewhiten)
    work.step(f"reading {file}")
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
        on_progress=work.on_progress,
    )
    # Files before the table: a reader of standard output that goes away loses none.
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
        document = {**comparison.document(), "provenance": provenance}
        if not piped:
            write_json(json, document)
    if figure is not None:
        from mri_recon.results.figure import comparison_figure

        comparison_figure(comparison, figure, slice_index=slice_index)
    work.end()
    done = preparation_caption(comparison.rows[0]["info"])
    print_results(
        comparison.rows,
        title=f"{comparison.file}{' (simulated)' if comparison.simulated else ''}: {mask_caption(comparison.receipt)}",
        notes=[convention(comparison.target_source, foreground=foreground), *([done] if done else [])],
        warnings=comparison.warnings,
        err=piped,
    )
    if piped:
        typer.echo(json_text(document), nl=False)
    elif json is not None:
        tell(f"results: {json}")
    if figure is not None:
        tell(f"picture: {figure}", err=piped)


def replay(
    context: typer.Context,
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
