"""JsonApi with secrets in the query: they reach the server and show nowhere else."""

import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from pydantic import SecretStr

from scizor_resources.errors import AuthError, ProviderError, TransientError
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.http import JsonApi
from tests.contract.lab.server import HttpLab, Reply, Seen

TOKEN = "lab0token+with/signs&00"


class EchoLab(HttpLab):
    """Answers each request with a constant."""

    def respond(self, seen: Seen) -> Reply:
        return Reply({"seen": seen.path})

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        status = {"rate_limited": 429, "server_error": 500, "invalid_credentials": 401}
        return Reply({"error": "No"}, status[kind])


@pytest.fixture
def lab() -> Iterator[EchoLab]:
    with EchoLab() as running:
        yield running


@pytest.fixture
def api(lab: EchoLab) -> Iterator[JsonApi]:
    made = make_api(lab.url)
    yield made
    made.close()


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def make_api(base_url: str, **more: Any) -> JsonApi:
    secrets = {"secret_params": {"auth_token": SecretStr(TOKEN)}, **more}
    gate = Gate("lab", sleep=lambda _seconds: None)
    return JsonApi("lab", "The lab", base_url, gate, 0.5, **secrets)


def test_a_secret_is_added_to_the_query(lab: EchoLab, api: JsonApi) -> None:
    api.get("/posts", {"page": 1, "q": "a b"})

    assert lab.requests[0].query == {"page": "1", "q": "a b", "auth_token": TOKEN}


def test_a_post_has_the_secret_in_its_query_and_its_body_as_it_is(
    lab: EchoLab, api: JsonApi
) -> None:
    api.post("/search", {"q": "gold"})

    [seen] = lab.requests
    assert (seen.method, seen.query) == ("POST", {"auth_token": TOKEN})
    assert seen.body == b'{"q":"gold"}'


def test_secrets_of_headers_and_of_the_query_go_together(lab: EchoLab) -> None:
    api = make_api(lab.url, secret_headers={"X-Key": SecretStr("lab-key")})
    api.get("/posts")
    api.close()

    [seen] = lab.requests
    assert (seen.headers["x-key"], seen.query) == ("lab-key", {"auth_token": TOKEN})


# --- where it must not show ---------------------------------------------------------------


def shows(text: str) -> bool:
    """Say whether the token is there, as it is or as an address writes it."""
    return any(each in text for each in (TOKEN, "lab0token", "auth_token"))


@pytest.mark.parametrize("fault", [None, "invalid_credentials", "html", "cut_body"])
def test_the_secret_shows_in_no_log_line(
    lab: EchoLab, api: JsonApi, caplog: pytest.LogCaptureFixture, fault: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    lab.fault = fault

    try:
        api.get("/posts")
    except ProviderError:
        assert fault is not None

    assert lab.requests[0].query == {"auth_token": TOKEN}
    assert "/posts" in caplog.text
    assert not shows(caplog.text)


def test_the_secret_does_not_show_in_the_api(api: JsonApi) -> None:
    api.get("/posts")

    assert not shows(repr(api))
    assert TOKEN not in repr(vars(api))


def test_the_secret_shows_in_no_refusal(lab: EchoLab, api: JsonApi) -> None:
    lab.inject("invalid_credentials")

    with pytest.raises(AuthError) as caught:
        api.get("/posts")

    assert not shows(f"{caught.value!r} {vars(caught.value)!r}")


@pytest.mark.parametrize("fault", ["silence", "refused"])
def test_the_secret_shows_in_no_error_of_the_connection(
    lab: EchoLab, api: JsonApi, fault: Any
) -> None:
    if fault == "refused":
        lab.stop()
    else:
        lab.inject(fault)

    with pytest.raises(TransientError) as caught:
        api.get("/posts")

    error = caught.value.__context__
    assert error is not None
    request = getattr(error, "request", None)
    address = str(request.url) if request is not None else ""
    assert address.endswith("/posts")
    assert not shows(f"{caught.value!r} {error!r} {vars(error)!r} {address}")


# --- proxies of the environment -----------------------------------------------------------


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""], ids=["address", "host and port"])
def test_a_proxy_of_the_environment_is_used(
    lab: EchoLab, monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    monkeypatch.setenv(variable, scheme + lab.url.removeprefix("http://"))
    api = make_api("http://provider.example/v2")
    api.get("/posts")
    api.close()

    [seen] = lab.requests
    assert seen.headers["host"] == "provider.example"
    assert seen.query == {"auth_token": TOKEN}


@pytest.mark.usefixtures("no_proxies")
def test_a_host_that_the_environment_excepts_is_asked_without_a_proxy(
    lab: EchoLab, api: JsonApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    api.get("/posts")

    assert lab.requests[0].headers["host"] == lab.url.removeprefix("http://")
