"""Who may ask the page, and what every answer carries.

- The host's name must be one of this machine's: another name may have been made to lead here.
- Another site's page gets nothing; its links to the page are followed.
- Elsewhere than on loopback the page's link holds a token, kept in a cookie from then on.
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

SECONDS = 20
"""What the headers of a question, and its body, may take to arrive."""

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
    """Answers only those who may ask.

    Args:
        app: The page.
        host: Where it listens.
        token: What the link must hold; empty for none.
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
                    kept = f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/"
                    headers.append("Set-Cookie", kept)
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
        """Why a request is refused, and the status that says so."""
        if not self._ours(request.headers.get("host", "")):
            return "this is not the name of the page's machine", 400
        link = request.url.path == "/" and request.headers.get("sec-fetch-mode") == "navigate"
        if request.headers.get("sec-fetch-site") == "cross-site" and not link:
            return "another site's page gets no answers", 403
        given = request.query_params.get("token", "") or request.cookies.get(self.cookie, "")
        if self.token and not self._same(given):
            return "open the link that `rung3 explore` printed: it holds a token", 403
        return None

    def _ours(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        name = name.strip("[]").lower()
        return name in self.names or (self.anywhere and _is_address(name))

    def _same(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.token.encode())


def _is_address(name: str) -> bool:
    """Whether it is an address itself: only a name can be made to lead elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
