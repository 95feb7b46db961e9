"""Candidates are read with their options, and refused with the reason."""

from __future__ import annotations

import pytest

from mri_recon.errors import MethodError
from mri_recon.methods.candidate import Candidate, parse_candidates


def test_candidates_are_read_with_their_options() -> None:
    found = parse_candidates("zero-filled, cg-sense:reg_weight=0.003:max_iters=7,unrolled:model=1")
    assert found == [
        Candidate("zero-filled"),
        Candidate("cg-sense", {"reg_weight": 0.003, "max_iters": 7}),
        Candidate("unrolled", {"model": "1"}),
    ]
    assert found[1].label == "cg-sense:reg_weight=0.003:max_iters=7"
    (path,) = parse_candidates(("unet:model=/a,b:c/d.safetensors:adapt=3",))
    assert path.options == {"model": "/a,b:c/d.safetensors", "adapt": 3}
    assert parse_candidates(path.label.split(";")) == [path]
    assert parse_candidates(["cs-wavelet", "unet"]) == [Candidate("cs-wavelet"), Candidate("unet")]


@pytest.mark.parametrize("texts", [3, None, [1], {"unet": 1}, object()])
def test_candidates_are_texts(texts: object) -> None:
    with pytest.raises(MethodError, match="expected candidates as a text or a list of texts, got"):
        parse_candidates(texts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected candidates, each once, got none"),
        ("unet,unet", "each once, got unet, unet"),
        ("nonsense", "expected one of the methods zero-filled"),
        ("cg-sense:reg_weight", "got 'cg-sense:reg_weight'"),
        ("cg-sense:weight=1", "expected one of its options"),
        ("cg-sense:reg_weight=-1", "expected reg_weight"),
        ("cg-sense:maps=center", "without the option maps"),
    ],
)
def test_what_cannot_be_a_candidate(text: str, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        parse_candidates(text)
