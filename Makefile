# Each target does its own set-up in .venv; the stamps follow pyproject.toml and constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALL := $(BIN)/pip install --disable-pip-version-check --progress-bar off -c constraints.txt
PARTS := vae audio image clip
PART ?= $(PARTS)

.PHONY: setup demo judge test suite test-all shapes lint types docs mutants toon

setup: .venv/dev

.venv/base: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) -e .
	@touch $@

.venv/voice: .venv/base
	$(INSTALL) -e '.[synthetic]'
	@touch $@

.venv/dev: .venv/base
	$(INSTALL) -e '.[dev]'
	-$(BIN)/loopy faces install
	@touch $@

demo: .venv/base  ## a portrait speaks: demo/talking.mp4 and demo/sheet.png
	@mkdir -p demo
	$(BIN)/loopy animate examples/portrait.png examples/speech.wav -o demo/talking.mp4 --sheet demo/sheet.png
	@echo "The video is demo/talking.mp4, its contact sheet is demo/sheet.png."

judge: .venv/voice  ## the toon benchmark: a table, judged/report.json and judged/sheet.png; trains nothing
	$(BIN)/loopy evaluate toon --out judged

test: .venv/dev  ## what CI runs; lint and types beside the suite, whose processes wait at times
	@$(MAKE) --no-print-directory -j 3 lint types suite

suite: .venv/dev
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --cov --cov-fail-under=90

test-all: lint types shapes  ## also the slow tests, and the shapes
	$(BIN)/pytest -m "not gpu"

SHAPES := tests/nn tests/diffusion/test_guidance.py tests/diffusion/test_objective.py tests/diffusion/test_rollout.py \
	$(addprefix tests/models/test_,audio.py audio_to_latents.py dual.py latents.py)

OFF_TYPE := save_and_load or loaded_network or unknown_projection  # give a wrong type on purpose

shapes: .venv/dev  ## the shapes in annotations, checked at every call of the networks
	$(BIN)/pytest -p no:typeguard -m "not compile" -k "not ($(strip $(OFF_TYPE)))" --jaxtyping-packages=loopy,typeguard.typechecked $(SHAPES)

lint: .venv/dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: .venv/dev
	$(BIN)/pyright

docs: .venv/dev  ## site/index.html, strict
	$(BIN)/mkdocs build --strict

mutants: .venv/dev  ## each hand-made fault, and the test that catches it
	$(BIN)/python tests/mutants.py

toon: .venv/dev  ## train or resume the embedded model: make toon [PART=vae|audio|image|clip]
	set -e; for part in $(PART); do \
		$(BIN)/loopy fit --config configs/toon/$$part.yaml; \
		case $$part in vae|audio) out=parts;; *) out=$${part}_model;; esac; \
		$(BIN)/loopy export --ckpt runs/toon/$$part/checkpoints/last.ckpt --out runs/toon/$$out; \
	done
