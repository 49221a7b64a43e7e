"""Pipeline documents: read whole with what they name, or refused with the field."""

from pathlib import Path

import numpy as np
import pytest

from controller.core.stages import Pipeline
from controller.sources.base import InputError
from controller.sources.offers import read_offers
from controller.sources.pipelines import read_pipeline
from models.enums import Market, ServiceClass

DATA = Path(__file__).parents[2] / "data"
HEADER = (
    "provider,region,zone,instance_type,gpu,gpu_count,"
    "on_demand_usd_per_hour,spot_usd_per_hour,serverless_usd_per_hour\n"
)
PRICES = HEADER + "p,r,z,gpu1,A10G,1,,,1.5\np,r,z,gpu2,A10G,1,1.0,0.4,\np,r,z,cpu,,0,0.08,0.03,\n"
DOCUMENT = """\
name: small
stages:
  images:    {class: inference, wait_share: 0.5}
  rendering: {class: rendering, wait_share: 0.4, work_s: 1, work_ratio: 0.5, boot_s: 5, load_s: 4, offers: prices.csv}
  delivery:  {class: delivery, wait_share: 0.1, work_s: 0.5, boot_s: 60, load_s: 1, offers: prices.csv}
batch:
  night: {items: 10, work_s: 60, at_hour: 1, deadline_h: 4, boot_s: 180, load_s: 20, offers: prices.csv}
"""


def read(folder: Path, document: str = DOCUMENT) -> Pipeline:
    (folder / "prices.csv").write_text(PRICES)
    (folder / "pipeline.yaml").write_text(document)
    offers, _ = read_offers(DATA / "prices/headline_offers.csv")
    return read_pipeline(folder / "pipeline.yaml", offers=offers, boot_s=180.0, load_times_s=np.array([20.0]))


def test_a_document_gives_its_services_in_order(tmp_path: Path) -> None:
    pipeline = read(tmp_path)
    assert [(stage.service, stage.service_class) for stage in pipeline.stages] == [
        ("images", ServiceClass.INFERENCE), ("rendering", ServiceClass.RENDERING), ("delivery", ServiceClass.DELIVERY),
    ]  # fmt: skip
    first, second, third = pipeline.stages
    assert (first.work_s, first.work_ratio, first.boot_s) == (0.0, 1.0, 180.0)
    assert [offer.market for offer in second.offers if offer.instance_type == "gpu1"] == [Market.SERVERLESS]
    assert second.load_times_s.tolist() == [4.0]
    assert {offer.gpu_count for offer in third.offers if offer.instance_type == "cpu"} == {0}
    assert all(offer.instance_type != "cpu" for offer in second.offers)
    (night,) = pipeline.batch
    assert (night.items, night.deadline_s) == (10, 4 * 3600)


def test_the_pipeline_that_comes_with_heddle_can_be_read() -> None:
    offers, _ = read_offers(DATA / "prices/headline_offers.csv")
    path = DATA / "pipelines/pattern.yaml"
    pipeline = read_pipeline(path, offers=offers, boot_s=180.0, load_times_s=np.array([20.0]))
    assert sum(stage.wait_share for stage in pipeline.stages) == pytest.approx(1)
    assert len(pipeline.stages[1].load_times_s) > 1000


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("wait_share: 0.5", "wait_share: 0.6", "sum to 1"),
        ("class: rendering", "class: painting", "painting"),
        ("class: delivery", "class: batch", "batch"),
        ("work_s: 0.5, ", "", "delivery.work_s"),
        ("boot_s: 5,", "boots: 5,", "boots"),
        ("boot_s: 5,", "boot_s: -5,", "rendering.boot_s"),
        ("boot_s: 5,", "boot_s: .nan,", "rendering.boot_s"),
        ("load_s: 1, offers: prices.csv", "load_s: 1", "delivery.offers"),
        ("offers: prices.csv}\nbatch", "offers: missing.csv}\nbatch", "missing.csv"),
        ("night:", "images:", "same name"),
        ("name: small\n", "", "pipeline.name"),
        ("items: 10", "items: many", "night.items"),
        ("boot_s: 180, load_s: 20", "boot_s: 180", "night.load_s"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        read(tmp_path, DOCUMENT.replace(old, new, 1))
    assert words in str(refused.value)


def test_a_single_stage_or_no_yaml_is_no_chain(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two stages"):
        read(tmp_path, "name: a\nstages: {images: {class: inference, wait_share: 1}}\n")
    for text in ("[1, 2]", "name: [", "plain"):
        with pytest.raises(InputError):
            read(tmp_path, text)


def test_a_stage_without_an_offer_of_its_market_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spot.csv").write_text(HEADER + "p,r,z,cpu,,0,,0.03,\n")
    with pytest.raises(InputError, match="on_demand"):
        read(tmp_path, DOCUMENT.replace("load_s: 1, offers: prices.csv", "load_s: 1, offers: spot.csv"))
