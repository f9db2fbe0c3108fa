"""``python -m pipeline_steps.evaluation.try_page``: type a prompt, see it un-tuned and with each LoRA."""

import os
import re
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_steps.cli import run_step
from pipeline_steps.config import BaseRef
from pipeline_steps.errors import not_installed

if TYPE_CHECKING:
    from pipeline_steps.evaluation.trying import Artist, Lora

MOST_PICTURES = 8
FONTS = ("system-ui", "sans-serif")
"""Of the reader's own system: nothing is fetched."""
COLOURS = {
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_300",
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_dark": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_hover_dark": "*primary_800",
    "link_text_color_dark": "*secondary_300",
    "link_text_color_visited_dark": "*secondary_300",
}
"""Where Gradio's own have too little contrast to be read (WCAG 2, AA)."""


def try_page(
    results: Path = Path("results"), port: int = 7860, steps: int = 30, guidance_scale: float = 4.5
) -> None:
    """Serve a page on this machine alone on which LoRAs can be tried out.

    The same prompt and seeds go through the un-tuned model and each LoRA that is chosen. Every picture can be
    saved as a PNG whose text chunks say how it was drawn.

    Args:
        results: the folder of the results.
        port: to listen on; the address is 127.0.0.1.
        steps: of denoising, to begin with.
        guidance_scale: of classifier-free guidance.

    Raises:
        UserError: gradio is not installed, or there is no LoRA.
    """
    # Gradio would tell its makers of each start.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio as gr
    except ImportError as error:
        raise not_installed(error, "try") from error

    from pipeline_steps.evaluation.trying import loras

    found = loras(results)
    with tempfile.TemporaryDirectory() as folder:
        page = _page(gr, results, found, Path(folder), steps, guidance_scale)
        page.queue(default_concurrency_limit=1).launch(
            server_name="127.0.0.1",
            server_port=port,
            share=False,
            show_error=True,
            footer_links=[],
            ssr_mode=False,
            enable_monitoring=False,
            allowed_paths=[folder],
            theme=gr.themes.Default(font=FONTS, font_mono=("monospace",)).set(**COLOURS),
        )


def _page(
    gr: Any, results: Path, found: dict[str, list["Lora"]], folder: Path, steps: int, scale: float
) -> Any:
    """Lay the page out; what it does is :func:`drawn`."""
    culture = next(iter(found))

    def labels(name: str) -> Any:
        choices = [lora.label for lora in found[name]]
        return gr.CheckboxGroup(choices=choices, value=choices[:1], label="LoRAs beside the un-tuned model")

    def draw(
        name: str, chosen: list[str], prompt: str, seed: float, count: float, strength: float, steps: float
    ) -> tuple[list[tuple[str, str]], list[str], str]:
        if not prompt.strip():
            raise gr.Error("Write a prompt first.")
        settings = {"prompt": prompt, "seed": int(seed), "steps": int(steps), "guidance_scale": scale}
        wanted = [lora for lora in found[name] if lora.label in chosen]
        return drawn(results, folder, name, found[name][0], wanted, strength, int(count), settings)

    with gr.Blocks(title="Try the LoRA", analytics_enabled=False) as page:
        gr.Markdown(
            "# Try the LoRA\nThe same prompt and seed, drawn by the un-tuned model and with each LoRA. Have "
            "people of the culture look at the pictures before you show them to others."
        )
        with gr.Row():
            with gr.Column():
                name = gr.Dropdown(list(found), value=culture, label="Culture")
                prompt = gr.Textbox(
                    f"a house, {found[culture][0].phrase}".rstrip(" ,"), label="Prompt", lines=2, max_lines=4
                )
                chosen = labels(culture)
                with gr.Row():
                    seed = gr.Number(1, label="Seed", precision=0, minimum=0, maximum=2**32 - 1)
                    count = gr.Slider(1, MOST_PICTURES, 1, step=1, label="Pictures of each")
                with gr.Row():
                    strength = gr.Slider(0, 1.5, 1, step=0.05, label="Strength of the LoRA")
                    taken = gr.Slider(1, 100, steps, step=1, label="Steps")
                button = gr.Button("Draw", variant="primary")
            with gr.Column(scale=2):
                note = gr.Markdown()
                gallery = gr.Gallery(
                    label="Pictures", columns=3, object_fit="contain", buttons=["fullscreen"]
                )
                files = gr.File(label="Save (PNG, with its settings inside)", file_count="multiple")
        name.change(labels, name, chosen)
        button.click(draw, [name, chosen, prompt, seed, count, strength, taken], [gallery, files, note])
    return page


def drawn(
    results: Path,
    folder: Path,
    culture: str,
    main: "Lora",
    chosen: list["Lora"],
    strength: float,
    count: int,
    settings: dict[str, Any],
) -> tuple[list[tuple[str, str]], list[str], str]:
    """Draw what was asked for.

    Args:
        results: the folder of the results.
        folder: where the pictures' files go.
        culture: its name.
        main: the culture's first LoRA: its base model draws, and its phrase names the culture.
        chosen: the LoRAs to draw with.
        strength: of each.
        count: pictures of each.
        settings: "prompt", "seed", "steps", "guidance_scale".

    Returns:
        Files with captions, the files alone, and what is to be said of the prompt.
    """
    from pipeline_steps.drawing.pictures import drawn_png
    from pipeline_steps.evaluation.trying import bleed, series

    notes = [bleed(results, culture, settings["prompt"], main.phrase)]
    for lora in chosen:
        if lora.base.path != main.base.path:
            notes.append(f"**{lora.label}** was left out: it fits `{lora.base.path}`, another base model.")
    # As samples are drawn, in the size of what was trained on.
    settings = settings | ({"side": main.side} if main.side else {})
    fitting = [lora for lora in chosen if lora.base.path == main.base.path]
    shown = []
    for picture, told in series(_artist(main.base.model_dump_json()), fitting, strength, count, settings):
        told |= {"culture": culture, "base": main.base.path}
        name = re.sub(r"[^\w.-]+", "-", f"{culture}_{told['seed']}_{told['model']}_{told['strength']:g}")
        file = folder / f"{name}.png"
        file.write_bytes(drawn_png(picture, told))
        shown.append((str(file), f"{told['model']}, seed {told['seed']}"))
    return shown, [file for file, _ in shown], "\n\n".join(filter(None, notes))


@lru_cache(maxsize=1)
def _artist(base: str) -> "Artist":
    """Keep the last base model loaded."""
    from pipeline_steps.evaluation.trying import Artist

    return Artist(BaseRef.model_validate_json(base))


if __name__ == "__main__":
    run_step(try_page)
