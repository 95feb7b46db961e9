"""Fit the map of trust and the bound of the whole image on validation subjects, and measure both on the left-out one.

    python -m benchmarks.trust.fit FOLDER [--write]

FOLDER holds the images of all candidates (`benchmarks.trust.fold_images`); those that are missing are made. Subjects
are the persons of the validation split; no network has learned from them. Procedural pictures are a group of their own
beside them, which no bound counts. The table has, by world, the share of the object's pixels whose error is at most the
map, with the scored subject left out of everything that was fitted, the size of the map beside that of the error, and
how often the NMSE is at most its bound. Phantoms are in no fit: they show what happens on scans unlike the subjects'.
`--write` stores the fits in the package.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import typer
from scipy.optimize import brentq, minimize
from torch import Tensor

import mri_recon.methods
from benchmarks.trust.fold_images import Images, Scan, images, predictions, scans
from mri_recon._arrays import to_numpy
from mri_recon.methods.auto import CANDIDATES
from mri_recon.methods.candidate import parse_candidates
from mri_recon.methods.holdout import compare_predictions, residual_grams
from mri_recon.methods.image_bound import BoundModel
from mri_recon.methods.trials import weigh
from mri_recon.methods.trust import features_of
from mri_recon.methods.trust_map import FEATURES, KINDS, METHODS, TrustModel
from mri_recon_data import registry
from mri_recon_data.examples.validation_worlds import ValidationScan
from mri_recon_training.markdown import table

COMMAND = "python -m benchmarks.trust.fit FOLDER --write"
COVERAGE = 0.9


PICTURES = "pictures"
_OBJECT = 0.05  # of the 99th percentile of the reference: darker pixels belong to the air
_PIXELS = 4000  # of a scan in a fit
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """Hold one image of one scan.

    Attributes:
        kind: "auto", or "one" for a method by itself.
        world: of the scan, with its acceleration.
        subject: person, "pictures", or "" for a phantom.
        features: `(feature, pixel)` of the object's pixels.
        errors: error of the magnitude at the same pixels.
        squares: mean of each squared feature over all pixels, over that of the squared image: P is their weighted sum.
        nmse: true NMSE.
    """

    kind: str
    world: str
    subject: str
    features: Array
    errors: Array
    squares: Array
    nmse: float


def subject_of(scan: ValidationScan) -> str:
    """Name the person of a scan; each set of the validation split has one."""
    if scan.kind.startswith("procedural"):
        return PICTURES
    name = scan.source.split("/")[-1]
    return next((file.person for file in registry.files(split="validation") if file.set_name == name), "")


def score(scan: Scan, folder: Path) -> list[Scored]:
    """Score the mixture, and every candidate by itself."""
    candidates = parse_candidates(CANDIDATES)
    made = [images(scan, one, folder) for one in candidates]
    guesses = [predictions(scan, one) for one in made]
    energies = compare_predictions(scan.data, guesses[0]).energies
    weights = weigh(candidates, residual_grams(scan.data, guesses), energies, "mixture")
    mixed = Images(
        _mixed(weights, [one.image for one in made]), _mixed(weights, [one.folds.abs() for one in made]), 0.0
    )
    others = torch.stack([one.folds for one in made])
    alone = [one for one, candidate in zip(made, candidates, strict=True) if candidate.method in METHODS]
    return [_scored("auto", scan, mixed, others), *(_scored("one", scan, one, None) for one in alone)]


def _mixed(weights: Array, parts: list[Tensor]) -> Tensor:
    return torch.stack([weight * one for weight, one in zip(weights.tolist(), parts, strict=True)]).sum(dim=0)


def _scored(kind: str, scan: Scan, made: Images, others: Tensor | None) -> Scored:
    reference = scan.reference
    features = features_of(
        made.image,
        made.folds.unsqueeze(1),
        None if others is None else others.unsqueeze(2),
        scan.data,
        scan.scan.mask,
    )
    error = (made.image.abs() - reference).abs()
    level = float(reference.flatten().kthvalue(max(1, int(0.99 * reference.numel()))).values)
    inside = reference > _OBJECT * level
    nmse = float(error.square().sum() / reference.square().sum())
    pixels = to_numpy(features[:, inside].double())
    squares = to_numpy(features.double().square().mean(dim=(1, 2, 3)) / made.image.abs().double().square().mean())
    subject = subject_of(scan.scan)
    return Scored(kind, scan.scan.kind, subject, pixels, to_numpy(error[inside].double()), squares, nmse)


def fit_weights(
    features: Sequence[npt.NDArray[np.float64]], errors: Sequence[npt.NDArray[np.float64]], coverage: float = 0.9
) -> npt.NDArray[np.float64]:
    """Fit the weights a by quantile regression; every scan counts the same.

        min_a sum_scans 1/(n e) sum_pixels rho(|error| - t_a),    rho(z) = max(c z, (c - 1) z)

    e is the mean error of the scan, so that scans of any units and quality count.

    Args:
        features: `(feature, pixel)` of the pixels of each scan.
        errors: magnitude of the error at the same pixels, `(pixel,)`.
        coverage: c.

    Returns:
        weights `(feature,)`.
    """
    squares = [one**2 / error.mean() ** 2 for one, error in zip(features, errors, strict=True)]
    relative = [error / error.mean() for error in errors]

    def loss(log_weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        weights = np.exp(log_weights)
        value, slope = 0.0, np.zeros_like(weights)
        for square, error in zip(squares, relative, strict=True):
            bound = np.sqrt(weights @ square + 1e-12)
            over = error > bound
            value += float(np.where(over, coverage * (error - bound), (coverage - 1) * (error - bound)).mean())
            toward = np.where(over, -coverage, 1 - coverage) / (2 * bound)
            slope += weights * (square * toward).mean(axis=1)
        return value / len(squares), slope / len(squares)

    typical = np.array([max(np.mean([s[j].mean() for s in squares]), 1e-12) for j in range(len(squares[0]))])
    found = minimize(loss, -np.log(typical), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    weights: Array = np.exp(found)
    return np.where((weights * typical < 1e-6) | (typical <= 1e-12), 0.0, weights)


def widening(covered: Sequence[tuple[Array, Array]], wanted: float) -> float:
    """Find the factor of the map with which it covers the wanted share of the pixels in the mean of the scans.

    Args:
        covered: error and map of the pixels of each scan.
        wanted: share.
    """

    def excess(log_factor: float) -> float:
        return fmean(float((error <= np.exp(log_factor) * size).mean()) for error, size in covered) - wanted

    return float(np.exp(brentq(excess, -5, 5)))


def fit_map(scored: Sequence[Scored]) -> Array:
    """Fit the weights of one kind of image, and widen the map for subjects that are not in the fit.

    Every group (subject, or pictures) counts the same. Each group in turn is left out of a fit. The factor that makes
    the map of this fit cover the wanted share of the group's pixels says how much too narrow the map is for it. The
    largest of these factors widens the map of the fit of all groups.
    """
    weights = _fitted(scored)
    factors = []
    for group in sorted({one.subject for one in scored}):
        others = _fitted([one for one in scored if one.subject != group])
        pairs = [_sample(one, others) for one in scored if one.subject == group]
        factors.append(widening(pairs, COVERAGE))
    return weights * max(factors) ** 2


def _fitted(scored: Sequence[Scored]) -> Array:
    counts = {subject: sum(one.subject == subject for one in scored) for subject in {one.subject for one in scored}}
    most = max(counts.values())
    features, errors = [], []
    for one in scored:
        chosen = _chosen(one)
        for _ in range(round(most / counts[one.subject])):
            features.append(one.features[:, chosen])
            errors.append(one.errors[chosen])
    return fit_weights(features, errors, COVERAGE)


def _sample(one: Scored, weights: Array) -> tuple[Array, Array]:
    """Return error and map of some pixels, over the scan's mean error."""
    chosen, scale = _chosen(one), one.errors.mean()
    return one.errors[chosen] / scale, map_of(one.features[:, chosen], weights) / scale


