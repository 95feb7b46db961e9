"""Define the verb `mri-recon evaluate`: its arguments, printed results and written files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mri_recon.cli.options import CsvOption, NoRetryOption, PersonsOption, ThreadsOption, WorkersOption
from mri_recon.cli.progress import Working, working
from mri_recon.errors import ConfigError
from mri_recon_training.evaluation.config import DEFAULT_SNR, EvaluationConfig, SimulatedArray
from mri_recon_training.evaluation.lesions.config import DEFAULT_ARRAY, LesionConfig
from mri_recon_training.evaluation.outputs import Outputs

if TYPE_CHECKING:
    from mri_recon.batch.jobs import Outcome
    from mri_recon.batch.persons import Persons
    from mri_recon.cli.batches import Comparisons
    from mri_recon.results.recipe import MaskChoice
    from mri_recon_training.evaluation.results import Evaluation

__all__ = ["evaluate"]

_DEFAULT = EvaluationConfig(split="")
_ACCELERATIONS = ",".join(f"{one:g}" for one in _DEFAULT.accelerations)
_METHODS = ", ".join(_DEFAULT.methods)
_SEEDS = ",".join(map(str, _DEFAULT.seeds))
_CURVE_SEEDS = ",".join(map(str, _DEFAULT.curve_seeds))
_PART_SEEDS = ",".join(map(str, _DEFAULT.part_seeds))
_COIL_SEEDS = ",".join(map(str, _DEFAULT.coil_seeds))

Files = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Your own scans in place of a split: fully sampled files of k-space, folders of them, or quoted patterns "
        "such as 'scans/**/*.h5'",
        metavar="FILE...",
        show_default=False,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(help="Registered scans: validation for choices; test for numbers that are reported", metavar="NAME"),
]
Accelerations = Annotated[str, typer.Option(help="Accelerations of the tables, separated by commas", metavar="R,...")]
Curve = Annotated[str, typer.Option(help="Further accelerations, for the plot, e.g. 2,4,6,8,10,12", metavar="R,...")]
Person = Annotated[
    str,
    typer.Option(
        help="Evaluate a single subject, for example a training subject held out with data.hold_out", metavar="NAME"
    ),
]
Methods = Annotated[str, typer.Option(help="Names of methods, separated by commas, simplest first", metavar="NAMES")]
Seeds = Annotated[str, typer.Option(help="Seeds of the masks, separated by commas", metavar="S,...")]
CurveSeeds = Annotated[str, typer.Option(help="Seeds of the masks at the accelerations of --curve", metavar="S,...")]
PartSeeds = Annotated[
    str,
    typer.Option(
        help="Seeds of the masks of scans that are parts of one file, such as inversion times", metavar="S,..."
    ),
]
CenterFraction = Annotated[
    float | None,
    typer.Option(
        help="Fully sampled centre as a fraction of the columns; default 0.08 below 6x, else 0.04", metavar="F"
    ),
]
LowFrequencies = Annotated[int | None, typer.Option(help="Fully sampled centre as a number of columns", metavar="N")]
Option = Annotated[list[str] | None, typer.Option(help="Option of one method: METHOD.KEY=VALUE", metavar="OPTION")]
Foreground = Annotated[bool, typer.Option("--foreground", help="Measure again with the background masked")]
Coils = Annotated[
    str,
    typer.Option(
        help="Also evaluate simulated k-space with these coil counts, e.g. 2,8,32, or with an SNR, e.g. 8@10",
        metavar="N,...",
    ),
]
MeasuredCoils = Annotated[
    str,
    typer.Option(
        help="The same with the coils and noise of a validation phantom, at most 16, e.g. 16 or 16@10", metavar="N,..."
    ),
]
CoilSeeds = Annotated[str, typer.Option(help="Seeds of the masks of simulated k-space", metavar="S,...")]
CoilSlices = Annotated[int, typer.Option(help="Middle slices of each image to simulate", metavar="N", min=1)]
Lesions = Annotated[
    bool,
    typer.Option("--lesions", help="Test instead whether small lesions in simulated scans are kept, lost or invented"),
]
Json = Annotated[
    Path | None,
    typer.Option("--json", help="Write the results here; an interrupted run resumes. - is stdout", metavar="OUT.json"),
]
Markdown = Annotated[
    Path | None,
    typer.Option("--markdown", help="Write the results page here, its pictures into images/", metavar="OUT.md"),
]
Log = Annotated[
    Path | None,
    typer.Option(
        help="Append a line for each run on the test split; default docs/results/test-runs.log", metavar="FILE"
    ),
]
Device = Annotated[
    str | None, typer.Option(help="Device to compute on: cpu (the default) or e.g. cuda", metavar="NAME")
]


def evaluate(
    context: typer.Context,
    files: Files = None,
    split: Split = None,
    acceleration: Accelerations = _ACCELERATIONS,
    curve: Curve = "",
    person: Person = "",
    methods: Methods = _METHODS,
    seeds: Seeds = _SEEDS,
    curve_seeds: CurveSeeds = _CURVE_SEEDS,
    part_seeds: PartSeeds = _PART_SEEDS,
    center_fraction: CenterFraction = None,
    num_low_frequencies: LowFrequencies = None,
    option: Option = None,
    foreground: Foreground = False,
    coils: Coils = "",
    measured_coils: MeasuredCoils = "",
    coil_seeds: CoilSeeds = _COIL_SEEDS,
    coil_slices: CoilSlices = _DEFAULT.coil_slices,
    lesions: Lesions = False,
    json: Json = None,
    markdown: Markdown = None,
    log: Log = None,
    device: Device = None,
    csv: CsvOption = None,
    persons: PersonsOption = None,
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
    no_retry_failed: NoRetryOption = False,
) -> None:
    """Compare methods on every registered raw scan of a split, or on FILEs: tables, plots, worst cases.

    Of a split, a missing scan is an error.

    Of FILEs, one that fails ends no other: the exit status is 1 then.
    With --json or --csv, the same command again does what is left.
    FILEs take --acceleration, --seeds, --methods, --option, --foreground, the centre and --persons.

    --lesions takes the split's images, one a subject, with --coils (one array, default 4) and --coil-seeds.

    Example: mri-recon evaluate --split test --curve 2,6,12 --coils 1,8@10,8,8@200 --json results.json --markdown
    docs/results/results.md

    Example: mri-recon evaluate scans --acceleration 4,8 --persons folder --csv out.csv
    """
    work = context.with_resource(working("starting"))
    from mri_recon.cli import method_list, options_by_method
    from mri_recon.cli.batches import Comparisons
    from mri_recon.results.recipe import MaskChoice
    from mri_recon_training.evaluation.run import run_evaluation, write_page

    names = method_list(methods)
    if (split is None) == (not files):
        raise ConfigError("expected FILEs, or --split validation or test, one of the two: give one")
    if files or split is None:
        refused = {
            "--curve": curve, "--person": person, "--coils": coils, "--measured-coils": measured_coils,
            "--lesions": lesions, "--markdown": markdown, "--log": log,
        }  # fmt: skip
        given = [name for name, value in refused.items() if value]
        if given:
            raise ConfigError(f"expected {' and '.join(given)} with --split, got it with FILEs: leave it out")
        _evaluate_files(
            files or [],
            names,
            options_by_method(option or [], names),
            [
                MaskChoice(None, one, center_fraction, num_low_frequencies, seed)
                for one in _numbers(acceleration, "--acceleration")
                for seed in _integers(seeds, "--seeds")
            ],
            Comparisons(json, csv, None, persons, foreground, needs_truth=True),
            work,
            device=device,
            workers=workers,
            threads=threads,
            retry_failed=not no_retry_failed,
        )
        return
    if no_retry_failed:
        raise ConfigError("expected --no-retry-failed with FILEs, got it with --split: leave it out")
    for name, value in (("--csv", csv), ("--persons", persons), ("--workers", workers), ("--threads", threads)):
        if value is not None:
            raise ConfigError(f"expected {name} with FILEs, got it with --split: leave it out")
    arrays = (
        *_arrays(coils, "--coils"),
        *(replace(one, measured=True) for one in _arrays(measured_coils, "--measured-coils")),
    )
    if lesions:
        lesion_config = _lesion_config(
            split=split,
            methods=tuple(names),
            options=options_by_method(option or [], names),
            accelerations=_numbers(acceleration, "--acceleration"),
            seeds=_integers(coil_seeds, "--coil-seeds"),
            arrays=arrays,
            person=person,
            device=device,
        )
        _evaluate_lesions(lesion_config, work, Outputs(json, markdown, log))
        return
    config = EvaluationConfig(
        split=split,
        methods=tuple(names),
        options=options_by_method(option or [], names),
        accelerations=_numbers(acceleration, "--acceleration"),
        curve=_numbers(curve, "--curve") if curve else (),
        seeds=_integers(seeds, "--seeds"),
        center_fraction=center_fraction,
        num_low_frequencies=num_low_frequencies,
        person=person,
        foreground=foreground,
        curve_seeds=_integers(curve_seeds, "--curve-seeds"),
        part_seeds=_integers(part_seeds, "--part-seeds"),
        arrays=arrays,
        coil_seeds=_integers(coil_seeds, "--coil-seeds"),
        coil_slices=coil_slices,
        device=device,
    )
    outputs = Outputs(json, markdown, log)
    outputs.claim(config.options.values())
    run = run_evaluation(config, keep=outputs.keep, started=outputs.started(split, "comparisons"), report=work.step)
    work.end()
    for result in (run.raw, *([] if run.phantoms is None else [run.phantoms]), *run.simulated):
        _print(result, err=outputs.piped)
    outputs.write(run.document(), partial(write_page, run), run.finished)


def _evaluate_files(
    files: Sequence[Path],
    names: Sequence[str],
    options: Mapping[str, Mapping[str, Any]],
    masks: Sequence[MaskChoice],
    request: Comparisons,
    work: Working,
    *,
    device: str | None,
    workers: str | None,
    threads: int | None,
    retry_failed: bool,
) -> None:
    """Compare the methods on a user's files, after a try of each method on a small phantom."""
    from mri_recon.cli import files_read
    from mri_recon.cli.batches import compare_files
    from mri_recon.results.comparison import check_methods
    from mri_recon.results.recipe import Recipe
    from mri_recon_training.evaluation.preflight import check_unseen, try_methods

    def remarks(outcomes: Sequence[Outcome], persons: Persons) -> list[str]:
        try:
            check_unseen(names, {persons.of(one) for one in outcomes if not one.failed}, options)
        except ConfigError as error:
            return [f"numbers of persons that a network was trained on are no test of it: {error}"]
        return []

    check_methods(names, options)
    try_methods(names, options=options, num_coils=(1,), device=device)
    recipes = [Recipe(name, options.get(name, {}), masks[0], device=device) for name in dict.fromkeys(names)]
    read = files_read(options=options.values())
    compare_files(
        files,
        recipes,
        masks,
        replace(request, remarks=remarks),
        work,
        read,
        workers=workers,
        threads=threads,
        retry_failed=retry_failed,
    )


