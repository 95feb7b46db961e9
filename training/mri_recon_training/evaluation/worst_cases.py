"""Find and draw the worst cases of an evaluation, which a mean hides.

For every method that is not classical two cases are drawn: the scan, mask and slice where it loses most to the best
classical method in PSNR (or gains least, where it loses nowhere), and those where its error is largest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mri_recon.io.pictures import NO_PICTURES
from mri_recon.results.comparison import Comparison, compare
from mri_recon.results.figure import comparison_figure
from mri_recon_training.evaluation.averages import CLASSICAL, best_classical
from mri_recon_training.evaluation.compare_scans import Masks
from mri_recon_training.evaluation.results import Evaluation
from mri_recon_training.evaluation.sources import Source
from mri_recon_training.markdown import Picture

__all__ = ["Case", "draw_cases", "worst_cases"]


@dataclass(frozen=True)
class Case:
    """One comparison to draw.

    Attributes:
        name: of the picture's file.
        why: beginning of a sentence that states in what respect the case is the worst.
        file: the scan.
        acceleration: requested.
        seed: of the mask.
        method: whose failure it is.
        against: the best classical method there.
        gain: PSNR of `method` minus that of `against`, dB; None where one is infinite.
    """

    name: str
    why: str
    file: str
    acceleration: float
    seed: int
    method: str
    against: str
    gain: float | None


def worst_cases(
    evaluation: Evaluation, methods: Sequence[str], *, files: Sequence[str], accelerations: Sequence[float]
) -> list[Case]:
    """Find the two worst cases of each learned method among the scans `files`; none without a classical method.

    The least gain is sought at every acceleration, the largest error (NMSE) at `accelerations`: it would always be
    found at the highest.
    """
    rows = [row for row in evaluation.rows if row["file"] in files]
    cases = []
    for method in methods:
        if method in CLASSICAL:
            continue
        candidates = [case for row in rows if row["method"] == method and (case := _case(rows, row)) is not None]
        compared = [case for case in candidates if case.gain is not None]
        if compared:
            least = min(compared, key=lambda case: case.gain or 0.0)
            loses = (least.gain or 0.0) < 0
            why = f"`{method}` {'loses most to' if loses else 'gains least on'} the best classical method"
            cases.append(replace(least, name=f"results-{method}-against-classical", why=why))
        candidates = [case for case in candidates if case.acceleration in accelerations]
        if candidates:
            errors = {(r["file"], r["acceleration"], r["seed"]): r["nmse"] for r in rows if r["method"] == method}
            largest = max(candidates, key=lambda case: errors[case.file, case.acceleration, case.seed])
            why = f"the error of `{method}` is largest"
            cases.append(replace(largest, name=f"results-{method}-largest-error", why=why))
    return cases


def draw_cases(
    cases: Sequence[Case],
    sources: Sequence[Source],
    folder: Path,
    *,
    masks: Masks,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    device: str | torch.device | None = None,
) -> list[Picture]:
    """Reconstruct each case again, draw its worst slice into `folder`, and describe it in a caption.

    The picture has the reference, the zero-filled image, the best classical method and the method, and their errors at
    one scale. A scan of which no picture may be drawn is left out.

    Raises:
        MethodError: Matplotlib is not installed.
        FormatError: the folder cannot be written to.
    """
    by_name = {source.name: source for source in sources}
    pictures = []
    for case in cases:
        source = by_name[case.file]
        scan = source.load()
        if scan.meta.get(NO_PICTURES):
            continue
        mask = masks.choose(scan, case.acceleration, case.seed)
        names = list(dict.fromkeys(("zero-filled", case.against, case.method)))
        chosen = {name: value for name, value in (options or {}).items() if name in names}
        comparison = compare(scan, mask, names, device=device, options=chosen, file=source.label or source.name)
        index = _worst_slice(comparison, case)
        path = folder / f"{case.name}.png"
        comparison_figure(comparison, path, slice_index=index)
        pictures.append(_picture(case, source, path, index))
    return pictures


def _case(rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> Case | None:
    same = [one for one in rows if (one["file"], one["acceleration"]) == (row["file"], row["acceleration"])]
    against = best_classical(same, "psnr")
    if against is None:
        return None
    other = next((one["psnr"] for one in same if one["method"] == against and one["seed"] == row["seed"]), None)
    gain = None if other is None or row["psnr"] is None else row["psnr"] - other
    return Case("", "", row["file"], row["acceleration"], row["seed"], row["method"], against, gain)


def _worst_slice(comparison: Comparison, case: Case) -> int:
    """Find the slice with the largest squared error, minus the classical method's where the two are compared."""
    target = comparison.target
    assert target is not None

    def squared_error(method: str) -> torch.Tensor:
        error = comparison.magnitude(method) - target
        return error.double().square().sum(dim=(-2, -1))

    error = squared_error(case.method)
    if case.name.endswith("against-classical"):
        error = error - squared_error(case.against)
    return int(error.argmax())


def _picture(case: Case, source: Source, path: Path, index: int) -> Picture:
    label = source.label or source.name
    where = f"{label}, R = {case.acceleration:g}, mask seed {case.seed}, slice {index}"
    gain = "" if case.gain is None else f" ({case.gain:+.2f} dB to `{case.against}` over the whole scan)"
    caption = f"Where {case.why}: {where}{gain}. Data: {source.attribution}"
    alt = f"Reference, reconstructions and errors: {where}"
    return Picture(path=f"{path.parent.name}/{path.name}", alt=alt, caption=caption)
