"""Pictures changed so that their captions still fit: what trainers see of a scene beside the scene itself."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageEnhance

from mentorgym.agents.toolbox.shards import Sample
from mentorgym.envs.caption import language

LEAST_AREA = 0.8
"""Share of the picture that a crop keeps, at least: captions tell of lanes that lie at its sides."""

LARGEST_STRETCH = 1.1
"""Ratio by which a crop changes the aspect, at most."""

JITTER = 0.2
"""By how much brightness, contrast and saturation change, at most: more would turn day into night."""


def crop(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    """A random part of at least `LEAST_AREA`, resized to the picture's own size."""
    area = generator.uniform(LEAST_AREA, 1.0)
    stretch = np.exp(generator.uniform(-1.0, 1.0) * np.log(LARGEST_STRETCH))
    width, height = (min(1.0, np.sqrt(area * each)) for each in (stretch, 1.0 / stretch))
    left, top = generator.uniform(0.0, 1.0 - width), generator.uniform(0.0, 1.0 - height)
    columns, rows = picture.size
    box = (left * columns, top * rows, (left + width) * columns, (top + height) * rows)
    return picture.resize(picture.size, Image.Resampling.BILINEAR, box=box)


def jitter(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Brightness, contrast and saturation changed, in a random order."""
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for index in generator.permutation(len(enhancers)):
        picture = enhancers[index](picture).enhance(generator.uniform(1.0 - JITTER, 1.0 + JITTER))
    return picture


def mirrored_caption(caption: str) -> str:
    """The caption of the picture flipped left to right; several labels stay in the order of the data set."""
    reading = language.read(caption)
    if not reading.formatted or reading.unknown or not (reading.actions.any() and reading.reasons.any()):
        return language.mirrored(caption)
    return language.caption(reading.actions[language.MIRRORED_ACTIONS], reading.reasons[language.MIRRORED_REASONS])


class Augmentation:
    """Crop, flip and jitter (RLOO paper, appendix B.3); a flip also flips left and right in the words.

    That is in "caption", in "answer", which has to be the caption or absent, and in "label", the caption's place among
    the `anchors` of its context.

    Raises ValueError for anchors that lack the mirror image of one of theirs.
    """

    def __init__(self, anchors: Sequence[Sequence[str]] = ()):
        self.places = [{text: place for place, text in enumerate(texts)} for texts in anchors]
        for places in self.places:
            if missing := [text for text in places if mirrored_caption(text) not in places]:
                raise ValueError(f"pictures cannot be flipped: of {missing[0]!r} the mirror image is no caption")

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Another sample; the one that is given stays as it is."""
        picture, words = Image.fromarray(sample.picture), dict(sample.words)
        if generator.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            if words.get("answer", words["caption"]) != words["caption"]:
                raise ValueError(f"pictures cannot be flipped: {words['answer']!r} is not the picture's caption")
            words["caption"] = mirrored_caption(words["caption"])
            if "answer" in words:
                words["answer"] = words["caption"]
            if self.places:
                words["label"] = self.places[words["context"]][words["caption"]]
        return Sample(np.asarray(jitter(crop(picture, generator), generator)), words)


Change = Callable[[Sample, np.random.Generator], Sample]
"""What is done to a sample before it is trained on, by draws from the generator."""
