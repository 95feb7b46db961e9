"""Write the model card of a training run: its data, and the range of scans it was trained on."""

from __future__ import annotations

import platform
from typing import Any

import torch

from mri_recon.io import load
from mri_recon.masks.draw import default_center_fraction
from mri_recon.masks.types import Mask
from mri_recon.models.checkpoint import ModelCard, load_named
from mri_recon.models.training_range import ANY_SAMPLING, MANY_SAMPLINGS, RANDOM_COLUMNS, Envelope
from mri_recon_data import registry
from mri_recon_data.examples.acquisition import AcquisitionConfig
from mri_recon_data.examples.slices import FolderSlices, Slices, undersampled_problem
from mri_recon_data.examples.targets import Target, check_target
from mri_recon_data.examples.worlds import picture_sources
from mri_recon_data.simulation.measured_coils import array_sources
from mri_recon_training.config import TrainConfig

__all__ = ["envelope_of", "model_card", "sources_of"]

_DESCRIPTIONS = {
    "unet": "U-Net from the coil-combined zero-filled image to the image of the full k-space.",
    "unrolled": "Unrolled network: steps of data consistency around U-Net refinements.",
    "cascade": "Data consistency that follows the noise of the scan, around U-Net refinements.",
}


def model_card(
    config: TrainConfig, envelope: Envelope, sources: list[dict[str, Any]], history: list[dict[str, float]]
) -> ModelCard:
    """Make the card of a run's weights after the validations of `history`."""
    return ModelCard(
        name=config.run.name,
        architecture=config.model.architecture,
        config=config.model.model_dump(exclude={"architecture"}),
        description=_DESCRIPTIONS[config.model.architecture],
        envelope=envelope,
        data=sources,
        training={
            "configuration": config.model_dump(mode="json"),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        loss_curve=history,
        results={
            "chosen_by": "mean validation PSNR over kinds of examples",
            **history[-1],
        },
    )


def sources_of(config: TrainConfig, training: Slices) -> list[dict[str, Any]]:
    """List the training data of a run, and those of the weights that it starts from.

    Raises:
        CheckpointError: unknown or damaged weights.
    """
    if isinstance(training, FolderSlices):
        sources: list[dict[str, Any]] = [{"name": config.data.root, "kind": "user"}]
    else:
        sources = registry.training_sources(hold_out=config.data.hold_out)
        if config.data.worlds is not None:
            sources = sources + picture_sources(config.data.worlds)
            if config.data.worlds.acquisition.array.measured:
                sources = sources + array_sources()
    earlier = load_named(config.run.weights).card.data if config.run.weights else []
    return sources + [row for row in earlier if row.get("split") != "validation" and row not in sources]


def envelope_of(config: TrainConfig, training: Slices) -> Envelope:
    """Describe the range of scans that the network sees in a run.

    The simulation's SNR is bright signal to the standard deviation of each part of the noise, the envelope's to
    sqrt(E|n|^2), which is sqrt(2) of that.
    """
    sampling = config.data.sampling
    # The default fractions are drawn beside those of the configuration.
    defaults = [default_center_fraction(acceleration) for acceleration in sampling.acceleration]
    low, high = sampling.center_fraction
    center_fraction = (min(low, *defaults), max(high, *defaults))
    if isinstance(training, FolderSlices):
        return _envelope_of_files(training, config.data.target, sampling.acceleration, center_fraction)
    if config.data.worlds is not None:
        return _envelope_of_worlds(config.data.worlds.acquisition)
    simulation = config.data.simulation
    low, high = (snr / 2**0.5 for snr in simulation.snr)
    return Envelope(
        acceleration=sampling.acceleration,
        num_coils=(1, simulation.num_coils[1] if simulation.multi_coil else 1),
        anatomy="head",
        center_fraction=center_fraction,
        snr=(low, high),
    )


def _envelope_of_worlds(acquisition: AcquisitionConfig) -> Envelope:
    sampling = acquisition.sampling
    # The default fractions are drawn beside those of the configuration.
    fractions = [*sampling.center_fraction, *map(default_center_fraction, sampling.acceleration)]
    return Envelope(
        acceleration=sampling.acceleration,
        num_coils=(1, acquisition.array.num_coils[1] if acquisition.array.several else 1),
        anatomy="heads and whatever a picture may show",
        sampling=MANY_SAMPLINGS,
        center_fraction=(min(fractions), max(fractions)),
        snr=acquisition.snr,
    )


def _envelope_of_files(
    training: FolderSlices, target: Target, acceleration: tuple[float, float], center_fraction: tuple[float, float]
) -> Envelope:
    """Describe the range of a user's files.

    Undersampled files have their own masks; those of `[data.sampling]` are drawn for the others only.

    A slice of every file is read, to judge undersampling as in training. A file that the target cannot have is refused
    here, before the first step.

    Raises:
        DataError: an undersampled file without a mask, or with the target "truth".
    """
    coils, own, drawn = [], list[Mask](), False
    first = dict(reversed(training.slices))  # of each file, the first with data
    for path in dict.fromkeys(path for path, _ in training.slices):
        scan = load(path, slices=first[path])
        coils.append(scan.num_coils)
        if scan.fully_sampled:
            drawn = True
        else:
            check_target(target, full=False)
            own.append(undersampled_problem(scan).mask)
    rates = [mask.realised_acceleration for mask in own] + (list(acceleration) if drawn else [])
    return Envelope(
        acceleration=(min(rates), max(rates)) if rates else acceleration,
        num_coils=(min(coils), max(coils)),
        anatomy="as in the user's files",
        sampling=ANY_SAMPLING if own else RANDOM_COLUMNS,
        center_fraction=None if own else center_fraction,
    )
