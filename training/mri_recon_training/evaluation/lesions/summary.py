"""Summarise scores: detectability, lesions lost, lesions invented; intervals by bootstrap over places."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon._system.jsonable import jsonable
from mri_recon_training.evaluation.averages import CLASSICAL
from mri_recon_training.evaluation.lesions.observer import auroc, wins
from mri_recon_training.evaluation.lesions.run import LesionRun

__all__ = ["KEPT", "REFERENCE", "Against", "Cell", "Scores", "against_reference", "cells", "document", "invented"]

KEPT = 0.5
"""A lesion with less than this share of its contrast counts as lost; see `observer.invented_excess` too."""

REFERENCE = "cs-wavelet"
"""Learned methods are compared with it."""

_DRAWS = 1000
_LEVEL = 95.0

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Hold the measured contrasts of one acceleration and method.

    Attributes:
        absent: `(place, seed)`, places of all subjects one after another.
        present: `(contrast, place, seed)`.
        widths: `(place,)`, of the lesions.
    """

    absent: Array
    present: Array
    widths: Array

    def of(self, number: int, width: float, sign: float) -> tuple[Array, Array]:
        """Select the scores with and without lesions of one contrast and width, `(place, seed)`, a lesion positive."""
        chosen = self.widths == width
        return sign * self.present[number][chosen], sign * self.absent[chosen]


@dataclass(frozen=True)
class Cell:
    """Hold the figures of one acceleration, method, contrast and width.

    Attributes:
        image: AUROC of the matched filter on the image: value, and the ends of its interval.
        difference: the same on the difference to the image without lesions of the next seed.
        lost: share of the lesions of which less than `KEPT` of the contrast reaches the image.
        recovered: median share of the contrast that reaches the image.
    """

    acceleration: float
    method: str
    contrast: float
    width: float
    image: tuple[float, float, float]
    difference: tuple[float, float, float]
    lost: tuple[float, float, float]
    recovered: float


@dataclass(frozen=True)
class Against:
    """Compare a learned method with compressed sensing on the same lesions.

    Attributes:
        lost: lesions that the reference keeps and the method loses.
        kept: lesions that the reference loses and the method keeps.
        total: lesions.
        difference: AUROC on differences of the method minus that of the reference, and its interval, by contrast and
            width.
    """

    acceleration: float
    method: str
    lost: int
    kept: int
    total: int
    difference: dict[tuple[float, float], tuple[float, float, float]]


def scores_of(run: LesionRun, acceleration: float, method: str) -> Scores:
    """Collect the scores of one acceleration and method."""
    config = run.config
    absent, present, widths = [], [], []
    for subject in run.subjects:
        rows = [
            row
            for seed in config.seeds
            for row in run.rows
            if (row["file"], row["acceleration"], row["seed"], row["method"])
            == (subject.name, acceleration, seed, method)
        ]
        absent.append(np.array([row["absent"] for row in rows]).T)
        present.append(np.array([row["present"] for row in rows]).transpose(1, 2, 0))
        widths += [config.widths[number % len(config.widths)] for number in range(config.num_places)]
    return Scores(np.concatenate(absent), np.concatenate(present, axis=1), np.array(widths))


def difference_wins(present: Array, absent: Array) -> Array:
    """Compute `wins` of the differences to the image without lesions of the next seed, `(place, seed)` both."""
    before = np.roll(absent, -1, axis=1)
    return wins(present - before, absent - before)


def recovered(present: Array, absent: Array, contrast: float) -> Array:
    """Compute the share of the contrast that reaches the image, `(place, seed)`; the pair has equal noise and mask."""
    found: Array = (present - absent) / abs(contrast)
    return found


