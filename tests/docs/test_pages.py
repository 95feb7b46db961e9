"""The pages name only what exists: links, pictures, headings, paths, modules, verbs and their options.

Their lists of pages, verbs and extras are complete.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from mri_recon.cli import build_app

ROOT = Path(__file__).parents[2]
_FOLDERS = ("docs", "benchmarks", "checkpoints")
PAGES = sorted((*ROOT.glob("*.md"), *(page for folder in _FOLDERS for page in (ROOT / folder).rglob("*.md"))))
_FENCED = re.compile(r"^ *```\w*\n(.*?)^ *```", flags=re.DOTALL | re.MULTILINE)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def test_the_pages_are_found() -> None:
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    assert {"README.md", "CONTRIBUTING.md", "docs/README.md", "docs/using/files.md", "benchmarks/README.md"} <= names


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    """A file, and where a heading is named, that heading; `![...](...)` is a link too."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?://", target):
            continue
        file, _, heading = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), target
        if heading:
            assert heading in _headings(linked), target


@each_page
def test_paths_in_backticks_exist(page: Path) -> None:
    """Where the first folder is one of the repository's; what a reader makes (`demo/`, `my_method.py`) is none."""
    ours = {path.name for path in ROOT.iterdir() if path.name not in {"demo", "runs", "dist", "build"}}
    for path in re.findall(r"`([\w.-]+/[\w./-]*)`", page.read_text(encoding="utf-8")):
        if path.split("/")[0] in ours and "my_" not in path:
            assert (ROOT / path).exists() or (page.parent / path).exists(), path


@each_page
def test_names_of_modules_resolve(page: Path) -> None:
    """Today's modules; the changelog names former ones too."""
    if page.name == "CHANGELOG.md":
        return
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    text = page.read_text(encoding="utf-8")
    for name in set(re.findall(r"\bmri_recon(?:_\w+)?(?:\.[A-Za-z_]\w*)+", text)) - set(groups):
        assert _resolves(name), name


@each_page
def test_verbs_and_options_exist(page: Path) -> None:
    verbs = _verbs()
    for command in _commands(page.read_text(encoding="utf-8")):
        words = command.split()
        name = next((" ".join(words[:count]) for count in (2, 1) if " ".join(words[:count]) in verbs), None)
        known = verbs[name or ""]
        assert name is not None or words[0] in known, f"no verb: {command}"
        for option in re.findall(r"(?<!\S)--[a-z][\w-]*", command):
            assert option in known, f"no option {option}: {command}"


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    targets = re.findall(r"\]\(([^)#\s]+)\)", index.read_text(encoding="utf-8"))
    linked = {(index.parent / target).resolve() for target in targets}
    assert {page for page in PAGES if index.parent in page.parents} - {index} <= linked


def test_the_page_of_the_command_line_names_every_verb() -> None:
    text = (ROOT / "docs" / "using" / "command-line.md").read_text(encoding="utf-8")
    named = {re.split(r"[ `]", row)[0] for row in re.findall(r"^\| `(\w.*)$", text, flags=re.MULTILINE)}
    assert {verb.split()[0] for verb in _verbs() if verb} <= named


def test_the_readme_names_every_extra_for_users() -> None:
    """`demo`, `dev` and `docs` are for this repository; `ray` is for operators, in deployment.md."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    setup = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Set up")[2].partition("\n## ")[0]
    named = {name for listed in re.findall(r"`(\w+)`|\.\[([\w,]+)\]", setup) for name in ",".join(listed).split(",")}
    assert set(extras) - {"demo", "dev", "docs", "ray"} <= named
    assert "extra `ray`" in (ROOT / "docs" / "service" / "deployment.md").read_text(encoding="utf-8")


def _headings(page: Path) -> set[str]:
    """The headings of a page as GitHub names them in links."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in found}


def _resolves(name: str) -> bool:
    # A module is looked for and not imported: with Ray installed, the import of ray_app warns.
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        module = ".".join(parts[:count])
        try:
            found = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:  # what stands before the last dot is no package
            continue
        if found and count == len(parts):
            return True
        if found:
            thing = importlib.import_module(module)
            for part in parts[count:]:
                if not hasattr(thing, part):
                    return False
                thing = getattr(thing, part)
            return True
    return False


def _commands(text: str) -> Iterator[str]:
    """What stands behind `mri-recon` in fenced commands and in backticks; lines of output are none."""
    for block in _FENCED.findall(text):
        lines = re.sub(r"\\\n\s*", " ", block).splitlines()
        if any(line.startswith("$ ") for line in lines):
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        for line in lines:
            for command in re.split(r"[|;)]|&&|\s#\s|\s{3,}", line):
                if found := re.search(r"(?:^|no-python |\$\(|bin/)mri-recon (?!VERB|\.\.\.)(\S.*)", command.strip()):
                    yield found[1]
    for command in re.findall(r"`mri-recon (?!VERB|\.\.\.)(\S[^`]*)`", _FENCED.sub("", text)):
        yield command


def _verbs() -> dict[str, set[str]]:
    """Options by verb, "data fetch" for a verb of a group, "" for the options of `mri-recon` itself."""
    verbs: dict[str, set[str]] = {}
    todo: list[tuple[str, Any]] = [("", typer.main.get_command(build_app()))]
    while todo:
        name, command = todo.pop()
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        verbs[name] = options | {"--help"}
        if hasattr(command, "list_commands"):
            context = typer.Context(command)
            for child in command.list_commands(context):
                verb = command.resolve_command(context, [child])[1]
                todo.append((f"{name} {child}".strip(), verb))
    return verbs
