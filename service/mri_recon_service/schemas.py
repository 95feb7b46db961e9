"""Define the fields of requests and answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mri_recon.notice import RESEARCH_ONLY

__all__ = [
    "CompareFields",
    "ComparisonAnswer",
    "ImageGeometry",
    "Images",
    "InferenceLive",
    "InferenceModel",
    "InferenceModelReady",
    "InferenceReady",
    "InferenceServer",
    "InferenceTensor",
    "JobDelivery",
    "JobDocument",
    "JobLinks",
    "JobList",
    "JobProgress",
    "JobRequest",
    "Live",
    "Marked",
    "MaskFields",
    "MaskReceipt",
    "MethodCost",
    "MethodImages",
    "ProblemDocument",
    "ProblemInfo",
    "Ready",
    "ReconstructionFields",
    "Row",
    "ScanFields",
    "ScanSummary",
    "ValidateFields",
    "Validation",
]


class ScanFields(BaseModel):
    """Fields of every request with a scan: how to read it, and which mask to use."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    acceleration: float | None = Field(
        default=None,
        description="Acceleration R of a drawn mask: it samples one R-th of the acquired columns.",
        examples=[4],
    )
    center_fraction: float | None = Field(
        default=None, description="Fraction of the columns kept at the centre [0.08 below 6x, else 0.04]."
    )
    num_low_frequencies: int | None = Field(
        default=None, description="Number of columns kept at the centre, instead of a fraction."
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Random seed of the drawn mask.")
    mask_kind: Literal["random", "equispaced"] = Field(default="random", description="Kind of the drawn mask.")
    mask: Literal["file", "from-zeros"] | None = Field(
        default=None,
        description="A mask as a file (.npy, .npz, .mat, fastMRI .h5), the text `file` for the scan's own mask, or "
        "`from-zeros` to treat the zeros of k-space as not sampled. "
        "Without mask and acceleration, the scan's own mask is used if it has one.",
    )
    axes: str | None = Field(
        default=None, max_length=200, description="The file's axes in order, e.g. `coil readout phase`."
    )
    variable: str | None = Field(
        default=None,
        max_length=200,
        description="Name of the array in a .npz or .mat file, or of the k-space in a .dat file.",
    )
    slice: int | None = Field(
        default=None, ge=0, description="Index of the slice in pictures, from 0 [the middle slice]."
    )
    check: Literal["holdout"] | None = Field(
        default=None,
        description="`holdout`: predict measured lines that the method was not shown, which takes four runs of it. "
        "The figures are in `info.holdout` of each result, a warning is the first of `info.warnings`.",
    )
    deadline_seconds: float | None = Field(
        default=None, gt=0, description="Stop the work this many seconds after the request's arrival."
    )


class ReconstructionFields(ScanFields):
    """Fields of `POST /v1/reconstructions`. Every further field is an option of the method."""

    method: str = Field(max_length=100, description="Name of a method that /v1/models lists.", examples=["cs-wavelet"])
    deliver: str | None = Field(
        default=None,
        max_length=64,
        description="Name of a target that the operator registered, to which the result is sent as DICOM after the "
        "job. The request then becomes a job.",
    )


class CompareFields(ScanFields):
    """Fields of `POST /v1/compare`. The field `METHOD.OPTION` sets an option of one method."""

    methods: str = Field(
        default="zero-filled,cs-wavelet,unet,unrolled",
        max_length=1000,
        description="Names of methods, separated by commas.",
    )


class ValidateFields(ScanFields):
    """Fields of `POST /v1/validate`: those of a reconstruction or of a comparison, options included."""

    method: str | None = Field(default=None, max_length=100, description="As in /v1/reconstructions.")
    methods: str = Field(
        default="zero-filled,cs-wavelet,unet,unrolled", max_length=1000, description="As in /v1/compare."
    )


class MaskFields(BaseModel):
    """Fields of `/v1/masks`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    width: int = Field(ge=1, le=65536, description="Number of columns of k-space.", examples=[320])
    acceleration: float = Field(description="Acceleration R: one R-th of the columns is sampled.", examples=[4])
    center_fraction: float | None = Field(
        default=None, description="Fraction of the columns kept at the centre [0.08 below 6x, else 0.04]."
    )
    num_low_frequencies: int | None = Field(
        default=None, description="Number of columns kept at the centre, instead of a fraction."
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Seed of the mask.")
    mask_kind: Literal["random", "equispaced"] = Field(default="random", description="Kind of the mask.")
    height: int = Field(default=64, ge=1, le=4096, description="Number of rows of the picture.")
    support: str | None = Field(
        default=None,
        max_length=2000,
        pattern=r"^\d{1,5}-\d{1,5}(,\d{1,5}-\d{1,5})*$",
        description="Acquired columns as ranges from 0, ends included, as `scan.support` of /v1/validate [all].",
        examples=["5-121"],
    )


class Marked(BaseModel):
    """An answer that carries the research-only mark."""

    research_only: str = RESEARCH_ONLY


class Row(BaseModel):
    """Result of one method. Without a reference, metrics are null. For an image equal to it, `psnr` is null too."""

    file: str
    acceleration: float | None
    seed: int | str | None
    method: str
    nmse: float | None
    psnr: float | None
    ssim: float | None
    seconds: float
    info: dict[str, Any]


Png = Annotated[str, Field(description="An 8-bit gray PNG, base64.", json_schema_extra={"contentEncoding": "base64"})]


class MethodImages(BaseModel):
    """Pictures of one method."""

    image: Png
    error: Png | None = Field(description="|image - reference|; null without a reference.")


class Images(BaseModel):
    """One slice of the reference and of each method in a common window, and error maps on a common scale."""

    slice: int
    num_slices: int
    size: tuple[int, int] = Field(description="Height and width.")
    window: tuple[float, float] = Field(description="Magnitudes shown as black and as white in every image.")
    error_window: tuple[float, float] | None = Field(
        description="Errors shown as black and as white in every error map."
    )
    reference: Png | None
    methods: dict[str, MethodImages]


class ComparisonAnswer(Marked):
    """Several methods on the same undersampled k-space."""

    convention: str
    mask: dict[str, Any] = Field(description="The mask's receipt.")
    results: list[Row]
    images: Images
    provenance: dict[str, dict[str, Any]] = Field(
        description="For each method, the record from which `mri-recon replay` reproduces its image."
    )


class ProblemDocument(BaseModel):
    """RFC 9457 problem details. Some codes have further members, such as `valid` or `errors`."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str


class JobProgress(BaseModel):
    """Progress of a method. Members that the method does not know are null. The stage `done` ends a method."""

    method: str
    stage: str
    iteration: int
    total: int | None
    objective: float | None
    relative_gap: float | None
    parts: list[str] = Field(
        default=[],
        description="Parts of a comparison that are done, to be fetched from `links.parts` while it runs: `scan` (the "
        "reference, the mask and the sampled k-space), then the methods.",
    )


class JobRequest(BaseModel):
    """What a job was asked for."""

    file: str = Field(description="Name of the scan's file, made by the server; its suffix is that of the upload.")
    sha256: str = Field(description="SHA-256 of the scan.")
    fields: dict[str, str] = Field(description="Fields of the request, options included.")
    idempotency_key: str | None = Field(description="`Idempotency-Key` of the request.")


class JobDelivery(BaseModel):
    """The delivery of a job's result as DICOM to a registered target."""

    target: str = Field(description="Name of the target.")
    state: Literal["waiting", "sending", "delivered", "failed", "cancelled"] = Field(
        description="`waiting` also before the job has ended; `cancelled` if the job did not succeed."
    )
    attempts: int
    stored: int = Field(description="Instances that the target stored in the last attempt.")
    instances: int = Field(description="Instances of the result; 0 before the first attempt.")
    reason: str = Field(description="Why the last attempt failed, or a remark of the target.")
    next_attempt: str | None = Field(description="Earliest time of the next attempt.")
    finished: str | None


class JobLinks(BaseModel):
    """Addresses of a job."""

    self: str
    events: str
    result: str
    parts: str = Field(description="Address of a part of a running comparison, with `{name}` for its name.")
    methods: str = Field(description="Address of the file of one method of a comparison, with `{method}` for its name.")


class JobDocument(Marked):
    """A job and its state."""

    id: str
    kind: Literal["reconstruction", "comparison"]
    request: JobRequest
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    created: str = Field(description="Times are ISO 8601 in UTC.")
    started: str | None = Field(description="Start of the last attempt.")
    finished: str | None
    expires: str | None = Field(description="Time at which the result is deleted.")
    expired: bool = Field(description="Whether the result has been deleted.")
    position: int | None = Field(description="Place in the queue, 1 for the next job; null unless queued.")
    progress: JobProgress | None
    problem: ProblemDocument | None = Field(description="Reason of a failure.")
    delivery: JobDelivery | None = Field(description="Delivery of the result; null unless `deliver` asked for one.")
    links: JobLinks


class JobList(Marked):
    """Jobs of the client, the newest first."""

    jobs: list[JobDocument]
    next: str | None = Field(description="Address of the next, older jobs; null after the oldest.")


class MaskReceipt(Marked):
    """Description of a mask of columns: how it was drawn, and the columns that it samples."""

    kind: str
    width: int
    support_width: int
    lines: list[int] = Field(description="The sampled columns, from 0.")
    num_lines: int
    requested_acceleration: float | None
    realised_acceleration: float
    num_low_frequencies: int
    center_start: int | None
    center_fraction_realised: float
    seed: int | str | None


class ImageGeometry(BaseModel):
    """Voxel size and orientation of the images of a scan."""

    voxel_size: tuple[float, float, float] = Field(description="Size in mm along row index, column index and slice.")
    toward: tuple[str, str] | None = Field(
        description="Sides of the patient to which increasing column and row index run, e.g. `L` and `P`; null if the "
        "orientation is not known, or its signs follow a convention that nobody verified for this kind of file."
    )
    sides_assumed: bool = Field(description="Whether the image may be mirrored: its signs are assumed.")
    description: str = Field(description="The orientation in words.")


class ScanSummary(BaseModel):
    """Content of a file."""

    format: str
    axes: str
    axes_assumed: bool = Field(
        description="Whether the axes were assumed because the file does not name them; the field `axes` names them."
    )
    slices: int
    coils: int
    readout: int
    phase: int
    reconstruction_size: tuple[int, int]
    decoded_bytes: int = Field(description="Bytes of the k-space as complex64.")
    support: str = Field(description="Acquired columns as ranges from 0, ends included, e.g. `5-121`.")
    support_columns: int = Field(description="Number of columns that were acquired, or would be without undersampling.")
    fully_sampled: bool
    own_mask: dict[str, Any] | None = Field(description="Receipt of the file's own mask.")
    reference: str = Field(description="Origin of the reference that images are compared with.")
    simulated: bool
    noise_sigma: float | None = Field(description="sqrt(E|n|^2) of one sample, from the edge of k-space.")
    geometry: ImageGeometry | None = Field(description="Voxel size and orientation; null if the file has none.")
    note: str
    warnings: list[str] = Field(description="Suspicious or assumed properties of the scan, with advice.")


class MethodCost(BaseModel):
    """Estimated memory and time of one method on a scan."""

    method: str
    memory_bytes: int
    seconds: float | None = Field(description="Time with default options on this machine; null if unknown.")


class Validation(Marked):
    """Effect that a request would have."""

    accepted: bool
    problem: ProblemDocument | None = Field(description="Reason for which the request would be refused.")
    answered: Literal["at-once", "as-job", "refused"] = Field(
        description="Form of the answer without `Prefer` and `Idempotency-Key`."
    )
    files: dict[str, dict[str, Any]] = Field(description="`sha256` and `bytes` of each file.")
    scan: ScanSummary
    mask: dict[str, Any] | None = Field(description="Receipt of the mask; null if there can be no mask.")
    methods: list[MethodCost]
    memory_bytes: int = Field(description="Memory of the largest method; methods run one after the other.")
    seconds: float | None = Field(description="Time of all methods together.")


class InferenceServer(BaseModel):
    """Server metadata of the Open Inference Protocol."""

    name: str = "mri-recon"
    version: str
    extensions: list[str] = []


class InferenceLive(BaseModel):
    """The process answers."""

    live: Literal[True] = True


class InferenceReady(BaseModel):
    """The server is ready."""

    ready: Literal[True] = True


class InferenceModelReady(BaseModel):
    """A model is ready."""

    name: str
    ready: Literal[True] = True


class InferenceTensor(BaseModel):
    """Metadata of a tensor. The size -1 stands for any size."""

    name: str
    datatype: str
    shape: list[int]


class InferenceModel(BaseModel):
    """Model metadata of the Open Inference Protocol."""

    name: str
    versions: list[str]
    platform: str = "mri-recon_pytorch"
    inputs: list[InferenceTensor]
    outputs: list[InferenceTensor]
    parameters: dict[str, str]


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """Models are loaded and have run once."""

    status: Literal["ready"] = "ready"
    models: list[str]


class ProblemInfo(BaseModel):
    """One kind of problem."""

    code: str
    status: int
    title: str
    cure: str
