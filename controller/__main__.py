"""`python -m controller`: up | run | replay | import | migrate. Thin: it parses, wires and reports; exit 2 means
refused.
"""

import argparse
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from controller.api.server import PortBusy
from controller.core.envelope import EnvelopeError
from controller.importer import add_import_parser
from controller.lease import LeaseHeld
from controller.replay_policies import described
from controller.settings import SettingsError, load_settings
from controller.sources.base import InputError
from models.database import open_engine
from models.migrate import DatabaseRefused, migrate

REFUSED = 2


def _run(args: argparse.Namespace) -> int:
    from controller.process import Controller

    settings = load_settings()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    migrate(settings.database_url)
    controller = Controller(settings, open_engine(settings.database_url))
    _on_stop(lambda: controller.stop())
    return controller.run()


def _up(args: argparse.Namespace) -> int:
    from controller.launch import up

    return up(load_settings())


def _migrate(args: argparse.Namespace) -> int:
    done = migrate(load_settings().database_url)
    print(
        f"The database is at version {done.after}"
        + ("." if done.before == done.after else f", from {done.before or 'none'}.")
    )
    return 0


def _replay(args: argparse.Namespace) -> int:
    from controller.replay_command import run

    return run(args)


def _on_stop(stop: Callable[[], None]) -> None:
    def handle(signum: int, frame: FrameType | None) -> None:
        stop()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="python -m controller", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    for name, run, text in (
        ("up", _up, "start controller and dashboard together; what `make run` does"),
        ("run", _run, "the background process: forecast, plan, act, guard"),
        ("migrate", _migrate, "bring the database to this version"),
    ):
        commands.add_parser(name, help=text, description=text).set_defaults(run=run)
    replay = commands.add_parser(
        "replay",
        help="the same loop on a recorded trace, as fast as it can go",
        epilog=f"policies, as --policy NAME or NAME:PARAMETER=VALUE,…\n{described()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    replay.set_defaults(run=_replay)
    replay.add_argument("--requests", type=Path, required=True, help="CSV or CSV.gz of requests")
    replay.add_argument("--history", type=Path, help="requests before those of --requests, from another file")
    replay.add_argument("--from", dest="from_", metavar="TIME", help="a whole hour, UTC (default: the file's first)")
    replay.add_argument("--to", metavar="TIME", help="the end of the window (default: the hour after the last request)")
    replay.add_argument("--policy", default="heddle", help="a policy by name, with parameters if any: see below")
    replay.add_argument("--envelope", type=Path, required=True, help="YAML: tiers, targets, spend cap")
    replay.add_argument("--offers", type=Path, required=True, help="CSV of prices")
    replay.add_argument("--spot", type=Path, help="spot availability; without it spot is always available")
    replay.add_argument(
        "--spot-offset-ticks", type=int, default=0, help="the tick of each series that begins the window"
    )
    replay.add_argument("--spot-zones", default="", help="zone of the offers=zone of the series, comma between")
    replay.add_argument("--load-times", type=Path, help="measured model loads (default: those that come with Heddle)")
    replay.add_argument("--scale", type=int, default=1, help="copies of each request")
    replay.add_argument("--jitter-s", type=float, default=300.0, help="each copy arrives within ± this")
    replay.add_argument("--boot-s", type=float, default=180.0, help="seconds a replica boots before it loads its model")
    replay.add_argument("--seed", type=int, default=1)
    replay.add_argument("--out", type=Path, required=True, help="folder for summary.json, replicas.csv, requests.csv")
    add_import_parser(commands)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run a command; its exit status."""
    args = parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except (SettingsError, InputError, EnvelopeError, LeaseHeld, PortBusy, DatabaseRefused) as refusal:
        print(refusal, file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
