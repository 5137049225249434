"""The command `mentorgym <verb>`: a table of verbs, whose modules are imported when they are called."""

import importlib
import sys
from collections.abc import Sequence

from mentorgym import __version__
from mentorgym.names import nearest_name

_HARNESS = "mentorgym.benchmarks"

VERBS: dict[str, dict[str, tuple[str, str]]] = {
    "train and evaluate": {
        "train": (f"{_HARNESS}.train", "train an agent, named or by the path of its file"),
        "run": (f"{_HARNESS}.run", "train and evaluate a matrix of agents, environments and seeds"),
        "evaluate": (f"{_HARNESS}.evaluate", "score agents, models and baselines on enumerated tasks"),
        "check-agent": (f"{_HARNESS}.harness.check_agent", "check an agent's file without training it"),
        "demo": (f"{_HARNESS}.driving.demo", "train, rank and film an agent in a few minutes"),
    },
    "compare and draw": {
        "leaderboard": (f"{_HARNESS}.leaderboard", "rank all evaluated agents; add one of your own"),
        "compare": (f"{_HARNESS}.compare", "the difference of two agents on the same episodes, with its interval"),
        "curves": (f"{_HARNESS}.curves", "draw what training runs logged"),
        "confusion": (f"{_HARNESS}.driving.confusion", "how a CLIP confuses driving actions"),
        "efficiency": (f"{_HARNESS}.driving.efficiency", "parameters and decisions per second of agents and mentors"),
        "caption-tables": (f"{_HARNESS}.captions.tables", "the tables of the RLOO paper from evaluation rows"),
        "spatial-accuracy": (f"{_HARNESS}.spatial.accuracy", "spatial models beside baselines that see no picture"),
        "spatial-curves": (f"{_HARNESS}.spatial.curves", "draw the runs of RLS3"),
    },
    "watch and play": {
        "watch": (f"{_HARNESS}.driving.watch", "film an agent, a mentor or the expert"),
        "unity-player": ("mentorgym.envs.spatial.unity.player", "serve the spatial scenes as a Unity player does"),
        "play": (f"{_HARNESS}.driving.play", "drive with the keyboard in a window"),
        "decide": (f"{_HARNESS}.captions.decide", "describe pictures of yours and decide on an action"),
        "caption-pictures": (f"{_HARNESS}.captions.pictures", "pictures of street scenes with what a model says"),
        "contact-sheet": (f"{_HARNESS}.captions.sheet", "a sheet of staged street scenes"),
        "spatial-sheet": (f"{_HARNESS}.spatial.sheet", "a sheet of rooms"),
    },
    "data": {
        "collect": (f"{_HARNESS}.driving.collect", "record drives of the expert with pictures, prompts and answers"),
        "caption-data": (f"{_HARNESS}.captions.data", "write captioned scenes as shards"),
        "stage": (f"{_HARNESS}.captions.stage", "write staged street scenes as files"),
        "miniature": (f"{_HARNESS}.captions.miniature", "write a small data set in BDD-OIA's layout"),
        "spatial-export": (f"{_HARNESS}.spatial.export", "write spatial samples in other formats"),
        "write-towns": ("mentorgym.envs.driving.map.towns.write_towns", "write our towns as OpenDRIVE"),
        "write-routes": ("mentorgym.envs.driving.task.write_routes", "write the fixed routes of our towns"),
        "write-suites": ("mentorgym.envs.driving.task.suites.write_suites", "write the suites of the benchmarks"),
        "spatial-start": (f"{_HARNESS}.spatial.start", "train the models that RLS3 starts from"),
    },
    "studies": {
        "label-efficiency": (f"{_HARNESS}.captions.label_efficiency", "what labels are worth to captioners"),
        "clip-reward": (f"{_HARNESS}.captions.clip_reward", "what a CLIP's reward can tell apart"),
        "estimators": (f"{_HARNESS}.captions.estimators", "variances of policy gradient estimators"),
        "readability": (f"{_HARNESS}.captions.readability", "how well a plain classifier reads staged scenes"),
        "spatial-calibration": (f"{_HARNESS}.spatial.calibration", "how often moves of a sampler are valid"),
    },
    "speed": {
        "speed": (f"{_HARNESS}.speed.__main__", "time steps, updates, mentors and pictures beside peers"),
    },
    "check": {
        "doctor": ("mentorgym.doctor", "what is installed, what is missing or broken, and the remedy"),
        "soak": (f"{_HARNESS}.driving.soak", "watch the traffic of the embedded world for a long time"),
        "difficulty": (f"{_HARNESS}.driving.difficulty", "our towns' routes beside those that they stand for"),
    },
}
"""Verbs by group: the module whose `main` takes the arguments, and a line of help."""


def help_text() -> str:
    """The help of `mentorgym`: a line for each verb."""
    width = max(len(verb) for verbs in VERBS.values() for verb in verbs)
    lines = ["usage: mentorgym <verb> [arguments]", "", "`mentorgym <verb> --help` explains a verb."]
    for group, verbs in VERBS.items():
        lines += ["", f"{group}:", *(f"  {verb:{width}}  {words}" for verb, (_, words) in verbs.items())]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the verb that `arguments` begin with, by default those of the process.

    Verbs end the process with exit code 2 where the user made a mistake.
    """
    verb, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    verbs = {name: module for group in VERBS.values() for name, (module, _) in group.items()}
    if verb in ("-h", "--help"):
        print(help_text())
    elif verb == "--version":
        print(f"mentorgym {__version__}")
    elif verb not in verbs:
        print(f"mentorgym: no verb {verb!r}: {nearest_name(verb, verbs)}", file=sys.stderr)
        sys.exit(2)
    else:
        try:
            module = importlib.import_module(verbs[verb])
        except ImportError as error:
            print(f"mentorgym {verb}: {error}", file=sys.stderr)
            sys.exit(2)
        sys.exit(module.main(rest))


if __name__ == "__main__":
    main()
