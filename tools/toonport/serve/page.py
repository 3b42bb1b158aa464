"""The local web page, built with gradio: no telemetry, no share links, nothing loaded from elsewhere."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toonport.photo.example import drawn_face
from toonport.photo.picture import Picture, encode
from toonport.serve.bundle import bundle
from toonport.serve.guard import Guard, is_loopback, own_names
from toonport.serve.studio import ANY, Drawing, Studio

TITLE = "Toonport"
INTRODUCTION = (
    "Drop one photo or several. Weights for portraits look for a face, others draw the whole picture. "
    "Everything is computed on this machine; nothing is sent elsewhere."
)
EMPTY = "Drop a photo, or choose an example"
MOST = 20  # photos at once
# On a phone the result comes first; elsewhere it stands beside what was chosen.
STYLE = "@media (max-width: 767px) { #layout { flex-direction: column-reverse; } }"
WAITING = 20  # users in the queue before further ones are asked to come back
VISITORS = 20  # whose last photo is remembered
LEAST_QUOTA = 64 * 2**20  # bytes that uploads and drawn pictures may take together
KEEP_SECONDS = 600  # uploaded and drawn pictures are deleted after that
LOCAL_FONTS = ["system-ui", "sans-serif"]

Example = tuple[str, Picture]


def example_pictures() -> list[Example]:
    """Return pictures that may be shown to anybody: a NASA portrait (public domain), and two drawn here."""
    from skimage import data

    plain = np.full((256, 256, 3), (150, 190, 220), np.uint8)
    plain[150:] = (110, 160, 90)
    return [("Eileen Collins (NASA)", data.astronaut()), ("drawn face", drawn_face()), ("no face", plain)]


def build_page(studio: Studio, examples: list[Example]) -> Any:
    """Return the page as gradio Blocks; every run of a network goes through one queue, one at a time."""
    import gradio as gr

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(KEEP_SECONDS, KEEP_SECONDS)) as page:
        gr.Markdown(f"# {TITLE}\n{INTRODUCTION}")
        with gr.Row(elem_id="layout"):
            with gr.Column(scale=1):
                size, pixels = studio.limits.file_bytes / 2**20, studio.limits.pixels / 1e6
                label = f"Photos, up to {MOST} of {size:.0f} MiB and {pixels:g} million pixels each"
                upload = gr.File(label=label, type="binary", file_count="multiple", elem_id="upload")
                gallery = gr.Gallery(
                    [(picture, name) for name, picture in examples],
                    label="Or an example",
                    columns=3,
                    height=170,
                    allow_preview=False,
                    interactive=False,
                    format="png",
                    buttons=[],
                    elem_id="examples",
                )
                names = list(studio.weights)
                choices = [
                    gr.Dropdown(names, value=names[0], label="Weights", elem_id="weights"),
                    gr.Dropdown(list(studio.families), value=ANY, label="Family", elem_id="family"),
                    gr.Dropdown(list(studio.backends), value=ANY, label="Backend", elem_id="backend"),
                ]
                again = gr.Button("Draw", variant="primary", elem_id="again")
            with gr.Column(scale=2):
                message = gr.Textbox(label="Result", interactive=False, elem_id="message", lines=2)
                slider = gr.ImageSlider(
                    label="Photo | cartoon",
                    format="png",
                    height=400,
                    visible=False,
                    interactive=False,
                    elem_id="slider",
                )
                cartoon = _picture("Cartoon", height=400)
                several = gr.Gallery(
                    label="All cartoons", columns=4, format="png", visible=False, interactive=False, elem_id="several"
                )
                download = gr.DownloadButton("Download all", visible=False, elem_id="download-all")
                with gr.Row():
                    steps = [_picture(name, height=220) for name in ("Photo", "Crop", "Matte", "Heat map")]
        shown = [message, *steps, cartoon, slider, several, download]
        _connect(studio, examples, upload, gallery, choices, again, shown)
    return page


def _picture(label: str, height: int) -> Any:
    """A picture that is not seen before there is one."""
    import gradio as gr

    name = label.lower().replace(" ", "-")
    buttons: list[Any] = ["download", "fullscreen"]
    return gr.Image(
        label=label, format="png", height=height, visible=False, interactive=False, buttons=buttons, elem_id=name
    )


def _connect(
    studio: Studio, examples: list[Example], upload: Any, gallery: Any, choices: list[Any], again: Any, shown: list[Any]
) -> None:
    """Tie the inputs to the studio; a visitor's last photos are kept, so that other weights can be tried on them."""
    import gradio as gr

    contents = [encode(picture) for _, picture in examples]
    last = gr.State(None, time_to_live=KEEP_SECONDS)
    queued: dict[str, Any] = {
        "outputs": [last, again, *shown],
        "concurrency_limit": 1,
        "concurrency_id": "studio",
        "api_visibility": "private",
    }

    def draw(content: bytes | list[bytes] | None, *chosen: str) -> Iterator[tuple[Any, ...]]:
        """Yield the photos, to be kept, and what is shown: first the photo as it is, then what is made of it."""
        photos = [content] if isinstance(content, bytes) else content or []
        if not photos or len(photos) > MOST:
            words = f"{len(photos)} photos are too many at once; the most are {MOST}" if photos else EMPTY
            yield None, gr.update(), *_shown([Drawing(words)])
            return
        yield photos, gr.update(), *_shown([Drawing("", studio.preview(photos[0]))])
        drawings = [studio.draw(photo, *chosen) for photo in photos]
        yield photos, gr.update(value="Draw again"), *_shown(drawings)

    def draw_example(event: gr.SelectData, *chosen: str) -> Iterator[tuple[Any, ...]]:
        """Draw the example that was chosen; an upload's name no longer stands there."""
        for fields in draw(contents[int(event.index) % len(contents)], *chosen):
            yield *fields, gr.update(value=None)

    upload.upload(draw, [upload, *choices], **queued)
    again.click(draw, [last, *choices], **queued)
    gallery.select(draw_example, choices, **{**queued, "outputs": [*queued["outputs"], upload]})