def _chosen(one: Scored) -> npt.NDArray[np.intp]:
    return np.random.default_rng(0).permutation(len(one.errors))[:_PIXELS]


def map_of(features: Array, weights: Array) -> Array:
    """Compute t from features `(feature, pixel)`."""
    found: Array = np.sqrt(weights @ features**2)
    return found


def predicted(one: Scored, weights: Array) -> float:
    """Compute P."""
    return float(weights @ one.squares)


def persons(scored: Sequence[Scored]) -> list[Scored]:
    """Keep the scans of persons."""
    return [one for one in scored if one.subject not in ("", PICTURES)]


def bound_offset(scored: Sequence[Scored], weights: Array) -> float:
    """Compute q, the largest log10(NMSE / P)."""
    return max(float(np.log10(one.nmse / predicted(one, weights))) for one in scored)


def rows(scored: Sequence[Scored]) -> list[list[str]]:
    """Make the rows of the table, for one kind of image."""
    groups = sorted({one.subject for one in scored if one.subject})
    fits = {}
    for left_out in ("", *groups):
        kept = [one for one in scored if one.subject and one.subject != left_out]
        weights = fit_map(kept)
        fits[left_out] = weights, bound_offset(persons(kept), weights)
    by_world: dict[str, list[Scored]] = defaultdict(list)
    for one in scored:
        by_world[one.world].append(one)
    found = []
    for world, ones in by_world.items():
        maps = [map_of(one.features, fits[one.subject][0]) for one in ones]
        shares = [100 * float((one.errors <= size).mean()) for one, size in zip(ones, maps, strict=True)]
        sizes = [float(size.mean() / one.errors.mean()) for one, size in zip(ones, maps, strict=True)]
        bounds = [predicted(one, fits[one.subject][0]) * 10 ** fits[one.subject][1] for one in ones]
        held = sum(one.nmse <= bound for one, bound in zip(ones, bounds, strict=True))
        above = fmean(10 * np.log10(bound / one.nmse) for one, bound in zip(ones, bounds, strict=True))
        who = ", ".join(sorted({one.subject for one in ones if one.subject})) or "none"
        spread = f"{min(shares):.0f} to {max(shares):.0f}"
        figures = [f"{fmean(shares):.0f}", spread, f"{fmean(sizes):.1f}", f"{held} of {len(ones)}", f"{above:.1f}"]
        found.append([world, who, str(len(ones)), *figures])
    return found