def cells(run: LesionRun, methods: Sequence[str]) -> list[Cell]:
    """Make the figures of every acceleration, method, contrast and width."""
    config, found = run.config, []
    for acceleration, method in itertools.product(config.accelerations, methods):
        scores = scores_of(run, acceleration, method)
        for (number, contrast), width in itertools.product(enumerate(config.contrasts), config.widths):
            pair = scores.of(number, width, float(np.sign(contrast)))
            share = recovered(*pair, contrast)
            found.append(
                Cell(
                    acceleration,
                    method,
                    contrast,
                    width,
                    _auroc(wins(*pair)),
                    _auroc(difference_wins(*pair)),
                    _mean((share < KEPT).mean(axis=1)),
                    float(np.median(share)),
                )
            )
    return found


def against_reference(run: LesionRun, methods: Sequence[str]) -> list[Against]:
    """Compare every learned method with `REFERENCE`; none where that was not run."""
    config = run.config
    if REFERENCE not in methods:
        return []
    learned = [name for name in config.methods if name not in CLASSICAL]
    found = []
    for acceleration, method in itertools.product(config.accelerations, learned):
        ours, theirs = (scores_of(run, acceleration, name) for name in (method, REFERENCE))
        lost = kept = total = 0
        differences = {}
        for (number, contrast), width in itertools.product(enumerate(config.contrasts), config.widths):
            mine, other = (one.of(number, width, float(np.sign(contrast))) for one in (ours, theirs))
            have, reference = (recovered(*pair, contrast) >= KEPT for pair in (mine, other))
            lost, kept = lost + int((reference & ~have).sum()), kept + int((have & ~reference).sum())
            total += have.size
            differences[contrast, width] = _auroc(difference_wins(*mine) - difference_wins(*other))
        found.append(Against(acceleration, method, lost, kept, total, differences))
    return found


def invented(run: LesionRun, acceleration: float, method: str, contrast: float, width: float) -> float:
    """Count invented lesions, the mean over images and seeds."""
    config = run.config
    at = (config.widths.index(width), config.contrasts.index(contrast))
    rows = [row for row in run.rows if (row["acceleration"], row["method"]) == (acceleration, method)]
    return float(np.mean([row["invented"][at[0]][at[1]] for row in rows]))


def document(run: LesionRun, methods: Sequence[str]) -> Mapping[str, Any]:
    """Give the content of the JSON file: definitions, summary and every row."""
    config = run.config
    summary = [
        {**asdict(cell), "invented": invented(run, cell.acceleration, cell.method, cell.contrast, cell.width)}
        for cell in cells(run, methods)
    ]
    versus = [
        {**asdict(one), "difference": [[*key, *value] for key, value in one.difference.items()]}
        for one in against_reference(run, methods)
    ]
    return dict(
        jsonable(
            {
                "test": "lesions",
                "simulated": True,
                "split": config.split,
                "array": asdict(config.array),
                "contrasts": config.contrasts,
                "widths": config.widths,
                "subjects": {
                    one.name: {"person": one.person, "places": [asdict(place) for place in one.places]}
                    for one in run.subjects
                },
                "summary": summary,
                "against": versus,
                "results": run.rows,
            }
        )
    )


def _auroc(won: Array) -> tuple[float, float, float]:
    """Compute the AUROC, or a difference of two, and the ends of its interval over places; seeds stay with them."""
    return auroc(won), *_ends([auroc(won, counts) for counts in _resampled(won.shape[0]) if (counts > 0).sum() > 1])


def _mean(values: Array) -> tuple[float, float, float]:
    """Compute the mean over places and the ends of its interval."""
    return float(values.mean()), *_ends([float(counts @ values) / values.size for counts in _resampled(values.size)])


def _ends(draws: Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(draws, [(100 - _LEVEL) / 2, (100 + _LEVEL) / 2])
    return float(low), float(high)


def _resampled(count: int) -> Iterator[npt.NDArray[np.int_]]:
    """Yield how often each place is drawn, with replacement."""
    rng = np.random.default_rng(0)
    for _ in range(_DRAWS):
        yield rng.multinomial(count, np.full(count, 1 / count))
