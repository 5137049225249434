"""Mentors by name, for wrappers, agents and commands."""

import contextlib
import difflib
import functools
import hashlib
import importlib
import inspect
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mentorgym.mentors.expert import expert
from mentorgym.mentors.mentor import IMAGE_SLOT, Mentor, Request

WEIGHTS = Path(__file__).parent / "weights"
"""Folders of our own weights: `clip` and `vlm` for driving, `caption_clip` and `caption_vlm` for captions,
`spatial_clip` and `spatial_vlm` for spatial scenes, where RLS3 starts."""

SPECS = {
    "expert": "the action in the request, of the environment's rule-based expert",
    "vlm": "our own small vision-language model",
    "vlm:<folder or hub name>": "any AutoModelForImageTextToText of transformers",
    "clip": "our own small CLIP",
    "clip:<folder or hub name>": "any CLIPModel of transformers",
    "openclip:<name or local-dir:folder>": "any model of open_clip",
    "http://<host>:<port>/v1, https://...": "an OpenAI-compatible chat endpoint that takes images",
    "<package.module>:<callable>": "a callable of your own",
}
"""Names that `load_mentor` takes, and what they mean."""

# By name: these modules import torch, which environments do not need.
_LOADERS = {"vlm": ("vlm", "load_vlm"), "clip": ("clip", "load_clip"), "openclip": ("clip", "load_openclip")}
_PLACE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def load_mentor(spec: str, **options: Any) -> Mentor:
    """The mentor that `spec` names.

    | spec | mentor |
    | --- | --- |
    | `expert` | the action in the request, of the environment's rule-based expert |
    | `vlm`, `vlm:<folder or hub name>` | our own small vision-language model, or any `AutoModelForImageTextToText` |
    | `clip`, `clip:<folder or hub name>` | our own small CLIP, or any `CLIPModel` |
    | `openclip:<name or local-dir:folder>` | any model of open_clip |
    | `http://<host>:<port>/v1`, `https://...` | an OpenAI-compatible chat endpoint that takes images |
    | `<package.module>:<callable>` | a callable of your own |

    Options are those of `load_clip`, `load_openclip`, `load_vlm` and `load_endpoint`; the expert has none. With
    `<package.module>:<callable>`, a class is called with the options and its instance is the mentor; any other callable
    is the mentor and gets the options as keyword arguments in each call.

    Models are loaded and called once, and endpoints are probed, so that errors occur here.

    Raises:
        ValueError: an unknown spec, weights that are missing or of another architecture, an option out of range.
        TypeError: an unknown option, or a callable that does not take requests and the options.
        ImportError: a package is missing or broken; the message names the remedy.
        ConnectionError: the address does not answer as a chat endpoint.
    """
    if spec == "expert":
        _check_options(lambda: None, spec, options)
        return expert
    if spec.startswith(("http://", "https://")):
        from mentorgym.mentors.endpoint import load_endpoint

        _check_options(load_endpoint, spec, options)
        return load_endpoint(spec, **options)
    kind, _, name = spec.partition(":")
    if kind in _LOADERS:
        module, function = _LOADERS[kind]
        if not name:
            if kind == "openclip":
                raise ValueError("openclip needs a name, as in openclip:local-dir:<folder>")
            name = str(WEIGHTS / kind)
        # The shell expands ~ at the beginning of a word alone.
        place = "local-dir:" if name.startswith("local-dir:") else ""
        name = place + os.path.expanduser(name.removeprefix(place))
        loader = getattr(importlib.import_module(f"mentorgym.mentors.{module}"), function)
        _check_options(loader, spec, options)
        mentor = loader(name, **options)
        _warm_up(mentor)
        return mentor
    if _PLACE.fullmatch(spec):
        return _load_callable(spec, options)
    hint = _nearest(kind, ("expert", *_LOADERS, "http"))
    raise ValueError(f"unknown mentor {spec!r}: {hint}Valid are {', '.join(SPECS)}")


def weights_digest(spec: str) -> str | None:
    """SHA-256 over the weights and settings in a mentor's folder; None for mentors without one, such as endpoints."""
    kind, _, name = spec.partition(":")
    folder = Path(name).expanduser() if name else WEIGHTS / kind
    if not folder.is_dir():
        return None
    total = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
        with path.open("rb") as file:
            total.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _nearest(name: str, valid: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.4)
    return f"did you mean {close[0]!r}? " if close else ""


def _check_options(loader: Callable[..., Any], spec: str, options: dict[str, Any]) -> None:
    parameters = inspect.signature(loader).parameters.values()
    keywords = [each for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY]
    valid = [each.name for each in keywords]
    for name in options:
        if name not in valid:
            raise TypeError(
                f"unknown option {name!r} of mentor {spec!r}: {_nearest(name, valid)}"
                f"{'Valid are ' + ', '.join(valid) if valid else 'it has no options'}"
            )
    for each in keywords:
        if each.default is inspect.Parameter.empty and each.name not in options:
            raise TypeError(f"mentor {spec!r} needs the option {each.name!r}")


def _load_callable(spec: str, options: dict[str, Any]) -> Mentor:
    module, _, name = spec.partition(":")
    try:
        mentor: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"mentor {spec!r}: there is no module {error.name!r} on Python's path. {_nearest(module, tuple(_LOADERS))}"
            f"Valid are {', '.join(SPECS)}"
        ) from None
    for part in name.split("."):
        if not hasattr(mentor, part):
            raise ValueError(f"mentor {spec!r}: {module} has no {name!r}")
        mentor = getattr(mentor, part)
    if inspect.isclass(mentor):
        mentor, options = mentor(**options), {}
    if not callable(mentor):
        raise ValueError(f"mentor {spec!r} is a {type(mentor).__name__}, which cannot be called with requests")
    with contextlib.suppress(ValueError):  # A callable that is not written in Python may have no signature.
        parameters = inspect.signature(mentor)
        try:
            parameters.bind([], **options)
        except TypeError as error:
            others = f"the options {', '.join(options)}" if options else "nothing else"
            raise TypeError(f"mentor {spec!r} cannot be called with requests and {others}: {error}") from None
    return functools.partial(mentor, **options) if options else mentor


def _warm_up(mentor: Mentor) -> None:
    """Call the mentor once, so that errors occur before training; no model expects this size of picture."""
    picture = np.zeros((40, 50, 3), np.uint8)
    mentor([Request(picture, f"{IMAGE_SLOT}What is this?", 0, np.full(2, np.nan, np.float32))])
