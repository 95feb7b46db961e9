"""Slices to make training examples from: of the registry, or of a user's folder of fastMRI files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mri_recon.errors import ConfigError, DataError
from mri_recon.io import Scan, load
from mri_recon.io.formats.fastmri import FastMRIFile
from mri_recon.masks.convert import undersample
from mri_recon.masks.types import ColumnMask
from mri_recon_data.examples.config import DataConfig
from mri_recon_data.examples.folder_split import split_folder
from mri_recon_data.examples.raw_slice import RawSlice
from mri_recon_data.examples.targets import Problem
from mri_recon_data.registry import RegisteredFile
from mri_recon_data.registry import files as registered_files
from mri_recon_data.scenes.images import ImageSlice, is_isotropic, load_slices
from mri_recon_data.simulation.image_slice import simulate_kspace
from mri_recon_data.simulation.sampling import draw_mask

__all__ = ["FolderSlices", "RegistrySlices", "Slices", "read_slices", "undersampled_problem"]


@dataclass(frozen=True)
class RegistrySlices:
    """Slices of registered files: raw ones, and magnitude images to simulate from."""

    raw: tuple[RawSlice, ...]
    images: tuple[ImageSlice, ...]

    @cached_property
    def pools(self) -> tuple[list[ImageSlice], list[ImageSlice]]:
        """Magnitude slices of isotropic volumes, and the others; cached, since every example needs them."""
        isotropic = [image for image in self.images if is_isotropic(image.source)]
        return isotropic, [image for image in self.images if not is_isotropic(image.source)]

    @classmethod
    def read(cls, split: str) -> RegistrySlices:
        """Read every slice of a split of the registry that has a truth.

        Raises:
            DataError: the files are not at hand or not the registered ones.
        """
        return cls.of(registered_files(split=split))

    @classmethod
    def of(cls, files: Iterable[RegisteredFile]) -> RegistrySlices:
        """Read every slice of registered files that has a truth.

        Raises:
            DataError: the files are not at hand or not the registered ones.
        """
        raw, images = [], []
        for file in files:
            if file.kind == "image":
                images.append((file.name, file.path()))
                continue
            if file.kind == "phantom":  # coil sensitivities come from these, examples do not
                continue
            scan = file.load()
            if scan.fully_sampled:
                raw += [RawSlice(kspace, scan.support) for kspace in scan.kspace if bool(kspace.any())]
        return cls(tuple(raw), tuple(load_slices(images) if images else ()))

    def problem(self, rng: np.random.Generator, config: DataConfig) -> Problem:
        """Draw a slice and a mask."""
        if self.raw and (not self.images or rng.random() < config.raw_probability):
            chosen = self.raw[rng.integers(len(self.raw))].mirrored(rng)
            return Problem(chosen.kspace, _draw(chosen.kspace.shape[-1], rng, config, chosen.support))
        isotropic, others = self.pools
        pool = isotropic if not others or (isotropic and rng.random() < config.volume_probability) else others
        simulated = simulate_kspace(pool[rng.integers(len(pool))], rng, config.simulation)
        mask = _draw(simulated.kspace.shape[-1], rng, config)
        return Problem(simulated.kspace, mask, sens_maps=simulated.sens_maps, image=simulated.clean_image)


@dataclass(frozen=True)
class FolderSlices:
    """The slices of a user's fastMRI files, read one at a time: memory does not grow with the data set."""

    slices: tuple[tuple[Path, int], ...]
    empty: tuple[tuple[Path, int], ...] = ()
    """Slices that hold zeros only, left out of `slices`: there is nothing to learn from them."""

    @classmethod
    def index(cls, paths: Iterable[Path]) -> FolderSlices:
        """List the slices of files that hold data, looking at no more of their k-space than that takes.

        Raises:
            FormatError: a file that is not in fastMRI's layout.
            DataError: no slice at all.
        """
        found, empty = list[tuple[Path, int]](), list[tuple[Path, int]]()
        for path in paths:
            with FastMRIFile(path) as file:
                for index in range(file.num_slices):
                    (empty if file.is_empty(index) else found).append((path, index))
        if not found:
            also = f" but {len(empty)} empty ones" if empty else ""
            raise DataError(
                f"training data: expected at least one slice of fastMRI files, found none{also}: check data.root"
            )
        return cls(tuple(found), tuple(empty))

    def skipped(self) -> list[str]:
        """Name the empty slices, one sentence for each file that has some."""
        by_file: dict[Path, list[str]] = {}
        for path, index in self.empty:
            by_file.setdefault(path, []).append(str(index))
        return [
            f"{path.name}: slice {', '.join(numbers)} holds no data (zeros only) and is left out"
            if len(numbers) == 1
            else f"{path.name}: slices {', '.join(numbers)} hold no data (zeros only) and are left out"
            for path, numbers in by_file.items()
        ]

    def read(self, number: int) -> Scan:
        """Read one slice as a scan."""
        path, index = self.slices[number]
        return load(path, slices=slice(index, index + 1))

    def problem(self, rng: np.random.Generator, config: DataConfig) -> Problem:
        """Draw a slice, with a random mask if it is fully sampled, else with the file's own mask.

        Raises:
            DataError: an undersampled file without a mask.
        """
        scan = self.read(int(rng.integers(len(self.slices))))
        if not scan.fully_sampled:
            return undersampled_problem(scan)
        mask = _draw(scan.width, rng, config, scan.support)
        return Problem(scan.kspace[0], mask, valid=scan.recon_size)


