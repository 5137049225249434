"""What chat endpoints reply, in the layouts of several servers."""

import json

import pytest

from mentorgym.envs.driving.view import language
from mentorgym.mentors.chat import EndpointFault, error_of, read_events, refused_field, text_of
from mentorgym.mentors.replies import bare_numbers, object_numbers
from tests.mutations import mutations


def message(**fields) -> dict:
    return {"choices": [{"message": fields, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (message(role="assistant", content="blue"), "blue"),
        (message(content=""), ""),
        (message(content="blue", refusal=None, reasoning_content="The sky ..."), "blue"),
        (message(content=[{"type": "text", "text": "dark "}, {"type": "text", "text": "blue"}]), "dark blue"),
        (
            message(content=[{"type": "thinking", "thinking": [{"text": "red?"}]}, {"type": "text", "text": "blue"}]),
            "blue",
        ),
        (message(content="<think>\nMaybe red.\n</think>\n\nblue"), "blue"),
        (message(content="Maybe red.\n</think>\n\nblue"), "blue"),
        (message(content="say <think>"), "say <think>"),
        ({"choices": [{"text": "blue"}]}, "blue"),
        ({"error": None, **message(content="blue")}, "blue"),
    ],
)
def test_a_reply_is_read_in_each_layout(answer, text):
    assert error_of(answer) is None
    assert text_of(answer) == text


@pytest.mark.parametrize(
    ("answer", "words", "final"),
    [
        (message(content=None), 'a reply without text: .*"content": null', False),
        (message(content=None, refusal="I may not look at this."), "the model refuses: I may not look at this.", True),
        (message(content=None, reasoning_content="So many cars"), "without text: .*So many cars", False),
        (message(content="", reasoning="So many cars"), "without text: .*So many cars", False),
        (message(content="<think>So many"), "without text: .*So many", False),
        (message(content=[{"type": "image_url", "image_url": {}}]), "a reply without text", False),
        (message(content=7), "a reply without text", False),
        (
            {"choices": [{"message": {"content": ""}, "finish_reason": "length"}]},
            "was cut off: raise max_new_tokens",
            True,
        ),
        ({"choices": []}, "a reply without text", False),
        ({"choices": ["blue"]}, "a reply without text: .*blue", False),
        ({"choices": [{"message": "blue"}]}, "a reply without text", False),
        (7, "a reply without text: 7", False),
    ],
)
def test_a_reply_without_text_repeats_what_the_endpoint_says(answer, words, final):
    with pytest.raises(EndpointFault, match=words) as raised:
        text_of(answer)
    assert raised.value.final == final


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"error": {"message": "no more money", "code": 402}}, ("no more money", 402)),
        ({"error": {"message": "no more money", "code": "insufficient_quota"}}, ("no more money", 0)),
        ({"error": {"message": "wait", "code": "429"}}, ("wait", 429)),
        ({"error": "no more money"}, ("no more money", 0)),
        ({"error": {"type": "overloaded"}}, ('{"type": "overloaded"}', 0)),
        ({"object": "error", "message": "no such model", "code": 404}, ("no such model", 404)),
        ({"detail": "Not authenticated"}, ("Not authenticated", 0)),
        ({"detail": [{"loc": ["body", "seed"], "msg": "no"}]}, ('[{"loc": ["body", "seed"], "msg": "no"}]', 0)),
        ({"message": "no Route matched"}, ("no Route matched", 0)),
        ([{"error": {"message": "bad key", "status": "INVALID", "code": 400}}], ("bad key", 400)),
        ({"choices": [{"error": {"message": "upstream", "code": 502}}]}, ("upstream", 502)),
        ({"data": []}, None),
        ({"models": []}, None),
        ({"choices": []}, None),
        ([], None),
        ("words", None),
    ],
)
def test_an_error_is_told_from_a_reply(answer, error):
    assert error_of(answer) == error


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (
            {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported", "param": "max_tokens"}},
            "max_tokens",
        ),
        ({"error": {"message": "use max_completion_tokens in the place of max_tokens"}}, "max_tokens"),
        (
            {"error": {"message": "'temperature' does not support 0 with this model", "param": "temperature"}},
            "temperature",
        ),
        ({"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}, "seed"),
        ({"error": {"message": "seed and temperature of max_tokens", "param": "messages"}}, ""),
        ({"error": {"message": "max_completion_tokens is too large"}}, ""),
        ({"error": {"message": "no images"}}, ""),
    ],
)
def test_the_field_that_is_refused_is_found(body, field):
    assert refused_field(json.dumps(body).encode()) == field
    assert refused_field(b"max_tokens is unknown") == "max_tokens"


def test_a_streamed_reply_is_put_together():
    chunks = [{"choices": [{"delta": {"role": "assistant", "content": part}}]} for part in ("li", None, "ght")]
    chunks += [{"choices": [], "usage": {}}, {"choices": [{"delta": {}, "finish_reason": "length"}]}]
    body = ": waiting\n\n" + "".join(f"data: {json.dumps(each)}\r\n\r\n" for each in chunks) + "data: [DONE]\n\n"
    answer = read_events(body.encode())
    assert text_of(answer) == "light" and answer["choices"][0]["finish_reason"] == "length"
    failed = read_events(b'data: {"error": {"message": "overloaded", "code": 529}}\n\n')
    assert error_of(failed) == ("overloaded", 529)
    with pytest.raises(ValueError, match="."):
        read_events(b"data: {half\n\n")


def test_numbers_are_read_alone_or_under_their_keys():
    assert bare_numbers("(1, 2;3)", 3) == [1, 2, 3]
    assert bare_numbers("1,,2", 3) is None and bare_numbers("1 2 x", 3) is None and bare_numbers("", 1) is None
    assert object_numbers('a {"x": 1} b', ["x"]) == [1.0]
    assert object_numbers('{"x": 1} {"x": 1}', ["x"]) is None
    assert object_numbers('{"x": [1]}', ["x"]) is None


@pytest.mark.slow
def test_5000_damaged_replies_are_read_or_refused():
    texts = [
        '{"throttle": 0.4, "steer": -0.1, "brake": 0}',
        "```json\n[0.5, -0.25, 0.0]\n```",
        "<think>2 cars</think>0.5 0 0",
    ]
    originals = [json.dumps(message(role="assistant", content=text)).encode() for text in texts]
    originals += [
        b'{"error": {"message": "max_tokens is not supported", "type": "x", "param": "max_tokens", "code": 400}}',
        json.dumps(message(content=[{"type": "text", "text": texts[0]}], reasoning_content="2 cars")).encode(),
        b'data: {"choices": [{"delta": {"content": "0.5 "}}]}\n\n'
        b'data: {"choices": [{"text": "", "delta": {"content": "0 0"}}]}\n',
    ]
    outcomes = {"action": 0, "text": 0, "error": 0, "refused": 0}
    for body in mutations(originals, 5000, seed=8):
        assert isinstance(refused_field(body), str)
        try:
            answer = read_events(body) if body.lstrip().startswith(b"data:") else json.loads(body)
            error = error_of(answer)
            text = "" if error else text_of(answer)
        except (EndpointFault, ValueError, RecursionError):
            outcomes["refused"] += 1
            continue
        readings = [language.to_action(text), language.first_numbers_to_action(text)]
        assert all(each is None or (abs(each) <= 1).all() for each in readings)
        outcomes["error" if error else "text" if readings[0] is None else "action"] += 1
    assert sum(outcomes.values()) == 5000 and min(outcomes.values()) > 100, outcomes
