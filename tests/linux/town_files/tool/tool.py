"""The application of the town's jails: answers on all ports of PORTS (TCP and UDP), and runs what comes to /data/sock.

In: JSON {"run": shell text} on the socket, which only the host's root can reach. Out: JSON {"code": …, "out": …}. So
tests look at a jail as its own processes do: with their user, their system call filter, their capabilities.
"""

import asyncio
import json
import os
import pathlib
from typing import Any

NAME = os.environ["JAIL_NAME"]
PORTS = [int(port) for port in os.environ["PORTS"].split()]
SOCKET = pathlib.Path("/data/sock")


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(f"{NAME} {writer.get_extra_info('peername')[0]}\n".encode())
    await writer.drain()
    while line := await reader.readline():  # an echo, for connections that are kept
        writer.write(line)
        await writer.drain()
    writer.close()


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.transport.sendto(f"{NAME} {address[0]}\n".encode(), address)


async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    order = json.loads(await reader.readline())
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        order["run"],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    writer.write(json.dumps({"code": process.returncode, "out": out.decode(errors="replace")}).encode() + b"\n")
    await writer.drain()
    writer.close()


async def main() -> None:
    loop = asyncio.get_running_loop()
    print(f"{NAME} starts", flush=True)
    for port in PORTS:
        await asyncio.start_server(answer, "::", port)
        await asyncio.start_server(answer, "0.0.0.0", port)
        await loop.create_datagram_endpoint(Datagrams, ("::", port))  # IPv4 as well, unlike the other
    SOCKET.unlink(missing_ok=True)
    await (await asyncio.start_unix_server(run, SOCKET, limit=1 << 24)).serve_forever()


asyncio.run(main())
