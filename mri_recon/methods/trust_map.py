"""Map how far each pixel of an image can be trusted, from runs on parts of the samples and from other methods.

    t(r)^2 = sum_j a_j f_j(r)^2,    a_j >= 0

t is a magnitude in the units of the image. On scans like those it was fitted on, the error of the magnitude is at most
t in 90 % of the object's pixels. The features f_j need no reference image (R: positions over sampled ones):

    folds      jackknife: sqrt(R (g - 1) / F sum_f (|x_f| - |x|)^2), x_f the images without one of g = 5 groups of
               lines, F of which are made
    methods    sqrt(R) times the root mean square of |x_mf| - |x_f| over the folds and over other methods m
    level      sqrt(R) |x|
    noise      sigma, the noise of one sample
    reference  sigma sqrt(1 - 1/R) for one coil, else 0: the reference of one coil has the noise of its samples

Squares are averaged with a Gaussian over neighbouring pixels, because a spread of three images alone is itself noise.
The weights a_j are fitted by quantile regression (Koenker and Bassett, Econometrica 1978) on validation subjects, by
`benchmarks/trust/fit.py`. The map is large where the samples leave much open. It does not know errors that every part
of the samples and every method share.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.resources import files

import torch
from torch import Tensor
from torch.nn import functional

from mri_recon.errors import ShapeError
from mri_recon.masks.folds import SHARE

__all__ = ["FEATURES", "KINDS", "METHODS", "TrustModel", "trust_features", "trust_map", "trust_model"]

FEATURES = ("folds", "methods", "level", "noise", "reference")
"""Names of the features, in order."""

KINDS = ("auto", "one")
"""What the weights are fitted for: a mixture beside its candidates, or one method by itself."""

METHODS = ("cs-wavelet", "unet", "unrolled")
"""Methods that have a map by themselves. The runs of a method without a prior agree on the aliasing, and show
nothing.
"""

_GROUPS = round(1 / SHARE)
"""Groups of lines, of which each fold leaves one out."""

_BLUR = 1.5
"""Standard deviation of the Gaussian, in pixels."""

_RESOURCE = "trust_map.json"


@dataclass(frozen=True)
class TrustModel:
    """Hold the fitted weights, and what they were fitted on.

    Attributes:
        weights: a of each of the `FEATURES`, for each of the `KINDS`.
        coverage: share of the object's pixels in which the error is at most the map.
        subjects: names of the subjects.
        command: the command that fitted it.
    """

    weights: dict[str, dict[str, float]]
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
        for kind in KINDS:
            named = found["weights"].get(kind, {})
            if set(named) != set(FEATURES):
                raise ValueError(
                    f"expected weights of {', '.join(FEATURES)} for {kind!r}, got {', '.join(named)}: fit again"
                )
        return cls(found["weights"], found["coverage"], tuple(found["subjects"]), found["command"])


def trust_model() -> TrustModel:
    """Read the model of this version of the package."""
    return TrustModel.from_json((files("mri_recon.methods") / _RESOURCE).read_text())


def trust_features(
    image: Tensor,
    fold_images: Tensor,
    other_images: Tensor | None,
    *,
    sigma: Tensor,
    acceleration: float,
    num_coils: int,
) -> Tensor:
    """Compute the features of every pixel.

    Args:
        image: x, real or complex `(slice, h, w)`.
        fold_images: x_f, the images of the same method from the samples of each fold, `(fold, slice, h, w)`.
        other_images: x_mf, the images of other methods from the same samples, `(method, fold, slice, h, w)`; None: the
            feature is 0.
        sigma: noise sqrt(E|n|^2) of one sample of each slice, `(slice,)`.
        acceleration: R, positions over sampled ones.
        num_coils: number of coils.

    Returns:
        real `(feature, slice, h, w)`, not negative, in the units of the image.

    Raises:
        ShapeError: images of another shape, or no image of a fold.
    """
    magnitude, of_folds = image.abs(), fold_images.abs()
    if of_folds.shape[1:] != image.shape or len(of_folds) == 0:
        raise ShapeError(
            f"expected images of folds (fold, {', '.join(map(str, image.shape))}), got {tuple(of_folds.shape)}: run "
            "the hold-out check on the same scan"
        )
    if other_images is not None and other_images.shape[1:] != fold_images.shape:
        raise ShapeError(
            f"expected images of other methods (method, {', '.join(map(str, fold_images.shape))}), got "
            f"{tuple(other_images.shape)}: run them on the same folds"
        )
    folds = (of_folds - magnitude).square().sum(dim=0) * ((_GROUPS - 1) / len(of_folds))
    methods = torch.zeros_like(magnitude)
    if other_images is not None:
        methods = (other_images.abs() - of_folds).square().mean(dim=(0, 1))
    smooth = torch.stack([_blurred(square) for square in (folds, methods, magnitude.square())])
    noise = sigma.to(magnitude).square()[:, None, None].expand_as(magnitude)
    reference = noise * (1 - 1 / acceleration if num_coils == 1 else 0.0)
    return torch.cat([acceleration * smooth, noise[None], reference[None]]).clamp_min(0).sqrt()


def trust_map(features: Tensor, model: TrustModel, kind: str) -> Tensor:
    """Combine the features, t = sqrt(sum_j a_j f_j^2), real `(slice, h, w)`.

    Args:
        features: result of `trust_features`.
        model: the weights.
        kind: one of `KINDS`.
    """
    chosen = [model.weights[kind][name] for name in FEATURES]
    weights = torch.tensor(chosen, dtype=features.dtype, device=features.device)
    return (weights[:, None, None, None] * features.square()).sum(dim=0).sqrt()


def _blurred(square: Tensor) -> Tensor:
    """Average with a Gaussian; beyond the edge, pixels count as the last ones."""
    reach = int(3 * _BLUR + 0.5)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=square.dtype, device=square.device) / _BLUR) ** 2)
    taps = taps / taps.sum()
    image = functional.pad(square[:, None], (reach, reach, reach, reach), mode="replicate")
    image = functional.conv2d(image, taps[None, None, :, None])
    return functional.conv2d(image, taps[None, None, None, :])[:, 0]
