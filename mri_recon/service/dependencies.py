"""What routes ask for, as annotated types."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from mri_recon.service.engine import Engine
from mri_recon.service.estimates import Estimates
from mri_recon.service.metrics import Metrics
from mri_recon.service.pipeline import Parser
from mri_recon.service.readiness import Readiness
from mri_recon.service.settings import Settings
from mri_recon.service.uploads import UploadGate

__all__ = ["EngineDep", "EstimatesDep", "MetricsDep", "ParserDep", "ReadinessDep", "SettingsDep", "UploadGateDep"]


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


def _readiness(request: Request) -> Readiness:
    readiness: Readiness = request.app.state.readiness
    return readiness


def _gate(request: Request) -> UploadGate:
    gate: UploadGate = request.app.state.gate
    return gate


def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


def _estimates(request: Request) -> Estimates:
    estimates: Estimates = request.app.state.estimates
    return estimates


def _parser(request: Request) -> Parser:
    parser: Parser = request.app.state.parser
    return parser


SettingsDep = Annotated[Settings, Depends(_settings)]
EngineDep = Annotated[Engine, Depends(_engine)]
ReadinessDep = Annotated[Readiness, Depends(_readiness)]
UploadGateDep = Annotated[UploadGate, Depends(_gate)]
MetricsDep = Annotated[Metrics, Depends(_metrics)]
EstimatesDep = Annotated[Estimates, Depends(_estimates)]
ParserDep = Annotated[Parser, Depends(_parser)]
