"""Secrets on their way into a vm, and out of what it said.

A value is unsealed for the answer that carries it, and kept nowhere. It is handed out in the answer of a claim, and in
those to the same guest's later calls when it changed: over TLS, to a guest that knows how to keep it, in a vm whose
launcher's token carried a label that the stream trusts when it was given the item. Each version that a vm is given is
an event of the stream.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NoReturn, TypeVar

import structlog

from broker.auth.keys import BrokerKeys
from broker.auth.sealing import CannotUnseal
from broker.domain.access import BadHeaderSecret, header_secrets, header_value
from broker.domain.errors import Conflict, Rejected
from broker.domain.faults import Fault, rejected
from broker.domain.masking import mask
from broker.domain.scopes import Authority
from broker.domain.secrets import given_secrets, kind_faults
from broker.http.call import Call, Services, allow
from broker.store import Claimed, Sealed
from broker.store.reading import TRIES, kept_changing
from broker.wire.names import OwnedName, StreamRef
from broker.wire.problems import ProblemCode
from broker.wire.secrets import KEPT, GivenSecret, SecretKind
from broker.wire.streams import StreamSpec

T = TypeVar("T")

_OF_S3 = SecretKind.AWS_CREDENTIALS
MISSING = "secret_missing"
WITHHELD = "secret_withheld"
"""Codes of the reason for which an item is held, and its stream paused, when secrets are not handed out."""

log = structlog.get_logger(__name__)


async def check_uses(call: Call, spec: StreamSpec) -> None:
    """Check that whoever puts the spec may use the secrets that it names, and that they can be handed out.

    Raises:
        Rejected: `forbidden`, `not_found`, `bad_spec`.
    """
    given = given_secrets(spec)
    names = [*given, *([spec.s3.secret] if spec.s3 else [])]
    for name in names:
        allow(call.who, Authority.SECRET_USE, (call.stream.user, name))
    if given and not _is_private(call.services):
        raise Rejected(
            ProblemCode.BAD_SPEC,
            f"secrets: this broker is reached at {call.services.urls.public_url}, without TLS, and hands none out: "
            "who runs it must give --tls-cert and --tls-key, or an https --public-url",
        )
    known = await call.services.store.sealed_secrets(_refs(call.stream, names)) if names else {}
    uses = {use.name for use in spec.secrets}
    faults = [
        Fault(
            "secrets" if name in uses else "access" if name in given else "s3",
            f"there is no secret {call.stream.user}/{name}",
            f"`broker secret add {name}` first",
        )
        for name in dict.fromkeys(names)
        if name not in known
    ]
    faults += [
        Fault(
            "secrets" if name in uses else "access",
            f"{name} is {known[name].kind}, which no vm is given",
            f"name it in {KEPT[known[name].kind]} alone",
        )
        for name in given
        if name in known and known[name].kind in KEPT
    ]
    if spec.s3 and spec.s3.secret in known and known[spec.s3.secret].kind is not _OF_S3:
        reason = f"{spec.s3.secret} is {known[spec.s3.secret].kind}, no {_OF_S3}"
        faults.append(Fault("s3", reason, f"`broker secret add {spec.s3.secret} --kind {_OF_S3}`"))
    faults += kind_faults([use.as_kind or known[use.name].kind for use in spec.secrets if use.name in known])
    if faults:
        raise rejected(ProblemCode.BAD_SPEC, "path", faults)


async def secrets_of_claim(call: Call, claimed: Claimed, *, takes_secrets: bool) -> list[GivenSecret]:
    """Return the secrets of a claimed item. Where one cannot be handed out none is: it is held, its stream paused.

    Raises:
        Conflict: SECRET_WITHHELD, with what is to be done.
    """
    names = given_secrets(claimed.spec)
    uses = {use.name for use in claimed.spec.secrets}

    def opened(known: Mapping[str, Sealed]) -> list[GivenSecret]:
        # Those of headers are looked at, and go out with the addresses that they are for.
        _headers(call.services.keys, [known[name] for name in header_secrets(claimed.spec)])
        return _unsealed(call.services.keys, claimed, [known[name] for name in names if name in uses])

    if not names:
        return []
    return await _handed_out(call.services, claimed, names, uses, opened, takes_secrets=takes_secrets)


async def header_values(call: Call, claimed: Claimed, names: Sequence[str]) -> dict[str, str]:
    """Return the values of headers that these secrets are; each that the vm did not have is an event.

    Raises:
        Conflict: SECRET_WITHHELD, with what is to be done.
    """

    def opened(known: Mapping[str, Sealed]) -> dict[str, str]:
        return _headers(call.services.keys, [known[name] for name in names])

    if not names:
        return {}
    return await _handed_out(call.services, claimed, names, set(names), opened, takes_secrets=True)


async def _handed_out(
    services: Services,
    claimed: Claimed,
    names: Sequence[str],
    given: Collection[str],
    opened: Callable[[Mapping[str, Sealed]], T],
    *,
    takes_secrets: bool,
) -> T:
    """Return what `opened` makes of the secrets, of which the vm is `given` some: those are noted as shown.

    Raises:
        Conflict: SECRET_WITHHELD: one cannot be handed out, so none is; the item is held and its stream paused.
    """
    reason = await _why_not(services, claimed, takes_secrets=takes_secrets)
    for _ in range(TRIES):
        known = {} if reason else await services.store.sealed_secrets(_refs(claimed.item.ref.stream, names))
        reason = reason or _unfit(claimed, names, known)
        if reason:
            await _withhold(services, claimed, *reason)
        try:
            values = opened(known)
        except BadHeaderSecret as error:
            reason = (WITHHELD, f"a header of its stream cannot be sent: {error}")
            continue
        except CannotUnseal as error:
            log.warning("secret_not_unsealed", item=str(claimed.item.ref), reason=str(error))
            reason = (WITHHELD, "a secret of its stream cannot be opened by the broker: add it anew")
            continue
        noted = [known[name] for name in names if name in given]
        if not noted or await _note(services, claimed, noted):
            return values
    raise kept_changing()


async def withhold(services: Services, claimed: Claimed, sentence: str) -> NoReturn:
    """Hold an item, and pause its stream, since a secret of it cannot be used.

    Raises:
        Conflict: SECRET_WITHHELD, always.
    """
    await _withhold(services, claimed, WITHHELD, sentence)


async def refuse_client(services: Services, claimed: Claimed) -> NoReturn:
    """Hold an item, and pause its stream, since the client in its vm would do half of it, and call that done.

    Raises:
        Conflict: CLIENT_TOO_OLD, always.
    """
    sentence = (
        "the client in its vm is too old for the stream's further inputs, plugins or WebDAV folders: run a launcher of "
        "this release, or prepare the image anew"
    )
    await services.store.withhold(claimed.item.ref, claimed.dispatch, ProblemCode.CLIENT_TOO_OLD, sentence)
    log.warning("client_refused", item=str(claimed.item.ref), dispatch=claimed.dispatch)
    raise Conflict(ProblemCode.CLIENT_TOO_OLD, sentence)


async def changed_secrets(call: Call, claimed: Claimed, has: Mapping[str, int]) -> list[GivenSecret]:
    """Return those of the secrets that a guest has, with versions, which are others now. What is gone is left out."""
    wanted = _refs(claimed.item.ref.stream, [use.name for use in claimed.spec.secrets if use.name in has])
    if not wanted or await _why_not(call.services, claimed, takes_secrets=True):
        return []
    for _ in range(TRIES):
        known = await call.services.store.sealed_secrets(wanted)
        changed = [each for each in known.values() if each.version != has[each.secret.name] and each.kind not in KEPT]
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


def _unfit(claimed: Claimed, names: Sequence[str], known: Mapping[str, Sealed]) -> tuple[str, str] | None:
    """Return why these secrets cannot be handed out as they are now."""
    missing = [name for name in names if name not in known]
    if missing:
        return _missing(claimed, missing)
    kept = next((each.kind for each in known.values() if each.kind in KEPT), None)
    if kept is not None:
        return WITHHELD, f"a secret of its stream is {kept} by now, which no vm is given: add it as another kind"
    return None


def _headers(keys: BrokerKeys, sealed: Sequence[Sealed]) -> dict[str, str]:
    return {each.secret.name: header_value(each.kind, _value(keys, each)) for each in sealed}


async def _withhold(services: Services, claimed: Claimed, code: str, sentence: str) -> NoReturn:
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


def _refs(stream: StreamRef, names: Sequence[str]) -> list[OwnedName]:
    return [OwnedName(stream.user, name) for name in names]


def _is_private(services: Services) -> bool:
    return services.urls.public_url.startswith("https://")
