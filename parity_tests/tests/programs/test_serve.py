"""The web page in a real browser, and what its server refuses."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile

import numpy as np
import pytest

from convert.errors import InputError
from parity_tests.tests.cases import save_torch, seeded_state
from toonport.photo.example import drawn_face
from toonport.photo.matte import MATTES
from toonport.photo.picture import encode
from toonport.serve.studio import ANY, Limits, Studio, find_weights

PATIENCE = 120_000  # milliseconds: machines differ
FACE = encode(drawn_face())
PLAIN = encode(np.full((300, 300, 3), 200, np.uint8))
needs_matte = pytest.mark.skipif(not (matte := MATTES["selfie"].examine()).usable, reason=f"matte: {matte.detail}")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with one small U-GAT-IT generator and one small photo2cartoon generator."""
    folder = tmp_path_factory.mktemp("weights")
    save_torch(folder / "small_ugatit.pt", {"genA2B": seeded_state("ugatit", "genA2B")})
    save_torch(folder / "small_photo2cartoon.pt", {"genA2B": seeded_state("photo2cartoon", "genA2B")})
    return folder


@pytest.fixture(scope="module")
def address(weights, tmp_path_factory):
    """The page, served by the command itself in a process of its own."""
    log, scratch = tmp_path_factory.mktemp("log") / "serve.log", tmp_path_factory.mktemp("scratch")
    command = [sys.executable, "-m", "toonport", "serve", "--weights", str(weights), "--max-megabytes", "1"]
    command += ["--max-megapixels", "1"]
    environment = os.environ | {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    environment |= {"NO_PROXY": "127.0.0.1,localhost", "TMPDIR": str(scratch)}
    with open(log, "w") as file, subprocess.Popen(command, stdout=file, stderr=file, env=environment) as server:
        try:
            yield _wait_for_address(server, log)
        finally:
            server.terminate()
    assert server.returncode == 0, log.read_text()
    assert list(scratch.glob("toonport_serve_*")) == []  # the visitors' photos are gone


def _wait_for_address(server, log):
    for _ in range(600):
        text = log.read_text()
        if "http://127.0.0.1:" in text:
            return text.split()[0].rstrip("/")
        assert server.poll() is None, text
        time.sleep(0.2)
    raise AssertionError(f"the page did not start: {log.read_text()}")


@pytest.fixture
def page(browser, address):
    opened = browser.new_page()
    opened.requested = []
    opened.on("request", lambda request: opened.requested.append(request.url))
    opened.goto(address)
    opened.wait_for_selector("#upload", timeout=PATIENCE)
    yield opened
    opened.close()


def drop(page, name, content, kind="image/png"):
    page.reload()
    page.wait_for_selector("#upload input[type=file]", state="attached", timeout=PATIENCE)
    page.set_input_files("#upload input[type=file]", files=[{"name": name, "mimeType": kind, "buffer": content}])


def message(page):
    page.wait_for_function("document.querySelector('#message textarea')?.value.length > 0", timeout=PATIENCE)
    return page.input_value("#message textarea")


@needs_matte
def test_a_dropped_photo_becomes_a_picture_with_all_its_steps(page, address):
    page.set_default_timeout(PATIENCE)
    drop(page, "me.png", FACE)
    assert message(page).startswith("Drawn by photo2cartoon with torch in ")
    for step in ("photo", "crop", "matte", "heat-map", "cartoon"):
        page.wait_for_selector(f"#{step} img")
    size = page.evaluate("(i => [i.naturalWidth, i.naturalHeight])(document.querySelector('#cartoon img'))")
    assert size == [256, 256]
    with page.expect_download() as download:
        page.click("#cartoon [title='Download'], #cartoon [aria-label='Download']")
    assert download.value.suggested_filename.endswith(".png")
    assert [url for url in page.requested if not url.startswith((address, "data:", "blob:"))] == []


@needs_matte
def test_other_weights_can_be_tried_on_the_same_photo(page):
    page.click("#examples button >> nth=1")
    assert "photo2cartoon" in message(page)
    page.click("#weights input")
    page.click("text=small_ugatit.pt")
    page.click("#again")
    page.wait_for_function("document.querySelector('#message textarea')?.value.includes('ugatit')", timeout=PATIENCE)


@needs_matte
@pytest.mark.sampled(1)
@pytest.mark.parametrize("width", [1280, 390])
def test_several_photos_are_drawn_and_the_page_fits(browser, address, width, tmp_path):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.wait_for_selector("#upload input[type=file]", state="attached")
    assert page.inner_text("#again").strip() == "Draw"
    for hidden in ("cartoon", "crop", "matte", "heat-map", "photo", "slider", "several", "download-all"):
        assert not page.is_visible(f"#{hidden}"), hidden
    face = {"name": "me.png", "mimeType": "image/png", "buffer": FACE}
    page.set_input_files("#upload input[type=file]", files=[face, {**face, "name": "you.png"}])
    assert message(page).splitlines()[1].startswith("2: Drawn by photo2cartoon")
    assert page.inner_text("#again").strip() == "Draw again"
    page.wait_for_selector("#several img")
    page.wait_for_selector("#slider img")
    with page.expect_download() as download:
        page.click("#download-all")
    download.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.namelist() == ["cartoon_01.png", "cartoon_02.png"]
        assert len(archive.read("cartoon_01.png")) > 1000
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    above = page.evaluate("['#message', '#upload'].map(n => document.querySelector(n).getBoundingClientRect().top)")
    assert width > 767 or above[0] < above[1]
    assert "you" in page.inner_text("#upload")
    page.click("#examples button >> nth=1")
    page.wait_for_function("document.querySelector('#upload')?.innerText.includes('you') === false")
    page.wait_for_function("document.querySelector('#message textarea')?.value.includes('2:') === false")
    assert not page.is_visible("#several")
    page.close()


@needs_matte
def test_a_photo_without_a_face_is_answered_in_words(page):
    drop(page, "blank.png", PLAIN)
    assert message(page).startswith("No face found")
    page.wait_for_selector("#photo img", timeout=PATIENCE)
    assert page.query_selector("#cartoon img") is None


def test_what_cannot_be_drawn_is_answered_in_words(page):
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1100, 3), np.uint8)
    many = encode(np.zeros((1001, 1000, 3), np.uint8))
    cases = (
        ("notes.png", b"these are notes", "This file: not a picture that can be read"),
        ("half.png", FACE[: len(FACE) // 2], "This file: not a picture that can be read"),
        ("many.png", many, "The picture has more than 1 million pixels"),
    )
    for name, content, wanted in cases:
        drop(page, name, content)
        assert message(page).startswith(wanted), name
        assert page.query_selector("#cartoon img") is None
    drop(page, "large.bmp", encode(noise, ".bmp"), "image/bmp")
    page.wait_for_selector("text=/maximum allowed size|too large|exceeds/i", timeout=PATIENCE)


@needs_matte
def test_two_visitors_wait_for_each_other(browser, address):
    pages = [browser.new_page() for _ in range(2)]
    for one in pages:
        one.goto(address)
        one.wait_for_selector("#upload", timeout=PATIENCE)
    for one in pages:
        drop(one, "me.png", FACE)
    assert all(message(one).startswith("Drawn by") for one in pages)
    for one in pages:
        one.close()


def fetch(url, data=None):
    """Return the status and the content that the server answers."""
    request = urllib.request.Request(url, json.dumps(data).encode() if data else None)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_no_path_of_a_request_reaches_the_file_system(address, weights, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    inside = weights / "small_ugatit.pt"
    for path in (secret, inside, f"../../../..{secret}", f"/proc/self/root{secret}", "/etc/passwd", "pyproject.toml"):
        for prefix in ("gradio_api/file=", "file=", "gradio_api/file/", "static/", "assets/", "svg/"):
            status, content = fetch(f"{address}/{prefix}{path}")
            assert status >= 400, (prefix, path)
            assert b"secret" not in content.replace(str(secret).encode(), b"")
    status, _ = fetch(f"{address}/gradio_api/proxy={address}/config")
    assert status >= 400


def test_a_forged_upload_is_not_opened(address, tmp_path):
    forged = tmp_path / "forged.png"
    forged.write_bytes(FACE)
    config = json.loads(fetch(f"{address}/config")[1])
    for number, _ in enumerate(config["dependencies"]):
        file = {"path": str(forged), "meta": {"_type": "gradio.FileData"}}
        data = {"data": [file, "small_ugatit.pt", ANY, ANY], "fn_index": number, "session_hash": f"forged{number}"}
        fetch(f"{address}/gradio_api/queue/join", data)
        with urllib.request.urlopen(
            f"{address}/gradio_api/queue/data?session_hash=forged{number}", timeout=60
        ) as answer:
            events = [line.decode() for line in answer if line.startswith(b"data:")]
        assert not any("Drawn by" in event for event in events)
        if number == 0:  # the upload; the others take no file from the request
            assert any('"success":false' in event.replace(" ", "") for event in events)


def test_the_studio_draws_only_from_its_own_lists(weights, tmp_path):
    studio = Studio(find_weights([str(weights)], tmp_path))
    assert list(studio.weights) == ["small_photo2cartoon.pt", "small_ugatit.pt"]
    for choice in ((str(weights / "small_ugatit.pt"), ANY, ANY), ("small_ugatit.pt", "none", ANY)):
        assert studio.draw(FACE, *choice).message == "Choose weights, family and backend from the lists"


def test_the_studio_says_what_does_not_fit(weights, tmp_path):
    studio = Studio(find_weights([str(weights)], tmp_path), Limits(file_bytes=1 << 20, pixels=10**6))
    drawing = studio.draw(FACE, "small_ugatit.pt", "photo2cartoon", ANY)
    assert drawing.cartoon is None
    assert drawing.message.startswith("Small_ugatit.pt: ")
    assert "photo2cartoon" in drawing.message
    assert str(weights) not in drawing.message
    assert "larger than 1 MiB" in studio.draw(b"x" * (1 << 21), "small_ugatit.pt").message


def test_an_error_inside_is_told_without_its_details(weights, tmp_path, monkeypatch, capsys):
    studio = Studio(find_weights([str(weights)], tmp_path))

    def fail(_):
        raise RuntimeError(f"{tmp_path} is nobody's business")

    monkeypatch.setattr(studio, "_cartoonizer", fail)
    drawing = studio.draw(FACE, "small_ugatit.pt")
    assert drawing.message == "Failed inside: RuntimeError; the server's log has more"
    assert drawing.cartoon is None
    assert "nobody's business" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("ending", ["SIGTERM", "SIGHUP"])
def test_uploads_are_removed_however_the_page_ends(weights, tmp_path, ending):
    program = (
        "import pathlib, signal, types\n"
        "from toonport import cli\n"
        "from toonport.serve import page\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # who runs the tests may ignore it
        "def launch(studio, folder, host, port):\n"
        "    pathlib.Path(folder, 'photo').write_text('private')\n"
        "    return types.SimpleNamespace(local_url='the page', block_thread=signal.pause, close=dict)\n"
        "page.launch = launch\n"
        f"raise SystemExit(cli.main(['serve', '--weights', {str(weights)!r}]))\n"
    )
    command, environment = [sys.executable, "-uc", program], os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        assert b"the page serves 2 weights files" in server.stdout.readline()
        assert len(list(tmp_path.rglob("photo"))) == 1
        server.send_signal(signal.Signals[ending])
        assert server.wait(60) in (0, 130), server.stderr.read()
    assert list(tmp_path.iterdir()) == []


@needs_matte
@pytest.mark.parametrize("backend", ["torch", "mindspore"])
def test_every_backend_draws_the_same_picture_from_another_thread(weights, tmp_path, backend):
    studio = Studio(find_weights([str(weights)], tmp_path))
    wanted = studio.draw(FACE, "small_ugatit.pt").cartoon
    drawing = studio.draw(FACE, "small_ugatit.pt", ANY, backend)
    assert f"with {backend} in" in drawing.message
    assert np.abs(wanted.astype(int) - drawing.cartoon.astype(int)).max() <= 1


def test_weights_are_found_and_missing_ones_reported(weights, tmp_path):
    assert list(find_weights([], weights)) == ["small_photo2cartoon.pt", "small_ugatit.pt"]
    assert len(find_weights([str(weights), str(weights / "small_ugatit.pt")], tmp_path)) == 2
    (tmp_path / "more").mkdir()
    shutil.copy(weights / "small_ugatit.pt", tmp_path / "more")
    two = find_weights([str(weights / "small_ugatit.pt"), str(tmp_path / "more")], tmp_path)
    assert list(two) == [f"small_ugatit.pt (1, in {weights.name})", "small_ugatit.pt (2, in more)"]
    for given in ([str(tmp_path / "none.pt")], [], [str(tmp_path)]):
        with pytest.raises(InputError):
            find_weights(given, tmp_path)


def test_an_example_for_everybody_has_a_face_and_one_has_none():
    pytest.importorskip("skimage", reason="the extra 'serve' is not installed")
    from toonport.serve.page import example_pictures

    names = [name for name, _ in example_pictures()]
    assert names == ["Eileen Collins (NASA)", "drawn face", "no face"]
    assert all(picture.dtype == np.uint8 and picture.ndim == 3 for _, picture in example_pictures())
    assert isinstance(io.BytesIO(encode(example_pictures()[0][1])), io.BytesIO)
