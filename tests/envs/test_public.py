"""What all public environments have in common: their signatures, their checks, and what they need to be closed."""

import inspect
import sys

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env

import mentorgym  # noqa: F401 - registers the ids
from mentorgym.envs import caption, driving, spatial
from tests.envs.caption.drawn import DrawnScenes

PAIRS = [
    (driving.DrivingEnv, driving.DrivingVectorEnv),
    (driving.LeaderboardEnv, driving.LeaderboardVectorEnv),
    (spatial.SpatialEnv, spatial.SpatialVectorEnv),
    (caption.CaptionEnv, caption.CaptionVectorEnv),
]
PUBLIC = [*(kind for pair in PAIRS for kind in pair), driving.parallel_env]
OF_A_BATCH = {"num_envs", "group_size", "autoreset_mode", "copy", "num_egos"}


def parameters(kind: type) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(kind).parameters)


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_a_signature_names_every_parameter_with_type_and_default(kind: type):
    for name, parameter in parameters(kind).items():
        assert parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY), name
        assert parameter.default is not parameter.empty, name
        assert parameter.annotation is not parameter.empty, name


@pytest.mark.parametrize(
    ("one", "other"), [*PAIRS, (driving.DrivingEnv, driving.parallel_env)], ids=lambda kind: kind.__name__
)
def test_one_environment_and_many_have_the_same_parameters(one: type, other: type):
    own, others = (
        [(name, each.default, each.annotation) for name, each in parameters(kind).items() if name not in OF_A_BATCH]
        for kind in (one, other)
    )
    assert own == others


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_every_parameter_is_documented_in_one_place(kind: type):
    """A single environment documents those of the family, the others their own."""
    singles = {batch: single for single, batch in PAIRS} | {driving.parallel_env: driving.DrivingEnv}
    bases = {driving.LeaderboardEnv: driving.DrivingEnv, driving.LeaderboardVectorEnv: driving.DrivingVectorEnv}
    places = [kind, bases.get(kind), singles.get(kind), bases.get(singles.get(kind))]
    documentation = "\n".join(inspect.getdoc(each) or "" for each in places if each)
    assert [name for name in parameters(kind) if f"\n    {name}: " not in documentation] == []


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_an_unknown_argument_is_pythons_own_error(kind: type):
    # TorchRL offers `frameskip` to every environment, and looks for these words before it tries again without.
    message = f"{kind.__name__}.__init__() got an unexpected keyword argument 'frameskip'"
    with pytest.raises(TypeError) as raised:
        kind(frameskip=1)
    assert str(raised.value).startswith(message)
    with pytest.raises(TypeError, match="'render_mod': did you mean 'render_mode'"):
        kind(render_mod="human")


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("arguments", [{"split": "nowhere"}, {"render_mode": "ansi"}, {"no_such": 1}])
def test_what_could_not_be_made_can_be_closed(kind: type, arguments: dict):
    """Older Gymnasiums close a vector environment when it is collected, and print what goes wrong then."""
    made: list = []

    class Kept(kind):  # type: ignore[misc, valid-type]
        def __new__(cls, *args: object, **kwargs: object):
            made.append(super().__new__(cls))
            return made[-1]

    with pytest.raises((TypeError, ValueError)):
        Kept(**arguments)
    # A single environment that was not made has nothing to close.
    if not isinstance(made[0], gym.Env):
        made[0].close()


# The state vector holds speeds and accelerations, which have no natural bounds.
@pytest.mark.filterwarnings("ignore:.*A Box observation space m..imum value is:UserWarning")
@pytest.mark.parametrize("name", ["CarlaNoCrash-v0", "CarlaLeaderboard-BEV-v0", "UnitySpatial-v0"])
def test_gymnasiums_checks_pass_on_the_smallest_install(name: str, monkeypatch: pytest.MonkeyPatch):
    for package in ("pygame", "trimesh", "embreex", "transformers"):
        monkeypatch.setitem(sys.modules, package, None)
    env = gym.make(name)
    check_env(env.unwrapped)
    assert set(env.unwrapped.metadata["render_modes"]) < set(type(env.unwrapped).metadata["render_modes"])


def test_what_this_machine_cannot_show_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    for package in ("pygame", "trimesh"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(gym.error.DependencyNotInstalled, match=r"a window needs pygame: pip install .*\[human\]'"):
        gym.make("CarlaNoCrash-v0", render_mode="human")
    with pytest.raises(ImportError, match=r"drawing scenes needs trimesh: pip install .*\[scenes\]'"):
        gym.make("UnitySpatial-v0", render_mode="rgb_array")


def test_the_caption_environment_names_its_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"scoring captions needs transformers: pip install .*\[caption\]'"):
        gym.make("BddOia-Caption-v0", data=DrawnScenes())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("CarlaNoCrash-v0", {"town": "Village", "traffic": "empty"}),
        ("CarlaLeaderboard-BEV-v0", {"town": "Village", "traffic": "empty", "observation": "state"}),
        ("UnitySpatial-v0", {}),
        ("BddOia-Caption-v0", {"data": DrawnScenes(), "reward": "none", "terms": {"action": 1.0}}),
    ],
)
def test_torchrl_makes_every_environment_by_its_id(name: str, arguments: dict):
    torchrl_envs = pytest.importorskip("torchrl.envs")
    env = torchrl_envs.GymEnv(name, **arguments)
    torchrl_envs.check_env_specs(env)
    assert env.rollout(3)["next", "done"].shape[-1] == 1
    env.close()
