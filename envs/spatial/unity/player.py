"""A player in Python: the scenes of `UnitySpatial-v0` served as a Unity build would serve them.

It shows the link at work where there is no Unity, and it is what the link is tested against. Either it takes the place
of an Editor in which Play is pressed, next to `unity="editor"`:

    mentorgym unity-player --mlagents-port 5004

or that of a build, `unity="./player"`, as an executable file of two lines (a Python that has mentorgym, and this):

    #!/usr/bin/env python3
    from mentorgym.envs.spatial.unity.player import main; raise SystemExit(main())

Of ML-Agents it speaks communicator API 1.5.0: one method, called by the player with what it has to tell, and answered
with what it is to do. First come both sides' versions, then an empty message, whose answer is the first command; after
that each message holds the agents' observations and rewards.
"""

import argparse
import inspect
import io
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from mentorgym.envs.spatial.unity import channel
from mentorgym.envs.spatial.unity.channel import Record
from mentorgym.envs.spatial.unity.link import EDITOR_PORT, GO_ON, METHOD, SERVICE, STOP, TIMEOUT
from mentorgym.envs.spatial.unity.shim import import_mlagents
from mentorgym.envs.spatial.vector import SPLITS, SpatialVectorEnv
from mentorgym.envs.spatial.world import REASONS, EmbeddedWorld
from mentorgym.extras import import_extra

BEHAVIOUR = "Spatial?team=0"
"""What the agents are to ML-Agents; the number of a team belongs to such a name."""

_ARGUMENTS = inspect.signature(SpatialVectorEnv).parameters
OPTIONS: dict[str, Any] = {
    **{name: _ARGUMENTS[name].default for name in ("split", "camera", "move_scale", "in_view")},
    "pictures": True,
}
"""What is served to whoever asks for nothing else."""

STEP, RESET, QUIT = 0, 1, 2
"""Commands."""


