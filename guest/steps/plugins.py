"""Bytes in and out by an HTCondor file transfer plugin: the way to every scheme that is not our own.

A plugin is a program of the image. Asked with `-classad` it tells what it does; one with MultipleFileSupport is given
the transfer as a ClassAd in a file and tells of it in another, an older one is given source and destination as its
arguments. It runs as the account that the item's program runs as, as it does in HTCondor: to that belong a proxy
certificate, which Globus takes from its owner alone, and the token; and what it does with a name that the program left
behind, the program could have done.

Nothing that it says of the bytes counts: what came is measured here.
Source: HTCondor Manual, "Enabling the Transfer of Files Specified by a URL"; HTCondor, src/condor_utils/
file_transfer.cpp; for TransferRetryable and exit status 11, Pelican, cmd/plugin.go.
"""

import asyncio
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from broker.client.errors import Unreachable, shown_address
from broker.wire.leases import ClaimAnswer, SignedUrl
from guest.steps.account import Account
from guest.steps.carrier import Fetched
from guest.steps.classads import MAX_AD_BYTES, Ad, BadAd, read_ads, written
from guest.steps.command import base_environment
from guest.steps.failure import StepFailed
from guest.steps.program import Program, Tail, ending_of
from guest.steps.secrets import Secrets

OUR_OWN = frozenset({"http", "https", "dav", "davs", "s3", "file"})
"""Schemes that no plugin is asked for, whatever a claim says."""
QUERY_S = 60.0
GRACE_S = 1.0
"""Between SIGTERM and SIGKILL: a transfer that is stopped begins anew, and has little to put away."""
MAX_UNSURE = 3
"""How often a transfer is tried of whose failure the plugin does not tell whether trying again may help."""
RETRYABLE_STATUS = 11
MAX_QUOTED_CHARS = 300
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


class _Run(NamedTuple):
    """How a plugin ended, what it wrote to its standard output, and the last line of its standard error."""

    status: int
    output: str
    last_error_line: str


class _Said(Tail):
    """What a plugin writes: the beginning of its standard output, and the end of all."""

    def __init__(self) -> None:
        super().__init__(lambda _: None)
        self._output = bytearray()

    def add(self, chunk: bytes, *, is_error: bool) -> None:
        super().add(chunk, is_error=is_error)
        if not is_error:
            self._output += chunk[: MAX_AD_BYTES - len(self._output)]

    def output(self) -> str:
        return self._output.decode(errors="replace")


