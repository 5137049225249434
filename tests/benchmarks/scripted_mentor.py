"""Mentors of a few lines, called by their place: `scripted_mentor:Scripted`."""

from collections.abc import Sequence

from mentorgym.mentors.mentor import Request

GO = '{"throttle": 1.0, "steer": 0.0, "brake": 0.0}'


class Scripted:
    """Replies in turn: the k-th question gets `replies[k % len(replies)]`, all rows the same; "none" is no answer."""

    def __init__(self, replies: Sequence[str] = (GO,)):
        self.replies, self.asked = replies, 0
        self.prompts: list[str] = []

    def __call__(self, requests: Sequence[Request]) -> list[str | None]:
        reply = self.replies[self.asked % len(self.replies)]
        self.asked += 1
        self.prompts += [request.prompt for request in requests]
        return [None if reply == "none" else reply] * len(requests)
