"""Generate the pages of reference: public Python names, methods, and the verbs of the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import typer
from typer.cli import get_docs_for_click

import mri_recon
from mri_recon.cli import build_app

__all__ = ["GROUPS", "reference_pages"]

GROUPS: dict[str, tuple[str, ...]] = {
    "Scans and files": ("load", "sample", "Scan", "load_mask", "load_noise", "save", "save_scan"),
    "Masks": (
        "random_mask",
        "equispaced_mask",
        "fastmri_random_mask",
        "undersample",
        "ColumnMask",
        "PatternMask",
    ),
    "Reconstruction": (
        "reconstruct",
        "reconstruct_batch",
        "Reconstruction",
        "method_names",
        "method_options",
        "Progress",
        "OnProgress",
        "Cancelled",
    ),
    "Metrics and comparison": ("evaluate", "Metrics", "compare", "Comparison"),
    "Recipes and replay": ("Recipe", "MaskChoice", "run_recipe", "replay", "Replay"),
    "Coils, operator, Fourier transform": (
        "espirit_maps",
        "sens_maps_from_center",
        "rss",
        "SenseOperator",
        "fft2c",
        "ifft2c",
    ),
    "Errors": tuple(name for name in mri_recon.__all__ if name.endswith("Error")),
}
"""Public names of `mri_recon` by what they are for; a test compares them with `mri_recon.__all__`."""

_MODULES_OF_ONE = ("zero-filled", "cg-sense", "cs-wavelet", "auto")
"""Methods whose module's docstring describes them too."""


def reference_pages() -> dict[str, str]:
    """Return the pages: path in the site to text."""
    pages = {"reference/python.md": _python()}
    for title, names in GROUPS.items():
        pages[_path(title)] = f"# {title}\n\n{_directives([_directive(name) for name in names])}"
    pages["reference/methods.md"] = (
        "# Methods and their options\n\n"
        "`mr.reconstruct(kspace, mask, method=NAME, **options)` runs one of these functions; its keyword arguments are "
        "the options.\n\n" + "\n".join(_method(name) for name in mri_recon.method_names())
    )
    if find_spec("mri_recon_service.client") and find_spec("httpx"):
        pages["reference/client.md"] = _client()
    pages["reference/verbs.md"] = _verbs()
    return pages


def _python() -> str:
    names = "\n".join(_path(title).removeprefix("reference/").removesuffix(".md") for title in GROUPS)
    return (
        "# The Python interface\n\n"
        "Everything public is a name of `mri_recon`, by convention `import mri_recon as mr`.\n\n"
        f"```{{toctree}}\n:maxdepth: 2\n\n{names}\n```\n"
    )


def _client() -> str:
    """Describe the service's client, which needs the extra `client`."""
    client = import_module("mri_recon_service.client")
    module = f".. automodule:: {client.__name__}"
    names = [f".. autoclass:: {client.__name__}.{name}\n   :members:" for name in client.__all__]
    return f"# The client of the service\n\n{_directives([module, *names])}"


def _path(title: str) -> str:
    return f"reference/python/{title.lower().replace(',', '').replace(' ', '-')}.md"


def _directive(name: str) -> str:
    thing = getattr(mri_recon, name)
    if isinstance(thing, type):
        return f".. autoclass:: mri_recon.{name}\n   :members:"
    return f".. autofunction:: mri_recon.{name}" if hasattr(thing, "__code__") else f".. autodata:: mri_recon.{name}"


def _directives(directives: Sequence[str]) -> str:
    return "```{eval-rst}\n" + "\n\n".join(directives) + "\n```\n"


def _method(name: str) -> str:
    function = name.replace("-", "_")
    module = f"mri_recon.methods.{function if name in _MODULES_OF_ONE else 'networks'}"
    directive = (
        f".. automodule:: {module}\n   :members: {function}"
        if name in _MODULES_OF_ONE
        else f".. autofunction:: {module}.{function}"
    )
    return f"## {name}\n\n{_directives([directive])}"


def _verbs() -> str:
    """Describe every verb, as typer does in `--help`; verbs of other packages are loaded here."""
    command: Any = typer.main.get_command(build_app())
    context = typer.Context(command, info_name="mri-recon")
    verbs = {name: command.resolve_command(context, [name])[1] for name in command.list_commands(context)}
    listed = "\n".join(f"- [`{name}`](#mri-recon-{name}): {_summary(verb)}" for name, verb in verbs.items())
    text = f"# Verbs and options\n\n`mri-recon VERB --help` prints the same.\n\n{listed}\n\n"
    for name, verb in verbs.items():
        described = get_docs_for_click(obj=verb, ctx=context, indent=1, name=name, call_prefix="mri-recon")
        for child in getattr(verb, "commands", {}).values():  # typer shortens these summaries
            described = re.sub(
                rf"^\* `{child.name}`: .*$", f"* `{child.name}`: {_summary(child)}", described, flags=re.M
            )
        text += described
    return text


def _summary(verb: Any) -> str:
    return str(verb.get_short_help_str(limit=1000))
