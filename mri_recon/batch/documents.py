"""Make the JSON document and the CSV table of many files: every file has its place, also one that failed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mri_recon._system.jsonable import jsonable
from mri_recon._system.text import storable
from mri_recon.batch.jobs import Outcome
from mri_recon.batch.persons import Persons
from mri_recon.notice import RESEARCH_ONLY
from mri_recon.results.averages import MEANS_CONVENTION, average
from mri_recon.results.comparison import METRICS, convention

__all__ = [
    "comparison_document",
    "comparison_table",
    "csv_text",
    "means",
    "reconstruction_document",
    "reconstruction_table",
    "shared_convention",
]


def means(outcomes: Iterable[Outcome], persons: Persons) -> list[dict[str, Any]]:
    """Average the metrics of all files that have a reference, see `mri_recon.results.averages.average`."""
    done = [one for one in outcomes if not one.failed]
    rows = [row for one in done for row in one.result["rows"] if row["nmse"] is not None]
    return average(rows, {one.name: persons.of(one) for one in done})


def shared_convention(outcomes: Iterable[Outcome], *, foreground: bool) -> str:
    """State the convention of the metrics, and the reference if all files have the same kind."""
    sources = {one.result["target_source"] for one in outcomes if not one.failed} - {"none"}
    return convention(sources.pop() if len(sources) == 1 else None, foreground=foreground)


def comparison_document(outcomes: Sequence[Outcome], persons: Persons, *, foreground: bool) -> dict[str, Any]:
    """Build the JSON document of comparisons: `convention`, `mask`, `results`, means and the files that failed."""
    done = [one for one in outcomes if not one.failed]
    document = {
        "convention": shared_convention(done, foreground=foreground),
        "mask": {"receipts": [receipt for one in done for receipt in one.result["receipts"]]},
        "results": [row for one in done for row in one.result["rows"]],
        "means": {"convention": MEANS_CONVENTION, "rows": means(done, persons)},
        "persons": {one.name: persons.of(one) for one in done},
        "references": {one.name: one.result["target_source"] for one in done},
        "shapes": {one.name: one.result["shape"] for one in done},
        "failed": _failed(outcomes),
        "provenance": {one.name: one.result["provenance"] for one in done},
        "research_only": RESEARCH_ONLY,
    }
    return dict(jsonable(document))


def reconstruction_document(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Build the JSON document of reconstructions: `results`, and the files that failed."""
    done = [{"file": one.name, **one.result} for one in outcomes if not one.failed]
    return dict(jsonable({"results": done, "failed": _failed(outcomes), "research_only": RESEARCH_ONLY}))


def comparison_table(outcomes: Sequence[Outcome], persons: Persons) -> list[dict[str, Any]]:
    """List the rows of a CSV table of comparisons: one for each file, mask and method, one for each failed file."""
    rows: list[dict[str, Any]] = []
    for one in outcomes:
        if one.failed:
            rows.append({"file": one.name, "status": "failed", "error": one.error})
            continue
        receipts = {
            (found.get("requested_acceleration"), found.get("seed")): found["realised_acceleration"]
            for found in one.result["receipts"]
        }
        for row in one.result["rows"]:
            second = row.get("foreground") or {}
            rows.append(
                {
                    "file": one.name,
                    "status": "done",
                    "person": persons.of(one),
                    **{key: row[key] for key in ("method", "acceleration")},
                    "realised_acceleration": receipts.get((row["acceleration"], row["seed"])),
                    "seed": row["seed"],
                    **{name: row[name] for name in METRICS},
                    **{f"foreground_{name}": second[name] for name in METRICS if second},
                    "seconds": row["seconds"],
                    "reference": one.result["target_source"],
                    "warnings": " | ".join(map(str, row["info"].get("warnings", ()))),
                    "error": "",
                }
            )
    return rows


def reconstruction_table(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """List the rows of a CSV table of reconstructions, one for each file."""
    rows: list[dict[str, Any]] = []
    for one in outcomes:
        if one.failed:
            rows.append({"file": one.name, "status": "failed", "error": one.error})
            continue
        result = one.result
        slices, height, width = result["shape"]
        rows.append(
            {
                "file": one.name,
                "status": "done",
                "output": result["output"],
                "method": result["method"],
                "acceleration": result["mask"].get("requested_acceleration"),
                "realised_acceleration": result["mask"]["realised_acceleration"],
                "seed": result["mask"].get("seed"),
                "slices": slices,
                "height": height,
                "width": width,
                "seconds": result["seconds"],
                "simulated": result["simulated"],
                "left_out": result["left_out"],
                "warnings": " | ".join(map(str, result["warnings"])),
                "error": "",
            }
        )
    return rows


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows as CSV with a line of headings: all keys, in the order of the fullest row; nothing for None."""
    headings: dict[str, None] = {}
    for row in sorted(rows, key=len, reverse=True):
        headings |= dict.fromkeys(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(headings), restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: storable(value) if isinstance(value, str) else value for key, value in row.items()})
    return text.getvalue()


def _failed(outcomes: Iterable[Outcome]) -> dict[str, str]:
    return {one.name: one.error for one in outcomes if one.failed}
