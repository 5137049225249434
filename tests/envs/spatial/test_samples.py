"""Samples of a random policy: what they depend on, and that pictures are kept."""

import itertools
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mentorgym.envs.spatial import samples
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.relations import relation_of
from mentorgym.envs.spatial.rooms import ROOMS, TESTING, TRAINING
from mentorgym.envs.spatial.samples import Samples, arrangements, collect

pytestmark = pytest.mark.usefixtures("cache")


def told(arrangement: Arrangement) -> tuple:
    """All that it says, to be compared."""
    return (
        arrangement.room,
        arrangement.camera,
        arrangement.objects,
        arrangement.positions.tolist(),
        arrangement.yaws.tolist(),
    )


def first(count: int, *arguments) -> list[tuple]:
    return [told(each) for each in itertools.islice(arrangements(*arguments), count)]


def test_a_larger_set_begins_with_a_smaller_one_and_another_seed_gives_another():
    many = first(60, "val", 1)
    assert many[:20] == first(20, "val", 1)
    assert len({repr(each) for each in many}) == 60
    for other in (("val", 2), ("train", 1), ("test", 1), ("val", 1, "paper")):
        assert not {repr(each) for each in first(20, *other)} & {repr(each) for each in many}


def test_splits_have_their_rooms_and_cameras_of_the_kind():
    for split, names in (("train", TRAINING), ("val", TRAINING), ("test", TESTING)):
        for kind in ("close", "paper"):
            found = list(itertools.islice(arrangements(split, 0, kind), 60))
            assert {each.room for each in found} == set(names)
            assert all(each.camera in ROOMS[each.room].cameras[kind] for each in found)


def test_samples_are_drawn_when_they_are_asked_for(sketched: list):
    found = collect("train", 3, seed=5)
    assert not sketched
    arrangement, picture, example = next(found)
    assert sketched == [arrangement] and set(np.unique(picture.colours)) == set(arrangement.objects)
    assert example.relation == relation_of(arrangement, example.subject, example.referent)
    assert len(list(found)) == 2


def test_sets_are_the_same_samples_with_pictures_that_are_drawn_once(sketched: list):
    kept, given = Samples("test", 4, seed=7), list(collect("test", 4, seed=7))
    sketched.clear()
    assert [told(each) for each in kept.arrangements] == [told(each.arrangement) for each in given]
    assert kept.examples == [each.example for each in given] and len(kept) == 4
    pictures = kept.pictures()
    assert len(sketched) == 4 and pictures.dtype == np.uint8
    np.testing.assert_array_equal(pictures, [each.picture.colours for each in given])
    np.testing.assert_array_equal(Samples("test", 4, seed=7).pictures([2, 0]), pictures[[2, 0]])
    np.testing.assert_array_equal(kept[-1][0], pictures[3])
    assert kept[1:3][0][1] == kept.examples[1] and len(sketched) == 4
    with pytest.raises(IndexError):
        kept[4]


def test_files_that_are_not_whole_are_drawn_again(sketched: list):
    kept = Samples("val", 1, seed=11)
    picture = kept.pictures()[0]
    path = samples.picture_path(kept.arrangements[0])
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"no picture"):
        path.write_bytes(broken)
        np.testing.assert_array_equal(kept.pictures()[0], picture)
        assert path.read_bytes() == whole
    assert len(sketched) == 4 and not list(path.parent.glob("*.part"))


def test_any_number_may_ask_for_the_same_picture_at_once(sketched: list):
    kept = Samples("val", 2, seed=17)
    with ThreadPoolExecutor(8) as pool:
        pictures = list(pool.map(lambda turn: kept.pictures(), range(16)))
    assert all((each == pictures[0]).all() for each in pictures)
    assert not list(samples.picture_path(kept.arrangements[0]).parent.glob("*.part"))


def test_a_cache_that_cannot_be_written_to_is_no_error(sketched: list, tmp_path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MENTORGYM_CACHE", str(tmp_path / "file"))
    assert Samples("val", 2, seed=13).pictures().shape == (2, 224, 224, 3)


def test_the_default_sizes_are_those_of_the_paper():
    # Section 5 of RLS3: 500 samples to validate and 1,000 to test.
    assert (samples.SIZES["val"], samples.SIZES["test"]) == (500, 1000)
    assert len(Samples("val")) == 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dev", 1), "unknown split='dev'"),
        (("val", 1, 0, "far"), "unknown camera='far'"),
        (("val", 0), "count must be at least 1"),
        (("val", 1, -1), "seed must not be negative"),
    ],
)
def test_unfit_arguments_are_explained(arguments: tuple, message: str):
    for kind in (Samples, collect):
        with pytest.raises(ValueError, match=message):
            kind(*arguments)


def test_a_picture_is_that_of_the_renderer():
    from mentorgym.envs.spatial.picture import draw

    kept = Samples("val", 1)
    np.testing.assert_array_equal(kept[0][0], draw(kept.arrangements[0]).colours)


def test_a_picture_is_drawn_anew_when_what_draws_it_changes():
    folder = Path(samples.__file__).parent
    found, left = set(), {"picture"}
    while left:
        found.add(name := left.pop())
        source = (folder / f"{name}.py").read_text("utf-8")
        named = re.findall(
            r"from mentorgym\.envs\.spatial\.(\w+) import|from mentorgym\.envs\.spatial import (\w+)", source
        )
        left |= {one or other for one, other in named} - found
    assert {f"{name}.py" for name in found} == set(samples._DRAWN_BY)
