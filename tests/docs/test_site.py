"""The site: it builds without a warning, lists every page, and loads nothing from a network."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

import mri_recon as mr

ROOT = Path(__file__).parents[2]
_EXTRA = ("sphinx", "myst_nb", "pydata_sphinx_theme", "sphinx_copybutton")
missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(bool(missing), reason=f"needs the extra `docs`: no {', '.join(missing)}"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "docs"
    command = [sys.executable, str(ROOT / "docs" / "site" / "build.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.mark.slow
def test_the_site_has_every_page_and_links_it(site: Path) -> None:
    pages = [page.relative_to(ROOT / "docs") for kind in ("*.md", "*.ipynb") for page in (ROOT / "docs").rglob(kind)]
    built = [page.with_suffix(".html") for page in pages if page.name != "README.md"]
    assert built
    linked = {path for section in site.glob("*.html") for path in _targets(section)}
    for page in built:
        assert (site / page) in linked
        assert (site / page).exists()
    assert {site / "project" / "contributing.html", site / "reference" / "verbs.html"} <= linked


@pytest.mark.slow
def test_links_of_the_site_lead_to_files(site: Path) -> None:
    """Those that left `docs/` too: they lead to pages that show a source file."""
    for page in site.rglob("*.html"):
        for target in _targets(page):
            assert target.exists(), f"{page.relative_to(site)}: {target}"
    assert "reverse_proxy" in (site / "repository/service/deploy/Caddyfile.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_site_loads_nothing_from_a_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        found = _Loaded()
        found.feed(page.read_text(encoding="utf-8"))
        assert [one for one in found.loaded if re.match(r"(https?:)?//", one)] == [], page.relative_to(site)
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8")), style.name


@pytest.mark.slow
def test_the_reference_has_every_public_name_and_verb(site: Path) -> None:
    python = "".join(page.read_text(encoding="utf-8") for page in (site / "reference" / "python").glob("*.html"))
    assert [name for name in mr.__all__ if f'id="mri_recon.{name}"' not in python] == []
    verbs = (site / "reference" / "verbs.html").read_text(encoding="utf-8")
    assert all(f'id="mri-recon-{verb}"' in verbs for verb in ("info", "compare", "train", "data-fetch"))
    assert "--coil-seeds" in verbs  # of a verb that another package brings
    methods = (site / "reference" / "methods.html").read_text(encoding="utf-8")
    assert [name for name in mr.method_names() if f".{name.replace('-', '_')}" not in methods] == []
    assert "0x7" not in python + methods  # no object without a text
    if importlib.util.find_spec("mri_recon_service.client"):
        assert (site / "reference" / "client.html").exists()


def test_every_public_name_has_one_group() -> None:
    names = [name for group in _module("reference").GROUPS.values() for name in group]
    assert sorted(names) == sorted(mr.__all__)


def test_docstrings_become_restructured_text() -> None:
    lines = [
        "Solve `A x = y`, where |x| is a_b_ and `x`s count.",
        "",
        "    min |A x - y|",
        "",
        "    second *line*",
        "",
        "Args:",
        "    x: the `image`,",
        "",
        "        of *two* axes.",
    ]
    assert _module("markdown_docstrings").as_rest(lines) == [
        r"Solve ``A x = y``, where \|x\| is a_b\_ and ``x``\ s count.",
        "",
        "::",
        "",
        "    min |A x - y|",
        "",
        "    second *line*",
        "",
        "Args:",
        "    x: the ``image``,",
        "",
        r"        of \*two\* axes.",
    ]


def test_the_front_page_is_the_navigation(tmp_path: Path) -> None:
    pages = _module("pages")
    (tmp_path / "docs" / "a").mkdir(parents=True)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "docs" / "README.md").write_text(
        "# Front\n\n## Use it\n\n| read | why |\n|---|---|\n| [One](a/one.md) | [more](a/no.md) |\n\n## Nothing\n"
    )
    (tmp_path / "docs" / "a" / "one.md").write_text(
        "# One\n\n[code](../../code.py#top), [front](../README.md), [web](https://example.org)\n\n```\n[x](../../code.py)\n```\n"
    )
    (tmp_path / "code.py").write_text("x = 1\n")
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"):
        (tmp_path / name).write_text("# Page\n")

    pages.lay_out(tmp_path, tmp_path / "out", {})

    assert [(one.title, one.pages) for one in pages.sections(tmp_path)] == [("Use it", {"docs/a/one.md": "One"})]
    assert "One <a/one>" in (tmp_path / "out" / "use-it.md").read_text()
    assert "Use it <use-it>" in (tmp_path / "out" / "index.md").read_text()
    one = (tmp_path / "out" / "a" / "one.md").read_text()
    assert "[code](../repository/code.py.md#top), [front](../index.md), [web](https://example.org)" in one
    assert "[x](../../code.py)" in one  # code stays
    assert "x = 1" in (tmp_path / "out" / "repository" / "code.py.md").read_text()
    with pytest.raises(ValueError, match="expected sections of docs/README.md, got"):
        pages.lay_out(tmp_path, tmp_path / "out", {"Elsewhere": {}})


class _Loaded(HTMLParser):
    """Collect what a browser loads with a page; links that a reader follows are none."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        wanted = given.get("href") if tag == "link" else given.get("src") if tag != "a" else None
        if wanted:
            self.loaded.append(wanted)


def _targets(page: Path) -> list[Path]:
    """Files that a page links, without the site's own furniture."""
    text = page.read_text(encoding="utf-8")
    links = re.findall(r'<a [^>]*href="([^"#:?]+)(?:#[^"]*)?"', text)
    return [(page.parent / link).resolve() for link in links]


def _module(name: str) -> ModuleType:
    """A module of the site, which is no package that is installed."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", ROOT / "docs" / "site" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
