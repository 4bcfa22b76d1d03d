"""Gradio's Blocks, whose every error is a sentence that a client gets to see."""

from __future__ import annotations

import logging
from typing import Any

import gradio as gr
from gradio.exceptions import InvalidPathError

from demo.jobs import FAILED, refusal

logger = logging.getLogger(__name__)
NOT_UPLOADED = "this file was not uploaded here: upload it first"
MISFIT = "the arguments of this request do not fit: see the API on the page"


class Blocks(gr.Blocks):
    """A page and its API.

    What our own functions refuse is a `gr.Error` already.  Gradio reports what goes wrong before
    and after them, such as an argument of the wrong kind, as null.
    """

    async def process_api(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Answer a request.

        Raises:
            gr.Error: one sentence.
        """
        try:
            return await super().process_api(*args, **options)
        except gr.Error:
            raise
        except InvalidPathError:
            raise refusal(NOT_UPLOADED) from None
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            logger.warning("a request with arguments that do not fit: %s", error)
            raise refusal(MISFIT) from None
        except Exception:
            logger.exception("a request failed")
            raise refusal(FAILED) from None
