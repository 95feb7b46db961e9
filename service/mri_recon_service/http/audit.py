"""Write audit lines: who asked for which work or result, and when. See docs/service/operations.md.

Each accepted request that makes, reads, cancels or deletes work or its result leaves one JSON object on one line. A
line holds names of this package, names of keys and targets that the operator gave, identifiers that the server made,
the request's id, and hashes. It holds nothing else that a client sent: no file name, no field, no metadata of a scan.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import logging
import os
import re
import stat
import threading
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mri_recon.errors import ConfigError
from mri_recon_service import clock
from mri_recon_service.http.security import route_path
from mri_recon_service.job import Job
from mri_recon_service.problems import Problem
from mri_recon_service.settings import Settings

__all__ = ["Audit", "AuditLog", "action_of", "described_job", "described_work", "note", "open_audit", "operator_line"]

log = logging.getLogger("mri_recon_service")
_lines = logging.getLogger("mri_recon_service.audit")
_lines.setLevel(logging.INFO)  # a higher MRI_RECON_LOG_LEVEL does not lose them

_ROOM_BYTES = 1 << 20
_WORK = frozenset({"/v1/reconstructions", "/v1/compare"})
_JOBS = re.compile(r"/v1/jobs(?:/[^/]+(?:/(?P<part>events|result|parts|methods)(?:/[^/]+)?)?)?")
_READS = {"events": "follow", "result": "result", "parts": "part", "methods": "method"}
_RESULTS = frozenset({"create", "repeat", "result", "part", "method"})
_NAME = re.compile(r"[A-Za-z0-9_.+-]+")


def action_of(method: str, path: str) -> str | None:
    """Name the action of a request. None: it neither makes nor touches work or results.

    Returns:
        create, list, state, follow, result, part, method, or delete.
    """
    if method == "POST" and path in _WORK:
        return "create"
    found = _JOBS.fullmatch(path)
    if found is None:
        return None
    if method == "DELETE":
        return "delete"
    if method != "GET":
        return None
    if found["part"]:
        return _READS[found["part"]]
    return "list" if path == "/v1/jobs" else "state"


def described_work(fields: Mapping[str, str], sources: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Describe accepted work by the hashes of its files, the names of its methods, and the hash of its fields."""
    return {
        "input": sources["file"]["sha256"] if "file" in sources else None,
        "mask": sources["mask"]["sha256"] if "mask" in sources else None,
        "methods": _NAME.findall(fields.get("method") or fields.get("methods", "")),
        "options": hashlib.sha256(json.dumps(sorted(fields.items())).encode()).hexdigest(),
    }


def described_job(job: Job) -> dict[str, Any]:
    """Describe a job by its identifier and its work."""
    return {"job": job.id, **described_work(job.request.get("fields", {}), job.request.get("sources", {}))}


def note(request: Request, **facts: Any) -> None:
    """Add facts to the audit line of a request, if there is one."""
    noted = getattr(request.state, "audit", None)
    if noted is not None:
        noted.update(facts)


def operator_line(action: str, **facts: Any) -> dict[str, Any]:
    """Make the line of an action by `mri-recon jobs`, which no client does: no key has the name `@operator`."""
    line = {"time": _time(), "who": "@operator", "action": action, **facts}
    return {name: value for name, value in line.items() if value is not None}


