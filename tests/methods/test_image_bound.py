"""The bound of a whole image: its formula, its level, its units."""

from __future__ import annotations

import pytest

from mri_recon.methods.image_bound import BoundModel, image_bound, predicted_nmse

SCAN = {"error": 3.0, "floor": 1.0, "held": 4, "unsampled": 20, "pixels": 100, "sigma_square": 0.1, "energy": 50.0}


def test_the_held_out_error_is_carried_over_to_what_was_not_sampled() -> None:
    assert predicted_nmse(**SCAN) == pytest.approx((2.0 * 20 / 4 + 100 * 0.1) / 50)  # type: ignore[arg-type]


def test_noise_alone_predicts_noise_alone() -> None:
    noisy = {**SCAN, "error": 0.5}
    assert predicted_nmse(**noisy) == pytest.approx(100 * 0.1 / 50)  # type: ignore[arg-type]


def test_the_prediction_has_no_units() -> None:
    square = 1e12
    scaled = {**SCAN, **{key: SCAN[key] * square for key in ("error", "floor", "sigma_square", "energy")}}
    assert predicted_nmse(**scaled) == pytest.approx(predicted_nmse(**SCAN))  # type: ignore[arg-type]


def test_the_level_is_what_the_subjects_allow() -> None:
    model = BoundModel(offset=0.3, subjects=("a", "b", "c"), command="fit")
    found = image_bound(0.01, model)
    assert found["level"] == 0.75
    assert found["subjects"] == 3
    assert found["nmse_bound"] == pytest.approx(0.01 * 10**0.3)
    assert BoundModel.from_json(model.to_json()) == model
    nine = BoundModel(0.3, tuple("abcdefghi"), "fit")
    assert nine.level == 0.9
