package e2e

import (
	"crypto"
	"crypto/x509"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// A signer's desk: a person with a key and a chain, and a repository with an image.
type desk struct {
	*person
	f        *fake
	repo     string // below the registry
	ref      string // by tag v1
	subject  ocispec.Descriptor
	root, ca *certtest.Authority
	key      crypto.Signer
	leaf     *x509.Certificate
}

func newDesk(t testing.TB, f *fake, name string) *desk {
	t.Helper()
	var safe strings.Builder
	for _, r := range strings.ToLower(name) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '/' {
			safe.WriteRune(r)
		}
	}
	d := &desk{person: newPerson(t), f: f, repo: strings.ReplaceAll(safe.String(), "/", "-")}
	d.subject = f.putArtifact(d.repo, "v1", image(d.repo))
	d.ref = f.Host + "/" + d.repo + ":v1"
	d.root = certtest.Root("desk root")
	d.ca = d.root.Intermediate("desk CA")
	d.key = certtest.Key("P-256")
	d.leaf = d.ca.Leaf(d.key.Public(), "desk")
	d.file("leaf.key", certtest.KeyPEM(d.key))
	d.file("chain.pem", certtest.PEM(d.ca.Chain(d.leaf)...))
	d.file("root.pem", certtest.PEM(d.root.Certificate))
	return d
}

// at is a path in the person's folder.
func (d *desk) at(name string) string { return filepath.Join(d.dir, name) }

// sign is the arguments of signing with the desk's key and chain; more follow.
func (d *desk) sign(more ...string) []string {
	return append([]string{"sign", d.ref, "--key", "file:" + d.at("leaf.key"), "--chain", d.at("chain.pem")}, more...)
}

// writes counts what was written to the desk's repository.
func (d *desk) writes() int {
	return d.f.Count(func(r regtest.Request) bool {
		return r.Method != http.MethodGet && r.Method != http.MethodHead && strings.HasPrefix(r.Path, "/v2/"+d.repo+"/")
	})
}

// refused wants an exit code and a reason, one error and one hint said, and nothing written.
func (d *desk) refused(t testing.TB, code int, reason string, args ...string) outcome {
	t.Helper()
	o := d.want(t, code, reason, args...)
	if n := d.writes(); n != 0 {
		t.Errorf("%d writes", n)
	}
	d.clean(t, o)
	return o
}

// clean wants what a failing run says to be one error with a hint.
func (d *desk) clean(t testing.TB, o outcome) {
	t.Helper()
	if err := oneError("", withoutWarnings(o.stderr)); err != nil {
		t.Error(err)
	}
}

func withoutWarnings(stderr string) string {
	var b strings.Builder
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, "imprint: warning: ") {
			b.WriteString(line)
		}
	}
	return b.String()
}
