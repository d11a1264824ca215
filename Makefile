# Everything here needs Python 3.11 or newer, git and make; the rest is installed into .venv.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
DEMO_STAMP := $(VENV)/.demo-installed
DEV_STAMP := $(VENV)/.dev-installed
PROOF_VENV := .venv-proof
PROOF_STAMP := $(PROOF_VENV)/.installed
# For towers that are timm's, without the torchvision that it asks for and the proof has no need of.
TIMM := timm==1.0.31 pillow

.PHONY: help demo test check lint types smoke proof proof-real follow proof-targets proof-venv proof-dialects proof-dialects-venvs proof-remote sweep sweep-types oracle hostile canaries sarif page site fix-proof fix-readers callback-proof hooks bench bench-tools clean
help:
	@echo "make demo   set everything up and run the main job end to end against the sandbox"
	@echo "make test   set everything up and pass the tests"
	@echo "make check  lint, types and tests: what CI runs"
	@echo "make proof  prove the base model definitions against transformers (Python 3.11; installs torch)"
	@echo "make proof-real DIR=folder  the same for a folder of config.json files, each under the class that it names"
	@echo "make proof-targets  hold what is said of vLLM, SGLang, llama.cpp, MLX-LM and PEFT against their own code, on a CPU"
	@echo "make proof-dialects  the same for the names of transformers 5.23, 4.57 and 4.51, each in an environment of its own"
	@echo "make proof-remote  the same for types whose code is in their own repositories (fetches copies of it from PyPI)"
	@echo "make follow print what the newest transformers and PEFT have otherwise (as make proof)"
	@echo "make sweep  hold what is said of PEFT against PEFT itself (as make proof)"
	@echo "make sweep-types  check every config type that transformers has, in one environment with it (as make proof)"
	@echo "make oracle hold what is said to load against PEFT 0.15 to 0.21 (as make proof; installs several releases)"
	@echo "make hostile run hostile inputs through the command line, within bounds of time and memory"
	@echo "make page   look at the page of check --html in a real browser (needs Chromium)"
	@echo "make site   build the documentation site into build/site/html"
	@echo "make sarif  hold SARIF outputs against Microsoft's own validator (needs npm)"
	@echo "make canaries run the tests with a canary in every credential variable, and see none of them"
	@echo "make fix-proof  break adapters that PEFT wrote in every way that fix mends, and see them come back, in PEFT too (as make proof)"
	@echo "make fix-readers  see MLX-LM and vLLM read what fix writes, on a CPU (installs both)"
	@echo "make callback-proof  train a tiny model and see the Trainer callback catch saves that went wrong (as make proof)"
	@echo "make hooks  the real pre-commit installs and runs the hook, as it is committed (needs a package index)"
	@echo "make bench  print one table of what everything costs, beside the fastest peers (BENCH=--quick: small and short)"

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "lora-packer needs Python 3.11 or newer; none was found on PATH" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(DEMO_STAMP): $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[sandbox]'
	@$(BIN)/python -m compileall -q lora_packer
	@touch $@

$(DEV_STAMP): $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[sandbox,dev]'
	@# The vendor's SDK 3 for tests, where it does not hide the 2.42 of the dev extra, with which it shares the rest.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/together-3 together==3.1.1
	@$(BIN)/python -m compileall -q lora_packer
	@touch $@ $(DEMO_STAMP)

demo: $(DEMO_STAMP)
	@$(BIN)/python tools/demo.py

test: $(DEV_STAMP)
	$(BIN)/python -m pytest

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV_STAMP)
	$(BIN)/mypy

check: lint types test smoke

# The built wheel in an empty environment: with the newest dependencies, then with the oldest that are declared.
smoke: $(DEV_STAMP)
	@rm -rf build/smoke
	@$(BIN)/python -m build --wheel --outdir build/smoke . >/dev/null
	@$(BIN)/python tools/smoke.py build/smoke

