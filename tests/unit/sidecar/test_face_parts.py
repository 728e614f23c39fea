"""Parts of the face that need no server: frames, who may ask, times."""

from datetime import UTC, date, datetime

import pytest
from pydantic import SecretStr
from websockets.frames import Frame, Opcode

from scizor_core.errors import InvalidInputError
from scizor_sidecar.face.answers import moment
from scizor_sidecar.face.docs_page import docs_page
from scizor_sidecar.face.guard import Gatekeeper
from scizor_sidecar.face.server import frame_header, is_open_to_others


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 300_000])
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_frame_is_the_one_that_another_library_makes(length: int, opcode: Opcode):
    payload = b"x" * length

    made = frame_header(length, is_text=opcode is Opcode.TEXT) + payload

    assert made == Frame(opcode, payload).serialize(mask=False)


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8790", True),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("[::1]:8790", True),
        ("192.168.1.20:8790", True),
        ("evil.example:8790", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("", False),
        ("[", False),
    ],
)
def test_only_names_of_this_machine_are_answered_without_a_key(host: str, known: bool):
    assert Gatekeeper(None).is_known_host(host) is known
    assert Gatekeeper(SecretStr("key")).is_known_host(host)


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        ({"host": "127.0.0.1:8790"}, True),
        ({"host": "127.0.0.1:8790", "origin": "http://127.0.0.1:8790"}, True),
        ({"host": "127.0.0.1:8790", "origin": "http://127.0.0.1:8791"}, False),
        ({"host": "127.0.0.1:8790", "origin": "https://evil.example"}, False),
        ({"host": "127.0.0.1:8790", "origin": "null"}, False),
        ({"host": "127.0.0.1:8790", "origin": "http://["}, False),
    ],
)
def test_a_page_of_another_origin_is_told_apart(headers: dict[str, str], same: bool):
    assert Gatekeeper(None).is_same_origin(headers) is same


@pytest.mark.parametrize(
    "headers",
    [{}, {"x-api-key": ""}, {"x-api-key": "Key"}, {"authorization": "Basic key"}],
    ids=["none", "empty", "another", "another scheme"],
)
def test_what_is_not_the_key_opens_nothing(headers: dict[str, str]):
    assert not Gatekeeper(SecretStr("key")).has_key(headers)
    assert not Gatekeeper(None).has_key(headers)


@pytest.mark.parametrize(
    ("host", "is_open"),
    [
        ("127.0.0.1", False),
        ("127.0.0.2", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),  # noqa: S104  # that is what is told apart
        ("::", True),
        ("192.168.1.20", True),
        ("box.lan", True),
    ],
)
def test_an_address_that_other_machines_reach_is_told_apart(host: str, is_open: bool):
    assert is_open_to_others(host) is is_open


def test_a_time_is_a_date_or_has_an_offset():
    assert moment(" 2026-11-20 ", "start") == date(2026, 11, 20)
    assert moment("2026-11-20T10:00:00Z", "start") == datetime(2026, 11, 20, 10, tzinfo=UTC)
    # A plus that nobody has escaped arrives as a blank.
    assert moment("2026-11-20T10:00:00 11:00", "start") == datetime(2026, 11, 19, 23, tzinfo=UTC)
    for wrong in ("2026-11-20T10:00", "1815-06-18", "9999-12-31", "", "noon"):
        with pytest.raises(InvalidInputError):
            moment(wrong, "start")


def test_what_a_route_says_of_itself_cannot_become_markup():
    route = {"get": {"summary": "<script>", "responses": {}, "tags": ["x"]}}

    page = docs_page({"info": {"title": "t"}, "paths": {"/a": route}})

    assert "<script>" not in page
    assert "&lt;script&gt;" in page
