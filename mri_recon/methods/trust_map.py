"""Map how far each pixel of an image can be trusted, from runs on parts of the samples and from other methods.

    t(r)^2 = sum_j a_j f_j(r)^2,    a_j >= 0

t is a magnitude in the units of the image. On scans like those it was fitted on, the error of the magnitude is at most
t in 90 % of the object's pixels. The features f_j need no reference image:

    folds      jackknife: sqrt((g - 1) / F sum_f (|x_f| - |x|)^2), x_f the images without one of g = 5 groups of lines,
               F of which are made
    methods    root mean square of |x_m| - |x| over other methods
    noise      sigma sqrt(R), the noise of a pixel if R-fold undersampling cost nothing but averaging
    edges      magnitude of the gradient of |x|, per pixel
    level      |x|

Squares are averaged with a Gaussian over neighbouring pixels, because a spread of three images alone is itself noise.
The weights a_j are fitted by quantile regression (Koenker and Bassett, Econometrica 1978) on validation subjects, by
`benchmarks/trust/fit.py`. The map is large where the samples leave much open. It does not know errors that every part
of the samples and every method share.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files

import torch
from torch import Tensor
from torch.nn import functional

from mri_recon.errors import ShapeError
from mri_recon.masks.folds import SHARE

__all__ = ["FEATURES", "TrustModel", "trust_features", "trust_map", "trust_model"]

FEATURES = ("folds", "methods", "noise", "edges", "level")
"""Names of the features, in order."""

_GROUPS = round(1 / SHARE)
"""Groups of lines, of which each fold leaves one out."""

_BLUR = 1.5
"""Standard deviation of the Gaussian, in pixels."""

_RESOURCE = "trust_map.json"


@dataclass(frozen=True)
class TrustModel:
    """Hold the fitted weights, and what they were fitted on.

    Attributes:
        weights: a of each of the `FEATURES`.
        coverage: share of the object's pixels in which the error is at most the map.
        subjects: names of the subjects.
        command: the command that fitted it.
    """

    weights: dict[str, float]
    coverage: float
    subjects: tuple[str, ...]
    command: str

    def to_json(self) -> str:
        """Write it as JSON."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> TrustModel:
        """Read `to_json`.

        Raises:
            ValueError: other features than `FEATURES`.
        """
        found = json.loads(text)
        if set(found["weights"]) != set(FEATURES):
            raise ValueError(f"expected weights of {', '.join(FEATURES)}, got {', '.join(found['weights'])}: fit again")
        return cls(found["weights"], found["coverage"], tuple(found["subjects"]), found["command"])


def trust_model() -> TrustModel:
    """Read the model of this version of the package."""
    return TrustModel.from_json((files("mri_recon.methods") / _RESOURCE).read_text())


def trust_features(
    image: Tensor, fold_images: Sequence[Tensor], other_images: Sequence[Tensor], sigma: Tensor, acceleration: float
) -> Tensor:
    """Compute the features of every pixel.

    Args:
        image: real or complex `(slice, h, w)`.
        fold_images: images of the same method from the samples of each fold, like `image`.
        other_images: images of other methods from all samples, like `image`; none: the feature is 0.
        sigma: noise sqrt(E|n|^2) of one sample of each slice, `(slice,)`.
        acceleration: R, positions over sampled ones.

    Returns:
        real `(feature, slice, h, w)`, not negative, in the units of the image.

    Raises:
        ShapeError: images of another shape, or no image of a fold.
    """
    magnitude = image.abs()
    if not fold_images:
        raise ShapeError("expected the image of at least one fold, got none: run the hold-out check")
    for one in (*fold_images, *other_images):
        if one.shape != image.shape:
            raise ShapeError(f"expected images of the shape {tuple(image.shape)}, got {tuple(one.shape)}: crop alike")
    folds = _squares(magnitude, fold_images).sum(dim=0) * ((_GROUPS - 1) / len(fold_images))
    methods = _squares(magnitude, other_images).mean(dim=0) if other_images else torch.zeros_like(magnitude)
    noise = (sigma.to(magnitude).square() * acceleration)[:, None, None].expand_as(magnitude)
    smooth = [_blurred(square) for square in (folds, methods, _gradient_square(magnitude), magnitude.square())]
    return torch.stack([smooth[0], smooth[1], noise, smooth[2], smooth[3]]).clamp_min(0).sqrt()


def trust_map(features: Tensor, model: TrustModel) -> Tensor:
    """Combine the features, t = sqrt(sum_j a_j f_j^2), real `(slice, h, w)`.

    Args:
        features: result of `trust_features`.
        model: the weights.
    """
    weights = torch.tensor([model.weights[name] for name in FEATURES], dtype=features.dtype, device=features.device)
    return (weights[:, None, None, None] * features.square()).sum(dim=0).sqrt()


def _squares(magnitude: Tensor, images: Sequence[Tensor]) -> Tensor:
    return torch.stack([(one.abs() - magnitude).square() for one in images])


def _gradient_square(magnitude: Tensor) -> Tensor:
    """Compute the squared length of the gradient by differences over two pixels; the ends are repeated."""
    padded = functional.pad(magnitude[None], (1, 1, 1, 1), mode="replicate")[0]
    along = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1], padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2])
    return (along[0].square() + along[1].square()) / 4


def _blurred(square: Tensor) -> Tensor:
    """Average with a Gaussian; beyond the edge, pixels count as the last ones."""
    reach = int(3 * _BLUR + 0.5)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=square.dtype, device=square.device) / _BLUR) ** 2)
    taps = taps / taps.sum()
    image = functional.pad(square[:, None], (reach, reach, reach, reach), mode="replicate")
    image = functional.conv2d(image, taps[None, None, :, None])
    return functional.conv2d(image, taps[None, None, None, :])[:, 0]
