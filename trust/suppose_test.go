package trust

import (
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/registry"
)

// TestSupposedAgreesWithReal: whatever a signature is supposed to be, the verdict is that on a real one which is so.
func TestSupposedAgreesWithReal(t *testing.T) {
	t.Parallel()
	now := time.Now()
	long := certtest.Valid(now.Add(-100*24*time.Hour), now.Add(100*24*time.Hour))
	root, key := certtest.Root("org root", long), certtest.Key("P-256")
	org, vendor := &signatory{root, key, root.Chain(root.Leaf(key.Public(), "org", long, organisation("Acme")))}, newSignatory("vendor")
	stranger := newSignatory("stranger")
	p := rooted(t, map[string]*signatory{"org": org, "vendor": vendor}, `scopes:
  a.example: [org]
  a.example/both: {require: [[org], [vendor]]}
  a.example/twice: {require: [[org], [org, vendor]]}
  a.example/shared: {require: [[org], [org, vendor]], distinct: false}
  a.example/tag: {trust: [org], claims: tag}
  a.example/name: {trust: [org], claims: name}
  a.example/old: {trust: [org], max-age: 30d}
  a.example/algorithm: {trust: [org], algorithms: [ES384]}
  a.example/id: {trust: [{root: org, identities: ["O=Acme"]}]}
  a.example/other: {trust: [{root: org, identities: ["O=Other"]}]}
  a.example/strict: {trust: [org], strict-x509: true}
  a.example/no: {reject: true}
  a.example/any/x: {accept: unsigned}
mirrors:
  a.example/name: [m.example/name]
`)
	acme := []string{"C=US, ST=WA, O=Acme, CN=release"}
	kinds := []struct {
		name     string
		real     func(t *testing.T) registry.Signature
		supposed Supposed
	}{
		{"org", func(t *testing.T) registry.Signature { return org.sign(t, signing{at: now}) }, Supposed{Root: "org", Identities: acme}},
		{"org claims 1.0", func(t *testing.T) registry.Signature { return org.sign(t, signing{at: now, claims: []string{"1.0"}}) }, Supposed{Root: "org", Identities: acme, Claims: []string{"1.0"}}},
		{"org claims nothing", func(t *testing.T) registry.Signature { return org.sign(t, signing{at: now, claims: []string{}}) }, Supposed{Root: "org", Identities: acme, Claims: []string{}}},
		{"org claims a name", func(t *testing.T) registry.Signature {
			return org.sign(t, signing{at: now, claims: []string{"a.example/name:1.0"}})
		}, Supposed{Root: "org", Identities: acme, Claims: []string{"a.example/name:1.0"}}},
		{"org old", func(t *testing.T) registry.Signature { return org.sign(t, signing{at: now.Add(-40 * 24 * time.Hour)}) }, Supposed{Root: "org", Identities: acme, SignedAt: now.Add(-40 * 24 * time.Hour)}},
		{"org over", func(t *testing.T) registry.Signature {
			return org.sign(t, signing{at: now.Add(-2 * time.Hour), expiry: now.Add(-time.Hour)})
		}, Supposed{Root: "org", Identities: acme, SignedAt: now.Add(-2 * time.Hour), Expiry: now.Add(-time.Hour)}},
		{"vendor", func(t *testing.T) registry.Signature { return vendor.sign(t, signing{at: now}) }, Supposed{Root: "vendor"}},
		{"stranger", func(t *testing.T) registry.Signature { return stranger.sign(t, signing{at: now}) }, Supposed{}},
		{"unfetched", func(*testing.T) registry.Signature { return registry.Signature{Err: registry.ErrUnavailable} }, Supposed{Unfetched: true}},
	}
	references := []string{"a.example/x:1.0", "a.example/both:1.0", "a.example/shared:1.0", "a.example/twice:1.0", "a.example/tag:1.0", "a.example/tag:2.0", "a.example/tag", "a.example/name:1.0",
		"a.example/name", "m.example/name:1.0", "a.example/old:1.0", "a.example/algorithm:1.0", "a.example/id:1.0", "a.example/other:1.0", "a.example/strict:1.0",
		"a.example/no:1.0", "a.example/any/x:1.0", "b.example/x:1.0"}
	reals := make([]registry.Signature, len(kinds))
	for i, k := range kinds {
		reals[i] = k.real(t)
	}
	seen := map[string]int{}
	check := func(reference string, picked ...int) {
		var sigs []registry.Signature
		var supposed []Supposed
		var names []string
		for _, i := range picked {
			sigs, supposed, names = append(sigs, reals[i]), append(supposed, kinds[i].supposed), append(names, kinds[i].name)
			if kinds[i].supposed.Root != "" { // the same key where a signatory signed both
				supposed[len(supposed)-1].Key = kinds[i].supposed.Root
			}
		}
		want := p.Judge(ref(t, reference), artifact, sigs, now)
		got, err := p.Suppose(ref(t, reference), supposed, now)
		if err != nil {
			t.Fatal(err)
		}
		seen[want.Reason]++
		if got.Verdict != want.Verdict || got.Reason != want.Reason {
			t.Errorf("%s by %s: supposed %s %s (%s), in earnest %s %s (%s)", reference, strings.Join(names, " + "), got.Verdict, got.Reason, got.Detail, want.Verdict, want.Reason, want.Detail)
		}
	}
	for _, r := range references {
		check(r)
		for i := range kinds {
			check(r, i)
			for j := range i {
				check(r, j, i)
			}
		}
	}
	for _, code := range []string{"", codeNoScope, codeRejected, codeUnsigned, codeNoTrusted, codeUnfetched, codeMismatch, codeAlgorithm, codeExpired, codeTooOld, codeClaimsMissing, codeNotCovered, codeIncomplete, codeKeyTwice} {
		if seen[code] == 0 {
			t.Errorf("nothing came to %q", code)
		}
	}
}

