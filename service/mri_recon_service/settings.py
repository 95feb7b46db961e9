"""Read every setting of the service from the environment (`MRI_RECON_...`) or from arguments."""

from __future__ import annotations

import ipaddress
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mri_recon._system.memory import machine_memory

__all__ = ["MIB", "Settings", "is_loopback", "settings_table"]

MIB = 1 << 20


class Settings(BaseSettings):
    """The operator's settings. The environment variable of `port` is `MRI_RECON_PORT`, and so on.

    Raises:
        pydantic.ValidationError: a value is out of range.
    """

    model_config = SettingsConfigDict(env_prefix="MRI_RECON_", frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    require_keys: bool = Field(
        default=False,
        description="Require an API key on a loopback address too. On any other address, and with any name in "
        "ALLOWED_HOSTS that is not a loopback name, a key is always required.",
    )
    keys_file: Path | None = Field(
        default=None,
        description="File of API keys that `mri-recon key` writes [mri-recon/keys.json in the user's configuration "
        "folder].",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Host names, separated by commas, that clients may use, e.g. the proxy's. If empty: on a loopback "
        "address only loopback names, on any other address every name.",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Origins, separated by commas, of other web pages that may use the service, e.g. "
        "`https://pacs.example.org`.",
    )
    log_format: Literal["json", "text"] = Field(
        default="json", description="Log one JSON object on each line, or plain text."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Minimum log level.")
    log_error_messages: bool = Field(
        default=False,
        description="Log the messages of unexpected errors too. They may repeat a user's data. By default the log has "
        "only the types and the places in the code.",
    )
    audit_log: str = Field(
        default="",
        description="File of audit lines, one for each accepted request that makes, reads, cancels or deletes work or "
        "results, see docs/service/operations.md; `-`: the service's log. Empty: none.",
    )
    audit_failure: Literal["refuse", "continue"] = Field(
        default="refuse",
        description="While audit lines cannot be written: refuse these requests (503), or continue without lines.",
    )
    audit_addresses: bool = Field(default=False, description="Audit lines have the address of the client.")
    max_connections: int = Field(
        default=512,
        gt=0,
        description="Largest number of open connections, as far as the process has file descriptors. A further one "
        "takes the place of the one that has waited longest for a request; where all work, it may ask `/health` only.",
    )
    max_connections_per_address: int = Field(
        default=128,
        gt=0,
        description="Largest number of open connections of one address (of IPv6: of 64 bits). Loopback addresses have "
        "no such bound, since a proxy may be there.",
    )
    header_timeout_seconds: float = Field(
        default=10.0, gt=0, description="Longest time from the first byte of a request to the end of its header."
    )
    stall_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Longest time in which a client sends nothing of its body, or reads nothing of its answer.",
    )
    min_bytes_per_second: int = Field(
        default=16384,
        gt=0,
        description="Least average rate at which a client has to send its body and read its answer.",
    )
    max_upload_bytes: int = Field(default=2048 * MIB, gt=0, description="Largest request body, counted as it streams.")
    max_decoded_bytes: int = Field(
        default=4096 * MIB, gt=0, description="Largest decoded k-space, as complex64 in memory."
    )
    max_concurrent_uploads: int = Field(
        default=32, gt=0, description="Largest number of uploads received at the same time."
    )
    upload_timeout_seconds: float = Field(default=300.0, gt=0, description="Longest time to receive a request body.")
    upload_dir: Path | None = Field(
        default=None, description="Folder for uploads during the work [the system's temporary folder]."
    )
    parser_processes: int = Field(default=2, gt=0, description="Number of processes that parse uploaded files.")
    parser_timeout_seconds: float = Field(
        default=60.0, gt=0, description="Longest elapsed time and processor time to parse an uploaded file."
    )
    parser_memory_bytes: int | None = Field(
        default=None, gt=0, description="Memory for parsing an uploaded file [four times the decoded limit plus 1 GiB]."
    )
    parser_files: int = Field(default=64, gt=0, description="Number of files after which a parser process is replaced.")
    worker_threads: int = Field(
        default=1,
        ge=0,
        description="Number of reconstructions that run at the same time. 0: none here; `mri-recon worker` does them.",
    )
    queue_size: int = Field(default=16, ge=0, description="Number of direct requests that may wait for a worker.")
    timeout_seconds: float = Field(
        default=900.0,
        gt=0,
        description="Longest time from acceptance to a direct answer, including waiting. Longest run time of a job.",
    )
    data_dir: Path | None = Field(
        default=None,
        description="Folder of accepted jobs and their results, on a local disk. Processes on one machine may share it "
        "[$XDG_STATE_HOME/mri-recon, else ~/.local/state/mri-recon].",
    )
    store: SecretStr | None = Field(
        default=None,
        description="Address of a PostgreSQL database for the jobs, e.g. `postgresql://mri-recon@db.example.org/jobs`, "
        "which processes on several machines may share, see docs/service/cluster.md [the file jobs.sqlite in the data "
        "folder].",
    )
    lease_seconds: float = Field(
        default=30.0,
        gt=0,
        description="With `STORE`: time without the database after which a process loses its jobs to others.",
    )
    bucket: str | None = Field(
        default=None,
        description="Bucket of S3 for the files of jobs, e.g. `s3://mri-recon/jobs`, which processes on several "
        "machines may share, see docs/service/cluster.md [the folder jobs in the data folder].",
    )
    bucket_endpoint: str | None = Field(
        default=None, description="Address of the S3 server, e.g. `https://s3.example.org:9000` [AWS]."
    )
    bucket_public_endpoint: str | None = Field(
        default=None, description="Address of the S3 server for clients, if it is another."
    )
    bucket_address_seconds: float = Field(
        default=0.0,
        ge=0,
        le=604800,
        description="Time for which a client that asks for a stored result is sent to the bucket for it (303); 0 sends "
        "results from the service.",
    )
    sync_bytes: int = Field(
        default=64 * MIB,
        ge=0,
        description="Largest request that is answered directly: decoded bytes of the scan times the number of methods. "
        "Larger requests become jobs.",
    )
    max_queued_jobs: int = Field(default=256, gt=0, description="Number of jobs that may wait.")
    max_stored_bytes: int | None = Field(
        default=None,
        gt=0,
        description="Largest number of bytes that uploads and results of jobs may take in the data folder [half of its "
        "file system], or in the bucket [no bound].",
    )
    max_batch: int = Field(
        default=8, gt=0, description="Largest number of waiting requests with one network and shape that run together."
    )
    max_attempts: int = Field(
        default=3,
        gt=0,
        description="Number of times the process may die while it works on a job and nothing else, before the job "
        "fails.",
    )
    max_memory_bytes: int | None = Field(
        default=None,
        gt=0,
        description="Bound on the estimated memory of all running reconstructions [three fifths of the machine's].",
    )
    max_buffer_bytes: int | None = Field(
        default=None,
        gt=0,
        description="Bound on the memory of everything else: files being opened, opened scans that wait, answers being "
        "made. One piece that takes more than half of it may go beyond [a fifth of the machine's].",
    )
    result_ttl_seconds: float = Field(
        default=86400.0,
        gt=0,
        description="Time for which a job's result is kept after its end. The job itself is deleted after twice "
        "this time.",
    )
    targets_file: Path | None = Field(
        default=None,
        description="TOML file of the targets to which results may be delivered (field `deliver`), see "
        "docs/using/pacs.md. Without it there are none.",
    )
    max_deliveries: int = Field(default=256, gt=0, description="Number of deliveries that may wait.")
    max_delivery_attempts: int = Field(
        default=10, gt=0, description="Number of attempts of a delivery whose target cannot be reached or is busy."
    )
    delivery_retry_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Time before the second attempt; it doubles for each further one, up to an hour.",
    )
    max_iters: int = Field(default=1000, gt=0, description="Largest number of iterations that a request may ask for.")
    max_adapt: int = Field(
        default=0,
        ge=0,
        description="Largest number of steps by which a request may adapt a network to its scan (option `adapt`), "
        "about a second each on one core; 0 allows none.",
    )
    device: str = Field(default="cpu", description="Device that computes, e.g. cpu or cuda.")

    @field_validator("allowed_hosts", "allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip().lower() for part in value.split(",") if part.strip())
        return value

    @property
    def option_limits(self) -> dict[str, int]:
        """Largest values that requests may give to options of methods, by the option's name."""
        return {"max_iters": self.max_iters, "adapt": self.max_adapt}

    @property
    def upload_folder(self) -> Path:
        """`upload_dir`, or its default."""
        return self.upload_dir or Path(tempfile.gettempdir())

    @property
    def memory_bytes(self) -> int:
        """`max_memory_bytes`, or its default."""
        return self.max_memory_bytes or machine_memory() * 3 // 5

    @property
    def buffer_bytes(self) -> int:
        """`max_buffer_bytes`, or its default."""
        return self.max_buffer_bytes or machine_memory() // 5

    @property
    def exposed(self) -> bool:
        """Whether other machines may reach the service: by its address, or by the name of a proxy."""
        return not is_loopback(self.host) or not all(map(is_loopback, self.allowed_hosts))

    @property
    def keys_required(self) -> bool:
        """Whether a request needs an API key."""
        return self.require_keys or self.exposed

    @property
    def keys_path(self) -> Path:
        """`keys_file`, or its default."""
        if self.keys_file is not None:
            return self.keys_file
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "mri-recon" / "keys.json"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def settings_table(settings: type[BaseSettings] = Settings) -> str:
    """Write settings as a Markdown table with one row for each: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    prefix = settings.model_config["env_prefix"]
    for name, field in settings.model_fields.items():
        value = field.get_default(call_default_factory=True)
        default = "" if value in (None, (), {}) else f"`{value}`"
        rows.append(f"| `{prefix}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(settings_table(), end="")
