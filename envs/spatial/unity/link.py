"""A Unity player as the world of `SpatialVectorEnv`, through ML-Agents' own `UnityEnvironment`.

That client is left as it is, but for its socket: it would listen on all interfaces, without authentication and on a
port shared with whoever else asks for it. Here `Server` takes that part, on 127.0.0.1 alone and on a port of its own;
it starts the player too, watches it while it waits, and leaves none behind.
"""

import atexit
import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.unity import channel
from mentorgym.envs.spatial.unity.channel import Record
from mentorgym.envs.spatial.unity.shim import import_mlagents
from mentorgym.envs.spatial.world import ACTIVE, OBSERVED, REASONS
from mentorgym.extras import import_extra

EDITOR_PORT = 5004
"""Where the Unity Editor looks for Python when Play is pressed."""

TIMEOUT = 60.0
"""Seconds that a player may take to connect, and to answer."""

SECONDS_TO_END = 2.0
"""How long a player may take to end after it is asked to, before it is killed."""

SERVICE, METHOD = "communicator_objects.UnityToExternalProto", "Exchange"
"""What a player calls with each message."""

GO_ON, STOP = 200, 400
"""Status of a message."""

_POLL = 0.1
"""Seconds between two looks at whether the player lives."""

_MESSAGES = 16
"""Without an agent that can act, after which a player is taken to have none."""


class UnityError(RuntimeError):
    """What is wrong with a player, or between it and us; the message says what, and where its log is."""


def executable(path: str | Path) -> Path:
    """The program of a Unity build, named as Unity's own tools name it: with or without the platform's suffix.

    Raises UnityError where there is none that can be run.
    """
    given = Path(path).absolute()
    suffix = {"win32": ".exe", "darwin": ".app"}.get(sys.platform, ".x86_64")
    for candidate in (given, given.with_name(given.name + suffix)):
        if candidate.suffix == ".app":
            candidate = next(iter(sorted((candidate / "Contents" / "MacOS").glob("*"))), candidate)
        if candidate.is_file():
            if not os.access(candidate, os.X_OK):
                raise UnityError(f"{candidate} is not executable: `chmod +x` it, if it is a Unity build")
            return candidate
    if given.is_dir():
        raise UnityError(f"{given} is a folder: name the program in it")
    raise UnityError(f"there is no Unity build at {given}; unity='editor' waits for a running Editor instead")


class Workers(Executor):
    """Threads for gRPC. The interpreter waits for those of a ThreadPoolExecutor before it calls what is to be done at
    its end, and the message that waits for its reply would wait for ever; these it leaves alone."""

    def __init__(self, count: int):
        self._tasks: queue.SimpleQueue = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Call `fn` in one of the threads."""
        future: Future = Future()
        self._tasks.put((future, fn, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads."""
        for _ in self._threads:
            self._tasks.put(None)

    def _work(self) -> None:
        while task := self._tasks.get():
            future, function, arguments, named = task
            try:
                future.set_result(function(*arguments, **named))
            except BaseException as error:
                future.set_exception(error)


