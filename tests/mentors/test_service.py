"""The service gives every request back once, with its own answer or none, whatever becomes of the mentor."""

import contextlib
import multiprocessing
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentorgym.mentors import MentorError, MentorService, Request, service, shared_pictures, worker
from mentorgym.mentors.worker import ThreadWorker
from tests.mentors import odd_mentors

SHAPE = (6, 8, 3)
MENTORS = "tests.mentors.odd_mentors"
ROOT = Path(__file__).resolve().parents[2]
SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture(autouse=True)
def _nothing_is_left():
    yield
    assert multiprocessing.active_children() == []
    assert not shared_memory(os.getpid())


def shared_memory(owner: int) -> list[Path]:
    return list(SHARED_MEMORY.glob(f"mentor-{owner}-*"))


def make(name: str = "echo", **arguments) -> MentorService:
    return MentorService(f"{MENTORS}:{name}", picture_shape=SHAPE, **arguments)


def request(number: int, prompt: str | None = None) -> Request:
    generator = np.random.default_rng(number)
    picture = generator.integers(256, size=SHAPE, dtype=np.uint8)
    action = generator.normal(size=2).astype(np.float32)
    return Request(picture, str(number) if prompt is None else prompt, number % 24, action)


def poll_all(asked: MentorService, count: int, seconds: float = 120.0) -> list:
    """The next `count` that come back, and a check that no more do."""
    found, end = [], time.monotonic() + seconds
    while len(found) < count and time.monotonic() < end:
        found += asked.poll(timeout=1.0)
    assert len(found) == count
    assert asked.poll() == []
    return found


def wait_until(happened, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def kill_worker() -> None:
    (process,) = multiprocessing.active_children()
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def drive(asked: MentorService, steps: list[tuple[int, bool]], expected) -> None:
    """Submit for one environment after another, polling where told, and compare with a plain account of it all."""
    under_way: Counter[int] = Counter()
    accepted, returned = {}, Counter()

    def take(results):
        for key, feedback in results:
            returned[key] += 1
            under_way[key[0]] -= 1
            wanted = expected([accepted[key]])[0]
            assert type(feedback) is type(wanted)
            np.testing.assert_array_equal(feedback, wanted)

    for n, (env, polls) in enumerate(steps):
        accepts = asked.submit((env, n), request(n))
        assert accepts == (under_way[env] < asked.max_outstanding)
        if accepts:
            accepted[env, n] = request(n)
            under_way[env] += 1
        if polls:
            take(asked.poll())
        assert asked.room(4).tolist() == [under_way[each] < asked.max_outstanding for each in range(4)]
        assert [asked.outstanding(each) for each in range(4)] == [under_way[each] for each in range(4)]
    take(poll_all(asked, sum(under_way.values())))
    assert returned == dict.fromkeys(accepted, 1)


STEPS = st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60)


@given(STEPS, st.integers(1, 5), st.integers(1, 4), st.sampled_from([0.0, 0.001]))
@settings(max_examples=40)
def test_every_key_comes_back_once_with_its_own_answer(steps, batch_size, max_outstanding, max_wait):
    arguments = {"batch_size": batch_size, "max_outstanding": max_outstanding, "max_wait": max_wait}
    with MentorService(odd_mentors.echo, picture_shape=SHAPE, worker="thread", **arguments) as asked:
        drive(asked, steps, odd_mentors.echo)
        counts = asked.counters()
    assert counts["submitted"] == counts["answered"] == len(steps) - counts["skipped"]


@pytest.mark.parametrize("worker", ["process", "thread"])
def test_a_process_and_a_thread_keep_the_same_account(worker):
    generator = np.random.default_rng(5)
    with make("moody", batch_size=7, max_outstanding=20, worker=worker) as asked:
        for _ in range(8):
            polls = generator.random(80) < 0.3
            drive(asked, list(zip(generator.integers(4, size=80).tolist(), polls, strict=True)), odd_mentors.moody)
        counts = asked.counters()
    assert counts["submitted"] == counts["answered"] + counts["unavailable"]
    assert counts["unavailable"] > 0 and counts["failures"] == counts["restarts"] == 0


