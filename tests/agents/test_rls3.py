"""RLS3's loop with a stand-in for the model: what is paid, learned, counted and resumed."""

import ast
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from mentorgym.agents import rls3, sac
from mentorgym.agents.rls3 import StateReplay
from mentorgym.agents.toolbox import METRICS, Run, parse_flags
from mentorgym.agents.toolbox import students as student_models
from mentorgym.agents.toolbox.students import ClipStudent, Sample, VlmStudent, describe
from mentorgym.envs.spatial.metrics import SPATIAL_TERMS, clip_figures, groups, in_words
from mentorgym.envs.spatial.relations import RELATIONS, TERMS

torch.set_num_threads(1)


class StandIn:
    """A student whose knowledge is one number: what it has seen of terms, which takes away from how hard they are."""

    headline = "score"

    def __init__(self, feedback: float | None = None):
        self.known = np.zeros(1)
        self.asked: list[int] = []
        self.said = feedback

    def feedback(self, samples):
        self.asked.append(len(samples))
        return self.said if self.said is not None else float(4 - self.figures(samples)["score"].mean())

    def fine_tune(self, samples, amount, seed):
        generator = np.random.default_rng(seed)
        words = sum(len(each.example.relation.terms) for each in samples)
        self.known = self.known + words / 1000 + generator.random() / 100
        return np.full(amount, 1 / (1 + self.known[0]), np.float32)

    def figures(self, samples):
        assert all(each.picture.shape == (2, 2, 3) for each in samples)
        return {"score": np.array([len(each.example.relation.terms) for each in samples]) + self.known}

    def save(self, folder: Path) -> None:
        folder.mkdir()
        save_file({"known": self.known}, folder / "known.safetensors")

    def load(self, folder: Path) -> None:
        self.known = load_file(folder / "known.safetensors")["known"]


class Few:
    """`samples.Samples`, without pictures of a room."""

    def __init__(self, split: str, count: int, camera: str):
        assert camera == "close"
        self.samples = [sample(("left",) if i % 2 else ("above", "behind", "right")) for i in range(count)]

    def __iter__(self):
        return iter(self.samples)


def sample(terms: tuple[str, ...]) -> Sample:
    words = {
        "caption": f"caption {terms}",
        "question": f"question {terms}",
        "term_swapped": "one",
        "order_swapped": "two",
    }
    choices = tuple(f"{name} {terms}" for name in ("true", "swapped", "exchanged", "other"))
    example: Any = SimpleNamespace(relation=SimpleNamespace(terms=terms), choices=choices, **words)
    return Sample(np.zeros((2, 2, 3), np.uint8), example)


@pytest.fixture
def students(monkeypatch: pytest.MonkeyPatch) -> list[StandIn]:
    """The stand-ins that runs have asked for; pictures are dots."""
    made: list[StandIn] = []

    def load(spec, device, options):
        made.append(StandIn(**options))
        return made[-1]

    monkeypatch.setattr(rls3, "load_student", load)
    monkeypatch.setattr(student_models, "Samples", Few)
    dot = SimpleNamespace(colours=np.zeros((2, 2, 3), np.uint8))
    monkeypatch.setattr(rls3.picture, "draw", lambda arrangement: dot)
    return made


@pytest.fixture
def flags(students, tmp_path):
    """`flags(**changes)`: flags of a run of a second."""

    def make(**changes: Any) -> rls3.Args:
        own: dict[str, Any] = {
            "runs": str(tmp_path / "runs"),
            "num_envs": 3,
            "pretrain_envs": 3,
            "budget": 90,
            "valid_samples": 6,
            "episodes": 2,
            "amount": 2,
            "validation_samples": 4,
            "test_samples": 3,
            "pretrain_steps": 30,
            "learning_starts": 12,
            "batch_size": 4,
            "buffer_size": 300,
        }
        return rls3.Args(**(own | changes))

    return make


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


