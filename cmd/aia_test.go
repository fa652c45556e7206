package cmd

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/cmd/ui"
)

// A published hierarchy says in its certificates where its issuers are, on a server of the test.
type published struct {
	key                  crypto.Signer
	leaf                 *x509.Certificate
	ca, renewed, root    *x509.Certificate
	requests, renewedNow atomic.Int64
}

func (p *published) chain() []byte { return certtest.PEM(p.leaf, p.ca, p.root) }

func publish(t *testing.T) *published {
	t.Helper()
	p := &published{key: certtest.Key("P-256")}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.requests.Add(1)
		switch {
		case r.URL.Path == "/ca.crt" && p.renewedNow.Load() > 0:
			w.Write(p.renewed.Raw)
		case r.URL.Path == "/ca.crt":
			w.Write(p.ca.Raw)
		case r.URL.Path == "/root.crt":
			w.Write(p.root.Raw)
		case r.URL.Path == "/inside":
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	at := func(path string) certtest.Edit {
		return func(c *x509.Certificate) { c.IssuingCertificateURL = []string{s.URL + path} }
	}
	root, key := certtest.Root("published root"), certtest.Key("P-256")
	short := certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(48*time.Hour))
	ca := root.IntermediateWith(key, "published CA", at("/root.crt"), short)
	p.root, p.ca = root.Certificate, ca.Certificate
	p.renewed = root.IntermediateWith(key, "published CA", at("/root.crt")).Certificate
	p.leaf = ca.Leaf(p.key.Public(), "release", at("/ca.crt"))
	return p
}

