"""The towns of our own, declared; a further one is a `Town` more in `TOWNS`."""

import math

from mentorgym.envs.driving.map.towns.writer import Bend, Node, Street, Town

SUBURB = Town(
    name="Suburb",
    lanes={"driving": 3.8, "shoulder": 0.4, "sidewalk": 2.5},
    nodes={
        # The ring, counter-clockwise from the south-west; its north side lies on a low hill.
        "southwest": Node(140, 0),
        "southeast": Node(275, 0),
        "east": Node(420, 135),
        "northeast": Node(420, 245),
        "hill east": Node(265, 340, z=4),
        "hill west": Node(105, 340, z=4),
        "west": Node(0, 175),
        "orchard": Node(0, 85),
        # Inside the ring.
        "church": Node(125, 175),
        "market": Node(275, 135),
        "school": Node(140, 85),
        "meadow": Node(275, 66),
    },
    streets=[
        Street("South Road", "southwest", "southeast", 35, "main"),
        Street("River Road", "southeast", "east", 35, "double", (Bend(420, 0, 62, 0.2),)),
        Street("East Road", "east", "northeast", 35, "main"),
        Street("East Road", "northeast", "hill east", 30, "main", (Bend(420, 340, 34, 0.2),)),
        Street("Hill Road", "hill east", "hill west", 30, "quiet", (Bend(185, 354, 180),)),
        Street("Mill Road", "hill west", "west", 30, "quiet", (Bend(0, 340, 48, 0.25),)),
        Street("West Road", "west", "orchard", 30, "main"),
        Street("Orchard Road", "orchard", "southwest", 30, "quiet", (Bend(0, 40, 30), Bend(40, 0, 30))),
        Street("High Street", "west", "church", 25, "main"),
        Street("High Street", "church", "market", 25, "double", (Bend(172, 175, 45, 0.2), Bend(228, 135, 45, 0.2))),
        Street("High Street", "market", "east", 25, "main"),
        Street("Church Lane", "church", "hill west", 25, "quiet", (Bend(125, 235, 80), Bend(105, 290, 80))),
        Street("Market Street", "market", "meadow", 25, "main"),
        Street("Market Street", "meadow", "southeast", 25, "main"),
        Street("School Lane", "school", "southwest", 25, "quiet"),
        Street("Orchard Lane", "school", "orchard", 25, "quiet", (Bend(70, 100, 90),)),
        Street("Meadow Lane", "school", "meadow", 25, "quiet", (Bend(180, 85, 60), Bend(235, 66, 60))),
        Street("The Crescent", "hill east", "northeast", 25, "quiet", (Bend(265, 245, 55, 0.2),)),
    ],
)

VILLAGE = Town(
    name="Village",
    lanes={"driving": 3.5, "shoulder": 0.4, "sidewalk": 2.0},
    nodes={
        # The ring road, counter-clockwise from the south.
        "south": Node(86, 0, reach=10),
        "east": Node(205, 98, reach=10),
        "north": Node(105, 204, reach=10),
        "west": Node(0, 102, reach=10),
        # The green in the middle.
        "green south": Node(95, 62, reach=10),
        "green east": Node(140, 98, reach=10, lights=False),
        "green north": Node(105, 138, reach=10),
        "green west": Node(62, 102, reach=10, lights=False),
    },
    streets=[
        Street("Pond Road", "south", "east", 30, "main", (Bend(205, 0, 36, 0.2),)),
        Street("Forest Road", "east", "north", 30, "double", (Bend(205, 158, 30), Bend(159, 204, 30))),
        Street("Castle Road", "north", "west", 30, "main", (Bend(0, 204, 45, 0.25),)),
        Street("Farm Road", "west", "south", 30, "quiet", (Bend(0, 52, 35), Bend(30, 10, 35), Bend(60, 0, 35))),
        Street("Green South", "green south", "green east", 25, "quiet", (Bend(140, 62, 14),)),
        Street("Green East", "green east", "green north", 25, "quiet", (Bend(140, 138, 14),)),
        Street("Green North", "green north", "green west", 25, "quiet", (Bend(62, 138, 16),)),
        Street("Green West", "green west", "green south", 25, "quiet", (Bend(62, 62, 14),)),
        Street("Station Road", "south", "green south", 25, "main"),
        Street("Baker Lane", "east", "green east", 25, "quiet"),
        Street("Castle Lane", "north", "green north", 25, "main"),
        Street("Farm Lane", "west", "green west", 25, "quiet"),
    ],
)

