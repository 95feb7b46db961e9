from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
import pytest

from mri_recon.errors import DataError
from mri_recon_data.scenes import photographs
from mri_recon_data.scenes.photographs import Collection, collections, load_photographs
from mri_recon_data.scenes.pictures import PicturePool, dead_leaves, power_law_texture, procedural_picture, stripes
from mri_recon_data.scenes.sources import SceneConfig, crop_of_picture, scene_of_picture, scene_of_slice


@pytest.mark.parametrize("draw", [dead_leaves, stripes, lambda size, rng: procedural_picture(rng, size)])
def test_pictures_are_varied_and_in_range(draw) -> None:  # type: ignore[no-untyped-def]
    picture = draw(96, np.random.default_rng(0))
    assert picture.shape == (96, 96)
    assert picture.dtype == np.float32
    assert 0 <= picture.min() < picture.max() <= 1
    assert picture.std() > 0.05


def test_the_exponent_is_the_smoothness() -> None:
    def roughness(exponent: float) -> float:
        picture = power_law_texture(128, np.random.default_rng(1), exponent=exponent)
        return float(np.abs(np.diff(picture)).mean() / picture.std())

    assert roughness(0.5) > 2 * roughness(2.0)


def test_a_picture_is_its_number_in_whatever_order() -> None:
    one, two = PicturePool(4, size=64), PicturePool(4, size=64)
    last = one[3]
    np.testing.assert_array_equal(two[0], one[0])
    np.testing.assert_array_equal(two[3], last)
    assert one[3] is last
    assert not np.array_equal(one[0], last)
    assert len(one) == 4
    with pytest.raises(IndexError, match="expected a picture between 0 and 3, got 4"):
        one[4]


def test_a_crop_without_rotation_is_the_picture() -> None:
    class Fixed:
        """Draws the middle of the picture at its own scale, upright."""

        def uniform(self, low: float, high: float) -> float:
            return {0.0: 0.0}.get(low, (low + high) / 2) if high != np.log(1.6) else 0.0

        def random(self) -> float:
            return 0.0

    picture = np.random.default_rng(0).random((200, 200)).astype(np.float16)
    found = crop_of_picture(picture, (40, 30), Fixed())  # type: ignore[arg-type]
    np.testing.assert_allclose(found.numpy(), picture[80:120, 85:115].astype(np.float32), atol=1e-3)


def test_scenes_have_the_sizes_of_their_configuration() -> None:
    config = SceneConfig(size=(80, 200))
    rng = np.random.default_rng(0)
    picture = procedural_picture(rng, 256).astype(np.float16)
    y, x = np.mgrid[-1:1:150j, -1:1:130j]
    head = ((x / 0.7) ** 2 + (y / 0.8) ** 2 < 1).astype(np.float16)
    sizes = set()
    for _ in range(15):
        for scene in (scene_of_picture(picture, rng, config), scene_of_slice(head, rng, config, overlay=picture)):
            assert all(80 <= side <= 200 for side in scene.shape)
            assert float(scene.min()) >= 0
            assert 1 <= float(scene.max()) < 20
            sizes |= set(scene.shape)
    assert {side % 2 for side in sizes} == {0, 1}


def test_photographs_are_listed_with_licence_and_checksums() -> None:
    for collection in collections():
        assert collection.licence.startswith(("CC0", "CC-BY-4.0"))
        assert "SA" not in collection.licence
        assert collection.citation
        assert all(len(sha256) == 64 for _, sha256 in collection.files)


def test_photographs_of_scikit_image_are_at_hand() -> None:
    loaded = load_photographs()
    assert len(loaded) >= 10
    for picture in loaded:
        assert picture.ndim == 2
        assert max(picture.shape) <= 1600
        assert 0 <= picture.min() < picture.max() <= 1


def test_another_file_under_the_name_of_a_photograph(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"something")
    good = hashlib.sha256(b"something").hexdigest()
    assert Collection("x", "x 1.0", "CC0-1.0", "x", (("a.png", good),), tmp_path).paths() == [tmp_path / "a.png"]
    with pytest.raises(DataError, match=r"expected SHA-256 0+ of x 1\.0, got .*: install that version"):
        Collection("x", "x 1.0", "CC0-1.0", "x", (("a.png", "0" * 64),), tmp_path).paths()


def test_photographs_that_are_not_installed_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    missing = Collection("x", "x 1.0", "CC0-1.0", "x", (("a.png", "0" * 64),), tmp_path / "nosuch")
    monkeypatch.setattr(photographs, "collections", lambda: (missing,))
    load_photographs.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert load_photographs() == ()
    load_photographs.cache_clear()
    assert "photographs of x 1.0 are not installed: training goes on without them" in caplog.text
