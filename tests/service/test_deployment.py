"""docs/service/deployment.md and the files of deploy/ say what is true."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mri_recon_service.settings import Settings, settings_table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "service" / "deployment.md"
OPERATIONS, CLUSTER = PAGE.with_name("operations.md"), PAGE.with_name("cluster.md")
FILES = sorted((ROOT / "service" / "deploy").iterdir())


def test_the_table_of_settings_is_the_classes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mri_recon_service.settings"], capture_output=True, text=True, check=True
    )
    assert done.stdout == settings_table()
    assert done.stdout in PAGE.read_text(encoding="utf-8")
    assert done.stdout.count("\n") == 2 + len(Settings.model_fields)
    assert "| `MRI_RECON_PORT` | `8000` | Port to listen on; 0 takes a free one. |\n" in done.stdout


@pytest.mark.parametrize(
    "path", [PAGE, OPERATIONS, CLUSTER, ROOT / "docs" / "service" / "service.md", *FILES], ids=lambda path: path.name
)
def test_every_variable_that_is_named_is_a_setting(path: Path) -> None:
    named = set(re.findall(r"MRI_RECON_([A-Z_]+)", path.read_text(encoding="utf-8")))
    assert named <= {name.upper() for name in Settings.model_fields}


def test_every_file_is_on_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (PAGE, OPERATIONS, CLUSTER))
    linked = set(re.findall(r"\]\(\.\./\.\./service/deploy/([^)]+)\)", text))
    assert linked == {path.name for path in FILES}


@pytest.mark.parametrize("path", [PAGE, ROOT / "service" / "deploy" / "Containerfile"], ids=lambda path: path.name)
def test_what_is_installed_takes_every_upload_and_delivers_to_a_pacs(path: Path) -> None:
    (extras,) = re.findall(r"install [^\n]*'\.\[([a-z,]+)\]'", path.read_text(encoding="utf-8"))
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert {"fast", "pacs", "scanners"} <= set(extras.split(",")) <= set(declared)
    assert "mri-recon[clinical]" in declared["pacs"]


def test_the_limits_of_the_proxy_are_the_services() -> None:
    nginx = (ROOT / "service" / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    settings = Settings()
    size = re.search(r"client_max_body_size (\d+)g;", nginx)
    assert size
    assert int(size[1]) << 30 == settings.max_upload_bytes
    waits = re.search(r"proxy_read_timeout (\d+)s;", nginx)
    assert waits
    assert int(waits[1]) > settings.timeout_seconds
    assert "proxy_buffering off;" in nginx
    assert "proxy_request_buffering off;" in nginx
    assert "flush_interval -1" in (ROOT / "service" / "deploy" / "Caddyfile").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "verb"), [("mri-recon.service", "mri-recon serve"), ("mri-recon-worker.service", "mri-recon worker")]
)
def test_the_units(name: str, verb: str) -> None:
    path = ROOT / "service" / "deploy" / name
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(path.read_text(encoding="utf-8"))
    service = unit["Service"]
    assert service["ExecStart"].endswith(verb)
    assert service["NoNewPrivileges"] == "yes"
    # The parsing processes need these, or no isolation is reached.
    assert set(service["RestrictNamespaces"].split()) >= {"user", "net"}
    verify = shutil.which("systemd-analyze")
    if verify:
        said = subprocess.run([verify, "verify", str(path)], capture_output=True, text=True, check=False).stderr
        assert "Unknown" not in said, said


def test_the_compose_file() -> None:
    """What each part needs of the others is there under the same name."""
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    compose = yaml.safe_load((ROOT / "service" / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
    services, volumes = compose["services"], set(compose["volumes"])
    assert set(services) == {"caddy", "http", "worker", "postgres", "minio", "bucket"}
    assert services["http"]["command"] == "mri-recon serve --workers 0"
    assert services["worker"]["command"] == "mri-recon worker"
    for one in services.values():
        assert set(one.get("depends_on", ())) <= set(services)
        assert {place.partition(":")[0] for place in one.get("volumes", ())} <= volumes
    ours = services["worker"]["environment"]
    assert ours == services["http"]["environment"]
    assert (
        ours["MRI_RECON_STORE"].rpartition("@")[2] == "postgres/" + services["postgres"]["environment"]["POSTGRES_DB"]
    )
    assert ours["MRI_RECON_BUCKET"].removeprefix("s3://") in services["bucket"]["command"][0]
    assert ours["AWS_SECRET_ACCESS_KEY"] == services["minio"]["environment"]["MINIO_ROOT_PASSWORD"]
