"""Check API keys, whose SHA-256 hashes are in a file that `mri-recon key` writes.

A key may expire. Rotation gives a name a second key, and lets the former expire after an overlap.

A key has 256 random bits. Nobody can guess it, so a plain hash is enough: a salt or a slow hash would add nothing.
Clients send `Authorization: Bearer KEY` or `X-API-Key: KEY`. The pages, their files, the documentation and the health
addresses need no key: they are the same for everyone. Every other address needs one, `/metrics` included.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from mri_recon._system.files import is_full, write_atomically
from mri_recon.errors import ConfigError, OutputError
from mri_recon_service import clock
from mri_recon_service.http.security import route_path
from mri_recon_service.problems import Problem
from mri_recon_service.shares import Shares

__all__ = ["Authentication", "KeyRecord", "Keyring", "add_key", "is_open", "read_keys", "remove_key", "rotate_key"]

log = logging.getLogger("mri_recon_service")

PREFIX = "mrk_"
"""Beginning of every key, by which a scanner for secrets finds a committed key."""

_OPEN = frozenset(
    {"/", "/docs", "/openapi.json", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"}
)
_OPEN_BELOW = ("/static/", "/problems")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class KeyRecord(BaseModel):
    """A key in the keys file.

    Attributes:
        name: name of the key's owner. Two keys of a name are one client.
        sha256: SHA-256 of the key.
        created: when it was made.
        expires: when it ends. None: never.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: AwareDatetime
    expires: AwareDatetime | None = None

    def left(self, now: float) -> timedelta | None:
        """Return the time until the key ends, at or below 0 once it has. None: it never ends.

        Args:
            now: seconds since the epoch.
        """
        return None if self.expires is None else self.expires - datetime.fromtimestamp(now, UTC)

    def expired(self, now: float) -> bool:
        """Tell whether the key has ended at a time in seconds since the epoch."""
        left = self.left(now)
        return left is not None and left <= timedelta(0)

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        return _checked_name(name)


class _KeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[KeyRecord] = []


