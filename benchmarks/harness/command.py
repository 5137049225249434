"""What the commands share: flags, `--json`, one line for a user's mistake, and who made a file."""

import contextlib
import csv
import dataclasses
import inspect
import io
import json
import os
import shlex
import shutil
import sys
import time
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol, TypeVar

import gymnasium
import rich.progress
import tyro
from rich.console import Console, RenderableType

progress_console = Console(stderr=True)
"""Progress goes to standard error, so that standard output holds results alone."""

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 30.0

WIDTH_OF_FILES = 1000
"""Columns that there are in a file or a pipe: enough for any table, so that nothing is cut."""


class UsageError(Exception):
    """A mistake of the user's that the message explains; shown without a traceback."""


def show(*what: RenderableType) -> None:
    """Print results to standard output, a line each; lines of text are not broken."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES, highlight=False)
    for item in what:
        console.print(item, soft_wrap=isinstance(item, str), markup=False)


def show_result(**result: Any) -> dict[str, Any]:
    """Print a result, a line for each of its parts, and return it."""
    show(*(f"{name}: {value}" for name, value in result.items()))
    return result


class Bars(rich.progress.Progress):
    """Progress bars; where standard error is no terminal, a line every SECONDS_BETWEEN_LINES instead."""

    _last_line = float("-inf")

    def advance(self, task_id: rich.progress.TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._print_line(task_id)

    def update(self, task_id: rich.progress.TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._print_line(task_id)

    def _print_line(self, task_id: rich.progress.TaskID) -> None:
        if not self.console.is_terminal and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            task = self._tasks[task_id]
            share = f"{task.percentage:.0f} %" if task.total else f"{task.completed:,.0f}"
            self.console.print(f"{task.description}: {share}", markup=False)


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """`items` one by one, with a bar that goes when they end."""
    with progress_bars(transient=True) as bars:
        yield from bars.track(items, total, description=description)


def progress_bars(count: str = "", transient: bool = False) -> Bars:
    """Bars with their descriptions, the text `count` (a format with `task`) and times; `transient` ones go."""
    columns = rich.progress.TextColumn("{task.description}"), rich.progress.BarColumn(), rich.progress.TextColumn(count)
    times = rich.progress.TimeElapsedColumn(), rich.progress.TimeRemainingColumn()
    return Bars(*columns, *times, console=progress_console, transient=transient)


@contextlib.contextmanager
def user_input(where: str = "") -> Iterator[None]:
    """Turn what fails inside, because of what the user gave, into a UsageError that begins with `where`."""
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError, gymnasium.error.Error) as error:
        raise UsageError(f"{where}{error}") from error


Result = dict[str, Any] | tuple[dict[str, Any], int]
"""What a command returns: a JSON object, or one with an exit code."""


def refuse(message: str) -> NoReturn:
    """End the process with `message` on standard error and exit code 2."""
    print(message, file=sys.stderr)
    ending = SystemExit(message)  # Who calls a command from Python finds the message in the exception.
    ending.code = 2
    raise ending


class Command(Protocol):
    """A command: ends the process where something is wrong."""

    def __call__(self, arguments: Sequence[str] | None = None) -> None: ...


def verb(
    name: str, kind: type | None = None, description: str | None = None
) -> Callable[[Callable[..., Result]], Command]:
    """The decorator that makes the command `mentorgym <name>` of a function.

    The function's first parameter is a dataclass of flags, by default of the type that it is annotated with. Where it
    has parameters of these names it also gets `command`, the command line as a shell takes it, and `flags`, the
    arguments after `--`. The help is `description`, by default the docstring of the function's module. The command
    takes arguments, those of the process by default.

    A UsageError is shown as one line; the exit code is then 2. With `--json`, whatever the function prints goes to
    standard error, and its result to standard output, as one line.
    """

    def decorate(function: Callable[..., Result]) -> Command:
        parameters = list(inspect.signature(function).parameters)
        help_text = description or sys.modules[function.__module__].__doc__

        def main(arguments: Sequence[str] | None = None) -> None:
            arguments = sys.argv[1:] if arguments is None else list(arguments)
            given: Sequence[str] = arguments
            flags: Sequence[str] = []
            if "flags" in parameters and "--" in arguments:
                split = arguments.index("--")
                given, flags = arguments[:split], arguments[split + 1 :]
            flags_of = _with_json(kind or typing.get_type_hints(function)[parameters[0]])
            args: Any = tyro.cli(flags_of, args=given, prog=f"mentorgym {name}", description=help_text)
            more = {"command": command_line(name, arguments), "flags": flags}
            more = {key: value for key, value in more.items() if key in parameters}
            try:
                with contextlib.redirect_stdout(sys.stderr) if args.as_json else contextlib.nullcontext():
                    result = function(args, **more)
            except UsageError as error:
                refuse(f"mentorgym {name}: {error}")
            result, code = result if isinstance(result, tuple) else (result, 0)
            if args.as_json:
                print(json.dumps(result, allow_nan=False))
            if code:
                sys.exit(code)

        main.__doc__ = function.__doc__
        return main

    return decorate


def _with_json(flags: type) -> type:
    """The dataclass `flags` with the flag `--json`."""
    words = "print one JSON object on standard output, and nothing else there"
    json_flag = Annotated[bool, tyro.conf.arg(name="json", help=words)]
    return dataclasses.make_dataclass(
        flags.__name__, [("as_json", json_flag, False)], bases=(flags,), namespace={"__doc__": flags.__doc__}
    )


def program() -> str:
    """How a shell calls `mentorgym` here: by its name, or by its path where the environment is not active."""
    own = Path(sys.executable).with_name("mentorgym")
    on_path = shutil.which("mentorgym")
    if on_path and Path(on_path).absolute() == own.absolute():
        return "mentorgym"
    return shlex.quote(os.path.relpath(own))


def command_line(name: str, arguments: Sequence[str]) -> str:
    """A command as a shell takes it, to stand beside what it made."""
    return shlex.join(["mentorgym", *name.split(), *arguments])


def made_by(command: str) -> str:
    """The sentence on a page that says which command has written it, from which commit, when, and on what processor."""
    # It imports torch, which not every command needs.
    from mentorgym.agents.toolbox.runs import describe_start

    start = describe_start()
    commit = f"{start['commit'] or 'unknown'}{' and changes' if start['dirty'] else ''}"
    return f"Written by `{command}` at commit {commit} on {start['time'][:10]}, {start['hardware']['cpu']}."


@dataclass
class TableFlags:
    """Flags of a benchmark that writes its table to a file."""

    table: Path | None = None
    """write the table there, as Markdown"""


def report(title: str, lines: Sequence[str], path: Path | None, command: str) -> None:
    """Print a command's `lines` of Markdown, and write them to `path`, if one is given, with how they were made."""
    show(*lines)
    if path:
        write_text(path, "\n".join([f"# {title}", "", made_by(command), "", *lines, ""]))


def output_files(folder: Path, name: str, *suffixes: str) -> list[Path]:
    """The files called `name` with these suffixes in `folder`, which is made."""
    with user_input(f"--output {folder}: "):
        folder.mkdir(parents=True, exist_ok=True)
    return [folder / f"{name}{suffix}" for suffix in suffixes]


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, in a folder that is made."""
    from mentorgym.agents.toolbox.runs import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)


def write_figures(path: Path, figures: Mapping[str, Any], command: str) -> None:
    """Write a command's `figures` as JSON, with how they were made."""
    from mentorgym.agents.toolbox.runs import describe_start

    write_text(path, json.dumps({**figures, "command": command, **describe_start()}, indent=2) + "\n")


def csv_text(entries: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """The `columns` of `entries` as CSV, numbers to six decimals."""

    def cell(value: Any) -> str:
        if isinstance(value, list):
            return " ".join(map(cell, value))
        return f"{value:.6f}" if isinstance(value, float) else "" if value is None else str(value)

    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(entry[name]) for name in columns] for entry in entries)
    return file.getvalue()
