"""Define the two jobs on files: reconstruct a file with one method, and compare methods on a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mri_recon._system.hashes import file_sha256
from mri_recon.batch.inputs import SUFFIXES, Input
from mri_recon.batch.jobs import Aide
from mri_recon.errors import DataError, OutputError

if TYPE_CHECKING:
    from mri_recon.progress import OnProgress, Progress
    from mri_recon.results.comparison import Comparison
    from mri_recon.results.recipe import MaskChoice, Recipe

__all__ = ["CompareFiles", "ReconstructFiles", "contents", "output_paths"]


@dataclass(frozen=True)
class ReconstructFiles:
    """Reconstruct each file with one method and save the images.

    Attributes:
        recipe: what to do with each file.
        paths: the file to write for each input, by the name of the input; see `output_paths`.
        like: DICOM image of the same examination, see `mri_recon.io.save`.
        contents: SHA-256 of the files besides the input that the result depends on, see `contents`.
    """

    recipe: Recipe
    paths: Mapping[str, Path]
    like: Path | None = None
    contents: Mapping[str, str] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """Name everything besides the input that decides the image."""
        return {"verb": "reconstruct", **_settings([self.recipe], self.contents), "like": self.like and str(self.like)}

    def outputs(self, item: Input) -> list[Path]:
        """List the image's file and those that its format writes beside it."""
        from mri_recon.io import files_beside

        path = self.paths[item.name]
        return [path, *files_beside(path).values()]

    def run(self, item: Input, aide: Aide) -> dict[str, Any]:
        """Reconstruct one file; returns output, method, mask receipt, shape, seconds, info and warnings."""
        from mri_recon.methods.estimates import Estimates
        from mri_recon.results.recipe import reconstruct_file

        recipe, path = self.recipe, self.paths[item.name]
        run = reconstruct_file(
            item.path,
            recipe,
            path,
            like=self.like,
            on_scan=lambda scan: aide.reserve(
                Estimates.memory_bytes(recipe.method, scan.samples.shape, recipe.options, check=recipe.check)
            ),
            on_progress=_told(aide),
        )
        result = run.reconstruction
        info = dict(result.info)
        return {
            "output": str(path),
            "method": result.method,
            "mask": run.mask.receipt(),
            "shape": list(result.image.shape),
            "simulated": bool(run.scan.meta.get("simulated", False)),
            "left_out": run.left_out,
            "seconds": info.pop("seconds"),
            "info": info,
            "warnings": list(result.warnings),
        }


@dataclass(frozen=True)
class CompareFiles:
    """Compare methods on each file, on one or several masks.

    Attributes:
        recipes: one for each method; their mask is ignored.
        masks: the masks, each of which all methods get.
        foreground: measure again with the background masked.
        figures: folder for a picture of each file on its first mask; None for no pictures.
        needs_truth: refuse a file without a reference.
        contents: SHA-256 of the files besides the input that the result depends on, see `contents`.
    """

    recipes: tuple[Recipe, ...]
    masks: tuple[MaskChoice, ...]
    foreground: bool = False
    figures: Path | None = None
    needs_truth: bool = False
    contents: Mapping[str, str] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """Name everything besides the input that decides the numbers."""
        return {
            "verb": "compare",
            **_settings(self.recipes, self.contents),
            "masks": [_mask_settings(one) for one in self.masks],
            "foreground": self.foreground,
            "figures": self.figures and str(self.figures),
            "needs_truth": self.needs_truth,
        }

    def outputs(self, item: Input) -> list[Path]:
        """List the picture, if there is one; a scan that may not be pictured has none."""
        return [] if self.figures is None else [self.figures / f"{item.name}.png"]

    def run(self, item: Input, aide: Aide) -> dict[str, Any]:
        """Compare the methods on one file; returns rows, mask receipts, reference, provenance, warnings, patient."""
        from mri_recon.methods.estimates import Estimates
        from mri_recon.results.comparison import compare_recipes
        from mri_recon.results.recipe import load_scan, source_record

        first = self.recipes[0]
        scan = load_scan(item.path, first)
        if self.needs_truth and scan.target_source == "none":
            raise DataError(
                f"{item.name}: expected a scan with a reference, got one without: give a fully sampled scan, or one "
                "whose file has a reconstruction"
            )
        options = {one.method: one.options for one in self.recipes}
        aide.reserve(Estimates.comparison_bytes(options, scan.samples.shape, check=first.check))
        source = source_record(item.path, first, scan)
        found: dict[str, Any] = {"rows": [], "receipts": [], "provenance": []}
        for mask in self.masks:
            recipes = [replace(one, mask=mask) for one in self.recipes]
            comparison = compare_recipes(
                scan,
                recipes,
                source=source,
                file=item.name,
                foreground=self.foreground,
                on_progress=_told(aide),
            )
            if not found["rows"]:
                found["note"] = self._draw(comparison, item)
            found["rows"] += comparison.rows
            found["receipts"].append({"file": item.name, **comparison.receipt})
            found["provenance"].append(
                {name: one.model_dump(mode="json") for name, one in comparison.provenance.items()}
            )
        return found | {
            "target_source": comparison.target_source,
            "simulated": comparison.simulated,
            "shape": list(scan.samples.shape),
            "patient_id": str(scan.meta.get("patient_id", "")),
        }

    def _draw(self, comparison: Comparison, item: Input) -> str:
        """Draw the picture if pictures are wanted; returns why there is none."""
        if self.figures is None:
            return ""
        from mri_recon.results.figure import comparison_figure

        try:
            comparison_figure(comparison, self.outputs(item)[0])
        except DataError as error:  # a scan of which no picture may be drawn
            return str(error)
        return ""


