"""Run the streaming server: the verb `mri-recon stream`."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from mri_recon.errors import ConfigError

if TYPE_CHECKING:
    import socket

    from mri_recon_service.settings import Settings
    from mri_recon_service.stream.session import Rules
    from mri_recon_service.stream.settings import StreamSettings

__all__ = ["stream"]


def stream(
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for a free one [9002]")] = None,
    clients: Annotated[
        str | None, typer.Option(help="Addresses and networks that may connect, e.g. 10.0.3.7,10.1.0.0/16")
    ] = None,
    configuration: Annotated[
        str | None, typer.Option(help="Configuration of clients that send none, e.g. 'unrolled' [cs-wavelet]")
    ] = None,
) -> None:
    """Reconstruct live from scanners: a server of the MRD streaming protocol. Research only.

    Readouts come in, images go out slice by slice. Every other setting comes from the environment, see
    docs/service/streaming.md: e.g. MRI_RECON_STREAM_MAX_CLIENTS.

    Example: mri-recon stream --port 9002
    """
    from mri_recon.notice import RESEARCH_ONLY
    from mri_recon_service.cli import check_isolation, listen, read_settings, validated
    from mri_recon_service.http import logs
    from mri_recon_service.storage.data_folder import check_data_folder
    from mri_recon_service.stream.settings import StreamSettings

    given = {"host": host, "port": port, "clients": clients, "configuration": configuration}
    chosen = validated(StreamSettings, given)
    settings = read_settings(host=chosen.host, allowed_hosts=())  # names of hosts are for HTTP
    logs.configure(settings)
    rules = _rules(chosen, settings)
    check_data_folder(settings)
    if settings.exposed:
        if not chosen.clients:
            raise ConfigError(
                f"expected the clients that may connect where other machines reach the server, got {chosen.host} and "
                "no clients: name their addresses or networks with --clients, or listen on 127.0.0.1"
            )
        check_isolation(settings)
    listener = listen(chosen.host, chosen.port)
    address = listener.getsockname()
    shown = f"[{address[0]}]" if ":" in address[0] else address[0]
    typer.echo(
        f"mri-recon streams MRD on {shown} port {address[1]}, by default with '{chosen.configuration}'. "
        f"{RESEARCH_ONLY} Ctrl-C stops it."
    )
    with listener:
        asyncio.run(_serve(listener, chosen, settings, rules))


async def _serve(listener: socket.socket, chosen: StreamSettings, settings: Settings, rules: Rules) -> None:
    from mri_recon.methods.estimates import Estimates
    from mri_recon_service.buffers import Buffers
    from mri_recon_service.http.prometheus import Metrics
    from mri_recon_service.jobs.engine import open_engine
    from mri_recon_service.locked_folder import LockedFolder
    from mri_recon_service.readiness import Readiness
    from mri_recon_service.stream.jobs import EngineJobs
    from mri_recon_service.stream.server import StreamServer
    from mri_recon_service.targets import Targets
    from mri_recon_service.uploads.parser_pool import ParserPool

    stop = asyncio.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(one, stop.set)
    try:
        folder = LockedFolder(settings.upload_folder, "mri-recon-stream-")
    except OSError as error:
        raise ConfigError(
            f"expected a folder for uploads that can be written to, got {error.filename} ({error.strerror}): check its "
            "rights and free space, or choose another by MRI_RECON_UPLOAD_DIR"
        ) from error
    buffers = Buffers(settings.buffer_bytes)
    parser = ParserPool(settings, buffers)
    parser.start()
    try:
        engine = open_engine(settings, parser, buffers, Estimates(), Metrics(), Targets())  # `serve` delivers
        engine.start()
        try:
            Readiness(settings.device).start()
            server = StreamServer(EngineJobs(engine, settings), chosen, rules, folder=folder.path)
            await server.serve(listener, stop)
        finally:
            engine.close()
    finally:
        parser.close()
        folder.remove()


def _rules(chosen: StreamSettings, settings: Settings) -> Rules:
    """Make the rules for clients, and check the operator's configuration by them.

    Raises:
        ConfigError: a method or the configuration is unknown, or keys are required and there are none.
    """
    from mri_recon_service.http.keys import Keyring
    from mri_recon_service.stream.configuration import allowed_methods, read_choice
    from mri_recon_service.stream.errors import SessionError
    from mri_recon_service.stream.session import Rules

    try:
        methods, limits = allowed_methods(chosen.methods), settings.option_limits
        for configuration in chosen.names.values():
            read_choice(configuration, allowed=allowed_methods(()), limits=limits)
        read_choice(chosen.configuration, allowed=methods, names=chosen.names, limits=limits)
    except SessionError as error:
        raise ConfigError(f"settings of the stream: {error}") from error
    owner = Keyring(settings.keys_path).owner if settings.require_keys else None
    return Rules(methods, chosen.names, limits, owner)
