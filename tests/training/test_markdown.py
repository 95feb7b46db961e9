from __future__ import annotations

import pytest

from mri_recon.errors import ConfigError
from mri_recon_training.markdown import Picture, replace_section, table


def test_columns_of_text_are_flush_left_and_numbers_flush_right() -> None:
    assert table(["name", "R"], [["a", "4"]], text=1) == ["| name | R |", "|---|--:|", "| a | 4 |"]


def test_a_picture_has_its_caption_below() -> None:
    assert Picture("p.png", "alt", "A caption.").lines() == ["![alt](p.png)", "", "A caption.", ""]


def test_the_section_between_the_marks_is_replaced() -> None:
    page = "# Page\n<!-- study norms: begin -->\nold\n<!-- study norms: end -->\nrest\n"
    expected = "# Page\n<!-- study norms: begin -->\nnew\n<!-- study norms: end -->\nrest\n"
    assert replace_section(page, "study norms", "new\n") == expected
    with pytest.raises(ConfigError, match="expected a page with the lines <!-- study optimizers: begin -->"):
        replace_section(page, "study optimizers", "new\n")
