"""Write the page of the test with lesions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mri_recon._system.files import write_atomically
from mri_recon.notice import RESEARCH_ONLY
from mri_recon_training.evaluation.lesions.figures import draw_invented, draw_lost
from mri_recon_training.evaluation.lesions.run import FULL, LesionRun
from mri_recon_training.evaluation.lesions.summary import (
    KEPT,
    REFERENCE,
    Cell,
    against_reference,
    cells,
    invented,
)
from mri_recon_training.markdown import Picture, table

__all__ = ["lesion_page", "summary_lines", "write_lesion_page"]

HEADS = ["R", "contrast", "width"]


def write_lesion_page(run: LesionRun, path: Path, *, command: str, commit: str) -> None:
    """Write the page, and its pictures into the folder `images` beside it.

    Args:
        run: the results.
        path: of the page.
        command: that made it.
        commit: of the project at the start of the run.

    Raises:
        MethodError: Matplotlib is not installed.
        OutputError: a file cannot be written.
    """
    folder = path.parent / "images"
    folder.mkdir(exist_ok=True)
    pictures = [draw(run, folder, path.stem) for draw in (draw_lost, draw_invented)]
    text = lesion_page(run, [one for one in pictures if one is not None], command=command, commit=commit)
    write_atomically(path, text.encode())


def lesion_page(run: LesionRun, pictures: Sequence[Picture], *, command: str, commit: str) -> str:
    """Give the page as Markdown."""
    config = run.config
    methods = [FULL, *config.methods]
    found = cells(run, methods)
    lines = [
        "# Lesions kept, lost and invented",
        "",
        f"Split `{config.split}` of the [data registry](../training/data.md), **simulated** k-space. {RESEARCH_ONLY}",
        "",
        "## Summary",
        "",
        *summary_lines(run, methods),
        "",
        "## How it was made",
        "",
        *_how(run, command, commit),
        "",
        "## Lesions lost",
        "",
        f"Share of the lesions of which less than {KEPT:.0%} of the contrast reaches the image: the measured contrast "
        "with the lesion minus that without, of the same noise and mask. Smoothing loses contrast too.",
        "",
        *_table(found, methods, lambda cell: f"{cell.lost[0]:.0%} ({cell.lost[1]:.0%} to {cell.lost[2]:.0%})"),
        "",
        "Median share of the contrast that reaches the image:",
        "",
        *_table(found, methods, lambda cell: f"{cell.recovered:.0%}"),
        "",
        "## Detectability",
        "",
        "Area under the ROC curve (AUROC) of the matched filter on the difference to an earlier image of "
        "the same subject without lesions, which has another mask and other noise. 0.5 is guessing, 1 is certain:",
        "",
        *_table(found, methods, lambda cell: _with_interval(cell.difference)),
        "",
        "AUROC of the matched filter on the image alone. The observer does not know the anatomy, which looks like "
        "lesions too, so that the fully sampled image has no 1 either:",
        "",
        *_table(found, methods, lambda cell: _with_interval(cell.image)),
        "",
        "## Lesions invented",
        "",
        "Spots in images without lesions that measure at least half the contrast of a lesion, where the truth measures "
        "less than a quarter everywhere within the lesion's width: mean number an image. Noise makes some too: those "
        "of the fully sampled image.",
        "",
        *_table(
            found,
            methods,
            lambda cell: f"{invented(run, cell.acceleration, cell.method, cell.contrast, cell.width):.1f}",
        ),
        "",
    ]
    if pictures:
        lines += ["## Pictures", "", *(line for one in pictures for line in one.lines())]
    return "\n".join(lines).rstrip("\n") + "\n"


def summary_lines(run: LesionRun, methods: Sequence[str]) -> Iterator[str]:
    """Say of every learned method which lesions it loses that compressed sensing keeps, and the reverse."""
    for one in against_reference(run, methods):
        yield (
            f"- R = {one.acceleration:g}, `{one.method}`: of {one.total} lesions it lost {one.lost} that `{REFERENCE}` "
            f"kept, and kept {one.kept} that `{REFERENCE}` lost."
        )
        worse, better = ([], [])  # type: tuple[list[str], list[str]]
        for (contrast, width), (value, low, high) in one.difference.items():
            text = f"contrast {contrast:+g}, {width:g} pixels: {value:+.2f} ({low:+.2f} to {high:+.2f})"
            if high < 0:
                worse.append(text)
            elif low > 0:
                better.append(text)
        if worse:
            yield f"  Less detectable than by `{REFERENCE}` (AUROC of differences): {'; '.join(worse)}."
        if better:
            yield f"  More detectable than by `{REFERENCE}`: {'; '.join(better)}."
        if not (worse or better):
            yield f"  No contrast and width is more or less detectable than by `{REFERENCE}` beyond chance."


def _how(run: LesionRun, command: str, commit: str) -> Iterator[str]:
    config = run.config
    yield from ["Made entirely by this command; edit nothing by hand:", "", "```", command, "```", ""]
    yield f"- Commit `{commit}`. Subjects: {', '.join(f'`{one.person}` ({one.name})' for one in run.subjects)}."
    yield (
        f"- The middle slice of each image, with a smooth phase and {config.array.text}, SNR {config.array.snr:g}; "
        f"masks and noise {', '.join(map(str, config.seeds))}; accelerations "
        f"{', '.join(f'{one:g}' for one in config.accelerations)}."
    )
    yield (
        f"- {config.num_places} Gaussian lesions in an image, all at once, at least 22 pixels apart, in the calmer "
        f"half of the object; full widths at half maximum {', '.join(f'{one:g}' for one in config.widths)} pixels in "
        "turn; "
        f"contrasts {', '.join(f'{one:+g}' for one in config.contrasts)} of the bright signal (99.5th percentile)."
    )
    yield (
        "- The observer knows lesion and place: a matched filter, the lesion minus its mean over a window, applied to "
        "the magnitude image. Its result is a contrast in units of the bright signal."
    )
    yield (
        f"- In brackets 95 % intervals by bootstrap over places, {config.num_places * len(run.subjects)} in all. "
        "Places of one image are not independent, and so few subjects say little about others."
    )
    yield f"- `{FULL}`: root sum of squares of the noisy full k-space, the best that can be expected."


def _table(found: Sequence[Cell], methods: Sequence[str], text: Callable[[Cell], str]) -> list[str]:
    keys = list(dict.fromkeys((cell.acceleration, cell.contrast, cell.width) for cell in found))
    rows = []
    for key in keys:
        by_method = {cell.method: cell for cell in found if (cell.acceleration, cell.contrast, cell.width) == key}
        heads = [f"{key[0]:g}", f"{key[1]:+g}", f"{key[2]:g}"]
        rows.append([*heads, *(text(by_method[name]) for name in methods)])
    return table([*HEADS, *methods], rows, text=0)


def _with_interval(value: tuple[float, float, float]) -> str:
    return f"{value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})"
