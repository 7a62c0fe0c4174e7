# make demo      set-up, then the whole pipeline on the bundled demo data
# make test      set-up, then lint, types and tests
# make bench     set-up, then measure speed against what one would do otherwise (docs/benchmarks)
# make ui        browse and compare the runs in MLflow, on loopback
PYTHON ?= python3
WORK   ?= work
BENCH  ?=
BIN    := .venv/bin
READY  := .venv/.ready

# The demo and the tests must not phone home, whoever runs them.
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: setup demo test test-slow bench ui clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/dfer run demo

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

test-slow: $(READY)
	$(BIN)/pytest -m slow

bench: $(READY)
	$(BIN)/python -m benchmarks $(BENCH)

ui: $(READY)
	$(BIN)/mlflow ui --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///$(abspath $(WORK))/mlflow/mlflow.db

clean:
	rm -rf .venv
