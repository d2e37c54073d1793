.DEFAULT_GOAL := help
.PHONY: help dev test pooler prepared collector postgres check platforms fuzz bench release

help: ## What can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

dev: ## Run everything on this machine
	@echo "Compiling Postern, which takes a minute or two the first time"
	@go run . dev

node_modules := tests/e2e/node_modules service/connector/node_modules
servers := tests/servers/node_modules

test: $(node_modules) ## Run all tests; they start what they need. At the end it lists what this machine cannot run
	list=$${POSTERN_TEST_NOT_RUN:-$$(mktemp)}; \
	POSTERN_TEST_NOT_RUN=$$list go test -timeout 30m ./...; status=$$?; \
	sort -u $$list; exit $$status
	go -C tools test ./release

$(node_modules) $(servers): %/node_modules: %/package-lock.json
	npm ci --prefix $*
	touch $@

pooler: $(node_modules) ## Run the tests of the write path with PgBouncer between Postern and Postgres
	POSTERN_TEST_POOLER=1 go test -count=1 ./tests/conformance/ ./tests/examples/ ./tests/faults/ ./tests/model/
	POSTERN_TEST_POOLER=1 go test -count=1 -short ./tests/rejected/ ./tests/e2e/
	POSTERN_TEST_POOLER=1 go test -count=1 -run 'TestDoctor$$|TestDoctorJSON' ./tests/command/

prepared: ## Run some of them with a PgBouncer that keeps prepared statements, which is built from Debian's source
	pooler=$$(tests/servers/pgbouncer) || { echo "not run here: make prepared: PgBouncer's source cannot be had" | tee -a $${POSTERN_TEST_NOT_RUN:-/dev/null}; exit 0; }; \
	POSTERN_TEST_POOLER=$$pooler go test -count=1 -short ./tests/conformance/ ./tests/faults/

collector: ## Send traces to OpenTelemetry's collector, which is built from its modules; the first time takes minutes
	go -C tests/servers/collector build -o $(CURDIR)/bin/collector .
	POSTERN_TEST_COLLECTOR=$(CURDIR)/bin/collector go test -count=1 ./tests/command -run TestTracesInACollector

postgres: $(servers) $(node_modules) ## Run all tests but the longest on the oldest and the newest Postgres, or on VERSIONS="16 17"
	tests/servers/run $(or $(VERSIONS),14 18)

check: ## The linters, builds for Windows and macOS, and the race detector on the packages that share state
	go tool -modfile=tools/go.mod golangci-lint run ./...
	cd tools && go tool golangci-lint run --config ../.golangci.yml ./...
	GOOS=windows go build ./service/cli
	GOOS=darwin GOARCH=arm64 go build ./service/cli
	go test -race ./service/... ./supabase/ ./neon/ ./policies/... ./tests/rig/ ./tests/conformance/
	go test -race -short ./tests/rejected/

platforms: ## Make a release for all six platforms, and look into each of its files without running them
	rm -rf bin/dist && mkdir -p bin
	go -C tools run ./release -version v0.0.0-test -out $(CURDIR)/bin/dist
	POSTERN_TEST_DIST=$(CURDIR)/bin/dist VERSION=v0.0.0-test go -C tools test -count=1 ./release -run TestPlatforms

fuzz: ## Fuzz the parsers of client bytes and policies for a minute each
	go test ./service/upload -run '^$$' -fuzz FuzzDecodeBatch -fuzztime 1m
	go test ./service/value -run '^$$' -fuzz FuzzConvert -fuzztime 1m
	go test ./service/identity -run '^$$' -fuzz FuzzHeaderToIdentity -fuzztime 1m
	go test ./service/identity -run '^$$' -fuzz FuzzKeySet -fuzztime 1m
	go test ./policies -run '^$$' -fuzz FuzzRead -fuzztime 1m
	go test ./service/policytest -run '^$$' -fuzz FuzzReadSuite -fuzztime 1m -fuzzminimizetime 1x

bench: ## Postern beside a floor and a limit, as ratios; some 13 minutes
	go run ./tests/bench

release: ## Make a release's files in dist: make release VERSION=v1.2.3
	rm -rf dist
	go -C tools run ./release -version "$(VERSION)"
	@commit=$$(git rev-parse HEAD) && echo "$$commit" > tools/release/previous && echo "The release after this one upgrades from it: commit tools/release/previous" \
	|| echo "Not in a git repository: write the commit of this release into tools/release/previous"