def _lesion_config(*, arrays: tuple[SimulatedArray, ...], **given: Any) -> LesionConfig:
    """Make the configuration of the test with lesions, which takes one array of coils."""
    if len(arrays) > 1:
        raise ConfigError(f"expected one array of coils with --lesions, got {len(arrays)}: run once for each")
    return LesionConfig(array=arrays[0] if arrays else DEFAULT_ARRAY, **given)


def _evaluate_lesions(config: LesionConfig, work: Working, outputs: Outputs) -> None:
    """Run the test with lesions, print its summary and write its files."""
    from mri_recon_training.evaluation.lesions.page import summary_lines, write_lesion_page
    from mri_recon_training.evaluation.lesions.run import FULL, run_lesions
    from mri_recon_training.evaluation.lesions.summary import document

    outputs.claim(config.options.values())
    run = run_lesions(config, keep=outputs.keep, started=outputs.started(config.split, "scans"), report=work.step)
    work.end()
    methods = [FULL, *config.methods]
    for line in summary_lines(run, methods):
        typer.echo(line, err=outputs.piped)
    outputs.write(dict(document(run, methods)), partial(write_lesion_page, run), run.finished)


def _print(result: Evaluation, *, err: bool) -> None:
    from mri_recon.cli import print_results
    from mri_recon.results.comparison import warning_lines
    from mri_recon_training.evaluation.averages import scan_summaries

    coils = "" if result.array is None else f", {result.array.text}"
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
    means = [
        {
            "file": f"{m['world']}, {m['coils']} coils: {m['scans']} scans, {m['persons']} persons",
            "seed": "mean",
            **m,
        }
        for m in result.means()
    ]
    order = "Means over slices, then masks, then the scans of a person, then persons; never over worlds."
    print_results(
        means,
        title=f"Means: {what}",
        notes=[order, result.convention],
        warnings=warning_lines(result.rows),
        with_file=True,
        err=err,
    )


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ConfigError(f"expected {option} as numbers separated by commas, got {text!r}: write e.g. 4,8")
    return tuple(dict.fromkeys(numbers))


def _arrays(text: str, option: str) -> tuple[SimulatedArray, ...]:
    """Read numbers of coils, each with an SNR behind `@` where it is not the default."""
    found = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        coils, _, snr = part.partition("@")
        try:
            found.append(SimulatedArray(int(coils), float(snr) if "@" in part else DEFAULT_SNR))
        except ValueError as error:
            raise ConfigError(
                f"expected {option} as whole numbers, some with @ and an SNR, got {part!r}: write e.g. 8,8@10"
            ) from error
    return tuple(dict.fromkeys(found))


def _integers(text: str, option: str) -> tuple[int, ...]:
    numbers = _numbers(text, option)
    if any(number != int(number) for number in numbers):
        raise ConfigError(f"expected {option} as whole numbers separated by commas, got {text!r}: write e.g. 0,1,2")
    return tuple(int(number) for number in numbers)
