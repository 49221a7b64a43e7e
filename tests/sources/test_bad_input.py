"""Every bad file: one clear line that names file, row and column. A row is a 1-based line of the file."""

import gzip
from pathlib import Path

import pytest

from controller.sources.base import InputError
from controller.sources.offers import read_offers
from controller.sources.traces import parse_zone_map, read_availability, read_load_times, read_requests

HEADER = "arrived_at,tenant,task,status,exec_seconds\n"
GOOD = "2024-11-15T16:57:50Z,G0000,txt_2_img,succeed,32.0\n"


def requests(*rows: str) -> bytes:
    return (HEADER + GOOD + "".join(f"{row}\n" for row in rows)).encode()


BIG = gzip.compress(requests(*[f"2024-11-16T{i // 60:02d}:{i % 60:02d}:00Z,G{i},,,{i}" for i in range(1, 1200)]))

BAD_REQUESTS = {
    # what the file holds → row, column, words of the line
    "a column is missing": (b"arrived_at,tenant\n2024-11-15T16:57:50Z,G0\n", 1, "exec_seconds", "missing"),
    "several are missing": (b"when;who;how long\n1;2;3\n", 1, "arrived_at, tenant, exec_seconds", "missing"),
    "no header": (GOOD.encode(), 1, "arrived_at, tenant, exec_seconds", "missing"),
    "a column twice": (b"arrived_at,tenant,tenant,exec_seconds\n", 1, "tenant", "twice"),
    "a naive time": (requests("2024-11-15T17:00:00,G1,,,3"), 3, "arrived_at", "no zone; write Z"),
    "a naive date": (requests("2024-11-15,G1,,,3"), 3, "arrived_at", "no zone; write Z"),
    "an unreadable time": (requests("yesterday,G1,,,3"), 3, "arrived_at", "'yesterday' can't be read"),
    "a month 13": (requests("2024-13-15T17:00:00Z,G1,,,3"), 3, "arrived_at", "can't be read"),
    "a number for a time": (requests("1731690000,G1,,,3"), 3, "arrived_at", "can't be read"),
    "a missing time": (requests(",G1,,,3"), 3, "arrived_at", "the time is missing"),
    "a year 1": (requests("0001-01-01T00:00:00Z,G1,,,3"), 3, "arrived_at", ""),
    "a year 1900": (requests("1900-01-01T00:00:00Z,G1,,,3"), 3, "arrived_at", "not between 1970 and 2200"),
    "a negative duration": (requests("2024-11-15T17:00:00Z,G1,,,-3"), 3, "exec_seconds", "'-3' is negative"),
    "no duration though it succeeded": (
        requests("2024-11-15T17:00:00Z,G1,,succeed,"),
        3,
        "exec_seconds",
        "the duration is missing",
    ),
    "no duration and no status": (requests("2024-11-15T17:00:00Z,G1,,,"), 3, "exec_seconds", "the duration is missing"),
    "a word for a duration": (requests("2024-11-15T17:00:00Z,G1,,,fast"), 3, "exec_seconds", "'fast' is no finite"),
    "a word though it failed": (requests("2024-11-15T17:00:00Z,G1,,failed,x"), 3, "exec_seconds", "'x' is no finite"),
    "an infinite duration": (requests("2024-11-15T17:00:00Z,G1,,,inf"), 3, "exec_seconds", "'inf' is no finite"),
    "NaN for a duration": (requests("2024-11-15T17:00:00Z,G1,,,nan"), 3, "exec_seconds", "'nan' is no finite"),
    "an underscore in a duration": (requests("2024-11-15T17:00:00Z,G1,,,1_0"), 3, "exec_seconds", "'1_0' is no finite"),
    "a duration of years": (requests("2024-11-15T17:00:00Z,G1,,,1e9"), 3, "exec_seconds", "30 days; check its unit"),
    "no tenant": (requests("2024-11-15T17:00:00Z,,,,3"), 3, "tenant", "no tenant"),
    "a blank tenant": (requests("2024-11-15T17:00:00Z,  ,,,3"), 3, "tenant", "no tenant"),
    "the first bad row speaks": (
        requests("2024-11-15T17:00:00Z,G1,,,-1", ",,,,"),
        3,
        "exec_seconds",
        "'-1' is negative",
    ),
    "blank lines count as lines": (requests("", "", "2024-11-15T17:00:00Z,,,,3"), 5, "tenant", "no tenant"),
    "a quoted cell over two lines": (
        requests('2024-11-15T17:00:00Z,"G\n1",,,3', "2024-11-15T17:00:00Z,,,,3"),
        5,
        "tenant",
        "no tenant",
    ),
    "a short row": (requests("2024-11-15T17:00:00Z,G1"), 3, "task", "2 of 5 columns"),
    "a long row": (requests("2024-11-15T17:00:00Z,G1,,,3,4"), 3, "exec_seconds", "6 of 5 columns"),
    "a quote that never closes": (requests('2024-11-15T17:00:00Z,"G1,,,3'), 3, "arrived_at", "not CSV"),
    "cut in the middle of a row": (requests("2024-11-15T17:00:00Z,G1,txt")[:-1], 3, "status", "3 of 5 columns"),
    "an empty file": (b"", 1, "arrived_at", "the file is empty"),
    "nothing but blanks": (b"\n \n", 1, "arrived_at", "the file is empty"),
    "a header only": (HEADER.encode(), 2, "arrived_at", "a header and no rows"),
    "nothing was executed": (
        (HEADER + "2024-11-15T17:00:00Z,G1,,pending,0\n").encode(),
        2,
        "exec_seconds",
        "no row of the file was executed",
    ),
    "not UTF-8": (
        requests("2024-11-15T17:00:00Z,G\xe9,,,3").decode().encode("latin-1"),
        3,
        "tenant",
        "0xe9 is not UTF",
    ),
    "UTF-16": (HEADER.encode("utf-16"), 1, "arrived_at", "0xff is not UTF-8"),
    "a zero byte": (requests("2024-11-15T17:00:00Z,G\0,,,3"), 3, "tenant", "no text file"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    content, row, column, words = BAD_REQUESTS[name]
    path = tmp_path / "log.csv"
    path.write_bytes(content)

    with pytest.raises(InputError) as caught:
        read_requests(path)

    line = str(caught.value)
    assert line.startswith(f"{path}: row {row}, column {column}: ")
    assert words in line
    assert ("\n" not in line) and "; " in line, "one line, with a remedy"


def test_the_same_is_said_of_a_gzipped_file(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(requests("2024-11-15T17:00:00Z,G1,,,-3")))

    with pytest.raises(InputError, match="row 3, column exec_seconds: the duration '-3' is negative"):
        read_requests(path)


@pytest.mark.parametrize("kept", [3, 10, 11, 200, len(BIG) // 2, len(BIG) - 9, len(BIG) - 8, len(BIG) - 1])
def test_a_truncated_gzip_is_refused_wherever_it_was_cut(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    path.write_bytes(BIG[:kept])

    with pytest.raises(InputError, match="the gzip is truncated") as caught:
        read_requests(path)

    assert caught.value.row is not None and caught.value.column in HEADER
    assert f"{path}: row {caught.value.row}, column {caught.value.column}: " in str(caught.value)


def test_a_truncated_gzip_names_the_last_row_that_could_be_read(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    path.write_bytes(BIG[:-8])  # the whole content, but not its checksum

    with pytest.raises(InputError, match=r"row 1202, column arrived_at: the gzip is truncated"):
        read_requests(path)


def test_a_damaged_gzip_and_a_false_one_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    damaged = bytearray(BIG)
    damaged[-5] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"row \d+, column \w+: the gzip is damaged"):
        read_requests(path)

    path.write_bytes(requests())
    with pytest.raises(
        InputError, match=r"row 1, column arrived_at: the name ends in \.gz but the content is not gzip"
    ):
        read_requests(path)

    path.write_bytes(b"")
    with pytest.raises(InputError, match="row 1, column arrived_at: the file is empty"):
        read_requests(path)

    path.write_bytes(gzip.compress(b""))
    with pytest.raises(InputError, match="row 1, column arrived_at: the file is empty"):
        read_requests(path)


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: there is no such file"):
        read_requests(tmp_path / "none.csv")
    with pytest.raises(InputError, match="this is a folder"):
        read_requests(tmp_path)


SERIES = "zone,gpu,gap_seconds,ticks,changes\n"
BAD_SERIES = {
    "a column is missing": ("zone,gpu,ticks,changes\na,v100,9,0:1\n", 1, "gap_seconds"),
    "no zone": (SERIES + ",v100,195,9,0:1\n", 2, "zone"),
    "a zone twice": (SERIES + "a,v100,195,9,0:1\na,v100,195,9,0:1\n", 3, "zone"),
    "no gap": (SERIES + "a,v100,,9,0:1\n", 2, "gap_seconds"),
    "a gap of nothing": (SERIES + "a,v100,0,9,0:1\n", 2, "gap_seconds"),
    "an endless gap": (SERIES + "a,v100,inf,9,0:1\n", 2, "gap_seconds"),
    "no ticks": (SERIES + "a,v100,195,0,0:1\n", 2, "ticks"),
    "a part of a tick": (SERIES + "a,v100,195,9.5,0:1\n", 2, "ticks"),
    "no changes": (SERIES + "a,v100,195,9,\n", 2, "changes"),
    "a late start": (SERIES + "a,v100,195,9,1:1\n", 2, "changes"),
    "a word": (SERIES + "a,v100,195,9,0:yes\n", 2, "changes"),
    "a negative capacity": (SERIES + "a,v100,195,9,0:-1\n", 2, "changes"),
    "back in time": (SERIES + "a,v100,195,9,0:1 5:0 3:1\n", 2, "changes"),
    "past the end": (SERIES + "a,v100,195,9,0:1 9:0\n", 2, "changes"),
    "a header only": (SERIES, 2, "zone"),
    "an empty file": ("", 1, "zone"),
}


@pytest.mark.parametrize("name", BAD_SERIES)
def test_a_bad_availability_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    content, row, column = BAD_SERIES[name]
    path = tmp_path / "spot.csv"
    path.write_text(content)

    with pytest.raises(InputError) as caught:
        read_availability(path)

    assert str(caught.value).startswith(f"{path}: row {row}, column {column}: ")


@pytest.mark.parametrize(
    ("content", "row", "column"),
    [
        ("seconds,container\n1,2\n", 1, "load_ms"),
        ("load_ms\n10\n0\n", 3, "load_ms"),
        ("load_ms\n10\n\n-1\n", 4, "load_ms"),
        ("seconds,container,value\n1,a,10\n2,a,soon\n", 3, "value"),
        ("load_ms\nnan\n", 2, "load_ms"),
        ("", 1, "load_ms"),
    ],
)
def test_a_bad_load_time_is_refused_in_one_line(content: str, row: int, column: str, tmp_path: Path) -> None:
    path = tmp_path / "load.csv"
    path.write_text(content)

    with pytest.raises(InputError) as caught:
        read_load_times(path)

    assert str(caught.value).startswith(f"{path}: row {row}, column {column}: ")


def test_a_price_list_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    for content, row, column in (
        ("", 1, "provider"),
        ("provider,region,zone,instance_type,gpu,gpu_count,on_demand_usd_per_hour\n", 1, "spot_usd_per_hour"),
        ("provider,region,zone,instance_type,gpu,gpu_count,on_demand_usd_per_hour,spot_usd_per_hour\n", 2, "provider"),
    ):
        path.write_text(content)
        with pytest.raises(InputError) as caught:
            read_offers(path)
        assert str(caught.value).startswith(f"{path}: row {row}, column {column}: ")


@pytest.mark.parametrize("text", ["usw2-az1", "=a", "a=", "a=b=c", "a=b,a=c"])
def test_a_zone_map_that_maps_nothing_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--spot-zones: "):
        parse_zone_map(text)
