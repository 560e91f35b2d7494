"""A certified OpenID provider of others (panva's oidc-provider), as real processes and over TLS, and people before it.

Its packages are installed once, by the Node.js of the dependency group `browser`, into the cache outside the checkout.
"""

import asyncio
import hashlib
import json
import os
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from lxml import html
from yarl import URL

from deploy.image.builder.cache import cache_folder
from tests.support.authority import Authority
from tests.support.grid import running
from tests.support.nodejs import node, node_folder
from tests.support.waiting import wait_until

CLIENT_ID = "vmbroker"
_SOURCES = Path(__file__).parent / "oidc"
_NPM = "lib/node_modules/npm/bin/npm-cli.js"
_INSTALL_S = 300
_START_S = 60
_BROWSING_S = 60
_MOST_PAGES = 8


@dataclass(frozen=True)
class Providers:
    """Three issuers: `open` to all names, `hurried` with codes of two seconds, `closed` without a device flow."""

    open: str
    hurried: str
    closed: str
    authority: Authority

    def all(self) -> tuple[str, ...]:
        return (self.open, self.hurried, self.closed)


@contextmanager
def running_providers(folder: Path) -> Iterator[Providers]:
    """Have the issuers on free ports of loopback for the block; what they write lies in `folder`."""
    provider, ready, log = installed() / "provider.mjs", folder / "providers.json", folder / "providers.log"
    authority = Authority()
    pem = authority.server_files(folder, "localhost")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NODE_")}
    with running([str(node()), str(provider), str(pem), str(ready)], log, environment) as process:
        wait_until(lambda: ready.exists() or process.poll() is not None, "the issuers listen", timeout_s=_START_S)
        assert ready.exists(), log.read_text()
        yield Providers(**json.loads(ready.read_text()), authority=authority)


def installed() -> Path:
    """Return the folder of the provider and its packages, installing them when they are not there.

    Whole or not at all: it is made beside, and renamed. Of two that do it at once, one's is thrown away.
    """
    parent = cache_folder() / "oidc"
    folder = parent / _digest()
    if folder.is_dir():
        return folder
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix="part-") as work:
        made = Path(work) / "made"
        shutil.copytree(_SOURCES, made)
        _install(made, Path(work) / "downloads")
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # else somebody else was quicker
                raise
    return folder


def _digest() -> str:
    whole = hashlib.sha256()
    for file in sorted(_SOURCES.iterdir()):
        whole.update(f"{file.name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()[:16]


def _install(folder: Path, downloads: Path) -> None:
    quiet = ("--no-audit", "--no-fund", "--no-update-notifier")
    words = [str(node()), str(node_folder() / _NPM), "ci", "--ignore-scripts", *quiet, "--cache", str(downloads)]
    ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    assert ended.returncode == 0, f"npm could not install the OpenID provider:\n{ended.stdout}{ended.stderr}"


async def approve(providers: Providers, address: str, code: str, user: str) -> str:
    """Open the address, type the code, log in, and agree, as a person does; return the last page's text."""
    return await _browse(providers, address, {"user_code": code, "login": user, "password": "any"}, is_willing=True)


async def deny(providers: Providers, address: str, code: str) -> str:
    """Open the address, type the code, and say no; return the last page's text."""
    return await _browse(providers, address, {"user_code": code}, is_willing=False)


async def _browse(providers: Providers, address: str, typed: dict[str, str], *, is_willing: bool) -> str:
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=providers.authority.ca_pem))
    async with asyncio.timeout(_BROWSING_S), aiohttp.ClientSession(connector=connector) as browser:
        answer = await browser.get(address)
        for _ in range(_MOST_PAGES):
            page = _page(await answer.text())
            is_asked = page.forms and answer.ok
            fields = {name: value or "" for name, value in page.forms[0].fields.items()} if is_asked else {}
            if not is_asked:
                return str(page.text_content())
            is_decision = "confirm" in fields
            fields |= {name: value for name, value in typed.items() if name in fields}
            if is_decision and not is_willing:  # its button is beside the form, and sends this in place of `confirm`
                del fields["confirm"]
                fields["abort"] = "yes"
            answer = await browser.post(answer.url.join(URL(page.forms[0].action)), data=fields)
            if is_decision and not is_willing:
                return str(_page(await answer.text()).text_content())
    raise AssertionError(f"no end to the pages of {address}")


def _page(text: str) -> Any:
    # The stubs of lxml do not know what an HTML element has beside an XML one.
    return html.fromstring(text)
