package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/registry"
)

// TestPins: where in a chain a root's certificate has to stand (P9, X01 to X04, K24).
func TestPins(t *testing.T) {
	t.Parallel()
	top := certtest.Root("top")
	mid := top.Intermediate("mid")
	low := mid.Intermediate("low")
	key := certtest.Key("P-256")
	leaf := low.Leaf(key.Public(), "leaf")
	other := top.Intermediate("mid") // another intermediate of that name
	evil := certtest.Root("evil")
	crossed := evil.IntermediateWith(top.Key, "top") // the pinned root's key and name, in the middle of an evil chain
	again := certtest.RootWith(top.Key, "top")       // the pinned root, made again
	lone := certtest.SelfSigned(key, "lone")
	namesake := certtest.Root("top")
	chains := map[string]certchain.Chain{
		"whole":     low.Chain(leaf),
		"other mid": other.Chain(other.Leaf(key.Public(), "leaf")),
		"crossed":   {mid.Leaf(key.Public(), "leaf"), mid.Certificate, crossed.Certificate, evil.Certificate},
		"again":     {mid.Leaf(key.Public(), "leaf"), mid.Certificate, again.Certificate},
		"lone":      {lone},
		"namesake":  namesake.Chain(namesake.Leaf(key.Public(), "leaf")),
	}
	files := map[string]string{}
	for name, cert := range map[string]*x509.Certificate{"top": top.Certificate, "mid": mid.Certificate, "low": low.Certificate, "leaf": leaf, "lone": lone, "crossed": crossed.Certificate} {
		files[name+".pem"] = string(certtest.PEM(cert))
	}
	signed := map[string]registry.Signature{}
	for name, chain := range chains {
		signed[name] = (&signatory{nil, key, chain}).sign(t, signing{})
	}
	for _, row := range []struct {
		name, pinned, pin, chain string
		says                     string // "": accepted; "does not load": of what can stand nowhere
	}{
		{"root that ends it", "top", "root", "whole", ""},
		{"X03 intermediate that should end it", "mid", "root", "whole", "stands in the chain, but the chain ends in"},
		{"X03 the pinned certificate in the middle of another's", "crossed", "root", "crossed", "stands in the chain, but the chain ends in"},
		{"X02 made again", "top", "root", "again", "another certificate of the name"},
		{"X01 another of its name", "top", "root", "namesake", "another certificate of the name"},
		{"K24 intermediate", "mid", "intermediate", "whole", ""},
		{"K24 lowest intermediate", "low", "intermediate", "whole", ""},
		{"K24 another of its name", "mid", "intermediate", "other mid", "the chain holds another certificate of the name"},
		{"X03 intermediate of an evil chain, which vouches for it nevertheless", "mid", "intermediate", "crossed", ""},
		{"last as intermediate", "top", "intermediate", "whole", ""},
		{"X04 leaf that has issuers", "leaf", "leaf", "whole", ""},
		{"X04 intermediate that should be first", "mid", "leaf", "whole", "does not load"},
		{"leaf alone", "lone", "root", "lone", ""},
		{"leaf alone, pinned as such", "lone", "leaf", "lone", ""},
		{"X04 leaf alone is above no other", "lone", "intermediate", "lone", "does not load"},
		{"leaf pinned, another leaf", "leaf", "leaf", "other mid", "another certificate"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p, err := Load(folderOf(t, fmt.Sprintf("version: 1\nroots: {r: {certificates: [%s.pem], pin: %s}}\nscopes: {r.example: [r]}\n", row.pinned, row.pin), files))
			if row.says == "does not load" {
				loadError(t, err, codeRootInvalid, 0)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := p.Judge(ref(t, "r.example/x:1"), artifact, sigs(signed[row.chain]), time.Now())
			if row.says == "" {
				wantReport(t, got, Accepted, "")
				return
			}
			wantReport(t, got, Rejected, codeNoTrusted)
			s := got.Signatures[0]
			if s.Reason != codeRootNotTrusted || !strings.Contains(s.Detail, row.says) {
				t.Errorf("%s: %s, want …%s…", s.Reason, s.Detail, row.says)
			}
			// Only who holds the root's key can have made it again.
			if want := map[string]string{"again": "r"}[row.chain]; s.Reissued != want {
				t.Errorf("reissued %q, want %q", s.Reissued, want)
			}
		})
	}
}

