"""What the harness's commands share: one line for a user's mistake, `--json`, and what results say of their making."""

import contextlib
import csv
import io
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console, RenderableType

from mentorgym.extras import import_extra

progress_console = Console(stderr=True)
"""Progress goes to standard error, so that standard output holds results alone."""


WIDTH_OF_FILES = 1000
"""Columns that there are in a file or a pipe: enough for any table, so that nothing is cut."""


class UsageError(Exception):
    """A mistake of the user's that the message explains; shown without a traceback."""


def show(*what: RenderableType) -> None:
    """Print results to standard output, a line each; lines of text are not broken."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES, highlight=False)
    for item in what:
        console.print(item, soft_wrap=isinstance(item, str), markup=False)


def command_line(name: str, arguments: Sequence[str]) -> str:
    """A command of the harness as a shell takes it, to stand beside what it made."""
    return shlex.join(["python", "-m", f"mentorgym.benchmarks.{name}", *arguments])


def import_matplotlib(purpose: str) -> ModuleType:
    """matplotlib with its figures; UsageError that says what to install for whoever wants `purpose`."""
    try:
        matplotlib = import_extra("matplotlib", "plots", purpose)
        import_extra("matplotlib.figure", "plots", purpose)
    except ImportError as error:
        raise UsageError(str(error)) from error
    return matplotlib


def made_by(command: str) -> str:
    """The sentence on a page that says which command has written it, from which commit, when, and on what processor."""
    # It imports torch, which not every command needs.
    from mentorgym.agents.toolbox.runs import describe_start

    start = describe_start()
    commit = f"{start['commit'] or 'unknown'}{' and changes' if start['dirty'] else ''}"
    return f"Written by `{command}` at commit {commit} on {start['time'][:10]}, {start['hardware']['cpu']}."


def report(name: str, lines: Sequence[str], path: Path | None) -> None:
    """Print a command's `lines` of Markdown, and write them to `path`, if one is given, with how they were made."""
    from mentorgym.agents.toolbox.runs import write_atomically

    show(*lines)
    if path:
        title = f"# {name.capitalize().replace('_', ' ')}"
        made = made_by(command_line(name, sys.argv[1:]))
        write_atomically(path, "\n".join([title, "", made, "", *lines, ""]))


def run_command(name: str, job: Callable[[], dict[str, Any]], as_json: bool) -> None:
    """Run `job` and end the process with a message and exit code 1 on a UsageError.

    With `as_json`, whatever the job prints goes to standard error, and what it returns to standard output, as one line.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            result = job()
    except UsageError as error:
        sys.exit(f"{name}: {error}")
    if as_json:
        print(json.dumps(result, allow_nan=False))


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
