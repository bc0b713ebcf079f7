"""The same operation in the words of other tools: qemu-img, virsh and QMP. Shown and copied, never run."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from backchain.filename import printable
from backchain.operations import Commit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backchain.graph import ChainGraph
    from backchain.operations import Operation, Pull
    from backchain.plan import Relink


def equivalent_commands(
    graph: ChainGraph, operation: Operation, relinks: tuple[Relink, ...]
) -> tuple[tuple[str, str], ...]:
    """Give (tool, command) pairs that do the same; the tools are "qemu-img", "virsh" and "qmp".

    Sources: qemu-img(1), virsh(1), QEMU's live block operations and QAPI reference (block-commit, block-stream).
    """
    if isinstance(operation, Commit):
        return _commit(graph, operation, relinks)
    return _pull(graph, operation, relinks)


def _commit(graph: ChainGraph, operation: Commit, relinks: tuple[Relink, ...]) -> tuple[tuple[str, str], ...]:
    top, base = graph[operation.top].path, graph[operation.base].path
    direct = graph.backing_of(operation.top) == operation.base
    overlays = graph.overlays_of(operation.top)
    words = ["qemu-img", "commit", "-f", "qcow2"]
    if operation.keep_top or overlays:
        words.append("-d")
    if not direct:
        words += ["-b", str(base)]
    commands = [("qemu-img", _shell([*words, str(top)]))]
    commands += [("qemu-img", _rebase_u(graph, r)) for r in relinks]
    virsh = ["virsh", "blockcommit", "DOMAIN", "DISK", "--base", str(base), "--top", str(top)]
    virsh += ["--wait", "--verbose"] if overlays else ["--active", "--pivot", "--verbose"]
    commands.append(("virsh", _shell(virsh)))
    arguments = {"job-id": "job0", "device": "NODE-OF-ACTIVE", "top": str(top), "base": str(base)}
    if overlays and relinks:
        arguments["backing-file"] = relinks[0].name or ""
    commands.append(("qmp", json.dumps({"execute": "block-commit", "arguments": arguments})))
    return tuple(commands)


def _pull(graph: ChainGraph, operation: Pull, relinks: tuple[Relink, ...]) -> tuple[tuple[str, str], ...]:
    path = str(graph[operation.image].path)
    relink = relinks[0]
    rebase = ["qemu-img", "rebase", "-f", "qcow2", "-b", relink.name or ""]
    if relink.format:
        rebase += ["-F", relink.format]
    virsh = ["virsh", "blockpull", "DOMAIN", path]
    arguments = {"job-id": "job0", "device": "NODE-OF-IMAGE"}
    if operation.base is not None:
        virsh += ["--base", str(graph[operation.base].path)]
        arguments |= {"base": str(graph[operation.base].path), "backing-file": relink.name or ""}
    return (
        ("qemu-img", _shell([*rebase, path])),
        ("virsh", _shell([*virsh, "--wait", "--verbose"])),
        ("qmp", json.dumps({"execute": "block-stream", "arguments": arguments})),
    )


def _rebase_u(graph: ChainGraph, relink: Relink) -> str:
    words = ["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", relink.name or "", "-F", relink.format or "raw"]
    return _shell([*words, str(graph[relink.image].path)])


def _shell(words: Iterable[str]) -> str:
    """Join words for a shell, on one line: a name that cannot be shown as it is becomes $'...' (bash, ksh, zsh)."""
    return " ".join(shlex.quote(w) if w.isprintable() else f"$'{''.join(map(_ansi_c, w))}'" for w in words)


def _ansi_c(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    # A byte that is not UTF-8 is \xNN; there, a character of Latin-1 would be a byte too, so that it is written out.
    return f"\\u{ord(character):04x}" if "\x80" <= character <= "\xff" else printable(character)