// TestP10EveryRoot: a signature that several roots accept names each of them, in the order of their names.
func TestP10EveryRoot(t *testing.T) {
	t.Parallel()
	top := certtest.Root("top")
	mid := top.Intermediate("mid")
	key := certtest.Key("P-256")
	leaf := mid.Leaf(key.Public(), "leaf")
	s := &signatory{top, key, mid.Chain(leaf)}
	files := map[string]string{"top.pem": string(certtest.PEM(top.Certificate)), "mid.pem": string(certtest.PEM(mid.Certificate)), "leaf.pem": string(certtest.PEM(leaf))}
	p, err := Load(folderOf(t, `version: 1
roots:
  zone: {certificates: [top.pem]}
  area: {certificates: [mid.pem], pin: intermediate}
  spot: {certificates: [leaf.pem], pin: leaf}
scopes:
  r.example: [zone, spot, area, {root: area, max-age: 90d}]
  r.example/some: [{root: zone, identities: ["O=Nobody"]}, area]
  r.example/groups: {require: [[spot, zone], [area]], distinct: false}
`, files))
	if err != nil {
		t.Fatal(err)
	}
	sig := s.sign(t, signing{})
	for reference, want := range map[string][]Acceptance{
		"r.example/x":        {{Root: "area"}, {Root: "spot"}, {Root: "zone"}},
		"r.example/some/x":   {{Root: "area"}},
		"r.example/groups/x": {{Root: "area", Groups: []int{2}}, {Root: "spot", Groups: []int{1}}, {Root: "zone", Groups: []int{1}}},
	} {
		got := p.Judge(ref(t, reference+":1"), artifact, sigs(sig), time.Now())
		wantReport(t, got, Accepted, "")
		if diff := cmp.Diff(want, got.Signatures[0].AcceptedBy); diff != "" {
			t.Errorf("%s: %s", reference, diff)
		}
		if root := got.Signatures[0].Root; root != "area" {
			t.Errorf("%s: root %s", reference, root)
		}
	}
}

// authority signs artifact by the scheme of signing authorities, at a time that it vouches for.
func authority(t *testing.T, s *signatory, at time.Time, more string) registry.Signature {
	t.Helper()
	crit := `"io.cncf.notary.signingScheme","io.cncf.notary.authenticSigningTime"`
	if strings.Contains(more, "expiry") {
		crit += `,"io.cncf.notary.expiry"`
	}
	protected := fmt.Sprintf(`{"alg":"ES256","crit":[%s],"cty":%q,"io.cncf.notary.authenticSigningTime":%q,"io.cncf.notary.signingScheme":"notary.x509.signingAuthority"%s}`,
		crit, envelope.PayloadType, at.UTC().Format(time.RFC3339), more)
	return found(string(envelope.JWS), handmade(t, s, protected, fmt.Sprintf(`{"targetArtifact":{"mediaType":%q,"digest":%q,"size":%d}}`, artifact.MediaType, artifact.Digest, artifact.Size)))
}

