"""What chat endpoints reply: texts, errors in several layouts, and refusals of fields of a request."""

import json
import re
from typing import Any

RETRIED = (408, 409, 425, 429)
"""Statuses, besides those from 500 on, after which a request is sent again."""

REPLACEMENTS = {"max_tokens": "max_completion_tokens", "temperature": None, "seed": None}
"""Fields of a request that some models refuse, and what is sent in their place: None for nothing."""

LONGEST_EXCERPT = 300
"""Characters of an endpoint's words in a message."""


class EndpointFault(Exception):
    """The reason why an attempt brought no reply.

    `status` is that of HTTP, or the code in the endpoint's error, 0 for none. `field` is what the endpoint refuses of
    a request. `final` says that another attempt would bring the same.
    """

    def __init__(
        self, reason: str, status: int = 0, retry_after: float | None = None, field: str = "", final: bool = False
    ):
        super().__init__(reason)
        self.status, self.retry_after, self.field = status, retry_after, field
        self.final = final or (0 < status < 500 and status not in RETRIED)


def error_of(answer: Any) -> tuple[str, int] | None:
    """What an endpoint says, and its code (0 for none), where its answer is an error and no reply; None for a reply.

    Errors are an object or a text under "error", at the top or in the first choice, or "message" or "detail" in the
    place of choices. Gemini's stand in a list.
    """
    if isinstance(answer, list) and answer:
        answer = answer[0]
    if not isinstance(answer, dict):
        return None
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    error = answer.get("error") or (first.get("error") if isinstance(first, dict) else None)
    if first is None and not error and "data" not in answer:
        error = answer if answer.get("object") == "error" else answer.get("errors") or answer.get("detail")
        if not error and isinstance(answer.get("message"), str):
            error = answer
    if not error:
        return None
    message, code = error, None
    if isinstance(error, dict):
        message, code = error.get("message") or error.get("detail") or error, error.get("code") or error.get("status")
    code = answer.get("code") or answer.get("status") if code is None else code
    number = int(code) if isinstance(code, int | str) and re.fullmatch(r"[1-5]\d\d", str(code)) else 0
    return message if isinstance(message, str) else json.dumps(message), number


def refused_field(body: bytes | bytearray) -> str:
    """The field of REPLACEMENTS that an error is about, "" for none."""
    try:
        answer = json.loads(body)
        error = answer.get("error") if isinstance(answer, dict) else None
        parameter = error.get("param") if isinstance(error, dict) else None
        if isinstance(parameter, str) and parameter:
            return parameter if parameter in REPLACEMENTS else ""
        message = (error_of(answer) or ("", 0))[0]
    except (ValueError, RecursionError):
        message = body[:2000].decode(errors="replace")
    named = [(place.start(), field) for field in REPLACEMENTS if (place := re.search(rf"\b{field}\b", message))]
    return min(named)[1] if named else ""


def read_events(body: bytes | bytearray) -> dict[str, Any]:
    """The reply in server-sent events, as one that was not streamed; ValueError where they hold no JSON."""
    text, finish = [], None
    for line in body.decode(errors="replace").splitlines():
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or not data or data == "[DONE]":
            continue
        chunk = json.loads(data)
        if error_of(chunk):
            return chunk
        for choice in (chunk.get("choices") if isinstance(chunk, dict) else None) or []:
            delta = choice.get("delta") or choice.get("message") if isinstance(choice, dict) else None
            text.append(_content(delta.get("content")) if isinstance(delta, dict) else "")
            finish = choice.get("finish_reason") or finish if isinstance(choice, dict) else finish
    return {"choices": [{"message": {"content": "".join(text) or None}, "finish_reason": finish}]}


def _content(content: Any) -> str:
    """The text of a message's content, which may be in parts; those that are no answer are left out."""
    if isinstance(content, str):
        return content
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if part.get("type", "text") in ("text", "output_text")]
    return "".join(text for text in texts if isinstance(text, str))


def text_of(answer: Any) -> str:
    """The text of a reply, without the model's thoughts.

    Raises EndpointFault, with the endpoint's words, for a reply without any.
    """
    try:
        choice = answer["choices"][0]
        message = choice.get("message") or {}
        content = message.get("content")
        text = choice["text"] if content is None and isinstance(choice.get("text"), str) else _content(content)
    except (LookupError, TypeError, AttributeError):
        raise EndpointFault(f"a reply without text: {_excerpt(answer)}") from None
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal and not text:
        raise EndpointFault(f"the model refuses: {refusal[:LONGEST_EXCERPT]}", final=True)
    spoken = "" if text.lstrip().startswith("<think>") else text
    if "</think>" in text:
        spoken = text.rpartition("</think>")[2].strip()
    cut_off = choice.get("finish_reason") == "length"
    is_thinking = bool(text or message.get("reasoning_content") or message.get("reasoning"))
    if not spoken and (cut_off or is_thinking or content != ""):
        remedy = "; it was cut off: raise max_new_tokens, which also limits the model's thoughts" if cut_off else ""
        raise EndpointFault(f"a reply without text: {_excerpt(choice)}{remedy}", final=cut_off)
    return spoken


def _excerpt(answer: Any) -> str:
    return json.dumps(answer)[:LONGEST_EXCERPT]
