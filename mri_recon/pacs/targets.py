"""Name where images are sent: the address of a DICOMweb service, or of an application entity of DICOM.

User names, passwords and tokens come from the environment and never appear in a text of this package.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from mri_recon._system.text import printable
from mri_recon.errors import ConfigError

__all__ = [
    "CALLING_AET",
    "Credentials",
    "DicomTarget",
    "StowTarget",
    "Target",
    "Tls",
    "is_loopback",
    "parse_dicom",
    "parse_stow",
    "read_credentials",
]

CALLING_AET = "MRI-RECON"
"""Application entity title by which a PACS knows this program, if none is given."""

_AET = re.compile(r"(?=.*[^ ])[ -\[\]-~]{1,16}")  # PS3.5 6.2, AE: no backslash, no control character
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,253}")
_HEADER_TEXT = re.compile(r"[!-~]{1,65536}")


@dataclass(frozen=True)
class Tls:
    """Say how the other side is verified, and how this one shows who it is.

    Attributes:
        ca_file: certificates of authorities in PEM that are trusted in place of the usual ones.
        certificate: certificate of this side in PEM, if the other asks for one.
        key: its key in PEM, not encrypted; None if it is in the file of the certificate.
    """

    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        """Refuse files that cannot be read, before anything is sent.

        Raises:
            ConfigError: no such file, or a key without a certificate.
        """
        for what, path in (("CA file", self.ca_file), ("certificate", self.certificate), ("key", self.key)):
            if path is not None and not path.is_file():
                raise ConfigError(f"expected a {what} in PEM, found no file at {path}: check the path")
            if path is not None and not os.access(path, os.R_OK):
                raise ConfigError(f"expected a {what} that can be read, {path} cannot: let this user read it")
        if self.key is not None and self.certificate is None:
            raise ConfigError(f"expected a certificate with the key {self.key}, got none: name it too")


@dataclass(frozen=True)
class Credentials:
    """Hold a user's name and password, or a bearer token; nothing shows them.

    Attributes:
        user: name for HTTP basic authentication.
        password: its password.
        token: bearer token.
    """

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self.user or self.token)


@dataclass(frozen=True)
class StowTarget:
    """The base address of a DICOMweb service.

    Attributes:
        url: without a slash at its end, e.g. `https://pacs.example.org/dicom-web`.
        credentials: how this side authenticates itself.
        tls: certificates.
        allow_plain_credentials: whether credentials may be sent without encryption to another machine.
        timeout: longest wait for the connection and between two parts of an answer, in seconds.
        name: name that texts show in place of the address; if empty, they show the address.
    """

    url: str
    credentials: Credentials = field(default_factory=Credentials)
    tls: Tls = field(default_factory=Tls)
    allow_plain_credentials: bool = False
    timeout: float = 60.0
    name: str = ""

    def __post_init__(self) -> None:
        """Refuse to send credentials that anyone on the way could read.

        Raises:
            ConfigError: credentials, http, and a host that is not this machine.
        """
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if self.credentials and parts.scheme == "http" and not is_loopback(host) and not self.allow_plain_credentials:
            raise ConfigError(
                f"expected https for a service that needs credentials, got {self}: anyone on the way could read them; "
                "use https, or allow it with --credentials-over-http"
            )

    def __str__(self) -> str:
        """Return the name, or the address."""
        return self.name or self.url


@dataclass(frozen=True)
class DicomTarget:
    """An application entity that stores images.

    Attributes:
        aet: its title.
        host: its name or address.
        port: its TCP port.
        calling_aet: the title by which it knows this side.
        use_tls: whether the connection is encrypted.
        tls: certificates, for an encrypted connection.
        timeout: longest wait for the connection and for each answer, in seconds.
        name: name that texts show in place of the address; if empty, they show the address.
    """

    aet: str
    host: str
    port: int
    calling_aet: str = CALLING_AET
    use_tls: bool = False
    tls: Tls = field(default_factory=Tls)
    timeout: float = 60.0
    name: str = ""

    def __post_init__(self) -> None:
        """Refuse titles that DICOM does not allow, and certificates that would not be used.

        Raises:
            ConfigError: such a title or certificate.
        """
        for what, title in (("called", self.aet), ("calling", self.calling_aet)):
            if not _AET.fullmatch(title):
                raise ConfigError(
                    f"expected a {what} AE title of 1 to 16 ASCII characters without backslash, got {title[:40]!a}: "
                    "ask the administrator of the PACS"
                )
        if self.tls != Tls() and not self.use_tls:
            raise ConfigError("expected --tls where certificates are given for DICOM, got none: add it")

    def __str__(self) -> str:
        """Return the name, or AET@HOST:PORT."""
        if self.name:
            return self.name
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.aet}@{host}:{self.port}"


Target = StowTarget | DicomTarget
"""Where images are sent."""


def parse_stow(text: str) -> str:
    """Check the base address of a DICOMweb service, and return it without a slash at its end.

    Raises:
        ConfigError: not http or https, no host, or a user's name, query or fragment in it.
    """
    shown = _without_user(text)
    wrong = f"expected the base address of a DICOMweb service, e.g. https://pacs.example.org/dicom-web, got {shown!a}: "
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{wrong}its port is a number from 1 to 65535") from error
    if parts.scheme not in ("http", "https"):
        raise ConfigError(f"{wrong}it begins with https:// or http://")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"{wrong}leave the user and the password out of it: lists of processes and logs would show them; set "
            "MRI_RECON_PACS_USER and MRI_RECON_PACS_PASSWORD in the environment"
        )
    if not _is_host(parts.hostname) or port == 0:
        raise ConfigError(f"{wrong}name a host")
    if "?" in text or "#" in text or not re.fullmatch(r"[!-~]*", text):
        raise ConfigError(f"{wrong}it has no spaces, no ? and no #")
    path = parts.path.rstrip("/")
    if path.endswith("/studies"):
        raise ConfigError(f"{wrong}leave /studies out, STOW-RS adds it")
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def parse_dicom(text: str) -> tuple[str, str, int]:
    """Split AET@HOST:PORT into title, host and port; an IPv6 address stands in brackets.

    Raises:
        ConfigError: not of this form.
    """
    title, at, place = text.rpartition("@")
    host, colon, number = place.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not at or not colon or not _is_host(host) or not re.fullmatch(r"[0-9]{1,5}", number):
        raise ConfigError(f"expected AET@HOST:PORT, e.g. ORTHANC@127.0.0.1:4242, got {printable(text)[:120]!r}")
    if not 1 <= int(number) <= 65535:
        raise ConfigError(f"expected a port from 1 to 65535, got {number} in {printable(text)[:120]!r}")
    return title, host, int(number)


def read_credentials(environment: Mapping[str, str], prefix: str = "MRI_RECON_PACS_") -> Credentials:
    """Read `USER` and `PASSWORD`, or `TOKEN`, behind the prefix from the environment.

    Raises:
        ConfigError: both kinds, a password without a user, a user without a password, or characters that HTTP does not
            allow. The message names the variables, never their values.
    """
    user, password, token = (environment.get(prefix + name, "") for name in ("USER", "PASSWORD", "TOKEN"))
    if token and (user or password):
        raise ConfigError(f"expected {prefix}TOKEN or {prefix}USER and {prefix}PASSWORD, got both: unset one of them")
    if bool(user) != bool(password):
        missing, there = ("PASSWORD", "USER") if user else ("USER", "PASSWORD")
        raise ConfigError(f"expected {prefix}{missing} with {prefix}{there}, got none: set both or neither")
    if ":" in user or any(ord(one) < 32 for one in user + password):
        raise ConfigError(f"expected no colon in {prefix}USER and no control characters, got some: correct them")
    if token and not _HEADER_TEXT.fullmatch(token):
        raise ConfigError(f"expected a token of ASCII characters without spaces in {prefix}TOKEN, got another: set it")
    return Credentials(user, password, token)


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _is_host(host: str | None) -> bool:
    if not host:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _HOST.fullmatch(host) is not None
    return True


def _without_user(text: str) -> str:
    """Remove everything before an @ in an address, for messages."""
    before, slashes, rest = text.partition("://")
    place, slash, path = rest.partition("/")
    hidden = place.rpartition("@")[2]
    return f"{before}{slashes}{hidden}{slash}{path}"[:200] if slashes else text.rpartition("@")[2][:200]
