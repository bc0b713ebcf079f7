"""The same operation in the words of other tools: qemu-img, virsh and QMP. Shown and copied, never run."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from backchain.filename import printable
from backchain.operations import Commit, Rebase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.operations import Pull, Snapshot, Transferring
    from backchain.plan import Relink


Commands = tuple[tuple[str, str], ...]
"""Pairs (tool, command); the tools are "qemu-img", "virsh", "qmp" and "sh"."""


def equivalent_commands(graph: ChainGraph, operation: Transferring, relinks: tuple[Relink, ...]) -> Commands:
    """Give the commands that do the same.

    Sources: qemu-img(1), virsh(1), QEMU's live block operations and QAPI reference (block-commit, block-stream).
    """
    if isinstance(operation, Commit):
        return _commit(graph, operation, relinks)
    if isinstance(operation, Rebase):
        return _rebase(graph, operation, relinks[0])
    return _pull(graph, operation, relinks)


def snapshot_commands(graph: ChainGraph, operation: Snapshot, relink: Relink) -> Commands:
    """Give the commands that make the same overlay."""
    image, overlay = graph[operation.image].path, operation.overlay
    create = ["qemu-img", "create", "-f", "qcow2", "-b", relink.name or "", "-F", relink.format or "raw", str(overlay)]
    virsh = ["virsh", "snapshot-create-as", "DOMAIN", "NAME", "--disk-only", "--atomic", "--diskspec"]
    disk = f"DISK,snapshot=external,file={str(overlay).replace(',', ',,')}"  # as virsh(1) escapes a comma
    arguments = {"node-name": f"NODE-OF-{image.name}", "snapshot-file": str(overlay), "format": "qcow2"}
    return (
        ("qemu-img", _shell(create)),
        ("virsh", _shell([*virsh, disk])),
        ("qmp", json.dumps({"execute": "blockdev-snapshot-sync", "arguments": arguments})),
    )


def delete_commands(graph: ChainGraph, images: Iterable[ImageId]) -> Commands:
    """Give the command that removes the same files."""
    return (("sh", _shell(["rm", "--", *(str(graph[i].path) for i in images)])),)


def _commit(graph: ChainGraph, operation: Commit, relinks: tuple[Relink, ...]) -> Commands:
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


def _pull(graph: ChainGraph, operation: Pull, relinks: tuple[Relink, ...]) -> Commands:
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
    own_disk = not graph.overlays_of(operation.image)  # virsh pulls into a machine's disk alone
    return (
        ("qemu-img", _shell([*rebase, path])),
        *([("virsh", _shell([*virsh, "--wait", "--verbose"]))] if own_disk else []),
        ("qmp", json.dumps({"execute": "block-stream", "arguments": arguments})),
    )


def _rebase(graph: ChainGraph, operation: Rebase, relink: Relink) -> Commands:
    words = ["qemu-img", "rebase", *(["-u"] if operation.unsafe else []), "-f", "qcow2", "-b", relink.name or ""]
    if relink.new is not None:
        words += ["-F", relink.format or "raw"]
    return (("qemu-img", _shell([*words, str(graph[operation.image].path)])),)


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
