"""The command `mentorgym`: its verbs, what it costs, and what it says to mistakes."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mentorgym
from mentorgym import cli

ROOT = Path(__file__).resolve().parents[1]
VERBS = {verb: module for verbs in cli.VERBS.values() for verb, (module, _) in verbs.items()}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["mentorgym"])
    with pytest.raises(SystemExit) as end:
        cli.main([verb, "--help"])
    out = capsys.readouterr().out
    assert end.value.code in (None, 0)
    assert f"mentorgym {verb}" in out and len(out.splitlines()) > 5


def test_the_help_has_a_line_for_each_verb_in_its_group(capsys: pytest.CaptureFixture[str]):
    cli.main(["--help"])
    out = capsys.readouterr().out
    lines = [line.split(maxsplit=1) for line in out.splitlines() if line.startswith("  ")]
    assert [[verb, words] for verbs in cli.VERBS.values() for verb, (_, words) in verbs.items()] == lines
    assert all(re.fullmatch(r"[a-z-]+", verb) for verb, _ in lines)
    assert max(map(len, out.splitlines())) <= 120


def test_the_help_imports_nothing_heavy():
    heavy = "{'torch', 'numba', 'transformers', 'rich', 'tyro', 'mentorgym.benchmarks', 'PIL'}"
    code = f"import sys; from mentorgym.cli import main; main(['--help']); sys.exit(bool({heavy} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "mentorgym", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"mentorgym {mentorgym.__version__}\n"


def test_an_unknown_verb_gets_the_nearest(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        cli.main(["evalute"])
    assert end.value.code == 2
    assert "no verb 'evalute': did you mean 'evaluate'?" in capsys.readouterr().err


def test_a_verb_without_its_extra_says_what_brings_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    message = "drawing scenes needs trimesh: pip install 'mentorgym[scenes]'"

    def fail(name: str) -> None:
        raise ImportError(message)

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(SystemExit) as end:
        cli.main(["stage"])
    assert end.value.code == 2
    assert capsys.readouterr().err == f"mentorgym stage: {message}\n"


def test_an_agent_is_trained_by_name_and_by_path_as_its_file_is(tmp_path: Path):
    agent = tmp_path / "my_agent.py"
    agent.write_text(
        "import sys\nfrom dataclasses import dataclass\nimport tyro\n\n\n@dataclass\nclass Args:\n"
        "    seed: int = 0\n    '''seed'''\n\n\ndef train(args):\n    print(__name__, args.seed, sys.argv[0])\n\n\n"
        "if __name__ == '__main__':\n    train(tyro.cli(Args))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mentorgym", "train", str(agent), "--seed", "3"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split(maxsplit=2) == ["__main__", "3", f"mentorgym train {agent}\n"]


@pytest.mark.parametrize("name", ["evaluate", "leaderboard", "run", "speed", "watch", "soak", "decide"])
def test_modules_that_others_call_run_as_programs(name: str):
    # Promised names: `python -m mentorgym.benchmarks.<name>`.
    path = ROOT / "benchmarks" / name
    source = (path / "__main__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8")
    assert source.rstrip().endswith('if __name__ == "__main__":\n    main()')


@pytest.mark.parametrize(
    "path", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_pages_call_commands_by_their_verbs_alone(path: str):
    text = (ROOT / path).read_text("utf-8")
    assert re.findall(r"python -m mentorgym\.(?:benchmarks|agents|mentors)\S*|python agents/\S+", text) == []
    # A line of a shell, or code in a sentence.
    called = set(re.findall(r"(?:^|`|\.venv/bin/)mentorgym ([a-z][a-z-]*)", text, re.MULTILINE))
    assert called <= VERBS.keys()