def read_keys(path: Path) -> list[KeyRecord]:
    """Read the keys of a file. A missing file has none.

    Raises:
        ConfigError: the file cannot be read, or is no file of keys.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():  # reading a pipe waits, a device may be endless
            raise ConfigError(f"{path}: expected a file of API keys, got a pipe or a device: choose another keys file")
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{path}: the API keys cannot be read ({error.strerror}): let the service read it") from error
    try:
        return _KeyFile.model_validate_json(content).keys
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ConfigError(
            f"{path}: expected a file that `mri-recon key add` wrote, got {reason}: restore it"
        ) from error


def add_key(path: Path, name: str, *, lifetime: timedelta | None = None) -> str:
    """Make a new key for `name`. Only the caller sees it: the file keeps its hash.

    Args:
        path: the keys file.
        name: name of the key's owner.
        lifetime: time until the key ends. None: it does not.

    Raises:
        ConfigError: an impossible name, a name that has a key, or a file that cannot be read or written.
    """
    keys = read_keys(path)
    _checked_name(name)
    if any(one.name == name for one in keys):
        raise ConfigError(
            f"expected a new name, got {name!r}, which has a key: `mri-recon key rotate` gives it a new one, or choose "
            "another name"
        )
    key, record = _new_key(name, lifetime)
    _write(path, [*keys, record])
    return key


def rotate_key(path: Path, name: str, *, overlap: timedelta, lifetime: timedelta | None = None) -> str:
    """Make a new key for a name that has one. The former ones end after `overlap`, or earlier if they did before.

    Args:
        path: the keys file.
        name: name of the key's owner.
        overlap: time for which the former keys stay valid.
        lifetime: time until the new key ends. None: that of the former key.

    Raises:
        ConfigError: no such name, or a file that cannot be read or written.
    """
    keys = read_keys(path)
    former = [one for one in keys if one.name == name]
    if not former:
        raise _no_such_name(keys, name)
    newest = max(former, key=lambda one: one.created)
    if lifetime is None and newest.expires is not None:
        lifetime = newest.expires - newest.created
    now = clock.now()
    end = datetime.fromtimestamp(now, UTC) + overlap
    kept = [
        one
        if one.name != name or (one.expires is not None and one.expires <= end)
        else one.model_copy(update={"expires": end})
        for one in keys
        if one.name != name or not one.expired(now)
    ]
    key, record = _new_key(name, lifetime)
    _write(path, [*kept, record])
    return key


def _new_key(name: str, lifetime: timedelta | None) -> tuple[str, KeyRecord]:
    key = PREFIX + secrets.token_urlsafe(32)
    created = datetime.fromtimestamp(clock.now(), UTC)
    expires = None if lifetime is None else created + lifetime
    return key, KeyRecord(name=name, sha256=_digest(key), created=created, expires=expires)


def remove_key(path: Path, name: str) -> None:
    """Remove the keys of `name` from the file. A running service refuses it from the next request on.

    Raises:
        ConfigError: no such name, or a file that cannot be read or written.
    """
    keys = read_keys(path)
    kept = [one for one in keys if one.name != name]
    if len(kept) == len(keys):
        raise _no_such_name(keys, name)
    _write(path, kept)


def _no_such_name(keys: Sequence[KeyRecord], name: str) -> ConfigError:
    names = ", ".join(dict.fromkeys(one.name for one in keys)) or "(none)"
    return ConfigError(f"expected one of the names {names}, got {name!r}: `mri-recon key list` shows them")


@dataclass(frozen=True)
class _Stamp:
    """Properties that differ between two versions of a file: `mri-recon key` moves a new file into place."""

    inode: int
    modified: int
    size: int


class Keyring:
    """The keys of a file, which is read again when it changes.

    Raises:
        ConfigError: the file cannot be read, or has no key: nobody could use the service.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._keys: Sequence[KeyRecord] = read_keys(path)
        if not self._keys:
            raise ConfigError(
                f"expected at least one API key where other machines reach the service, got none in {path}: "
                "make one with `mri-recon key add NAME`, or listen on 127.0.0.1 only"
            )
        if all(one.expired(clock.now()) for one in self._keys):
            log.warning("every API key in %s has expired: `mri-recon key rotate NAME` makes a new one", path)

    def owner(self, key: str) -> str | None:
        """Find the name that a valid key belongs to. None: the key is unknown, or has expired."""
        found = self.find(key)
        return None if found is None or found.expired(clock.now()) else found.name

    def find(self, key: str) -> KeyRecord | None:
        """Find the record of a key, which may have expired. Every kept hash is compared, each in constant time."""
        self._refresh()
        digest, found = _digest(key), None
        for one in self._keys:
            if hmac.compare_digest(one.sha256, digest):
                found = one
        return found

    def _refresh(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        try:
            self._keys = read_keys(self._path)
        except ConfigError as error:  # a file that cannot be read admits nobody
            log.error("%s", error)
            self._keys = []
        self._stamp = stamp


class Authentication:
    """Refuse requests without a valid key, and set `request.state.client` to the name of the key.

    The requests in progress are shared between keys. With `keyring=None` every request is admitted, as the client "".
    """

    def __init__(self, app: ASGIApp, *, keyring: Keyring | None, most: int) -> None:
        self.app = app
        self._keyring = keyring
        self._in_progress = Shares(most, shared=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request.

        Raises:
            Problem: unauthorized, busy.
        """
        if scope["type"] not in ("http", "lifespan"):
            return  # no websockets here
        if scope["type"] == "http":
            scope.setdefault("state", {})["client"] = ""
        if self._keyring is None or scope["type"] != "http" or is_open(route_path(scope)):
            await self.app(scope, receive, send)
            return
        client = _client(self._keyring, Headers(scope=scope))
        scope["state"]["client"] = client
        place = self._in_progress.take(client)
        if place is None:
            raise Problem(
                "busy",
                "as many requests of this key are in progress as it may have: wait for their answers",
                headers={"Retry-After": "5"},
            )
        try:
            await self.app(scope, receive, send)
        finally:
            place.release()


def _client(keyring: Keyring, headers: Headers) -> str:
    key = headers.get("x-api-key")
    if key is None:
        scheme, _, rest = headers.get("authorization", "").partition(" ")
        key = rest.strip() if scheme.lower() == "bearer" else ""
    found = keyring.find(key) if key else None
    if found is None:
        what = "one that this service does not know" if key else "none"
        raise _unauthorized(
            f"expected an API key, got {what}: send it as 'Authorization: Bearer KEY'; the operator makes one with "
            "`mri-recon key add`"
        )
    if found.expires is not None and found.expired(clock.now()):
        raise _unauthorized(
            f"expected a valid API key, got one of {found.name} that expired on {found.expires:%Y-%m-%d at %H:%M} UTC: "
            "ask the operator for a new one, `mri-recon key rotate`"
        )
    return found.name


def _unauthorized(detail: str) -> Problem:
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="mri-recon"'})


def is_open(path: str) -> bool:
    """Tell whether an address answers without a key."""
    return path in _OPEN or path.startswith(_OPEN_BELOW)


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"expected a name of at most 64 letters, digits, '.', '_' and '-', got {name[:80]!a}: choose another one"
        )
    return name


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _Stamp(found.st_ino, found.st_mtime_ns, found.st_size)


def _write(path: Path, keys: Sequence[KeyRecord]) -> None:
    """Write the file, private from the start. A replaced file keeps the rights and owner that an operator gave it."""
    document = {"keys": [one.model_dump(mode="json", exclude_none=True) for one in keys]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, (json.dumps(document, indent=2) + "\n").encode(), mode=0o600)
    except OSError as error:
        raise ConfigError(
            f"{path}: the API keys cannot be written ({error.strerror}): choose another keys file"
        ) from error
    except OutputError as error:
        cause = error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) else str(error)
        cure = "free some space; the keys are as they were" if is_full(error) else "choose another keys file"
        raise ConfigError(f"{path}: the API keys cannot be written ({reason}): {cure}") from error
