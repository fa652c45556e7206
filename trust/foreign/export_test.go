package foreign

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	yaml "go.yaml.in/yaml/v4"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/trust"
)

// A stage is a folder with certificates: root, other and tsa are roots, ca an intermediate of root, leaf and own are leaves, own a
// self-signed one.
type stage struct {
	dir   string
	certs map[string]*x509.Certificate
}

func newStage(t *testing.T) stage {
	t.Helper()
	root := certtest.Root("root")
	ca := root.Intermediate("ca")
	s := stage{t.TempDir(), map[string]*x509.Certificate{
		"root":  root.Certificate,
		"ca":    ca.Certificate,
		"leaf":  ca.Leaf(certtest.Key("P-256").Public(), "leaf"),
		"own":   certtest.SelfSigned(certtest.Key("P-256"), "own"),
		"other": certtest.Root("other").Certificate,
		"tsa":   certtest.Root("tsa").Certificate,
		"tsa2":  certtest.Root("tsa2").Certificate,
	}}
	for name, c := range s.certs {
		s.write(t, name+".pem", string(certtest.PEM(c)))
	}
	return s
}

func (s stage) write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func (s stage) load(t *testing.T, policy string) *trust.Policy {
	t.Helper()
	p, err := trust.Load(s.write(t, "policy.yaml", "version: 1\n"+policy))
	if err != nil {
		t.Fatalf("%v\n%s", err, policy)
	}
	return p
}

// view is of a policy with one scope, r.example/app, for which more is written, and roots.
func (s stage) view(t *testing.T, roots, more string) trust.View {
	t.Helper()
	return s.load(t, "roots: {"+roots+"}\nscopes:\n  r.example/app: "+more+"\n").View()
}