class AuditLog:
    """A file of audit lines, or the service's log.

    The file is opened for appending, for its owner only. One that was moved away, by a program that rotates logs, is
    made anew at the next line. Processes may share it. Safe between threads.

    Args:
        place: the file; "-" for the service's log.
        refuses: whether requests are refused while lines cannot be written.
        addresses: whether lines have the address of the client.
    """

    def __init__(self, place: str, *, refuses: bool, addresses: bool = False) -> None:
        self.refuses = refuses
        self.addresses = addresses
        self._path = None if place == "-" else Path(place)
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._failed: str | None = None
        self._torn = False
        self._lost = 0

    def fault(self) -> str | None:
        """Try whether lines can be written. Returns the reason if not."""
        if self._path is None:
            return None
        with self._lock:
            try:
                found = os.fstatvfs(self._opened(self._path))
                if found.f_bavail * found.f_frsize < _ROOM_BYTES:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._resume()
            except OSError as error:
                return self._note_failure(error)
        return None

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line.

        Raises:
            OSError: it cannot be written. The line is lost, and counted.
        """
        if self._path is None:
            _lines.info("audit %s", json.dumps(line), extra={"fields": {"message": "audit", **line}})
            return
        with self._lock:
            try:
                self._opened(self._path)
                self._resume()
                self._append(line)
            except OSError as error:
                self._lost += 1
                self._note_failure(error)
                raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close()

    def _opened(self, path: Path) -> int:
        """Return the descriptor of the file that has the path now."""
        if self._descriptor is not None:
            try:
                same = os.path.samestat(os.fstat(self._descriptor), path.stat())
            except FileNotFoundError:
                same = False
            if same:
                return self._descriptor
            self._close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe does not wait
        descriptor = os.open(path, flags, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is no ordinary file")
        self._descriptor = descriptor
        return descriptor

    def _resume(self) -> None:
        """After a failure, first say how many lines are missing."""
        if self._failed is None:
            return
        if self._lost:
            self._append({"time": _time(), "action": "resumed", "lost": self._lost})
        self._failed, self._lost = None, 0
        log.warning("audit lines are written again")

    def _append(self, line: Mapping[str, Any]) -> None:
        assert self._descriptor is not None
        content = b"\n" * self._torn + json.dumps(line).encode() + b"\n"
        written = os.write(self._descriptor, content)
        self._torn = written != len(content)
        if self._torn:  # the disk had room for a part of it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _note_failure(self, error: OSError) -> str:
        reason = error.strerror or type(error).__name__
        if self._failed is None:
            log.error("audit lines cannot be written: %s", reason)
        self._failed = reason
        return reason

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def open_audit(settings: Settings) -> AuditLog | None:
    """Make the audit log of the settings. None: there is none.

    Raises:
        ConfigError: lines cannot be written, and the service should refuse work then.
    """
    if not settings.audit_log:
        return None
    audit = AuditLog(settings.audit_log, refuses=settings.audit_failure == "refuse", addresses=settings.audit_addresses)
    fault = audit.fault()
    if fault is not None and audit.refuses:
        raise ConfigError(
            f"expected a file for audit lines, got {settings.audit_log} ({fault}): check its folder's rights and free "
            "space, or set MRI_RECON_AUDIT_FAILURE=continue"
        )
    return audit


class Audit:
    """Write the audit line of each accepted request before the end of its answer is sent.

    Where the log refuses, an answer whose line cannot be written is 503, or ends early if a part of it has been sent.
    """

    def __init__(self, app: ASGIApp, *, audit: AuditLog) -> None:
        self.app = app
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request.

        Raises:
            Problem: not-ready.
        """
        action = action_of(scope["method"], route_path(scope)) if scope["type"] == "http" else None
        if action is None:
            await self.app(scope, receive, send)
            return
        if self._audit.refuses and await asyncio.to_thread(self._audit.fault) is not None:
            raise _unwritten()
        answer = _Answer(self._audit, action, scope, send)
        try:
            await self.app(scope, receive, answer.send)
        finally:
            answer.end()
        if answer.refused:
            if answer.begun:
                raise ConnectionAbortedError("the audit line cannot be written: the answer ends here")
            raise _unwritten()


class _Answer:
    """The answer of one request, whose end waits for the audit line."""

    def __init__(self, audit: AuditLog, action: str, scope: Scope, send: Send) -> None:
        self._audit = audit
        self._action = action
        self._scope = scope
        self._send = send
        self._facts: dict[str, Any] = {}
        scope.setdefault("state", {})["audit"] = self._facts
        self._status = 0
        self._kept: deque[Message] = deque()  # the start and a piece, at most
        self._at_once = False
        self._digest = hashlib.sha256()
        self._written = False
        self.begun = False
        self.refused = False

    async def send(self, message: Message) -> None:
        """Send a message when the next one comes: a file's last bytes come before the message that ends it."""
        if self.refused:
            return
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._at_once = _streams(message)
        self._digest.update(message.get("body", b""))
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if (last or self._at_once) and not self._written:
            await asyncio.to_thread(self._write)
        self._kept.append(message)
        while self._kept and not self.refused and (last or self._at_once or len(self._kept) > 2):
            self.begun = True
            await self._send(self._kept.popleft())

    def end(self) -> None:
        """Write the line of work whose client got no whole answer."""
        if not self._written:
            self._write()

    def _write(self) -> None:
        self._written = True
        if not (0 < self._status < 400 or self._facts.get("work")):
            return
        try:
            self._audit.write(self._line())
        except OSError:
            self.refused = self._audit.refuses

    def _line(self) -> dict[str, Any]:
        state, facts = self._scope["state"], self._facts
        action = facts.get("action", self._action)
        if action == "delete" and self._status == 202:
            action = "cancel"
        has_result = self._status == 200 and action in _RESULTS
        line = {
            "time": _time(),
            "request_id": state["request_id"],
            "who": state.get("client") or "anonymous",
            "action": action,
            "status": self._status,
            **{name: facts.get(name) for name in ("job", "input", "mask", "methods", "options", "deliver")},
            "result": self._digest.hexdigest() if has_result else None,
            "address": self._scope["client"][0] if self._audit.addresses and self._scope.get("client") else None,
        }
        return {name: value for name, value in line.items() if value is not None}


def _streams(start: Message) -> bool:
    """Tell whether an answer is a stream of events, which may stay open for hours."""
    headers = {name.lower(): value for name, value in start.get("headers", ())}
    return bytes(headers.get(b"content-type", b"")).startswith(b"text/event-stream")


def _unwritten() -> Problem:
    reason = "audit lines cannot be written, and this service does no work without them"
    return Problem("not-ready", reason, headers={"Retry-After": "10"}, reason="audit-failed", error=reason)


def _time() -> str:
    return datetime.fromtimestamp(clock.now(), UTC).isoformat(timespec="milliseconds")
