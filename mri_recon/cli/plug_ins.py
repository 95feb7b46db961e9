"""Find the verbs of the entry-point group `mri_recon.commands`, and import one only when it is run.

The list of verbs in `mri-recon --help` has a line of help for each. It is read from the plug-in's source text, so that
`--help` does not wait for the imports of plug-ins.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Container
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand
from typer.main import get_command, get_group

from mri_recon.errors import ConfigError

__all__ = ["COMMAND_GROUP", "help_of", "load_verb", "plug_ins", "verb_stub"]

COMMAND_GROUP = "mri_recon.commands"


def plug_ins(*, taken: Container[str]) -> tuple[dict[str, EntryPoint], list[str]]:
    """Find the verbs of installed packages by name, and say which are ignored and why.

    Args:
        taken: names of the built-in verbs.
    """
    found: dict[str, EntryPoint] = {}
    ignored = []
    for entry in sorted(entry_points(group=COMMAND_GROUP), key=lambda entry: (entry.name, entry.value)):
        if entry.name in taken or entry.name in found:
            ignored.append(f"verb {entry.name!r} of {entry.value} is ignored: the name is taken, rename it")
        else:
            found[entry.name] = entry
    return found, ignored


def verb_stub(entry: EntryPoint, *, help_line: bool = True) -> TyperCommand:
    """Make a stand-in for a verb that is not imported, for lists of verbs.

    Args:
        entry: entry point of the verb.
        help_line: whether to read its help from the source.
    """
    return TyperCommand(entry.name, help=help_of(entry) if help_line else None)


def load_verb(entry: EntryPoint) -> Any:
    """Import a verb.

    Raises:
        ConfigError: the verb cannot be imported, or is neither a function nor a `typer.Typer`.
    """
    try:
        verb = entry.load()
    except Exception as error:  # the import of a third-party package can raise any error
        raise ConfigError(
            f"verb {entry.name!r} of {entry.value} cannot be loaded ({type(error).__name__}: {error}): "
            "repair or uninstall that package"
        ) from error
    if isinstance(verb, typer.Typer):
        command: Any = get_group(verb)  # a group even if it has only one verb
    elif callable(verb):
        alone = typer.Typer(add_completion=False)
        alone.command(entry.name)(verb)
        command = get_command(alone)
    else:
        raise ConfigError(
            f"verb {entry.name!r} of {entry.value}: expected a function or a typer.Typer, "
            f"got {type(verb).__name__}: repair or uninstall that package"
        )
    command.name = entry.name
    return command


def help_of(entry: EntryPoint) -> str:
    """Read the help of a verb from the source of its module, without importing it; "" if there is none.

    The help is the docstring of a function, or the `help` of an application `name = typer.Typer(help="...")`.
    """
    try:
        source = _source(entry.module)
        tree = ast.parse(source) if source else ast.Module([], [])
    except (OSError, SyntaxError, ValueError):
        return ""
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=entry.attr) | ast.AsyncFunctionDef(name=entry.attr):
                return ast.get_docstring(node) or ""
            case ast.Assign(targets=[ast.Name(id=entry.attr)], value=ast.Call(keywords=keywords)):
                for keyword in keywords:
                    if keyword.arg == "help" and isinstance(keyword.value, ast.Constant):
                        return inspect.cleandoc(str(keyword.value.value))
    return ""


def _source(module: str) -> str | None:
    """Read the source of a module, without importing it or its parent packages; None if it has none."""
    if (loaded := sys.modules.get(module)) is not None:
        return inspect.getsource(loaded)
    spec: ModuleSpec | None = None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        path = None if spec is None else spec.submodule_search_locations
        spec = _find(name, path)
        if spec is None:
            return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin).read_text(encoding="utf-8")


def _find(name: str, path: Any) -> ModuleSpec | None:
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path, None)
        if spec is not None:
            return spec
    return None