// TestV12Kinds: each scheme has its own kind of root; a signing authority's certificates are judged at the time that it vouches for.
func TestV12Kinds(t *testing.T) {
	t.Parallel()
	begin := time.Now().Add(-100 * aDay).UTC().Truncate(time.Second)
	end := begin.Add(50 * aDay)
	root := certtest.Root("authority root", certtest.Valid(begin.Add(-anHour), end.Add(anHour)))
	key := certtest.Key("P-256")
	s := &signatory{root, key, root.Chain(root.Leaf(key.Public(), "authority", certtest.Valid(begin, end)))}
	files := map[string]string{"r.pem": s.pem()}
	load := func(kind, rest string) *Policy {
		p, err := Load(folderOf(t, fmt.Sprintf("version: 1\nroots: {r: {certificates: [r.pem], kind: %s}}\nscopes: {r.example: {trust: [r]%s}}\n", kind, rest), files))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	now := time.Now()
	plain := s.sign(t, signing{at: begin.Add(anHour)})
	expires := func(at time.Time) string {
		return fmt.Sprintf(`,"io.cncf.notary.expiry":%q`, at.UTC().Format(time.RFC3339))
	}
	ca := load("ca", "")
	for _, row := range []struct {
		name   string
		policy *Policy
		sig    registry.Signature
		now    time.Time
		code   string
	}{
		{"V12 signing authority under a CA root", ca, authority(t, s, begin.Add(anHour), ""), begin.Add(aDay), codeKind},
		{"signature of a CA's under a signing authority", load("signing-authority", ""), plain, begin.Add(aDay), codeKind},
		{"CA", ca, plain, begin.Add(aDay), ""},
		{"vouched for, while all is valid", load("signing-authority", ""), authority(t, s, begin.Add(anHour), ""), begin.Add(aDay), ""},
		{"vouched for, after all has expired", load("signing-authority", ""), authority(t, s, begin.Add(anHour), ""), now, ""},
		{"at the first second", load("signing-authority", ""), authority(t, s, begin, ""), now, ""},
		{"before the leaf", load("signing-authority", ""), authority(t, s, begin.Add(-time.Second), ""), now, codeCertNotYet},
		{"at the last second", load("signing-authority", ""), authority(t, s, end, ""), now, ""},
		{"after the leaf", load("signing-authority", ""), authority(t, s, end.Add(time.Second), ""), now, codeCertExpired},
		{"time to come", load("signing-authority", ""), authority(t, s, begin.Add(aDay), ""), begin, codeAhead},
		{"its own expiry holds all the same", load("signing-authority", ""), authority(t, s, begin.Add(anHour), expires(begin.Add(2*anHour))), begin.Add(3 * anHour), codeExpired},
		{"before its expiry", load("signing-authority", ""), authority(t, s, begin.Add(anHour), expires(now.Add(anHour))), now, ""},
		{"max-age is from the time vouched for", load("signing-authority", ", max-age: 10d"), authority(t, s, begin.Add(anHour), ""), now, codeTooOld},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := row.policy.Judge(ref(t, "r.example/x:1"), artifact, sigs(row.sig), row.now)
			if row.code == "" {
				wantReport(t, got, Accepted, "")
				j := got.Signatures[0]
				if (j.HoldsUntil == nil) != (j.Expiry == nil) && row.policy != ca {
					t.Errorf("holds until %v, expiry %v", j.HoldsUntil, j.Expiry)
				}
				return
			}
			wantReport(t, got, Rejected, row.code)
		})
	}
	// A timestamp is not looked at: its time is vouched for.
	tsa := tsatest.New(tsatest.Options{})
	files["tsa.pem"] = string(certtest.PEM(tsa.Root.Certificate))
	always := load("signing-authority", ", timestamps: {roots: [tsa.pem], use: always}")
	got := always.Judge(ref(t, "r.example/x:1"), artifact, sigs(authority(t, s, begin.Add(anHour), "")), now)
	wantReport(t, got, Accepted, "")
	w := &stampedWorld{t: t, s: s, begin: begin, end: end, tsa: tsa}
	got = always.Judge(ref(t, "r.example/x:1"), artifact, sigs(w.with(authority(t, s, begin.Add(anHour), ""), w.at(tsa, now))), now)
	wantReport(t, got, Accepted, "")
	if stamp := got.Signatures[0].Timestamp; stamp == nil || stamp.Status != StampIgnored {
		t.Errorf("%+v", stamp)
	}
}

