"""Every setting of the service in one class, from the environment (`MRI_RECON_...`) or from arguments."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = ["Settings", "is_loopback", "settings_table"]

MIB = 1 << 20


class Settings(BaseSettings):
    """What an operator may choose. The environment variable of `port` is `MRI_RECON_PORT`, and so on.

    Raises:
        pydantic.ValidationError: a value out of range.
    """

    model_config = SettingsConfigDict(env_prefix="MRI_RECON_", frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    require_keys: bool = Field(
        default=False,
        description="Ask for an API key on a loopback address too. Elsewhere, and for every name in ALLOWED_HOSTS that "
        "is not a loopback name, a key is asked for in any case.",
    )
    keys_file: Path | None = Field(
        default=None,
        description="The file that `mri-recon key` writes [mri-recon/keys.json in the user's configuration folder].",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Names, separated by commas, by which clients call the service, e.g. the proxy's. On a loopback "
        "address other names than loopback ones are refused; elsewhere any name is taken where none is listed.",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Origins, separated by commas, of other web pages that may use the service, e.g. "
        "`https://pacs.example.org`.",
    )
    log_format: Literal["json", "text"] = Field(default="json", description="One JSON object a line, or plain lines.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level to log.")
    log_error_messages: bool = Field(
        default=False,
        description="Log the messages of unexpected errors too, which may repeat what a user sent; else their types "
        "and places in the code.",
    )
    max_upload_bytes: int = Field(default=2048 * MIB, gt=0, description="Largest request body, counted as it streams.")
    max_decoded_bytes: int = Field(
        default=4096 * MIB, gt=0, description="Largest k-space once decoded, as complex64 in memory."
    )
    max_concurrent_uploads: int = Field(default=32, gt=0, description="Uploads received at the same time.")
    upload_timeout_seconds: float = Field(default=300.0, gt=0, description="Longest time a request body may take.")
    upload_dir: Path | None = Field(
        default=None, description="Folder for uploads while they are worked on [the system's temporary folder]."
    )
    parser_processes: int = Field(default=2, gt=0, description="Processes that open uploaded files.")
    parser_timeout_seconds: float = Field(
        default=60.0, gt=0, description="Longest time, and most processor time, to read an uploaded file."
    )
    parser_memory_bytes: int | None = Field(
        default=None, gt=0, description="Memory for reading an uploaded file [four times the decoded limit and 1 GiB]."
    )
    parser_files: int = Field(default=64, gt=0, description="Files that a parser process reads before a fresh one.")
    worker_threads: int = Field(default=1, gt=0, description="Reconstructions that run at the same time.")
    queue_size: int = Field(default=16, ge=0, description="Reconstructions that may wait for a worker.")
    timeout_seconds: float = Field(
        default=900.0,
        gt=0,
        description="Longest time from acceptance to a direct answer, waiting included; longest time that a job runs.",
    )
    data_dir: Path | None = Field(
        default=None,
        description="Folder of accepted jobs and their results, on a local disk; processes of one machine may share it "
        "[$XDG_STATE_HOME/mri-recon, else ~/.local/state/mri-recon].",
    )
    sync_bytes: int = Field(
        default=64 * MIB,
        ge=0,
        description="Scans whose decoded bytes, times the number of methods, are at most this are answered at once; "
        "larger ones become jobs.",
    )
    max_queued_jobs: int = Field(default=256, gt=0, description="Jobs that may wait.")
    max_batch: int = Field(
        default=8, gt=0, description="Most waiting requests of one network and shape that are run together."
    )
    max_attempts: int = Field(
        default=3, gt=0, description="How many times a job is taken up whose process dies of it, before it has failed."
    )
    max_memory_bytes: int | None = Field(
        default=None,
        gt=0,
        description="Memory that reconstructions may be estimated to take together [four fifths of the machine's].",
    )
    result_ttl_seconds: float = Field(
        default=86400.0,
        gt=0,
        description="How long a job's result is kept after its end; the job itself is forgotten after as long again.",
    )
    max_iters: int = Field(default=1000, gt=0, description="Most iterations that a request may ask for.")
    device: str = Field(default="cpu", description="Where to compute, e.g. cpu or cuda.")

    @field_validator("allowed_hosts", "allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip().lower() for part in value.split(",") if part.strip())
        return value

    @property
    def exposed(self) -> bool:
        """Whether another machine may be at the other end: by the address, or by a name that a proxy is called by."""
        return not is_loopback(self.host) or not all(map(is_loopback, self.allowed_hosts))

    @property
    def keys_required(self) -> bool:
        """Whether a request needs an API key."""
        return self.require_keys or self.exposed

    @property
    def keys_path(self) -> Path:
        """`keys_file`, or where it lies by default."""
        if self.keys_file is not None:
            return self.keys_file
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "mri-recon" / "keys.json"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def settings_table() -> str:
    """The settings as a table in Markdown, one row each: variable, default, description."""
    rows = ["| variable | default | what |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, ()) else f"`{field.default}`"
        rows.append(f"| `MRI_RECON_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(settings_table(), end="")
