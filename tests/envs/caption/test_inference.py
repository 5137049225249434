"""Two-stage inference on a user's own pictures, by a stub."""

from pathlib import Path

import numpy as np
import pytest

from mentorgym.envs.caption import language
from mentorgym.envs.caption.inference import action_of, action_question, describe_and_decide

RED, GREEN = np.zeros((20, 30, 3), np.uint8), np.zeros((33, 17, 3), np.uint8)
RED[..., 0], GREEN[..., 1] = 255, 255


class Driver:
    """Describes the colour of a picture at first, and decides by what it reads of it then."""

    def __init__(self):
        self.asked: list[list[str]] = []

    def __call__(self, requests):
        self.asked.append([request.prompt for request in requests])
        answers = []
        for request in requests:
            assert request.prompt.count("<image>") == 1
            if language.ACTION_PROMPT in request.prompt:
                answers.append("Action: Stop." if "red" in request.prompt else None)
            else:
                answers.append("It is <image> red." if request.picture[0, 0, 0] > 200 else "It is green.\n")
        return answers


def test_the_second_question_shows_the_picture_and_the_description():
    driver = Driver()
    first, second = describe_and_decide([RED, GREEN], driver)
    assert first == ("It is <image> red.", "Action: Stop.", "stop")
    assert second == ("It is green.", "", None), "who gives no reply decides nothing"
    assert driver.asked[0] == [language.PROMPT] * 2
    assert action_question("a <ima<image>ge> b").count("<image>") == 1
    assert driver.asked[1] == [action_question("It is  red."), f"<image>It is green.\n{language.ACTION_PROMPT}"]


def test_many_pictures_are_asked_about_in_batches():
    driver = Driver()
    assert len(describe_and_decide([RED] * 35, driver)) == 35
    assert [len(group) for group in driver.asked] == [16, 16, 16, 16, 3, 3]


@pytest.mark.parametrize(
    ("reply", "action"),
    [
        ("stop", "stop"),
        ("Action: Stop.", "stop"),
        ("turn left.", "turn left"),
        ("Action: turn right. Reason: Road is clear.", "turn right"),
        ("Move Forward", "forward"),
        ("forward, stop", None),
        ("perhaps", None),
        ("", None),
    ],
)
def test_an_action_is_read_with_and_without_its_form(reply: str, action: str | None):
    assert action_of(reply) == action


def test_pictures_that_cannot_be_read_are_named(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    for picture, message in (
        (tmp_path / "a.jpg", "cannot read the picture .*a.jpg"),
        (tmp_path / "b.jpg", "cannot read the picture .*b.jpg"),
        (np.zeros((3, 4)), r"uint8 \[H, W, 3\], not float64"),
    ):
        with pytest.raises(ValueError, match=message):
            describe_and_decide([picture], Driver())
    with pytest.raises(ValueError, match="a list of pictures"):
        describe_and_decide("a.jpg", Driver())
    with pytest.raises(ValueError, match="one slot"):
        describe_and_decide([RED], Driver(), prompt="What is it?")
    with pytest.raises(ValueError, match="no weights in"):
        describe_and_decide([RED], "no/such/place/at all")
