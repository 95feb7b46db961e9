"""The same application as a Ray Serve deployment: several replicas behind one address, on one machine or a cluster.

    serve run mri_recon_service.ray_app:application replicas=2 device=cuda num_gpus=1

Each replica is the whole application with its own models, queue and parsing processes, and batches what waits in it.
Replicas of one machine share the data folder, so any of them answers for a job. The store of jobs is a file on a local
disk: replicas on several machines answer directly only, and each machine's jobs are known there alone.

Ray's proxy is what listens. `host` (MRI_RECON_HOST) must say where, for that decides whether keys are asked for.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from mri_recon_service.app import create_app
from mri_recon_service.http import logs
from mri_recon_service.settings import Settings

__all__ = ["application", "build"]

_MOST_REQUESTS_OF_A_REPLICA = 1000  # the application itself says when it is busy, with a reason


def build(settings: Settings, *, replicas: int = 1, num_cpus: float = 1, num_gpus: float = 0) -> Application:
    """The deployment, for `ray.serve.run`.

    Args:
        settings: of every replica.
        replicas: how many.
        num_cpus: processors that Ray sets aside for a replica.
        num_gpus: graphics processors, or a part of one.
    """
    values = settings.model_dump()

    def make() -> FastAPI:
        chosen = Settings(**values)
        logs.configure(chosen)
        return create_app(chosen)

    wrap = serve.deployment(
        name="mri-recon",
        num_replicas=replicas,
        max_ongoing_requests=_MOST_REQUESTS_OF_A_REPLICA,
        ray_actor_options={"num_cpus": num_cpus, "num_gpus": num_gpus},
        health_check_period_s=10,
        graceful_shutdown_timeout_s=30,
    )
    return wrap(serve.ingress(make)()).bind()


def application(arguments: dict[str, Any]) -> Application:
    """For `serve run`: the arguments `replicas`, `num_cpus`, `num_gpus`, and any setting by its name."""
    given = dict(arguments)
    replicas = int(given.pop("replicas", 1))
    num_cpus, num_gpus = float(given.pop("num_cpus", 1)), float(given.pop("num_gpus", 0))
    return build(Settings(**given), replicas=replicas, num_cpus=num_cpus, num_gpus=num_gpus)