class Plugins:
    """The plugins of one lease. Each try is one run of a plugin; the caller repeats, and bounds the whole."""

    def __init__(self, claimed: ClaimAnswer, secrets: Secrets, proxy: str | None) -> None:
        self._paths = {scheme: path for scheme, path in claimed.plugins.items() if scheme not in OUR_OWN}
        self._as_user = claimed.as_user
        self._secrets = secrets
        self._proxy = proxy
        self._asked: dict[str, Ad] = {}
        self._failures: dict[str, int] = {}

    def have(self, url: str) -> bool:
        """Tell whether there is a plugin for the address's scheme."""
        return _scheme(url) in self._paths

    async def fetch(self, signed: SignedUrl, path: Path) -> Fetched:
        """Bring what is at the address to `path`, once.

        Raises:
            Unreachable: the plugin failed, or brought no file; with what the plugin said, made harmless.
            StepFailed: the account that it should run as is not there.
            OSError: the vm's disk cannot be written.
        """
        account = Account.find(self._as_user)
        with _folder(path.parent) as folder:
            # The plugin writes in a folder of its own, under a name that no plugin stumbles over.
            place = folder / (path.name if _PLAIN_NAME.fullmatch(path.name) else "input")
            await self._carry_out(signed.url, place, folder, account)
            # From here on the folder is out of reach of whatever the plugin left behind.
            os.chown(folder, os.geteuid(), os.getegid(), follow_symlinks=False)
            measured = await asyncio.to_thread(_measured, place)
            if measured is None:
                raise self._failed(signed.url, "its plugin says that it succeeded, and brought no file")
            size_bytes, digest = measured
            if signed.digest is not None and signed.digest != digest:
                raise self._failed(signed.url, "what its plugin brought has another digest than was said of it")
            place.rename(path)
        return Fetched(path, size_bytes, digest)

    async def put(self, signed: SignedUrl, path: Path) -> None:
        """Upload the file, once.

        Raises:
            Unreachable: the plugin failed, or does not say that it succeeded.
            StepFailed: the account that it should run as is not there.
        """
        account = Account.find(self._as_user)
        try:
            with _folder(Path(tempfile.gettempdir())) as folder:
                await self._carry_out(signed.url, path, folder, account, is_upload=True)
        except OSError as error:
            raise Unreachable(f"the vm's disk cannot be written: {error.strerror}") from error

    async def _carry_out(
        self, url: str, path: Path, folder: Path, account: Account, *, is_upload: bool = False
    ) -> None:
        """Run the plugin on one file, in the way that it understands, and judge how it went."""
        plugin = self._paths[_scheme(url)]
        asked, told = folder / "vmbroker-infile", folder / "vmbroker-outfile"
        asked.write_text(written({"LocalFileName": str(path), "Url": url}))
        os.chown(folder, account.uid, account.gid)
        if (await self._ask(plugin, url, folder, account)).get("multiplefilesupport") is True:
            words = ["-infile", str(asked), "-outfile", str(told), *(["-upload"] if is_upload else [])]
            run = await self._run([plugin, *words], folder, account)
            ad = self._result(plugin, url, run, _content(told))
        else:
            run = await self._run([plugin, *((str(path), url) if is_upload else (url, str(path)))], folder, account)
            ad = {"transfersuccess": run.status == 0}
        if run.status == 0 and ad.get("transfersuccess") is True:
            return
        said = str(ad.get("transfererror") or run.last_error_line)
        match ad.get("transferretryable"):
            case bool(is_retryable):
                may_help: bool | None = is_retryable
            case _:
                may_help = True if run.status == RETRYABLE_STATUS else None
        ended = ending_of(run.status) if run.status else "does not say that it succeeded"
        raise self._failed(url, f"its plugin {plugin} {ended}", said, may_help=may_help)

    def _result(self, plugin: str, url: str, run: _Run, content: str) -> Ad:
        """Return what a plugin told of the one file; of several ads the one that says no."""
        try:
            ads = read_ads(content)
        except BadAd as error:
            if run.status:
                return {}  # it had more to do than to tell, and its status and last words do
            raise self._failed(url, f"what its plugin {plugin} tells cannot be read", str(error)) from error
        return next((ad for ad in ads if ad.get("transfersuccess") is not True), ads[0] if ads else {})

    async def _ask(self, plugin: str, url: str, folder: Path, account: Account) -> Ad:
        """Ask a plugin what it does, once a lease. A plugin that names no schemes is believed to do this one."""
        if plugin in self._asked:
            return self._asked[plugin]
        try:
            async with asyncio.timeout(QUERY_S):
                run = await self._run([plugin, "-classad"], folder, account)
        except TimeoutError:
            raise self._failed(url, f"its plugin {plugin} does not answer -classad within {QUERY_S:g} s") from None
        try:
            ads = read_ads(run.output) if run.status == 0 else []
        except BadAd:
            ads = []
        if not ads:
            raise self._failed(
                url, f"{plugin} is no file transfer plugin: it does not answer -classad as one", run.last_error_line
            )
        schemes = [word.strip() for word in str(ads[0].get("supportedmethods", "")).lower().split(",")]
        if any(schemes) and _scheme(url) not in schemes:
            raise self._failed(
                url, f"its plugin {plugin} does not do {_scheme(url)}:, but {', '.join(schemes)}", may_help=False
            )
        self._asked[plugin] = ads[0]
        return ads[0]

    async def _run(self, arguments: Sequence[str], folder: Path, account: Account) -> _Run:
        variables = base_environment(account, self._proxy) | self._secrets.variables()
        said = _Said()
        try:
            status = await Program(arguments, variables, folder, account, lambda: GRACE_S, "its plugin").run(said)
        except StepFailed as error:
            raise Unreachable(error.sentence, is_lasting=True) from error
        return _Run(status, said.output(), said.last_error_line())

    def _failed(self, url: str, what: str, said: str = "", *, may_help: bool | None = None) -> Unreachable:
        """Make the error of a try; `may_help` to repeat, None when nobody knows, which is tried a few times."""
        if may_help is None:
            self._failures[url] = self._failures.get(url, 0) + 1
            may_help = self._failures[url] < MAX_UNSURE
        shown = "".join(each if each.isprintable() else " " for each in said.replace(url, shown_address(url))).strip()
        return Unreachable(f"{what}: {shown[:MAX_QUOTED_CHARS]}" if shown else what, is_lasting=not may_help)


def _scheme(url: str) -> str:
    return url.partition(":")[0].lower() if ":" in url else ""


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    """Make a folder for one run of a plugin, which goes with all that the plugin leaves in it."""
    folder = Path(tempfile.mkdtemp(prefix=".plugin-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _content(path: Path) -> str:
    """Read what a plugin told; nothing where it left no file of its own."""
    with _opened(path) as file:
        return "" if file is None else file.read(MAX_AD_BYTES).decode(errors="replace")


def _measured(path: Path) -> tuple[int, str] | None:
    """Return size and digest of a file, None where there is none."""
    with _opened(path) as file:
        if file is None:
            return None
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), f"sha256:{digest}"


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader | None]:
    """Open a plugin's file; None for none, and for what is no file: a link, a pipe that would never end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    with os.fdopen(descriptor, "rb") as file:
        yield file if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
