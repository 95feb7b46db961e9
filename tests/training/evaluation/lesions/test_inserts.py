"""Places and lesions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from mri_recon.errors import DataError
from mri_recon_training.evaluation.lesions.inserts import Place, choose_places, object_of, profile, with_lesions


def head(height: int = 150, width: int = 121) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    image = 0.5 * (y**2 + x**2 < 0.8) + 0.4 * ((y - 0.3) ** 2 + x**2 < 0.05)
    image[:3] = 0.9  # something bright at the border is not the object
    return image.astype(np.float32)


def test_the_object_is_the_largest_part_and_has_no_holes() -> None:
    image = head()
    image[70:80, 50:60] = 0
    found = object_of(image)
    assert found[75, 55]
    assert not found[0].any()
    assert not object_of(np.zeros((9, 7), np.float32)).any()


def test_places_are_inside_apart_and_neither_dark_nor_bright() -> None:
    image = head()
    places = choose_places(image, (3.0, 5.0), 8, np.random.default_rng(0))
    assert [place.width for place in places] == [3.0, 5.0] * 4
    inside = ndimage.binary_erosion(object_of(image), iterations=8)
    for number, place in enumerate(places):
        assert inside[place.row, place.column]
        assert 0.15 < image[place.row, place.column] < 0.8
        for other in places[:number]:
            assert np.hypot(place.row - other.row, place.column - other.column) >= 22
    assert places == choose_places(image, (3.0, 5.0), 8, np.random.default_rng(0))


def test_too_many_lesions_are_refused() -> None:
    with pytest.raises(DataError, match="expected room for 90 lesions 22 pixels apart"):
        choose_places(head(), (3.0,), 90, np.random.default_rng(0))
    with pytest.raises(DataError, match="found 0"):
        choose_places(np.zeros((60, 60), np.float32), (3.0,), 1, np.random.default_rng(0))


def test_a_lesion_has_its_height_and_width() -> None:
    shape = profile((41, 52), Place(20, 30, 6.0))
    assert shape.max() == shape[20, 30] == 1
    assert shape[20, 33] == pytest.approx(0.5, abs=1e-6)
    assert shape[23, 30] == pytest.approx(0.5, abs=1e-6)


def test_lesions_are_added_and_magnitudes_stay_positive() -> None:
    image = np.full((41, 52), 0.1, np.float32)
    place = Place(20, 30, 3.0)
    np.testing.assert_allclose(with_lesions(image, [place], 0.2), image + 0.2 * profile((41, 52), place), rtol=1e-6)
    assert with_lesions(image, [place], -0.2).min() == 0
    np.testing.assert_array_equal(with_lesions(image, [], 0.2), image)
