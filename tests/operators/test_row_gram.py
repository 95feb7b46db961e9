from __future__ import annotations

import pytest
import torch

from mri_recon.operators import row_gram
from mri_recon.operators.row_gram import fast_gram
from mri_recon.operators.sense import SenseOperator


@pytest.mark.parametrize("block", [1, 200, 1 << 16])
@pytest.mark.parametrize("image_size", [None, (12, 80)])
@pytest.mark.parametrize("width", [64, 67, 61])
@pytest.mark.parametrize("coils", [1, 3])
def test_equals_the_operator(
    coils: int, width: int, image_size: tuple[int, int] | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_gram, "_BLOCK_SAMPLES", block)
    generator = torch.Generator().manual_seed(width)
    maps = torch.randn(2, coils, 9, width, dtype=torch.complex128, generator=generator)
    operator = SenseOperator(torch.rand(width, generator=generator) < 0.4, maps, image_size)
    x = torch.randn(2, *operator.image_size, dtype=torch.complex128, generator=generator)
    before = x.clone()
    torch.testing.assert_close(fast_gram(operator)(x), operator.gram(x), rtol=0, atol=1e-11)
    assert torch.equal(x, before)


def test_a_pattern_and_a_mask_for_each_item_take_the_plain_form() -> None:
    maps = torch.randn(2, 3, 9, 67, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    pattern = SenseOperator(torch.rand(9, 67, generator=torch.Generator().manual_seed(1)) < 0.4, maps)
    assert fast_gram(pattern) == pattern.gram
    lines = SenseOperator(torch.rand(67, generator=torch.Generator().manual_seed(1)) < 0.4, maps)
    own = lines.with_maps(maps, mask=torch.stack([lines.mask, 1 - lines.mask])[:, None, None])
    assert fast_gram(own) == own.gram
