"""Marts whose columns a new version has changed are found, so that they are built anew."""

from scizor_assets.marts import dbt_project, outdated_tables
from scizor_resources.platform import Platform

from .helpers import execute


def outdated(platform: Platform) -> list[str]:
    return outdated_tables(platform.warehouse, dbt_project().manifest_path)


def test_before_the_first_build_nothing_is_outdated(platform: Platform) -> None:
    assert outdated(platform) == []


def test_a_table_without_a_column_of_its_model_is_outdated(platform: Platform) -> None:
    execute(platform, "CREATE SCHEMA marts")
    execute(platform, "CREATE TABLE marts.volatility (symbol text)")

    assert outdated(platform) == ["marts.volatility"]
