"""One sentence out of what pandera found, the same for every table."""

import pandera.pandas as pa

from scizor_core.errors import ContractError


def contract_error(table: str, error: pa.errors.SchemaErrors) -> ContractError:
    """Return the error to raise for `error`: how many values, which columns, checks and values."""
    cases = error.failure_cases
    # A check over several columns reports every cell of a bad row; one line per row is enough.
    first = cases.drop_duplicates(["check", "index"]).head(5)
    shown = "; ".join(
        f"row {case.index}: {case.check} fails in {case.column or table} ({case.failure_case})"
        for case in first.itertuples(index=False)
    )
    rows = cases["index"].dropna().nunique()
    return ContractError(
        f"{rows} rows break the contract of {table}, nothing was written: {shown}."
    )
