"""`mentorgym doctor`: what it finds, and when its exit code is 1."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mentorgym import doctor
from mentorgym.extras import remedy


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than two packages to look at: importing them all takes seconds."""
    kept = [package for package in doctor.PACKAGES if package.module in ("numpy", "tyro")]
    monkeypatch.setattr(doctor, "PACKAGES", (*kept, doctor.Package("no_such_module", "no-such", "vlm", "nothing")))


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, dict]]:
    code = 0
    try:
        doctor.main(["--json", *arguments])
    except SystemExit as end:
        code = end.code
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] == (code == 0)
    return code, {piece["name"]: piece for piece in told["pieces"]}


def test_a_missing_extra_is_no_failure_and_has_its_remedy(few, capsys: pytest.CaptureFixture[str]):
    code, pieces = found(capsys)
    assert code == 0
    assert pieces["numpy"]["state"] == "ok"
    assert pieces["numpy"]["detail"] == np.__version__
    assert pieces["no-such"]["state"] == "missing"
    assert pieces["no-such"]["remedy"] == remedy("vlm")


def test_a_core_package_that_cannot_be_imported_is(few, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "broken_core.py").write_text("print('hello')\nraise RuntimeError('wrong build\\nand more')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "PACKAGES", (doctor.Package("broken_core", "broken-core", "", "all"),))
    code, pieces = found(capsys)
    assert code == 1
    assert pieces["broken-core"]["state"] == "broken"
    assert pieces["broken-core"]["detail"] == "RuntimeError: wrong build"


def test_it_needs_none_of_what_the_other_verbs_stand_on(tmp_path: Path):
    for module in ("platformdirs", "rich", "torch", "tyro"):
        (tmp_path / f"{module}.py").write_text("raise ImportError('no such build')")
    code = "from mentorgym import cli, doctor; doctor.PACKAGES = doctor.PACKAGES[4:6]; cli.main(['doctor', '--json'])"
    surroundings = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=surroundings, capture_output=True, text=True)
    pieces = {piece["name"]: piece for piece in json.loads(done.stdout)["pieces"]}
    assert done.returncode == 1
    assert pieces["rich"]["detail"] == "ImportError: no such build"
    assert {name for name, piece in pieces.items() if piece["state"] == "broken"} == {"platformdirs", "rich", "cache"}


def test_a_broken_torchvision_breaks_what_imports_it(few, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for module in ("torchvision", "open_clip"):
        monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / f"{module}.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    names = ("torchvision", "open_clip")
    packages = tuple(doctor.Package(name, name, "openclip", "it") for name in names)
    monkeypatch.setattr(doctor, "PACKAGES", packages)
    code, pieces = found(capsys)
    assert code == 0
    for name in names:
        assert pieces[name]["state"] == "broken"
        assert "operator torchvision::nms does not exist" in pieces[name]["detail"]
        assert "pip uninstall torchvision" in pieces[name]["remedy"]


def test_folders_that_variables_name(few, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MENTORGYM_MAPS", str(tmp_path))
    monkeypatch.setenv("MENTORGYM_ROUTES", str(tmp_path / "nowhere"))
    monkeypatch.delenv("CARLA_ROOT", raising=False)
    monkeypatch.setenv("MENTORGYM_CACHE", __file__)
    code, pieces = found(capsys)
    assert code == 0
    states = [pieces[name]["state"] for name in ("MENTORGYM_MAPS", "MENTORGYM_ROUTES", "CARLA_ROOT", "cache")]
    assert states == ["ok", "broken", "missing", "broken"]


def test_our_weights_are_opened(few, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    weights = doctor.WEIGHTS
    monkeypatch.setattr(doctor, "WEIGHTS", tmp_path)
    for kind in ("clip", "vlm"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "config.json").write_text("{}")
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "clip" / "model.safetensors")
    assert found(capsys)[1]["weights/clip"]["state"] == "ok"
    assert found(capsys)[1]["weights/vlm"]["state"] == "missing"
    (tmp_path / "vlm" / "model.safetensors").write_bytes(b"not tensors at all")
    assert found(capsys)[1]["weights/vlm"]["state"] == "broken"
    monkeypatch.setattr(doctor, "WEIGHTS", weights)
    folders = [each.name for each in weights.iterdir() if each.is_dir()]
    assert {name for name in found(capsys)[1] if name.startswith("weights/")} == {f"weights/{name}" for name in folders}


def test_the_table_has_a_line_for_each_piece_and_its_remedy(few, capsys: pytest.CaptureFixture[str]):
    doctor.main([])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("missing  no-such") for line in lines)
    assert any(line.strip() == f"-> {remedy('vlm')}" for line in lines)
    assert [line for line in lines if not line.startswith(("ok ", "missing ", "broken ", " "))] == []


def test_every_extra_of_the_project_is_looked_at():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    # "spatial" is made of others.
    extras = project["optional-dependencies"].keys() - {"docs", "test", "peers", "spatial"}
    assert {package.extra for package in doctor.PACKAGES} == extras | {""}
    core = {dependency.split(">")[0] for dependency in project["dependencies"]}
    assert {package.distribution for package in doctor.PACKAGES if not package.extra} == core
    assert project["scripts"] == {"mentorgym": "mentorgym.cli:main"}
