"""A block-stream job in QEMU's storage daemon, the peer of a pull."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING

from qemu.qmp import EventListener, QMPClient

from tests.bench.processes import TIMEOUT, BenchError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.bench.measure import Sample
    from tests.bench.processes import Spawner

_ENDS = ("BLOCK_JOB_COMPLETED", "BLOCK_JOB_ERROR", "BLOCK_JOB_CANCELLED")


def stream(spawner: Spawner, chain: Sequence[Path], base: int, scratch: Path) -> Sample:
    """Stream into the top of a chain what lies between it and a base.

    The span is the daemon's whole life, from its start to its end with the top on disk; it connects to us, so that
    nobody polls for its socket.

    Args:
        spawner: What starts the daemon.
        chain: The images, the base first.
        base: Which of them is to be the top's backing file.
        scratch: Folder for the socket.

    Raises:
        BenchError: The job failed.
    """
    return asyncio.run(asyncio.wait_for(_stream(spawner, chain, base, scratch / "qmp"), TIMEOUT))


async def _stream(spawner: Spawner, chain: Sequence[Path], base: int, socket: Path) -> Sample:
    client = QMPClient("bench")
    ends = EventListener(names=_ENDS)
    client.register_listener(ends)
    await client.start_server(str(socket))
    try:
        spawner.start(_command(chain, socket), sync=[chain[-1]])
        accepted = asyncio.create_task(client.accept())
        gone = asyncio.create_task(asyncio.to_thread(spawner.finish))
        await asyncio.wait({accepted, gone}, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():  # it could not even begin; `finish` says why
            accepted.cancel()
            return await gone
        await accepted
        top = len(chain) - 1
        await client.execute("block-stream", {
            "job-id": "stream", "device": f"n{top}", "base-node": f"n{base}", "backing-file": chain[base].name,
        })  # fmt: skip
        event = await ends.get()
        await client.execute("quit")
        sample = await gone
        if event["event"] != "BLOCK_JOB_COMPLETED" or "error" in event["data"]:  # type: ignore[operator]
            raise BenchError(f"block-stream: {json.dumps(event['data'])}")
        return sample
    finally:
        with suppress(OSError, EOFError):  # it has left already
            await client.disconnect()
        socket.unlink(missing_ok=True)


def _command(chain: Sequence[Path], socket: Path) -> list[str]:
    command = ["qemu-storage-daemon", "--chardev", f"socket,path={socket},id=c0", "--monitor", "chardev=c0"]
    for number, path in enumerate(chain):
        node = {
            "driver": "qcow2", "node-name": f"n{number}", "read-only": number < len(chain) - 1,
            "file": {"driver": "file", "node-name": f"f{number}", "filename": str(path)},
            "backing": f"n{number - 1}" if number else None,
        }  # fmt: skip
        command += ["--blockdev", json.dumps(node)]
    return command
