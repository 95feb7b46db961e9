"""Find and draw the worst cases of an evaluation, which a mean hides.

In every world one case is drawn: the scan, mask and slice where a learned method loses most to the best classical one
in PSNR (or gains least, where none loses), with every learned method beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from mri_recon_training.evaluation.weight_by_snr import RULES, options_by_snr
from mri_recon_training.markdown import Picture

__all__ = ["Case", "draw_cases", "worst_cases"]


@dataclass(frozen=True)
class Case:
    """One comparison to draw.

    Attributes:
        world: name of the world, "simulated" in it where its k-space is.
        file: the scan.
        acceleration: requested.
        seed: of the mask.
        method: whose failure it is.
        against: the best classical method there.
        gain: PSNR of `method` minus that of `against`, dB.
    """

    world: str
    file: str
    acceleration: float
    seed: int
    method: str
    against: str
    gain: float


def worst_cases(evaluations: Sequence[Evaluation], methods: Sequence[str], *, files: Sequence[str]) -> list[Case]:
    """Find the least gain of a learned method in each world, over the scans `files`, every acceleration and mask.

    A world without a learned and a classical method has none. Real and simulated scans of one world are apart.
    """
    least: dict[str, Case] = {}
    for evaluation in evaluations:
        rows = [row for row in evaluation.rows if row["file"] in files]
        for row in rows:
            if row["method"] in CLASSICAL or row["method"] not in methods:
                continue
            name = evaluation.worlds.get(row["file"], "")
            world = f"{name}, simulated" if evaluation.kind == "simulated" else name
            case = _case(world, rows, row)
            if case is not None and (world not in least or case.gain < least[world].gain):
                least[world] = case
    return list(least.values())


def draw_cases(
    cases: Sequence[Case],
    sources: Sequence[Source],
    folder: Path,
    *,
    methods: Sequence[str],
    masks: Masks,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    device: str | torch.device | None = None,
    prefix: str = "results",
) -> list[Picture]:
    """Reconstruct each case again, draw its worst slice into `folder`, and describe it in a caption.

    The picture has the reference, the zero-filled image, the best classical method and every learned one, and their
    errors at one scale. A scan of which no picture may be drawn is left out.

    Raises:
        MethodError: Matplotlib is not installed.
        FormatError: the folder cannot be written to.
    """
    by_name = {source.name: source for source in sources}
    learned = [name for name in methods if name not in CLASSICAL]
    pictures = []
    for case in cases:
        source = by_name[case.file]
        scan = source.load()
        if scan.meta.get(NO_PICTURES):
            continue
        mask = masks.choose(scan, case.acceleration, case.seed)
        against, weight = case.against, {}
        if against in RULES:
            weight = options_by_snr(scan, mask, case.acceleration)[against]
            against = RULES[against].method
        names = list(dict.fromkeys(("zero-filled", against, *learned)))
        chosen = {name: value for name, value in (options or {}).items() if name in names}
        if weight:
            chosen[against] = {**chosen.get(against, {}), **weight}
        comparison = compare(scan, mask, names, device=device, options=chosen, file=source.label or source.name)
        index = _worst_slice(comparison, case.method, against)
        path = folder / f"{prefix}-worst-{_file_name(case.world)}.png"
        comparison_figure(comparison, path, slice_index=index)
        pictures.append(_picture(case, source, path, index))
    return pictures


def _file_name(world: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", world.lower()).strip("-") or "world"


def _case(world: str, rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> Case | None:
    same = [one for one in rows if (one["file"], one["acceleration"]) == (row["file"], row["acceleration"])]
    against = best_classical(same, "psnr")
    if against is None:
        return None
    other = next((one["psnr"] for one in same if one["method"] == against and one["seed"] == row["seed"]), None)
    if other is None or row["psnr"] is None:
        return None
    return Case(world, row["file"], row["acceleration"], row["seed"], row["method"], against, row["psnr"] - other)


def _worst_slice(comparison: Comparison, method: str, against: str) -> int:
    """Find the slice where the method's squared error exceeds the classical one's most."""
    target = comparison.target
    assert target is not None

    def squared_error(name: str) -> torch.Tensor:
        error = comparison.magnitude(name) - target
        return error.double().square().sum(dim=(-2, -1))

    return int((squared_error(method) - squared_error(against)).argmax())


def _picture(case: Case, source: Source, path: Path, index: int) -> Picture:
    label = source.label or source.name
    where = f"{label}, R = {case.acceleration:g}, mask seed {case.seed}, slice {index + 1}"
    verb = "loses most to" if case.gain < 0 else "gains least on"
    caption = (
        f"{case.world or 'All scans'}: `{case.method}` {verb} the best classical method here: {where} "
        f"({case.gain:+.2f} dB to `{case.against}` over the whole scan). Data: {source.attribution}"
    )
    alt = f"Reference, reconstructions and errors: {where}"
    return Picture(path=f"{path.parent.name}/{path.name}", alt=alt, caption=caption[0].upper() + caption[1:])
