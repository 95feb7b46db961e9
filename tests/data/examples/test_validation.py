from __future__ import annotations

import numpy as np
import pytest
import torch

from mri_recon_data.examples.config import DataConfig
from mri_recon_data.examples.slices import RegistrySlices
from mri_recon_data.examples.validation import validation_examples
from mri_recon_data.scenes.images import ImageSlice
from mri_recon_data.simulation.image_slice import SimulationConfig
from tests.support.examples import CONFIG, small_registry


def test_validation_has_raw_and_simulated_at_both_accelerations() -> None:
    # Large enough that the centre at 8x has the two lines that maps need.
    config = CONFIG.model_copy(update={"simulation": SimulationConfig(min_size=50)})
    examples = validation_examples(small_registry(), config, seed=0)
    assert {name for name, _ in examples} == {
        f"{kind}-{r}x" for kind in ("raw", "simulated-1coil", "simulated-8coil") for r in (4, 8)
    }
    again = validation_examples(small_registry(), config, seed=0)
    for (_, a), (_, b) in zip(examples, again, strict=True):
        assert torch.equal(a.measurement.samples, b.measurement.samples)
        assert torch.equal(a.target, b.target)


@pytest.mark.parametrize("changed", [{"tight": 1.0}, {"content": {"shapes": 1.0, "bright_rim": 1.0}}])
def test_validation_is_what_it_is_whatever_is_made_up_in_training(changed: dict[str, object]) -> None:
    y, x = np.mgrid[-1:1:120j, -1:1:110j]
    image = ImageSlice(((x / 0.5) ** 2 + (y / 0.7) ** 2 < 1).astype(np.float16), "test")
    slices = RegistrySlices((), (image,))
    plain, other = (
        validation_examples(slices, DataConfig(validation_slices=4, simulation=SimulationConfig(**simulation)), seed=0)  # type: ignore[arg-type]
        for simulation in ({}, changed)
    )
    assert [kind for kind, _ in plain] == [kind for kind, _ in other]
    for (_, one), (_, two) in zip(plain, other, strict=True):
        assert torch.equal(one.target, two.target)
