"""Streams of training examples: the registry's training persons, or a user's folder of fastMRI files.

Example number i of a stream depends on the seed and on i alone. A run that stopped at step s goes on with example s
and sees exactly what it would have seen.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.utils.data import Dataset

from mri_recon.errors import ConfigError, DataError
from mri_recon.io import Scan, load
from mri_recon.io.fastmri import FastMRIFile
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask
from mri_recon.models.inference import image_scale
from mri_recon_data.examples.example import (
    Example,
    SamplingConfig,
    Simulated,
    SimulationConfig,
    crop_rows,
    draw_mask,
    raw_example,
    simulate_kspace,
)
from mri_recon_data.examples.raw_slice import RawSlice
from mri_recon_data.examples.targets import CsConfig, Problem, SsduConfig, Target, cs_example, make_example
from mri_recon_data.examples.validation import validation_worlds
from mri_recon_data.examples.worlds import Worlds, WorldsConfig
from mri_recon_data.registry import RegisteredFile
from mri_recon_data.registry import files as registered_files
from mri_recon_data.scenes.content import ContentConfig
from mri_recon_data.scenes.images import ImageSlice, is_isotropic, load_slices

__all__ = [
    "DataConfig",
    "ExampleStream",
    "FolderSlices",
    "RawSlice",
    "RegistrySlices",
    "read_slices",
    "split_folder",
    "validation_examples",
]


_PROBLEMS = 2**32 - 2


class DataConfig(BaseModel):
    """Where examples come from and how they are cut."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: str = Field(default="", description="folder of fastMRI files; empty: the open sets of the data registry")
    split_file: str = Field(
        default="", description="JSON {train: [file, ...], validation: [...]} for `root`; empty: by person"
    )
    validation_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="share of persons kept for validation of `root`"
    )
    hold_out: str = Field(
        default="",
        description="a training person of the registry to leave out, to be measured afterwards: leave-one-person-out",
    )
    raw_probability: float = Field(default=0.25, ge=0, le=1, description="share of raw examples from the registry")
    volume_probability: float = Field(default=0.4, ge=0, le=1, description="share of the isotropic volume among images")
    target: Target = Field(default="truth", description="truth, cs or ssdu, see docs/training/targets.md")
    cs: CsConfig = CsConfig()
    ssdu: SsduConfig = SsduConfig()
    problems: int = Field(default=0, ge=0, description="number of different slices and masks; 0: new ones at each step")
    rows: int = Field(default=64, ge=16, description="readout rows of an example")
    full_probability: float = Field(
        default=0.06, ge=0, le=1, description="share of examples with up to `full_rows` rows"
    )
    full_rows: int = Field(default=256, ge=16, description="largest number of rows")
    validation_slices: int = Field(default=24, ge=1, description="number of validation slices, each at 4x and 8x")
    workers: int = Field(default=1, ge=0, description="processes that prepare examples")
    sampling: SamplingConfig = SamplingConfig()
    simulation: SimulationConfig = SimulationConfig()
    worlds: WorldsConfig | None = Field(
        default=None, description="examples of many worlds in place of [data.simulation]; not for the files of `root`"
    )

    @model_validator(mode="after")
    def _truth_of_worlds(self) -> DataConfig:
        if self.worlds is not None and not self.root and (self.target != "truth" or self.problems):
            raise ValueError(
                f"data.worlds: expected data.target=truth and data.problems=0, got {self.target} and {self.problems}: "
                "leave out [data.worlds] for them"
            )
        return self


