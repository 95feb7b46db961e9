"""Masks: the exact definitions, fastMRI's bits, receipts, fitting to k-space, files."""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mri_recon.errors import FormatError, MaskError, ShapeError
from mri_recon.io import load_mask
from mri_recon.masks.calibration_region import center_block
from mri_recon.masks.convert import as_mask, column_mask_from_lines, mask_from_file, undersample
from mri_recon.masks.draw import default_center_fraction, equispaced_mask, fastmri_random_mask, random_mask
from mri_recon.masks.types import ColumnMask, PatternMask

# (width, center_fraction, acceleration, seed, num_low_frequencies, lines as packed bits in hex), made by
# RandomMaskFunc([center_fraction], [acceleration])((1, 640, width, 2), seed=seed) of fastmri 0.3.0 from PyPI, with
# seed = tuple(map(ord, name)) for a file name.
FASTMRI = [
    (126, 0.08, 4, 0, 10, "000380a02011053ff415210950000000"),
    (126, 0.08, 4, 1234, 10, "0000420040e2243ffc42042020680404"),
    (126, 0.08, 4, "file1000000.h5", 10, "0862018c9040103ff05040a000080000"),
    (126, 0.04, 8, 0, 5, "0003800020100007c010200050000000"),
    (126, 0.04, 8, 1234, 5, "0000420000a20407c002000020200000"),
    (126, 0.04, 8, "file1000000.h5", 5, "0002000c10001007c010408000080000"),
    (256, 0.08, 4, 0, 20, "000380a02011050d14152109500003ffffc022a102541800821c020080405181"),
    (256, 0.08, 4, 1234, 20, "0000420040e224004c420420206807ffffc8904000000041a40220040200ea84"),
    (256, 0.08, 4, "file1000000.h5", 20, "0862018c90401008005040a0000803ffffc88240084100900a08cc0250400218"),
    (256, 0.04, 8, 0, 10, "0003800020100000001020005000001ff800000102141000020c020000400001"),
    (256, 0.04, 8, 1234, 10, "0000420000a20400400200002020001ff808800000000040000220040200c284"),
    (256, 0.04, 8, "file1000000.h5", 10, "0002000c10001000001040800008001ff8088040000000800a08c80210000000"),
    (
        368,
        0.08,
        4,
        0,
        29,
        "000380a02011050d1415210950000002080022a1027ffffffe1c02008040518106080014108135c0602801410400",
    ),
    (
        368,
        0.08,
        4,
        1234,
        29,
        "0000420040e224004c42042020680404c3489040003ffffffe0220040200ea84800042d0001021e005e201042112",
    ),
    (
        368,
        0.08,
        4,
        "file1000000.h5",
        29,
        "0862018c90401008005040a00008000040488240087ffffffe08cc025040021808610400008c00210a1200648900",
    ),
    (
        368,
        0.04,
        8,
        0,
        15,
        "000380002010000000102000500000020000000102147fff020c0200004000010208001000011480200801410000",
    ),
    (
        368,
        0.04,
        8,
        1234,
        15,
        "0000420000a204004002000020200000c008800000007fff000220040200c284000042800000008004e001002012",
    ),
    (
        368,
        0.04,
        8,
        "file1000000.h5",
        15,
        "0002000c1000100000104080000800000008804000007fff0a08c8021000000008010400008000200a0000608800",
    ),
]