// TestSupposeWhatNoFileHas: timestamps, revocation, delegation, pins and kinds.
func TestSupposeWhatNoFileHas(t *testing.T) {
	t.Parallel()
	now := time.Now()
	long := certtest.Valid(now.AddDate(-3, 0, 0), now.AddDate(3, 0, 0))
	root, tsa := certtest.Root("root", long), certtest.Root("tsa", long)
	middle := root.Intermediate("middle", long)
	key := certtest.Key("P-256")
	leaf := root.Leaf(key.Public(), "pinned leaf", long)
	over := certtest.Root("over", certtest.Valid(now.AddDate(-3, 0, 0), now.AddDate(0, 0, -1)))
	files := map[string]string{"r.pem": string(certtest.PEM(root.Certificate)), "tsa.pem": string(certtest.PEM(tsa.Certificate)),
		"middle.pem": string(certtest.PEM(middle.Certificate)), "leaf.pem": string(certtest.PEM(leaf)), "over.pem": string(certtest.PEM(over.Certificate))}
	p, err := Load(folderOf(t, `version: 1
roots:
  r: r.pem
  middle: {certificates: [middle.pem], pin: intermediate}
  leaf: {certificates: [leaf.pem], pin: leaf}
  over: over.pem
  wrong: {certificates: [`+"\""+strings.ReplaceAll(string(certtest.PEM(certtest.Root("authority", long).Certificate)), "\n", "\\n")+"\""+`], kind: signing-authority, identities: ["uri:https://ci.example/*", "CN=x"]}
scopes:
  a.example: [r]
  a.example/after: {trust: [r], timestamps: {roots: [tsa.pem], use: after-cert-expiry}}
  a.example/always: {trust: [r], timestamps: {roots: [tsa.pem], use: always}}
  a.example/enforce: {trust: [r], revocation: {check: enforce, network: true}}
  a.example/log: {trust: [r], revocation: {check: log, network: true}}
  a.example/hub: {trust: [r], delegate: {root: wrong, from: registry, at: "a.example/trust/d:v1", identities: ["CN=d"]}}
  a.example/pin: [middle]
  a.example/leaf: [leaf]
  a.example/authority: [wrong]
  a.example/over: [over]
`, files))
	if err != nil {
		t.Fatal(err)
	}
	day := 24 * time.Hour
	ended := Supposed{Root: "r", SignedAt: now.Add(-20 * day), LeafEnds: now.Add(-10 * day)}
	stamped, late := ended, ended
	stamped.Timestamp, late.Timestamp = now.Add(-15*day), now.Add(-5*day)
	for _, tt := range []struct {
		reference string
		s         Supposed
		want      string
	}{
		{"a.example/x", ended, codeCertExpired},
		{"a.example/x", stamped, codeCertExpired},
		{"a.example/after/x", stamped, ""},
		{"a.example/after/x", late, codeStampOutside},
		{"a.example/after/x", ended, codeCertExpired},
		{"a.example/after/x", Supposed{Root: "r"}, ""},
		{"a.example/always/x", Supposed{Root: "r"}, codeStampMissing},
		{"a.example/always/x", Supposed{Root: "r", SignedAt: now.Add(-20 * day), Timestamp: now.Add(-15 * day)}, ""},
		{"a.example/x", Supposed{Root: "r", Revocation: RevocationRevoked}, ""},
		{"a.example/enforce/x", Supposed{Root: "r", Revocation: RevocationRevoked}, codeRevoked},
		{"a.example/enforce/x", Supposed{Root: "r", Revocation: RevocationUnknown}, codeRevocationUnknown},
		{"a.example/enforce/x", Supposed{Root: "r"}, ""},
		{"a.example/log/x", Supposed{Root: "r", Revocation: RevocationRevoked}, ""},
		{"a.example/log/x", Supposed{Root: "r", Revocation: RevocationUnknown}, ""},
		{"a.example/hub/x", Supposed{Delegated: true}, ""},
		{"a.example/hub/x", Supposed{Root: "r"}, ""},
		{"a.example/hub/x", Supposed{}, codeNoTrusted},
		{"a.example/x", Supposed{Delegated: true}, codeNoTrusted},
		{"a.example/pin/x", Supposed{Root: "middle"}, ""},
		{"a.example/x", Supposed{Root: "middle"}, codeNoTrusted},
		{"a.example/leaf/x", Supposed{Root: "leaf"}, ""},
		{"a.example/authority/x", Supposed{Root: "wrong"}, ""},
		{"a.example/authority/x", Supposed{Root: "wrong", Identities: []string{"CN=x"}}, ""},
		{"a.example/authority/x", Supposed{Root: "wrong", Identities: []string{"CN=y", "dns:x.example", "email:a@x.example"}}, codeMismatch},
		{"a.example/over/x", Supposed{Root: "over"}, codeCertExpired},
	} {
		r, err := p.Suppose(ref(t, tt.reference), []Supposed{tt.s}, now)
		if err != nil {
			t.Fatal(err)
		}
		if r.Reason != tt.want || (r.Verdict == Accepted) != (tt.want == "") {
			t.Errorf("%s by %+v: %s %s (%s), want %q", tt.reference, tt.s, r.Verdict, r.Reason, r.Detail, tt.want)
		}
	}
	for _, s := range []Supposed{{Root: "rr"}, {Root: "leaf", Identities: []string{"CN=x"}}, {Root: "r", Identities: []string{"CN=a", "CN=b"}},
		{Root: "r", Identities: []string{"x"}}, {Revocation: "gone"}, {Algorithm: "RS256"}} {
		if _, err := p.Suppose(ref(t, "a.example/x"), []Supposed{s}, now); err == nil {
			t.Errorf("%+v is taken", s)
		}
	}
}