def contents(files: Sequence[tuple[str, str | Path]]) -> dict[str, str]:
    """Compute the SHA-256 of files that a result depends on, by path; names without a file are left out.

    Args:
        files: what each is, and its path, as `mri_recon.cli.files_read` lists them.
    """
    paths = dict.fromkeys(Path(path) for _, path in files)
    return {str(path): file_sha256(path) for path in paths if path.is_file()}


def output_paths(
    items: Sequence[Input],
    folder: Path,
    suffix: str,
    *,
    taken: Sequence[str] = (),
    read: Sequence[tuple[str, str | Path]] = (),
) -> dict[str, Path]:
    """Choose the output of each input: its name in `folder`, with another suffix.

    Where two inputs would share an output, or one would have a name that is taken, the input's own suffix stays in the
    name.

    Args:
        items: the inputs.
        folder: folder of the outputs.
        suffix: suffix of the outputs.
        taken: names in the folder that are none of these outputs.
        read: further files that are read: what each is, and its path.

    Raises:
        OutputError: an output would replace a file that is read.
    """
    from mri_recon.io import files_beside

    short = {item.name: folder / f"{_stem(item.name)}{suffix}" for item in items}
    written = {name: [path, *files_beside(path).values()] for name, path in short.items()}
    uses: dict[Path, int] = {folder / name: 2 for name in taken}
    for paths in written.values():
        for path in paths:
            uses[path] = uses.get(path, 0) + 1
    chosen = {
        name: folder / f"{name}{suffix}" if any(uses[one] > 1 for one in written[name]) else path
        for name, path in short.items()
    }
    every = [*read, *(("the input", item.path) for item in items)]
    inputs = {place: f"{what} {path}" for what, path in every if (place := _place(Path(path))) is not None}
    for name, path in chosen.items():
        for one in (path, *files_beside(path).values()):
            place = _place(one)
            if place is not None and (file := inputs.get(place)) is not None:
                raise OutputError(
                    f"-o: the result of {name} would replace {file}: choose another folder; nothing was written"
                )
    return chosen


def _stem(name: str) -> str:
    return name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in SUFFIXES else name


def _place(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _told(aide: Aide) -> OnProgress:
    def on_progress(progress: Progress) -> None:
        aide.report(f"{progress.method}: {progress.stage}", progress.iteration, progress.total)

    return on_progress


def _settings(recipes: Sequence[Recipe], contents: Mapping[str, str]) -> dict[str, Any]:
    from mri_recon.results.machine import versions

    first = recipes[0]
    return {
        "methods": {one.method: dict(one.options) for one in recipes},
        "mask": _mask_settings(first.mask),
        "prewhiten": first.prewhiten and str(first.prewhiten),
        "num_virtual_coils": first.num_virtual_coils,
        "check": first.check,
        "axes": first.axes,
        "variable": first.variable,
        "slices": first.slices,
        "device": str(first.device or "cpu"),
        "contents": dict(contents),
        "versions": versions(),
    }


def _mask_settings(mask: Any) -> dict[str, Any]:
    found = dict(vars(mask))
    return found | {"file": found.get("file") and str(found["file"])}
