"""Chat endpoints as mentors, on a server of 127.0.0.1 that misbehaves on demand."""

import base64
import contextlib
import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from mentorgym.mentors import Request, load_mentor
from mentorgym.mentors.endpoint import is_loopback

SCHEMA = {"type": "object", "properties": {"steer": {"type": "number"}}, "required": ["steer"]}


def ask(word: str) -> Request:
    picture = np.full((6, 9, 3), len(word), np.uint8)
    return Request(picture, f"First <image> then {word}", 0, np.full(2, np.nan, np.float32))


class Server(ThreadingHTTPServer):
    """Answers with the last word of each prompt; `misbehave` may take the answer over."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.follows_schema = True
        self.refuses_schema = False
        self.models: list[dict] = [{"id": "first-model"}, {"id": "second-model"}]
        self.misbehave: Callable[[Handler, str], bool] = lambda handler, word: False
        self.asked: list[dict] = []
        self.headers_seen: list[dict[str, str]] = []
        self.times: list[float] = []
        self.now, self.most_at_once = 0, 0
        self.lock = threading.Lock()

    def handle_error(self, request, client_address) -> None:
        """Connections that a client drops are what the tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args) -> None:
        """Without a word."""

    def reply(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def say(self, text: str) -> None:
        self.reply(json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode())

    def do_GET(self) -> None:
        self.reply(json.dumps({"data": self.server.models}).encode())

    def do_POST(self) -> None:
        server = self.server
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.asked.append(payload)
            server.headers_seen.append(dict(self.headers))
            server.times.append(time.monotonic())
            server.now += 1
            server.most_at_once = max(server.most_at_once, server.now)
        try:
            self.answer(payload)
        finally:
            with server.lock:
                server.now -= 1

    def answer(self, payload: dict) -> None:
        word = payload["messages"][0]["content"][-1]["text"].split()[-1]
        wanted = payload.get("response_format")
        if wanted and self.server.refuses_schema:
            self.reply(b'{"error": "response_format is not supported"}', 400)
        elif self.server.misbehave(self, word):
            return
        elif wanted and self.server.follows_schema and "word" in wanted["json_schema"]["schema"]["properties"]:
            self.say(json.dumps({"word": wanted["json_schema"]["schema"]["properties"]["word"]["enum"][0]}))
        else:
            self.say(word)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for variable in ("MENTORGYM_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@contextlib.contextmanager
def mentor_at(url: str, **options):
    with contextlib.closing(load_mentor(url, **{"timeout": 2.0, "backoff": 0.01, **options})) as mentor:
        yield mentor


def test_replies_come_in_the_order_of_the_requests(server: Server):
    def slow_first(handler: Handler, word: str) -> bool:
        time.sleep(0.2 if word == "a" else 0.0)
        return False

    server.misbehave = slow_first
    with mentor_at(server.url) as mentor:
        assert mentor([ask("a"), ask("b"), ask("c")]) == ["a", "b", "c"]
        assert mentor([]) == []


def test_what_is_sent_is_the_picture_between_the_words(server: Server):
    with mentor_at(server.url, max_new_tokens=12) as mentor:
        mentor([ask("four")])
    sent = server.asked[-1]
    before, picture, after = sent["messages"][0]["content"]
    assert (before, after) == ({"type": "text", "text": "First "}, {"type": "text", "text": " then four"})
    header, _, data = picture["image_url"]["url"].partition(",")
    assert header == "data:image/png;base64"
    np.testing.assert_array_equal(Image.open(io.BytesIO(base64.b64decode(data))), ask("four").picture)
    assert (sent["model"], sent["max_tokens"], sent["temperature"]) == ("first-model", 12, 0)


def test_the_model_is_the_one_named(server: Server):
    with mentor_at(server.url, model="second-model") as mentor:
        mentor([ask("a")])
    assert {sent["model"] for sent in server.asked} == {"second-model"}


@pytest.mark.parametrize("kind", ["follows", "ignores", "refuses"])
def test_a_schema_is_asked_for_only_where_the_endpoint_keeps_to_it(server: Server, kind: str):
    server.follows_schema, server.refuses_schema = kind == "follows", kind == "refuses"
    with mentor_at(server.url, schema=SCHEMA) as mentor:
        assert mentor.structured == (kind == "follows")
        assert mentor([ask("a")]) == ["a"]
    sent = server.asked[-1].get("response_format")
    assert (sent and sent["json_schema"]["schema"]) == (SCHEMA if kind == "follows" else None)


def cut_off(handler: Handler, word: str) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def hang(handler: Handler, word: str) -> None:
    time.sleep(2.5)
    handler.close_connection = True


def trickle(handler: Handler, word: str) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(50):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def close(handler: Handler, word: str) -> None:
    handler.close_connection = True


FAULTS: dict[str, Callable[[Handler, str], None]] = {
    "500": lambda handler, word: handler.reply(b"out of memory", 500),
    "429": lambda handler, word: handler.reply(b"slow down", 429),
    "400": lambda handler, word: handler.reply(b"no", 400),
    "302": lambda handler, word: handler.reply(b"", 302, Location="http://127.0.0.1:1/"),
    "closed connection": close,
    "hang": hang,
    "a byte at a time": trickle,
    "half a reply": cut_off,
    "half a JSON": lambda handler, word: handler.reply(b'{"choices": [{"message": {"con'),
    "deep JSON": lambda handler, word: handler.reply(b"[" * 200_000),
    "10 MB": lambda handler, word: handler.say("x" * 10_000_000),
    "no text": lambda handler, word: handler.reply(b'{"choices": [{"message": {"content": null}}]}'),
    "no choices": lambda handler, word: handler.reply(b'{"choices": []}'),
    "not an object": lambda handler, word: handler.reply(b"7"),
    "not UTF-8": lambda handler, word: handler.reply(b"\xff\xfe\x00"),
}


SLOW = ("hang", "a byte at a time")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_its_own_answer_and_no_other(server: Server, fault: str, caplog: pytest.LogCaptureFixture):
    def misbehave(handler: Handler, word: str) -> bool:
        if word == "bad":
            FAULTS[fault](handler, word)
        return word == "bad"

    server.misbehave = misbehave
    patience = {"timeout": 1.0, "retries": 0} if fault in SLOW else {"timeout": 20.0, "retries": 1}
    with mentor_at(server.url, **patience) as mentor, caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert mentor([ask("good"), ask("bad"), ask("fine")]) == ["good", None, "fine"]
        tries = sum(sent["messages"][0]["content"][-1]["text"].endswith("bad") for sent in server.asked)
        assert tries == (2 if fault in {"400", "302", *SLOW} else 4), "what is final is not tried again"
    assert len(caplog.records) == 1, "one line for a kind of fault"


def test_a_passing_fault_is_overcome(server: Server):
    left = ["500", "closed connection", "half a JSON"]

    def misbehave(handler: Handler, word: str) -> bool:
        if word != "a" or not left:
            return False
        FAULTS[left.pop()](handler, word)
        return True

    server.misbehave = misbehave
    with mentor_at(server.url, retries=3) as mentor:
        assert mentor([ask("a")]) == ["a"]


def test_the_endpoint_says_when_to_come_back(server: Server):
    left = ["0.3", "Wed, 21 Oct 2015 07:28:00 GMT", "1e9"]

    def misbehave(handler: Handler, word: str) -> bool:
        if word != "a" or not left:
            return False
        handler.reply(b"", 429, Retry_After=left.pop(0))
        return True

    server.misbehave = misbehave
    with mentor_at(server.url, retries=3, timeout=0.5) as mentor:
        before = len(server.times)
        assert mentor([ask("a")]) == ["a"]
    first, second, third, fourth = server.times[before:]
    assert second - first >= 0.3, "as it says"
    assert third > second, "a date is not read"
    assert 0.5 <= fourth - third < 5, "no longer than the time-out"


def test_concurrency_and_rate_are_bounded(server: Server):
    def misbehave(handler: Handler, word: str) -> bool:
        time.sleep(0.05)
        return False

    server.misbehave = misbehave
    with mentor_at(server.url, concurrency=3) as mentor:
        assert mentor([ask(str(index)) for index in range(12)]) == [str(index) for index in range(12)]
    assert server.most_at_once == 3
    with mentor_at(server.url, requests_per_second=20) as mentor:
        began = time.monotonic()
        mentor([ask("a")] * 8)
        assert time.monotonic() - began >= 7 / 20


@pytest.mark.parametrize("variable", ["MENTORGYM_API_KEY", "OPENAI_API_KEY"])
def test_a_key_comes_from_the_environment_and_is_never_shown(server: Server, monkeypatch, caplog, variable: str):
    monkeypatch.setenv(variable, "not-a-real-key")

    def misbehave(handler: Handler, word: str) -> bool:
        if word == "bad":
            handler.reply(f"wrong key {handler.headers['Authorization']}".encode(), 401)
        return word == "bad"

    server.misbehave = misbehave
    with mentor_at(server.url) as mentor:
        assert mentor([ask("bad")]) == [None]
    expected = "Bearer not-a-real-key" if variable == "MENTORGYM_API_KEY" else None
    assert {seen.get("Authorization") for seen in server.headers_seen} == {expected}, "OpenAI's own over https alone"
    assert "401" in caplog.text
    assert "not-a-real-key" not in caplog.text


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda handler, word: handler.reply(b"no such page", 404), "usually ends in /v1"),
        (lambda handler, word: handler.reply(b"who are you", 401), "MENTORGYM_API_KEY"),
        (lambda handler, word: handler.reply(b"no images", 400), "no images; the model has to take images"),
        (lambda handler, word: handler.reply(b"<html>"), "not JSON"),
        (hang, "no reply within 0.3 s"),
    ],
)
def test_what_is_no_chat_endpoint_is_refused_at_construction(server: Server, fault, message: str):
    def misbehave(handler: Handler, word: str) -> bool:
        fault(handler, word)
        return True

    server.misbehave = misbehave
    with pytest.raises(ConnectionError, match=message):
        load_mentor(server.url, timeout=0.3, retries=0)


