"""Lay the pages out for Sphinx: copy them, lead their links to pages of the site, and derive the navigation.

The front page `docs/README.md` is the one list of pages: each of its headings with a table becomes a section of the
navigation, with the pages that the table links, in that order. Links that leave the pages, to a source file say, lead
to a page that shows this file, so that the site needs no network.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound

__all__ = ["FRONT", "OUTSIDE", "Section", "lay_out", "sections"]

FRONT = "docs/README.md"

OUTSIDE = {
    "README.md": "index.md",  # its pictures and examples are on the front page
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "benchmarks/README.md": "project/benchmarks.md",
}
"""Pages of the repository outside `docs/`, and where they are in the site."""

PAGES = (".md", ".ipynb")

_OWN = PurePosixPath("docs/site")
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)")
_FENCE = re.compile(r"^ *```.*?^ *```$", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Section:
    """Hold one section of the navigation.

    Attributes:
        title: heading on the front page.
        pages: pages that its table links: path in the repository to the text of the link, their name in the navigation.
    """

    title: str
    pages: dict[str, str]

    @property
    def name(self) -> str:
        """Name of the section's own page, without a suffix."""
        return self.title.lower().replace(" ", "-")


def sections(root: Path) -> list[Section]:
    """Read the navigation from the front page: its headings of second rank that have a table of pages."""
    parts = re.split(r"^## (.*)\n", (root / FRONT).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found = []
    for title, text in zip(parts[::2], parts[1::2], strict=True):
        pages = {}
        for name, link in re.findall(r"^\| \[([^]]+)\]\(([^)\s#]+)\)", text, flags=re.MULTILINE):
            if link.endswith(PAGES):
                pages[posixpath.normpath(posixpath.join("docs", link))] = name
        if pages:
            found.append(Section(title, pages))
    return found


def lay_out(root: Path, target: Path, generated: dict[str, dict[str, str]]) -> None:
    """Write the source of the site into `target`, which is emptied first.

    Args:
        root: the repository.
        target: where to write.
        generated: further pages, by the title of their section: path in the site to text.

    Raises:
        ValueError: `generated` names a section that the front page lacks.
    """
    shutil.rmtree(target, ignore_errors=True)
    shown: set[str] = set()
    for path in _files(root):
        _copy(root, path, target, shown)
    linked = sorted(shown)
    for path in linked:
        _write(target / f"repository/{path}.md", _shown(root, path, shown))
    for path in sorted(shown.difference(linked)):  # those that a folder's page added
        _write(target / f"repository/{path}.md", _shown(root, path, set()))
    _write_navigation(root, target, generated)


def _files(root: Path) -> Iterator[str]:
    for file in sorted((root / "docs").rglob("*")):
        path = PurePosixPath(file.relative_to(root).as_posix())
        if file.is_file() and _OWN not in path.parents and file.suffix not in (".py", ".pyc"):
            yield str(path)
    yield from (path for path in OUTSIDE if path != "README.md")


def _copy(root: Path, path: str, target: Path, shown: set[str]) -> None:
    place = target / _place(path)
    if not path.endswith(PAGES):
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, place)
        return
    text = (root / path).read_text(encoding="utf-8")
    _write(place, _outside_fences(text, lambda part: _LINK.sub(lambda link: _led(root, path, link[1], shown), part)))


def _place(path: str) -> str:
    """Where a file of the repository is in the site."""
    if path == FRONT:
        return "index.md"
    if path in OUTSIDE:
        return OUTSIDE[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}.md"


def _led(root: Path, page: str, link: str, shown: set[str]) -> str:
    """Lead a link to where its target is in the site; note in `shown` what needs a page of its own."""
    if re.match(r"\w+:", link):
        return link
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    if not (root / path).exists():
        return link  # Sphinx says that it leads nowhere
    if not path.startswith("docs/") and path not in OUTSIDE:
        shown.add(path)
    return posixpath.relpath(_place(path), posixpath.dirname(_place(page)) or ".")


def _outside_fences(text: str, change: Callable[[str], str]) -> str:
    """Change text, but not the code in it."""
    fences = _FENCE.findall(text)
    parts = [change(part) for part in _FENCE.split(text)]
    return "".join(part + fence for part, fence in zip(parts, [*fences, ""], strict=True))


def _shown(root: Path, path: str, shown: set[str]) -> str:
    """Make a page that shows a file, or lists a folder, whose files it notes in `shown`."""
    head = f"---\norphan: true\n---\n\n# `{path}`\n\n"
    file = root / path
    if file.is_dir():
        names = sorted(one.name for one in file.iterdir() if one.is_file() and not one.name.startswith("."))
        shown.update(f"{path}/{name}" for name in names)
        here = PurePosixPath(path).name
        return head + "\n".join(f"- [{name}]({here}/{name}.md)" for name in names) + "\n"
    try:
        language = get_lexer_for_filename(file.name).aliases[0]
    except (ClassNotFound, IndexError):
        language = "text"
    # force: a file is shown even where the lexer stumbles
    return head + f"``````{{code-block}} {language}\n:force:\n\n{file.read_text(encoding='utf-8')}\n``````\n"


def _write_navigation(root: Path, target: Path, generated: dict[str, dict[str, str]]) -> None:
    found = sections(root)
    if unknown := set(generated) - {section.title for section in found}:
        raise ValueError(f"expected sections of {FRONT}, got {sorted(unknown)}: name one of its headings")
    for section in found:
        more = generated.get(section.title, {})
        for path, text in more.items():
            _write(target / path, text)
        # The text stood on the front page, whose links are written as from the section's page, beside it.
        text = _section_text(target / "index.md", section.title)
        listed = {_place(page): name for page, name in section.pages.items()}
        listed |= {path: _title(text) for path, text in more.items() if path.count("/") == 1}
        _write(target / f"{section.name}.md", f"# {section.title}\n\n{text}\n\n{_more(more)}{_toctree(listed)}")
    index = target / "index.md"
    named = {f"{one.name}.md": one.title for one in found}
    _write(index, index.read_text(encoding="utf-8") + "\n" + _toctree(named))


def _section_text(index: Path, title: str) -> str:
    after = index.read_text(encoding="utf-8").partition(f"## {title}\n")[2]
    return re.split(r"^## ", after, flags=re.MULTILINE)[0].strip()


def _more(pages: dict[str, str]) -> str:
    """List generated pages by their titles."""
    rows = [f"- [{_title(text)}]({path})" for path, text in pages.items() if path.count("/") == 1]
    return "Made from the source:\n\n" + "\n".join(rows) + "\n\n" if rows else ""


def _title(text: str) -> str:
    return text.partition("# ")[2].partition("\n")[0]


def _toctree(pages: dict[str, str]) -> str:
    """Make a hidden table of contents; of pages whose name is given."""
    rows = "\n".join(f"{name} <{re.sub(r'[.](md|ipynb)$', '', page)}>" for page, name in pages.items())
    return f"```{{toctree}}\n:hidden:\n\n{rows}\n```\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
