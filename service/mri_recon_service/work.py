"""Do the work of a request in plain functions of files, fields and the library, without HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mri_recon.errors import Cancelled, MriReconError
from mri_recon.io import Scan
from mri_recon.io.masks import FROM_ZEROS
from mri_recon.io.pictures import require_pictures_allowed
from mri_recon.masks.types import Mask
from mri_recon.methods.candidate import parse_candidates
from mri_recon.methods.table import can_batch
from mri_recon.progress import OnProgress
from mri_recon.reconstruction import Reconstruction
from mri_recon.results.comparison import Comparison, compare_recipes
from mri_recon.results.provenance import InputFile, Provenance
from mri_recon.results.recipe import MaskChoice, Recipe, Run, run_batch, run_recipe
from mri_recon_service.fields import compare_fields, reconstruction_fields
from mri_recon_service.job import Kind
from mri_recon_service.problems import Problem, invalid_field, problem_of
from mri_recon_service.schemas import ReconstructionFields, ScanFields

__all__ = [
    "Outcome",
    "Parsed",
    "Parser",
    "Prepared",
    "Task",
    "batch_key",
    "perform",
    "perform_batch",
    "prepare",
    "read_task",
]


class Parsed(Protocol):
    """Content of uploaded files, as a parser returns it."""

    @property
    def scan(self) -> Scan:
        """The scan."""
        ...

    @property
    def mask(self) -> Any:
        """The array in the mask's file. None: no such file came."""
        ...


class Parser(Protocol):
    """Open uploaded files. The service uses `parser_pool.ParserPool`, which opens them in another process."""

    def load(self, path: Path, *, axes: str | None, variable: str | None, mask_file: Path | None = None) -> Parsed:
        """Read a scan, and the mask in a file that came with it.

        Raises:
            Problem: a file cannot be read.
        """
        ...


@dataclass(frozen=True)
class Task:
    """The work that a request asks for.

    Attributes:
        kind: one method's image, or a comparison of several.
        fields: fields for reading the scan and choosing its mask.
        methods: names of the methods; one for a reconstruction.
        options: options of each method by its name.
    """

    kind: Kind
    fields: ScanFields
    methods: tuple[str, ...]
    options: Mapping[str, Mapping[str, Any]]

    @property
    def deliver(self) -> str | None:
        """Name of the target to which the result is delivered. None: it is not."""
        return self.fields.deliver if isinstance(self.fields, ReconstructionFields) else None


