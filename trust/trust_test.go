package trust

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry"
)

// A signatory is a leaf under a root of its own.
type signatory struct {
	root  *certtest.Authority
	key   crypto.Signer
	chain certchain.Chain
}

func newSignatory(name string, edits ...certtest.Edit) *signatory {
	root := certtest.Root(name + " root")
	key := certtest.Key("P-256")
	return &signatory{root, key, root.Chain(root.Leaf(key.Public(), name, edits...))}
}

func (s *signatory) pem() string { return string(certtest.PEM(s.root.Certificate)) }

// under issues another leaf under the same root.
func (s *signatory) under(name string, edits ...certtest.Edit) *signatory {
	key := certtest.Key("P-256")
	return &signatory{s.root, key, s.root.Chain(s.root.Leaf(key.Public(), name, edits...))}
}

func organisation(o string) certtest.Edit {
	return certtest.Subject(pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{o}, CommonName: "release"})
}

var artifact = describe("the artifact")

func describe(content string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(content), Size: int64(len(content))}
}

func payloadOf(d ocispec.Descriptor) envelope.Payload {
	return envelope.Payload{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// A signing is what a test asks of a signature; the zero value signs artifact now and claims nothing.
type signing struct {
	payload *envelope.Payload
	claims  []string // nil: none at all
	at      time.Time
	expiry  time.Time
	format  envelope.Format
}

func (s *signatory) sign(t testing.TB, o signing) registry.Signature {
	t.Helper()
	p := payloadOf(artifact)
	if o.payload != nil {
		p = *o.payload
	}
	if o.claims != nil {
		p.Annotations = map[string]string{envelope.ClaimsAnnotation: envelope.EncodeClaims(o.claims)}
	}
	if o.at.IsZero() {
		o.at = time.Now()
	}
	if o.format == "" {
		o.format = envelope.JWS
	}
	e, err := envelope.Sign(t.Context(), o.format, p, kmstest.Key(s.key), s.chain, envelope.Options{SigningTime: o.at, Expiry: o.expiry})
	if err != nil {
		t.Fatalf("signing: %v", err)
	}
	return found(string(o.format), e.Bytes())
}

// found is a signature as the registry would have it at artifact.
func found(mediaType string, envelope []byte) registry.Signature {
	m := registry.ByArtifactType.Manifest(artifact, mediaType, envelope, nil)
	return registry.Signature{Subject: artifact, Descriptor: m.Descriptor, Manifest: m, MediaType: mediaType, Envelope: envelope}
}

// folderOf writes files into a new folder and returns the policy's name there.
func folderOf(t testing.TB, policy string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(path, []byte(policy), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// rooted is a policy with the signatories' roots, each in a file, before the rest.
func rooted(t testing.TB, by map[string]*signatory, scopes string) *Policy {
	t.Helper()
	files := map[string]string{}
	var names []string
	for name := range by {
		names = append(names, name)
	}
	sort.Strings(names)
	var b strings.Builder
	b.WriteString("version: 1\nroots:\n")
	for _, name := range names {
		files["roots/"+name+".pem"] = by[name].pem()
		fmt.Fprintf(&b, "  %s: roots/%s.pem\n", name, name)
	}
	p, err := Load(folderOf(t, b.String()+scopes, files))
	if err != nil {
		t.Fatalf("%v\n%s%s", err, b.String(), scopes)
	}
	return p
}

func ref(t testing.TB, s string) registry.Reference {
	t.Helper()
	r, err := registry.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// oneRoot trusts s everywhere.
func oneRoot(t testing.TB, s *signatory, identities ...string) *Policy {
	t.Helper()
	p, err := Single("root", []*x509.Certificate{s.root.Certificate}, identities)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// loadError asserts that err is a LoadError of a code at line:column (0: not asked), and returns it.
func loadError(t *testing.T, err error, code string, line int) *LoadError {
	t.Helper()
	var e *LoadError
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *LoadError %s", err, code)
	}
	if !errors.Is(err, ErrPolicy) {
		t.Errorf("%v is not ErrPolicy", err)
	}
	if e.Code != code {
		t.Fatalf("got code %s (%v), want %s", e.Code, err, code)
	}
	if line != 0 && e.Line != line {
		t.Errorf("got line %d (%v), want %d", e.Line, err, line)
	}
	if _, ok := Reasons()[e.Code]; !ok {
		t.Errorf("code %s is not documented", e.Code)
	}
	return e
}

// wantReport asserts verdict and reason, and that the reasons of all signatures are documented somewhere.
func wantReport(t *testing.T, r Report, verdict, reason string) {
	t.Helper()
	if r.Verdict != verdict || r.Reason != reason {
		t.Errorf("got %s %q (%s), want %s %q", r.Verdict, r.Reason, r.Detail, verdict, reason)
		for _, s := range r.Signatures {
			t.Logf("signature %s: accepted %v, root %q, %s: %s", s.Digest, s.Accepted, s.Root, s.Reason, s.Detail)
		}
	}
	if r.Passed() != (r.Verdict == Accepted || !r.Enforced) {
		t.Errorf("Passed() = %v of %s", r.Passed(), r.Verdict)
	}
	known := []map[string]string{Reasons(), envelope.Reasons(), registry.Reasons()}
	for _, code := range append([]string{r.Reason}, reasonsOf(r)...) {
		documented := code == ""
		for _, m := range known {
			documented = documented || m[code] != ""
		}
		if !documented {
			t.Errorf("code %q is not documented", code)
		}
	}
}

func reasonsOf(r Report) []string {
	var out []string
	for _, s := range r.Signatures {
		out = append(out, s.Reason)
	}
	return out
}
