from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mri_recon.errors import MaskError, ShapeError
from mri_recon.masks.convert import as_mask, column_mask_from_lines, mask_from_file, undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask, PatternMask


@pytest.mark.parametrize("shape", [(7,), (1, 7), (1, 1, 7), (1, 1, 1, 7)])
@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_every_layout_of_columns(shape: tuple[int, ...], kind: Any) -> None:
    lines = np.array([1, 0, 1, 1, 1, 0, 1], dtype=kind)
    for given_mask in (lines.reshape(shape), torch.from_numpy(lines.reshape(shape)), lines.reshape(shape).tolist()):
        mask = as_mask(given_mask, (2, 3, 5, 7))
        assert isinstance(mask, ColumnMask)
        np.testing.assert_array_equal(mask.lines, lines != 0)
        assert (mask.kind, mask.acceleration, mask.num_low_frequencies, mask.center_start) == ("array", None, 3, 2)


def test_patterns_and_constant_patterns() -> None:
    shape = (1, 2, 5, 7)
    pattern = np.random.default_rng(0).random((5, 7)) < 0.5
    mask = as_mask(pattern[None, None], shape)
    assert isinstance(mask, PatternMask)
    np.testing.assert_array_equal(mask.pattern, pattern)
    assert as_mask(mask, shape) is mask
    constant = as_mask(np.tile(pattern[0], (5, 1)), shape)
    assert isinstance(constant, ColumnMask)
    np.testing.assert_array_equal(constant.lines, pattern[0])
    rows = as_mask(np.array([[1], [0], [1], [1], [0]]), shape)  # along readout, the same for every column
    assert isinstance(rows, PatternMask)
    np.testing.assert_array_equal(rows.pattern[:, 6], [1, 0, 1, 1, 0])
    columns = random_mask(7, 2, num_low_frequencies=1)
    assert as_mask(columns, shape) is columns
    assert isinstance(as_mask([True], shape), ColumnMask)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (
            np.ones(6),
            r"mask \(7,\) or \(5, 7\) for k-space of shape \(2, 3, 5, 7\).*got \(6,\): make the mask for this",
        ),
        (np.ones((7, 5)), r"got \(7, 5\)"),
        (np.arange(70).reshape(2, 1, 5, 7) < 35, r"got \(2, 1, 5, 7\)"),
        (np.array(1), r"got \(\)"),
        (ColumnMask(np.ones(6, dtype=bool)), r"got \(6,\)"),
        (PatternMask(np.ones((7, 5), dtype=bool)), r"got \(7, 5\)"),
        (np.full(7, 0.5), "booleans, or of 0 and 1, got other values"),
        (np.full(7, np.nan), "booleans, or of 0 and 1"),
        (np.full(7, 2), "booleans, or of 0 and 1"),
        (np.full(7, 1j), "complex128"),
        (np.full(7, 255, np.uint8), r"got other values up to 255 \(uint8\): threshold it first \(mask > 0"),
        (np.zeros(7), "none sampled"),
        (np.zeros((5, 7)), "none sampled"),
    ],
)
def test_masks_that_do_not_fit(mask: Any, message: str) -> None:
    with pytest.raises(MaskError, match=message):
        as_mask(mask, (2, 3, 5, 7))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (-1, "such as -1 (int64)"),
        (1.0000001, "up to 1.0000001 (float64)"),
        (np.nan, "such as nan"),
        (0.5, "such as 0.5"),
    ],
)
def test_the_value_that_is_no_mask_is_named(value: float, told: str) -> None:
    """The largest value is no help where it is 0, 1 after rounding, or not a number."""
    with pytest.raises(MaskError, match=re.escape(told)):
        as_mask(np.where(np.arange(7) % 2, 1, value), (2, 3, 5, 7))


@given(
    lines=st.lists(st.booleans(), min_size=7, max_size=7).filter(any),
    shape=st.sampled_from([(5, 7), (3, 5, 7), (2, 3, 5, 7), (2, 1, 1, 7), (2, 3, 1, 7)]),
    kind=st.sampled_from([bool, np.uint8, np.float16, np.complex64, ">i4"]),
)
def test_axes_of_slices_and_coils_along_which_a_mask_is_constant(
    lines: list[bool], shape: tuple[int, ...], kind: Any
) -> None:
    array = np.broadcast_to(lines, shape).astype(kind)
    assert as_mask(array, (2, 3, 5, 7)).lines.tolist() == lines
    assert mask_from_file(array, "a").lines.tolist() == lines


@pytest.mark.parametrize("kind", [torch.bool, torch.bfloat16, torch.float16, torch.complex64])
def test_masks_of_any_type_of_tensor(kind: torch.dtype) -> None:
    assert as_mask(torch.tensor([1, 0, 1]).to(kind), (1, 1, 4, 3)).lines.tolist() == [True, False, True]


def test_kspace_needs_two_axes() -> None:
    with pytest.raises(ShapeError, match=r"k-space \(..., readout, phase\), got shape \(7,\)"):
        as_mask(np.ones(7), (7,))


def test_lines_with_a_support() -> None:
    support = [False, True, True, True, False]
    mask = column_mask_from_lines([0, 1, 0, 1, 0], support=support)
    assert (mask.support_width, mask.num_low_frequencies, mask.center_start, mask.kind) == (3, 0, None, "file")
    with pytest.raises(MaskError, match="every sampled line inside the support"):
        column_mask_from_lines([1, 1, 0, 1, 0], support=support)
    with pytest.raises(MaskError, match=r"1-D array, got shape \(1, 2\)"):
        column_mask_from_lines([[1, 1]])


@pytest.mark.parametrize("shape", [(5, 7), (1, 1, 5, 7), (2, 3, 5, 7)])
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128, ">c8"])
def test_undersample_keeps_the_lines_and_zeroes_the_rest(shape: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    kspace = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    kspace.flags.writeable = False
    mask = random_mask(7, 2, num_low_frequencies=1)
    out = undersample(kspace, mask)
    assert out.dtype == torch.complex64
    np.testing.assert_array_equal(out.numpy(), (kspace * mask.lines).astype(np.complex64))
    assert torch.equal(undersample(out, mask.lines), out)


def test_undersample_a_pattern_and_damaged_samples() -> None:
    kspace = torch.ones(2, 4, 5, dtype=torch.complex64)
    kspace[:, 0, 0] = torch.nan
    pattern = torch.ones(4, 5, dtype=torch.bool)
    pattern[0, 0] = False
    out = undersample(kspace, pattern)
    assert torch.equal(out, pattern * torch.ones_like(out))
    assert torch.isnan(kspace[0, 0, 0].real)  # the input is left alone


@pytest.mark.parametrize("kspace", [np.ones((4, 5)), torch.ones(4, 5)])
def test_undersample_wants_complex(kspace: Any) -> None:
    with pytest.raises(ShapeError, match=r"complex k-space, got (torch\.)?float.*view_as_complex"):
        undersample(kspace, np.ones(5))
