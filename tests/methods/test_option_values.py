"""No value of any option of any method becomes a traceback or a picture with holes, in Python or from a text."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mri_recon as mr
from mri_recon.cli.options import options_by_method, parse_option
from mri_recon.errors import MethodError, MriReconError
from mri_recon.methods.option_values import Between, OneOf, check_values, option_types, parse_value
from mri_recon.methods.table import check_options, get_method, method_names, method_options
from mri_recon.reconstruction import _check_finite
from tests.support.methods import BUILT_IN

OPTIONS = [(method, option) for method in BUILT_IN for option in method_options(method)]
ODD: list[Any] = [
    *(0, -1, 1, 3, True, False, None, 10**400, -(10**400), 2**63, 1e-300, 1e-45, 1e39, 1e300),
    *(math.inf, -math.inf, math.nan, 1j, np.float32(0.1), np.float64(0.1), np.int64(2), np.bool_(True)),
    *(
        "",
        "auto",
        "x",
        "a\0b",
        "1e3",
        "true",
        "2026-11-28",
        "/",
        "/dev/null",
        "../x",
        "\ud800",
        "haar",
        "dmey",
        "a" * 5000,
    ),
    *(b"x", [], {}, (), [1.0], torch.tensor(1.0), torch.tensor([1.0, 2.0]), torch.tensor(math.nan), object()),
]
VALUES = st.one_of(
    st.sampled_from(ODD),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.booleans(),
    st.none(),
    st.binary(max_size=4),
)


def _problem(num_coils: int) -> tuple[torch.Tensor, Any]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:21j, -1:1:18j]
    maps = [np.exp(-((y - a) ** 2) - (x - b) ** 2) for a, b in rng.uniform(-1, 1, (num_coils, 2))]
    images = (y**2 + x**2 < 0.7) * np.exp(1j * x) * np.array(maps)
    images = images + 0.02 * rng.normal(size=images.shape)
    mask = mr.random_mask(18, 2, num_low_frequencies=6, seed=0)
    return mr.undersample(mr.fft2c(torch.from_numpy(images[None])).to(torch.complex64), mask), mask


PROBLEMS = {count: _problem(count) for count in (1, 3)}


def _short(method: str, options: dict[str, Any]) -> dict[str, Any]:
    """Few iterations, unless they are what is tried; then none that would take hours."""
    if "max_iters" not in method_options(method):
        return options
    value = options.get("max_iters", 4)
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return {**options, "max_iters": min(value, 4) if whole and value <= 10**9 else value}


@pytest.mark.parametrize(("method", "option"), OPTIONS)
def test_a_value_gives_a_finite_image_or_a_clear_error(method: str, option: str) -> None:
    @given(VALUES, st.sampled_from([1, 3]))
    @settings(max_examples=10, deadline=None, database=None)
    def holds(value: Any, num_coils: int) -> None:
        kspace, mask = PROBLEMS[num_coils]
        with suppress(MriReconError):
            result = mr.reconstruct(kspace, mask, method=method, **_short(method, {option: value}))
            assert bool(torch.isfinite(result.image.abs()).all())
            assert float(result.image.abs().max()) > 0

    for number, value in enumerate(ODD):
        holds = example(value, (1, 3)[number % 2])(holds)
    holds()


@given(
    st.sampled_from(BUILT_IN),
    st.one_of(st.sampled_from(ODD), st.integers(), st.floats(), st.text(max_size=9)),
    st.sampled_from(["num_virtual_coils", "device", "prewhiten", "sens_maps", "method", "mask"]),
)
@settings(max_examples=60, deadline=None)
def test_any_other_argument_too(method: str, value: Any, argument: str) -> None:
    kspace, mask = PROBLEMS[3]
    arguments = {"method": method, "mask": mask, argument: value}
    with suppress(MriReconError):
        result = mr.reconstruct(kspace, **arguments)
        assert bool(torch.isfinite(result.image.abs()).all())


@pytest.mark.parametrize("method", BUILT_IN)
def test_every_option_of_a_built_in_method_has_a_type(method: str) -> None:
    """An option without one would not be checked."""
    types = option_types(get_method(method))
    for option in method_options(method):
        assert option in types
    check_options(method, method_options(method))  # its own defaults


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (
            "cg-sense",
            {"reg_weight": 1e39},
            r"method 'cg-sense': expected reg_weight >= 0 and <= 1e\+06, got 1e\+39: 0.03 is",
        ),
        ("cg-sense", {"reg_weight": math.nan}, "reg_weight >= 0 and .*, got nan"),
        ("cg-sense", {"reg_weight": True}, "got True"),
        ("cg-sense", {"tol": 1}, "expected tol >= 0 and <= 0.5, got 1"),
        ("cg-sense", {"max_iters": 2.5}, r"max_iters to be a whole number >= 1 and <= 1e\+09, got 2.5"),
        ("cg-sense", {"max_iters": 10**400}, r"got 10{70,80}\.\.\.: correct it"),
        ("cg-sense", {"max_iters": 10**9999}, "got a number of thousands of digits"),
        ("cg-sense", {"maps": ""}, "expected maps to be one of espirit, center, got '': choose one of them"),
        ("cs-wavelet", {"reg_weight": "automatic"}, "to be a number > 0 and <= 1e\\+06 or \"auto\", got 'automatic'"),
        ("cs-wavelet", {"reg_weight": 0}, "without a weight use cg-sense"),
        ("cs-wavelet", {"final_step": 1}, "expected final_step to be True or False, got 1"),
        ("cs-wavelet", {"wavelet": ""}, "expected wavelet to be a text that is not empty or None, got ''"),
        (
            "cs-wavelet",
            {"sigma": math.inf},
            r"expected sigma to be a number > 0 and <= 1e\+38, a Tensor or None, got inf",
        ),
        ("cs-wavelet", {"sigma": 1e39}, r"got 1e\+39: it is sqrt\(E\|n\|\^2\) of one k-space sample"),
        ("cs-wavelet", {"gap_tol": 1e39}, r"expected gap_tol >= 0 and <= 1e\+38, got 1e\+39: 0.01 is common"),
        ("unet", {"model": 7}, "expected model to be a text that is not empty, got 7"),
        ("unet", {"data_consistency": "hard"}, "one of weighted, learned, exact"),
    ],
)
def test_messages(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        check_options(method, options)
    kspace, mask = PROBLEMS[3]
    with pytest.raises(MethodError, match=message):
        mr.reconstruct(kspace, mask, method=method, **options)


def test_the_functions_check_for_themselves() -> None:
    """A method called as a function, not through the table, refuses the same."""
    kspace, mask = PROBLEMS[1]
    for name, options in (("cg-sense", {"reg_weight": 1e39}), ("cs-wavelet", {"gap_tol": math.nan})):
        function: Callable[..., Any] = get_method(name)
        with pytest.raises(MethodError, match=f"method '{name}': expected"):
            function(kspace, mask, **options)


@pytest.mark.parametrize("hint", [float, Annotated[float, Between()], float | None, Annotated[float, Between(0)]])
@pytest.mark.parametrize("value", [1e39, 1e300, 10**39, np.float64(2e38)])
def test_a_number_that_overflows_single_precision_is_refused_whatever_the_method(hint: Any, value: Any) -> None:
    def mine(weight: Any = 1.0) -> None: ...

    mine.__annotations__["weight"] = hint
    check_values("mine", mine, {"weight": 1e38})
    with pytest.raises(MethodError, match=r"method 'mine': expected weight .*1e\+38.*, got (np.float64\()?[12]"):
        check_values("mine", mine, {"weight": value})


@pytest.mark.parametrize("bad", [math.nan, math.inf, 3e38 + 3e38j])
def test_an_image_that_is_not_finite_is_never_a_result(bad: complex) -> None:
    image = torch.zeros(3, 4, 5, dtype=torch.complex64)
    _check_finite(image, "mine")
    image[1, 2, 3] = bad
    with pytest.raises(MethodError, match="method 'mine': expected a finite image, got one with .* in slice 1"):
        _check_finite(image, "mine")


@given(st.text(max_size=40))
@example("((" * 50_000)
@example("9" * 5000)
@example("1e999")
@example("[" * 1000)
@settings(deadline=None)
def test_any_text_of_an_option_is_read(text: str) -> None:
    """A word where the option is a word; refused, not misread, where it is a number."""
    assert parse_option(f"model={text}", "unet") == ("model", text.strip())
    name, value = parse_option(f"reg_weight={text}", "cg-sense")
    assert name == "reg_weight"
    assert isinstance(value, float | str)
    assert isinstance(parse_option(f"x={text}")[1], int | float | str | None)
    with suppress(MethodError):
        check_options("cg-sense", {name: value})
        assert 0 <= float(text) <= 1e6


@pytest.mark.parametrize("word", ["2026-11-28", "1e3", "true", "None", "0x10", "[1]", "1_000", "nan", "auto"])
def test_a_word_stays_a_word_where_the_option_is_one(word: str) -> None:
    assert options_by_method([f"unet.model={word}"], ["unet"]) == {"unet": {"model": word}}


def test_numbers_and_flags_are_read_by_type() -> None:
    assert parse_option("max_iters=7", "cg-sense") == ("max_iters", 7)
    assert parse_option("reg_weight=7", "cg-sense") == ("reg_weight", 7.0)
    assert parse_option("reg-weight=auto", "cs-wavelet") == ("reg_weight", "auto")
    assert parse_option("final_step=false", "cs-wavelet") == ("final_step", False)
    assert parse_option("final_step=False", "cs-wavelet") == ("final_step", False)
    assert parse_option("levels=None", "cs-wavelet") == ("levels", None)
    assert parse_option("max_iters=7.5", "cg-sense") == ("max_iters", "7.5")  # refused by the check


def test_a_method_of_a_package_is_checked_by_its_own_signature() -> None:
    def method(
        kspace: Any,
        mask: Any,
        *,
        a: Annotated[float, Between(1, 2)] = 1,
        b: Annotated[str, OneOf("x", "y")] = "x",
        c: int | None = None,
        d: Any = None,
        e=None,  # type: ignore[no-untyped-def]
        f: list[int] | None = None,
    ) -> None: ...

    check_values("m", method, {"a": 2, "b": "y", "c": None, "d": object(), "e": math.nan, "f": [1]})
    for wrong in ({"a": 3}, {"b": "z"}, {"c": 1.5}, {"f": 3}):
        with pytest.raises(MethodError, match="method 'm': expected"):
            check_values("m", method, wrong)
    assert parse_value("7", int | None) == 7


def test_every_method_is_tried_here() -> None:
    assert set(BUILT_IN) <= set(method_names())
