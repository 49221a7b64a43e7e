"""Keeps web pages of other sites out of an API that has no login.

On loopback the user's own browser is the one stranger that can reach it: a page of another site may send it a POST
(refused by Origin and Sec-Fetch-Site), or point a name of its own at 127.0.0.1 (refused by the Host header).
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from controller.api.problems import problem_response

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


class OriginCheck:
    """ASGI middleware. `bind` is the address that the server listens on."""

    def __init__(self, app: ASGIApp, bind: str) -> None:
        self.app, self._bind = app, bind.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 400 or 403 itself, or passes the request on."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host = headers.get("host", "")
            if not self.known_host(host):
                answer = problem_response(400, "Unknown host", f"This server does not answer for host {host!r}.")
                return await answer(scope, receive, send)
            if scope["method"] not in _SAFE_METHODS and is_cross_site(headers):
                answer = problem_response(
                    403, "Cross-site request", "Pages of other sites may not change anything here."
                )
                return await answer(scope, receive, send)
        return await self.app(scope, receive, send)

    def known_host(self, host: str) -> bool:
        """Whether a Host header names this server.

        A name can be made to point anywhere, an address can't: beyond loopback any IP address will do, and no name but
        this machine's.
        """
        name = _hostname(host)
        if name in {"localhost", self._bind}:
            return True
        address = _address(name)
        if address is not None and address.is_loopback:
            return True
        if self._bind == "localhost" or (bound := _address(self._bind)) is None or bound.is_loopback:
            return False
        return address is not None or name == socket.gethostname().lower()


def is_cross_site(headers: Headers) -> bool:
    """Whether a browser sent this from a page of another origin. A program (curl, a script) sends neither header."""
    if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


def _hostname(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
