package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// formats are the values of --signature-format.
var formats = []string{"jws", "cose"}

// A desk is a person with a home, an environment, a CA, and a registry with one image.
type desk struct {
	dir      string
	bin      string // of the executables
	env      []string
	registry *regtest.Server
	repo     string // HOST/app
	ref      string // by digest
	root, ca *certtest.Authority
}

// newDesk makes a desk whose environment has nothing of this process's but PATH, and env.
func newDesk(t testing.TB, env ...string) *desk {
	t.Helper()
	dir, err := os.MkdirTemp("", "desk") // not t.TempDir: a test's name holds what a key URI may not
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d := &desk{dir: dir, bin: built, registry: regtest.New(t, regtest.WithAPI)}
	home, tmp := filepath.Join(dir, "home"), filepath.Join(dir, "tmp")
	for _, folder := range []string{home, tmp} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	d.env = append([]string{"HOME=" + home, "TMPDIR=" + tmp, "DOCKER_CONFIG=" + filepath.Join(home, ".docker"), "PATH=" + os.Getenv("PATH")}, env...)
	d.root = certtest.Root("keys root")
	d.ca = d.root.Intermediate("keys CA")
	d.file("root.pem", certtest.PEM(d.root.Certificate))
	d.file("ca.pem", certtest.PEM(d.ca.Certificate, d.root.Certificate))
	d.repo = d.registry.Host + "/app"
	d.ref = d.image(t, "app", "v1")
	d.registry.Reset()
	return d
}

