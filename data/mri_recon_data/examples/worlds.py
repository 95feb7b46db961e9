"""Training examples from many worlds: procedural pictures, photographs, MR images of every set, raw k-space.

A network trained on one scanner's heads fails on everything else. Variety of content, coils, noise and sampling makes
it general, at little or no cost on the heads (Knoll 2019; Dar 2020; Lin and Heckel 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import ConfigError
from mri_recon.models.inference import image_scale
from mri_recon_data.examples.acquisition import AcquisitionConfig, draw_example
from mri_recon_data.examples.example import Example, crop_rows, raw_example
from mri_recon_data.examples.raw_slice import RawSlice
from mri_recon_data.scenes.images import ImageSlice
from mri_recon_data.scenes.photographs import collections, load_photographs
from mri_recon_data.scenes.pictures import PicturePool
from mri_recon_data.scenes.sources import SceneConfig, scene_of_picture, scene_of_slice
from mri_recon_data.simulation.sampling import draw_columns

__all__ = ["World", "Worlds", "WorldsConfig", "picture_sources"]

Rng = np.random.Generator

PROCEDURAL, PHOTOGRAPHS, IMAGES, RAW = "procedural", "photographs", "images", "raw"


class WorldsConfig(BaseModel):
    """Shares of the worlds, and ranges of their scenes and scans."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shares: dict[str, float] = Field(
        default={PROCEDURAL: 0.2, PHOTOGRAPHS: 0.15, IMAGES: 0.5, RAW: 0.15},
        description="procedural, photographs, raw, images (all image sets that are not named) or an image set's name",
    )
    pictures: int = Field(default=256, ge=1, description="number of procedural pictures, cropped again and again")
    scene: SceneConfig = SceneConfig()
    acquisition: AcquisitionConfig = AcquisitionConfig()


@dataclass(frozen=True)
class World:
    """One kind of source and its share of the examples."""

    name: str
    share: float
    slices: tuple[ImageSlice, ...] = ()


@dataclass(frozen=True)
class Worlds:
    """The worlds of a training run, weighted, and their sources."""

    config: WorldsConfig
    worlds: tuple[World, ...]
    raw: tuple[RawSlice, ...]
    pool: PicturePool
    photographs: tuple[npt.NDArray[np.float16], ...] = field(repr=False, default=())

    @classmethod
    def of(cls, raw: Sequence[RawSlice], images: Sequence[ImageSlice], config: WorldsConfig) -> Worlds:
        """Weigh the sources that are at hand.

        "images" stands for every image set that has no share of its own; its share is dealt to them by the square root
        of their number of slices, so that a large set does not drown a small one. What is not at hand (photographs that
        are not installed, no raw scan) leaves its share to the others.

        Raises:
            ConfigError: an unknown world, a negative share, or nothing that is at hand.
        """
        sets: dict[str, list[ImageSlice]] = {}
        for image in images:
            sets.setdefault(image.source.rsplit("/", 1)[-1], []).append(image)
        known = [PROCEDURAL, PHOTOGRAPHS, RAW, IMAGES, *sets]
        for name, share in config.shares.items():
            if name not in known:
                raise ConfigError(
                    f"data.worlds.shares: expected one of {', '.join(known)}, got {name!r}"
                    f"{did_you_mean(name, known)}: correct it"
                )
            if not share >= 0:
                raise ConfigError(f"data.worlds.shares.{name}: expected a share of at least 0, got {share}")
        photographs = load_photographs() if config.shares.get(PHOTOGRAPHS, 0) else ()
        shares = {name: config.shares.get(name, 0.0) for name in (PROCEDURAL, PHOTOGRAPHS, RAW, *sets)}
        rest = {name: len(found) ** 0.5 for name, found in sets.items() if name not in config.shares}
        for name, weight in rest.items():
            shares[name] = config.shares.get(IMAGES, 0.0) * weight / sum(rest.values())
        shares[PHOTOGRAPHS] *= bool(photographs)
        shares[RAW] *= bool(raw)
        total = sum(shares.values())
        if not total > 0:
            raise ConfigError(
                "data.worlds.shares: expected a share of data that are at hand, got none: raise procedural"
            )
        worlds = [World(name, share / total, tuple(sets.get(name, ()))) for name, share in shares.items() if share]
        return cls(config, tuple(worlds), tuple(raw), PicturePool(config.pictures), photographs)

    def example(self, rng: Rng, rows: int) -> Example:
        """Draw an example of a random world: scaled, and cut to at most `rows` rows where rows are independent."""
        number = int(rng.choice(len(self.worlds), p=[world.share for world in self.worlds]))
        world = self.worlds[number]
        if world.name == RAW:
            return self._raw(rng, rows)
        return draw_example(self.scene(world.name, rng), rng, self.config.acquisition, rows)

    def scene(self, name: str, rng: Rng) -> Tensor:
        """Draw a magnitude image of a world, float32 `(h, w)`."""
        scene = self.config.scene
        if name == PROCEDURAL:
            return scene_of_picture(self._picture(rng), rng, scene)
        if name == PHOTOGRAPHS:
            return scene_of_picture(self.photographs[int(rng.integers(len(self.photographs)))], rng, scene)
        (slices,) = [world.slices for world in self.worlds if world.name == name]
        overlay = self._picture(rng) if rng.random() < scene.overlay else None
        return scene_of_slice(slices[int(rng.integers(len(slices)))].magnitude, rng, scene, overlay=overlay)

    def _picture(self, rng: Rng) -> npt.NDArray[np.float16]:
        return self.pool[int(rng.integers(len(self.pool)))]

    def _raw(self, rng: Rng, rows: int) -> Example:
        chosen = self.raw[int(rng.integers(len(self.raw)))].mirrored(rng)
        width = chosen.kspace.shape[-1]
        mask = draw_columns(width, rng, self.config.acquisition.sampling, support=chosen.support)
        example = raw_example(chosen.kspace, mask)
        return crop_rows(example, image_scale(example.measurement.adjoint()), rows, rng)


def picture_sources(config: WorldsConfig) -> list[dict[str, Any]]:
    """List the pictures behind a run for its model card: procedural ones, and the photographs at hand."""
    sources: list[dict[str, Any]] = []
    if config.shares.get(PROCEDURAL, 0):
        sources.append(_source("procedural pictures", "MIT", "drawn by this project", "mri_recon_data.scenes.pictures"))
    if config.shares.get(PHOTOGRAPHS, 0):
        sources += [_source(one.name, one.licence, one.citation, one.package) for one in collections() if one.paths()]
    return sources


def _source(name: str, licence: str, citation: str, source: str) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "k-space simulated from pictures",
        "split": "train",
        "persons": [],
        "licence": licence,
        "citation": citation,
        "source": source,
    }
