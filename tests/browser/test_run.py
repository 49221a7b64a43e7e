"""What `make run` does around the pages: refusals, a restart, the death of a process."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Page, expect

from tests.browser.product import ROOT, STOP_S, Product, family_of, running, wait_for, wait_gone
from tests.browser.room import Room


def moment_of(written: str) -> datetime:
    return datetime.fromisoformat(written)


def test_a_busy_port_is_refused_in_one_line_with_the_variable(tmp_path: Path):
    product = Product(tmp_path / "busy", warmup_hours=0)
    with socket.socket() as other:
        other.bind(("127.0.0.1", product.dashboard_port))
        other.listen()
        product.start()
        assert product.wait_exit() == 2
    lines = product.said.splitlines()
    assert len(lines) == 1, lines
    assert str(product.dashboard_port) in lines[0]
    assert "HEDDLE_DASHBOARD_PORT=" in lines[0]
    assert not (tmp_path / "busy" / "heddle.db").exists(), "nothing was begun"


def test_a_restart_on_the_same_database_goes_on_where_it_stopped(tmp_path: Path):
    with running(tmp_path / "again", warmup_hours=1) as product:
        envelope = product.api("/v1/envelopes")["items"][0]
        asked = {
            "document": envelope["document"] | {"spend_cap_usd_per_hour": 47},
            "base_version": envelope["version"],
            "author": "ada",
            "reason": "kept over a restart",
        }
        product.api("/v1/envelopes", asked)
        wait_for(lambda: product.api("/v1/envelopes")["items"][0]["version"] == 2, "version 2")
        newest_plan = product.api("/v1/plans?limit=1")["items"][0]
        earlier = f"/v1/plans?before={quote(newest_plan['made_at'])}"
        plans = [plan["id"] for plan in product.api(earlier)["items"]]
        assert plans
        assert product.stop() == 0, product.said

        product.start()
        product.wait_ready()
        # What it takes to start is not simulated afterwards: time goes on where it stopped, as the ledger tells.
        told = [(entry["what"], moment_of(entry["at"])) for entry in product.api("/v1/ledger?kind=controller")["items"]]
        going_on = next(at for what, at in told if what == "Started, epoch 2")
        stopped_at = next(at for what, at in told if what == "Stopped")
        assert abs(going_on - stopped_at) < timedelta(minutes=5)
        newest = product.api("/v1/envelopes")["items"][0]
        assert (newest["version"], newest["document"]["spend_cap_usd_per_hour"]) == (2, 47)
        assert "simulating" not in product.log("controller").lower(), "no second warm-up"
        assert [plan["id"] for plan in product.api(earlier)["items"]] == plans
        assert product.api("/v1/status")["epoch"] == 2
        wait_for(lambda: moment_of(product.api("/v1/status")["tick_at"]) > stopped_at, "ticks after the restart")


def test_a_dead_controller_is_said_by_the_launcher_and_on_the_page(new_page: Callable[..., Page], tmp_path: Path):
    product = Product(tmp_path / "dies", warmup_hours=0)
    product.start()
    try:
        product.wait_ready()
        wait_for(lambda: product.api("/v1/status")["tick_at"], "a tick")
        family = family_of(product.process.pid if product.process else 0)
        os.kill(product.child("controller run"), signal.SIGKILL)
        assert product.wait_exit() == 1
        assert "The controller was ended by SIGKILL. Stopping the rest." in product.said
        assert "Its last lines (" in product.said
        last = [line.strip() for line in product.log("controller").splitlines()][-1]
        assert product.said.rstrip().endswith(last)
        wait_gone(family)
    finally:
        product.kill()

    # The dashboard by itself, as docs/operations.md starts it.
    command = [sys.executable, "-m", "streamlit", "run", "dashboard/app.py", "--server.address=127.0.0.1"]
    with (tmp_path / "dashboard.log").open("wb") as log:
        dashboard = subprocess.Popen(
            [*command, f"--server.port={product.dashboard_port}"],
            cwd=ROOT,
            env=product.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(lambda: _answers(product.dashboard_port), "the dashboard by itself")
        room = Room(new_page(), product.url).enter("Fleet")
        banner = room.page.locator(".hd-banner.breached")
        expect(banner).to_contain_text("The controller has not reported")
        expect(banner).to_contain_text("Replicas stay as they are")
        expect(room.strip).to_contain_text(re.compile("Stale|Breached"))  # what was broken stays so
        room.row_with("Replicas per offer: ready of desired, busy share and cost", Offer="g5.xlarge")
        room.page.close()  # before its server goes, of which it would complain
    finally:
        dashboard.send_signal(signal.SIGINT)
        try:
            dashboard.wait(STOP_S)
        finally:
            dashboard.kill()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