func repositoriesOf(t *testing.T, names ...string) []Repository {
	t.Helper()
	out := []Repository{}
	for _, name := range names {
		r, err := ParseRepository(name)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// document is notation's policy among files.
func document(t *testing.T, tr Translation) notationPolicy {
	t.Helper()
	var p notationPolicy
	last := tr.Files[len(tr.Files)-1]
	if err := json.Unmarshal(last.Content, &p); err != nil {
		t.Fatalf("%s: %v", last.Name, err)
	}
	return p
}

func codes(losses []Loss) []string {
	out := []string{}
	for _, l := range losses {
		out = append(out, l.Code)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestWhatEachTargetCanSay: what each says of one scope, by what it loses and by which roots are trusted there in the end; "" is
// that nothing is left.
func TestWhatEachTargetCanSay(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	authority := certtest.Root("lists")
	const trustsRoot = "root: root.pem"
	both := trustsRoot + ", other: other.pem"
	const acme = `identities: ["C=US, ST=WA, O=Acme"]`
	for _, c := range []struct {
		name, roots, scope              string
		notation, ratify, kyverno       []string // losses
		inNotation, inRatify, inKyverno string   // roots
	}{
		{name: "plain", roots: trustsRoot, scope: "{trust: [root], claims: ignore}", inNotation: "root", inRatify: "root", inKyverno: "root"},
		{name: "claims if present", roots: trustsRoot, scope: "[root]", notation: []string{"claims-if-present"}, ratify: []string{"claims-if-present"},
			kyverno: []string{"claims-if-present"}, inNotation: "root", inRatify: "root", inKyverno: "root"},
		{name: "claims of a tag", roots: both, scope: "{trust: [root, {root: other, claims: tag}], claims: ignore}", notation: []string{"claims"},
			ratify: []string{"claims"}, kyverno: []string{"claims"}, inNotation: "root", inRatify: "root", inKyverno: "root"},
		{name: "claims of a name", roots: trustsRoot, scope: "{trust: [root], claims: name}", notation: []string{"claims"}, ratify: []string{"claims"}, kyverno: []string{"claims"}},
		{name: "max-age", roots: both, scope: "{trust: [root, {root: other, max-age: 1d}], claims: ignore}", notation: []string{"max-age"},
			ratify: []string{"max-age"}, kyverno: []string{"max-age"}, inNotation: "root", inRatify: "root", inKyverno: "root"},
		{name: "algorithms", roots: both, scope: "{trust: [root, {root: other, algorithms: [ES256]}], claims: ignore}", notation: []string{"algorithms"},
			ratify: []string{"algorithms"}, kyverno: []string{"algorithms"}, inNotation: "root", inRatify: "root", inKyverno: "root"},
		{name: "all algorithms", roots: trustsRoot, scope: "{trust: [root], claims: ignore, algorithms: [PS256, PS384, PS512, ES256, ES384, ES512]}",
			inNotation: "root", inRatify: "root", inKyverno: "root"},
		{name: "strict", roots: trustsRoot, scope: "{trust: [root], claims: ignore, strict-x509: true}", notation: []string{"strict-x509"},
			ratify: []string{"strict-x509"}, kyverno: []string{"strict-x509"}},
		{name: "reported only", roots: trustsRoot, scope: "{trust: [root], claims: ignore, enforce: false}", notation: []string{"enforce"},
			ratify: []string{"enforce"}, inNotation: "root", inRatify: "root", inKyverno: "root audit"},
		{name: "delegated", roots: both, scope: "{trust: [root], claims: ignore, delegate: {root: other, from: registry, at: \"r.example/trust:v1\", identities: [\"O=x\"]}}",
			notation: []string{"delegate"}, ratify: []string{"delegate"}, kyverno: []string{"delegate"}, inNotation: "root", inRatify: "root", inKyverno: "root"},
		{name: "unsigned", roots: trustsRoot, scope: "{accept: unsigned}", ratify: []string{"unsigned"}, inNotation: "skip", inKyverno: "skip"},
		{name: "rejected", roots: trustsRoot, scope: "{reject: true}"},
		{name: "several", roots: both, scope: "{require: [[root], [other]], claims: ignore}", notation: []string{"require"}, ratify: []string{"require"},
			kyverno: []string{"require"}},
		{name: "several of one key", roots: both, scope: "{require: [[root], [other, root]], distinct: false, claims: ignore}", notation: []string{"require"},
			ratify: []string{"require"}, inKyverno: "root & other|root"},
		{name: "one group", roots: both, scope: "{require: [[root, other]], claims: ignore}", notation: []string{"require"},
			ratify: []string{"require"}, inKyverno: "other|root"},
		{name: "a group of which nothing is left", roots: both, scope: "{require: [[root], [{root: other, max-age: 1d}]], distinct: false, claims: ignore}",
			notation: []string{"require"}, ratify: []string{"require"}, kyverno: []string{"max-age"}},
		{name: "identities", roots: "root: {certificates: [root.pem], " + acme + "}", scope: "{trust: [root], claims: ignore}", kyverno: []string{"identities"},
			inNotation: "root (x509.subject:C=US,ST=WA,O=Acme)", inRatify: "root (x509.subject:C=US,ST=WA,O=Acme)"},
		{name: "identities of one entry", roots: both, scope: "{trust: [{root: root, " + acme + "}, other], claims: ignore}", notation: []string{"identities"},
			ratify: []string{"identities"}, kyverno: []string{"identities"}, inNotation: "other|root (x509.subject:C=US,ST=WA,O=Acme)",
			inRatify: "other|root (x509.subject:C=US,ST=WA,O=Acme)", inKyverno: "other"},
		{name: "identities of two", roots: both, scope: `{trust: [{root: root, ` + acme + `}, {root: other, identities: ["C=DE, ST=BE, O=Other"]}], claims: ignore}`,
			notation: []string{"identities"}, ratify: []string{"identities"}, kyverno: []string{"identities"}},
		{name: "identities that meet", roots: both, scope: `{trust: [{root: root, ` + acme + `}, {root: other, identities: ["C=US, ST=WA, O=Acme, CN=release"]}], claims: ignore}`,
			notation: []string{"identities"}, ratify: []string{"identities"}, kyverno: []string{"identities"},
			inNotation: "other|root (x509.subject:C=US,ST=WA,O=Acme,CN=release)", inRatify: "other|root (x509.subject:C=US,ST=WA,O=Acme,CN=release)"},
		{name: "the same identities", roots: both, scope: `{trust: [{root: root, ` + acme + `}, {root: other, ` + acme + `}], claims: ignore}`,
			kyverno: []string{"identities"}, inNotation: "other|root (x509.subject:C=US,ST=WA,O=Acme)", inRatify: "other|root (x509.subject:C=US,ST=WA,O=Acme)"},
		{name: "identities of root and entry", roots: `root: {certificates: [root.pem], identities: ["C=US, ST=WA", "C=DE, ST=BE"]}`,
			scope:   `{trust: [{root: root, identities: ["ST=WA, O=Acme"]}], claims: ignore}`,
			kyverno: []string{"identities"}, inNotation: "root (x509.subject:C=US,ST=WA,O=Acme)", inRatify: "root (x509.subject:C=US,ST=WA,O=Acme)"},
		{name: "an identity of an alternative name", roots: `root: {certificates: [root.pem], identities: ["email:a@b.example", "C=US, ST=WA, O=Acme"]}`,
			scope: "{trust: [root], claims: ignore}", notation: []string{"identities"}, ratify: []string{"identities"}, kyverno: []string{"identities"},
			inNotation: "root (x509.subject:C=US,ST=WA,O=Acme)", inRatify: "root (x509.subject:C=US,ST=WA,O=Acme)"},
		{name: "too short an identity", roots: `root: {certificates: [root.pem], identities: ["C=US, O=Acme"]}`, scope: "{trust: [root], claims: ignore}",
			notation: []string{"identities"}, ratify: []string{"identities"}, kyverno: []string{"identities"}},
		{name: "an intermediate", roots: "ca: {certificates: [ca.pem], pin: intermediate}", scope: "{trust: [ca], claims: ignore}", inNotation: "ca", inRatify: "ca", inKyverno: "ca"},
		{name: "a leaf", roots: "leaf: {certificates: [leaf.pem], pin: leaf}", scope: "{trust: [leaf], claims: ignore}", notation: []string{"pin"},
			ratify: []string{"pin"}, inKyverno: "leaf"},
		{name: "a self-signed leaf", roots: "own: {certificates: [own.pem], pin: leaf}", scope: "{trust: [own], claims: ignore}", inNotation: "own", inRatify: "own", inKyverno: "own"},
		{name: "an intermediate as a root", roots: "ca: ca.pem, root: root.pem", scope: "{trust: [ca, root], claims: ignore}", inNotation: "root", inRatify: "root", inKyverno: "root"},
		{name: "signing authority", roots: "root: {certificates: [root.pem], kind: signing-authority}", scope: "{trust: [root], claims: ignore}", kyverno: []string{"kind"},
			inNotation: "signingAuthority root", inRatify: "signingAuthority root"},
		{name: "timestamps always", roots: trustsRoot, scope: "{trust: [root], claims: ignore, timestamps: {roots: [tsa.pem], use: always}}", kyverno: []string{"timestamps"},
			inNotation: "root tsa always", inRatify: "root tsa always"},
		{name: "timestamps afterwards", roots: trustsRoot, scope: "{trust: [root], claims: ignore, timestamps: {roots: [tsa.pem], use: after-cert-expiry}}",
			kyverno: []string{"timestamps"}, inNotation: "root tsa afterCertExpiry", inRatify: "root tsa afterCertExpiry", inKyverno: "root"},
		{name: "timestamps of one", roots: both, scope: "{trust: [root, {root: other, timestamps: {roots: [tsa.pem], use: after-cert-expiry}}], claims: ignore}",
			notation: []string{"timestamps"}, ratify: []string{"timestamps"}, kyverno: []string{"timestamps"}, inKyverno: "other|root"},
		{name: "timestamps at two times", roots: both, scope: "{trust: [{root: root, timestamps: {roots: [tsa.pem], use: always}}, {root: other, timestamps: {roots: [tsa.pem], use: after-cert-expiry}}], claims: ignore}",
			notation: []string{"timestamps"}, ratify: []string{"timestamps"}, kyverno: []string{"timestamps"}, inKyverno: "other"},
		{name: "timestamps by two authorities", roots: both, scope: "{trust: [{root: root, timestamps: {roots: [tsa2.pem], use: always}}, {root: other, timestamps: {roots: [tsa.pem], use: always}}], claims: ignore}",
			notation: []string{"timestamps"}, ratify: []string{"timestamps"}, kyverno: []string{"timestamps"}},
		{name: "revocation", roots: trustsRoot, scope: "{trust: [root], claims: ignore, revocation: {check: enforce, network: true}}",
			inNotation: "root checked", inRatify: "root checked", inKyverno: "root"},
		{name: "revocation logged", roots: trustsRoot, scope: "{trust: [root], claims: ignore, revocation: {check: log, network: true}}",
			inNotation: "root logged", inRatify: "root logged", inKyverno: "root"},
		{name: "revocation by lists", roots: trustsRoot, scope: "{trust: [root], claims: ignore, revocation: {check: enforce, crl: [crl], network: true}}",
			notation: []string{"revocation"}, ratify: []string{"revocation"}, kyverno: []string{"revocation"}},
		{name: "revocation of one", roots: both, scope: "{trust: [root, {root: other, revocation: {check: log, network: true}}], claims: ignore}",
			notation: []string{"revocation"}, ratify: []string{"revocation"}, inKyverno: "other|root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := stage{t.TempDir(), s.certs}
			for name, cert := range s.certs {
				s.write(t, name+".pem", string(certtest.PEM(cert)))
			}
			list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)},
				authority.Certificate, authority.Key)
			if err != nil {
				t.Fatal(err)
			}
			s.write(t, "crl/root.crl", string(list))
			v := s.view(t, c.roots, c.scope)
			for _, to := range []struct {
				target Target
				losses []string
				want   string
			}{{Notation, c.notation, c.inNotation}, {Ratify, c.ratify, c.inRatify}, {Kyverno, c.kyverno, c.inKyverno}} {
				var repos []Repository
				if to.target != Kyverno {
					repos = repositoriesOf(t, "r.example/app")
				}
				got, err := Export(v, to.target, repos)
				if (err != nil) != (to.want == "") {
					t.Errorf("%s: %v", to.target, err)
				}
				if got := codes(got.Losses); !slices.Equal(got, to.losses) {
					t.Errorf("%s loses %q, want %q", to.target, got, to.losses)
				}
				if err == nil {
					if said := s.said(t, to.target, got); said != to.want {
						t.Errorf("%s is told %q, want %q", to.target, said, to.want)
					}
				}
				for _, l := range got.Losses {
					if (l.Effect == Wider) != (l.Code == lossIfPresent) || l.Scope != "r.example/app" {
						t.Errorf("%s: %+v", to.target, l)
					}
				}
			}
		})
	}
}