# The roundabout: the tangents of a circle about (0, 120), which its four nodes and four bends turn by 45 degrees each.
_CIRCLE, _CIRCLE_REACH = 26.0, 10.0
_CORNER = _CIRCLE / math.cos(math.pi / 8)
_DIAGONAL = _CORNER * math.sqrt(0.5)


def _entry(east: float, north: float) -> Node:
    street = "Rotunda Street" if east else "North Street"
    x, y = east * _CORNER, 120 + north * _CORNER
    return Node(x, y, z=1.5, reach=_CIRCLE_REACH, lights=False, give_way=(street,))


def _quarter(start: str, end: str, east: int, north: int) -> Street:
    bends = (Bend(east * _DIAGONAL, 120 + north * _DIAGONAL, _CIRCLE),)
    return Street("Circle", start, end, 20, "edge", bends, lanes=(1, 0), width=4.5, sidewalks=(True, False))


CITY = Town(
    name="City",
    lanes={"driving": 3.5, "shoulder": 0.4, "sidewalk": 2.5},
    nodes={
        # On the ring road, counter-clockwise from the south-west; its north-east lies on a low hill.
        "canal south": Node(-110, -235, reach=17, lights=False, stop=("Canal Street",)),
        "plaza south": Node(0, -235, reach=17, lights=False, stop=("Plaza Street",)),
        "mill south": Node(110, -235, reach=17, crosswalks=True),
        "market east": Node(235, -120, reach=17, lights=False, give_way=("Market Street",)),
        "east": Node(235, 0, reach=20, crosswalks=True),
        "rotunda east": Node(235, 120, z=3, reach=17, lights=False, stop=("Rotunda Street",)),
        "park north": Node(110, 235, z=4, reach=17, lights=False, give_way=("Park Lane",)),
        "north": Node(0, 235, z=3.5, reach=17, crosswalks=True),
        "hill north": Node(-110, 235, z=2, reach=14, lights=False, stop=("Hill Lane",)),
        "rotunda west": Node(-235, 120, reach=17, crosswalks=True),
        "west": Node(-235, 0, reach=20, crosswalks=True),
        "market west": Node(-235, -120, reach=17, lights=False, stop=("Market Street",)),
        # Along the boulevard.
        "canal": Node(-110, 0, reach=20, crosswalks=True),
        "centre": Node(0, 0, reach=20, crosswalks=True),
        "mill": Node(110, 0, reach=20, crosswalks=True),
        # Market Street: a two-way stop, an all-way stop, and lights.
        "market canal": Node(-110, -120, reach=15, lights=False, stop=("Market Street",), crosswalks=True),
        "market plaza": Node(0, -120, reach=14, lights=False, stop=("Market Street", "Plaza Street"), crosswalks=True),
        "market mill": Node(110, -120, reach=15, crosswalks=True),
        # North of the boulevard.
        "hill": Node(-110, 120, reach=17, lights=False, stop=("Hill Lane",)),
        "park": Node(110, 120, z=2.5, reach=17, lights=False, give_way=("Park Lane",)),
        "circle east": _entry(1, 0),
        "circle north": _entry(0, 1),
        "circle west": _entry(-1, 0),
        "circle south": _entry(0, -1),
    },
    streets=[
        Street("Ring South", "canal south", "plaza south", 35, "main", lanes=(2, 2)),
        Street("Ring South", "plaza south", "mill south", 35, "main", lanes=(2, 2)),
        Street("Ring East", "mill south", "market east", 35, "double", (Bend(235, -235, 55, 0.2),), lanes=(2, 2)),
        Street("Ring East", "market east", "east", 35, "main", lanes=(2, 2)),
        Street("Ring East", "east", "rotunda east", 35, "main", lanes=(2, 2)),
        Street("Ring North", "rotunda east", "park north", 30, "main", (Bend(235, 235, 55, 0.2),), lanes=(2, 2)),
        Street("Ring North", "park north", "north", 30, "main", lanes=(2, 2)),
        Street("Ring North", "north", "hill north", 30, "quiet"),
        Street("Ring North", "hill north", "rotunda west", 30, "quiet", (Bend(-185, 235, 40), Bend(-235, 190, 40))),
        Street("Ring West", "rotunda west", "west", 35, "main", lanes=(2, 2)),
        Street("Ring West", "west", "market west", 35, "main", lanes=(2, 2)),
        Street("Ring West", "market west", "canal south", 35, "double", (Bend(-235, -235, 55, 0.2),), lanes=(2, 2)),
        Street("Boulevard", "west", "canal", 30, "double", lanes=(2, 2), median=4.0, pockets=(0, 35)),
        Street("Boulevard", "canal", "centre", 30, "double", lanes=(2, 2), median=4.0, pockets=(0, 35)),
        Street("Boulevard", "centre", "mill", 30, "double", lanes=(2, 2), median=4.0, pockets=(0, 35)),
        Street("Boulevard", "mill", "east", 30, "double", lanes=(2, 2), median=4.0),
        Street("Canal Street", "canal", "market canal", 25, "edge", lanes=(2, 0)),
        Street("Canal Street", "market canal", "canal south", 25, "edge", lanes=(2, 0)),
        Street("Mill Street", "mill south", "market mill", 25, "edge", lanes=(2, 0)),
        Street("Mill Street", "market mill", "mill", 25, "edge", lanes=(2, 0)),
        Street("Plaza Street", "centre", "market plaza", 25, "main"),
        Street("Plaza Street", "market plaza", "plaza south", 25, "main"),
        Street("Market Street", "market west", "market canal", 25, "main"),
        Street("Market Street", "market canal", "market plaza", 25, "main"),
        Street("Market Street", "market plaza", "market mill", 25, "main"),
        Street("Market Street", "market mill", "market east", 25, "main"),
        Street("Hill Lane", "canal", "hill", 25, "quiet"),
        Street("Hill Lane", "hill", "hill north", 25, "quiet"),
        Street("Park Lane", "mill", "park", 25, "quiet"),
        Street("Park Lane", "park", "park north", 25, "quiet"),
        Street("North Street", "centre", "circle south", 25, "main"),
        Street("North Street", "circle north", "north", 25, "main"),
        Street("Rotunda Street", "rotunda west", "hill", 25, "main", lanes=(2, 2)),
        Street("Rotunda Street", "hill", "circle west", 25, "quiet"),
        Street("Rotunda Street", "circle east", "park", 25, "quiet"),
        Street("Rotunda Street", "park", "rotunda east", 25, "main", lanes=(2, 2)),
        _quarter("circle east", "circle north", 1, 1),
        _quarter("circle north", "circle west", -1, 1),
        _quarter("circle west", "circle south", -1, -1),
        _quarter("circle south", "circle east", 1, -1),
    ],
)


