"""Seconds of one example: made by the loader, made in batches on the device, and trained on.

    python benchmarks/networks/training_batches.py CONFIG.toml [--device cuda] [--batch-size 4]

Reads the training persons of the data registry. A loader has to make an example in no more time than its
`data.workers` share of a training step leaves; batches on the device add to the step what stands in their row.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mri_recon.models.checkpoint import build_network
from mri_recon_data.examples.batches import BatchConfig, BatchSimulator
from mri_recon_data.examples.config import DataConfig
from mri_recon_data.examples.slices import RegistrySlices
from mri_recon_data.examples.stream import ExampleStream
from mri_recon_training.config import load_config
from mri_recon_training.losses import batch_loss


def _seconds(work: Callable[[int], object], repeats: int, device: torch.device) -> float:
    """Mean of `repeats` calls after one that does not count; on a CPU in seconds of its threads, busy or not."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    work(repeats)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = clock()
    for step in range(repeats):
        work(step)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (clock() - start) / repeats


def _with_coils(data: DataConfig, coils: int) -> DataConfig:
    changes = {"multi_coil": float(coils > 1), "num_coils": (coils, coils), "resolution": (0.7, 0.7)}
    simulation = data.simulation.model_copy(update=changes)
    return data.model_copy(update={"simulation": simulation, "raw_probability": 0.0, "full_probability": 0.0})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--coils", default="1,4,8,16")
    args = parser.parse_args()
    device, size = torch.device(args.device), args.batch_size
    config = load_config(args.config)
    slices = RegistrySlices.read("train")
    network = build_network(config.model.architecture, config.model.model_dump(exclude={"architecture"})).to(device)
    network = network.to(memory_format=torch.channels_last)
    print(f"milliseconds an example; {torch.__version__}, {torch.get_num_threads()} threads, {device}, batch of {size}")
    print("coils   loader   device, espirit   device, center   training step")
    for coils in (int(text) for text in args.coils.split(",")):
        data = _with_coils(config.data, coils)
        stream = ExampleStream(slices, data, seed=0, batch_size=1, steps=1000)
        columns = [_seconds(lambda step, stream=stream: stream[step], args.repeats, torch.device("cpu"))]
        for maps in ("espirit", "center"):
            settings = BatchConfig.model_validate({"where": "device", "maps": maps})
            simulator = BatchSimulator(slices, data, settings, seed=0, device=device)
            made = _seconds(lambda step, made=simulator: made.batch(step, range(size)), args.repeats, device)
            columns.append(made / size)
        batch = simulator.batch(0, range(size))

        def train(_step: int, batch: object = batch) -> None:
            network.zero_grad()
            batch_loss(network, batch, config.loss).backward()

        columns.append(_seconds(train, args.repeats, device) / size)
        widths = (8, 17, 16, 16)
        print(f"{coils:5d} " + "".join(f"{1e3 * x:{width}.1f}" for x, width in zip(columns, widths, strict=True)))


if __name__ == "__main__":
    main()
