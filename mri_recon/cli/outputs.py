"""Check the output files of a verb before the work, and name them afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from mri_recon._system.outputs import STDOUT, check_outputs
from mri_recon._system.text import printable
from mri_recon.cli.messages import warn

__all__ = ["CSV_SUFFIXES", "JSON_SUFFIXES", "STDOUT", "claim", "files_read", "tell"]

JSON_SUFFIXES = (".json",)
CSV_SUFFIXES = (".csv",)

_SHIPPED = Path(__file__).parents[1] / "weights"


def claim(
    outputs: Mapping[str, Path | None],
    inputs: Iterable[tuple[str, str | Path]],
    *,
    suffixes: Mapping[str, tuple[str, ...]],
    appended: Iterable[str] = (),
    beside: Callable[[Path], Mapping[str, Path]] | None = None,
) -> bool:
    """Check all outputs of a verb, see `check_outputs`, and print its notes as warnings.

    `beside` names the further files that a format writes with an output; they are outputs too.

    `--json -` is standard output; the verb then prints everything else on standard error.

    Returns:
        Whether `--json` is standard output.

    Raises:
        OutputError: an output cannot be written, or would replace an input or another output.
    """
    every, read = dict(outputs), list(inputs)
    if beside is not None:
        check_outputs(outputs, suffixes=suffixes, stdout=["--json"], appended=appended)
        for option, path in outputs.items():
            found = {} if path is None else beside(path)
            every |= {f"{option} (its {suffix})": further for suffix, further in found.items()}
    for note in check_outputs(every, read, suffixes=suffixes, stdout=["--json"], appended=appended):
        warn(note)
    return outputs.get("--json") == STDOUT


def files_read(
    file: Path | None = None,
    *,
    mask: Path | None = None,
    prewhiten: str | None = None,
    options: Iterable[Mapping[str, Any]] = (),
    like: Path | None = None,
) -> list[tuple[str, str | Path]]:
    """List the files that a verb reads: the name of each in messages, and its path.

    Args:
        file: the scan.
        mask: as `--mask`.
        prewhiten: as `--prewhiten`.
        like: as `--like`.
        options: options of methods; any text may name a file, such as weights with a card beside them.
    """
    found: list[tuple[str, str | Path | None]] = [
        ("the input FILE", file),
        ("the file of --mask", mask),
        ("the file of --prewhiten", prewhiten),
        ("the file of --like", like),
    ]
    for several in options:
        for key, value in several.items():
            texts = [value] if isinstance(value, str) else []
            if key == "candidates" and texts:
                from mri_recon.methods.candidate import parse_candidates

                options_of = [one.options for one in parse_candidates(value)]
                texts = [text for one in options_of for text in one.values() if isinstance(text, str)]
            for text in texts:
                found += [
                    (f"the file of the option {key}", text),
                    (f"the model card of the option {key}", _card(text)),
                ]
    found += [("a file of the shipped weights", path) for path in sorted(_SHIPPED.glob("*"))]
    return [(what, path) for what, path in found if path is not None]


def _card(weights: str) -> Path | None:
    """Return the path of the model card that is read with weights."""
    return Path(weights).with_suffix(".json") if Path(weights).name else None


def tell(text: str, *, err: bool = False) -> None:
    """Print one line, with file names escaped, so that they cannot control the terminal."""
    typer.echo(printable(text), err=err)
