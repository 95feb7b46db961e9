"""Write the results of a study: a table, answers to its questions, and how it was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import Any

from mri_recon_training.markdown import table
from mri_recon_training.optimizer_config import full_batch
from mri_recon_training.study.study import Row, Study

__all__ = ["answers", "markdown_section", "relative_gap", "results_table"]

_COLUMNS = (
    "batch", "candidate", "lr", "gradients", "training loss", "validation loss", "gap", "PSNR raw 4x / dB", "CPU s"
)  # fmt: skip


def markdown_section(study: Study, *, command: str, images: Sequence[str]) -> str:
    """Write the section of a page: method, table, answers, curves.

    Args:
        study: the results.
        command: that makes the section, for the reader.
        images: names of the pictures, relative to the page.
    """
    parts = [
        f"Made by `{command}`.",
        _method(study),
        results_table(study),
        _notes(study),
        "\n".join(f"- **{question}** {answer}" for question, answer in answers(study)),
        *(f"![Curves of the {study.kind} study]({image})" for image in images),
    ]
    return "\n\n".join(parts) + "\n"


def results_table(study: Study) -> str:
    """Give a Markdown table, a row for each candidate and batch size, lowest validation loss first.

    Numbers are means over the seeds ± their standard deviation.
    """
    rows = []
    untrained = study.untrained
    for group in study.config.study.batch_sizes:
        found = [row for row in study.rows if row.candidate.group == group]
        rows += [_cells(row, study) for row in sorted(found, key=_rank)]
    losses = [f"{untrained[name]:.4f}" for name in ("training_loss", "validation_loss")]
    psnr = _number(untrained["raw_psnr"], ".2f")
    rows.append(["", "zero-filled (untrained)", "", "0", *losses, "0", psnr, "0"])
    return "\n".join(table(_COLUMNS, rows, text=len(_COLUMNS)))


def answers(study: Study) -> list[tuple[str, str]]:
    """Answer the study's questions by its numbers; a question whose candidates are missing is left out."""
    found = []
    for group in study.config.study.batch_sizes:
        where = f" at batch size {group}" if len(study.config.study.batch_sizes) > 1 or study.kind == "norms" else ""
        questions = (
            [("momentum", "sgd", "plain SGD"), ("nesterov", "sgd", "plain SGD"), ("adam", "sgd", "plain SGD"),
             ("adam", "momentum", "momentum")]
            if study.kind == "optimizers"
            else [("group", "batch", "batch norm")]
        )  # fmt: skip
        for first, second, called in questions:
            pair = _pair(study, first, second, group)
            if pair is not None:
                title = f"{first.capitalize()}{' norm' if study.kind == 'norms' else ''}"
                found.append((f"Does {title} beat {called}{where}?", _verdict(*pair, "validation_loss")))
        pair = _pair(study, "adam", "sgd", group)
        if study.kind == "optimizers" and pair is not None:
            found.append((f"Is a generalisation gap of Adam visible{where}?", _gap_answer(study, *pair)))
    return found


def relative_gap(record: dict[str, Any], study: Study) -> float:
    """Compute validation / its untrained value - training / its untrained value.

    The two sets differ in difficulty. The gap is how much less of the validation loss training removed.
    """
    untrained = study.untrained
    return float(
        record["validation_loss"] / untrained["validation_loss"] - record["training_loss"] / untrained["training_loss"]
    )


def _method(study: Study) -> str:
    asked, data, model = study.config.study, study.config.data, study.config.model
    size = "x".join(map(str, (data.rows, data.simulation.min_size)))
    low, high = data.sampling.acceleration
    speed = f"{low:g}x" if low == high else f"{low:g}x to {high:g}x"
    fixed = [row.candidate.batch_size for row in study.rows if full_batch(row.candidate.optimizer)]
    budget = f"{asked.steps} steps, that is {asked.steps} times the batch size gradients of single examples"
    if fixed:
        budget += (
            f"; the full-batch methods have as many gradients, on one fixed set of {fixed[0]} examples, hence fewer "
            "steps (a line search may end less than one step above)"
        )
    optimizer = "" if study.kind == "optimizers" else f" Optimiser: {asked.optimizer}."
    grid = ", ".join(f"{factor:g}" for factor in asked.grid)
    return (
        f"Data: {study.source}; {asked.examples} training and {asked.validation_examples} validation examples"
        + ("" if data.root else f" of {size} pixels")
        + f" at {speed}, drawn once. "
        f"Network: U-Net, {model.chans} channels, {model.num_pool_layers} poolings, patch {model.patch}, "
        f"{study.parameters:,} parameters, with one step of data consistency.{optimizer} "
        f"Loss: {study.config.loss.l1:g} L1 + {study.config.loss.rms:g} RMS + {study.config.loss.ssim:g} (1 - SSIM). "
        f"Budget of every run: {budget}. Warm-up over {asked.warmup_share:.0%} of it, cosine decay, gradients clipped "
        "at norm 1 (L-BFGS: none of the three), no weight average. "
        f"Learning rate: {len(asked.grid)} trials each ({grid} times the candidate's middle), chosen by the validation "
        f"loss at the end with seed {asked.tuning_seed}; then seeds {', '.join(map(str, asked.seeds))} (first weights "
        "and order of examples; the examples stay)."
    )