def _highway(start: str, end: str, lanes: int, *bends: Bend) -> Street:
    return Street(
        "Highway", start, end, 55, "double", bends, (lanes, lanes), width=3.7, median=4.0, sidewalks=(False, False)
    )


def _ramp(start: str, end: str, *bends: Bend) -> Street:
    return Street("Ramp", start, end, 35, "edge", bends, (1, 0), width=4.0, sidewalks=(False, False))


def _underpass(start: str, end: str) -> Street:
    # No sidewalks: the raster knows one level only, and would show walkers under the highway as on a lane.
    return Street("Cross Street", start, end, 35, "double", lanes=(2, 2), sidewalks=(False, False))


def _gore(x: float, y: float) -> Node:
    return Node(x, y, z=6.5, reach=60, lights=False)


RING = Town(
    name="Ring",
    lanes={"driving": 3.5, "shoulder": 0.4, "sidewalk": 2.5},
    nodes={
        # Where ramps leave and join the highway, which passes 6.5 m above Cross Street.
        "gore southwest": _gore(-230, -240),
        "gore southeast": _gore(230, -240),
        "gore northeast": _gore(230, 240),
        "gore northwest": _gore(-230, 240),
        # Where the third lanes begin and end in the west; in the east they run from one interchange to the other.
        "west south": Node(-430, -70, reach=30, lights=False),
        "west north": Node(-430, 70, reach=30, lights=False),
        # Cross Street from south to north: the ends of the ramps on both sides of the highway, and the centre.
        "south outer": Node(0, -310, reach=18),
        "south inner": Node(0, -170, reach=18, crosswalks=True),
        "centre": Node(0, 0, reach=18, crosswalks=True),
        "north inner": Node(0, 170, reach=18, crosswalks=True),
        "north outer": Node(0, 310, reach=18, lights=False, give_way=("Ramp",)),
        # The quarters inside the ring.
        "lake": Node(-130, 0, reach=17, crosswalks=True),
        "lake west": Node(-320, 0, reach=17, lights=False, stop=("Lake Street", "Lake Loop"), crosswalks=True),
        "garden": Node(130, 0, reach=17, crosswalks=True),
        "garden east": Node(320, 0, reach=17, lights=False, give_way=("Garden Street",), crosswalks=True),
    },
    streets=[
        _highway("gore southwest", "gore southeast", 2),
        _highway("gore southeast", "gore northeast", 3, Bend(430, -240, 105, 0.15), Bend(430, 240, 105, 0.15)),
        _highway("gore northeast", "gore northwest", 2),
        _highway("gore northwest", "west north", 3, Bend(-430, 240, 105, 0.15)),
        _highway("west north", "west south", 2),
        _highway("west south", "gore southwest", 3, Bend(-430, -240, 105, 0.15)),
        _ramp("gore southwest", "south outer", Bend(-70, -310, 60)),
        _ramp("south outer", "gore southeast", Bend(70, -310, 60)),
        _ramp("gore southeast", "south inner", Bend(70, -170, 60)),
        _ramp("south inner", "gore southwest", Bend(-70, -170, 60)),
        _ramp("gore northeast", "north outer", Bend(70, 310, 60)),
        _ramp("north outer", "gore northwest", Bend(-70, 310, 60)),
        _ramp("gore northwest", "north inner", Bend(-70, 170, 60)),
        _ramp("north inner", "gore northeast", Bend(70, 170, 60)),
        _underpass("south outer", "south inner"),
        Street("Cross Street", "south inner", "centre", 35, "main", lanes=(2, 2)),
        Street("Cross Street", "centre", "north inner", 35, "main", lanes=(2, 2)),
        _underpass("north inner", "north outer"),
        Street("Lake Street", "centre", "lake", 30, "main", lanes=(2, 2)),
        Street("Lake Street", "lake", "lake west", 30, "main", lanes=(2, 2)),
        Street("Lake Loop", "lake", "lake west", 25, "quiet", (Bend(-130, 120, 45, 0.2), Bend(-320, 120, 64, 0.3))),
        Street("Lake Loop", "lake west", "lake", 25, "quiet", (Bend(-320, -120, 60, 0.2), Bend(-130, -120, 40))),
        Street("Garden Street", "centre", "garden", 30, "main", lanes=(2, 2)),
        Street("Garden Street", "garden", "garden east", 30, "main", lanes=(2, 2)),
        Street("Garden Loop", "garden", "garden east", 25, "quiet", (Bend(130, 120, 45, 0.2), Bend(320, 120, 60, 0.2))),
        Street("Garden Loop", "garden east", "garden", 25, "quiet", (Bend(320, -120, 64, 0.3), Bend(130, -120, 40))),
    ],
)

