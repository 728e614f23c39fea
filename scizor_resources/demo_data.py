"""Real history for the demonstration, out of published packages.

Three packages on the Python package index carry market data as their samples. They are fetched
from whatever index pip is set up for, held to the SHA-256 written here, and only their data files
are unpacked: none of their code is installed or run.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scizor_core.errors import ScizorError
from scizor_resources.tape.importer import ImportReport, ImportSpec, import_file

DOWNLOAD_TIMEOUT_SECONDS = 180.0


class ArtefactUnavailable(ScizorError):
    """A package with sample data could not be had; the message names it and says why."""


@dataclass(frozen=True)
class Artefact:
    """A published package, and the data files in it.

    Attributes:
        name: project name on the index.
        version: exact version.
        filename: name of the archive.
        sha256: digest of the archive.
        licence: licence of the package, to be named wherever the data is shown.
        members: data files, as paths inside the archive.
    """

    name: str
    version: str
    filename: str
    sha256: str
    licence: str
    members: tuple[str, ...]

    @property
    def is_source(self) -> bool:
        """True for a source distribution, False for a wheel."""
        return self.filename.endswith(".tar.gz")


@dataclass(frozen=True)
class DemoImport:
    """One file of an artefact and what it holds."""

    artefact: Artefact
    member: str
    spec: ImportSpec
    title: str


@dataclass(frozen=True)
class DemoStep:
    """One step of `prepare`.

    Attributes:
        title: what was done, for a progress display.
        report: what an import found; None for a fetch and for a step that was skipped.
        error: why the step was skipped, "" where it was not.
    """

    title: str
    report: ImportReport | None = None
    error: str = ""


_RESOURCES = "market_prices-0.12.14/docs/tutorials/resources"

BOKEH = Artefact(
    name="bokeh-sampledata",
    version="2026.1",
    filename="bokeh_sampledata-2026.1-py3-none-any.whl",
    sha256="f40331a40ca30c64a1c1471835aad9006b61b0d9731a3f649ee8cbbf48d3822f",
    licence="BSD-3-Clause",
    members=("bokeh_sampledata/_data/stocks.csv.gz",),
)
MARKET_PRICES = Artefact(
    name="market-prices",
    version="0.12.14",
    filename="market_prices-0.12.14.tar.gz",
    sha256="3a45da206f7dbe237f8723a10d830d5bc368daea4352d4f68274f5055cf9a5f1",
    licence="MIT",
    members=(
        f"{_RESOURCES}/MSFT_T1.csv",
        f"{_RESOURCES}/f_AZN.L_H1_fails_on_vol_dtype.csv",
        f"{_RESOURCES}/MSFT_T5_with_added_indice.csv",
        f"{_RESOURCES}/RAND_T5_fails_on_high_low.csv",
        f"{_RESOURCES}/f_MSFT_H1_fails_on_no_data.csv",
    ),
)
OB_ANALYTICS = Artefact(
    name="ob-analytics",
    version="0.1.0",
    filename="ob_analytics-0.1.0-py3-none-any.whl",
    sha256="0326a93aaee4ea08356d8dea59868d68592623a2434bbe4d9be379fa855c9c62",
    licence="GPL-2.0-or-later",
    members=("ob_analytics/_sample_data/trades.csv",),
)

ARTEFACTS: tuple[Artefact, ...] = (BOKEH, MARKET_PRICES, OB_ANALYTICS)


def _market_prices(member: str, symbol: str, timeframe: str, title: str) -> DemoImport:
    spec = ImportSpec("us", symbol, timeframe, source_label="market-prices")
    return DemoImport(MARKET_PRICES, f"{_RESOURCES}/{member}", spec, title)


#: In this order: of two files that overlap the later one wins. Some are broken on purpose by their
#: makers, so that the quarantine has something to show.
DEMO_IMPORTS: tuple[DemoImport, ...] = (
    *(
        DemoImport(
            BOKEH,
            BOKEH.members[0],
            # One file with five companies; the column picks the rows of one.
            ImportSpec("us", ticker, "1d", {"symbol": "Ticker"}, source_label="bokeh"),
            f"{ticker}: daily bars 2000 to 2013",
        )
        for ticker in ("AAPL", "FB", "GOOG", "IBM", "MSFT")
    ),
    _market_prices("MSFT_T1.csv", "MSFT", "1m", "MSFT: minutes of May and June 2022"),
    # Its name says AZN.L and hours; its rows are five-minute bars of MSFT.
    _market_prices(
        "f_AZN.L_H1_fails_on_vol_dtype.csv", "MSFT", "5m", "MSFT: five minutes, one broken volume"
    ),
    _market_prices(
        "MSFT_T5_with_added_indice.csv", "MSFT", "5m", "MSFT: five minutes, one bar off the grid"
    ),
    # Hours of London: what lies outside New York's session is refused.
    _market_prices(
        "RAND_T5_fails_on_high_low.csv", "RAND", "5m", "RAND: five minutes in London's hours"
    ),
    _market_prices("f_MSFT_H1_fails_on_no_data.csv", "MSFT", "15m", "MSFT: one row with no values"),
    DemoImport(
        OB_ANALYTICS,
        OB_ANALYTICS.members[0],
        ImportSpec(
            "crypto",
            "BTC/USD",
            "tick",
            # When the exchange matched the trade; `timestamp` is when it was received.
            {"ts": "exchange_timestamp"},
            source_label="ob-analytics",
        ),
        "BTC/USD: 284 trades of May 2026",
    ),
)

Fetch = Callable[[Artefact, Path], Path]


def prepare(
    cache_dir: Path,
    tape_dir: Path,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    fetch: Fetch | None = None,
) -> Iterator[DemoStep]:
    """Fetch every artefact and import every file, one step at a time.

    An artefact that cannot be had is named, its files are skipped, the others go on.

    Args:
        cache_dir: where archives and data files are kept for the next time.
        tape_dir: the tape to import into.
        now: clock, aware.
        fetch: gets an artefact's data files; `fetch_artefact` by default.

    Yields:
        `len(ARTEFACTS) + len(DEMO_IMPORTS)` steps, each as soon as it is done.

    Raises:
        InvalidInputError: the tape's manifest cannot be used.
    """
    fetch = fetch or fetch_artefact
    folders: dict[str, Path] = {}
    errors: dict[str, str] = {}
    for artefact in ARTEFACTS:
        title = f"{artefact.name} {artefact.version} ({artefact.licence})"
        try:
            folders[artefact.name] = fetch(artefact, cache_dir)
        except ArtefactUnavailable as error:
            errors[artefact.name] = str(error)
        yield DemoStep(title, error=errors.get(artefact.name, ""))
    for item in DEMO_IMPORTS:
        folder = folders.get(item.artefact.name)
        if folder is None:
            yield DemoStep(item.title, error=errors[item.artefact.name])
            continue
        report = import_file(folder / Path(item.member).name, item.spec, tape_dir, now)
        yield DemoStep(item.title, report=report)


def fetch_artefact(
    artefact: Artefact, cache_dir: Path, download: Callable[[Artefact, Path], None] | None = None
) -> Path:
    """Return the directory with the data files of an artefact, fetched where needed.

    Args:
        artefact: what to get.
        cache_dir: an archive there with the right digest is not fetched again.
        download: puts the archive into a directory; pip by default.

    Raises:
        ArtefactUnavailable: it cannot be fetched, is not what was pinned, or lacks a file.
    """
    archive = cache_dir / artefact.filename
    folder = cache_dir / f"{artefact.name}-{artefact.version}"
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        if not _is_genuine(archive, artefact):
            with tempfile.TemporaryDirectory(dir=cache_dir) as temporary:
                (download or pip_download)(artefact, Path(temporary))
                fetched = Path(temporary) / artefact.filename
                if not _is_genuine(fetched, artefact):
                    raise ArtefactUnavailable(
                        f"{_label(artefact)}: what the index gave is not the file that was pinned "
                        f"(sha256 {artefact.sha256[:12]}...); it was not used."
                    )
                fetched.replace(archive)
        _unpack(archive, artefact, folder)
    except (OSError, KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise ArtefactUnavailable(f"{_label(artefact)} cannot be unpacked: {error}") from error
    return folder


def pip_download(artefact: Artefact, target: Path) -> None:
    """Download the archive of an artefact with the pip and the index of this environment.

    Args:
        artefact: what to get.
        target: directory to put it in.

    Raises:
        ArtefactUnavailable: pip failed; the message carries its last word.

    Note:
        For a source distribution pip asks its build backend for metadata, which would run code of
        the package and fetch its build tools (6.3 s where 1.5 s do). So the backend that pip finds
        is one of ours, three lines long. The digest is checked by pip before it gets that far.
    """
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        requirements = work / "requirements.txt"
        requirements.write_text(
            f"{artefact.name}=={artefact.version} --hash=sha256:{artefact.sha256}\n"
        )
        environment = dict(os.environ)
        kind = ["--only-binary", ":all:"]
        if artefact.is_source:
            kind = ["--no-binary", ":all:", "--no-build-isolation"]
            _write_backend(artefact, work / "backend")
            environment["PYTHONPATH"] = str(work / "backend")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input"]
        command += ["--disable-pip-version-check", "--require-hashes", *kind]
        command += ["--dest", str(target), "--requirement", str(requirements)]
        try:
            done = subprocess.run(
                command,
                env=environment,
                capture_output=True,
                text=True,
                timeout=DOWNLOAD_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ArtefactUnavailable(
                f"{_label(artefact)} could not be fetched: pip gave no answer within "
                f"{DOWNLOAD_TIMEOUT_SECONDS:.0f} s."
            ) from None
    if done.returncode != 0:
        raise ArtefactUnavailable(
            f"{_label(artefact)} could not be fetched. pip says: {_last_word(done)}"
        )


def _write_backend(artefact: Artefact, folder: Path) -> None:
    """Write a build backend that knows the metadata already and builds nothing."""
    package = folder / "setuptools"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    name = f"{artefact.name.replace('-', '_')}-{artefact.version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {artefact.name}\nVersion: {artefact.version}\n"
    (package / "build_meta.py").write_text(
        "import pathlib\n\n\n"
        "def prepare_metadata_for_build_wheel(directory, config_settings=None):\n"
        f"    folder = pathlib.Path(directory, {name!r})\n"
        "    folder.mkdir()\n"
        f"    (folder / 'METADATA').write_text({metadata!r})\n"
        "    return folder.name\n"
    )


def _last_word(done: "subprocess.CompletedProcess[str]") -> str:
    lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["nothing"])[-1].removeprefix("ERROR: ")


def _is_genuine(archive: Path, artefact: Artefact) -> bool:
    if not archive.is_file():
        return False
    return hashlib.sha256(archive.read_bytes()).hexdigest() == artefact.sha256


def _unpack(archive: Path, artefact: Artefact, folder: Path) -> None:
    """Write the data files, under their bare names, from an archive whose digest was checked."""
    folder.mkdir(parents=True, exist_ok=True)
    for member in artefact.members:
        target = folder / Path(member).name
        draft = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        draft.write_bytes(_member_bytes(archive, member))
        draft.replace(target)


def _member_bytes(archive: Path, member: str) -> bytes:
    if archive.name.endswith(".tar.gz"):
        with tarfile.open(archive) as tar:
            stream = tar.extractfile(member)
            if stream is None:
                raise KeyError(member)
            return stream.read()
    with zipfile.ZipFile(archive) as bundle:
        return bundle.read(member)


def _label(artefact: Artefact) -> str:
    return f"The sample data of {artefact.name} {artefact.version}"
