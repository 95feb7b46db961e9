from __future__ import annotations

import re
from typing import Any

from mri_recon.masks.draw import random_mask
from mri_recon_training.evaluation.averages import differences
from mri_recon_training.evaluation.config import SimulatedArray
from mri_recon_training.evaluation.page import Page, markdown_page
from mri_recon_training.evaluation.results import Evaluation
from mri_recon_training.markdown import Picture
from tests.support.evaluations import METHODS, row, small_evaluation

LEARNED = ["zero-filled", "cs-wavelet", "unet"]
PICTURE = Picture("images/p.png", "what it shows", "A caption.")


def _page(**changed: Any) -> Page:
    given = {"command": "mri-recon evaluate", "commit": "abc", "methods": METHODS, "accelerations": [2, 4]}
    return Page(**{**given, "raw": small_evaluation(), **changed})


def _learned(
    gain: float = 2.0,
    *,
    persons: int = 2,
    seeds: int = 3,
    acceleration: float = 4,
    coils: int | None = None,
    world: str = "far",
    **changed: Any,
) -> Evaluation:
    rows = [
        row(f"s{person}", method, base + seed + 10 * person, seed=seed, acceleration=acceleration)
        for person in range(persons)
        for seed in range(seeds)
        for method, base in (("zero-filled", 20.0), ("cs-wavelet", 22.0), ("unet", 22.0 + gain + 0.25 * seed))
    ]
    array = None if coils is None else SimulatedArray(coils)
    kind = "raw" if coils is None else "simulated"
    given = {"kind": kind, "array": array, **changed}
    evaluation = Evaluation("test", rows=rows, persons={f"s{p}": f"person {p}" for p in range(persons)}, **given)
    evaluation.worlds = dict.fromkeys(evaluation.persons, world)
    evaluation.snrs = {f"s{person}": 20.0 + person for person in range(persons)} if coils is None else {}
    evaluation.labels = {f"s{person}": f"label {person}" for person in range(persons)}
    evaluation.shapes = {f"s{person}": (1, coils or 1, 21, 30) for person in range(persons)}
    evaluation.receipts = [
        {"file": f"s{person}", **random_mask(30, acceleration, seed=seed).receipt()}
        for person in range(persons)
        for seed in range(seeds)
    ]
    return evaluation


def _learned_page(evaluation: Evaluation, **changed: Any) -> str:
    return markdown_page(_page(raw=evaluation, methods=LEARNED, accelerations=[4], **changed))


def test_the_page_says_how_it_was_made() -> None:
    page = markdown_page(_page())
    assert "```\nmri-recon evaluate\n```" in page
    assert "Commit `abc`" in page
    assert "Data range: maximum of the reference volume" in page
    assert "Research only" in page
    assert "Mask variability" in page
    assert "confidence" not in page
    assert "Not measured: `set/p`" in page
    assert "15 of 30 (2.00x)" in page


def test_only_a_page_of_another_split_says_that_nothing_was_chosen_on_it() -> None:
    assert "Every choice was made on validation persons, none of them here" in _learned_page(_learned())
    validation = markdown_page(_page())
    assert "its numbers are no test" in validation
    assert "none of them here" not in validation


def test_the_summary_comes_first_and_holds_every_world() -> None:
    evaluation = small_evaluation()
    page = markdown_page(_page(raw=evaluation))
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert headings == ["Summary", "How it was made", "Real raw k-space", "Where methods lose", "Time of one call"]
    summary = page.split("## How it was made")[0]
    means = evaluation.means()
    assert {mean["world"] for mean in means} == {"near", "far"}
    for mean in means:
        start = f"| {mean['acceleration']:g} | {mean['world']} | real | 1 |"
        (line,) = [line for line in summary.splitlines() if line.startswith(start)]
        assert f" | {mean['psnr']:.2f} |" in line


