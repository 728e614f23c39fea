"""What keeps the tables within their policies."""

import dagster as dg
from pydantic import Field

from scizor_assets.common import OWNERS, failures
from scizor_core.retention import policies
from scizor_resources.platform import Platform


class RetentionConfig(dg.Config):
    """Run config of retention."""

    dry_run: bool = Field(default=False, description="Count what is due and take nothing away.")
    tables: list[str] | None = Field(
        default=None, description="Only these tables; by default all that have a policy."
    )


@dg.asset(
    key=["maintenance", "retention"],
    group_name="maintenance",
    kinds={"python", "postgres"},
    owners=OWNERS,
    code_version="1",
    description=(
        "Takes away what is older than its table's policy allows (SCIZOR_RETENTION changes the "
        "days). With dry_run it only counts. Bars are not touched: they go to the archive."
    ),
)
def retention(
    context: dg.AssetExecutionContext,
    config: RetentionConfig,
    platform: dg.ResourceParam[Platform],
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # generic in stubs only
    """Apply the policies."""
    with failures():
        chosen = [
            policy
            for policy in policies(platform.settings.retention)
            if config.tables is None or policy.name in config.tables
        ]
        reports = platform.retention.apply(chosen, platform.now(), dry_run=config.dry_run)
    for report in reports:
        context.log.info("%s: %d due, %d removed", report.name, report.due, report.removed)
    table = dg.TableSchema(
        columns=[
            dg.TableColumn("table"),
            dg.TableColumn("days", "int"),
            dg.TableColumn("before"),
            dg.TableColumn("oldest"),
            dg.TableColumn("due", "int"),
            dg.TableColumn("removed", "int"),
        ]
    )
    records = [
        dg.TableRecord(
            {
                "table": report.name,
                "days": report.days or 0,
                "before": str(report.cutoff or "kept for ever"),
                "oldest": str(report.oldest or "no rows"),
                "due": report.due,
                "removed": report.removed,
            }
        )
        for report in reports
    ]
    return dg.MaterializeResult(
        metadata={
            "dry_run": config.dry_run,
            "rows_due": sum(report.due for report in reports),
            "rows_removed": sum(report.removed for report in reports),
            "tables": dg.MetadataValue.table(records, table),
        }
    )


MAINTENANCE_ASSETS: list[dg.AssetsDefinition] = [retention]
