"""The code location: `defs` is what Dagster loads."""

from scizor_assets.build import build_defs

defs = build_defs()
