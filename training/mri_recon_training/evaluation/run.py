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
from mri_recon_training.evaluation.config import EvaluationConfig, SimulatedArray
from mri_recon_training.evaluation.page import Page, markdown_page
from mri_recon_training.evaluation.plots import save_plots
from mri_recon_training.evaluation.preflight import check_unseen, try_methods
from mri_recon_training.evaluation.results import Evaluation, results_document
from mri_recon_training.evaluation.resume import FinishedComparisons
from mri_recon_training.evaluation.run_log import code_state
from mri_recon_training.evaluation.simulated import simulated_sources
from mri_recon_training.evaluation.sources import Source, of_person, phantom_sources, raw_sources
from mri_recon_training.evaluation.worst_cases import draw_cases, worst_cases

__all__ = ["EvaluationRun", "run_evaluation", "write_page"]


@dataclass(frozen=True)
class EvaluationRun:
    """Results of an evaluation.

    Attributes:
        config: of the run.
        sources: all scans.
        raw: rows of the scanner's k-space.
        phantoms: rows of phantoms; None where the split has none.
        simulated: rows of simulated k-space, one evaluation for each array of coils.
        finished: the comparisons kept on disk; `finished.finish()` removes them once the results are written.
    """

    config: EvaluationConfig
    sources: Sequence[Source]
    raw: Evaluation
    phantoms: Evaluation | None
    simulated: Sequence[Evaluation]
    finished: FinishedComparisons

    def document(self) -> dict[str, Any]:
        """Give the content of the JSON file."""
        return results_document(self.raw, self.simulated, self.phantoms)


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
    raw_scans, phantom_scans, simulated_scans = _sources(config)
    everything = [*raw_scans, *phantom_scans, *(one for found in simulated_scans.values() for one in found)]
    check_unseen(config.methods, {source.person for source in everything}, config.options)
    num_coils = (1, 2) if simulated_scans else (1,)
    tried = try_methods(config.methods, options=config.options, num_coils=num_coils, device=config.device)
    finished = FinishedComparisons(keep, _settings(config, tried))
    started(len(finished))

    masks, coil_masks = _raw_masks(config), _coil_masks(config)
    total = _count([*raw_scans, *phantom_scans], masks)
    total += sum(_count(found, coil_masks) for found in simulated_scans.values())
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
    raw = evaluate_scans(raw_scans, masks, **shared)
    phantoms = evaluate_scans(phantom_scans, masks, kind="phantom", **shared) if phantom_scans else None
    simulated = [
        evaluate_scans(found, coil_masks, kind="simulated", array=array, **shared)
        for array, found in simulated_scans.items()
    ]
    return EvaluationRun(config, everything, raw, phantoms, simulated, finished)


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
    measured = {row["method"] for one in (run.raw, *run.simulated) for row in one.rows}
    columns = [name for method in config.methods for name in (method, f"{method} by SNR") if name in measured]
    plots = save_plots(folder, run.raw, run.simulated, methods=columns, accelerations=tables, prefix=path.stem)
    drawable = [source.name for source in run.sources if source.attribution is not None]
    cases = worst_cases([run.raw, *run.simulated], config.methods, files=drawable)
    failures = draw_cases(
        cases,
        run.sources,
        folder,
        methods=config.methods,
        masks=_raw_masks(config),
        options=config.options,
        device=config.device,
        prefix=path.stem,
    )
    page = Page(command, commit, columns, tables, run.raw, run.simulated, plots, failures, run.phantoms)
    write_atomically(path, markdown_page(page).encode())


def _sources(config: EvaluationConfig) -> tuple[list[Source], list[Source], dict[SimulatedArray, list[Source]]]:
    """List the raw scans, the phantoms, and the simulated scans by their coils."""
    raw, phantoms = raw_sources(config.split), [] if config.person else phantom_sources(config.split)
    arrays = sorted(config.arrays, key=lambda one: (one.measured, one.num_coils, one.snr))
    simulated = {one: simulated_sources(config.split, one, num_slices=config.coil_slices) for one in arrays}
    if config.person:
        raw = of_person(raw, config.person, "raw scans")
        simulated = {one: of_person(found, config.person, "magnitude images") for one, found in simulated.items()}
    return raw, phantoms, simulated


def _raw_masks(config: EvaluationConfig) -> Masks:
    return Masks(
        sorted(config.accelerations),
        config.seeds,
        config.center_fraction,
        config.num_low_frequencies,
        curve=config.curve,
        curve_seeds=config.curve_seeds,
        part_seeds=config.part_seeds,
    )


def _coil_masks(config: EvaluationConfig) -> Masks:
    accelerations = sorted(config.accelerations)
    return Masks(accelerations, config.coil_seeds, config.center_fraction, config.num_low_frequencies)


def _weights(info: Mapping[str, Any]) -> str | list[str]:
    """Name the weights of a method: the SHA-256, or a list of them if it tries several networks."""
    several = [str(one["sha256"]) for one in info.get("models", ())]
    return str(info["model_sha256"]) if "model_sha256" in info else several


def _settings(config: EvaluationConfig, tried: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Name everything but scan, acceleration and seed that decides a row."""
    return {
        "split": config.split,
        "person": config.person,
        "code": code_state(),
        "methods": config.methods,
        "options": config.options,
        "weights": {name: found for name, info in tried.items() if (found := _weights(info))},
        "centre": [config.center_fraction, config.num_low_frequencies],
        "foreground": config.foreground,
        "coil_slices": config.coil_slices,
        "device": config.device or "cpu",
    }


def _count(sources: Sequence[Source], masks: Masks) -> int:
    """Count the comparisons."""
    return sum(len(list(masks.cases(source))) for source in sources if source.has_truth)
