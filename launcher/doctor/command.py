"""What `launcher doctor` does."""

import asyncio
import sys

import msgspec
import structlog
import typer

from launcher.doctor.findings import Level, PointFinding, look_at
from launcher.doctor.node import Node
from launcher.doctor.points import POINTS
from launcher.doctor.shown import lines, summary
from launcher.output import Output


def examine(*, site: bool, output: Output, **command_line: object) -> bool:
    """Look at every point and print what is found; tell whether a launcher runs here."""
    # What a launcher would log is in the findings.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    node = Node.read(is_for_site=site, **command_line)
    findings = asyncio.run(_look(node, output))
    if output is Output.JSON:
        typer.echo(msgspec.json.format(msgspec.json.encode(findings)))
    else:
        typer.echo(f"\n{summary(findings)}")
    return all(finding.level is not Level.FAIL for finding in findings)


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
