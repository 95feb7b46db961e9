"""Estimates of memory and time: true for the built-in methods, learning for the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.service.memory import draw_cases, run
from mri_recon.methods.estimates import Estimates
from mri_recon.methods.priors import PRIORS
from mri_recon.methods.table import method_names
from mri_recon.models import Unet, UnetConfig
from mri_recon.models.checkpoint import save_checkpoint
from mri_recon.models.footprint import working_bytes
from tests.support.networks import untrained_card

SHAPES = [(1, 1, 321, 320), (2, 6, 193, 210)]
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of the memory is read from /proc"
)


def _checked(found: list[dict[str, Any]], count: int) -> None:
    assert len(found) == count
    for case in found:
        assert 0 < case["measured"] <= case["estimated"], case


@pytest.mark.slow  # every method on two scans, in a process of its own
@needs_proc
def test_no_method_takes_more_memory_than_estimated() -> None:
    plain = {"options": {}, "batch": 1, "mask": "random"}
    cases = [{"method": name, "shape": shape, **plain} for name in method_names() for shape in SHAPES]
    for case in cases:
        if case["method"] in ("cg-sense", "cs-wavelet"):
            case["options"] = {"max_iters": 5}
        elif case["method"] == "auto":
            case["options"] = {"candidates": "cs-wavelet:max_iters=5,unet,unrolled"}
    found = run(cases, a_process=len(cases))
    _checked(found, len(cases))
    for case in found:
        most = 500 if case["method"] == "auto" else 400  # auto holds the weights of two networks
        assert case["estimated"] < most << 20  # none is so generous that it would refuse a small scan


@pytest.mark.slow
@needs_proc
def test_slices_that_are_computed_at_the_same_time_count() -> None:
    plain = {"shape": (4, 6, 193, 210), "options": {"max_iters": 5}, "batch": 1, "mask": "random"}
    cases = [{"method": name, **plain} for name in ("cs-wavelet", "cg-sense")]
    one, several = (run(cases, a_process=1, threads=number) for number in (1, 4))
    _checked(several, len(cases))
    assert several[0]["estimated"] > 1.5 * one[0]["estimated"]


@pytest.mark.soak  # the same of many shapes, options and batches
@needs_proc
def test_no_random_case_takes_more_memory_than_estimated() -> None:
    cases = draw_cases(24, seed=2, methods=list(method_names()))
    _checked(run(cases), len(cases))


shapes = st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 700), st.integers(1, 700))
options = st.fixed_dictionaries(
    {}, optional={"prior": st.sampled_from([*PRIORS, "none-such"]), "levels": st.integers(-1, 6) | st.none()}
)


@given(st.sampled_from(method_names()), shapes, options)
def test_more_of_anything_never_takes_less(method: str, shape: tuple[int, ...], chosen: dict[str, Any]) -> None:
    given_options = chosen if method == "cs-wavelet" else {}
    least = Estimates.memory_bytes(method, shape, given_options)
    assert least >= Estimates.decoded_bytes(shape)
    for axis in range(2):
        more = [n + (place == axis) for place, n in enumerate(shape)]
        assert Estimates.memory_bytes(method, more, given_options) >= least


@given(st.lists(st.sampled_from(method_names()), min_size=1, unique=True), shapes)
def test_a_comparison_takes_more_than_each_of_its_methods(methods: list[str], shape: tuple[int, ...]) -> None:
    together = Estimates.comparison_bytes({name: {} for name in methods}, shape)
    assert together > max(Estimates.memory_bytes(name, shape) for name in methods)


def test_options_count() -> None:
    shape = (1, 1, 256, 256)
    by_prior = {name: Estimates.memory_bytes("cs-wavelet", shape, {"prior": name}) for name in PRIORS}
    assert by_prior["stationary-synthesis"] > by_prior["stationary"] > by_prior["orthonormal"]
    deep, flat = (Estimates.memory_bytes("cs-wavelet", shape, {"levels": levels}) for levels in (6, 1))
    assert deep > flat
    # An option of the wrong type is refused by the method, not by the estimate.
    assert Estimates.memory_bytes("cs-wavelet", shape, {"prior": ["tv"], "levels": "many"}) > 0


def test_a_network_takes_what_its_configuration_says(tmp_path: Path) -> None:
    """Of another model than the shipped one."""
    needed = {}
    for chans in (4, 64):
        config = UnetConfig(chans=chans, num_pool_layers=1, channels_per_group=4)
        save_checkpoint(tmp_path / f"{chans}.safetensors", Unet(config), untrained_card("unet", config))
        needed[chans] = Estimates.memory_bytes(
            "unet", (1, 1, 300, 301), {"model": str(tmp_path / f"{chans}.safetensors")}
        )
    # Twelve maps of 60 channels more at each of the pixels at least, in single precision.
    assert needed[64] - needed[4] >= 12 * 60 * 4 * 300 * 301
    nothing = Estimates.memory_bytes("unet", (1, 1, 300, 301), {"model": str(tmp_path / "none.safetensors")})
    assert nothing < needed[4]  # such a request is refused


@pytest.mark.parametrize("architecture", ["unrolled", "cascade"])
def test_unrolled_networks_hold_one_refinement_at_a_time(architecture: str) -> None:
    few, many, wide = (
        working_bytes(architecture, {"num_cascades": count, "chans": chans}, (1, 100, 90), margin=0)
        for count, chans in ((1, 32), (9, 32), (1, 64))
    )
    assert few == many
    assert few is not None
    assert wide is not None
    assert few < wide < 2 * few
    assert working_bytes("of-another-package", {}, (1, 100, 90), margin=0) is None


def test_refined_maps_are_counted_for_every_coil() -> None:
    config = {"maps_chans": 16, "chans": 8}
    eight, sixteen = (working_bytes("unrolled", config, (coils, 100, 90), margin=0) for coils in (8, 16))
    assert eight is not None
    assert sixteen == 2 * eight


def test_bytes() -> None:
    assert Estimates.decoded_bytes((2, 3, 5, 7)) == 2 * 3 * 5 * 7 * 8
    one, two = (Estimates.memory_bytes("cs-wavelet", (n, 8, 151, 127)) for n in (1, 2))
    assert one < two < 2 * one
    assert Estimates.memory_bytes("of-another-package", (1, 1, 9, 9)) > Estimates.memory_bytes("unet", (1, 1, 9, 9))


def test_time_is_learnt() -> None:
    estimates, shape = Estimates(), (1, 8, 64, 64)
    assert estimates.seconds("of-another-package", shape) is None
    estimates.observe("of-another-package", shape, 2.0)
    assert estimates.seconds("of-another-package", shape) == pytest.approx(2)
    assert estimates.seconds("of-another-package", (3, 8, 64, 64)) == pytest.approx(6)
    built_in = estimates.seconds("unet", shape)
    assert built_in is not None
    estimates.observe("unet", shape, 100 * built_in)  # the machine is another one than ours
    assert estimates.seconds("unet", shape) == pytest.approx(100 * built_in)
    for _ in range(30):
        estimates.observe("unet", shape, built_in)
    assert estimates.seconds("unet", shape) == pytest.approx(built_in, rel=1e-3)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_time_that_is_none_changes_nothing(seconds: float) -> None:
    estimates = Estimates()
    before = estimates.seconds("unet", (1, 1, 9, 9))
    estimates.observe("unet", (1, 1, 9, 9), seconds)
    assert estimates.seconds("unet", (1, 1, 9, 9)) == before


def test_every_built_in_method_has_a_time_before_its_first_run() -> None:
    estimates = Estimates()
    assert all(estimates.seconds(name, (1, 1, 64, 64)) for name in ("zero-filled", "cg-sense", "cs-wavelet"))
    assert all(estimates.seconds(name, (1, 1, 64, 64)) for name in ("unet", "unrolled"))


def test_a_check_costs_runs_and_memory() -> None:
    estimates, shape = Estimates(), (2, 4, 128, 96)
    plain, checked = (estimates.seconds("cs-wavelet", shape, check=check) for check in (None, "holdout"))
    assert plain is not None
    assert checked == 4 * plain
    assert estimates.seconds("auto", shape) == estimates.seconds("auto", shape, check="holdout")
    for method in ("zero-filled", "unet"):
        more = Estimates.memory_bytes(method, shape, check="holdout") - Estimates.memory_bytes(method, shape)
        assert more >= 4 * Estimates.decoded_bytes(shape)
    together = [Estimates.comparison_bytes({"unet": {}}, shape, check=check) for check in (None, "holdout")]
    assert together[1] > together[0]


def test_auto_takes_what_its_candidates_take() -> None:
    estimates, shape = Estimates(), (2, 4, 128, 96)
    each = [estimates.seconds(name, shape) for name in ("cs-wavelet", "unet", "unrolled")]
    assert estimates.seconds("auto", shape) == pytest.approx(4 * sum(one or 0 for one in each))
    estimates.observe("auto", shape, 7.0)
    assert estimates.seconds("auto", shape) == pytest.approx(7)
    few = Estimates.memory_bytes("auto", shape, {"candidates": "zero-filled"})
    assert Estimates.memory_bytes("zero-filled", shape) < few < Estimates.memory_bytes("auto", shape)
    assert Estimates.memory_bytes("auto", shape, {"candidates": "dream"}) > 0