@dataclass(frozen=True)
class RegistrySlices:
    """The registry's training persons: raw slices, and magnitude slices to simulate from."""

    raw: tuple[RawSlice, ...]
    images: tuple[ImageSlice, ...]

    @cached_property
    def pools(self) -> tuple[list[ImageSlice], list[ImageSlice]]:
        """Slices of the isotropic volumes, and the others: every example asks for them."""
        isotropic = [image for image in self.images if is_isotropic(image.source)]
        return isotropic, [image for image in self.images if not is_isotropic(image.source)]

    @classmethod
    def read(cls, split: str) -> RegistrySlices:
        """Everything of a split of the registry that has a truth.

        Raises:
            DataError: the files are not at hand or not the registered ones.
        """
        return cls.of(registered_files(split=split))

    @classmethod
    def of(cls, files: Iterable[RegisteredFile]) -> RegistrySlices:
        """Everything of registered files that has a truth.

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
        """A random slice and mask."""
        if self.raw and (not self.images or rng.random() < config.raw_probability):
            chosen = self.raw[rng.integers(len(self.raw))]
            # Reversed axes of k-space are the mirrored image, the echo at the other side.
            kspace = chosen.kspace.flip(-2) if rng.random() < 0.5 else chosen.kspace
            mirrored = rng.random() < 0.5
            kspace, support = (kspace.flip(-1), chosen.support[::-1]) if mirrored else (kspace, chosen.support)
            return Problem(kspace, _draw(kspace.shape[-1], rng, config, support.copy()))
        isotropic, others = self.pools
        pool = isotropic if not others or (isotropic and rng.random() < config.volume_probability) else others
        simulated = simulate_kspace(pool[rng.integers(len(pool))], rng, config.simulation)
        mask = _draw(simulated.kspace.shape[-1], rng, config)
        return Problem(simulated.kspace, mask, sens_maps=simulated.sens_maps, image=_clean_image(simulated))

    def example(self, rng: np.random.Generator, config: DataConfig) -> Example:
        """A random example, whole."""
        return _example(self.problem(rng, config), config, rng)


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
        """A sentence a file with empty slices, which names them."""
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
        """One slice as a scan."""
        path, index = self.slices[number]
        return load(path, slices=slice(index, index + 1))

    def problem(self, rng: np.random.Generator, config: DataConfig) -> Problem:
        """A random slice, with a random mask where it is fully sampled, else with the file's own.

        Raises:
            DataError: an undersampled file without a mask.
        """
        scan = self.read(int(rng.integers(len(self.slices))))
        if not scan.fully_sampled:
            return _undersampled(scan)
        mask = _draw(scan.width, rng, config, scan.support)
        return Problem(scan.kspace[0], mask, valid=scan.recon_size)

    def example(self, rng: np.random.Generator, config: DataConfig) -> Example:
        """A random example, whole.

        Raises:
            DataError: an undersampled file without a mask, or with data.target = "truth".
        """
        return _example(self.problem(rng, config), config, rng)


Slices = RegistrySlices | FolderSlices


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
        # A fixed set of problems has its own seeds; what a step does with one (split, band) is new each time.
        source = rng
        if config.problems:
            source = np.random.default_rng([self.seed, _PROBLEMS, int(rng.integers(config.problems))])
        example = _example(self.slices.problem(source, config), config, rng)
        return crop_rows(example, image_scale(example.measurement.adjoint()), rows, rng)


def read_slices(config: DataConfig) -> tuple[Slices, Slices]:
    """Slices of the training and of the validation persons: of `config.root`, or of the registry where that is empty.

    With `config.hold_out`, that training person is left out: nothing of the run, the choice of its weights included,
    has seen the person, on whom it can be measured afterwards.

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
    """The registered training files but those of the person who is held out."""
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


