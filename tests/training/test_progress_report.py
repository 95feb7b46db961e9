"""The bar of a training run."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from mri_recon_training import progress
from mri_recon_training.config import parse_config
from mri_recon_training.progress import ProgressReport


def _drawn(report: ProgressReport) -> str:
    screen = Console(file=io.StringIO(), width=200)
    screen.print(report._bar.get_renderable())
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


@pytest.mark.parametrize("resumed", [False, True])
def test_what_is_not_known_yet_is_a_dash(resumed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_console", lambda: Console(file=io.StringIO(), width=200))
    config = parse_config({"run": {"name": "try", "steps": 40, "tensorboard": False}})
    history = [{"step": 10.0, "psnr": 31.254, "ssim": 0.9}] if resumed else []
    with ProgressReport(config, tmp_path, first=10 if resumed else 0, history=history, silent=False) as report:
        said = "validation 31.25 dB" if resumed else "validation - "
        assert f"loss -  {said}" in _drawn(report)
        report.training(20, {"loss": 0.125, "steps_per_second": 2.0})
        assert f"loss 0.1250  {said}" in _drawn(report)
        report.validation(20, {"step": 20.0, "psnr": 33.0, "ssim": 0.9})
        assert "loss 0.1250  validation 33.00 dB" in _drawn(report)
        assert "nan" not in _drawn(report)
