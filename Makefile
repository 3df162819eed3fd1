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
.PHONY: help demo test check format lock docs bench-nights bench-quality bench-mixed bench-calibration bench-ablation bench-reasons bench-unseen bench-verdicts bench-speed bench-writers zoo bench-faults fuzz properties bench-outage bench-long audit sbom test-lowest

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(READY)  ## train on half a year of real flights, score the 31 nights of July
	@.venv/bin/vaewatch demo

test: $(READY) $(BENCH)  ## all tests, a file a core
	@$(PYTHON) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

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

bench-verdicts: $(BENCH)  ## whether verdicts on the top flags make unseen nights better: DATA=folder
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(PYTHON) -m benchmarks.verdicts $(if $(DATA),--data '$(DATA)') $(ARGS)

bench-ablation: $(BENCH)  ## the same of ours alone, each ingredient of the default taken away
	@$(PYTHON) -m benchmarks.ablation $(if $(DATA),--data '$(DATA)') $(ARGS)

bench-faults: $(BENCH)  ## stores and servers that fail, nights that stay whole, runs that heal them: TRIALS=20
	@$(PYTHON) -m benchmarks.faults $(if $(TRIALS),--trials '$(TRIALS)') $(ARGS)

fuzz: $(BENCH)  ## readers of strangers' files under fuzzing: SECONDS=60 for each
	@$(UV) pip install --quiet --python $(PYTHON) --constraint requirements.lock --editable '.[fuzz]'
	@$(PYTHON) -m benchmarks.fuzz $(if $(SECONDS),--seconds '$(SECONDS)') $(ARGS)

properties: $(READY)  ## properties of tables, nights and readers, looked for longer than the tests do
	@$(PYTHON) -m pytest tests/properties --hypothesis-profile=long --timeout=3600

bench-writers: $(READY)  ## verdicts of many people at once, on SQLite and on PostgreSQL
	@$(PYTHON) -m benchmarks.writers $(ARGS)

bench-nights: $(BENCH)  ## nights killed, raced and read while they are written, on files and on S3: TRIALS=200
	@$(PYTHON) -m benchmarks.nights $(if $(TRIALS),--trials '$(TRIALS)') $(ARGS)

zoo: $(READY)  ## difficult inputs through the nightly flow, and how it reacts: ZOO=folder with manifest.json
	@$(PYTHON) -m benchmarks.zoo $(if $(ZOO),--zoo '$(ZOO)') $(ARGS)

bench-outage: $(BENCH)  ## nights after all was down, with vaewatch up and with a worker: 20 minutes
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(PYTHON) -m benchmarks.outage $(ARGS)

bench-long: $(BENCH)  ## a year of nights in one process, then cold ones, then pruned: memory, files, growth
	@$(PYTHON) -m benchmarks.long $(ARGS)

# Tools of the supply chain are run from environments of their own: nothing of theirs is installed beside us.
PIP_AUDIT := pip-audit==2.10.1
CYCLONEDX := cyclonedx-bom==7.5.0
AUDIT := $(UV) tool run --quiet $(PIP_AUDIT) --strict --disable-pip --progress-spinner off --vulnerability-service $(or $(SERVICE),pypi)

audit: $(READY)  ## known vulnerabilities of what requirements.lock names, and of torch: SERVICE=pypi, osv or esms
	@echo '$(TORCH)' > .venv/torch.txt
	@$(AUDIT) --require-hashes --requirement requirements.lock && $(AUDIT) --no-deps --requirement .venv/torch.txt || \
		{ echo 'audit: no known vulnerability was required of any package, however one has some, or the service'; \
		  echo 'could not tell: the lines above name it. Update it with `make lock`, or try SERVICE=osv.'; exit 1; }

sbom: $(READY)  ## what is installed at run time, extras s3, dask and review included, as CycloneDX: dist/vaewatch.cdx.json
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv/runtime
	@$(UV) pip install --quiet --python .venv/runtime/bin/python --constraint requirements.lock $(TORCH_BACKEND) $(TORCH) '.[s3,dask,review]'
	@mkdir -p dist
	@$(UV) tool run --quiet --from $(CYCLONEDX) cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file dist/vaewatch.cdx.json .venv/runtime/bin/python
	@$(PYTHON) -c "import json; print(len(json.load(open('dist/vaewatch.cdx.json'))['components']), 'components in dist/vaewatch.cdx.json')"

test-lowest: $(READY)  ## unit tests with the lowest versions that pyproject.toml allows, in .venv/lowest
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv/lowest
	@$(UV) pip install --quiet --python .venv/lowest/bin/python --resolution lowest-direct --editable '.[demo,dask,s3,review,dev]'
	@.venv/lowest/bin/python -m pytest tests/vae_core tests/flows tests/conformity -m 'not slow' $(ARGS)

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
