"""Bound the error of a whole image from the samples held out: split conformal prediction over subjects.

The error on held-out lines, carried over to all lines that were not sampled, predicts the error of the image:

    P = (max(E - F, 0) U / H + S sigma^2) / ||x||^2

E is the squared error of the prediction on H held-out units (lines, or samples of a pattern), F the part of it that is
noise, U the number of units that were not sampled, S the number of pixels, sigma^2 the noise of one sample and x the
image. The NMSE of an image is then at most 10^q P, where q is the largest log10(NMSE / P) on n subjects that no network
has learned from. If a new subject is exchangeable with these, the bound holds with a probability of at least
n / (n + 1), for one scan chosen at random of each subject (Lei et al., JASA 2018; Lee, Barber and Willett 2023 for
several scans of a subject). Another scanner or another anatomy is not exchangeable with them.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

__all__ = ["BoundModel", "bound_model", "image_bound", "predicted_nmse"]

_RESOURCE = "image_bound.json"


@dataclass(frozen=True)
class BoundModel:
    """Hold the calibration of the bound.

    Attributes:
        offset: q.
        subjects: names of the n subjects.
        command: the command that computed it.
    """

    offset: float
    subjects: tuple[str, ...]
    command: str

    @property
    def level(self) -> float:
        """Probability that n subjects allow, n / (n + 1)."""
        return len(self.subjects) / (len(self.subjects) + 1)

    def to_json(self) -> str:
        """Write it as JSON."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> BoundModel:
        """Read `to_json`."""
        found = json.loads(text)
        return cls(found["offset"], tuple(found["subjects"]), found["command"])


def bound_model() -> BoundModel:
    """Read the calibration of this version of the package."""
    return BoundModel.from_json((files("mri_recon.methods") / _RESOURCE).read_text())


def predicted_nmse(
    *, error: float, floor: float, held: int, unsampled: int, pixels: int, sigma_square: float, energy: float
) -> float:
    """Predict the NMSE of an image, P.

    Args:
        error: E, summed over slices, coils and the samples of the held-out units.
        floor: F, the expected part of `error` that is noise.
        held: H, number of units held out, over all folds.
        unsampled: U, number of units of the matrix that were not sampled.
        pixels: S, over all slices.
        sigma_square: E|n|^2 of one sample of one coil, mean over the slices.
        energy: ||x||^2, over all slices.
    """
    missing = max(error - floor, 0.0) * unsampled / max(held, 1)
    return (missing + pixels * sigma_square) / max(energy, math.ulp(0.0))


def image_bound(predicted: float, model: BoundModel) -> dict[str, Any]:
    """Report the bound for `info`, ready for JSON.

    Args:
        predicted: result of `predicted_nmse`.
        model: the calibration.

    Returns:
        `predicted_nmse`; `nmse_bound`, at most 1 is informative; `level`, the probability with which it holds on a
        subject like those of the calibration; `subjects`, their number.
    """
    return {
        "predicted_nmse": predicted,
        "nmse_bound": predicted * 10**model.offset,
        "level": model.level,
        "subjects": len(model.subjects),
    }
