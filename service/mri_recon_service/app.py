"""Assemble the application from its parts."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from mri_recon.errors import ConfigError
from mri_recon.methods.estimates import Estimates
from mri_recon.notice import RESEARCH_ONLY
from mri_recon_service import problems
from mri_recon_service.buffers import Buffers
from mri_recon_service.clock import now
from mri_recon_service.http.audit import Audit, open_audit
from mri_recon_service.http.connections import Crowd
from mri_recon_service.http.gauges import Gauge
from mri_recon_service.http.keys import Authentication, Keyring
from mri_recon_service.http.middleware import RequestContext, Requests
from mri_recon_service.http.openapi import problem_responses
from mri_recon_service.http.openapi_document import complete
from mri_recon_service.http.pace import Pace
from mri_recon_service.http.prometheus import Metrics
from mri_recon_service.http.security import Security, check_exposure
from mri_recon_service.jobs.engine import Engine, open_engine
from mri_recon_service.readiness import Readiness
from mri_recon_service.routes import (
    compare,
    docs,
    health,
    jobs,
    masks,
    metrics,
    models,
    oip,
    reconstructions,
    sample,
    validate,
    viewer,
)
from mri_recon_service.settings import Settings
from mri_recon_service.targets import read_targets
from mri_recon_service.uploads.parser_pool import ParserPool
from mri_recon_service.uploads.receive import UploadGate

__all__ = ["create_app"]

log = logging.getLogger("mri_recon_service")

_ANSWER_SECONDS = 2.0  # for the problems that tell clients of a stop

_ROUTE_MODULES = (
    reconstructions,  # POST /v1/reconstructions
    compare,  # POST /v1/compare
    validate,  # POST /v1/validate
    jobs,  # GET and DELETE /v1/jobs/{job_id}, GET /v1/jobs/{job_id}/events and /v1/jobs/{job_id}/result
    masks,  # GET and POST /v1/masks
    sample,  # GET /v1/sample
    models,  # GET /v1/models
    health,  # GET /health/live and /health/ready
    metrics,  # GET /metrics
    oip,  # GET /v2, /v2/health/live, /v2/health/ready, /v2/models/{model_name} and /v2/models/{model_name}/ready
    viewer,  # GET /, the page in the browser
    docs,  # GET /docs, /problems and /problems/{code}
)

_DESCRIPTION = f"""Accelerated MRI reconstruction: undersampled k-space in, images out.

**{RESEARCH_ONLY}**

Every error is `application/problem+json` (RFC 9457) with a stable `code`; `/problems` lists them.
"""


class _Application(FastAPI):
    """The application, with a completed OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, which is made once."""
        if self.openapi_schema is None:
            complete(super().openapi())
        assert self.openapi_schema is not None
        return self.openapi_schema


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the ASGI application.

    Args:
        settings: the service's settings. None: read from the environment.

    Raises:
        ConfigError: the service needs API keys on this address, and there are none; the file of targets is wrong; or
            audit lines cannot be written.
    """
    chosen = Settings() if settings is None else settings
    app = _Application(
        title="mri-recon",
        version=version("mri-recon"),
        description=_DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,  # routes/docs.py has one that works without a network
        redoc_url=None,
        redirect_slashes=False,
        responses=problem_responses(),  # of every route
    )
    app.state.settings = chosen
    app.state.targets = read_targets(chosen.targets_file, os.environ)
    app.state.metrics = Metrics()
    app.state.requests = Requests()
    app.state.audit = open_audit(chosen)
    problems.install(app)
    for module in _ROUTE_MODULES:
        app.include_router(module.router)
    app.mount("/static", StaticFiles(directory=str(files("mri_recon_service") / "static")), name="static")
    _add_layers(app, chosen)
    return app


def _add_layers(app: FastAPI, settings: Settings) -> None:
    """Add the layers that a request passes before its route. The last one added is the outermost.

    A request passes RequestContext, CORSMiddleware (only with allowed origins), Crowd, Security, Authentication, Audit
    (only with an audit log), then its route; the answer passes them in the opposite order.
    """
    keyring = Keyring(settings.keys_path) if settings.keys_required else None
    if app.state.audit is not None:
        app.add_middleware(Audit, audit=app.state.audit)
    app.add_middleware(Authentication, keyring=keyring, most=settings.max_connections)
    app.add_middleware(Security, settings=settings)
    app.add_middleware(Crowd)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    pace = functools.partial(Pace, settings.stall_seconds, settings.min_bytes_per_second)
    app.add_middleware(RequestContext, metrics=app.state.metrics, requests=app.state.requests, pace=pace)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    buffers = Buffers(settings.buffer_bytes)
    parser = ParserPool(settings, buffers)
    parser.start()
    if settings.exposed:
        try:
            check_exposure(settings, await asyncio.to_thread(lambda: parser.restrictions.lacks))
        except ConfigError as error:
            log.error("%s", error)
            parser.close()
            raise
    app.state.parser = parser
    app.state.estimates = Estimates()
    app.state.engine = open_engine(settings, parser, buffers, app.state.estimates, app.state.metrics, app.state.targets)
    await asyncio.to_thread(app.state.engine.start)
    app.state.gate = UploadGate(settings)
    app.state.readiness = Readiness(settings.device, app.state.audit, computes=settings.worker_threads > 0)
    app.state.readiness.start()
    _watch(app.state.metrics, app.state.engine, parser, app.state.readiness)
    try:
        yield
    finally:
        await asyncio.gather(app.state.requests.answered(_ANSWER_SECONDS), asyncio.to_thread(app.state.engine.close))
        parser.close()
        if app.state.audit is not None:
            app.state.audit.close()


def _watch(metrics: Metrics, engine: Engine, parser: ParserPool, readiness: Readiness) -> None:
    store, files = engine.store, engine.files
    metrics.watch(
        waiting=lambda: {
            "direct": engine.admission.held,
            "jobs": store.queued(),
            "deliveries": store.waiting_deliveries(),
        },
        running_jobs=lambda: engine.runner.running,
        parsers_started=lambda: parser.started,
        gauges=[
            Gauge("mri_recon_ready", "1 if /health/ready answers 200, else 0.", lambda: readiness.holds(store, files)),
            Gauge(
                "mri_recon_oldest_waiting_job_seconds",
                "Age of the job that waits longest for any process; 0 if none waits.",
                lambda: max(0.0, now() - oldest) if (oldest := store.oldest_waiting()) is not None else 0.0,
            ),
            Gauge(
                "mri_recon_worker_lost_jobs",
                "Kept jobs that failed because the processes that worked on them died.",
                lambda: store.failed_with("worker-lost"),
            ),
            Gauge(
                "mri_recon_audit_failing",
                "1 while audit lines cannot be written, else 0.",
                lambda: readiness.audit() == "failing",
            ),
            Gauge("mri_recon_stored_bytes", "Bytes of uploads and results in the data folder.", files.total),
            Gauge(
                "mri_recon_stored_bytes_limit",
                "Bytes that uploads and results of jobs may take (MRI_RECON_MAX_STORED_BYTES).",
                lambda: files.most_bytes,
            ),
            Gauge("mri_recon_free_bytes", "Free bytes of the data folder's file system.", files.free),
        ],
    )
