"""Our U-Net beside fastMRI's.

    python -m benchmarks.fastmri_unet quality     train the networks on the same examples; finished runs are kept
    python -m benchmarks.fastmri_unet speed       training steps and inference, in turns
    python -m benchmarks.fastmri_unet page FILE   the page made of both

`quality` and `speed` keep JSON in --folder, `page` reads it. `quality` needs the data registry and the extra `data`.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.fastmri_unet.networks import CONTENDERS, REFERENCE, contender, fastmri_version
from benchmarks.fastmri_unet.page import page as markdown
from benchmarks.fastmri_unet.quality import Budget, Study, finished
from benchmarks.fastmri_unet.speed import measure
from mri_recon._files import write_atomically

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)

Folder = Annotated[Path, typer.Option(help="where results are kept")]
Networks = Annotated[str, typer.Option(help="names, separated by commas; fastmri is always among them")]
Threads = Annotated[int, typer.Option(min=1, help="threads of torch")]

DEFAULT_FOLDER = Path("runs/fastmri-unet")
ALL = ",".join(CONTENDERS)


@app.command()
def quality(
    folder: Folder = DEFAULT_FOLDER,
    networks: Networks = ALL,
    steps: Annotated[int, typer.Option(min=1)] = Budget.steps,
    threads: Threads = 1,
) -> None:
    """Train every network on the same examples, three seeds, and measure it on the validation persons."""
    torch.set_num_threads(threads)
    study = Study(folder / "quality", Budget(steps=steps), report=typer.echo)
    study.rows(_names(networks))


@app.command()
def speed(
    folder: Folder = DEFAULT_FOLDER,
    networks: Networks = ALL,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    repetitions: Annotated[int, typer.Option(min=2)] = 7,
    threads: Threads = 2,
) -> None:
    """Time training steps and inference of all networks in turns, each at its best setting."""
    torch.set_num_threads(threads)
    document: dict[str, Any] = {
        "device": device,
        "machine": _machine(device),
        "torch": torch.__version__,
        "fastmri": fastmri_version(),
        "threads": threads,
        "repetitions": repetitions,
        "load": f"{os.getloadavg()[0]:.1f}",
    }
    document |= measure(_names(networks), torch.device(device), repetitions, report=typer.echo)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "speed.json", (json.dumps(document, indent=1) + "\n").encode())


@app.command()
def page(
    target: Annotated[Path, typer.Argument(help="the Markdown file to write")], folder: Folder = DEFAULT_FOLDER
) -> None:
    """Write the page of what was measured."""
    budget, runs = finished(folder / "quality")
    timings = folder / "speed.json"
    text = markdown(budget, runs, json.loads(timings.read_text()) if timings.is_file() else None)
    write_atomically(target, text.encode())


def _names(text: str) -> list[str]:
    names = [REFERENCE, *(name for name in text.split(",") if name != REFERENCE)]
    for name in names:
        contender(name)
    return names


def _machine(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"


if __name__ == "__main__":
    app()
