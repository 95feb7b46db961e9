"""Grouping by world, its averages, and the count of cases below the simple methods."""

from __future__ import annotations

from statistics import fmean

import pytest

from mri_recon_training.evaluation.config import SimulatedArray
from mri_recon_training.evaluation.results import Evaluation
from mri_recon_training.evaluation.worlds import below_floor, worlds_of
from tests.support.evaluations import row, small_evaluation


def test_scans_of_one_world_are_together_in_their_order() -> None:
    near, far = worlds_of(small_evaluation())
    assert (near.name, near.title, far.title) == ("near", "near, 1 coil", "far, 1 coil")
    assert near.persons == {"set/a1": "anna", "set/a2": "anna"}
    assert {one["file"] for one in near.rows} == {"set/a1", "set/a2"}
    assert near.accelerations == [2, 4]
    assert near.for_gains


def test_means_go_over_masks_then_scans_then_persons() -> None:
    rows = [
        row("a1", "m", 10.0), row("a1", "m", 20.0, seed=1), row("a2", "m", 30.0), row("a2", "m", 40.0, seed=1),
        row("b", "m", 50.0), row("b", "m", 70.0, seed=1),
    ]  # fmt: skip
    persons = {"a1": "anna", "a2": "anna", "b": "ben"}
    (world,) = worlds_of(Evaluation("test", rows=rows, persons=persons, worlds=dict.fromkeys(persons, "w")))
    (mean,) = world.means()
    assert mean["psnr"] == fmean([fmean([15, 35]), 60])
    assert (mean["world"], mean["scans"], mean["persons"]) == ("w", 3, 2)
    spread = world.spread(4, "m", "psnr")
    assert spread is not None
    assert (spread.mean, spread.low, spread.high) == (42.5, fmean([20, 50]), fmean([30, 70]))
    assert world.spread(4, "other", "psnr") is None


def test_other_numbers_of_coils_are_worlds_of_their_own() -> None:
    evaluation = Evaluation("test", persons={"a": "x", "b": "x"}, worlds={"a": "w", "b": "w"})
    evaluation.shapes = {"a": (1, 2, 8, 8), "b": (1, 16, 8, 8)}
    evaluation.snrs = {"a": 12.4, "b": 99.6}
    assert [(world.coils, world.snr, world.title) for world in worlds_of(evaluation)] == [
        ("2", "12", "w, 2 coils"), ("16", "100", "w, 16 coils"),
    ]  # fmt: skip


def test_simulated_worlds_say_coils_and_noise() -> None:
    evaluation = Evaluation("test", kind="simulated", persons={"a": "x"}, worlds={"a": "w"}, snrs={"a": 10.0})
    evaluation.array = SimulatedArray(16, 10.0, measured=True)
    (world,) = worlds_of(evaluation)
    assert world.title == "w, simulated, 16 measured coils, SNR 10"


def test_a_range_of_snr_is_shown() -> None:
    evaluation = Evaluation("test", persons={"a": "x", "b": "x"}, snrs={"a": 12.0, "b": 40.0})
    (world,) = worlds_of(evaluation)
    assert world.snr == "12 to 40"


@pytest.mark.parametrize(("kind", "counted"), [("raw", True), ("phantom", False)])
def test_phantoms_have_no_gains(kind: str, counted: bool) -> None:
    rows = [row("a", "cs-wavelet", 20.0), row("a", "unet", 23.0)]
    (world,) = worlds_of(Evaluation("test", kind=kind, rows=rows, persons={"a": "x"}))
    gains = world.gains("psnr")
    assert (world.for_gains, bool(gains)) == (counted, counted)
    if counted:
        assert gains[4, "unet"].mean == 3


def test_below_the_floor_counts_scans_and_masks() -> None:
    """Below the better one of zero-filled and CG-SENSE, on the same mask; compressed sensing is no floor."""
    rows = [
        row("a", "zero-filled", 20.0), row("a", "cg-sense", 22.0), row("a", "cs-wavelet", 30.0), row("a", "unet", 21.0),
        row("a", "zero-filled", 20.0, seed=1), row("a", "cg-sense", 19.0, seed=1), row("a", "unet", 20.5, seed=1),
        row("b", "zero-filled", 20.0), row("b", "unet", None),
    ]  # fmt: skip
    (world,) = worlds_of(Evaluation("test", rows=rows, persons={"a": "x", "b": "y"}))
    assert below_floor(world, 4, "unet") == (1, 2)
    assert below_floor(world, 8, "unet") is None
    assert below_floor(world, 4, "unrolled") is None