func (s stage) nameOf(t *testing.T, raw []byte) string {
	t.Helper()
	for name, c := range s.certs {
		if string(c.Raw) == string(raw) {
			return name
		}
	}
	t.Fatal("a certificate of nobody")
	return ""
}

// said tells what a target is told of the one scope.
func (s stage) said(t *testing.T, to Target, tr Translation) string {
	t.Helper()
	files := map[string][]byte{}
	for _, f := range tr.Files {
		files[f.Name] = f.Content
	}
	if to == Kyverno {
		var sets []string
		text := string(files[KyvernoFile])
		audit := ""
		if strings.Contains(text, "failureAction: Audit") {
			audit = " audit"
			if strings.Contains(text, "mutateDigest: true") || strings.Contains(text, "verifyDigest: true") {
				t.Error("Kyverno changes nothing where it only reports")
			}
		}
		for _, set := range strings.Split(text, "- count: 1")[1:] {
			var names []string
			for rest := dedent(set); ; {
				var block *pem.Block
				if block, rest = pem.Decode(rest); block == nil {
					break
				}
				names = append(names, s.nameOf(t, block.Bytes))
			}
			slices.Sort(names)
			sets = append(sets, strings.Join(names, "|"))
		}
		if len(sets) == 0 {
			return "skip"
		}
		return strings.Join(sets, " & ") + audit
	}
	if to == Ratify {
		// What it is told is notation's, which the end-to-end tests compare.
		return s.ratify(t, string(files[RatifyFile]))
	}
	p := document(t, tr)
	if len(p.Policies) != 1 || p.Version != "1.0" || !slices.Equal(p.Policies[0].Scopes, []string{"r.example/app"}) {
		t.Fatalf("%+v", p)
	}
	st := p.Policies[0]
	if st.Verification.Level == "skip" {
		if len(st.Stores)+len(st.Identities) > 0 {
			t.Errorf("%+v", st)
		}
		return "skip"
	}
	var kinds, names []string
	for _, full := range st.Stores {
		kind, store, _ := strings.Cut(full, ":")
		if kind != "ca" {
			kinds = append(kinds, kind)
		}
		for name, b := range files {
			if strings.HasPrefix(name, "truststore/x509/"+kind+"/"+store+"/") {
				block, _ := pem.Decode(b)
				if n := s.nameOf(t, block.Bytes); kind != "tsa" {
					names = append(names, n)
				} else if n != "tsa" {
					t.Errorf("the store of timestamps holds %s", n)
				}
			}
		}
	}
	slices.Sort(names)
	return describe(st, kinds, names)
}

