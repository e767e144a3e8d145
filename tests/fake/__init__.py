"""One fake host for all tests: a `Wire` whose other end is a dictionary.

    host = FakeHost()
    report = reconcile(spec, host, host.stock, Pass(Circumstances(TODAY)))

What a pass does to it is what the platform's real steps say; it can be killed after any of them, and made to fail.
`specs` are hosts to want, `drift` is what hands do to them.
"""

from .host import FakeHost
from .linux import Debian, Node, StepFailed

__all__ = ["Debian", "FakeHost", "Node", "StepFailed"]
