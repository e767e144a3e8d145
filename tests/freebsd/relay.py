"""A way by IPv6 to a host that is reached by IPv4, or by a name: a Host document takes no other address.

In: where sshd answers. Out: a port of ::1 that leads there, for as long as this process lives. What is said is passed
on byte by byte, so the host shows its own key.
"""

from __future__ import annotations

import socket
import socketserver
import threading

CONNECT = 60.0


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Relay)
        try:
            there = socket.create_connection(self.server.target, timeout=CONNECT)
        except OSError:
            return
        with there:
            there.settimeout(None)
            for end in (self.request, there):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=pass_on, args=(there, self.request), daemon=True)
            back.start()
            pass_on(self.request, there)
            back.join()


class Relay(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    daemon_threads = True

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("::1", 0), Handler)
        self.target = target
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


def pass_on(one: socket.socket, other: socket.socket) -> None:
    """Until one side has no more to say; a connection that broke ends both."""
    try:
        while data := one.recv(1 << 16):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (one, other):
            end.close()
