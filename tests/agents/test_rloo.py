"""RLOO's estimate against the exact gradient and against TRL's, and what its runs leave behind."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mentorgym.agents import rloo
from mentorgym.agents.toolbox import METRICS, Run, parse_flags
from mentorgym.agents.toolbox.captioner import Sampling, Scores, load_captioner
from mentorgym.envs.caption import language

torch.set_num_threads(1)

LOGITS = torch.tensor([0.3, -0.5, 1.1, 0.0, -1.2])
REFERENCE = torch.tensor([0.0, 0.4, 0.2, -0.3, 0.1]).log_softmax(0)
REWARDS = torch.tensor([0.9, 0.4, 0.5, 1.4, 0.2])
"""Of a policy over five texts of one token."""


def said_of(logits: torch.Tensor, texts: torch.Tensor) -> Scores:
    return Scores(logits.log_softmax(0)[texts].view(-1, 1), torch.zeros(texts.numel(), 1), None)


def estimate(baseline: str, kl: float, scenes: int, k: int) -> torch.Tensor:
    """The gradient of the loss over so many scenes of k samples each."""
    generator = torch.Generator().manual_seed(0)
    logits = LOGITS.clone().requires_grad_()
    policy = logits.detach().softmax(0)
    texts = torch.multinomial(policy, scenes * k, replacement=True, generator=generator).view(scenes, k)
    if baseline == "greedy":
        texts = torch.cat([texts, policy.argmax().expand(scenes, 1)], 1)
    loss, _ = rloo.policy_loss(said_of(logits, texts), REWARDS[texts], REFERENCE[texts].view(-1, 1), kl, baseline)
    loss.backward()
    return -logits.grad


@pytest.mark.parametrize("kl", [0.0, 0.3])
@pytest.mark.parametrize("baseline", rloo.BASELINES)
def test_the_mean_estimate_is_the_exact_gradient(baseline: str, kl: float):
    logits = LOGITS.clone().requires_grad_()
    log_policy = logits.log_softmax(0)
    (log_policy.exp() * (REWARDS - kl * (log_policy - REFERENCE))).sum().backward()
    # Of a reward of at most 1.4 times a score of at most 1, the mean of 80,000 errs by less than 0.005.
    torch.testing.assert_close(estimate(baseline, kl, 20_000, 4), logits.grad, rtol=0, atol=3 * 0.005)


def test_the_error_shrinks_with_the_samples_and_is_smaller_with_a_baseline():
    logits = LOGITS.clone().requires_grad_()
    (logits.softmax(0) * REWARDS).sum().backward()
    generator = torch.Generator().manual_seed(1)
    policy = LOGITS.softmax(0)
    scores = torch.eye(5) - policy
    spread = {}
    for baseline in rloo.BASELINES:
        texts = torch.multinomial(policy, 40_000 * 4, replacement=True, generator=generator).view(-1, 4)
        drawn = texts
        if baseline == "greedy":
            drawn = torch.cat([texts[:, :3], policy.argmax().expand(len(texts), 1)], 1)
            texts = texts[:, :3]
        each = (rloo.advantages(REWARDS[drawn], baseline)[..., None] * scores[texts]).mean(1)
        error = each.mean(0) - logits.grad
        assert (error.abs() < 5 * each.std(0) / len(each) ** 0.5).all()
        spread[baseline] = float(each.var(0).sum())
    assert spread["loo"] < 0.6 * spread["none"]
    assert spread["loo"] < spread["greedy"], "at the same number of reward calls"


def test_the_baseline_of_a_text_is_the_mean_of_the_others():
    rewards = torch.tensor([[1.0, 2.0, 6.0]])
    torch.testing.assert_close(rloo.advantages(rewards, "loo"), torch.tensor([[-3.0, -1.5, 4.5]]))
    torch.testing.assert_close(rloo.advantages(rewards, "greedy"), torch.tensor([[-5.0, -4.0]]))
    torch.testing.assert_close(rloo.advantages(rewards, "none"), rewards)


@pytest.fixture(scope="module")
def vlm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest VLM."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        import captions

        return captions.save_vlm(tmp_path_factory.mktemp("vlm"))


@pytest.fixture
def flags(vlm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`flags(**changes)`: flags of a run of seconds on drawn scenes."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import captions

    captions.use_colours(monkeypatch)

    def make(**changes: Any) -> rloo.Args:
        common: dict[str, Any] = {
            "model": str(vlm_folder),
            "runs": str(tmp_path / "runs"),
            "total_steps": 6,
            "batch_size": 3,
            "group_size": 4,
            "max_new_tokens": 5,
            "log_every": 2,
            "eval_every": 4,
            "checkpoint_every": 2,
            "save_dtype": "float32",
        }
        return rloo.Args(**(common | changes))

    return make


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("changes", [{}, {"baseline": "greedy", "lora": 2, "accumulate": 2}], ids=["loo", "greedy"])
def test_a_run_that_was_killed_ends_as_one_that_was_not(flags, tmp_path, monkeypatch, changes):
    whole = rloo.train(flags(runs=str(tmp_path / "whole"), **changes))
    args = flags(**changes)
    save, saved = Run.save, []

    def killed(run, step, *rest):
        save(run, step, *rest)
        saved.append(step)
        if step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            rloo.train(args)
    assert saved == [2, 4]
    run = rloo.train(args)
    one, other = (load_file(each / "model" / "model.safetensors") for each in (whole, run))
    start = load_file(Path(args.model) / "model.safetensors")
    for name in one:
        assert torch.equal(one[name], other[name]), name
    assert any(not torch.equal(one[name], start[name]) for name in one if name in start)

    rows = metrics(run)
    assert set().union(*rows) <= set(METRICS)
    assert {row["resumes"] for row in rows} == {0, 1}
    assert [row["step"] for row in rows if "heldout/exact" in row] == [0, 4, 6]
    last = rows[-2]
    assert last["step"] == 6 and 0 <= last["reward/mean"] <= last["reward/best"] <= 1.1
    assert last["reward/mean"] == pytest.approx(last["reward/contrast"], abs=1e-5)
    assert 0 < last["text/unique_in_group"] <= 1 and last["text/entropy"] > 0
    assert rows[0]["heldout/kl"] == pytest.approx(0.0, abs=1e-5), "the start is the reference"
    assert rows[-1]["heldout/kl"] != 0.0
    assert (run / "done").exists() and not (run / "checkpoints").exists()


def test_every_parameter_moves_and_the_policy_loads(flags, vlm_folder):
    run = rloo.train(flags(learning_rate=1e-2, kl=0.1))
    trained, start = (load_file(each / "model.safetensors") for each in (run / "model", vlm_folder))
    still = [name for name in start if torch.equal(start[name], trained[name])]
    # A shift of keys moves no softmax.
    assert [name for name in still if "k_proj.bias" not in name] == []
    policy = rloo.load_policy(run)
    frames = np.random.default_rng(0).integers(0, 256, (3, 1, 24, 32, 3), dtype=np.uint8)
    texts = policy({"frames": frames, "instruction": (language.PROMPT,) * 3})
    assert len(texts) == 3 and all(isinstance(text, str) for text in texts)
    assert texts == policy({"frames": frames, "instruction": (language.PROMPT,) * 3})


def test_rewards_rise_and_a_cost_of_the_divergence_holds_the_policy_at_its_start(flags):
    common = {"total_steps": 40, "learning_rate": 5e-3, "eval_every": 40, "checkpoint_every": 100, "group_size": 8}
    free, held = (metrics(rloo.train(flags(kl=kl, **common))) for kl in (0.0, 1.0))
    rewards = [row["reward/mean"] for row in free if "reward/mean" in row]
    assert np.mean(rewards[-4:]) > 1.5 * np.mean(rewards[:4])
    assert all("text/kl" not in row for row in free), "nothing is asked of a reference that costs nothing"
    assert held[-1]["heldout/kl"] < 0.5 * free[-1]["heldout/kl"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"baseline": "critic"}, "baseline 'critic' is unknown"),
        ({"group_size": 1}, "group_size of at least 2"),
        ({"top_p": 2.0}, "top_p 2.0"),
        ({"env_args": ("reward=prob",)}, "flag of its own"),
        ({"model": "/nowhere/at/all"}, "no weights"),
        ({"save_dtype": "fp16"}, "save_dtype 'fp16' is unknown"),
        ({"heldout_scenes": 0}, "heldout_scenes 0"),
    ],
)
def test_flags_that_do_not_fit_are_told(flags, changes, told):
    with pytest.raises(ValueError, match=told):
        rloo.train(flags(**changes))


def test_presets_are_the_authors_two_sets_of_constants(monkeypatch):
    monkeypatch.setattr("sys.argv", ["rloo.py", "--preset", "paper", "--kl", "0.1"])
    args = parse_flags(rloo.Args, rloo.PRESETS)
    assert (args.learning_rate, args.group_size, args.epochs, args.kl) == (1e-6, 8, 5.0, 0.1)
    assert (args.temperature, args.top_p, args.top_k, args.reward) == (1.5, 0.95, 50, "cosine")
    monkeypatch.setattr("sys.argv", ["rloo.py", "--preset", "poster"])
    args = parse_flags(rloo.Args, rloo.PRESETS)
    assert (args.learning_rate, args.group_size, args.epochs) == (2e-5, 4, 3.0)


@pytest.mark.filterwarnings("ignore")
def test_the_update_is_that_of_trl_with_its_clipping_idle(vlm_folder, tmp_path, monkeypatch):
    trl = pytest.importorskip("trl")
    import datasets
    import transformers
    from PIL import Image

    transformers.logging.disable_progress_bar()
    scenes, k, tokens, kl = 2, 3, 5, 0.05
    pictures = np.random.default_rng(0).integers(0, 256, (scenes, 24, 32, 3), dtype=np.uint8)
    captioner = load_captioner(str(vlm_folder), sampling=Sampling(max_new_tokens=tokens))
    reference = rloo.Reference(captioner)
    theirs = transformers.AutoModelForImageTextToText.from_pretrained(vlm_folder, attn_implementation="sdpa")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # Away from the reference, so that the divergence is not 0.
        for own, other in zip(captioner.model.parameters(), theirs.parameters(), strict=True):
            own += 0.02 * torch.randn(own.shape, generator=generator)
            other.copy_(own)

    def reward(texts: list[str]) -> list[float]:
        return [len(set(text)) / 10 + 0.5 for text in texts]

    seen: dict[str, Any] = {}

    class Watched(trl.RLOOTrainer):
        def _compute_loss(self, model, inputs):
            seen["inputs"] = inputs
            seen["loss"] = super()._compute_loss(model, inputs)
            return seen["loss"]

        def training_step(self, *arguments):
            loss = super().training_step(*arguments)
            seen["gradients"] = [each.grad.clone() for each in self.model.parameters()]
            return loss

    question = language.PROMPT.replace("<image>", "")
    features = datasets.Features(
        {
            "prompt": datasets.List({"role": datasets.Value("string"), "content": datasets.Value("string")}),
            "image": datasets.Image(),
        }
    )
    prompts = scenes * [[{"role": "user", "content": question}]]
    rows = {"prompt": prompts, "image": [Image.fromarray(picture) for picture in pictures]}
    trainer = Watched(
        model=theirs,
        reward_funcs=lambda completions, **_: reward([each[0]["content"] for each in completions]),
        args=trl.RLOOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=scenes * k,
            num_generations=k,
            max_completion_length=tokens,
            beta=kl,
            max_steps=1,
            shuffle_dataset=False,
            generation_kwargs={"suppress_tokens": captioner.vlm.banned},
        ),
        train_dataset=datasets.Dataset.from_dict(rows, features=features),
        processing_class=transformers.AutoProcessor.from_pretrained(vlm_folder),
    )
    # TRL mixes the samples of a batch.
    monkeypatch.setattr("trl.trainer.rloo_trainer.shuffle_sequence_dict", lambda batch: batch)
    trainer.train()

    captioner.vlm.banned = []  # TRL samples without markers, but leaves their probability to them.
    inputs = captioner.prepare(pictures[:, None], scenes * [language.PROMPT])
    torch.testing.assert_close(inputs["input_ids"].repeat_interleave(k, 0), seen["inputs"]["prompt_ids"])
    written_tokens, mask = seen["inputs"]["completion_ids"], seen["inputs"]["completion_mask"].bool()
    texts = captioner.processor.tokenizer.batch_decode(written_tokens, skip_special_tokens=True)
    written = rloo.Written(written_tokens, mask, texts)
    prefix = captioner.read(inputs)
    scores = captioner.score(prefix, written)
    rewards = torch.tensor(reward(texts)).view(scenes, k)
    others = reference(inputs, written, scores.support)
    loss, ratio = rloo.policy_loss(scores, rewards, others, kl, "loo")
    assert ratio.abs().max() > 0.01
    advantages = rloo.advantages(rewards - kl * ratio, "loo")
    torch.testing.assert_close(advantages.flatten(), seen["inputs"]["advantages"], rtol=1e-4, atol=1e-5)
    loss.backward()
    for own, other in zip(captioner.model.parameters(), seen["gradients"], strict=True):
        torch.testing.assert_close(own.grad, other, rtol=1e-3, atol=1e-6)
    # TRL's ratio to the sampling policy is 1, so that its loss is minus the mean advantage.
    assert float(seen["loss"]) == pytest.approx(-float(advantages.mean()), abs=1e-5)