def _shown(drawings: Sequence[Drawing]) -> tuple[Any, ...]:
    """Return what each field becomes: of several photos all cartoons, and the steps of the first."""
    import gradio as gr

    first = drawings[0]
    message = first.message if len(drawings) == 1 else "\n".join(f"{n}: {d.message}" for n, d in enumerate(drawings, 1))
    before = first.crop if first.crop is not None else first.photo
    pair = (before, first.cartoon) if before is not None and first.cartoon is not None else None
    cartoons = [drawing.cartoon for drawing in drawings if drawing.cartoon is not None]
    many = cartoons if len(drawings) > 1 else []
    archive = str(bundle(many, Path(os.environ["GRADIO_TEMP_DIR"]) / "bundles", KEEP_SECONDS)) if many else None
    values = (first.photo, first.crop, first.matte, first.heat, first.cartoon, pair, many or None, archive)
    return message, *(gr.update(value=value, visible=value is not None) for value in values)


def launch(
    studio: Studio, folder: str, host: str = "127.0.0.1", port: int | None = None, names: Sequence[str] = ()
) -> Any:
    """Start to serve the page, and return it (a gradio Blocks; `block_thread()` waits for the end).

    Args:
        studio: what draws.
        folder: where uploads and pictures are kept for a while.
        host: address to listen on; anything but 127.0.0.1 opens the page to the network.
        port: port, or None for a free one from 7860 on.
        names: further names of this machine under which the page may be asked for.

    Raises OSError: the address or port cannot be used.
    """
    os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False")  # read when gradio is imported
    import gradio as gr
    from starlette.middleware import Middleware

    page = build_page(studio, example_pictures())
    quota = max(VISITORS * studio.limits.file_bytes, LEAST_QUOTA)
    guard = Middleware(Guard, names=own_names(host, names), local=is_loopback(host), folder=Path(folder), quota=quota)
    page.queue(max_size=WAITING, api_open=False, default_concurrency_limit=1)
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        inbrowser=False,
        show_error=False,
        allowed_paths=[],
        max_file_size=studio.limits.file_bytes,
        app_kwargs={"middleware": [guard]},
        state_session_capacity=VISITORS,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        css=STYLE,
        theme=gr.themes.Default(font=LOCAL_FONTS, font_mono=["monospace"]),
        prevent_thread_lock=True,
    )
    return page
