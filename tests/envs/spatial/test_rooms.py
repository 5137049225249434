"""The rooms: nothing floats, nothing sticks out, and cameras see what things are put on."""

import numpy as np
import pytest

from mentorgym.envs.spatial.rooms import KINDS, ROOMS, SIDE, TESTING, TRAINING, Piece, Surface

names = pytest.mark.parametrize("name", list(ROOMS))


def carries(piece: Piece, surface: Surface) -> bool:
    """Whether all of the surface is the upper side of the piece."""
    if abs(piece.centre[2] + piece.size[2] / 2 - surface.centre[2]) > 1e-6:
        return False
    away = np.abs(np.subtract(piece.centre[:2], surface.centre[:2]))
    half, needed = np.array(piece.size[:2]) / 2 + 1e-6, np.array(surface.size) / 2
    if piece.shape == "box":
        return bool((away + needed <= half).all())
    reach = needed[0] if surface.round else np.hypot(*needed)
    return bool(np.hypot(*away) + reach <= half[0])


@names
def test_each_surface_lies_on_a_piece_or_on_the_floor(name: str):
    room = ROOMS[name]
    for surface in room.surfaces:
        assert surface.centre[2] == 0 or any(carries(piece, surface) for piece in room.pieces), surface.name
        assert not surface.round or surface.size[0] == surface.size[1]
    assert len({surface.name for surface in room.surfaces}) == len(room.surfaces)
    assert len({round(surface.centre[2], 1) for surface in room.surfaces}) >= 3, "above and below need heights"


@names
def test_furniture_and_surfaces_are_within_the_walls(name: str):
    room = ROOMS[name]
    half = np.array(room.size) / 2
    for piece in room.pieces:
        assert (np.abs(np.subtract(piece.centre, (0, 0, half[2]))) + np.array(piece.size) / 2 <= half + 1e-6).all()
        assert piece.shape in ("box", "cylinder") and min(piece.size) > 0
        assert piece.shape == "box" or piece.size[0] == piece.size[1]
    for surface in room.surfaces:
        assert (np.abs(surface.centre[:2]) + np.array(surface.size) / 2 <= half[:2] + 1e-6).all()
    for colour in (room.floor, room.wall, *(piece.colour for piece in room.pieces)):
        assert 0 <= min(colour) and max(colour) <= 1


@names
@pytest.mark.parametrize("kind", KINDS)
def test_cameras_stand_free_in_the_room_and_see_surfaces(name: str, kind: str):
    room = ROOMS[name]
    assert len(room.cameras[kind]) >= 3
    for camera in room.cameras[kind]:
        assert (camera.height, camera.width) == (SIDE, SIDE)
        place = np.array(camera.position)
        assert (np.abs(place[:2]) < np.array(room.size[:2]) / 2 - 0.1).all() and 0.5 < place[2] < room.size[2]
        for piece in room.pieces:
            assert (np.abs(place - piece.centre) > np.array(piece.size) / 2 + 0.05).any(), "in the furniture"
        rays = np.array([surface.centre for surface in room.surfaces]) - place
        ahead, right, down = camera.axes() @ rays.T
        seen = (ahead > 0) & (np.maximum(np.abs(right), np.abs(down)) < ahead * np.tan(camera.field / 2))
        if kind == "close":
            # A table's middle may be just out of the picture of which its near half is the subject.
            assert (np.linalg.norm(rays, axis=1) < 2.4).any()
        else:
            assert seen.sum() >= 3


def test_no_test_room_is_like_a_training_room():
    assert len(TRAINING) == 5 and len(TESTING) == 3 and set(TRAINING) | set(TESTING) == set(ROOMS)
    for tested in TESTING:
        for trained in TRAINING:
            one, other = ROOMS[tested], ROOMS[trained]
            assert one.size != other.size and one.floor != other.floor and one.wall != other.wall
            assert not {piece for piece in one.pieces} & {piece for piece in other.pieces}
            poses = [{camera.position for kind in KINDS for camera in room.cameras[kind]} for room in (one, other)]
            assert not poses[0] & poses[1]