def test_an_endpoint_that_is_not_there_or_lists_no_models_is_refused(server: Server):
    with pytest.raises(ConnectionError, match="is not a usable chat endpoint"):
        load_mentor("http://127.0.0.1:1/v1", retries=0)
    server.models = []
    with pytest.raises(ConnectionError, match="lists no models; name one"):
        load_mentor(server.url)


@pytest.mark.parametrize(
    "options", [{"retries": -1}, {"timeout": 0}, {"concurrency": 0}, {"max_new_tokens": 0}, {"requests_per_second": 0}]
)
def test_unfit_options_are_refused(server: Server, options: dict):
    with pytest.raises(ValueError, match="requests_per_second|needs retries"):
        load_mentor(server.url, **options)


def test_a_prompt_without_its_slot_is_refused(server: Server):
    with mentor_at(server.url) as mentor, pytest.raises(ValueError, match="one slot <image>"):
        mentor([ask("a")._replace(prompt="What next?")])


def test_closing_frees_whoever_waits_for_an_answer(server: Server):
    under_way, over = threading.Event(), threading.Event()

    def never(handler: Handler, word: str) -> bool:
        under_way.set()
        over.wait(30)
        handler.close_connection = True
        return True

    mentor = load_mentor(server.url, timeout=60, retries=5)
    server.misbehave = never
    outcome: list[BaseException] = []

    def wait() -> None:
        try:
            mentor([ask("a")])
        except BaseException as error:
            outcome.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert under_way.wait(30)
    mentor.close()
    waiting.join(10)
    over.set()
    assert [type(error).__name__ for error in outcome] == ["CancelledError"]


