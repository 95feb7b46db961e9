from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mri_recon.errors import MaskError
from mri_recon.masks.calibration_region import center_block
from mri_recon.masks.draw import default_center_fraction, equispaced_mask, fastmri_random_mask, random_mask

KNEE = "file1000000.h5"

# (width, center_fraction, acceleration, num_low_frequencies): {seed: lines as packed bits in hex}, made by
# RandomMaskFunc([center_fraction], [acceleration])((1, 640, width, 2), seed=seed) of fastmri 0.3.0 from PyPI, with
# seed = tuple(map(ord, name)) for a file name.
FASTMRI: dict[tuple[int, float, int, int], dict[int | str, str]] = {
    (126, 0.08, 4, 10): {
        0: "000380a02011053ff415210950000000",
        1234: "0000420040e2243ffc42042020680404",
        KNEE: "0862018c9040103ff05040a000080000",
    },
    (126, 0.04, 8, 5): {
        0: "0003800020100007c010200050000000",
        1234: "0000420000a20407c002000020200000",
        KNEE: "0002000c10001007c010408000080000",
    },
    (256, 0.08, 4, 20): {
        0: "000380a02011050d14152109500003ffffc022a102541800821c020080405181",
        1234: "0000420040e224004c420420206807ffffc8904000000041a40220040200ea84",
        KNEE: "0862018c90401008005040a0000803ffffc88240084100900a08cc0250400218",
    },
    (256, 0.04, 8, 10): {
        0: "0003800020100000001020005000001ff800000102141000020c020000400001",
        1234: "0000420000a20400400200002020001ff808800000000040000220040200c284",
        KNEE: "0002000c10001000001040800008001ff8088040000000800a08c80210000000",
    },
    (368, 0.08, 4, 29): {
        0: "000380a02011050d1415210950000002080022a1027ffffffe1c02008040518106080014108135c0602801410400",
        1234: "0000420040e224004c42042020680404c3489040003ffffffe0220040200ea84800042d0001021e005e201042112",
        KNEE: "0862018c90401008005040a00008000040488240087ffffffe08cc025040021808610400008c00210a1200648900",
    },
    (368, 0.04, 8, 15): {
        0: "000380002010000000102000500000020000000102147fff020c0200004000010208001000011480200801410000",
        1234: "0000420000a204004002000020200000c008800000007fff000220040200c284000042800000008004e001002012",
        KNEE: "0002000c1000100000104080000800000008804000007fff0a08c8021000000008010400008000200a0000608800",
    },
}

# (width, acceleration, center_fraction, seed): lines as packed bits in hex of the random and of the equispaced mask of
# a full support, written when the centre was still placed by the support alone: a full support keeps those lines.
FULL_SUPPORT: dict[tuple[int, float, float | None, int], tuple[str, str]] = {
    (96, 4, None, 0): ("54020900022ff10c02a00808", "10420841082ff10420841082"),
    (96, 8, None, 3): ("010188000003c04000881000", "800801001003e00200400400"),
    (127, 4, None, 1): ("1042004c8004401ff88028042a920888", "208421042104211ff908410841084108"),
    (127, 8, 0.04, 2): ("0028000420808407c004000028800000", "2004004008010027c020040080100200"),
    (126, 4, 0.08, 4): ("008010840302203ff0c5040189122240", "082108210841087ff082108210841084"),
    (45, 3, 0.2, 7): ("00003fe50b10", "10413fe20820"),
    (368, 4, None, 0): (
        "ea7004500100420000103202000002070402410105fffffffe0a0300040229084690820191804180000000102682",
        "1082108210421042104208420841084108410821083fffffff084108210821042104210420842084208410841082",
    ),
    (368, 8, None, 5): (
        "8101c000000820024000401a400000008040014000407fff00020002010100000000520000800000002010001800",
        "004008010010020020040080080100100200400400807fff20020040040080100100200200400800801001002004",
    ),
    (31, 1, 0.1, 2): ("fffffffe", "fffffffe"),
    (320, 6, 0.031, 12345): (
        "000004481200090cd1020408200800401002001ff88020601444041312401200000010a200000800",
        "408081020408081020408081020408081020405ff820408101020408101020408101020408081020",
    ),
}


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


@pytest.mark.parametrize("case", FULL_SUPPORT, ids=str)
@pytest.mark.parametrize("kind", [0, 1], ids=["random", "equispaced"])
def test_full_support_gives_the_lines_it_gave(case: tuple[int, float, float | None, int], kind: int) -> None:
    width, acceleration, fraction, seed = case
    make = [random_mask, equispaced_mask][kind]
    for support in (None, np.ones(width, dtype=bool)):
        mask = make(width, acceleration, center_fraction=fraction, seed=seed, support=support)
        assert packed(mask.lines) == FULL_SUPPORT[case][kind]


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


@pytest.mark.parametrize("key", FASTMRI, ids=str)
@pytest.mark.parametrize("seed", [0, 1234, KNEE])
def test_fastmri_bits(key: tuple[int, float, int, int], seed: int | str) -> None:
    width, fraction, acceleration, n = key
    mask = fastmri_random_mask(width, center_fraction=fraction, acceleration=acceleration, seed=seed)
    assert packed(mask.lines) == FASTMRI[key][seed]
    found = (mask.kind, mask.seed, mask.acceleration, mask.num_low_frequencies)
    assert found == ("fastmri-random", seed, acceleration, n)
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