func TestChainBuildAIA(t *testing.T) {
	t.Parallel()
	w, p := newWorld(t), publish(t)
	leaf, root := w.file("p.crt", string(certtest.PEM(p.leaf))), w.file("p-root.crt", string(certtest.PEM(p.root)))

	// X17: nothing inside of a network is asked, whoever says so.
	w.setenv("IMPRINT_ALLOW_PRIVATE", "true")
	got := w.want(3, "chain", "build", leaf, root, "--aia")
	if !strings.Contains(got.err, "(incomplete)") || !strings.Contains(got.err, "is this machine's own (address-private)") || p.requests.Load() > 0 {
		t.Errorf("%d requests\n%s", p.requests.Load(), got.err)
	}
	w.env.Environ = w.env.Environ[:len(w.env.Environ)-1]
	complains(t, w.want(3, "chain", "build", leaf, root), "incomplete", "--aia fetches it from http://127.0.0.1")
	if p.requests.Load() > 0 {
		t.Errorf("%d requests without --aia", p.requests.Load())
	}

	got = w.want(0, "chain", "build", leaf, root, "--aia", "--allow-private")
	if got.out != string(p.chain()) || strings.Contains(got.err, "fingerprint") || !strings.Contains(got.err, "3 certificates, 1 fetched") {
		t.Errorf("%s%s", got.out, got.err)
	}
	// A root that was fetched is said to be.
	got = w.want(0, "chain", "build", leaf, "--aia", "--allow-private")
	if got.out != string(p.chain()) || !strings.Contains(got.err, "compare its fingerprint") || !strings.Contains(got.err, certchain.Thumbprint(p.root)) {
		t.Errorf("%s%s", got.out, got.err)
	}
	var built ui.BuiltChain
	decode(t, w.want(0, "chain", "build", leaf, "--aia", "--allow-private", "-o", "json"), &built)
	if diff := cmp.Diff([]string{certchain.Thumbprint(p.ca), certchain.Thumbprint(p.root)}, built.Fetched); diff != "" || built.FetchedRoot != certchain.Thumbprint(p.root) {
		t.Errorf("%s root %q", diff, built.FetchedRoot)
	}
	text := w.want(0, "chain", "build", leaf, "--aia", "--allow-private", "--out", w.path("out.pem")).out
	for _, part := range []string{"compare its fingerprint", "sha256:" + certchain.Thumbprint(p.root), "first fetched", "2 fetched"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
	// A renewed one is taken although nothing is missing.
	p.renewedNow.Store(1)
	whole := w.file("whole.pem", string(p.chain()))
	if got = w.want(0, "chain", "build", whole, "--aia", "--allow-private"); got.out != string(certtest.PEM(p.leaf, p.renewed, p.root)) {
		t.Error(got.out)
	}
	if got = w.want(0, "chain", "build", whole); got.out != string(p.chain()) {
		t.Error(got.out)
	}
}

// TestChainBuildAIAHostile: whatever a pointer leads to, the run ends with a warning and what there is.
func TestChainBuildAIAHostile(t *testing.T) {
	t.Parallel()
	w, p := newWorld(t), publish(t)
	base := strings.TrimSuffix(p.leaf.IssuingCertificateURL[0], "/ca.crt")
	// A port that nobody listens on.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	deaf := l.Addr().String()
	l.Close()
	root := certtest.Root("root")
	for name, tt := range map[string]struct{ url, warning string }{
		"not there":    {base + "/404", "404 Not Found"},
		"not the one":  {base + "/root.crt", "whose key did not sign"},
		"nobody":       {"http://" + deaf + "/", "connection refused"},
		"to https":     {"https://ca.example/", "does not say where its issuer is published (no http address)"},
		"a decimal":    {"http://2130706433/", "no address in the usual form"},
		"credentials":  {strings.Replace(base, "//", "//a:b@", 1), "carries credentials"},
		"terminal":     {base + "/\x1b[2J", "no URL"},
		"to nowhere":   {"http:///x", "names no host"},
		"a file's URL": {"file:///etc/passwd", "no http address"},
	} {
		leaf := root.Leaf(certtest.Key("P-256").Public(), "leaf", func(c *x509.Certificate) { c.IssuingCertificateURL = []string{tt.url} })
		file := w.file(name+".crt", string(certtest.PEM(leaf)))
		got := w.want(3, "chain", "build", file, "--aia", "--allow-private")
		if !strings.Contains(got.err, "imprint: warning: ") || !strings.Contains(flat(got.err), tt.warning) || strings.Contains(got.err, "\x1b") {
			t.Errorf("%s: %q", name, got.err)
		}
		if name == "to https" || name == "a file's URL" {
			continue
		}
		// With the issuer at hand the same pointer spoils nothing.
		whole := w.file(name+".pem", string(certtest.PEM(leaf, root.Certificate)))
		if got := w.want(0, "chain", "build", whole, "--aia", "--allow-private"); !strings.Contains(flat(got.err), tt.warning) {
			t.Errorf("%s: %q", name, got.err)
		}
	}
}

// flat undoes the breaking of lines.
func flat(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestSignAIA(t *testing.T) {
	t.Parallel()
	w, p := newWorld(t), publish(t)
	w.image("app", "a", "1")
	w.image("app", "b", "2")
	key, leaf := w.file("p.key", string(certtest.KeyPEM(p.key))), w.file("p.crt", string(certtest.PEM(p.leaf)))
	root := w.file("p-root.crt", string(certtest.PEM(p.root)))
	ref := "oci:" + w.path("app") + ":1"
	before := w.tree("app")
	complains(t, w.want(3, "sign", ref, "--key", key, "--chain", leaf), "incomplete", "--aia fetches it from")
	if got := w.want(3, "sign", ref, "--key", key, "--chain", leaf, "--aia"); !strings.Contains(got.err, "(incomplete)") || !strings.Contains(got.err, "(address-private)") {
		t.Error(got.err)
	}
	stranger := w.file("stranger.crt", string(certtest.PEM(p.leaf, certtest.Root("stranger").Certificate)))
	complains(t, w.want(3, "sign", ref, "--key", key, "--chain", stranger, "--aia", "--allow-private"), "unrelated", "")
	if diff := cmp.Diff(before, w.tree("app")); diff != "" {
		t.Fatalf("something was written: %s", diff)
	}
	got := w.want(0, "sign", ref, "--key", key, "--chain", leaf, "--aia", "--allow-private")
	if !strings.Contains(flat(got.err), "compare its fingerprint with what its owner publishes: sha256:"+certchain.Thumbprint(p.root)) {
		t.Errorf("it is not said that the root was fetched: %s", got.err)
	}
	w.want(0, "verify", ref, "--root", root, "--as", "registry.example/app:1")
	ref2 := "oci:" + w.path("app") + ":2"
	got = w.want(0, "sign", ref2, "--key", key, "--chain", leaf, "--chain", root, "--aia", "--allow-private")
	if strings.Contains(got.err, "fingerprint") {
		t.Errorf("the root was given: %s", got.err)
	}
	w.want(0, "verify", ref2, "--root", root, "--as", "registry.example/app:2")
}

func TestChainCompareCommand(t *testing.T) {
	t.Parallel()
	w, p := newWorld(t), publish(t)
	old, renewed := w.file("old.pem", string(p.chain())), w.file("renewed.pem", string(certtest.PEM(p.renewed)))
	other := w.file("other.pem", string(certtest.PEM(func() []*x509.Certificate { _, c := certtest.ChainOf(3, "P-384"); return c }()...)))
	text := w.want(0, "chain", "compare", old, renewed).out
	for _, part := range []string{"rechain  ", "unchanged: C=DE, ST=BE, O=Acme, CN=release", "renewed", "to trust " + certchain.Thumbprint(p.renewed)[:12] + " first",
		"imprint rechain REF…", "1 of 3 certificates changed"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
	for _, l := range lines(text) {
		if ui.Width(l) > ui.Columns && !strings.Contains(l, w.dir) {
			t.Errorf("a line of %d columns: %q", ui.Width(l), l)
		}
	}
	var c ui.ComparedChains
	decode(t, w.want(0, "chain", "compare", old, other, "-o", "json"), &c)
	if c.Answer != certchain.AnswerSignAgain || c.Rechain || len(c.Changes) != 3 || len(c.Steps) != 3 || c.Changes[0].Kind != certchain.ChangeReplaced {
		t.Errorf("%+v", c)
	}
	if text = w.want(0, "chain", "compare", old, old).out; !strings.HasPrefix(text, "same  ") || strings.Contains(text, "rechain") {
		t.Error(text)
	}
	// What has ended then is no chain that signatures could have.
	late := time.Now().Add(72 * time.Hour).UTC().Format(time.RFC3339)
	got := w.want(3, "chain", "compare", renewed, old, "--at", late)
	if !strings.HasPrefix(got.out, "unfit  ") || !strings.Contains(got.out, "expired") {
		t.Error(got.out)
	}
	complains(t, w.want(3, "chain", "compare", old), "OLD and NEW", "usage:")
	complains(t, w.want(3, "chain", "compare", old, old, old), "one too many", "usage:")
	complains(t, w.want(3, "chain", "compare", old, w.path("absent")), "absent", "")
	complains(t, w.want(3, "chain", "compare", old, old, "--at", "soon"), "no date", "")
	two := w.file("two.pem", string(certtest.PEM(p.leaf, certtest.SelfSigned(certtest.Key("P-256"), "two"))))
	complains(t, w.want(3, "chain", "compare", old, two), "does not belong to the chain", "one chain")
	if b, err := os.ReadFile(old); err != nil || !bytes.Equal(b, p.chain()) {
		t.Error("a file was changed")
	}
}
