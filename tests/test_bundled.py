"""The bill of materials in the wheel names what the repository bundles, as it is."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def _bundled() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bundled", ROOT / "release" / "bundled.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_bill_is_that_of_the_files() -> None:
    module = _bundled()
    written = json.loads((ROOT / "release" / "bundled.cdx.json").read_text(encoding="utf-8"))
    assert written == module.bundled(), "run `python release/bundled.py`"


def test_everything_bundled_is_on_the_bill() -> None:
    bill = json.dumps(_bundled().bundled())
    for folder in ("mri_recon/_sample", "mri_recon/weights", "service/mri_recon_service/static/swagger-ui"):
        for path in sorted((ROOT / folder).iterdir()):
            about = path.suffix in (".json", ".txt", ".md") or path.name in ("LICENSE", "NOTICE")  # cards and licences
            assert about or path.relative_to(ROOT).as_posix() in bill, path


def test_the_version_of_the_vendored_pages_is_the_one_they_came_with() -> None:
    module = _bundled()
    readme = (ROOT / module._SWAGGER / "README.md").read_text(encoding="utf-8")
    assert f"Swagger UI {module._SWAGGER_VERSION}, " in readme
    for component in module.bundled()["components"][0]["components"]:
        if component["name"].endswith((".js", ".css")):
            assert component["hashes"][0]["content"] in readme, component["name"]
