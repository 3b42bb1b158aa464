"""What the web page's server refuses before anything else sees it: foreign names, foreign pages, and too much."""

import ipaddress
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

UPLOAD = "/upload"  # how the address ends to which photos are sent
MOST_FILES = 1000


def own_names(host: str, more: Iterable[str] = ()) -> frozenset[str]:
    """Names under which the page may be asked for.

    Args:
        host: the address that is listened on.
        more: further names that lead to this machine, such as those of a proxy.
    """
    names = {"localhost", host, *more}
    if not is_loopback(host):
        names |= {socket.gethostname(), socket.getfqdn()}
    return frozenset(name.lower() for name in names)


def is_loopback(host: str) -> bool:
    """Whether only this machine itself reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _sizes(folder: Path) -> list[int]:
    """Bytes of each file below a folder from which files may be removed meanwhile."""
    sizes = []
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if file.is_file():
                sizes.append(file.stat().st_size)
    return sizes


class Guard:
    """Middleware (ASGI) around the page.

    A page elsewhere can make a visitor's browser ask here, also under a name of its own that it lets lead to this
    machine (DNS rebinding). So only this machine's own names and plain addresses are answered, a request that another
    page sends is not, and photos are taken only up to a quota; those that are old are removed meanwhile.

    Args:
        app: the page.
        names: see `own_names`.
        local: answer addresses of this machine alone.
        folder: where photos and pictures are kept.
        quota: bytes that the folder may hold.
    """

    def __init__(self, app: Any, names: frozenset[str], local: bool, folder: Path, quota: int) -> None:
        self._app, self._names, self._local, self._folder, self._quota = app, names, local, folder, quota
        self._coming = 0  # bytes of uploads that are under way

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer, or hand on."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        from starlette.datastructures import Headers

        headers = Headers(scope=scope)
        refused = self._stranger(headers)
        coming = 0
        if not refused and scope.get("method") == "POST" and scope["path"].endswith(UPLOAD):
            refused, coming = self._too_much(headers)
        if refused:
            await self._refuse(scope, receive, send, *refused)
            return
        self._coming += coming
        try:
            await self._app(scope, receive, send)
        finally:
            self._coming -= coming

    def _stranger(self, headers: Any) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._is_own(host):
            return 421, "this page does not have that name"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "another page may not ask for this"
        return None

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            return ipaddress.ip_address(name).is_loopback or not self._local
        except ValueError:
            return False

    def _too_much(self, headers: Any) -> tuple[tuple[int, str] | None, int]:
        """Why an upload is refused, if it is, and its bytes."""
        length = headers.get("content-length", "")
        if "transfer-encoding" in headers or not (length.isascii() and length.isdigit()):  # chunks have any length
            return (411, "say how large the photo is"), 0
        held = _sizes(self._folder)
        if sum(held) + self._coming + int(length) > self._quota or len(held) >= MOST_FILES:
            return (507, "there is no room for further photos now; come back in ten minutes"), 0
        return None, int(length)

    async def _refuse(self, scope: dict[str, Any], receive: Any, send: Any, code: int, text: str) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": text})
            return
        from starlette.responses import PlainTextResponse

        await PlainTextResponse(text, code)(scope, receive, send)
