"""Sample data: fetched once, held to its digest, and skipped by name where it cannot be had."""

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scizor_resources import demo_data
from scizor_resources.demo_data import (
    ARTEFACTS,
    BOKEH,
    DEMO_IMPORTS,
    Artefact,
    ArtefactUnavailable,
    fetch_artefact,
    pip_download,
    prepare,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
BARS = b"date,open,high,low,close,volume\n"


def make_wheel(folder: Path, content: bytes = b"a,b\n") -> Artefact:
    """Write a wheel that pip accepts, with one data file and one module that must not be taken."""
    name = "scizor_sample-1.0-py3-none-any.whl"
    info = "scizor_sample-1.0.dist-info"
    with zipfile.ZipFile(folder / name, "w") as bundle:
        bundle.writestr("scizor_sample/data.csv", content)
        bundle.writestr("scizor_sample/__init__.py", "")
        bundle.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: scizor-sample\nVersion: 1.0\n"
        )
        bundle.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        bundle.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    members = ("scizor_sample/data.csv",)
    return Artefact("scizor-sample", "1.0", name, digest, "MIT", members)


def make_source(folder: Path) -> Artefact:
    """Write a source distribution whose build would leave a trace."""
    name = "scizor-sample-1.0.tar.gz"
    trace = folder / "built"
    files = {
        "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\n'
        'build-backend = "setuptools.build_meta"\n',
        "setup.py": f"open({str(trace)!r}, 'w').close()\n",
        "data.csv": "a,b\n",
        "PKG-INFO": "Metadata-Version: 2.1\nName: scizor-sample\nVersion: 1.0\n",
    }
    with tarfile.open(folder / name, "w:gz") as tar:
        for path, text in files.items():
            member = tarfile.TarInfo(f"scizor-sample-1.0/{path}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return Artefact("scizor-sample", "1.0", name, digest, "MIT", ("scizor-sample-1.0/data.csv",))


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that pip looks into, and nowhere else."""
    folder = tmp_path / "links"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", folder.as_uri())
    return folder


class Copying:
    """Stands in for pip: copies an archive and counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = 0

    def __call__(self, artefact: Artefact, target: Path) -> None:
        self.calls += 1
        archive = self.folder / artefact.filename
        (target / artefact.filename).write_bytes(archive.read_bytes())


def test_only_the_data_files_of_a_wheel_are_unpacked(links: Path, tmp_path: Path) -> None:
    folder = fetch_artefact(make_wheel(links), tmp_path / "cache")
    assert [each.name for each in folder.iterdir()] == ["data.csv"]
    assert (folder / "data.csv").read_bytes() == b"a,b\n"


def test_a_source_distribution_is_fetched_without_running_its_code(
    links: Path, tmp_path: Path
) -> None:
    folder = fetch_artefact(make_source(links), tmp_path / "cache")
    assert (folder / "data.csv").read_text() == "a,b\n"
    assert not (links / "built").exists()


def test_what_is_in_the_cache_is_not_fetched_again(tmp_path: Path) -> None:
    artefact, copying = make_wheel(tmp_path), Copying(tmp_path)
    for _ in range(2):
        fetch_artefact(artefact, tmp_path / "cache", copying)
    assert copying.calls == 1


def test_a_spoilt_cache_is_fetched_anew(tmp_path: Path) -> None:
    artefact, copying = make_wheel(tmp_path), Copying(tmp_path)
    fetch_artefact(artefact, tmp_path / "cache", copying)
    (tmp_path / "cache" / artefact.filename).write_bytes(b"cut short")
    folder = fetch_artefact(artefact, tmp_path / "cache", copying)
    assert copying.calls == 2
    assert (folder / "data.csv").read_bytes() == b"a,b\n"


def test_an_archive_with_another_digest_is_not_used(tmp_path: Path) -> None:
    artefact = replace(make_wheel(tmp_path), sha256="0" * 64)
    with pytest.raises(ArtefactUnavailable, match=r"scizor-sample 1\.0.*not the file that was pin"):
        fetch_artefact(artefact, tmp_path / "cache", Copying(tmp_path))
    assert not (tmp_path / "cache" / artefact.filename).exists()


def test_pip_refuses_another_digest_itself(links: Path, tmp_path: Path) -> None:
    artefact = replace(make_wheel(links), sha256="0" * 64)
    with pytest.raises(ArtefactUnavailable, match="pip says: "):
        pip_download(artefact, tmp_path)


def test_what_pip_says_is_passed_on(links: Path, tmp_path: Path) -> None:
    artefact = replace(make_wheel(links), version="9.9")
    with pytest.raises(
        ArtefactUnavailable,
        match=r"scizor-sample 9\.9 could not be fetched\. pip says: No matching distribution",
    ):
        fetch_artefact(replace(artefact, filename="x.whl"), tmp_path / "cache")


def test_an_index_that_does_not_answer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_slow(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired(sys.executable, 1)

    monkeypatch.setattr(demo_data.subprocess, "run", too_slow)
    with pytest.raises(ArtefactUnavailable, match="pip gave no answer"):
        pip_download(BOKEH, tmp_path)


def test_a_member_that_is_missing_is_told(tmp_path: Path) -> None:
    artefact = replace(make_wheel(tmp_path), members=("scizor_sample/gone.csv",))
    with pytest.raises(ArtefactUnavailable, match="cannot be unpacked"):
        fetch_artefact(artefact, tmp_path / "cache", Copying(tmp_path))


def fake_files(artefact: Artefact, cache_dir: Path) -> Path:
    """Stands in for `fetch_artefact`: tiny files of the same names and columns."""
    folder = cache_dir / artefact.name
    folder.mkdir(parents=True, exist_ok=True)
    stocks = "Ticker,Date,Open,High,Low,Close,Volume,Adj Close\n" + "".join(
        f"{ticker},2013-03-01,10,12,9,11,100,11\n"
        for ticker in ("AAPL", "FB", "GOOG", "IBM", "MSFT")
    )
    for member in artefact.members:
        name = Path(member).name
        content = BARS + b"2022-05-18 16:00:00+00:00,10,12,9,11,100\n"
        if name == "f_MSFT_H1_fails_on_no_data.csv":
            content = BARS + b"2020-06-15 17:30:00+00:00,,,,,\n"
        if name == "stocks.csv.gz":
            content = gzip.compress(stocks.encode(), mtime=0)
        if name == "trades.csv":
            content = (
                b"trade_id,timestamp,exchange_timestamp,price,amount\n"
                b"1,1777689383889,1777689383817,78319.0,0.121\n"
            )
        (folder / name).write_bytes(content)
    return folder


def test_every_artefact_and_file_is_one_step(tmp_path: Path) -> None:
    steps = list(prepare(tmp_path / "cache", tmp_path / "tape", lambda: NOW, fake_files))
    assert len(steps) == len(ARTEFACTS) + len(DEMO_IMPORTS)
    assert [step.error for step in steps] == [""] * len(steps)
    reports = [step.report for step in steps if step.report is not None]
    assert [report.good_rows for report in reports] == [1] * 9 + [0, 1]
    assert reports[-1].first_ts == datetime(2026, 5, 2, 2, 36, 23, 817000, tzinfo=UTC)


def test_preparing_again_imports_nothing_new(tmp_path: Path) -> None:
    list(prepare(tmp_path / "cache", tmp_path / "tape", lambda: NOW, fake_files))
    before = (tmp_path / "tape" / "manifest.json").read_bytes()
    list(prepare(tmp_path / "cache", tmp_path / "tape", lambda: NOW, fake_files))
    assert (tmp_path / "tape" / "manifest.json").read_bytes() == before


def test_an_artefact_that_cannot_be_had_is_named_and_its_files_are_skipped(tmp_path: Path) -> None:
    def without_bokeh(artefact: Artefact, cache_dir: Path) -> Path:
        if artefact is BOKEH:
            raise ArtefactUnavailable("no bokeh today")
        return fake_files(artefact, cache_dir)

    steps = list(prepare(tmp_path / "cache", tmp_path / "tape", lambda: NOW, without_bokeh))
    skipped = [step.title for step in steps if step.error == "no bokeh today"]
    assert skipped[0] == "bokeh-sampledata 2026.1 (BSD-3-Clause)"
    assert len(skipped) == 1 + 5
    assert sum(step.report is not None for step in steps) == len(DEMO_IMPORTS) - 5


def test_every_file_of_an_import_is_among_the_members_of_its_artefact() -> None:
    assert all(item.member in item.artefact.members for item in DEMO_IMPORTS)
