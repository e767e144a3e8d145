"""The shell's git side: reads the tree of desired state, publishes the status branch, fetches pinned sources.

In: a path or a URL, branch names, files to publish. Out: snapshots (path → mode, blob, bytes), commits, failures in
plain words. Must not know: YAML, documents, hosts, and what a status file says.

`snapshot` is the shape of what is read, from a commit or from a directory; `repository` reads any repository;
`mirror` adds a remote; `shared` is one ref of a remote that several agree by; `archive` exports one commit of somebody
else's; `command` alone imports GitPython.
"""

from reconciler.repo.archive import archive
from reconciler.repo.command import GitFailure
from reconciler.repo.mirror import Mirror
from reconciler.repo.repository import Repository, Tree
from reconciler.repo.shared import Refused, Said, SharedRef
from reconciler.repo.snapshot import LIMIT, Entry, Snapshot, Unread, WorkTree

__all__ = [
    "LIMIT",
    "Entry",
    "GitFailure",
    "Mirror",
    "Refused",
    "Repository",
    "Said",
    "SharedRef",
    "Snapshot",
    "Tree",
    "Unread",
    "WorkTree",
    "archive",
]
