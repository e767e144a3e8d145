"""Serves a WSGI application on [::]:8080 with nothing but Python's standard library.

In: /release/wsgi.py, the customer's own, or /app/visits.py when the jail has no release.
Each has a function called `application`, as in PEP 3333.
"""

import pathlib
import runpy
import signal
import socket
import socketserver
import sys
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

PORT = 8080


class Server(socketserver.ThreadingMixIn, WSGIServer):
    """A thread a request, on IPv6 and, for links with private addresses, on IPv4."""

    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)
        # not HTTPServer's: it asks the resolver for the host's own name
        self.server_name, self.server_port = "localhost", self.server_address[1]
        self.setup_environ()


class Handler(WSGIRequestHandler):
    """A slow client loses its connection, and does not hold a thread for ever."""

    timeout = 30

    def address_string(self) -> str:
        return str(self.client_address[0])


def main() -> None:
    release = pathlib.Path("/release/wsgi.py")
    script = release if release.exists() else pathlib.Path(__file__).with_name("visits.py")
    sys.path.insert(0, str(script.parent))
    application = runpy.run_path(str(script))["application"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with make_server("::", PORT, application, Server, Handler) as server:
        print(f"serving {script} on port {PORT}", file=sys.stderr, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
