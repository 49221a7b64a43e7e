from pathlib import Path

import pytest

from controller.sources.offers import read_offers
from models.enums import Market

DATA = Path(__file__).parents[2] / "data"
HEADER = (
    "provider,region,zone,instance_type,gpu,gpu_count,vcpus,memory_gib,"
    "on_demand_usd_per_hour,spot_usd_per_hour,speed_ratio\n"
)


def row(
    on_demand: str = "1.0", spot: str = "", speed: str = "", gpus: str = "1", zone: str = "z1", kind: str = "g5"
) -> str:
    return f"aws,us-west-2,{zone},{kind},A10G,{gpus},4,16,{on_demand},{spot},{speed}\n"


def listed(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "prices.csv"
    path.write_text(HEADER + "".join(rows))
    return path


def test_a_row_gives_an_on_demand_offer_and_a_spot_offer_where_one_is_priced(tmp_path: Path) -> None:
    offers, problems = read_offers(listed(tmp_path, row("1.006", "0.43", "1.0"), row("1.861", "", "2.0", kind="g6e")))

    assert not problems
    assert [offer.id for offer in offers] == ["g5/z1/on_demand", "g5/z1/spot", "g6e/z1/on_demand"]
    assert [offer.market for offer in offers] == [Market.ON_DEMAND, Market.SPOT, Market.ON_DEMAND]
    assert [offer.price_usd_per_hour for offer in offers] == [1.006, 0.43, 1.861]
    assert [offer.speed_ratio for offer in offers] == [1.0, 1.0, 2.0]
    assert {(offer.provider, offer.region, offer.zone, offer.gpu, offer.gpu_count) for offer in offers} == {
        ("aws", "us-west-2", "z1", "A10G", 1)
    }


def test_speed_is_one_without_a_column_and_a_region_stands_for_its_zone(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(HEADER.replace(",speed_ratio", "") + "lambda,us-east-1,,a10,A10,1,30,200,1.29,\n")

    (offer,), problems = read_offers(path)

    assert (offer.id, offer.zone, offer.speed_ratio, problems) == ("a10/us-east-1/on_demand", "us-east-1", 1.0, ())


@pytest.mark.parametrize("price", ["-1", "0", "nan", "inf", "cheap", "1000.01", "1_0", "$1"])
def test_an_unknown_or_absurd_price_fails_closed_and_leaves_the_other_offer_alone(price: str, tmp_path: Path) -> None:
    offers, (problem,) = read_offers(listed(tmp_path, row("1.0", price), row("2.0", zone="z2")))

    assert [offer.id for offer in offers] == ["g5/z1/on_demand", "g5/z2/on_demand"]
    assert (problem.row, problem.offer_id, problem.column) == (2, "g5/z1/spot", "spot_usd_per_hour")
    assert repr(price) in problem.why and not problem.sound


@pytest.mark.parametrize(
    ("bad", "column", "words"),
    [
        (row(""), "on_demand_usd_per_hour", "no price"),
        (row(gpus="8"), "gpu_count", "8 GPUs; only instances with one GPU"),
        (row(gpus="0"), "gpu_count", "no number of GPUs"),
        (row(gpus="0.5"), "gpu_count", "no number of GPUs"),
        (row(gpus=""), "gpu_count", "no number of GPUs"),
        (row(speed="0"), "speed_ratio", "not above 0"),
        (row(speed="-2"), "speed_ratio", "not above 0"),
        (row(speed="fast"), "speed_ratio", "not above 0"),
        (row(kind=""), "instance_type", "no instance type"),
        ("x,,,g5,A10G,1,,,1,,\n", "zone", "neither a zone nor a region"),
    ],
)
def test_a_row_that_can_not_be_used_says_why(bad: str, column: str, words: str, tmp_path: Path) -> None:
    offers, (problem,) = read_offers(listed(tmp_path, row(zone="ok"), bad))

    assert [offer.id for offer in offers] == ["g5/ok/on_demand"]
    assert (problem.row, problem.column) == (3, column)
    assert words in str(problem)
    assert problem.sound == (problem.why.startswith("it has 8 GPUs"))


def test_an_offer_listed_twice_has_no_known_price(tmp_path: Path) -> None:
    offers, problems = read_offers(listed(tmp_path, row("1.0", "0.4"), row("2.0")))

    assert [offer.id for offer in offers] == ["g5/z1/spot"]
    assert [problem.row for problem in problems] == [2, 3]
    assert all("more than once" in problem.why for problem in problems)


@pytest.mark.parametrize("price", ["150", "0.009"])
def test_a_price_a_hundred_times_or_a_hundredth_of_its_like_is_not_used(price: str, tmp_path: Path) -> None:
    like = [row("1.0", zone=f"z{i}") for i in range(3)]
    offers, (problem,) = read_offers(listed(tmp_path, *like, row(price, zone="odd")))

    assert len(offers) == 3
    assert (problem.offer_id, problem.column) == ("g5/odd/on_demand", "on_demand_usd_per_hour")
    assert "times the median" in problem.why


def test_nodes_of_several_gpus_are_read_whole_where_they_are_asked_for(tmp_path: Path) -> None:
    (offer,), problems = read_offers(listed(tmp_path, row("8.0", gpus="8")), whole_nodes=True)

    assert not problems
    assert (offer.gpu_count, offer.price_usd_per_hour, offer.usd_per_speed_hour) == (8, 8.0, 1.0)


def test_the_shipped_headline_offers_are_all_usable() -> None:
    offers, problems = read_offers(DATA / "prices/headline_offers.csv")

    assert not problems
    assert sorted({offer.zone for offer in offers if offer.market is Market.SPOT}) == [
        "usw2-az1",
        "usw2-az2",
        "usw2-az3",
    ]
    assert {offer.price_usd_per_hour for offer in offers if offer.market is Market.SPOT} == {0.43}
    (fast,) = [offer for offer in offers if offer.gpu == "L40S"]
    assert (fast.id, fast.usd_per_speed_hour) == ("g6e.xlarge/usw2-az1/on_demand", 0.9305)


def test_the_shipped_catalogue_leaves_out_only_nodes_of_several_gpus() -> None:
    offers, problems = read_offers(DATA / "prices/gpu_offers.csv")

    assert (len(offers), len(problems)) == (164, 25)
    assert all(problem.sound for problem in problems)
