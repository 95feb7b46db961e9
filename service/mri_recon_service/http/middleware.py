"""Give every request an id, safe headers, a line in the log, and an answer even if the code fails."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mri_recon._system.files import is_full
from mri_recon.notice import RESEARCH_ONLY
from mri_recon_service.http.logs import current_request
from mri_recon_service.http.pace import Pace
from mri_recon_service.http.prometheus import Metrics
from mri_recon_service.http.security import add_headers, route_path
from mri_recon_service.problems import Problem, respond, stopping, storage_full

__all__ = ["RequestContext", "Requests"]

log = logging.getLogger("mri_recon_service")

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOOK_SECONDS = 0.02
_PIECE_BYTES = 64 << 10  # of an answer: the rest waits where it is until the client has read this
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Requests:
    """Count of the requests in progress, for one event loop."""

    def __init__(self) -> None:
        self._in_progress = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count a request during the block."""
        self._in_progress += 1
        try:
            yield
        finally:
            self._in_progress -= 1

    async def answered(self, seconds: float) -> None:
        """Wait until no request is in progress, at most `seconds`."""
        with anyio.move_on_after(seconds):
            while self._in_progress:
                await anyio.sleep(_LOOK_SECONDS)


class RequestContext:
    """The outermost layer of the application.

    The request id is the client's `X-Request-Id` if that is plain, else a new one. It is in the answer, in every
    problem document and in the log. The log has no query string, no file name and no field. This layer also answers
    problems that an inner layer raises before any route.

    Args:
        app: the inner layers.
        metrics: the service's metrics.
        requests: counts the requests in progress.
        pace: makes the bound of how slowly a client may send its body.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, requests: Requests, pace: Callable[[], Pace]) -> None:
        self.app = app
        self._metrics = metrics
        self._requests = requests
        self._pace = pace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        current_request.set(request_id)
        body = _Body(receive, self._pace())
        path = route_path(scope)  # before routing changes the scope
        start = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                added = MutableHeaders(scope=message)
                added["X-Request-Id"] = request_id
                added["X-Research-Only"] = RESEARCH_ONLY
                added.setdefault("Cache-Control", "no-store")
                add_headers(message, path)
            for piece in _pieces(message):
                await send(piece)

        try:
            with self._requests.one_more():
                await self._answer(scope, body, send_with_headers, lambda: status)
        finally:
            self._note(scope, status, time.perf_counter() - start)
            self._metrics.observe_upload(body.num_bytes)

    async def _answer(self, scope: Scope, body: _Body, send: Send, status: Callable[[], int]) -> None:
        """Run the inner layers, and answer the errors that they raise.

        Args:
            scope: the request.
            body: its body.
            send: sends the answer.
            status: returns the status of an answer that has begun, else 0.
        """
        request_id = scope["state"]["request_id"]
        try:
            await self.app(scope, body.receive, send)
        except asyncio.CancelledError:  # the server stops, and waits no longer
            if status():
                raise
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            await respond(stopping(), request_id)(scope, body.receive, send)
        except Problem as refused:
            await respond(refused, request_id)(scope, body.receive, send)
        except Exception as error:
            if is_full(error) and not status():
                log.error("request %s failed: %s", request_id, error)
                await respond(storage_full(), request_id)(scope, body.receive, send)
                return
            # The log has the traceback for the operator. The client gets the id to ask for.
            log.exception("request %s failed", request_id)
            if status():
                raise
            problem = Problem(
                "internal-error", f"an unexpected error occurred: the operator finds it in the log under {request_id}"
            )
            await respond(problem, request_id)(scope, body.receive, send)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        """Add the request to the log and the metrics, by names of this package only, never the client's text."""
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route, request_id = _route(scope), scope["state"]["request_id"]
        fields = {"method": method, "route": route, "status": status, "ms": round(1000 * seconds, 1)}
        fields |= {"request_id": request_id, "client": scope["state"].get("client", "")}
        log.info("%s %s %d %.1f ms %s", method, route, status, 1000 * seconds, request_id, extra={"fields": fields})
        self._metrics.observe_request(method, route, status, seconds)


class _Body:
    """The request body, which has to come at a least pace."""

    def __init__(self, receive: Receive, pace: Pace) -> None:
        self._receive = receive
        self._pace = pace
        self.num_bytes = 0
        self._finished = False

    async def receive(self) -> Message:
        """Receive the next part of the body, or the end of the connection after it.

        Raises:
            Problem: upload-timeout.
        """
        if self._finished:
            return await self._receive()
        begun = time.monotonic()
        try:
            with anyio.fail_after(self._pace.left):
                message = await self._receive()
        except TimeoutError as error:
            self._finished = True  # nobody waits for the rest
            raise Problem(
                "upload-timeout",
                "the body came too slowly, or stopped: send it faster",
                headers={"Connection": "close"},
            ) from error
        length = len(message.get("body", b""))
        self.num_bytes += length
        self._finished = message["type"] != "http.request" or not message.get("more_body", False)
        self._pace.passed(length, waited=time.monotonic() - begun)
        return message


def _pieces(message: Message) -> Iterator[Message]:
    """Split a large part of an answer, so that the server holds a small piece of it while the client reads slowly."""
    body = message.get("body", b"")
    if message["type"] != "http.response.body" or len(body) <= _PIECE_BYTES:
        yield message
        return
    view = memoryview(body)
    for begin in range(0, len(view), _PIECE_BYTES):
        last = begin + _PIECE_BYTES >= len(view)
        piece = bytes(view[begin : begin + _PIECE_BYTES])
        yield {**message, "body": piece, "more_body": not last or message.get("more_body", False)}


def _route(scope: Scope) -> str:
    """Return the pattern of the route that matched, e.g. `/v1/models`, never the address that the client wrote."""
    return str(getattr(scope.get("route"), "path", "(no route)"))