// image pushes a small image made of seed, tags it, and returns its reference by digest.
func (d *desk) image(t testing.TB, seed, tag string) string {
	t.Helper()
	r, err := remote.NewRepository(d.repo)
	if err != nil {
		t.Fatal(err)
	}
	r.PlainHTTP = true
	put := func(mediaType string, b []byte) ocispec.Descriptor {
		desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
		if err := r.Push(t.Context(), desc, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		return desc
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: put(ocispec.MediaTypeImageConfig, []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`)),
		Layers: []ocispec.Descriptor{put(ocispec.MediaTypeImageLayer, []byte(seed))},
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	desc := put(ocispec.MediaTypeImageManifest, b)
	if err := r.Tag(t.Context(), desc, tag); err != nil {
		t.Fatal(err)
	}
	return d.repo + "@" + desc.Digest.String()
}

// file writes a file of the person's alone and returns its path.
func (d *desk) file(name string, b []byte) string {
	path := filepath.Join(d.dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		panic(err)
	}
	return path
}

func (d *desk) at(name string) string { return filepath.Join(d.dir, name) }

// chainFor issues a certificate for a public key and writes leaf, CA and root to a file, whose path it returns.
func (d *desk) chainFor(pub crypto.PublicKey, name string) string {
	return d.file(name+".chain.pem", certtest.PEM(d.ca.Chain(d.ca.Leaf(pub, name))...))
}

// An outcome is what a run of imprint left.
type outcome struct {
	code           int
	stdout, stderr string
	took           time.Duration
}

// run runs the built imprint in a process of its own, for two minutes at most.
func (d *desk) run(t testing.TB, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, filepath.Join(d.bin, "imprint"), args...)
	c.Env, c.Dir = slices.Clone(d.env), d.dir
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	begun := time.Now()
	var exited *exec.ExitError
	if err := c.Run(); err != nil && !errors.As(err, &exited) {
		t.Fatal(err)
	}
	return outcome{c.ProcessState.ExitCode(), stdout.String(), stderr.String(), time.Since(begun)}
}

// ok wants exit code 0.
func (d *desk) ok(t testing.TB, args ...string) outcome {
	t.Helper()
	o := d.run(t, args...)
	if o.code != 0 {
		t.Fatalf("imprint %s: exit code %d\n%s%s", strings.Join(args, " "), o.code, o.stdout, o.stderr)
	}
	return o
}

// refused runs imprint twice, for people and with -o json, wants the exit code and reason of its error, each text in what is said
// to people, one hint, and no manifest written to the registry. It returns the second outcome.
func (d *desk) refused(t testing.TB, code int, reason string, says []string, args ...string) outcome {
	t.Helper()
	before := d.writes()
	o := d.run(t, args...)
	if o.code != code {
		t.Errorf("imprint %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), o.code, code, o.stdout, o.stderr)
	}
	for _, text := range says {
		if !strings.Contains(unwrapped(o.stderr), text) {
			t.Errorf("imprint %s: it does not say %q:\n%s", strings.Join(args, " "), text, o.stderr)
		}
	}
	if !strings.Contains(o.stderr, "imprint: error: ") || !strings.Contains(o.stderr, "imprint: hint: ") || strings.Contains(o.stderr, "goroutine ") {
		t.Errorf("imprint %s: not one error with a hint:\n%s", strings.Join(args, " "), o.stderr)
	}
	j := d.run(t, append(slices.Clone(args), "-o", "json")...)
	if got := j.field(t, "reason"); j.code != code || got != reason {
		t.Errorf("imprint %s -o json: exit code %d, reason %q, want %d, %q\n%s%s", strings.Join(args, " "), j.code, got, code, reason, j.stdout, j.stderr)
	}
	if n := d.writes() - before; n != 0 {
		t.Errorf("imprint %s: %d manifests written to the registry", strings.Join(args, " "), n)
	}
	return j
}

// spent wants a key service to have seen the signing calls that imprint counted, "" for none, in each of the two runs of refused.
func spent(t testing.TB, calls string, seen int) {
	t.Helper()
	if n, _ := strconv.Atoi(calls); seen != 2*n {
		t.Errorf("the key service saw %d signing calls of two runs, which count %q each", seen, calls)
	}
}

// unwrapped undoes the wrapping of lines, which a test must not depend on.
func unwrapped(s string) string { return strings.Join(strings.Fields(s), " ") }

// writes counts the manifests that were written to the registry, or deleted. The empty configuration, which every signature needs, tells
// a registry that takes no writes before a key service is asked (F30); by itself it is found by nobody.
func (d *desk) writes() int {
	return d.registry.Count(func(r regtest.Request) bool {
		return r.Method != http.MethodGet && r.Method != http.MethodHead && strings.Contains(r.Path, "/manifests/")
	})
}

// field returns the text, or the JSON, of a member of the last JSON document on stdout; nested ones are joined with dots. "" if
// there is none.
func (o outcome) field(t testing.TB, path string) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(o.stdout), "\n")
	var v any
	if err := json.Unmarshal([]byte(o.stdout), &v); err != nil {
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &v); err != nil {
			t.Fatalf("stdout is no JSON: %v\n%s%s", err, o.stdout, o.stderr)
		}
	}
	for name := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = m[name]
	}
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// accepted has notation-go judge an artifact's signatures under the desk's root.
func (d *desk) accepted(t testing.TB, ref string) {
	t.Helper()
	if err := judge.Verify(t.Context(), ref, d.root.Certificate); err != nil {
		t.Errorf("notation: %s: %v", ref, err)
	}
}

// signs has imprint sign a new image in both formats with key (a URI, or a name), with any further arguments, and wants imprint and
// notation to accept each, and calls signing calls per signature.
func (d *desk) signs(t testing.TB, key string, calls string, more ...string) {
	t.Helper()
	for _, format := range formats {
		ref := d.image(t, t.Name()+key+format, "signs-"+format)
		args := append([]string{"sign", ref, "--key", key, "--signature-format", format, "-o", "json"}, more...)
		o := d.ok(t, args...)
		if got := o.field(t, "keyCalls"); got != calls {
			t.Errorf("%s: %s key calls, want %s\n%s", format, got, calls, o.stdout)
		}
		d.accepted(t, ref)
		d.ok(t, "verify", ref, "--root", d.at("root.pem"))
	}
}

// certified goes the way of a publisher who has a key and no certificate: a request, signed by the CA, checked against the key. It
// returns the file of the chain.
func (d *desk) certified(t testing.TB, key string, more ...string) string {
	t.Helper()
	out := filepath.Join(d.dir, digest.FromString(t.Name() + key + strings.Join(more, " ")).Encoded()[:12])
	d.ok(t, append([]string{"key", "csr", key, "--subject", "C=DE, ST=BE, O=Acme, CN=release", "--san", "dns:release.acme.example", "--out", out + ".csr"}, more...)...)
	b, err := os.ReadFile(out + ".csr")
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(bytes.TrimSpace(rest)) > 0 {
		t.Fatalf("no request in\n%s", b)
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := request.CheckSignature(); err != nil {
		t.Errorf("the request's signature: %v", err)
	}
	if !slices.Contains(request.DNSNames, "release.acme.example") {
		t.Errorf("the request names %q", request.DNSNames)
	}
	leaf := d.ca.Leaf(request.PublicKey, "release", func(c *x509.Certificate) {
		c.RawSubject, c.DNSNames = request.RawSubject, request.DNSNames
	})
	if err := os.WriteFile(out+".pem", certtest.PEM(d.ca.Chain(leaf)...), 0o600); err != nil {
		t.Fatal(err)
	}
	d.ok(t, "chain", "check", out+".pem", "--key", key)
	return out + ".pem"
}
