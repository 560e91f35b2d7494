"""ClassAds, as plugins write them and as we do."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.steps.classads import Ad, BadAd, read_ads, written

_TOLD = """[ TransferUrl = "http://h/x"; TransferType = "download"; DeveloperData = [ TransferTries = 21; A = "]" ];
TransferError = "a \\"b\\" \\\\ c;"; TransferEndTime = 1795907920; TransferSuccess = false; TransferErrorData = {
[ ErrorCode = 7; ErrorString = "{" ],[ ErrorCode = 8 ] }; TransferFileBytes = -1; ConnectionTimeSeconds = 4.05E-03 ]
"""


@pytest.mark.parametrize(
    ("text", "ads"),
    [
        (
            _TOLD,
            [
                {
                    "transferurl": "http://h/x",
                    "transfertype": "download",
                    "transfererror": 'a "b" \\ c;',
                    "transferendtime": 1795907920,
                    "transfersuccess": False,
                    "transferfilebytes": -1,
                }
            ],
        ),
        (
            'MultipleFileSupport = true\nPluginVersion="0.2"\nInfo = strcat("Multi2:",PluginVersion)\n'
            'SupportedMethods = "http,ftp"\n',
            [{"multiplefilesupport": True, "pluginversion": "0.2", "supportedmethods": "http,ftp"}],
        ),
        ('[\n A = 1;\n B = TRUE\n]\n[ a = "\\101\\n" ]', [{"a": 1, "b": True}, {"a": "A\n"}]),
        ("[]", []),
        ("", []),
        ('A = "no end\nB = 2', [{"b": 2}]),
    ],
)
def test_reads_what_plugins_write(text: str, ads: list[Ad]) -> None:
    assert read_ads(text) == ads


@pytest.mark.parametrize("text", ["#!/bin/sh", "usage: plugin SRC DST", "{", "A = 1 ] )", "\0"])
def test_refuses_what_is_no_ad(text: str) -> None:
    with pytest.raises(BadAd, match="is no attribute of a ClassAd"):
        read_ads(text)


@given(st.text())
def test_survives_any_text(text: str) -> None:
    with suppress(BadAd):
        read_ads(text)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_][a-z0-9_]{0,9}", fullmatch=True),
        st.text(st.characters(exclude_categories=["C"])) | st.booleans() | st.integers(-(10**17), 10**17),
        min_size=1,
    )
)
def test_reads_what_it_writes(ad: dict[str, str | int | bool]) -> None:
    assert read_ads(written(ad)) == [ad]
