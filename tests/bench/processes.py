"""The processes that are timed: the spawner's client, the program as typed at a shell, and work inside one Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.measure import Sample

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent.parent
"""The repository."""

BACKCHAIN = Path(sys.executable).parent / "backchain"
"""The program, as a shell finds it in the environment that runs the benchmarks."""

TIMEOUT = 300
"""Seconds after which a process is killed."""


def plain_environment() -> dict[str, str]:
    """Give the environment without what changes how Python itself works.

    Nobody who uses the program forbids Python to keep compiled modules, or its output a buffer.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


class BenchError(Exception):
    """A process that was to be timed failed, or left something wrong behind."""


class _Lines:
    """A process that answers a line of JSON with a line of JSON."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._process = subprocess.Popen(
            [str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def send(self, request: dict[str, Any]) -> None:
        """Ask."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Wait for the answer.

        Raises:
            BenchError: The process has ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"{self._process.args}: no answer")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Spawner(_Lines):
    """Starts processes from a small one, and times them (see `tests.bench.spawner`)."""

    def __init__(self, scratch: Path) -> None:
        """Start the small process; what the others write to standard error goes to a file in `scratch`."""
        super().__init__([sys.executable, "-I", "-S", Path(__file__).with_name("spawner.py")])
        self._errors = scratch / "stderr.txt"
        self._command: list[str] = []

    def start(self, command: Sequence[str | Path], *, sync: Sequence[Path] = (), output: str = os.devnull) -> None:
        """Begin to run a command; `finish` waits for it.

        Args:
            command: The program and its arguments; paths are absolute, as the folder is the repository.
            sync: Files that must be on disk before the span ends.
            output: Where its standard output goes.
        """
        self._command = [str(c) for c in command]
        self.send({
            "command": self._command, "environment": plain_environment(), "output": output, "errors": str(self._errors),
            "sync": [str(p) for p in sync], "timeout": TIMEOUT,
        })  # fmt: skip

    def finish(self) -> Sample:
        """Wait until the command has ended.

        Raises:
            BenchError: Its exit status was not 0.
        """
        answer = self.receive()
        if answer["status"]:
            text = self._errors.read_text(errors="replace").strip()
            raise BenchError(f"{' '.join(self._command)}: exit status {answer['status']}: {text}")
        return Sample(answer["seconds"], answer["cpu"], answer["memory"])

    def run(self, command: Sequence[str | Path], *, sync: Sequence[Path] = (), output: str = os.devnull) -> Sample:
        """Run a command to its end."""
        self.start(command, sync=sync, output=output)
        return self.finish()


class Inside(_Lines):
    """A Python in which backchain is imported already and has worked once (see `tests.bench.inside`)."""

    def __init__(self) -> None:
        """Start it."""
        super().__init__([sys.executable, "-m", "tests.bench.inside"])

    def ask(self, work: str, **details: Any) -> dict[str, Any]:
        """Have some work done.

        Raises:
            BenchError: It failed.
        """
        self.send({"work": work, **details})
        answer = self.receive()
        if "error" in answer:
            raise BenchError(f"{work}: {answer['error']}")
        return answer

    def command(self, *arguments: str | Path) -> Sample:
        """Run a command of backchain's, its output thrown away."""
        answer = self.ask("command", arguments=[str(a) for a in arguments])
        return Sample(answer["seconds"], answer["cpu"], answer["memory"])
