"""No form of a secret is printed, and nothing else is struck out."""

from __future__ import annotations

import base64
import html
import json
import re
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.printing import SHORTEST_SECRET, inline_secrets, make_redactor

SECRETS = st.text(st.characters(exclude_categories=("Cs",)), min_size=8, max_size=40).filter(
    lambda text: len(text.strip()) == len(text) and len(text.splitlines()) == 1 and "://" not in text
)
FORMS = {
    "text": lambda secret: f"before {secret} behind",
    "repr": lambda secret: f"{(1, secret)!r}",
    "repr within quotes": lambda secret: f"{secret + chr(39)!r}",
    "repr of bytes": lambda secret: repr(secret.encode()),
    "JSON": lambda secret: json.dumps({"token": secret}),
    "JSON as it is": lambda secret: json.dumps({"token": secret}, ensure_ascii=False),
    "repr of JSON": lambda secret: repr(json.dumps({"token": secret})),
    "URL": lambda secret: f"https://example.org/?token={quote(secret)}",
    "URL, nothing safe": lambda secret: f"https://example.org/{quote(secret, safe='')}",
    "URL, small letters": lambda secret: re.sub("%..", lambda code: code[0].lower(), quote(secret, safe="")),
    "URL within a URL": lambda secret: quote(quote(secret, safe=""), safe=""),
    "form": lambda secret: urlencode({"token": secret}),
    "form value": quote_plus,
    "HTML": html.escape,
}


@pytest.mark.parametrize("form", FORMS)
@given(secret=SECRETS)
def test_every_form_is_struck_out(form: str, secret: str) -> None:
    written = FORMS[form](secret)
    redacted = make_redactor([secret])(written)
    assert "***" in redacted
    assert secret not in redacted


@given(secret=SECRETS, before=st.binary(max_size=8), behind=st.binary(max_size=8), url_safe=st.booleans())
def test_base64_of_a_longer_text_gives_nothing_away(secret: str, before: bytes, behind: bytes, url_safe: bool) -> None:
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    written = encode(before + secret.encode() + behind).decode()
    redacted = make_redactor([secret])(written)
    assert "***" in redacted
    # What is left is what stood around it: at most the one character that it shares on either side.
    kept = len(redacted.replace("***", "")) - 4
    assert kept <= (len(before) + len(behind)) * 8 / 6 + 4


def test_each_line_of_a_secret_of_several_is_one() -> None:
    redact = make_redactor(["-----BEGIN KEY-----\nMIIEvQIBADAN\n  BgkqhkiG9w0B\n-----END KEY-----\n"])
    assert redact("line 2 is MIIEvQIBADAN, line 3 BgkqhkiG9w0B") == "line 2 is ***, line 3 ***"


def test_of_a_url_only_the_password_is_one_raw_and_decoded() -> None:
    redact = make_redactor(["postgresql://reader:p%40ss%2Fword@db.example/ris", "https://redcap.example/api/"])
    assert redact("p@ss/word, p%40ss%2Fword for reader at db.example") == "***, *** for reader at db.example"
    assert redact("no answer from https://redcap.example/api/") == "no answer from https://redcap.example/api/"


@given(st.text(max_size=SHORTEST_SECRET - 1), st.text(max_size=50))
def test_a_short_value_strikes_nothing_out(value: str, text: str) -> None:
    assert make_redactor([value])(text) == text


def test_a_secret_that_begins_another_one_does_not_leave_its_end() -> None:
    assert make_redactor(["hunter2", "hunter2-and-more"])("hunter2-and-more") == "***"


def test_inline_secrets_are_found_by_their_keys_and_in_urls() -> None:
    config = {
        "api_token": "T0KEN-1", "token_env": "TOKEN", "site_id": "792", "db": {"Password": ["pw-one", "pw-two"]},
        "headers": {"Authorization": "Basic abcd", "X-Api-Key": {"env": "KEY", "prefix": "k "}, "Accept": "json"},
        "url": "https://user:pw-three@example.org/", "other_url": "https://example.org/", "client_secret": "s3cret",
    }  # fmt: skip
    assert sorted(inline_secrets(config)) == [
        "Basic abcd", "T0KEN-1", "https://user:pw-three@example.org/", "pw-one", "pw-two", "s3cret"
    ]  # fmt: skip
