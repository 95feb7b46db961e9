"""Reproduce a result from its recorded input, and check that both are the same.

`replay` finds the input, reconstructs it again and compares. A result that was computed alone is reproduced bit for bit
on the same kind of processor, with the same number of threads and the same versions. A result that was part of a batch,
or is computed on another machine, is reproduced to within `TOLERANCE` of its largest magnitude.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from mri_recon._system.fork import forked_with_threads
from mri_recon._system.hashes import array_sha256, file_sha256, file_size
from mri_recon.errors import CheckpointError, FormatError, MethodError
from mri_recon.io import load_result
from mri_recon.io.loading import read
from mri_recon.methods.candidate import Candidate, parse_candidates
from mri_recon.methods.table import method_options
from mri_recon.progress import OnProgress
from mri_recon.reconstruction import Reconstruction, resolve_device
from mri_recon.results.machine import device_name, versions
from mri_recon.results.recipe import Recipe, run_recipe

if TYPE_CHECKING:  # the records need pydantic, which `import mri_recon.results.replay` must not
    from mri_recon.results.provenance import InputFile, ModelRecord, Provenance

__all__ = [
    "TOLERANCE",
    "Replay",
    "recipe_of",
    "replay",
]


TOLERANCE = 5e-3
"""Largest allowed difference, relative to the largest magnitude, if bit-equality is not promised.

