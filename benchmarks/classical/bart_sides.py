"""SENSE by BART's `pics` and by `cg-sense` on even and odd sides: the same samples, maps and weight.

`python benchmarks/classical/bart_sides.py` prints one line for each size. The embedded sample is simulated.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import mri_recon as mr
from mri_recon.embedded_sample import sample_path

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.classical.peers import read_cfl, write_cfl

SLICE, WEIGHT = 2, 0.01
SIZES = ((150, 126), (148, 124), (151, 126), (150, 127), (151, 127))


def compare(size: tuple[int, int]) -> tuple[float, float, float]:
    """Distance of the two images, and the NRMSE of BART's magnitudes and of ours against the full data."""
    full = mr.load(sample_path()).kspace[SLICE : SLICE + 1]
    starts = [length // 2 - side // 2 for length, side in zip(full.shape[-2:], size, strict=True)]
    rows, columns = (slice(start, start + side) for start, side in zip(starts, size, strict=True))
    full = full[..., rows, columns].contiguous()
    mask = mr.random_mask(size[1], acceleration=3, num_low_frequencies=24, seed=0)
    masked = mr.undersample(full, mask)
    with tempfile.TemporaryDirectory() as folder:
        path = {name: str(Path(folder, name)) for name in ("kspace", "maps", "image")}
        write_cfl(path["kspace"], masked[0].numpy().transpose(1, 2, 0)[:, :, None])
        _bart("ecalib", "-m1", path["kspace"], path["maps"])
        _bart("pics", "-l2", "-r", WEIGHT, "-S", "-i", 100, path["kspace"], path["maps"], path["image"])
        maps, theirs = read_cfl(path["maps"])[:, :, 0].transpose(2, 0, 1), read_cfl(path["image"])
    options = {"sens_maps": maps, "reg_weight": WEIGHT, "tol": 1e-6, "max_iters": 200}
    ours = mr.reconstruct(masked, mask, method="cg-sense", **options).image[0].numpy()
    reference = mr.rss(mr.ifft2c(full))[0].numpy()
    norm = np.linalg.norm
    errors = [float(norm(np.abs(one) - reference) / norm(reference)) for one in (theirs, ours)]
    return float(norm(theirs - ours) / norm(ours)), errors[0], errors[1]


def _bart(*command: object) -> None:
    subprocess.run(["bart", *map(str, command)], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    print("SIMULATED; size, |bart - ours| / |ours|, NRMSE of bart, NRMSE of ours")
    for size in SIZES:
        distance, bart, ours = compare(size)
        print(f"{size[0]}x{size[1]}  {distance:.1e}  {bart:.3f}  {ours:.3f}")
