"""The local web page, built with gradio: no telemetry, no share links, nothing loaded from elsewhere."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toonport.photo.example import drawn_face
from toonport.photo.picture import Picture, encode
from toonport.serve.guard import Guard, is_loopback, own_names
from toonport.serve.studio import ANY, Drawing, Studio

TITLE = "Toonport"
INTRODUCTION = "Drop a photo with a face. Everything is computed on this machine; nothing is sent elsewhere."
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
        with gr.Row():
            with gr.Column(scale=1):
                size, pixels = studio.limits.file_bytes / 2**20, studio.limits.pixels / 1e6
                label = f"Photo, up to {size:.0f} MiB and {pixels:g} million pixels"
                upload = gr.File(label=label, type="binary", elem_id="upload")
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
                again = gr.Button("Draw again", elem_id="again")
            with gr.Column(scale=2):
                message = gr.Textbox(label="Result", interactive=False, elem_id="message", lines=2)
                cartoon = _picture("Cartoon", height=400)
                with gr.Row():
                    steps = [_picture(name, height=220) for name in ("Photo", "Crop", "Matte", "Heat map")]
        _connect(studio, examples, upload, gallery, choices, again, [message, *steps, cartoon])
    return page


def _picture(label: str, height: int) -> Any:
    import gradio as gr

    name = label.lower().replace(" ", "-")
    buttons: list[Any] = ["download", "fullscreen"]
    return gr.Image(label=label, format="png", height=height, interactive=False, buttons=buttons, elem_id=name)


def _connect(
    studio: Studio,
    examples: list[Example],
    upload: Any,
    gallery: Any,
    choices: list[Any],
    again: Any,
    outputs: list[Any],
) -> None:
    """Tie the inputs to the studio. The last photo is kept per visitor, so that other weights can be tried on it."""
    import gradio as gr

    contents = [encode(picture) for _, picture in examples]
    last = gr.State(None, time_to_live=KEEP_SECONDS)
    queued: dict[str, Any] = {
        "outputs": [last, *outputs],
        "concurrency_limit": 1,
        "concurrency_id": "studio",
        "api_visibility": "private",
    }

    def draw(content: bytes | None, *chosen: str) -> tuple[Any, ...]:
        """Return the photo, to be kept, and what is made of it."""
        if content is None:
            return None, *_fields(Drawing("Drop a photo, or choose an example"))
        return content, *_fields(studio.draw(content, *chosen))

    def draw_example(event: gr.SelectData, *chosen: str) -> tuple[Any, ...]:
        """Draw the example that was chosen."""
        return draw(contents[int(event.index) % len(contents)], *chosen)

    upload.upload(draw, [upload, *choices], **queued)
    again.click(draw, [last, *choices], **queued)
    gallery.select(draw_example, choices, **queued)


def _fields(drawing: Drawing) -> tuple[Any, ...]:
    return drawing.message, drawing.photo, drawing.crop, drawing.matte, drawing.heat, drawing.cartoon


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
        theme=gr.themes.Default(font=LOCAL_FONTS, font_mono=["monospace"]),
        prevent_thread_lock=True,
    )
    return page
