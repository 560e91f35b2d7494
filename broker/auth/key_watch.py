"""The broker's keys in a running process: read again when an operator changed them."""

import asyncio

import structlog

from broker.auth.keys import BrokerKeys

EVERY_S = 2.0

log = structlog.get_logger(__name__)


async def keep_keys(keys: BrokerKeys) -> None:
    """Look every two seconds whether the keys' files changed, until cancelled; a file's state is all that is read."""
    while True:
        if keys.look_again():
            log.info("keys_read_again", signing=keys.signing.kid, mac=keys.mac.current)
        elif keys.fault:
            log.error("keys_not_read", reason=keys.fault)
        await asyncio.sleep(EVERY_S)