@dataclass(frozen=True)
class Prepared:
    """A task with its data.

    Attributes:
        task: the work to do.
        scan: the uploaded scan.
        mask: the undersampling mask.
        slice_index: index of the slice in pictures.
        sources: `name`, `sha256` and `bytes` of the uploaded files, by field.
    """

    task: Task
    scan: Scan
    mask: Mask
    slice_index: int
    sources: Mapping[str, Mapping[str, Any]]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the k-space, `(slice, coil, readout, phase)`."""
        slices, coils, readout, phase = self.scan.kspace.shape
        return int(slices), int(coils), int(readout), int(phase)


@dataclass(frozen=True)
class Outcome:
    """The result of a task.

    Attributes:
        prepared: the task with its data.
        result: result of the library.
        provenance: for each method, the record from which its image can be reproduced.
    """

    prepared: Prepared
    result: Reconstruction | Comparison
    provenance: Mapping[str, Provenance]


def read_task(kind: Kind, texts: Mapping[str, str], *, limits: Mapping[str, int]) -> Task:
    """Read the task from the fields of a request.

    Args:
        kind: kind of the task.
        texts: the fields.
        limits: the largest values that this service allows for options (`Settings.option_limits`).

    Raises:
        Problem: invalid-request, unknown-method, unknown-option, invalid-option, unknown-model.
    """
    if kind == "reconstruction":
        fields, options = reconstruction_fields(texts, limits=limits)
        return Task(kind, fields, (fields.method,), {fields.method: options})
    several, methods, of_each = compare_fields(texts, limits=limits)
    return Task(kind, several, tuple(methods), of_each)


def prepare(
    task: Task, files: Mapping[str, Path], sources: Mapping[str, Mapping[str, Any]], parser: Parser
) -> Prepared:
    """Open the files, and check that the task can be done on them.

    Raises:
        Problem: the parser or the library refuses the files or the task.
    """
    fields = task.fields
    if (fields.mask is not None or "mask" in files) and fields.acceleration is not None:
        raise Problem(
            "conflicting-masks",
            f"expected one mask, got 'mask' and an acceleration of {fields.acceleration:g}: give one of them",
        )
    try:
        parsed = parser.load(files["file"], axes=fields.axes, variable=fields.variable, mask_file=files.get("mask"))
        scan = parsed.scan
        require_pictures_allowed(scan.meta, what="the service's answer")
        index = scan.num_slices // 2 if fields.slice is None else fields.slice
        if index >= scan.num_slices:
            raise invalid_field("slice", f"expected 0 to {scan.num_slices - 1}, got {index}: choose one of these")
        _check_sampling(scan, fields, has_file="mask" in files)
        choice = MaskChoice(
            files.get("mask", FROM_ZEROS if fields.mask == FROM_ZEROS else None),
            fields.acceleration,
            fields.center_fraction,
            fields.num_low_frequencies,
            fields.seed,
            fields.mask_kind,
        )
        mask = choice.choose(scan, parsed.mask)
        for name, options in task.options.items():
            prefix = "" if task.kind == "reconstruction" else f"{name}."
            _check_levels(scan, options, prefix=prefix)
            for candidate in parse_candidates(options["candidates"]) if "candidates" in options else ():
                _check_levels(scan, candidate.options, prefix=f"{prefix}candidates: {candidate.method}:")
    except MriReconError as error:
        raise problem_of(error) from error
    return Prepared(task, scan, mask, index, sources)


def batch_key(prepared: Prepared) -> str | None:
    """Make the key of a task. Tasks with equal keys can share one run of a network. None: the task runs alone."""
    task = prepared.task
    (method, *more) = task.methods
    alone = task.kind != "reconstruction" or more or task.fields.check is not None
    if alone or not can_batch(method, task.options[method]):
        return None
    return json.dumps([method, sorted(task.options[method].items()), prepared.shape], default=repr)


def perform(
    prepared: Prepared,
    *,
    device: str,
    on_progress: OnProgress | None = None,
    on_change: Callable[[Comparison], None] | None = None,
) -> Outcome:
    """Run the methods of a task.

    Args:
        prepared: the task with its data.
        device: device on which the library computes.
        on_progress: receives the progress.
        on_change: receives an unfinished comparison, as in `compare_recipes`.

    Raises:
        Problem: the library refuses the work.
        Cancelled: as `on_progress` raised it.
    """
    recipes, source = _recipes(prepared, device), _source(prepared)
    try:
        if prepared.task.kind == "comparison":
            comparison = compare_recipes(
                prepared.scan, recipes, source=source, on_progress=on_progress, on_change=on_change
            )
            return Outcome(prepared, comparison, comparison.provenance)
        run = run_recipe(prepared.scan, recipes[0], source=source, on_progress=on_progress)
    except Cancelled:
        raise
    except MriReconError as error:
        raise problem_of(error) from error
    return _outcome(prepared, run)


def perform_batch(several: Sequence[Prepared], *, device: str) -> list[Outcome]:
    """Run tasks of one batch key in one run of their network. Each result equals the single one to 1e-5.

    Raises:
        Problem: the library refuses a task. The problem does not name the task.
    """
    recipes = [_recipes(one, device)[0] for one in several]
    try:
        runs = run_batch([one.scan for one in several], recipes, sources=[_source(one) for one in several])
    except MriReconError as error:
        raise problem_of(error) from error
    return [_outcome(one, run) for one, run in zip(several, runs, strict=True)]


def _recipes(prepared: Prepared, device: str) -> list[Recipe]:
    task = prepared.task
    return [
        Recipe(
            method,
            task.options[method],
            prepared.mask,
            check=task.fields.check,
            axes=task.fields.axes,
            variable=task.fields.variable,
            device=device,
        )
        for method in dict.fromkeys(task.methods)
    ]


def _source(prepared: Prepared) -> InputFile:
    """Record the uploaded file as the client named it."""
    file, fields = prepared.sources["file"], prepared.task.fields
    return InputFile(
        name=str(file["name"]),
        bytes=file["bytes"],
        sha256=file["sha256"],
        axes=fields.axes,
        variable=fields.variable,
    )


def _outcome(prepared: Prepared, run: Run) -> Outcome:
    assert run.provenance is not None, "the source was given"
    return Outcome(prepared, run.reconstruction, {run.reconstruction.method: run.provenance})


def _check_levels(scan: Scan, options: Mapping[str, Any], *, prefix: str = "") -> None:
    """Bound the wavelet levels: sides are padded to multiples of 2^levels, so a large number would take all memory."""
    levels = options.get("levels")
    most = min(scan.kspace.shape[-2:]).bit_length() - 1
    if isinstance(levels, int) and not 1 <= levels <= max(most, 1):
        raise Problem(
            "invalid-option",
            f"option '{prefix}levels': expected 1 to {max(most, 1)} for images of "
            f"{scan.kspace.shape[-2]} x {scan.kspace.shape[-1]}, got {levels}: leave it out for the default",
        )


def _check_sampling(scan: Scan, fields: ScanFields, *, has_file: bool) -> None:
    """Refuse the cases of `choose_mask` for which a request needs other advice than the command line."""
    if has_file or fields.mask == FROM_ZEROS:
        return
    if fields.mask == "file" and scan.mask is None:
        raise Problem(
            "missing-mask",
            "expected a scan with a sampling mask for mask=file, got one that has none of its own: "
            + ("give the field 'acceleration', e.g. 4" if scan.fully_sampled else _NEEDS_MASK),
        )
    if fields.acceleration is None and scan.mask is None:
        raise Problem(
            "missing-mask",
            "expected a sampling mask, got a fully sampled scan: give the field 'acceleration', e.g. 4, or a mask as a "
            "file in the field 'mask'"
            if scan.fully_sampled
            else f"expected a sampling mask, got an undersampled scan that has none of its own: {_NEEDS_MASK}",
        )
    if fields.acceleration is not None and not scan.fully_sampled:
        raise Problem(
            "invalid-mask",
            "expected fully sampled k-space to draw a mask for, got a scan that is already undersampled: leave "
            "'acceleration' out, and "
            + ("give mask=file for the scan's own mask" if scan.mask is not None else _NEEDS_MASK),
        )


_NEEDS_MASK = (
    "give the mask that it was sampled with as a file in the field 'mask', or mask=from-zeros to treat the zeros of "
    "k-space as not sampled"
)
