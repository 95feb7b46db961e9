"""Methods against the scans of one split: a row a scan, mask and method.

A run reads every scan of the split and fails where one is not to be had; only a scan without a truth is left out of the
metrics, and the run says so. Choices (weights, epochs, regularisation) belong to the validation split; each run on the
test split leaves a line in a log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from mri_recon_data import registry

from mri_recon._system.jsonable import jsonable
from mri_recon.errors import DataError
from mri_recon.io import Scan
from mri_recon.io.masks import choose_mask
from mri_recon.masks.types import Mask
from mri_recon.results.comparison import check_methods, compare, convention
from mri_recon_training.evaluation.averages import MASK_VARIABILITY, average, differences, scan_summaries
from mri_recon_training.evaluation.resume import Partial

__all__ = [
    "MASK_DEFINITION",
    "Evaluation",
    "Masks",
    "Source",
    "evaluate_scans",
    "labels_of",
    "of_person",
    "raw_sources",
    "results_document",
]

MASK_DEFINITION = (
    "random columns: exactly round(W / R) of the W acquired ones, a dense centre, the rest by "
    "numpy.random.default_rng(seed).choice without replacement"
)

_PICTURES_ALLOWED = ("CC0-1.0", "MIT")
"""Licences of sets of which a picture may be in the project."""


@dataclass(frozen=True)
class Source:
    """A scan to evaluate on: its name, whose it is, how to get it, and whether it has a truth.

    Attributes:
        name: of the scan in every file.
        person: averages go over persons last.
        load: gives the scan.
        has_truth: False: prospectively undersampled, no metrics.
        label: short name for tables and plots.
        attribution: whom a picture of it must name; None: its licence allows no picture in the project.
    """

    name: str
    person: str
    load: Callable[[], Scan]
    has_truth: bool = True
    label: str = ""
    attribution: str | None = None


@dataclass(frozen=True)
class Masks:
    """Which masks: requested accelerations R, seeds, and the dense centre (None: the default for each R)."""

    accelerations: Sequence[float]
    seeds: Sequence[int] = (0,)
    center_fraction: float | None = None
    num_low_frequencies: int | None = None

    def choose(self, scan: Scan, acceleration: float, seed: int) -> Mask:
        """The mask of a scan at one acceleration with one seed.

        Raises:
            MaskError: as `sampling.choose_mask`.
        """
        return choose_mask(
            scan,
            acceleration=acceleration,
            center_fraction=self.center_fraction,
            num_low_frequencies=self.num_low_frequencies,
            seed=seed,
        )


@dataclass
class Evaluation:
    """Rows of an evaluation and what they mean.

    Attributes:
        split: of the registry.
        kind: "raw" for k-space of a scanner, "simulated" for k-space made from images.
        num_coils: of simulated k-space; None: the scanner's.
        rows: as `Comparison.rows`.
        persons: scan to person.
        labels: scan to its short name.
        shapes: scan to the shape of its k-space, `(slice, coil, readout, phase)`.
        receipts: one a scan, acceleration and seed.
        left_out: scan to the reason why it has no metrics.
        target_source: what the metrics compare with.
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
        """What the metrics mean and what they compare with."""
        return convention(self.target_source, foreground=any("foreground" in row for row in self.rows))

    @property
    def accelerations(self) -> list[float]:
        """Requested accelerations, smallest first."""
        return sorted({row["acceleration"] for row in self.rows})

    def at(self, acceleration: float) -> list[dict[str, Any]]:
        """Rows of one requested acceleration."""
        return [row for row in self.rows if row["acceleration"] == acceleration]

    def means(self) -> list[dict[str, Any]]:
        """A row an acceleration and method: means over slices, then masks, then scans of a person, then persons."""
        return average(self.rows, self.persons)

    def document(self) -> dict[str, Any]:
        """The content of the JSON file: `convention`, `mask`, `results`, means, mask variability, differences."""
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
    """The JSON of a run: that of the raw scans, and under `simulated` a list of those of each number of coils."""
    return {**raw.document(), "simulated": [one.document() for one in simulated]}


