"""Fit again what depends on the weights of the networks, and make the tables of the pages anew.

    python -m benchmarks.refit FOLDER [--only trust,regret] [--test]

Run after new weights. Each step is a command of this repository; its rows and its output stay in FOLDER, and a run that
was interrupted goes on from them. A table of a page that a step makes stands between two comments,

    <!-- table: STEP N -->
    <!-- end of table -->

where N counts the tables in the output of the step. `--test` runs the steps that look at the test split as well, once,
after everything is decided. What the pages say in words is for a person to read again.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"(<!-- table: (\S+) (\d+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


@dataclass(frozen=True)
class Step:
    """Describe a step.

    Attributes:
        name: in `--only`, in markers, and of the output in the folder.
        commands: run in order; {folder} and {docs} stand for the folders. Output of the last one has the tables.
        test: whether it looks at the test split.
    """

    name: str
    commands: Sequence[str]
    test: bool = False


_REGRET = "python -m benchmarks.trust.regret -o {folder}/"
_IMAGES = " --folder {folder}/images"
_WORLDS = "python -m benchmarks.networks.worlds -o {folder}/worlds.jsonl"
_EVALUATE = "mri-recon evaluate --markdown {docs}/results/"

STEPS = (
    Step("trust", ["python -m benchmarks.trust.fit {folder}/images --write"]),
    Step("regret", [f"{_REGRET}regret.jsonl{_IMAGES}", f"{_REGRET}regret.jsonl --table"]),
    Step("scans", [f"{_REGRET}regret.jsonl{_IMAGES}", f"{_REGRET}regret.jsonl --table --every"]),
    Step("random", [f"{_REGRET}random.jsonl{_IMAGES} --random", f"{_REGRET}random.jsonl --table"]),
    Step("worlds", [_WORLDS, f"{_WORLDS} --table"]),
    Step(
        "lesions",
        [_EVALUATE + "lesions.md --json {folder}/lesions.json --split validation --lesions"],
    ),
    Step(
        "test-regret",
        [f"{_REGRET}test.jsonl{_IMAGES} --test", f"{_REGRET}test.jsonl --table --every"],
        test=True,
    ),
    Step(
        "test",
        [
            _EVALUATE + "results.md --json {folder}/results.json --split test --curve 2,12 --coils 1,8@10,8,8@200 "
            "--coil-seeds 0"
        ],
        test=True,
    ),
    Step(
        "test-lesions",
        [_EVALUATE + "lesions-test.md --json {folder}/lesions-test.json --split test --lesions"],
        test=True,
    ),
)
"""Steps in an order in which none needs a later one: the fits of trust come before every page that uses `auto`."""


def chosen(only: str, *, test: bool) -> list[Step]:
    """Choose steps by their names, separated by commas; without names, all, those of the test split if asked for.

    Raises:
        typer.BadParameter: unknown name, or a step of the test split without `test`.
    """
    by_name = {step.name: step for step in STEPS}
    names = [name for name in only.split(",") if name] or [step.name for step in STEPS if test or not step.test]
    for name in names:
        if name not in by_name:
            raise typer.BadParameter(f"expected steps of {', '.join(by_name)}, got {name!r}: correct its name")
        if by_name[name].test and not test:
            raise typer.BadParameter(f"{name} looks at the test split: add --test, once, after everything is decided")
    return [by_name[name] for name in names]


def run(step: Step, folder: Path) -> str:
    """Run the commands of a step; return what the last one printed, which stays in the folder as well."""
    output = folder / f"{step.name}.txt"
    for command in step.commands:
        arguments = [part.format(folder=folder, docs=DOCS) for part in command.split()]
        print(" ".join(arguments), flush=True)
        program = Path(sys.executable).with_name(arguments[0])  # of this environment
        with output.open("w") as out:
            subprocess.run([program, *arguments[1:]], check=True, stdout=out, cwd=ROOT)
    return output.read_text()


def tables(output: str) -> list[str]:
    """Find the Markdown tables in an output: runs of lines that begin with a bar."""
    return re.findall(r"(?:^\|.*\n?)+", output, flags=re.MULTILINE)


def with_tables(page: str, made: Mapping[str, Sequence[str]]) -> str:
    """Put the tables of steps into a page; those of other steps stay.

    Raises:
        ValueError: the page wants a table that the step has not printed.
    """

    def replaced(found: re.Match[str]) -> str:
        step, number = found[2], int(found[3])
        if step not in made:
            return found[0]
        if number >= len(made[step]):
            raise ValueError(f"expected table {number} of step {step}, got {len(made[step])} tables: see its output")
        return f"{found[1]}\n{made[step][number].rstrip()}\n\n{found[4]}"

    return BLOCK.sub(replaced, page)


def main(
    folder: Annotated[Path, typer.Argument(help="Rows, images and outputs; a run goes on from what is there")],
    only: Annotated[str, typer.Option(help="Steps, separated by commas; all by default")] = "",
    test: Annotated[bool, typer.Option("--test", help="Look at the test split too: once")] = False,
) -> None:
    """Run the steps in turn, and update the pages after each."""
    steps = chosen(only, test=test)
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for step in steps:
        made = {step.name: tables(run(step, folder))}
        for path in sorted(DOCS.rglob("*.md")):
            page = path.read_text(encoding="utf-8")
            new = with_tables(page, made)
            if new != page:
                path.write_text(new, encoding="utf-8")
                print(f"changed {path.relative_to(ROOT)}", flush=True)


if __name__ == "__main__":
    typer.run(main)
