"""The table of reward models, with scorers whose cosines are known beforehand."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score, roc_curve

from mentorgym.agents.toolbox.shards import to_png, write_shard
from mentorgym.benchmarks.captions import clip_reward
from mentorgym.envs.caption import language

CAPTIONS = language.captions()


class FakeScorer:
    """A picture's shade is its reason; a text's vector is drawn by its letters, a picture's that of its caption."""

    def __init__(self, name: str, bias: float = -4.0, blur: float = 0.5):
        self.scale, self.bias, self.blur = 8.0, bias if name == "tuned" else 0.0, blur

    def encode_texts(self, texts):
        vectors = [np.random.default_rng(list(text.encode())).normal(size=16) for text in texts]
        return np.stack([vector / np.linalg.norm(vector) for vector in vectors]).astype(np.float32)

    def encode_images(self, pictures):
        own = self.encode_texts([CAPTIONS[picture[0, 0, 0]] for picture in pictures])
        noise = np.random.default_rng(len(pictures)).normal(size=own.shape) * self.blur
        vectors = own + noise
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """63 pictures, three for each reason."""
    folder = tmp_path / "captions"
    folder.mkdir()
    samples = [
        (f"{index:03d}", to_png(np.full((4, 4, 3), index % 21, np.uint8)), {"caption": CAPTIONS[index % 21]})
        for index in range(63)
    ]
    write_shard(folder / "00000.tar", samples)
    return folder


def test_questions_hold_own_wrong_and_hard_texts():
    captions = CAPTIONS * 20
    questions = clip_reward.ask(captions, np.random.default_rng(0))
    assert [len(questions[part].texts) for part in clip_reward.PARTS] == [21, 4, 21]
    for part, question in questions.items():
        told = [clip_reward.part_of(caption, part) for caption in captions]
        assert [question.texts[place] for place in question.own] == told
        assert (question.wrong != question.own).all()
        assert set(question.wrong) == set(range(len(question.texts)))
    output = questions["output"]
    for own, hard in zip(output.own, output.hard, strict=True):
        actions = [clip_reward.part_of(output.texts[place], "action") for place in (own, hard)]
        assert hard != own and actions[0] == actions[1]
    alone = clip_reward.ask([CAPTIONS[0], CAPTIONS[3]], np.random.default_rng(0))
    assert alone["output"].hard.tolist() == [-1, -1]
    with pytest.raises(ValueError, match="no wrong one"):
        clip_reward.ask(CAPTIONS[:2], np.random.default_rng(0))


def test_figures_are_scikit_learns():
    scorer = FakeScorer("tuned", blur=1.0)
    captions = CAPTIONS * 3
    questions = clip_reward.ask(captions, np.random.default_rng(0))
    pictures = [np.full((4, 4, 3), index % 21, np.uint8) for index in range(63)]
    images = scorer.encode_images(pictures)
    told, cosines, counts = clip_reward.measure(scorer, images, questions)
    output = questions["output"]
    every = images @ scorer.encode_texts(output.texts).T
    rows = np.arange(63)
    scores = np.concatenate([every[rows, output.own], every[rows, output.wrong]])
    labels = np.repeat([True, False], 63)
    assert told["auroc"]["output"] == pytest.approx(roc_auc_score(labels, scores))
    assert told["retrieval"]["output"]["accuracy"] == pytest.approx(np.mean(every.argmax(1) == output.own))
    said = 1 / (1 + np.exp(-(8.0 * scores - 4.0))) > 0.5
    np.testing.assert_array_equal(counts, confusion_matrix(labels, said))
    precision, recall, f1, _ = precision_recall_fscore_support(labels, said, average="binary")
    half = told["readouts"]["bias"]["at_half"]
    assert (half["precision"], half["recall"], half["f1"]) == pytest.approx((precision, recall, f1))
    assert half["accuracy"] == pytest.approx(np.mean(said == labels))
    paper = told["readouts"]["paper"]
    assert paper["match"]["output"] == pytest.approx(np.mean(scores[:63] > 0))
    assert paper["similarity"]["output"] == pytest.approx(np.mean(1 / (1 + np.exp(-8.0 * scores[:63]))), rel=1e-5)
    false, true = clip_reward.roc_curve(cosines)
    expected_false, expected_true, _ = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(false, expected_false)
    np.testing.assert_allclose(true, expected_true)


def test_accuracies_plain_and_balanced():
    plain, balanced = clip_reward.accuracies(np.array([0, 0, 0, 0, 0]), np.array([0, 0, 0, 1, 2]))
    assert (plain, balanced) == pytest.approx((3 / 5, 1 / 3))


def test_the_command_writes_table_figures_and_picture(data: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(clip_reward, "load_scorer", FakeScorer)
    out = tmp_path / "out"
    arguments = ["--data", str(data), "--models", "before=plain", "ours=tuned", "--output", str(out), "--json"]
    clip_reward.main(arguments)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["pictures"] == 63
    assert list(told["models"]) == ["before", "ours"]
    assert list(told["models"]["before"]["readouts"]) == ["paper"]
    assert list(told["models"]["ours"]["readouts"]) == ["paper", "bias"]
    assert {'"123"', '"abc"'} < told["models"]["ours"]["readouts"]["bias"]["match"].keys()
    kept = json.loads((out / "clip_reward.json").read_text())
    assert kept["models"] == told["models"] and "commit" in kept
    assert (out / "clip_reward.png").stat().st_size > 10_000
    table = (out / "clip_reward.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {5}
    assert any(line.startswith("| AUROC, hard output |") for line in rows)


def test_mistakes_are_explained(data: Path, tmp_path: Path):
    for models, said in (
        (["folder"], "each with a name"),
        (["a=x", "a=y"], "each with a name"),
        (["a=" + str(tmp_path / "nowhere")], "no weights in"),
    ):
        with pytest.raises(SystemExit, match=said):
            clip_reward.main(["--data", str(data), "--output", str(tmp_path / "out"), "--models", *models])
    with pytest.raises(SystemExit, match="neither a folder of shards"):
        clip_reward.main(["--data", str(tmp_path / "nothing"), "--models", "a=b"])
    assert not (tmp_path / "out").exists()
