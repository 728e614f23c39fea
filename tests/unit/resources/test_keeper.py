"""Whoever looks after the servers: what is started again, what is waited for, what is said."""

from dataclasses import dataclass, field

import pytest

from scizor_resources.embedded.keeper import POSTGRES, VALKEY, ServerKeeper
from scizor_resources.embedded.servers import ServerEndpoints, ServerStatus
from scizor_resources.errors import ServerError


@dataclass
class Servers:
    """Two embedded servers, of which one can be ended."""

    ended: set[str] = field(default_factory=set)
    refusal: str = ""
    starts: int = 0

    def status(self) -> list[ServerStatus]:
        names = ("postgres", "valkey")
        return [ServerStatus(name, None if name in self.ended else 1) for name in names]

    def start(self) -> ServerEndpoints:
        self.starts += 1
        if self.refusal:
            raise ServerError(self.refusal)
        self.ended.clear()
        return ServerEndpoints("postgresql://", "unix://")


@dataclass
class Place:
    """A keeper with everything around it in hand."""

    servers: Servers = field(default_factory=Servers)
    seconds: float = 0.0
    why: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def keeper(self, *embedded: str) -> ServerKeeper:
        def probe(title: str, name: str) -> str | None:
            self.asked.append(title)
            return self.why.get(title) or ("no socket" if name in self.servers.ended else None)

        return ServerKeeper(
            self.servers,
            frozenset(embedded),
            {
                POSTGRES: lambda: probe(POSTGRES, "postgres"),
                VALKEY: lambda: probe(VALKEY, "valkey"),
            },
            clock=lambda: self.seconds,
        )


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.mark.parametrize(("title", "name"), [(POSTGRES, "postgres"), (VALKEY, "valkey")])
def test_an_embedded_server_that_has_died_is_started_again(
    place: Place, title: str, name: str
) -> None:
    keeper = place.keeper(POSTGRES, VALKEY)
    keeper.look()
    place.servers.ended.add(name)

    keeper.look()

    assert place.servers.ended == set()
    assert keeper.away == frozenset()
    first, second = keeper.news()
    assert first.startswith(f"{title} cannot be used: its process has ended.")
    assert second.startswith(f"{title} is back")


def test_servers_that_run_are_not_spoken_of(place: Place) -> None:
    keeper = place.keeper(POSTGRES, VALKEY)
    keeper.look()
    place.seconds = 100
    keeper.look()

    assert (keeper.news(), keeper.away, place.servers.starts) == ([], frozenset(), 0)


def test_a_configured_server_is_waited_for_and_not_started(place: Place) -> None:
    keeper = place.keeper(VALKEY)
    place.why[POSTGRES] = "connection refused"
    keeper.look()
    keeper.look()

    assert keeper.away == {POSTGRES}
    (sentence,) = keeper.news()
    assert "connection refused" in sentence
    assert "start it again where it runs, or correct SCIZOR_DATABASE_URL" in sentence
    assert place.servers.starts == 0


def test_that_a_server_is_back_is_said_once_with_how_long_it_was_away(place: Place) -> None:
    keeper = place.keeper()
    place.why[VALKEY] = "connection refused"
    keeper.look()
    keeper.news()
    place.seconds = 42
    place.why.clear()
    keeper.look()
    keeper.look()

    (sentence,) = keeper.news()
    assert sentence.startswith("Valkey is back after 42 s.")
    assert keeper.away == frozenset()


def test_a_server_that_runs_and_does_not_answer_is_left_to_recover(place: Place) -> None:
    keeper = place.keeper(POSTGRES, VALKEY)
    place.why[POSTGRES] = "the database system is in recovery mode"
    keeper.look()

    assert keeper.away == {POSTGRES}
    assert place.servers.starts == 0


def test_why_a_start_failed_is_said_once(place: Place) -> None:
    keeper = place.keeper(POSTGRES, VALKEY)
    place.servers.ended.add("postgres")
    place.servers.refusal = "The disk is full. Free some space."
    for place.seconds in range(0, 600, 60):
        keeper.look()

    told = [each for each in keeper.news() if "could not be started again" in each]
    assert told == ["PostgreSQL could not be started again: The disk is full. Free some space."]


def test_failed_starts_are_rested_for_longer_and_longer_but_never_given_up(place: Place) -> None:
    keeper = place.keeper(POSTGRES, VALKEY)
    place.servers.ended.add("postgres")
    place.servers.refusal = "The disk is full."
    tried = []
    for place.seconds in range(300):
        before = place.servers.starts
        keeper.look()
        if place.servers.starts > before:
            tried.append(int(place.seconds))

    assert tried == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]


def test_a_server_that_answers_is_asked_every_five_seconds_and_one_that_is_away_each_time(
    place: Place,
) -> None:
    keeper = place.keeper()
    place.why[VALKEY] = "connection refused"
    for place.seconds in range(10):
        keeper.look()

    assert place.asked.count(POSTGRES) == 2
    assert place.asked.count(VALKEY) == 10