func describe(st notationStatement, kinds, names []string) string {
	said := strings.Join(names, "|")
	for _, kind := range kinds {
		if kind == "tsa" {
			said += " tsa " + st.Verification.VerifyTimestamp
		} else {
			said = kind + " " + said
		}
	}
	if st.Verification.Level != "strict" {
		said += " level " + st.Verification.Level
	}
	switch st.Verification.Override["revocation"] {
	case "":
		said += " checked"
	case "log":
		said += " logged"
	}
	if !slices.Equal(st.Identities, []string{"*"}) {
		said += fmt.Sprintf(" (%s)", strings.Join(st.Identities, " or "))
	}
	return said
}

func (s stage) ratify(t *testing.T, text string) string {
	t.Helper()
	docs := strings.Split(text, "\n---\n")
	stores := map[string][]string{}
	for _, doc := range docs[:len(docs)-1] {
		_, name, _ := strings.Cut(doc, "name: ")
		name, _, _ = strings.Cut(name, "\n")
		for rest := dedent(doc); ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			stores[name] = append(stores[name], s.nameOf(t, block.Bytes))
		}
	}
	var v struct {
		Spec ratifyVerifier `yaml:"spec"`
	}
	unmarshal(t, docs[len(docs)-1], &v)
	var kinds, names []string
	st := v.Spec.Parameters.Policy.Policies[0]
	for _, full := range st.Stores {
		kind, store, _ := strings.Cut(full, ":")
		if kind != "ca" {
			kinds = append(kinds, kind)
		}
		for _, provider := range v.Spec.Parameters.Stores[kind][store] {
			if kind != "tsa" {
				names = append(names, stores[provider]...)
			}
		}
	}
	slices.Sort(names)
	return describe(st, kinds, names)
}

