"""How fast rooms are drawn, and how well beside pybullet's TinyRenderer: `mentorgym speed pictures`.

Both draw the same rooms, objects and cameras, 224 x 224 with shadows, colours without textures, and nothing that one of
them has drawn before. What either is compared with is a picture of 16 rays in each pixel:

- of our own scene. Its light is not pybullet's, so that pybullet's colours are also fitted to it first, each channel by
  the best factor and offset, picture by picture;
- of its own, which says how well edges and small things are drawn, whatever the light.
"""

import contextlib
import functools
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mentorgym.benchmarks.harness.command import progress_console, user_input
from mentorgym.benchmarks.harness.tables import markdown_lines
from mentorgym.benchmarks.speed.timing import TimingFlags, alternate, keep_to_cores, load, require_counts
from mentorgym.envs.rendering.render import Camera
from mentorgym.envs.spatial import models, picture
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.models import Model
from mentorgym.envs.spatial.rooms import ROOMS, SIDE
from mentorgym.envs.spatial.vector import SpatialVectorEnv
from mentorgym.extras import import_extra

TITLE = "Speed of pictures"

FINE = 4
"""Reference pictures have FINE x FINE rays in each pixel."""


@dataclass
class Args(TimingFlags):
    """Time pictures of the spatial environment."""

    pictures: int = 8
    """arrangements that are drawn"""
    peer: bool = True
    """time pybullet too"""


def ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Structural similarity of two pictures uint8 [H, W] or [H, W, C], the mean over pixels and channels.

    Wang et al., "Image quality assessment: from error visibility to structural similarity" (2004), equation 13, with
    its Gaussian window of 11 x 11 and standard deviation 1.5, where the window lies within the picture.
    """
    window = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window /= window.sum()

    def mean(values: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            values = np.lib.stride_tricks.sliding_window_view(values, 11, axis) @ window
        return values

    x, y = one.astype(np.float64), other.astype(np.float64)
    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y, both = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2, mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    means = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return float((means * (2 * both + c2) / (var_x + var_y + c2)).mean())


def grey(colours: np.ndarray) -> np.ndarray:
    """Luma (ITU-R BT.601) of colours uint8 [H, W, 3], uint8 [H, W]."""
    return (colours @ np.array([0.299, 0.587, 0.114]) + 0.5).astype(np.uint8)


def reduced(colours: np.ndarray) -> np.ndarray:
    """The means of blocks of FINE x FINE pixels, uint8."""
    height, width, _ = colours.shape
    blocks = colours.reshape(height // FINE, FINE, width // FINE, FINE, 3)
    return (blocks.mean((1, 3)) + 0.5).astype(np.uint8)


def fitted(colours: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Colours uint8 with each channel's factor and offset such that they are nearest to the reference."""
    channels = [
        np.polyval(np.polyfit(colours[..., k].ravel(), reference[..., k].ravel(), 1), colours[..., k]) for k in range(3)
    ]
    return (np.clip(np.stack(channels, -1), 0, 255) + 0.5).astype(np.uint8)


def plain(model: Model) -> Model:
    """The model without textures."""
    return model._replace(mesh=model.mesh._replace(texture=np.zeros_like(model.mesh.texture)))


class Ours:
    """`picture.draw`, in rooms without textures."""

    def __init__(self) -> None:
        self.grounds: dict[tuple[str, Camera, int], picture.Ground] = {}

    def draw(self, arrangement: Arrangement, size: int = SIDE, rays_per_edge: int = 4) -> np.ndarray:
        """Colours uint8 [size, size, 3]."""
        camera = replace(arrangement.camera, height=size, width=size)
        key = arrangement.room, camera, rays_per_edge
        if key not in self.grounds:
            room = ROOMS[arrangement.room]
            model = plain(models.room_model(room, camera.position))
            self.grounds[key] = picture.ground(model, picture.lamp(room), camera, rays_per_edge)
        return picture.draw_on(self.grounds[key], arrangement).colours


