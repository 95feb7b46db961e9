"""Serve `POST /v1/reconstructions`: reconstruct a scan with one method."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from mri_recon_service.answers.image_files import IMAGE_FILES
from mri_recon_service.answers.rendering import OFFERS
from mri_recon_service.dependencies import EngineDep, SettingsDep, UploadGateDep
from mri_recon_service.http.openapi import answer_headers, job_accepted, problem_responses, upload_request
from mri_recon_service.jobs.submission import submit
from mri_recon_service.problems import UPLOAD_CODES
from mri_recon_service.schemas import ReconstructionFields

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["reconstruction"])

_ANSWER = {
    "description": "The image: fastMRI-style HDF5 (default), npy with `Reconstruction.image` as in Python, an npz "
    "bundle of image, mask and metadata, a PNG, or another file of images: "
    + "; ".join(f"`{media}`, {IMAGE_FILES[media].about}" for media in OFFERS["reconstruction"] if media in IMAGE_FILES)
    + ".",
    "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in OFFERS["reconstruction"]},
    "headers": answer_headers(
        "X-Mask-Receipt", "X-Reconstruction-Info", "X-Provenance", "X-Preview-Slice", "X-Preview-Window", "X-Left-Out"
    ),
}


@router.post(
    "/reconstructions",
    operation_id="reconstruct",
    response_class=Response,
    responses={200: _ANSWER, 202: job_accepted(), **problem_responses("not-acceptable", *UPLOAD_CODES)},
    openapi_extra=upload_request(ReconstructionFields, job=True),
)
async def reconstruct(request: Request, settings: SettingsDep, engine: EngineDep, gate: UploadGateDep) -> Response:
    """Reconstruct an uploaded scan with one method. Fields that are not listed are the method's options."""
    return await submit(request, "reconstruction", engine, gate, settings)
