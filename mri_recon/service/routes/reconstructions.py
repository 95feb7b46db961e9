"""`POST /v1/reconstructions`: a scan in, an image out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from mri_recon.service.dependencies import SettingsDep, UploadGateDep, WorkersDep
from mri_recon.service.fields import reconstruction_fields
from mri_recon.service.negotiation import choose
from mri_recon.service.openapi import answer_headers, problem_responses, upload_request
from mri_recon.service.pipeline import run_reconstruction
from mri_recon.service.problems import UPLOAD_CODES
from mri_recon.service.rendering import RENDERERS, Rendered, info_header, mask_header
from mri_recon.service.schemas import ReconstructionFields

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["reconstruction"])

_ANSWER = {
    "description": "The image: fastMRI-style HDF5 (default), npy with `Reconstruction.image` as in Python, or a PNG.",
    "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in RENDERERS},
    "headers": answer_headers("X-Mask-Receipt", "X-Reconstruction-Info", "X-Preview-Slice", "X-Preview-Window"),
}


@router.post(
    "/reconstructions",
    response_class=Response,
    responses={200: _ANSWER, **problem_responses("not-acceptable", *UPLOAD_CODES)},
    openapi_extra=upload_request(ReconstructionFields),
)
async def reconstruct(
    request: Request,
    settings: SettingsDep,
    workers: WorkersDep,
    gate: UploadGateDep,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Reconstruct an uploaded scan with one method. Fields that are not listed are the method's options."""
    media_type = choose(accept, list(RENDERERS))
    workers.refuse_if_full()
    upload = await gate.receive(request)
    with upload.removed_on_error():
        fields, options = reconstruction_fields(upload.fields, max_iters=settings.max_iters)

    def job() -> tuple[Rendered, dict[str, str]]:
        outcome = run_reconstruction(upload.files, fields, options, settings)
        headers = {
            "X-Mask-Receipt": mask_header(outcome.mask),
            "X-Reconstruction-Info": info_header(outcome.reconstruction.info),
        }
        return RENDERERS[media_type](outcome), headers

    rendered, headers = await workers.run(job, cleanup=upload.remove)
    headers |= {"Vary": "Accept", "Content-Disposition": f'attachment; filename="{rendered.filename}"'}
    return Response(rendered.content, media_type=media_type, headers={**headers, **rendered.headers})
