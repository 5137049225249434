"""Mentors by name: what each spec gives, and the one clear error where it gives nothing."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mentorgym import extras
from mentorgym.extras import import_extra, import_transformers, torchvision_fault
from mentorgym.mentors import Request, load_mentor
from mentorgym.mentors.load import WEIGHTS

PICTURE = np.zeros((8, 8, 3), np.uint8)


def ask(*action: float) -> Request:
    return Request(PICTURE, "<image>", 0, np.array(action, np.float32))


def test_the_expert_answers_with_the_action_that_the_request_carries():
    first, unknown, partly = load_mentor("expert")([ask(0.5, -0.25), ask(np.nan, np.nan), ask(np.nan, 1.0)])
    np.testing.assert_array_equal(first, np.array([0.5, -0.25], np.float32))
    assert unknown is None
    assert partly is None


class Parrot:
    """A mentor that says its word."""

    def __init__(self, word: str = "so"):
        self.word = word

    def __call__(self, requests):
        return [self.word for _ in requests]


def echo(requests, prefix: str = ""):
    return [prefix + request.prompt for request in requests]


def pair(requests, other):
    return [None for _ in requests]


class Mute:
    """Takes no requests."""

    def __call__(self):
        return []


def test_a_class_is_called_with_the_options_and_a_function_is_bound_to_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "own.mentors", sys.modules[__name__])
    monkeypatch.setitem(sys.modules, "own", sys.modules[__name__])
    assert load_mentor("own.mentors:Parrot", word="left")([ask(0)] * 2) == ["left", "left"]
    assert load_mentor("own.mentors:echo")([ask(0)]) == ["<image>"]
    assert load_mentor("own.mentors:echo", prefix=">")([ask(0)]) == [">" + "<image>"]
    for spec, options in {"echo": {"anchors": [["left"]]}, "Parrot": {"anchors": []}, "pair": {}, "Mute": {}}.items():
        with pytest.raises(TypeError, match="anchors|'other'|positional argument"):
            load_mentor(f"own.mentors:{spec}", **options)
    assert load_mentor("builtins:max")([[1], [2]]) == [2], "what does not tell its parameters is taken as it is"


@pytest.mark.parametrize(
    ("spec", "options", "error", "message"),
    [
        ("exprt", {}, ValueError, "did you mean 'expert'"),
        ("expert:now", {}, ValueError, "there is no module 'expert'"),
        ("", {}, ValueError, "unknown mentor ''"),
        ("clp:mine", {}, ValueError, "no module 'clp' on Python's path. did you mean 'clip'"),
        ("clp:folder/of/mine", {}, ValueError, "did you mean 'clip'"),
        ("no_such_package.mentors:ask", {}, ValueError, "no module 'no_such_package'"),
        ("json:no_such_thing", {}, ValueError, "json has no 'no_such_thing'"),
        ("json:__name__", {}, ValueError, "is a str, which cannot be called"),
        ("expert", {"device": "cpu"}, TypeError, "it has no options"),
        ("clip", {"anchros": [["left"]]}, TypeError, "did you mean 'anchors'"),
        ("clip", {}, TypeError, "needs the option 'anchors'"),
        ("vlm:no/such/folder", {}, ValueError, "no weights in no/such/folder: there is no such folder"),
        ("vlm:nobody-here/no-such-model", {}, ValueError, "cannot read the configuration of nobody-here/no-such-model"),
        ("http://127.0.0.1:1/v1", {"modle": "x"}, TypeError, "did you mean 'model'"),
        ("openclip", {"anchors": [["left"]]}, ValueError, "openclip needs a name"),
    ],
)
def test_what_cannot_be_loaded_is_one_clear_error(spec: str, options: dict, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        load_mentor(spec, **options)


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for spec in ("vlm:~/mine", "clip:~/mine", "openclip:local-dir:~/mine"):
        options = {} if spec.startswith("vlm") else {"anchors": [["left"]]}
        with pytest.raises((ValueError, ImportError), match=f"in {tmp_path}/mine|needs open_clip|local-dir:{tmp_path}"):
            load_mentor(spec, **options)


def test_an_error_within_ones_own_module_is_shown_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "needs_more.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        load_mentor("needs_more:mentor")


def test_a_missing_extra_names_what_to_install(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ImportError, match=r"this needs no_such_module: pip install .*\[vlm\]'"):
        import_extra("no_such_module", "vlm", "this")


def test_the_remedy_is_that_of_a_clone_or_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "lib" / "site-packages" / "mentorgym" / "extras.py"))
    assert extras.remedy("vlm") == "pip install 'mentorgym[vlm]'"
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / "pyproject.toml").touch()
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "clone" / "src" / "mentorgym" / "extras.py"))
    assert extras.remedy("vlm") == "pip install -e '.[vlm]' -c constraints.txt (in the folder clone)"


def test_a_torchvision_that_cannot_be_imported_is_named_with_the_remedy(tmp_path: Path, monkeypatch):
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    assert torchvision_fault() == "RuntimeError: operator torchvision::nms does not exist"
    with pytest.raises(ImportError, match=r"operator torchvision::nms does not exist.*pip uninstall torchvision"):
        import_transformers()
    with pytest.raises(ImportError, match="pip uninstall torchvision"):
        load_mentor("openclip:local-dir:folder", anchors=[["left"]])


def test_the_names_of_mentors_load_no_torch():
    code = "import sys, mentorgym.mentors.load; print(*sorted({'torch', 'transformers', 'httpx'} & sys.modules.keys()))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == []


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%b\nsize 9000000\n" % (b"0f" * 32)


@pytest.mark.parametrize("kind", ["clip", "vlm"])
@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.safetensors", lambda data: POINTER, "model.safetensors is a Git LFS pointer .*`git lfs pull`"),
        ("model.safetensors", lambda data: data[:-7], "model.safetensors is cut off: it has .* bytes: fetch it again"),
        ("model.safetensors", lambda data: b"", "model.safetensors is empty: download it again"),
        ("model.safetensors", lambda data: b"<!DOCTYPE html><html>", "model.safetensors is a web page"),
        ("config.json", lambda data: POINTER, "config.json is a Git LFS pointer"),
        ("config.json", lambda data: data[:40], "cannot read the configuration of"),
        ("tokenizer.json", lambda data: POINTER, "tokenizer.json is a Git LFS pointer"),
        ("tokenizer.json", lambda data: data[:99], "tokenizer|processor"),
    ],
)
def test_a_damaged_file_of_a_model_is_named_with_its_folder(
    tmp_path: Path, kind: str, file: str, content, message: str
):
    folder = tmp_path / "model"
    shutil.copytree(WEIGHTS / kind, folder)
    (folder / file).write_bytes(content((folder / file).read_bytes()))
    with pytest.raises((ValueError, ImportError), match=message) as raised:
        load_mentor(f"{kind}:{folder}", **({"anchors": [["left", "right"]]} if kind == "clip" else {}))
    assert str(folder) in str(raised.value)
