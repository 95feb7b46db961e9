"""Reconstruct simulated scans with lesions and without, and score them; an interrupted run resumes.

y_c = F (S_c m exp(i phi) + n_c): m a registered magnitude image with lesions or without, phi, S_c and the noise n_c as
in `evaluation.simulated`. With and without lesions, phase, coils, noise and mask are the same; another seed has another
mask and other noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mri_recon.coils.combine import rss
from mri_recon.errors import ConfigError, DataError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask
from mri_recon.reconstruction import reconstruct
from mri_recon.results.comparison import check_methods
from mri_recon.transforms.fourier import fft2c, ifft2c
from mri_recon_data import registry
from mri_recon_data.simulation.arrays import ReceiveArray
from mri_recon_data.simulation.kspace import complex_noise, smooth_phase
from mri_recon_training.evaluation.lesions.config import LesionConfig
from mri_recon_training.evaluation.lesions.inserts import Image, Place, choose_places, object_of, with_lesions
from mri_recon_training.evaluation.lesions.observer import invented_excess, measured_contrasts
from mri_recon_training.evaluation.preflight import check_unseen, try_methods
from mri_recon_training.evaluation.resume import FinishedComparisons
from mri_recon_training.evaluation.run_log import code_state
from mri_recon_training.evaluation.simulated import MAX_SHIFT, PHASE_STRENGTH, draw_array, middle_slices, seed_of
from mri_recon_training.evaluation.sources import attribution_of

__all__ = ["FULL", "LesionRun", "Subject", "mask_of", "reconstructed", "run_lesions", "subjects_of"]


FULL = "fully sampled"
"""Name of the reference in the tables: the root sum of squares of the noisy full k-space."""


@dataclass(frozen=True)
class Subject:
    """Hold the image of one subject and its lesions.

    Attributes:
        name: of the file.
        person: the subject.
        attribution: credit that a picture must give; None: no picture may be in the project.
        files: of the volume.
        config: of the test.
    """

    name: str
    person: str
    attribution: str | None
    files: tuple[registry.RegisteredFile, ...]
    config: LesionConfig

    @cached_property
    def image(self) -> Image:
        """Magnitudes of the middle slice without lesions, `(h, w)`."""
        found: Image = middle_slices(*self.files)[0].numpy()
        return found

    @cached_property
    def places(self) -> list[Place]:
        """Where the lesions are."""
        rng = np.random.default_rng([seed_of(self.name), 2])
        return choose_places(self.image, self.config.widths, self.config.num_places, rng)

    @cached_property
    def receive(self) -> ReceiveArray:
        """Coils of every scan of this subject."""
        rng = np.random.default_rng([seed_of(self.name), self.config.array.num_coils])
        return draw_array(self.config.array, (self.image.shape[0], self.image.shape[1]), rng)

    def magnitudes(self, contrast: float) -> Image:
        """Give the true image with lesions of a contrast; 0: without."""
        return with_lesions(self.image, self.places, contrast) if contrast else self.image

    def kspace(self, contrast: float, seed: int) -> torch.Tensor:
        """Simulate full k-space, complex64 `(1, coil, readout, phase)`."""
        array, shape = self.config.array, (self.image.shape[0], self.image.shape[1])
        phases = np.random.default_rng([seed_of(self.name), 0])
        phase = torch.from_numpy(smooth_phase(shape, phases, strength=PHASE_STRENGTH, max_shift=MAX_SHIFT))
        rng = np.random.default_rng([seed_of(self.name), 3, seed])
        noise = complex_noise((array.num_coils, *shape), rng, sigma=1 / array.snr)
        if self.receive.noise is not None:
            noise = (self.receive.noise @ noise.flatten(1)).reshape(noise.shape)
        image = torch.polar(torch.from_numpy(self.magnitudes(contrast)), phase)
        return fft2c(self.receive.maps * image + noise).to(torch.complex64)[None]


@dataclass(frozen=True)
class LesionRun:
    """Results of the test.

    Attributes:
        config: of the test.
        subjects: whose images were used.
        rows: one for each subject, acceleration, seed and method: `absent`, the measured contrast at every place of the
            image without lesions; `present`, a list of them for each contrast; `invented`, for each width, a number for
            each contrast.
        finished: what is kept on disk; `finished.finish()` removes it once the results are written.
    """

    config: LesionConfig
    subjects: list[Subject]
    rows: list[dict[str, Any]]
    finished: FinishedComparisons


def subjects_of(config: LesionConfig) -> list[Subject]:
    """List one volume of each subject of a split: the first of the registry.

    Raises:
        DataError: a split without images, an unknown subject, or a file that is not to be had.
    """
    volumes = registry.volumes(registry.files(split=config.split, kind="image"))
    firsts: dict[str, tuple[registry.RegisteredFile, ...]] = {}
    for files in volumes:
        firsts.setdefault(files[0].person, files)
    if config.person:
        if config.person not in firsts:
            raise DataError(
                f"expected magnitude images of {config.person!r} in this split, got those of {', '.join(firsts)}: "
                "choose one of them"
            )
        firsts = {config.person: firsts[config.person]}
    if not firsts:
        raise DataError(f"expected magnitude images in the split {config.split!r}, got none: choose another split")
    for files in firsts.values():
        for file in files:
            file.path()  # fails here, not after an hour
    return [Subject(files[0].name, person, attribution_of(files[0]), files, config) for person, files in firsts.items()]


def mask_of(subject: Subject, acceleration: float, seed: int) -> ColumnMask:
    """Draw the mask of a scan."""
    return random_mask(int(subject.image.shape[1]), acceleration, seed=seed)


def reconstructed(subject: Subject, method: str, contrast: float, acceleration: float, seed: int) -> Image:
    """Reconstruct magnitudes, `(h, w)`, of a scan with lesions of a contrast; 0: without.

    The method `FULL` stands for the root sum of squares of full k-space.
    """
    kspace, config = subject.kspace(contrast, seed), subject.config
    if method == FULL:
        full: Image = rss(ifft2c(kspace))[0].numpy()
        return full
    mask = mask_of(subject, acceleration, seed)
    kspace = undersample(kspace, mask)
    options = config.options.get(method, {})
    found: Image = (
        reconstruct(kspace, mask, method=method, device=config.device, **options).image[0].abs().cpu().numpy()
    )
    return found


def run_lesions(
    config: LesionConfig,
    *,
    keep: Path | None = None,
    started: Callable[[int], None] = lambda resumed: None,
    report: Callable[[str, int, int], None] = lambda text, done, total: None,
) -> LesionRun:
    """Run the test, after every check that can be made before.

    Args:
        config: of the test.
        keep: file of finished scans, from which an interrupted test resumes; None: none is kept.
        started: called once before the first scan, with the number of scans in `keep`.
        report: called before each scan with a text, the number of finished ones and their total.

    Raises:
        ConfigError: fewer than two seeds or places, a contrast of 0, or weights trained on one of the subjects.
        DataError: as `subjects_of`, or an image without room for the lesions.
        MethodError, CheckpointError: an unknown method or option, or a method that fails on a small phantom.
    """
    if len(config.seeds) < 2:
        raise ConfigError(f"expected at least two seeds, got {len(config.seeds)}: images are compared between seeds")
    if 0 in config.contrasts or not config.contrasts:
        raise ConfigError(f"expected contrasts that are not 0, got {config.contrasts}: 0 is the image without lesions")
    if config.num_places < 2 * len(config.widths):
        raise ConfigError(
            f"expected at least two places for each of {len(config.widths)} widths, got {config.num_places}: a lesion "
            "at one place is compared with none at another"
        )
    check_methods(config.methods, config.options)
    subjects = subjects_of(config)
    check_unseen(config.methods, {one.person for one in subjects}, config.options)
    tried = try_methods(
        config.methods, options=config.options, num_coils=(config.array.num_coils,), device=config.device
    )
    for subject in subjects:
        _ = subject.places  # fails here, not after an hour
    finished = FinishedComparisons(keep, _settings(config, tried))
    started(len(finished))
    cases = [(one, r, seed) for seed in config.seeds for one in subjects for r in config.accelerations]
    rows: list[dict[str, Any]] = []
    for number, (subject, acceleration, seed) in enumerate(cases):
        report(f"{subject.person}, R = {acceleration:g}, seed {seed}", number, len(cases))
        done = finished.get(subject.name, acceleration, seed)
        if done is None:
            done = {"rows": [_row(subject, method, acceleration, seed) for method in (FULL, *config.methods)]}
            finished.put(subject.name, acceleration, seed, done)
        rows += done["rows"]
    return LesionRun(config, subjects, rows, finished)


def _row(subject: Subject, method: str, acceleration: float, seed: int) -> dict[str, Any]:
    config = subject.config
    absent = reconstructed(subject, method, 0.0, acceleration, seed)
    present = [
        measured_contrasts(reconstructed(subject, method, one, acceleration, seed), subject.places)
        for one in config.contrasts
    ]
    inside = object_of(subject.image)
    return {
        "file": subject.name,
        "person": subject.person,
        "acceleration": acceleration,
        "seed": seed,
        "method": method,
        "absent": measured_contrasts(absent, subject.places),
        "present": present,
        "invented": [
            [int((invented_excess(absent, subject.image, inside, width, one) > 0).sum()) for one in config.contrasts]
            for width in config.widths
        ],
    }


def _settings(config: LesionConfig, tried: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Name everything but subject, acceleration and seed that decides a row."""
    return {
        "test": "lesions",
        "split": config.split,
        "code": code_state(),
        "methods": config.methods,
        "options": config.options,
        "weights": {name: info["model_sha256"] for name, info in tried.items() if "model_sha256" in info},
        "array": [config.array.num_coils, config.array.snr, config.array.measured],
        "contrasts": config.contrasts,
        "widths": config.widths,
        "places": config.num_places,
        "device": config.device or "cpu",
    }
