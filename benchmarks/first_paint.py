"""How long a person waits for the dashboard: the running product in headless Chromium, a new session each time."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter, sleep

from benchmarks.report import table, write_section

LOADS = 7
_CHROMIUM_ARGS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def product() -> Iterator[str]:
    """Heddle as `make run` starts it, with two simulated hours before its start; yields the dashboard's address."""
    with tempfile.TemporaryDirectory() as folder:
        ports = _free_port(), _free_port()
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HEDDLE_")},
            "HEDDLE_API_PORT": str(ports[0]),
            "HEDDLE_DASHBOARD_PORT": str(ports[1]),
            "HEDDLE_STATE_DIR": folder,
            "HEDDLE_DATABASE_URL": f"sqlite:///{folder}/heddle.db",
            "HEDDLE_WARMUP_HOURS": "2",
        }
        root = Path(__file__).parent.parent
        command = [sys.executable, "-m", "controller", "up"]
        process = subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            _wait(f"http://127.0.0.1:{ports[0]}/readyz", process)
            yield f"http://127.0.0.1:{ports[1]}"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def _wait(url: str, process: "subprocess.Popen[bytes]", patience_s: float = 300.0) -> None:
    began = monotonic()
    while monotonic() - began < patience_s:
        if process.poll() is not None:
            raise RuntimeError(f"the product ended with {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            sleep(0.3)
    raise TimeoutError(f"{url} did not answer within {patience_s:.0f} s")


def measure(url: str) -> tuple[list[float], list[float]]:
    """Seconds to the first contentful paint, and until the Fleet page's chart is drawn, of LOADS new sessions."""
    from playwright.sync_api import sync_playwright

    paints, charts = [], []
    with sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("HEDDLE_CHROMIUM") or found, args=_CHROMIUM_ARGS
        )
        for _ in range(LOADS + 1):
            page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
            began = perf_counter()
            page.goto(url)
            page.wait_for_selector(".js-plotly-plot .main-svg", timeout=60_000)
            charts.append(perf_counter() - began)
            script = "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"
            paints.append(float(page.evaluate(script)))
            page.close()
        browser.close()
    # The first load warms the server's caches, which every later one finds.
    return paints[1:], charts[1:]


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print, and rewrite this section."""
    with product() as url:
        paints, charts = measure(url)
    rows = [
        [name, f"{min(seconds):.1f} s", f"{median(seconds):.1f} s", f"{max(seconds):.1f} s"]
        for name, seconds in (("first contentful paint", paints), ("Fleet's chart drawn", charts))
    ]
    text = table(["of a new session", "fastest", "median", "slowest"], rows)
    text += f"\n\n{LOADS} new sessions, headless Chromium on the same machine, the demonstration running at speed 60."
    print(text)
    write_section("first-paint", "First paint of the dashboard", "python -m benchmarks.first_paint", text)


if __name__ == "__main__":
    main()
