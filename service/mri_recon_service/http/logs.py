"""Write the service's log: one JSON object on each line, with the id of its request and no data of a user.

The line of a request has its method, the pattern of its route, the status, the time, the id and the name of its API
key. It never has the address as the client wrote it, a file name, a field or a header. For an unexpected error, the log
has the types and the places in the code. Messages of such errors may repeat uploaded data, so they are left out unless
the operator asks for them.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from mri_recon_service.settings import Settings

__all__ = ["JsonFormatter", "TextFormatter", "configure", "current_request"]

current_request: ContextVar[str] = ContextVar("current_request", default="")
"""Id of the request that the current context handles."""


_TALKATIVE = ("pynetdicom", "dicomweb_client", "pydicom", "urllib3")
"""Loggers of libraries that name addresses and values of images; what matters of a delivery the service logs itself."""


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send the log of the whole process to `stream`, stderr by default, in the form that the settings ask for."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    kind = JsonFormatter if settings.log_format == "json" else TextFormatter
    handler.setFormatter(kind(messages=settings.log_error_messages))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


class _Discreet(logging.Formatter):
    def __init__(self, *, messages: bool = False) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._messages = messages

    def errors(self, record: logging.LogRecord) -> list[dict[str, object]]:
        """Describe the error of a record and its causes, the first cause last."""
        error = record.exc_info[1] if record.exc_info else None
        return [] if error is None else [self._described(one) for one in _chain(error)]

    def _described(self, error: BaseException) -> dict[str, object]:
        frames = traceback.extract_tb(error.__traceback__)
        found: dict[str, object] = {
            "type": f"{type(error).__module__}.{type(error).__qualname__}",
            "at": [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames],
        }
        return {**found, "message": str(error)} if self._messages else found


class JsonFormatter(_Discreet):
    """Format a record as one JSON object: time, level, logger, message, request id, and the `extra["fields"]`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = getattr(record, "fields", None)
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage() if fields is None else "request",
        }
        if current_request.get():
            line["request_id"] = current_request.get()
        line |= fields or {}
        if errors := self.errors(record):
            line["errors"] = errors
        return json.dumps(line, default=str)


class TextFormatter(_Discreet):
    """Format a record as plain lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines."""
        exc_info, record.exc_info, record.exc_text = record.exc_info, None, None
        try:
            text = super().format(record)
        finally:
            record.exc_info = exc_info
        for error in self.errors(record):
            places = error["at"]
            message = f": {error['message']}" if "message" in error else ""
            text += f"\n  {error['type']}{message} at {'; '.join(places) if isinstance(places, list) else places}"
        return text


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _short(filename: str) -> str:
    """Keep the last two parts of a path, which do not reveal the machine's folders."""
    return "/".join(Path(filename).parts[-2:])