@pytest.mark.parametrize("worker", ["process", "thread"])
def test_requests_are_copied_when_they_are_submitted(worker):
    with make(max_outstanding=100, max_wait=0.1, worker=worker) as asked:
        frames = np.random.default_rng(0).integers(256, size=(3, 8, 6, 100), dtype=np.uint8)
        action = np.zeros(2, np.float32)
        for n in range(100):
            # A view across the array, as of a picture with its channels first.
            asked.submit((0, n), Request(frames[..., n].T, str(n), 0, action))
        sums = frames.sum(axis=(0, 1, 2)) % odd_mentors.SUM
        frames[:], action[:] = 0, 1
        for (_, n), feedback in poll_all(asked, 100):
            np.testing.assert_array_equal(feedback, [n, 0, 0, 0, sums[n]])


def test_batches_are_full_or_flushed(tmp_path):
    began = tmp_path / "began"
    options = {"seconds": 0.3, "began": str(began)}
    with make("Sleepy", options=options, batch_size=8, max_outstanding=100, max_wait=0.15) as asked:
        asked.submit((0, 0), request(0))
        time.sleep(0.05)
        asked.submit((1, 0), request(0))
        # The first two wait for each other, but no longer than told; ...
        wait_until(began.exists)
        for n in range(1, 12):
            asked.submit((0, n), request(n))
        sizes = {key: int(feedback[0]) for key, feedback in poll_all(asked, 13)}
        # ... what gathers meanwhile makes a full batch, and the rest the next one.
        assert sizes == {(0, 0): 2, (1, 0): 2} | {(0, n): 8 if n <= 8 else 3 for n in range(1, 12)}
        counts = asked.counters()
    assert counts["batches"] == 3
    assert counts["batch_size"] == pytest.approx(13 / 3)
    assert 0.3 < counts["latency_s"] < counts["latency_p95_s"] < 10


def test_a_full_batch_does_not_wait():
    with MentorService(odd_mentors.echo, picture_shape=SHAPE, worker="thread", batch_size=4, max_wait=3600) as asked:
        for n in range(4):
            asked.submit((0, n), request(n))
        assert [key for key, _ in poll_all(asked, 4)] == [(0, n) for n in range(4)]


def test_polling_waits_only_where_something_is_under_way():
    with MentorService(odd_mentors.Sleepy(0.3), picture_shape=SHAPE, worker="thread") as asked:
        assert asked.poll(timeout=3600) == []
        asked.submit((0, 0), request(0))
        start = time.monotonic()
        assert asked.poll() == []
        assert asked.poll(timeout=0.05) == []
        assert time.monotonic() - start < 0.25
        assert len(asked.poll(timeout=3600)) == 1


def test_training_goes_on_when_the_worker_is_killed_in_the_middle_of_ten_batches(tmp_path):
    began = tmp_path / "began"
    began.touch()
    submitted, returned = [], {}
    with make("Sleepy", options={"seconds": 0.05, "began": str(began)}, batch_size=4) as asked:

        def step() -> None:
            key = (len(submitted) % 4, len(submitted))
            if asked.submit(key, request(0)):
                submitted.append(key)
            for key, feedback in asked.poll(timeout=0.01):
                assert key not in returned
                returned[key] = feedback

        for _ in range(10):
            seen = began.stat().st_size

            def in_a_batch(seen=seen) -> bool:
                step()
                return began.stat().st_size > seen

            wait_until(in_a_batch)
            kill_worker()
            step()
        wait_until(lambda: step() or asked.counters()["answered"] >= 20)
        for key, feedback in poll_all(asked, len(submitted) - len(returned)):
            returned[key] = feedback
        counts = asked.counters()
        assert "exit code -9" in asked.last_error
    assert returned.keys() == set(submitted)
    assert counts["restarts"] == 10
    lost = sum(feedback is None for feedback in returned.values())
    assert 10 <= lost == counts["unavailable"] <= 10 * 4 * asked.max_outstanding
    assert counts["answered"] == len(submitted) - lost


def test_a_worker_that_is_killed_while_it_has_nothing_to_do_loses_nothing():
    with make() as asked:
        kill_worker()
        assert asked.submit((0, 0), request(5))
        ((key, feedback),) = poll_all(asked, 1)
        assert (key, feedback[0], asked.counters()["restarts"]) == ((0, 0), 5, 1)


@pytest.mark.parametrize("silently", [False, True])
def test_a_mentor_that_cannot_be_loaded_again_is_an_error(tmp_path, silently, monkeypatch):
    monkeypatch.setattr(service, "LOADS", 2)
    when = tmp_path / "when"
    asked = make("Broken", options={"when": str(when), "silently": silently})
    when.touch()
    cause = "exit code 7" if silently else "ImportError: pip install 'mentorgym.vlm.'"
    with pytest.raises(MentorError, match=f"2 times in a row: .*{cause}"):
        for n in range(100):
            asked.submit((n, n), request(n))
            asked.poll(timeout=5.0)
    with pytest.raises(RuntimeError, match="closed"):
        asked.poll()


