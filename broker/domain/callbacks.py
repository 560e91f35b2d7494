"""Callbacks: what a spec may ask for, when one is tried again, and what its server's answer means.

A status alone decides; what else a server answers is never looked at. Only 2xx is success. A redirect is none: whoever
could redirect would choose where the events go. 410 is a server's wish to hear no more.

Source: Standard Webhooks 1.0, "Webhook Headers", "Deliverability and reliability"; RFC 9110 sections 10.2.3 and 15.
"""

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from broker.domain import limits
from broker.domain.durations import text_of
from broker.domain.faults import Fault
from broker.wire.callbacks import EVENT_KINDS, Callback, CallbackState
from broker.wire.names import BadName, check_name

PAUSES_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""After each failure but the last: 3.2 days in all, and up to a quarter more. Source: Standard Webhooks' example."""
ATTEMPTS = len(PAUSES_S) + 1
MOST_WAIT_S = 86_400
"""A server's `Retry-After` is heeded up to here."""
SPREAD = 0.25
"""Pauses grow by up to this share of themselves, so that what failed together does not come back together."""
MAX_KEYS = 2
_GONE, _TOO_MANY, _UNAVAILABLE = 410, 429, 503


class Verdict(NamedTuple):
    """What becomes of a callback after an attempt; `is_off` when its server wants no further ones of the stream."""

    state: CallbackState
    sentence: str
    status: int | None = None
    again_ms: int = 0
    is_off: bool = False


def after_answer(status: int, retry_after_s: float | None, attempt: int, jitter: float) -> Verdict:
    """Decide after an answer.

    Args:
        status: 200 to 599.
        retry_after_s: What the server asked to wait; of the answers that may say so it counts for 429 and 503.
        attempt: Which one this was, from 1.
        jitter: In [0, 1), random.
    """
    if is_success(status):
        return Verdict(CallbackState.DELIVERED, said_by(status), status)
    if status == _GONE:
        sentence = "its server answered 410, gone: it is told nothing more of this stream until the stream is put again"
        return Verdict(CallbackState.DEAD, sentence, status, is_off=True)
    wait_s = retry_after_s if status in {_TOO_MANY, _UNAVAILABLE} else None
    return _again(said_by(status), status, wait_s, attempt, jitter)


def is_success(status: int) -> bool:
    return 200 <= status < 300


def said_by(status: int) -> str:
    """Return what a status says to a person, as the beginning of a sentence."""
    said = f"its server answered {status}"
    if 300 <= status < 400:
        return f"{said}: redirects are not followed, so name the address that it leads to"
    return said


def after_silence(reason: str, attempt: int, jitter: float) -> Verdict:
    """Decide when no answer came, or nothing was sent; `reason` is a sentence without its point."""
    return _again(reason, None, None, attempt, jitter)


def hopeless(reason: str) -> Verdict:
    """Give up at once: there is nobody to tell."""
    return Verdict(CallbackState.DEAD, reason)


def pause_ms(attempt: int, wait_s: float | None, jitter: float) -> int:
    """Return the pause after a failed attempt, at least as long as its server asked for, within `MOST_WAIT_S`."""
    own_s = PAUSES_S[min(attempt, len(PAUSES_S)) - 1]
    asked_s = min(max(wait_s or 0, 0), MOST_WAIT_S)
    return int(max(own_s, asked_s) * (1 + SPREAD * jitter) * 1_000)


def _again(reason: str, status: int | None, wait_s: float | None, attempt: int, jitter: float) -> Verdict:
    if attempt >= ATTEMPTS:
        sentence = f"given up after {attempt} attempts, `broker callback replay` begins anew; the last: {reason}"
        return Verdict(CallbackState.DEAD, sentence, status)
    asked = f", and asks to wait {text_of(int(wait_s) * 1_000)}" if wait_s is not None and wait_s >= 1 else ""
    return Verdict(CallbackState.WAITING, f"{reason}{asked}", status, pause_ms(attempt, wait_s, jitter))


def callback_faults(callback: Callback | None) -> Iterator[Fault]:
    """Check a spec's callback as far as it can be without looking anything up."""
    if callback is None:
        return
    reason = _address_fault(callback.url)
    if reason:
        yield Fault("callback", f"url: {reason}", "write https://HOST/PATH")
    names = callback.secrets
    if not 1 <= len(names) <= MAX_KEYS or len(set(names)) < len(names):
        remedy = "name one, or two different ones while one takes the other's place"
        yield Fault("callback", f"it names {len(names)} keys, or one twice", remedy)
    for name in names[:MAX_KEYS]:
        try:
            check_name(name, "secret")
        except BadName as error:
            yield Fault("callback", f"secrets: {error}", "write the name that `broker secret add` was given")
    unknown = [kind for kind in callback.events if kind not in EVENT_KINDS]
    if unknown or len(set(callback.events)) < len(callback.events):
        what = f"{unknown[0][:70]!r} settles no item" if unknown else "it names one twice"
        yield Fault("callback", f"events: {what}", f"leave it out for all, or name of {', '.join(EVENT_KINDS)}")


def _address_fault(url: str) -> str:
    """Return what is wrong with an address; '' when nothing is."""
    if not 0 < len(url) <= limits.default("callback_url_chars"):
        return f"it is empty, or longer than {limits.default('callback_url_chars')} characters"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "it has characters that an address has percent-encoded"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "it is no address"
    if parts.scheme not in {"https", "http"} or not host or port == 0:
        return "it is no https address"
    if parts.username is not None or parts.password is not None:
        return "it has a user's name in it: the signature proves who tells"
    return "it has a fragment, which no server sees" if parts.fragment else ""
