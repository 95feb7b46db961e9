"""Validation examples: the same whole slices for every run, at R = 4 and 8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from mri_recon.masks.draw import random_mask
from mri_recon_data.examples.config import DataConfig
from mri_recon_data.examples.example import Example, raw_example
from mri_recon_data.examples.slices import FolderSlices, RegistrySlices, Slices, undersampled_problem
from mri_recon_data.examples.targets import Problem, cs_example, make_example
from mri_recon_data.examples.validation_worlds import validation_worlds
from mri_recon_data.scenes.content import ContentConfig
from mri_recon_data.simulation.image_slice import simulate_kspace

__all__ = ["validation_examples"]


def validation_examples(slices: Slices, config: DataConfig, *, seed: int) -> list[tuple[str, Example]]:
    """Make the fixed validation examples, whole slices at R = 4 and 8, named by kind and acceleration.

    Half are raw, half simulated where both are at hand. Their target is the truth whatever `config.target` is. An
    undersampled file has no truth: the network gets the lines that "ssdu" would give it and is judged on the others;
    the target is compressed sensing of all lines, and the example is named "undersampled". With `config.worlds`, those
    of `validation_worlds`.

    Raises:
        DataError: an undersampled file without a mask, or with data.target = "truth".
    """
    if config.worlds is not None and isinstance(slices, RegistrySlices):
        measured = config.worlds.acquisition.array.measured > 0
        return validation_worlds(slices.raw, slices.images, seed=seed, measured=measured)
    rng = np.random.default_rng([seed, 2**32 - 1])
    examples = []
    for number in range(config.validation_slices):
        if isinstance(slices, FolderSlices):
            scan = slices.read(int(rng.integers(len(slices.slices))))
            if not scan.fully_sampled:
                examples.append(("undersampled", _without_truth(undersampled_problem(scan), config, rng)))
                continue
            kind, support = "raw", scan.support
            make: Callable[..., Example] = partial(raw_example, scan.kspace[0], valid=scan.recon_size)
        else:
            kind, support, make = _validation_slice(slices, number, rng, config)
        for acceleration in (4, 8):
            mask = random_mask(support.size, acceleration, seed=number, support=support)
            examples.append((f"{kind}-{acceleration}x", make(mask=mask)))
    return examples


def _without_truth(problem: Problem, config: DataConfig, rng: np.random.Generator) -> Example:
    split = "ssdu" if config.target == "cs" else config.target
    example = make_example(problem, split, config.cs, config.ssdu, rng)  # of "truth": refused
    reference = cs_example(problem.kspace, problem.mask, config.cs, valid=problem.valid)
    return replace(example, target=reference.target, valid=reference.valid)


def _validation_slice(
    slices: RegistrySlices, number: int, rng: np.random.Generator, config: DataConfig
) -> tuple[str, npt.NDArray[np.bool_], Callable[..., Example]]:
    """Give the kind of a slice, its acquired columns, and a function from mask to example."""
    if slices.raw and (not slices.images or number % 2 == 0):
        raw = slices.raw[(number // 2) % len(slices.raw)]
        return "raw", raw.support, partial(raw_example, raw.kspace)
    image = slices.images[rng.integers(len(slices.images))]
    num_coils = 1 if number % 4 == 1 else 8
    # Anatomy without augmentation: nobody will reconstruct the artificial variations of training.
    simulation = config.simulation.model_copy(update={"content": ContentConfig(), "tight": 0.0})
    simulated = simulate_kspace(image, rng, simulation, num_coils=num_coils)
    kind = "simulated-1coil" if num_coils == 1 else "simulated-8coil"
    support = np.ones(simulated.kspace.shape[-1], dtype=np.bool_)
    maps, clean = simulated.sens_maps, simulated.clean_image
    return kind, support, partial(raw_example, simulated.kspace, sens_maps=maps, image=clean)
