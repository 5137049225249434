"""The link to Unity: ML-Agents' own client, with our player in Unity's place."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from mentorgym.envs.rendering.render import Camera
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.env import SpatialEnv
from mentorgym.envs.spatial.objects import NAMES
from mentorgym.envs.spatial.unity import channel
from mentorgym.envs.spatial.unity.link import Server, UnityError, UnityWorld, channels_last, executable
from mentorgym.envs.spatial.unity.player import BEHAVIOUR, Player
from mentorgym.envs.spatial.unity.player import OPTIONS as PLAYED
from mentorgym.envs.spatial.unity.shim import StrictVersion, import_mlagents, serialized_descriptor
from mentorgym.envs.spatial.vector import SpatialVectorEnv
from mentorgym.envs.spatial.world import LEAST_MOVE, REACH

OPTIONS = {"split": "train", "camera": "close", "move_scale": 0.4, "in_view": False}


def script(folder: Path, text: str, name: str = "player") -> Path:
    """An executable file."""
    path = folder / name
    path.write_text(textwrap.dedent(text))
    path.chmod(0o755)
    return path


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Our player as a program."""
    return script(
        tmp_path,
        f"""\
        #!{sys.executable}
        from mentorgym.envs.spatial.unity.player import main; raise SystemExit(main())
        """,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.fixture
def waiting() -> Iterator[Callable[..., int]]:
    """Starts a player, in a thread, that waits for somebody to listen on the port that is returned."""
    threads = []

    def start(kind: Callable[..., Player] = Player, **arguments) -> int:
        port = free_port()
        threads.append(threading.Thread(target=kind(port, **arguments).run))
        threads[-1].start()
        return port

    yield start
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive(), "a player was left waiting"


def world(unity: Path | str | int, num: int = 1, pictures: bool = False, timeout: float = 20.0) -> UnityWorld:
    return UnityWorld(unity, num, OPTIONS, pictures, timeout)


def started(unity: Path | str | int, **arguments) -> UnityWorld:
    """A world in which every row has been drawn."""
    made = world(unity, **arguments)
    made.arrange(np.arange(made.num))
    return made


def moved(made: UnityWorld) -> tuple[np.ndarray, np.ndarray]:
    return made.move(np.zeros((made.num, 3)))


def assert_alike(linked: SpatialVectorEnv, ours: SpatialVectorEnv, steps: int, pictures: bool = False) -> None:
    """Under the same actions both give the same in every step: bit for bit, places and pictures included."""
    generator = np.random.default_rng(0)
    first, other = linked.reset(seed=5)[0], ours.reset(seed=5)[0]
    np.testing.assert_array_equal(first, other)
    for _ in range(steps):
        actions = generator.uniform(-1, 1, (ours.num_envs, 3)).astype(np.float32)
        mine, theirs = linked.step(actions), ours.step(actions)
        for one, another in zip(mine[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(one, another)
        assert mine[4].keys() == theirs[4].keys()
        for name in mine[4].keys() - {"final_info"}:
            np.testing.assert_array_equal(mine[4][name], theirs[4][name])
        for row in range(ours.num_envs):
            assert_same(linked.arrangement(row), ours.arrangement(row))
            assert_same(linked.observed(row), ours.observed(row))
        if pictures:
            np.testing.assert_array_equal(linked.render(), ours.render())


def assert_same(one: Arrangement, another: Arrangement) -> None:
    for name, value in vars(one).items():
        np.testing.assert_equal(value, vars(another)[name])


def assert_ends(pid: int, seconds: float = 5.0) -> None:
    """No process of this number is left, or only as one that nobody has asked about yet."""
    deadline = time.monotonic() + seconds
    status = Path(f"/proc/{pid}/stat")
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, f"process {pid} is left"
        time.sleep(0.05)


def test_a_thousand_steps_over_the_link_are_those_in_process(program: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    arguments = {"num_envs": 5, "steps": 33, "block": 7}
    linked = SpatialVectorEnv(unity=program, **arguments)
    assert_alike(linked, SpatialVectorEnv(**arguments), 200)
    linked.close()


@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_pictures_over_the_link_are_those_in_process_in_both_layouts(waiting: Callable[..., int], layout: str):
    arguments = {"steps": 4, "block": 3, "render_mode": "rgb_array"}
    linked = SpatialVectorEnv(unity=waiting(layout=layout), **arguments)
    assert_alike(linked, SpatialVectorEnv(**arguments), 5, pictures=True)
    linked.close()


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_a_thousand_pictures_over_the_link_are_those_in_process(tmp_path: Path, layout: str):
    program = script(
        tmp_path,
        f"""\
        #!{sys.executable}
        import sys
        from mentorgym.envs.spatial.unity.player import main
        raise SystemExit(main([*sys.argv[1:], "--layout={layout}"]))
        """,
    )
    linked = SpatialVectorEnv(unity=program, steps=33, render_mode="rgb_array")
    assert_alike(linked, SpatialVectorEnv(steps=33, render_mode="rgb_array"), 1000, pictures=True)
    linked.close()


def test_the_single_environment_passes_gymnasiums_check_and_resets_as_in_process(waiting: Callable[..., int]):
    linked, ours = SpatialEnv(unity=waiting(), steps=3), SpatialEnv(steps=3)
    check_env(linked, skip_render_check=True)
    for seed in (1, None, None):
        np.testing.assert_array_equal(linked.reset(seed=seed)[0], ours.reset(seed=seed)[0])
        for _ in range(3):
            action = np.array([0.3, -0.2, 0.0], np.float32)
            mine, theirs = linked.step(action), ours.step(action)
            np.testing.assert_array_equal(mine[0], theirs[0])
            assert mine[1:] == theirs[1:]
    linked.close()


def test_rows_that_are_reset_leave_the_others_as_they_are(waiting: Callable[..., int]):
    arguments = {"num_envs": 3, "steps": 9}
    linked, ours = SpatialVectorEnv(unity=waiting(), **arguments), SpatialVectorEnv(**arguments)
    actions, mask = np.full((3, 3), 0.25, np.float32), np.array([False, True, False])
    for envs in (linked, ours):
        envs.reset(seed=1)
        envs.step(actions)
    for seed in (None, [None, 8, None]):
        mine, theirs = (envs.reset(seed=seed, options={"reset_mask": mask})[0] for envs in (linked, ours))
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(linked.step(actions)[0], ours.step(actions)[0])
    linked.close()


class TwoMessages(Player):
    """Sends the last of an episode in one message, and the first of the next in another."""

    held = None

    def answer(self, command):
        if self.held is not None:
            assert not command.agent_actions
            held, self.held = self.held, None
            return held
        whole = super().answer(command)
        infos = whole.agentInfos[BEHAVIOUR].value
        last = [info.done for info in infos].count(True)
        if not last:
            return whole
        last_of, self.held = type(whole)(), type(whole)()
        payloads = [channel.pack(payload) for payload in channel.unpack(whole.side_channel)]
        for part, taken in ((last_of, slice(last)), (self.held, slice(last, None))):
            part.agentInfos[BEHAVIOUR].value.extend(infos[taken])
            part.side_channel = b"".join(payloads[taken])
        return last_of


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_an_episodes_end_may_come_in_a_message_of_its_own(waiting: Callable[..., int], mode: str):
    arguments = {"num_envs": 2, "steps": 5, "block": 2, "autoreset_mode": mode}
    linked = SpatialVectorEnv(unity=waiting(TwoMessages), **arguments)
    assert_alike(linked, SpatialVectorEnv(**arguments), 12)
    linked.close()


def test_a_player_killed_in_mid_episode_is_one_error_at_once_and_leaves_no_process(program: Path):
    env = SpatialEnv(unity=program)
    env.reset(seed=0)
    env.step(np.zeros(3, np.float32))
    player = env.vector._world._server._process.pid
    os.kill(player, signal.SIGKILL)
    before = time.monotonic()
    with pytest.raises(UnityError, match=r"ended with exit code -9 \(SIGKILL\); its log is (\S+)") as raised:
        env.step(np.zeros(3, np.float32))
    assert time.monotonic() - before < 5
    log = Path(str(raised.value).rpartition(" ")[2])
    assert log.is_file()
    log.unlink()
    assert_ends(player)
    with pytest.raises(UnityError, match="closed: make the environment anew"):
        env.step(np.zeros(3, np.float32))
    env.close()


def test_a_running_player_that_goes_away_is_noticed(waiting: Callable[..., int]):
    players = []

    class Watched(Player):
        def __init__(self, port: int):
            super().__init__(port)
            players.append(self)

        def run(self) -> None:
            with pytest.raises(Exception, match=r"Channel closed"):
                super().run()

    made = started(waiting(Watched))
    players[0]._line.close()
    # What is said to a player in the moment in which it goes is noticed by the time-out alone.
    assert made._server._gone.wait(5)
    before = time.monotonic()
    with pytest.raises(UnityError, match="connection to the Unity player was lost"):
        moved(made)
    assert time.monotonic() - before < 5


def test_a_player_that_is_stopped_says_so(waiting: Callable[..., int]):
    class Interrupted(Player):
        def answer(self, command):
            if command.command == 0:
                raise KeyboardInterrupt
            return super().answer(command)

    with pytest.raises(UnityError, match="was stopped"):
        moved(started(waiting(Interrupted)))


# What a process does that uses the link, and how it ends: without closing it, or not by its own will.
USER = """
import os, signal, sys
from mentorgym.envs.spatial.env import SpatialEnv
env = SpatialEnv(unity=sys.argv[1])
env.reset(seed=0)
print(env.vector._world._server._process.pid, flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("end", "code"), [("finished", 0), ("killed", -9)])
def test_the_player_does_not_outlive_us(program: Path, tmp_path: Path, end: str, code: int):
    command = [sys.executable, "-W", "error", "-c", USER, str(program), end]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert_ends(int(ended.stdout))
    assert bool(list(tmp_path.glob("*.log"))) == (end == "killed")


def test_a_program_that_never_answers_is_killed_with_all_that_it_started(tmp_path: Path):
    hanging = script(tmp_path, f"#!/bin/sh\nsleep 600 &\necho $! > {tmp_path}/child\necho hello\nwait\n")
    before = time.monotonic()
    with pytest.raises(UnityError, match=r"did not answer on port \d+ in 0.5 s; its log is (\S+)") as raised:
        world(hanging, timeout=0.5)
    assert time.monotonic() - before < 5
    log = Path(str(raised.value).rpartition(" ")[2])
    assert log.read_text() == "hello\n"
    log.unlink()
    assert_ends(int((tmp_path / "child").read_text()))


def test_programs_that_are_no_players_are_named(tmp_path: Path):
    with pytest.raises(UnityError, match=r"no Unity build at .*missing; unity='editor' waits"):
        world(tmp_path / "missing")
    with pytest.raises(UnityError, match="is a folder: name the program in it"):
        world(tmp_path)
    plain = script(tmp_path, "no program", "plain")
    with pytest.raises(UnityError, match="plain cannot be run"):
        world(plain)
    plain.chmod(0o644)
    with pytest.raises(UnityError, match="plain is not executable: `chmod"):
        world(str(plain))
    leaving = script(tmp_path, "#!/bin/sh\necho no licence\nexit 3\n", "leaving")
    with pytest.raises(UnityError, match=r"ended with exit code 3; its log is (\S+)") as raised:
        SpatialVectorEnv(unity=str(leaving))
    log = Path(str(raised.value).rpartition(" ")[2])
    assert log.read_text() == "no licence\n"
    log.unlink()


def test_a_build_is_found_as_unity_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "my.exe and my.app"
    folder.mkdir()
    build = script(folder, "", "rooms.x86_64")
    monkeypatch.setattr(sys, "platform", "linux")
    assert executable(folder / "rooms") == executable(str(build)) == build
    monkeypatch.chdir(folder)
    assert executable("rooms") == build
    monkeypatch.setattr(sys, "platform", "darwin")
    inside = folder / "rooms.app" / "Contents" / "MacOS"
    inside.mkdir(parents=True)
    program = script(inside, "", "Rooms")
    assert executable(folder / "rooms.app") == program == executable(folder / "rooms")


def test_a_port_in_use_and_an_editor_that_does_not_come_are_errors():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with pytest.raises(UnityError, match=r"port \d+ of 127.0.0.1 is in use"):
            world(listening.getsockname()[1])
    with pytest.raises(UnityError, match="no player connected, or it did not answer on port"):
        world(free_port(), timeout=0.3)


@pytest.mark.parametrize("unity", [0, -1, 70000, True, 1.5])
def test_what_is_neither_a_build_nor_a_port_is_refused(unity):
    with pytest.raises(ValueError, match="give the path of a build, 'editor', or a port from 1 to 65535"):
        SpatialVectorEnv(unity=unity)


def test_only_this_machine_can_connect():
    server = Server(None, 0, (), 1.0)
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    addresses = [line.split()[1] for line in listening.splitlines() if f":{server.port:04X} " in line]
    server.close()
    # As IPv4, or as IPv6 that stands for it.
    assert {address.partition(":")[0] for address in addresses} <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert addresses


@pytest.mark.parametrize("version", ["2.0.0", "0.9.0", "new"])
def test_another_version_of_the_protocol_is_refused(waiting: Callable[..., int], version: str):
    class Another(Player):
        pass

    Another.version = version
    with pytest.raises(UnityError, match="API version is not compatible|invalid literal"):
        world(waiting(Another))


def changed(change: Callable, on: int = 1) -> type[Player]:
    """A player whose answers, to RESET (1) or STEP (0), `change` has its way with."""

    class Changed(Player):
        def answer(self, command):
            output = super().answer(command)
            if command.command == on:
                change(output)
            return output

    return Changed


def first(output):
    return output.agentInfos[BEHAVIOUR].value[0]


def rename(output) -> None:
    output.agentInfos["Walker"].CopyFrom(output.agentInfos[BEHAVIOUR])
    del output.agentInfos[BEHAVIOUR]


def shorten(output) -> None:
    for agent in output.agentInfos[BEHAVIOUR].value:
        agent.observations[0].float_data.data[:] = [0.0] * 31
        agent.observations[0].shape[:] = [31]


def poison(output) -> None:
    first(output).observations[0].float_data.data[3] = float("nan")


def record(**entries) -> Callable:
    """Changes the first record of an answer; an entry of None is left out."""

    def change(output) -> None:
        payloads = list(channel.unpack(output.side_channel))
        told = channel.decode(payloads[0]) | entries
        told = {name: value for name, value in told.items() if value is not None}
        output.side_channel = b"".join(map(channel.pack, [channel.encode(told), *payloads[1:]]))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (rename, "behaviours"),
        (shorten, r"observes \[\(31,\)\]: \(32,\) and at most one camera"),
        (poison, "NaN"),
        (lambda output: output.ClearField("side_channel"), r"0 records on the channel .* for 2 observations"),
        (lambda output: setattr(output, "side_channel", b"short"), "make no sense"),
        (record(row=1), r"rows \[1, 1\] act: 0 to 1, together"),
        (record(room=None), "the entry 'room' is missing"),
        (record(objects=["teapot"]), "'teapot' is none of green cup"),
        (record(objects=["vase"] * 3), "are not different ones"),
        (record(objects=["vase"], positions=[0, 0, 0], yaws=[0]), r"row 0: objects are \('vase',\), not 3"),
        (record(positions=[1, 2]), "make no sense"),
        (record(camera=3), "make no sense"),
    ],
)
def test_a_player_of_something_else_is_refused_on_reset(waiting: Callable[..., int], change: Callable, said: str):
    with pytest.raises(UnityError, match=said):
        started(waiting(changed(change)), num=2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda output: setattr(first(output), "reward", 0.5), "a reward of 0.5 for valid="),
        (record(valid=True, reason="object"), "valid=True, reason='object'"),
        (record(reason="no mood"), "reason='no mood'; see"),
        (record(moved=3), "moved=3, which is none of the 3 objects"),
        (lambda output: setattr(first(output), "done", True), "1 records on the channel|0 records on the channel"),
        (lambda output: output.agentInfos[BEHAVIOUR].value.pop(), "records on the channel"),
    ],
)
def test_a_player_that_breaks_the_rules_is_refused_on_a_step(waiting: Callable[..., int], change: Callable, said: str):
    with pytest.raises(UnityError, match=said):
        moved(started(waiting(changed(change, on=0)), num=2))


def garble(output) -> None:
    """Leaves of a picture its beginning, and makes nonsense of the rest."""
    whole = first(output).observations[1].compressed_data
    first(output).observations[1].compressed_data = whole[:60] + bytes(len(whole) - 60)


@pytest.mark.parametrize("change", [garble, lambda output: first(output).observations[1].ClearField("compressed_data")])
def test_pictures_that_are_none_are_refused(waiting: Callable[..., int], sketched: list, change: Callable):
    with pytest.raises(UnityError, match="messages make no sense"):
        started(waiting(changed(change)), pictures=True)


def test_rows_that_end_unasked_or_not_when_asked_are_errors(waiting: Callable[..., int]):
    class Deaf(Player):
        def answer(self, command):
            if command.command == 0:
                command.side_channel = channel.pack(channel.encode({"rows": self.ends}))
            return super().answer(command)

    for ends, asked in (([0], []), ([], [1])):
        Deaf.ends = ends
        made = started(waiting(Deaf), num=2)
        made.announce(np.array(asked, int))
        with pytest.raises(UnityError, match=r"rows \[.*\] ended their episodes: \[.*\] were asked to"):
            moved(made)


def test_a_player_in_which_nobody_ever_acts_is_refused(waiting: Callable[..., int]):
    class Idle(Player):
        def answer(self, command):
            return super().answer(command) if command.command else self._output()

    with pytest.raises(UnityError, match="no agent that can act"):
        moved(started(waiting(Idle)))


def test_what_unity_does_not_send_is_said(waiting: Callable[..., int]):
    class Blind(Player):
        def _prepare(self, options):
            super()._prepare(options | {"pictures": False})

    envs = SpatialVectorEnv(unity=waiting(Blind), render_mode="rgb_array")
    envs.reset(seed=0)
    with pytest.raises(UnityError, match="sends no pictures: give its agents a camera"):
        envs.render()
    with pytest.raises(ValueError, match="no masks and depths"):
        envs.truth()
    envs.close()


def test_nan_is_refused_before_it_is_sent(waiting: Callable[..., int]):
    envs = SpatialVectorEnv(unity=waiting())
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="NaN"):
        envs.step(np.full((1, 3), np.nan))
    envs.step(np.zeros((1, 3)))
    envs.close()


def test_numbers_of_a_picture_are_turned_into_the_older_layout():
    kind = import_mlagents("mlagents_envs.communicator_objects.observation_pb2").ObservationProto
    picture = np.arange(3 * 5 * 6, dtype=np.float32).reshape(3, 5, 6)
    observation = kind(shape=picture.shape, dimension_properties=[1, 2, 2])
    observation.float_data.data.extend(picture.ravel())
    for _ in range(2):
        channels_last(observation)
        assert list(observation.shape) == [5, 6, 3] and list(observation.dimension_properties) == [2, 2, 1]
        data = np.array(observation.float_data.data).reshape(5, 6, 3)
        np.testing.assert_array_equal(data, np.moveaxis(picture, 0, 2))


numbers = st.floats(-100, 100)
records = st.builds(
    channel.Record,
    row=st.integers(0, 9),
    done=st.booleans(),
    arrangement=st.integers(0, 3).flatmap(
        lambda count: st.builds(
            Arrangement,
            room=st.text(),
            camera=st.builds(
                Camera, st.tuples(numbers, numbers, numbers), numbers, numbers, numbers, st.just(24), st.just(32)
            ),
            objects=st.permutations(range(len(NAMES))).map(lambda order: tuple(order[:count])),
            positions=st.lists(numbers, min_size=3 * count, max_size=3 * count).map(
                lambda flat: np.array(flat).reshape(-1, 3)
            ),
            yaws=st.lists(numbers, min_size=count, max_size=count).map(np.array),
        )
    ),
    moved=st.integers(-1, 2),
    valid=st.booleans(),
    reason=st.text(),
)


@settings(max_examples=20)
@given(st.lists(records, max_size=2))
def test_records_arrive_as_they_were_sent_beside_other_channels(sent: list[channel.Record]):
    other = uuid.uuid4().bytes_le + (5).to_bytes(4, "little") + b"hello"
    data = other.join([b"", *(channel.pack(channel.encode(channel.describe(each))) for each in sent), b""])
    received = [channel.describe(channel.understand(channel.decode(each))) for each in channel.unpack(data)]
    assert received == [channel.describe(each) for each in sent]


@pytest.mark.parametrize(
    "payload", [b"[]", b"{", b"\xff", b"3", b'{"row": NaN}', b'{"row": -Infinity}', b'{"row": 1e999}']
)
def test_payloads_that_are_no_objects_are_errors(payload: bytes):
    with pytest.raises(ValueError):
        channel.decode(payload)


def test_the_client_is_imported_without_a_trace_and_sends_what_it_is_given():
    code = """
    import sys
    from mentorgym.envs.spatial.unity.shim import import_mlagents
    finders, known = list(sys.meta_path), {name for name in sys.modules if name.startswith("distutils")}
    module = import_mlagents("mlagents_envs.environment")
    assert import_mlagents("mlagents_envs.environment") is module
    assert sys.meta_path == finders and {name for name in sys.modules if name.startswith("distutils")} == known
    from mlagents_envs.communicator_objects.unity_message_pb2 import UnityMessageProto
    from mlagents_envs.communicator_objects.command_pb2 import RESET
    message = UnityMessageProto()
    message.unity_output.rl_output.agentInfos["a"].value.add(id=3, reward=1.5)
    message.unity_input.rl_input.command = RESET
    assert UnityMessageProto.FromString(message.SerializeToString()) == message
    print(message.SerializeToString().hex())
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    sent = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # By hand: field 2, rl_output 1, agentInfos 2, its entry "a" (1) with a list (2) of one (1): reward 7, id 10; then
    # field 3, rl_input 1, command 4.
    info = bytes.fromhex("3d 0000c03f 50 03")
    listed = b"\x0a" + bytes([len(info)]) + info
    entry = b"\x0a\x01a\x12" + bytes([len(listed)]) + listed
    output = b"\x12" + bytes([len(entry)]) + entry
    wrapped = b"\x0a" + bytes([len(output)]) + output
    assert bytes.fromhex(sent) == b"\x12" + bytes([len(wrapped)]) + wrapped + b"\x1a\x04\x0a\x02\x20\x01"


def test_a_missing_client_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mlagents_envs", None)
    with pytest.raises(ImportError, match=r"the link to Unity needs mlagents_envs: pip install .*\[unity\]'"):
        SpatialVectorEnv(unity="editor")


def test_only_modules_that_protobuf_would_refuse_are_made_anew():
    import ast

    old = 'DESCRIPTOR = _descriptor.FileDescriptor(\n  name="a",\n  serialized_pb={})'
    for written in (r"_b('\n\xe9')", r"b'\n\xe9'"):
        assert serialized_descriptor(ast.parse(old.format(written))) == b"\n\xe9"
    new = "DESCRIPTOR = _descriptor_pool.Default().AddSerializedFile(b'')\n_builder.BuildMessage(DESCRIPTOR, globals())"
    assert serialized_descriptor(ast.parse(new)) is None


def test_versions_are_compared_by_their_numbers():
    assert StrictVersion("1.5.0").version == (1, 5, 0)
    with pytest.raises(ValueError):
        StrictVersion("1.5.0-preview")


def test_the_player_says_that_nobody_listens(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    from mentorgym.envs.spatial.unity import player

    monkeypatch.setattr(player, "TIMEOUT", 0.3)
    port = free_port()
    assert player.main(["--mlagents-port", str(port)]) == 1
    assert capsys.readouterr().err.startswith(f"port {port} of this machine: ")
    with pytest.raises(SystemExit):
        player.main(["--mlagents-port", "70000"])
    assert "a port is a number from 1 to 65535" in capsys.readouterr().err


def test_the_csharp_side_speaks_of_the_same_channel_and_entries():
    folder = Path(channel.__file__).parent / "csharp"
    source = "".join(path.read_text("utf-8") for path in folder.glob("*.cs"))
    assert str(channel.CHANNEL) in source
    arrangement = Arrangement("a", Camera((0, 0, 0), 0, 0, 1, 2, 2), (0,), np.zeros((1, 3)), np.zeros(1))
    told = channel.describe(channel.Record(0, True, arrangement, 0, True, ""))
    for name in (*told, *told["camera"], *OPTIONS, "rows", "seeds", "pictures"):
        assert re.search(rf"public [\w\[\]]+ {name}\b", source), name
    # Without Python its rooms are as with an environment's defaults, by the same rules.
    for name, value in PLAYED.items():
        assert f"{name} = {json.dumps(value)}" in re.sub(r"(?<=\d)f\b", "", source), name
    assert f"k_LeastMove = {LEAST_MOVE}f" in source and f"k_Reach = {REACH}f" in source
    # C# has no nested lists in its JSON.
    flat = channel.understand(told | {"positions": [0.0, 0.0, 0.0]})
    assert channel.describe(flat) == told
