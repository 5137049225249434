"""Our fixed routes are about as hard as those that they stand for."""

import json

import pytest

from mentorgym.benchmarks.driving import difficulty


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
