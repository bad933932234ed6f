# SPDX-License-Identifier: GPL-2.0-or-later
# make demo and make test do all the set-up that they need; make setup does it alone.

PYTEST_JOBS ?= 2
UPDATES ?= 2000
JOBS ?= 2
SEED ?=
STORY ?=
EXAMPLES ?= 200
MOVES ?=
KINDS ?= kills,crashes,errors,search
FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?=
PYTHON := .venv/bin/python
OLD_PYTSS := .venv-pytss-2.3/bin/python
PURE_TESTS := tests/words tests/formats tests/measure
SPEAKING_TO_A_TPM := tests/world tests/attacks/test_pin_attacks.py \
	$(patsubst %,tests/flows/test_%.py,vault provision moves settle generation \
	owner tries attendance secret keyfile revoke remove)
PURE_LAYERS := aemseal/words/*,aemseal/formats/*,aemseal/measure/*

ROUNDS ?= 5
BOOT_ROUNDS ?= 3

.PHONY: demo test test-boot updates campaign bench-vault bench-boot fuzz fuzz-again atheris lint setup install clean

demo: setup
	@PYTHONPATH=tpm-sim $(PYTHON) -m tpm_sim.demo

# The pure layers' tests tell what they cover; what speaks to a TPM by tpm2-pytss runs
# with both versions of it; all else once.
test: setup
	$(PYTHON) -m pytest -q -n $(PYTEST_JOBS) --cov --cov-report= $(PURE_TESTS)
	$(PYTHON) -m coverage report --include='$(PURE_LAYERS)' --fail-under=95
	$(OLD_PYTSS) -m pytest -q -n $(PYTEST_JOBS) -m tpm $(SPEAKING_TO_A_TPM)
	$(PYTHON) -m pytest -q -n $(PYTEST_JOBS) $(addprefix --ignore=,$(PURE_TESTS))

# Random updates of every simulated machine; SEED= and STORY= tell one again.
updates: setup
	@PYTHONPATH=tpm-sim:tests:tests/sim $(PYTHON) -m random_updates \
		--updates '$(UPDATES)' --jobs '$(JOBS)' --seed '$(SEED)' --story '$(STORY)'

# Boots in QEMU: GRUB, tboot, Xen, dom0 and an initramfs by dracut.
test-boot: setup
	@sh setup/boot-test.sh
	AEMSEAL_BOOT=1 $(PYTHON) -m pytest -q -n $(PYTEST_JOBS) --dist loadfile \
		$(or $(BOOTS),tests/boot)

# TPM commands, bytes and processes of one unsealing (bench/README.md).
bench-vault: setup
	@PYTHONPATH=.:tpm-sim $(PYTHON) -m bench.bench_vault --rounds '$(ROUNDS)'

# Bytes in the initramfs and seconds to the secret, in QEMU (bench/README.md).
bench-boot: setup
	@sh setup/boot-test.sh
	@PYTHONPATH=.:tpm-sim:tests/boot $(PYTHON) -m bench.bench_boot \
		--rounds '$(BOOT_ROUNDS)'

# Every move of the vault killed at every step, crashed, answered with every error, and
# EXAMPLES random lives; MOVES= is a pattern of moves, KINDS= what to do of these four.
campaign: setup
	@PYTHONPATH=tpm-sim:tests:tests/campaign:. $(PYTHON) -m run_campaign \
		--jobs '$(JOBS)' --examples '$(EXAMPLES)' --seed '$(or $(SEED),1)' \
		--moves '$(MOVES)' --kinds '$(KINDS)'

# Ten minutes for each reader of bytes (fuzz/README.md).
fuzz: atheris
	@PYTHONPATH=.:tests $(PYTHON) -m fuzz --seconds '$(FUZZ_SECONDS)' $(FUZZ_TARGETS)

# One input, INPUT=, again for the target that it broke, TARGET=.
fuzz-again: atheris
	@PYTHONPATH=.:tests $(PYTHON) -m fuzz.one '$(TARGET)' '$(INPUT)'

atheris: setup
	@$(PYTHON) -c 'import atheris' 2>/dev/null || sh setup/fuzz.sh $(PYTHON)

lint: setup
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	$(PYTHON) -m mypy tests/face/conftest.py
	$(PYTHON) -m mypy tests/hooks/conftest.py
	$(PYTHON) -m mypy tests/boot/conftest.py
	shellcheck setup/*.sh .ci/run bench/*.sh bench/dracut/*/*.sh
	shellcheck --external-sources --check-sourced boot-hooks/aemseal-unseal
	shellcheck --external-sources --check-sourced boot-hooks/aemseal-boot
	shellcheck --external-sources --check-sourced boot-hooks/aemseal-root
	shellcheck boot-hooks/aemseal-confirm boot-hooks/aemseal-notice
	shellcheck boot-hooks/dracut/*/*.sh
	shellcheck boot-hooks/grub.d/*

# What runs outside Python, below DESTDIR; nothing is enabled.
install:
	@DESTDIR='$(DESTDIR)' sh setup/install-hooks.sh

setup:
	@sh setup/setup.sh

clean:
	rm -rf .venv .venv-pytss-2.3 .cache .mypy_cache .pytest_cache .ruff_cache
	rm -rf .hypothesis .coverage
