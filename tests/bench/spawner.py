"""Starts processes for the benchmarks and times them; run as ``python -I -S spawner.py``, a process of its own.

Linux counts the memory of the process that starts another into the peak of the one that is started (the high-water
mark survives execve), so whoever starts must be small: about 10 MiB here, below every peak that is measured. For the
same reason nothing is imported that is not needed.

One request a line on standard input, as JSON; one answer a line on standard output. The span that is timed begins
before the process is made and ends when it is gone and the files named in "sync" are on disk.
"""

import json
import os
import signal
import sys
import time


def serve() -> None:
    """Answer requests until there are no more."""
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


def answer(request: dict) -> dict:
    """Run one process.

    Args:
        request: command (list), environment (dict), output (path of standard output), errors (path of standard
            error), sync (paths), timeout (seconds after which the process is killed).
    """
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666),
        (os.POSIX_SPAWN_OPEN, 2, request["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666),
    ]
    command = request["command"]
    started = time.perf_counter()
    process = os.posix_spawnp(command[0], command, request["environment"], file_actions=files)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(process, signal.SIGKILL))
    signal.alarm(request["timeout"])
    _, status, usage = os.wait4(process, 0)
    signal.alarm(0)
    for path in request["sync"]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss * 1024,
        "status": os.waitstatus_to_exitcode(status),
    }


if __name__ == "__main__":
    serve()
