"""TCP ports of this machine: is one free, and who has it."""

import contextlib
import errno
import socket

import psutil

from scizor_core.errors import ConfigError


def port_is_free(port: int) -> bool:
    """Say whether this process could listen on `port` of this machine's loopback addresses.

    Raises:
        ConfigError: `port` is not between 1 and 65535.
    """
    if not 1 <= port <= 65535:
        raise ConfigError(f"{port} is not a port: choose a number from 1 to 65535.")
    addresses = [(socket.AF_INET, "127.0.0.1")]
    if socket.has_ipv6:
        addresses.append((socket.AF_INET6, "::1"))
    for family, address in addresses:
        try:
            probe = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            continue
        with probe:
            # As servers do, so that connections still closing do not count as a listener.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
                probe.listen(1)
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:  # no ::1 on this machine
                    return False
    return True


def describe_port_owner(port: int) -> str | None:
    """Name the program that listens on TCP `port`, or return None when nothing seems to."""
    try:
        listeners = [
            connection
            for connection in psutil.net_connections(kind="tcp")
            if connection.status == psutil.CONN_LISTEN
            and connection.laddr
            and connection.laddr.port == port
        ]
    except psutil.AccessDenied:  # macOS tells root only
        return None
    for listener in listeners:
        if listener.pid is not None:
            with contextlib.suppress(psutil.Error):
                return f"{psutil.Process(listener.pid).name()} (process {listener.pid})"
    return "a program of another user" if listeners else None