// TestX06BeyondSpec: what other verifiers pass over is told, and refused only where the scope says so.
func TestX06BeyondSpec(t *testing.T) {
	t.Parallel()
	root := certtest.Root("root")
	ca := root.Intermediate("tls only", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	key := certtest.Key("P-256")
	good := &signatory{root, key, root.Chain(root.Leaf(key.Public(), "leaf"))}
	bad := withX5C(t, good.sign(t, signing{}), ca.Chain(ca.Leaf(key.Public(), "leaf")))
	p := rooted(t, map[string]*signatory{"r": good}, `
scopes:
  r.example: [r]
  r.example/strict: {trust: [r], strict-x509: true}
  r.example/lax: {trust: [r], strict-x509: false}
`)
	for _, row := range []struct {
		reference string
		sig       registry.Signature
		code      string
		told      bool
	}{
		{"r.example/x:1", bad, "", true},
		{"r.example/lax/x:1", bad, "", true},
		{"r.example/strict/x:1", bad, codeBeyondSpec, false},
		{"r.example/strict/x:1", good.sign(t, signing{}), "", false},
		{"r.example/x:1", good.sign(t, signing{}), "", false},
	} {
		got := p.Judge(ref(t, row.reference), artifact, sigs(row.sig), time.Now())
		verdict := Accepted
		if row.code != "" {
			verdict = Rejected
		}
		wantReport(t, got, verdict, row.code)
		j := got.Signatures[0]
		warned := slices.ContainsFunc(got.Warnings, func(w string) bool { return strings.HasPrefix(w, codeBeyondSpec) })
		if (j.BeyondSpec != "") != row.told || warned != row.told || j.Root != "r" {
			t.Errorf("%s: %q, warnings %q, root %q", row.reference, j.BeyondSpec, got.Warnings, j.Root)
		}
	}
	// Of a chain that nobody trusts nothing is told: anybody can put one there.
	got := oneRoot(t, newSignatory("other")).Judge(ref(t, "r.example/x:1"), artifact, sigs(bad), time.Now())
	if j := got.Signatures[0]; j.BeyondSpec != "" || len(got.Warnings) > 0 {
		t.Errorf("%q, %q", j.BeyondSpec, got.Warnings)
	}
}

// TestS21Shuffled: a thousand orders of the same signatures give the same report, to the byte; of trust and of groups, accepted,
// rejected and undetermined.
func TestS21Shuffled(t *testing.T) {
	t.Parallel()
	by := map[string]*signatory{}
	var all []registry.Signature
	now := time.Now()
	for _, name := range []string{"a", "b", "c"} {
		s := newSignatory(name)
		by[name] = s
		all = append(all, s.sign(t, signing{at: now}), s.sign(t, signing{at: now.Add(-anHour), claims: []string{"2.0"}}), s.under("second").sign(t, signing{at: now}))
	}
	// One signature in two envelopes, of chains that end differently.
	twice := by["a"].under("renewed")
	sig := twice.sign(t, signing{at: now})
	all = append(all, sig, withX5C(t, sig, by["a"].root.Chain(by["a"].root.Leaf(twice.key.Public(), "renewed"))))
	all = append(all, newSignatory("stranger").sign(t, signing{at: now}), unreadable("1"), unreadable("2"))
	other := payloadOf(describe("another"))
	all = append(all, by["b"].sign(t, signing{at: now, payload: &other}))
	policy := rooted(t, by, `
scopes:
  r.example: [a, b, c]
  r.example/groups: {require: [[a, b], [b, c], [c, a]]}
  r.example/strict: {require: [[a], [b], [c]], max-age: 10m, claims: tag}
  r.example/never: [{root: c, algorithms: [PS256]}, {root: a, algorithms: [ES384]}]
`)
	few := []registry.Signature{all[0], all[2], all[3], all[6], sig, unreadable("1")}
	for _, row := range []struct {
		reference string
		of        []registry.Signature
		orders    int
		verdict   string
	}{
		{"r.example/groups/x:1", few, 1000, Accepted},
		{"r.example/x:2.0", all, 30, Accepted},
		{"r.example/groups/x:2.0", all, 30, Accepted},
		{"r.example/strict/x:2.0", all, 30, Rejected},
		{"r.example/strict/x:1", few, 30, Rejected},
		{"r.example/never/x:1", all, 30, Undetermined},
		{"r.example/never/x:1", all[:9], 30, Rejected},
	} {
		var want []byte
		for range row.orders {
			some := slices.Clone(row.of)
			rand.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
			report := policy.Judge(ref(t, row.reference), artifact, some, now)
			got, err := json.Marshal(report)
			if err != nil {
				t.Fatal(err)
			}
			if report.Verdict != row.verdict {
				t.Fatalf("%s: %s %s (%s), want %s", row.reference, report.Verdict, report.Reason, report.Detail, row.verdict)
			}
			if want == nil {
				want = got
			} else if !bytes.Equal(got, want) {
				t.Fatalf("%s: another order:\n%s", row.reference, cmp.Diff(string(want), string(got)))
			}
		}
	}
}

// TestAskedOfNobodyElse (X17): revocation is asked only of a chain that all else accepts, and of the authority's where its timestamp counts.
func TestAskedOfNobodyElse(t *testing.T) {
	t.Parallel()
	w := newStampedWorld(t)
	names := func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://crl.example/ca.crl"} }
	tsa := tsatest.New(tsatest.Options{Edits: []certtest.Edit{names}})
	leaf := w.s.root.Chain(w.s.root.Leaf(w.s.key.Public(), "named", certtest.Valid(w.begin, w.end), names, organisation("Acme")))
	w.s = &signatory{w.s.root, w.s.key, leaf}
	const network = "revocation: {check: enforce, network: true}\n"
	load := func(scope, more string) *Policy {
		return w.load(network+more+"scopes: {r.example: "+scope+"}\n", map[string]*x509.Certificate{"tsa": tsa.Root.Certificate})
	}
	const after, always = "timestamps: {roots: [roots/tsa.pem], use: after-cert-expiry}\n", "timestamps: {roots: [roots/tsa.pem], use: always}\n"
	good := w.sign(signing{})
	inside := w.begin.Add(aDay)
	stamped := w.with(good, w.at(tsa, inside))
	other := payloadOf(describe("another"))
	stranger := newSignatory("stranger", names)
	valid := w.begin.Add(10 * aDay)
	for _, row := range []struct {
		name     string
		policy   *Policy
		ref      string
		sig      registry.Signature
		now      time.Time
		asked    int // questions
		stamping bool
	}{
		{"accepted otherwise", load("[r]", ""), "r.example/x:1", good, valid, 1, false},
		{"twice trusted", load("[r, {root: r, max-age: 300d}]", ""), "r.example/x:1", good, valid, 2, false},
		{"its revocation is not asked for", load("{trust: [r], revocation: {check: off}}", ""), "r.example/x:1", good, valid, 0, false},
		{"of another artifact", load("[r]", ""), "r.example/x:1", w.sign(signing{payload: &other}), valid, 0, false},
		{"of a stranger", load("[r]", ""), "r.example/x:1", stranger.sign(t, signing{}), time.Now(), 0, false},
		{"no scope", load("[r]", ""), "q.example/x:1", good, valid, 0, false},
		{"all is rejected", load("{reject: true}", ""), "r.example/x:1", good, valid, 0, false},
		{"another identity", load(`[{root: r, identities: ["O=Other"]}]`, ""), "r.example/x:1", good, valid, 0, false},
		{"another algorithm", load("{trust: [r], algorithms: [PS256]}", ""), "r.example/x:1", good, valid, 0, false},
		{"expired", load("[r]", ""), "r.example/x:1", w.sign(signing{expiry: w.begin.Add(2 * anHour)}), valid, 0, false},
		{"the chain expired", load("[r]", ""), "r.example/x:1", good, w.end.Add(aDay), 0, false},
		{"too old", load("{trust: [r], max-age: 1d}", ""), "r.example/x:1", good, valid, 0, false},
		{"claims another", load("[r]", ""), "r.example/x:1", w.sign(signing{claims: []string{"2"}}), valid, 0, false},
		{"claims nothing", load("{trust: [r], claims: tag}", ""), "r.example/x:1", good, valid, 0, false},
		{"timestamp that counts", load("[r]", after), "r.example/x:1", stamped, w.end.Add(aDay), 2, true},
		{"timestamp that always counts", load("[r]", always), "r.example/x:1", stamped, valid, 2, true},
		{"timestamp that does not count yet", load("[r]", after), "r.example/x:1", stamped, valid, 1, false},
		{"timestamp of another authority", load("[r]", always), "r.example/x:1", w.with(good, w.at(tsatest.New(tsatest.Options{}), inside)), valid, 0, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := row.policy.court(ref(t, row.ref), artifact, row.now, evidence{})
			report, open := row.policy.judge(c, sigs(row.sig))
			stamping := slices.ContainsFunc(open.revocation, func(q question) bool { return q.stamping })
			if len(open.revocation) != row.asked || stamping != row.stamping {
				t.Errorf("%d questions, of an authority %v; want %d, %v (%s)", len(open.revocation), stamping, row.asked, row.stamping, report.Reason)
			}
			if row.asked > 0 {
				wantReport(t, report, Undetermined, codeRevocationUnknown)
				for _, q := range open.revocation {
					proved := row.stamping && !q.stamping
					if proved != !q.at.IsZero() || proved && !q.at.Equal(inside) {
						t.Errorf("asked for the time %v", q.at)
					}
				}
			} else if report.Verdict == Undetermined {
				t.Errorf("%s", report.Reason)
			}
			// Whoever has no sources is told that it is not known, too.
			examined, err := row.policy.Examine(t.Context(), ref(t, row.ref), artifact, sigs(row.sig), row.now, nil)
			if err != nil || examined.Verdict != report.Verdict || examined.Reason != report.Reason {
				t.Errorf("examined: %s %s, %v", examined.Verdict, examined.Reason, err)
			}
		})
	}
}

