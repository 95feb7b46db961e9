"""Write the embedded sample as a folder of training files, to try a training without data of one's own."""

from __future__ import annotations

from pathlib import Path

from mri_recon._system.jsonable import write_json
from mri_recon._system.outputs import make_folder
from mri_recon.embedded_sample import sample
from mri_recon.io.save import save_scan

__all__ = ["write_sample_files"]

_PARTS = {"train": ("training.h5", slice(0, 3)), "validation": ("validation.h5", slice(3, 4))}


def write_sample_files(folder: Path) -> list[Path]:
    """Write three slices of the sample for training, one for validation, and `split.json`, which tells them apart.

    All four slices are of one person, so a network trained on them shows that a training runs, and nothing more.

    Returns:
        the written files.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    make_folder(folder, option="--files")
    scan = sample()
    written = []
    for name, part in _PARTS.values():
        path = folder / name
        target = None if scan.target is None else scan.target[part]
        save_scan(path, scan.kspace[part], target=target, patient_id="colin27", attributes={"simulated": True})
        written.append(path)
    split = folder / "split.json"
    write_json(split, {part: [name] for part, (name, _) in _PARTS.items()})
    return [*written, split]
