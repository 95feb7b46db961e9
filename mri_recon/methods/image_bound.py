"""Bound the error of a whole image by its map of trust: split conformal prediction over subjects.

    NMSE <= 10^q P,   P = sum t^2 / sum |x|^2

t is the map of trust (`trust_map`), which rests on the samples held out, on other methods and on the noise, and x is
the image. q is the largest log10(NMSE / P) on n subjects that no network has learned from. If a new subject is
exchangeable with these, the bound holds with a probability of at least n / (n + 1), for one scan chosen at random of
each subject (Lei et al., JASA 2018; Lee, Barber and Willett 2023 for several scans of a subject). Another scanner or
another anatomy is not exchangeable with them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

from torch import Tensor

__all__ = ["BoundModel", "bound_model", "image_bound", "predicted_nmse"]

_RESOURCE = "image_bound.json"


@dataclass(frozen=True)
class BoundModel:
    """Hold the calibration of the bound.

    Attributes:
        offsets: q of a mixture, "auto", and of one method by itself, "one".
        subjects: names of the n subjects.
        command: the command that computed it.
    """

    offsets: dict[str, float]
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
        return cls(found["offsets"], tuple(found["subjects"]), found["command"])


def bound_model() -> BoundModel:
    """Read the calibration of this version of the package."""
    return BoundModel.from_json((files("mri_recon.methods") / _RESOURCE).read_text())


def predicted_nmse(image: Tensor, trust: Tensor) -> float:
    """Predict the NMSE of an image, P; 0 for an empty image.

    Args:
        image: x, real or complex `(slice, h, w)`.
        trust: t, like its magnitude.
    """
    energy = float(image.abs().double().square().sum())
    return float(trust.double().square().sum()) / energy if energy else 0.0


def image_bound(image: Tensor, trust: Tensor, model: BoundModel, kind: str) -> dict[str, Any]:
    """Report the bound for `info`, ready for JSON.

    Args:
        image: real or complex `(slice, h, w)`.
        trust: its map of trust.
        model: the calibration.
        kind: "auto" or "one".

    Returns:
        `nmse_bound`; `level`, the probability with which it holds on a subject like those of the calibration;
        `subjects`, their number.
    """
    bound = predicted_nmse(image, trust) * 10 ** model.offsets[kind]
    return {"nmse_bound": bound, "level": model.level, "subjects": len(model.subjects)}
