"""A GitOps reconciler for IPv6-first hosting: desired state in git, jails on hosts, status back in git.

Start reading at `reconcile.py`; `model.py` has every noun.
"""

__version__ = "0.1.0"
