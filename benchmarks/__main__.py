"""`make bench`: every benchmark, the quick ones first. Each rewrites its own section of docs/benchmarks.md."""

from benchmarks import (
    closed_loop,
    first_paint,
    forecast_scale,
    forecast_signals,
    forecasting,
    planning,
    simulation,
    tick,
)

for module in (simulation, tick, planning, first_paint, forecasting, forecast_signals, forecast_scale, closed_loop):
    print(f"\n== {module.__name__} ==", flush=True)
    module.main([])
