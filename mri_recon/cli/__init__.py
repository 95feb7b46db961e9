"""Provide the command `mri-recon`. It parses arguments; the work of each verb is a Python call.

Other parts of the library and other packages add verbs by the entry-point group `mri_recon.commands`: a `typer.Typer`
application with its own verbs, or a function that becomes one verb. Nothing here imports torch or a plug-in before a
verb needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from mri_recon.cli.main import main

if TYPE_CHECKING:
    from mri_recon.cli.app import CommandGroup, build_app
    from mri_recon.cli.options import method_list, options_by_method, parse_option
    from mri_recon.cli.outputs import JSON_SUFFIXES, claim, files_read, tell
    from mri_recon.cli.plug_ins import COMMAND_GROUP
    from mri_recon.cli.tables import print_results

__all__ = [
    "COMMAND_GROUP",
    "JSON_SUFFIXES",
    "CommandGroup",
    "build_app",
    "claim",
    "files_read",
    "main",
    "method_list",
    "options_by_method",
    "parse_option",
    "print_results",
    "tell",
]

_HOMES = {
    "COMMAND_GROUP": "plug_ins",
    "CommandGroup": "app",
    "build_app": "app",
    "JSON_SUFFIXES": "outputs",
    "claim": "outputs",
    "files_read": "outputs",
    "method_list": "options",
    "options_by_method": "options",
    "parse_option": "options",
    "print_results": "tables",
    "tell": "outputs",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
