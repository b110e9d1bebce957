# Every target starts from a bare Python: it makes .venv, installs the package there once, and
# reuses it until setup.cfg or pyproject.toml changes or the clone is moved.
#   make demo      train, convert and evaluate a small network on real digits (minutes, no GPU)
#   make test      the test-suite without the slow tests, in two processes (PROCESSES=8 for more)
#   make test-all  the whole test-suite
#   make deploy-check  the simulators that exports go to: installs them, runs their tests
#   make lint      ruff, codespell, and mypy on the public surface
#   make clean     remove .venv, .deploy and caches; runs/ stays
# PYTHON=python3.12 make test chooses the interpreter that makes .venv.

PYTHON ?= python3
PROCESSES ?= 2
VENV := .venv
RUN := $(VENV)/bin/python
PLACE := $(shell pwd | cksum | cut -d ' ' -f 1)
STAMP := $(VENV)/.installed-$(PLACE)

.PHONY: setup demo test test-all deploy-check lint clean

setup: $(STAMP)

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "spikeswap needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; say PYTHON=python3.12 make ...")'
	@echo 'setting up $(VENV): PyTorch is large, this takes minutes the first time'
	$(PYTHON) -m venv $(VENV)
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(RUN) -m pip install --quiet -e '.[dev]'
	touch $@

# A fresh output folder: no older run can be taken by mistake. One thread: on tensors as small as
# these, two take longer.
demo: $(STAMP)
	@set -eu; \
	export OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1}; \
	mkdir -p runs; \
	out=$$(mktemp -d runs/demo-$$(date +%Y%m%d-%H%M%S)-XXXX); \
	$(RUN) tools/train_qcfs.py --cfg swin_nano_bn.yaml --output "$$out"; \
	run=$$(dirname "$$(ls -d "$$out"/*/config.yaml | grep -v '/latest/')"); \
	$(RUN) tools/convert.py --run "$$run" --T 128 --mask 0.75; \
	$(RUN) tools/eval.py --run "$$run"; \
	echo "report: $$run/report.html"

# Files stay whole: the tests of some add up what the others of the file found.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(RUN) -m pytest -m "not slow" -n $(PROCESSES) --dist loadfile

test-all: $(STAMP)
	$(RUN) -m pytest

# sinabs needs an older nir than the others: it gets an environment that sees the rest of this one.
deploy-check: $(STAMP)
	$(RUN) -m pip install --quiet -e '.[deploy]'
	$(PYTHON) -m venv .deploy/sinabs
	.deploy/sinabs/bin/python -c 'import pathlib, site; \
	pathlib.Path(site.getsitepackages()[0], "spikeswap_packages.pth").write_text("'"$$($(RUN) -c 'import site; print(site.getsitepackages()[0])')"'\n")'
	.deploy/sinabs/bin/python -m pip install --quiet sinabs
	$(RUN) -m pytest tests/export

lint: $(STAMP)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/codespell
	mkdir -p $(VENV)/typing && ln -sfn "$(CURDIR)" $(VENV)/typing/spikeswap
	cd $(VENV)/typing && MYPYPATH=. ../bin/python -m mypy --config-file ../../setup.cfg spikeswap/tests/public_surface.py

clean:
	rm -rf $(VENV) .deploy build dist *.egg-info .pytest_cache .ruff_cache
