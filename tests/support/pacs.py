"""Other sides for `mri_recon.pacs` in this process, which answer what a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mri_recon.pacs import DicomTarget

MR, ENHANCED = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
JSON, XML = "application/dicom+json", "application/dicom+xml"
STORED = {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2"]}}]}}


@contextmanager
def entity(
    answers: list[Any],
    *,
    classes: tuple[str, ...] = (MR,),
    syntaxes: tuple[str, ...] = (EXPLICIT,),
    port: int = 0,
    **about: Any,
) -> Iterator[tuple[DicomTarget, list[Any]]]:
    """An application entity that answers each C-STORE with the next status, data set of a status, or function.

    Gives its address and the data sets that it stored.
    """
    import pynetdicom

    stored: list[Any] = []

    def on_store(event: Any) -> Any:
        answer = answers.pop(0) if answers else 0
        if callable(answer):
            answer = answer(event)
        status = answer if isinstance(answer, int) else answer.Status
        if status == 0 or status >> 12 == 0xB:
            data = event.dataset
            data.file_meta = event.file_meta
            stored.append(data)
        return answer

    scp = pynetdicom.AE(ae_title="PACS")
    scp.require_called_aet = True
    for name, value in about.items():
        setattr(scp, name, value)
    for one in classes:
        scp.add_supported_context(one, list(syntaxes))
    if about.get("answers_echo", True):
        scp.add_supported_context("1.2.840.10008.1.1")
    server = scp.start_server(("127.0.0.1", port), block=False, evt_handlers=[(pynetdicom.evt.EVT_C_STORE, on_store)])
    try:
        yield DicomTarget("PACS", "127.0.0.1", server.server_address[1], timeout=30), stored
    finally:
        server.shutdown()


def failed(number: int) -> dict[str, Any]:
    item = {"00081155": {"vr": "UI", "Value": ["1.2"]}, "00081197": {"vr": "US", "Value": [number]}}
    return {"00081198": {"vr": "SQ", "Value": [item]}}


def warned(number: int) -> dict[str, Any]:
    item = {"00081155": {"vr": "UI", "Value": ["1.2"]}, "00081196": {"vr": "US", "Value": [number]}}
    return {"00081199": {"vr": "SQ", "Value": [item]}}


Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]


@contextmanager
def service(answers: list[Answer | None]) -> Iterator[tuple[str, list[Any]]]:
    """A service at /web that answers each request with the next status, body and headers; None closes the connection.

    Gives its address and the requests: method, path, headers, body.
    """
    requests: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            requests.append((self.command, self.path, self.headers, body))
            answer = answers.pop(0) if answers else (200, STORED)
            if answer is None:
                self.close_connection = True
                return
            status, content, *more = answer
            headers = {"Content-Type": JSON, **(more[0] if more else {})}
            sent = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = _answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/web", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
