"""``zoo demo``."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from typing import Annotated

import typer

from zoo.errors import ConfigError


def demo(
    model: Annotated[
        str, typer.Option(help="Catalog name of the model that is chosen at first.")
    ] = "tiny-synthetic",
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is any free port.")] = 7860,
    share: Annotated[
        bool, typer.Option("--share", help="Make a public address by way of Gradio's servers.")
    ] = False,
    auth: Annotated[
        str, typer.Option(help="user:password that the page and the API ask for.")
    ] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    max_mb: Annotated[int, typer.Option(help="Largest upload, megabytes.")] = 200,
    max_minutes: Annotated[float, typer.Option(help="Longest clip.")] = 10.0,
    max_waiting: Annotated[
        int, typer.Option(help="Requests that may wait; the next is told to come back.")
    ] = 20,
    parallel: Annotated[int, typer.Option(help="Requests that are worked on at a time.")] = 1,
    keep_minutes: Annotated[
        float, typer.Option(help="How long uploads and results are kept.")
    ] = 60.0,
    pull: Annotated[
        bool, typer.Option(help="Let visitors have published models downloaded.")
    ] = True,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in a browser.")
    ] = False,
) -> None:
    """Show a web page: upload a clip, see its offset, take the repaired file home.

    Needs no internet. Everything that the page does is an API too (docs/demo.md).

    Example: zoo demo --port 8000
    """
    if find_spec("gradio") is None:
        raise ConfigError("zoo demo needs Gradio; install it with: pip install 'avsync-zoo[demo]'")
    user = parse_auth(auth)
    from demo.available_models import find_model
    from demo.demo_settings import Settings
    from zoo.models.device import find_device

    settings = Settings(
        model=model,
        device=device,
        max_mb=max_mb,
        max_minutes=max_minutes,
        max_waiting=max_waiting,
        parallel=parallel,
        keep_minutes=keep_minutes,
        allows_pull=pull,
    )
    find_device(device)
    find_model(model)
    port = free_port(host, port)
    from demo.server import serve

    serve(settings, host=host, port=port, share=share, auth=user, opens_browser=open_browser)


def parse_auth(text: str) -> tuple[str, str] | None:
    """Split ``user:password``.

    Raises:
        ConfigError: if one of them is missing.
    """
    if not text:
        return None
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise ConfigError("--auth is not user:password")
    return user, password


def free_port(host: str, port: int) -> int:
    """Return a port that can be listened on; any free one for 0.

    Raises:
        ConfigError: if the port is taken, or the address is none of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"cannot listen on {host} port {port}: {reason}; choose another --port or --host"
        ) from None
