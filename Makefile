# make test is all that a user needs, make check is all that a contributor must know. Go is the only requirement.
LINT_VERSION := v2.15.0
LINT         := bin/golangci-lint-$(LINT_VERSION)
VERSION      ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
FUZZTIME     ?= 30s
DIST         ?= dist
# The clients of key services wait for the network: what inlining would save them is not worth 0.6 MB, nor is
# gRPC's request tracing its templates. What is hot (hashing, TLS, HTTP, our own rooms) is compiled as usual.
LEAN         := -tags grpcnotrace $(foreach m,github.com/aws github.com/Azure cloud.google.com google.golang.org go.opentelemetry.io,-gcflags=$(m)/...=-l)

.PHONY: build test check fmt lint docs demo fuzz bench
build: ## $(DIST)/imprint, static and stripped, and its plugin for PKCS #11 tokens
	CGO_ENABLED=0 go build -trimpath $(LEAN) -ldflags "-s -w -X github.com/imprint-oci/imprint/cmd.version=$(VERSION) -X main.version=$(VERSION)" -o $(DIST)/ ./cmd/imprint ./cmd/notation-pkcs11

# Some stories are told in part under the race detector, which takes several times their time: here they are told whole.
WHOLE := TestNeverHalf|TestRotation|TestAllArrives|TestHole|TestAirGap|TestBigCut|TestDifferential|TestP14

test: ## everything, with the race detector
	go test -race -timeout 20m ./...
	go test -timeout 20m -run '$(WHOLE)' ./e2e

check: lint ## format, vet, lint, tidy, fences, generated pages
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "make check: run make fmt"; exit 1; }
	go vet ./...
	go mod tidy -diff
	go test -run 'TestFence' ./e2e
	go test ./docs/...

fmt:
	gofmt -w .

lint: $(LINT)
	$(LINT) run ./...

$(LINT):
	GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv bin/golangci-lint $(LINT)

docs: ## the generated pages below docs/
	go run ./docs/gen

demo: ## the whole story, on two registries in this process
	go run ./e2e/demo

fuzz: ## each fuzz target for FUZZTIME
	@for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	  echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$p || exit 1; done; done

bench: ## requests, round trips and ratios; copy beside the other tools that are on PATH
	go test -run '^$$' -bench . -benchtime 3x ./e2e ./e2e/keys ./trust
	go run ./e2e/bench
