"""What routes ask for, as annotated types."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from mri_recon.service.readiness import Readiness
from mri_recon.service.settings import Settings
from mri_recon.service.uploads import UploadGate
from mri_recon.service.workers import Workers

__all__ = ["ReadinessDep", "SettingsDep", "UploadGateDep", "WorkersDep"]


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _workers(request: Request) -> Workers:
    workers: Workers = request.app.state.workers
    return workers


def _readiness(request: Request) -> Readiness:
    readiness: Readiness = request.app.state.readiness
    return readiness


def _gate(request: Request) -> UploadGate:
    gate: UploadGate = request.app.state.gate
    return gate


SettingsDep = Annotated[Settings, Depends(_settings)]
WorkersDep = Annotated[Workers, Depends(_workers)]
ReadinessDep = Annotated[Readiness, Depends(_readiness)]
UploadGateDep = Annotated[UploadGate, Depends(_gate)]
