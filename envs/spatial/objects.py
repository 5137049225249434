"""The nine objects: upright solids of revolution, some with a handle.

Names are those of RLS3's captions (section 4.3, figures 3 and 4); the purple bowl and the bottle are seen in its
pictures only. Sizes are ours. An object's origin is the middle of its base; x is where it faces at yaw 0. Metres.
"""

from dataclasses import dataclass

Colour = tuple[float, float, float]
"""Linear red, green and blue, 0 to 1."""


@dataclass(frozen=True)
class Lug:
    """What sticks out of a solid of revolution, a handle or a beak: an upright box that turns with the object."""

    x: tuple[float, float]
    y: tuple[float, float]
    z: tuple[float, float]
    colour: Colour


@dataclass(frozen=True)
class Object:
    """`profile`: heights above the base, rising from 0, and the radius at each."""

    name: str
    colour: Colour
    profile: tuple[tuple[float, float], ...]
    lugs: tuple[Lug, ...] = ()
    open: bool = False
    """whether one looks into it from above"""
    bands: tuple[tuple[float, float, Colour], ...] = ()
    """from and to what height another colour covers it"""

    @property
    def height(self) -> float:
        """From the base to the top, lugs included."""
        return max(self.profile[-1][0], *(lug.z[1] for lug in self.lugs), 0.0)

    @property
    def radius(self) -> float:
        """The largest distance of the solid of revolution from its axis."""
        return max(radius for _, radius in self.profile)


_GREEN = (0.06, 0.42, 0.13)
_STEEL = (0.55, 0.56, 0.58)
_DARK = (0.03, 0.03, 0.035)

OBJECTS: tuple[Object, ...] = (
    Object(
        "green cup",
        _GREEN,
        ((0.0, 0.055), (0.05, 0.075), (0.11, 0.062), (0.15, 0.07)),
        (
            Lug((0.06, 0.105), (-0.018, 0.018), (0.11, 0.15), _GREEN),
            Lug((-0.125, -0.06), (-0.011, 0.011), (0.035, 0.125), _GREEN),
        ),
        open=True,
    ),
    Object(
        "small pot",
        _STEEL,
        ((0.0, 0.085), (0.09, 0.09)),
        (Lug((0.085, 0.25), (-0.013, 0.013), (0.065, 0.085), _DARK),),
        open=True,
    ),
    Object("purple bowl", (0.27, 0.06, 0.42), ((0.0, 0.045), (0.03, 0.085), (0.075, 0.105)), open=True),
    Object("yellow bowl", (0.85, 0.6, 0.04), ((0.0, 0.045), (0.03, 0.085), (0.075, 0.105)), open=True),
    Object("plate", (0.8, 0.16, 0.03), ((0.0, 0.08), (0.012, 0.11), (0.024, 0.135)), open=True),
    Object(
        "vase",
        (0.05, 0.16, 0.62),
        ((0.0, 0.05), (0.08, 0.085), (0.15, 0.075), (0.21, 0.035), (0.25, 0.032), (0.27, 0.048)),
    ),
    Object(
        "bottle",
        (0.05, 0.012, 0.02),
        ((0.0, 0.04), (0.18, 0.04), (0.23, 0.016), (0.3, 0.015)),
        bands=((0.05, 0.13, (0.75, 0.7, 0.55)), (0.25, 0.3, (0.35, 0.02, 0.03))),
    ),
    Object(
        "blender",
        (0.62, 0.72, 0.75),
        ((0.0, 0.085), (0.11, 0.075), (0.12, 0.06), (0.32, 0.085), (0.34, 0.08), (0.36, 0.03)),
        (Lug((-0.135, -0.07), (-0.012, 0.012), (0.17, 0.3), _DARK),),
        bands=((0.0, 0.115, _DARK), (0.32, 0.36, _DARK)),
    ),
    Object(
        "bird sculpture",
        (0.8, 0.78, 0.72),
        (
            (0.0, 0.05),
            (0.02, 0.05),
            (0.025, 0.012),
            (0.07, 0.012),
            (0.09, 0.05),
            (0.13, 0.06),
            (0.17, 0.035),
            (0.2, 0.04),
            (0.23, 0.02),
        ),
        (
            Lug((0.03, 0.085), (-0.008, 0.008), (0.195, 0.21), (0.7, 0.35, 0.03)),
            Lug((-0.14, -0.04), (-0.03, 0.03), (0.11, 0.13), (0.8, 0.78, 0.72)),
        ),
        bands=((0.0, 0.02, (0.12, 0.08, 0.05)),),
    ),
)

NAMES: tuple[str, ...] = tuple(each.name for each in OBJECTS)
"""The objects' names, as captions have them, in the order of their indices."""
