from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from broker.auth.s3_urls import BadCredentials, S3Credentials, S3Urls

EXAMPLE = S3Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


def test_the_example_of_the_api_reference_has_its_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    # Source: Amazon S3 API Reference, "Authenticating Requests: Using Query Parameters", its worked example; there the
    # host is without a region, which an endpoint with the bucket in its host would be.
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: datetime(2013, 5, 24, tzinfo=UTC))
    urls = S3Urls(EXAMPLE, region="us-east-1")
    monkeypatch.setattr(urls, "plain", lambda bucket, key: f"https://{bucket}.s3.amazonaws.com/{key}")
    query = parse_qs(urlsplit(urls.sign("GET", "examplebucket", "test.txt", life_s=86_400)).query)
    assert query["X-Amz-Signature"] == ["aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"]


def test_what_goes_along_is_signed_and_a_life_is_a_week_at_most() -> None:
    temporary = EXAMPLE._replace(session_token="a token")
    urls = S3Urls(temporary, region="eu-north-1", endpoint="http://store.example:9000/")
    address = urls.sign(
        "PUT", "bucket", "a b/ü.txt", life_s=10_000_000, headers={"If-None-Match": "*"}, query={"versionId": "1"}
    )
    parts = urlsplit(address)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == "http://store.example:9000/bucket/a%20b/%C3%BC.txt"
    query = parse_qs(parts.query)
    assert query["X-Amz-SignedHeaders"] == ["host;if-none-match"]
    assert query["X-Amz-Expires"] == ["604800"]
    assert query["X-Amz-Security-Token"] == ["a token"]
    assert query["versionId"] == ["1"]


def test_credentials_are_read_as_the_field_writes_them_and_never_shown() -> None:
    text = "[default]\naws_access_key_id = KEY\naws_secret_access_key = SE=CR%ET\n[other]\naws_access_key_id = X\n"
    read = S3Credentials.parse(text)
    assert read == S3Credentials("KEY", "SE=CR%ET")
    assert "CR%ET" not in repr(read)
    assert S3Credentials.parse(text.partition("[other]")[0].replace("default", "lab")) == read


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("KEY:SECRET", "~/.aws/credentials"),
        ("[default]\naws_access_key_id = KEY\n", "aws_secret_access_key"),
        ("[a]\naws_access_key_id = KEY\n[b]\naws_access_key_id = KEY\n", "[default]"),
        ("", "[default]"),
    ],
)
def test_what_is_no_credentials_is_told_without_a_word_of_it(text: str, named: str) -> None:
    with pytest.raises(BadCredentials) as told:
        S3Credentials.parse(text)
    assert named in str(told.value)
    assert "KEY" not in str(told.value)
