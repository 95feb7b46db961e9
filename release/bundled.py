"""Write the bill of materials of what the wheel brings beside our own code: `release/bundled.cdx.json`, CycloneDX 1.6.

    python release/bundled.py

The wheel carries it in `dist-info/sboms`, as PEP 770 says. Run it after a change of a weight file, of the sample or of
the vendored pages; a test fails until then. The packages that the wheel depends on are in another bill, which
`make dist` makes of the installed ones.

Specification: https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUT = Path(__file__).with_name("bundled.cdx.json")

_SWAGGER = "service/mri_recon_service/static/swagger-ui"
_SWAGGER_VERSION = "5.35.0"


def bundled() -> dict[str, Any]:
    """Make the document."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": "mri-recon", "name": "mri-recon"}},
        "components": [_swagger_ui(), _sample(), *map(_weights, sorted(ROOT.glob("mri_recon/weights/*.safetensors")))],
    }


def _swagger_ui() -> dict[str, Any]:
    files = sorted(path for path in (ROOT / _SWAGGER).iterdir() if path.suffix in (".js", ".css", ".png"))
    return {
        "type": "library",
        "bom-ref": "swagger-ui-dist",
        "name": "swagger-ui-dist",
        "version": _SWAGGER_VERSION,
        "purl": f"pkg:npm/swagger-ui-dist@{_SWAGGER_VERSION}",
        "description": "Interactive documentation of the service; licences of what it bundles itself: "
        "swagger-ui-bundle.js.LICENSE.txt",
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "components": [_file(path) for path in files],
    }


def _sample() -> dict[str, Any]:
    text = (ROOT / "mri_recon/_sample/NOTICE.txt").read_text(encoding="utf-8")
    return {
        **_file(ROOT / "mri_recon/_sample/colin27_8ch.h5", kind="data"),
        "description": "SIMULATED k-space from the average brain Colin27, for demonstration and tests",
        "licenses": [{"license": {"name": "Notices of Colin27 and MRIcron", "text": {"content": text}}}],
    }


def _weights(path: Path) -> dict[str, Any]:
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    sources = {(one["name"], one["licence"], one["citation"]) for one in card["data"]}
    trained = "; ".join(f"{name} ({licence}): {citation}" for name, licence, citation in sorted(sources))
    return {
        **_file(path, kind="machine-learning-model"),
        "description": f"Trained with {trained}",
        "licenses": [{"license": {"id": "MIT"}}],
    }


def _file(path: Path, kind: str = "file") -> dict[str, Any]:
    name = path.relative_to(ROOT).as_posix()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"type": kind, "bom-ref": name, "name": name, "hashes": [{"alg": "SHA-256", "content": digest}]}


if __name__ == "__main__":
    OUT.write_text(json.dumps(bundled(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