func dedent(text string) []byte {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimLeft(line, " "))
	}
	return []byte(b.String())
}

// TestScopesOfNotation: which repositories are named without a list, and that * never stands beside what it would be wrong for.
func TestScopesOfNotation(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	const head = "roots: {root: root.pem, other: other.pem}\nscopes:\n"
	for _, c := range []struct {
		name, scopes string
		repos        []string
		losses       []string
		want         string
		err          bool
	}{
		{name: "everything", scopes: `  "*": {trust: [root], claims: ignore}`, want: "everything: *"},
		{name: "an exception", scopes: "  \"*\": {trust: [root], claims: ignore}\n  r.example/a: {reject: true}", losses: []string{"everything"}, err: true},
		{name: "a longer scope", scopes: "  \"*\": {trust: [root], claims: ignore}\n  r.example/a: {trust: [other], claims: ignore}",
			losses: []string{"everything", "prefix"}, want: "r.example/a: r.example/a"},
		{name: "a host", scopes: "  r.example: {trust: [root], claims: ignore}", losses: []string{"prefix"}, err: true},
		{name: "listed", scopes: "  \"*\": {trust: [root], claims: ignore}\n  r.example/a: {trust: [other], claims: ignore}\n  r.example/a/no: {reject: true}",
			repos: []string{"r.example/a/x", "r.example/a/x", "R.example:443/a/x:1.0", "q.example/y@sha256:" + strings.Repeat("0", 64), "r.example/a/no/z"},
			want:  "everything: q.example/y; r.example/a: R.example:443/a/x r.example/a/x"},
		{name: "listed without a scope", scopes: "  r.example: {trust: [root], claims: ignore}", repos: []string{"q.example/y"}, err: true},
		{name: "nothing listed", scopes: "  r.example: {trust: [root], claims: ignore}", repos: []string{}, err: true},
		{name: "an address", scopes: `  "*": {trust: [root], claims: ignore}`, repos: []string{"[::1]:5000/a", "r.example/a"}, losses: []string{"scope"}, want: "everything: r.example/a"},
		{name: "mirrored", scopes: "  r.example/a: {trust: [root], claims: ignore}\nmirrors: {r.example/a: [m.example/a]}", repos: []string{"m.example/a/b", "r.example/a/b"},
			want: "m.example/a: m.example/a/b; r.example/a: r.example/a/b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := stage{t.TempDir(), s.certs}
			for name, cert := range s.certs {
				s.write(t, name+".pem", string(certtest.PEM(cert)))
			}
			var repos []Repository
			if c.repos != nil {
				repos = repositoriesOf(t, c.repos...)
			}
			tr, err := Export(s.load(t, head+c.scopes+"\n").View(), Notation, repos)
			if (err != nil) != c.err {
				t.Fatalf("%v", err)
			}
			if got := codes(tr.Losses); !slices.Equal(got, c.losses) {
				t.Errorf("loses %q, want %q", got, c.losses)
			}
			if err != nil {
				return
			}
			var said []string
			for _, st := range document(t, tr).Policies {
				said = append(said, st.Name+": "+strings.Join(st.Scopes, " "))
			}
			if got := strings.Join(said, "; "); got != c.want {
				t.Errorf("says %q, want %q", got, c.want)
			}
		})
	}
}