class Player:
    """One connection to a Python that listens on a port of this machine.

    Args:
        port: where it listens.
        layout: of the pictures' shapes, "hwc" as in Unity's package 2 or "chw" as from package 3 on.
    """

    version = "1.5.0"

    def __init__(self, port: int, layout: str = "hwc"):
        self.layout = layout
        self.options: dict[str, Any] = {}
        grpc = import_extra("grpc", "unity", "the link to Unity")
        self._message = import_mlagents("mlagents_envs.communicator_objects.unity_message_pb2").UnityMessageProto
        self._output = import_mlagents("mlagents_envs.communicator_objects.unity_rl_output_pb2").UnityRLOutputProto
        # Whatever proxy there may be, it does not lead to this machine.
        self._line = grpc.insecure_channel(f"127.0.0.1:{port}", options=(("grpc.enable_http_proxy", 0),))
        self._call = self._line.unary_unary(
            f"/{SERVICE}/{METHOD}",
            request_serializer=self._message.SerializeToString,
            response_deserializer=self._message.FromString,
        )

    def run(self) -> None:
        """Serve until the other side says that it is enough; grpc.RpcError where it is not there, or no longer."""
        try:
            self._serve()
        except KeyboardInterrupt:
            self._call(self._wrap(STOP), timeout=1)
        finally:
            self._line.close()

    def _serve(self) -> None:
        hello = self._wrap()
        told = hello.unity_output.rl_initialization_output
        told.name, told.communication_version, told.package_version = "mentorgym", self.version, "2.3.0"
        for capability in told.capabilities.DESCRIPTOR.fields:
            setattr(told.capabilities, capability.name, True)
        reply = self._call(hello, wait_for_ready=True, timeout=TIMEOUT)
        if reply.header.status != GO_ON:
            return
        wanted = reply.unity_input.rl_initialization_input
        self.num, self.first_seed = max(wanted.num_areas, 1), wanted.seed
        reply = self._call(self._wrap())
        introduced = False
        while reply.header.status == GO_ON and reply.unity_input.rl_input.command != QUIT:
            message = self._wrap()
            message.unity_output.rl_output.CopyFrom(self.answer(reply.unity_input.rl_input))
            if not introduced:
                brain = message.unity_output.rl_initialization_output.brain_parameters.add()
                brain.brain_name, brain.is_training, brain.action_spec.num_continuous_actions = BEHAVIOUR, True, 3
                introduced = True
            reply = self._call(message)

    def answer(self, command: Any) -> Any:
        """Do what a UnityRLInputProto says, and tell what came of it as UnityRLOutputProto."""
        told: dict[str, Any] = {}
        for payload in channel.unpack(command.side_channel):
            told |= channel.decode(payload)
        output = self._output()
        every = list(range(self.num))
        if command.command == RESET:
            rows, seeds = told.get("rows", every), told.get("seeds", [self.first_seed + row for row in every])
            self._prepare({name: told.get(name, value) for name, value in OPTIONS.items()})
            self._draw(rows, seeds)
            self._tell(output, every)
        else:
            actions = [action.continuous_actions for action in command.agent_actions[BEHAVIOUR].value]
            anew = told.get("rows", [])
            self._why, self._moved = self.world.move(np.clip(np.array(actions, np.float64), -1, 1))
            self._tell(output, anew, done=True)
            self.world.arrange(np.array(anew, int))
            self._tell(output, every, fresh=set(anew))
        return output

    def _prepare(self, options: dict[str, Any]) -> None:
        """A world with these options, unless there is one."""
        if options != self.options:
            self.options = options
            names = SPLITS[options["split"]]
            self.world = EmbeddedWorld(self.num, names, options["camera"], options["move_scale"], options["in_view"])
        self._moved, self._why = np.full(self.num, -1), np.zeros(self.num, int)

    def _draw(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        fresh = [(row, seed) for row, seed in zip(rows, seeds, strict=True) if seed >= 0]
        if fresh:
            numbers = np.array(fresh, np.uint64)
            self.world.seed(numbers[:, 0].astype(int), numbers[:, 1], list(SPLITS).index(self.options["split"]))
        self.world.arrange(np.array(rows, int))

    def _tell(self, output: Any, rows: Sequence[int], *, done: bool = False, fresh: Sequence[int] | set = ()) -> None:
        """Add these rows' observations and records; `fresh` ones have just begun and are owed no reward."""
        states = self.world.observe()
        for row in rows:
            arrangement, why = self.world.arrangement(row), int(self._why[row])
            record = Record(row, done, arrangement, int(self._moved[row]), why == 0, REASONS[why])
            reward = 0.0 if self._moved[row] < 0 or row in fresh else 1.0 if why == 0 else -1.0
            agent = output.agentInfos[BEHAVIOUR].value.add(id=row, done=done, max_step_reached=done, reward=reward)
            state = agent.observations.add(name="state", shape=[len(states[row])], dimension_properties=[1])
            state.float_data.data.extend(states[row].tolist())
            if self.options["pictures"]:
                from mentorgym.envs.spatial import picture

                self._show(agent.observations.add(name="camera"), picture.draw(arrangement).colours)
            output.side_channel += channel.pack(channel.encode(channel.describe(record)))

    def _show(self, observation: Any, colours: np.ndarray) -> None:
        """Put uint8 [H, W, 3] into an ObservationProto, as a PNG."""
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(colours).save(buffer, "PNG", compress_level=1)
        height, width, channels = colours.shape
        # 1: the channels; 2: along these, things look the same wherever they are.
        if self.layout == "chw":
            observation.shape.extend([channels, height, width])
            observation.dimension_properties.extend([1, 2, 2])
        else:
            observation.shape.extend([height, width, channels])
            observation.dimension_properties.extend([2, 2, 1])
        observation.compression_type = 1
        observation.compressed_channel_mapping.extend(range(channels))
        observation.compressed_data = buffer.getvalue()

    def _wrap(self, status: int = GO_ON) -> Any:
        message = self._message()
        message.header.status = status
        return message


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the port that the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="mentorgym unity-player", description="Serve UnitySpatial-v0's scenes as a Unity player would."
    )
    parser.add_argument("--mlagents-port", type=int, default=EDITOR_PORT, help="where Python listens")
    parser.add_argument("--layout", choices=("hwc", "chw"), default="hwc", help="of the pictures' shapes")
    # What Unity's own players take too.
    for flag in ("-batchmode", "-nographics"):
        parser.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-logFile", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if not 0 < given.mlagents_port < 1 << 16:
        parser.error(f"--mlagents-port {given.mlagents_port}: a port is a number from 1 to 65535")
    grpc = import_extra("grpc", "unity", "the link to Unity")
    try:
        Player(given.mlagents_port, given.layout).run()
    except grpc.RpcError as error:
        print(f"port {given.mlagents_port} of this machine: {error.details()}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
