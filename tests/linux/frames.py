"""Raw Ethernet frames: made byte by byte, sent and caught in any network namespace of the lab.

In: addresses as text. Out: bytes on a wire, and what came by elsewhere. Every hostile frame carries a mark of its own,
so that it is known again wherever it turns up, however it was changed on its way.
Sources: RFC 8200, RFC 4861, RFC 4443, RFC 826.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable
from ipaddress import IPv6Address
from pathlib import Path

ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
BROADCAST = "ff:ff:ff:ff:ff:ff"
IP4, ARP, IP6, VLAN, QINQ = 0x0800, 0x0806, 0x86DD, 0x8100, 0x88A8
HOP, TCP, UDP, ROUTING, FRAGMENT, ICMP6, OPTIONS = 0, 6, 17, 43, 44, 58, 60
ECHO, RS, RA, NS, NA, REDIRECT = 128, 133, 134, 135, 136, 137


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def link_local(address: str) -> str:
    octets = mac(address)
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]))


def six(text: str) -> bytes:
    return IPv6Address(text).packed


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF or 0xFFFF


def ether(target: str, source: str, kind: int, payload: bytes) -> bytes:
    return mac(target) + mac(source) + struct.pack("!H", kind) + payload


def tagged(frame: bytes, vlan: int, kind: int = VLAN) -> bytes:
    return frame[:12] + struct.pack("!HH", kind, vlan) + frame[12:]


def ip6(source: str, target: str, following: int, payload: bytes, hops: int = 255) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(payload), following, hops) + six(source) + six(target) + payload


def pseudo(source: str, target: str, protocol: int, payload: bytes) -> bytes:
    return six(source) + six(target) + struct.pack("!II", len(payload), protocol) + payload


def icmp6(source: str, target: str, kind: int, body: bytes, code: int = 0) -> bytes:
    """The message alone, with its checksum."""
    empty = struct.pack("!BBH", kind, code, 0) + body
    return struct.pack("!BBH", kind, code, checksum(pseudo(source, target, ICMP6, empty))) + body


def udp6(source: str, target: str, port: int, payload: bytes) -> bytes:
    empty = struct.pack("!HHHH", 4444, port, 8 + len(payload), 0) + payload
    return empty[:6] + struct.pack("!H", checksum(pseudo(source, target, UDP, empty))) + payload


def option(kind: int, value: bytes) -> bytes:
    """An option of neighbour discovery, in units of eight bytes."""
    return struct.pack("!BB", kind, (len(value) + 9) // 8) + value.ljust((len(value) + 9) // 8 * 8 - 2, b"\0")


def neighbour(kind: int, target: str, *options: bytes, flags: int = 0) -> bytes:
    """The body of a solicitation or an advertisement."""
    return struct.pack("!I", flags << 24) + six(target) + b"".join(options)


def padded(following: int, length: int = 8) -> bytes:
    """A hop-by-hop or destination options header that holds nothing (RFC 8200, 4.2: PadN)."""
    return bytes([following, length // 8 - 1, 1, length - 4]) + bytes(length - 4)


def fragment(following: int, offset: int, more: bool, payload: bytes, number: int = 7) -> bytes:
    return struct.pack("!BBHI", following, 0, offset | more, number) + payload


def arp(operation: int, source_mac: str, source: str, target_mac: str, target: str) -> bytes:
    head = struct.pack("!HHBBH", 1, IP4, 6, 4, operation)
    return head + mac(source_mac) + socket.inet_aton(source) + mac(target_mac) + socket.inet_aton(target)


def ip4(source: str, target: str, protocol: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0)
    head += socket.inet_aton(source) + socket.inet_aton(target)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def udp4(port: int, payload: bytes) -> bytes:
    return struct.pack("!HHHH", 4444, port, 8 + len(payload), 0) + payload


# ── wires ────────────────────────────────────────────────────────────────────────────────────────────────────

LIBC = ctypes.CDLL(None, use_errno=True)


class Wire:
    """A packet socket on an interface of another network namespace (None: our own)."""

    def __init__(self, namespace: Path | None, interface: str) -> None:
        made: list[socket.socket | OSError] = []

        def make() -> None:
            try:
                if namespace is not None:
                    descriptor = os.open(namespace, os.O_RDONLY)
                    if LIBC.setns(descriptor, 0):
                        raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
                    os.close(descriptor)
                s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
                s.bind((interface, 3))
                made.append(s)
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=make)  # a namespace is a thread's
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        self.socket = made[0]
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self.socket.send(frame)

    def caught(self) -> list[bytes]:
        """What came by and was not yet told; not what was sent from here."""
        frames = []
        while select.select([self.socket], [], [], 0)[0]:
            frame, (_, _, kind, _, _) = self.socket.recvfrom(1 << 16)
            if kind != socket.PACKET_OUTGOING:
                frames.append(frame)
        return frames

    def close(self) -> None:
        self.socket.close()


def seen(wires: dict[str, Wire], marks: Iterable[bytes], seconds: float = 0.5) -> dict[bytes, set[str]]:
    """Which marks turned up on which wires."""
    time.sleep(seconds)
    found: dict[bytes, set[str]] = {}
    for name, wire in wires.items():
        for frame in wire.caught():
            for mark in marks:
                if mark in frame:
                    found.setdefault(mark, set()).add(name)
    return found