def test_nothing_is_left_behind(server: Server):
    before = threading.active_count()
    mentor = load_mentor(server.url)
    assert threading.active_count() > before
    mentor.close()
    mentor.close()
    assert not any(thread.name == "endpoint" for thread in threading.enumerate())


def refusing(*fields: str) -> Callable[[Handler, str], bool]:
    """Refuses requests with any of these fields, as OpenAI's endpoint does."""

    def misbehave(handler: Handler, word: str) -> bool:
        sent = handler.server.asked[-1]
        for field in fields:
            if field in sent:
                error = {"message": f"Unsupported parameter: {field!r} is not supported.", "param": field}
                handler.reply(json.dumps({"error": error}).encode(), 400)
                return True
        return False

    return misbehave


@pytest.mark.parametrize("fields", [("max_tokens",), ("temperature",), ("seed", "temperature", "max_tokens")])
def test_fields_that_a_model_refuses_are_replaced_or_left_out(server: Server, fields):
    server.misbehave = refusing(*fields)
    with mentor_at(server.url, retries=0, max_new_tokens=20) as mentor:
        asked = len(server.asked)
        assert mentor([ask("a"), ask("b")]) == ["a", "b"]
        assert len(server.asked) == asked + 2, "what was refused once is not sent again"
    last = server.asked[-1]
    assert last.keys().isdisjoint(fields)
    assert last["max_completion_tokens" if "max_tokens" in fields else "max_tokens"] == 20
    assert {"temperature", "seed"} - set(fields) <= last.keys()


