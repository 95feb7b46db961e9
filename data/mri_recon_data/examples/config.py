"""The configuration of training data: their source, target, size and simulation."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mri_recon_data.examples.targets import CsConfig, SsduConfig, Target
from mri_recon_data.examples.worlds import WorldsConfig
from mri_recon_data.simulation.image_slice import SimulationConfig
from mri_recon_data.simulation.sampling import SamplingConfig

__all__ = ["DataConfig"]


class DataConfig(BaseModel):
    """Source, target, size and simulation of the examples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: str = Field(default="", description="folder of fastMRI files; empty: the open sets of the data registry")
    split_file: str = Field(
        default="", description="JSON {train: [file, ...], validation: [...]} for `root`; empty: by person"
    )
    validation_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="share of persons kept for validation of `root`"
    )
    hold_out: str = Field(
        default="",
        description="a training person of the registry to leave out, to be measured afterwards: leave-one-person-out",
    )
    raw_probability: float = Field(default=0.25, ge=0, le=1, description="share of raw examples from the registry")
    volume_probability: float = Field(default=0.4, ge=0, le=1, description="share of the isotropic volume among images")
    target: Target = Field(default="truth", description="truth, cs or ssdu, see docs/training/targets.md")
    cs: CsConfig = CsConfig()
    ssdu: SsduConfig = SsduConfig()
    problems: int = Field(default=0, ge=0, description="number of different slices and masks; 0: new ones at each step")
    rows: int = Field(default=64, ge=16, description="readout rows of an example")
    full_probability: float = Field(
        default=0.06, ge=0, le=1, description="share of examples with up to `full_rows` rows"
    )
    full_rows: int = Field(default=256, ge=16, description="largest number of rows")
    validation_slices: int = Field(default=24, ge=1, description="number of validation slices, each at 4x and 8x")
    workers: int = Field(default=1, ge=0, description="processes that prepare examples")
    sampling: SamplingConfig = SamplingConfig()
    simulation: SimulationConfig = SimulationConfig()
    worlds: WorldsConfig | None = Field(
        default=None, description="examples of many worlds in place of [data.simulation]; not for the files of `root`"
    )

    @model_validator(mode="after")
    def _truth_of_worlds(self) -> DataConfig:
        if self.worlds is not None and not self.root and (self.target != "truth" or self.problems):
            raise ValueError(
                f"data.worlds: expected data.target=truth and data.problems=0, got {self.target} and {self.problems}: "
                "leave out [data.worlds] for them"
            )
        return self
