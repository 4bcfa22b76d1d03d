"""How the page looks: fonts of the visitor's own system, no file from elsewhere."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

CSS = (Path(__file__).parent / "style.css").read_text()
HEAD = f"<style>{(Path(__file__).parent / 'outer.css').read_text()}</style>"


def theme() -> gr.themes.Base:
    """Return Gradio's default theme in the project's colours."""
    return gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        button_cancel_background_fill="transparent",
        button_cancel_background_fill_dark="transparent",
        button_cancel_background_fill_hover="*error_background_fill",
        button_cancel_background_fill_hover_dark="*error_background_fill",
        button_cancel_border_color="*error_border_color",
        button_cancel_border_color_dark="*error_border_color",
        button_cancel_text_color="*error_text_color",
        button_cancel_text_color_dark="*error_text_color",
    )
