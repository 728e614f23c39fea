"""Valkey 9: a journal on disk, nothing evicted, one unix socket."""

import signal
import socket
from pathlib import Path

from scizor_resources.embedded.accounts import Account
from scizor_resources.embedded.kind import ServerKind
from scizor_resources.embedded.programs import Programs


class Valkey(ServerKind):
    """The queues of Celery."""

    name = "valkey"
    title = "Valkey"
    process_name = "valkey-server"
    socket_name = "valkey.sock"
    pid_file = "valkey.pid"
    stop_signal = signal.SIGTERM
    last_signal = signal.SIGKILL

    def url(self, sockets: Path) -> str:
        """Return the URL for redis-py."""
        return f"unix://{sockets / self.socket_name}?db=0"

    def prepare_data(self, directory: Path, programs: Programs, account: Account | None) -> None:
        """Make the data directory; Valkey fills it."""
        del programs, account
        directory.mkdir(mode=0o700, exist_ok=True)

    def arguments(self, programs: Programs, directory: Path, sockets: Path) -> list[str]:
        """Return the command line; the journal goes to the working directory."""
        del directory
        return [
            str(programs.valkey),
            *("--port", "0"),
            *("--unixsocket", str(sockets / self.socket_name)),
            *("--unixsocketperm", "700"),
            *("--pidfile", self.pid_file),
            *("--appendonly", "yes"),
            *("--save", "3600 1 300 100 60 10000"),
            *("--maxmemory-policy", "noeviction"),
        ]

    def answers(self, sockets: Path) -> bool:
        """Say whether Valkey has loaded its data."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(5)
            try:
                probe.connect(str(sockets / self.socket_name))
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")
            except OSError:
                return False
