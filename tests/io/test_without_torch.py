"""What needs no tensor starts without PyTorch, whose import takes most of the time of a short command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mri_recon.embedded_sample import sample_path

LISTS_MODULES = "print('torch' in sys.modules, 'numpy' in sys.modules)"


def loads_torch(program: str) -> bool:
    """Run a program in a process of its own; did it import torch?"""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}\n{LISTS_MODULES}"], capture_output=True, text=True, check=True
    )
    torch, numpy = done.stdout.split()[-2:]
    assert numpy == "True"
    return torch == "True"


@pytest.mark.parametrize(
    "program",
    [
        "import mri_recon.io, mri_recon.io.save, mri_recon.io.noise, mri_recon.io.masks, mri_recon.metrics",
        "import mri_recon as mr; mr.random_mask(40, 4).receipt(); mr.load_mask",
        "import mri_recon as mr; mr.evaluate([[[1.0] * 9] * 9], [[[1.0] * 9] * 9])",
        "import mri_recon.results.summary, mri_recon.results.scan_warnings",
        "import numpy, mri_recon as mr; mr.method_names()",
        f"import mri_recon as mr; mr.load({str(sample_path())!r}).samples",
    ],
)
def test_readers_masks_and_metrics(program: str) -> None:
    assert not loads_torch(program)


def test_tensors_come_with_torch() -> None:
    assert loads_torch(f"import mri_recon as mr; mr.load({str(sample_path())!r}).kspace")


@pytest.mark.parametrize("undersampled", [False, True])
def test_the_verb_info(tmp_path: Path, *, undersampled: bool) -> None:
    rng = np.random.default_rng(0)
    kspace = (rng.normal(size=(2, 3, 40, 36)) + 1j * rng.normal(size=(2, 3, 40, 36))).astype(np.complex64)
    kspace *= np.exp(-0.01 * (np.arange(40)[:, None] - 20) ** 2)
    if undersampled:
        kspace[..., ::3] = 0
    np.save(tmp_path / "scan.npy", kspace)
    command = f"from mri_recon.cli import main\nsys.argv = ['mri-recon', 'info', {str(tmp_path / 'scan.npy')!r}]"
    assert not loads_torch(f"{command}\ntry:\n    main()\nexcept SystemExit as end:\n    assert not end.code")
