"""The application, assembled in one place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from mri_recon.checkpoint import RESEARCH_ONLY
from mri_recon.service import problems
from mri_recon.service.middleware import RequestContext
from mri_recon.service.readiness import Readiness
from mri_recon.service.routes import compare, docs, health, models, reconstructions, sample
from mri_recon.service.settings import Settings
from mri_recon.service.uploads import UploadGate
from mri_recon.service.workers import Workers

__all__ = ["create_app"]

_DESCRIPTION = f"""Accelerated MRI reconstruction: undersampled k-space in, images out.

**{RESEARCH_ONLY}**

Every error is `application/problem+json` (RFC 9457) with a stable `code`; `/problems` lists them.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The ASGI application.

    Args:
        settings: None reads them from the environment.
    """
    chosen = Settings() if settings is None else settings
    app = FastAPI(
        title="mri-recon",
        version=version("mri-recon"),
        description=_DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,  # routes/docs.py has one that works without a network
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.settings = chosen
    problems.install(app)
    for subject in (reconstructions, compare, sample, models, health, docs):
        app.include_router(subject.router)
    app.mount("/static", StaticFiles(directory=str(files("mri_recon.service") / "static")), name="static")
    app.add_middleware(RequestContext)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    app.state.workers = Workers(
        threads=settings.worker_threads, queue_size=settings.queue_size, timeout_seconds=settings.timeout_seconds
    )
    app.state.gate = UploadGate(settings)
    app.state.readiness = Readiness(settings.device)
    app.state.readiness.start()
    try:
        yield
    finally:
        app.state.workers.close()
