"""Make an imported file known to the platform: its instrument, and the rows it could not use."""

from dataclasses import dataclass

from scizor_resources.stores.quality import QualityStore
from scizor_resources.stores.reference import ReferenceStore
from scizor_resources.tape.importer import ImportReport


@dataclass(frozen=True)
class BroughtIn:
    """What became of an import.

    Attributes:
        symbol: canonical symbol.
        created: True where the symbol was not known before.
        quarantined: refused rows that were not in quarantine yet.
    """

    symbol: str
    created: bool
    quarantined: int


def bring_in(
    reference: ReferenceStore, quality: QualityStore, report: ImportReport, name: str = ""
) -> BroughtIn:
    """Create the instrument where it is new and keep the refused rows in quarantine.

    Args:
        reference: symbols.
        quality: quarantine.
        report: of `import_file`.
        name: long name for a new instrument.
    """
    spec = report.spec
    created = False
    if report.good_rows:
        _, created = reference.ensure(spec.market, spec.symbol, name)
    dataset = "ticks" if spec.timeframe == "tick" else "bars"
    quarantined = quality.quarantine(dataset, spec.market, spec.timeframe, report.rejected)
    return BroughtIn(spec.symbol, created, quarantined)
