from __future__ import annotations

from typing import Any

import pytest
import torch

from mri_recon.masks.draw import random_mask
from mri_recon.methods.compile_ahead import compile_ahead
from mri_recon.methods.cs_wavelet import cs_wavelet
from tests.support.helpers import complex_randn
from tests.support.without_numba import without_numba


def test_a_reconstruction_compiles_nothing_more() -> None:
    pytest.importorskip("numba", reason="compiled loops need numba, of the extra fast")
    from mri_recon.coils import _eigenvector_kernels
    from mri_recon.solvers import _haar_kernels

    assert compile_ahead()
    loops: Any = (_eigenvector_kernels.leading_eigenvectors, _haar_kernels.one_level, _haar_kernels.low_back)
    before = [len(one.signatures) for one in loops]
    mask = random_mask(97, 2, seed=0)
    calls = []
    original = _eigenvector_kernels.leading_eigenvectors
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            _eigenvector_kernels,
            "leading_eigenvectors",
            lambda *arguments: calls.append(1) or original(*arguments),  # type: ignore[func-returns-value]
        )
        cs_wavelet(complex_randn(1, 3, 99, 97, dtype=torch.complex64) * mask.tensor(), mask, max_iters=3)
    assert calls
    assert [len(one.signatures) for one in loops] == before


def test_without_numba_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    without_numba(monkeypatch)
    assert not compile_ahead()
