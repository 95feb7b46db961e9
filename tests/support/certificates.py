"""Certificates for loopback servers, made by the program openssl."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="the program openssl is not installed")


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files.

    Attributes:
        authority: signs the others.
        other_authority: signs nothing.
        client, client_key: of this side.
    """

    authority: Path
    other_authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def make_certificates(folder: Path) -> Certificates:
    """Make them, valid for two days."""
    for name in ("authority", "other"):
        _openssl(
            folder,
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN=mri-recon tests {name}"),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", f"{name}.key", "-out", f"{name}.pem"),
        )
    for name, subject in (("server", "localhost"), ("client", "mri-recon")):
        (folder / f"{name}.ext").write_text(f"subjectAltName=DNS:{subject}\nbasicConstraints=CA:FALSE\n")
        _openssl(
            folder,
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={subject}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        _openssl(
            folder,
            *("x509", "-req", "-days", "2", "-in", f"{name}.csr", "-CA", "authority.pem", "-CAkey", "authority.key"),
            *("-CAcreateserial", "-extfile", f"{name}.ext", "-out", f"{name}.pem"),
        )
    paths = [folder / name for name in ("authority.pem", "other.pem", "server.pem", "server.key")]
    return Certificates(*paths, folder / "client.pem", folder / "client.key")


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