ROWS, COLUMNS = (0, 160, 320, 480), (0, 125, 250, 375, 500)


def _grid_node(column: int, row: int) -> Node:
    # The mouths keep clear of Central Avenue's six lanes and of the median of Second Street.
    reach = 23 if column == 2 else 20 if row == 1 else 18
    return Node(COLUMNS[column], ROWS[row], reach=reach, crosswalks=True)


def _rows() -> list[Street]:
    """Streets from west to east; Second Street has a median, with lanes for left turns into Central Avenue."""
    streets = []
    for row, name in ((1, "Second Street"), (2, "Third Street")):
        for column in range(4):
            median, pockets = (4.0, (35.0 * (column == 2), 35.0 * (column == 1))) if row == 1 else (0.0, (0.0, 0.0))
            ends = f"{column}-{row}", f"{column + 1}-{row}"
            streets.append(Street(name, *ends, 30, "double", lanes=(2, 2), median=median, pockets=pockets))
    for row, name in ((0, "First Street"), (3, "Fourth Street")):
        streets += [Street(name, f"{k}-{row}", f"{k + 1}-{row}", 30, "main", lanes=(2, 2)) for k in (1, 2)]
    return streets


def _columns() -> list[Street]:
    """Avenues from south to north; Central Avenue has three lanes each way."""
    streets = []
    for column, name in ((1, "Avenue B"), (2, "Central Avenue"), (3, "Avenue D")):
        lanes, mph = ((3, 3), 35) if column == 2 else ((2, 2), 30)
        streets += [Street(name, f"{column}-{k}", f"{column}-{k + 1}", mph, "double", lanes=lanes) for k in range(3)]
    streets += [
        Street(name, f"{k}-1", f"{k}-2", 30, "main", lanes=(2, 2)) for k, name in ((0, "Avenue A"), (4, "Avenue E"))
    ]
    return streets


