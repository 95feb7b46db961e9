"""Run the service: the verb `mri-recon serve`."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mri_recon.errors import ConfigError

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from mri_recon_service.settings import Settings

    S = TypeVar("S", bound=BaseSettings)

_GRACE_SECONDS = 2  # for answers that are nearly there; the others are told to ask again

__all__ = ["check_isolation", "listen", "read_settings", "serve", "validated"]


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for a free one [8000]")] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Reconstructions at the same time; 0 leaves them to `worker` [1]")
    ] = None,
) -> None:
    """Serve reconstructions over HTTP, with documentation at http://127.0.0.1:8000/docs. Research only.

    Every other setting comes from the environment, see docs/service/service.md: e.g. MRI_RECON_MAX_UPLOAD_BYTES.

    Example: mri-recon serve --port 8000
    """
    from mri_recon.notice import RESEARCH_ONLY
    from mri_recon_service.app import create_app
    from mri_recon_service.http import logs
    from mri_recon_service.http.server import make_server
    from mri_recon_service.storage.data_folder import check_data_folder

    settings = read_settings(host=host, port=port, worker_threads=workers)
    logs.configure(settings)
    app = create_app(settings)
    check_data_folder(settings)
    if settings.exposed:
        check_isolation(settings)
    listener = listen(settings.host, settings.port)
    address = listener.getsockname()
    shown = f"[{address[0]}]" if ":" in address[0] else address[0]
    server = make_server(
        app,
        settings,
        log_config=None,  # its lines take the form of the service's log
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    typer.echo(
        f"mri-recon serves on http://{shown}:{address[1]} (open it in a browser; for programs: /docs). "
        f"{RESEARCH_ONLY} Ctrl-C stops it."
    )
    with listener:
        server.run(sockets=[listener])


def check_isolation(settings: Settings) -> None:
    """Refuse to serve other machines if uploads cannot be isolated, before the service listens.

    Raises:
        ConfigError: the processes that open uploads cannot be confined.
    """
    from mri_recon_service.http.security import check_exposure
    from mri_recon_service.uploads.parser_pool import ParserPool

    parser = ParserPool(settings.model_copy(update={"parser_processes": 1}))
    parser.start()
    try:
        check_exposure(settings, parser.restrictions.lacks)
    finally:
        parser.close()


def read_settings(**given: Any) -> Settings:
    """Read settings from the arguments that are not None, and the others from the environment.

    Raises:
        ConfigError: a value is out of range.
    """
    from mri_recon_service.settings import Settings

    return validated(Settings, given)


def validated(kind: type[S], given: Mapping[str, Any]) -> S:
    """Make settings of a kind from the arguments that are not None, and the others from the environment.

    Raises:
        ConfigError: a value is out of range.
    """
    from pydantic import ValidationError

    try:
        return kind(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        one = error.errors()[0]
        where = "".join(f"setting {part}: " for part in one["loc"])
        raise ConfigError(f"{where}{one['msg'].removeprefix('Value error, ')}") from error


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket, so that a port in use gives one clear line.

    Raises:
        ConfigError: the address cannot be used.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((str(address[0]), int(address[1])), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"expected an address to listen on, {host} port {port} cannot be used ({error.strerror}): "
            "choose another --port or --host"
        ) from error
