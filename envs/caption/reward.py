"""How well a text fits a scene: CLIP's judgement, and terms beside it.

With v the mean of the normalised embeddings of a scene's frames, normalised again, and t that of the text (RLOO paper,
section 3.4): the paper calls v . t the cosine of both, which it is only for a v of length 1, and so the scale and the
bias that a model has learned from single pictures mean the same for any number of frames. `scale` and `bias` are the
model's.

| kind | reward | range |
| --- | --- | --- |
| "cosine" | v . t, the paper's | [-1, 1] |
| "prob" | sigmoid(scale * v . t + bias), the read-out that the paper tunes (Algorithm 1) | [0, 1] |
| "contrast" | softmax over scale * v . t of the text among the distinct captions of the data | [0, 1] |
| "none" | 0: the terms alone, without CLIP | |

A text that is no caption of the data competes with all captions in the softmax; it scores low unless it fits better
than they do. Each term of `TERMS` that is named is added with its weight.
"""

import functools
import math
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mentorgym.envs.caption import language
from mentorgym.envs.caption.scenes import Scenes
from mentorgym.extras import import_extra, import_transformers
from mentorgym.mentors.load import WEIGHTS, load_mentor
from mentorgym.mentors.mentor import IMAGE_SLOT, Mentor, Request, without_slot
from mentorgym.names import nearest_name

if TYPE_CHECKING:
    from mentorgym.mentors.clip import Scorer

KINDS = ("contrast", "cosine", "prob", "none")

TERMS = {
    "format": "1 where the text has the form of a caption",
    "action": "1 where it names exactly the scene's actions",
    "reason": "1 where it names exactly the scene's reasons",
    "bleu": "1 where BLEU-4 against the scene's caption is above 0.5 (RLOO paper, appendix A.3)",
    "judge": "a mentor's mark in [0, 1]; NaN, which adds nothing, where it gives none",
}
"""What can be added to the reward."""

BLEU_THRESHOLD = 0.5

MOST_CHARACTERS = 4096
"""Of a text; the rest is not read."""

TEXTS_KEPT = 8192
"""Texts whose features are kept."""

AT_ONCE = 64
"""Pictures or texts that are encoded together."""

JUDGE_PROMPT = (
    IMAGE_SLOT
    + "Somebody says of the car that sees this what it should do next, and why: {text} How well does that fit "
    "the picture, from 0 (not at all) to 10 (perfectly)? Answer with one number."
)

_UNSEEN = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_OUT_OF_TEN = re.compile(r"(?:/|(?:out )?of)\s*10\b(?!\.\d)", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\d.])-?\d+(?:\.\d+)?")


def clean(text: str) -> str:
    """A text as it is scored: control characters and runs of spaces are one space, and what cannot be encoded is "?".

    The first MOST_CHARACTERS characters; "" stays "".
    """
    encodable = text[:MOST_CHARACTERS].encode("utf-8", "replace").decode()
    return _UNSEEN.sub(" ", encodable).strip()


def bleu(text: str, reference: str) -> float:
    """BLEU-4 in [0, 1] of a text against one reference; `bleu_signature` says how."""
    return _bleu().sentence_score(text, [reference]).score / 100.0


def bleu_signature() -> str:
    """How `bleu` is counted, in sacrebleu's notation."""
    scorer = _bleu()
    scorer.sentence_score("", [""])
    return str(scorer.get_signature())


@functools.cache
def _bleu() -> Any:
    sacrebleu = import_extra("sacrebleu", "caption", "the term 'bleu'")
    # Without the effective order a text of fewer than four words has no score.
    return sacrebleu.BLEU(tokenize="13a", effective_order=True)


def load_scorer(model: str, device: str = "cpu") -> "Scorer":
    """A CLIP scorer: "" for our own, a folder or hub name for transformers, "openclip:..." for open_clip.

    Raises ValueError or ImportError, as `mentors.clip` explains.
    """
    from mentorgym.mentors.clip import OpenClipScorer, TransformersScorer

    if model.startswith("openclip:"):
        return OpenClipScorer(model.removeprefix("openclip:"), device)
    import_transformers("caption", "scoring captions")
    return TransformersScorer(str(Path(model).expanduser()) if model else str(WEIGHTS / "caption_clip"), device)