def _corners() -> list[Street]:
    """The four corners of the grid, where a street bends into an avenue."""
    return [
        Street(name, start, end, 30, "double", (Bend(x, y, 45, 0.2),), lanes=(2, 2))
        for name, start, end, x, y in (
            ("First Street", "0-1", "1-0", 0, 0),
            ("First Street", "3-0", "4-1", 500, 0),
            ("Fourth Street", "4-2", "3-3", 500, 480),
            ("Fourth Street", "1-3", "0-2", 0, 480),
        )
    ]


GRID = Town(
    name="Grid",
    lanes={"driving": 3.5, "shoulder": 0.4, "sidewalk": 2.5},
    nodes={
        f"{column}-{row}": _grid_node(column, row)
        for row in range(4)
        for column in range(5)
        if not (row in (0, 3) and column in (0, 4))
    },
    streets=[*_rows(), *_columns(), *_corners()],
)


def _minor(x: float, y: float, street: str, z: float = 0.0) -> Node:
    """A side street that stops before a street with priority."""
    return Node(x, y, z=z, reach=17, lights=False, stop=(street,))


def _avenue(start: str, end: str, first: float = 0.0, last: float = 0.0) -> Street:
    return Street("Avenue", start, end, 35, "double", lanes=(2, 2), median=4.2, pockets=(first, last))


def _drive(name: str, start: str, end: str, *bends: Bend) -> Street:
    return Street(name, start, end, 35, "main", bends, lanes=(2, 2))


