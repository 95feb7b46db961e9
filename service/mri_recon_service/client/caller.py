"""Send requests until they are answered: connections that are lost, and services that are busy or restart."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import BinaryIO

import httpx

from mri_recon._system.text import printable
from mri_recon_service.client.answers import error_of, passing, retry_after
from mri_recon_service.client.errors import ForeignServerError, ServiceError, UnreachableError
from mri_recon_service.client.wire import Answer, Call, EventConnection, Transport

__all__ = ["Attempts", "Caller"]

_FIRST_WAIT = 0.2
_LONGEST_WAIT = 10.0
_LONGEST_MESSAGE = 200
_STRANGE = 3  # attempts after which a server that takes connections and gives no answer of HTTP is none of ours


class Attempts:
    """Decide how long to wait before the next attempt of a request, and when to give up.

    Waits double from 0.2 s to 10 s, each shortened at random by up to a half, so that many clients of a service that
    restarts do not return at the same moment.

    Args:
        patience: seconds from the first failure to the last attempt.

    Attributes:
        number: failures so far.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._end: float | None = None
        self._wait = _FIRST_WAIT
        self.number = 0

    def after(self, error: ServiceError, *, at_least: float | None = None) -> float:
        """Return the seconds to wait after a failure.

        Args:
            error: the failure.
            at_least: seconds that the service asks to wait.

        Raises:
            ServiceError: the given failure, if the patience ends before the next attempt.
        """
        self.number += 1
        now = time.monotonic()
        if self._end is None:
            self._end = now + self._patience
        wait = max(at_least or 0.0, self._wait * random.uniform(0.5, 1.0))
        self._wait = min(2 * self._wait, _LONGEST_WAIT)
        if now + wait > self._end:
            raise error
        return wait

    def reached(self) -> None:
        """Note that the service answers: the patience begins anew with the next failure."""
        self._end = None

    def succeeded(self) -> None:
        """Note progress: waits begin anew too."""
        self._end = None
        self._wait = _FIRST_WAIT


class Caller:
    """Sends requests to one service.

    Before the first request it asks who is there, without the key: neither key nor scan goes to another server that
    the address names by mistake. A refused connection is then an error at once: the address is probably wrong, or the
    service not started. Later it means a restart, and the request is sent again.

    Args:
        transport: the connection.
        address: address of the service.
        patience: seconds for which a request is sent again.
        key: API key; None for none.
    """

    def __init__(self, transport: Transport, address: str, *, patience: float, key: str | None) -> None:
        self.transport = transport
        self.address = address
        self.patience = patience
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._met = False

    async def ask(self, call: Call, *, into: BinaryIO | None = None, patience: float | None = None) -> Answer:
        """Send a request until the service answers it.

        Args:
            call: a request that may be sent twice.
            into: file for the body of a successful answer.
            patience: seconds for which it is sent again; the client's by default.

        Raises:
            ServiceError: the service refuses it, or does not answer it within the patience.
        """
        seconds = self.patience if patience is None else patience
        await self._meet(seconds)
        return await self._repeat(self._authorized(call), Attempts(seconds), into)

    async def listen(self, call: Call, *, silence: float) -> tuple[Answer, EventConnection | None]:
        """Send a request for a stream once.

        Args:
            call: the request.
            silence: as in `Transport.listen`.

        Raises:
            httpx.TransportError: as `Transport.listen`.
            ServiceError: there is no such service.
        """
        await self._meet(self.patience)
        return await self.transport.listen(self._authorized(call), silence=silence)

    def check(self, answer: Answer) -> ServiceError | None:
        """Return the error of an answer that may change soon; None for a good one.

        Raises:
            ServiceError: the error of any other answer.
        """
        error = error_of(answer, self.address, has_key=bool(self._headers))
        if error is None or passing(answer):
            return error
        raise error

    def lost(self, lost: httpx.TransportError) -> UnreachableError:
        """Make the error of a lost connection.

        Raises:
            ServiceError: it is raised where another attempt makes no sense.
        """
        reason = printable(str(lost).strip()[:_LONGEST_MESSAGE]) or type(lost).__name__
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            raise ForeignServerError(
                f"expected a certificate that this machine trusts at {self.address}, got another ({reason}): check the "
                "name in the address, or pass the authority by verify=ssl.create_default_context(cafile=...)"
            ) from lost
        if isinstance(lost, httpx.LocalProtocolError):
            raise ServiceError(
                f"the request cannot be sent ({reason}): check that no other program writes the scan"
            ) from lost
        if self._met:
            error = UnreachableError(
                f"the connection to {self.address} was lost ({reason}) and did not come back in time: check the "
                "service and the network; a job that was accepted goes on"
            )
        else:
            error = UnreachableError(
                f"nobody answers at {self.address} ({reason}): check the address, or start the service with "
                "`mri-recon serve`"
            )
            if isinstance(lost, httpx.ConnectError | httpx.ConnectTimeout):
                raise error from lost
        error.__cause__ = lost
        return error

    async def _meet(self, patience: float) -> None:
        if self._met:
            return
        await self._repeat(Call("GET", "/health/live"), Attempts(patience), None)
        self._met = True

    async def _repeat(self, call: Call, attempts: Attempts, into: BinaryIO | None) -> Answer:
        while True:
            try:
                answer = await self.transport.send(call, into)
            except httpx.TransportError as lost:
                error = self.lost(lost)
                if not self._met and attempts.number >= _STRANGE:
                    raise error from lost
                wait = attempts.after(error)
            else:
                refused = self.check(answer)
                if refused is None:
                    return answer
                wait = attempts.after(refused, at_least=retry_after(answer))
            await self.transport.pause(wait)

    def _authorized(self, call: Call) -> Call:
        return replace(call, headers={**call.headers, **self._headers})
