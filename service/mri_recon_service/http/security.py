"""Refuse requests of foreign web pages: check the host name and the origin, and set headers for browsers.

A browser on this machine sends requests to a loopback address for any page that it shows. `Host` reveals a foreign page
whose name was made to point at 127.0.0.1 (DNS rebinding). `Sec-Fetch-Site` and `Origin` reveal a page that calls across
origins, if only by the address of a picture. Programs such as curl send neither of the two, and are not restricted
here. Other pages may link to the pages of the service.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mri_recon.errors import ConfigError
from mri_recon_service.problems import Problem
from mri_recon_service.settings import Settings, is_loopback
from mri_recon_service.uploads.isolation import Layer

__all__ = ["API_POLICY", "PAGE_POLICY", "Security", "check_exposure", "host_name", "route_path"]

API_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""Content security policy of answers that are no pages."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; worker-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""Content security policy of the page at `/` and of its files: own modules, nothing inline, pictures from memory."""

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(:[0-9]{0,5})?")
_NEEDED: dict[Layer, str] = {
    "network": "a network namespace or seccomp",
    "calls": "seccomp on x86-64 or AArch64",
    "files": "landlock (Linux 5.13)",
}
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_PAGES = frozenset({"/", "/docs", "/openapi.json"})
_BELOW_PAGES = ("/static/", "/problems", "/health/")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Security:
    """Check `Host` and the origin of every request before its body is read."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self.app = app
        self._local = is_loopback(settings.host)
        self._hosts = frozenset(settings.allowed_hosts)
        self._origins = frozenset(settings.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request.

        Raises:
            Problem: unknown-host, forbidden-origin.
        """
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        path = route_path(scope)
        self._check_host(headers, path)
        if scope["method"] not in _SAFE_METHODS or not _is_page(path):
            self._check_origin(headers)
        await self.app(scope, receive, send)

    def _check_host(self, headers: Headers, path: str) -> None:
        if not (self._local or self._hosts) or path.startswith("/health/"):
            return  # keys protect a service without names; monitors call it by its address
        given = ", ".join(headers.getlist("host"))  # two names are none
        name = host_name(given)
        if name not in self._hosts and not is_loopback(name):
            raise Problem(
                "unknown-host",
                f"expected the Host {' or '.join(sorted(self._hosts) or ['localhost'])}, got {given[:80]!a}: call "
                "the service by that name, or have the name listed in MRI_RECON_ALLOWED_HOSTS",
            )

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is not None and origin.lower() in self._origins:
            return
        site = headers.get("sec-fetch-site")
        same = site in {"same-origin", "none"} if site is not None else True
        if not same or (origin is not None and not _same(origin, headers.get("host", ""))):
            raise Problem(
                "forbidden-origin",
                "expected a request from a page of this service or from a program, got one from another web page: the "
                "operator may list its origin in MRI_RECON_ALLOWED_ORIGINS",
            )


def add_headers(message: Message, path: str) -> None:
    """Add headers for browsers to the start of an answer. A route's own policy stays."""
    headers = MutableHeaders(scope=message)
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    is_page = path == "/" or path.startswith("/static/")
    headers.setdefault("Content-Security-Policy", PAGE_POLICY if is_page else API_POLICY)


def check_exposure(settings: Settings, lacks: Sequence[Layer]) -> None:
    """Refuse to serve other machines if uploads are not parsed in isolation.

    Args:
        settings: the service's settings, with its address.
        lacks: layers of the parsing process's sandbox that this machine does not have.

    Raises:
        ConfigError: other machines reach the address or a name, and a layer is missing.
    """
    if lacks and settings.exposed:
        raise ConfigError(
            f"expected a loopback address such as 127.0.0.1, got {settings.host!r}"
            + (f" and the names {', '.join(settings.allowed_hosts)}" if settings.allowed_hosts else "")
            + ": other machines would reach it, and the process that opens uploaded files cannot be confined here, for "
            f"want of {' and '.join(_NEEDED[layer] for layer in lacks)}; listen on 127.0.0.1, or allow that on this "
            "machine"
        )


def route_path(scope: Scope) -> str:
    """Remove the prefix that a proxy may have set from the path."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root + "/") else path


def _is_page(path: str) -> bool:
    """Tell whether an address is a page, a file of a page, or a probe: cheap, and the same for everyone."""
    return path in _PAGES or path.startswith(_BELOW_PAGES)


def host_name(host: str) -> str:
    """Read the name in `Host`, in lower case and without a port; "" if it is no name or address with or without one."""
    found = _HOST.fullmatch(host)
    return "" if found is None else found["name"].lower()


def _same(origin: str, host: str) -> bool:
    """Tell whether an origin is the called host. The scheme is not compared: a proxy may have removed TLS."""
    try:
        parts = urlsplit(origin)
        default = _DEFAULT_PORTS[parts.scheme]
        return (parts.hostname, parts.port or default) == _address(host, default)
    except (KeyError, ValueError):
        return False  # `null`, or no origin at all


def _address(host: str, default_port: int) -> tuple[Any, int]:
    parts = urlsplit(f"//{host}")
    return parts.hostname, parts.port or default_port