AVENUE = Town(
    name="Avenue",
    lanes={"driving": 3.5, "shoulder": 0.4, "sidewalk": 2.5},
    nodes={
        # Along the avenue, from west to east.
        "west": Node(-500, 0, reach=20, crosswalks=True),
        "elm": Node(-330, 0, reach=20, crosswalks=True),
        "court west": _minor(-210, 0, "Garden Court"),
        "court east": _minor(-120, 0, "Garden Court"),
        "station": Node(0, 0, reach=20, crosswalks=True),
        "hotel west": _minor(120, 0, "Hotel Drive"),
        "hotel east": _minor(210, 0, "Hotel Drive"),
        "oak": Node(330, 0, reach=20, crosswalks=True),
        "east": Node(500, 0, reach=20, crosswalks=True),
        # Along Lake Drive, on a low terrace in the north.
        "lake elm": _minor(-330, 140, "Elm Street", z=3),
        "lake station": Node(0, 140, z=3, reach=18, crosswalks=True),
        "boathouse west": _minor(110, 140, "Boathouse Loop", z=3),
        "boathouse east": _minor(210, 140, "Boathouse Loop", z=3),
        "lake oak": Node(330, 140, z=3, reach=17, lights=False, give_way=("Oak Street",)),
        # Along Mill Road, in the south.
        "mill elm": Node(-330, -130, reach=18, crosswalks=True),
        "depot west": _minor(-220, -130, "Depot Loop"),
        "depot east": _minor(-110, -130, "Depot Loop"),
        "mill station": _minor(0, -130, "Station Street"),
        "mill oak": Node(330, -130, reach=17, lights=False, give_way=("Oak Street",)),
    },
    streets=[
        _avenue("west", "elm", 0, 50),
        _avenue("elm", "court west", 45, 0),
        _avenue("court west", "court east"),
        _avenue("court east", "station", 0, 42),
        _avenue("station", "hotel west", 42, 0),
        _avenue("hotel west", "hotel east"),
        _avenue("hotel east", "oak", 0, 45),
        _avenue("oak", "east", 50, 0),
        _drive("Lake Drive", "west", "lake elm", Bend(-500, 140, 55, 0.25)),
        _drive("Lake Drive", "lake elm", "lake station", Bend(-240, 152, 150, 0.2), Bend(-80, 140, 150, 0.2)),
        _drive("Lake Drive", "lake station", "boathouse west"),
        _drive("Lake Drive", "boathouse west", "boathouse east"),
        _drive("Lake Drive", "boathouse east", "lake oak"),
        _drive("Lake Drive", "lake oak", "east", Bend(500, 140, 55, 0.25)),
        _drive("Mill Road", "west", "mill elm", Bend(-500, -130, 55, 0.25)),
        _drive("Mill Road", "mill elm", "depot west"),
        _drive("Mill Road", "depot west", "depot east"),
        _drive("Mill Road", "depot east", "mill station"),
        _drive("Mill Road", "mill station", "mill oak", Bend(120, -145, 200, 0.2), Bend(220, -130, 200, 0.2)),
        _drive("Mill Road", "mill oak", "east", Bend(500, -130, 55, 0.25)),
        Street("Elm Street", "mill elm", "elm", 25, "main", lanes=(2, 2)),
        Street("Elm Street", "elm", "lake elm", 25, "main", lanes=(2, 2)),
        Street("Station Street", "mill station", "station", 25, "double", lanes=(2, 2)),
        Street("Station Street", "station", "lake station", 25, "double", lanes=(2, 2)),
        Street("Oak Street", "mill oak", "oak", 25, "main"),
        Street("Oak Street", "oak", "lake oak", 25, "main"),
        Street("Garden Court", "court west", "court east", 20, "quiet", (Bend(-210, 65, 22), Bend(-120, 65, 22))),
        Street("Hotel Drive", "hotel west", "hotel east", 20, "quiet", (Bend(120, -60, 20), Bend(210, -60, 20))),
        Street(
            "Boathouse Loop", "boathouse west", "boathouse east", 20, "quiet", (Bend(110, 190, 20), Bend(210, 190, 20))
        ),
        Street("Depot Loop", "depot west", "depot east", 20, "quiet", (Bend(-220, -180, 20), Bend(-110, -180, 20))),
    ],
)

TOWNS = (SUBURB, VILLAGE, CITY, RING, GRID, AVENUE)