Processors with other vector instructions round differently. With the noise of a scan, images then differ by some 1e-5.
Without noise nothing bounds the part of an image that its samples leave open: networks amplified rounding to 2.9e-3.
"""


@dataclass(frozen=True)
class Replay:
    """Hold a result that was computed again, and its difference from the saved one.

    Attributes:
        provenance: provenance of the saved result.
        reconstruction: the new result.
        identical: whether every bit is the same.
        relative_difference: largest difference divided by the largest magnitude of the old image; 0 if identical.
        differences: changes since then (versions, processor, device), one sentence each.
        exact: whether bit-equality is promised: computed alone, on a CPU, and nothing has changed since.
    """

    provenance: Provenance
    reconstruction: Reconstruction
    identical: bool
    relative_difference: float
    differences: tuple[str, ...]
    exact: bool

    @property
    def kept(self) -> bool:
        """Whether the new image is identical, or within `TOLERANCE` if bit-equality is not promised."""
        return self.identical or (not self.exact and self.relative_difference <= TOLERANCE)


def replay(
    result: str | Path,
    source: str | Path | None = None,
    *,
    noise: str | Path | None = None,
    model: str | Path | None = None,
    on_progress: OnProgress | None = None,
) -> Replay:
    """Compute a saved result again from its input and compare.

    The computation runs with the recorded number of threads, and on a device of the recorded kind if there is one.

    Args:
        result: an HDF5 file that `save` wrote with a provenance.
        source: file of the input; None searches beside `result` and in the working folder for its size and SHA-256.
        noise: file of the noise samples, if there were any; None searches for it like the input.
        model: the weights, a shipped name or a file; None uses those of the recorded option, else the shipped weights
            with the recorded SHA-256.
        on_progress: told of the work, as in `reconstruct`.

    Raises:
        FormatError: a result that cannot be read, has no provenance, or whose image does not match it; or an input that
            is not found or does not match.
        CheckpointError: the weights are not found.
        MaskError: a damaged record of the mask.
        MethodError: a method that is not installed, or no longer has the recorded options.
    """
    from mri_recon.results.provenance import image_array

    result = Path(result)
    old, record = _saved(result)
    folders = (result.parent, Path.cwd())
    path = _located(record.input, source, folders, "--input")
    device, differences = _device(record)
    differences += _changes(record)
    recipe = recipe_of(
        record,
        noise=None if record.noise is None else _located(record.noise, noise, folders, "--noise"),
        options=_options(record, model),
        device=device,
    )
    raw = read(path, **recipe.reading)
    # The recorded axes are used even if they were assumed then; the check of assumed axes is skipped.
    scan = dataclasses.replace(raw, meta={**raw.meta, "axes_assumed": False, "axes_by_rank": False}).scan()
    with _threads(record.threads):
        new = run_recipe(scan, recipe, on_progress=on_progress).reconstruction
    array = image_array(new)
    identical = array_sha256(array) == record.image.sha256 and array.shape == old.shape
    return Replay(
        provenance=record,
        reconstruction=new,
        identical=identical,
        relative_difference=0.0 if identical else _relative_difference(array, old),
        differences=tuple(differences),
        exact=not record.batched and not differences and record.device == "cpu",
    )


def _saved(result: Path) -> tuple[npt.NDArray[Any], Provenance]:
    """Read the image of a result and its provenance, and check that they belong together."""
    from mri_recon.results.provenance import read_provenance

    image, text = load_result(result)
    record = read_provenance(text, result.name)
    if array_sha256(image) != record.image.sha256:
        raise FormatError(
            f"expected the image that {result.name} was written with (SHA-256 {record.image.sha256}), got another: "
            "the file was changed since"
        )
    return image, record


def recipe_of(
    record: Provenance,
    *,
    noise: Path | None = None,
    options: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
) -> Recipe:
    """Build the recipe that a provenance records.

    Args:
        record: the provenance.
        noise: file of the recorded noise samples, if there were any.
        options: replace the recorded options of the method; None keeps them.
        device: where to compute; None is the recorded device.

    Raises:
        MaskError: a damaged record of the mask.
    """
    from mri_recon.results.provenance import mask_of

    return Recipe(
        record.method,
        dict(record.options) if options is None else options,
        mask_of(record.mask),
        prewhiten=record.prewhiten if noise is None else noise,
        num_virtual_coils=record.num_virtual_coils,
        axes=record.input.axes,
        variable=record.input.variable,
        slices=record.input.slices,
        device=record.device if device is None else device,
    )


def _options(record: Provenance, model: str | Path | None) -> dict[str, Any]:
    """Return the recorded options, with the weights found now."""
    options = dict(record.options)
    if record.method == "cs-wavelet" and str(record.versions.get("mri-recon")).startswith("0.1."):
        options.setdefault("solver", "0.1")
    if record.model is not None and "model" in method_options(record.method):
        options["model"] = _located_model(record.model, record.options, model)
    if record.models:
        texts = options.get("candidates", method_options(record.method)["candidates"])
        options["candidates"] = [_with_weights(one, record.models, model) for one in parse_candidates(texts)]
    return options


def _with_weights(candidate: Candidate, models: Sequence[ModelRecord], model: str | Path | None) -> str:
    """Write a candidate of `auto` with the recorded weights, as they are found now."""
    for record in models:
        if record.candidate == candidate.label:
            path = None if model is None else Path(model)
            given = path if path is not None and path.is_file() and file_sha256(path) == record.sha256 else None
            found = _located_model(record, candidate.options, given)
            return Candidate(candidate.method, {**candidate.options, "model": found}).label
    return candidate.label


def _relative_difference(new: npt.NDArray[Any], old: npt.NDArray[Any]) -> float:
    if new.shape != old.shape or new.dtype != old.dtype:
        return float("inf")
    largest = float(np.abs(old).max(initial=0))
    difference = float(np.abs(new - old).max(initial=0))
    return difference / largest if largest > 0 else float("inf") if difference else 0.0


def _located(record: InputFile, given: str | Path | None, folders: Sequence[Path], option: str) -> Path:
    """Find the file with the recorded size and content: the given file, or one in the folders."""
    if given is not None:
        path = Path(given)
        if (size := file_size(path)) != record.bytes:
            raise FormatError(
                f"expected {record.name} of {record.bytes} bytes, got {path} of {size}: it is another file"
            )
        if (sha256 := file_sha256(path)) != record.sha256:
            raise FormatError(
                f"expected {record.name} with SHA-256 {record.sha256}, got {path} with {sha256}: it is another file, "
                "or was changed since"
            )
        return path
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        try:
            files = [path for path in folder.iterdir() if path.is_file() and path.stat().st_size == record.bytes]
        except OSError:  # skip a folder that may not be listed
            continue
        for path in sorted(files, key=lambda path: (path.name != record.name, path.name)):
            try:
                if file_sha256(path) == record.sha256:
                    return path
            except FormatError:  # skip an unreadable file
                continue
    raise FormatError(
        f"expected {record.name} ({record.bytes} bytes, SHA-256 {record.sha256}) beside the result or in the working "
        f"folder, found no such file: name it with {option} FILE"
    )


def _located_model(record: ModelRecord, options: Mapping[str, Any], given: str | Path | None) -> str:
    from mri_recon.models.checkpoint import shipped_models

    shipped = shipped_models()
    if given is not None:
        candidates = [str(given)]
    else:
        recorded = options.get("model")
        candidates = [*([str(recorded)] if recorded is not None else []), *shipped]
    for candidate in candidates:
        path = shipped.get(candidate, Path(candidate))
        if path.is_file() and file_sha256(path) == record.sha256:
            return candidate
    raise CheckpointError(
        f"expected the weights {record.name!r} with SHA-256 {record.sha256}, found none among "
        f"{', '.join(candidates) or 'the shipped ones'}: name their file with --model FILE"
    )


def _device(record: Provenance) -> tuple[torch.device, list[str]]:
    try:
        return resolve_device(record.device), []
    except MethodError:
        return torch.device("cpu"), [f"it was computed on {record.device}, which this machine does not have"]


def _changes(record: Provenance) -> list[str]:
    now = versions()
    notes = [
        f"{name} was {record.versions.get(name) or 'absent'}, is {now.get(name) or 'absent'}"
        for name in dict.fromkeys([*record.versions, *now])
        if record.versions.get(name) != now.get(name)
    ]
    try:
        device = device_name(resolve_device(record.device))
    except MethodError:  # already reported
        return notes
    return (
        notes
        if device == record.device_name
        else [*notes, f"it was computed by {record.device_name}, this is {device}"]
    )


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1 if forked_with_threads() else number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
