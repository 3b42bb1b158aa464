"""What the web page's server refuses: foreign names and pages, and more photos than there is room for."""

import asyncio
import os

import pytest

from convert.disk import folder_locked
from toonport.commands.serve import PREFIX, clean_leftovers
from toonport.serve.guard import Guard, is_loopback, own_names


def _answer(folder, headers, path="/gradio_api/upload", method="POST", host="127.0.0.1", kind="http", quota=1000):
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "path": path, "method": method}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]
    guard = Guard(app, own_names(host, ["proxy.example"]), is_loopback(host), folder, quota)
    asyncio.run(guard(scope, None, send))
    return sent[0].get("status", sent[0]["type"])


OWN = {"host": "127.0.0.1:7860", "content-length": "10"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:7860"}, 200),
        ({"host": "proxy.example"}, 200),
        ({"host": "[::1]:7860", "origin": "http://[::1]:7860"}, 200),
        ({"origin": "http://127.0.0.1:7860"}, 200),
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example:7860", "origin": "http://evil.example:7860"}, 421),
        ({"host": "192.168.0.7:7860"}, 421),
        ({"host": "localhost.evil.example"}, 421),
        ({"host": "[::1"}, 421),
        ({"host": ""}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8000"}, 403),
        ({"origin": "null"}, 403),
        ({"content-length": "1001"}, 507),
        ({"content-length": "-1"}, 411),
        ({"content-length": ""}, 411),
        ({"transfer-encoding": "chunked"}, 411),
    ],
)
def test_only_own_names_own_pages_and_what_there_is_room_for(headers, status, tmp_path):
    assert _answer(tmp_path, OWN | headers) == status


def test_a_page_that_is_open_to_the_network_answers_addresses_but_no_foreign_names(tmp_path):
    for host, status in (("192.168.0.7:7860", 200), ("evil.example", 421)):
        assert _answer(tmp_path, OWN | {"host": host}, host="0.0.0.0") == status


def test_a_foreign_page_opens_no_websocket(tmp_path):
    found = _answer(tmp_path, OWN | {"origin": "http://evil.example"}, kind="websocket")
    assert found == "websocket.close"


def test_what_is_there_counts_towards_the_quota(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "photo").write_bytes(bytes(995))
    assert _answer(tmp_path, OWN) == 507
    assert _answer(tmp_path, OWN, path="/", method="GET") == 200


def test_what_a_killed_server_left_is_removed_and_a_running_ones_stays(tmp_path):
    new, old = tmp_path / f"{PREFIX}new", tmp_path / f"{PREFIX}old"
    for folder in (new, old):
        folder.mkdir()
    os.utime(old, (0, 0))
    left, running, other = (tmp_path / name for name in (f"{PREFIX}left", f"{PREFIX}runs", "other"))
    for folder in (left, running, other):
        folder.mkdir()
        (folder / "photo.png").write_bytes(b"x")
        (folder / ".lock").touch()
    with folder_locked(running):
        clean_leftovers(tmp_path)
        assert (running / "photo.png").exists()
    assert not left.exists()
    assert new.exists()
    assert not old.exists()
    assert (other / "photo.png").exists()
