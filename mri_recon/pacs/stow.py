"""Store instances by STOW-RS, DICOM PS3.18 section 10.5, one a request: each has an answer of its own."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mri_recon._system.text import printable
from mri_recon.errors import FormatError, TransferError
from mri_recon.pacs.failures import reason_of
from mri_recon.pacs.instances import Instance
from mri_recon.pacs.outcome import Outcome
from mri_recon.pacs.targets import StowTarget

if TYPE_CHECKING:
    import requests
    from pydicom.dataset import Dataset

__all__ = ["StowConnection"]

_CHUNK = 64 << 20  # bytes; only a larger request is sent in pieces, which some proxies refuse
_LATER = frozenset({408, 425, 429, 502, 503, 504})
_WARNINGS = {
    0xB000: "elements were coerced",
    0xB006: "elements were discarded",
    0xB007: "the data set does not match its SOP class",
}
_FAILURES = {
    0x0110: "processing failure",
    0x0111: "an instance with this identifier is there already",
    0x0117: "invalid instance",
    0x0122: "SOP class not supported",
    0x0124: "not authorised",
    0x0213: "resource limitation",
    0xC122: "transfer syntax not supported",
}
_MAX_WAIT = 3600.0
_MAX_TEXT = 200


class StowConnection:
    """One HTTP session with a DICOMweb service.

    Redirections are not followed: images would go where nobody said.
    """

    def __init__(self, target: StowTarget) -> None:
        """Prepare the session; nothing is sent.

        Raises:
            TransferError: a library is missing, or a certificate file is none.
        """
        try:
            from dicomweb_client.api import DICOMwebClient
        except ImportError as error:
            raise TransferError(
                "expected the library dicomweb-client for --stow, it is not installed: pip install 'mri-recon[pacs]'"
            ) from error
        self._target = target
        self._answers: list[requests.Response] = []
        self._session = _session(target)
        self._session.hooks["response"].append(self._keep)
        self._client = DICOMwebClient(url=target.url, session=self._session, chunk_size=_CHUNK, timeout=target.timeout)
        self._client.set_http_retry_params(retry=False)  # `send` repeats, and only what may succeed

    def store(self, instance: Instance) -> Outcome:
        """Send one instance.

        Raises:
            TransferError: the service cannot be reached, or refuses every request.
            FormatError: the instance cannot be read any more.
        """
        data = instance.dataset()
        answer = self._answered(lambda: self._client.store_instances([data]))
        self._check(answer)
        reason, told = _reason(answer)
        if answer.status_code in (200, 202) and reason is None:
            remark = _warning(told)
            if answer.status_code == 202 and not remark and told is None:
                return Outcome(instance, "warning", "HTTP 202 without a report: see the log of the service")
            return Outcome(instance, "warning" if remark else "stored", remark)
        if reason is not None:
            number, text = reason
            return Outcome(instance, "failed", text, later=0xA700 <= number <= 0xA7FF)
        return Outcome(instance, "failed", self._refusal(answer), later=False)

    def echo(self) -> str:
        """Ask the service for one study, and return what it answers.

        Raises:
            TransferError: the service cannot be reached, or refuses.
        """
        url = f"{self._target.url}/studies"
        answer = self._answered(
            lambda: self._session.get(url, params={"limit": "1"}, timeout=self._target.timeout, stream=True)
        )
        answer.close()
        if answer.status_code in (405, 501):
            return f"{self._target} answers HTTP {answer.status_code} to a search, which may still store"
        self._check(answer)
        if answer.status_code >= 400:
            raise TransferError(f"{self._target}: {self._refusal(answer)}")
        return f"{self._target} answers"

    def close(self) -> None:
        """Close the session."""
        self._session.close()

    def _keep(self, response: requests.Response, *_: Any, **__: Any) -> None:
        # The library raises for an answer whose report it cannot read, and drops reports of other media types.
        self._answers[:] = [response]

    def _answered(self, request: Any) -> requests.Response:
        import requests

        self._answers.clear()
        try:
            request()
        except requests.TooManyRedirects as error:
            place = str(self._answers[0].headers.get("Location", "")) if self._answers else ""
            where = f" to {printable(place)[:_MAX_TEXT]}" if place else ""
            raise TransferError(
                f"{self._target} redirects{where}: images are sent only where you say; give the address it names"
            ) from error
        except OSError as error:  # those of the library are of this kind, too
            if not self._answers:
                raise self._lost(error) from error
        except Exception as error:
            if not self._answers:  # nothing was sent
                raise FormatError(f"the instance cannot be encoded ({type(error).__name__}): write it again") from error
        if not self._answers:
            raise TransferError(f"{self._target}: no answer", later=True)
        return self._answers[0]

    def _lost(self, error: Exception) -> TransferError:
        import requests

        if isinstance(error, requests.exceptions.ProxyError):
            return TransferError(f"{self._target}: the proxy of the environment cannot be used: check HTTPS_PROXY")
        if isinstance(error, requests.Timeout):
            return reason_of(TimeoutError(), self._target)
        return reason_of(error, self._target)

    def _check(self, answer: requests.Response) -> None:
        """Raise for an answer that every further request would get too."""
        status, target = answer.status_code, self._target
        if status == 401:
            what = "refuses these credentials" if target.credentials else "wants credentials"
            cure = "set MRI_RECON_PACS_USER and MRI_RECON_PACS_PASSWORD, or MRI_RECON_PACS_TOKEN, in the environment"
            raise TransferError(f"{target} {what} (HTTP 401): {cure}")
        if status == 403:
            raise TransferError(
                f"{target} does not allow this (HTTP 403): ask its administrator for the right to store"
            )
        if status in (404, 405, 501):
            raise TransferError(
                f"{target} has no STOW-RS there (HTTP {status}): give the base address of DICOMweb, for Orthanc "
                "http://HOST:8042/dicom-web"
            )
        if status in _LATER:
            raise TransferError(
                f"{target} cannot take images now (HTTP {status}): try again later", later=True, wait=_wait(answer)
            )

    def _refusal(self, answer: requests.Response) -> str:
        status = answer.status_code
        meaning = {
            400: "the service cannot read the request",
            409: "the service refused the instance without a reason",
            413: "the instance is larger than the service or its proxy takes: raise the limit, or send .dcm.zip",
            415: "the service does not take this kind of DICOM",
            507: "the service has no room",
        }.get(status, "the service refused" if status < 500 else "the service failed, see its log")
        return f"{meaning} (HTTP {status}{_told(answer)})"


def _session(target: StowTarget) -> requests.Session:
    import requests
    from requests.utils import get_environ_proxies

    class Authentication(requests.auth.AuthBase):
        """Add the credentials; without any, keep the library from sending those of ~/.netrc."""

        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            credentials = target.credentials
            if credentials.token:
                request.headers["Authorization"] = f"Bearer {credentials.token}"
            elif credentials.user:
                basic = requests.auth.HTTPBasicAuth(credentials.user.encode(), credentials.password.encode())
                return basic(request)
            return request

    session = requests.Session()
    # Of the environment, only the proxies: variables for CA files would replace the one that was named.
    session.trust_env = False
    session.proxies = dict(get_environ_proxies(target.url))
    session.auth = Authentication()
    session.max_redirects = 0
    session.headers["Accept"] = "application/dicom+json"
    own, usual = target.tls.ca_file, os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    session.verify = str(own) if own is not None else usual or True
    certificate, key = target.tls.certificate, target.tls.key
    if certificate is not None:
        session.cert = str(certificate) if key is None else (str(certificate), str(key))
    return session


def _report(answer: requests.Response) -> Dataset | None:
    """Read the data set of an answer, JSON (an object or a list of one) or XML; None if there is none."""
    from pydicom import Dataset

    with suppress(Exception):  # whatever a server sends
        if "json" in answer.headers.get("Content-Type", ""):
            found = answer.json()
            record = found[0] if isinstance(found, list) else found
            return Dataset.from_json(record)
        if "xml" in answer.headers.get("Content-Type", ""):
            from xml.etree.ElementTree import fromstring

            from dicomweb_client.web import _load_xml_dataset

            data: Dataset = _load_xml_dataset(fromstring(answer.content))
            return data
    return None


def _reason(answer: requests.Response) -> tuple[tuple[int, str] | None, Dataset | None]:
    """Return the code and text of a failure, if the report has one, and the report."""
    report = _report(answer)
    if report is None:
        return None, None
    for item in report.get("FailedSOPSequence") or []:
        number = int(item.get("FailureReason") or 0)
        return (number, _words(number, _FAILURES)), report
    return None, report


def _warning(report: Dataset | None) -> str:
    for item in () if report is None else report.get("ReferencedSOPSequence") or []:
        number = item.get("WarningReason")
        if number:
            return _words(int(number), _WARNINGS)
    return ""


def _words(number: int, names: dict[int, str]) -> str:
    text = names.get(number)
    if text is None:
        text = {0xA7: "out of resources", 0xA9: "the data set does not match its SOP class"}.get(number >> 8)
    if text is None:
        text = "the service cannot read the instance" if 0xC000 <= number <= 0xCFFF else "no reason known"
    return f"{text} (0x{number:04X})"


def _told(answer: requests.Response) -> str:
    """Return the beginning of a plain answer, for a message."""
    if "text/plain" not in answer.headers.get("Content-Type", ""):
        return ""
    text = " ".join(answer.text[:_MAX_TEXT].split())
    return f": {printable(text)}" if text else ""


def _wait(answer: requests.Response) -> float | None:
    text = answer.headers.get("Retry-After", "")
    return min(float(text), _MAX_WAIT) if text.isascii() and text.isdigit() else None