def validation_examples(slices: Slices, config: DataConfig, *, seed: int) -> list[tuple[str, Example]]:
    """Fixed validation examples, whole slices at R = 4 and 8, named by kind and acceleration.

    Half raw, half simulated where both are at hand. They have their truth whatever `config.target` is. An undersampled
    file has none: there the network sees what "ssdu" would show it, the reference is compressed sensing of all lines,
    of more than the network is given; its example is named "undersampled". With `config.worlds`, those of
    `validation.validation_worlds`.

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
                examples.append(("undersampled", _without_truth(_undersampled(scan), config, rng)))
                continue
            kind, support = "raw", scan.support
            make: Callable[..., Example] = partial(raw_example, scan.kspace[0], valid=scan.recon_size)
        else:
            kind, support, make = _validation_slice(slices, number, rng, config)
        for acceleration in (4, 8):
            mask = random_mask(support.size, acceleration, seed=number, support=support)
            examples.append((f"{kind}-{acceleration}x", make(mask=mask)))
    return examples


def split_folder(config: DataConfig) -> tuple[list[Path], list[Path]]:
    """Training and validation files of `config.root`: by the list in `split_file`, else by person.

    Persons are told apart by the file's `patient_id` (the file's name where it has none), ordered by a checksum of it,
    and the first share of them is held out. More files of the same persons change nothing; more persons may move
    others, so a split that has to last belongs in `split_file`.

    Raises:
        ConfigError: no such folder, a bad split file, or a split that is empty.
    """
    root = Path(config.root)
    paths = sorted(root.glob("*.h5")) if root.is_dir() else []
    if not paths:
        raise ConfigError(f"data.root: expected a folder with fastMRI files (*.h5), found none in {root}")
    if config.split_file:
        train, validation = _listed(root, Path(config.split_file))
    else:
        persons: dict[str, list[Path]] = {}
        for path in paths:
            with FastMRIFile(path) as file:
                persons.setdefault(file.patient_id or path.stem, []).append(path)
        ordered = sorted(persons, key=lambda person: zlib.crc32(person.encode()))
        held_out = ordered[: max(1, round(len(ordered) * config.validation_fraction))]
        validation = [path for person in held_out for path in persons[person]]
        train = [path for person in ordered if person not in held_out for path in persons[person]]
    if not train or not validation:
        raise ConfigError(
            f"data.root: expected files of at least two persons, got {len(train)} training and {len(validation)} "
            "validation files: add data or name the files in data.split_file"
        )
    return train, validation


def _listed(root: Path, split_file: Path) -> tuple[list[Path], list[Path]]:
    try:
        lists = json.loads(split_file.read_text())
        train, validation = ([root / str(name) for name in lists[key]] for key in ("train", "validation"))
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigError(
            f'data.split_file: expected JSON {{"train": [...], "validation": [...]}}, got a problem in {split_file}: '
            f"{error!r}"
        ) from error
    missing = [path.name for path in (*train, *validation) if not path.is_file()]
    both = sorted({path.name for path in train} & {path.name for path in validation})
    if missing or both:
        raise ConfigError(f"data.split_file: files missing in data.root: {missing[:3]}; in both splits: {both[:3]}")
    return train, validation


def _example(problem: Problem, config: DataConfig, rng: np.random.Generator) -> Example:
    return make_example(problem, config.target, config.cs, config.ssdu, rng)


def _draw(
    width: int, rng: np.random.Generator, config: DataConfig, support: npt.NDArray[np.bool_] | None = None
) -> ColumnMask:
    mask = draw_mask(width, rng, config.sampling, support=support)
    if config.target == "ssdu" and mask.num_lines - mask.num_low_frequencies < 2:
        # Nothing outside the centre to hold out: the default centre leaves more.
        mask = draw_mask(width, rng, config.sampling.model_copy(update={"default_center": 1.0}), support=support)
    return mask


def _without_truth(problem: Problem, config: DataConfig, rng: np.random.Generator) -> Example:
    split = "ssdu" if config.target == "cs" else config.target
    example = make_example(problem, split, config.cs, config.ssdu, rng)  # of "truth": refused
    reference = cs_example(problem.kspace, problem.mask, config.cs, valid=problem.valid)
    return replace(example, target=reference.target, valid=reference.valid)


def _undersampled(scan: Scan) -> Problem:
    if scan.mask is None:
        raise DataError(
            f"training data: expected full k-space or a mask in {scan.meta.get('file', 'the file')}, got undersampled "
            "k-space alone: store the dataset mask in it, (phase,) or (readout, phase)"
        )
    return Problem(undersample(scan.kspace[0], scan.mask), scan.mask, valid=scan.recon_size, full=False)


def _validation_slice(
    slices: RegistrySlices, number: int, rng: np.random.Generator, config: DataConfig
) -> tuple[str, npt.NDArray[np.bool_], Callable[..., Example]]:
    """Kind of the slice, its acquired columns, and what makes an example of a mask."""
    if slices.raw and (not slices.images or number % 2 == 0):
        raw = slices.raw[(number // 2) % len(slices.raw)]
        return "raw", raw.support, partial(raw_example, raw.kspace)
    image = slices.images[rng.integers(len(slices.images))]
    num_coils = 1 if number % 4 == 1 else 8
    # Anatomy as it is: what is made up in training is not what anybody will reconstruct.
    simulation = config.simulation.model_copy(update={"content": ContentConfig(), "tight": 0.0})
    simulated = simulate_kspace(image, rng, simulation, num_coils=num_coils)
    kind = "simulated-1coil" if num_coils == 1 else "simulated-8coil"
    support = np.ones(simulated.kspace.shape[-1], dtype=np.bool_)
    maps, clean = simulated.sens_maps, _clean_image(simulated)
    return kind, support, partial(raw_example, simulated.kspace, sens_maps=maps, image=clean)


def _clean_image(simulated: Simulated) -> Tensor | None:
    """The target of several coils; one coil is judged by a reference with its noise, as a real one is."""
    return simulated.image if simulated.kspace.shape[0] > 1 else None
