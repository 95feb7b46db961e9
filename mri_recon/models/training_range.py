"""Describe the range of inputs in a network's training, and find the properties of an input outside it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from mri_recon.masks.arrangement import column_arrangement
from mri_recon.masks.calibration_region import center_columns
from mri_recon.masks.convert import as_mask
from mri_recon.masks.types import ColumnMask, Mask

__all__ = ["ANY_SAMPLING", "MANY_SAMPLINGS", "RANDOM_COLUMNS", "Envelope"]

RANDOM_COLUMNS = "columns: dense centre, the rest at random"
MANY_SAMPLINGS = "many kinds: random, equispaced and variable-density columns, partial Fourier, 2-D patterns"
ANY_SAMPLING = "as in the user's files"


class Envelope(BaseModel):
    """Describe the range of inputs in the training of a network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    acceleration: tuple[float, float] = Field(description="smallest and largest acceleration")
    num_coils: tuple[int, int] = Field(description="smallest and largest number of coils")
    anatomy: str = Field(description="parts of the body")
    sampling: str = Field(default=RANDOM_COLUMNS, description="arrangement of the samples")
    center_fraction: tuple[float, float] | None = Field(
        default=None, description="fully sampled columns at the centre over all columns of the support"
    )
    snr: tuple[float, float] | None = Field(
        default=None, description="bright signal over sqrt(E|n|^2) of one sample, as `departures` is told it"
    )

    def departures(self, mask: Mask, *, num_coils: int, snr: float | None = None) -> list[str]:
        """List the properties of this input that are outside the training, one sentence each; empty if there are none.

        The achieved acceleration may differ from the requested one by rounding, and the centre has whole columns; hence
        a margin of five per cent. The noise level is an estimate: it counts as outside only if it is off by half.
        `column_arrangement` classifies the arrangement of the columns if there are enough of them. A wider centre, less
        noise and the anatomy are not checked.

        Args:
            mask: the sampling mask.
            num_coils: number of coils after compression.
            snr: signal-to-noise ratio of the input; None if unknown.
        """
        notes = []
        low, high = self.acceleration
        acceleration = mask.realised_acceleration
        if not low / 1.05 <= acceleration <= high * 1.05:
            notes.append(f"acceleration {acceleration:.2f} is outside the training range {low:g} to {high:g}")
        few, many = self.num_coils
        if not few <= num_coils <= many:
            notes.append(f"{num_coils} coils are outside the training range {few} to {many}")
        if self.sampling.startswith("columns"):
            notes += self._sampling_departures(mask)
        if snr is not None and self.snr is not None and snr < self.snr[0] / 1.5:
            notes.append(f"signal-to-noise ratio {snr:.1f} is outside the training range {self.snr[0]:g} and more")
        return notes

    def _sampling_departures(self, mask: Mask) -> list[str]:
        if not isinstance(mask, ColumnMask):
            mask = as_mask(mask.pattern, mask.pattern.shape)  # columns where all rows are alike
        if not isinstance(mask, ColumnMask):
            return [f"a two-dimensional sampling pattern is outside the training ({self.sampling})"]
        notes = []
        arrangement = column_arrangement(mask)
        if arrangement != "random":
            notes.append(f"columns {_WORDS[arrangement]} are outside the training ({self.sampling})")
        centre = center_columns(mask)
        width = centre.stop - centre.start
        if width == mask.num_lines < mask.support_width:
            notes.append(f"a dense centre and nothing outside it is outside the training ({self.sampling})")
        if self.center_fraction is not None:
            narrowest = self.center_fraction[0]
            if width + 0.5 < narrowest * mask.support_width:
                notes.append(
                    f"a dense centre of {100 * width / mask.support_width:.1f} % of the columns is narrower than in "
                    f"the training ({100 * narrowest:g} % and more)"
                )
        return notes


_WORDS = {
    "equally spaced": "at equal distances",
    "on one side": "more on one side of the centre than on the other",
    "denser near the centre": "that thin out from the centre",
    "denser far from the centre": "that thin out towards the centre",
}
