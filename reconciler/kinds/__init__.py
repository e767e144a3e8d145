"""One YAML kind a file: what its documents mean, as Parts of hosts.

In: Documents that are valid in shape, and the others they may refer to (`Staff`, `Tenant`). Out: an Expansion: Parts
placed on hosts, the claims that must be unique in the fleet, and Problems. A kind never looks at another customer's
documents, and knows nothing of platforms, git or hosts' real state.

A new kind is one schema, one file here, one line in the table at the end of this file, one folder of cases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reconciler.kinds import approval, blueprint, customer, host, jail, location, platform, policy, site, tunnel
from reconciler.kinds.documents import Expansion, Staff, Tenant

STAFF: Mapping[str, Callable[..., Expansion]] = {
    "Platform": platform.expand,
    "Location": location.expand,
    "Host": host.expand,
    "Blueprint": blueprint.expand,
    "FirewallPolicy": policy.expand,
    "Approval": approval.expand,
}
"""Kinds of staff: (document, Staff) → Expansion."""

TENANT: Mapping[str, Callable[..., Expansion]] = {
    "Customer": customer.expand,
    "Jail": jail.expand,
    "Site": site.expand,
    "Tunnel": tunnel.expand,
}
"""Kinds below a customer's folder: (document, Staff, Tenant) → Expansion."""

__all__ = ["STAFF", "TENANT", "Expansion", "Staff", "Tenant"]
