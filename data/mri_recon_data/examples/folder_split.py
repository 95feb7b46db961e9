"""Split a user's folder of fastMRI files into training and validation files, by subject."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

from mri_recon.errors import ConfigError
from mri_recon.io.formats.fastmri import FastMRIFile
from mri_recon_data.examples.config import DataConfig

__all__ = ["split_folder"]


def split_folder(config: DataConfig) -> tuple[list[Path], list[Path]]:
    """List the training and the validation files of `config.root`: by `split_file`, else by subject.

    Subjects are told apart by the file's `patient_id` (the file's name where it has none), ordered by a checksum of it,
    and the first share of them is held out. More files of the same subjects change nothing; more subjects may move
    others, so a split that has to last belongs in `split_file`.

    Raises:
        ConfigError: no such folder, a bad split file, or a split that is empty.
    """
    root = Path(config.root)
    paths = sorted(root.glob("*.h5")) if root.is_dir() else []
    if not paths:
        raise ConfigError(
            f"data.root: expected a folder with fastMRI files (*.h5), found none in {root}: write k-space there as the "
            "dataset kspace, (slice, coil, readout, phase)"
        )
    if config.split_file:
        train, validation = _listed(root, Path(config.split_file))
    else:
        persons: dict[str, list[Path]] = {}
        for path in paths:
            with FastMRIFile(path) as file:
                persons.setdefault(file.patient_id or path.stem, []).append(path)
        ordered = sorted(persons, key=lambda person: zlib.crc32(person.encode()))
        held_out = ordered[: max(1, round(len(ordered) * config.validation_fraction))]
        validation = [path for person in held_out for path in persons[person]]
        train = [path for person in ordered if person not in held_out for path in persons[person]]
    if not train or not validation:
        raise ConfigError(
            f"data.root: expected files of at least two persons, got {len(train)} training and {len(validation)} "
            "validation files: add data or name the files in data.split_file"
        )
    return train, validation


def _listed(root: Path, split_file: Path) -> tuple[list[Path], list[Path]]:
    try:
        lists = json.loads(split_file.read_text())
        train, validation = ([root / str(name) for name in lists[key]] for key in ("train", "validation"))
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigError(
            f'data.split_file: expected JSON {{"train": [...], "validation": [...]}}, got a problem in {split_file}: '
            f"{error!r}"
        ) from error
    missing = [path.name for path in (*train, *validation) if not path.is_file()]
    both = sorted({path.name for path in train} & {path.name for path in validation})
    if missing or both:
        raise ConfigError(f"data.split_file: files missing in data.root: {missing[:3]}; in both splits: {both[:3]}")
    return train, validation
