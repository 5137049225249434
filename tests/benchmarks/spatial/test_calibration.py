"""The calibration command: its figures on policies whose figures are known."""

import json
from pathlib import Path

import numpy as np
import pytest

from mentorgym.benchmarks.spatial import calibration as spatial_calibration
from mentorgym.benchmarks.spatial.calibration import CELLS, entropy, measure, where
from mentorgym.envs.spatial.rooms import ROOMS
from mentorgym.envs.spatial.vector import SpatialVectorEnv

SHORT = ["--num-envs", "24", "--steps", "12"]


def figures(capsys: pytest.CaptureFixture, *arguments: str) -> dict:
    spatial_calibration.main([*SHORT, "--json", *arguments])
    (line,) = capsys.readouterr().out.splitlines()
    return json.loads(line)


def test_entropy_is_that_of_the_shares():
    assert entropy([5, 5, 5, 5]) == 2.0 and entropy([7]) == 0.0 and entropy([]) == 0.0
    assert entropy([1, 3, 0]) == pytest.approx(2 - 0.75 * np.log2(3))


def test_a_place_is_told_by_surface_and_cell():
    bed = ROOMS["bedroom"].surfaces[0]
    corner = np.array(bed.centre) - (*np.array(bed.size) / 2, 0.0)
    assert where("bedroom", corner) == (0, 0, 0)
    assert where("bedroom", corner + (*bed.size, 0.0)) == (0, CELLS - 1, CELLS - 1)
    assert where("bedroom", np.array(bed.centre)) == (0, CELLS // 2, CELLS // 2)
    with pytest.raises(ValueError, match="nothing carries"):
        where("bedroom", np.array([0.0, 0.0, 1.9]))


def test_known_policies_have_their_figures():
    envs = SpatialVectorEnv(32)

    def constant(*action: float):
        return measure(envs, lambda seen: np.tile(action, (len(seen), 1)), 12, 0)

    still = constant(0.0, 0.0, 0.0)
    assert still["valid"] == still["displacement"] == still["place_bits"] == 0 and still["reasons"] == {"still": 1.0}
    creeping = constant(0.1, 0.0, 0.0)
    assert creeping["displacement"] == pytest.approx(0.028) and creeping["valid"] > 0.6
    assert creeping["valid"] + sum(creeping["reasons"].values()) == pytest.approx(1)
    assert min(creeping["rooms"].values()) <= creeping["valid"] <= max(creeping["rooms"].values())
    assert 4 < creeping["place_bits"] < 6 and 3 < creeping["surface_bits"] < 5.5


def test_the_command_compares_runs_with_the_random_policy(monkeypatch, capsys, tmp_path: Path):
    policies = {"lazy": lambda seen: np.zeros((len(seen), 3)), "small": lambda seen: np.full((len(seen), 3), 0.1)}
    monkeypatch.setattr(spatial_calibration, "load", lambda folder, device: policies[folder.name])
    written = tmp_path / "calibration.md"
    told = figures(capsys, "--run", "lazy", "small", "--table", str(written))
    chance, lazy, small = told["entries"]
    assert (chance["policy"], lazy["policy"], small["policy"]) == ("random", "lazy", "small")
    assert lazy["ratios"] == dict.fromkeys(spatial_calibration.FIGURES, 0)
    assert 0 < small["ratios"]["displacement"] < 0.5 < small["ratios"]["place_bits"] < 1.1
    assert small["ratios"]["valid"] == pytest.approx(small["valid"] / chance["valid"])
    lines = [line for line in written.read_text("utf-8").splitlines() if line.startswith("|")]
    assert len(lines) == 5 and len({line.count("|") for line in lines}) == 1
    assert figures(capsys)["entries"] == [chance], "the same seed gives the same figures"


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--split", "tset"], "did you mean 'test'"),
        (["--camera", "far"], "unknown camera='far'"),
        (["--steps", "0"], "at least 1 step"),
        (["--run", "nowhere"], "nowhere is not the folder of a training run"),
    ],
)
def test_mistakes_are_named(arguments: list[str], told: str):
    with pytest.raises(SystemExit, match=told):
        spatial_calibration.main([*SHORT, *arguments])
