package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/registry"
)

// written loads the policy of a proposal from where its files would be.
func written(t *testing.T, p Proposal) *Policy {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "roots"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range p.Files() {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	policy, err := Load(filepath.Join(dir, "policy.yaml"))
	if err != nil {
		t.Fatalf("%v\n%s", err, p.policy())
	}
	if w := policy.Warnings(time.Now()); len(w) > 0 {
		t.Errorf("warnings %q", w)
	}
	return policy
}

func prints(signatories ...*signatory) []string {
	var out []string
	for _, s := range signatories {
		out = append(out, certchain.Thumbprint(s.root.Certificate))
	}
	return out
}

// TestProposeTakesNoRootByItself: with a stranger's signature beside the right one nothing is chosen, and only roots whose whole
// fingerprint is handed in get into a policy (S09: no trust on first use).
func TestS09ProposeTakesNoRootByItself(t *testing.T) {
	t.Parallel()
	org, evil := newSignatory("org", organisation("Acme")), newSignatory("org", organisation("Acme"))
	now := time.Now()
	looked := Looked{ref(t, "harbor.example/app:1.0"), artifact, []registry.Signature{evil.sign(t, signing{claims: []string{"1.0"}}), org.sign(t, signing{claims: []string{"1.0"}})}}
	p := Propose([]Looked{looked}, now)
	if len(p.Roots) != 2 || p.Roots[0].Name == p.Roots[1].Name || p.Roots[0].File == p.Roots[1].File {
		t.Fatalf("two roots of one name: %+v", p.Roots)
	}
	for _, r := range p.Roots {
		if r.Name != "org-root-"+r.Certificate.Thumbprint[:8] || r.Signatures != 1 || !slices.Equal(r.Identities, []string{"C=US, ST=WA, O=Acme, CN=release"}) {
			t.Errorf("%+v", r)
		}
	}
	slices.Reverse(looked.Signatures)
	if again := Propose([]Looked{looked}, now); again.Roots[0].Name != p.Roots[0].Name {
		t.Error("the order of the registry decides")
	}
	chosen, err := p.Choose([]string{strings.ToUpper(prints(org)[0])})
	if err != nil {
		t.Fatal(err)
	}
	policy := written(t, chosen)
	wantReport(t, policy.Judge(looked.Reference, artifact, looked.Signatures, now), Accepted, "")
	wantReport(t, policy.Judge(looked.Reference, artifact, []registry.Signature{evil.sign(t, signing{claims: []string{"1.0"}})}, now), Rejected, codeNoTrusted)
	// It asks for what was seen: the identity, the claim, this repository.
	other := org.under("another", organisation("Other"))
	wantReport(t, policy.Judge(looked.Reference, artifact, []registry.Signature{other.sign(t, signing{claims: []string{"1.0"}})}, now), Rejected, codeMismatch)
	wantReport(t, policy.Judge(looked.Reference, artifact, []registry.Signature{org.sign(t, signing{})}, now), Rejected, codeClaimsMissing)
	wantReport(t, policy.Judge(ref(t, "harbor.example/other:1.0"), artifact, looked.Signatures, now), Rejected, codeNoScope)

	colons := strings.Join(slices.Collect(func(yield func(string) bool) {
		for i := 0; i < 64; i += 2 {
			if !yield(prints(org)[0][i : i+2]) {
				return
			}
		}
	}), ":")
	if c, err := p.Choose([]string{colons}); err != nil || len(c.Roots) != 1 || c.Roots[0].Certificate.Thumbprint != prints(org)[0] {
		t.Errorf("a fingerprint as openssl prints it: %v", err)
	}
	for print, code := range map[string]string{prints(org)[0][:63]: codeFingerprint, "": codeFingerprint, prints(org)[0] + "0": codeFingerprint,
		strings.Repeat("g", 64): codeFingerprint, strings.Repeat("0", 64): codeRootNotFound} {
		_, err := p.Choose([]string{prints(org)[0], print})
		if reasonOf(err, "") != code || !errors.Is(err, ErrPolicy) {
			t.Errorf("fingerprint %q: %v", print, err)
		}
	}
}

func TestProposeLeavesOutWhatNoPolicyAccepts(t *testing.T) {
	t.Parallel()
	now := time.Now()
	org := newSignatory("org")
	root, key := certtest.Root("over root", certtest.Valid(now.Add(-99*time.Hour), now.Add(99*time.Hour))), certtest.Key("P-256")
	over := &signatory{root, key, root.Chain(root.Leaf(key.Public(), "over", certtest.Valid(now.Add(-48*time.Hour), now.Add(-24*time.Hour))))}
	other := describe("another artifact")
	payload := payloadOf(other)
	broken := org.sign(t, signing{})
	broken.Envelope = []byte("{}")
	sigs := []registry.Signature{
		org.sign(t, signing{}),
		over.sign(t, signing{at: now.Add(-36 * time.Hour)}),
		org.sign(t, signing{payload: &payload}),
		org.sign(t, signing{at: now.Add(-2 * time.Hour), expiry: now.Add(-time.Hour)}),
		org.sign(t, signing{claims: []string{"2.0"}}),
		broken,
		{Err: registry.ErrUnavailable},
	}
	p := Propose([]Looked{{ref(t, "a.example/app:1.0"), artifact, sigs}, {ref(t, "a.example/none:1.0"), other, nil}}, now)
	var reasons []string
	for _, l := range p.LeftOut {
		reasons = append(reasons, l.Reason)
	}
	slices.Sort(reasons)
	want := []string{codeCertExpired, codeNotCovered, codeExpired, codePayload, codeUnfetched, codeUnsigned}
	for _, code := range want {
		if !slices.Contains(reasons, code) {
			t.Errorf("left out %q, not %s", reasons, code)
		}
	}
	if len(reasons) != 7 || len(p.Roots) != 1 || p.Roots[0].Signatures != 1 || p.Artifacts[0].Usable != 1 || p.Artifacts[0].Signatures != 7 || p.Artifacts[1].Usable != 0 {
		t.Errorf("%q %+v %+v", reasons, p.Roots, p.Artifacts)
	}
	if len(p.Scopes) != 1 || p.Scopes[0].Claims != "" {
		t.Errorf("%+v", p.Scopes)
	}
	only := Propose([]Looked{{ref(t, "a.example/app:1.0"), artifact, sigs[1:]}}, now)
	if len(only.Roots) != 0 || len(only.Scopes) != 0 || only.Roots == nil {
		t.Errorf("%+v", only)
	}
}

// TestProposeScopes: each repository its own scope with those who signed there; identities stand with the root where all scopes agree.
func TestProposeScopes(t *testing.T) {
	t.Parallel()
	now := time.Now()
	org, vendor := newSignatory("org", organisation("Acme")), newSignatory("vendor", organisation("Vendor"))
	bot := org.under("bot", organisation("Bot"))
	a, b, c := ref(t, "a.example/x:1.0"), ref(t, "a.example/x/y:1.0"), ref(t, "b.example:5000/z:1.0")
	looked := []Looked{
		{a, artifact, []registry.Signature{org.sign(t, signing{claims: []string{"1.0"}}), vendor.sign(t, signing{claims: []string{"1.0", "1"}})}},
		{b, artifact, []registry.Signature{bot.sign(t, signing{claims: []string{"1.0"}})}},
		{c, artifact, []registry.Signature{vendor.sign(t, signing{})}},
		{c.With("", artifact.Digest), artifact, []registry.Signature{vendor.sign(t, signing{claims: []string{}})}},
	}
	p, err := Propose(looked, now).Choose(prints(org, vendor))
	if err != nil {
		t.Fatal(err)
	}
	policy := written(t, p)
	for _, l := range looked {
		wantReport(t, policy.Judge(l.Reference, artifact, l.Signatures, now), Accepted, "")
	}
	wantReport(t, policy.Judge(a, artifact, looked[1].Signatures, now), Rejected, codeMismatch)
	wantReport(t, policy.Judge(b, artifact, looked[0].Signatures, now), Rejected, codeMismatch)
	wantReport(t, policy.Judge(c, artifact, looked[1].Signatures, now), Rejected, codeNoTrusted)
	text := string(p.policy())
	for _, want := range []string{`vendor-root: {certificates: [roots/vendor-root.pem], identities: ["C=US, ST=WA, O=Vendor, CN=release"]}`, "  org-root: {certificates: [roots/org-root.pem]}\n",
		`a.example/x: {trust: [{root: org-root, identities: ["C=US, ST=WA, O=Acme, CN=release"]}, vendor-root], claims: tag}`, `"b.example:5000/z": {trust: [vendor-root]}`,
		"one signature by any of these is enough", "#   a.example/x:1.0@" + string(artifact.Digest)} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(strings.ReplaceAll(text, "trust: [", ""), "trusted") {
		t.Errorf("it says trusted:\n%s", text)
	}
}

// TestProposeNameless: to ask the others of a root for their names would refuse the leaf that has none, and of that it is told.
func TestProposeNameless(t *testing.T) {
	t.Parallel()
	now := time.Now()
	org := newSignatory("org", organisation("Acme"))
	nameless := org.under("nameless", certtest.Subject(pkix.Name{}))
	a, b := ref(t, "a.example/x:1.0"), ref(t, "b.example/x:1.0")
	looked := []Looked{
		{a, artifact, sigs(org.sign(t, signing{}), nameless.sign(t, signing{}))},
		{b, artifact, sigs(org.sign(t, signing{}))},
	}
	p, err := Propose(looked, now).Choose(prints(org))
	if err != nil {
		t.Fatal(err)
	}
	if want := []ProposedScope{{Scope: "a.example/x", Trust: []ProposedEntry{{Root: "org-root"}}},
		{Scope: "b.example/x", Trust: []ProposedEntry{{Root: "org-root", Identities: []string{"C=US, ST=WA, O=Acme, CN=release"}}}}}; !cmp.Equal(p.Scopes, want) {
		t.Error(cmp.Diff(want, p.Scopes))
	}
	if want := []string{"a leaf under root org-root has no name that a policy could ask for: any leaf under that root would do"}; !slices.Equal(p.Notes, want) {
		t.Errorf("notes %q", p.Notes)
	}
	policy := written(t, p)
	for _, sig := range looked[0].Signatures {
		wantReport(t, policy.Judge(a, artifact, sigs(sig), now), Accepted, "")
	}
	wantReport(t, policy.Judge(b, artifact, looked[0].Signatures[1:], now), Rejected, codeMismatch)
}

// TestProposeNames: whatever a certificate calls itself, the policy reads back, and asks for no less.
func TestProposeNames(t *testing.T) {
	t.Parallel()
	now := time.Now()
	uri, _ := url.Parse("https://ci.example/team")
	for name, edit := range map[string]certtest.Edit{
		"quotes":    certtest.Subject(pkix.Name{Organization: []string{`A "b", c\d; #x: {y}`}, CommonName: "it's & 'so'"}),
		"new lines": certtest.Subject(pkix.Name{CommonName: "a\nroots: {evil: x.pem}"}),
		"bidi":      certtest.Subject(pkix.Name{CommonName: "a\u202eb"}),
		"words":     certtest.Subject(pkix.Name{CommonName: "true"}),
		"none":      certtest.Subject(pkix.Name{}),
		"umlauts":   certtest.Subject(pkix.Name{CommonName: "Müller Æ ÿ 鍵"}),
	} {
		root := certtest.Root("root", edit)
		key := certtest.Key("P-256")
		leaf := root.Leaf(key.Public(), "leaf", edit)
		if name == "none" {
			leaf = root.Leaf(key.Public(), "leaf", edit, func(c *x509.Certificate) { c.URIs = []*url.URL{uri} })
		}
		s := &signatory{root, key, root.Chain(leaf)}
		l := Looked{ref(t, "a.example/x:1.0"), artifact, []registry.Signature{s.sign(t, signing{})}}
		p := Propose([]Looked{l}, now)
		if len(p.Roots) != 1 {
			t.Errorf("%s: %+v", name, p.LeftOut)
			continue
		}
		chosen, err := p.Choose(prints(s))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Trim(chosen.Roots[0].Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			t.Errorf("%s: a root is named %q", name, chosen.Roots[0].Name)
		}
		policy := written(t, chosen)
		wantReport(t, policy.Judge(l.Reference, artifact, l.Signatures, now), Accepted, "")
		other := (&signatory{root, key, root.Chain(root.Leaf(key.Public(), "other"))}).sign(t, signing{})
		wantReport(t, policy.Judge(l.Reference, artifact, []registry.Signature{other}, now), Rejected, codeMismatch)
	}
	for name, want := range map[string]string{"unsigned": "unsigned-", "Acme Root CA": "acme-root-ca", "***": "root", strings.Repeat("x", 80): strings.Repeat("x", 32)} {
		s := newSignatory("s")
		s.root = certtest.Root(name)
		s.chain = s.root.Chain(s.root.Leaf(s.key.Public(), "leaf"))
		p := Propose([]Looked{{ref(t, "a.example/x:1.0"), artifact, []registry.Signature{s.sign(t, signing{})}}}, now)
		if len(p.Roots) != 1 || !strings.HasPrefix(p.Roots[0].Name, want) || !strings.HasSuffix(want, "-") && p.Roots[0].Name != want {
			t.Errorf("%s: %+v", name, p.Roots)
		}
	}
}

// TestProposeTimestamps: a root of timestamps is proposed where the token brings it, for who hands in its fingerprint too; where it
// does not, that is said.
func TestProposeTimestamps(t *testing.T) {
	t.Parallel()
	w := newStampedWorld(t)
	now := w.begin.Add(10 * aDay)
	stamped := func(tsa *tsatest.Authority) Looked {
		return Looked{ref(t, "a.example/x:1.0"), artifact, []registry.Signature{w.with(w.sign(signing{}), w.at(tsa, w.begin.Add(aDay)))}}
	}
	without := stamped(w.tsa)
	p := Propose([]Looked{without}, now)
	if len(p.Authorities) != 0 || len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "does not bring the root") {
		t.Errorf("a token without its root: %+v %q", p.Authorities, p.Notes)
	}
	clock := tsatest.New(tsatest.Options{BringRoot: true})
	root := clock.Root
	l := stamped(clock)
	p = Propose([]Looked{l}, now)
	if len(p.Authorities) != 1 || len(p.Notes) != 0 || p.Authorities[0].Name != "tsa-tsa-root" || p.Authorities[0].Signatures != 1 {
		t.Fatalf("a token with its root: %+v %q %+v", p.Authorities, p.Notes, p.LeftOut)
	}
	alone, err := p.Choose(prints(w.s))
	if err != nil || strings.Contains(string(alone.policy()), "timestamps:") || len(alone.Authorities) != 0 {
		t.Fatalf("%v\n%s", err, alone.policy())
	}
	policy := written(t, alone)
	wantReport(t, policy.Judge(l.Reference, artifact, l.Signatures, now), Accepted, "")
	tsa := certchain.Thumbprint(root.Certificate)
	if _, err := p.Choose([]string{tsa}); reasonOf(err, "") != codeRootNotFound {
		t.Errorf("a root of timestamps alone: %v", err)
	}
	both, err := p.Choose(append(prints(w.s), tsa))
	if err != nil {
		t.Fatal(err)
	}
	policy = written(t, both)
	wantReport(t, policy.Judge(l.Reference, artifact, l.Signatures, now), Accepted, "")
	wantReport(t, policy.Judge(l.Reference, artifact, l.Signatures, w.end.Add(aDay)), Accepted, "")
}
