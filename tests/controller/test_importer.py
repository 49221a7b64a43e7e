import argparse
import gzip
import os
import re
import shlex
import string
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.importer import add_import_parser, run_import
from controller.sources.traces import read_load_times, read_requests

DATA = Path(__file__).parents[2] / "data"
COMMANDS = re.findall(
    r"^python -m controller (import .+)$", (DATA / "README.md").read_text().replace("\\\n", ""), flags=re.MULTILINE
)


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_import_parser(parser.add_subparsers(required=True))
    return parser.parse_args(words)


def do_import(*words: object) -> int:
    args = parse("import", *map(str, words))
    assert args.run is run_import
    return run_import(args)


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def text_of(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


@pytest.mark.parametrize("command", [command for command in COMMANDS if "--out data/" in command])
def test_the_documented_command_makes_the_shipped_file(command: str, tmp_path: Path) -> None:
    args = parse(*shlex.split(command))
    shipped = DATA.parent / args.out
    first, second = tmp_path / f"1-{shipped.name}", tmp_path / f"2-{shipped.name}"

    assert do_import(args.import_kind, shipped, "--out", first) == 0
    assert do_import(args.import_kind, shipped, "--out", second) == 0

    # Compressed bytes may differ between builds of zlib, so across machines the text is compared, and here the bytes.
    assert text_of(first) == text_of(shipped)
    assert first.read_bytes() == second.read_bytes()
    if shipped.suffix == ".gz":
        assert shipped.read_bytes()[3:8] == bytes(5), "the gzip carries neither a name nor a time"


def test_every_data_file_is_named_in_the_readme() -> None:
    readme = (DATA / "README.md").read_text()
    files = [path.relative_to(DATA).as_posix() for path in DATA.rglob("*") if path.is_file()]

    assert len(files) >= 11
    assert [name for name in files if name != "README.md" and name not in readme] == []
    assert not list(DATA.rglob("*.py")), "data/ holds no code"


def test_a_log_with_its_own_names_units_and_zone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write(
        tmp_path / "log.csv",
        "when,team,took_ms,state",
        "2024-07-01 12:00:00,red,1500,ok",
        "2024-07-01 11:00:00,blue,32000,ok",
        "2024-07-01T10:30:00Z,red,,crashed",
    )
    names = (
        "--time-column",
        "when",
        "--tenant-column",
        "team",
        "--duration-column",
        "took_ms",
        "--status-column",
        "state",
    )
    out = tmp_path / "out.csv"

    code = do_import("requests", log, "--out", out, *names, "--duration-unit", "ms", "--time-zone", "Europe/Zurich")

    assert code == 0
    assert out.read_text().splitlines() == [
        "arrived_at,tenant,task,status,exec_seconds",
        "2024-07-01T09:00:00Z,blue,,ok,32",
        "2024-07-01T10:00:00Z,red,,ok,1.5",
        "2024-07-01T10:30:00Z,red,,crashed,0",
    ]
    said = capsys.readouterr().out
    assert said.count("\n") == 1, "one paragraph"
    for words in (
        "2 requests of 2 tenants",
        "2024-07-01T09:00:00Z to 2024-07-01T10:00:00Z",
        "1 more were never executed",
    ):
        assert words in said
    assert f"a mean load of {33.5 / 3600:.2f} reference GPUs" in said


@pytest.mark.parametrize(
    "time", ["1719824400", "1719824400000", "1719824400000000", "1719824400000000000", "1719824400.0"]
)
def test_times_counted_from_the_epoch_are_told_apart_by_their_size(time: str, tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", "arrived_at,tenant,exec_seconds", f"{time},a,1")

    assert do_import("requests", log, "--out", tmp_path / "out.csv") == 0
    assert (tmp_path / "out.csv").read_text().splitlines()[1] == "2024-07-01T09:00:00Z,a,,,1"


def test_alibabas_own_columns_are_read_by_the_documented_command(tmp_path: Path) -> None:
    (command,) = [command for command in COMMANDS if "lora_request_trace.csv" in command]
    log = write(
        tmp_path / "lora_request_trace.csv",
        "gmt_create,predict_type,predict_status,exec_time_seconds,groupId,prompt_length",
        "2024-11-15 16:57:50,TXT_2_IMG,SUCCEED,32.0,G0000,63.0",
        "2024-11-15 16:58:50,TXT_2_IMG,PROCESSING,,G0000,",
    )
    words = [str(log) if word == log.name else word for word in shlex.split(command)]

    assert run_import(parse(*words, "--out", str(tmp_path / "out.csv.gz"))) == 0
    found = read_requests(tmp_path / "out.csv.gz")
    assert (len(found), found.skipped) == (1, 1)


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Imports, expecting exit code 2, one line on stderr and nothing on stdout; returns the line."""
    assert do_import(*words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize(
    ("time", "flags", "words"),
    [
        ("2024-07-01 12:00:00", (), "no zone; write Z after a time in UTC, or import the file with --time-zone"),
        ("2024-10-27 02:30:00", ("--time-zone", "Europe/Zurich"), "does not exist, or exists twice, in Europe/Zurich"),
        ("2024-03-31 02:30:00", ("--time-zone", "Europe/Zurich"), "does not exist, or exists twice, in Europe/Zurich"),
        ("-5", (), "not between 1990 and 2200"),
        ("20240701", (), "not between 1990 and 2200"),
        ("202407011200", (), "not between 1990 and 2200"),
        ("20240701120000", (), "not between 1990 and 2200"),
        ("soon", ("--time-zone", "UTC"), "'soon' can't be read"),
    ],
)
def test_a_time_is_never_guessed(
    time: str, flags: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write(tmp_path / "log.csv", "arrived_at,tenant,exec_seconds", f"{time},a,1")

    said = refused(capsys, "requests", log, "--out", tmp_path / "out.csv", *flags)

    assert said.startswith(f"{log}: row 2, column arrived_at: ") and words in said
    assert os.listdir(tmp_path) == ["log.csv"], "nothing was written, not even in part"


def test_an_unknown_zone_a_file_that_is_there_and_a_folder_that_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write(tmp_path / "log.csv", "arrived_at,tenant,exec_seconds", "2024-07-01T12:00:00Z,a,1")
    there = write(tmp_path / "there.csv", "mine")

    assert "no time zone is named 'Mars'" in refused(capsys, "requests", log, "--out", there, "--time-zone", "Mars")
    assert "there already; choose another name, or add --force" in refused(capsys, "requests", log, "--out", there)
    assert there.read_text() == "mine\n"
    assert "can't be written" in refused(capsys, "requests", log, "--out", tmp_path / "none" / "out.csv")
    assert do_import("requests", log, "--out", there, "--force") == 0
    assert there.read_text().startswith("arrived_at,")
    capsys.readouterr()
    (tmp_path / "folder").mkdir()
    assert "can't be written" in refused(capsys, "requests", log, "--out", tmp_path / "folder", "--force")
    assert sorted(os.listdir(tmp_path)) == ["folder", "log.csv", "there.csv"], "no temporary file is left"


def test_a_failed_import_leaves_the_old_file_even_with_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write(tmp_path / "log.csv", "arrived_at,tenant,exec_seconds", "2024-07-01T12:00:00Z,,1")
    there = write(tmp_path / "there.csv", "mine")

    assert "row 2, column tenant" in refused(capsys, "requests", log, "--out", there, "--force")
    assert there.read_text() == "mine\n"


def test_a_price_list_with_its_own_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = write(tmp_path / "p.csv", "sku,card,usd,speed", "small,A10G,0.9,1", "big,H100,3.5,4.5")
    flags = ("--column", "instance_type=sku", "--column", "gpu=card", "--column", "on_demand_usd_per_hour=usd")
    given_ = ("--column", "speed_ratio=speed", "--set", "provider=acme", "--set", "region=home", "--set", "gpu_count=1")
    out = tmp_path / "out.csv"

    assert "column zone, spot_usd_per_hour: " in refused(capsys, "offers", prices, "--out", out, *flags, *given_)
    more = ("--set", "zone=rack-1", "--set", "spot_usd_per_hour=0.2")
    assert do_import("offers", prices, "--out", out, *flags, *given_, *more) == 0
    assert out.read_text().splitlines()[1:] == [
        "acme,home,rack-1,small,A10G,1,,,0.9,0.2,1",
        "acme,home,rack-1,big,H100,1,,,3.5,0.2,4.5",
    ]
    assert "2 rows of 2 instance types (acme), which give 4 offers" in capsys.readouterr().out


def test_a_serverless_price_is_kept_where_the_list_has_one(tmp_path: Path) -> None:
    made = DATA / "prices/serverless_offers.csv"
    assert do_import("offers", made, "--out", tmp_path / "out.csv") == 0
    assert text_of(tmp_path / "out.csv") == text_of(made)


def test_a_bad_price_is_refused_by_the_name_in_the_persons_own_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = "provider,region,zone,instance_type,gpu,gpu_count,hourly,spot_usd_per_hour"
    prices = write(tmp_path / "p.csv", header, "a,r,z,t,A10G,1,1.0,", "a,r,z,u,A10G,1,-1.0,")
    flags = ("--column", "on_demand_usd_per_hour=hourly")

    said = refused(capsys, "offers", prices, "--out", tmp_path / "out.csv", *flags)
    assert said.startswith(f"{prices}: row 3, column hourly: u/z/on_demand: the price '-1.0'")
    assert "'price=x' is not understood" in refused(capsys, "offers", prices, "--out", "x", "--column", "price=x")
    assert os.listdir(tmp_path) == ["p.csv"]


def test_load_times_in_seconds_become_milliseconds(tmp_path: Path) -> None:
    loads = write(tmp_path / "l.csv", "took", "2.639", "40")
    out = tmp_path / "out.csv"

    assert do_import("load-times", loads, "--out", out, "--load-column", "took", "--duration-unit", "s") == 0
    assert out.read_text() == "load_ms\n2639\n40000\n"
    assert read_load_times(out).tolist() == [2.639, 40.0]


NAMES = st.text(string.ascii_letters + 'é,"; \n', min_size=1, max_size=8).filter(lambda name: name.strip())
ROWS = st.lists(
    st.tuples(
        st.integers(700_000_000_000_000, 4_000_000_000_000_000),
        NAMES,
        st.floats(0, 1e5, allow_subnormal=False),
        st.sampled_from(["", "succeed", "failed"]),
    ),
    min_size=1,
    max_size=20,
).filter(lambda rows: any(row[2] > 0 for row in rows))


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, compressed=st.booleans())
def test_what_was_imported_reads_back_and_imports_to_itself(
    rows: list[tuple[int, str, float, str]], compressed: bool
) -> None:
    lines = ["arrived_at,tenant,status,exec_seconds"]
    for us, tenant, work_s, status in rows:
        quoted = tenant.replace('"', '""')
        lines.append(f'{us / 1e6:.6f},"{quoted}",{status},{work_s!r}')
    with tempfile.TemporaryDirectory() as folder:
        suffix = ".csv.gz" if compressed else ".csv"
        log, once, twice = Path(folder, "log.csv"), Path(folder, f"1{suffix}"), Path(folder, f"2{suffix}")
        log.write_text("\n".join(lines) + "\n")

        assert do_import("requests", log, "--out", once) == 0
        assert do_import("requests", once, "--out", twice) == 0
        found, again = read_requests(once), read_requests(twice)

        assert once.read_bytes() == twice.read_bytes()
        assert found.arrived_s.tolist() == again.arrived_s.tolist()
        expected = sorted(((us, row) for row, (us, _, work_s, _) in enumerate(rows) if work_s > 0))
        assert [round(at * 1e6) for at in found.arrived_s.tolist()] == pytest.approx([us for us, _ in expected], abs=1)
        assert found.work_s.tolist() == [rows[row][2] for _, row in expected]
        assert [found.tenants[code] for code in found.tenant] == [rows[row][1].strip() for _, row in expected]
        assert found.skipped == len(rows) - len(expected)
