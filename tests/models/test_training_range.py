from __future__ import annotations

import numpy as np
import pytest

from mri_recon.masks.convert import column_mask_from_lines
from mri_recon.masks.draw import equispaced_mask, random_mask
from mri_recon.masks.types import ColumnMask, PatternMask
from mri_recon.models.checkpoint import load_named, shipped_models
from mri_recon.models.training_range import MANY_SAMPLINGS, Envelope

ENVELOPE = Envelope(acceleration=(2, 10), num_coils=(1, 16), anatomy="head")
MASK = random_mask(127, 4, seed=1)


def test_what_was_seen_in_training_is_not_mentioned() -> None:
    assert ENVELOPE.departures(MASK, num_coils=8) == []
    assert ENVELOPE.departures(random_mask(102, 10, seed=1), num_coils=1) == []  # 10.2
    assert random_mask(102, 10, seed=1).realised_acceleration > 10


def test_acceleration_and_coils() -> None:
    assert ENVELOPE.departures(random_mask(128, 16, seed=1), num_coils=32) == [
        "acceleration 16.00 is outside the training range 2 to 10",
        "32 coils are outside the training range 1 to 16",
    ]


def test_rows_that_are_coupled() -> None:
    pattern = PatternMask(np.random.default_rng(0).random((24, 40)) < 0.3)
    (note,) = ENVELOPE.departures(pattern, num_coils=8)
    assert note == f"a two-dimensional sampling pattern is outside the training ({ENVELOPE.sampling})"
    rows = PatternMask(np.tile(random_mask(64, 4, seed=1).lines, (24, 1)))
    assert ENVELOPE.departures(rows, num_coils=8) == []  # whole columns, whatever they are called
    (note,) = ENVELOPE.departures(PatternMask(np.tile(equispaced_mask(64, 4).lines, (24, 1))), num_coils=8)
    assert "at equal distances" in note
    any_pattern = ENVELOPE.model_copy(update={"sampling": "any pattern"})
    assert any_pattern.departures(pattern, num_coils=8) == []


def test_more_noise() -> None:
    assert ENVELOPE.departures(MASK, num_coils=8, snr=0.1) == []  # a card that does not say
    noisy = ENVELOPE.model_copy(update={"snr": (9.0, 400.0)})
    assert noisy.departures(MASK, num_coils=8, snr=None) == []  # not known
    assert noisy.departures(MASK, num_coils=8, snr=6.1) == []
    assert noisy.departures(MASK, num_coils=8, snr=1e9) == []  # less noise is no departure
    assert noisy.departures(MASK, num_coils=8, snr=5.9) == [
        "signal-to-noise ratio 5.9 is outside the training range 9 and more"
    ]


@pytest.mark.parametrize("kind", ["equispaced", "file"])
def test_columns_at_equal_distances(kind: str) -> None:
    # Told by the lines, not by what a receipt says.
    mask = ColumnMask(equispaced_mask(126, 4, seed=2).lines, kind=kind)
    (note,) = ENVELOPE.departures(mask, num_coils=1)
    assert note == f"columns at equal distances are outside the training ({ENVELOPE.sampling})"
    assert ENVELOPE.model_copy(update={"sampling": "as in the user's files"}).departures(mask, num_coils=1) == []


def test_a_narrow_centre() -> None:
    known = ENVELOPE.model_copy(update={"center_fraction": (0.03, 0.1)})
    narrow, just, wide = (random_mask(200, 4, num_low_frequencies=lines, seed=1) for lines in (3, 6, 40))
    assert ENVELOPE.departures(narrow, num_coils=1) == []  # a card that does not say
    assert known.departures(just, num_coils=1) == known.departures(wide, num_coils=1) == []
    assert known.departures(narrow, num_coils=1) == [
        "a dense centre of 1.5 % of the columns is narrower than in the training (3 % and more)"
    ]
    # A few columns are not cut into fractions: 0.03 * 40 is 1.2.
    assert known.departures(random_mask(40, 4, num_low_frequencies=1, seed=1), num_coils=1) == []


def test_the_centre_of_a_mask_without_a_receipt_is_found() -> None:
    known = ENVELOPE.model_copy(update={"center_fraction": (0.03, 0.1)})
    assert known.departures(ColumnMask(MASK.lines), num_coils=1) == []
    bare = np.arange(126) % 3 == 1
    bare[63] = False
    assert any("0.0 % of the columns" in note for note in known.departures(ColumnMask(bare), num_coils=1))


def test_a_centre_and_nothing_else() -> None:
    lines = np.zeros(256, dtype=bool)
    lines[96:160] = True
    (note,) = ENVELOPE.departures(column_mask_from_lines(lines), num_coils=1)
    assert note == f"a dense centre and nothing outside it is outside the training ({ENVELOPE.sampling})"
    wide = Envelope(acceleration=(1, 10), num_coils=(1, 1), anatomy="head")
    assert wide.departures(column_mask_from_lines(np.ones(31, dtype=bool)), num_coils=1) == []


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_shipped_weights_say_how_their_columns_lay(name: str) -> None:
    card = load_named(name).card
    envelope = card.envelope
    many_worlds = card.architecture == "cascade"
    assert envelope.center_fraction == ((0.02, 0.15) if many_worlds else (0.03, 0.1))
    assert envelope.sampling == (MANY_SAMPLINGS if many_worlds else ENVELOPE.sampling)
    for acceleration in (2, 4, 8, 12):
        for width in (96, 117, 256):
            assert envelope.departures(random_mask(width, acceleration, seed=3), num_coils=1) == []
