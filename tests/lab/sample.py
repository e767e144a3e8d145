"""The two data centres of sample-repo: `cam` is routed with host a, `lon` is bridged with host b.

In: a Lab. Out: its hosts, planned and not yet up. Addresses are those of the sample's documents; the outer namespace is
every segment's router and the visitor. Must not know the product.
"""

from .host import Host
from .lab import Lab
from .network import Nic


def sample_lab(lab: Lab) -> dict[str, Host]:
    lab.segment("cam", router=["2001:db8:ffff:ca::1/64"], onlink=["2001:db8:ca00::/48"])
    lab.segment("lon", router=["2001:db8:ffff:10::1/64"])
    lab.segment("lonlan", onlink=["2001:db8:1000::/48"])
    cam = ("default via 2001:db8:ffff:ca::1", "2001:db8:ca00::/48 dev eth0")
    lon = {"eth0": Nic("lon", ("2001:db8:ffff:10::b/64",)), "eth1": Nic("lonlan")}
    return {
        "a": lab.host("a", {"eth0": Nic("cam", ("2001:db8:ffff:ca::a/64",))}, cam),
        "b": lab.host("b", lon, ("default via 2001:db8:ffff:10::1",)),
    }
