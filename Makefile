# `make run` and `make test` need Python 3.11 or newer and make; each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STORE := sqlite://$(CURDIR)/.run/stats.db

.PHONY: run demo test check torture bench audit counter clean

run: $(VENV)/run ## start the service with a demo site on http://localhost:8080/
	$(BIN)/statsvc site add localhost --alias 127.0.0.1 --time-zone Asia/Ho_Chi_Minh --exist-ok --store "$(STORE)"
	@echo "Open http://localhost:8080/ (metrics: http://localhost:8081/metrics). Ctrl-C stops."
	$(BIN)/statsvc serve --store "$(STORE)"

demo: $(VENV)/run ## play a day of made-up portals against what `make run` serves
	$(BIN)/statsvc demo --store "$(STORE)"

test: $(VENV)/dev ## run the tests
	$(BIN)/pytest

check: $(VENV)/dev ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

torture: $(VENV)/dev ## the long tests: hundreds of crashes, failing disks, damaged files, days that pass; prints the figures
	STATSVC_CRASH_ROUNDS=300 $(BIN)/pytest -s -m torture

bench: $(VENV)/dev ## how close to what the machine can do: docs/performance.md (15 minutes; best with wrk and nginx)
	$(BIN)/python -m bench

audit: $(VENV)/audit/bin/pip-audit ## are there known vulnerabilities in the pinned packages?
	$(VENV)/audit/bin/python .ci/audit

$(VENV)/audit/bin/pip-audit: $(VENV)/bin/python constraints.txt
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pip-audit
	touch $@

counter: $(VENV)/dev ## build counter.js from its sources (needs Node)
	$(BIN)/python statsvc/assets/build.py

clean: ## remove the environment and the demo's data
	rm -rf $(VENV) .run

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/run: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/run
