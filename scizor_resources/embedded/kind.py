"""What starting and stopping a server has to know of it, whichever of the two it is."""

import signal
import socket
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from scizor_resources.embedded.accounts import Account
from scizor_resources.embedded.programs import Programs


class ServerKind(ABC):
    """What differs between the two servers.

    Attributes:
        name: for programs: of its data directory, its log and in `servers.json`.
        title: for people.
        process_name: as the operating system shows it.
        socket_name: its file in the directory of the sockets.
        pid_file: its file in the data directory.
        stop_signal: ends it in good order.
        last_signal: ends it at once, without loss of what was committed.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    process_name: ClassVar[str]
    socket_name: ClassVar[str]
    pid_file: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    last_signal: ClassVar[signal.Signals]

    @abstractmethod
    def url(self, sockets: Path) -> str:
        """Return where clients reach it."""

    @abstractmethod
    def prepare_data(self, directory: Path, programs: Programs, account: Account | None) -> None:
        """Create its data when there is none, and refuse data that it cannot read."""

    @abstractmethod
    def arguments(self, programs: Programs, directory: Path, sockets: Path) -> list[str]:
        """Return its command line; `directory` is its working directory."""

    @abstractmethod
    def answers(self, sockets: Path) -> bool:
        """Say whether it serves: PostgreSQL past recovery, Valkey with its data loaded."""

    def listens(self, sockets: Path) -> bool:
        """Say whether anything listens on its socket, serving or not."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(sockets / self.socket_name))
            except OSError:
                return False
        return True

    def remove_socket(self, sockets: Path) -> None:
        """Remove what a server that has ended left in the directory of the sockets."""
        for name in (self.socket_name, f"{self.socket_name}.lock"):
            (sockets / name).unlink(missing_ok=True)