// TestLosses: a check says what an export would lose, and every loss has a word in Codes.
func TestLosses(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	v := s.load(t, "roots: {root: root.pem}\nscopes:\n  r.example: [root]\n  r.example/a: {trust: [root], max-age: 1d}\n").View()
	for to, want := range map[Target][]string{
		Notation: {"max-age", "prefix"},
		Ratify:   {"max-age", "prefix"},
		Kyverno:  {"claims-if-present", "max-age"},
	} {
		losses := Losses(v, to)
		if got := codes(losses); !slices.Equal(got, want) {
			t.Errorf("%s loses %q, want %q", to, got, want)
		}
		tr := Translation{Losses: losses}
		if got := codes(tr.Unaccepted([]string{"max-age"})); !slices.Equal(got, slices.DeleteFunc(slices.Clone(want), func(c string) bool { return c == "max-age" })) {
			t.Errorf("%s: %q are not accepted", to, got)
		}
	}
	if _, err := Export(v, "cosign", nil); err == nil {
		t.Error("a policy was exported to cosign")
	}
	if _, err := Export(v, Kyverno, repositoriesOf(t, "r.example/a")); err == nil {
		t.Error("repositories were listed for Kyverno")
	}
}

// TestStoresOfOneName: roots whose names come to the same one are stores of their own.
func TestStoresOfOneName(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	v := s.view(t, `"a b": root.pem, "A-B": other.pem`, `{trust: ["a b", "A-B"], claims: ignore}`)
	tr, err := Export(v, Notation, repositoriesOf(t, "r.example/app"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"ca:A-B-2", "ca:a-b"}, document(t, tr).Policies[0].Stores); diff != "" {
		t.Error(diff)
	}
}

