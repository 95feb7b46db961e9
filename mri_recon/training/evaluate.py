"""Methods against the registered scans of one split: rows a scan, means over scans, masks and persons, a results page.

A run reads every scan of the split and fails where one is not to be had; only a scan without a truth is left out of the
metrics, and the run says so. Choices (weights, epochs, regularisation) belong to the validation split; each run on the
test split leaves a line in a log.
"""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from mri_recon.compare import METRICS, check_methods, compare, convention, jsonable
from mri_recon.data import registry
from mri_recon.errors import DataError
from mri_recon.io import Scan
from mri_recon.sampling import choose_mask

__all__ = [
    "Evaluation",
    "Source",
    "average",
    "evaluate_scans",
    "find_repository",
    "log_test_run",
    "losses",
    "markdown_page",
    "raw_sources",
    "results_document",
]

METRIC_UNITS = {"nmse": "NMSE", "psnr": "PSNR / dB", "ssim": "SSIM"}


@dataclass(frozen=True)
class Source:
    """A scan to evaluate on: its name, whose it is, how to get it, and whether it has a truth.

    Attributes:
        name: of the scan in every table.
        person: averages go over persons last.
        load: gives the scan.
        has_truth: False: prospectively undersampled, no metrics.
    """

    name: str
    person: str
    load: Callable[[], Scan]
    has_truth: bool = True


@dataclass
class Evaluation:
    """Rows of an evaluation and what they mean.

    Attributes:
        split: of the registry.
        kind: "raw" for k-space of a scanner, "simulated" for k-space made from images.
        rows: as `Comparison.rows`.
        persons: scan to person.
        receipts: one a scan, acceleration and seed.
        left_out: scan to the reason why it has no metrics.
    """

    split: str
    kind: str = "raw"
    rows: list[dict[str, Any]] = field(default_factory=list)
    persons: dict[str, str] = field(default_factory=dict)
    receipts: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    target_source: str = "rss of the full k-space"

    @property
    def convention(self) -> str:
        """What the metrics mean and what they compare with."""
        return convention(self.target_source, foreground=any("foreground" in row for row in self.rows))

    def means(self) -> list[dict[str, Any]]:
        """A row an acceleration and method: means over slices, then masks, then scans of a person, then persons."""
        return average(self.rows, self.persons)

    def document(self) -> dict[str, Any]:
        """The content of the JSON file: `convention`, `mask`, `results`, means, persons, scans left out."""
        document: dict[str, Any] = {
            "convention": self.convention,
            "mask": {"definition": _MASK_DEFINITION, "receipts": self.receipts},
            "results": self.rows,
            "split": self.split,
            "kind": self.kind,
            "persons": self.persons,
            "means": self.means(),
            "left_out": self.left_out,
        }
        return dict(jsonable(document))