def _notes(study: Study) -> str:
    edge = any(row.at_edge for row in study.rows)
    return (
        "Means over the seeds ± standard deviation; losses of the network in evaluation mode. Gap: validation loss "
        "over its untrained value minus the same of the training loss. PSNR: whole slices of raw validation k-space, "
        "which neither training nor the choice of a rate has used. CPU s: processor time of the steps alone."
        + (" †: the best rate is the grid's first or last." if edge else "")
    )


def _cells(row: Row, study: Study) -> list[str]:
    start = [str(row.candidate.batch_size), row.candidate.name]
    good = [run for run in row.runs if run["validation_loss"] is not None]
    lost = len(row.runs) - len(good)
    if not good:
        start += ["every trial diverged"] if row.lr is None else [f"{row.lr:.3g}", "diverged on every seed"]
        return start + [""] * (len(_COLUMNS) - len(start))
    return [
        *start,
        f"{row.lr:.3g}{'†' if row.at_edge else ''}",
        str(round(fmean(run["gradients"] for run in good))),
        _spread([run["training_loss"] for run in good], ".4f"),
        _spread([run["validation_loss"] for run in good], ".4f") + (f" ({lost} diverged)" if lost else ""),
        _spread([relative_gap(run, study) for run in good], ".3f"),
        _spread([run["raw_psnr"] for run in good], ".2f"),
        _spread([run["seconds"] for run in good], ".2f"),
    ]


def _rank(row: Row) -> float:
    good = [run["validation_loss"] for run in row.runs if run["validation_loss"] is not None]
    return fmean(good) if good else float("inf")


def _spread(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{fmean(known):{form}}" + (f" ± {stdev(known):{form}}" if len(known) > 1 else "")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or value != value else f"{value:{form}}"


def _pair(study: Study, first: str, second: str, group: int) -> tuple[Row, Row] | None:
    rows = {row.candidate.name: row for row in study.rows if row.candidate.group == group}
    both = [rows[name] for name in (first, second) if name in rows]
    if len(both) < 2 or any(run["validation_loss"] is None for row in both for run in row.runs):
        return None
    return (both[0], both[1]) if both[0].runs and both[1].runs else None


def _verdict(first: Row, second: Row, key: str) -> str:
    return _sentence(first, second, lambda run: float(run[key]), "validation loss", ".4f")


def _gap_answer(study: Study, adam: Row, sgd: Row) -> str:
    def gap(run: dict[str, Any]) -> float:
        return relative_gap(run, study)

    own = [gap(run) for run in adam.runs]
    visible = "Yes" if min(own) > 0 else "No" if max(own) <= 0 else "Not on every seed"
    text = f"{visible}: {_spread(own, '.3f')} (SGD: {_spread([gap(run) for run in sgd.runs], '.3f')})."
    loss = [fmean(run["validation_loss"] for run in row.runs) for row in (adam, sgd)]
    if loss[0] < loss[1] and fmean(own) > fmean(gap(run) for run in sgd.runs):
        text += " It is wider than SGD's because Adam's training loss is lower; Adam's validation loss is lower too."
    return text


def _sentence(first: Row, second: Row, value: Callable[[dict[str, Any]], float], what: str, form: str) -> str:
    """Compare two rows seed by seed: they share first weights and order of examples."""
    difference = [value(a) - value(b) for a, b in zip(first.runs, second.runs, strict=True)]
    answer = "Yes" if max(difference) < 0 else "No" if min(difference) > 0 else "Not decided"
    means = [fmean(value(run) for run in row.runs) for row in (first, second)]
    listed = ", ".join(f"{d:+{form}}" for d in difference)
    return f"{answer}: {what} {means[0]:{form}} against {means[1]:{form}}; difference on each seed {listed}."
