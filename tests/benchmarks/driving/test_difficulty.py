"""Our fixed routes are about as hard as those that they stand for."""

import json

import pytest

from mentorgym.benchmarks.driving import difficulty
from mentorgym.envs.driving.map.town import load_town, packaged_towns
from mentorgym.envs.driving.task.routes import measure
from mentorgym.envs.driving.task.tasks import packaged_routes


def test_every_quartile_is_within_the_bar(monkeypatch, capsys):
    for variable in ("MENTORGYM_MAPS", "MENTORGYM_ROUTES", "CARLA_ROOT"):
        monkeypatch.delenv(variable, raising=False)
    difficulty.main(["--json"])
    entries = json.loads(capsys.readouterr().out)["entries"]
    assert len(entries) == 2 * 3 + 7
    assert all(entry["near"] and entry["source"].endswith("as stated") for entry in entries)


def test_the_stated_figures_are_those_of_the_real_routes(maps_folder, routes_folder):
    real = [entry for entry in difficulty.compare() if "as stated" not in entry["source"]]
    assert len(real) == 2 * 3 + 7
    assert all(entry["near"] for entry in real)
    for town in ("Suburb", "Village"):
        source, figures = difficulty._real_nocrash(town)
        assert "planned on its map" in source
        for own, stated in zip(figures, difficulty.write_routes.NOCRASH[town], strict=True):
            assert own == pytest.approx(stated[1:4], abs=0.5)
    for town, sets in difficulty.write_routes.LEADERBOARD.items():
        for (_, lengths), (_, stated) in zip(difficulty._real_lengths(town), sets, strict=True):
            assert lengths == pytest.approx(stated[1:4], abs=1.0)


def test_what_is_off_is_named(monkeypatch, capsys):
    monkeypatch.setattr(difficulty, "TOLERANCE", 1e-6)
    with pytest.raises(SystemExit, match="Suburb metres.* choose routes anew with task.write_routes"):
        difficulty.main([])
    assert "off" in capsys.readouterr().out


def test_the_routes_of_a_file_are_listed_with_their_long_legs(tmp_path, capsys):
    town = packaged_towns()["Village"]
    file = town.with_name("nocrash_Village.csv")
    lines = file.read_text("utf-8").splitlines()[:4]
    (tmp_path / "some.csv").write_text("\n".join([*lines, "off,0,0,0,9999,0,0"]))
    difficulty.main(["--route-file", str(tmp_path / "some.csv"), "--town", "Village", "--json"])
    entries = json.loads(capsys.readouterr().out)["routes"]
    routes = packaged_routes(load_town("Village"), town) or []
    assert [entry["route"] for entry in entries] == [*(route.name for route in routes[:3]), "off"]
    assert "some.csv, line 5" in entries[3]["problem"]
    for entry, route in zip(entries, routes[:3], strict=False):
        assert entry["metres"] == pytest.approx(measure(load_town("Village"), route.waypoints).metres, abs=0.1)
        long = entry["metres"] > 1.5 * entry["line"] + 20
        assert len(entry["long_legs"]) == long


def test_a_route_file_needs_a_town():
    with pytest.raises(SystemExit, match="--route-file and --town go together"):
        difficulty.main(["--town", "Village"])