def raw_sources(split: str) -> list[Source]:
    """Every registered raw scan of a split, each found on this machine before the first is evaluated.

    Raises:
        DataError: an unknown split, one without raw scans, or a file that is not to be had.
    """
    found = registry.files(split=split, kind="raw")
    if not found:
        raise DataError(f"expected raw scans in the split {split!r}, got none: choose train, validation or test")
    for file in found:
        file.path()  # fails here, not after an hour
    labels = labels_of(found)
    return [
        Source(
            file.name,
            file.person,
            file.load,
            has_truth=file.fully_sampled,
            label=labels[file.name],
            attribution=_attribution(file),
        )
        for file in found
    ]


def of_person(sources: Sequence[Source], person: str, what: str) -> list[Source]:
    """The scans of one person.

    Args:
        sources: of a split.
        person: whose.
        what: they are, for the message.

    Raises:
        DataError: there is none; whose there are is said.
    """
    found = [source for source in sources if source.person == person]
    if not found:
        persons = ", ".join(dict.fromkeys(source.person for source in sources))
        raise DataError(f"expected {what} of {person!r} in this split, got those of {persons}: choose one of them")
    return found


def labels_of(files: Sequence[registry.RegisteredFile]) -> dict[str, str]:
    """Short names of files: person and contrast; with the file's own name where two would be called the same."""
    plain = {file.name: f"{file.person} {file.contrast}".strip() for file in files}
    taken = list(plain.values())
    return {
        file.name: plain[file.name]
        if taken.count(plain[file.name]) == 1
        else f"{plain[file.name]} ({file.name.rsplit('/', 1)[-1].split('.')[0]})"
        for file in files
    }


def evaluate_scans(
    sources: Sequence[Source],
    masks: Masks,
    *,
    split: str,
    methods: Sequence[str],
    options: Mapping[str, Mapping[str, Any]] | None = None,
    device: str | torch.device | None = None,
    foreground: bool = False,
    kind: str = "raw",
    num_coils: int | None = None,
    done: Partial | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Compare the methods on every scan that has a truth, at every acceleration and with every seed.

    Args:
        sources: the scans.
        masks: accelerations and seeds; all methods see the same masks.
        split: name of their split.
        methods: names of methods.
        options: method to its options.
        device: where to compute.
        foreground: measure again with the background masked.
        kind: "raw" or "simulated".
        num_coils: of simulated scans.
        done: what is in there is taken from there, what is not is put there.
        report: told before each comparison what comes.

    Raises:
        DataError: no scan has a truth.
        MethodError, MaskError: as `compare` and `choose_mask`.
    """
    check_methods(methods, options or {})
    store = Partial(None, {}) if done is None else done
    result = Evaluation(split=split, kind=kind, num_coils=num_coils)
    for source in sources:
        if not source.has_truth:
            result.left_out[source.name] = "prospectively undersampled: no truth, so no metrics"
            continue
        scan = source.load()
        if scan.target is None:
            raise DataError(
                f"{source.name}: expected a scan with a reference, got none: register it as not fully sampled"
            )
        result.persons[source.name] = source.person
        result.labels[source.name] = source.label or source.name
        result.shapes[source.name] = tuple(scan.kspace.shape)
        for acceleration in masks.accelerations:
            for seed in masks.seeds:
                comparison = store.get(source.name, acceleration, seed)
                if comparison is None:
                    report(f"{source.name}, R = {acceleration:g}, seed {seed}")
                    mask = masks.choose(scan, acceleration, seed)
                    made = compare(
                        scan, mask, methods, device=device, options=options, file=source.name, foreground=foreground
                    )
                    comparison = {"rows": made.rows, "receipt": made.receipt, "target_source": made.target_source}
                    store.put(source.name, acceleration, seed, comparison)
                result.target_source = comparison["target_source"]
                result.rows.extend(comparison["rows"])
                result.receipts.append({"file": source.name, **comparison["receipt"]})
    if not result.rows:
        raise DataError(f"expected scans with a truth in the split {split!r}, got none: choose another split")
    return result


def _attribution(file: registry.RegisteredFile) -> str | None:
    data_set = registry.load_registry().get(file.set_name)
    if data_set.licence not in _PICTURES_ALLOWED:
        return None
    notice = f" {data_set.notes.rstrip('.')}." if "Copyright" in data_set.notes else ""
    return f"{data_set.citation}; {data_set.licence}.{notice}"
