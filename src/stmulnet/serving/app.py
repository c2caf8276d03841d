"""The application: page and HTTP interface behind one gate, and the server that runs it."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmulnet.errors import ConfigError, MissingExtraError
from stmulnet.serving.gate import Gate, Login
from stmulnet.serving.service import Service

if TYPE_CHECKING:
    from fastapi import FastAPI
    from uvicorn import Server

START_SEC, END_SEC = 60.0, 3
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def create_app(
    service: Service, *, login: Login | None = None, hosts: Collection[str] | None = None, examples: bool = True
) -> "FastAPI":
    """Make the application of a service: the page at ``/``, ``POST /api/predict`` and ``GET /api/models``.

    Args:
        service: Networks and limits; its end must come after that of the application.
        login: User and password that every request needs.
        hosts: Names by which the server may be addressed; None is any.
        examples: Whether to make videos that visitors can try.

    Raises:
        MissingExtraError: Gradio is not installed.
    """
    check_installed()
    from fastapi import FastAPI

    from stmulnet.serving.api import add_api

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)  # FastAPI's documents load scripts from elsewhere
    app.add_middleware(Gate, service=service, login=login, hosts=hosts)
    app.state.service = service
    add_api(app, service)
    with _temporary_files_in(service.uploads.web):
        _in_event_loop(lambda: _add_page(app, service, examples))
    return app


def _add_page(app: "FastAPI", service: Service, examples: bool) -> None:
    """Put the page at the root of an application."""
    import gradio as gr

    from stmulnet.serving.examples import make_examples
    from stmulnet.serving.page import FONTS, Page

    templates = Path(__file__).parent / "templates"
    made = make_examples(service.uploads.examples) if examples else []
    gr.mount_gradio_app(
        app,
        Page(service, made).build(),
        path="/",
        theme=gr.themes.Default(primary_hue="blue", font=FONTS, font_mono=["monospace"]),
        css_paths=templates / "page.css",
        head=f"<script>{(templates / 'page.js').read_text(encoding='utf-8')}</script>",
        max_file_size=service.limits.upload_bytes,
        show_error=False,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
    )


def _in_event_loop(function: Callable[[], None]) -> None:
    """Call a function where an event loop runs: outside of one, Gradio makes loops that it never closes."""

    async def call() -> None:
        function()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(call())
    else:
        function()


@contextlib.contextmanager
def running(app: "FastAPI", listener: socket.socket | None = None) -> Iterator[str]:
    """Run an application in a thread during the block; yields its address, such as ``http://127.0.0.1:40321``.

    Args:
        app: From `create_app`.
        listener: From `listening`; None takes a free port of the loopback.
    """
    with contextlib.ExitStack() as stack:
        if listener is None:
            listener, _ = stack.enter_context(listening("127.0.0.1", 0))
        server = _make_server(app)
        # A daemon, as the threads that it starts: a second Ctrl-C ends the process without waiting for them.
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="serve", daemon=True)
        thread.start()
        try:
            _wait_for(server, thread)
            yield _address(listener)
        finally:
            app.state.service.turns.close()
            server.should_exit = True
            thread.join()


def _make_server(app: "FastAPI") -> "Server":
    """A uvicorn server that ends soon after it is told to."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=END_SEC,  # open pages keep connections that would not end by themselves
    )
    return uvicorn.Server(config)


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """An open socket and its address.

    Raises:
        ConfigError: The port is out of range or taken, or the host is none of this machine.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"port must be 0 (any free one) to 65535, got {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            problem = error.strerror or error
            raise ConfigError(
                f"cannot listen on {host} port {port}: {problem}; give another --host or --port"
            ) from error
        yield listener, _address(listener)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _wait_for(server: Any, thread: threading.Thread) -> None:
    waiting = threading.Event()
    for _ in range(int(START_SEC / 0.02)):
        if server.started or not thread.is_alive():
            break
        waiting.wait(0.02)
    assert server.started, "the server did not start; its log says why"


def check_installed() -> None:
    """Import what is needed to serve.

    Raises:
        MissingExtraError: It is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read where Gradio is imported
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("serving", "serve") from error


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Let Gradio keep its files there; it reads the variable while an application is made."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    import gradio.routes

    gradio.routes.DEFAULT_TEMP_DIR = str(folder)  # type: ignore[attr-defined] # read at the import, and a folder made there
    try:
        yield
    finally:
        if before is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = before
