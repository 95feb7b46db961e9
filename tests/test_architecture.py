"""The shape of the project: which way imports run, what is public, and that the two commands agree on it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest

import mri_recon

ROOT = Path(__file__).parents[1]
ROOMS = (ROOT, ROOT / "data", ROOT / "training", ROOT / "service")
PACKAGES = [path for room in ROOMS for path in room.glob("mri_recon*") if path.is_dir()]
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))


def _name(path: Path) -> str:
    (package,) = (one for one in PACKAGES if path.is_relative_to(one))
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_imports_run_one_way() -> None:
    # In a process of its own: it configures logging, and would silence the loggers of other tests.
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_every_public_name_is_there_and_documented(path: Path) -> None:
    """`__all__` names things that exist, once; what it names has a docstring."""
    if path.stem == "ray_app":
        pytest.skip("Ray need not be installed, and its import warns: test_ray_app runs it in a process of its own")
    if path.parts[-2:] == ("migrations", "env.py"):
        pytest.skip("Alembic alone runs it, within a migration: the tests of PostgreSQL do")
    module = import_module(_name(path))
    names = getattr(module, "__all__", [])
    assert len(set(names)) == len(names)
    for name in names:
        thing = getattr(module, name)
        if callable(thing) and getattr(thing, "__module__", "").startswith("mri_recon"):
            assert thing.__doc__, f"{module.__name__}.{name} has no docstring"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path.relative_to(ROOT)} has no docstring"


def test_the_library_has_one_front_door() -> None:
    """The names the design promises are importable from `mri_recon`, and `__all__` says no more than is there."""
    promised = {
        *["load", "load_mask", "load_noise", "save", "save_scan", "Scan", "random_mask", "undersample"],
        *["reconstruct", "reconstruct_batch", "Reconstruction", "method_names", "method_options"],
        *["compare", "evaluate", "replay", "Recipe", "run_recipe", "espirit_maps", "SenseOperator"],
    }
    assert promised <= set(mri_recon.__all__)
    assert len(mri_recon.__all__) <= 45
    assert set(mri_recon.__all__) <= set(dir(mri_recon))
    for name in mri_recon.__all__:
        assert hasattr(mri_recon, name)
    with pytest.raises(AttributeError, match="module 'mri_recon' has no attribute 'reconstrukt'"):
        _ = mri_recon.reconstrukt  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", mri_recon.__all__)
def test_no_module_has_the_name_of_a_public_function(name: str) -> None:
    """`import mri_recon.compare` would otherwise put the module in the place of the function."""
    assert find_spec(f"mri_recon.{name}") is None
    with pytest.raises(ModuleNotFoundError):
        import_module(f"mri_recon.{name}")


def test_what_types_see_of_the_front_door_is_what_runs() -> None:
    """The imports for type checkers, the table that is used at run time and `__all__` name the same things."""
    tree = ast.parse(Path(mri_recon.__file__).read_text(encoding="utf-8"))
    (block,) = (one for one in tree.body if isinstance(one, ast.If) and ast.unparse(one.test) == "TYPE_CHECKING")
    imported = {
        one.module: tuple(alias.name for alias in one.names) for one in block.body if isinstance(one, ast.ImportFrom)
    }
    assert imported == mri_recon._PUBLIC
    assert sorted(mri_recon._HOMES) == sorted(mri_recon.__all__)


def test_the_version_is_written_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {project['version']}" in citation
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_declared_entry_points_load() -> None:
    """Every verb that the package declares is there: a typo would only show at a user's prompt."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    for group, verbs in declared.items():
        found = {
            entry.name: entry for entry in entry_points(group=group) if entry.dist and entry.dist.name == "mri-recon"
        }
        assert {name: entry.value for name, entry in found.items()} == verbs
        for entry in found.values():
            assert callable(entry.load())


def test_every_direct_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # Ray is large, and of use on several machines only; the site is for those who write pages.
    # `make ray` and `make docs` add them to what is locked.
    extras = [
        one for name, extra in project["optional-dependencies"].items() if name not in ("docs", "ray") for one in extra
    ]
    wanted = [*project["dependencies"], *extras]
    locks = (ROOT / "requirements.lock").read_text() + (ROOT / "requirements-torch.lock").read_text()
    for requirement in wanted:
        name = requirement.split(">=")[0].split("[")[0]
        assert name == "mri-recon" or f"\n{name}==" in locks, f"{name} is not locked: run `make lock`"


def test_the_makefile_adds_the_extras_that_are_not_locked() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in ("docs", "ray"):
        (added,) = re.findall(rf"^{name}: .*\n\t\$\(call add,(.*)\)$", makefile, flags=re.MULTILINE)
        for variable, value in re.findall(r"^(\w+) := (.*)$", makefile, flags=re.MULTILINE):
            added = added.replace(f"$({variable})", value)
        assert added.replace("'", "").split() == extras[name]
