"""The command `launcher doctor`."""

import asyncio
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
import typer

from launcher.doctor.findings import Level, PointFinding, look_at
from launcher.doctor.node import Node
from launcher.doctor.points import POINTS
from launcher.doctor.shown import lines, summary


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


def doctor(
    site: Annotated[
        bool, typer.Option("--site", help="For a site's administrator: what needs a broker's token is left out.")
    ] = False,
    output: Annotated[Output, typer.Option("--output", "-o", help="text, or json: a list of findings.")] = Output.TEXT,
    broker: Annotated[str | None, typer.Option(help="Address of the broker; default: the login's.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(readable=False, help="File with the launcher's token; default: the login.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(readable=False, help="PEM file to check the broker's certificate with.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(readable=False, help="Folder of images.")] = None,
    scratch: Annotated[
        Path | None, typer.Option(readable=False, help="Folder for what dies with the launcher; a short path.")
    ] = None,
    account: Annotated[str | None, typer.Option(help="Account QEMU runs under when the launcher is root.")] = None,
) -> None:
    """Look at everything that a launcher needs of this node, and say how to mend what it lacks.

    Every point is really tried: a libvirtd is started and a vm in it, files go through each exchange. It takes half a
    minute the first time after the node's boot. Ask as the account that is to run the launcher, with its settings. The
    exit status is 0 when a launcher runs here, though it may be better off, and 1 when it does not.
    """
    # What a launcher would log is in the findings.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    given = {"broker": broker, "token_file": token_file, "ca_file": ca_file}
    node = Node.read(is_for_site=site, **given, cache=cache, scratch=scratch, account=account)
    findings = asyncio.run(_look(node, output))
    if output is Output.JSON:
        typer.echo(msgspec.json.format(msgspec.json.encode(findings)))
    else:
        typer.echo(f"\n{summary(findings)}")
    if any(finding.level is Level.FAIL for finding in findings):
        sys.exit(1)


async def _look(node: Node, output: Output) -> list[PointFinding]:
    """Look at every point; in text, each is shown as soon as it was looked at."""
    findings = []
    has_colour = sys.stdout.isatty()
    async for finding in look_at(POINTS, node):
        findings.append(finding)
        if output is Output.TEXT:
            for line in lines(finding, has_colour=has_colour):
                typer.echo(line)
    return findings