# (kind, width, acceleration, center_fraction, seed, lines as packed bits in hex) of masks of a full support, written
# when the centre was still placed by the support alone: a full support keeps the lines it had.
FULL_SUPPORT = [
    ("random", 96, 4, None, 0, "54020900022ff10c02a00808"),
    ("random", 96, 8, None, 3, "010188000003c04000881000"),
    ("random", 127, 4, None, 1, "1042004c8004401ff88028042a920888"),
    ("random", 127, 8, 0.04, 2, "0028000420808407c004000028800000"),
    ("random", 126, 4, 0.08, 4, "008010840302203ff0c5040189122240"),
    ("random", 45, 3, 0.2, 7, "00003fe50b10"),
    (
        "random",
        368,
        4,
        None,
        0,
        "ea7004500100420000103202000002070402410105fffffffe0a0300040229084690820191804180000000102682",
    ),
    (
        "random",
        368,
        8,
        None,
        5,
        "8101c000000820024000401a400000008040014000407fff00020002010100000000520000800000002010001800",
    ),
    ("random", 31, 1, 0.1, 2, "fffffffe"),
    (
        "random",
        320,
        6,
        0.031,
        12345,
        "000004481200090cd1020408200800401002001ff88020601444041312401200000010a200000800",
    ),
    ("equispaced", 96, 4, None, 0, "10420841082ff10420841082"),
    ("equispaced", 96, 8, None, 3, "800801001003e00200400400"),
    ("equispaced", 127, 4, None, 1, "208421042104211ff908410841084108"),
    ("equispaced", 127, 8, 0.04, 2, "2004004008010027c020040080100200"),
    ("equispaced", 126, 4, 0.08, 4, "082108210841087ff082108210841084"),
    ("equispaced", 45, 3, 0.2, 7, "10413fe20820"),
    (
        "equispaced",
        368,
        4,
        None,
        0,
        "1082108210421042104208420841084108410821083fffffff084108210821042104210420842084208410841082",
    ),
    (
        "equispaced",
        368,
        8,
        None,
        5,
        "004008010010020020040080080100100200400400807fff20020040040080100100200200400800801001002004",
    ),
    ("equispaced", 31, 1, 0.1, 2, "fffffffe"),
    (
        "equispaced",
        320,
        6,
        0.031,
        12345,
        "408081020408081020408081020408081020405ff820408101020408101020408101020408081020",
    ),
]


def packed(lines: np.ndarray) -> str:
    return np.packbits(lines).tobytes().hex()


def reference_random_mask(columns: np.ndarray, width: int, n: int, total: int, seed: int) -> np.ndarray:
    """The design's sentence, written out."""
    w = len(columns)
    wanted = (width - n + 1) // 2
    first = min(sum(column < wanted for column in columns), w - n)  # the support may end before the centre does
    center = list(range(first, first + n))
    rest = [i for i in range(w) if i not in center]
    lines = np.zeros(width, dtype=bool)
    lines[columns[center]] = True
    lines[columns[np.random.default_rng(seed).choice(rest, total - n, replace=False)]] = True
    return lines


# ------------------------------------------------------------------------------------------- random and equispaced


@given(
    width=st.integers(1, 130),
    acceleration=st.floats(1, 12),
    fraction=st.floats(0.01, 0.5),
    seed=st.integers(0, 2**40),
    make=st.sampled_from([random_mask, equispaced_mask]),
)
@settings(max_examples=80, deadline=None)
def test_the_number_of_lines_is_exact(width: int, acceleration: float, fraction: float, seed: int, make: Any) -> None:
    n, total = round(width * fraction), round(width / acceleration)
    assume(total >= 1 and n <= total)
    mask = make(width, acceleration, center_fraction=fraction, seed=seed)
    first = (width - n + 1) // 2
    assert mask.num_lines == total
    assert mask.lines[first : first + n].all()
    assert mask.num_low_frequencies == n
    assert mask.center_start == (first if n else None)
    assert mask.realised_acceleration == width / total
    assert mask == make(width, acceleration, num_low_frequencies=n, seed=seed)


@pytest.mark.parametrize(
    ("width", "acceleration", "n"), [(126, 4, 10), (127, 8, 5), (368, 4, 29), (45, 3, 0), (31, 1, 2)]
)
@pytest.mark.parametrize("seed", [0, 7])
def test_random_lines_are_the_stated_draw(width: int, acceleration: int, n: int, seed: int) -> None:
    mask = random_mask(width, acceleration, num_low_frequencies=n, seed=seed)
    expected = reference_random_mask(np.arange(width), width, n, round(width / acceleration), seed)
    np.testing.assert_array_equal(mask.lines, expected)


