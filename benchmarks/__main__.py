"""`make bench`: every benchmark, one after the other, each in a process of its own."""

import subprocess
import sys

for name in ("compile", "hosts", "latency"):
    print(f"\n## {name}\n", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
