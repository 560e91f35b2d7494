#!/usr/bin/env python3
"""Writes what it sees of the program's contract to OUTPUT/seen, as contract.sh does."""

import os
import sys
import time
from pathlib import Path


def yes_if(condition: bool) -> str:
    return "yes" if condition else "no"


def feature(folder: str, name: str) -> str:
    return Path(os.environ[folder], name).read_text()


def seen(arguments: list[str], environment: "os._Environ[str]") -> list[str]:
    given, output, item, parameter = arguments
    proxies = {environment.get(name) for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    return [
        f"arguments {len(arguments)}",
        f"input is argument {yes_if(given == environment['VMBROKER_INPUT'])}",
        f"input in folder {yes_if(str(Path.cwd() / 'frame 1.txt') == environment['VMBROKER_INPUT'])}",
        f"folder {' '.join(path.name for path in Path.cwd().iterdir())}",
        f"input {Path(given).read_text().rstrip()}",
        f"output is argument {yes_if(output == environment['VMBROKER_OUTPUT'])}",
        f"output {len(list(Path(output).iterdir()))}",
        f"item {item} {environment['VMBROKER_ITEM']}",
        f"parameter {parameter}",
        f"parameter {environment['VMBROKER_PARAM_MY_SEED']}",
        f"cpus {feature('MACHINEFEATURES', 'total_cpu')} {feature('JOBFEATURES', 'allocated_cpu')}",
        f"limit {feature('JOBFEATURES', 'wall_limit_secs')}",
        f"job {feature('JOBFEATURES', 'job_id')}",
        f"memory {yes_if(int(feature('JOBFEATURES', 'max_rss_bytes')) > 100_000_000)}",
        f"shutdown later {yes_if(int(feature('MACHINEFEATURES', 'shutdowntime')) > time.time())}",
        f"proxies {yes_if(len(proxies) == 1 and proxies != {None})}",
        f"no proxy {environment['no_proxy']} {environment['NO_PROXY']}",
        f"account {os.getuid()} {environment['HOME']}",
        f"standard input {len(sys.stdin.read())}",
    ]


lines = seen(sys.argv[1:], os.environ)
Path(sys.argv[2], "seen").write_text("".join(f"{line}\n" for line in lines))
print("said", flush=True)
print("complained", file=sys.stderr)
