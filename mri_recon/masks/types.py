"""Define undersampling masks, with a receipt that describes the origin of a mask.

A mask is boolean, True where a sample was taken. A `ColumnMask` samples whole columns (phase-encoding lines, the last
axis of k-space); a `PatternMask` is any 2-D pattern. The requested and the achieved acceleration are different numbers;
a receipt contains both.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mri_recon._display import card, thumbnail
from mri_recon.errors import MaskError
from mri_recon.masks.caption import mask_caption

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = [
    "ColumnMask",
    "Mask",
    "PatternMask",
    "receipt_run",
    "run_around",
]


BoolArray: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, repr=False)
class ColumnMask:
    """Sample whole columns of k-space.

    Attributes:
        lines: bool `(phase,)`, True where the line is sampled; a read-only copy.
        kind: origin of the mask: "random", "equispaced", "fastmri-random", "file", "array" or "from-zeros".
        acceleration: the requested acceleration; None if there was no request (a mask from a file).
        num_low_frequencies: number of lines of the fully sampled centre.
        center_start: column of the first centre line; None if the mask has no fully sampled centre. The centre consists
            of the `num_low_frequencies` sampled lines from there on; a dead column between them does not count.
        seed: seed of the random numbers; None if the mask was not drawn.
        support_width: number W of columns that could have been sampled; 0 stands for all of them.

    Raises:
        MaskError: `lines` is not 1-D boolean, has no sampled line, or more lines than `support_width`.
    """

    lines: BoolArray
    kind: str = "file"
    acceleration: float | None = None
    num_low_frequencies: int = 0
    center_start: int | None = None
    seed: int | str | None = None
    support_width: int = 0

    def __post_init__(self) -> None:
        lines = np.array(self.lines)
        if lines.ndim != 1 or lines.dtype != np.bool_:
            raise MaskError(
                f"expected column lines as a 1-D boolean array, got {lines.dtype} of shape {lines.shape}: "
                "as_mask() takes other layouts"
            )
        if not lines.any():
            raise MaskError(f"expected a mask that samples something, got {lines.size} columns, none sampled")
        lines.flags.writeable = False
        object.__setattr__(self, "lines", lines)
        if self.support_width == 0:
            object.__setattr__(self, "support_width", int(lines.size))
        if not self.num_lines <= self.support_width <= lines.size:
            raise MaskError(
                f"expected a support between the {self.num_lines} sampled lines and the {lines.size} columns, "
                f"got support_width={self.support_width}"
            )

    @property
    def width(self) -> int:
        """Number of columns of k-space."""
        return int(self.lines.size)

    @property
    def array(self) -> BoolArray:
        """The lines, broadcastable to k-space."""
        return self.lines

    @property
    def num_lines(self) -> int:
        """Number of sampled columns."""
        return int(np.count_nonzero(self.lines))

    @property
    def realised_acceleration(self) -> float:
        """W / (number of sampled lines), W the columns of the support."""
        return self.support_width / self.num_lines

    @property
    def center_lines(self) -> npt.NDArray[np.intp]:
        """Columns of the fully sampled centre, int `(num_low_frequencies,)`, without dead columns between them."""
        if self.center_start is None:
            return np.empty(0, dtype=np.intp)
        found = self.center_start + np.flatnonzero(self.lines[self.center_start :])
        return found[: self.num_low_frequencies]

    def receipt(self) -> dict[str, Any]:
        """Return all data needed to describe, check and redraw this mask, ready for JSON."""
        return {
            "kind": self.kind,
            "width": self.width,
            "support_width": self.support_width,
            "lines": [int(column) for column in np.flatnonzero(self.lines)],
            "num_lines": self.num_lines,
            "requested_acceleration": self.acceleration,
            "realised_acceleration": self.realised_acceleration,
            "num_low_frequencies": self.num_low_frequencies,
            "center_start": self.center_start,
            "center_fraction_realised": self.num_low_frequencies / self.support_width,
            "seed": self.seed,
        }

    def tensor(self, device: torch.device | str | None = None) -> Tensor:
        """Return the lines as a bool tensor `(phase,)`, broadcastable to k-space."""
        import torch

        return torch.tensor(self.lines, device=device)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {mask_caption(self.receipt())}>"

    def _repr_html_(self) -> str:
        """Show the mask in a notebook."""
        return _card(self, np.broadcast_to(self.lines, (max(1, self.width // 4), self.width)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ColumnMask) and self.receipt() == other.receipt()

    def __hash__(self) -> int:
        return hash((self.kind, self.lines.tobytes()))


@dataclass(frozen=True, eq=False, repr=False)
class PatternMask:
    """Sample a general 2-D pattern, e.g. a Poisson disc.

    Attributes:
        pattern: bool `(readout, phase)`, a read-only copy.
        source: origin of the pattern, in words.

    Raises:
        MaskError: `pattern` is not 2-D boolean, or samples nothing.
    """

    pattern: BoolArray
    source: str = "array"

    def __post_init__(self) -> None:
        pattern = np.array(self.pattern)
        if pattern.ndim != 2 or pattern.dtype != np.bool_:
            raise MaskError(
                f"expected a 2-D boolean pattern (readout, phase), got shape {pattern.shape} of {pattern.dtype}: "
                "as_mask() takes other layouts"
            )
        if not pattern.any():
            raise MaskError(f"expected a mask that samples something, got an all-False pattern {pattern.shape}")
        pattern.flags.writeable = False
        object.__setattr__(self, "pattern", pattern)

    @property
    def kind(self) -> str:
        """Always "pattern"."""
        return "pattern"

    @property
    def width(self) -> int:
        """Number of columns of k-space."""
        return int(self.pattern.shape[1])

    @property
    def array(self) -> BoolArray:
        """The pattern, broadcastable to k-space."""
        return self.pattern

    @property
    def num_samples(self) -> int:
        """Number of sampled points."""
        return int(np.count_nonzero(self.pattern))

    @property
    def realised_acceleration(self) -> float:
        """(points of the grid) / (sampled points)."""
        return self.pattern.size / self.num_samples

    def receipt(self) -> dict[str, Any]:
        """Return the identity of this mask, ready for JSON, with the SHA-256 of its packed bits."""
        return {
            "kind": self.kind,
            "source": self.source,
            "shape": [int(n) for n in self.pattern.shape],
            "width": self.width,
            "num_samples": self.num_samples,
            "requested_acceleration": None,
            "realised_acceleration": self.realised_acceleration,
            "seed": None,
            "sha256": hashlib.sha256(np.packbits(self.pattern).tobytes()).hexdigest(),
        }

    def tensor(self, device: torch.device | str | None = None) -> Tensor:
        """Return the pattern as a bool tensor `(readout, phase)`, broadcastable to k-space."""
        import torch

        return torch.tensor(self.pattern, device=device)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {mask_caption(self.receipt())}>"

    def _repr_html_(self) -> str:
        """Show the mask in a notebook."""
        return _card(self, self.pattern)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PatternMask) and self.receipt() == other.receipt()

    def __hash__(self) -> int:
        return hash(self.pattern.tobytes())


Mask: TypeAlias = ColumnMask | PatternMask


def _card(mask: Mask, sampled: BoolArray) -> str:
    picture = ("sampled: white", thumbnail(sampled.astype(np.float32), white=1.0))
    return card(type(mask).__name__, [("sampling", mask_caption(mask.receipt()))], pictures=[picture])


def run_around(lines: BoolArray, index: int) -> slice:
    """Find the run of True that contains `index`; empty if `lines[index]` is False."""
    if not lines[index]:
        return slice(index, index)
    gaps = np.flatnonzero(~lines)
    before, after = gaps[gaps < index], gaps[gaps > index]
    return slice(int(before[-1]) + 1 if before.size else 0, int(after[0]) if after.size else int(lines.size))


def receipt_run(mask: ColumnMask) -> slice | None:
    """Return the columns of the fully sampled centre as a slice, or None if the mask has none."""
    center = mask.center_lines
    if center.size == 0:
        return None
    # The centre counts columns of the support. If dead columns lie inside, take the longest run between them; of
    # equally long runs, the one nearest to N//2.
    runs = np.split(center, np.flatnonzero(np.diff(center) > 1) + 1)
    longest = max(runs, key=lambda run: (len(run), -int(np.abs(run - mask.width // 2).min(initial=mask.width))))
    return slice(int(longest[0]), int(longest[-1]) + 1) if longest.size else None
