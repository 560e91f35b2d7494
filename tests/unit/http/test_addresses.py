"""Where a vm has to reach for its files, and how it is asked there."""

from types import SimpleNamespace
from typing import cast

import pytest

from broker.http.addresses import by_http, origins_of
from broker.http.s3_signing import s3_origin
from broker.store import Dispatched
from broker.wire.streams import OriginAccess, S3Access, StreamSpec


@pytest.mark.parametrize("scheme", ["davs", "DAVS"])
def test_a_webdav_address_is_asked_by_http_however_its_scheme_is_written(scheme: str) -> None:
    assert by_http(f"{scheme}://cloud.example/x:y") == "https://cloud.example/x:y"


def test_the_origin_of_a_bucket_is_known_by_any_key_and_by_none() -> None:
    s3 = S3Access(secret="ceph", region="eu-north-1")
    for url in (f"s3://lab/{'k' * 1_024}", "s3://lab/", "s3://lab"):
        assert s3_origin(s3, url) == "lab.s3.eu-north-1.amazonaws.com:443"


def test_what_an_earlier_release_took_in_stops_no_dispatch() -> None:
    spec = StreamSpec(machine="m", s3=S3Access(secret="ceph"), access={"share.example": OriginAccess()})
    item = SimpleNamespace(url="http://a..example/x", inputs={"more": f"s3://lab/{'k' * 1_024}"})

    found = origins_of(cast("Dispatched", SimpleNamespace(spec=spec, item=item)))

    assert found == [None, "lab.s3.us-east-1.amazonaws.com:443", None, "share.example:443"]
