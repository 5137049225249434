"""Where mentorgym keeps what can be made again."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """The folder of compiled kernels, read maps and features of texts.

    `MENTORGYM_CACHE` overrides the platform's usual place.
    """
    return Path(os.environ.get("MENTORGYM_CACHE") or platformdirs.user_cache_dir("mentorgym"))
