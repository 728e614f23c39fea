"""What a bar's source says beside the provider: that its prices are a sample of what was traded."""

_SAMPLED = ":sampled"


def sampled(provider: str) -> str:
    """Return the source of bars that are made of a sample of a provider's prices."""
    return f"{provider}{_SAMPLED}"


def is_sampled(source: str) -> bool:
    """Say whether any part of a bar of that source is made of a sample."""
    return any(part.endswith(_SAMPLED) for part in source.split("+"))


def without_sampled(source: str) -> str:
    """Return a source, a provider or several joined by "+", without the word that it is sampled."""
    return "+".join(sorted({part.removesuffix(_SAMPLED) for part in source.split("+")}))