@pytest.mark.parametrize("make", [random_mask, equispaced_mask])
def test_support_is_all_that_counts(make: Any) -> None:
    support = np.zeros(126, dtype=bool)
    support[5:122] = True
    support[40] = False  # a dead column
    mask = make(126, 4, seed=3, support=support)
    assert (mask.width, mask.support_width, mask.num_lines) == (126, 116, 29)
    assert not mask.lines[~support].any()
    assert mask.realised_acceleration == 4
    n, columns = round(116 * 0.08), np.flatnonzero(support)
    assert mask.center_start == (126 - n + 1) // 2
    if make is random_mask:
        np.testing.assert_array_equal(mask.lines, reference_random_mask(columns, 126, n, 29, 3))


@pytest.mark.parametrize(("kind", "width", "acceleration", "fraction", "seed", "lines"), FULL_SUPPORT)
def test_full_support_gives_the_lines_it_gave(
    kind: str, width: int, acceleration: float, fraction: float | None, seed: int, lines: str
) -> None:
    make = {"random": random_mask, "equispaced": equispaced_mask}[kind]
    for support in (None, np.ones(width, dtype=bool)):
        mask = make(width, acceleration, center_fraction=fraction, seed=seed, support=support)
        assert packed(mask.lines) == lines


@st.composite
def supports(draw: Any) -> np.ndarray:
    """Acquired columns: all, partial Fourier from either side (beyond DC too), with dead columns anywhere."""
    width = draw(st.integers(4, 160))
    first = draw(st.integers(0, width - 1))
    support = np.zeros(width, dtype=bool)
    support[first : draw(st.integers(first + 1, width))] = True
    for column in draw(st.lists(st.integers(0, width - 1), max_size=8)):
        support[column] = False
    assume(support.any())
    return support


