"""The rules of the house: floors import downwards, the package is whole and light, the ids are registered."""

import ast
import graphlib
import importlib.util
import runpy
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest
import setuptools

import mentorgym

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("mentors", "envs", "wrappers", "agents", "benchmarks")
"""From the bottom up."""
GROUND = ROOT / "src" / "mentorgym"
"""Below all floors: what each of them uses, and the command, which knows its verbs by name alone."""
AGENTS = {path.stem for path in (ROOT / "agents").iterdir() if not path.name.startswith("__")}
FOR_TESTS = ("datasets", "pycocotools", "skimage", "sklearn", "trl")
SOURCES = sorted(path for folder in (*FLOORS, "src", "tests") for path in (ROOT / folder).rglob("*.py"))


def imported_modules(source: str, package: str) -> Iterator[str]:
    """The absolute names of all that `source`, a module of `package`, imports at any depth."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def package_of(path: Path) -> str:
    """The package that the module at `path` belongs to, e.g. `mentorgym.envs.driving`."""
    if path.is_relative_to(GROUND):
        return "mentorgym"
    return ".".join(("mentorgym", *path.relative_to(ROOT).parent.parts))


def upward_imports(source: str, package: str) -> list[str]:
    """What `source`, a module of `package`, imports from floors above its own."""
    floor = FLOORS.index(package.split(".")[1])
    above = {f"mentorgym.{name}" for name in FLOORS[floor + 1 :]}
    return [name for name in imported_modules(source, package) if ".".join(name.split(".")[:2]) in above]


def shipped_files() -> set[str]:
    """The package's files as a wheel should name them: all but Markdown and caches."""
    roots = (*((ROOT / floor, floor) for floor in FLOORS), (GROUND, "."))
    files = (
        Path(place) / path.relative_to(root) for root, place in roots for path in root.rglob("*") if path.is_file()
    )
    shipped = (path for path in files if path.suffix != ".md" and "__pycache__" not in path.parts)
    return {f"mentorgym/{path.as_posix()}" for path in shipped}


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_imports_only_from_floors_below(floor: str):
    wrong = {
        str(path.relative_to(ROOT)): names
        for path in SOURCES
        if path.is_relative_to(ROOT / floor) and (names := upward_imports(path.read_text("utf-8"), package_of(path)))
    }
    assert wrong == {}


def test_the_ground_imports_from_no_floor():
    above = {f"mentorgym.{floor}" for floor in FLOORS}
    wrong = {
        (path.name, name)
        for path in GROUND.rglob("*.py")
        for name in imported_modules(path.read_text("utf-8"), "mentorgym")
        if ".".join(name.split(".")[:2]) in above
    }
    assert wrong == set()


@pytest.mark.parametrize(
    ("source", "package", "found"),
    [
        ("from mentorgym.agents.sac import train", "mentorgym.envs.driving", True),
        ("from mentorgym import agents", "mentorgym.envs", True),
        ("from ..wrappers import ClipReward", "mentorgym.envs", True),
        ("def f():\n    import mentorgym.benchmarks.speed", "mentorgym.agents", True),
        ("from mentorgym.envs import driving", "mentorgym.agents", False),
        ("from . import state", "mentorgym.envs.driving", False),
        ("import mentorgym", "mentorgym.envs", False),
    ],
)
def test_every_form_of_upward_import_is_seen(source: str, package: str, found: bool):
    assert bool(upward_imports(source, package)) == found


