"""Times and sizes as people say them."""

from datetime import timedelta

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def span(length: timedelta) -> str:
    """Return a length of time in its two largest units: 1 d 9 h, 4 min, 12 s."""
    seconds = max(0, int(length.total_seconds()))
    for number, (unit, size) in enumerate(_UNITS):
        if seconds >= size:
            text = f"{seconds // size} {unit}"
            if number + 1 < len(_UNITS):
                smaller, smaller_size = _UNITS[number + 1]
                rest = seconds % size // smaller_size
                text += f" {rest} {smaller}" if rest else ""
            return text
    return f"{seconds} s"


def short_span(length: timedelta) -> str:
    """Return a length of time in four characters or so: 33h, 4m, 12s, 812d."""
    seconds = max(0, int(length.total_seconds()))
    for unit, size, until in (("s", 1, 100), ("m", 60, 100), ("h", 3_600, 100)):
        if seconds // size < until:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86_400}d"


def bytes_of(number: int) -> str:
    """Return a number of bytes as people say it."""
    return f"{number / 2**30:,.1f} GiB" if number >= 2**30 else f"{number / 2**20:,.0f} MiB"