@given(
    support=supports(),
    acceleration=st.floats(1, 12),
    fraction=st.floats(0.01, 0.6),
    seed=st.integers(0, 2**32),
    make=st.sampled_from([random_mask, equispaced_mask]),
)
@settings(max_examples=300, deadline=None)
def test_the_centre_is_about_dc_on_any_support(
    support: np.ndarray, acceleration: float, fraction: float, seed: int, make: Any
) -> None:
    width, columns = support.size, np.flatnonzero(support)
    n, total = round(columns.size * fraction), round(columns.size / acceleration)
    assume(total >= 1 and n <= total)
    mask = make(width, acceleration, center_fraction=fraction, seed=seed, support=support)
    assert mask.num_lines == total
    assert not mask.lines[~support].any()
    centre = mask.center_lines
    assert len(centre) == mask.num_low_frequencies == n
    if n == 0:
        return
    # Neighbours in the support, with DC among them whenever it was acquired.
    first = int(np.searchsorted(columns, centre[0]))
    np.testing.assert_array_equal(centre, columns[first : first + n])
    if support[width // 2]:
        assert width // 2 in centre
        block = center_block(mask)[1]
        assert mask.lines[block].all()
    # Moved only as far as the support demands: in place where it can be, at the end next to DC where it cannot.
    wanted = (width - n + 1) // 2
    if support[wanted : wanted + n].all() and wanted + n <= width:
        assert centre[0] == wanted
    if columns[0] > width // 2:
        np.testing.assert_array_equal(centre, columns[:n])
    if columns[-1] < width // 2:
        np.testing.assert_array_equal(centre, columns[-n:])


@given(width=st.integers(2, 200), fraction=st.floats(0.01, 0.5), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_partial_fourier_keeps_the_centre_of_the_full_matrix(width: int, fraction: float, seed: int) -> None:
    # As many centre lines on 11/16 of the columns as on all of them lie on the same columns.
    n = max(1, round(width * fraction / 4))
    support = np.zeros(width, dtype=bool)
    support[5 * width // 16 :] = True
    assume((width - n + 1) // 2 >= 5 * width // 16)
    full, partial = (random_mask(width, 1.5, num_low_frequencies=n, seed=seed, support=one) for one in (None, support))
    np.testing.assert_array_equal(full.center_lines, partial.center_lines)


def test_pinned_random_mask() -> None:
    lines = np.flatnonzero(random_mask(32, 4, center_fraction=0.125, seed=0).lines)
    assert lines.tolist() == [7, 13, 14, 15, 16, 17, 20, 25]


def test_equispaced_lines_are_equally_spaced_and_the_seed_is_the_offset() -> None:
    mask = equispaced_mask(96, 4, num_low_frequencies=0, seed=0)
    gaps = np.diff(np.flatnonzero(mask.lines))
    assert set(gaps.tolist()) <= {4, 5} or set(gaps.tolist()) <= {3, 4}
    assert mask.num_lines == 24
    assert len({packed(equispaced_mask(96, 4, num_low_frequencies=0, seed=s).lines) for s in range(20)}) == 4
    outside = np.delete(equispaced_mask(101, 5, num_low_frequencies=9, seed=1).lines, slice(46, 55))
    assert set(np.diff(np.flatnonzero(outside)).tolist()) <= {8, 9}


def test_seeds_differ_and_repeat() -> None:
    assert random_mask(101, 4, seed=1) == random_mask(101, 4, seed=1)
    assert random_mask(101, 4, seed=1) != random_mask(101, 4, seed=2)
    assert hash(random_mask(101, 4, seed=1)) == hash(random_mask(101, 4, seed=1))


@pytest.mark.parametrize(("acceleration", "fraction"), [(2, 0.08), (5.99, 0.08), (6, 0.04), (10, 0.04)])
def test_default_centre(acceleration: float, fraction: float) -> None:
    assert default_center_fraction(acceleration) == fraction
    assert random_mask(200, acceleration).num_low_frequencies == round(200 * fraction)


@pytest.mark.parametrize("make", [random_mask, equispaced_mask])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "positive number of columns, got 0"),
        ({"width": 12.5}, "positive number of columns, got 12.5"),
        ({"acceleration": 0.5}, "at least 1 .*got 0.5"),
        ({"acceleration": math.nan}, "finite acceleration"),
        ({"acceleration": math.inf}, "finite acceleration"),
        ({"acceleration": "4"}, "got '4'"),
        ({"acceleration": True}, "got True"),
        ({"acceleration": 300, "num_low_frequencies": 0}, r"round\(100 / 300\) = 0: lower the acceleration to 100"),
        (
            {"center_fraction": 8},
            r"float between 0 and 1 \(0.08 is 8 %.*got 8: a number of lines is num_low_frequencies",
        ),
        ({"center_fraction": 8.0}, "got 8.0"),
        ({"center_fraction": 1}, "got 1: a number of lines"),
        ({"center_fraction": 0.0}, "got 0.0"),
        ({"center_fraction": math.nan}, "got nan"),
        ({"center_fraction": True}, "got True"),
        ({"center_fraction": "0.08"}, "got '0.08'"),
        ({"num_low_frequencies": 0.08}, "an int, 0 or more.*got 0.08: a share of the columns is center_fraction"),
        ({"num_low_frequencies": 8.0}, "got 8.0"),
        ({"num_low_frequencies": -1}, "got -1"),
        ({"num_low_frequencies": True}, "got True"),
        ({"center_fraction": 0.08, "num_low_frequencies": 8}, "got both .*drop one"),
        (
            {"num_low_frequencies": 26},
            "within the 25 lines that acceleration 4 leaves of 100 columns, got 26 centre lines",
        ),
        ({"num_low_frequencies": 26}, "lower the acceleration to 3.85 or less, or the centre to at most 25 lines"),
        ({"center_fraction": 0.3}, "got 30 centre lines"),
        ({"num_low_frequencies": 101, "acceleration": 1}, "got 101 centre lines"),
        ({"seed": -1}, "seed as a non-negative integer, got -1"),
        ({"seed": 0.5}, "got 0.5"),
        ({"support": np.ones(99, dtype=bool)}, r"support of shape \(100,\).*got \(99,\)"),
        ({"support": np.ones((1, 100), dtype=bool)}, r"got \(1, 100\)"),
        ({"support": np.zeros(100, dtype=bool)}, "none acquired"),
        ({"support": np.full(100, 0.5)}, "booleans, or of 0 and 1"),
    ],
)
def test_what_cannot_be_built(make: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MaskError, match=message):
        make(**({"width": 100, "acceleration": 4} | arguments))


def test_numpy_numbers_are_numbers() -> None:
    one = random_mask(np.int64(100), np.float32(4), num_low_frequencies=np.int32(8), seed=np.uint8(3))  # type: ignore[arg-type]
    assert one == random_mask(100, 4, num_low_frequencies=8, seed=3)
    json.dumps(one.receipt())


# ------------------------------------------------------------------------------------------- fastMRI


@pytest.mark.parametrize(("width", "fraction", "acceleration", "seed", "n", "bits"), FASTMRI)
def test_fastmri_bits(width: int, fraction: float, acceleration: int, seed: int | str, n: int, bits: str) -> None:
    mask = fastmri_random_mask(width, center_fraction=fraction, acceleration=acceleration, seed=seed)
    assert packed(mask.lines) == bits
    assert (mask.kind, mask.seed, mask.acceleration, mask.num_low_frequencies) == (
        "fastmri-random",
        seed,
        acceleration,
        n,
    )
    assert mask.receipt()["realised_acceleration"] == width / mask.num_lines


def test_fastmri_leaves_the_global_generator_alone() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]  # noqa: NPY002
    fastmri_random_mask(64, center_fraction=0.08, acceleration=4, seed=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index]  # noqa: NPY002


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"center_fraction": 0.3}, "got 30 centre lines: lower the acceleration"),
        ({"center_fraction": 0.08, "acceleration": 16}, "within the 6.25 lines that acceleration 16 leaves of 100"),
        ({"center_fraction": 0.999, "acceleration": 1}, "got 100 centre lines"),
        ({"center_fraction": 8}, "float between 0 and 1"),
        ({"acceleration": 0.9}, "at least 1"),
        ({"seed": ""}, "file name to seed with, got an empty one"),
        ({"seed": -1}, "non-negative integer"),
        ({"seed": 2**32}, r"below 2\*\*32"),
        ({"width": 3, "center_fraction": 0.1, "acceleration": 100}, "came out empty"),
    ],
)
def test_infeasible_fastmri_pairs(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MaskError, match=message):
        fastmri_random_mask(**({"width": 100, "center_fraction": 0.08, "acceleration": 4, "seed": 0} | arguments))