def test_fields_that_are_refused_in_the_middle_of_a_batch_cost_no_answer(server: Server):
    with mentor_at(server.url, retries=0) as mentor:
        server.misbehave = refusing("max_tokens", "seed")
        assert mentor([ask(str(index)) for index in range(6)]) == [str(index) for index in range(6)]


def test_an_error_that_comes_with_status_200_is_told_in_its_own_words(server: Server, caplog):
    bodies = {
        "quota": b'{"error": {"message": "daily quota is used up", "code": 402}}',
        "busy": b'{"error": "too many requests"}',
    }

    def misbehave(handler: Handler, word: str) -> bool:
        if word in bodies:
            handler.reply(bodies[word])
        return word in bodies

    server.misbehave = misbehave
    with mentor_at(server.url, retries=1) as mentor:
        before = len(server.asked)
        assert mentor([ask("quota"), ask("busy"), ask("a")]) == [None, None, "a"]
        assert len(server.asked) == before + 4, "402 is final, and what has no code is tried again"
    assert "daily quota is used up" in caplog.text and "too many requests" in caplog.text
    server.misbehave = lambda handler, word: bool(handler.reply(bodies["quota"]) or True)
    with pytest.raises(ConnectionError, match="an error in place of a reply: daily quota is used up$"):
        load_mentor(server.url, retries=0)


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, b'{"error": {"message": "credit balance is too low"}}', r'credit balance is too low"}}$'),
        (400, b'{"error": {"message": "image_url is only supported by certain models"}}', "has to take images$"),
        (200, b'{"choices": [{"message": {"content": null, "refusal": "not this"}}]}', "the model refuses: not this$"),
        (
            200,
            b'{"choices": [{"message": {"content": null, "reasoning": "well"}, "finish_reason": "length"}]}',
            "well.*raise max_new_tokens",
        ),
    ],
)
def test_an_endpoint_is_refused_in_its_own_words(server: Server, status: int, body: bytes, message: str):
    server.misbehave = lambda handler, word: bool(handler.reply(body, status) or True)
    with pytest.raises(ConnectionError, match=message):
        load_mentor(server.url, retries=0)


