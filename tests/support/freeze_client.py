"""Keeps the guest client of a release, so that later brokers are tested against it.

`python -m tests.support.freeze_client REVISION`, run once for each release, writes what the guest disk of that revision
carried of our own code to `tests/data/clients/vmbroker-guest-VERSION.zip`. Add the file to the same commit that raises
the version. The same revision always gives the same bytes.
"""

import argparse
import io
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CLIENTS = REPOSITORY / "tests" / "data" / "clients"
_PARTS = ("guest", "broker/__init__.py", "broker/wire", "broker/client")
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip archive can hold."""
_GIT_TIMEOUT_S = 60


def freeze(revision: str, folder: Path = CLIENTS) -> Path:
    """Write the archive of the client as of the revision; returns its path.

    Raises:
        subprocess.CalledProcessError: git knows no such revision, or no client in it.
        FileExistsError: that version was frozen before: a release does not change.
    """
    version = tomllib.loads(_git("show", f"{revision}:pyproject.toml").decode())["project"]["version"]
    path = folder / f"vmbroker-guest-{version}.zip"
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", revision, *_PARTS))) as sources,
        zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as archive,
    ):
        for member in sources:
            content = sources.extractfile(member)
            if content is not None:
                archive.writestr(zipfile.ZipInfo(member.name, _EPOCH), content.read(), zipfile.ZIP_DEFLATED)
        archive.writestr(zipfile.ZipInfo("guest/VERSION", _EPOCH), f"{version}\n")
    return path


def frozen_clients() -> list[Path]:
    """Return the archives, by version; there is at least one."""
    found = sorted(CLIENTS.glob("vmbroker-guest-*.zip"))
    assert found, f"{CLIENTS} holds no client"
    return found


def _git(*arguments: str) -> bytes:
    return subprocess.run(
        ["git", *arguments], cwd=REPOSITORY, check=True, capture_output=True, timeout=_GIT_TIMEOUT_S
    ).stdout


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.freeze_client", description=__doc__)
    parser.add_argument("revision", help="what git calls the release, such as v0.1.0")
    print(freeze(parser.parse_args().revision))


if __name__ == "__main__":
    main()