def test_a_run_learns_and_tells_what_it_did(flags, students):
    folder = rls3.train(flags(pretrain_steps=60, test_every=1))
    rows = metrics(folder)
    assert set().union(*rows) <= set(METRICS)
    assert all(math.isfinite(value) for row in rows for value in row.values())
    iterations = [row for row in rows if "sampling/iteration" in row]
    assert [row["sampling/iteration"] for row in iterations[:2]] == [0, 1]
    assert [row["sampling/generated"] for row in iterations] == sorted(row["sampling/generated"] for row in iterations)
    assert all("test/score" in row for row in iterations)
    assert iterations[-1]["test/score"] > iterations[0]["test/score"]
    assert len([row for row in rows if "loss/tuning" in row]) == 2 * iterations[-1]["sampling/iteration"]
    # Half of six, from each of two episodes.
    counts = sum(iterations[1][f"sampling/terms_{count}"] for count in (1, 2, 3))
    assert counts == 6
    assert load_file(folder / "model" / "known.safetensors")["known"] == students[0].known
    begun, ended = (load_file(folder / name) for name in ("pretrained.safetensors", "policy.safetensors"))
    moved = {name for name in ended if "actor" in name and not np.array_equal(begun[name], ended[name])}
    assert moved == {name for name in ended if "actor" in name}
    actions = rls3.load_policy(folder)(np.zeros((5, 32), np.float32))
    assert actions.shape == (5, 3) and actions.dtype == np.float32 and np.abs(actions).max() <= 1


@pytest.mark.parametrize(
    ("sampler", "at"), [("sac", "save"), ("sac", "play_episode"), ("sac", "fine_tune"), ("random", "save")]
)
def test_a_run_that_was_killed_ends_as_one_that_was_not(sampler, at, flags, students, tmp_path, monkeypatch):
    whole = rls3.train(flags(sampler=sampler, runs=str(tmp_path / "whole")))
    calls = iter(range(100))

    def killed(original):
        def run(*arguments):
            if next(calls) == 3:
                raise KeyboardInterrupt
            return original(*arguments)

        return run

    with monkeypatch.context() as patch:
        owner = Run if at == "save" else rls3
        patch.setattr(owner, at, killed(getattr(owner, at)))
        with pytest.raises(KeyboardInterrupt):
            for _ in range(9):
                rls3.train(flags(sampler=sampler, resume=at == "play_episode"))
    again = rls3.train(flags(sampler=sampler))
    for name in ("policy.safetensors", "model/known.safetensors"):
        one, other = load_file(whole / name), load_file(again / name)
        assert all(np.array_equal(one[key], other[key]) for key in one)
    last = [
        {key: value for key, value in metrics(each)[-1].items() if key not in ("seconds", "resumes")}
        for each in (whole, again)
    ]
    assert last[0] == last[1]


def test_the_model_is_asked_and_paid_for_once_an_episode(flags, students, monkeypatch):
    kept: list[StateReplay] = []
    monkeypatch.setattr(rls3, "StateReplay", lambda *args: kept.append(StateReplay(*args)) or kept[-1])
    rls3.train(flags(pretrain_steps=0, learning_starts=1000, beta=10.0, model_args=("feedback=2.0",)))
    held = {name: array[: len(kept[0])] for name, array in kept[0].arrays.items()}
    last = held["terminated"] > 0
    # Ten times four, on the last step of each of the three rooms, beside that step's own +1 or -1.
    assert set(held["rewards"][last].tolist()) <= {39.0, 41.0}
    assert set(held["rewards"][~last].tolist()) <= {-1.0, 1.0}
    asked = students[0].asked
    assert last.sum() == 3 * len(asked) and set(asked) == {6}


def test_unknown_feedback_pays_nothing(flags, students, monkeypatch):
    kept: list[StateReplay] = []
    monkeypatch.setattr(rls3, "StateReplay", lambda *args: kept.append(StateReplay(*args)) or kept[-1])
    monkeypatch.setattr(StandIn, "feedback", lambda self, samples: math.nan)
    folder = rls3.train(flags(pretrain_steps=0))
    assert set(np.unique(kept[0].arrays["rewards"]).tolist()) <= {-1.0, 0.0, 1.0}
    assert not any("sampling/feedback" in row for row in metrics(folder))


def test_the_end_of_the_budget_is_tested_once(flags, students):
    for budget, episodes in ((90, 2), (10**6, 1)):
        rows = metrics(rls3.train(flags(budget=budget, iterations=3, episodes=episodes, test_every=10)))
        tested = [row["sampling/generated"] for row in rows if "test/score" in row]
        assert tested == [0, max(row.get("sampling/generated", 0) for row in rows)]


def test_both_samplers_spend_the_same_budget_and_chance_asks_nobody(flags, students):
    ends = [metrics(rls3.train(flags(sampler=sampler)))[-1] for sampler in ("sac", "random")]
    for row in ends:
        assert 90 <= row["sampling/generated"] < 90 + 3
    assert students[0].asked and not students[1].asked


