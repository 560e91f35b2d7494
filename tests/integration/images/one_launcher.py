"""Fetch an image as a launcher of its own does, as another account if told so.

`python -m …one_launcher UID FOLDER MEMORY URL DIGEST SIZE` writes the image's path, or the error, as its last line, and
holds the image until its stdin ends.
"""

import asyncio
import os
import sys
from pathlib import Path

from broker.client.session import Session
from launcher.hypervisor.account import Account
from launcher.images import Address, Image, ImageCache, ImageError
from launcher.node.image_looks import look_as


async def fetch(folder: Path, memory: Path, url: str, image: Image) -> None:
    account = Account(os.geteuid(), os.getegid(), ()) if os.geteuid() else Account.choose()
    cache = ImageCache(folder, look_as(account), memory=memory)
    cache.prepare()
    async with Session(url) as session:
        with await cache.fetch(image, Address(session, url)) as held:
            print(held.path, flush=True)
            sys.stdin.read()


def main() -> None:
    uid, folder, memory, url, digest, size = sys.argv[1:]
    if os.geteuid() == 0 and int(uid):
        os.setgroups([])
        os.setresgid(int(uid), int(uid), int(uid))
        os.setresuid(int(uid), int(uid), int(uid))
    try:
        asyncio.run(fetch(Path(folder), Path(memory), url, Image(digest, int(size), "qcow2")))
    except ImageError as error:
        print(f"{type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main()
