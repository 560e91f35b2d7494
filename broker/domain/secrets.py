"""What may be a secret, who is trusted with it, and how a program is told where it lies."""

import re
from collections.abc import Collection, Iterator, Sequence

from broker.domain import limits
from broker.domain.access import header_secrets
from broker.domain.errors import Rejected
from broker.domain.faults import Fault
from broker.wire.names import BadName, check_name
from broker.wire.problems import ProblemCode
from broker.wire.secrets import KEPT, VARIABLES, PutSecret, SecretKind, variable_of
from broker.wire.states import Exchange
from broker.wire.streams import StreamSpec

MAX_SECRETS = 16
MAX_LABELS = 16
LEAST_BYTES = 8
"""What is shorter could not be masked in a console without masking half of what it says."""
_TOKEN = re.compile(rb"[\x21-\x7e]+\n?")
_PROXY_MARKS = (b"-----BEGIN CERTIFICATE-----", b"PRIVATE KEY-----")


def check_secret(secret: PutSecret) -> None:
    """Check that a value can be what its kind says. No sentence quotes it.

    Raises:
        Rejected: `bad_request` or `too_large`.
    """
    size, most = len(secret.value), limits.default("secret_bytes")
    if size > most:
        raise Rejected(ProblemCode.TOO_LARGE, f"the secret has {size} bytes, at most {most} are kept")
    if size < LEAST_BYTES:
        raise Rejected(ProblemCode.BAD_REQUEST, f"a secret has at least {LEAST_BYTES} bytes, this one {size}")
    if secret.kind is SecretKind.X509_PROXY and not all(mark in secret.value for mark in _PROXY_MARKS):
        raise Rejected(
            ProblemCode.BAD_REQUEST,
            "this is no X.509 proxy: send the file that X509_USER_PROXY names, with certificates and a key in PEM",
        )
    if secret.kind is SecretKind.BEARER_TOKEN and not _TOKEN.fullmatch(secret.value):
        raise Rejected(
            ProblemCode.BAD_REQUEST, "this is no bearer token: send the one line of the token, without blanks"
        )


def given_secrets(spec: StreamSpec) -> list[str]:
    """Return the secrets of which a vm is given the value, each once: by a file, or in the headers of its requests."""
    if not spec.secrets and not spec.access:
        return []
    return list(dict.fromkeys([*(use.name for use in spec.secrets), *header_secrets(spec)]))


def is_trusted(spec: StreamSpec, labels: Collection[str]) -> bool:
    """Tell whether a launcher whose token carries these labels may have items of the spec."""
    return not given_secrets(spec) or trusted_label(spec, labels) != ""


def trusted_label(spec: StreamSpec, labels: Collection[str]) -> str:
    """Return the first of the labels that the spec trusts with its secrets; '' when it has none, or trusts none."""
    return next((label for label in spec.trust if label in labels), "") if given_secrets(spec) else ""


def untrusted(spec: StreamSpec) -> str:
    """Return what launchers lack that are not trusted with the spec's secrets, as the end of a sentence."""
    labels = " or ".join(spec.trust)
    return f"trusted with the stream's secrets (wants label {labels} in the launcher's token)"


def secret_faults(spec: StreamSpec) -> Iterator[Fault]:
    """Check what a spec says of secrets, as far as it can be without looking anything up."""
    yield from _label_faults(spec)
    given = given_secrets(spec)
    if not given:
        return
    at = "secrets" if spec.secrets else "access"
    if len(given) > MAX_SECRETS:
        yield Fault(at, f"{len(given)} secrets are too many", f"name at most {MAX_SECRETS}")
    if spec.needs.exchange is not Exchange.NETWORK:
        reason = f"with exchange {spec.needs.exchange} the launcher claims, and no secret reaches the guest"
        yield Fault(at, reason, "a stream that needs secrets needs exchange network")
    variables: dict[str, str] = {}
    for use in spec.secrets[:MAX_SECRETS]:
        try:
            check_name(use.name, "secret")
        except BadName as error:
            yield Fault("secrets", str(error), "write the name that `broker secret add` was given")
            continue
        other = variables.setdefault(variable_of(use.name), use.name)
        if other != use.name:
            reason = f"{other!r} and {use.name!r} would both be {variable_of(use.name)}"
            yield Fault("secrets", reason, "add one of them under another name")
    names = [use.name for use in spec.secrets]
    if len(set(names)) < len(names):
        yield Fault("secrets", "it names a secret twice", "name each once")
    for kind in dict.fromkeys(use.as_kind for use in spec.secrets if use.as_kind in KEPT):
        yield Fault("secrets", f"{kind} is given to no vm", f"name it in {KEPT[kind]}, or as another kind")
    yield from kind_faults([use.as_kind for use in spec.secrets])


def _label_faults(spec: StreamSpec) -> Iterator[Fault]:
    given = given_secrets(spec)
    if given and not spec.trust:
        remedy = "name labels that the tokens of launchers you trust carry; your site knows them"
        yield Fault("trust", "the stream needs secrets and trusts nobody with them", remedy)
    if spec.trust and not given:
        yield Fault("trust", "it says who is trusted with secrets, and the stream names none", "leave it out")
    if len(spec.trust) > MAX_LABELS:
        yield Fault("trust", f"{len(spec.trust)} labels are too many", f"name at most {MAX_LABELS}")
    for label in spec.trust[:MAX_LABELS]:
        try:
            check_name(label, "label")
        except BadName as error:
            yield Fault("trust", str(error), "write a label as the site's token has it")


def kind_faults(kinds: Sequence[SecretKind | None]) -> Iterator[Fault]:
    """Check that no two secrets would be announced by the same variable; None is a kind that is not known yet."""
    for kind, variable in VARIABLES.items():
        if kinds.count(kind) > 1:
            remedy = "announce all but one as a file: NAME:file"
            yield Fault("secrets", f"{kinds.count(kind)} secrets would be {variable}", remedy)
