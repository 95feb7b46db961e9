# Every target sets up .venv once. Nothing is installed globally.
#
#   make demo   compare the methods on the embedded sample: a table, demo/compare.json and demo/compare.png
#   make test   lint, types, import rules and all tests
#   make lint   the first three of them
#   make pytest the tests alone
#   make docs   build the pages as a site, build/docs/index.html
#   make ray    install Ray Serve and Ray Data, for several machines and for their tests
#   make lock   resolve the dependencies of pyproject.toml again
#   make dist   build dist/: wheel, source archive, and the bill of materials of all locked packages

PYTHON ?= python3
BIN := .venv/bin
# `make demo` installs a part of what `make test` installs.
DEMO_READY := .venv/.ready-demo
READY := .venv/.ready
# Number of processes that run tests. `make test WORKERS=0` runs them in one. One more than there are cores: many tests wait
# for a service.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')

.PHONY: demo test pytest lint docs ray lock dist clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

demo: $(DEMO_READY)
	$(BIN)/mri-recon demo

test: lint pytest

pytest: $(READY)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

# $(call install,LOCK FILE) makes .venv and installs the lock file, torch and, in place, this package.
# torch is installed by itself, without hashes: see requirements-torch.lock. The lock file is complete, so --no-deps keeps pip
# from resolving torch again. The package is installed without a resolution and without a build environment, so that pip
# fetches nothing outside the lock files. --no-compile: pip would compile every module; Python compiles the imported ones.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mri-recon needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
		"Install one and name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --require-hashes -r $(1)
	$(BIN)/python -m pip install --quiet --no-compile -r requirements-torch.lock
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --no-build-isolation --editable .
endef

# The loops of compressed sensing are compiled here, so that the first reconstruction does not wait for them.
$(DEMO_READY): requirements-demo.lock requirements-torch.lock pyproject.toml
	$(call install,requirements-demo.lock)
	$(BIN)/python -m mri_recon.methods.compile_ahead
	@touch $@

# Compiling other packages may warn, and the tests turn warnings into errors: so compile them first, on all cores.
# Their own tests are left out. Templates that are not Python fail to compile, hence the leading dash.
$(READY): requirements.lock requirements-torch.lock pyproject.toml
	$(call install,requirements.lock)
	-@$(BIN)/python -W ignore -m compileall -qq -j 0 -x '/tests/' .venv/lib
	$(BIN)/python -m mri_recon.methods.compile_ahead
	@touch $(DEMO_READY) $@

# What is in no lock, of the versions that go with the locked ones.
define add
	sed -e 's/ *\\$$//' -e '/^ *--hash/d' requirements.lock > .venv/constraints.txt
	$(BIN)/python -m pip install --quiet --constraint .venv/constraints.txt $(1)
endef

docs: $(READY)
	$(call add,'sphinx>=8.2' 'pydata-sphinx-theme>=0.16' 'myst-nb>=1.3' 'sphinx-copybutton>=0.5')
	$(BIN)/python docs/site/build.py build/docs

# In a variable: a comma would end the argument of `call`.
RAY := 'ray[serve,data]>=2.50'

ray: $(READY)
	$(call add,$(RAY))

# uv resolves for every platform and Python version at once. Packages that only torch's GPU build needs come with torch.
# The demo's lock file takes its versions from requirements.lock.
UV := .venv/lock-tools/bin/uv
GPU_ONLY := cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc \
	nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse \
	nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx triton
UV_COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	$(foreach name,torch $(GPU_ONLY),--no-emit-package $(name)) --custom-compile-command 'make lock' pyproject.toml

$(UV):
	$(PYTHON) -m venv .venv/lock-tools
	.venv/lock-tools/bin/python -m pip install --quiet 'uv>=0.9'

lock: $(UV)
	$(UV_COMPILE) --extra dev --constraint requirements-torch.lock --output-file requirements.lock
	$(UV_COMPILE) --extra demo --constraint requirements-torch.lock --constraint requirements.lock \
		--output-file requirements-demo.lock

# The wheel's own bill, of what it bundles, is release/bundled.cdx.json. This one has the packages it is tested with, and their
# licences. The tool that makes it has an environment of its own.
CYCLONEDX := .venv/bill-tools/bin/cyclonedx-py

$(CYCLONEDX):
	$(PYTHON) -m venv .venv/bill-tools
	.venv/bill-tools/bin/python -m pip install --quiet 'cyclonedx-bom>=7'

dist: $(READY) $(CYCLONEDX)
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist
	$(CYCLONEDX) environment $(BIN)/python --pyproject pyproject.toml --PEP-639 --output-reproducible --of JSON \
		--output-file dist/packages.cdx.json

clean:
	rm -rf .venv demo dist build