class TinyRenderer:
    """The same rooms and objects in pybullet, one world for each room and camera position.

    Raises UsageError, naming the extra, without pybullet.
    """

    def __init__(self, folder: Path) -> None:
        with user_input("--no-peer does without: "), quiet():
            self.bullet: ModuleType = import_extra("pybullet", "peers", "comparing pictures")
        self.folder = folder
        self.worlds: dict[tuple[str, tuple[float, float, float]], tuple[int, list[list[int]]]] = {}

    def _bodies(self, world: int, model: Model, name: str) -> list[int]:
        """A body for each of the model's colours."""
        mesh, shapes = model.mesh, []
        colours, which = np.unique(mesh.colours, axis=0, return_inverse=True)
        for k, colour in enumerate(colours):
            path = self.folder / f"{name}-{k}.obj"
            chosen = np.flatnonzero(which.ravel() == k)
            write_obj(path, mesh.vertices[mesh.faces[chosen]], model.normals[chosen])
            shown = (np.clip(colour, 0, 1) ** (1 / 2.2)).tolist()
            shapes.append((str(path), [*shown, 1.0]))
        b = self.bullet
        return [
            b.createMultiBody(
                baseVisualShapeIndex=b.createVisualShape(
                    b.GEOM_MESH, fileName=path, rgbaColor=colour, specularColor=[0, 0, 0], physicsClientId=world
                ),
                physicsClientId=world,
            )
            for path, colour in shapes
        ]

    def draw(self, arrangement: Arrangement, size: int = SIDE) -> np.ndarray:
        """Colours uint8 [size, size, 3]."""
        b, room = self.bullet, ROOMS[arrangement.room]
        key = arrangement.room, arrangement.camera.position
        if key not in self.worlds:
            world = b.connect(b.DIRECT)
            name = f"{len(self.worlds)}"
            self._bodies(world, models.room_model(room, arrangement.camera.position), f"room-{name}")
            bodies = [
                self._bodies(world, models.object_model(index), f"object-{name}-{index}")
                for index in range(len(models.OBJECTS))
            ]
            self.worlds[key] = world, bodies
        world, bodies = self.worlds[key]
        for index, parts in enumerate(bodies):
            if index in arrangement.objects:
                place = arrangement.objects.index(index)
                position, yaw = arrangement.positions[place].tolist(), float(arrangement.yaws[place])
            else:
                position, yaw = [0.0, 0.0, -50.0], 0.0
            turn = b.getQuaternionFromEuler([0, 0, yaw])
            for part in parts:
                b.resetBasePositionAndOrientation(part, position, turn, physicsClientId=world)
        camera = arrangement.camera
        ahead, _, down = camera.axes().astype(float)
        eye = np.array(camera.position)
        view = b.computeViewMatrix(eye.tolist(), (eye + ahead).tolist(), (-down).tolist())
        projection = b.computeProjectionMatrixFOV(float(np.degrees(camera.field)), 1.0, 0.05, 30.0)
        # Its light stands in a direction from the origin. The lamp's own place covers surfaces with false shadows; with
        # this one its pictures are more like the reference.
        lamp = np.array(picture.lamp(room).position) - np.array(arrangement.positions).mean(0)
        _, _, colours, _, _ = b.getCameraImage(
            size,
            size,
            view,
            projection,
            lightDirection=lamp.tolist(),
            lightDistance=float(np.linalg.norm(lamp)),
            lightAmbientCoeff=0.55,
            lightDiffuseCoeff=0.45,
            lightSpecularCoeff=0.0,
            shadow=1,
            renderer=b.ER_TINY_RENDERER,
            flags=b.ER_NO_SEGMENTATION_MASK,
            physicsClientId=world,
        )
        return np.asarray(colours, np.uint8).reshape(size, size, 4)[..., :3]

    def close(self) -> None:
        """Ends all worlds."""
        for world, _ in self.worlds.values():
            self.bullet.disconnect(world)


