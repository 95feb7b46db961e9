"""Our U-Net beside fastMRI's.

    python -m benchmarks.networks.fastmri_unet quality     train on the same examples; can be stopped and resumed
    python -m benchmarks.networks.fastmri_unet settings    the best precision, layout and compilation of each
    python -m benchmarks.networks.fastmri_unet speed       training steps and inference in the best settings, in turns
    python -m benchmarks.networks.fastmri_unet page FILE   the page made of both

All keep JSON in --folder, where `page` reads it. `quality` needs the data registry and the extra `data`.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import torch._inductor.config
import typer

from benchmarks.networks.fastmri_unet.networks import CONTENDERS, REFERENCE, contender, fastmri_version
from benchmarks.networks.fastmri_unet.page import page as markdown
from benchmarks.networks.fastmri_unet.quality import Budget, Study, finished
from benchmarks.networks.fastmri_unet.speed import GPU_TASKS, SCREENED, Entry, Setting, Task, measure, screen
from mri_recon._system.files import write_atomically

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)

Folder = Annotated[Path, typer.Option(help="where results are kept")]
Networks = Annotated[str, typer.Option(help="names, separated by commas")]
Compiled = Annotated[bool, typer.Option(help="try torch.compile, which needs a C++ compiler")]
Device = Annotated[str, typer.Option(help="cpu or cuda")]
Threads = Annotated[int, typer.Option(min=1, help="threads of torch")]

DEFAULT_FOLDER = Path("runs/fastmri-unet")
ALL = ",".join(CONTENDERS)


@app.command()
def quality(
    folder: Folder = DEFAULT_FOLDER,
    networks: Networks = ALL,
    steps: Annotated[int, typer.Option(min=1)] = Budget.steps,
    rates: Annotated[str, typer.Option(help="learning rates, tried on the first seed")] = "0.001",
    threads: Threads = 1,
) -> None:
    """Train the networks in turns on the same examples, three seeds, and measure them on the validation worlds.

    What is finished is kept. A call that was stopped goes on from its last 250 steps.
    """
    use_threads(threads)
    budget = Budget(steps=steps, learning_rates=tuple(float(rate) for rate in rates.split(",")))
    study = Study(folder / "quality", budget, report=typer.echo)
    names = networks.split(",")
    for name in names:
        contender(name)
    study.rows(names)


@app.command()
def settings(
    folder: Folder = DEFAULT_FOLDER, networks: Networks = ALL, device: Device = "cpu", compiled: Compiled = True
) -> None:
    """Try the settings of every network, on one thread and by processor time: other work hardly disturbs that.

    What was tried before is kept and not tried again. Compiling takes most of the time.
    """
    use_threads(1)
    _screened(folder, with_reference(networks), device, compiled)


@app.command()
def speed(
    folder: Folder = DEFAULT_FOLDER,
    networks: Networks = ALL,
    device: Device = "cpu",
    compiled: Compiled = True,
    repetitions: Annotated[int, typer.Option(min=2)] = 7,
    threads: Threads = 2,
) -> None:
    """Time training steps and inference of all networks in turns, each at its best; tries missing settings first."""
    document: dict[str, Any] = {
        "device": device,
        "machine": _machine(device),
        "torch": torch.__version__,
        "fastmri": fastmri_version(),
        "threads": threads,
        "repetitions": repetitions,
        "load": f"{os.getloadavg()[0]:.1f}",
    }
    names = with_reference(networks)
    use_threads(1)
    screened = _screened(folder, names, device, compiled)
    use_threads(threads)
    by_kind = {task.kind: screened[task.text] for task in _screening_tasks(device)}
    document["screened"] = [row for row in _settings_rows(screened) if row["network"] in names]
    document |= measure(names, by_kind, torch.device(device), repetitions, report=typer.echo)
    _write(folder / f"speed-{device}.json", document)


@app.command()
def page(
    target: Annotated[Path, typer.Argument(help="the Markdown file to write")], folder: Folder = DEFAULT_FOLDER
) -> None:
    """Write the page of what was measured."""
    budget, runs = finished(folder / "quality")
    files = [folder / f"speed-{device}.json" for device in ("cpu", "cuda")]
    cpu, cuda = (json.loads(file.read_text()) if file.is_file() else None for file in files)
    tried = folder / "settings-cpu.json"
    screened = json.loads(tried.read_text()) if tried.is_file() else []
    write_atomically(target, markdown(budget, runs, cpu, cuda, screened).encode())


def use_threads(number: int) -> None:
    """Threads of torch, and of compiled kernels: else those kept from another number of threads would come back."""
    torch.set_num_threads(number)
    torch._inductor.config.cpp.threads = number


def with_reference(text: str) -> list[str]:
    """Names separated by commas, checked, fastMRI's first."""
    names = [REFERENCE, *(name for name in text.split(",") if name != REFERENCE)]
    for name in names:
        contender(name)
    return names


def _screening_tasks(device: str) -> tuple[Task, ...]:
    return GPU_TASKS if device == "cuda" else SCREENED


def _screened(folder: Path, networks: list[str], device: str, compiled: bool) -> dict[str, dict[Entry, float]]:
    """Task to costs of its settings, read from the folder and completed."""
    file = folder / f"settings-{device}.json"
    screened: dict[str, dict[Entry, float]] = {task.text: {} for task in _screening_tasks(device)}
    for row in json.loads(file.read_text()) if file.is_file() else []:
        setting = Setting(row["precision"], row["channels_last"], row["compiled"])
        screened[row["task"]][Entry(row["network"], setting)] = row["seconds"]

    for task in _screening_tasks(device):

        def keep(task: Task = task) -> None:
            _write(file, _settings_rows(screened))
            entry, cost = list(screened[task.text].items())[-1]
            typer.echo(f"{task.text}: {entry.network} {entry.setting.text} {cost:.3f} s")

        screen(networks, task, torch.device(device), screened[task.text], keep, compiled=compiled)
    return screened


def _settings_rows(screened: dict[str, dict[Entry, float]]) -> list[dict[str, Any]]:
    return [
        {"task": task, "network": e.network, "setting": e.setting.text, **asdict(e.setting), "seconds": value}
        for task, costs in screened.items()
        for e, value in costs.items()
    ]


def _write(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, (json.dumps(content, indent=1) + "\n").encode())


def _machine(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"


if __name__ == "__main__":
    app()
