from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mri_recon.masks.types import Mask
from mri_recon.methods import table as method_table
from mri_recon_training.evaluation.compare_scans import Masks, evaluate_scans
from mri_recon_training.evaluation.results import Evaluation
from mri_recon_training.evaluation.worst_cases import draw_cases, worst_cases
from tests.support.evaluations import row, small_sources
from tests.support.methods import add_method

METHODS = ["zero-filled", "cs-wavelet", "unet"]


def _evaluation(rows: list[dict[str, Any]]) -> Evaluation:
    return Evaluation("test", rows=rows)


def test_the_case_that_loses_most_and_the_one_with_the_largest_error() -> None:
    rows = [
        row("a", "zero-filled", 20.0), row("a", "cs-wavelet", 25.0), row("a", "unet", 24.0, nmse=0.2),
        row("a", "zero-filled", 20.0, seed=1), row("a", "cs-wavelet", 25.0, seed=1), row("a", "unet", 22.0, seed=1),
        row("b", "zero-filled", 9.0), row("b", "cs-wavelet", 8.0), row("b", "unet", 10.0, nmse=0.9),
    ]  # fmt: skip
    least, largest = worst_cases(_evaluation(rows), METHODS, files=["a", "b"], accelerations=[4])
    assert (least.file, least.seed, least.against, least.gain) == ("a", 1, "cs-wavelet", -3.0)
    assert least.why == "`unet` loses most to the best classical method"
    assert (largest.file, largest.against, largest.gain) == ("b", "zero-filled", 1.0)
    assert (least.name, largest.name) == ("results-unet-against-classical", "results-unet-largest-error")


def test_where_nothing_is_lost_the_least_gain_is_shown() -> None:
    rows = [row("a", "cs-wavelet", 20.0), row("a", "unet", 23.0), row("b", "cs-wavelet", 20.0), row("b", "unet", 21.0)]
    least, _ = worst_cases(_evaluation(rows), METHODS, files=["a", "b"], accelerations=[4])
    assert (least.file, least.gain, least.why) == ("b", 1.0, "`unet` gains least on the best classical method")


def test_the_largest_error_is_not_sought_at_the_accelerations_of_the_plot() -> None:
    rows = [
        row("a", "cs-wavelet", 20.0), row("a", "unet", 23.0, nmse=0.1),
        row("a", "cs-wavelet", 10.0, acceleration=12), row("a", "unet", 9.0, acceleration=12, nmse=0.9),
    ]  # fmt: skip
    least, largest = worst_cases(_evaluation(rows), METHODS, files=["a"], accelerations=[4])
    assert (least.acceleration, largest.acceleration) == (12, 4)


def test_only_scans_that_may_be_shown_are_looked_at() -> None:
    rows = [row("a", "cs-wavelet", 20.0), row("a", "unet", 10.0), row("b", "cs-wavelet", 20.0), row("b", "unet", 21.0)]
    assert {case.file for case in worst_cases(_evaluation(rows), METHODS, files=["b"], accelerations=[4])} == {"b"}
    assert worst_cases(_evaluation(rows), METHODS, files=[], accelerations=[4]) == []


def test_without_a_classical_method_or_a_number_there_is_nothing_to_compare() -> None:
    assert worst_cases(_evaluation([row("a", "unet", 20.0)]), METHODS, files=["a"], accelerations=[4]) == []
    rows = [row("a", "cs-wavelet", 20.0), row("a", "unet", None)]
    (largest,) = worst_cases(_evaluation(rows), METHODS, files=["a"], accelerations=[4])
    assert largest.gain is None


def test_a_case_is_drawn_with_its_attribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that spoils the second slice of two: that slice is shown."""

    def spoiler(kspace: torch.Tensor, mask: Mask, *, sens_maps: Any, strength: float = 1.0) -> Any:
        image, _ = method_table.get_method("zero-filled")(kspace, mask)
        image = image.clone()
        image[1] *= strength
        return image, {"seconds": 0.0}

    add_method(monkeypatch, "spoiler", spoiler)
    source = small_sources()[1]
    masks, methods, options = Masks([2, 4], [0, 5]), ["zero-filled", "spoiler"], {"spoiler": {"strength": 3.0}}
    evaluation = evaluate_scans([source], masks, split="validation", methods=methods, options=options)
    cases = worst_cases(evaluation, methods, files=[source.name], accelerations=[4])
    pictures = draw_cases(cases, [source], tmp_path, masks=masks, options=options)
    assert [picture.path for picture in pictures] == [
        f"{tmp_path.name}/results-spoiler-against-classical.png",
        f"{tmp_path.name}/results-spoiler-largest-error.png",
    ]
    first = pictures[0].caption
    gains = [
        one["psnr"] - other["psnr"] for other, one in zip(evaluation.rows[::2], evaluation.rows[1::2], strict=True)
    ]
    assert first.startswith("Where `spoiler` loses most to the best classical method: anna T2, R = ")
    assert "slice 1 " in first
    assert f"({min(gains):+.2f} dB to `zero-filled` over the whole scan)" in first
    assert first.endswith("Data: None")
    for file in tmp_path.iterdir():
        assert file.stat().st_size <= 300_000
        with Image.open(file) as image:
            assert np.asarray(image.convert("L")).std() > 10
