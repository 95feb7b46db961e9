"""Read the registered targets that results are delivered to, and who may use them.

Clients name a target and never an address. The file is TOML with a table for each target:

    [archive]
    stow = "https://pacs.example.org/dicom-web"
    ca_file = "/etc/ssl/hospital.pem"

    [research-node]
    dicom = "ORTHANC@10.0.0.5:4242"
    aet = "MRI-RECON"
    clients = ["scanner-3"]

Credentials are in the environment: `MRI_RECON_TARGET_ARCHIVE_USER` and `..._PASSWORD`, or `..._TOKEN`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import ConfigError
from mri_recon.pacs.targets import (
    CALLING_AET,
    DicomTarget,
    StowTarget,
    Target,
    Tls,
    parse_dicom,
    parse_stow,
    read_credentials,
)
from mri_recon_service.problems import Problem, shown

__all__ = ["RegisteredTarget", "Targets", "read_targets"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_NEEDED = ("pydicom", "pynetdicom", "dicomweb_client")


class _Table(BaseModel):
    """The table of one target in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stow: str | None = None
    dicom: str | None = None
    aet: str | None = None
    tls: bool = False
    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    credentials_over_http: bool = False
    timeout: float = Field(default=60.0, ge=0.1, le=3600)
    clients: tuple[str, ...] | None = None


@dataclass(frozen=True)
class RegisteredTarget:
    """A target with its users.

    Attributes:
        target: where images are sent; its texts show its name, not its address.
        clients: names of the API keys that may use it; None: every client.
    """

    target: Target
    clients: frozenset[str] | None = None


@dataclass(frozen=True)
class Targets:
    """The registered targets by name."""

    by_name: Mapping[str, RegisteredTarget] = field(default_factory=dict)

    def find(self, name: str) -> Target | None:
        """Look a target up. None: it is not registered (any more)."""
        found = self.by_name.get(name)
        return None if found is None else found.target

    def allowed(self, client: str) -> list[str]:
        """List the names that a client may use."""
        return [name for name, one in self.by_name.items() if one.clients is None or client in one.clients]

    def check(self, name: str, client: str) -> None:
        """Refuse a name that this client may not use; a target of others is not told from one that is not there.

        Raises:
            Problem: unknown-target.
        """
        names = self.allowed(client)
        if name not in names:
            listed = f"one of the targets {', '.join(names)}" if names else "no 'deliver', for no target is registered"
            cure = "choose one of them" if names else "leave it out, or ask the operator to register one for this key"
            raise Problem(
                "unknown-target",
                f"expected {listed}, got {shown(name)}{did_you_mean(name, names)}: {cure}",
                valid=names,
            )


def read_targets(path: Path | None, environment: Mapping[str, str]) -> Targets:
    """Read the file of targets, and their credentials from the environment. Without a file there are none.

    Raises:
        ConfigError: the file cannot be read or is wrong, credentials are wrong, or a library is missing.
    """
    if path is None:
        return Targets()
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: the targets cannot be read ({error.strerror}): let the service read it") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected TOML, got other text ({error}): correct it") from error
    for library in _NEEDED if tables else ():
        if find_spec(library) is None:
            raise ConfigError(
                f"expected the library {library} for targets, it is not installed: pip install 'mri-recon[pacs]'"
            )
    return Targets({name: _registered(name, table, path, environment) for name, table in tables.items()})


def _registered(name: str, values: Any, path: Path, environment: Mapping[str, str]) -> RegisteredTarget:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{path}: expected names of letters, digits, '_' and '-', got {shown(name)}: rename the target"
        )
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a table [{name}], got a single value: write [{name}] and keys below it")
    try:
        table = _Table.model_validate(values)
    except ValidationError as error:
        one = error.errors()[0]
        where = ".".join(str(part) for part in one["loc"])
        keys = f"; the keys are {', '.join(_Table.model_fields)}" if one["type"] == "extra_forbidden" else ""
        raise ConfigError(f"{path}: target {name}, {where}: {one['msg']}{keys}") from error
    try:
        target = _target(name, table, environment)
    except ConfigError as error:
        raise ConfigError(f"{path}: target {name}: {error}") from error
    return RegisteredTarget(target, None if table.clients is None else frozenset(table.clients))


def _target(name: str, table: _Table, environment: Mapping[str, str]) -> Target:
    if (table.stow is None) == (table.dicom is None):
        raise ConfigError(f"expected stow or dicom, got {'both' if table.stow else 'none'}: give one")
    tls = Tls(table.ca_file, table.certificate, table.key)
    if table.dicom is not None:
        title, host, port = parse_dicom(table.dicom)
        aet = CALLING_AET if table.aet is None else table.aet
        return DicomTarget(title, host, port, aet, table.tls, tls, table.timeout, name)
    if table.aet is not None or table.tls:
        raise ConfigError("expected aet and tls with dicom, got them with stow: leave them out")
    prefix = f"MRI_RECON_TARGET_{name.upper().replace('-', '_')}_"
    credentials = read_credentials(environment, prefix)
    return StowTarget(parse_stow(table.stow or ""), credentials, tls, table.credentials_over_http, table.timeout, name)
