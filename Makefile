# Two commands on a fresh machine: make demo, make test.
PYTHON ?= python3
BIN = .venv/bin
INSTALLED = .venv/.installed

.PHONY: demo test bench calibrate clean

demo: $(INSTALLED)
	$(BIN)/specmeasure run prompts/ --out reports/demo --force

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto

bench: $(INSTALLED)
	$(BIN)/python benchmarks/loop.py

# Simulates the statistics again and rewrites docs/calibration.md.
calibrate: $(INSTALLED)
	$(BIN)/python -m calibration

# torch comes first, by its exact version, so that no other build of it is looked for.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25"
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable ".[dev]"
	touch $(INSTALLED)

clean:
	rm -rf .venv build dist *.egg-info reports/demo
