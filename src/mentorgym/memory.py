"""How this process gets memory for large arrays."""

import ctypes
import platform


def keep_large_blocks() -> None:
    """Let glibc keep the memory of large arrays that are freed; elsewhere this does nothing.

    A batch of images gets fresh pages from glibc each time; faulting them in costs more than a convolution.
    """
    if platform.libc_ver()[0] == "glibc":
        mmap_threshold, trim_threshold = -3, -1
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)