def main(
    folder: Annotated[Path, typer.Argument(help="images of the candidates, made where missing")],
    write: Annotated[bool, typer.Option(help="store the fits in the package")] = False,
    each: Annotated[int | None, typer.Option(help="scans of a kind; all by default")] = None,
) -> None:
    """Fit, print the tables, and store the fits if asked to."""
    folder.mkdir(parents=True, exist_ok=True)
    scored = [one for scan in scans(each=each) for one in score(scan, folder)]
    subjects = tuple(sorted({one.subject for one in persons(scored)}))
    models, offsets = {}, {}
    for kind in KINDS:
        of_kind = [one for one in scored if one.kind == kind]
        known = [one for one in of_kind if one.subject]
        weights = fit_map(known)
        models[kind] = dict(zip(FEATURES, weights.tolist(), strict=True))
        offsets[kind] = bound_offset(persons(known), weights)
        shown = ", ".join(f"{name} {weight:.3g}" for name, weight in models[kind].items())
        print(f"\n{kind}: a = {shown}; q = {offsets[kind]:.3f}\n")
        header = [
            "world",
            "left out",
            "images",
            "pixels covered / %",
            "range / %",
            "map over error",
            "bound held",
            "bound above NMSE / dB",
        ]
        print("\n".join(table(header, rows(of_kind), text=2)))
    if write:
        at = Path(mri_recon.methods.__file__).parent
        (at / "trust_map.json").write_text(TrustModel(models, COVERAGE, subjects, COMMAND).to_json())
        (at / "image_bound.json").write_text(BoundModel(offsets, subjects, COMMAND).to_json())


if __name__ == "__main__":
    typer.run(main)
