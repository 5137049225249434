"""The comparison of pictures: its measure against scikit-image's, its files of meshes, and what it reports."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentorgym.benchmarks.speed import pictures as speed_pictures
from mentorgym.envs.rendering.meshes import sphere
from mentorgym.envs.spatial.models import smooth


@given(st.integers(0, 2**32 - 1), st.booleans(), st.floats(0, 100))
@settings(max_examples=15, deadline=None)
def test_similarity_is_that_of_scikit_image(seed: int, colour: bool, noise: float):
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(seed)
    shape = (24, 31, 3) if colour else (24, 31)
    one = rng.integers(0, 256, shape).astype(np.uint8)
    other = np.clip(one + rng.normal(0, noise, shape), 0, 255).astype(np.uint8)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "win_size": 11}
    _, each = metrics.structural_similarity(one, other, channel_axis=-1 if colour else None, full=True, **options)
    assert speed_pictures.ssim(one, other) == pytest.approx(each[5:-5, 5:-5].mean(), abs=1e-6)
    assert speed_pictures.ssim(one, one) == 1


def test_a_fit_undoes_another_light():
    colours = np.random.default_rng(0).integers(0, 256, (9, 9, 3)).astype(np.uint8)
    darker = (colours * 0.5 + (10, 20, 30)).astype(np.uint8)
    assert np.abs(speed_pictures.fitted(darker, colours).astype(int) - colours).max() <= 2


def test_blocks_become_their_means():
    fine = np.zeros((8, 8, 3), np.uint8)
    fine[:4, 4:] = 200
    fine[0, 4] = 40
    assert speed_pictures.reduced(fine)[..., 0].tolist() == [[0, 190], [0, 0]]


def test_meshes_are_written_with_their_faces_outward(tmp_path: Path):
    ball = smooth(sphere((2, 2, 2), (0, 0, 0), (1, 0, 0)))
    corners = ball.mesh.vertices[ball.mesh.faces]
    corners[::2] = corners[::2, ::-1]
    speed_pictures.write_obj(tmp_path / "ball.obj", corners, ball.normals)
    lines = [line.split() for line in (tmp_path / "ball.obj").read_text().splitlines()]
    points = np.array([line[1:] for line in lines if line[0] == "v"], float)
    faces = np.array([[int(corner.split("//")[0]) for corner in line[1:]] for line in lines if line[0] == "f"]) - 1
    a, b, c = points[faces].transpose(1, 0, 2)
    assert len(faces) == len(corners)
    assert ((np.cross(b - a, c - a) * (a + b + c)).sum(1) > 0).all()


def test_nothing_is_printed_while_it_is_quiet(capfd: pytest.CaptureFixture[str]):
    with speed_pictures.quiet():
        import os

        os.write(1, b"noise")
    print("sound")
    assert capfd.readouterr().out == "sound\n"


def test_a_table_has_a_column_for_each_renderer():
    kinds = [f"{what} {colour}" for what in ("common", "fitted", "own") for colour in ("grey", "colour")]
    figures = {
        "pictures": 8,
        "repeats": 3,
        "ssim": {"ours": dict.fromkeys(kinds, 0.99), "pybullet": dict.fromkeys(kinds, 0.8)},
        "pictures_per_s": {"ours": 60.0, "pybullet": 30.0},
        "pictures_per_cpu_s": {"ours": 61.0, "pybullet": 31.0},
    }
    lines = speed_pictures.table(figures)
    assert "| pictures per second by the clock | 60 | 30 |" in lines
    assert sum("| 0.990 | 0.800 |" in line for line in lines) == 6
    del figures["ssim"]["pybullet"]
    assert "| pictures per second by the clock | 60 |" in speed_pictures.table(figures)