def runtime_imports(path: Path) -> Iterator[str]:
    """All that the module at `path` imports at any depth, but for what is imported for annotations alone."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = [ast.Pass()]
    yield from imported_modules(ast.unparse(tree), package_of(path))


def test_no_modules_import_each_other_in_a_circle():
    modules = {
        ".".join((package_of(path), path.stem)).removesuffix(".__init__"): path
        for path in SOURCES
        if not path.is_relative_to(ROOT / "tests")
    }
    # A package's `__init__` names what stands below it, and is no part of a circle.
    graph = {
        name: {each for each in runtime_imports(path) if each in modules and each != name}
        for name, path in modules.items()
        if path.name != "__init__.py"
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"imports in a circle: {' <- '.join(error.args[1])}", pytrace=False)


def test_no_source_imports_a_folder_by_its_bare_name():
    # The root is on the path of `python -m`, and agents/ on that of `python agents/sac.py`.
    wrong = {
        (str(path.relative_to(ROOT)), name)
        for path in SOURCES
        for name in imported_modules(path.read_text("utf-8"), package_of(path))
        if name.split(".")[0] in {*FLOORS, *AGENTS}
    }
    assert wrong == set(), "`envs.x` would be a second copy of `mentorgym.envs.x`, with classes of its own"


def test_no_folder_is_loaded_under_its_bare_name():
    assert set(FLOORS) & sys.modules.keys() == set()


def test_no_agent_hides_a_module_of_the_standard_library():
    # `python agents/queue.py` puts agents/ first on the path, where every `import queue` would find it.
    assert AGENTS & sys.stdlib_module_names == set()


def test_import_is_light():
    heavy = "{'torch', 'numba', 'carla', 'PIL', 'transformers', 'imageio', 'trimesh'}"
    code = f"import mentorgym, sys; print(*sorted({heavy} & sys.modules.keys()))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []


def test_what_tests_alone_install_is_asked_of_nobody_else():
    # The comparison with TRL is for whoever has it, and says so where it is missing.
    allowed = {ROOT / "benchmarks" / "speed" / "rloo.py"}
    wrong = {
        (str(path.relative_to(ROOT)), name)
        for path in SOURCES
        if not path.is_relative_to(ROOT / "tests") and path not in allowed
        for name in imported_modules(path.read_text("utf-8"), package_of(path))
        if name.split(".")[0] in FOR_TESTS
    }
    assert wrong == set()


def test_every_module_is_imported_without_the_extras():
    # Modules whose very subject is an extra's are left out.
    subjects = {"mentorgym.envs.driving.parallel"}
    names = {
        ".".join(("mentorgym", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        for floor in FLOORS
        for path in (ROOT / floor).rglob("*.py")
    }
    extras = ("carla", "embreex", "grpc", "highway_env", "httpx", "hypothesis", "imageio", "imageio_ffmpeg")
    extras += ("matplotlib", "mlagents_envs", "open_clip", "peft", "pettingzoo", "pyarrow", "pybullet", "pygame")
    extras += ("sacrebleu", "scipy", "torchvision", "transformers", "trimesh", *FOR_TESTS)
    code = (
        f"import importlib, sys\nsys.modules.update(dict.fromkeys({extras}))\n"
        f"for name in {sorted(names - subjects)}: importlib.import_module(name)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)


def test_types_are_checked_on_what_the_wheel_holds(tmp_path: Path):
    runpy.run_path(str(ROOT / ".ci" / "check_types.py"))["lay_out"](tmp_path / "mentorgym")
    laid_out = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    sources = {name for name in shipped_files() if name.endswith(".py")}
    assert laid_out == sources | {"mentorgym/py.typed"}


def test_registration_leaves_ids_that_are_there_alone(recwarn: pytest.WarningsRecorder):
    spec = gymnasium.spec("CarlaNoCrash-v0")
    mentorgym.register_envs()
    assert gymnasium.spec("CarlaNoCrash-v0") is spec
    assert not recwarn.list


@pytest.mark.parametrize("name", ["BddOia-Caption-v0", "CarlaNoCrash-v0", "CarlaLeaderboard-BEV-v0"])
def test_ids_name_modules_of_this_package(name: str):
    spec = gymnasium.spec(name)
    for entry_point in (spec.entry_point, spec.vector_entry_point):
        assert isinstance(entry_point, str)
        module, _, attribute = entry_point.partition(":")
        assert module.startswith("mentorgym.envs.")
        assert attribute.isidentifier()


def test_the_prefixed_id_needs_no_import():
    # A stand-in for the environment's module keeps this to the question of how the id is found.
    code = """
import sys, types
import gymnasium

class DrivingEnv(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Discrete(2)

sys.modules["mentorgym.envs.driving.env"] = types.SimpleNamespace(DrivingEnv=DrivingEnv)
env = gymnasium.make("mentorgym:CarlaNoCrash-v0")
assert type(env.unwrapped) is DrivingEnv
print(env.spec.id)
"""
    made = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert made == "CarlaNoCrash-v0\n"


def test_every_folder_with_code_is_collected_as_a_package(monkeypatch: pytest.MonkeyPatch):
    arguments = {}
    monkeypatch.setattr(setuptools, "setup", arguments.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    folders = {package_of(path) for path in SOURCES if path.relative_to(ROOT).parts[0] in FLOORS}
    assert set(arguments["packages"]) == {"mentorgym", *folders}, "a folder with code needs an __init__.py"
    floors = {f"mentorgym.{floor}": floor for floor in FLOORS}
    assert arguments["package_dir"] == {"mentorgym": "src/mentorgym", **floors}


def test_the_wheel_holds_the_floors_with_their_data_and_nothing_else(tmp_path: Path):
    # Built from a copy: a build in the checkout would leave its folders there and pick up those of an earlier one.
    source = tmp_path / "source"
    for name in (*FLOORS, "src"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == shipped_files()
