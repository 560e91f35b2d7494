"""`vmbroker-guest`: the client inside a vm. It ends by switching the vm off, however it ended otherwise.

Its launcher speaks to it by the port. Where the image shows none, the client works by what lies ready for it elsewhere;
then nobody hears what it says but the console.
"""

import importlib
import os
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from broker.wire.port import Welcome
from guest.exits import MEANINGS, Exit
from guest.steps.clock import TOLERATED_DIFFERENCE_S, feed_entropy, set_clock
from guest.steps.facts import client_name, has_network_device
from guest.steps.handed import HandedOver, aged, handed_over
from guest.steps.port import NoPort, NoWelcome, Port, find_port

PORT_SOON_S = 5.0
"""A port that takes longer is waited for only when nothing lies ready elsewhere."""
PORT_TIMEOUT_S = 120.0
WELCOME_TIMEOUT_S = 300.0
HANDED_OVER_TOLERANCE_S = 60.0
"""A time that was written down before the boot is right to a minute, which certificates do not mind."""
RUN_FOLDER = Path("/run/vmbroker")
Say = Callable[[str], None]
AUTHORITIES_VARIABLE = "VMBROKER_AUTHORITIES"
"""Names a PEM file of certificate authorities that the guest disk brings, for images that have none."""


@dataclass(frozen=True, slots=True)
class Options:
    """`stays`: this is no vm of ours; leave its clock, its random numbers and its power alone."""

    stays: bool = False
    port: Path | None = None
    run_folder: Path = RUN_FOLDER


def read_options(arguments: list[str]) -> Options:
    """Read the command line; exits on `--help`, `--version` and faults."""
    if not arguments:
        return Options()
    import argparse  # noqa: PLC0415 # a vm calls without arguments: it would cost a slow guest a tenth of a second

    parser = argparse.ArgumentParser(
        prog="vmbroker-guest",
        description="Claims one item over the virtio port, works on it, delivers the result, and switches the vm off.",
        epilog="exit statuses: " + "; ".join(f"{code.value} {meaning}" for code, meaning in MEANINGS.items()),
    )
    parser.add_argument("--stay", action="store_true", help="outside a vm: leave clock, random numbers and power alone")
    parser.add_argument("--port", type=Path, metavar="DEVICE", help="the port's device, instead of finding it")
    parser.add_argument("--run-folder", type=Path, default=RUN_FOLDER, metavar="FOLDER", help="for the claim key")
    parser.add_argument("--version", action="version", version=client_name())
    try:
        given = parser.parse_args(arguments)
    except SystemExit as end:
        sys.exit(Exit.USAGE if end.code else 0)
    return Options(given.stay, given.port, given.run_folder)


def main() -> NoReturn:
    """Run the client to its end."""
    options = read_options(sys.argv[1:])
    try:
        code = _run(options)
    except Exception:  # noqa: BLE001 # told to the console; the vm must still be switched off
        traceback.print_exc()
        code = Exit.INTERNAL
    if not options.stays:
        from guest.steps.power import power_off  # noqa: PLC0415 # slow to import, and needed only at the end

        sys.stdout.flush()
        power_off()
    sys.exit(code)


def _run(options: Options) -> Exit:
    try:
        found = _find(options)
    except NoPort as error:
        _print(str(error))
        return _told(Exit.NO_PORT, None)
    if isinstance(found, HandedOver):
        return _told(_run_handed_over(found, options), None)
    try:
        return _told(_run_on(found, options), found)
    finally:
        found.close()


def _find(options: Options) -> Port | HandedOver:
    """Open the port, or find what lies ready where there is none. A port in other hands is one: that client works.

    Raises:
        NoPort: neither is there, or the port cannot be opened.
    """
    if options.port is not None:
        return Port.open(options.port)
    try:
        path = find_port(PORT_SOON_S)
    except NoPort:
        found = handed_over()
        if found is not None:
            return found
        path = find_port(PORT_TIMEOUT_S)
    return Port.open(path)


def _run_handed_over(found: HandedOver, options: Options) -> Exit:
    _print(f"there is no port; the ticket came by {found.way}")
    try:
        welcome = aged(found.welcome)
    except ValueError as error:
        _print(f"the time that came with the ticket cannot be read: {error}")
        return Exit.NO_WELCOME
    if not options.stays:
        _settle_in(welcome, HANDED_OVER_TOLERANCE_S)
    return _work(welcome, options, _print, None)


def _run_on(port: Port, options: Options) -> Exit:
    client = client_name()
    port.greet(client)
    # Most of the client's start-up time; meanwhile the launcher answers, and its time is taken when it arrives.
    expected = "guest.pipeline" if has_network_device() else "guest.shared"
    threading.Thread(target=importlib.import_module, args=(expected,), daemon=True).start()

    def say(text: str) -> None:
        _print(text)
        port.log(text)

    try:
        welcome = port.wait_for_welcome(client, WELCOME_TIMEOUT_S)
    except NoWelcome as error:
        say(str(error))
        return Exit.NO_WELCOME
    if not options.stays:
        _settle_in(welcome, TOLERATED_DIFFERENCE_S)
    return _work(welcome, options, say, port)


def _work(welcome: Welcome, options: Options, say: Say, port: Port | None) -> Exit:
    import asyncio  # noqa: PLC0415 # slow to import: the hello is out by now, and the welcome is read

    if welcome.share:
        from guest.shared import work_by_share  # noqa: PLC0415 # slow to import; this way needs nothing of aiohttp

        return asyncio.run(work_by_share(welcome.share, options.run_folder, say, port))
    from guest.pipeline import work  # noqa: PLC0415 # slow to import, with all of aiohttp

    return asyncio.run(work(welcome, options.run_folder, _authorities(welcome), say, port))


def _settle_in(welcome: Welcome, tolerated_s: float) -> None:
    """Set clock and random numbers right, before the first TLS handshake and the claim key need them."""
    try:
        feed_entropy(welcome.entropy)
    except OSError as error:
        _print(f"the random numbers could not be renewed: {error}")
    try:
        moved_s = set_clock(welcome.now, tolerated_s)
    except (OSError, ValueError) as error:
        _print(f"the clock could not be set: {error}")
    else:
        if moved_s is not None:
            _print(f"the clock was moved by {moved_s:.1f} s")


def _authorities(welcome: Welcome) -> str:
    path = os.environ.get(AUTHORITIES_VARIABLE)
    brought = Path(path).read_text() if path else ""
    return f"{brought}\n{welcome.ca or ''}".strip()


def _told(code: Exit, port: Port | None) -> Exit:
    text = f"ended with status {code.value}: {MEANINGS[code]}"
    _print(text)
    if port is not None:
        port.log(text)
    return code


def _print(text: str) -> None:
    print(f"vmbroker: {text}", flush=True)


if __name__ == "__main__":
    main()
