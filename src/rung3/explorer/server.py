"""The server of the page: its files, and answers as JSON. It keeps no state about a visitor.

It listens on loopback by default, and the page loads nothing from elsewhere. `rung3.explorer.guard`
decides which requests are answered.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from rung3.explorer import answers, uploads
from rung3.explorer.graph_questions import ask_graph
from rung3.explorer.guard import LOOPBACK, SECONDS, Guard
from rung3.explorer.query import PageState
from rung3.explorer.session import Session
from rung3.explorer.sweep import run_sweep

__all__ = ["application", "configured", "serve"]

MAX_REQUEST = 4 * uploads.MAX_BYTES // 3 + 4096
"""Bytes of a request: an upload in base64, and some text."""

Json = dict[str, Any]


def application(session: Session, host: str = "127.0.0.1", token: str = "") -> Starlette:
    """Build the page and its answers.

    Args:
        session: The session that answers.
        host: Where the server listens; on loopback, only requests to loopback's names are answered.
        token: A secret that the page's link must hold; empty on loopback.
    """
    replies = _replies(session)

    def route(name: str) -> Route:
        async def respond(request: Request) -> Response:
            return await _guarded(lambda given: replies[name](given, _query(given)), request)

        return Route(f"/api/{name}", respond, methods=["POST"])

    async def described(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(answers.schema, session))

    async def strip(request: Request) -> Response:
        return await run_in_threadpool(_strip, session, request)

    async def page(request: Request) -> Response:
        text = (Path(__file__).parent / "page" / "index.html").read_text(encoding="utf-8")
        return Response(text, media_type="text/html")

    return Starlette(
        routes=[
            Route("/", page),
            Route("/api/schema", described),
            Route("/api/strip.{kind}", strip),
            *map(route, replies),
            Mount("/page", StaticFiles(directory=Path(__file__).parent / "page")),
        ],
        middleware=[Middleware(Guard, host=host, token=token)],
    )


def _replies(session: Session) -> dict[str, Callable[[Json, PageState], Json]]:
    """Return by name what answers a request, from what it says and the page's state."""
    return {
        "answer": lambda given, query: answers.answer(session, query),
        "truth": lambda given, query: answers.truth(session, query),
        "trust": lambda given, query: answers.trust(session, query),
        "checks": lambda given, query: answers.checks(session, query),
        "effects": lambda given, query: answers.effects(
            session, query, str(given.get("outcome")), given.get("through")
        ),
        "explain": lambda given, query: answers.explanation(session, query),
        "sweep": lambda given, query: answers.sweep(session, query, str(given.get("name"))),
        "code": lambda given, query: answers.code(session, query),
        "graph": lambda given, query: ask_graph(session, given),
        "upload": lambda given, query: _upload(session, given),
    }


def configured(session: Session, host: str = "127.0.0.1", token: str = "", **options: Any) -> Any:
    """Return uvicorn's configuration, with limits on how long a request may take to arrive."""
    import uvicorn

    from rung3.explorer.timed import Timed

    return uvicorn.Config(application(session, host, token), http=Timed, **options)


def serve(
    session: Session, host: str = "127.0.0.1", port: int = 7860, say: Callable[[str], None] = print
) -> None:
    """Serve the page until interrupted; print its address as soon as it answers.

    Raises:
        ValueError: If the port is taken.
    """
    import socket
    import threading

    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            raise ValueError(
                f"cannot listen on {host}, port {port}: {error.strerror}; choose another --port"
            ) from None
        listening.listen()
        name = f"[{host}]" if ":" in host else host
        threading.Thread(target=_warm, args=(session,), daemon=True).start()
        address, token = f"http://{name}:{listening.getsockname()[1]}/", ""
        if host not in LOOPBACK:
            token = secrets.token_urlsafe(16)
            say(
                f"warning: {host} can be reached from other machines; anyone with this link can "
                "query the models and see the test rows, and the connection is not encrypted"
            )
            address += f"?token={token}"
        say(address)
        uvicorn.Server(configured(session, host, token, log_level="warning")).run([listening])


def _warm(session: Session) -> None:
    """Compute the page's first answer, and read the rows that answers are compared with."""
    with contextlib.suppress(ValueError):  # the page will show it
        answers.answer(session, PageState())
        answers.truth(session, PageState())
    for k in range(len(session.models)):
        session.reference(k)


async def _guarded(answer: Callable[[Json], Json], request: Request) -> Response:
    """Return the answer to a request, or what was wrong with it."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        return _refuse("expected a request in JSON", 415)
    content = b""
    try:
        async with asyncio.timeout(SECONDS):
            async for part in request.stream():
                content += part
                if len(content) > MAX_REQUEST:
                    return _refuse(f"the request has more than {MAX_REQUEST // 2**20} MB", 413)
    except TimeoutError:
        return _refuse(f"the request took more than {SECONDS} s to arrive", 408)
    try:
        given = json.loads(content)
        if not isinstance(given, dict):
            raise ValueError("expected an object with names and values")
        return JSONResponse(await run_in_threadpool(answer, given))
    except (ValueError, RecursionError) as error:
        return _refuse(str(error), 400)


def _query(given: Json) -> PageState:
    query = given.get("query", {})
    if not isinstance(query, dict):
        raise ValueError("query: expected names and values")
    return PageState.read(query)


def _upload(session: Session, given: Json) -> Json:
    known = given.get("known", {})
    if not isinstance(known, dict) or not isinstance(given.get("content"), str):
        raise ValueError("upload: expected the picture's content in base64, and known values")
    try:
        content = base64.b64decode(given["content"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"upload: the content is not base64: {error}") from None
    key, row, inferred = uploads.add_image(session, content, known, given.get("fit") is True)
    values = {k: float(row[k]) for k in row if not session.variables[k].shape}
    return {"upload": key, "inferred": inferred, "values": values}


def _strip(session: Session, request: Request) -> Response:
    """Return a sweep as a file: `/api/strip.png?q=LINK&name=NAME&model=0`."""
    given = request.query_params
    kind = request.path_params["kind"]
    if kind not in ("png", "gif"):
        raise HTTPException(404)
    try:
        k = int(given.get("model", "0"))
        if not 0 <= k < len(session.models) or not session.images:
            raise ValueError("there is no such model, or no image")
        query = PageState.of_link(given.get("q", ""))
        strip = run_sweep(session, query, given.get("name", ""), k)
    except ValueError as error:
        return _refuse(str(error), 400)
    image = session.images[0]
    content = strip.png(image) if kind == "png" else strip.gif(image)
    name = f'attachment; filename="sweep.{kind}"'
    return Response(content, media_type=f"image/{kind}", headers={"Content-Disposition": name})


def _refuse(message: str, status: int) -> Response:
    """Return what was wrong; close the connection where the request was not read to its end."""
    close = {"Connection": "close"} if status in (408, 413, 415) else None
    return JSONResponse({"error": message}, status_code=status, headers=close)
