"""What several tests of rooms share."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mentorgym.envs.rendering.render import Picture


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of the module's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MENTORGYM_CACHE", str(folder))
        yield folder


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> list:
    """Pictures cost nothing: stripes, one of each object's index; and what was drawn is listed."""
    drawn = []

    def draw(arrangement, size: int = 224) -> Picture:
        drawn.append(arrangement)
        stripes = np.arange(size) * len(arrangement.objects) // size
        instances = np.broadcast_to(stripes.astype(np.int32), (size, size)).copy()
        colours = np.repeat(np.array(arrangement.objects, np.uint8)[instances][..., None], 3, 2)
        return Picture(colours, instances, np.full((size, size), 2.0, np.float32))

    monkeypatch.setattr("mentorgym.envs.spatial.picture.draw", draw)
    return drawn
