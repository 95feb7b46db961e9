"""The verb `mri-recon study`: argument parsing only."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["study"]


def study(
    kind: Annotated[str, typer.Argument(help="What to compare: optimizers or norms", metavar="optimizers|norms")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the runs and results", metavar="FOLDER")],
    config: Annotated[
        Path | None, typer.Argument(help="TOML file; by default the shipped one of that kind", metavar="CONFIG")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a key of the configuration: KEY=VALUE, e.g. study.steps=100"),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Write the results between the marks of this page, the curves into images/ next to it", metavar="MD"
        ),
    ] = None,
) -> None:
    """Compare optimisers or normalisations under one budget, each with its own best learning rate.

    Finished runs in FOLDER are not repeated.

    Example: mri-recon study optimizers -o runs/study-optimizers
    """
    from mri_recon._system.files import write_atomically
    from mri_recon._system.outputs import check_writable_folder
    from mri_recon.cli import claim, tell
    from mri_recon.cli.tables import print_markdown_table
    from mri_recon_training.markdown import replace_section
    from mri_recon_training.study.config import check_kind, load_study
    from mri_recon_training.study.figures import study_figures
    from mri_recon_training.study.page import markdown_section, results_table
    from mri_recon_training.study.study import run_study
    from mri_recon_training.toml_config import config_file

    check_kind(kind)
    mark = f"study {kind}"
    command = "mri-recon " + shlex.join(sys.argv[1:])
    check_writable_folder("-o", output)
    path = config_file(config or Path(kind), "configs/study")
    results = {name: output / name for name in ("study.json", "study.md") if output.is_dir()}
    claim({**results, "--page": page}, [("CONFIG", path)], suffixes={"--page": (".md",)})
    if page is not None:  # a page without marks fails now, not after an hour
        replace_section(page.read_text() if page.is_file() else "", mark, "")
    result = run_study(
        kind, load_study(path, list(overrides or [])), output, report=lambda text: typer.echo(f"... {text}", err=True)
    )
    pictures = study_figures(result, output)
    section = markdown_section(result, command=command, images=[path.name for path in pictures])
    write_atomically(output / "study.md", section.encode())
    print_markdown_table(results_table(result))
    tell(f"results: {output / 'study.json'}, {output / 'study.md'}")
    if page is not None:
        images = page.parent / "images"
        images.mkdir(exist_ok=True)
        names = [f"images/{path.name}" for path in study_figures(result, images)]
        section = markdown_section(result, command=command, images=names)
        write_atomically(page, replace_section(page.read_text(), mark, section).encode())
        tell(f"page: {page}")
