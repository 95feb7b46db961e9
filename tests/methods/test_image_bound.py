"""The bound of a whole image: its formula, its level, its units."""

from __future__ import annotations

import pytest
import torch

from mri_recon.methods.image_bound import BoundModel, image_bound, predicted_nmse

MODEL = BoundModel(offsets={"auto": 0.3, "one": 0.5}, subjects=("a", "b", "c"), command="fit")


def test_the_prediction_is_the_energy_of_the_map_over_that_of_the_image() -> None:
    image = torch.tensor([[[3.0 + 4.0j, 0.0]]])
    trust = torch.tensor([[[1.0, 2.0]]])
    assert predicted_nmse(image, trust) == pytest.approx(5 / 25)
    assert predicted_nmse(1e6 * image, 1e6 * trust) == pytest.approx(5 / 25)
    assert predicted_nmse(0 * image, trust) == 0


def test_the_level_is_what_the_subjects_allow() -> None:
    image, trust = torch.full((2, 5, 3), 10.0), torch.full((2, 5, 3), 1.0)
    found = image_bound(image, trust, MODEL, "auto")
    assert found == {"nmse_bound": pytest.approx(0.01 * 10**0.3), "level": 0.75, "subjects": 3}
    assert image_bound(image, trust, MODEL, "one")["nmse_bound"] == pytest.approx(0.01 * 10**0.5)
    assert BoundModel({}, tuple("abcdefghi"), "fit").level == 0.9


def test_the_model_comes_back_from_json() -> None:
    assert BoundModel.from_json(MODEL.to_json()) == MODEL
