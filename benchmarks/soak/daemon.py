"""`reconciler run`, which on SIGUSR1 also writes down what only it can count: asyncio's tasks, and Python's memory.

In: the command line of the reconciler, and RECONCILER_COUNTS, a file. Out: in that file a JSON object. Between two
signals nothing differs from the real one.
"""

import asyncio
import gc
import json
import os
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
    counts = {"tasks": tasks, "blocks": sys.getallocatedblocks(), "frozen": gc.get_freeze_count()}
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(counts))
    fresh.replace(file)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, count)
    main()
