"""Serve `POST /v1/validate`: describe the effect of a request without doing its work."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request

from mri_recon._system.jsonable import jsonable
from mri_recon.io import Scan
from mri_recon.methods.estimates import Estimates
from mri_recon.results.summary import estimate_noise
from mri_recon_service.clock import now
from mri_recon_service.columns import column_ranges
from mri_recon_service.dependencies import EngineDep, EstimatesDep, SettingsDep, UploadGateDep
from mri_recon_service.http.openapi import problem_responses, upload_request
from mri_recon_service.jobs.engine import Engine
from mri_recon_service.jobs.results import geometry_of
from mri_recon_service.jobs.submission import client_of
from mri_recon_service.problems import UPLOAD_CODES, Problem
from mri_recon_service.schemas import ImageGeometry, MethodCost, ScanSummary, ValidateFields, Validation
from mri_recon_service.work import Parsed, Parser, Prepared, Task, prepare, read_task

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["reconstruction"])


@router.post(
    "/validate",
    operation_id="validate",
    responses=problem_responses(*UPLOAD_CODES),
    openapi_extra=upload_request(ValidateFields),
)
async def validate(
    request: Request,
    settings: SettingsDep,
    engine: EngineDep,
    estimates: EstimatesDep,
    gate: UploadGateDep,
) -> Validation:
    """Open an uploaded scan. Returns its content, the mask it would get, and the memory and time of each method.

    Fields are those of `/v1/reconstructions` (with `method`) or of `/v1/compare`. A file that cannot be read is a
    problem. A request that would be refused for another reason is described, with the problem in the answer.
    """
    arrived, client = now(), client_of(request)
    engine.admission.refuse_if_full(client=client, durable=False)
    upload = await gate.receive(request, client)
    try:
        task = read_task(
            "reconstruction" if "method" in upload.fields else "comparison",
            upload.fields,
            limits=settings.option_limits,
        )
        if task.deliver is not None:
            engine.targets.check(task.deliver, client)
        limit = min(task.fields.deadline_seconds or math.inf, settings.timeout_seconds)
        examine = functools.partial(
            _examine,
            task,
            upload.files,
            upload.sources,
            engine.opening.parser(client, arrived + limit),
            engine,
            estimates,
            request.state.request_id,
        )
        place = engine.admission.place(client)  # a dry run takes time too
        try:
            with engine.admission.opening(client):
                return await engine.in_thread(examine)
        finally:
            place.release()
    finally:
        upload.remove()


class _Remembering:
    """A parser that keeps the scan it read, in case the rest of the request is refused."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self.parsed: Parsed | None = None

    def load(self, path: Path, *, axes: str | None, variable: str | None, mask_file: Path | None = None) -> Parsed:
        self.parsed = self._parser.load(path, axes=axes, variable=variable, mask_file=mask_file)
        return self.parsed


def _examine(
    task: Task,
    files: Mapping[str, Path],
    sources: Mapping[str, Mapping[str, Any]],
    parser: Parser,
    engine: Engine,
    estimates: Estimates,
    request_id: str,
) -> Validation:
    remembering = _Remembering(parser)
    prepared: Prepared | None = None
    problem: Problem | None = None
    try:
        prepared = prepare(task, files, sources, remembering)
        engine.admission.check_memory(prepared)
    except Problem as error:
        if remembering.parsed is None:
            raise
        problem = error
    assert remembering.parsed is not None
    scan = remembering.parsed.scan
    slices, coils, readout, phase = (int(n) for n in scan.kspace.shape)
    shape = (slices, coils, readout, phase)
    costs = [
        MethodCost(
            method=name,
            memory_bytes=estimates.memory_bytes(name, shape, task.options.get(name), check=task.fields.check),
            seconds=estimates.seconds(name, shape, check=task.fields.check),
        )
        for name in task.methods
    ]
    times = [one.seconds for one in costs]
    answered = (
        "refused"
        if problem or prepared is None
        else "at-once"
        if engine.admission.small(prepared) and task.deliver is None
        else "as-job"
    )
    return Validation.model_validate(
        {
            "accepted": problem is None,
            "problem": problem.document(request_id) if problem else None,
            "answered": answered,
            "files": {name: {key: one[key] for key in ("sha256", "bytes")} for name, one in sources.items()},
            "scan": _summary(scan, estimates.decoded_bytes(shape)),
            "mask": jsonable(prepared.mask.receipt()) if prepared else None,
            "methods": costs,
            "memory_bytes": engine.admission.memory_of(task, shape),
            "seconds": None if None in times else sum(time for time in times if time is not None),
        }
    )


def _summary(scan: Scan, decoded_bytes: int) -> ScanSummary:
    slices, coils, readout, phase = (int(n) for n in scan.kspace.shape)
    noise = estimate_noise(scan)
    own = scan.mask
    return ScanSummary(
        format=str(scan.meta.get("format", "array")),
        axes=str(scan.meta.get("axes", "slice coil readout phase")),
        axes_assumed=bool(scan.meta.get("axes_assumed", False)),
        slices=slices,
        coils=coils,
        readout=readout,
        phase=phase,
        reconstruction_size=(int(scan.recon_size[0]), int(scan.recon_size[1])),
        decoded_bytes=decoded_bytes,
        support=column_ranges(scan.support),
        support_columns=int(scan.support.sum()),
        fully_sampled=scan.fully_sampled,
        own_mask=None if own is None else jsonable(own.receipt()),
        reference=scan.target_source,
        simulated=bool(scan.meta.get("simulated", False)),
        noise_sigma=None if noise is None else noise.sigma,
        geometry=None if (geometry := geometry_of(scan)) is None else ImageGeometry.model_validate(geometry),
        note=str(scan.meta.get("note") or ""),
        warnings=list(scan.warnings),
    )
