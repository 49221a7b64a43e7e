"""The simulated cluster under the contract of every backend."""

from pathlib import Path

import pytest

from controller.backends.simulated.cluster import SimulatedCluster
from controller.backends.simulated.jobs import JobsSim
from tests.backends.contract import BackendContract, Bench
from tests.backends.small_world import COLD_S, OFFERS, ON_DEMAND, SPOT_2, T0, arrivals, cluster, zone

ZONES = {"z2": zone((0, 0))}


def bench_of(simulated: SimulatedCluster, file: Path) -> Bench:
    def occupy(count: int, work_s: float) -> None:
        since_s = simulated.engine.now_s - T0
        simulated.engine.expect(arrivals(*((since_s, work_s, 1) for _ in range(count))))

    def reopen() -> Bench:
        again = cluster(ZONES, jobs=JobsSim(OFFERS, T0))
        assert again.restore(file)
        again.keep_in(file)
        return bench_of(again, file)

    return Bench(
        backend=simulated,
        telemetry=simulated,
        service="images",
        offer=ON_DEMAND.id,
        sold_out=SPOT_2.id,
        cold_s=COLD_S,
        occupy=occupy,
        wait=lambda seconds: simulated.advance(simulated.engine.now_s + seconds),
        now_s=lambda: simulated.engine.now_s,
        reopen=reopen,
    )


class TestSimulated(BackendContract):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Bench:
        simulated = cluster(ZONES, jobs=JobsSim(OFFERS, T0))
        simulated.keep_in(tmp_path / "cluster.npz")
        return bench_of(simulated, tmp_path / "cluster.npz")
