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
    "MethodInfo",
    "MethodResult",
    "ProblemDocument",
    "ProblemInfo",
    "Ready",
    "ReconstructionFields",
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

    research_only: str = Field(default=RESEARCH_ONLY, description="The notice that results are for research only.")


class MethodInfo(BaseModel):
    """Report of a method. What it has besides the warnings depends on the method."""

    model_config = ConfigDict(extra="allow")

    warnings: list[str] = Field(
        default=[], description="Problems of the scan or of this result, each with advice; empty without any."
    )


class MethodResult(BaseModel):
    """Result of one method. Without a reference, metrics are null. For an image equal to it, `psnr` is null too."""

    file: str = Field(description="Name of the scan's file, made by the server.")
    acceleration: float | None = Field(description="Acceleration that was asked for; null if the mask was not drawn.")
    seed: int | str | None = Field(description="Seed of the drawn mask.")
    method: str = Field(description="Name of the method.")
    nmse: float | None = Field(description="Normalised mean squared error over the volume.")
    psnr: float | None = Field(description="Peak signal-to-noise ratio in dB over the volume.")
    ssim: float | None = Field(description="Structural similarity, the mean over the slices.")
    seconds: float = Field(description="Time of the method.")
    info: MethodInfo = Field(description="The method's report: iterations, stop reason, model, warnings.")


Png = Annotated[str, Field(description="An 8-bit gray PNG, base64.", json_schema_extra={"contentEncoding": "base64"})]


class MethodImages(BaseModel):
    """Pictures of one method."""

    image: Png
    error: Png | None = Field(description="|image - reference|; null without a reference.")


class Images(BaseModel):
    """One slice of the reference and of each method in a common window, and error maps on a common scale."""

    slice: int = Field(description="Index of the slice, from 0.")
    num_slices: int = Field(description="Number of slices of the scan.")
    size: tuple[int, int] = Field(description="Height and width.")
    window: tuple[float, float] = Field(description="Magnitudes shown as black and as white in every image.")
    error_window: tuple[float, float] | None = Field(
        description="Errors shown as black and as white in every error map."
    )
    reference: Png | None = Field(description="Picture of the reference; null without one.")
    methods: dict[str, MethodImages] = Field(description="Pictures by method.")


class ComparisonAnswer(Marked):
    """Several methods on the same undersampled k-space."""

    convention: str = Field(description="What the metrics mean.")
    mask: dict[str, Any] = Field(description="The mask's receipt.")
    results: list[MethodResult] = Field(description="One row for each method.")
    images: Images = Field(description="Pictures of one slice.")
    provenance: dict[str, dict[str, Any]] = Field(
        description="For each method, the record from which `mri-recon replay` reproduces its image."
    )


