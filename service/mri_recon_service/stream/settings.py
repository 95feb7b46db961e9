"""Read the settings of the streaming server from the environment (`MRI_RECON_STREAM_...`) or from arguments."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mri_recon_service.settings import MIB, settings_table

__all__ = ["StreamSettings"]


class StreamSettings(BaseSettings):
    """The operator's settings. The environment variable of `port` is `MRI_RECON_STREAM_PORT`, and so on.

    Raises:
        pydantic.ValidationError: a value is out of range.
    """

    model_config = SettingsConfigDict(env_prefix="MRI_RECON_STREAM_", frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=9002, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    clients: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(),
        description="Addresses and networks, separated by commas, that may connect, e.g. `10.0.3.7,10.1.0.0/16`. "
        "Needed on every address that is not loopback.",
    )
    configuration: str = Field(
        default="cs-wavelet",
        max_length=4096,
        description="Configuration of a client that sends none: a method, and options as NAME=VALUE.",
    )
    names: Annotated[Mapping[str, str], NoDecode] = Field(
        default_factory=dict,
        description="Names for configurations, as `NAME: CONFIGURATION` separated by semicolons, e.g. "
        "`default: cs-wavelet; brain: unrolled check=holdout`. They count even if their method is not among METHODS.",
    )
    methods: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Methods, separated by commas, that clients may name [all of `mri-recon methods`]."
    )
    max_clients: int = Field(default=16, gt=0, description="Largest number of sessions at the same time.")
    max_session_bytes: int = Field(
        default=4096 * MIB, gt=0, description="Largest number of bytes that a client may send in a session."
    )
    max_message_bytes: int = Field(
        default=16 * MIB, gt=0, description="Largest message, such as a readout of all channels."
    )
    max_images: int = Field(
        default=16384, gt=0, description="Largest number of slices, contrasts, repetitions and so on in a session."
    )
    max_jobs: int = Field(
        default=8,
        gt=0,
        description="Number of unfinished jobs of a session. While it has as many, nothing more is read of it.",
    )
    idle_seconds: float = Field(
        default=120.0, gt=0, description="Time without a byte from or to a client after which its session ends."
    )
    session_seconds: float = Field(default=7200.0, gt=0, description="Longest session.")
    stop_seconds: float = Field(
        default=30.0, ge=0, description="Time that sessions have to end once the server is told to stop."
    )

    @field_validator("names", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = {}
        for part in value.split(";"):
            name, colon, configuration = (one.strip() for one in part.partition(":"))
            if part.strip() and not (colon and name and configuration and len(name.split()) == 1):
                raise ValueError(f"expected NAME: CONFIGURATION, separated by semicolons, got {part.strip()[:60]!a}")
            if part.strip():
                found[name] = configuration
        return found

    @field_validator("methods", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return _parts(value)

    @field_validator("clients", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        found = []
        for one in _parts(value):
            try:
                found.append(ip_network(one))
            except ValueError as error:
                raise ValueError(
                    f"expected addresses or networks such as 10.1.0.0/16, got {str(one)[:60]!a}"
                ) from error
        return tuple(found)

    def admits(self, address: str) -> bool:
        """Tell whether a client of this address may connect. Without `clients` everybody who reaches the server may."""
        if not self.clients:
            return True
        given = ip_address(address.partition("%")[0])
        mapped = getattr(given, "ipv4_mapped", None) or given
        return any(mapped in network for network in self.clients)


def _parts(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


if __name__ == "__main__":
    print(settings_table(StreamSettings), end="")
