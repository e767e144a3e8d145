"""`reconciler run`, which on SIGUSR1 also writes down what only it can count: asyncio's tasks, and memory in use.

In: the command line of the reconciler, and RECONCILER_COUNTS, a file. Out: in that file a JSON object. Between two
signals nothing differs from the real one.
"""

import asyncio
import ctypes
import gc
import json
import os
import re
import signal
import sys
from pathlib import Path
from types import FrameType

from reconciler.cli import main


def count(number: int, frame: FrameType | None) -> None:
    file = Path(os.environ["RECONCILER_COUNTS"])
    try:
        tasks = len(asyncio.all_tasks())
    except RuntimeError:  # the loop does not run yet, or not any more
        tasks = 0
    blocks, frozen = sys.getallocatedblocks(), gc.get_freeze_count()
    counts = {"tasks": tasks, "blocks": blocks, "frozen": frozen, "native": native(file.with_suffix(".malloc"))}
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(counts))
    fresh.replace(file)


def native(file: Path) -> float:
    """MiB asked of malloc and not given back (malloc_info(3)): mostly libraries', for Python has its blocks."""
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    out = ctypes.c_void_p(libc.fopen(os.fsencode(file), b"w"))
    libc.malloc_info(0, out)
    libc.fclose(out)
    whole = file.read_text().rpartition("</heap>")[2]
    sizes = {name: int(size) for name, size in re.findall(r'type="(\w+)"[^>]* size="(\d+)"', whole)}
    return (sizes["current"] + sizes["mmap"] - sizes["fast"] - sizes["rest"]) / (1 << 20)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, count)
    main()