// TestSubjects: an identity means to notation what it means here, whatever characters are in it.
func TestSubjects(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want, why string }{
		{text: "O=Acme, ST=WA, C=US", want: "C=US,ST=WA,O=Acme"},
		{text: "C=US, S=WA, O=Acme", want: "C=US,ST=WA,O=Acme"},
		{text: `C=US, ST=WA, O=Acme\, Inc.`, want: `C=US,ST=WA,O=Acme\2c Inc.`},
		{text: `C=US, ST=WA, O=\#1\+1\=2`, want: `C=US,ST=WA,O=\231\2b1\3d2`},
		{text: `C=US, ST=WA, O=\ a\ `, want: `C=US,ST=WA,O=\20a\20`},
		{text: "C=DE, ST=BE, O=Grün, L=Köln", want: "C=DE,ST=BE,L=Köln,O=Grün"},
		{text: "C=US, ST=WA, O=Acme, DC=example", why: "does not know the attribute"},
		{text: "C=US, ST=WA, O=Acme, OU=a, OU=b", why: "two OU"},
		{text: "C=US, ST=WA, O=Acme+CN=x", why: "several values"},
		{text: "uri:https://ci.example/x", why: "alternative"},
	} {
		sub, why := subjectOf(c.text)
		if c.why != "" {
			if !strings.Contains(why, c.why) {
				t.Errorf("%s: %q, want %q", c.text, why, c.why)
			}
			continue
		}
		if sub.String() != c.want || why != "" {
			t.Errorf("%s: %q %s, want %q", c.text, sub, why, c.want)
		}
		// Back again it is the same.
		if again, why := subjectOf(sub.String()); why != "" || !cmp.Equal(again, sub) {
			t.Errorf("%s: %v %s", sub, again, why)
		}
	}
	// A value that is no text.
	raw, err := asn1.Marshal(pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, why := subjectOf(fmt.Sprintf("O=#%x", raw[len(raw)-3:])); why == "" {
		t.Error("a number passes for text")
	}
}

// TestPinned: what can stand nowhere in a chain that is accepted here, and anywhere there. Most of it does not even load.
func TestPinned(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for pin, want := range map[string]string{"root": "root own", "intermediate": "root ca", "leaf": "own"} {
		for _, to := range []Target{Notation, Ratify, Kyverno} {
			want := want
			if pin == "leaf" && to == Kyverno {
				want = "leaf own"
			}
			var got []string
			x := newExporter(trust.View{}, to)
			for _, name := range []string{"root", "ca", "leaf", "own"} {
				for range x.pinned(trust.RootView{Pin: pin, Certificates: []*x509.Certificate{s.certs[name]}}, func(string, string) {}) {
					got = append(got, name)
				}
			}
			if got := strings.Join(got, " "); got != want {
				t.Errorf("pin %s in %s: %s, want %s", pin, to, got, want)
			}
		}
	}
}