def results_document(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """The JSON of a run: that of the first evaluation, and under its kind that of each further one."""
    first, *others = evaluations
    return {**first.document(), **{other.kind: other.document() for other in others}}


_MASK_DEFINITION = (
    "random columns: exactly round(W / R) of the W acquired ones, a dense centre, the rest by "
    "numpy.random.default_rng(seed).choice without replacement"
)


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
    return [Source(file.name, file.person, file.load, has_truth=file.fully_sampled) for file in found]


def evaluate_scans(
    sources: Sequence[Source],
    *,
    split: str,
    accelerations: Sequence[float],
    methods: Sequence[str],
    seeds: Sequence[int] = (0,),
    center_fraction: float | None = None,
    num_low_frequencies: int | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    device: str | torch.device | None = None,
    foreground: bool = False,
    kind: str = "raw",
    report: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Compare the methods on every scan that has a truth, at every acceleration and with every seed.

    Args:
        sources: the scans.
        split: name of their split.
        accelerations: requested accelerations R.
        methods: names of methods.
        seeds: of the masks.
        center_fraction: of the masks; None: the default for each R.
        num_low_frequencies: the same as a number of columns.
        options: method to its options.
        device: where to compute.
        foreground: measure again with the background masked.
        kind: "raw" or "simulated".
        report: told before each comparison what comes.

    Raises:
        DataError: no scan has a truth.
        MethodError, MaskError: as `compare` and `choose_mask`.
    """
    check_methods(methods, options or {})
    result = Evaluation(split=split, kind=kind)
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
        for acceleration in accelerations:
            for seed in seeds:
                report(f"{source.name}, R = {acceleration:g}, seed {seed}")
                mask = choose_mask(
                    scan,
                    acceleration=acceleration,
                    center_fraction=center_fraction,
                    num_low_frequencies=num_low_frequencies,
                    seed=seed,
                )
                comparison = compare(
                    scan, mask, methods, device=device, options=options, file=source.name, foreground=foreground
                )
                result.target_source = comparison.target_source
                result.rows.extend(comparison.rows)
                result.receipts.append({"file": source.name, **comparison.receipt})
    if not result.rows:
        raise DataError(f"expected scans with a truth in the split {split!r}, got none: choose another split")
    return result


def average(rows: Iterable[Mapping[str, Any]], persons: Mapping[str, str]) -> list[dict[str, Any]]:
    """Means of metrics and seconds an acceleration and method: over masks, then scans of a person, then persons.

    A row is already averaged within its scan. A metric that is null in some row (an infinite PSNR) has no mean.
    """
    groups: dict[tuple[float, str], dict[str, dict[str, list[Mapping[str, Any]]]]] = {}
    for row in rows:
        scans = groups.setdefault((row["acceleration"], row["method"]), {}).setdefault(persons[row["file"]], {})
        scans.setdefault(row["file"], []).append(row)
    means = []
    for (acceleration, method), by_person in groups.items():
        mean: dict[str, Any] = {"acceleration": acceleration, "method": method}
        for name in (*METRICS, "seconds"):
            mean[name] = _mean(
                _mean(_mean(row[name] for row in scan) for scan in scans.values()) for scans in by_person.values()
            )
        means.append({**mean, "persons": len(by_person), "scans": sum(len(scans) for scans in by_person.values())})
    return sorted(means, key=lambda mean: mean["acceleration"])  # stable: methods keep their order


def losses(rows: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> list[str]:
    """Sentences, one for each scan and acceleration where a method is behind one that is named before it.

    The order of `methods` is a claim, from the simplest to the best; what speaks against it must not be hidden.
    """
    cases: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        cases.setdefault((row["file"], row["acceleration"], row["seed"]), {})[row["method"]] = row
    sentences = []
    for (file, acceleration, seed), by_method in cases.items():
        for simpler, better in _ordered_pairs([name for name in methods if name in by_method]):
            behind = list(_behind(by_method[simpler], by_method[better]))
            if behind:
                where = f"{file}, R = {acceleration:g}, seed {seed}"
                sentences.append(f"{where}: {better} loses to {simpler} ({', '.join(behind)})")
    return sentences


def markdown_page(evaluations: Sequence[Evaluation], *, command: str, methods: Sequence[str]) -> str:
    """The results page: how it was made, the convention, a table a scan, means, and where a method loses."""
    lines = [
        "# Results",
        "",
        "Made by this command, which fails where a registered scan is missing; edit nothing by hand:",
        "",
        "```",
        command,
        "```",
        "",
        "Research only: not a medical device, not for diagnosis or treatment. None of these numbers stands beside "
        "published fastMRI numbers: the data differ.",
    ]
    for evaluation in evaluations:
        lines += ["", *_section(evaluation, methods)]
    return "\n".join(lines) + "\n"


def log_test_run(path: Path, command: str) -> None:
    """Append one line for a run on the test split: UTC time, commit, command."""
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with path.open("a", encoding="utf-8") as log:
        log.write(f"{when} {_commit()} {command}\n")


def find_repository(start: Path) -> Path | None:
    """The project's checkout that holds `start`, or None."""
    for folder in (start, *start.parents):
        configuration = folder / "pyproject.toml"
        if configuration.is_file():
            project = tomllib.loads(configuration.read_text(encoding="utf-8")).get("project", {})
            return folder if project.get("name") == "mri-recon" else None
    return None


def _mean(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if any(value is None for value in known) else fmean(value for value in known if value is not None)


def _ordered_pairs(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for later, better in enumerate(names):
        for simpler in names[:later]:
            yield simpler, better


def _behind(simpler: Mapping[str, Any], better: Mapping[str, Any]) -> Iterator[str]:
    for metric, form in (("psnr", ".2f"), ("ssim", ".4f")):  # over one scan NMSE orders methods as PSNR does
        before, after = simpler[metric], better[metric]
        if before is not None and after is not None and after < before:
            yield f"{metric.upper()} {after:{form}} against {before:{form}}"


def _section(evaluation: Evaluation, methods: Sequence[str]) -> list[str]:
    what = {"raw": "real raw k-space", "simulated": "**simulated** multi-coil k-space, made from magnitude images"}
    lines = [
        f"## Split {evaluation.split}: {what[evaluation.kind]}",
        "",
        evaluation.convention,
        "",
        f"Masks: {_MASK_DEFINITION}. R is what was asked for; what was realised stands beside each scan. Seconds are "
        "the wall time of one call on the machine of the run, for orientation only.",
        "",
    ]
    for name, reason in evaluation.left_out.items():
        lines += [f"Not measured: `{name}` ({reason}).", ""]
    lines += ["### Means", "", "Over slices, then masks, then the scans of a person, then persons.", ""]
    lines += _table(
        ["R", "method", *METRIC_UNITS.values(), "seconds", "scans", "persons"],
        [
            [f"{mean['acceleration']:g}", mean["method"], *_numbers(mean), str(mean["scans"]), str(mean["persons"])]
            for mean in evaluation.means()
        ],
    )
    for acceleration in dict.fromkeys(row["acceleration"] for row in evaluation.rows):
        lines += ["", f"### Each scan at R = {acceleration:g}", ""]
        lines += _scan_table(evaluation, acceleration)
    lines += ["", "### Where a method loses", ""]
    sentences = losses(evaluation.rows, methods)
    order = ", ".join(methods)
    if sentences:
        lines += [f"Methods in order, simplest first: {order}. Behind one named before it:", ""]
        lines += [f"- {sentence}" for sentence in sentences]
    else:
        lines += [f"Nowhere: in the order {order}, none is behind one named before it on any scan and metric."]
    return lines


def _scan_table(evaluation: Evaluation, acceleration: float) -> list[str]:
    receipts = {
        (receipt["file"], receipt["requested_acceleration"], receipt["seed"]): receipt
        for receipt in evaluation.receipts
    }
    rows = [row for row in evaluation.rows if row["acceleration"] == acceleration]
    cells = []
    for row in rows:
        receipt = receipts[row["file"], row["acceleration"], row["seed"]]
        lines = f"{receipt['num_lines']} of {receipt['support_width']} ({receipt['realised_acceleration']:.2f}x)"
        cells.append([f"`{row['file']}`", lines, str(row["seed"]), row["method"], *_numbers(row)])
    return _table(["scan", "columns (realised)", "seed", "method", *METRIC_UNITS.values(), "seconds"], cells)


def _numbers(row: Mapping[str, Any]) -> list[str]:
    forms = {"nmse": ".4f", "psnr": ".2f", "ssim": ".4f", "seconds": ".2f"}
    return ["-" if row[name] is None else f"{row[name]:{form}}" for name, form in forms.items()]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(header) + " |",
        "|" + "|".join(["---"] * len(header)) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _commit() -> str:
    """Short commit of the working folder, "+changes" where tracked files differ from it, or "unknown"."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=30, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
