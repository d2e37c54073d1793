.DEFAULT_GOAL := help
.PHONY: help dev test pooler prepared postgres check fuzz bench release

help: ## What can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

dev: ## Run everything on this machine
	@echo "Compiling Postern, which takes a minute or two the first time"
	@go run . dev

node_modules := tests/e2e/node_modules service/connector/node_modules
servers := tests/servers/node_modules

test: $(node_modules) ## Run all tests; they start what they need
	go test ./...
	go -C tools test ./release

$(node_modules) $(servers): %/node_modules: %/package-lock.json
	npm ci --prefix $*
	touch $@

pooler: $(node_modules) ## Run the tests of the write path with PgBouncer between Postern and Postgres
	POSTERN_TEST_POOLER=1 go test -count=1 ./tests/conformance/ ./tests/examples/ ./tests/faults/ ./tests/model/ ./tests/e2e/
	POSTERN_TEST_POOLER=1 go test -count=1 -short ./tests/rejected/

prepared: ## Run some of them with a PgBouncer that keeps prepared statements, which is built from Debian's source
	pooler=$$(tests/servers/pgbouncer) || { echo "Not run: PgBouncer's source cannot be had here."; exit 0; }; \
	POSTERN_TEST_POOLER=$$pooler go test -count=1 -short ./tests/conformance/ ./tests/faults/

postgres: $(servers) ## Run the tests of the write path on the oldest and the newest Postgres, or on VERSIONS="16 17"
	tests/servers/run $(or $(VERSIONS),14 18)

check: ## The linters, a build for Windows, and the race detector on the packages that share state
	go tool -modfile=tools/go.mod golangci-lint run ./...
	cd tools && go tool golangci-lint run --config ../.golangci.yml ./...
	GOOS=windows go build ./service/cli
	go test -race ./service/... ./supabase/ ./neon/ ./policies/... ./tests/rig/ ./tests/conformance/
	go test -race -short ./tests/rejected/

fuzz: ## Fuzz the parsers of client bytes and policies for a minute each
	go test ./service/upload -run '^$$' -fuzz FuzzDecodeBatch -fuzztime 1m
	go test ./service/value -run '^$$' -fuzz FuzzConvert -fuzztime 1m
	go test ./service/identity -run '^$$' -fuzz FuzzHeaderToIdentity -fuzztime 1m
	go test ./service/identity -run '^$$' -fuzz FuzzKeySet -fuzztime 1m
	go test ./policies -run '^$$' -fuzz FuzzRead -fuzztime 1m
	go test ./service/policytest -run '^$$' -fuzz FuzzReadSuite -fuzztime 1m -fuzzminimizetime 1x

bench: ## Postern beside a floor and a limit, as ratios; some ten minutes
	go run ./tests/bench

release: ## Make a release's files in dist: make release VERSION=v1.2.3
	rm -rf dist
	go -C tools run ./release -version "$(VERSION)"
