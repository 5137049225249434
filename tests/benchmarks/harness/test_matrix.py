"""The matrix: which cells, in which order and parts; that runs resume, and that failures are told and do not spread."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentorgym.benchmarks import run
from mentorgym.benchmarks.harness import runner
from mentorgym.benchmarks.harness.command import UsageError
from mentorgym.benchmarks.harness.matrix import MATRICES, read_matrix, shard
from mentorgym.benchmarks.harness.rows import read_rows
from mentorgym.benchmarks.harness.tables import as_arguments

ENV = "fake_drive:FakeDrive-v0"

MATRIX = """
seeds = [2, 1]
[defaults]
total_steps = 80
horizon = 5
[agents.short]
agent = "{agent}"
[agents.long]
agent = "{agent}"
total_steps = 160
seeds = [1]
[environments.fake]
env_id = "{env}"
evaluate = {{ town = ["Suburb"], routes = [0, 3] }}
"""


@pytest.fixture
def matrix(fake_drive, tiny_agent: Path) -> Path:
    """The file of a matrix of three cells."""
    path = Path("small.toml")
    path.write_text(MATRIX.format(agent=tiny_agent, env=ENV))
    return path


def test_cells_come_seed_by_seed_with_the_flags_of_the_nearest_table(matrix: Path):
    cells = read_matrix(matrix)
    assert [cell.name for cell in cells] == ["short__fake__seed2", "short__fake__seed1", "long__fake__seed1"]
    assert [(cell.args.seed, cell.args.total_steps, cell.args.horizon, cell.args.env_id) for cell in cells] == [
        (2, 80, 5, ENV),
        (1, 80, 5, ENV),
        (1, 160, 5, ENV),
    ]
    assert [cell.args.total_steps for cell in read_matrix(matrix, {"total_steps": 7})] == [7, 7, 7]


def test_a_matrix_of_another_systems_editor_is_read(matrix: Path):
    expected, text = read_matrix(matrix), matrix.read_text()
    for end in ("\r\n", "\r"):
        matrix.write_bytes(text.replace("\n", end).encode("utf-8-sig"))
        assert read_matrix(matrix) == expected


def test_agents_that_no_environment_changes_have_one_run_a_seed_and_names_tell_environments_of_one_id_apart(
    matrix: Path,
):
    Path("trainer.py").write_text(
        "import dataclasses\n@dataclasses.dataclass\nclass Args:\n    seed: int = 0\ndef train(args): pass\n"
    )
    text = matrix.read_text() + f'[environments.again]\nenv_id = "{ENV}"\nnum_envs = 4\n[agents.trainer]\n'
    matrix.write_text(text + 'agent = "trainer.py"\n')
    cells = read_matrix(matrix)
    assert [cell.name for cell in cells if cell.agent == "trainer.py"] == [
        "trainer__fake__seed2",
        "trainer__fake__seed1",
    ]
    assert {cell.name.removesuffix("__seed1") for cell in cells if cell.evaluation and cell.seed == 1} == {
        "short__fake",
        "short__again",
        "long__fake",
        "long__again",
    }


@given(st.lists(st.integers(), unique=True, max_size=30), st.integers(1, 12))
def test_shards_are_a_partition(cells: list[int], count: int):
    parts = [shard(cells, f"{number}/{count}") for number in range(1, count + 1)]
    assert sorted(cell for part in parts for cell in part) == sorted(cells)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "one/two", "1/0", "-1/2"])
def test_a_shard_that_is_none_is_refused(part: str):
    with pytest.raises(UsageError, match="not i/n"):
        shard([], part)


def test_flags_become_a_command_line():
    flags = {"total_steps": 5, "resume": False, "clip_reward": True, "env_args": ["a=1", "b=2"], "mentor": "vlm"}
    assert as_arguments(flags) == "--total-steps 5 --no-resume --clip-reward --env-args a=1 b=2 --mentor vlm".split()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = [2, 1]", "", "seeds is missing"),
        ("seeds = [2, 1]", "seeds = [1, 1]", "not different whole numbers"),
        ("[defaults]", "[default]", "the file has no 'default': did you mean 'defaults'"),
        ("total_steps = 160", "totl_steps = 160", "agents.long: .* has no 'totl_steps': did you mean 'total_steps'"),
        ("total_steps = 80", "totl_steps = 80", "defaults: .* has no 'totl_steps': did you mean 'total_steps'"),
        ("total_steps = 160", 'total_steps = "far"', "agents.long: .*total-steps"),
        ('town = ["Suburb"]', 'tonw = ["Suburb"]', "environments.fake.evaluate has no 'tonw': did you mean 'town'"),
        ("routes = [0, 3]", 'routes = ["x"]', "environments.fake.evaluate: .*routes"),
        ("[environments.fake]", "[environments]", "environments.env_id is .*, not a table"),
        ("seeds = [2, 1]", "seeds = [2, 1", "is not TOML"),
    ],
)
def test_mistakes_in_the_file_are_named_before_anything_runs(matrix: Path, old: str, new: str, message: str):
    matrix.write_text(matrix.read_text().replace(old, new, 1))
    with pytest.raises(UsageError, match=f"(?s)small.toml.*{message}"):
        read_matrix(matrix)


def test_an_unknown_agent_and_an_unknown_matrix_get_the_nearest_name(matrix: Path):
    matrix.write_text("seeds = [1]\n[agents.sacc]\n[environments.fake]\n")
    with pytest.raises(SystemExit, match="run: small.toml: no agent 'sacc': did you mean 'sac'"):
        run.main([str(matrix)])
    with pytest.raises(SystemExit, match="no file laptpo: give a matrix by its path, or one of ours: .*laptop"):
        run.main(["laptpo"])


@pytest.mark.parametrize("path", sorted(MATRICES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_matrices_of_the_package_are_whole(path: Path):
    cells = read_matrix(path)
    assert len({cell.name for cell in cells}) == len(cells)
    assert all(cell.args.seed == cell.seed for cell in cells)


def test_help_names_the_matrices_of_the_package(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        run.main(["--help"])
    named = re.findall(r"[a-z_]+", capsys.readouterr().out)
    assert {path.stem for path in MATRICES.glob("*.toml")} <= set(named)


def test_a_dry_run_prints_the_commands_and_runs_nothing(matrix: Path, capsys: pytest.CaptureFixture):
    run.main([str(matrix), "--dry-run", "--evaluate", "--shard", "2/2"])
    train, evaluation = capsys.readouterr().out.splitlines()
    assert train.endswith(f"tiny_agent.py --total-steps 80 --horizon 5 --env-id {ENV} --seed 1")
    assert "mentorgym evaluate --run RUN_FOLDER --driver " in evaluation and "--routes 0 3" in evaluation
    assert not Path("runs").exists()


def test_cells_are_trained_and_evaluated_once(matrix: Path, capsys: pytest.CaptureFixture):
    command = [str(matrix), "--workers", "2", "--evaluate", "--rows", "rows", "--json"]
    run.main(command)
    first = json.loads(capsys.readouterr().out)
    assert (first["trained"], first["failed"]) == (3, 0)
    rows = {path.name: read_rows(path) for path in Path("rows").iterdir()}
    told = {name: sorted((row["training_seed"], row["route"]) for row in each) for name, each in rows.items()}
    assert told == {
        "tiny_agent@160,horizon=5__FakeDrive-v0.jsonl": [(1, 0), (1, 3)],
        "tiny_agent@80,horizon=5__FakeDrive-v0.jsonl": [(1, 0), (1, 3), (2, 0), (2, 3)],
    }
    assert {row["driver"] for each in rows.values() for row in each} == {
        "tiny_agent@160,horizon=5",
        "tiny_agent@80,horizon=5",
    }
    written = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*") if path.is_file()}
    run.main(command)
    assert json.loads(capsys.readouterr().out)["skipped"] == 3
    assert written == {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*") if path.is_file()}
    assert "$ mentorgym train " in Path("runs/logs/small/short__fake__seed1.log").read_text()


def test_a_failing_cell_is_listed_with_its_last_words_and_the_others_go_on(
    matrix: Path, tiny_agent: Path, capsys: pytest.CaptureFixture
):
    broken = tiny_agent.read_text().replace(
        "    folder.mkdir(", "    assert args.seed != 2, 'out of luck'\n    folder.mkdir("
    )
    Path("broken_agent.py").write_text(broken.replace("tiny_agent", "broken_agent"))
    matrix.write_text(matrix.read_text().replace(str(tiny_agent), "broken_agent.py"))
    with pytest.raises(SystemExit) as end:
        run.main([str(matrix), "--json"])
    assert end.value.code == 1
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert (result["trained"], result["failed"]) == (2, 1)
    assert "failed: short__fake__seed2: exit code 1" in err and "AssertionError: out of luck" in err
    assert "runs/logs/small/short__fake__seed2.log" in err


def test_a_run_that_was_stopped_goes_on_under_the_same_command(matrix: Path, tiny_agent: Path):
    # Each generation takes a while, so that the first signal finds a cell at work.
    slow = tiny_agent.read_text().replace(
        "        step += ", "        __import__('time').sleep(args.horizon)\n        step += "
    )
    Path("slow_agent.py").write_text(slow.replace("tiny_agent", "slow_agent"))
    matrix.write_text(
        matrix.read_text().replace(str(tiny_agent), "slow_agent.py").replace("horizon = 5", "horizon = 30")
    )
    command = [sys.executable, "-m", "mentorgym.benchmarks.run", str(matrix), "--shard", "1/3"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = Path("runs/logs/small/short__fake__seed2.log")
    deadline = time.monotonic() + 240
    while not list(Path("runs").rglob("config.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    with runner.own_log(Path("free.log")), pytest.raises(UsageError, match="still running"), runner.own_log(log):
        pass
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130
    assert "the same command goes on" in process.communicate()[1]
    with runner.own_log(log):
        pass
    (cell,) = shard(read_matrix(matrix), "1/3")
    assert cell.folder() is not None and cell.finished() is None
    Path("slow_agent.py").write_text(tiny_agent.read_text().replace("tiny_agent", "slow_agent"))
    run.main([str(matrix), "--shard", "1/3"])
    assert cell.finished() == cell.folder()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory has no names elsewhere")
def test_a_cell_that_is_ended_leaves_no_shared_memory(tmp_path: Path):
    name = f"ended-{os.getpid()}"
    script = (
        "import sys, time\nfrom multiprocessing.shared_memory import SharedMemory\n"
        f"block = SharedMemory({name!r}, create=True, size=64)\nprint(flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None and process.stdout.readline()
        assert (Path("/dev/shm") / name).exists()
        runner.end(process)
    assert not (Path("/dev/shm") / name).exists()


def test_a_process_that_a_cell_leaves_for_a_moment_is_waited_for(tmp_path: Path):
    log = tmp_path / "cell.log"
    with runner.own_log(log) as output:
        left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"], stdout=output)
    with runner.own_log(log):
        pass
    assert left.wait() == 0


def test_workers_share_the_cores_out():
    shares = runner.core_shares(2)
    assert len(shares) == 2
    many = runner.core_shares(500)
    assert all(len(share) <= 1 for share in many)
