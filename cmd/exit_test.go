package cmd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"syscall"
	"testing"

	"github.com/imprint-oci/imprint/audit"
	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/copy"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/fetch"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/signer"
	"github.com/imprint-oci/imprint/trust"
	"github.com/imprint-oci/imprint/trust/foreign"
)

// coded is an error that only has a reason code.
type coded string

func (c coded) Error() string  { return "coded " + string(c) }
func (c coded) Reason() string { return string(c) }

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		code int
	}{
		{nil, 0},
		{registry.ErrTagMoves, 1},
		{registry.ErrTagMismatch, 1},
		{registry.ErrAmbiguous, 1},
		{signer.ErrClaimMoves, 1},
		{coded("signature-invalid"), 1},
		{&refusal{report: trust.Report{Verdict: trust.Rejected, Reason: "unsigned"}}, 1},
		{&verdict{code: 1}, 1},
		{usage("x"), 3},
		{registry.ErrReference, 3},
		{registry.ErrConfig, 3},
		{kms.ErrInvalid, 3},
		{kms.ErrSecret, 3},
		{kms.ErrUnknownScheme, 3},
		{certchain.ErrKeyMismatch, 3},
		{certchain.ErrIncomplete, 3},
		{certchain.ErrNotIssuedBy, 3},
		{&certchain.RuleError{Rule: "expired"}, 3},
		{signer.ErrClaim, 3},
		{signer.ErrClock, 3},
		{trust.ErrPolicy, 3},
		{trust.ErrAs, 3},
		{&trust.LoadError{Err: trust.ErrPolicy}, 3},
		{coded("leaf-key-differs"), 3},
		{coded("identity-changes"), 3},
		{coded("not-issued-by"), 3},
		{coded("chain-incomplete"), 3},
		{coded("ends-earlier"), 3},
		{coded("chain-is-signed"), 3},
		{coded("would-break-timestamp"), 3},
		{coded("as-required"), 3},
		{&configError{}, 3},
		{&noPolicy{}, 3},
		{registry.ErrNotFound, 4},
		{registry.ErrUnavailable, 4},
		{registry.ErrUnsupported, 4},
		{registry.ErrDigestMismatch, 4},
		{registry.ErrTooLarge, 4},
		{registry.ErrMalformed, 4},
		{context.DeadlineExceeded, 4},
		{&refusal{report: trust.Report{Verdict: trust.Undetermined, Reason: "unfetched"}}, 4},
		{errors.New("something nobody thought of"), 4},
		{registry.ErrUnauthorized, 5},
		{kms.ErrService, 6},
		{envelope.ErrKeyMisbehaved, 6},
		{registry.ErrUnsettled, 7},
		{fmt.Errorf("%w (%w): x", registry.ErrCapped, registry.ErrTooLarge), 7},
		{&partly{registry.ErrUnavailable}, 7},
		{registry.ErrDisk, 8},
		{&diskError{errors.New("full")}, 8},
		{&interrupted{syscall.SIGINT, registry.ErrUnavailable}, 130},
		{&interrupted{syscall.SIGTERM, errors.New("x")}, 143},
	} {
		if got := exitCode(tt.err); got != tt.code {
			t.Errorf("exitCode(%v) = %d, want %d", tt.err, got, tt.code)
		}
		if tt.err == nil {
			continue
		}
		if got := exitCode(fmt.Errorf("sign x: %w", tt.err)); got != tt.code {
			t.Errorf("exitCode of a wrapped %v = %d, want %d", tt.err, got, tt.code)
		}
	}
}

// TestExitCodeTwoIsACrash: no row of any table says 2.
func TestExitCodeTwoIsACrash(t *testing.T) {
	t.Parallel()
	for _, e := range exitCodes {
		if e.code == 2 {
			t.Errorf("%v has exit code 2", e.err)
		}
	}
	for reason, code := range exitReasons {
		if code == 2 {
			t.Errorf("%s has exit code 2", reason)
		}
	}
}

// TestReasonsInTablesExist: a reason code in a table here is one that some room lists, so that a renamed code is noticed.
func TestReasonsInTablesExist(t *testing.T) {
	t.Parallel()
	known := map[string]string{}
	for _, codes := range []map[string]string{trust.Reasons(), envelope.Reasons(), certchain.Reasons(), kms.Reasons(), signer.Reasons(),
		registry.Reasons(), copy.Reasons(), audit.Reasons(), fetch.Reasons(), foreign.Reasons(), Reasons()} {
		maps.Copy(known, codes)
	}
	used := append(slices.Collect(maps.Keys(exitReasons)), slices.Collect(maps.Keys(reasonHints))...)
	for _, code := range used {
		if known[code] == "" {
			t.Errorf("no room has the reason code %q", code)
		}
	}
}

func TestEachSentinelHasAHint(t *testing.T) {
	t.Parallel()
	for _, e := range exitCodes {
		if errors.Is(e.err, envelope.ErrSignature) || errors.Is(e.err, envelope.ErrChainSigned) || errors.Is(e.err, signer.ErrClock) ||
			errors.Is(e.err, context.DeadlineExceeded) {
			continue // these come with a reason code, or say all there is to say
		}
		if hint(fmt.Errorf("x: %w", e.err)) == "" {
			t.Errorf("%v has no hint", e.err)
		}
	}
}

func TestHintsNeverLoosenAPolicy(t *testing.T) {
	t.Parallel()
	loosening := regexp.MustCompile(`(?i)enforce|ignore|claims:|trust:|identities:|add .*root|skip|inherit|accept: unsigned|remove`)
	var all []string
	for _, h := range reasonHints {
		all = append(all, h)
	}
	for _, e := range errorHints {
		all = append(all, e.hint)
	}
	for code := range trust.Reasons() {
		all = append(all, hint(coded(code)), hint(&verdict{hint: hintOf(code)}))
	}
	for _, h := range all {
		if loosening.MatchString(h) && h != "" && !regexp.MustCompile(`self-signed root, to the file`).MatchString(h) {
			t.Errorf("the hint %q suggests to loosen something", h)
		}
	}
}

// hintOf is the hint of a verdict for a reason.
func hintOf(code string) string {
	var v *verdict
	if err := judged(trust.Report{Reference: "reg.example/a:1", Verdict: trust.Rejected, Reason: code}); errors.As(err, &v) {
		return v.hint
	}
	return ""
}