def write_obj(path: Path, corners: np.ndarray, normals: np.ndarray) -> None:
    """A Wavefront file of faces with corners and normals [F, 3, 3], each seen from the side of its normals."""
    front = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    backward = (front * normals.mean(1)).sum(1) < 0
    corners, normals = corners.copy(), normals.copy()
    corners[backward], normals[backward] = corners[backward, ::-1], normals[backward, ::-1]
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in corners.reshape(-1, 3)]
    lines += [f"vn {x:.4f} {y:.4f} {z:.4f}" for x, y, z in normals.reshape(-1, 3)]
    for k in range(1, 3 * len(corners), 3):
        lines.append(f"f {k}//{k} {k + 1}//{k + 1} {k + 2}//{k + 2}")
    path.write_text("\n".join([*lines, ""]))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing reaches standard output, not even from C."""
    sys.stdout.flush()
    output = os.dup(1)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            yield
    finally:
        os.dup2(output, 1)
        os.close(output)


def arrangements(count: int) -> list[Arrangement]:
    """One for each of `count` cameras, from all rooms in turn, seen from close by."""
    by_camera: dict[tuple[str, Camera], Arrangement] = {}
    for split in ("val", "test"):
        envs = SpatialVectorEnv(200, split=split)
        envs.reset(seed=0)
        for row in range(envs.num_envs):
            arrangement = envs.arrangement(row)
            by_camera.setdefault((arrangement.room, arrangement.camera), arrangement)
    by_room = [[each for (name, _), each in by_camera.items() if name == room] for room in ROOMS]
    return [each for turn in zip(*by_room, strict=False) for each in turn][:count]


def moved(arrangement: Arrangement, step: int) -> Arrangement:
    """The arrangement with its objects a little elsewhere, so that nothing is drawn twice."""
    shift = 0.02 * np.random.default_rng(step).uniform(-1, 1, (len(arrangement.objects), 3)) * (1, 1, 0)
    return replace(arrangement, positions=arrangement.positions + shift, yaws=arrangement.yaws + 0.1 * step)


def rates(
    draw: Callable[[Arrangement], Any], chosen: list[Arrangement], seconds: float, steps: Iterator[int]
) -> tuple[float, float]:
    """Pictures per second, by the clock and of the processor's time, over at least `seconds` of the latter.

    `steps` go on from one call to the next, so that nothing is drawn twice.
    """
    drawn, clock, processor = 0, time.perf_counter(), time.process_time()
    while (busy := time.process_time() - processor) < seconds:
        step = next(steps)
        draw(moved(chosen[step % len(chosen)], step))
        drawn += 1
    return drawn / (time.perf_counter() - clock), drawn / busy


def measure(args: Args) -> dict[str, Any]:
    """Draw arrangements with either, and time both in alternating runs."""
    require_counts(pictures=args.pictures, repeats=args.repeats)
    keep_to_cores(1)
    with user_input():
        chosen, ours = arrangements(args.pictures), Ours()
        ours.draw(chosen[0])
    figures: dict[str, Any] = {"pictures": len(chosen), "repeats": args.repeats, "load": load()}
    with tempfile.TemporaryDirectory() as folder:
        renderers: dict[str, Any] = {"ours": ours}
        if args.peer:
            renderers["pybullet"] = TinyRenderer(Path(folder))
        likeness: dict[str, list[tuple[float, ...]]] = {}
        for number, arrangement in enumerate(chosen):
            progress_console.print(f"picture {number + 1} of {len(chosen)}")
            reference = reduced(Ours().draw(arrangement, FINE * SIDE, 1))
            for name, renderer in renderers.items():
                drawn = renderer.draw(arrangement)
                own = reference if name == "ours" else reduced(renderer.draw(arrangement, FINE * SIDE))
                pairs = [(drawn, reference), (fitted(drawn, reference), reference), (drawn, own)]
                likeness.setdefault(name, []).append(
                    tuple(ssim(*(grey(each) if flat else each for each in pair)) for pair in pairs for flat in (1, 0))
                )
        kinds = [f"{what} {colour}" for what in ("common", "fitted", "own") for colour in ("grey", "colour")]
        figures["ssim"] = {
            name: dict(zip(kinds, np.mean(values, 0).tolist(), strict=True)) for name, values in likeness.items()
        }
        ways = {
            name: functools.partial(rates, renderer.draw, chosen, args.seconds, itertools.count())
            for name, renderer in renderers.items()
        }
        every = alternate(ways, args.repeats)
        for place, name in enumerate(("pictures_per_s", "pictures_per_cpu_s")):
            figures[name] = {each: statistics.median(run[place] for run in runs) for each, runs in every.items()}
        if args.peer:
            renderers["pybullet"].close()
    return figures


def table(figures: dict[str, Any]) -> list[str]:
    """The figures as lines of Markdown."""
    names = list(figures["ssim"])
    known = figures.get("load") is not None
    load = f"; {figures['load']:.1f} processes were running when it began" if known else ""
    rows = [
        ("pictures per second of the processor", figures["pictures_per_cpu_s"], ".0f"),
        ("pictures per second by the clock", figures["pictures_per_s"], ".0f"),
    ]
    texts = {
        "common": f"SSIM to {FINE * FINE} rays a pixel of our scene",
        "fitted": "the same, colours fitted to it",
        "own": f"SSIM to {FINE * FINE} rays a pixel of its own scene",
    }
    for what, text in texts.items():
        for colour in ("grey", "colour"):
            kind = f"{what} {colour}"
            rows.append((f"{text}, {colour}", {name: figures["ssim"][name][kind] for name in names}, ".3f"))
    header = ["", *({"ours": "ours", "pybullet": "pybullet, TinyRenderer"}[name] for name in names)]
    cells = [[text, *(format(values[name], digits) for name in names)] for text, values, digits in rows]
    return [
        f"`UnitySpatial-v0`, {figures['pictures']} arrangements from as many close cameras, {SIDE} x {SIDE}, shadows, "
        f"smooth normals, on one core; medians of {figures['repeats']} alternating runs{load}.",
        "",
        *markdown_lines(header, cells),
    ]
