"""Which virtual machines name a file as their disk: read out of libvirt's own XML files, without libvirt.

Source: libvirt's domain XML format (``<source file=... dev=...>`` of a disk, and its ``<backingStore>``; ``<source
pool=... volume=...>``), and the folders in which its QEMU driver keeps the domains of the system, of the session, and
those that run. A volume is found by the target path of its pool, whose XML lies in ``storage`` beside those folders.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

_MOST_BYTES = 4 << 20
"""No domain's XML comes near this size."""


class Domains(NamedTuple):
    """What the folders of domains say.

    Attributes:
        users: Names of the domains that name a file, by the file's real path.
        disks: The same of disks alone, without what is named as backing a disk or as a job's copy of it.
        unread: What could not be read, one line each: domains may be defined there.
    """

    users: dict[str, tuple[str, ...]]
    disks: dict[str, tuple[str, ...]]
    unread: tuple[str, ...]


def libvirt_folders() -> tuple[Path, ...]:
    """Give the folders in which libvirt's QEMU driver keeps domains, for the system and for this user."""
    folders = (Path("/etc/libvirt/qemu"), Path("/run/libvirt/qemu"))
    try:
        config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    except RuntimeError:
        return folders
    return (*folders, config / "libvirt" / "qemu")


def read_domains(folders: Sequence[Path] | None = None) -> Domains:
    """Read every domain in the folders.

    Args:
        folders: Where to look; None takes those of libvirt.
    """
    users: dict[str, dict[str, None]] = {}
    disks: dict[str, dict[str, None]] = {}
    unread: list[str] = []
    folders = libvirt_folders() if folders is None else folders
    for folder in folders:
        try:
            files = sorted(p for p in folder.iterdir() if p.suffix == ".xml")
        except FileNotFoundError:
            continue
        except OSError as error:
            unread.append(f"{folder}: {os.strerror(error.errno or 0)}")
            continue
        for path in files:
            try:
                domain = _read(path)
            except (OSError, SyntaxError) as error:  # what an XML parser raises is a SyntaxError
                unread.append(f"{path}: {os.strerror(error.errno or 0) if isinstance(error, OSError) else 'no XML'}")
                continue
            for found, sources in ((users, domain.named), (disks, domain.own)):
                for source in sources:
                    found.setdefault(os.path.realpath(source), {})[domain.name] = None
            for pool, volume in domain.volumes:
                places = _pool_paths(pool, folders)
                if places is None:
                    unread.append(f"{path}: volume {volume} of pool {pool}, whose path is not known")
                for place in places or ():
                    for found in (users, disks):
                        found.setdefault(os.path.realpath(place / volume), {})[domain.name] = None
    return Domains(_listed(users), _listed(disks), tuple(unread))


def _listed(found: dict[str, dict[str, None]]) -> dict[str, tuple[str, ...]]:
    return {path: tuple(names) for path, names in found.items()}


class _Domain(NamedTuple):
    """What one domain says.

    Attributes:
        name: Its name.
        named: All files that its disks name, what backs them, too.
        own: The disks' own files.
        volumes: Pairs (pool, volume) that its disks name instead of files.
    """

    name: str
    named: Sequence[str]
    own: Sequence[str]
    volumes: Sequence[tuple[str, str]]


def _read(path: Path) -> _Domain:
    root = _parse(path)
    domain = root if root.tag == "domain" else root.find(".//domain")
    if domain is None:
        return _Domain(path.stem, (), (), ())
    named, own = (
        [s for e in domain.iterfind(f".//disk{axis}source") if (s := e.get("file") or e.get("dev"))]
        for axis in ("//", "/")
    )
    sources = domain.iterfind(".//disk//source")
    volumes = [(pool, volume) for e in sources if (pool := e.get("pool")) and (volume := e.get("volume"))]
    return _Domain(domain.findtext("name") or path.stem, named, own, volumes)


def _pool_paths(pool: str, folders: Sequence[Path]) -> list[Path] | None:
    """Give the folders of a pool's volumes, none if they are no files of this machine; None if nothing is known of it.

    The system and the session may each have a pool of the name.
    """
    found = []
    for folder in folders:
        try:
            found.append(_parse(folder.parent / "storage" / f"{pool}.xml").findtext("./target/path"))
        except (OSError, SyntaxError, ValueError):
            continue
    return [Path(target) for target in found if target] if found else None


def _parse(path: Path) -> Element:
    from xml.etree import ElementTree  # few machines have a domain

    with path.open("rb") as file:
        return ElementTree.fromstring(file.read(_MOST_BYTES))
