"""How often the data-crime check names what was done to k-space, and how often it raises a false alarm.

    python -m benchmarks.trust.data_crimes -o ROWS.jsonl             training and validation splits: about two minutes
    python -m benchmarks.trust.data_crimes -o TEST.jsonl --split test --harmless   false alarms alone
    python -m benchmarks.trust.data_crimes -o ROWS.jsonl --table     print the tables of the rows that are there

Genuine scans are the raw scans and the phantoms of the registry. Simulated ones are the validation scans of every
world, with coils, phase and noise. Crimes are committed on both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from benchmarks.trust.crimes import CASES, HARMLESS
from mri_recon.io.data_crimes.background import measure_background, measure_borders
from mri_recon.io.data_crimes.planes import representative_planes
from mri_recon.io.data_crimes.symmetry import conjugate_symmetry
from mri_recon.io.scan import make_scan
from mri_recon_data.examples.validation_worlds import validation_scans
from mri_recon_data.registry import check_split, files
from mri_recon_data.scenes.images import load_slices
from mri_recon_training.markdown import table

HARMLESS_NAME = "no crime"
MEASURES = {
    "symmetry of outer k-space": ("symmetry", "most", "0.99 or more: conjugate-symmetric"),
    "noise in the middle over noise at the edges of k-space": ("edge_drop", "most", "8 or more: filtered"),
    "noise at the border of the image over noise in the middle": ("border", "least", "below 0.07: interpolated"),
    "share of pixels that are zero": ("zero_pixels", "most", "0.02 or more: coil-combined, masked"),
    "square of the mean over mean square in the background": ("mean_to_rms", "most", "above 0.55: coil-combined"),
}


@dataclass(frozen=True)
class Source:
    """Hold complete k-space `(slice, coil, readout, phase)` to commit crimes on, and where it comes from."""

    kind: str
    name: str
    kspace: npt.NDArray[np.complex64]


def sources(splits: list[str]) -> Iterator[Source]:
    """Yield the fully sampled scans of the splits; with the validation split also simulated ones."""
    for split in splits:
        for kind in ("raw", "phantom"):
            for file in files(split=split, kind=kind, fully_sampled=True):
                for scan in file.scans():
                    name = " ".join(part for part in (scan.name, scan.variable) if part)
                    yield Source("raw" if kind == "raw" else "phantom", name, scan.load().samples)
    if "validation" in splits:
        images = load_slices([(file.name, file.path()) for file in files(split="validation", kind="image")])
        for number, one in enumerate(validation_scans([], images, seed=0, measured=True)):
            if one.kind.endswith("-4x"):  # the same k-space comes again for 8x
                kspace = np.asarray(one.kspace.numpy()[None], np.complex64)
                yield Source("simulated", f"{one.kind.removesuffix('-4x')} {number // 2}", kspace)


def findings(kspace: npt.NDArray[np.complex64], name: str) -> list[str]:
    """List the names of what is found on loading; "undersampled" also where zeros tell so without the check."""
    scan = make_scan(kspace, name=name, meta={})
    return [*(crime.name for crime in scan.data_crimes), *([] if scan.fully_sampled else ["undersampled"])]


def measures(kspace: npt.NDArray[np.complex64]) -> dict[str, float]:
    """Measure what thresholds are compared with, the value nearest to the threshold over both axes."""
    planes = representative_planes(kspace)
    background, borders = measure_background(planes), measure_borders(planes)
    return {
        "symmetry": max(conjugate_symmetry(planes, axis) for axis in (-2, -1)),
        "edge_drop": max(background.edge_drop),
        "border": min(borders.border_to_middle),
        "zero_pixels": borders.zero_pixels,
        "mean_to_rms": background.mean_to_rms,
    }


def rows(splits: list[str], *, harmless: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for each scan and case: its kind, what was done, and what was found."""
    cases = {HARMLESS_NAME: HARMLESS, **({} if harmless else CASES)}
    for source in sources(splits):
        for crime, ways in cases.items():
            for what, commit in ways.items():
                row = {"kind": source.kind, "scan": source.name, "crime": crime, "what": what}
                row["found"] = findings(commit(source.kspace), source.name)
                yield row | ({"measures": measures(source.kspace)} if what == "untouched" else {})


def hit(row: dict[str, Any]) -> bool:
    """Tell whether the crime was named; of no crime, whether anything was but missing samples."""
    if row["crime"] == HARMLESS_NAME:
        return bool(set(row["found"]) - {"undersampled"})
    return row["crime"] in row["found"]


def rates(found: list[dict[str, Any]]) -> list[str]:
    """Make the table of rates: scans in which the crime was named, of all, by kind of scan."""
    kinds = [kind for kind in ("raw", "phantom", "simulated") if any(row["kind"] == kind for row in found)]
    lines = []
    for crime, what in dict.fromkeys((row["crime"], row["what"]) for row in found):
        these = [row for row in found if (row["crime"], row["what"]) == (crime, what)]
        cells = [crime, what]
        for kind in kinds:
            those = [hit(row) for row in these if row["kind"] == kind]
            cells.append(f"{sum(those)} of {len(those)}")
        lines.append(cells)
    return table(["crime", "what was done", *kinds], lines, text=2)


def margins(found: list[dict[str, Any]]) -> list[str]:
    """Make the table of the extremes over scans that nothing was done to, beside the thresholds."""
    untouched = [row for row in found if "measures" in row]
    kinds = list(dict.fromkeys(row["kind"] for row in untouched))
    lines = []
    for label, (key, end, threshold) in MEASURES.items():
        values = {kind: [row["measures"][key] for row in untouched if row["kind"] == kind] for kind in kinds}
        extremes = [max(one) if end == "most" else min(one) for one in values.values()]
        lines.append([label, threshold, *(f"{value:.2g}" for value in extremes)])
    return table(["measure", "threshold", *(f"{kind}, extreme" for kind in kinds)], lines, text=2)


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="Rows, one JSON object a line")],
    split: Annotated[str, typer.Option(help="Splits, separated by commas")] = "train,validation",
    harmless: Annotated[bool, typer.Option("--harmless", help="Commit no crime: false alarms alone")] = False,
    show: Annotated[bool, typer.Option("--table", help="Print the tables of the rows that are there")] = False,
) -> None:
    """Commit every crime on every scan and note what is found, or print the tables."""
    if not show:
        splits = [check_split(name) for name in split.split(",")]
        with output.open("w") as out:
            for row in rows(list(splits), harmless=harmless):
                out.write(json.dumps(row) + "\n")
        return
    found = [json.loads(line) for line in output.read_text().splitlines()]
    print("\n".join([*rates(found), "", *margins(found)]))


if __name__ == "__main__":
    typer.run(main)