def test_a_reply_that_is_streamed_unasked_is_read(server: Server):
    def misbehave(handler: Handler, word: str) -> bool:
        handler.reply(b'data: {"choices": [{"delta": {"content": "green"}}]}\n\ndata: [DONE]\n\n')
        return True

    server.misbehave = misbehave
    with mentor_at(server.url) as mentor:
        assert mentor([ask("a")]) == ["green"]


def test_an_endpoint_that_refuses_schemas_with_status_200_is_asked_without(server: Server):
    def misbehave(handler: Handler, word: str) -> bool:
        if "response_format" in handler.server.asked[-1]:
            handler.reply(b'{"error": "response_format is not supported"}')
            return True
        return False

    server.misbehave = misbehave
    with mentor_at(server.url, schema=SCHEMA, retries=0) as mentor:
        assert not mentor.structured and mentor([ask("a")]) == ["a"]


@pytest.mark.parametrize("models", [{"data": [{"id": "m"}]}, [{"id": "m"}], {"models": [{"name": "m"}]}])
def test_the_list_of_models_is_read_in_each_layout(server: Server, monkeypatch, models):
    monkeypatch.setattr(Handler, "do_GET", lambda handler: handler.reply(json.dumps(models).encode()))
    with mentor_at(server.url) as mentor:
        assert mentor.model == "m"


PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture
def proxy(monkeypatch) -> Iterator[list[tuple[str, str | None]]]:
    """The addresses and keys that a proxy has been asked for, which the environment names."""
    seen: list[tuple[str, str | None]] = []

    class Proxy(BaseHTTPRequestHandler):
        def log_message(self, format, *args) -> None:
            """Without a word."""

        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("Authorization")))
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_CONNECT = do_GET

    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        for name in PROXY_VARIABLES[:3]:
            monkeypatch.setenv(name, f"http://me:word@127.0.0.1:{server.server_port}")
        yield seen
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "127.1", "0.0.0.0"])
def test_what_is_asked_of_this_machine_goes_to_no_proxy(server: Server, proxy, monkeypatch, host: str):
    monkeypatch.setenv("MENTORGYM_API_KEY", "not-a-real-key")
    with mentor_at(server.url.replace("127.0.0.1", host)) as mentor:
        assert mentor([ask("a")]) == ["a"]
    assert proxy == []
    assert server.headers_seen[-1]["Authorization"] == "Bearer not-a-real-key"


@pytest.mark.parametrize("variable", ["ALL_PROXY", "NO_PROXY"])
def test_proxy_settings_that_cannot_be_used_matter_for_other_machines_alone(server, proxy, monkeypatch, variable):
    monkeypatch.setenv(variable, "socks9://nowhere" if variable == "ALL_PROXY" else "fe80::/10,[")
    with mentor_at(server.url) as mentor:
        assert mentor([ask("a")]) == ["a"]
    with pytest.raises(ValueError, match="the proxy settings for http://endpoint.invalid/v1 cannot be used"):
        load_mentor("http://endpoint.invalid/v1", retries=0)


def test_a_proxy_that_refuses_another_machine_is_named_without_its_password(proxy):
    with pytest.raises(ConnectionError, match=r"through the proxy 127.0.0.1:\d+: NO_PROXY names hosts") as raised:
        load_mentor("http://endpoint.invalid/v1", retries=0)
    assert "word" not in str(raised.value)
    assert [path for path, _ in proxy] == ["http://endpoint.invalid/v1/models"]


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost.", True),
        ("api.localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("127.255.0.3", True),
        ("0x7f000001", True),
        ("localhost.example.org", False),
        ("128.0.0.1", False),
        ("10.0.0.1", False),
        ("mylocalhost", False),
        ("", False),
        ("fe80::1", False),
    ],
)
def test_this_machine_is_known_in_any_spelling(host: str, here: bool):
    assert is_loopback(host) == here
