"""OpenAI-compatible chat endpoints as mentors: vLLM, SGLang, llama.cpp's server, or a hosted service."""

import asyncio
import base64
import io
import ipaddress
import json
import logging
import os
import random
import re
import secrets
import socket
import threading
import urllib.parse
import urllib.request
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from mentorgym.extras import import_extra
from mentorgym.mentors.chat import (
    LONGEST_EXCERPT,
    REPLACEMENTS,
    EndpointFault,
    error_of,
    read_events,
    refused_field,
    text_of,
)
from mentorgym.mentors.mentor import IMAGE_SLOT, Feedback, Request

Result = TypeVar("Result")

MAX_REPLY = 1 << 20
"""Largest body of a response, in bytes."""

LONGEST_PAUSE = 8.0
"""Longest pause between two attempts, in seconds, where the endpoint does not ask for a longer one."""

_log = logging.getLogger(__name__)


class EndpointMentor:
    """Sends all requests of a batch to a chat endpoint concurrently; `load_endpoint` documents the arguments.

    The answer to a request that fails is None, and each kind of fault is logged once.
    """

    structured: bool
    """whether the endpoint follows a JSON schema, as probed at construction"""

    def __init__(
        self,
        url: str,
        model: str | None = None,
        schema: Mapping[str, Any] | None = None,
        max_new_tokens: int = 64,
        timeout: float = 30.0,
        retries: int = 2,
        backoff: float = 0.5,
        concurrency: int = 8,
        requests_per_second: float | None = None,
    ):
        httpx = import_extra("httpx", "vlm", "a mentor behind an endpoint")
        if retries < 0 or timeout <= 0 or backoff < 0 or concurrency < 1 or max_new_tokens < 1:
            raise ValueError(
                "an endpoint needs retries and backoff of at least 0, timeout above 0, and concurrency and "
                "max_new_tokens of at least 1"
            )
        if requests_per_second is not None and requests_per_second <= 0:
            raise ValueError(f"requests_per_second={requests_per_second}: give a number above 0, or None for no limit")
        self.url = url.rstrip("/")
        self.max_new_tokens, self.timeout, self.retries, self.backoff = max_new_tokens, timeout, retries, backoff
        self.spacing = 1 / requests_per_second if requests_per_second else 0.0
        self._next_start = 0.0
        self._reported: set[str] = set()
        self._generation: dict[str, Any] = {"max_tokens": max_new_tokens, "temperature": 0, "seed": 0}
        self._key = _api_key(self.url)
        # Uncompressed, so that MAX_REPLY bounds the memory that a reply takes.
        headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        limits = httpx.Limits(max_connections=concurrency)
        try:
            host = httpx.URL(self.url).host
        except (httpx.InvalidURL, ValueError) as error:
            raise ValueError(f"{url} is not the address of an endpoint: {error}") from None
        # What is asked of this machine, and the key with it, never goes to a proxy.
        local = is_loopback(host)
        self._proxy = "" if local else _proxy_for(self.url)
        try:
            self._client = httpx.AsyncClient(
                headers=headers, timeout=timeout, limits=limits, trust_env=not local, verify=httpx.create_ssl_context()
            )
        except (httpx.InvalidURL, ValueError, ImportError) as error:
            raise ValueError(
                f"the proxy settings for {url} cannot be used ({error}): correct or unset HTTP_PROXY, HTTPS_PROXY, "
                "ALL_PROXY and NO_PROXY"
            ) from None
        self._room = asyncio.Semaphore(concurrency)
        # The client is bound to one event loop, and the caller's thread may run another one.
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="endpoint", daemon=True)
        thread.start()
        self._close = weakref.finalize(self, _shut_down, self._loop, thread, self._client)
        try:
            self.model = model or self._run(self._first_model())
            self.structured = self._run(self._probe())
        except BaseException:
            self.close()
            raise
        self.schema = dict(schema) if schema is not None and self.structured else None

    def __call__(self, requests: Sequence[Request]) -> list[Feedback | None]:
        """The text of each reply; None where all attempts failed.

        Raises ValueError for a prompt without IMAGE_SLOT.
        """
        payloads = [self._payload(request.picture, request.prompt, self.schema) for request in requests]
        return self._run(self._ask_all(payloads))

    def close(self) -> None:
        """Close the connections. Requests that are being answered raise `CancelledError`; new ones are refused."""
        self._close()

    def _run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _payload(self, picture: np.ndarray, prompt: str, schema: Mapping[str, Any] | None) -> dict[str, Any]:
        if prompt.count(IMAGE_SLOT) != 1:
            raise ValueError(f"a prompt needs one slot {IMAGE_SLOT} for the picture: {prompt!r}")
        before, after = prompt.split(IMAGE_SLOT)
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        address = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": address}}]
        if before:
            parts.insert(0, {"type": "text", "text": before})
        if after:
            parts.append({"type": "text", "text": after})
        payload: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": parts}]}
        if schema is not None:
            reply_format = {"name": "reply", "schema": schema, "strict": True}
            payload["response_format"] = {"type": "json_schema", "json_schema": reply_format}
        return payload

    async def _ask_all(self, payloads: Sequence[dict[str, Any]]) -> list[Feedback | None]:
        return list(await asyncio.gather(*map(self._ask_or_none, payloads)))

    async def _ask_or_none(self, payload: dict[str, Any]) -> str | None:
        try:
            return await self._ask(payload)
        except EndpointFault as fault:
            # Each status is logged once, whatever the body is; texts may begin alike and end with a number.
            kind = str(fault.status or str(fault)[:40])
            if kind not in self._reported:
                self._reported.add(kind)
                _log.warning("no reply from %s: %s; further faults of this kind are not reported", self.url, fault)
            return None

    async def _ask(self, payload: dict[str, Any]) -> str:
        """The reply, after at most `retries` further attempts; raises the fault of the last one."""
        attempt = 0
        while True:
            sent = dict(self._generation)
            try:
                return text_of(await self._exchange("POST", "/chat/completions", payload | sent))
            except EndpointFault as fault:
                if fault.field in sent:
                    self._replace(fault)
                    continue
                if fault.final or attempt == self.retries:
                    raise EndpointFault(self._censored(str(fault)), fault.status) from None
                pause = fault.retry_after
            if pause is None:
                # Random, so that requests that failed together are not sent again together.
                pause = min(self.backoff * 2**attempt, LONGEST_PAUSE) * random.uniform(0.5, 1.0)
            await asyncio.sleep(pause)
            attempt += 1

    def _replace(self, fault: EndpointFault) -> None:
        """Send what the endpoint takes in place of the field that it refuses, from now on."""
        if fault.field not in self._generation:  # A request beside this one was refused earlier.
            return
        value, other = self._generation.pop(fault.field), REPLACEMENTS[fault.field]
        if other:
            self._generation[other] = value
        _log.info("%s refuses %s; it gets %s instead", self.url, fault.field, other or "nothing")

    async def _exchange(self, method: str, path: str, payload: dict[str, Any] | None = None) -> Any:
        """The JSON of one attempt; raises EndpointFault for every failure."""
        try:
            async with self._room:
                await self._pace()
                async with asyncio.timeout(self.timeout):
                    async with self._client.stream(method, self.url + path, json=payload) as response:
                        body = bytearray()
                        async for chunk in response.aiter_raw():
                            body += chunk
                            if len(body) > MAX_REPLY:
                                raise EndpointFault(f"a reply of more than {MAX_REPLY} bytes")
        except EndpointFault:
            raise
        except TimeoutError:
            raise EndpointFault(f"no reply within {self.timeout:g} s") from None
        except Exception as error:  # No fault of the endpoint may end the training.
            raise EndpointFault(self._censored(f"{type(error).__name__} {error}".strip())) from None
        status = response.status_code
        text = body[:LONGEST_EXCERPT].decode(errors="replace").strip()
        if not 200 <= status < 300:
            reason = self._censored(f"status {status} {text}".strip())
            field = refused_field(body) if status in (400, 422) else ""
            raise EndpointFault(reason, status, self._retry_after(response.headers), field)
        try:
            answer = read_events(body) if body.lstrip().startswith((b"data:", b"event:", b":")) else json.loads(body)
        except (ValueError, RecursionError):
            raise EndpointFault(self._censored(f"a reply that is not JSON: {text[:100]}")) from None
        if words := error_of(answer):
            message, code = words
            field = refused_field(body) if code in (0, 400, 422) else ""
            reason = self._censored(f"an error in place of a reply: {message[:LONGEST_EXCERPT]}")
            raise EndpointFault(reason, code, self._retry_after(response.headers), field)
        return answer

    async def _pace(self) -> None:
        """Wait for this request's turn under the rate limit."""
        if self.spacing:
            start = max(self._loop.time(), self._next_start)
            self._next_start = start + self.spacing
            await asyncio.sleep(start - self._loop.time())

    def _retry_after(self, headers: Mapping[str, str]) -> float | None:
        """Seconds of the endpoint's `Retry-After`, at most `timeout`; None where it gives no number."""
        try:
            return min(max(float(headers.get("Retry-After", "")), 0.0), self.timeout)
        except ValueError:
            return None

    def _censored(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    async def _first_model(self) -> str:
        try:
            models = await self._exchange("GET", "/models")
        except EndpointFault as fault:
            raise self._unusable(fault) from None
        # Most have "data"; some list without it, or "models".
        entries = models.get("data") or models.get("models") if isinstance(models, dict) else models
        first = entries[0] if isinstance(entries, list) and entries else None
        name = first.get("id") or first.get("name") if isinstance(first, dict) else None
        if not isinstance(name, str):
            raise ConnectionError(f"{self.url} lists no models; name one with the option `model`")
        return name

    async def _probe(self) -> bool:
        """Whether the endpoint follows a schema that no model follows by chance; raises where there is no reply."""
        word = secrets.token_hex(4)
        schema = {
            "type": "object",
            "properties": {"word": {"type": "string", "enum": [word]}},
            "required": ["word"],
            "additionalProperties": False,
        }
        picture = np.full((64, 64, 3), 128, np.uint8)
        prompt = f"{IMAGE_SLOT}What colour is this?"
        try:
            reply = await self._ask(self._payload(picture, prompt, schema))
        except EndpointFault as fault:
            if fault.status not in (400, 422) and not _ABOUT_SCHEMAS.search(str(fault)):
                raise self._unusable(fault) from None
            try:
                await self._ask(self._payload(picture, prompt, None))
            except EndpointFault as plain:
                raise self._unusable(plain) from None
            return False
        try:
            return json.loads(reply) == {"word": word}
        except (ValueError, RecursionError):
            return False

    def _unusable(self, fault: EndpointFault) -> ConnectionError:
        hint = {
            401: "; set MENTORGYM_API_KEY, or for https OPENAI_API_KEY, to the endpoint's key",
            403: "; set MENTORGYM_API_KEY, or for https OPENAI_API_KEY, to the endpoint's key",
            404: "; the address usually ends in /v1, and the option `model` names a model that is served there",
            400: "; the model has to take images" if _ABOUT_IMAGES.search(str(fault)) else "",
        }.get(fault.status, "")
        if self._proxy:
            hint += f"; it was asked through the proxy {self._proxy}: NO_PROXY names hosts to ask without one"
        return ConnectionError(f"{self.url} is not a usable chat endpoint: {fault}{hint}")


def _api_key(url: str) -> str | None:
    """The key from the environment; OPENAI_API_KEY is sent over https alone."""
    key = os.environ.get("MENTORGYM_API_KEY")
    if not key and url.startswith("https://"):
        key = os.environ.get("OPENAI_API_KEY")
    return key or None


_ABOUT_SCHEMAS = re.compile("response_format|schema")
_ABOUT_IMAGES = re.compile(r"image|vision|multi-?modal|(be|expected) a (valid )?string", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: localhost, 127.0.0.0/8, ::1, or the unspecified address, in any spelling."""
    host = host.strip("[]").rstrip(".").lower()
    if host in ("localhost", "localhost.localdomain") or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            # The resolver reads 127.1 and 0x7f000001, too.
            address = ipaddress.ip_address(socket.inet_aton(host))
        except (OSError, UnicodeError):
            return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def _proxy_for(url: str) -> str:
    """Host and port of the proxy that the environment names for an address, "" for none."""
    parts = urllib.parse.urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(parts.netloc):
        return ""
    # Without the password that may be in it.
    return proxy.rpartition("@")[2].rpartition("//")[2]


def _shut_down(loop: asyncio.AbstractEventLoop, thread: threading.Thread, client: Any) -> None:
    if thread is threading.current_thread():  # The garbage collector runs in the thread, which cannot wait for itself.
        loop.stop()
        return
    asyncio.run_coroutine_threadsafe(_hang_up(client), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def _hang_up(client: Any) -> None:
    """Close the client and cancel the open requests, so that no caller waits forever."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await client.aclose()


def load_endpoint(
    url: str,
    *,
    model: str | None = None,
    schema: Mapping[str, Any] | None = None,
    max_new_tokens: int = 64,
    timeout: float = 30.0,
    retries: int = 2,
    backoff: float = 0.5,
    concurrency: int = 8,
    requests_per_second: float | None = None,
) -> EndpointMentor:
    """The chat endpoint at `url`, which usually ends in `/v1`.

    The endpoint's key is the value of the environment variable MENTORGYM_API_KEY. Without it, OPENAI_API_KEY is used,
    over https alone. An endpoint without a key needs neither.

    Args:
        url: address that `/models` and `/chat/completions` are appended to.
        model: name of a model served there; None is the first that the endpoint lists.
        schema: JSON schema of the replies, sent where the endpoint follows schemas.
        max_new_tokens: longest reply, in tokens.
        timeout: seconds for one attempt; a batch takes as long as its slowest request with all its attempts.
        retries: further attempts after a fault.
        backoff: seconds before the first further attempt, doubled for each next one; `Retry-After` overrides it.
        concurrency: most simultaneous requests.
        requests_per_second: limit on their rate, each attempt counted; None for no limit.

    Raises:
        ValueError: an option is out of range.
        ConnectionError: `url` does not answer as a chat endpoint that takes images.
        ImportError: httpx is missing.
    """
    return EndpointMentor(
        url, model, schema, max_new_tokens, timeout, retries, backoff, concurrency, requests_per_second
    )