def test_worlds_are_never_averaged_together() -> None:
    """A world where the network wins by 5 dB, and one where it loses 1 dB."""
    evaluation, other = _learned(5.0), _learned(-1.0)
    for row_of_other in other.rows:
        row_of_other["file"] = f"other {row_of_other['file']}"
        evaluation.rows.append(row_of_other)
    for name in ("persons", "labels", "shapes", "snrs"):
        getattr(evaluation, name).update({f"other {key}": value for key, value in getattr(other, name).items()})
    evaluation.worlds |= dict.fromkeys((f"other {file}" for file in other.persons), "near")
    evaluation.receipts += [{**one, "file": f"other {one['file']}"} for one in other.receipts]
    page = _learned_page(evaluation)
    assert "| 4 | far | real | 1 | 20 to 21 | 2 | 2 | 26.00 | 28.00 | 33.25 | +5.25 [+5.00, +5.50] | 0 of 6 |" in page
    assert "| 4 | near | real | 1 | 20 to 21 | 2 | 2 | 26.00 | 28.00 | 27.25 | -0.75 [-1.00, -0.50] | 0 of 6 |" in page
    assert "PSNR on real raw k-space: at R = 4 -0.75 dB (near, 1 coil) to +5.25 dB (far, 1 coil)." in page


def test_phantoms_count_for_no_gain_but_for_the_floor() -> None:
    phantoms = _learned(-5.0, kind="phantom", world="phantom")
    page = _learned_page(_learned(), phantoms=phantoms)
    summary = page.split("## How it was made")[0]
    assert (
        "| 4 | phantom | real, phantom | 1 | 20 to 21 | 2 | - | 26.00 | 28.00 | 23.25 | not counted | 6 of 6 |" in page
    )
    assert "phantom, 1 coil" not in summary
    assert "Phantoms: scans and masks on which" in page
    assert "Phantoms count for no gain" in page


def test_fewer_masks_are_said() -> None:
    evaluation = _learned()
    evaluation.parts = ["s1"]
    evaluation.rows = [one for one in evaluation.rows if one["file"] == "s0" or one["seed"] < 2]
    page = _learned_page(evaluation)
    assert "Seeds: 0, 1, 2. Seeds of scans that are parts of one file: 0, 1. Every method" in page


def test_single_masks_are_not_on_the_page() -> None:
    """As many masks as there are do not make it longer."""
    few, many = _learned_page(_learned(seeds=2)), _learned_page(_learned(seeds=40))
    assert len(few.splitlines()) == len(many.splitlines())


def test_every_table_is_rectangular() -> None:
    page = _learned_page(_learned(), simulated=[_learned(coils=2)], phantoms=_learned(kind="phantom"))
    table: list[int] = []
    for line in [*page.splitlines(), ""]:
        if line.startswith("|"):
            table.append(line.count("|"))
        elif table:
            assert len(set(table)) == 1
            assert len(table) > 2
            table = []


def test_differences_stand_with_their_mask_variability() -> None:
    page = _learned_page(_learned())
    scan = page.split("### PSNR / dB of each scan at R = 4")[1]
    assert (
        "| label 0 | 20 | 21.00 [20.00, 22.00] | 23.00 [22.00, 24.00] | 25.25 [24.00, 26.50] | +2.25 [+2.00, +2.50] |"
        " `cs-wavelet` |" in scan
    )
    assert "`unet` above the best classical method, PSNR on real raw k-space: at R = 4 +2.25 dB (far, 1 coil)." in page
    assert "unet` are behind the best classical method nowhere" in page


def test_what_a_learned_method_loses_is_said() -> None:
    page = _learned_page(_learned(gain=-1.0))
    assert "| label 0 | `unet` | PSNR / dB | -0.75 [-1.00, -0.50] |" in page
    assert "| `unet` | `cs-wavelet` | PSNR | 6 of 6 | -1.00 |" in page


def test_losses_on_simulated_scans_are_one_table() -> None:
    simulated = [_learned(gain, coils=coils) for coils, gain in ((2, -1.0), (8, -3.0), (32, 1.0))]
    page = _learned_page(_learned(), simulated=simulated).split("## Where methods lose")[1]
    assert "| far, simulated, 8 coils (mean) | `unet` | PSNR / dB | -2.75 [-3.00, -2.50] |" in page
    assert "32 coils (mean)" not in page
    assert "| `unet` | `cs-wavelet` | PSNR | 12 of 18 | -3.00 |" in page
    assert page.count("| `unet` | `cs-wavelet` | PSNR |") == 1


