"""Write frames as an .mp4 file."""

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import numpy as np

from mentorgym.benchmarks.harness.command import UsageError
from mentorgym.extras import remedy


def load_encoder() -> ModuleType:
    """imageio with its ffmpeg; raises UsageError with the line that installs what is missing."""
    try:
        import imageio.v2
        import imageio_ffmpeg  # noqa: F401 - without it imageio fails at the first frame, and names another package
    except ModuleNotFoundError as error:
        raise UsageError(f"videos need {error.name}: {remedy('video')}") from error
    return imageio.v2


def write_video(path: Path, frames: Iterable[np.ndarray], fps: int) -> None:
    """Encode `frames`, uint8 RGB [height, width, 3] with even sides, as H.264 at `fps` frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A macro block of 2 keeps the frames' size; the default of 16 rescales them.
    with load_encoder().get_writer(path, format="FFMPEG", fps=fps, codec="libx264", macro_block_size=2) as writer:
        for frame in frames:
            writer.append_data(frame)
