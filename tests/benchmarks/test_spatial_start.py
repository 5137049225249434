"""What the start models of RLS3 are taught, and that the command makes models that load."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from mentorgym.benchmarks import spatial_start
from mentorgym.envs.rendering.render import Camera
from mentorgym.envs.spatial import language, relations, rubric
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.objects import NAMES
from mentorgym.envs.spatial.samples import arrangements
from mentorgym.mentors.trainable import TrainableClip, TrainableVlm


@pytest.fixture(scope="module")
def rooms() -> list[Arrangement]:
    return list(itertools.islice(arrangements("train", 1), 8))


def mirror(room: Arrangement) -> Arrangement:
    """The same before a looking glass: across the camera, left is right."""
    yaw = room.camera.yaw
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    offsets = room.positions - np.array(room.camera.position)
    return dataclasses.replace(room, positions=room.positions - 2 * (offsets @ right)[:, None] * right)


def test_words_hold_as_seen_and_in_the_mirror(rooms):
    for room in rooms:
        told = list(spatial_start.words_of(room, np.random.default_rng(0)))
        assert len(told) == 6 * 2
        assert {question for _, question, *_ in told} == {
            language.question(*pair) for pair in itertools.permutations(room.names, 2)
        }
        for flip, question, caption, altered in told:
            seen = mirror(room) if flip else room
            pairs = itertools.permutations(range(3), 2)
            pair = next(each for each in pairs if language.question(*(room.names[k] for k in each)) == question)
            names = [room.names[k] for k in pair]
            terms = relations.relation_of(seen, *pair).terms
            assert caption == language.caption(*names, terms)
            swapped, exchanged = altered
            assert len(rubric.read(swapped) - set(terms)) == 1 and exchanged == language.caption(*names[::-1], terms)


def test_places_are_where_the_object_is_in_the_picture():
    camera = Camera((0.0, 0.0, 1.0), 0.0, 0.0, np.pi / 2, 224, 224)
    # A bowl 2 m ahead, its middle 1 m to the right and at the camera's height: three quarters across.
    positions = np.array([[2.0, -1.0, 1.0 - 0.0375], [2.0, 0.5, 1.4625], [-2.0, 0.0, 1.0]])
    room = Arrangement("bedroom", camera, (2, 3, 4), positions, np.zeros(3))
    assert list(spatial_start.places_of(room)) == [
        (False, "Where is the purple bowl?", "Row 4, column 6."),
        (True, "Where is the purple bowl?", "Row 4, column 2."),
        (False, "Where is the yellow bowl?", "Row 2, column 3."),
        (True, "Where is the yellow bowl?", "Row 2, column 5."),
    ]


@pytest.mark.parametrize("kind", ["clip", "vlm"])
def test_the_command_makes_a_model_that_loads(kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(spatial_start, "UPDATES", 2)
    monkeypatch.setattr(spatial_start, "shown", lambda rooms: [(np.zeros((16, 16, 3), np.uint8),) * 2] * len(rooms))
    sizes = ["--image-size", "24", "--patch-size", "6", "--width", "32", "--vision-layers", "1", "--text-layers", "1"]
    flags = ["--samples", "4", "--updates", "4", "--batch-size", "4", *sizes]
    spatial_start.main([kind, "--output", str(tmp_path / "model"), *flags])
    assert "4/4 updates" in capsys.readouterr().out
    picture = np.zeros((20, 20, 3), np.uint8)
    if kind == "clip":
        clip = TrainableClip(str(tmp_path / "model"))
        assert clip.probabilities([picture], [language.all_captions()[:4]]).shape == (1, 4)
        tokenizer = clip.scorer.tokenizer
    else:
        vlm = TrainableVlm(str(tmp_path / "model"), max_new_tokens=4)
        assert len(vlm.answer([picture], language.all_questions()[:1])) == 1
        tokenizer = vlm.vlm.processor.tokenizer
    for name in NAMES:
        pieces = tokenizer.tokenize(language.question(name, "plate"))
        assert "Ġthe" + "".join(f"Ġ{word}" for word in name.split()) in pieces, "a name is one token"
    with pytest.raises(SystemExit):
        spatial_start.main([kind, "--output", str(tmp_path / "other"), "--sample-seed", "0"])
