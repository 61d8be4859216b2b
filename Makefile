# make demo | test | test-fast | bench | gpu-check | lint | install | doctor. Each sets up .venv itself; a second time that is instant.
SHELL := /bin/bash
PY := .venv/bin/python
STAMP := .venv/.installed
# the environment of test-fast, without torch: any Python from 3.10 to 3.13
FAST := .venv-fast/.installed
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# DATA=DIR: a DOTA-layout folder (train/ and val/, each with images/ and labelTxt/) instead of generated scenes
DATA ?=
WORK ?= work_dirs/demo
# INIT=FILE: start weights, a published LSKNet backbone or a detector, whose width the demo's network then gets;
# MINUTES=N: how long the demo may train
INIT ?=
MINUTES ?=
# processes that share the tests; each takes about a gigabyte
JOBS ?= 2
TESTS = $(PY) -m pytest -n $(JOBS) --dist loadfile --durations 20 --durations-min 20
# of gpu-check: cuda, or cpu for a rehearsal
DEVICE ?= cuda

.PHONY: install demo test test-all test-fast bench gpu-check lint doctor clean help
help:
	@echo "make demo [DATA=DIR] [INIT=FILE] [MINUTES=N]   data -> patches -> train -> test -> merge -> submission -> mAP and a picture, under $(WORK)"
	@echo "make test              set up and run every test; of the configs, one of each family is trained"
	@echo "make test-all          the same with every config"
	@echo "make test-fast         only what needs no torch, in an environment of its own (.venv-fast): about a minute"
	@echo "make bench             speed, as ratios against the plain or the peer's way, measured side by side"
	@echo "make gpu-check [DEVICE=cpu]  everything that only a GPU can show, in at most 8 minutes (docs/gpu.md); cpu rehearses it"
	@echo "make lint              ruff and mypy"
	@echo "make install | doctor  build .venv | show what is installed and check that its ops compute the right values"

install: $(STAMP)
$(STAMP): requirements.txt pyproject.toml setup.py tools/install.sh $(wildcard fdam_rotate/models/layers/cpu/*.cpp fdam_rotate/models/layers/cpu/*.h)
	@$(if $(filter command line environment,$(origin PYTHON)),PYTHON=$(PYTHON)) tools/install.sh

demo: $(STAMP)
	@$(PY) tools/demo.py --overwrite --work-dir $(WORK) $(if $(DATA),--data $(DATA)) $(if $(INIT),--init $(INIT)) $(if $(MINUTES),--minutes $(MINUTES))

test: $(STAMP)
	$(TESTS) -m "not every_config"

test-all: $(STAMP)
	$(TESTS)

test-fast: $(FAST)
	.venv-fast/bin/python -m pytest -n $(JOBS) -m "not slow" tests/dota tests/test_floors.py
$(FAST): pyproject.toml
	$(PYTHON) -m venv .venv-fast
	.venv-fast/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

bench: $(STAMP)
	@for script in tools/bench/*.py; do echo; echo "== $$script"; $(PY) $$script || exit 1; done

gpu-check: $(STAMP)
	@$(PY) tools/gpu_check.py --device $(DEVICE) --out work_dirs/gpu_check --overwrite

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy fdam_rotate

doctor: $(STAMP)
	@$(PY) tools/doctor.py

# never work_dirs, where trainings are
clean:
	rm -rf .venv-fast .pytest_cache .mypy_cache .ruff_cache .hypothesis
