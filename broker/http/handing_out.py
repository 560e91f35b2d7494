"""Secrets on their way into a vm, and out of what it said.

A value is unsealed for the answer that carries it, and kept nowhere. It is handed out in the answer of a claim, and in
those to the same guest's later calls when it changed: over TLS, to a guest that knows how to keep it, in a vm whose
launcher's token carried a label that the stream trusts when it was given the item. Each time is an event of the stream.
"""

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from broker.auth.keys import BrokerKeys
from broker.auth.sealing import CannotUnseal
from broker.domain.errors import Conflict, Rejected
from broker.domain.faults import Fault, rejected
from broker.domain.masking import mask
from broker.domain.scopes import Authority
from broker.domain.secrets import kind_faults
from broker.http.call import Call, Services, allow
from broker.store import Claimed, Sealed
from broker.store.reading import TRIES, kept_changing
from broker.wire.names import OwnedName, StreamRef
from broker.wire.problems import ProblemCode
from broker.wire.secrets import GivenSecret
from broker.wire.streams import StreamSpec

MISSING = "secret_missing"
WITHHELD = "secret_withheld"
"""Codes of the reason for which an item is held, and its stream paused, when secrets are not handed out."""

log = structlog.get_logger(__name__)


async def check_uses(call: Call, spec: StreamSpec) -> None:
    """Check that whoever puts the spec may use the secrets that it names, and that they can be handed out.

    Raises:
        Rejected: `forbidden`, `not_found`, `bad_spec`.
    """
    for use in spec.secrets:
        allow(call.who, Authority.SECRET_USE, (call.stream.user, use.name))
    if spec.secrets and not _is_private(call.services):
        raise Rejected(
            ProblemCode.BAD_SPEC,
            f"secrets: this broker is reached at {call.services.urls.public_url}, without TLS, and hands none out: "
            "who runs it must give --tls-cert and --tls-key, or an https --public-url",
        )
    known = await call.services.store.sealed_secrets(_refs(spec, call.stream)) if spec.secrets else {}
    faults = [
        Fault("secrets", f"there is no secret {call.stream.user}/{use.name}", f"`broker secret add {use.name}` first")
        for use in spec.secrets
        if use.name not in known
    ]
    faults += kind_faults([use.as_kind or known[use.name].kind for use in spec.secrets if use.name in known])
    if faults:
        raise rejected(ProblemCode.BAD_SPEC, "path", faults)


async def secrets_of_claim(call: Call, claimed: Claimed, *, takes_secrets: bool) -> list[GivenSecret]:
    """Return the secrets of a claimed item. Where one cannot be handed out none is: it is held, its stream paused.

    Raises:
        Conflict: SECRET_WITHHELD, with what is to be done.
    """
    if not claimed.spec.secrets:
        return []
    reason = await _why_not(call.services, claimed, takes_secrets=takes_secrets)
    for _ in range(TRIES):
        known = {} if reason else await call.services.store.sealed_secrets(_refs(claimed.spec, claimed.item.ref.stream))
        if not reason and (missing := [use.name for use in claimed.spec.secrets if use.name not in known]):
            reason = _missing(claimed, missing)
        if reason:
            await _withhold(call.services, claimed, *reason)
        try:
            given = _unsealed(call.services.keys, claimed, list(known.values()))
        except CannotUnseal as error:
            log.warning("secret_not_unsealed", item=str(claimed.item.ref), reason=str(error))
            reason = (WITHHELD, "a secret of its stream cannot be opened by the broker: add it anew")
            continue
        if await _note(call.services, claimed, list(known.values())):
            return given
    raise kept_changing()


async def changed_secrets(call: Call, claimed: Claimed, has: Mapping[str, int]) -> list[GivenSecret]:
    """Return those of the secrets that a guest has, with versions, which are others now. What is gone is left out."""
    wanted = [ref for ref in _refs(claimed.spec, claimed.item.ref.stream) if ref.name in has]
    if not wanted or await _why_not(call.services, claimed, takes_secrets=True):
        return []
    for _ in range(TRIES):
        known = await call.services.store.sealed_secrets(wanted)
        changed = [each for each in known.values() if each.version != has[each.secret.name]]
        try:
            given = _unsealed(call.services.keys, claimed, changed)
        except CannotUnseal as error:
            log.warning("secret_not_unsealed", item=str(claimed.item.ref), reason=str(error))
            return []
        if not changed or await _note(call.services, claimed, changed):
            return given
    raise kept_changing()


