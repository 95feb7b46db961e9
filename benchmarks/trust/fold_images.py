"""Images of every candidate on every validation scan and its folds, kept in a folder: what `regret.py` chooses from."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.networks.worlds import phantom_scans
from mri_recon.coils.scan_maps import ScanMaps
from mri_recon.errors import MriReconError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.methods.candidate import Candidate, parse_candidates
from mri_recon.methods.candidate_runs import candidate_images, run_candidate
from mri_recon.methods.holdout import HeldOut, HoldOutData, hold_out, predicted_samples
from mri_recon.models import Unet
from mri_recon.models.checkpoint import build_network, load_named, save_checkpoint, weights_file
from mri_recon_data import registry
from mri_recon_data.examples.slices import RegistrySlices
from mri_recon_data.examples.validation_worlds import ValidationScan, validation_scans


@dataclass(frozen=True)
class Images:
    """What a candidate made of a scan: the image of all lines, those of the folds `(fold, h, w)`, and the seconds."""

    image: Tensor
    folds: Tensor
    seconds: float


@dataclass(frozen=True)
class Scan:
    """A validation scan: its number, the undersampled k-space `(1, coil, readout, phase)`, folds, maps, reference."""

    number: int
    scan: ValidationScan
    kspace: Tensor
    data: HoldOutData
    maps: ScanMaps

    @property
    def reference(self) -> Tensor:
        return self.scan.reference[None]


def raw_test_scans() -> Iterator[ValidationScan]:
    """Yield the middle slice of every fully sampled raw scan of the test split at R = 4 and 8, mask 0."""
    for file in registry.files(split="test", kind="raw"):
        scan = file.load()
        if not file.fully_sampled:  # no truth
            continue
        kspace = torch.as_tensor(scan.kspace).to(torch.complex64)[scan.num_slices // 2]
        for acceleration in (4, 8):
            mask = random_mask(scan.width, acceleration, seed=0, support=scan.support)
            name = f"{file.set_name}-{scan.num_coils}coil-{acceleration}x"
            yield ValidationScan(name, kspace, mask, source=f"raw/{file.set_name}")


def scans(*, each: int | None, seed: int = 0, test: bool = False, done: Container[int] = ()) -> Iterator[Scan]:
    """Yield the validation scans of every world, then the phantoms; the first `each` of a kind, or all, but those done.

    With `test`, yield `raw_test_scans` in their place.

    A scan with too few lines for the check is left out, as `auto` leaves it to compressed sensing.
    """
    every: Iterator[ValidationScan]
    if test:
        every = raw_test_scans()
    else:
        slices = RegistrySlices.read("validation")
        every = itertools.chain(validation_scans(slices.raw, slices.images, seed=seed, measured=True), phantom_scans())
    seen: dict[str, int] = {}
    for number, scan in enumerate(every):
        seen[scan.kind] = seen.get(scan.kind, 0) + 1
        if (each is not None and seen[scan.kind] > each) or number in done:
            continue
        kspace = undersample(scan.kspace, scan.mask)[None]
        try:
            maps = ScanMaps.of(kspace, scan.mask)
            yield Scan(number, scan, kspace, hold_out(kspace, scan.mask, maps.everywhere), maps)
        except MriReconError as error:
            print(f"scan {number} ({scan.kind}) is left out: {error}")


def images(scan: Scan, candidate: Candidate, folder: Path) -> Images:
    """Run a candidate on a scan and its folds, or read what an earlier run kept."""
    path = kept_in(folder, scan, candidate)
    if not path.exists():
        mask, device = scan.scan.mask, torch.device("cpu")
        start = time.perf_counter()
        image, _ = run_candidate(candidate, scan.kspace, mask, scan.maps, device=device)
        seconds = time.perf_counter() - start
        found = candidate_images(candidate, scan.data, scan.maps)
        part = path.with_suffix(".part.npz")
        np.savez(part, image=image.numpy(), folds=torch.cat(found).numpy(), seconds=seconds)
        part.rename(path)
    kept = np.load(path)
    return Images(torch.from_numpy(kept["image"]), torch.from_numpy(kept["folds"]), float(kept["seconds"]))


def predictions(scan: Scan, found: Images) -> list[HeldOut]:
    """Predict the samples held out from the images of the folds."""
    return predicted_samples(scan.data, list(found.folds.unsqueeze(1)))


def kept_in(folder: Path, scan: Scan, candidate: Candidate) -> Path:
    """Name the file of a scan, a candidate and its weights, by their content."""
    name = hashlib.sha256(candidate.label.encode())
    name.update(scan.kspace.numpy().tobytes())
    weights = weights_file(str(candidate.options.get("model", candidate.method)))
    if weights.is_file():
        name.update(weights.read_bytes())
    return folder / f"{scan.number:03d}-{candidate.method}-{name.hexdigest()[:12]}.npz"


def random_networks(folder: Path) -> list[Candidate]:
    """Write the released networks with random weights, the last convolutions included, and name them as candidates."""
    found = []
    for number, model in enumerate(("unet", "unrolled")):
        path = folder / f"random-{model}.safetensors"
        if not path.exists():
            card = load_named(model).card
            torch.manual_seed(number)
            network = build_network(card.architecture, card.config)
            for module in network.modules():
                if isinstance(module, Unet):
                    nn.init.normal_(module.head.weight, std=0.1)
            new = card.model_copy(update={"name": f"random-{model}", "description": "Random weights.", "data": []})
            save_checkpoint(path, network, new, dtype=torch.float32)
        found += parse_candidates([f"{model}:model={path}"])
    return found
