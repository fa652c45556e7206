package audit

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The names in JSON are what programs read: each of a change here breaks somebody.
func TestNamesInJSON(t *testing.T) {
	t.Parallel()
	at := auditTime
	yes := true
	for name, tc := range map[string]struct {
		value any
		want  []string
	}{
		"report": {Report{FailBefore: &at}, []string{"artifacts", "certificates", "counts", "expiries", "failBefore", "findings", "listBefore", "now", "repositories", "unseen"}},
		"counts": {Counts{}, []string{"artifacts", "bad", "current", "ended", "expiring", "failing", "findings", "needless", "problems", "repositories", "signatures", "signed", "tagged", "unseen"}},
		"repository": {Repository{FirstEnd: &at}, []string{"artifacts", "claims", "current", "expiring", "findings", "firstEnd", "name", "problems", "signatures", "signed", "tagged",
			"unseen", "unsigned"}},
		"artifact": {Artifact{What: "x", Tags: []string{"x"}, Platform: "x", Index: "x", HoldsUntil: &at, FirstEnd: &at, Findings: []Finding{{}}}, []string{"digest", "findings", "firstEnd",
			"holdsUntil", "index", "platform", "reference", "repository", "role", "signatures", "taggedAs", "what"}},
		"signature": {Listed{Core: "x", By: "x", Reason: "x", Detail: "x", Format: "x", Algorithm: "x", Scheme: "x", Agent: "x", Identity: "x", Claims: []string{"x"}, SignedAt: &at, Expiry: &at,
			Chain: []string{"x"}, ChainUntil: &at, Timestamp: &Timestamp{}, Ends: &at, EndKind: "x", EndCert: "x", Remedy: "x"}, []string{"agent", "algorithm", "by", "chain", "chainUntil",
			"claims", "core", "detail", "digest", "endCertificate", "endKind", "ends", "expiry", "format", "hasClaims", "identity", "mendedBy", "reason", "scheme", "signedAt", "state", "timestamp"}},
		"timestamp":   {Timestamp{Chain: []string{"x"}, By: "x", Until: &at, Trusted: &yes}, []string{"at", "by", "chain", "insideChain", "trusted", "until"}},
		"certificate": {Certificate{}, []string{"ca", "ending", "issuer", "key", "notAfter", "notBefore", "selfSigned", "serial", "sha256", "signatures", "subject", "uses"}},
		"expiry":      {Expiry{Certificate: "x"}, []string{"artifacts", "at", "certificate", "ended", "expiring", "failing", "kind", "mendedBy", "signatures", "subject", "timestamped"}},
		"finding":     {Finding{Signature: "x", Tag: "x", Others: nil}, []string{"code", "severity", "signature", "tag", "text"}},
		"group":       {FindingGroup{}, []string{"artifacts", "code", "findings", "severity", "title"}},
		"unseen":      {Unseen{Reason: "x"}, []string{"error", "item", "reason"}},
	} {
		b, err := json.Marshal(tc.value)
		must(t, err)
		var got map[string]any
		must(t, json.Unmarshal(b, &got))
		var names []string
		for n := range got {
			names = append(names, n)
		}
		slices.Sort(names)
		if diff := cmp.Diff(tc.want, names); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Lists are never null: programs iterate over them.
func TestEmptyReportHasLists(t *testing.T) {
	t.Parallel()
	r := New(Options{Now: auditTime}).Report(nil)
	v := reflect.ValueOf(r)
	for i := range v.NumField() {
		if f := v.Field(i); (f.Kind() == reflect.Slice || f.Kind() == reflect.Map) && f.IsNil() {
			t.Errorf("%s is nil", v.Type().Field(i).Name)
		}
	}
}

// Every finding that is made has a kind of its own, and each kind says what it means.
func TestFindingKinds(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	note := false
	for _, k := range FindingKinds() {
		if seen[k.Code] || k.Title == "" || k.Meaning == "" || Reasons()[k.Code] != k.Meaning {
			t.Errorf("%+v", k)
		}
		seen[k.Code] = true
		if note && k.Severity == Problem {
			t.Errorf("%s: a problem after a note", k.Code)
		}
		note = note || k.Severity == Note
	}
}
