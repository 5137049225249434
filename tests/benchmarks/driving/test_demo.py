import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from mentorgym.benchmarks.driving import demo
from mentorgym.benchmarks.driving.video import write_video
from mentorgym.benchmarks.harness.command import UsageError
from mentorgym.benchmarks.harness.rows import read_rows


def decode(path: Path, height: int, width: int) -> np.ndarray:
    """The frames of a video, uint8 [frames, height, width, 3]."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    content = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(content, np.uint8).reshape(-1, height, width, 3)


def test_a_video_holds_its_frames(tmp_path: Path):
    levels = (0, 80, 160, 240)
    write_video(tmp_path / "film.mp4", (np.full((64, 90, 3), level, np.uint8) for level in levels), fps=4)
    frames = decode(tmp_path / "film.mp4", 64, 90)
    assert frames.mean((1, 2, 3)).tolist() == pytest.approx(levels, abs=4)


def test_a_missing_encoder_is_named_with_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UsageError, match=r"videos need imageio_ffmpeg: pip install .*\[video\]'"):
        write_video(tmp_path / "film.mp4", [], fps=4)


def test_panels_stand_still_at_their_end():
    def panel(*levels: int):
        return (np.full((2, 2, 3), level, np.uint8) for level in levels)

    frames = [frame[0, ::2, 0].tolist() for frame in demo.side_by_side([panel(1, 2), panel(5, 6, 7, 8)], 10)]
    assert frames == [[1, 5], [2, 6], [2, 7], [2, 8]]
    assert len(list(demo.side_by_side([panel(1, 2, 3)], 2))) == 2


def test_the_demo_trains_ranks_and_films(fake_drive, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo, "CALIBRATION_STEPS", 1016)
    demo.main("--env fake_drive:FakeDrive-v0 --minutes 0 --routes 4 2".split())
    assert {path.name: len(read_rows(path)) for path in Path("demo/rows").iterdir()} == {
        "random.jsonl": 2,
        "expert.jsonl": 2,
        "sac.jsonl": 2,
    }
    side = 192 * demo.SCALE
    frames = decode(Path("demo/expert_and_sac.mp4"), side + demo.CAPTION_HEIGHT, 2 * side)
    # The road brightens as the expert, on the left, gets on.
    assert frames[-1][:side, :side].mean() > frames[0][:side, :side].mean() + 100
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("random", "expert", "sac", "demo/expert_and_sac.mp4", "--add sac"))
