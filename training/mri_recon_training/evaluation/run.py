"""Run an evaluation: check first, then compare, then write the page.

Choices (weights, epochs, regularisation) belong to the validation split. Numbers that are reported come from the test
split; the verb `evaluate` logs each run on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mri_recon._system.files import write_atomically
from mri_recon.results.comparison import check_methods
from mri_recon_training.evaluation.compare_scans import Masks, evaluate_scans
from mri_recon_training.evaluation.config import EvaluationConfig
from mri_recon_training.evaluation.page import Page, markdown_page
from mri_recon_training.evaluation.plots import save_plots
from mri_recon_training.evaluation.preflight import check_unseen, try_methods
from mri_recon_training.evaluation.results import Evaluation, results_document
from mri_recon_training.evaluation.resume import FinishedComparisons
from mri_recon_training.evaluation.run_log import code_state
from mri_recon_training.evaluation.simulated import simulated_sources
from mri_recon_training.evaluation.sources import Source, of_person, raw_sources
from mri_recon_training.evaluation.worst_cases import draw_cases, worst_cases

__all__ = ["EvaluationRun", "run_evaluation", "write_page"]


@dataclass(frozen=True)
class EvaluationRun:
    """Results of an evaluation.

    Attributes:
        config: of the run.
        sources: the raw scans.
        raw: rows of the scanner's k-space.
        simulated: rows of simulated k-space, one evaluation for each number of coils.
        finished: the comparisons kept on disk; `finished.finish()` removes them once the results are written.
    """

    config: EvaluationConfig
    sources: Sequence[Source]
    raw: Evaluation
    simulated: Sequence[Evaluation]
    finished: FinishedComparisons

    def document(self) -> dict[str, Any]:
        """Give the content of the JSON file."""
        return results_document(self.raw, self.simulated)


def run_evaluation(
    config: EvaluationConfig,
    *,
    keep: Path | None = None,
    started: Callable[[int], None] = lambda resumed: None,
    report: Callable[[str, int, int], None] = lambda text, done, total: None,
) -> EvaluationRun:
    """Compare the methods on every registered scan of a split, after every check that can be made before.

    Args:
        config: scans, masks and methods.
        keep: file of finished comparisons, from which an interrupted evaluation resumes; None: none is kept.
        started: called once between the checks and the first comparison, with the number of comparisons in `keep`.
        report: called before each comparison with a text, the number of finished comparisons and their total.

    Raises:
        DataError: an unknown split or subject, scans that are not at hand, or `keep` of other settings.
        MethodError, CheckpointError: an unknown method or option, or a method that fails on a small phantom.
        ConfigError: weights that were trained on a subject of the scans.
        MaskError: as `choose_mask`.
    """
    check_methods(config.methods, config.options)
    sources, simulated = _sources(config)
    everybody = {source.person for found in (sources, *simulated.values()) for source in found}
    check_unseen(config.methods, everybody, config.options)
    num_coils = (1, 2) if simulated else (1,)
    tried = try_methods(config.methods, options=config.options, num_coils=num_coils, device=config.device)
    finished = FinishedComparisons(keep, _settings(config, tried))
    started(len(finished))

    masks, coil_masks = _raw_masks(config), _coil_masks(config)
    total = _count(sources, masks) + sum(_count(found, coil_masks) for found in simulated.values())
    number = itertools.count(len(finished))
    shared: dict[str, Any] = {
        "split": config.split,
        "methods": config.methods,
        "options": config.options,
        "device": config.device,
        "foreground": config.foreground,
        "done": finished,
        "report": lambda text: report(text, next(number), total),
    }
    raw = evaluate_scans(sources, masks, **shared)
    others = [
        evaluate_scans(found, coil_masks, kind="simulated", num_coils=coils, **shared)
        for coils, found in simulated.items()
    ]
    return EvaluationRun(config, sources, raw, others, finished)


def write_page(run: EvaluationRun, path: Path, *, command: str, commit: str) -> None:
    """Write the results page, and its pictures into the folder `images` beside it.

    Args:
        run: the results.
        path: of the page.
        command: that made it, for the reader.
        commit: of the project at the start of the run.

    Raises:
        MethodError: Matplotlib is not installed.
        OutputError: a file cannot be written.
    """
    config, folder = run.config, path.parent / "images"
    folder.mkdir(exist_ok=True)
    tables = sorted(config.accelerations)
    plots = save_plots(folder, run.raw, run.simulated, methods=config.methods, accelerations=tables)
    drawable = [source.name for source in run.sources if source.attribution is not None]
    cases = worst_cases(run.raw, config.methods, files=drawable, accelerations=tables)
    masks = _raw_masks(config)
    failures = draw_cases(cases, run.sources, folder, masks=masks, options=config.options, device=config.device)
    page = Page(command, commit, config.methods, tables, run.raw, run.simulated, plots, failures)
    write_atomically(path, markdown_page(page).encode())


def _sources(config: EvaluationConfig) -> tuple[list[Source], dict[int, list[Source]]]:
    """List the raw scans, and the simulated ones by number of coils."""
    sources = raw_sources(config.split)
    simulated = {
        coils: simulated_sources(config.split, num_coils=coils, num_slices=config.coil_slices)
        for coils in sorted(config.coils)
    }
    if config.person:
        sources = of_person(sources, config.person, "raw scans")
        simulated = {coils: of_person(found, config.person, "magnitude images") for coils, found in simulated.items()}
    return sources, simulated


def _raw_masks(config: EvaluationConfig) -> Masks:
    accelerations = sorted({*config.accelerations, *config.curve})
    return Masks(accelerations, config.seeds, config.center_fraction, config.num_low_frequencies)


def _coil_masks(config: EvaluationConfig) -> Masks:
    accelerations = sorted(config.accelerations)
    return Masks(accelerations, config.coil_seeds, config.center_fraction, config.num_low_frequencies)


def _settings(config: EvaluationConfig, tried: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Name everything but scan, acceleration and seed that decides a row."""
    return {
        "split": config.split,
        "person": config.person,
        "code": code_state(),
        "methods": config.methods,
        "options": config.options,
        "weights": {name: info["model_sha256"] for name, info in tried.items() if "model_sha256" in info},
        "centre": [config.center_fraction, config.num_low_frequencies],
        "foreground": config.foreground,
        "coil_slices": config.coil_slices,
        "device": config.device or "cpu",
    }


def _count(sources: Sequence[Source], masks: Masks) -> int:
    """Count the comparisons."""
    return sum(source.has_truth for source in sources) * len(masks.accelerations) * len(masks.seeds)
