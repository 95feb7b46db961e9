"""The map of trust: its features against direct formulas, its symmetry, units and errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mri_recon.errors import ShapeError
from mri_recon.methods.trust_map import FEATURES, TrustModel, trust_features, trust_map

SHAPES = [(1, 9, 14), (3, 17, 8), (2, 1, 21)]


def _image(shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.complex64, generator=generator)


def _features(shape: tuple[int, ...], *, scale: float = 1.0) -> Tensor:
    image, others = _image(shape, 0), [_image(shape, seed) for seed in (4, 5)]
    folds = [image + 0.1 * _image(shape, seed) for seed in (1, 2, 3)]
    sigma = torch.full((shape[0],), 0.2)
    return trust_features(
        scale * image, [scale * one for one in folds], [scale * one for one in others], scale * sigma, 4.0
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_features_have_the_units_of_the_image(shape: tuple[int, ...]) -> None:
    found = _features(shape)
    assert found.shape == (len(FEATURES), *shape)
    assert bool((found >= 0).all())
    torch.testing.assert_close(_features(shape, scale=1e4), 1e4 * found, rtol=1e-4, atol=1e-2)


def test_features_of_even_images_are_their_formulas() -> None:
    # A Gaussian average leaves constants as they are.
    image = torch.full((1, 12, 7), 2.0)
    folds = [torch.full_like(image, value) for value in (2.3, 1.9, 2.0)]
    others = [torch.full_like(image, value) for value in (2.5, 1.0)]
    found = trust_features(image, folds, others, torch.tensor([0.5]), 9.0)[:, 0, 5, 3].tolist()
    expected = [math.sqrt(4 / 3 * (0.09 + 0.01)), math.sqrt((0.25 + 1.0) / 2), 1.5, 0.0, 2.0]
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_gradient_of_a_ramp_is_its_slope() -> None:
    ramp = (3.0 * torch.arange(40))[None, None, :] + torch.zeros(1, 40, 1)
    edges = trust_features(ramp, [ramp], [], torch.zeros(1), 1.0)[FEATURES.index("edges"), 0]
    torch.testing.assert_close(edges[8:-8, 8:-8], torch.full((24, 24), 3.0))


def test_a_spread_stays_near_the_pixel_it_comes_from() -> None:
    image = torch.zeros(1, 31, 31)
    fold = image.clone()
    fold[0, 15, 15] = 1.0
    folds = trust_features(image, [fold], [], torch.zeros(1), 1.0)[0, 0]
    assert float(folds[15, 15]) == float(folds.max())
    assert float(folds[15, 15]) > 0
    assert float(folds[:, :8].max()) == 0
    torch.testing.assert_close(folds, folds.T)
    # The average keeps the energy: (g - 1) / F = 4 times that of the one fold.
    assert float(folds.square().sum()) == pytest.approx(4.0, rel=1e-5)


def test_one_other_method_less_is_no_feature() -> None:
    image = _image((1, 5, 6), 0)
    assert float(trust_features(image, [image], [], torch.zeros(1), 4.0)[1].max()) == 0


def test_the_map_adds_squares() -> None:
    features = _features((2, 6, 5))
    weights = dict(zip(FEATURES, (0.5, 0.0, 2.0, 0.25, 1.0), strict=True))
    model = TrustModel(weights, 0.9, ("a",), "fit")
    expected = (0.5 * features[0] ** 2 + 2 * features[2] ** 2 + 0.25 * features[3] ** 2 + features[4] ** 2).sqrt()
    torch.testing.assert_close(trust_map(features, model), expected)


def test_the_model_comes_back_from_json() -> None:
    model = TrustModel(dict.fromkeys(FEATURES, 0.25), 0.9, ("a", "b"), "command")
    assert TrustModel.from_json(model.to_json()) == model
    with pytest.raises(ValueError, match=r"expected weights of folds, methods, .*, got folds: fit again"):
        TrustModel.from_json('{"weights": {"folds": 1}, "coverage": 0.9, "subjects": [], "command": ""}')


def test_errors_say_what_is_missing() -> None:
    image = torch.zeros(1, 5, 6)
    with pytest.raises(ShapeError, match="at least one fold, got none: run the hold-out check"):
        trust_features(image, [], [], torch.zeros(1), 4.0)
    with pytest.raises(ShapeError, match=r"images of the shape \(1, 5, 6\), got \(1, 5, 7\)"):
        trust_features(image, [torch.zeros(1, 5, 7)], [], torch.zeros(1), 4.0)
