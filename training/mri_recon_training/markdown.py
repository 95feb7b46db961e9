"""Parts of a Markdown page: tables, pictures with a caption, and a section between two marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mri_recon.errors import ConfigError

__all__ = ["Picture", "replace_section", "table"]


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes:
        path: of the file, relative to the page.
        alt: text for readers who cannot see it.
        caption: text below it.
    """

    path: str
    alt: str
    caption: str

    def lines(self) -> list[str]:
        """Give the picture and its caption, each followed by an empty line."""
        return [f"![{self.alt}]({self.path})", "", self.caption, ""]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, text: int) -> list[str]:
    """Give the lines of a table.

    Args:
        header: one cell a column.
        rows: as many cells each.
        text: number of columns of text, from the left; the others hold numbers and are set flush right.
    """
    return [
        "| " + " | ".join(header) + " |",
        "|" + "|".join("---" if column < text else "--:" for column in range(len(header))) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def replace_section(page: str, name: str, section: str) -> str:
    """Replace the text between the marks `<!-- NAME: begin -->` and `<!-- NAME: end -->` of a page.

    Raises:
        ConfigError: the page lacks one of the marks.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ConfigError(f"expected a page with the lines {begin} and {end}, got one without: add them")
    return f"{before}{begin}\n{section}{end}{after}"