def test_without_losses_the_page_says_so() -> None:
    rows = [one for one in _learned().rows if one["method"] == "unet"]
    evaluation = _learned()
    evaluation.rows = rows
    page = markdown_page(_page(raw=evaluation, methods=["unet"], accelerations=[4]))
    assert "in the order `unet`, none is behind one named before it on any scan, mask and metric" in page


def test_a_single_mask_has_no_variability() -> None:
    assert "[" not in _learned_page(_learned(seeds=1)).split("### PSNR / dB of each scan at R = 4")[1].split("##")[0]


def test_simulated_numbers_say_so() -> None:
    simulated = [_learned(coils=2), _learned(3.0, coils=32)]
    page = _learned_page(_learned(), simulated=simulated)
    section = page.split("## Simulated k-space")[1].split("## Where")[0]
    assert section.strip().startswith("**Simulated**")
    assert "a floor of noise" in section
    assert "measured on a validation phantom" not in section
    assert "| 4 | far | simulated | 2 |  | 2 | 2 | 26.00 | 28.00 | 30.25 | +2.25 [+2.00, +2.50] | 0 of 6 |" in page
    assert "| 4 | far | simulated | 32 |  | 2 | 2 | 26.00 | 28.00 | 31.25 | +3.25 [+3.00, +3.50] | 0 of 6 |" in page
    assert (
        "on **simulated** k-space: at R = 4 +2.25 dB (far, simulated, 2 coils) to +3.25 dB (far, simulated, 32 coils)."
        in page
    )
    assert "| far, simulated, 32 coils | 1, 32, 21x30 |" in page


def test_measured_coils_are_called_so() -> None:
    simulated = [_learned(kind="simulated", array=SimulatedArray(16, 40.0, measured=True))]
    page = _learned_page(_learned(), simulated=simulated)
    assert "coils and noise as measured on a validation phantom" in page
    assert "| 4 | far | simulated | 16 measured |" in page


def test_pictures_stand_with_their_captions() -> None:
    page = _learned_page(_learned(), plots={"acceleration": PICTURE}, failures=[PICTURE])
    assert page.count("![what it shows](images/p.png)\n\nA caption.\n") == 2


def test_the_page_names_weights_and_what_is_outside_their_envelope() -> None:
    evaluation = _learned()
    for one in evaluation.rows:
        if one["method"] == "unet":
            sha = "0123456789abcdef"
            one["info"] = {
                "model": "m",
                "model_sha256": sha,
                "parameters": 2_500_000,
                "warnings": [f"R {one['seed'] + 12.5} is too fast"],
            }
    page = _learned_page(evaluation)
    assert "Weights of `unet`: `m`, SHA-256 `0123456789ab…`, 2.50 million parameters." in page
    assert "Outside the training envelope of a model card: `unet`: R 12.5 is too fast (6 such calls)." in page


def test_an_infinite_psnr_is_a_dash() -> None:
    evaluation = _learned()
    for one in evaluation.rows:
        one["psnr"] = None
    page = _learned_page(evaluation)
    assert "| label 0 | 20 | - | - | - |  |  |" in page
    assert "| label 0 | 20 | 0.500 [0.500, 0.500] |" in page
    assert differences(evaluation.rows, "psnr") == []


def test_weights_by_snr_are_a_column_and_no_step_of_the_order() -> None:
    """Present on one scan of two, so that its mean is that scan's, and the network is compared with it there."""
    evaluation = _learned()
    evaluation.rows += [row("s0", "cs-wavelet by SNR", 24.0 + seed, seed=seed) for seed in range(3)]
    methods = ["zero-filled", "cs-wavelet", "cs-wavelet by SNR", "unet"]
    page = markdown_page(_page(raw=evaluation, methods=methods, accelerations=[4]))
    assert "| label 0 | 20 | 21.00 [20.00, 22.00] | 23.00 [22.00, 24.00] | 25.00 [24.00, 26.00] |" in page
    assert "+0.25 [+0.00, +0.50] | `cs-wavelet by SNR` |" in page
    assert "| label 1 | 21 | 31.00 [30.00, 32.00] | 33.00 [32.00, 34.00] | - |" in page
    assert "in the order `zero-filled`, `cs-wavelet`, `unet`" in page
    assert "its weight not the automatic one but by the SNR" in page
    assert "by the SNR" not in _learned_page(_learned())