Slices = RegistrySlices | FolderSlices


def read_slices(config: DataConfig) -> tuple[Slices, Slices]:
    """Read the training and the validation slices: of `config.root`, or of the registry where that is empty.

    With `config.hold_out`, that training subject is left out: no part of the run, the choice of its weights included,
    sees the subject, so that the network can be evaluated on it afterwards.

    Raises:
        ConfigError: a person to hold out that is no training person of the registry, or files of a user.
        DataError, FormatError: as `split_folder`, `FolderSlices.index` and `RegistrySlices.read`.
    """
    if config.hold_out:
        return RegistrySlices.of(_without(config)), RegistrySlices.read("validation")
    if config.root:
        training, validation = split_folder(config)
        return FolderSlices.index(training), FolderSlices.index(validation)
    return RegistrySlices.read("train"), RegistrySlices.read("validation")


def _without(config: DataConfig) -> list[RegisteredFile]:
    """List the registered training files without those of the held-out subject."""
    if config.root:
        raise ConfigError(
            "data.hold_out: expected the sets of the registry, got a folder in data.root: name the person's files in "
            "data.split_file"
        )
    files = [file for file in registered_files(split="train") if file.kind != "phantom"]
    persons = list(dict.fromkeys(file.person for file in files))
    if config.hold_out not in persons:
        raise ConfigError(
            f"data.hold_out: expected one of the training persons {', '.join(persons)}, got {config.hold_out!r}: "
            "choose one of them"
        )
    return [file for file in files if file.person != config.hold_out]


def undersampled_problem(scan: Scan) -> Problem:
    """Make the problem of a slice that was acquired undersampled, with its own mask.

    Raises:
        DataError: the file holds no mask.
    """
    if scan.mask is None:
        raise DataError(
            f"training data: expected full k-space or a mask in {scan.meta.get('file', 'the file')}, got undersampled "
            "k-space alone: store the dataset mask in it, (phase,) or (readout, phase)"
        )
    return Problem(undersample(scan.kspace[0], scan.mask), scan.mask, valid=scan.recon_size, full=False)


def _draw(
    width: int, rng: np.random.Generator, config: DataConfig, support: npt.NDArray[np.bool_] | None = None
) -> ColumnMask:
    mask = draw_mask(width, rng, config.sampling, support=support)
    if config.target == "ssdu" and mask.num_lines - mask.num_low_frequencies < 2:
        # Nothing outside the centre to hold out: the default centre leaves more.
        mask = draw_mask(width, rng, config.sampling.model_copy(update={"default_center": 1.0}), support=support)
    return mask
