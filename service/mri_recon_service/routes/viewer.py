"""`/`: the viewer, a page of plain modules under `static/viewer` that uses the same addresses as any other client."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

__all__ = ["router"]

_PAGE = files("mri_recon_service") / "static" / "viewer" / "index.html"
router = APIRouter()


@router.get("/", include_in_schema=False)
async def viewer() -> HTMLResponse:
    """The page; everything in it is addressed relative to it, as the service may live under a prefix of a proxy."""
    return HTMLResponse(_PAGE.read_text(encoding="utf-8"))