class CaptionReward:
    """Scores texts on the scenes of a set.

    Features of a scene are computed once and kept; of the texts the latest TEXTS_KEPT.

    Args:
        scenes: what the indices of `score` are of.
        kind: one of KINDS.
        model: a CLIP, see `load_scorer`, or a scorer itself, which several rewards may share.
        terms: weights of the TERMS to compute; 0 for what is only to be told.
        frames: the last frames of a scene that are looked at.
        judge: who gives the term "judge", by `mentors.load.load_mentor`; asked with JUDGE_PROMPT.
        device: of the CLIP, as torch names it.

    Raises:
        ValueError: a name is unknown, a weight no number, or the model or the judge does not fit.
        ImportError: a package is missing; the message says what to install.
    """

    def __init__(
        self,
        scenes: Scenes,
        kind: str = "contrast",
        model: "str | Scorer" = "",
        terms: Mapping[str, float] | None = None,
        frames: int = 1,
        judge: str = "",
        device: str = "cpu",
    ):
        if kind not in KINDS:
            raise ValueError(f"unknown reward {kind!r}: {nearest_name(kind, KINDS)}")
        for name, weight in (terms or {}).items():
            if name not in TERMS:
                raise ValueError(f"unknown term {name!r}: {nearest_name(name, TERMS)}")
            if not isinstance(weight, int | float) or not math.isfinite(weight):
                raise ValueError(f"weight {weight!r} of the term {name!r}: give a number")
        if ("judge" in (terms or {})) != bool(judge):
            raise ValueError("the term 'judge' and the argument `judge`, who gives it, go together")
        self.scenes, self.kind, self.frames = scenes, kind, frames
        self.terms = dict(terms or {})
        self.captions = captions_of(scenes)
        """distinct captions of the scenes, sorted"""
        self.truths = scenes.labels.captions()
        if "bleu" in self.terms:
            _bleu()
        self.judge: Mentor | None = load_mentor(judge) if judge else None
        self.scorer: Scorer | None = None
        if kind != "none":
            from mentorgym.mentors.clip import text_features

            self.scorer = load_scorer(model, device) if isinstance(model, str) else model
            self._anchors = text_features(self.scorer, [clean(caption) for caption in self.captions])
            self._places = {clean(caption): place for place, caption in enumerate(self.captions)}
            self._texts: OrderedDict[str, np.ndarray] = OrderedDict()
            self._images = np.zeros((len(self.truths), self._anchors.shape[1]), np.float32)
            self._seen = np.zeros(len(self.truths), bool)

    def score(self, indices: Sequence[int] | np.ndarray, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """The reward of each text on the scene of that index, float32 [N], under "reward".

        Beside it what it is made of: the kind's part under the kind's name (none for "none"), and each term.
        Texts may be anything; `clean` says what is read of them. Raises ValueError, naming the file, where a picture
        cannot be read.
        """
        rows = np.asarray(indices, np.int64)
        if rows.shape != (len(texts),):
            raise ValueError(f"{len(texts)} texts for indices of shape {rows.shape}: give one index for each text")
        # What was said of a scene several times is scored once, so that it gets one score to the last bit.
        pairs = list(zip(rows.tolist(), map(clean, texts), strict=True))
        places = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}
        parts = self._parts(np.array([row for row, _ in places], np.int64), [text for _, text in places])
        parts["reward"] = parts.get(self.kind, np.zeros(len(places), np.float32)).copy()
        for name, weight in self.terms.items():
            parts["reward"] += np.float32(weight) * np.nan_to_num(parts[name], nan=0.0)
        taken = [places[pair] for pair in pairs]
        return {name: parts[name][taken] for name in ("reward", self.kind, *self.terms) if name in parts}

    def image_features(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Unit vectors float32 [N, D] of scenes, all their frames taken together."""
        assert self.scorer is not None
        rows = np.asarray(indices, np.int64)
        unseen = [row for row in dict.fromkeys(rows.tolist()) if not self._seen[row]]
        scenes_at_once = max(1, AT_ONCE // self.frames)
        for start in range(0, len(unseen), scenes_at_once):
            group = unseen[start : start + scenes_at_once]
            pictures = [picture for row in group for picture in self.scenes.frames(row, self.frames)]
            features = self.scorer.encode_images(pictures).reshape(len(group), self.frames, -1).mean(1)
            self._images[group] = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
            self._seen[group] = True
        return self._images[rows]

    def text_features(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors float32 [N, D] of texts that are `clean`."""
        assert self.scorer is not None
        vectors = {text: self._texts[text] for text in texts if text in self._texts}
        new = [text for text in dict.fromkeys(texts) if text not in vectors]
        for start in range(0, len(new), AT_ONCE):
            group = new[start : start + AT_ONCE]
            # Copies, for a row of an array would keep all of it.
            vectors |= {text: row.copy() for text, row in zip(group, self.scorer.encode_texts(group), strict=True)}
        for text, features in vectors.items():
            self._texts[text] = features
            self._texts.move_to_end(text)
        while len(self._texts) > TEXTS_KEPT:
            self._texts.popitem(last=False)
        return np.array([vectors[text] for text in texts], np.float32).reshape(len(texts), self._anchors.shape[1])

    def _parts(self, rows: np.ndarray, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """What the reward of each clean text is made of, float32 [N] by name."""
        parts: dict[str, np.ndarray] = {}
        if self.scorer is not None:
            parts[self.kind] = self._fit(self.scorer, rows, texts)
        named = {"format", "action", "reason"} & self.terms.keys()
        readings = [language.read(text) for text in texts] if named else []
        if "format" in self.terms:
            parts["format"] = np.array([reading.formatted for reading in readings])
        if "action" in self.terms:
            actions = np.array([reading.actions for reading in readings], bool).reshape(-1, 4)
            parts["action"] = (actions == np.asarray(self.scenes.labels.actions)[rows]).all(1)
        if "reason" in self.terms:
            reasons = np.array([reading.reasons for reading in readings], bool).reshape(-1, 21)
            parts["reason"] = (reasons == np.asarray(self.scenes.labels.reasons)[rows]).all(1)
        if "bleu" in self.terms:
            scores = [bleu(text, self.truths[row]) for row, text in zip(rows.tolist(), texts, strict=True)]
            parts["bleu"] = np.array(scores) > BLEU_THRESHOLD
        if self.judge is not None:
            parts["judge"] = self._marks(self.judge, rows, texts)
        return {name: part.astype(np.float32) for name, part in parts.items()}

    def _fit(self, scorer: "Scorer", rows: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        images = self.image_features(rows)
        cosines = np.einsum("nd,nd->n", images, self.text_features(texts))
        if self.kind == "cosine":
            return cosines
        if self.kind == "prob":
            # As tanh it cannot overflow.
            return 0.5 + 0.5 * np.tanh(0.5 * (scorer.scale * cosines + scorer.bias))
        own = np.float64(scorer.scale) * cosines
        rivals = np.float64(scorer.scale) * (images @ self._anchors.T)
        for row, text in enumerate(texts):
            if text in self._places:
                rivals[row, self._places[text]] = -np.inf  # It is there once, as the text itself.
        return 1.0 / (1.0 + np.exp(np.minimum(rivals - own[:, None], 500.0)).sum(1))

    def _marks(self, judge: Mentor, rows: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        nothing = np.full(0, np.nan, np.float32)
        requests = [
            # The slot is for the picture alone.
            Request(self.scenes.frames(row, 1)[0], JUDGE_PROMPT.replace("{text}", without_slot(text)), 0, nothing)
            for row, text in zip(rows.tolist(), texts, strict=True)
        ]
        return np.array([_mark(answer) for answer in judge(requests)], np.float32)


def _mark(answer: Any) -> float:
    """A reply in [0, 1]; NaN where it tells no number from 0 to 10, or several beside "/ 10" and "out of 10"."""
    numbers = _NUMBER.findall(_OUT_OF_TEN.sub("", answer)) if isinstance(answer, str) else []
    mark = float(numbers[0]) / 10.0 if len(numbers) == 1 else math.nan
    return mark if 0.0 <= mark <= 1.0 else math.nan


def captions_of(scenes: Scenes) -> list[str]:
    """The distinct captions of scenes, sorted."""
    return sorted(set(scenes.labels.captions()))
