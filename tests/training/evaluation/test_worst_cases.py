from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mri_recon.io.pictures import NO_PICTURES
from mri_recon.masks.types import Mask
from mri_recon.methods import table as method_table
from mri_recon_training.evaluation.compare_scans import Masks, evaluate_scans
from mri_recon_training.evaluation.results import Evaluation
from mri_recon_training.evaluation.worst_cases import Case, draw_cases, worst_cases
from tests.support.evaluations import row, small_sources
from tests.support.methods import add_method

METHODS = ["zero-filled", "cs-wavelet", "unet"]


def _evaluation(rows: list[dict[str, Any]], *, kind: str = "raw", **worlds: str) -> Evaluation:
    return Evaluation("test", kind=kind, rows=rows, worlds=worlds)


def test_the_case_that_loses_most_in_each_world() -> None:
    rows = [
        row("a", "zero-filled", 20.0), row("a", "cs-wavelet", 25.0), row("a", "unet", 24.0),
        row("a", "zero-filled", 20.0, seed=1), row("a", "cs-wavelet", 25.0, seed=1), row("a", "unet", 22.0, seed=1),
        row("b", "zero-filled", 9.0), row("b", "cs-wavelet", 8.0), row("b", "unet", 10.0),
        row("c", "zero-filled", 9.0), row("c", "cs-wavelet", 8.0), row("c", "unet", 12.0),
    ]  # fmt: skip
    near, far = worst_cases([_evaluation(rows, a="near", b="far", c="far")], METHODS, files=["a", "b", "c"])
    assert (near.world, near.file, near.seed, near.against, near.gain) == ("near", "a", 1, "cs-wavelet", -3.0)
    assert (far.world, far.file, far.against, far.gain) == ("far", "b", "zero-filled", 1.0)


def test_the_worst_of_several_learned_methods_is_shown() -> None:
    rows = [row("a", "cs-wavelet", 20.0), row("a", "unet", 23.0), row("a", "unrolled", 21.0)]
    (case,) = worst_cases([_evaluation(rows, a="near")], [*METHODS, "unrolled"], files=["a"])
    assert (case.method, case.gain) == ("unrolled", 1.0)


def test_real_and_simulated_scans_of_a_world_are_apart() -> None:
    rows = [row("a", "cs-wavelet", 20.0), row("a", "unet", 23.0)]
    simulated = [_evaluation(rows, kind="simulated", a="near")] * 2
    cases = worst_cases([_evaluation(rows, a="near"), *simulated], METHODS, files=["a"])
    assert [case.world for case in cases] == ["near", "near, simulated"]


def test_every_acceleration_is_looked_at() -> None:
    rows = [
        row("a", "cs-wavelet", 20.0), row("a", "unet", 23.0),
        row("a", "cs-wavelet", 10.0, acceleration=12), row("a", "unet", 9.0, acceleration=12),
    ]  # fmt: skip
    (case,) = worst_cases([_evaluation(rows, a="near")], METHODS, files=["a"])
    assert case.acceleration == 12


def test_only_scans_that_may_be_shown_are_looked_at() -> None:
    rows = [row("a", "cs-wavelet", 20.0), row("a", "unet", 10.0), row("b", "cs-wavelet", 20.0), row("b", "unet", 21.0)]
    evaluation = _evaluation(rows, a="near", b="near")
    assert {case.file for case in worst_cases([evaluation], METHODS, files=["b"])} == {"b"}
    assert worst_cases([evaluation], METHODS, files=[]) == []


def test_without_a_classical_method_or_a_number_there_is_nothing_to_compare() -> None:
    assert worst_cases([_evaluation([row("a", "unet", 20.0)], a="near")], METHODS, files=["a"]) == []
    rows = [row("a", "cs-wavelet", 20.0), row("a", "unet", None)]
    assert worst_cases([_evaluation(rows, a="near")], METHODS, files=["a"]) == []


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
    cases = worst_cases([evaluation], methods, files=[source.name])
    (picture,) = draw_cases(cases, [source], tmp_path, methods=methods, masks=masks, options=options, prefix="mine")
    assert picture.path == f"{tmp_path.name}/mine-worst-near.png"
    gains = [
        one["psnr"] - other["psnr"] for other, one in zip(evaluation.rows[::2], evaluation.rows[1::2], strict=True)
    ]
    caption = picture.caption
    assert caption.startswith("Near: `spoiler` loses most to the best classical method here: anna T2, R = ")
    assert "slice 2 " in caption
    assert f"({min(gains):+.2f} dB to `zero-filled` over the whole scan)" in caption
    assert caption.endswith("Data: None")
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size <= 300_000
    with Image.open(file) as image:
        assert np.asarray(image.convert("L")).std() > 10


def test_a_scan_without_pictures_is_not_drawn(tmp_path: Path) -> None:
    source = small_sources()[0]
    hidden = replace(source, load=lambda: replace(source.load(), meta={NO_PICTURES: True}))
    case = Case("near", source.name, 4, 0, "cg-sense", "zero-filled", -1.0)
    assert draw_cases([case], [hidden], tmp_path, methods=["zero-filled"], masks=Masks([4])) == []
    assert list(tmp_path.iterdir()) == []
