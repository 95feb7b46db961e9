"""Results of an evaluation: one row for each scan, mask and method, and the JSON document made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mri_recon._system.jsonable import jsonable
from mri_recon.results.comparison import convention
from mri_recon_training.evaluation.averages import MASK_VARIABILITY, differences, scan_summaries
from mri_recon_training.evaluation.config import SimulatedArray
from mri_recon_training.evaluation.worlds import SNR_RULE, worlds_of

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
        kind: "raw" for k-space of persons and animals, "phantom", "simulated" for k-space made from images.
        array: receive coils of simulated k-space; None: the scanner's.
        rows: as `Comparison.rows`.
        persons: scan to subject.
        labels: scan to its short name.
        worlds: scan to its world, as the registry names it.
        snrs: scan to its SNR by `worlds.SNR_RULE`, where it is known.
        parts: scans that are parts of one file, see `Source.is_part`.
        shapes: scan to the shape of its k-space, `(slice, coil, readout, phase)`.
        receipts: one mask receipt for each scan, acceleration and seed.
        left_out: scan to the reason why it has no metrics.
        target_source: the reference of the metrics.
    """

    split: str
    kind: str = "raw"
    array: SimulatedArray | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    persons: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    worlds: dict[str, str] = field(default_factory=dict)
    snrs: dict[str, float] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
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
        """Average each world by acceleration and method: over slices, masks, scans of a subject, subjects."""
        return [mean for world in worlds_of(self) for mean in world.means()]

    def document(self) -> dict[str, Any]:
        """Give the content of the JSON file: `convention`, `mask`, `results`, means, mask variability, differences."""
        document: dict[str, Any] = {
            "convention": self.convention,
            "mask": {"definition": MASK_DEFINITION, "receipts": self.receipts},
            "results": self.rows,
            "split": self.split,
            "kind": self.kind,
            "num_coils": None if self.array is None else self.array.num_coils,
            "array": None if self.array is None else asdict(self.array),
            "persons": self.persons,
            "worlds": self.worlds,
            "snr_of_scans": {"definition": SNR_RULE, "scans": self.snrs},
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


def results_document(
    raw: Evaluation, simulated: Sequence[Evaluation] = (), phantoms: Evaluation | None = None
) -> dict[str, Any]:
    """Give the JSON of a run: the document of the raw scans; `simulated` has one for each array of coils.

    `phantoms` is the document of the phantoms, or None.
    """
    return {
        **raw.document(),
        "phantoms": None if phantoms is None else phantoms.document(),
        "simulated": [one.document() for one in simulated],
    }
