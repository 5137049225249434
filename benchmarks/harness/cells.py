"""One training run of a matrix or a study: its command, and the folder that it leaves."""

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentorgym.agents.toolbox.runs import NOT_HASHED


@dataclass(frozen=True)
class Cell:
    """One training run."""

    name: str
    """`<agent's table>__<environment's table>__seed<k>`"""
    agent: str
    """name of the agent, or the path of its file"""
    env_id: str
    seed: int
    arguments: tuple[str, ...]
    """the agent's flags as on a command line"""
    args: Any = dataclasses.field(compare=False)
    """the same flags as the agent's `Args`"""
    evaluation: tuple[str, ...] | None = None
    """flags of `evaluate`; None for a trainer, which is not ranked"""

    @property
    def command(self) -> list[str]:
        """The training command, without `mentorgym`."""
        return ["train", self.agent, *self.arguments]

    def folder(self) -> Path | None:
        """The run's folder, told by its `config.json`; None before there is one."""
        wanted = self._identity(dataclasses.asdict(self.args))
        for path in sorted(Path(getattr(self.args, "runs", "runs")).rglob("config.json")):
            # A file that is being written, or that is somebody else's, is not this run's.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                config = json.loads(path.read_text("utf-8"))
                if config["agent"] == Path(self.agent).stem and self._identity(config["args"]) == wanted:
                    return path.parent
        return None

    def finished(self) -> Path | None:
        """The run's folder if training has ended."""
        folder = self.folder()
        return folder if folder and (folder / "done").is_file() else None

    @staticmethod
    def _identity(flags: Mapping[str, Any]) -> Any:
        kept = {name: value for name, value in flags.items() if name == "seed" or name not in NOT_HASHED}
        return json.loads(json.dumps(kept, default=str))
