# Every target sets up what it needs in .venv, once: nothing is installed globally.
#
#   make demo   compare the methods on the embedded sample: a table, demo/compare.json and demo/compare.png
#   make test   lint, types, import rules and all tests
#   make lint   the first three of them
#   make pytest the last of them
#   make ray    add Ray Serve, for the service on several machines, and so its test
#   make lock   resolve the dependencies of pyproject.toml again

PYTHON ?= python3
BIN := .venv/bin
# `make demo` installs what the demo needs, a part of what `make test` installs.
DEMO_READY := .venv/.ready-demo
READY := .venv/.ready
# Processes that run tests side by side. `make test WORKERS=0` runs them in one.
WORKERS ?= auto

.PHONY: demo test pytest lint ray lock clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

demo: $(DEMO_READY)
	@mkdir -p demo
	$(BIN)/mri-recon compare "$$($(BIN)/mri-recon data sample)" --acceleration 4 \
		--methods zero-filled,cs-wavelet,unet,unrolled --json demo/compare.json --figure demo/compare.png
	@echo
	@echo "The picture is demo/compare.png, the numbers are in demo/compare.json (simulated sample, one mask: a demo, not a result)."
	@echo "To serve reconstructions over HTTP:  $(BIN)/mri-recon serve   then open http://127.0.0.1:8000"

test: lint pytest

pytest: $(READY)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

# $(call install,LOCK FILE) makes .venv and installs the lock file, torch and, in place, this package.
# torch goes by itself, without hashes: see requirements-torch.lock. Others depend on it, so the lock, which is complete, is
# taken as it is, without a resolution that would look for torch. The package is installed without a second resolution and
# without a build environment of its own, so that nothing outside the lock files is fetched. pip would compile every module,
# one after the other; Python compiles those that are imported.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mri-recon needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
		"Install one and name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --require-hashes -r $(1)
	$(BIN)/python -m pip install --quiet --no-compile -r requirements-torch.lock
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --no-build-isolation --editable .
endef

$(DEMO_READY): requirements-demo.lock requirements-torch.lock pyproject.toml
	$(call install,requirements-demo.lock)
	@touch $@

# The tests turn warnings into errors, and compiling other people's modules may warn: it is done before, on all cores.
# Templates that are no Python cannot be compiled, and need not be.
$(READY): requirements.lock requirements-torch.lock pyproject.toml
	$(call install,requirements.lock)
	-@$(BIN)/python -W ignore -m compileall -qq -j 0 .venv/lib
	@touch $(DEMO_READY) $@

ray: $(READY)
	sed -e 's/ *\\$$//' -e '/^ *--hash/d' requirements.lock > .venv/constraints.txt
	$(BIN)/python -m pip install --quiet --constraint .venv/constraints.txt 'ray[serve]>=2.50'

# uv resolves for every platform and Python at once; what only torch's GPU build needs comes with torch itself.
# The demo's lock takes its versions from the other one.
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

clean:
	rm -rf .venv demo dist build