// TestUnknownBesideOthers: what is not known of one signature matters only as long as no other accepts.
func TestUnknownBesideOthers(t *testing.T) {
	t.Parallel()
	names := func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://crl.example/ca.crl"} }
	by := map[string]*signatory{"a": newSignatory("a", names), "b": newSignatory("b"), "c": newSignatory("c", names)}
	signed := map[string]registry.Signature{"broken": unreadable("1")}
	for name, s := range by {
		signed[name] = s.sign(t, signing{})
		signed[name+" of another tag"] = s.sign(t, signing{claims: []string{"2"}})
	}
	p := rooted(t, by, `revocation: {check: enforce, network: true}
scopes:
  r.example: [a, b, c]
  r.example/groups: {require: [[a], [b, c]]}
  r.example/three: {require: [[a], [b], [c]]}
`)
	for _, row := range []struct{ where, signed, verdict, reason string }{
		{"", "a", Undetermined, codeRevocationUnknown},
		{"", "a+b", Accepted, ""},
		{"", "a+b of another tag", Undetermined, codeRevocationUnknown},
		{"", "a of another tag", Rejected, codeNotCovered},
		{"", "a+broken", Undetermined, codeRevocationUnknown},
		{"/groups", "a+b", Undetermined, codeRevocationUnknown},
		{"/groups", "a+c", Undetermined, codeRevocationUnknown},
		{"/groups", "a", Rejected, codeIncomplete}, // whatever is found out of a's, there is no other
		{"/groups", "b", Rejected, codeIncomplete},
		{"/groups", "a+broken", Undetermined, codeUnfetched},
		{"/three", "a+b+broken", Undetermined, codeUnfetched},
		{"/three", "a+b", Rejected, codeIncomplete},
		{"/three", "a+b+c", Undetermined, codeRevocationUnknown},
	} {
		var some []registry.Signature
		for _, name := range strings.Split(row.signed, "+") {
			some = append(some, signed[name])
		}
		got := p.Judge(ref(t, "r.example"+row.where+"/x:1"), artifact, some, time.Now())
		if got.Verdict != row.verdict || got.Reason != row.reason {
			t.Errorf("%s, signed by %s: %s %s (%s), want %s %s", row.where, row.signed, got.Verdict, got.Reason, got.Detail, row.verdict, row.reason)
		}
	}
}

