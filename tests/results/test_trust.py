"""Captions of checks: what they name, and that they are empty without a check."""

from __future__ import annotations

import mri_recon as mr
from mri_recon.results.trust import auto_caption, holdout_caption, trust_lines
from tests.methods.test_holdout_check import masked


def test_captions_name_the_figures() -> None:
    kspace, mask = masked((1, 3, 40, 54))
    checked = mr.reconstruct(kspace, mask, method="cg-sense", check="holdout").info
    mixed = mr.reconstruct(kspace, mask, method="auto", candidates="cg-sense,zero-filled").info
    report = checked["holdout"]
    caption = holdout_caption(checked)
    assert caption.startswith(f"Hold-out check: error {report['error_db']:.1f} +- {report['uncertainty_db']:.1f} dB on")
    assert f"on {report['held_lines']} lines" in caption
    assert f"zero-filled {report['references']['zero-filled']['error_db']:.1f} dB" in caption
    assert auto_caption(checked) == ""
    assert auto_caption(mixed) == f"Auto took {mixed['auto']['why']}."
    assert holdout_caption({}) == auto_caption({}) == ""
    rows = [{"method": "cg-sense", "info": checked}, {"method": "zero-filled", "info": {}}]
    rows.append({"method": "auto", "info": mixed})
    assert [line.partition(":")[0] for line in trust_lines(rows)] == ["cg-sense", "auto", "auto"]


def test_samples_of_a_pattern_are_counted() -> None:
    one = {"error_db": -1.0}
    report = {
        "error_db": -2.04,
        "uncertainty_db": 0.5,
        "noise_floor_db": -9.0,
        "held_samples": 77,
        "references": {"a": one},
    }
    assert holdout_caption({"holdout": report}) == (
        "Hold-out check: error -2.0 +- 0.5 dB on 77 samples that the method was not shown (0 dB: predicts nothing; "
        "lower is better; noise alone -9.0 dB; a -1.0 dB)."
    )
    assert "error 0.0 +- 0.5 dB" in holdout_caption({"holdout": {**report, "error_db": -0.04}})
