"""A server that speaks S3: moto's, behind what a real one does and moto does not.

Signatures are recomputed here from their specification, with nothing of botocore; bytes are held against the checksums
that were signed for them. Both are refused as Amazon refuses them. What was asked is kept.
Source: "Authenticating Requests (AWS Signature Version 4)" and "Checking object integrity", Amazon S3.
"""

import base64
import hashlib
import hmac
import io
import re
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from wsgiref.types import StartResponse, WSGIEnvironment
from xml.sax.saxutils import escape

import obstore
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from obstore.store import S3Store
from werkzeug.serving import WSGIRequestHandler, make_server

KEY_ID, SECRET = "AKIATESTSTESTSTESTS1", "the-secret+of/the=broker"
REGION = "eu-north-1"
CREDENTIALS = f"[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"


_OF_THE_BROKER = re.compile(r"/\.(probe-|owner)")
"""What it writes for itself at its start."""


class Asked(NamedTuple):
    """A request that came; `refused` is the code of S3's error where this, and not moto, answered."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    size_bytes: int
    refused: str


class _Refused(Exception):
    def __init__(self, status: str, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class S3Server:
    """The server; `url` is its endpoint. While it `is_away`, it answers 503."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[Asked] = []
        self.is_away = False
        self.verifies = True

    @property
    def uploads(self) -> list[Asked]:
        return [each for each in self.asked if each.method == "PUT" and not _OF_THE_BROKER.search(each.path)]

    def bucket(self, name: str, prefix: str = "") -> S3Store:
        """Return a bucket, for a look past the broker."""
        return S3Store(
            name,
            prefix=prefix or None,
            config={
                "access_key_id": KEY_ID,
                "secret_access_key": SECRET,
                "region": REGION,
                "endpoint": self.url,
            },
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )

    def make_bucket(self, name: str) -> None:
        """Make a bucket, of which moto wants to be asked as of another region."""
        as_of = "AWS4-HMAC-SHA256 Credential=x/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x"
        asked = urllib.request.Request(f"{self.url}/{name}", method="PUT", headers={"Authorization": as_of})
        self.verifies = False
        with urllib.request.urlopen(asked):
            self.verifies = True

    def keys(self, name: str, prefix: str = "") -> list[str]:
        pages = list(obstore.list(self.bucket(name, prefix)))
        return sorted(each["path"] for page in pages for each in page)

    def note(self, environ: WSGIEnvironment) -> None:
        """Look at a request before moto does.

        Raises:
            _Refused: S3 would not take it.
        """
        request = _Request(environ)
        refused = ""
        try:
            request.check(is_away=self.is_away, verifies=self.verifies)
        except _Refused as error:
            refused = error.code
            raise
        finally:
            query = dict(request.query)
            asked = Asked(request.method, request.path, query, request.headers, len(request.body), refused)
            self.asked.append(asked)


class _Request:
    def __init__(self, environ: WSGIEnvironment) -> None:
        self.method = environ["REQUEST_METHOD"]
        target = urlsplit(environ["RAW_URI"])
        self.path = unquote(target.path)
        self.query = parse_qsl(target.query, keep_blank_values=True)
        self.headers = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): value.strip()
            for name, value in environ.items()
            if name.startswith("HTTP_") or name in {"CONTENT_TYPE", "CONTENT_LENGTH"}
        }
        self.body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(self.body)

    def check(self, *, is_away: bool, verifies: bool) -> None:
        if is_away:
            raise _Refused("503 Slow Down", "SlowDown")
        if not verifies:
            return
        digest = hashlib.sha256(self.body).digest()
        self._check_signature(digest.hex())
        said = self.headers.get("x-amz-checksum-sha256")
        if said is not None and said != base64.b64encode(digest).decode():
            raise _Refused("400 Bad Request", "BadDigest")

    def _check_signature(self, content: str) -> None:
        query = dict(self.query)
        if "X-Amz-Signature" in query:
            payload, amz_date = "UNSIGNED-PAYLOAD", query["X-Amz-Date"]
            credential, signed, said = (query[f"X-Amz-{name}"] for name in ("Credential", "SignedHeaders", "Signature"))
            life = timedelta(seconds=int(query["X-Amz-Expires"]))
            if _time(amz_date) + life < datetime.now(UTC):
                raise _Refused("403 Forbidden", "AccessDenied")
        else:
            parts = dict(
                part.strip().split("=", 1) for part in self.headers["authorization"].partition(" ")[2].split(",")
            )
            credential, signed, said = parts["Credential"], parts["SignedHeaders"], parts["Signature"]
            payload, amz_date = self.headers["x-amz-content-sha256"], self.headers["x-amz-date"]
            if payload not in {content, "UNSIGNED-PAYLOAD"}:
                raise _Refused("400 Bad Request", "XAmzContentSHA256Mismatch")
        if {name for name in self.headers if name.startswith("x-amz-")} - set(signed.split(";")):
            raise _Refused("403 Forbidden", "AccessDenied")  # headers that were not signed
        key_id, _, scope = credential.partition("/")
        if key_id != KEY_ID or not hmac.compare_digest(said, self._signature(scope, amz_date, signed, payload)):
            raise _Refused("403 Forbidden", "SignatureDoesNotMatch")

    def _signature(self, scope: str, amz_date: str, signed: str, payload: str) -> str:
        pairs = sorted((_quoted(n), _quoted(v)) for n, v in self.query if n != "X-Amz-Signature")
        canonical = "\n".join(
            [
                self.method,
                quote(self.path, safe="/-_.~"),
                "&".join(f"{name}={value}" for name, value in pairs),
                *(f"{name}:{' '.join(self.headers.get(name, '').split())}" for name in signed.split(";")),
                "",
                signed,
                payload,
            ]
        )
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        key = f"AWS4{SECRET}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, f"AWS4-HMAC-SHA256\n{amz_date}\n{scope}\n{hashed}".encode(), "sha256").hex()


class _QuietHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        return


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run the server for the block."""
    moto: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]] = DomainDispatcherApplication(create_backend_app)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            server.note(environ)
        except _Refused as error:
            body = f"<Error><Code>{escape(error.code)}</Code></Error>".encode()
            headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
            start_response(error.status, headers)
            return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]
        return moto(environ, start_response)

    listener = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_QuietHandler)
    server = S3Server(f"http://127.0.0.1:{listener.server_port}")
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