class ProblemDocument(BaseModel):
    """RFC 9457 problem details. Some codes have further members, such as `valid` or `errors`."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Address of the description of this kind of problem.")
    title: str = Field(description="Summary, the same for every occurrence.")
    status: int = Field(description="HTTP status.")
    code: str = Field(description="Stable code, which /problems lists.")
    detail: str = Field(description="What was expected, what came, and what to do.")
    request_id: str = Field(description="Identifier of the request, by which the operator finds it in the log.")


class JobProgress(BaseModel):
    """Progress of a method. Members that the method does not know are null. The stage `done` ends a method."""

    method: str = Field(description="Name of the method.")
    stage: str = Field(description="`prepare`, `maps`, `iterate`, `adapt`, `network`, `check`, `candidates` or `done`.")
    iteration: int = Field(description="Iterations, slices or runs that are completed in this stage.")
    total: int | None = Field(description="Largest possible value of `iteration`; falls where a slice needs fewer.")
    objective: float | None = Field(description="Latest known objective.")
    relative_gap: float | None = Field(description="Latest known relative duality gap.")
    fraction: float | None = Field(
        default=None,
        description="Share of the stage that is done, from 0 to 1, which never falls, where `total` does; else null.",
    )
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
    attempts: int = Field(description="Number of attempts so far.")
    stored: int = Field(description="Instances that the target stored in the last attempt.")
    instances: int = Field(description="Instances of the result; 0 before the first attempt.")
    reason: str = Field(description="Why the last attempt failed, or a remark of the target.")
    next_attempt: str | None = Field(description="Earliest time of the next attempt.")
    finished: str | None = Field(description="End of the delivery.")


class JobLinks(BaseModel):
    """Addresses of a job."""

    self: str = Field(description="Address of the job.")
    events: str = Field(description="Address of its events.")
    result: str = Field(description="Address of its result.")
    parts: str = Field(description="Address of a part of a running comparison, with `{name}` for its name.")
    methods: str = Field(description="Address of the file of one method of a comparison, with `{method}` for its name.")


class JobDocument(Marked):
    """A job and its state."""

    id: str = Field(description="Identifier of the job.")
    kind: Literal["reconstruction", "comparison"] = Field(description="Kind of the work.")
    request: JobRequest = Field(description="What the job was asked for.")
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"] = Field(
        description="State of the job; the last three are final."
    )
    created: str = Field(description="Times are ISO 8601 in UTC.")
    started: str | None = Field(description="Start of the last attempt.")
    finished: str | None = Field(description="End of the job.")
    expires: str | None = Field(description="Time at which the result is deleted.")
    expired: bool = Field(description="Whether the result has been deleted.")
    position: int | None = Field(description="Place in the queue, 1 for the next job; null unless queued.")
    progress: JobProgress | None = Field(description="Latest progress; null before the first.")
    problem: ProblemDocument | None = Field(description="Reason of a failure.")
    delivery: JobDelivery | None = Field(description="Delivery of the result; null unless `deliver` asked for one.")
    links: JobLinks = Field(description="Addresses of the job.")


class JobList(Marked):
    """Jobs of the client, the newest first."""

    jobs: list[JobDocument] = Field(description="The jobs.")
    next: str | None = Field(description="Address of the next, older jobs; null after the oldest.")


class MaskReceipt(Marked):
    """Description of a mask of columns: how it was drawn, and the columns that it samples."""

    kind: str = Field(description="Kind of the mask.")
    width: int = Field(description="Number of columns of k-space.")
    support_width: int = Field(description="Number of acquired columns, of which the mask samples some.")
    lines: list[int] = Field(description="The sampled columns, from 0.")
    num_lines: int = Field(description="Number of sampled columns.")
    requested_acceleration: float | None = Field(description="Acceleration that was asked for.")
    realised_acceleration: float = Field(description="Acquired columns over sampled ones.")
    num_low_frequencies: int = Field(description="Number of columns of the fully sampled centre.")
    center_start: int | None = Field(description="First column of the centre.")
    center_fraction_realised: float = Field(description="Columns of the centre over acquired ones.")
    seed: int | str | None = Field(description="Seed of the mask.")


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

    format: str = Field(description="Format of the file.")
    axes: str = Field(description="Axes of the array in the file.")
    axes_assumed: bool = Field(
        description="Whether the axes were assumed because the file does not name them; the field `axes` names them."
    )
    slices: int = Field(description="Number of slices.")
    coils: int = Field(description="Number of coils.")
    readout: int = Field(description="Number of samples of a readout.")
    phase: int = Field(description="Number of columns, which are phase-encoding lines.")
    reconstruction_size: tuple[int, int] = Field(description="Height and width of the image.")
    decoded_bytes: int = Field(description="Bytes of the k-space as complex64.")
    support: str = Field(description="Acquired columns as ranges from 0, ends included, e.g. `5-121`.")
    support_columns: int = Field(description="Number of columns that were acquired, or would be without undersampling.")
    fully_sampled: bool = Field(description="Whether every acquired column is there.")
    own_mask: dict[str, Any] | None = Field(description="Receipt of the file's own mask.")
    reference: str = Field(description="Origin of the reference that images are compared with.")
    simulated: bool = Field(description="Whether the file says that it is simulated.")
    noise_sigma: float | None = Field(description="sqrt(E|n|^2) of one sample, from the edge of k-space.")
    geometry: ImageGeometry | None = Field(description="Voxel size and orientation; null if the file has none.")
    note: str = Field(description="Note in the file.")
    warnings: list[str] = Field(description="Suspicious or assumed properties of the scan, with advice.")


class MethodCost(BaseModel):
    """Estimated memory and time of one method on a scan."""

    method: str = Field(description="Name of the method.")
    memory_bytes: int = Field(description="Upper bound of the memory.")
    seconds: float | None = Field(description="Time with default options on this machine; null if unknown.")


class Validation(Marked):
    """Effect that a request would have."""

    accepted: bool = Field(description="Whether the request would be accepted.")
    problem: ProblemDocument | None = Field(description="Reason for which the request would be refused.")
    answered: Literal["at-once", "as-job", "refused"] = Field(
        description="Form of the answer without `Prefer` and `Idempotency-Key`."
    )
    files: dict[str, dict[str, Any]] = Field(description="`sha256` and `bytes` of each file.")
    scan: ScanSummary = Field(description="Content of the scan.")
    mask: dict[str, Any] | None = Field(description="Receipt of the mask; null if there can be no mask.")
    methods: list[MethodCost] = Field(description="Cost of each method.")
    memory_bytes: int = Field(description="Memory of the largest method; methods run one after the other.")
    seconds: float | None = Field(description="Time of all methods together.")


class InferenceServer(BaseModel):
    """Server metadata of the Open Inference Protocol."""

    name: str = Field(default="mri-recon", description="Name of the server.")
    version: str = Field(description="Version of the server.")
    extensions: list[str] = Field(default=[], description="Extensions of the protocol; there are none.")


class InferenceLive(BaseModel):
    """The process answers."""

    live: Literal[True] = Field(default=True, description="Whether the process answers.")


class InferenceReady(BaseModel):
    """The server is ready."""

    ready: Literal[True] = Field(default=True, description="Whether the server is ready.")


class InferenceModelReady(BaseModel):
    """A model is ready."""

    name: str = Field(description="Name of the model.")
    ready: Literal[True] = Field(default=True, description="Whether the model is ready.")


class InferenceTensor(BaseModel):
    """Metadata of a tensor. The size -1 stands for any size."""

    name: str = Field(description="Name of the tensor.")
    datatype: str = Field(description="Type of its numbers.")
    shape: list[int] = Field(description="Its shape.")


class InferenceModel(BaseModel):
    """Model metadata of the Open Inference Protocol."""

    name: str = Field(description="Name of the model.")
    versions: list[str] = Field(description="Beginning of the SHA-256 of its weights.")
    platform: str = Field(default="mri-recon_pytorch", description="Name of the platform.")
    inputs: list[InferenceTensor] = Field(description="Tensors that the model takes.")
    outputs: list[InferenceTensor] = Field(description="Tensors that it returns.")
    parameters: dict[str, str] = Field(description="Address for inference, method, SHA-256 of the weights, notice.")


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = Field(default="live", description="Always `live`.")


class Ready(BaseModel):
    """Models are loaded and have run once."""

    status: Literal["ready"] = Field(default="ready", description="Always `ready`.")
    models: list[str] = Field(description="Names of the models that are loaded.")
    audit: Literal["off", "written", "failing"] = Field(
        description="Whether audit lines are written. `failing`: they are not, and the service continues without them."
    )
    sandbox_lacks: list[Literal["network", "calls", "files"]] | None = Field(
        description="What this machine does not keep the processes that open uploads from: the network, system calls "
        "beyond a list, other files. Empty where all is in force; null until the first of them has started."
    )


class ProblemInfo(BaseModel):
    """One kind of problem."""

    code: str = Field(description="Stable code.")
    status: int = Field(description="HTTP status.")
    title: str = Field(description="Summary.")
    cure: str = Field(description="What to do.")
