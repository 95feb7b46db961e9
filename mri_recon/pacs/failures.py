"""Say why a connection could not be made or was lost, and whether it may be made later."""

from __future__ import annotations

import errno
import os
import socket
import ssl

from mri_recon.errors import TransferError

__all__ = ["reason_of", "tls_failure"]

_LATER = frozenset(
    {
        *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ETIMEDOUT, errno.EPIPE),
        *(errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN),
    }
)


def reason_of(error: BaseException, target: object) -> TransferError:
    """Make the error for a connection that an exception of the operating system or of TLS prevented or ended.

    The causes of `error` are searched for the first one that says more.
    """
    for one in _causes(error):
        if isinstance(one, ssl.SSLError):
            return tls_failure(one, target)
        if isinstance(one, socket.gaierror):
            later = one.errno == socket.EAI_AGAIN
            return TransferError(f"{target}: its host name is not known: check it, or the network", later=later)
        if isinstance(one, TimeoutError) or (isinstance(one, OSError) and one.errno == errno.ETIMEDOUT):
            return TransferError(
                f"{target}: no answer in time: check host, port and firewall, or raise --timeout", later=True
            )
        number = one.errno if isinstance(one, OSError) else None
        if isinstance(one, ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
            number = errno.ECONNRESET  # Python's own errors of these kinds have none
        if number is not None:
            match number:
                case errno.ECONNREFUSED:
                    what = "connection refused: nobody listens there; check host and port, and whether the PACS runs"
                case errno.ECONNRESET | errno.EPIPE | errno.ECONNABORTED:
                    what = "the other side closed the connection: see its log, or whether it expects TLS"
                case errno.EHOSTUNREACH | errno.ENETUNREACH | errno.EHOSTDOWN | errno.ENETDOWN:
                    what = "there is no way to this host: check the network"
                case _:
                    what = f"{os.strerror(number)}: check host, port and network"
            return TransferError(f"{target}: {what}", later=number in _LATER)
    return TransferError(f"{target}: the connection was lost: see the log of the other side", later=True)


def tls_failure(error: ssl.SSLError, target: object) -> TransferError:
    """Make the error for TLS that failed."""
    reason = str(error.reason or error)
    if isinstance(error, ssl.SSLCertVerificationError):
        told = error.verify_message or reason
        if "ostname mismatch" in told or "IP address mismatch" in told:
            cure = "call it by the name in its certificate"
        else:
            cure = "name the hospital's CA file with --ca-file"
        return TransferError(f"{target}: its certificate is not trusted ({told}): {cure}")
    if "WRONG_VERSION_NUMBER" in reason or "RECORD_LAYER_FAILURE" in reason or "UNEXPECTED_EOF" in reason:
        return TransferError(f"{target}: the other side does not speak TLS there: check the port, or use no TLS")
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason or "ALERT" in reason:
        return TransferError(
            f"{target}: the other side refused the TLS connection ({reason}): it may expect a certificate of this "
            "side, named with --certificate and --key"
        )
    return TransferError(f"{target}: TLS failed ({reason}): check the port and the certificates")


def _causes(error: BaseException) -> list[BaseException]:
    """List an exception and what caused it, the deepest first, as far as libraries keep it."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting and len(found) < 32:
        one = waiting.pop()
        if one is None or one in found:
            continue
        found.append(one)
        inner = [part for part in (*one.args, getattr(one, "reason", None)) if isinstance(part, BaseException)]
        waiting += [one.__context__, one.__cause__, *inner]
    return found[::-1]