@pytest.mark.parametrize("worker", ["process", "thread"])
def test_a_mentor_that_fails_lives_on(worker, caplog):
    causes = {
        "raise": "KeyError: 'no idea'",
        "exit": "SystemExit: enough",
        "few": "0 answers to 1 requests",
        "list": "not list",
        "matrix": r"not float32 \(2, 2\)",
        "long": "10,000,000 bytes",
    }
    with make("failing", worker=worker) as asked:
        for n, (prompt, cause) in enumerate(causes.items()):
            for _ in range(2):
                asked.submit((0, n), request(0, prompt))
                assert poll_all(asked, 1) == [((0, n), None)]
            assert re.search(cause, asked.last_error)
        asked.submit((0, 99), request(0, "fine"))
        assert poll_all(asked, 1) == [((0, 99), "fine")]
        counts = asked.counters()
    assert counts["failures"] == counts["unavailable"] == 2 * len(causes)
    assert counts["restarts"] == 0
    # Each cause is logged once, and what the mentor raised with the line that raised it.
    assert len(caplog.messages) == len(causes)
    assert caplog.messages[0] == (
        f"mentor 'tests.mentors.odd_mentors:failing' failed on a batch: KeyError: 'no idea' "
        f"({odd_mentors.__file__}:{line_of('raise KeyError')})"
    )
    assert "odd_mentors.py" not in caplog.messages[2]


def line_of(text: str) -> int:
    """The first line of odd_mentors.py that holds `text`."""
    lines = Path(odd_mentors.__file__).read_text("utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_an_error_inside_a_library_names_the_line_of_the_mentor_that_called_it():
    with make("Misshapen", worker="thread") as service:
        service.submit((0, 0), request(0))
        assert poll_all(service, 1) == [((0, 0), None)]
        assert service.last_error.endswith(f"({odd_mentors.__file__}:{line_of('np.concatenate')})")


def test_a_callable_runs_in_a_thread_by_default():
    with MentorService(odd_mentors.echo, picture_shape=SHAPE) as service:
        assert isinstance(service._worker, ThreadWorker)
        service.submit((0, 0), request(0))
        assert len(poll_all(service, 1)) == 1


def test_without_select_poll_a_dead_worker_is_replaced_too(monkeypatch):
    # Windows has no select.poll, and its Connection.poll raises BrokenPipeError for a pipe whose other end is closed.
    monkeypatch.delattr(select, "poll")
    with make() as service:
        service.submit((0, 0), request(0))
        assert [key for key, _ in poll_all(service, 1)] == [(0, 0)]
        service.submit((0, 1), request(1))
        kill_worker()

        def broken(timeout=0.0):
            raise BrokenPipeError

        monkeypatch.setattr(service._worker.replies, "poll", broken)
        assert [key for key, _ in poll_all(service, 1)] == [(0, 1)]
        service.submit((0, 2), request(2))
        assert [key for key, _ in poll_all(service, 1)] == [(0, 2)]
        assert service.counters()["restarts"] == 1


@pytest.mark.parametrize("worker", ["process", "thread"])
def test_a_mentor_that_cannot_be_loaded_is_one_error_at_construction(worker, tmp_path):
    with pytest.raises(MentorError, match="mentor 'wlm' could not be loaded: ValueError: unknown mentor 'wlm'"):
        MentorService("wlm", worker=worker)
    with pytest.raises(MentorError, match="could not be loaded: ImportError: pip install 'mentorgym.vlm.'"):
        make("Broken", options={"when": str(tmp_path)}, worker=worker)


def test_a_worker_that_dies_while_it_loads_is_an_error_at_construction(tmp_path):
    with pytest.raises(MentorError, match="its process ended with exit code 7"):
        make("Broken", options={"when": str(tmp_path), "silently": True})


def test_wrong_arguments_are_named(monkeypatch):
    with pytest.raises(ValueError, match="worker must be 'process' or 'thread', not 'greenlet'"):
        make(worker="greenlet")
    with pytest.raises(ValueError, match="batch_size, max_outstanding and num_envs must be at least 1"):
        make(batch_size=0)
    with pytest.raises(ValueError, match="a callable runs only in a thread"):
        MentorService(odd_mentors.echo, worker="process")
    with pytest.raises(
        MentorError, match="TypeError: options are for mentors by name; bind seconds with functools.par"
    ):
        MentorService(odd_mentors.echo, options={"seconds": 1})
    with pytest.raises(MentorError, match="TypeError: a mentor is a name or a callable, not int"):
        MentorService(3)
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {"daemon": True})
    with pytest.raises(ValueError, match="a daemonic process.*worker='thread'"):
        make()


