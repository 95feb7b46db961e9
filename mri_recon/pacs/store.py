"""Store instances by C-STORE, and ask whether an application entity answers by C-ECHO, DICOM PS3.4 annexes A and B."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mri_recon._system.text import printable
from mri_recon.errors import ConfigError, TransferError
from mri_recon.pacs.failures import reason_of
from mri_recon.pacs.instances import Instance
from mri_recon.pacs.outcome import Outcome
from mri_recon.pacs.targets import DicomTarget

if TYPE_CHECKING:
    from pynetdicom import AE
    from pynetdicom.association import Association
    from pynetdicom.transport import AssociationSocket

__all__ = ["DicomConnection", "tls_context"]

_VERIFICATION = "1.2.840.10008.1.1"
_IMPLICIT = "1.2.840.10008.1.2"
_EXPLICIT = "1.2.840.10008.1.2.1"
_MAX_CONTEXTS = 126  # an association has at most 128
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_TRANSIENT = 2  # result of a rejection
_MAX_TEXT = 200


class DicomConnection:
    """One association with an application entity, for the instances that it will be given."""

    def __init__(self, target: DicomTarget, instances: Sequence[Instance] = ()) -> None:
        """Open the association; without instances for C-ECHO alone.

        Raises:
            TransferError: a library is missing, nobody listens, TLS fails, or the other side refuses.
            ConfigError: a certificate file is none.
        """
        try:
            from pynetdicom import evt
        except ImportError as error:
            raise TransferError(
                "expected the library pynetdicom for --dicom, it is not installed: pip install 'mri-recon[pacs]'"
            ) from error
        self._target = target
        self._sockets: list[AssociationSocket] = []
        entity = _entity(self._sockets)(ae_title=target.calling_aet)
        entity.acse_timeout = entity.dimse_timeout = entity.connection_timeout = target.timeout
        entity.network_timeout = None  # of an idle association: `send` may wait between two instances
        contexts = _contexts(instances)
        if not contexts:
            entity.add_requested_context(_VERIFICATION)
        for sop_class, syntaxes in contexts:
            entity.add_requested_context(sop_class, syntaxes)
        self._opened = self._aborted = False
        handlers: list[Any] = [(evt.EVT_CONN_OPEN, self._on_open), (evt.EVT_ABORTED, self._on_abort)]
        context = tls_context(target) if target.use_tls else None
        try:
            self._association: Association = entity.associate(
                target.host,
                target.port,
                ae_title=target.aet,
                tls_args=None if context is None else (context, target.host),
                evt_handlers=handlers,
            )
        except OSError as error:  # a host name that is not known
            raise reason_of(error, target) from error
        accepted = {one.abstract_syntax for one in self._association.accepted_contexts}
        self._refused = {one.abstract_syntax for one in self._association.rejected_contexts} - accepted
        if not self._association.is_established:  # nor is it where all kinds of images are refused
            self._close_sockets()
            if not self._refused:
                raise self._failure(context)
        if _VERIFICATION in self._refused:
            raise TransferError(f"{target} accepts no C-ECHO: it may store nevertheless")

    def store(self, instance: Instance) -> Outcome:
        """Send one instance.

        Raises:
            TransferError: the association was lost.
            FormatError: the instance cannot be read any more.
        """
        if instance.sop_class in self._refused:
            return Outcome(instance, "failed", self._kind_refused(instance))
        data = instance.dataset()
        try:
            status = self._association.send_c_store(data)
        except ValueError as error:  # no accepted context for this transfer syntax, or data that cannot be encoded
            return Outcome(
                instance, "failed", f"it cannot be sent as the PACS wants it: {printable(str(error))[:_MAX_TEXT]}"
            )
        except RuntimeError as error:  # the association ended between two instances
            raise self._lost() from error
        if "Status" not in status:
            raise self._lost()
        return _outcome(instance, int(status.Status), str(status.get("ErrorComment", "") or ""))

    def echo(self) -> str:
        """Send C-ECHO, and return what the other side answers.

        Raises:
            TransferError: no answer, or a failure.
        """
        try:
            status = self._association.send_c_echo()
        except (ValueError, RuntimeError) as error:
            raise self._lost() from error
        if "Status" not in status:
            raise self._lost()
        if status.Status != 0:
            raise TransferError(f"{self._target} answers C-ECHO with status 0x{status.Status:04X}: see its log")
        return f"{self._target} answers"

    def close(self) -> None:
        """Release the association, or abort it where it is not in order."""
        if self._association.is_established:
            self._association.release()
        self._close_sockets()

    def _close_sockets(self) -> None:
        for one in self._sockets:
            if one.socket is not None:
                one.socket.close()

    def _on_open(self, _: Any) -> None:
        self._opened = True

    def _on_abort(self, _: Any) -> None:
        self._aborted = True

    def _lost(self) -> TransferError:
        if self._association.is_established:  # a late answer must not be taken for that of the next instance
            self._association.abort()
        what = "aborted the association" if self._aborted else "did not answer in time, or closed the connection"
        return TransferError(f"{self._target} {what}: see its log", later=True)

    def _failure(self, context: ssl.SSLContext | None) -> TransferError:
        """Find out why there is no association: the library tells only its log why there is no connection."""
        target = self._target
        if self._association.is_rejected:
            return _rejection(self._association, target)
        if not self._opened:
            try:
                with socket.create_connection((target.host, target.port), timeout=target.timeout) as plain:
                    if context is not None:
                        context.wrap_socket(plain, server_hostname=target.host).close()
            except OSError as error:
                return reason_of(error, target)
            return TransferError(f"{target}: the connection was lost: see the log of the other side", later=True)
        hint = "" if target.use_tls else ", or it expects --tls"
        return TransferError(
            f"{target} aborted the association, or does not speak DICOM there: check host and port{hint}", later=True
        )

    def _kind_refused(self, instance: Instance) -> str:
        from pydicom.uid import UID

        name = UID(instance.sop_class).name
        cure = "send the series (.dcm.zip) instead" if "Enhanced" in name or "Multi-frame" in name else "ask for it"
        return f"the PACS does not take {name} ({instance.sop_class}): {cure}"


def tls_context(target: DicomTarget) -> ssl.SSLContext:
    """Make the TLS settings of a target: at least TLS 1.2, with the host's certificate verified.

    Raises:
        ConfigError: a certificate file is none.
    """
    own = target.tls
    try:
        context = ssl.create_default_context(cafile=None if own.ca_file is None else str(own.ca_file))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if own.certificate is not None:
            # An empty password: an encrypted key is an error, and does not ask at the terminal.
            context.load_cert_chain(own.certificate, own.key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ConfigError(
            "expected certificates and a key without password, in PEM, got files that are not "
            f"({getattr(error, 'reason', None) or error}): convert them"
        ) from error
    return context


def _entity(sockets: list[AssociationSocket]) -> type[AE]:
    """Make a class of application entities that adds its sockets to a list and closes each that it gives up.

    pynetdicom 3.0 leaves a socket to the garbage collector if the other side has closed it, or never accepted it.
    """
    from pynetdicom import AE

    class Entity(AE):
        def _create_socket(self, *arguments: Any) -> AssociationSocket:
            made = super()._create_socket(*arguments)
            shut_down = made._shutdown_socket

            def close() -> None:
                own = made.socket
                shut_down()
                if own is not None:
                    own.close()

            made._shutdown_socket = close  # type: ignore[method-assign]
            sockets.append(made)
            return made

    return Entity


def _contexts(instances: Iterable[Instance]) -> list[tuple[str, list[str]]]:
    """List what is proposed: for each kind of image its transfer syntax, and DICOM's default if it can become that.

    Raises:
        TransferError: more kinds than one association can have.
    """
    kinds = dict.fromkeys((one.sop_class, one.transfer_syntax) for one in instances)
    if len(kinds) > _MAX_CONTEXTS:
        raise TransferError(
            f"expected at most {_MAX_CONTEXTS} kinds of images and transfer syntaxes, got {len(kinds)}: send "
            "fewer at once"
        )
    return [(sop_class, [syntax, _IMPLICIT] if syntax == _EXPLICIT else [syntax]) for sop_class, syntax in kinds]


def _rejection(association: Association, target: DicomTarget) -> TransferError:
    answer = association.acceptor.primitive
    result, source, number = (
        int(getattr(answer, name, None) or 0) for name in ("result", "result_source", "diagnostic")
    )
    match source, number:
        case 1, 3:
            what = f"does not know the calling AE title {target.calling_aet!r}: have it registered there, or give --aet"
        case 1, 7:
            what = f"is not called {target.aet!r}: check the called AE title"
        case 3, _:
            what = "is overloaded: try again later"
        case _:
            what = f"gives no reason (source {source}, reason {number}): ask its administrator"
    later = result == _TRANSIENT
    return TransferError(f"{target} rejected the association, it {what}", later=later)


def _outcome(instance: Instance, status: int, comment: str) -> Outcome:
    from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS as MEANINGS
    from pynetdicom.status import code_to_category

    meaning = MEANINGS.get(status, ("", "unknown status"))[1] or "failed"
    said = f": {printable(comment)[:_MAX_TEXT]}" if comment else ""
    text = f"{meaning} (0x{status:04X}){said}"
    match code_to_category(status):
        case "Success":
            return Outcome(instance, "stored")
        case "Warning":
            return Outcome(instance, "warning", text)
        case _:
            return Outcome(instance, "failed", text, later=status in _OUT_OF_RESOURCES)