async def shown_values(services: Services, refs: Sequence[OwnedName]) -> list[bytes]:
    """Return the values that vms may have been given of these secrets, for masking what they said."""
    found = []
    for each in await services.store.shown_secrets(refs) if refs else []:
        try:
            found.append(_value(services.keys, each))
        except CannotUnseal as error:
            log.warning("secret_not_unsealed", secret=str(each.secret), reason=str(error))
    return found


async def masked(content: bytes, values: Sequence[bytes]) -> bytes:
    """Return what a vm said without the values; in a thread, since there may be many forms of them to look for."""
    return await asyncio.to_thread(mask, content, values) if values and content else content


async def masked_text(text: str, values: Sequence[bytes]) -> str:
    """Return a text without the values."""
    return (await masked(text.encode(), values)).decode("utf-8", "replace") if values else text


async def masked_facts(facts: Mapping[str, str], values: Sequence[bytes]) -> dict[str, str]:
    """Return facts without the values."""
    return {name: await masked_text(text, values) for name, text in facts.items()}


async def _why_not(services: Services, claimed: Claimed, *, takes_secrets: bool) -> tuple[str, str] | None:
    """Return the code and the sentence for which the vm gets no secret; None when it may."""
    if not _is_private(services):
        return (
            WITHHELD,
            "its stream needs secrets, and the broker is reached without TLS by now: who runs it must give --tls-cert",
        )
    if not takes_secrets:
        return WITHHELD, (
            "its stream needs secrets, and the client in its vm is too old to keep them: prepare the image anew, with "
            "a client of this release"
        )
    if await services.store.trusted_as(claimed.dispatch) not in claimed.spec.trust:
        return WITHHELD, "its stream needs secrets, and its launcher was not trusted with them: look at its trust"
    return None


def _missing(claimed: Claimed, names: Sequence[str]) -> tuple[str, str]:
    stream = claimed.item.ref.stream
    secrets = " and ".join(f"{stream.user}/{name}" for name in names)
    return (
        MISSING,
        f"its stream needs the secret {secrets}, which is not there any more: `broker secret add {names[0]}`",
    )


async def _withhold(services: Services, claimed: Claimed, code: str, sentence: str) -> None:
    await services.store.withhold(claimed.item.ref, claimed.dispatch, code, sentence)
    log.warning("secrets_withheld", item=str(claimed.item.ref), dispatch=claimed.dispatch, code=code)
    raise Conflict(ProblemCode.SECRET_WITHHELD, sentence)


async def _note(services: Services, claimed: Claimed, given: Sequence[Sealed]) -> bool:
    if not await services.store.give_secrets(claimed.item.ref, claimed.dispatch, given, claimed.run_ms):
        return False
    for each in given:
        log.info(
            "secret_given",
            secret=str(each.secret),
            version=each.version,
            item=str(claimed.item.ref),
            dispatch=claimed.dispatch,
        )
    return True


def _unsealed(keys: BrokerKeys, claimed: Claimed, sealed: Sequence[Sealed]) -> list[GivenSecret]:
    kinds = {use.name: use.as_kind for use in claimed.spec.secrets}
    return [
        GivenSecret(
            name=each.secret.name,
            kind=kinds[each.secret.name] or each.kind,
            version=each.version,
            value=_value(keys, each),
        )
        for each in sealed
    ]


def _value(keys: BrokerKeys, each: Sealed) -> bytes:
    return keys.unseal(each.sealed, each.secret.user, each.secret.name, str(each.version))


def _refs(spec: StreamSpec, stream: StreamRef) -> list[OwnedName]:
    return [OwnedName(stream.user, use.name) for use in spec.secrets]


def _is_private(services: Services) -> bool:
    return services.urls.public_url.startswith("https://")
