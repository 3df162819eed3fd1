# Everything that this project does, a target each. Needed: python3 (>= 3.11, with venv) and make.

TORCH := torch==2.13.0
PYTHON := .venv/bin/python
UV := .venv/bin/uv

# Torch has a CPU and a CUDA build under one name. Wheels that this machine offers to pip are offered to uv;
# elsewhere uv looks for a graphics card and takes the build that fits.
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS := $(PIP_FIND_LINKS)
else
TORCH_BACKEND := --torch-backend=auto
endif

# Where bytecode is not kept, each server compiles thousands of modules anew: 17 s to start one instead of 8.
unexport PYTHONDONTWRITEBYTECODE

# Material for MkDocs advertises its successor at every build.
export NO_MKDOCS_2_WARNING := 1

# An environment knows where it lies: a copied folder makes its own.
HERE := .venv/made-in-$(shell pwd | cksum | cut -d ' ' -f 1)
READY := .venv/ready
BENCH := .venv/ready-bench

.DELETE_ON_ERROR:
.PHONY: help demo test check format lock docs bench-nights bench-quality bench-mixed bench-calibration bench-ablation bench-reasons bench-unseen bench-speed

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(READY)  ## train on half a year of real flights, score the 31 nights of July
	@.venv/bin/vaewatch demo

test: $(READY) $(BENCH)  ## all tests
	@$(PYTHON) -m pytest

check: $(READY)  ## format, lint, strict types, import contracts, documentation
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy
	@.venv/bin/lint-imports --no-logo
	@$(PYTHON) -m mkdocs build --strict --quiet

format: $(READY)  ## write the format, mend what the linter can mend
	@$(PYTHON) -m ruff format .
	@$(PYTHON) -m ruff check --fix .

docs: $(READY)  ## show the documentation on http://127.0.0.1:8000
	@$(PYTHON) -m mkdocs serve

# Each takes DATA=folder and ARGS='…' (see --help of the module) and writes benchmarks/<name>.md.
bench-quality: $(BENCH)  ## detection quality on labelled tables, ours beside PyOD's detectors: DATA=folder
	@$(PYTHON) -m benchmarks.quality $(if $(DATA),--data '$(DATA)') $(ARGS)

bench-mixed: $(BENCH)  ## the same on tables of mixed types, ours beside one-hot peers
	@$(PYTHON) -m benchmarks.mixed $(if $(DATA),--data '$(DATA)') $(ARGS)

bench-calibration: $(BENCH)  ## p-values, false discoveries and certificates over simulated nights: DATA=folder
	@$(PYTHON) -m benchmarks.calibration $(if $(DATA),--data '$(DATA)') $(ARGS)

bench-reasons: $(BENCH)  ## whether reasons name the wrong cells, of dirty tables and of planted errors
	@$(PYTHON) -m benchmarks.reasons $(if $(DATA),--data '$(DATA)') $(ARGS)

bench-unseen: $(BENCH)  ## whether values never seen count, and are named as the reason
	@$(PYTHON) -m benchmarks.unseen $(if $(DATA),--data '$(DATA)') $(ARGS)

bench-speed: $(BENCH)  ## speed and memory beside floors and peers: ROWS=5000000
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(PYTHON) -m benchmarks.speed $(if $(ROWS),--rows '$(ROWS)') $(ARGS)

bench-ablation: $(BENCH)  ## the same of ours alone, each ingredient of the default taken away
	@$(PYTHON) -m benchmarks.ablation $(if $(DATA),--data '$(DATA)') $(ARGS)

bench-nights: $(BENCH)  ## nights killed, raced and read while they are written, on files and on S3: TRIALS=200
	@$(PYTHON) -m benchmarks.nights $(if $(TRIALS),--trials '$(TRIALS)') $(ARGS)

# Torch stays outside, and what only torch needs: which packages those are depends on its build.
lock: $(READY)  ## choose the newest versions that pyproject.toml allows
	@echo torch | $(UV) pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 \
		--extra demo --extra dask --extra s3 --extra review --extra docs --extra dev --excludes - \
		--generate-hashes --custom-compile-command 'make lock' --output-file requirements.lock

$(HERE):
	@python3 -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("Python 3.11 or newer is required, however python3 is %d.%d: put a newer one first on PATH." % v[:2])'
	@python3 -m venv --clear .venv
	@$(PYTHON) -m pip install -qq --disable-pip-version-check uv
	@touch $@

$(READY): $(HERE) pyproject.toml requirements.lock
	@echo 'Installing into .venv: the packages of requirements.lock, then $(TORCH).'
	@$(UV) pip install --quiet --python $(PYTHON) --no-deps --require-hashes --requirement requirements.lock
	@$(UV) pip install --quiet --python $(PYTHON) $(TORCH_BACKEND) $(TORCH)
	@$(UV) pip install --quiet --python $(PYTHON) --no-deps --editable .
	@touch $@

$(BENCH): $(READY)
	@$(UV) pip install --quiet --python $(PYTHON) --constraint requirements.lock --editable '.[bench]'
	@touch $@
