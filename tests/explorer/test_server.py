"""The page's server, over a real socket: what it answers, refuses, and keeps apart."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any

import pytest
from PIL import Image as Pictures
from serving import served

from rung3 import worlds
from rung3.explorer import Opened, PageState, Session
from rung3.explorer import answers as view

pytest.importorskip("starlette", reason="the page's server needs rung3[web]")
pytest.importorskip("uvicorn", reason="the page's server needs rung3[web]")

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def session() -> Session:
    world = worlds.digits()
    return Session([Opened("world", world, world.sample(60, seed=1), world)])


@pytest.fixture(scope="module")
def port(session: Session) -> Iterator[int]:
    with served(session) as number:
        yield number


def _send(
    port: int, method: str, path: str, body: str = "", headers: dict[str, str] | None = None
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body.encode() or None, headers or {})
        reply = connection.getresponse()
        content = reply.read()
    return reply.status, content, {k.lower(): v for k, v in reply.getheaders()}


def _ask(port: int, what: str, query: dict[str, Any], **more: Any) -> tuple[int, Any]:
    body = json.dumps({"query": query, **more})
    status, content, _ = _send(port, "POST", f"/api/{what}", body, JSON)
    return status, json.loads(content)


def test_the_page_loads_nothing_from_elsewhere(port: int) -> None:
    status, content, headers = _send(port, "GET", "/")
    assert status == 200
    assert "default-src 'self'" in headers["content-security-policy"]
    text = content.decode()
    files = sorted(
        path.name for path in resources.files("rung3.explorer").joinpath("page").iterdir()
    )
    assert {"explorer.js", "explorer.css"} < set(files)
    for name in files:
        status, part, _ = _send(port, "GET", f"/page/{name}")
        assert status == 200
        text += part.decode().replace("http://www.w3.org/2000/svg", "")
    assert "//cdn" not in text
    assert "https://" not in text
    assert "http://" not in text


def test_it_answers_as_the_session_does(port: int, session: Session) -> None:
    query = PageState(row=3, do={"thickness": 4.0})
    status, content = _ask(port, "answer", {"row": 3, "do": {"thickness": 4}})
    assert (status, content) == (200, json.loads(json.dumps(view.answer(session, query))))
    for what, more in {"truth": {}, "checks": {}, "code": {}, "sweep": {"name": "digit"}}.items():
        assert _ask(port, what, {"row": 3, "do": {"thickness": 4}}, **more)[0] == 200
    status, content = _ask(port, "effects", {"row": 3, "do": {"thickness": 4}}, outcome="image")
    assert (status, content["through"]) == (200, "intensity")


def test_a_strip_can_be_saved(port: int) -> None:
    link = PageState(row=2).link()
    for kind, form in (("png", "PNG"), ("gif", "GIF")):
        status, content, headers = _send(port, "GET", f"/api/strip.{kind}?q={link}&name=digit")
        assert status == 200
        assert headers["content-disposition"].endswith(f'sweep.{kind}"')
        assert Pictures.open(io.BytesIO(content)).format == form


@pytest.mark.parametrize(
    ("what", "query", "more", "message"),
    [
        ("answer", {"row": 60}, {}, "test rows are 0 to 59"),
        ("answer", {"do": {"thickness": -3}}, {}, "outside its support"),
        ("answer", {"do": {"thick": 1}}, {}, "no variable 'thick'; did you mean 'thickness'"),
        ("effects", {"do": {"thickness": 3}}, {"outcome": "nothing"}, "nothing"),
        ("sweep", {}, {"name": "image"}, "not a variable of one number"),
        ("checks", {"rung": "doing"}, {}, "choose 'imagine'"),
        ("upload", {}, {"content": "?"}, "base64"),
        ("upload", {}, {"content": base64.b64encode(b"../x").decode()}, "not a PNG or JPEG"),
    ],
)
def test_what_is_wrong_is_said_and_the_server_goes_on(
    port: int, what: str, query: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    status, content = _ask(port, what, query, **more)
    assert status == 400
    assert message in content["error"]
    assert _ask(port, "answer", {"row": 1})[0] == 200


def test_other_sites_pages_get_nothing(port: int) -> None:
    assert _send(port, "GET", "/", headers={"Host": "evil.example"})[0] == 400
    assert _send(port, "POST", "/api/answer", "{}", {"Content-Type": "text/plain"})[0] == 415
    assert _send(port, "GET", "/page/../server.py")[0] == 404
    assert _send(port, "GET", "/page/%2e%2e/server.py")[0] == 404
    body = json.dumps({"content": "A" * 4_000_000})
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not read the rest
        assert _send(port, "POST", "/api/upload", body, JSON)[0] == 413


def test_every_answer_may_be_used_by_this_page_alone(port: int) -> None:
    for path in ("/", "/page/explorer.js", "/api/strip.png?name=digit", "/api/nothing"):
        headers = _send(port, "GET", path)[2]
        assert headers["cross-origin-resource-policy"] == "same-origin", path
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    body = json.dumps({"query": {}})
    cross = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert _send(port, "POST", "/api/answer", body, {**JSON, **cross})[0] == 403
    assert _send(port, "GET", "/api/strip.png?name=digit", headers=cross)[0] == 403
    navigation = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert _send(port, "GET", "/", headers=navigation)[0] == 200  # a link that was sent
    assert _send(port, "GET", "/api/schema", headers=navigation)[0] == 403
    same = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert _send(port, "POST", "/api/answer", body, {**JSON, **same})[0] == 200


def test_a_question_that_is_too_long_closes_the_connection(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("POST", "/api/upload")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(10**9))
    connection.endheaders()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(64):
            connection.send(b"A" * 2**16)
    reply = connection.getresponse()
    assert (reply.status, reply.getheader("connection")) == (413, "close")


def test_headers_and_bodies_that_do_not_end_are_hung_up_on(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rung3.explorer import server, timed

    monkeypatch.setattr(server, "SECONDS", 0.5)
    monkeypatch.setattr(timed, "SECONDS", 0.5)
    with served(session) as port:
        for sent in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
                slow.sendall(sent)
                assert slow.recv(100) == b""
        head = b"POST /api/answer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
            slow.sendall(head + b"Content-Type: application/json\r\n\r\n{")
            assert slow.recv(100).startswith(b"HTTP/1.1 408")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for _ in range(2):
            connection.request("POST", "/api/truth", json.dumps({"query": {"row": 3}}), JSON)
            reply = connection.getresponse()
            assert (reply.status, bool(reply.read())) == (200, True)
        connection.close()


def test_elsewhere_than_on_loopback_the_link_holds_a_token(session: Session) -> None:
    here = {"Host": "192.0.2.7:7860"}  # an address; of names, only this machine's
    with served(session, "0.0.0.0", "secret") as port:
        for path in ("/", "/?token=wrong", "/api/schema", "/page/explorer.js"):
            assert _send(port, "GET", path, headers=here)[0] == 403, path
        status, _, headers = _send(port, "GET", "/?token=secret", headers=here)
        assert status == 200
        cookie = headers["set-cookie"]
        assert "HttpOnly; SameSite=Strict" in cookie
        known = {**here, "Cookie": cookie.partition(";")[0]}  # sent from now on
        for path in ("/", "/api/schema", "/page/explorer.js"):
            assert _send(port, "GET", path, headers=known)[0] == 200, path
        assert _send(port, "POST", "/api/answer", "{}", {**known, **JSON})[0] == 200
        assert _send(port, "GET", "/?token=secret", headers={"Host": "evil.example"})[0] == 400


def test_listening_for_other_machines_is_warned_of(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    import uvicorn

    from rung3.explorer.server import serve

    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    messages: list[str] = []
    serve(session, "0.0.0.0", 0, messages.append)
    assert "can be reached from other machines" in messages[0]
    assert "?token=" in messages[1]
    messages.clear()
    serve(session, "127.0.0.1", 0, messages.append)
    assert len(messages) == 1
    assert "token" not in messages[0]


def test_fifty_queries_of_ten_clients_each_get_their_own(port: int, session: Session) -> None:
    queries = [PageState(row=k, do={"thickness": 1.5 + k / 25}) for k in range(50)]
    expected = [view.answer(session, query) for query in queries]
    with ThreadPoolExecutor(10) as clients:
        answers = list(clients.map(lambda q: _ask(port, "answer", q.model_dump()), queries))
    assert [status for status, _ in answers] == [200] * 50
    assert [content for _, content in answers] == json.loads(json.dumps(expected))
    assert len({content["models"][0]["images"]["image"]["after"] for _, content in answers}) == 50
