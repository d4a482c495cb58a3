"""Which requests are answered, and the headers of every answer.

- The host name must be one of this machine's, as another may have been made to resolve to it.
- Pages of other sites get no answers; links to the page from there work.
- Beyond loopback, the page's link holds a token, which is then kept in a cookie.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import socket
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LOOPBACK", "SECONDS", "Guard"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine that no other machine can reach."""

SECONDS = 20
"""Seconds that the headers of a request, and its body, may take to arrive."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
        "form-action 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Guard:
    """Middleware that answers only requests that may be answered.

    Args:
        app: The page.
        host: Where the server listens.
        token: A secret that the link must hold; empty for none.
    """

    def __init__(self, app: ASGIApp, host: str, token: str) -> None:
        self.app, self.token = app, token
        self.names = {*LOOPBACK}
        self.anywhere = host not in LOOPBACK
        if self.anywhere:
            self.names |= {host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
        self.cookie = "rung3-" + hashlib.sha256(token.encode()).hexdigest()[:8]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request, fresh = Request(scope), False

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if fresh:
                    cookie = f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/"
                    headers.append("Set-Cookie", cookie)
            await send(message)

        refused = self._refusal(request)
        app: Any = self.app
        if refused:
            message, status = refused
            app = PlainTextResponse(message, status, headers={"Connection": "close"})
        elif self.token:
            fresh = self._same(request.query_params.get("token", ""))
        await app(scope, receive, guarded)

    def _refusal(self, request: Request) -> tuple[str, int] | None:
        """Return why a request is refused, and the HTTP status; `None` if it is answered."""
        if not self._is_page_host(request.headers.get("host", "")):
            return "this host name is not one of the page's machine", 400
        link = request.url.path == "/" and request.headers.get("sec-fetch-mode") == "navigate"
        if request.headers.get("sec-fetch-site") == "cross-site" and not link:
            return "another site's page gets no answers", 403
        given = request.query_params.get("token", "") or request.cookies.get(self.cookie, "")
        if self.token and not self._same(given):
            return "open the link that `rung3 explore` printed: it holds a token", 403
        return None

    def _is_page_host(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        name = name.strip("[]").lower()
        return name in self.names or (self.anywhere and _is_address(name))

    def _same(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.token.encode())


def _is_address(name: str) -> bool:
    """Return whether a host is an IP address: only a name can be made to resolve elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
