"""Real hosts for end-to-end tests and demos: namespaces of this machine with systemd as PID 1 and their own sshd.

    with Lab(folder) as lab:
        lab.segment("cam", router=["2001:db8:ffff:ca::1/64"], onlink=["2001:db8:ca00::/40"])
        host = lab.host("a", {"eth0": Nic("cam", ("2001:db8:ffff:ca::a/64",))}, ["default via 2001:db8:ffff:ca::1"])
        lab.up()

Runs only inside `enter.sh`. Needs root, a kernel with overlayfs, and Debian's openssh-server, systemd, dbus,
systemd-container, nftables and iproute2 on this machine, whose own root is the hosts' read-only base.
Must not know the product that is tested on the hosts.
"""

from .host import Host, HostPlan, Init, LabError
from .lab import Lab
from .network import Nic

__all__ = ["Host", "HostPlan", "Init", "Lab", "LabError", "Nic"]
