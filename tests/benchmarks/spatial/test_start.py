"""What the start models of RLS3 are taught, and that the command makes models that load."""

import contextlib
import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from mentorgym.benchmarks.spatial import start as spatial_start
from mentorgym.envs.rendering.render import Camera
from mentorgym.envs.spatial import language, relations, rubric
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.objects import NAMES, OBJECTS
from mentorgym.envs.spatial.samples import arrangements
from mentorgym.mentors.checkpoints import save_pretrained
from mentorgym.mentors.tiny import build_clip, build_vlm
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
    # Bowls 2 m ahead, where the picture is 4 m wide: 1.1 m to the right and 0.1 m down, 0.6 m to the left and up.
    middle = np.array([0.0, 0.0, OBJECTS[2].height / 2])
    positions = np.array([[2.0, -1.1, 0.9], [2.0, 0.6, 1.6], [-2.0, 0.0, 1.0]]) - middle
    room = Arrangement("bedroom", camera, (2, 3, 4), positions, np.zeros(3))
    assert list(spatial_start.places_of(room)) == [
        (False, "Where is the purple bowl?", "Row 4, column 6."),
        (True, "Where is the purple bowl?", "Row 4, column 1."),
        (False, "Where is the yellow bowl?", "Row 2, column 2."),
        (True, "Where is the yellow bowl?", "Row 2, column 5."),
    ]


def test_lessons_about_one_picture_are_those_of_one_question_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    sizes = {"image_size": 24, "patch_size": 6, "width": 32, "vision_layers": 1, "text_layers": 2}
    model, processor = build_vlm(spatial_start.corpus(), **sizes, phrases=spatial_start.PHRASES)
    save_pretrained(model, processor, torch.float32, tmp_path / "model")
    vlm = TrainableVlm(str(tmp_path / "model"), batch_size=6, learning_rate=0.0)
    pictures = list(np.random.default_rng(0).integers(0, 256, (2, 20, 20, 3), dtype=np.uint8))
    questions, captions = language.all_questions(), language.all_captions()
    told = [[(questions[k], captions[300 * k + 7]) for k in range(2)], [(questions[k], captions[k]) for k in range(4)]]
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **keywords: contextlib.nullcontext())
    found = spatial_start.Lessons(vlm).loss(pictures, told)
    shown = [pictures[0]] * 2 + [pictures[1]] * 4
    alone = vlm.fine_tune(shown, *([each[k] for row in told for each in row] for k in range(2)), steps=1, seed=0)
    assert found.item() == pytest.approx(alone[0], rel=1e-5)


def test_captions_of_places_have_false_ones_beside_them():
    told = [("Where is the vase?", "Row 1, column 2."), ("Where is the plate?", "Row 1, column 2.")]
    assert spatial_start.located(told) == [], "one cell holds both"
    assert spatial_start.located([told[0], ("Where is the bird sculpture?", "Row 0, column 7.")]) == [
        (
            "The vase is in row 1, column 2.",
            ["The vase is in row 0, column 7.", "The bird sculpture is in row 1, column 2."],
        ),
        (
            "The bird sculpture is in row 0, column 7.",
            ["The bird sculpture is in row 1, column 2.", "The vase is in row 0, column 7."],
        ),
    ]


def test_a_vision_tower_learns_to_find_what_it_is_shown(monkeypatch: pytest.MonkeyPatch):
    """Squares on grey, one colour for each object: the picture's only content."""
    torch.manual_seed(0)
    sizes = {"image_size": 24, "patch_size": 6, "width": 32, "vision_layers": 1, "text_layers": 1}
    model, processor = build_clip(spatial_start.corpus(), **sizes)
    camera = Camera((0.0, 0.0, 1.0), 0.0, 0.0, np.pi / 2, 224, 224)
    generator = np.random.default_rng(0)
    rooms, pictures = [], []
    for _ in range(60):
        positions = np.column_stack([np.full(2, 2.0), generator.uniform(-1.9, 1.9, 2), generator.uniform(-0.8, 2.8, 2)])
        rooms.append(Arrangement("bedroom", camera, (3, 5), positions, np.zeros(2)))
        picture = np.full((24, 24, 3), 128, np.uint8)
        for index, row, column in spatial_start.seen_at(rooms[-1]):
            top, left = (max(int(each * 24) - 2, 0) for each in (row, column))
            picture[top : top + 5, left : left + 5] = (255, 255, 0) if index == 3 else (0, 0, 255)
        pictures.append((picture, np.ascontiguousarray(picture[:, ::-1])))
    monkeypatch.setattr(spatial_start, "UPDATES", 10)
    args = spatial_start.Args("clip", Path("unused"), sight=60, image_size=24, patch_size=6, width=32)
    told = list(spatial_start.learn_to_see(args, model.vision_model, processor.image_processor, pictures, rooms))
    assert len(told) == 6 and told[-1] < 0.6 * told[0]


@pytest.mark.parametrize("kind", ["clip", "vlm"])
def test_the_command_makes_a_model_that_loads(kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(spatial_start, "UPDATES", 2)
    monkeypatch.setattr(spatial_start, "shown", lambda rooms: [(np.zeros((16, 16, 3), np.uint8),) * 2] * len(rooms))
    sizes = ["--image-size", "24", "--patch-size", "6", "--width", "32", "--vision-layers", "1", "--text-layers", "1"]
    flags = ["--samples", "4", "--sight", "2", "--updates", "4", "--batch-size", "4", *sizes]
    spatial_start.main([kind, "--output", str(tmp_path / "model"), *flags])
    assert "6/6 updates" in capsys.readouterr().out
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