def test_a_random_sampler_has_no_policy(flags, students):
    folder = rls3.train(flags(sampler="random"))
    with pytest.raises(ValueError, match="no policy to load"):
        rls3.load_policy(folder)


def test_pictures_of_the_environments_own_are_taken_as_they_are():
    shown = SimpleNamespace(render_mode="rgb_array", arrangement=lambda row: f"arrangement {row}")
    shown.unwrapped, shown.render = shown, lambda: (np.full((2, 2, 3), 7), np.full((2, 2, 3), 8))
    (shot,) = rls3.take(shown, np.array([False, True]))
    assert shot.arrangement == "arrangement 1"
    (found,) = rls3.draw([(shot, sample(("left",)).example)])
    assert found.picture is shot.picture and (found.picture == 8).all()


def test_pretraining_is_shared(flags, students):
    first = rls3.train(flags())
    second = rls3.train(flags(pretrained=str(first), seed=5))
    one, other = (load_file(folder / "pretrained.safetensors") for folder in (first, second))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert min(row["step"] for row in metrics(second)) == 0


def test_the_loop_stops_where_validation_does_not_rise(flags, students, monkeypatch):
    monkeypatch.setattr(StandIn, "fine_tune", lambda self, samples, amount, seed: np.zeros(amount))
    folder = rls3.train(flags(budget=0, patience=2, min_iterations=4, pretrain_steps=0))
    # The first score beats none; from then on nothing is better, and four is the least.
    assert metrics(folder)[-1]["sampling/iteration"] == 4


def test_validations_come_after_every_f_updates(flags, students):
    folder = rls3.train(flags(amount=5, validate_every=2, iterations=1))
    kinds = [
        "tuning" if "loss/tuning" in row else "validation"
        for row in metrics(folder)
        if "loss/tuning" in row or ("validation/score" in row and row.get("sampling/iteration") != 0)
    ]
    assert kinds == ["tuning", "tuning", "validation", "tuning", "tuning", "validation", "tuning", "validation"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "clop"}, "did you mean 'clip'"),
        ({"budget": 0}, "nothing ends the loop"),
        ({"share": 0.0}, "share=0.0"),
        ({"episodes": 0}, "episodes=0: give at least 1"),
        ({"budget": -5}, "budget=-5: give at least 0"),
        ({"beta": math.nan}, "beta=nan"),
        ({"pretrained": "nowhere"}, "nowhere has no pretrained.safetensors"),
    ],
)
def test_flags_that_make_no_run_are_refused(changes, message, flags):
    with pytest.raises(ValueError, match=message):
        rls3.train(flags(**changes))


def test_other_environments_are_refused(monkeypatch):
    others = gym.make_vec("CartPole-v1", num_envs=2)
    monkeypatch.setattr(rls3.gym, "make_vec", lambda *arguments, **keywords: others)
    with pytest.raises(ValueError, match="not those of UnitySpatial-v0"):
        rls3.make_spatial_envs("CartPole-v1", 2, ())


def test_presets_are_the_papers(monkeypatch):
    monkeypatch.setattr("sys.argv", ["rls3.py", "--preset", "paper", "--seed", "4"])
    args = parse_flags(rls3.Args, rls3.PRESETS)
    assert (args.valid_samples, args.share, args.episodes, args.beta, args.amount) == (200, 0.5, 20, 10.0, 256)
    assert (args.pretrain_steps, args.patience, args.min_iterations, args.seed) == (100_000, 10, 15, 4)
    clip = rls3.Args(**rls3.PRESETS["paper-clip"])
    assert (clip.amount, clip.patience, clip.min_iterations) == (10, 5, 10)


def test_blocks_of_sac_are_the_same_here():
    def blocks(module):
        source = Path(module.__file__).read_text("utf-8")
        nodes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        return {node.name: ast.get_source_segment(source, node) for node in nodes}

    ours, theirs = blocks(rls3), blocks(sac)
    for name in ("Actor", "Critic", "update_critic", "update_actor", "update_temperature"):
        assert ours[name] == theirs[name], name


