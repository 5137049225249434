"""OpenAI-compatible chat endpoints as mentors."""

from typing import Any

from mentorgym.mentors.mentor import Mentor


def load_endpoint(
    url: str,
    *,
    model: str | None = None,
    schema: dict[str, Any] | None = None,
    max_new_tokens: int = 64,
    timeout: float = 30.0,
    retries: int = 2,
    concurrency: int = 8,
    requests_per_second: float = 0.0,
) -> Mentor:
    """The chat endpoint under `url`, as vLLM, SGLang or llama.cpp serve it."""
    raise NotImplementedError
