"""Debian packages: a few unpacked each on its own, or a whole system installed; the machine's own apt fetches both."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from .apt_sources import KEYRING, archive
from .run import SETUP, BuildFailed, as_root, output_of, run

ETC_APT = Path("/etc/apt")
DOWNLOAD_TIMEOUT_S = 300
INSTALL_TIMEOUT_S = 540

_OPTIONS = [
    "--architectures=amd64",
    '--aptopt=Acquire::Check-Valid-Until "false"',  # a snapshot archive's lists are old and still right
    '--aptopt=Acquire::Languages "none"',
    '--aptopt=Acquire::Retries "3"',
    '--aptopt=APT::Install-Recommends "false"',
    "--dpkgopt=force-unsafe-io",  # what a cut of power spoils is built anew
    '--aptopt=APT::Sandbox::User "root"',  # the sandbox account could not enter an ordinary user's home
]
_WITHOUT_DOCUMENTATION = [
    f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "info", "lintian", "locale", "man")
]


def download(suite: str, names: Sequence[str], into: Path, log: Path) -> list[Path]:
    """Downloads packages of a Debian suite, and nothing that they depend on; needs no privileges.

    `linux-image-cloud-amd64` stands for the kernel it points to.

    Returns:
        The files, below `into`, which this function makes.
    """
    return _download(suite, names, into, log)


def download_closure(suite: str, names: Sequence[str], but: str, into: Path, log: Path) -> list[Path]:
    """Downloads packages of a Debian suite with all that they depend on, less what `but` matches; needs no privileges.

    `but` is an extended regular expression that a package's whole name matches.

    Returns:
        The files, below `into`, which this function makes.
    """
    return _download(suite, names, into, log, "--with-dependencies", but)


def _download(suite: str, names: Sequence[str], into: Path, log: Path, *options: str) -> list[Path]:
    into.mkdir()
    empty = into.with_name(f"{into.name}-apt")
    hook = shlex.join([str(Path(__file__).with_name("download")), *options, str(into), *names])
    run(
        [
            "mmdebstrap",
            "--mode=chrootless",
            "--variant=custom",
            *_OPTIONS,
            f"--customize-hook={hook}",
            suite,
            empty,
            source(suite),
        ],
        log,
        timeout_s=DOWNLOAD_TIMEOUT_S,
    )
    return sorted(into.glob("*.deb"))


def unpack(package: Path, into: Path, log: Path) -> None:
    """Unpacks a package's files; its maintainer's scripts do not run."""
    run(["dpkg-deb", "--extract", package, into], log)


def only(tree: Path, pattern: str) -> Path:
    """The one path below `tree` that matches.

    Raises:
        BuildFailed: there is none, or more than one: the packages are laid out in another way than this recipe knows.
    """
    found = list(tree.glob(pattern))
    if len(found) != 1:
        raise BuildFailed(f"expected one {pattern} in the unpacked packages, found {len(found)}")
    return found[0]


def install(suite: str, names: Sequence[str], root: Path, log: Path) -> None:
    """Installs a system of `names`, what they depend on and Debian's essential packages into the new folder `root`.

    Files belong to the accounts of the new system as `as_root` maps them.
    """
    run(
        [
            *as_root(),
            "mmdebstrap",
            "--mode=unshare",
            "--variant=essential",
            *_OPTIONS,
            *_WITHOUT_DOCUMENTATION,
            f"--include={','.join(names)}",
            suite,
            root,
            source(suite),
        ],
        log,
        timeout_s=INSTALL_TIMEOUT_S,
    )


def installed_versions(root: Path) -> dict[str, str]:
    return _versions(["dpkg-query", f"--admindir={root}/var/lib/dpkg", "--show"])


def file_versions(packages: Sequence[Path]) -> dict[str, str]:
    versions: dict[str, str] = {}
    for package in packages:
        versions |= _versions(["dpkg-deb", "--show", str(package)])
    return versions


def _versions(argv: list[str]) -> dict[str, str]:
    return dict(line.split("\t") for line in output_of(argv).splitlines())


def source(suite: str) -> str:
    """One line of sources.list for a suite of the Debian archive that this machine uses.

    Raises:
        BuildFailed: no Debian archive is among the machine's apt sources, or its keyring is missing.
    """
    uri = os.environ.get("VMBROKER_DEBIAN_ARCHIVE") or archive(ETC_APT)
    if not uri:
        raise BuildFailed(
            f"no Debian archive among the sources in {ETC_APT}: set VMBROKER_DEBIAN_ARCHIVE to the URI of one"
        )
    if not KEYRING.exists():
        raise BuildFailed(f"{KEYRING} is missing: {SETUP}")
    return f"deb [signed-by={KEYRING}] {uri} {suite} main"
