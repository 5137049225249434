"""Vision-language models of transformers as mentors."""

from typing import Any

from mentorgym.mentors.mentor import Mentor


def load_vlm(
    name: str,
    *,
    device: str = "cpu",
    dtype: str | None = None,
    max_new_tokens: int = 32,
    answers: list[str] | None = None,
    image_splitting: bool = False,
    hub_code: bool = False,
) -> Mentor:
    """A model of `AutoModelForImageTextToText` from a folder or by its hub name."""
    raise NotImplementedError
