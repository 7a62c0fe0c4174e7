# make demo      set-up, then the whole pipeline on the bundled demo data
# make test      set-up, then lint, types and tests
# make readme    run the README's commands, after make demo
# make test-integration  set-up with servers and clusters, then the tests that start them
# make audit     which of the packages in use have known faults; a report, never a failure
# make rooms     draw the picture in docs/architecture.md again, after imports between rooms have changed
# make bench     set-up, then measure speed against what one would do otherwise (docs/benchmarks)
# make ui        browse and compare the runs in MLflow, on loopback
PYTHON ?= python3
WORK   ?= work
BENCH  ?=
BIN    := .venv/bin
# two processes, each with whole files, in the order that tests/conftest.py gives them
PYTEST := $(BIN)/pytest -n 2 --no-loadscope-reorder
READY  := .venv/.ready
READY_INTEGRATION := .venv/.ready-integration

# pip says nothing while it unpacks, which takes minutes. The one that says how far it is ends with this shell.
define INSTALL
@echo "installing into .venv (6 GB, once)"; \
{ while sleep 10 >/dev/null 2>&1 && kill -0 $$$$ 2>/dev/null; do \
    echo "installing into .venv: $$(du -sm .venv | cut -f1) MB"; \
  done; } & \
beat=$$!; trap "kill $$beat 2>/dev/null" EXIT INT TERM; \
$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
endef

# The demo and the tests must not phone home, whoever runs them.
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: setup demo test test-slow test-integration readme postgresql chromium audit rooms bench ui clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/dfer run demo

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	$(PYTEST)

test-slow: $(READY_INTEGRATION) postgresql
	$(BIN)/pytest -m slow

readme: $(READY)
	$(BIN)/python .ci/readme

test-integration: $(READY_INTEGRATION) postgresql chromium
	$(PYTEST) -m "integration and not slow"

$(READY_INTEGRATION): $(READY)
	$(INSTALL) '.[dev,integration]'
	touch $@

# The distribution's package; its own server, on port 5432, is neither needed nor touched.
postgresql:
	@if command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends postgresql; \
	else echo "PostgreSQL is needed: sudo apt-get install postgresql (or your distribution's package)" >&2; exit 1; fi

# The browser for the tests of pages.
chromium:
	@if command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium; \
	else echo "Chromium is needed: sudo apt-get install chromium (or your distribution's package)" >&2; exit 1; fi

audit: $(READY_INTEGRATION)
	$(BIN)/python .ci/audit

rooms: $(READY)
	$(BIN)/python docs/draw_rooms.py

bench: $(READY)
	$(BIN)/python -m benchmarks $(BENCH)

ui: $(READY)
	$(BIN)/mlflow ui --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///$(abspath $(WORK))/mlflow/mlflow.db

clean:
	rm -rf .venv