# ------------------------------------------------------------------------------------------- the records


def test_the_receipt_of_columns() -> None:
    mask = random_mask(41, 4, center_fraction=0.1, seed=5)
    receipt = json.loads(json.dumps(mask.receipt()))
    assert receipt["kind"] == "random"
    assert (receipt["width"], receipt["support_width"], receipt["num_lines"], receipt["seed"]) == (41, 41, 10, 5)
    assert (receipt["requested_acceleration"], receipt["realised_acceleration"]) == (4, 4.1)
    assert receipt["center_fraction_realised"] == 4 / 41
    rebuilt = np.zeros(41, dtype=bool)
    rebuilt[receipt["lines"]] = True
    np.testing.assert_array_equal(rebuilt, mask.lines)


def test_the_receipt_of_a_pattern() -> None:
    pattern = np.eye(5, 7, dtype=bool)
    mask = PatternMask(pattern, source="disc.npy")
    receipt = json.loads(json.dumps(mask.receipt()))
    assert (receipt["shape"], receipt["width"], receipt["num_samples"]) == ([5, 7], 7, 5)
    assert (receipt["kind"], receipt["source"], receipt["realised_acceleration"]) == ("pattern", "disc.npy", 7)
    assert receipt["sha256"] != PatternMask(~pattern).receipt()["sha256"]
    assert mask == PatternMask(pattern, source="disc.npy")
    assert mask != PatternMask(~pattern, source="disc.npy")
    assert hash(mask) == hash(PatternMask(pattern))
    assert mask.tensor().shape == (5, 7)
    assert mask.tensor().dtype == torch.bool


