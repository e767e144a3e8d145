"""A stand-in of FreeBSD's userland, on which scripts for FreeBSD's /bin/sh run where there is no FreeBSD.

`host.Host` is one pretended host. Its commands are the other modules; `test_against_recordings.py` holds them against
what a real FreeBSD 13.2 host printed. Nothing here knows the product.
"""
