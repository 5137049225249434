"""Foundation models as mentors: CLIP scorers, vision-language models, chat endpoints, and their service."""

from mentorgym.mentors.load import load_mentor
from mentorgym.mentors.mentor import IMAGE_SLOT, Adapter, Feedback, Mentor, Request
from mentorgym.mentors.service import MentorError, MentorService

__all__ = [
    "IMAGE_SLOT",
    "Adapter",
    "Feedback",
    "Mentor",
    "MentorError",
    "MentorService",
    "Request",
    "load_mentor",
]