def test_the_replay_holds_the_newest_and_comes_back_as_it_was(tmp_path):
    generator = np.random.default_rng(0)
    replay, expected = StateReplay(7, 2, 1, 3), []
    for count in (3, 3, 3, 1):
        told = [generator.normal(size=(count, size)).astype(np.float32) for size in (2, 1, 2)]
        rewards = generator.normal(size=count).astype(np.float32)
        replay.add(told[0], told[1], rewards, told[2], count == 1)
        expected += [(*told[0][i], *told[1][i], rewards[i], *told[2][i], float(count == 1)) for i in range(count)]
    other = StateReplay(7, 2, 1, 0)
    replay.save(tmp_path / "replay")
    other.load(tmp_path / "replay")
    batch, same = replay.sample(200), other.sample(200)
    rows = {
        (
            *batch.observations["state"][i],
            *batch.actions[i],
            batch.rewards[i],
            *batch.next_observations["state"][i],
            batch.terminated[i],
        )
        for i in range(200)
    }
    assert rows == set(expected[-7:])
    np.testing.assert_array_equal(batch.rewards, same.rewards)


class Scripted:
    """`TrainableVlm` and `TrainableClip` that say what they are given."""

    save = load = None

    def __init__(self, said):
        self.said = said

    def answer(self, pictures, questions):
        return self.said

    def probabilities(self, pictures, choices):
        return np.array(self.said)

    def fine_tune(self, *told, seed, epochs=0, steps=0):
        return np.array(self.said, np.float32)

    def losses(self, pictures, captions, negatives):
        assert negatives == [("one", "two")] * len(pictures)
        return np.array(self.said)


def test_a_vlm_is_as_hard_up_as_its_score_is_low():
    samples = [sample(("left",)), sample(("above", "left")), sample(("behind",)), sample(("below",))]
    answers = [
        "The cup is to the left of it.",
        "It is to the left.",
        "\0 qwerty " * 50,
        "in front, behind, left, right",
    ]
    student = VlmStudent(Scripted(answers))
    told = describe(student, samples, "test")
    assert told["test/score"] == (5 + 3 + 1 + 1) / 4
    assert told["test/exact"] == 0.25
    assert told["test/left"] == 4.0 and told["test/terms_2"] == 3.0 and "test/right" not in told
    assert student.feedback(samples) == 6 - told["test/score"]
    assert VlmStudent(Scripted(["", "?", "42", "\n"])).feedback(samples) == 5.0


@pytest.mark.parametrize("kind", [ClipStudent, VlmStudent])
def test_a_loss_that_is_no_number_ends_the_run(kind):
    assert kind(Scripted([1.0, 0.5])).fine_tune([sample(("left",))], 2, 0).tolist() == [1.0, 0.5]
    with pytest.raises(FloatingPointError, match="update 1 of the model is nan: lower its learning_rate"):
        kind(Scripted([1.0, math.nan, math.inf])).fine_tune([sample(("left",))], 3, 0)


def test_a_clip_is_measured_by_two_and_by_four_choices():
    samples = [sample(("left",)), sample(("right",)), sample(("above",))]
    weighed = [[0.4, 0.3, 0.2, 0.1], [0.3, 0.4, 0.2, 0.1], [0.3, 0.2, 0.1, 0.4]]
    told = describe(ClipStudent(Scripted(weighed)), samples, "test")
    assert told["test/two_way"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert told["test/four_way"] == pytest.approx(1 / 3)
    assert told["test/right"] == 0.5
    assert ClipStudent(Scripted([1.0, 2.0, 6.0])).feedback(samples) == 3.0


def test_choices_are_counted_with_ties_shared():
    found = clip_figures(np.array([[0.4, 0.3, 0.2, 0.1], [0.3, 0.3, 0.4, 0.0], [0.25, 0.25, 0.25, 0.25]], np.float32))
    assert found["term"].tolist() == [1.0, 0.5, 0.5]
    assert found["order"].tolist() == [1.0, 0.0, 0.5]
    assert found["two_way"].tolist() == [1.0, 0.25, 0.5]
    assert found["four_way"].tolist() == [1.0, 0.0, 0.25]


def test_scores_and_groups_have_their_words():
    names = ("two_way", "four_way", "exact", "in_front", "terms_1", "terms_3")
    assert [*map(in_words, names)] == ["two-way", "four-way", "exact", "in front", "1 term", "3 terms"]


def test_groups_are_those_of_the_terms():
    samples = [sample(terms) for terms in RELATIONS]
    found = groups([each.example for each in samples])
    assert set(SPATIAL_TERMS) == {term.replace(" ", "_") for term in TERMS}
    assert [int(found[f"terms_{count}"].sum()) for count in (1, 2, 3)] == [
        sum(len(terms) == count for terms in RELATIONS) for count in (1, 2, 3)
    ]
    assert found["in_front"].tolist() == ["in front" in terms for terms in RELATIONS]