$(PROOF_STAMP): pyproject.toml
	$(PYTHON) -m venv $(PROOF_VENV)
	$(PROOF_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[proof]'
	$(PROOF_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(TIMM)
	@touch $@

# Every definition of a base model against transformers itself; writes the table of supported types.
proof-venv: $(PROOF_STAMP)
proof: $(PROOF_STAMP)
	@$(PROOF_VENV)/bin/python tools/record_defaults.py --check
	@$(PROOF_VENV)/bin/python tools/record_tasks.py --check
	@$(PROOF_VENV)/bin/python tools/proof.py --write docs/supported-models.md

# Configs that somebody else wrote: which are exact, and how far the others get.
proof-real: $(PROOF_STAMP)
	@test -d "$(DIR)" || { echo "make proof-real DIR=folder: a folder of config.json files" >&2; exit 2; }
	@$(PROOF_VENV)/bin/python tools/proof_real.py "$(DIR)"

# What the newest transformers and PEFT have otherwise: a table; 1 where a known type differs.
FOLLOW_VENV := .venv-follow
follow:
	@test -x $(FOLLOW_VENV)/bin/python || $(PYTHON) -m venv $(FOLLOW_VENV)
	@$(FOLLOW_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade torch==2.13.0 transformers peft
	@$(FOLLOW_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(TIMM)
	@$(FOLLOW_VENV)/bin/python tools/follow.py

# What is said of the engines against their released code: wheels are unpacked, and what they import is beside torch.
ENGINES_VENV := .venv-proof-engines
ENGINES_STAMP := $(ENGINES_VENV)/.installed
$(ENGINES_STAMP): pyproject.toml tools/engine-imports.txt
	$(PYTHON) -m venv $(ENGINES_VENV)
	$(ENGINES_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[proof]'
	$(ENGINES_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tools/engine-imports.txt
	@touch $@
proof-targets: $(ENGINES_STAMP) $(PROOF_STAMP)
	@$(ENGINES_VENV)/bin/python tools/proof_targets.py --peft-python $(PROOF_VENV)/bin/python

# An older transformers and a PEFT of its time.
OLDER := 5-23 4-57 4-51
$(OLDER:%=.venv-proof-%/.installed): .venv-proof-%/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-proof-$*
	.venv-proof-$*/bin/python -m pip install --quiet --disable-pip-version-check -e '.[proof-$*]'
	.venv-proof-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(TIMM)
	@touch $@

# The names of older transformers against these releases themselves.
proof-dialects-venvs: $(OLDER:%=.venv-proof-%/.installed)
proof-dialects: proof-dialects-venvs
	@for release in $(OLDER); do .venv-proof-$$release/bin/python tools/proof_dialects.py || exit 1; done

# The types of remote code, against copies of that code on PyPI, in an environment of its time.
proof-remote: .venv-proof-4-51/.installed
	@.venv-proof-4-51/bin/python -m pip install --quiet --disable-pip-version-check --no-deps einops==0.8.1 timm==1.0.9
	@.venv-proof-4-51/bin/python tools/proof_remote.py

HOOKS_VENV := .venv-hooks
HOOKS_STAMP := $(HOOKS_VENV)/.installed
$(HOOKS_STAMP): pyproject.toml
	$(PYTHON) -m venv $(HOOKS_VENV)
	$(HOOKS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check 'pre-commit>=4'
	@touch $@

# The hook of .pre-commit-hooks.yaml in a repository that is made for it.
hooks: $(HOOKS_STAMP)
	@$(HOOKS_VENV)/bin/python tools/hooks_proof.py

# transformers' own Trainer, whose saves go wrong in a way of their own.
callback-proof: $(PROOF_STAMP)
	@$(PROOF_VENV)/bin/python tools/callback_proof.py

# Some hundred inputs that nobody means well with: what comes out, and what it costs.
hostile: $(DEV_STAMP)
	@$(BIN)/python tools/hostile

sarif: $(DEV_STAMP)
	@$(BIN)/python tools/validate_sarif.py

# The page of `check --html` in Chromium: three widths, light and dark, and what axe says of it.
page: $(DEV_STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[page]'
	@$(BIN)/python tools/look_at_page.py

# The documentation site; a warning, such as a link that leads nowhere, ends it.
site: $(DEV_STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[site]'
	@$(BIN)/python tools/make_site.py build/site
	@cd build/site && $(abspath $(BIN))/zensical build --strict -f mkdocs.yml

# The tests with a canary in every credential variable: none in any output, log record, file or argument.
canaries: $(DEV_STAMP)
	@PYTHONPATH=tests/support $(BIN)/python -m pytest -p canaries --tb=no --deselect tests/cli/test_cli_submit.py::test_a_key_that_is_none

# Each kind of breakage over each adapter of the corpus: the original comes back bit for bit; and for each repair what
# PEFT itself merges of the result.
FIX_CASES := build/fix-cases
MLX_STAMP := .venv-proof-mlx/.installed
$(MLX_STAMP): pyproject.toml
	$(PYTHON) -m venv .venv-proof-mlx
	.venv-proof-mlx/bin/python -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 'mlx-lm==0.32.2' safetensors
	@touch $@
fix-proof: $(DEV_STAMP) $(PROOF_STAMP)
	@$(BIN)/python tools/prove_fix.py
	@rm -rf $(FIX_CASES)
	@PYTHONPATH=tests/support:tests/repair $(BIN)/python tools/fix_cases.py $(FIX_CASES)
	@$(PROOF_VENV)/bin/python tools/fix_in_peft.py $(FIX_CASES) 2>/dev/null

# The same results in the readers of MLX-LM and vLLM, on a CPU (Linux; downloads a wheel of vLLM).
fix-readers: $(DEV_STAMP) $(MLX_STAMP) $(ENGINES_STAMP)
	@rm -rf $(FIX_CASES)
	@PYTHONPATH=tests/support:tests/repair $(BIN)/python tools/fix_cases.py $(FIX_CASES)
	@.venv-proof-mlx/bin/python tools/fix_in_mlx.py $(FIX_CASES)
	@$(ENGINES_VENV)/bin/python tools/fix_in_vllm.py $(FIX_CASES) 2>/dev/null

# Every field of a LoraConfig with hostile and odd values: what PEFT does with it, and what the check says.
sweep: $(PROOF_STAMP)
	@$(PROOF_VENV)/bin/python tools/sweep_fields.py --record fixtures/peft-fields.json.xz
	@$(PROOF_VENV)/bin/python tools/record_rules.py --write fixtures/peft-rules.json

# Every config type of transformers, with transformers in the same environment: an answer, and never a crash.
sweep-types: $(PROOF_STAMP)
	@$(PROOF_VENV)/bin/python tools/sweep_types.py

# What PEFT loads of thousands of adapters, against the check: today's pair of releases, and these (transformers-PEFT).
ORACLE_PAIRS := 4.57.6-0.15.2 4.57.6-0.18.1 4.57.6-0.21.2 5.23.0-0.15.2 5.23.0-0.18.1 5.23.0-0.21.2
ORACLE_STAMPS := $(ORACLE_PAIRS:%=.venv-oracle/%/.installed)
$(ORACLE_STAMPS): .venv-oracle/%/.installed:
	$(PYTHON) -m venv .venv-oracle/$*
	.venv-oracle/$*/bin/python -m pip install --quiet --disable-pip-version-check \
		torch==2.13.0 transformers==$(firstword $(subst -, ,$*)) peft==$(lastword $(subst -, ,$*))
	@touch $@

oracle: $(PROOF_STAMP) $(ORACLE_STAMPS)
	@$(PROOF_VENV)/bin/python tools/record_conversions.py --check
	@$(PROOF_VENV)/bin/python tools/oracle.py --record fixtures/peft-loading.json.xz \
		--with $(ORACLE_PAIRS:%=.venv-oracle/%/bin/python)

# What packing is measured against, where the system's packages can be installed; the bench names what is missing.
bench-tools:
	@for tool in zip pigz isal:igzip; do command -v $${tool#*:} >/dev/null || \
		apt-get install --yes --quiet $${tool%:*} >/dev/null 2>&1 || \
		echo "bench-tools: $${tool%:*} could not be installed" >&2; done

# BENCH=--quick is small and short, BENCH="--only pack" a part of it. The ratios of a full run are kept in docs/.
bench: $(DEV_STAMP) bench-tools
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]' || true
	@$(BIN)/python tools/bench.py $(BENCH)

clean:
	rm -rf $(VENV) $(PROOF_VENV) $(FOLLOW_VENV) $(OLDER:%=.venv-proof-%) .venv-oracle .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build *.egg-info
