"""A stream of training examples, numbered by training step.

Example i depends on the seed and on i alone. A run that resumes at step s sees exactly the examples it would have seen.
"""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset

from mri_recon.models.inference import image_scale
from mri_recon_data.examples.config import DataConfig
from mri_recon_data.examples.example import Example, crop_rows
from mri_recon_data.examples.slices import RegistrySlices, Slices
from mri_recon_data.examples.targets import make_example
from mri_recon_data.examples.worlds import Worlds

__all__ = ["ExampleStream"]

_PROBLEMS = 2**32 - 2


class ExampleStream(Dataset[list[Example]]):
    """Item i is the batch of training step i: `batch_size` examples of equal size, divided by their scale."""

    def __init__(self, slices: Slices, config: DataConfig, *, seed: int, batch_size: int, steps: int) -> None:
        self.slices, self.config = slices, config
        self.seed, self.batch_size, self.steps = seed, batch_size, steps
        self._worlds = None
        if config.worlds is not None and isinstance(slices, RegistrySlices):
            self._worlds = Worlds.of(slices.raw, slices.images, config.worlds)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> list[Example]:
        rng = np.random.default_rng([self.seed, step])
        rows = self.config.full_rows if rng.random() < self.config.full_probability else self.config.rows
        return [self._one(rng, rows) for _ in range(self.batch_size)]

    def _one(self, rng: np.random.Generator, rows: int) -> Example:
        config = self.config
        if self._worlds is not None:
            return self._worlds.example(rng, rows)
        # A fixed set of problems has its own seeds; the use of a problem in a step (split, band) is drawn anew each
        # time.
        source = rng
        if config.problems:
            source = np.random.default_rng([self.seed, _PROBLEMS, int(rng.integers(config.problems))])
        example = make_example(self.slices.problem(source, config), config.target, config.cs, config.ssdu, rng)
        return crop_rows(example, image_scale(example.measurement.adjoint()), rows, rng)