// TestEndOfDelegation: what is accepted by a grant alone is so as long as the document holds.
func TestEndOfDelegation(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	sooner, later := now.Add(anHour), now.Add(aDay)
	granted, own := Acceptance{Root: "g", Delegated: true}, Acceptance{Root: "r"}
	for _, row := range []struct {
		name     string
		accepted []Acceptance
		until    *time.Time
		document *Delegation
		want     *time.Time
		first    string
	}{
		{"ends before", []Acceptance{granted}, &sooner, &Delegation{Expires: &later}, &sooner, "leaf"},
		{"ends after", []Acceptance{granted}, &later, &Delegation{Expires: &sooner}, &sooner, endOfDelegation},
		{"no end", []Acceptance{granted}, nil, &Delegation{Expires: &later}, &later, endOfDelegation},
		{"accepted by another too", []Acceptance{granted, own}, &later, &Delegation{Expires: &sooner}, &later, "leaf"},
		{"no document", []Acceptance{own}, &later, nil, &later, "leaf"},
		{"not accepted", nil, &later, &Delegation{Expires: &sooner}, &later, "leaf"},
	} {
		f := finding{Judged: Judged{Accepted: len(row.accepted) > 0, AcceptedBy: row.accepted, HoldsUntil: row.until, FirstToEnd: "leaf"}}
		f.endsWith(row.document)
		if !f.HoldsUntil.Equal(*row.want) || f.FirstToEnd != row.first {
			t.Errorf("%s: until %v (%s), want %v (%s)", row.name, f.HoldsUntil, f.FirstToEnd, row.want, row.first)
		}
	}
}

