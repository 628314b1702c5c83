# make without a target lists the targets. CI runs .ci/run: make check, then make test.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# runtime/secret wipes what secret computations leave behind. keyd builds without the
# experiment too, and its status says which it is.
export GOEXPERIMENT ?= runtimesecret
# PKCS#11 libraries are loaded through cgo.
export CGO_ENABLED := 1

FUZZTIME ?= 10s
KILLS ?= 1000
BENCH ?= .
VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

.PHONY: help build run test race chaos check generate bench fuzz clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: ## build bin/keyd (installs a C compiler and SoftHSM where they are missing)
	@scripts/install-deps.sh run
	go build -trimpath -buildvcs=false -ldflags '-X "main.version=$(VERSION)"' -o bin/keyd ./cmd/keyd

run: build ## a first transaction from terminal to switch, and a void at the counter, on a SoftHSM token in ./dev
	go build -trimpath -buildvcs=false -o bin/switch-void ./examples/switch-void
	@./examples/first-transaction.sh

# -count=1: a cached result knows nothing of the token, nor of the keyd that tests build.
test: ## run every test on SoftHSM (installs what is missing)
	@scripts/install-deps.sh run test
	go test -count=1 -timeout 30m ./...

race: ## run every test under the race detector
	@scripts/install-deps.sh run test
	go test -count=1 -timeout 60m -race ./...

chaos: ## KILLS (1000) random kills under load on each database; KEYD_SEED repeats the choices of a run
	@scripts/install-deps.sh run test
	KEYD_KILLS='$(KILLS)' go test -count=1 -timeout 3h -v -run '^TestNothingIsAcceptedTwiceWhileProcessesAreKilled$$' ./e2e

check: ## formatting, vet, linters, shell scripts, modules, generated code
	@scripts/install-deps.sh run check
	@scripts/check.sh

generate: ## make the Go code of the .proto files
	@scripts/install-deps.sh check
	scripts/generate.sh

bench: build ## the service under load beside the bare token, then every benchmark (or those that BENCH=REGEXP names)
	go run ./bench
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

fuzz: ## run every fuzz target for FUZZTIME (10s) each
	@scripts/install-deps.sh run test
	FUZZTIME='$(FUZZTIME)' scripts/fuzz.sh

clean: ## remove what make has built
	rm -rf bin
