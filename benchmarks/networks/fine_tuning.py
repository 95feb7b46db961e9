"""What fine-tuning on a user's files gains and costs: simulated scans of the neck, an anatomy that no training has.

    python benchmarks/networks/fine_tuning.py files FOLDER [--undersampled]
    mri-recon train fine-tune --set data.root=FOLDER --set data.split_file=FOLDER/split.json \\
        --set data.validation_slices=3 --set run.steps=200
    python benchmarks/networks/fine_tuning.py score unrolled runs/fine-tuned/fine-tuned.safetensors

The images are those of a validation person of the registry; a file a slice, four coils, SNR 40. The last three are for
validation, and `score` reconstructs these at 4x and 8x. PSNR is against the image without noise and against what a
user has, the root sum of squares of the noisy full k-space. One validation scan each of other worlds shows what
the weights forget.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Annotated

import h5py
import numpy as np
import typer
from torch import Tensor

from mri_recon.coils.combine import combine, rss
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import Mask
from mri_recon.metrics import evaluate
from mri_recon.reconstruction import reconstruct
from mri_recon.transforms.fourier import fft2c, ifft2c
from mri_recon_data.examples.acquisition import with_phase
from mri_recon_data.examples.slices import RegistrySlices
from mri_recon_data.examples.validation_worlds import PLAIN_ACQUISITION, PLAIN_SCENE, validation_scans
from mri_recon_data.registry import load_registry
from mri_recon_data.scenes.images import load_slices
from mri_recon_data.scenes.sources import scene_of_slice
from mri_recon_data.simulation.arrays import draw_array
from mri_recon_data.simulation.kspace import complex_noise
from mri_recon_training.markdown import table

COILS, SNR, VALIDATION = 4, 40, 3
SCENE = PLAIN_SCENE.model_copy(update={"size": (96, 160), "resolution": (0.45, 0.5)})
OTHERS = ("raw-4x", "raw-8x", "simulated-8coil-snr40-4x", "procedural-8x")

app = typer.Typer(help=__doc__, no_args_is_help=True)


def necks() -> Iterator[tuple[Tensor, Tensor]]:
    """Yield k-space `(coil, h, w)` and the magnitude of the image without noise, `(h, w)`, of every slice."""
    for number, one in enumerate(
        load_slices([(file.name, file.path()) for file in load_registry().get("neck-axial").files])
    ):
        rng = np.random.default_rng([5, number])
        image = with_phase(scene_of_slice(one.magnitude, rng, SCENE), rng, PLAIN_ACQUISITION)
        height, width = (int(side) for side in image.shape)
        maps = draw_array(COILS, (height, width), rng, PLAIN_ACQUISITION.array).maps
        noise = complex_noise((COILS, height, width), rng, sigma=1 / SNR / 2**0.5)
        yield fft2c(maps * image + noise), combine(maps * image, maps).abs()


@app.command()
def files(
    folder: Annotated[Path, typer.Argument(help="Folder for the files")],
    undersampled: Annotated[bool, typer.Option(help="At 3x to 5x, with the mask in the file")] = False,
) -> None:
    """Write the files and `split.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number, (kspace, _) in enumerate(necks()):
        names.append(f"slice{number:02d}.h5")
        with h5py.File(folder / names[-1], "w") as file:
            if undersampled:
                mask = random_mask(kspace.shape[-1], 3 + number % 3, seed=number)
                kspace, file["mask"] = undersample(kspace, mask), mask.lines.astype(np.uint8)
            file["kspace"] = kspace[None].numpy().astype(np.complex64)
            file.attrs["patient_id"] = f"slice {number}"
            file.attrs["acquisition"] = "simulated T2*w"
    split = {"train": names[:-VALIDATION], "validation": names[-VALIDATION:]}
    (folder / "split.json").write_text(json.dumps(split) + "\n")


@app.command()
def score(weights: Annotated[list[str], typer.Argument(help="Shipped names or .safetensors files")]) -> None:
    """Print the PSNR of weights on the validation slices, and on a scan each of other worlds."""
    found = defaultdict[str, dict[str, list[float]]](lambda: defaultdict(list))
    for name, kspace, mask, reference in _problems():
        for model in weights:
            image = reconstruct(kspace, mask, method="unrolled", model=model).image.abs()
            for against, truth in reference.items():
                found[f"{name}{against}"][model].append(evaluate(image, truth).psnr)
    rows = [[name, *(f"{fmean(row[model]):.2f}" for model in weights)] for name, row in found.items()]
    print("\n".join(table(["PSNR, dB", *(Path(model).stem for model in weights)], rows, text=1)))


def _problems() -> Iterator[tuple[str, Tensor, Mask, dict[str, Tensor]]]:
    for number, (kspace, clean) in list(enumerate(necks()))[-VALIDATION:]:
        truths = {
            ", against the image without noise": clean[None],
            ", against the noisy full k-space": rss(ifft2c(kspace))[None],
        }
        for acceleration in (4, 8):
            mask = random_mask(kspace.shape[-1], acceleration, seed=number)
            yield f"neck {acceleration}x", undersample(kspace, mask)[None], mask, truths
    slices, seen = RegistrySlices.read("validation"), set[str]()
    for scan in validation_scans(slices.raw, slices.images, seed=0):
        if scan.kind in OTHERS and scan.kind not in seen:
            seen.add(scan.kind)
            yield scan.kind, undersample(scan.kspace, scan.mask)[None], scan.mask, {"": scan.reference[None]}


if __name__ == "__main__":
    app()
