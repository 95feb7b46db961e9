"""Start Debian's Orthanc on free loopback ports, with a folder and settings of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.patience import PATIENCE

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
MISSING = "Debian's orthanc and orthanc-dicomweb are not installed"

needs_orthanc = pytest.mark.skipif(shutil.which("Orthanc") is None or not PLUGIN.exists(), reason=MISSING)

USER, PASSWORD = "modality", "a:pass wörd"


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc.

    Attributes:
        http: its HTTP port.
        dicom: its DICOM port.
        api: a client of its own interface.
        process: its process.
    """

    http: int
    dicom: int
    api: httpx.Client
    process: subprocess.Popen[bytes]

    @property
    def web(self) -> str:
        """Base address of DICOMweb."""
        return f"http://localhost:{self.http}/dicom-web"

    @property
    def entity(self) -> str:
        """AET@HOST:PORT."""
        return f"ORTHANC@localhost:{self.dicom}"

    def instances(self) -> list[str]:
        """Orthanc's names of all instances that it has."""
        return list(self.api.get("/instances").raise_for_status().json())

    def files(self) -> list[bytes]:
        """The DICOM files of all instances."""
        return [self.api.get(f"/instances/{one}/file").raise_for_status().content for one in self.instances()]

    def find(self, level: str, **query: str) -> list[dict[str, Any]]:
        """Answers of Orthanc's search, as a viewer asks it."""
        asked = {"Level": level, "Query": query, "Expand": True}
        return list(self.api.post("/tools/find", json=asked).raise_for_status().json())

    def kill(self) -> None:
        """End it at once. (Asked to end, it waits for open associations.)"""
        self.process.kill()
        self.process.wait(PATIENCE)

    def empty(self) -> None:
        """Delete everything."""
        for one in self.api.get("/patients").json():
            self.api.delete(f"/patients/{one}").raise_for_status()


@contextmanager
def orthanc(folder: Path, **settings: Any) -> Iterator[Orthanc]:
    """Run Orthanc until the block ends. (HTTPS ends Debian 12's with a segmentation fault: see `tls_relay`.)"""
    folder.mkdir(parents=True, exist_ok=True)
    http, dicom = _free_port(), _free_port()
    configuration = {
        "Name": "mri-recon tests",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": http,
        "DicomPort": dicom,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        **settings,
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    auth = (USER.encode(), PASSWORD.encode()) if settings.get("AuthenticationEnabled") else None
    api = httpx.Client(base_url=f"http://127.0.0.1:{http}", timeout=PATIENCE, trust_env=False, auth=auth)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        _wait(process, api, folder / "log")
        yield Orthanc(http, dicom, api, process)
    finally:
        api.close()
        process.terminate()
        process.wait(PATIENCE)


def _wait(process: subprocess.Popen[bytes], api: httpx.Client, log: Path) -> None:
    """Wait until it answers HTTP, which it does last."""
    deadline = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, f"{process.returncode}\n{log.read_text()}"
        assert time.monotonic() < deadline, log.read_text()
        try:
            api.get("/system").raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.05)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
