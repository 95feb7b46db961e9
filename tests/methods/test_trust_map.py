"""The map of trust: its features against direct formulas, its symmetry, units and errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mri_recon.errors import ShapeError
from mri_recon.methods.trust_map import FEATURES, KINDS, TrustModel, trust_features, trust_map

SHAPES = [(1, 9, 14), (3, 17, 8), (2, 1, 21)]


def _image(shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.complex64, generator=generator)


def _features(shape: tuple[int, ...], *, scale: float = 1.0) -> Tensor:
    image = _image(shape, 0)
    folds = torch.stack([image + 0.1 * _image(shape, seed) for seed in (1, 2, 3)])
    others = _image((2, *folds.shape), 4)
    sigma = torch.full((shape[0],), 0.2)
    return trust_features(
        scale * image, scale * folds, scale * others, sigma=scale * sigma, acceleration=4.0, num_coils=1
    )


def _plain(image: Tensor, folds: Tensor, others: Tensor | None = None) -> Tensor:
    return trust_features(image, folds, others, sigma=torch.zeros(1), acceleration=1.0, num_coils=2)


@pytest.mark.parametrize("shape", SHAPES)
def test_features_have_the_units_of_the_image(shape: tuple[int, ...]) -> None:
    found = _features(shape)
    assert found.shape == (len(FEATURES), *shape)
    assert bool((found >= 0).all())
    torch.testing.assert_close(_features(shape, scale=1e4), 1e4 * found, rtol=1e-4, atol=1e-2)


def test_features_of_even_images_are_their_formulas() -> None:
    # A Gaussian average leaves constants as they are.
    image = torch.full((1, 12, 7), 2.0)
    folds = torch.stack([torch.full_like(image, value) for value in (2.3, 1.9, 2.0)])
    others = torch.stack([folds + 0.5, folds - 1.0])
    for num_coils, reference in ((1, 0.5 * math.sqrt(8 / 9)), (3, 0.0)):
        found = trust_features(image, folds, others, sigma=torch.tensor([0.5]), acceleration=9.0, num_coils=num_coils)
        expected = [3 * math.sqrt(4 / 3 * (0.09 + 0.01)), 3 * math.sqrt((0.25 + 1.0) / 2), 6.0, 0.5, reference]
        assert found[:, 0, 5, 3].tolist() == pytest.approx(expected, abs=1e-4)


def test_a_spread_stays_near_the_pixel_it_comes_from() -> None:
    image = torch.zeros(1, 31, 31)
    fold = image.clone()
    fold[0, 15, 15] = 1.0
    folds = _plain(image, fold[None])[0, 0]
    assert float(folds[15, 15]) == float(folds.max())
    assert float(folds[15, 15]) > 0
    assert float(folds[:, :8].max()) == 0
    torch.testing.assert_close(folds, folds.T)
    # The average keeps the energy: (g - 1) / F = 4 times that of the one fold.
    assert float(folds.square().sum()) == pytest.approx(4.0, rel=1e-5)


def test_without_other_methods_their_feature_is_zero() -> None:
    image = _image((1, 5, 6), 0)
    assert float(_plain(image, image[None])[1].max()) == 0


def test_the_map_adds_squares() -> None:
    features = _features((2, 6, 5))
    weights = dict(zip(FEATURES, (0.5, 0.0, 2.0, 0.25, 1.0), strict=True))
    model = TrustModel({"auto": weights, "one": dict.fromkeys(FEATURES, 7.0)}, 0.9, ("a",), "fit")
    squares = features.square()
    expected = (0.5 * squares[0] + 2 * squares[2] + 0.25 * squares[3] + squares[4]).sqrt()
    torch.testing.assert_close(trust_map(features, model, "auto"), expected)


def test_the_model_comes_back_from_json() -> None:
    model = TrustModel({kind: dict.fromkeys(FEATURES, 0.25) for kind in KINDS}, 0.9, ("a", "b"), "command")
    assert TrustModel.from_json(model.to_json()) == model
    with pytest.raises(ValueError, match=r"expected weights of folds, methods, .* for 'auto', got folds: fit again"):
        TrustModel.from_json('{"weights": {"auto": {"folds": 1}}, "coverage": 0.9, "subjects": [], "command": ""}')


def test_errors_say_what_is_missing() -> None:
    image = torch.zeros(1, 5, 6)
    with pytest.raises(ShapeError, match=r"images of folds \(fold, 1, 5, 6\), got \(0, 1, 5, 6\): run the hold-out"):
        _plain(image, torch.zeros(0, 1, 5, 6))
    with pytest.raises(ShapeError, match=r"other methods \(method, 3, 1, 5, 6\), got \(2, 1, 5, 6\)"):
        _plain(image, torch.zeros(3, 1, 5, 6), torch.zeros(2, 1, 5, 6))