def test_masks_cannot_be_changed_from_outside() -> None:
    lines = np.ones(5, dtype=bool)
    mask = ColumnMask(lines)
    lines[0] = False
    mask.tensor()[1] = False
    assert mask.lines.all()
    with pytest.raises(ValueError, match="read-only"):
        mask.lines[0] = False
    with pytest.raises(ValueError, match="read-only"):
        PatternMask(np.ones((2, 3), dtype=bool)).pattern[0, 0] = False


def test_records_refuse_nonsense() -> None:
    with pytest.raises(MaskError, match=r"1-D boolean array, got bool of shape \(2, 3\)"):
        ColumnMask(np.ones((2, 3), dtype=bool))
    with pytest.raises(MaskError, match="1-D boolean array, got float64"):
        ColumnMask(np.ones(3))  # type: ignore[arg-type]
    with pytest.raises(MaskError, match="got 3 columns, none sampled"):
        ColumnMask(np.zeros(3, dtype=bool))
    with pytest.raises(MaskError, match="between the 3 sampled lines and the 3 columns, got support_width=2"):
        ColumnMask(np.ones(3, dtype=bool), support_width=2)
    with pytest.raises(MaskError, match=r"2-D boolean pattern .*got shape \(3,\)"):
        PatternMask(np.ones(3, dtype=bool))
    with pytest.raises(MaskError, match="all-False pattern"):
        PatternMask(np.zeros((3, 4), dtype=bool))


# ------------------------------------------------------------------------------------------- fitting


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


# ------------------------------------------------------------------------------------------- undersampling


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


# ------------------------------------------------------------------------------------------- the dense centre


def test_centre_of_columns_is_the_receipts() -> None:
    mask = random_mask(101, 3, num_low_frequencies=9, seed=0)
    rows, columns = center_block(mask)
    assert rows == slice(None)
    assert columns == slice(46, 55)
    # Without the receipt, neighbours that were drawn by chance belong to the run as well.
    _, found = center_block(mask.tensor())
    assert found.start <= 46
    assert found.stop >= 55
    assert mask.lines[found].all()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([1, 0, 1, 1, 1, 0, 1], slice(2, 5)),
        ([1] * 6, slice(0, 6)),
        ([0, 0, 0, 1, 0, 0], slice(3, 4)),
        ([1], slice(0, 1)),
    ],
)
def test_centre_of_unknown_columns(lines: list[int], expected: slice) -> None:
    assert center_block(lines)[1] == expected
    assert center_block(torch.tensor(lines)[None, None])[1] == expected


def test_a_dead_column_inside_the_centre() -> None:
    support = np.ones(40, dtype=bool)
    support[20] = False
    mask = random_mask(40, 4, num_low_frequencies=8, seed=0, support=support)
    _, columns = center_block(mask)
    assert mask.lines[columns].all()
    assert columns == slice(16, 20)
    assert 20 - mask.center_start == 4  # four of the eight lines on each side


def test_of_equal_runs_between_dead_columns_the_one_with_dc_counts() -> None:
    support = np.ones(40, dtype=bool)
    support[[18, 21]] = False
    mask = random_mask(40, 4, num_low_frequencies=6, seed=0, support=support)
    assert mask.center_lines.tolist() == [17, 19, 20, 22, 23, 24]
    assert center_block(mask)[1] == slice(22, 25)
    support[24] = False
    mask = random_mask(40, 4, num_low_frequencies=5, seed=0, support=support)
    assert mask.center_lines.tolist() == [19, 20, 22, 23, 25]
    assert center_block(mask)[1] == slice(19, 21)


