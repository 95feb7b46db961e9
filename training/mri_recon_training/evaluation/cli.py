"""The verb `mri-recon evaluate`: argument parsing, and the order of the work."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mri_recon._system.outputs import STDOUT
from mri_recon.cli.progress import working
from mri_recon.errors import ConfigError

if TYPE_CHECKING:
    from mri_recon_training.evaluation.scans import Evaluation, Masks, Source

__all__ = ["evaluate"]


def evaluate(
    context: typer.Context,
    split: Annotated[str, typer.Option(help="validation for every choice; test for numbers that are reported")],
    acceleration: Annotated[str, typer.Option(help="Accelerations of the tables, separated by commas")] = "4,8",
    curve: Annotated[str, typer.Option(help="Further accelerations, for the plot, e.g. 2,4,6,8,10,12")] = "",
    person: Annotated[
        str, typer.Option(help="One person alone, e.g. one of train whom the weights were made without (data.hold_out)")
    ] = "",
    methods: Annotated[
        str, typer.Option(help="Names, separated by commas, simplest first")
    ] = "zero-filled,cg-sense,cs-wavelet,unet,unrolled",
    seeds: Annotated[str, typer.Option(help="Seeds of the masks, separated by commas")] = "0,1,2,3,4",
    center_fraction: Annotated[
        float | None, typer.Option(help="Of the masks; by default 0.08 below 6x, else 0.04")
    ] = None,
    num_low_frequencies: Annotated[int | None, typer.Option(help="The same as a number of columns")] = None,
    option: Annotated[list[str] | None, typer.Option(help="Of one method: METHOD.KEY=VALUE")] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Measure again with the background masked")] = False,
    coils: Annotated[
        str,
        typer.Option(
            help="Beside the raw scans: SIMULATED k-space of so many coils of the split's images, e.g. 2,8,32"
        ),
    ] = "",
    coil_seeds: Annotated[str, typer.Option(help="Seeds of their masks")] = "0,1,2",
    coil_slices: Annotated[int, typer.Option(help="Middle slices of each image", min=1)] = 1,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json", help="Write the results here (an interrupted run goes on); - is stdout", metavar="OUT.json"
        ),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", help="Write the results page here, its pictures into images/", metavar="OUT.md"),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(help="File that a run on the test split adds a line to, by default docs/results/test-runs.log"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Where to compute, cpu (the default) or e.g. cuda")] = None,
) -> None:
    """Methods on every registered raw scan of a split: tables, plots and worst cases; fails where a scan is missing.

    Example: mri-recon evaluate --split test --curve 2,4,6,8,10,12 --coils 2,4,8,15,32 --json results.json
    --markdown docs/results/results.md
    """
    work = context.with_resource(working("starting"))
    from mri_recon_data.registry import local_files

    from mri_recon._system.files import write_atomically
    from mri_recon._system.jsonable import json_text, write_json
    from mri_recon._system.outputs import check_writable_folder
    from mri_recon.cli import JSON_SUFFIXES, claim, files_read, method_list, options_by_method, tell
    from mri_recon.results.comparison import check_methods
    from mri_recon_training.evaluation.page import Page, markdown_page
    from mri_recon_training.evaluation.plots import require_matplotlib, save_plots
    from mri_recon_training.evaluation.preflight import check_unseen, try_methods
    from mri_recon_training.evaluation.resume import Partial
    from mri_recon_training.evaluation.run_log import code_state, command_text, commit
    from mri_recon_training.evaluation.scans import Masks, evaluate_scans, of_person, raw_sources, results_document
    from mri_recon_training.evaluation.simulated import simulated_sources
    from mri_recon_training.evaluation.worst_cases import draw_cases, worst_cases

    names = method_list(methods)
    options = options_by_method(option or [], names)
    partial = None if json is None or json == STDOUT else json.with_name(f"{json.name}.partial")
    piped = claim(
        {"--json": json, "--json .partial": partial, "--markdown": markdown, "--log": log},
        [*files_read(options=options.values()), *(("registered data", path) for path in local_files())],
        suffixes={"--json": JSON_SUFFIXES, "--markdown": (".md",)},
        appended=["--log"],
    )
    if markdown is not None:
        require_matplotlib()
        check_writable_folder("--markdown", markdown.parent / "images")
    check_methods(names, options)
    tables = sorted(_numbers(acceleration, "--acceleration"))
    all_accelerations = sorted({*tables, *(_numbers(curve, "--curve") if curve else [])})
    masks = Masks(all_accelerations, _integers(seeds, "--seeds"), center_fraction, num_low_frequencies)
    coil_masks = Masks(tables, _integers(coil_seeds, "--coil-seeds"), center_fraction, num_low_frequencies)
    sources = raw_sources(split)
    simulated = {
        count: simulated_sources(split, num_coils=count, num_slices=coil_slices)
        for count in sorted(_integers(coils, "--coils") if coils else [])
    }
    if person:
        sources = of_person(sources, person, "raw scans")
        simulated = {count: of_person(found, person, "magnitude images") for count, found in simulated.items()}
    check_unseen(names, {source.person for found in (sources, *simulated.values()) for source in found}, options)
    tried = try_methods(names, options=options, num_coils=(1, 2) if simulated else (1,), device=device)
    command, state = command_text(sys.argv[1:]), commit()
    done = Partial(
        partial,
        {
            "split": split,
            "person": person,
            "code": code_state(),
            "methods": names,
            "options": options,
            "weights": {name: info["model_sha256"] for name, info in tried.items() if "model_sha256" in info},
            "centre": [center_fraction, num_low_frequencies],
            "foreground": foreground,
            "coil_slices": coil_slices,
            "device": device or "cpu",
        },
    )
    if len(done):
        tell(f"going on with {len(done)} finished comparisons of {partial}", err=True)
    if split == "test":
        _log(log, command)
    in_all = _count(sources, masks) + sum(_count(found, coil_masks) for found in simulated.values())
    told = itertools.count(len(done))
    shared: dict[str, Any] = {
        "split": split,
        "methods": names,
        "options": options,
        "device": device,
        "foreground": foreground,
        "done": done,
        "report": lambda text: work.step(text, next(told), in_all),
    }
    raw = evaluate_scans(sources, masks, **shared)
    others = [
        evaluate_scans(found, coil_masks, kind="simulated", num_coils=count, **shared)
        for count, found in simulated.items()
    ]
    work.end()
    for result in (raw, *others):
        _print(result, err=piped)
    if json is not None:
        document = results_document(raw, others)
        if piped:
            typer.echo(json_text(document), nl=False)
        else:
            write_json(json, document)
            tell(f"results: {json}")
    if markdown is not None:
        folder = markdown.parent / "images"
        folder.mkdir(exist_ok=True)
        plots = save_plots(folder, raw, others, methods=names, accelerations=tables)
        drawable = [source.name for source in sources if source.attribution is not None]
        cases = worst_cases(raw, names, files=drawable, accelerations=tables)
        failures = draw_cases(cases, sources, folder, masks=masks, options=options, device=device)
        page = Page(command, state, names, tables, raw, others, plots, failures)
        write_atomically(markdown, markdown_page(page).encode())
        tell(f"page: {markdown}", err=piped)
    done.finish()


def _count(sources: Sequence[Source], masks: Masks) -> int:
    """How many comparisons that is."""
    return sum(source.has_truth for source in sources) * len(masks.accelerations) * len(masks.seeds)


def _print(result: Evaluation, *, err: bool) -> None:
    from mri_recon.cli import print_results
    from mri_recon.results.comparison import warning_lines
    from mri_recon_training.evaluation.averages import scan_summaries

    coils = "" if result.num_coils is None else f", {result.num_coils} coils"
    what = f"split {result.split}, {result.kind} k-space{coils}"
    notes = [f"Not measured: {name} ({reason})." for name, reason in result.left_out.items()]
    each = [
        {
            **row,
            "file": result.labels[row["file"]],
            "seed": "mean",
            **{name: row[name] and row[name].mean for name in ("nmse", "psnr", "ssim")},
        }
        for row in scan_summaries(result.rows)
    ]
    print_results(each, title=f"Each scan: {what}", notes=notes, with_file=True, err=err)
    means = [{"file": f"{m['scans']} scans, {m['persons']} persons", "seed": "mean", **m} for m in result.means()]
    order = "Means over slices, then masks, then the scans of a person, then persons."
    print_results(
        means,
        title=f"Means: {what}",
        notes=[order, result.convention],
        warnings=warning_lines(result.rows),
        with_file=True,
        err=err,
    )


def _log(log: Path | None, command: str) -> None:
    from mri_recon_training.evaluation.run_log import find_repository, log_test_run

    if log is None:
        repository = find_repository(Path.cwd())
        if repository is None:
            typer.echo(
                "mri-recon: warning: not in the project's checkout, so this test run is not logged: --log FILE",
                err=True,
            )
            return
        log = repository / "docs" / "results" / "test-runs.log"
        log.parent.mkdir(parents=True, exist_ok=True)
    log_test_run(log, command)


def _numbers(text: str, option: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers:
        raise ConfigError(f"expected {option} as numbers separated by commas, got {text!r}: write e.g. 4,8")
    return list(dict.fromkeys(numbers))


def _integers(text: str, option: str) -> list[int]:
    numbers = _numbers(text, option)
    if any(number != int(number) for number in numbers):
        raise ConfigError(f"expected {option} as whole numbers separated by commas, got {text!r}: write e.g. 0,1,2")
    return [int(number) for number in numbers]
