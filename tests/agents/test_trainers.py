"""The trainers `sft` and `clip_finetune`: their losses, what a run leaves behind, and that it goes on after a stop."""

import dataclasses
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from mentorgym.agents import clip_finetune, sft
from mentorgym.agents.toolbox import tuning
from mentorgym.agents.toolbox.pairs import auroc
from mentorgym.agents.toolbox.shards import ANCHORS, Samples, to_png, write_shard
from mentorgym.envs.caption import language as captions
from mentorgym.mentors import tiny
from mentorgym.mentors.clip import TransformersScorer
from mentorgym.mentors.load import load_mentor
from mentorgym.mentors.mentor import Request

torch.set_num_threads(1)

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures in one colour each, with the question which one, and with two contexts of three captions."""
    folder = tmp_path_factory.mktemp("drawn")
    samples = []
    for index in range(8):
        name, colour = list(COLOURS.items())[index % 3]
        picture = np.full((48, 48, 3), colour, np.uint8)
        context = index % 2
        words = {
            "prompt": f"<image>Number {index}.25 m. Which colour is it?",
            "answer": f"It is {name}.",
            "caption": f"Scene {context}. All is {name}.",
            "context": context,
            "label": index % 3,
        }
        samples.append((str(index), to_png(picture), words))
    write_shard(folder / "00000.tar", samples)
    anchors = [[f"Scene {context}. All is {name}." for name in COLOURS] for context in range(2)]
    (folder / ANCHORS).write_text(json.dumps(anchors))
    return folder


@pytest.fixture(params=[sft, clip_finetune], ids=["sft", "clip_finetune"])
def trainer(request: pytest.FixtureRequest) -> ModuleType:
    """Each trainer's module in turn."""
    return request.param


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that are trained from nothing are as small as they get."""

    def shrink(module: ModuleType, name: str, **sizes: int) -> None:
        build = getattr(tiny, name)
        monkeypatch.setattr(module, name, lambda texts, **asked: build(texts, **(asked | sizes)))

    sizes = {"image_size": 32, "patch_size": 8, "width": 32, "vision_layers": 1, "text_layers": 1}
    shrink(sft, "build_vlm", **sizes)
    shrink(clip_finetune, "build_clip", **sizes)


def flags(trainer: ModuleType, folder: Path, runs: Path, **more: Any) -> Any:
    arguments = {"data": folder, "runs": str(runs), "batch_size": 4, "total_steps": 12, "checkpoint_every": 5} | more
    return trainer.Args(**arguments)


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_learns_and_leaves_a_model_that_answers(trainer, folder, tmp_path, small):
    more = {"total_steps": 150, "log_every": 5, "autocast": "float32", "save_dtype": "float32"}
    rate = 1e-2 if trainer is sft else 5e-3
    run = trainer.train(flags(trainer, folder, tmp_path, heldout=folder, learning_rate=rate, **more))
    rows = metrics(run)
    (name,) = {name for name in rows[0] if name in ("loss/answer", "loss/anchors")}
    assert rows[29][name] < 0.5 * rows[0][name]
    assert json.loads((run / "done").read_text())["step"] == 150
    assert not (run / "checkpoints").exists()
    assert json.loads((run / "config.json").read_text())["agent"] == trainer.__name__.rpartition(".")[2]
    (measured,) = [row for row in rows if "heldout/exact" in row or "heldout/accuracy" in row]
    samples = Samples(folder)
    requests = [Request(each.picture, each.words["prompt"], each.words["context"], np.zeros(2)) for each in samples]
    if trainer is sft:
        replies = load_mentor(f"vlm:{run / 'model'}")(requests)
        right = [reply == each.words["answer"] for reply, each in zip(replies, samples, strict=True)]
        assert measured["heldout/exact"] == pytest.approx(np.mean(right))
    else:
        weighed = load_mentor(f"clip:{run / 'model'}", anchors=samples.anchors)(requests)
        right = [np.argmax(each) == sample.words["label"] for each, sample in zip(weighed, samples, strict=True)]
        assert measured["heldout/accuracy"] == pytest.approx(np.mean(right))
    assert np.mean(right) > 0.7


def test_every_parameter_moves(trainer, folder, tmp_path, small):
    args = flags(trainer, folder, tmp_path, weight_decay=0.0, save_dtype="float32")
    torch.manual_seed(args.seed)
    model, _ = trainer.make_model(args, Samples(folder))
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    saved = load_file(trainer.train(args) / "model" / "model.safetensors")
    # Bytes that the words lack are embedded all the same, and places that no text reaches; a shift of keys moves no
    # softmax.
    partly = ("embed_tokens", "token_embedding", "position_embedding")
    still = [
        name
        for name, tensor in before.items()
        if name in saved
        and torch.equal(tensor, saved[name])
        and not any(part in name for part in partly)
        and "k_proj.bias" not in name
    ]
    assert still == []
    for name in before:
        if any(part in name for part in partly) and name in saved:
            assert not torch.equal(before[name], saved[name])


def test_a_run_that_was_stopped_ends_as_one_that_was_not(trainer, folder, tmp_path, small, monkeypatch):
    whole = trainer.train(flags(trainer, folder, tmp_path / "whole"))
    args = flags(trainer, folder, tmp_path / "stopped")
    update, taken = trainer.update, []

    def interrupted(*arguments):
        taken.append(0)
        if len(taken) == 9:
            raise KeyboardInterrupt
        return update(*arguments)

    monkeypatch.setattr(trainer, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(args)
    run = trainer.train(args)
    # Eight updates, and those from the checkpoint after the fifth on.
    assert len(taken) == 9 + 7
    one, other = (load_file(each / "model" / "model.safetensors") for each in (whole, run))
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name
    assert trainer.train(args) == run
    assert len(taken) == 9 + 7, "a run that is done is not trained again"


def test_a_saved_model_is_fine_tuned_further(trainer, folder, tmp_path, small):
    first = trainer.train(flags(trainer, folder, tmp_path, total_steps=3))
    again = trainer.train(flags(trainer, folder, tmp_path, total_steps=3, model=str(first / "model")))
    assert again != first
    one, other = (load_file(each / "model" / "model.safetensors") for each in (first, again))
    assert one.keys() == other.keys()
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_samples_without_words_are_refused(trainer, tmp_path):
    write_shard(tmp_path / "00000.tar", [("0", to_png(np.zeros((8, 8, 3), np.uint8)), {"caption": "A road."})])
    args = flags(trainer, tmp_path, tmp_path / "runs", heldout=tmp_path)
    with pytest.raises(ValueError, match="without a prompt" if trainer is sft else r"no anchors\.json"):
        trainer.train(args)
    with pytest.raises(ValueError, match="choose bfloat16 or float32"):
        trainer.train(dataclasses.replace(args, autocast="int8"))
    with pytest.raises(ValueError, match="choose float16, bfloat16 or float32"):
        trainer.train(dataclasses.replace(args, save_dtype="half"))
    assert not (tmp_path / "runs").exists()


def test_a_prompt_without_one_slot_is_refused_before_training(tmp_path):
    for prompt in ("Which colour is it?", "<image><image>Which?"):
        words = {"prompt": prompt, "answer": "Red."}
        write_shard(tmp_path / "00000.tar", [("0", to_png(np.zeros((8, 8, 3), np.uint8)), words | {"caption": ""})])
        with pytest.raises(ValueError, match="needs one <image>"):
            sft.train(flags(sft, tmp_path, tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_only_the_tokens_of_the_answer_count(folder):
    model, processor = tiny.build_vlm(["Number ", "Which colour is it?", "It is red.", "It is green."])
    samples = Samples(folder)
    batch = sft.Preparation(processor, suffix_type=0)(samples[:3])
    for row, sample in zip(range(3), samples, strict=False):
        counted = batch["labels"][row][batch["labels"][row] != -100]
        assert processor.tokenizer.decode(counted) == sample.words["answer"] + "<end_of_utterance>"
        mask = batch["attention_mask"][row].bool()
        text = processor.tokenizer.decode(batch["input_ids"][row][mask])
        assert text.endswith(
            f"{sample.words['prompt'].removeprefix('<image>')}<end_of_utterance>\nAssistant:"
            f"{sample.words['answer']}<end_of_utterance>"
        )
    with torch.no_grad():
        logits = model(**{name: each for name, each in batch.items() if name != "labels"}).logits.double()
        found = sft.answer_loss(model, batch, torch.float32)
    terms = [
        -logits[row, place - 1].log_softmax(-1)[batch["labels"][row, place]]
        for row, place in zip(*torch.nonzero(batch["labels"] != -100, as_tuple=True), strict=True)
    ]
    assert found.item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-5)


def test_contrastive_loss_against_a_reference_in_double_precision():
    generator = torch.Generator().manual_seed(0)
    images, texts = (F.normalize(torch.randn(count, 8, generator=generator), dim=1) for count in (5, 4))
    own = torch.tensor([0, 1, 1, 2, 0])
    scale = torch.tensor(3.0)
    found = clip_finetune.contrastive_loss(images, texts, own, scale).item()
    a, b = images.double().numpy(), texts.double().numpy()[own]
    total = 0.0
    for i in range(5):
        others = [j for j in range(5) if j == i or own[j] != own[i]]
        mine = np.exp(3.0 * a[i] @ b[i])
        total -= np.log(mine / sum(np.exp(3.0 * a[i] @ b[j]) for j in others)) / 10
        total -= np.log(mine / sum(np.exp(3.0 * a[j] @ b[i]) for j in others)) / 10
    assert found == pytest.approx(total, rel=1e-5)


def test_anchors_loss_against_a_reference_in_double_precision():
    generator = torch.Generator().manual_seed(1)
    images, texts = (F.normalize(torch.randn(count, 8, generator=generator), dim=1) for count in (2, 6))
    rivals, label = torch.tensor([[0, 2, 4], [5, 3, 1]]), torch.tensor([1, 2])
    found = clip_finetune.anchors_loss(images, texts, rivals, label, torch.tensor(2.0)).item()
    a, b = images.double().numpy(), texts.double().numpy()
    total = 0.0
    for i in range(2):
        weights = [np.exp(2.0 * a[i] @ b[j]) for j in rivals[i]]
        total -= np.log(weights[label[i]] / sum(weights)) / 2
    assert found == pytest.approx(total, rel=1e-5)


def test_label_scores_by_hand():
    neighbours = np.eye(4, dtype=bool)
    neighbours[0, 1] = neighbours[1, 0] = True
    labels, found = np.array([0, 0, 0, 0, 1, 2]), np.array([0, 0, 1, 3, 0, 2])
    scores = clip_finetune.label_scores(found, labels, neighbours)
    assert scores == pytest.approx(
        {
            "heldout/accuracy": 3 / 6,
            "heldout/balanced_accuracy": (2 / 4 + 0 + 1) / 3,
            "heldout/majority": 4 / 6,
            "heldout/balanced_majority": 1 / 3,
            "heldout/near_errors": 2 / 3,
            "heldout/near_errors_by_chance": 1 / 3,
        }
    )


def test_reply_errors_by_hand():
    answers = ['{"throttle": 0.5, "steer": 0.1, "brake": 0.0}', '{"throttle": 0.0, "steer": 0.3, "brake": 0.5}'] * 2
    replies = [answers[0], "no", '{"throttle": 0.3, "steer": 0.1, "brake": 0.0}', "{}"]
    scores = sft.reply_errors(replies, answers)
    assert scores == pytest.approx(
        {
            "heldout/exact": 1 / 4,
            "heldout/parsed": 1 / 2,
            "heldout/acceleration_error": 0.1,
            "heldout/acceleration_error_of_constant": 0.5,
            "heldout/steer_error": 0.0,
            "heldout/steer_error_of_constant": 0.1,
        },
        abs=1e-6,
    )
    assert sft.reply_errors(["Red."], ["Red."]) == {"heldout/exact": 1.0}


def test_answers_that_are_no_captions_are_not_flipped(folder, tmp_path):
    with pytest.raises(ValueError, match="train without --augment"):
        sft.train(flags(sft, folder, tmp_path / "runs", augment=True))
    assert not (tmp_path / "runs").exists()


def test_captions_are_measured_as_captions():
    answers = ["Action: stop. Reason: Obstacle: car.", "Action: forward. Reason: Road is clear."]
    scores = sft.reply_errors([answers[0], "Action: forward. Reason: A dog."], answers)
    assert scores == pytest.approx(
        {
            "heldout/exact": 1 / 2,
            "heldout/action_top1": 1.0,
            "heldout/reason_top1": 1 / 2,
            "heldout/action_macro_f1": 2 / 4,
            "heldout/reason_macro_f1": 1 / 21,
            "heldout/out_of_vocabulary": 1 / 2,
        }
    )


def test_words_are_the_longest_tokens_where_that_is_asked_for():
    texts = [*captions.captions(), "What is next?"]
    for words, count in ((False, 2), (True, 12)):
        _, processor = tiny.build_clip(texts * 3, image_size=16, patch_size=8, width=32, words=words)
        tokens = processor.tokenizer.tokenize("Action: stop. Reason: Traffic light is not green.")
        assert len(tokens) == count


@pytest.fixture
def told(folder: Path, tmp_path: Path) -> Path:
    """The same pictures with captions that name their colour alone."""
    samples = Samples(folder)
    captioned = [
        (
            str(index),
            samples.file(index),
            {"caption": samples.words[index]["answer"], "context": 0, "label": index % 3},
        )
        for index in range(len(samples))
    ]
    (tmp_path / "told").mkdir()
    write_shard(tmp_path / "told" / "00000.tar", captioned)
    (tmp_path / "told" / ANCHORS).write_text(json.dumps([[f"It is {name}." for name in COLOURS]]))
    return tmp_path / "told"


def pair_flags(folder: Path, runs: Path, **more: Any) -> clip_finetune.Args:
    arguments = {"loss": "pairs", "batch_size": 8, "epochs": 6, "checkpoint_every": 5, "heldout": folder} | more
    return clip_finetune.Args(data=folder, validation=folder, runs=str(runs), autocast="float32", **arguments)


def test_pairs_are_learned_and_the_bias_travels_with_the_model(told, tmp_path, small):
    first = clip_finetune.train(flags(clip_finetune, told, tmp_path, total_steps=60, learning_rate=5e-3))
    model = str(first / "model")
    more = {"model": model, "learning_rate": 3e-3, "epochs": 25, "stop_after": 25}
    run = clip_finetune.train(pair_flags(told, tmp_path, **more))
    rows = metrics(run)
    best = max(row["validation/auroc"] for row in rows if "validation/auroc" in row)
    scorer = TransformersScorer(str(run / "model"))
    assert scorer.bias == json.loads((run / "model" / "config.json").read_text())["logit_bias"] != 0.0
    assert TransformersScorer(model).bias == 0.0
    samples = Samples(told)
    texts = sorted({words["caption"] for words in samples.words})
    cosines = scorer.encode_images([each.picture for each in samples]) @ scorer.encode_texts(texts).T
    own = np.array([texts.index(words["caption"]) for words in samples.words])
    match = np.eye(len(texts), dtype=bool)[own]
    assert auroc(cosines.ravel(), match.ravel()) > 0.9
    assert best > 0.9 and any("heldout/auroc" in row for row in rows)
    said = scorer.scale * cosines + scorer.bias > 0
    assert (said == match).mean() > 0.8


@pytest.mark.parametrize("bias", [True, False])
def test_a_run_on_pairs_that_was_stopped_ends_as_one_that_was_not(folder, tmp_path, small, monkeypatch, bias):
    more = {"bias": bias, "augment": False, "patience": 1, "stop_after": 3, "learning_rate": 5e-3}
    whole = clip_finetune.train(pair_flags(folder, tmp_path / "whole", **more))
    args = pair_flags(folder, tmp_path / "stopped", **more)
    update, taken = clip_finetune.update_pairs, []

    def interrupted(*arguments):
        taken.append(0)
        if len(taken) == 8:
            raise KeyboardInterrupt
        return update(*arguments)

    monkeypatch.setattr(clip_finetune, "update_pairs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        clip_finetune.train(args)
    run = clip_finetune.train(args)
    one, other = (load_file(each / "model" / "model.safetensors") for each in (whole, run))
    for name in one:
        assert torch.equal(one[name], other[name]), name
    biases = [json.loads((each / "model" / "config.json").read_text())["logit_bias"] for each in (whole, run)]
    assert biases[0] == biases[1] and (biases[0] != 0.0) == bias
    ends = [json.loads((each / "done").read_text())["step"] for each in (whole, run)]
    assert ends[0] == ends[1]


def test_pairs_that_cannot_be_are_refused(folder, tmp_path):
    for more, said in (
        ({"batch_size": 7}, "even"),
        ({"epochs": 0}, "epochs"),
        ({"texts": "action"}, "not of the form"),
        ({"split": (4, 2, 2)}, "--validation stands in for --split"),
        ({"heldout_samples": 0}, "--heldout-samples 0"),
    ):
        with pytest.raises(ValueError, match=said):
            clip_finetune.train(pair_flags(folder, tmp_path, **more))


def test_the_learning_rate_rises_and_falls():
    rates = [tuning.learning_rate(step, 100, 2.0, 0.1) for step in range(101)]
    assert rates[9] == pytest.approx(2.0) and rates[4] == pytest.approx(1.0)
    assert np.argmax(rates) in (9, 10)
    assert rates[55] == pytest.approx(1.0) and rates[100] == pytest.approx(0.0)
    assert (np.diff(rates[10:]) <= 0).all()


def test_the_batch_of_a_step_depends_on_seed_and_step_alone(folder):
    samples = Samples(folder)

    def drawn(steps: range, seed: int) -> list[list[str]]:
        def prompts(batch):
            return [sample.words["prompt"] for sample in batch]

        return list(tuning.batches(samples, prompts, steps, 3, seed, 0.5, workers=0))

    assert drawn(range(6), 0)[3:] == drawn(range(3, 6), 0)
    assert drawn(range(6), 0) != drawn(range(6), 1)
