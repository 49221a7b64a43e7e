# Heddle from a clone. Needs: Linux or macOS, make, Python 3.11 to 3.13. `make run` and `make test` do the rest.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
# Arguments for pytest, for example: make test PYTEST_ARGS="-k lease"
PYTEST_ARGS ?=

# A stamp a set of pins: changed pins reinstall, unchanged ones cost nothing and need no network.
RUN_PINS := $(shell cat requirements.txt constraints.txt | cksum | tr ' ' '-')
DEV_PINS := $(shell cat requirements.txt requirements-dask.txt requirements-dev.txt constraints.txt | cksum | tr ' ' '-')
RUN_READY := .venv/.run-$(RUN_PINS)
DEV_READY := .venv/.dev-$(DEV_PINS)
LSTM_READY := .venv/.lstm-$(shell cat requirements-lstm.txt | cksum | tr ' ' '-')
# An environment whose Python is gone (an upgrade, another machine) is built anew.
ifneq ($(shell $(PY) -c "print(1)" 2>/dev/null),1)
.PHONY: $(RUN_READY) $(DEV_READY) $(LSTM_READY)
endif

PIP := $(PY) -m pip --disable-pip-version-check --require-virtualenv

.PHONY: help setup run test lstm test-lstm lint bench bench-forecast bench-closed-loop screenshots clean

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  Settings are HEDDLE_* variables: docs/configuration.md"

setup: $(DEV_READY) ## Set up everything: to run, to test and to lint
	@echo "Set up in .venv: make run, make test, make lint."

run: $(RUN_READY) ## Start the controller and the dashboard; Ctrl-C stops both
	@$(PY) -m controller up

test: $(DEV_READY) ## Run all tests
	@$(PY) -m pytest $(PYTEST_ARGS)

lstm: $(LSTM_READY) ## Add PyTorch, for the LSTM among the forecasts
	@echo "PyTorch is in .venv: the LSTM competes from the next start on."

test-lstm: $(DEV_READY) $(LSTM_READY) ## Run the tests that need PyTorch
	@$(PY) -m pytest tests/lstm tests/core/forecast/test_lstm.py $(PYTEST_ARGS)

lint: $(DEV_READY) ## Check style, types and who imports whom
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) .venv/bin/lint-imports

bench: $(DEV_READY) ## Measure; rewrites docs/benchmarks.md
	@$(PY) -m benchmarks

bench-forecast: $(DEV_READY) ## Measure the forecasts alone
	@for part in forecasting forecast_signals forecast_scale; do $(PY) -m benchmarks.$$part || exit 1; done

bench-closed-loop: $(DEV_READY) ## Measure the policies side by side: hours; see its --help for parts of it
	@$(PY) -m benchmarks.closed_loop

screenshots: $(DEV_READY) ## Rewrite docs/screenshots from the running product (needs Chromium)
	@$(PY) -m tests.browser.screenshots

clean: ## Remove caches and logs; the database and the environment stay
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache var/log
	@find . -path ./.venv -prune -o -path ./.git -prune -o -type d -name __pycache__ -print0 | xargs -0 rm -rf

$(RUN_READY):
	@.ci/python-for-venv .venv
	@echo "Installing what Heddle needs: about 260 MB to download, 1.2 GB on disk. Only the first time."
	@$(PIP) install --requirement requirements.txt
	@rm -f .venv/.run-* && touch $@

$(DEV_READY): $(RUN_READY)
	@echo "Installing what tests and lint need: about 90 MB to download, 0.3 GB on disk. Only the first time."
	@$(PIP) install --requirement requirements-dev.txt
	@rm -f .venv/.dev-* && touch $@

$(LSTM_READY): $(RUN_READY)
	@echo "Installing PyTorch for the CPU: about 200 MB to download, 0.8 GB on disk. Only the first time."
	@$(PIP) install --requirement requirements-lstm.txt
	@rm -f .venv/.lstm-* && touch $@
