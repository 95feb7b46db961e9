"""Serve `/docs` and `/problems`: documentation that needs no network."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from mri_recon_service.http.openapi import problem_responses
from mri_recon_service.problems import PROBLEMS
from mri_recon_service.schemas import ProblemInfo

__all__ = ["router"]

_STATIC = "static/swagger-ui"  # relative: the service may live under a prefix of a proxy
router = APIRouter()


@router.get("/docs", include_in_schema=False)
async def docs() -> HTMLResponse:
    """Show the API in Swagger UI, with assets of this package."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="mri-recon",
        swagger_js_url=f"{_STATIC}/swagger-ui-bundle.js",
        swagger_css_url=f"{_STATIC}/swagger-ui.css",
        swagger_favicon_url=f"{_STATIC}/favicon-32x32.png",
        swagger_ui_parameters={"validatorUrl": None, "defaultModelsExpandDepth": -1},
    )
    page.headers["Content-Security-Policy"] = _policy(bytes(page.body).decode())
    return page


@router.get("/problems", operation_id="list_problems", tags=["problems"])
async def problems() -> list[ProblemInfo]:
    """List every kind of problem."""
    return [_info(code) for code in PROBLEMS]


@router.get("/problems/{code}", operation_id="get_problem", tags=["problems"], responses=problem_responses("not-found"))
async def problem(code: Annotated[str, Path(description="Code of the problem.", max_length=100)]) -> ProblemInfo:
    """Describe one kind of problem. The member `type` of a problem document is this address."""
    if code not in PROBLEMS:
        raise HTTPException(404)
    return _info(code)


def _policy(page: str) -> str:
    """Write the policy of the page. Swagger UI sets inline styles; an inline script, allowed by its hash, starts it."""
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return (
        f"default-src 'none'; script-src 'self' {allowed}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


def _info(code: str) -> ProblemInfo:
    kind = PROBLEMS[code]
    return ProblemInfo(code=code, status=kind.status, title=kind.title, cure=kind.cure)
