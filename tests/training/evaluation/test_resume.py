from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mri_recon.errors import DataError
from mri_recon_training.evaluation.compare_scans import Masks, evaluate_scans
from mri_recon_training.evaluation.resume import FinishedComparisons
from tests.support.evaluations import METHODS, small_evaluation, small_sources

SETTINGS = {"methods": METHODS, "code": "abc"}
MASKS = Masks([2, 4], [0, 5])


def test_what_was_put_is_there_again(tmp_path: Path) -> None:
    store = FinishedComparisons(tmp_path / "p", SETTINGS)
    store.put("a", 4, 0, {"rows": [{"psnr": 1.5, "nmse": float("inf")}]})
    again = FinishedComparisons(tmp_path / "p", SETTINGS)
    assert again.get("a", 4.0, 0) == {"rows": [{"psnr": 1.5, "nmse": None}]}
    assert (len(again), again.get("a", 4, 1), again.get("b", 4, 0)) == (1, None, None)
    again.finish()
    again.finish()
    assert list(tmp_path.iterdir()) == []


def test_without_a_file_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = FinishedComparisons(None, {})
    store.put("a", 4, 0, {"x": 1})
    store.finish()
    assert store.get("a", 4, 0) == {"x": 1}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not JSON", "expected an unfinished evaluation in p, got something else: delete"),
        ('{"results": []}', "expected an unfinished evaluation in p, got something else"),
        ("[]", "expected an unfinished evaluation in p, got something else"),
        (
            json.dumps({"settings": {**SETTINGS, "code": "old"}, "comparisons": {}}),
            "got another code (old there, abc now): go on as it was begun, or delete",
        ),
        (json.dumps({"settings": {**SETTINGS, "more": 1}, "comparisons": {}}), "got another more (1 there, None now)"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "p").write_text(content)
    with pytest.raises(DataError) as caught:
        FinishedComparisons(tmp_path / "p", SETTINGS)
    assert message in str(caught.value)


def test_an_interrupted_evaluation_goes_on_where_it_stopped(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(text: str) -> None:
        if text == "set/a2, R = 4, seed 0":
            raise Killed

    settings: dict[str, Any] = {"split": "validation", "methods": METHODS}
    with pytest.raises(Killed):
        evaluate_scans(
            small_sources(), MASKS, done=FinishedComparisons(tmp_path / "p", SETTINGS), report=kill, **settings
        )
    again: list[str] = []
    result = evaluate_scans(
        small_sources(), MASKS, done=FinishedComparisons(tmp_path / "p", SETTINGS), report=again.append, **settings
    )
    assert again[0] == "set/a2, R = 4, seed 0"
    assert len(again) == 6
    expected = small_evaluation()
    numbers = [
        [(row["file"], row["seed"], row["method"], row["psnr"]) for row in one.rows] for one in (result, expected)
    ]
    assert numbers[0] == numbers[1]
    assert result.receipts == expected.receipts
    assert result.convention == expected.convention