@pytest.mark.parametrize(("h", "w"), [(9, 8), (8, 11), (15, 15)])
def test_centre_of_a_pattern_is_its_largest_rectangle(h: int, w: int) -> None:
    def brute_force(pattern: np.ndarray) -> int:
        row, column = h // 2, w // 2
        areas = [
            (b - t) * (r - le)
            for t in range(row + 1)
            for b in range(row + 1, h + 1)
            for le in range(column + 1)
            for r in range(column + 1, w + 1)
            if pattern[t:b, le:r].all()
        ]
        return max(areas)

    for seed in range(8):
        pattern = np.random.default_rng(seed).random((h, w)) < 0.75
        pattern[h // 2 - 1 : h // 2 + 2, w // 2 - 2 : w // 2 + 1] = True
        rows, columns = center_block(PatternMask(pattern))
        assert rows.start <= h // 2 < rows.stop
        assert columns.start <= w // 2 < columns.stop
        assert pattern[rows, columns].all()
        assert pattern[rows, columns].size == brute_force(pattern)


def test_centre_of_a_poisson_disc_like_pattern() -> None:
    pattern = np.random.default_rng(0).random((46, 37)) < 0.1
    pattern[17:29, 12:24] = True
    rows, columns = center_block(pattern)
    assert (rows.start, columns.start) <= (17, 12)
    assert pattern[rows, columns].size >= 144


def test_no_centre() -> None:
    with pytest.raises(MaskError, match="leaves out column 3 of 7: sample a few central lines"):
        center_block([1, 1, 1, 0, 1, 1, 1])
    with pytest.raises(MaskError, match=r"does not sample \(2, 3\): pass sens_maps"):
        center_block(~np.eye(5, 7, k=1, dtype=bool))
    with pytest.raises(MaskError, match=r"\(phase,\) or \(readout, phase\), got shape \(2, 3, 4\)"):
        center_block(np.ones((2, 3, 4)))


# ------------------------------------------------------------------------------------------- files

LINES = np.array([0, 1, 0, 1, 1, 1, 0], dtype=np.uint8)
PATTERN = np.random.default_rng(3).integers(0, 2, (5, 7)).astype(np.uint8)


def write(path: Path, array: np.ndarray, name: str = "mask") -> Path:
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez_compressed(path, **{name: array})
    elif path.suffix == ".mat":
        scipy.io.savemat(path, {name: array}, do_compression=True)
    else:
        with h5py.File(path, "w") as file:
            file[name] = array
            file["kspace"] = np.zeros((1, 5, 7), dtype=np.complex64)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat", ".h5"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64, bool])
def test_masks_from_files(tmp_path: Path, suffix: str, dtype: Any) -> None:
    columns = load_mask(write(tmp_path / f"columns{suffix}", LINES.astype(dtype)))
    assert isinstance(columns, ColumnMask)
    np.testing.assert_array_equal(columns.lines, LINES)
    assert (columns.kind, columns.acceleration, columns.num_low_frequencies) == ("file", None, 3)
    pattern = load_mask(write(tmp_path / f"pattern{suffix}", np.asfortranarray(PATTERN.astype(dtype))))
    assert isinstance(pattern, PatternMask)
    np.testing.assert_array_equal(pattern.pattern, PATTERN)
    assert pattern.source == f"pattern{suffix}"
    constant = load_mask(str(write(tmp_path / f"constant{suffix}", np.tile(LINES, (1, 5, 1)).astype(dtype))))
    assert constant == columns


def test_one_array_of_another_name(tmp_path: Path) -> None:
    assert load_mask(write(tmp_path / "m.npz", LINES, "lines")) == load_mask(write(tmp_path / "m.npy", LINES))
    assert load_mask(write(tmp_path / "m.mat", LINES, "lines")).width == 7


def test_files_that_are_no_masks(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"ending in \.npy, \.npz, \.mat, \.h5, \.hdf5, got m\.txt"):
        load_mask(tmp_path / "m.txt")
    with pytest.raises(FormatError, match="found nothing at"):
        load_mask(tmp_path / "absent.npy")
    with pytest.raises(MaskError, match=r"mask \(phase,\) or \(readout, phase\) in m\.npy, got shape \(2, 5, 7\)"):
        load_mask(write(tmp_path / "m.npy", np.stack([PATTERN, 1 - PATTERN])))
    with pytest.raises(MaskError, match="booleans, or of 0 and 1"):
        load_mask(write(tmp_path / "m.npy", np.arange(5)))
    with pytest.raises(MaskError, match="none sampled"):
        load_mask(write(tmp_path / "m.npy", np.zeros(5)))
    with pytest.raises(MaskError, match=r"empty array of shape \(0,\)"):
        load_mask(write(tmp_path / "m.npy", np.zeros(0)))
    with pytest.raises(FormatError, match=r"dataset 'mask' in m\.h5, found: kspace, lines"):
        load_mask(write(tmp_path / "m.h5", LINES, "lines"))
    np.savez(tmp_path / "two.npz", a=LINES, b=LINES)
    with pytest.raises(FormatError, match=r"named 'mask' or one array alone in two\.npz, found: a, b"):
        load_mask(tmp_path / "two.npz")
    scipy.io.savemat(tmp_path / "two.mat", {"a": LINES, "b": LINES})
    with pytest.raises(FormatError, match=r"one array alone in two\.mat, found: a, b"):
        load_mask(tmp_path / "two.mat")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat", ".h5"])
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    for content in (b"", b"no such format at all, and long enough to hold a header of any kind" * 10):
        path.write_bytes(content)
        with pytest.raises(FormatError):
            load_mask(path)


def test_a_file_cut_short(tmp_path: Path) -> None:
    path = write(tmp_path / "m.npy", np.ones(100, dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match=r"expected 100 bytes in m\.npy, got 99: it is cut short"):
        load_mask(path)


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "m.npz", mask=np.array([{"a": 1}], dtype=object), allow_pickle=True)  # type: ignore[arg-type]
    for name in ("m.npy", "m.npz"):
        with pytest.raises(FormatError, match="pickled objects"):
            load_mask(tmp_path / name)


def test_declared_sizes_are_checked_before_memory_is_taken(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 1 << 10)})
    (tmp_path / "m.npy").write_bytes(header.getvalue())
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("mask.npy", header.getvalue())
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("mask", shape=(1 << 30, 1 << 5), dtype="u1", chunks=(1 << 10, 1 << 5))
    for name in ("m.npy", "m.npz", "m.h5"):
        with pytest.raises(FormatError):
            load_mask(tmp_path / name)


def test_elements_that_are_no_numbers(tmp_path: Path) -> None:
    """Few entries, each of a mebibyte: the number of entries alone says nothing."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<U262144", "fortran_order": False, "shape": (1 << 10,)})
    with zipfile.ZipFile(tmp_path / "m.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mask.npy", header.getvalue() + bytes(1 << 20))
    with pytest.raises(FormatError, match=r"expected numbers in 'mask\.npy' of m\.npz, got elements of another kind"):
        load_mask(tmp_path / "m.npz")


def test_links_in_hdf5_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "other.h5", LINES)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["mask"] = h5py.ExternalLink("other.h5", "/mask")
    with pytest.raises(FormatError):
        load_mask(tmp_path / "m.h5")


@pytest.mark.real_data
def test_the_real_poisson_disc(real_data: Path) -> None:
    kspace = np.load(real_data / "raw/brain-8ch-undersampled/cartesian_ksp.npy")
    mask = as_mask(np.abs(kspace).max(axis=0) > 0, kspace.shape)
    assert isinstance(mask, PatternMask)
    rows, columns = center_block(mask)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (24, 24)
    np.testing.assert_array_equal(undersample(kspace, mask).numpy(), kspace.astype(np.complex64))