func TestLeast(t *testing.T) {
	t.Parallel()
	a, ab, b := subject{"O": "a"}, subject{"O": "a", "CN": "b"}, subject{"O": "b"}
	for _, c := range []struct{ in, want names }{
		{names{a, ab, b}, names{a, b}},
		{names{ab, a}, names{a}},
		{names{a, a}, names{a}},
		{names{ab}, names{ab}},
		{nil, nil},
	} {
		if got := c.in.least(); !got.equal(c.want) {
			t.Errorf("least of %v is %v, want %v", c.in, got, c.want)
		}
	}
}

// TestViewIsWhatAPolicyMeans: the view that all of this speaks from.
func TestViewIsWhatAPolicyMeans(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p := s.load(t, `
roots: {root: root.pem, other: {certificates: [other.pem], identities: ["O=x"]}}
timestamps: {roots: [tsa.pem], use: always}
revocation: {check: log, network: true}
scopes:
  r.example: {trust: [root], claims: tag, max-age: 2d}
  r.example/a: {trust: [{root: other, identities: ["CN=y"], algorithms: [ES256], timestamps: {roots: [tsa.pem], use: after-cert-expiry}, revocation: {check: "off"}}], inherit: true, claims: name, enforce: false, timestamps: {roots: [tsa2.pem], use: after-cert-expiry}}
  r.example/a/q: {require: [[root], [other]], distinct: false, strict-x509: true}
mirrors: {r.example/a/q: [m.example/q]}
`)
	v := p.View()
	a := v.Select(repositoriesOf(t, "r.example/a/b")[0].Reference)
	if a == nil || a.Name != "r.example/a" || a.Rule != "trust" || !a.Inherits || a.Enclosing != "r.example" || a.Enforced || a.StrictX509 {
		t.Fatalf("%+v", a)
	}
	if len(a.Trust) != 2 {
		t.Fatalf("%+v", a.Trust)
	}
	own, inherited := a.Trust[0], a.Trust[1]
	if own.Root.Name != "other" || !slices.Equal(own.Root.Identities, []string{"O=x"}) || !slices.Equal(own.Identities, []string{"CN=y"}) ||
		!slices.Equal(own.Algorithms, []string{"ES256"}) || own.Claims != "name" || own.MaxAge != 0 || own.Timestamps.Use != "after-cert-expiry" ||
		!own.Timestamps.Roots[0].Equal(s.certs["tsa"]) || own.Revocation.Check != "off" {
		t.Errorf("%+v", own)
	}
	// The settings of the enclosing scope do not come along.
	if inherited.Root.Name != "root" || inherited.Claims != "name" || inherited.MaxAge != 0 || inherited.Algorithms != nil || inherited.Timestamps.Use != "after-cert-expiry" ||
		!inherited.Timestamps.Roots[0].Equal(s.certs["tsa2"]) || inherited.Revocation != (trust.RevocationView{Check: "log", Network: true}) {
		t.Errorf("%+v", inherited)
	}
	q := v.Select(repositoriesOf(t, "m.example/q/z")[0].Reference)
	if q == nil || q.Mirrors != "r.example/a/q" || q.Rule != "require" || len(q.Groups) != 2 || q.Distinct || !q.StrictX509 || q.Groups[0][0].Timestamps.Use != "always" {
		t.Errorf("%+v", q)
	}
	if s := v.Select(repositoriesOf(t, "r.example2/a")[0].Reference); s != nil {
		t.Errorf("%+v", s)
	}
	narrow, err := p.Narrow(trust.Narrowing{OnlyRoots: []string{"root"}, MaxAge: time.Hour, Algorithms: []string{"ES384"}, RequireClaim: true})
	if err != nil {
		t.Fatal(err)
	}
	a = narrow.View().Select(repositoriesOf(t, "r.example/a/b")[0].Reference)
	if len(a.Trust) != 1 || a.Trust[0].Root.Name != "root" || a.Trust[0].MaxAge != time.Hour || !slices.Equal(a.Trust[0].Algorithms, []string{"ES384"}) {
		t.Errorf("%+v", a.Trust)
	}
}

func unmarshal(t *testing.T, text string, v any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), v); err != nil {
		t.Fatal(err)
	}
}