class Server:
    """Where a player calls: what `UnityEnvironment` knows as its communicator.

    Args:
        program: the player to start, or None to wait for one that somebody else starts.
        port: to listen on; 0 for any that is free.
        arguments: of the program, beside the port.
        timeout: seconds that the player may take for each message.
    """

    def __init__(self, program: Path | None, port: int, arguments: tuple[str, ...], timeout: float):
        grpc = import_extra("grpc", "unity", "the link to Unity")
        self._message = import_mlagents("mlagents_envs.communicator_objects.unity_message_pb2").UnityMessageProto
        self.timeout, self._program = timeout, program
        self._received: queue.SimpleQueue = queue.SimpleQueue()
        self._replies: queue.SimpleQueue = queue.SimpleQueue()
        self._gone, self._closed = threading.Event(), threading.Event()
        self._process: subprocess.Popen | None = None
        self._log: Path | None = None
        # One for the message that waits for its reply, one for a farewell that overtakes it.
        self._workers = Workers(2)
        self._server = grpc.server(
            self._workers, options=(("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1))
        )
        handler = grpc.unary_unary_rpc_method_handler(
            self._answer, self._message.FromString, self._message.SerializeToString
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
        try:
            self.port: int = self._server.add_insecure_port(f"127.0.0.1:{port}")
        except RuntimeError:
            self.port = 0
        if not self.port:
            self._workers.shutdown()
            raise UnityError(f"port {port} of 127.0.0.1 is in use: close what listens there, or name another port")
        self._server.start()
        if program is not None:
            try:
                self._start(program, arguments)
            except OSError as error:
                self.close()
                raise UnityError(f"{program} cannot be run: {error}") from error

    def _start(self, program: Path, arguments: tuple[str, ...]) -> None:
        handle, name = tempfile.mkstemp(prefix="mentorgym-unity-", suffix=".log")
        self._log = Path(name)
        # A proxy would not find its way back to this machine.
        environment = os.environ | {"no_grpc_proxy": "localhost,127.0.0.1"}
        command = [str(program), "--mlagents-port", str(self.port), "-logFile", "-", *arguments]
        with os.fdopen(handle, "wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                # A group of its own, to be ended with all that it starts.
                start_new_session=True,
            )

    def _answer(self, message: Any, context: Any) -> Any:
        """Called by gRPC with each message of the player; returns the reply."""
        if message.header.status != GO_ON:
            self._received.put(message)
            return self._stop()
        answered = threading.Event()

        def ended() -> None:
            if not answered.is_set():
                self._gone.set()

        context.add_callback(ended)
        self._received.put(message)
        while not (self._closed.is_set() or self._gone.is_set()):
            with contextlib.suppress(queue.Empty):
                reply = self._replies.get(timeout=_POLL)
                if context.is_active():
                    answered.set()
                    return reply
                self._gone.set()
        answered.set()
        return self._stop()

    def _stop(self) -> Any:
        message = self._message()
        message.header.status = STOP
        return message

    def initialize(self, inputs: Any, poll_callback: Any = None) -> Any:
        """Exchange the first messages, UnityInputProto for UnityOutputProto; the player's second one is empty."""
        first = self._receive()
        self._send(inputs)
        self._receive()
        return first

    def exchange(self, inputs: Any, poll_callback: Any = None) -> Any:
        """Send a UnityInputProto and wait for the UnityOutputProto, pictures as [height, width, channels]."""
        self._send(inputs)
        output = self._receive()
        for agents in output.rl_output.agentInfos.values():
            for agent in agents.value:
                for observation in agent.observations:
                    channels_last(observation)
        return output

    def _send(self, inputs: Any) -> None:
        message = self._message()
        message.header.status = GO_ON
        message.unity_input.CopyFrom(inputs)
        self._replies.put(message)

    def _receive(self) -> Any:
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                message = self._received.get(timeout=_POLL)
            except queue.Empty:
                gone = self._gone.is_set()
                if (code := self._exit_code(SECONDS_TO_END if gone else 0.0)) is not None:
                    raise UnityError(f"the Unity player ended with exit code {code}{self.log()}") from None
                if gone:
                    raise UnityError(f"the connection to the Unity player was lost{self.log()}") from None
                if time.monotonic() > deadline:
                    what = f"{self._program} did not" if self._program else "no player connected, or it did not"
                    raise UnityError(f"{what} answer on port {self.port} in {self.timeout:g} s{self.log()}") from None
                continue
            if message.header.status != GO_ON:
                raise UnityError(f"the Unity player was stopped{self.log()}")
            return message.unity_output

    def _exit_code(self, seconds: float) -> str | None:
        """The player's exit code in words; None while it runs on for `seconds`, or where somebody else started it."""
        if self._process is None:
            return None
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        with contextlib.suppress(ValueError):
            return f"{code} ({signal.Signals(-code).name})"
        return str(code)

    def log(self) -> str:
        """Where the player's log is, to be put after what went wrong; it is then kept."""
        if self._log is None:
            return ""
        log, self._log = self._log, None
        return f"; its log is {log}"

    def close(self, timeout: float | None = None) -> None:
        """Tell the player to stop, wait for that a little, and see that nothing of it is left."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._process is not None:
            # It hears of the end with the reply that it waits for.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(SECONDS_TO_END)
            if hasattr(os, "killpg"):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
            self._process.wait()
        self._server.stop(SECONDS_TO_END).wait()
        self._workers.shutdown()
        if self._log is not None:
            self._log.unlink(missing_ok=True)


def channels_last(observation: Any) -> None:
    """Turn an ObservationProto [channels, height, width], as Unity's package 3 sends it, into package 2's layout."""
    if len(observation.shape) != 3 or observation.shape[0] > 4 or observation.shape[2] <= 4:
        return
    shape = list(observation.shape)
    observation.shape[:] = [*shape[1:], shape[0]]
    if observation.dimension_properties:
        first, *others = observation.dimension_properties
        observation.dimension_properties[:] = [*others, first]
    if observation.WhichOneof("observation_data") == "float_data":
        data = np.array(observation.float_data.data, np.float32).reshape(shape)
        observation.float_data.data[:] = data.transpose(1, 2, 0).ravel()


class View(NamedTuple):
    """One row: what it holds, and how it was seen."""

    record: Record
    observation: np.ndarray  # float32 [32]
    picture: np.ndarray | None  # uint8 [H, W, 3]
    reward: float


class UnityWorld:
    """N arrangements that a Unity player holds, a `world.World`.

    A player has one agent for each row, all in one process. `num` travels as ML-Agents' number of areas, which its
    TrainingAreaReplicator makes of one. What a player has to tell and to do is said in `unity.channel`.

    Args:
        unity: path of a build; "editor" for one in which Play is pressed; or the port that a running player calls.
        num: N.
        options: sent with every reset, see `unity.channel`.
        pictures: whether pictures are wanted.
        timeout: seconds that the player may take to connect, and then to answer.

    Raises:
        ValueError: `unity` is none of these.
        UnityError: no player can be reached, or it does not do what is expected; no process is left behind.
        ImportError: a package is missing; the message says what to install.
    """

    def __init__(
        self, unity: str | Path | int, num: int, options: dict[str, Any], pictures: bool, timeout: float = TIMEOUT
    ):
        self.num, self.pictures, self._options = num, pictures, options | {"pictures": pictures}
        if unity == "editor":
            unity = EDITOR_PORT
        is_port = isinstance(unity, int | np.integer) and not isinstance(unity, bool) and 0 < unity < 1 << 16
        if not (is_port or isinstance(unity, str | Path)):
            raise ValueError(f"unity={unity!r}: give the path of a build, 'editor', or a port from 1 to 65535")
        mlagents: Any = import_mlagents("mlagents_envs.environment")
        self._actions: Any = import_mlagents("mlagents_envs.base_env").ActionTuple
        self._channel: Any = import_mlagents("mlagents_envs.side_channel.raw_bytes_channel").RawBytesChannel(
            channel.CHANNEL
        )
        arguments = ("-batchmode",) if pictures else ("-batchmode", "-nographics")
        if isinstance(unity, str | Path):
            server = Server(executable(unity), 0, arguments, timeout)
        else:
            server = Server(None, int(unity), (), timeout)
        self._server = server
        self.close = weakref.finalize(self, server.close)
        self._name: str | None = None
        self._seeds: dict[int, int] = {}
        self._views: list[View] = []
        self._shown: dict[int, View] = {}
        self._ending: set[int] = set()
        self._anew: dict[int, View] = {}

        class Environment(mlagents.UnityEnvironment):
            @staticmethod
            def _get_communicator(worker_id: int, base_port: int, timeout_wait: float) -> Server:
                return server

            def __init__(self, **arguments: Any):
                try:
                    super().__init__(**arguments)
                finally:
                    # `Server` ends the player, and sooner.
                    atexit.unregister(self._close)

        with self._closing():
            # The server starts the player; to the client it looks like an Editor.
            self._environment: Any = Environment(
                base_port=server.port, side_channels=[self._channel], num_areas=num, timeout_wait=timeout
            )

    def seed(self, rows: np.ndarray, seeds: np.ndarray, salt: int) -> None:
        """What the next `arrange` of these rows starts from; `salt` follows from the split, which the player knows."""
        self._seeds.update(zip(rows.tolist(), seeds.tolist(), strict=True))

    def arrange(self, rows: np.ndarray) -> None:
        """Have these rows drawn anew, unless the last `move` has seen to it."""
        if len(rows) == 0:
            return
        if set(rows.tolist()) <= self._anew.keys():
            for row in rows.tolist():
                self._views[row] = self._anew.pop(row)
            return
        seeds = [self._seeds.pop(row, -1) for row in rows.tolist()]
        self._say(self._options | {"rows": rows.tolist(), "seeds": seeds})
        with self._closing():
            self._environment.reset()
            if self._name is None:
                self._name = self._check()
            self._views = self._collect(set())

    def announce(self, rows: np.ndarray) -> None:
        """Say which rows, int [n], are to be arranged right after the next `move`: a player goes on by itself."""
        self._ending = set(rows.tolist())

    def move(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `World.move`."""
        self._say({"rows": sorted(self._ending)})
        with self._closing():
            in_order = actions[self._order].astype(np.float32)
            self._environment.set_actions(self._name, self._actions(continuous=in_order))
            self._environment.step()
            self._views = self._collect(self._ending)
            for view in self._views:
                record = view.record
                if record.reason not in REASONS or record.valid != (record.reason == ""):
                    raise UnityError(f"row {record.row}: valid={record.valid}, reason={record.reason!r}; see {REASONS}")
                if not 0 <= record.moved < ACTIVE:
                    raise UnityError(f"row {record.row}: moved={record.moved}, which is none of the {ACTIVE} objects")
                if view.reward != (1 if record.valid else -1):
                    raise UnityError(
                        f"row {record.row}: a reward of {view.reward} for valid={record.valid}, not 1 or -1"
                    )
        why = [REASONS.index(view.record.reason) for view in self._views]
        return np.array(why), np.array([view.record.moved for view in self._views])

    def observe(self) -> np.ndarray:
        """See `World.observe`."""
        return np.stack([view.observation for view in self._views])

    def show(self, rows: np.ndarray) -> None:
        """See `World.show`."""
        self._shown |= {row: self._views[row] for row in rows.tolist()}

    def arrangement(self, row: int, shown: bool = False) -> Arrangement:
        """See `World.arrangement`."""
        return (self._shown if shown else self._views)[row].record.arrangement

    def picture(self, row: int, shown: bool = False) -> np.ndarray:
        """See `World.picture`. ValueError where none were asked for, UnityError where the player sends none."""
        if not self.pictures:
            raise ValueError("Unity's rooms send pictures on request: make them with render_mode='rgb_array'")
        picture = (self._shown if shown else self._views)[row].picture
        if picture is None:
            raise UnityError("the Unity player sends no pictures: give its agents a camera sensor")
        return picture

    def truth(self, row: int) -> dict[str, Any]:
        """Refused: a player sends no masks and depths."""
        raise ValueError("Unity sends no masks and depths: `arrangement` and `render` hold what it sends")

    def frozen(self) -> dict[str, np.ndarray]:
        """Refused: a player keeps its state to itself."""
        raise ValueError("a Unity player keeps its state to itself: make the environment without unity=")

    def thaw(self, state: dict[str, np.ndarray]) -> None:
        """Refused, as `frozen` is."""
        self.frozen()

    def _say(self, message: dict[str, Any]) -> None:
        self._channel.send_raw_data(channel.encode(message))

    @contextlib.contextmanager
    def _closing(self) -> Iterator[None]:
        """End the player on any error, and make a UnityError of it.

        In a message that makes no sense the client and Pillow meet all kinds: KeyError, SyntaxError, zlib.error.
        """
        if not self.close.alive:
            raise UnityError("the link to the Unity player is closed: make the environment anew")
        try:
            yield
        except UnityError:
            self.close()
            raise
        except Exception as error:
            where = self._server.log()
            self.close()
            raise UnityError(f"the Unity player's messages make no sense: {error}{where}") from error
        except BaseException:
            self.close()
            raise

    def _check(self) -> str:
        """The name of the only behaviour; UnityError where it is not what is expected."""
        specs = self._environment.behavior_specs
        if len(specs) != 1:
            raise UnityError(f"the Unity player has the behaviours {sorted(specs)}: one is expected")
        ((name, spec),) = specs.items()
        actions = spec.action_spec
        if actions.continuous_size != 3 or actions.discrete_size:
            raise UnityError(
                f"behaviour {name!r} takes {actions.continuous_size} continuous and {actions.discrete_size} discrete "
                "actions: 3 continuous ones are expected"
            )
        shapes = [tuple(each.shape) for each in spec.observation_specs]
        cameras = [shape for shape in shapes if len(shape) == 3]
        if shapes.count((OBSERVED,)) != 1 or len(cameras) > 1 or any(shape[2] != 3 for shape in cameras):
            raise UnityError(
                f"behaviour {name!r} observes {shapes}: ({OBSERVED},) and at most one camera in colour are expected"
            )
        self._state = shapes.index((OBSERVED,))
        self._camera = shapes.index(cameras[0]) if cameras else None
        return name

    def _collect(self, ending: set[int]) -> list[View]:
        """What every row holds, once all can act; of the rows `ending` before they were drawn anew."""
        ended: dict[int, View] = {}
        for _ in range(_MESSAGES):
            decisions, terminals = self._environment.get_steps(self._name)
            records = [
                channel.understand(channel.decode(payload))
                for payload in self._channel.get_and_clear_received_messages()
            ]
            last = self._views_of(terminals, [record for record in records if record.done])
            first = self._views_of(decisions, [record for record in records if not record.done])
            ended |= {view.record.row: view for view in last}
            if first:
                break
            # The last of an episode may come without the first of the next.
            self._environment.step()
        else:
            raise UnityError(f"{_MESSAGES} messages of the Unity player had no agent that can act")
        self._order = [view.record.row for view in first]
        if sorted(self._order) != list(range(self.num)):
            raise UnityError(
                f"the Unity player lets the rows {sorted(self._order)} act: 0 to {self.num - 1}, together, are expected"
            )
        if ended.keys() != ending:
            raise UnityError(f"the rows {sorted(ended)} ended their episodes: {sorted(ending)} were asked to")
        views = sorted(first, key=lambda view: view.record.row)
        self._anew = {row: views[row] for row in ended}
        return [ended.get(view.record.row, view) for view in views]

    def _views_of(self, steps: Any, records: list[Record]) -> list[View]:
        if len(records) != len(steps):
            raise UnityError(f"{len(records)} records on the channel {channel.CHANNEL} for {len(steps)} observations")
        for record in records:
            if len(record.arrangement.objects) != ACTIVE:
                raise UnityError(f"row {record.row}: objects are {record.arrangement.names}, not {ACTIVE}")
        pictures = [None] * len(steps) if self._camera is None else np.rint(steps.obs[self._camera] * 255)
        return [
            View(record, state, None if picture is None else picture.astype(np.uint8), float(reward))
            for record, state, picture, reward in zip(
                records, steps.obs[self._state], pictures, steps.reward, strict=True
            )
        ]
