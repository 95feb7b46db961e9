"""Examples of a study, drawn once, of one size, kept in memory: reading is not measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mri_recon.errors import ConfigError
from mri_recon.models import concatenate
from mri_recon_data.examples.batches import Batch
from mri_recon_data.examples.example import Example
from mri_recon_data.examples.slices import Slices, read_slices
from mri_recon_data.examples.stream import ExampleStream
from mri_recon_data.examples.validation import validation_examples
from mri_recon_training.losses import score
from mri_recon_training.study.config import StudyConfig

__all__ = ["StudyData", "raw_psnr", "read_study_data", "stacked", "take"]


@dataclass(frozen=True)
class StudyData:
    """Training and validation data of every run of a study.

    Attributes:
        training: the examples of training.
        validation: examples of the same kind, of the validation persons.
        raw: whole slices of raw validation k-space at 4x, to measure PSNR on.
        source: description of the examples, for the page.
    """

    training: Batch
    validation: Batch
    raw: tuple[Example, ...]
    source: str


def read_study_data(config: StudyConfig) -> StudyData:
    """Draw a study's examples from the registry's training and validation persons, or from a folder.

    Raises:
        ConfigError: examples of different sizes.
        DataError: the registry's files are not at hand.
    """
    data = config.data
    training, validation = read_slices(data)
    if data.root:
        source = f"fastMRI files of {data.root}, split by person"
    else:
        kinds = {0.0: "simulated from magnitude images", 1.0: "raw"}
        source = (
            f"the data registry's training persons ({kinds.get(data.raw_probability, 'raw and simulated')}); "
            "validation: its validation persons, drawn the same way"
        )
    named = validation_examples(validation, data, seed=0)
    return StudyData(
        training=_draw(training, config, seed=0, count=config.study.examples),
        validation=_draw(validation, config, seed=1, count=config.study.validation_examples),
        raw=tuple(example for kind, example in named if kind == "raw-4x"),
        source=source,
    )


def stacked(examples: Sequence[Example]) -> Batch:
    """Stack examples of one size into one batch, so that a normalisation over the batch sees the batch.

    Raises:
        ConfigError: examples of different sizes, or without a target.
    """
    if any(example.held_out is not None for example in examples):
        raise ConfigError("study: expected data.target = truth or cs, got ssdu, whose examples have no target")
    sizes = {(tuple(e.measurement.samples.shape), e.valid, e.measurement.dims) for e in examples}
    if len(sizes) > 1:
        shapes = sorted({"x".join(map(str, shape[1:])) for shape, _, _ in sizes})
        raise ConfigError(
            f"study: expected examples of one size (coil x rows x columns), got {', '.join(shapes[:4])}: set "
            "data.simulation.min_size with a small data.simulation.resolution, data.simulation.air=0, "
            "data.simulation.multi_coil=0 and data.raw_probability=0"
        )
    measurement = concatenate([e.measurement for e in examples])
    return Batch(measurement, torch.stack([e.target for e in examples]), examples[0].valid)


def take(examples: Batch, index: Tensor) -> Batch:
    """Take the examples numbered `index` from a batch that `stacked` made."""
    return Batch(examples.measurement.items(index), examples.target[index], examples.valid)


def raw_psnr(network: nn.Module, examples: tuple[Example, ...]) -> float:
    """Compute the mean PSNR over whole slices, dB (`mri_recon.metrics`), the network in evaluation mode."""
    network.eval()
    found = [score(network, example).psnr for example in examples]
    return sum(found) / len(found) if found else float("nan")


def _draw(slices: Slices, config: StudyConfig, *, seed: int, count: int) -> Batch:
    stream = ExampleStream(slices, config.data, seed=seed, batch_size=1, steps=count)
    return stacked([stream[number][0] for number in range(count)])
