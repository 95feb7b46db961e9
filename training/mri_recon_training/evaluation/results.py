"""Results of an evaluation: one row for each scan, mask and method, and the JSON document made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mri_recon._system.jsonable import jsonable
from mri_recon.results.comparison import convention
from mri_recon_training.evaluation.averages import MASK_VARIABILITY, average, differences, scan_summaries

__all__ = ["MASK_DEFINITION", "Evaluation", "results_document"]

MASK_DEFINITION = (
    "random columns: exactly round(W / R) of the W acquired ones, a dense centre, the rest by "
    "numpy.random.default_rng(seed).choice without replacement"
)


@dataclass
class Evaluation:
    """Rows of an evaluation and their meaning.

    Attributes:
        split: of the registry.
        kind: "raw" for k-space of a scanner, "simulated" for k-space made from images.
        num_coils: of simulated k-space; None: the scanner's.
        rows: as `Comparison.rows`.
        persons: scan to subject.
        labels: scan to its short name.
        shapes: scan to the shape of its k-space, `(slice, coil, readout, phase)`.
        receipts: one mask receipt for each scan, acceleration and seed.
        left_out: scan to the reason why it has no metrics.
        target_source: the reference of the metrics.
    """

    split: str
    kind: str = "raw"
    num_coils: int | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    persons: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    receipts: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    target_source: str = "rss of the full k-space"

    @property
    def convention(self) -> str:
        """The definition of the metrics and of their reference."""
        return convention(self.target_source, foreground=any("foreground" in row for row in self.rows))

    @property
    def accelerations(self) -> list[float]:
        """Requested accelerations, smallest first."""
        return sorted({row["acceleration"] for row in self.rows})

    def at(self, acceleration: float) -> list[dict[str, Any]]:
        """Select the rows of one requested acceleration."""
        return [row for row in self.rows if row["acceleration"] == acceleration]

    def means(self) -> list[dict[str, Any]]:
        """Average by acceleration and method: over slices, then masks, then scans of a subject, then subjects."""
        return average(self.rows, self.persons)

    def document(self) -> dict[str, Any]:
        """Give the content of the JSON file: `convention`, `mask`, `results`, means, mask variability, differences."""
        document: dict[str, Any] = {
            "convention": self.convention,
            "mask": {"definition": MASK_DEFINITION, "receipts": self.receipts},
            "results": self.rows,
            "split": self.split,
            "kind": self.kind,
            "num_coils": self.num_coils,
            "persons": self.persons,
            "shapes": self.shapes,
            "means": self.means(),
            "mask_variability": {
                "definition": MASK_VARIABILITY,
                "scans": [
                    {key: asdict(value) if hasattr(value, "masks") else value for key, value in row.items()}
                    for row in scan_summaries(self.rows)
                ],
                "above_best_classical": [
                    one.as_dict() for metric in ("psnr", "ssim") for one in differences(self.rows, metric)
                ],
            },
            "left_out": self.left_out,
        }
        return dict(jsonable(document))


def results_document(raw: Evaluation, simulated: Sequence[Evaluation] = ()) -> dict[str, Any]:
    """Give the JSON of a run: the document of the raw scans; under `simulated` one for each number of coils."""
    return {**raw.document(), "simulated": [one.document() for one in simulated]}