@pytest.mark.parametrize("worker", ["process", "thread"])
def test_an_unfit_request_is_refused_and_not_counted(worker):
    with make(worker=worker) as asked:
        with pytest.raises(ValueError, match=r"pictures uint8 \(6, 8, 3\), not uint8 \(8, 6, 3\)"):
            asked.submit((0, 0), request(0)._replace(picture=np.zeros((8, 6, 3), np.uint8)))
        with pytest.raises(ValueError, match="not float64"):
            asked.submit((0, 0), request(0)._replace(picture=np.zeros(SHAPE)))
        with pytest.raises(ValueError, match="a prompt of 20,000 bytes is too long"):
            asked.submit((0, 0), request(0, "x" * 20_000))
        assert asked.counters()["submitted"] == asked.outstanding(0) == 0
        asked.submit((0, 1), request(1))
        assert len(poll_all(asked, 1)) == 1


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="only Linux tells how much shared memory there is")
def test_shared_memory_that_is_full_is_told_before_it_is_written(monkeypatch):
    monkeypatch.setattr(shared_pictures, "shared_memory_left", lambda: 1000)
    with pytest.raises(MemoryError, match="has no room for .* bytes more of pictures.*worker='thread'"):
        make()


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="only Linux tells how much shared memory there is")
def test_room_for_all_environments_is_made_before_anything_is_asked(monkeypatch):
    left = iter([10**9])
    monkeypatch.setattr(shared_pictures, "shared_memory_left", lambda: next(left, 0))
    make(num_envs=8, max_outstanding=4).close()
    left = iter([10**9])
    with pytest.raises(MemoryError, match="lower max_outstanding"):
        make(num_envs=9, max_outstanding=4)


SCRIPT = """
import multiprocessing, os, signal
import numpy as np
from mentorgym.mentors import MentorService, Request
picture, action = np.zeros((2, 2, 3), np.uint8), np.zeros(2, np.float32)
asked = MentorService("tests.mentors.odd_mentors:Sleepy", options={"seconds": 0.2}, picture_shape=picture.shape)
asked.submit((0, 0), Request(picture, "", 0, action))
asked.poll(timeout=60.0)
asked.submit((0, 1), Request(picture, "", 0, action))
(worker,) = multiprocessing.active_children()
print(os.getpid(), worker.pid, flush=True)
"""
"""Comes from standard input, has no main guard, and goes on in the middle of a batch."""


def run_script(end: str) -> tuple[subprocess.CompletedProcess, int, int]:
    """What became of SCRIPT with another end, its process and its worker's."""
    command = [sys.executable, "-W", "error", "-"]
    done = subprocess.run(command, cwd=ROOT, input=SCRIPT + end, capture_output=True, text=True, timeout=60)
    parent, worker = done.stdout.split()
    return done, int(parent), int(worker)


@pytest.mark.parametrize("end", ["", "asked.close(); asked.close()", "del asked"], ids=["open", "closed", "deleted"])
def test_a_script_ends_in_silence(end):
    done, parent, _ = run_script(end)
    assert done.returncode == 0
    # The mentor's own words, which it says on standard output.
    assert set(done.stderr.splitlines()) == {"a word on standard output"}
    assert not shared_memory(parent)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_worker_dies_with_its_parent():
    done, parent, worker = run_script("os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode == -signal.SIGKILL

    def is_gone() -> bool:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{worker}/stat").read_text().split()[2] == "Z"
        return True

    wait_until(is_gone)
    wait_until(lambda: not shared_memory(parent))


def test_a_fork_leaves_the_service_of_its_parent_alone():
    arguments = (f"{MENTORS}:echo", {}, SHAPE, 1, 4, 0.0)
    made = worker.ProcessWorker(*arguments)
    try:
        made.owner -= 1
        made.close()
        made.send(0, request(3), 0.0)
        assert (reply := made.receive(10.0)) is not None and reply.feedback[0][0] == 3
        made.owner += 1
    finally:
        made.close()
