"""The weights in the package: they are there, they load without a network, and they know what they are for."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from mentorgym.envs.driving.vector import DrivingVectorEnv
from mentorgym.envs.driving.view import language
from mentorgym.envs.spatial import language as rooms
from mentorgym.mentors.load import WEIGHTS, load_mentor
from mentorgym.mentors.mentor import Request
from mentorgym.mentors.trainable import TrainableClip, TrainableVlm


@pytest.fixture(scope="module")
def scenes() -> list[tuple[Request, np.ndarray]]:
    """What is asked in a town that the weights were not trained in, and the expert's actions."""
    envs = DrivingVectorEnv(8, town="Village", traffic="regular", observation="state")
    envs.reset(seed=77)
    scenes = []
    for step in range(60):
        actions = envs.expert_actions()
        if step % 10 == 9:
            for row in range(8):
                told = envs.prompt_context(row)
                context = language.context(told["command"], told["speed"])
                request = Request(envs.picture(row), language.fill(language.PROMPT, told), context, actions[row])
                scenes.append((request, actions[row].copy()))
        envs.step(actions)
    envs.close()
    return scenes


@pytest.mark.parametrize("name", ["clip", "vlm", "spatial_clip", "spatial_vlm"])
def test_they_are_a_few_megabytes_of_half_precision(name):
    folder = WEIGHTS / name
    assert sum(path.stat().st_size for path in folder.iterdir()) < 6e6
    assert {str(tensor.dtype) for tensor in load_file(folder / "model.safetensors").values()} == {"torch.float16"}
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("path", sorted(Path(WEIGHTS).rglob("*.json")), ids=lambda path: path.parent.name + path.stem)
def test_their_files_name_no_folder_of_the_machine_that_made_them(path):
    assert not any(str(value).startswith("/") for value in json.loads(path.read_text("utf-8")).values())


def test_the_vlm_suggests_what_the_expert_does(scenes):
    replies = load_mentor("vlm")([request for request, _ in scenes])
    found = [language.to_action(reply) for reply in replies]
    assert all(action is not None for action in found)
    truth = np.array([action for _, action in scenes])
    constant = np.abs(truth - np.median(truth, axis=0)).mean(0)
    assert np.abs(np.array(found) - truth).mean(0).sum() < constant.sum()


def test_the_clip_knows_the_experts_action_among_thirty(scenes):
    weighed = load_mentor("clip", anchors=language.anchors())([request for request, _ in scenes])
    truth = np.array([language.labels(action) for _, action in scenes])
    ranks = [int((np.asarray(each) > each[label]).sum()) for each, label in zip(weighed, truth, strict=True)]
    assert np.median(ranks) < 3, "by chance it would be 14 or 15"


def test_where_rls3_starts_is_said_in_the_words_of_rooms():
    vlm = TrainableVlm(str(WEIGHTS / "spatial_vlm"))
    questions, grey = rooms.all_questions()[::6], np.full((112, 112, 3), 128, np.uint8)
    captions = set(rooms.all_captions())
    for question, answer in zip(questions, vlm.answer([grey] * len(questions), questions), strict=True):
        assert answer in captions
        assert question == rooms.question(answer[4:].split(" is ")[0], answer[:-1].split(" the ")[-1])
    clip = TrainableClip(str(WEIGHTS / "spatial_clip"))
    weighed = clip.probabilities([grey], [rooms.captions_of("vase", "plate") + rooms.captions_of("plate", "vase")])
    assert np.unique(weighed).size == weighed.size, "no two captions are the same to it"