// TestLongStrangers: what a stranger's long signature says of itself does not stand in a report, and what a trusted one says does.
func TestLongStrangers(t *testing.T) {
	t.Parallel()
	a, b := newSignatory("a"), newSignatory("b")
	long := payloadOf(artifact)
	long.Annotations = map[string]string{"note": strings.Repeat("x", maxTold)}
	short := payloadOf(artifact)
	short.Annotations = map[string]string{"note": "x"}
	for _, row := range []struct {
		by      *signatory
		payload envelope.Payload
		told    bool
	}{{a, long, true}, {a, short, true}, {b, short, true}, {b, long, false}} {
		got := oneRoot(t, a).Judge(ref(t, "r.example/x:1"), artifact, sigs(row.by.sign(t, signing{payload: &row.payload})), time.Now()).Signatures[0]
		if (got.Metadata != nil) != row.told || (got.Chain != nil) != row.told || got.Identity == "" || got.Core == "" {
			t.Errorf("of root a %v, %d bytes: %d annotations, %d certificates", row.by == a, len(row.payload.Annotations["note"]), len(got.Metadata), len(got.Chain))
		}
	}
	for age, want := range map[time.Duration]string{aDay: "1 day", 2 * aDay: "2 days", 90 * time.Minute: "1h30m0s"} {
		if got := ageText(age); got != want {
			t.Errorf("%v is %q, want %q", age, got, want)
		}
	}
}

// TestStands: a pin says where alone, also of certificates that could not stand there in any chain that is valid.
func TestStands(t *testing.T) {
	t.Parallel()
	top := certtest.Root("root")
	ca := top.Intermediate("ca")
	chain := certchain.Chain(ca.Chain(ca.Leaf(certtest.Key("P-256").Public(), "leaf")))
	for p, want := range map[pin][3]bool{pinLeaf: {true, false, false}, pinIntermediate: {false, true, true}, pinRoot: {false, false, true}} {
		for i, cert := range chain {
			if got := (&root{certificates: []*x509.Certificate{cert}, pin: p}).stands(chain); got != want[i] {
				t.Errorf("pin %s, certificate %d: %v", p, i, got)
			}
		}
	}
	lone := chain[2:]
	for p, want := range map[pin]bool{pinLeaf: true, pinIntermediate: false, pinRoot: true} {
		if got := (&root{certificates: lone, pin: p}).stands(lone); got != want {
			t.Errorf("pin %s, alone: %v", p, got)
		}
	}
}

// TestKnowledge: what refuses for certain outweighs what is not known, of whichever chain it is, and every question is kept.
func TestKnowledge(t *testing.T) {
	t.Parallel()
	fine, unknown, refused := knowledge{asks: make([]question, 1)}, knowledge{code: "u", asks: make([]question, 1)}, knowledge{code: "r", refused: true}
	for _, row := range []struct {
		a, b knowledge
		code string
		asks int
	}{
		{fine, fine, "", 2}, {fine, unknown, "u", 2}, {unknown, fine, "u", 2}, {unknown, refused, "r", 1}, {refused, unknown, "r", 1}, {fine, refused, "r", 1},
	} {
		if got := row.a.and(row.b); got.code != row.code || got.refused != (row.code == "r") || len(got.asks) != row.asks {
			t.Errorf("%+v and %+v: %+v", row.a, row.b, got)
		}
	}
}
