"""Every bound of the broker in one table: its default, its unit, and the problem code of breaking it."""

from typing import NamedTuple

from broker.wire.items import CHUNK_BYTES, CHUNK_ITEMS
from broker.wire.problems import ProblemCode


class Limit(NamedTuple):
    default: int
    unit: str
    problem: ProblemCode
    meaning: str


LIMITS: dict[str, Limit] = {
    "request_bytes": Limit(4_194_304, "bytes", ProblemCode.TOO_LARGE, "body of any request but a file or an image"),
    "claim_bytes": Limit(65_536, "bytes", ProblemCode.TOO_LARGE, "body of a claim or a login, which anybody may send"),
    "user_bodies": Limit(
        64,
        "requests",
        ProblemCode.TOO_MANY_BODIES,
        "bodies of more than 256 KiB, and files, images and NDJSON of any size, that are read for one user at once in "
        "one broker process",
    ),
    "domain_xml_bytes": Limit(524_288, "bytes", ProblemCode.TOO_LARGE, "a machine's domain XML"),
    "file_bytes": Limit(68_719_476_736, "bytes", ProblemCode.TOO_LARGE, "one file of the file service"),
    "image_bytes": Limit(274_877_906_944, "bytes", ProblemCode.TOO_LARGE, "one image"),
    "open_uploads": Limit(16, "uploads", ProblemCode.TOO_MANY_UPLOADS, "unfinished image uploads of one user"),
    "nvram_bytes": Limit(67_108_864, "bytes", ProblemCode.TOO_LARGE, "a machine's UEFI variables"),
    "machine_readers": Limit(1_000, "users", ProblemCode.BAD_REQUEST, "users whom one machine is shared with"),
    "push_items": Limit(CHUNK_ITEMS, "items", ProblemCode.TOO_LARGE, "items in one array, or one part, of a push"),
    "push_bytes": Limit(CHUNK_BYTES, "bytes", ProblemCode.TOO_LARGE, "one part of a push, and one line of it"),
    "push_refused": Limit(
        10_000, "lines", ProblemCode.BAD_ITEMS, "bad lines that one push leaves out and names; one more ends it"
    ),
    "url_bytes": Limit(8_192, "bytes", ProblemCode.BAD_ITEMS, "an item's URL"),
    "params_bytes": Limit(65_536, "bytes", ProblemCode.BAD_ITEMS, "an item's parameters, names and values"),
    "inputs": Limit(32, "inputs", ProblemCode.BAD_ITEMS, "further inputs of an item, its stream's among them"),
    "delay_ms": Limit(31_536_000_000, "ms", ProblemCode.BAD_ITEMS, "an item's delay: one year"),
    "user_items": Limit(
        5_000_000,
        "items",
        ProblemCode.QUOTA_EXCEEDED,
        "items of one user that are kept, settled ones until forgotten",
    ),
    "user_bytes": Limit(
        2_147_483_648,
        "bytes",
        ProblemCode.QUOTA_EXCEEDED,
        "URLs, names, parameters and inputs of one user's items that are kept",
    ),
    "user_streams": Limit(1_000, "streams", ProblemCode.QUOTA_EXCEEDED, "streams of one user"),
    "stream_revisions": Limit(1_000, "revisions", ProblemCode.QUOTA_EXCEEDED, "revisions of one stream's spec"),
    "user_file_bytes": Limit(
        1_099_511_627_776,
        "bytes",
        ProblemCode.QUOTA_EXCEEDED,
        "files of one user, each with 4 KiB for its record; those that are arriving count, too",
    ),
    "user_image_bytes": Limit(
        1_099_511_627_776, "bytes", ProblemCode.QUOTA_EXCEEDED, "images of one user; those that are arriving count, too"
    ),
    "user_images": Limit(10_000, "images", ProblemCode.QUOTA_EXCEEDED, "images of one user"),
    "callback_url_chars": Limit(2_048, "characters", ProblemCode.BAD_SPEC, "the address of a stream's callback"),
    "callback_tests": Limit(
        10,
        "requests",
        ProblemCode.TOO_MANY_TESTS,
        "tests of callbacks that one user may begin within a minute in one broker process",
    ),
    "user_secrets": Limit(100, "secrets", ProblemCode.QUOTA_EXCEEDED, "secrets of one user"),
    "secret_bytes": Limit(65_536, "bytes", ProblemCode.TOO_LARGE, "one secret"),
    "user_machines": Limit(
        1_000,
        "machines",
        ProblemCode.QUOTA_EXCEEDED,
        "machines of one user; of so many removed ones the definitions are kept, too",
    ),
    "machine_revisions": Limit(1_000, "revisions", ProblemCode.QUOTA_EXCEEDED, "revisions of one machine"),
    "user_weight": Limit(1_000, "times", ProblemCode.BAD_REQUEST, "highest weight of a user in fair shares"),
    "bulk_rate": Limit(100_000, "items/s", ProblemCode.BAD_REQUEST, "highest rate of a bulk act"),
    "reason_chars": Limit(500, "characters", ProblemCode.BAD_REQUEST, "the reason of a hold, pause or bulk act"),
    "machine_disks": Limit(8, "disks", ProblemCode.BAD_REQUEST, "disks of one machine"),
    "attempts": Limit(100, "attempts", ProblemCode.BAD_SPEC, "highest retry.attempts of a stream"),
    "boots": Limit(1_000, "boots", ProblemCode.BAD_SPEC, "highest retry.boots of a stream"),
    "run_ms": Limit(2_592_000_000, "ms", ProblemCode.BAD_SPEC, "highest limits.run of a stream: 30 days"),
    "keep_ms": Limit(315_360_000_000, "ms", ProblemCode.BAD_SPEC, "highest keep of a stream: ten years"),
    "script_bytes": Limit(65_536, "bytes", ProblemCode.BAD_SPEC, "a stream's script"),
    "backoff_ms": Limit(86_400_000, "ms", ProblemCode.BAD_SPEC, "highest retry.backoff of a stream: one day"),
    "outputs": Limit(1_000, "files", ProblemCode.BAD_REQUEST, "outputs of one item"),
    "share_life_s": Limit(2_592_000, "s", ProblemCode.BAD_REQUEST, "longest life of a shared address: 30 days"),
    "dav_entries": Limit(
        20_000, "entries", ProblemCode.TOO_LARGE, "files and folders in one PROPFIND's answer, which has no pages"
    ),
    "page_items": Limit(1_000, "items", ProblemCode.BAD_REQUEST, "items in one page of a listing"),
    "event_log": Limit(100_000, "events", ProblemCode.BAD_REQUEST, "events kept for a stream; older ones are trimmed"),
    "event_feed": Limit(
        50_000, "events", ProblemCode.BAD_REQUEST, "events kept of all streams of a user; older ones are trimmed"
    ),
    "followers": Limit(1_000, "requests", ProblemCode.TOO_MANY_FOLLOWERS, "readers of events in one broker process"),
    "token_followers": Limit(100, "requests", ProblemCode.TOO_MANY_FOLLOWERS, "those of them with tokens of one user"),
    "callbacks_out": Limit(
        64, "callbacks", ProblemCode.BAD_REQUEST, "callbacks of one user that are on their way at once; others wait"
    ),
    "callbacks_waiting": Limit(
        1_000_000,
        "callbacks",
        ProblemCode.QUOTA_EXCEEDED,
        "callbacks of one user that wait; pushes to streams with one, and releases of their items, are refused then",
    ),
    "callbacks_delivered": Limit(
        1_000, "callbacks", ProblemCode.BAD_REQUEST, "callbacks of one user that are listed after they were delivered"
    ),
    "callbacks_dead": Limit(
        10_000,
        "callbacks",
        ProblemCode.BAD_REQUEST,
        "callbacks of one user that are kept after they were given up; the oldest make room, and are counted",
    ),
    "console_bytes": Limit(65_536, "bytes", ProblemCode.TOO_LARGE, "console tail and program log kept with an item"),
    "launchers": Limit(
        2_000, "launchers", ProblemCode.TOO_MANY_LAUNCHERS, "launchers of one token that are there at once"
    ),
    "submitters": Limit(
        200,
        "submitters",
        ProblemCode.BAD_REQUEST,
        "submitters of launcher jobs known of one token; the one that told nothing for longest makes room",
    ),
    "all_submitters": Limit(
        1_000,
        "submitters",
        ProblemCode.BAD_REQUEST,
        "submitters of launcher jobs known of all tokens; the one that told nothing for longest makes room",
    ),
    "report_bytes": Limit(16_384, "bytes", ProblemCode.TOO_LARGE, "what a launcher tells of itself, as it is kept"),
    "tokens": Limit(
        1_000,
        "tokens",
        ProblemCode.QUOTA_EXCEEDED,
        "logins and tokens of one user, or of one site, that did not end yet",
    ),
    "token_life_s": Limit(31_622_400, "s", ProblemCode.BAD_REQUEST, "longest life of a token, or of a login: 366 days"),
    "code_life_s": Limit(604_800, "s", ProblemCode.BAD_REQUEST, "longest life of a one-time code: a week"),
    "token_labels": Limit(32, "labels", ProblemCode.BAD_REQUEST, "labels that a site's token vouches for"),
    "revoked": Limit(
        100_000, "tokens", ProblemCode.QUOTA_EXCEEDED, "logins and tokens that are revoked and did not end yet"
    ),
    "waiting_dispatches": Limit(
        10_000,
        "requests",
        ProblemCode.STORE_UNAVAILABLE,
        "launchers parked in one broker process; of one token half of that",
    ),
}


def default(name: str) -> int:
    """Return the default of a limit."""
    return LIMITS[name].default
