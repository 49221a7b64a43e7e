import gzip
from pathlib import Path

import numpy as np
import pytest

from controller.sources.base import InputError
from controller.sources.traces import parse_zone_map, read_availability, read_load_times, read_requests

DATA = Path(__file__).parents[2] / "data"


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_log_is_read_sorted_and_its_unexecuted_rows_are_counted(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log.csv",
        "arrived_at,tenant,task,status,exec_seconds,steps",
        "2024-11-15T12:00:02Z,late,,,3,30",
        "2024-11-15T12:00:00Z,never,,pending,0,",
        "2024-11-15T12:00:00Z,first,,failed,1.5,",
        "2024-11-15T13:00:00.250+01:00,second,,succeed,2,",
        "2024-11-15T12:00:01Z,never,,Processing,,",
        "2024-11-15 12:00:02Z,first,,SUCCEED,4,",
    )

    found = read_requests(path)

    base = 1_731_672_000.0
    assert (found.arrived_s - base).tolist() == [0, 0.25, 2, 2]
    assert found.work_s.tolist() == [1.5, 2, 3, 4], "rows of the same time stay in their order; failed work is work"
    assert [found.tenants[code] for code in found.tenant] == ["first", "second", "late", "first"]
    assert found.tenants == ("first", "second", "late"), "a tenant that was never served is none"
    assert (found.skipped, found.source) == (2, str(path))
    assert (found.arrived_s.dtype, found.work_s.dtype, found.tenant.dtype) == (np.float64, np.float64, np.int32)


def test_many_rows_of_one_second_stay_in_their_order(tmp_path: Path) -> None:
    rows = [f"2024-11-15T12:00:0{9 - index % 3}Z,a,{index + 1}" for index in range(300)]
    found = read_requests(write(tmp_path / "log.csv", "arrived_at,tenant,exec_seconds", *rows))

    expected = [index + 1 for second in (2, 1, 0) for index in range(300) if index % 3 == second]
    assert found.work_s.tolist() == expected


def test_only_three_columns_are_needed_in_any_order(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "exec_seconds, tenant ,arrived_at", " 3 , a ,2024-11-15T12:00:00Z")

    found = read_requests(path)

    assert (found.work_s.tolist(), found.tenants) == ([3], ("a",))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_bytes_of_other_systems_read_the_same(newline: str, tmp_path: Path) -> None:
    text = f'arrived_at,tenant,exec_seconds{newline}2024-11-15T12:00:00Z,"Zürich, CH",3{newline}'
    plain, marked, zipped = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.csv.gz"
    plain.write_bytes(text.encode())
    marked.write_bytes(text.encode("utf-8-sig"))
    content = text.encode()
    zipped.write_bytes(gzip.compress(content[:20]) + gzip.compress(content[20:]) + b"\0" * 8)

    assert {read_requests(path).tenants for path in (plain, marked, zipped)} == {("Zürich, CH",)}


def test_gzip_is_told_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(gzip.compress(b"arrived_at,tenant,exec_seconds\n2024-11-15T12:00:00Z,a,3\n"))

    assert len(read_requests(path)) == 1


def test_the_shipped_trace_is_the_published_one() -> None:
    found = read_requests(DATA / "traces/gentd26_requests.csv.gz")

    assert (len(found), found.skipped, len(found.tenants)) == (14_266, 13, 2_378)
    assert np.datetime64(int(found.arrived_s[0]), "s") == np.datetime64("2024-11-15T16:57:50")
    assert np.datetime64(int(found.arrived_s[-1]), "s") == np.datetime64("2024-11-30T23:43:04")
    assert found.work_s.sum() == pytest.approx(377_308.0), "the sum of exec_seconds at the source"
    week = found.window(*(np.array(["2024-11-24", "2024-12-01"], "datetime64[s]").astype(float)))
    assert 5_000 < len(week) < len(found)


def test_the_shipped_load_times_are_seconds() -> None:
    base = read_load_times(DATA / "traces/gentd26_base_model_load_ms.csv.gz")
    lora = read_load_times(DATA / "traces/gentd26_lora_load_ms.csv.gz")

    assert (len(base), len(lora)) == (7_531, 27_415)
    assert base[:2].tolist() == [2.639, 2.766]
    assert (base.min(), base.max()) == (1.329, 79.436)
    assert np.median(lora) == pytest.approx(4.378)


def test_the_shipped_series_are_of_the_zones_that_the_headline_needs() -> None:
    held = read_availability(DATA / "traces/spot_availability_aws_v100_2023-02-15_30d.csv")
    many = read_availability(DATA / "traces/spot_capacity16_aws_v100_2023-08-27_11d.csv")
    kept = read_availability(DATA / "traces/spot_preemption_aws_v100_2023-04-22_7d.csv")

    assert (len(held), len(many), len(kept)) == (9, 3, 4)
    west = held["us-west-2a"]
    assert (west.gap_s, west.ticks, west.binary, west.gpu) == (195.0, 13_290, True, "v100")
    assert west.capacity_at(0) is None and west.capacity_at(52 * 195) == 0 and west.capacity_at(58 * 195) is None
    assert many["us-east-2b"].capacity_at(7 * 300) == 7
    assert not any(series.binary for series in many.values()) and all(series.binary for series in kept.values())
    mapped = parse_zone_map("usw2-az1=us-west-2a,usw2-az2=us-west-2b,usw2-az3=us-west-2c", held)
    assert mapped["usw2-az3"] == "us-west-2c"


def test_a_zone_map_may_be_blank_but_not_point_nowhere(tmp_path: Path) -> None:
    path = write(tmp_path / "spot.csv", "zone,gpu,gap_seconds,ticks,changes", "a,v100,300,4,0:1 2:0")
    known = read_availability(path)

    assert parse_zone_map("") == {}
    assert parse_zone_map(" x = a , ", known) == {"x": "a"}
    with pytest.raises(InputError, match=r"no series for 'b'; use one of a"):
        parse_zone_map("x=b", known)
