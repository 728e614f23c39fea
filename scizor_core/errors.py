"""Every error SCIZOR raises on purpose starts here.

ScizorError
├── ConfigError            a setting is missing, unknown or out of range
├── UnknownMarketError     a market name that is not in `scizor_core.markets.MARKETS`
├── UnknownSymbolError     a symbol that the platform does not know in that market
├── InvalidInputError      bad user input: a file, a row, a symbol, a date
└── ContractError          data that breaks the contract of its table

Messages are sentences: what was attempted, what was found, what to do. The tree goes on in
`scizor_resources.errors` for providers, servers and the warehouse.
"""


class ScizorError(Exception):
    """Base of every error raised on purpose; its text is shown to users as it is."""


class ConfigError(ScizorError):
    """A setting is missing, unknown or out of range; the message names the setting."""


class UnknownMarketError(ScizorError):
    """A market name that no `MarketSpec` has."""


class UnknownSymbolError(ScizorError):
    """A symbol that the platform does not know in the market asked for."""


class InvalidInputError(ScizorError):
    """User input that cannot be used; the message names the file, row, symbol or setting."""


class ContractError(ScizorError):
    """Data that breaks the contract of its table; raised before anything is written."""
