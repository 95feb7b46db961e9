"""Compile the loops of compressed sensing before the first reconstruction, which would wait for them.

To do so:

    python -m mri_recon.methods.compile_ahead
"""

from __future__ import annotations

import numpy as np
import torch

from mri_recon.coils.espirit import espirit_maps
from mri_recon.masks.types import ColumnMask
from mri_recon.solvers import compiled_haar

__all__ = ["compile_ahead"]


def compile_ahead() -> bool:
    """Compile the loops of `cs-wavelet` in single precision, or load them; return False without numba."""
    if not compiled_haar.compile_ahead():
        return False
    kspace = torch.randn(1, 2, 8, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    espirit_maps(kspace, ColumnMask(np.ones(8, dtype=np.bool_)), compiled=True)
    return True


if __name__ == "__main__":
    compile_ahead()
