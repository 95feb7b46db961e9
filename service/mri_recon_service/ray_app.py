"""Deploy the application on Ray Serve: several replicas behind one address, on one machine or a cluster.

    serve run mri_recon_service.ray_app:application replicas=2 device=cuda num_gpus=1

Each replica is the whole application with its own models, queue and parsing processes, and batches its own requests.
Replicas on one machine share the data folder, so any of them answers for a job. Those on several machines do with the
setting `store` (docs/service/cluster.md); without it only direct answers work, since each machine knows its own jobs
alone.

Ray's proxy listens, not the application. `host` (MRI_RECON_HOST) must name its address all the same: it decides whether
keys are needed.
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

_MOST_REQUESTS_OF_A_REPLICA = 1000  # the application itself refuses work when it is busy, with a reason


def build(settings: Settings, *, replicas: int = 1, num_cpus: float = 1, num_gpus: float = 0) -> Application:
    """Make the deployment, for `ray.serve.run`.

    Args:
        settings: the settings of every replica.
        replicas: number of replicas.
        num_cpus: processors that Ray sets aside for a replica.
        num_gpus: graphics processors for a replica; a fraction shares one.
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
    """Make the deployment for `serve run` from `replicas`, `num_cpus`, `num_gpus`, and any setting by its name."""
    given = dict(arguments)
    replicas = int(given.pop("replicas", 1))
    num_cpus, num_gpus = float(given.pop("num_cpus", 1)), float(given.pop("num_gpus", 0))
    return build(Settings(**given), replicas=replicas, num_cpus=num_cpus, num_gpus=num_gpus)
