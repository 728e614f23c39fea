"""Findings and broken contracts as results of asset checks: the same words for all of them."""

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
import pandas as pd

from scizor_core.bar_checks import Finding
from scizor_core.errors import ContractError


def check_specs(key: dg.AssetKey, checks: Mapping[str, str]) -> list[dg.AssetCheckSpec]:
    """Return the specs of an asset's checks, given what each says by its name."""
    return [
        dg.AssetCheckSpec(name, asset=key, description=description)
        for name, description in checks.items()
    ]


def wanted_checks(context: dg.AssetCheckExecutionContext) -> set[str]:
    """Return the names of the checks that are to be run."""
    return {each.name for each in context.selected_asset_check_keys}


def finding_result(
    key: dg.AssetKey, finding: Finding, severity: dg.AssetCheckSeverity, rows_checked: int
) -> dg.AssetCheckResult:
    """Return what a check found; it has passed where that is nothing.

    Args:
        key: the asset.
        finding: its name is the check's.
        severity: how bad a finding is.
        rows_checked: rows that were judged.
    """
    metadata: dict[str, Any] = {"rows_checked": rows_checked, "offending_rows": finding.count}
    if finding.rows:
        metadata["first_rows"] = dg.MetadataValue.json(finding.rows)
    if finding.message:
        metadata["message"] = finding.message
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=finding.name,
        passed=finding.passed,
        severity=severity,
        metadata=metadata,
        description=_sentence(finding),
    )


def contract_result(
    key: dg.AssetKey, validate: Callable[[pd.DataFrame], object], rows: pd.DataFrame
) -> dg.AssetCheckResult:
    """Return the result of check `schema`: stored rows keep their contract.

    Args:
        key: the asset.
        validate: raises ContractError where the rows break the contract.
        rows: the stored rows.
    """
    message = None
    try:
        validate(rows)
    except ContractError as error:
        message = str(error)
    return dg.AssetCheckResult(
        asset_key=key,
        check_name="schema",
        passed=message is None,
        severity=dg.AssetCheckSeverity.ERROR,
        description=message,
        metadata={"rows_checked": len(rows)},
    )


def _sentence(finding: Finding) -> str | None:
    if finding.passed:
        return None
    if not finding.rows:
        return finding.message
    first = ", ".join(f"{key} {value}" for key, value in finding.rows[0].items())
    return f"{finding.count} rows; first: {first}"
