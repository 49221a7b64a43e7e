"""Serves the API from a thread of the controller's process."""

import socket
import threading
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI

_START_S = 15.0
_STOP_S = 5.0


class PortBusy(Exception):
    """The address can't be listened on. The message names it and the variable to change."""


@dataclass(frozen=True, slots=True)
class Served:
    """A running server; `port` is the one it really has (asked for 0, it was chosen)."""

    bind: str
    port: int
    _server: uvicorn.Server
    _thread: threading.Thread

    def stop(self) -> None:
        """Ends the server: open requests may finish for a few seconds. Harmless to call twice."""
        self._server.should_exit = True
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            self._server.force_exit = True
            self._thread.join(_STOP_S)


def serve(app: FastAPI, bind: str, port: int) -> Served:
    """Starts to serve and returns when requests are answered. PortBusy when it can't listen."""
    listener = _listen(bind, port)
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=3)
    server = uvicorn.Server(config)
    started = threading.Event()

    def run() -> None:
        try:
            server.run(sockets=[listener])
        finally:
            listener.close()
            started.set()

    # The thread must not keep a controller alive that ends without stopping it.
    thread = threading.Thread(target=run, name="api", daemon=True)
    thread.start()
    waited = threading.Event()
    for _ in range(int(_START_S / 0.01)):
        if server.started or started.is_set():
            break
        waited.wait(0.01)
    if not server.started:
        server.should_exit = True
        raise RuntimeError(f"the API did not start on {bind}:{port} within {_START_S:.0f} s")
    return Served(bind, listener.getsockname()[1], server, thread)


def _listen(bind: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((bind, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise PortBusy(
            f"Port {port} of {bind}, for the controller's API, can't be used: {error.strerror}. "
            "Choose another with HEDDLE_API_PORT."
        ) from error
    return listener
