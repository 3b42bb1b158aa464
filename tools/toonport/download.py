"""Downloading one file: going on after a break only with the same version of it, and noticing a cut one.

Beside NAME.partial lies NAME.partial.json with what the server said of the version that is in it.
"""

import http.client
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any

from convert.errors import InputError, first_line

CHUNK = 1 << 18
TIMEOUT_SECONDS = 60
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Version:
    """What a server says of one version of a file; two that are equal and certain are the same bytes."""

    url: str
    etag: str = ""
    modified: str = ""
    total: int = 0  # bytes, 0 where it does not say

    @property
    def is_certain(self) -> bool:
        """Whether the server names its versions, so that it can be asked for the rest of one."""
        return bool(self.etag) and not self.etag.startswith("W/")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to another place on the web, but to no other protocol, and from https to https only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """See `urllib.request.HTTPRedirectHandler`."""
        allowed = {"https"} if req.type == "https" else {"http", "https"}
        if newurl.partition(":")[0].lower() not in allowed:
            raise InputError(f"{req.full_url}: leads to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, partial: Path, progress: Progress | None = None, known: bool = False) -> None:
    """Download `url` to `partial`, going on from what an earlier try left there if that is the same version.

    Args:
        url: http or https.
        partial: where to; what is there and is not the beginning of this version is replaced.
        progress: called as (bytes done, bytes in all, name).
        known: whether the caller knows the file's hash, and so finds out what this cannot.

    Raises InputError: no connection, an error answer, a web page, fewer bytes than announced (the partial file stays
        for the next try), or none announced where the hash is not known either.
    """
    if not url.lower().startswith(("https://", "http://")):
        raise InputError(f"{url}: not an address on the web (https://...)")
    try:
        _download(url, partial, progress, known)
    except urllib.error.HTTPError as error:
        raise InputError(f"{url}: the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        what = first_line(error) if str(error) else type(error).__name__
        raise InputError(f"{url}: download failed ({what}); run the same command to go on from there") from error


def remove_partial(partial: Path) -> None:
    """Remove a partial file and what is known of it."""
    for path in (partial, _notes(partial)):
        path.unlink(missing_ok=True)


def _download(url: str, partial: Path, progress: Progress | None, known: bool) -> None:
    start, version = _begun(url, partial, known)
    with _opened(url, start, version, partial) as answer:
        found = _version(url, answer, start)
        if start and not _goes_on(answer, start, version, found):
            start = 0
            if answer.status == http.client.PARTIAL_CONTENT:  # of another version: nothing of it is of use
                remove_partial(partial)
                raise InputError(f"{url}: the file has changed on the server meanwhile; run the same command again")
        _require_file(url, answer, found, known)
        _notes(partial).write_text(json.dumps(asdict(found)))
        done = _store(answer, partial, start, found.total, progress)
    if found.total and done != found.total:
        raise InputError(f"{url}: the connection broke at {done} of {found.total} bytes; run the same command to go on")


def _opened(url: str, start: int, version: Version, partial: Path) -> Any:
    """The server's answer; asked again for the whole file where it has no rest to send."""
    opener = urllib.request.build_opener(_SafeRedirects)
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", **({"If-Range": version.etag} if version.is_certain else {})}
    try:
        return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        remove_partial(partial)
        return _opened(url, 0, version, partial)


def _begun(url: str, partial: Path, known: bool) -> tuple[int, Version]:
    """Bytes of a partial file that are worth going on from, and of which version they are."""
    version = Version(url)
    with suppress(OSError, ValueError, TypeError):
        version = Version(**json.loads(_notes(partial).read_text("utf-8")))
    start = partial.stat().st_size if partial.is_file() else 0
    if version.url != url or not (version.is_certain or known) or 0 < version.total <= start:
        start = 0
    return start, version


def _notes(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _version(url: str, answer: Any, start: int) -> Version:
    headers = answer.headers
    place = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range") or "")
    if answer.status == http.client.PARTIAL_CONTENT and place and place[2] != "*":
        total = int(place[2])
    else:
        length = int(headers.get("Content-Length") or 0)
        total = length + start if answer.status == http.client.PARTIAL_CONTENT and length else length
    return Version(url, headers.get("ETag") or "", headers.get("Last-Modified") or "", total)


def _goes_on(answer: Any, start: int, before: Version, now: Version) -> bool:
    """Whether an answer is the rest of what was begun."""
    if answer.status != http.client.PARTIAL_CONTENT:
        return False
    place = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range") or f"bytes {start}-")
    same = all(not a or not b or a == b for a, b in ((before.etag, now.etag), (before.total, now.total)))
    return place is not None and int(place[1]) == start and same and before.modified in ("", now.modified)


def _require_file(url: str, answer: Any, version: Version, known: bool) -> None:
    """Refuse a web page, and what could be cut off without a sign."""
    if "text/html" in (answer.headers.get("Content-Type") or ""):
        raise InputError(f"{url}: the server sends a web page in place of the file; open it in a browser to see why")
    chunked = "chunked" in (answer.headers.get("Transfer-Encoding") or "")
    if not (version.total or chunked or known):
        raise InputError(
            f"{url}: the server does not say how long the file is, and nobody published its hash, so a whole one "
            "cannot be told from a cut one; get it in a browser"
        )


def _store(answer: Any, partial: Path, start: int, total: int, progress: Progress | None) -> int:
    """Append what the server sends; bytes in the file afterwards."""
    done = start
    with open(partial, "ab" if start else "wb") as file:
        while block := answer.read(CHUNK):
            file.write(block)
            done += len(block)
            if progress:
                progress(done, total or done, partial.name)
        file.flush()
        os.fsync(file.fileno())
    return done
