package e2e

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry/regtest"
)

var update = flag.Bool("update", false, "rewrite the stories' expected outputs")

// layout is the third place of a story, beside the two registries.
const layout = "layout"

// TestScripts runs each story at each place. Beside testscript's own verbs a story has
//
//	exit N COMMAND…          run a program, which must end with exactly that exit code
//	json PATH VALUE          what the program wrote to stdout is JSON with that value (json -line N PATH VALUE: in that line, from 1; ! json PATH: no such value)
//	pki                      a hierarchy of certificates and keys, as files (see certificates)
//	image|index REF          push an image, or an index of two platforms with their SBOMs; $DIGEST is its digest (index: $AMD64 and $ARM64, $SBOM of the first)
//	judge REF ROOT           notation-go accepts at level strict; ! judge: it rejects
//	judges REF N ROOT        REF has exactly N signatures, and notation-go accepts each of them alone
//	notation-sign [-cose] REF KEY CHAIN   sign with notation-go
//	transplant FROM TO       put FROM's first signature, as it is, on TO; tamper FROM TO: with one bit of its signature turned
//	requests reset|writes=N|deletes=N   assert what the source registry was asked since the last reset
//	registry down|gone|unauthorized|liar|undeletable|up   let the registry fail; the layout has no registry
//	lines FILE LINE…         write a file
//	oneerror                 the program wrote exactly one "imprint: error:" line and one hint to stderr, nothing to stdout
//
// and the variables $REPO (HOST/app, or oci:DIR), $HOST, $DEST (a repository of the other kind), $WORK. Conditions: [layout] [registry] [api] [noapi].
func TestScripts(t *testing.T) {
	t.Parallel()
	for _, place := range []string{string(regtest.WithAPI), string(regtest.WithoutAPI), layout} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, testscript.Params{
				Dir:                 "testdata",
				RequireExplicitExec: true,
				RequireUniqueNames:  true,
				UpdateScripts:       *update,
				Setup:               func(e *testscript.Env) error { return setup(e, place) },
				Condition:           func(cond string) (bool, error) { return condition(cond, place) },
				Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
					"exit": cmdExit, "json": cmdJSON, "pki": cmdPKI, "image": pushing(image), "index": pushing(index), "judge": cmdJudge, "judges": cmdJudges,
					"notation-sign": cmdNotationSign, "transplant": grafting(false), "tamper": grafting(true), "requests": cmdRequests,
					"registry": cmdRegistry, "oneerror": cmdOneError, "lines": cmdLines,
				},
			})
		})
	}
}

// A stage is where one story happens: the registries that its verbs talk to.
type stage struct{ source, dest *regtest.Server }

type stageKey struct{}

func setup(e *testscript.Env, place string) error {
	var s stage
	switch place {
	case layout:
		e.Setenv("REPO", "oci:"+filepath.Join(e.WorkDir, "app"))
		e.Setenv("DEST", "oci:"+filepath.Join(e.WorkDir, "dest"))
	default:
		other := regtest.WithAPI
		if place == string(other) {
			other = regtest.WithoutAPI
		}
		s = stage{regtest.Start(regtest.Kind(place)), regtest.Start(other)}
		e.Defer(s.source.Close)
		e.Defer(s.dest.Close)
		e.Setenv("HOST", s.source.Host)
		e.Setenv("REPO", s.source.Host+"/app")
		e.Setenv("DESTHOST", s.dest.Host)
		e.Setenv("DEST", s.dest.Host+"/prod/app")
	}
	e.Values[stageKey{}] = s
	home := filepath.Join(e.WorkDir, ".home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	e.Setenv("HOME", home)
	e.Setenv("GORACE", quickExit)
	e.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
	e.Setenv("XDG_CACHE_HOME", filepath.Join(home, ".cache"))
	e.Setenv("XDG_STATE_HOME", filepath.Join(home, ".state"))
	e.Setenv("DOCKER_CONFIG", filepath.Join(home, ".docker"))
	return nil
}

func condition(cond, place string) (bool, error) {
	switch cond {
	case "layout":
		return place == layout, nil
	case "registry":
		return place != layout, nil
	case "api":
		return place == string(regtest.WithAPI), nil
	case "noapi":
		return place == string(regtest.WithoutAPI), nil
	}
	return false, fmt.Errorf("unknown condition %q", cond)
}

// use stops the story unless it gave a verb between low and high arguments, and no "!".
func use(ts *testscript.TestScript, neg bool, args []string, low, high int, usage string) {
	if neg {
		ts.Fatalf("%s: it cannot be negated", usage)
	}
	if len(args) < low || len(args) > high {
		ts.Fatalf("usage: %s", usage)
	}
}

func cmdExit(ts *testscript.TestScript, neg bool, args []string) {
	use(ts, neg, args, 2, 1000, "exit N COMMAND…")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	path, err := lookPath(ts, args[1])
	ts.Check(err)
	c := exec.CommandContext(ctx, path, args[2:]...)
	c.Dir = ts.MkAbs(".")
	c.Env = environ(ts)
	c.Stdout, c.Stderr = ts.Stdout(), ts.Stderr()
	err = c.Run()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		ts.Fatalf("%s: %v", args[1], err)
	}
	if got := c.ProcessState.ExitCode(); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// environ is the story's environment.
func environ(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "DOCKER_CONFIG", "TMPDIR", "NO_COLOR",
		"IMPRINT_CONFIG", "IMPRINT_POLICY", "IMPRINT_PASSPHRASE", "IMPRINT_OUTPUT", "GOCOVERDIR", "GORACE"} {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func lookPath(ts *testscript.TestScript, name string) (string, error) {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	docs, err := documents(ts.ReadFile("stdout"))
	ts.Check(err)
	line := 1
	if len(args) > 2 && args[0] == "-line" {
		line, err = strconv.Atoi(args[1])
		ts.Check(err)
		args = args[2:]
	}
	if line < 0 {
		line += len(docs) + 1
	}
	if line < 1 || line > len(docs) {
		ts.Fatalf("stdout has %d JSON documents, none number %d", len(docs), line)
	}
	if neg {
		use(ts, false, args, 1, 1, "! json PATH")
		if v, ok := lookup(docs[line-1], args[0]); ok {
			ts.Fatalf("%s is %s, want none", args[0], said(v))
		}
		return
	}
	use(ts, false, args, 2, 2, "json [-line N] PATH VALUE")
	v, ok := lookup(docs[line-1], args[0])
	if !ok {
		ts.Fatalf("there is no %s", args[0])
	}
	if said(v) != args[1] {
		ts.Fatalf("%s is %s, want %s", args[0], said(v), args[1])
	}
}

func cmdPKI(ts *testscript.TestScript, neg bool, args []string) {
	use(ts, neg, args, 0, 0, "pki")
	for name, b := range certificates() {
		ts.Check(os.WriteFile(ts.MkAbs(name), b, 0o600))
	}
}

// certificates makes one hierarchy, what becomes of it with time, and others, as files:
//
//	leaf.key chain.pem root.pem   root, intermediate, leaf; the leaf's key
//	ca.pem leaf.pem               the intermediate and the leaf alone
//	renewed-ca.pem renewed.pem    the intermediate renewed (same name and key, two years longer), and the chain with it
//	reissued-leaf.pem ca4.pem reissued.pem   the leaf re-issued for the same key by another intermediate of the same root, longer; the chain
//	shorter.pem                   the chain with an intermediate that ends sooner
//	renamed.pem                   the chain with a leaf of another subject for the same key
//	no-root.pem expired.pem expired-ca.pem   the chain without its root; with an expired leaf; with an expired intermediate
//	other.key other.pem other-root.pem       another hierarchy
//	second.key second.pem         another key and leaf under the same root
//	self.key self.pem             a self-signed leaf
func certificates() map[string][]byte {
	now := time.Now()
	year := 365 * 24 * time.Hour
	key := certtest.Key("P-256")
	root := certtest.Root("Acme Root")
	caKey := certtest.Key("P-256")
	ca := root.IntermediateWith(caKey, "Acme CA 3", certtest.Valid(now.Add(-24*time.Hour), now.Add(60*24*time.Hour)))
	renewedCA := root.IntermediateWith(caKey, "Acme CA 3", certtest.Valid(now.Add(-time.Hour), now.Add(2*year)))
	shortCA := root.IntermediateWith(caKey, "Acme CA 3", certtest.Valid(now.Add(-time.Hour), now.Add(30*24*time.Hour)))
	expiredCA := root.IntermediateWith(caKey, "Acme CA 3", certtest.Valid(now.Add(-year), now.Add(-time.Hour)))
	ca4 := root.Intermediate("Acme CA 4")
	leaf := ca.Leaf(key.Public(), "release 2026")
	reissued := ca4.Leaf(key.Public(), "release 2026", certtest.Valid(now.Add(-time.Minute), now.Add(2*year)))
	expired := ca.Leaf(key.Public(), "release 2026", certtest.Valid(now.Add(-year), now.Add(-time.Hour)))
	secondKey := certtest.Key("P-256")
	otherKey := certtest.Key("P-256")
	otherRoot := certtest.Root("Other Root")
	selfKey := certtest.Key("P-256")
	return map[string][]byte{
		"leaf.key": certtest.KeyPEM(key), "chain.pem": certtest.PEM(ca.Chain(leaf)...), "root.pem": certtest.PEM(root.Certificate),
		"ca.pem": certtest.PEM(ca.Certificate), "leaf.pem": certtest.PEM(leaf),
		"renewed-ca.pem": certtest.PEM(renewedCA.Certificate), "renewed.pem": certtest.PEM(renewedCA.Chain(leaf)...),
		"ca4.pem": certtest.PEM(ca4.Certificate), "reissued-leaf.pem": certtest.PEM(reissued), "reissued.pem": certtest.PEM(ca4.Chain(reissued)...),
		"shorter.pem": certtest.PEM(shortCA.Chain(leaf)...), "renamed.pem": certtest.PEM(ca.Chain(ca.Leaf(key.Public(), "renamed"))...),
		"no-root.pem": certtest.PEM(leaf, ca.Certificate), "expired.pem": certtest.PEM(ca.Chain(expired)...),
		"expired-ca.pem": certtest.PEM(expiredCA.Chain(leaf)...),
		"other.key":      certtest.KeyPEM(otherKey), "other.pem": certtest.PEM(otherRoot.Chain(otherRoot.Leaf(otherKey.Public(), "other"))...),
		"other-root.pem": certtest.PEM(otherRoot.Certificate),
		"second.key":     certtest.KeyPEM(secondKey), "second.pem": certtest.PEM(ca.Chain(ca.Leaf(secondKey.Public(), "second"))...),
		"self.key": certtest.KeyPEM(selfKey), "self.pem": certtest.PEM(certtest.SelfSigned(selfKey, "self-signed")),
	}
}

// parseCertificates reads PEM certificates without imprint's code.
func parseCertificates(b []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("no certificates")
	}
	return out, nil
}

// parseKey reads a PKCS#8 key without imprint's code.
func parseKey(b []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	return key.(crypto.Signer), nil
}

func readCertificates(ts *testscript.TestScript, file string) []*x509.Certificate {
	certs, err := parseCertificates([]byte(ts.ReadFile(file)))
	ts.Check(err)
	return certs
}

// pushing makes the verbs image and index.
func pushing(build func(seed string) artifact) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		use(ts, neg, args, 1, 2, "image|index REF [SEED]")
		repo, tag, ok := cutTag(args[0])
		if !ok {
			ts.Fatalf("%s has no tag", args[0])
		}
		seed := tag
		if len(args) == 2 {
			seed = args[1]
		}
		a := build(seed)
		ts.Check(a.push(repo, tag))
		ts.Setenv("DIGEST", a.descriptor.Digest.String())
		if len(a.children) > 0 {
			ts.Setenv("AMD64", a.children[0].descriptor.Digest.String())
			ts.Setenv("ARM64", a.children[1].descriptor.Digest.String())
			ts.Setenv("SBOM", a.children[0].referrers[0].descriptor.Digest.String())
		}
	}
}

// cutTag splits HOST/REPO:TAG or oci:DIR:NAME.
func cutTag(ref string) (repo, tag string, ok bool) {
	i := strings.LastIndexAny(ref, ":/")
	if i < 0 || ref[i] != ':' || ref[:i] == "oci" {
		return ref, "", false
	}
	return ref[:i], ref[i+1:], true
}

func cmdJudge(ts *testscript.TestScript, neg bool, args []string) {
	use(ts, false, args, 2, 2, "[!] judge REF ROOT")
	err := judge.Verify(context.Background(), args[0], readCertificates(ts, args[1])...)
	if neg && err == nil {
		ts.Fatalf("notation-go accepts %s", args[0])
	}
	if !neg {
		ts.Check(err)
	}
}

func cmdJudges(ts *testscript.TestScript, neg bool, args []string) {
	use(ts, neg, args, 2, 3, "judges REF N [ROOT]")
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	ctx := context.Background()
	signatures, err := judge.Signatures(ctx, args[0])
	ts.Check(err)
	if len(signatures) != want {
		ts.Fatalf("%s has %d signatures, want %d: %v", args[0], len(signatures), want, signatures)
	}
	if len(args) < 3 {
		return
	}
	roots := readCertificates(ts, args[2])
	for _, s := range signatures {
		if err := judge.VerifyOnly(ctx, args[0], s, roots...); err != nil {
			ts.Fatalf("notation-go rejects %s: %v", s, err)
		}
	}
}

func cmdNotationSign(ts *testscript.TestScript, neg bool, args []string) {
	var o judge.SignOptions
	if len(args) > 0 && args[0] == "-cose" {
		o.Format, args = "cose", args[1:]
	}
	use(ts, neg, args, 3, 3, "notation-sign [-cose] REF KEY CHAIN")
	key, err := parseKey([]byte(ts.ReadFile(args[1])))
	ts.Check(err)
	ts.Check(judge.Sign(context.Background(), args[0], key, readCertificates(ts, args[2]), o))
}

// grafting makes the verbs transplant and tamper.
func grafting(flip bool) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		use(ts, neg, args, 2, 2, "transplant|tamper FROM TO")
		ctx := context.Background()
		signatures, err := judge.Signatures(ctx, args[0])
		ts.Check(err)
		if len(signatures) == 0 {
			ts.Fatalf("%s has no signature", args[0])
		}
		mediaType, b, err := judge.Envelope(ctx, args[0], signatures[0])
		ts.Check(err)
		if flip {
			b, err = flipped(mediaType, b)
			ts.Check(err)
		}
		ts.Check(graft(ctx, args[1], mediaType, b))
	}
}

// flipped turns one bit of the signature of an envelope, the rest and its form kept.
func flipped(mediaType string, b []byte) ([]byte, error) {
	b = []byte(string(b))
	if mediaType == coseType {
		b[len(b)-1] ^= 1
		return b, nil
	}
	i := strings.Index(string(b), `"signature":"`)
	if i < 0 {
		return nil, errors.New("no signature in the envelope")
	}
	i += len(`"signature":"`)
	if b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return b, nil
}

// graft attaches an envelope to what ref names, as a signature manifest like notation's.
func graft(ctx context.Context, ref, mediaType string, envelope []byte) error {
	repo, tag, _ := cutTag(ref)
	target, err := opened(repo)
	if err != nil {
		return err
	}
	subject, err := target.Resolve(ctx, tag)
	if err != nil {
		return err
	}
	s := newArtifact(ocispec.MediaTypeImageManifest, signatureManifest(subject, mediaType, envelope))
	empty := ocispec.DescriptorEmptyJSON
	empty.Data = nil
	s.blobs = []blob{{describe(mediaType, envelope), envelope}, {empty, []byte("{}")}}
	return s.store(ctx, target)
}

func cmdRequests(ts *testscript.TestScript, neg bool, args []string) {
	use(ts, neg, args, 1, 1, "requests reset|writes=N|deletes=N")
	s := ts.Value(stageKey{}).(stage)
	if s.source == nil {
		ts.Fatalf("a layout has no requests: guard with [registry]")
	}
	if args[0] == "reset" {
		s.source.Reset()
		return
	}
	what, count, _ := strings.Cut(args[0], "=")
	want, err := strconv.Atoi(count)
	ts.Check(err)
	var got int
	switch what {
	case "writes":
		got = s.source.Writes()
	case "deletes":
		got = s.source.Count(func(r regtest.Request) bool { return r.Method == http.MethodDelete })
	default:
		ts.Fatalf("no such count: %s", what)
	}
	if got != want {
		for _, r := range s.source.Requests() {
			ts.Logf("%s %s %d", r.Method, r.Path, r.Status)
		}
		ts.Fatalf("%d %s, want %d", got, what, want)
	}
}

func cmdRegistry(ts *testscript.TestScript, neg bool, args []string) {
	use(ts, neg, args, 1, 1, "registry down|gone|unauthorized|liar|undeletable|up")
	s := ts.Value(stageKey{}).(stage).source
	if s == nil {
		ts.Fatalf("a layout is no registry: guard with [registry]")
	}
	f, ok := faults[args[0]]
	if !ok {
		ts.Fatalf("no fault %s", args[0])
	}
	s.Intercept(f)
}

// faults are what a registry may be struck with.
var faults = map[string]func(w http.ResponseWriter, r *http.Request) bool{
	"up": nil,
	"down": func(w http.ResponseWriter, _ *http.Request) bool {
		failure(w, http.StatusServiceUnavailable, "UNAVAILABLE")
		return true
	},
	"gone": func(w http.ResponseWriter, _ *http.Request) bool {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
		return true
	},
	"unauthorized": func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		failure(w, http.StatusUnauthorized, "UNAUTHORIZED")
		return true
	},
	// liar serves other bytes than those of the digest that it names.
	"liar": func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet && r.Method != http.MethodHead || !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		b := image("another").manifest
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		w.Header().Set("Docker-Content-Digest", digest.FromString("a lie").String())
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		if r.Method == http.MethodGet {
			_, _ = w.Write(b)
		}
		return true
	},
	"undeletable": func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodDelete {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		failure(w, http.StatusMethodNotAllowed, "UNSUPPORTED")
		return true
	},
}

func cmdLines(ts *testscript.TestScript, neg bool, args []string) {
	use(ts, neg, args, 1, 1000, "lines FILE LINE…")
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Join(args[1:], "\n")+"\n"), 0o600))
}

func cmdOneError(ts *testscript.TestScript, neg bool, args []string) {
	use(ts, neg, args, 0, 0, "oneerror")
	ts.Check(oneError(ts.ReadFile("stdout"), ts.ReadFile("stderr")))
}

// oneError checks what a failing run says: one error, one hint, nothing as an answer. Lines that go on are indented.
func oneError(stdout, stderr string) error {
	if stdout != "" {
		return fmt.Errorf("stdout holds an answer: %s", stdout)
	}
	var errs, hints int
	for line := range strings.Lines(stderr) {
		switch {
		case strings.HasPrefix(line, "imprint: error: "):
			errs++
		case strings.HasPrefix(line, "imprint: hint: ") && errs == 1:
			hints++
		case strings.HasPrefix(line, "         ") && errs == 1:
		default:
			return fmt.Errorf("stderr holds more than an error and a hint: %q", line)
		}
	}
	if errs != 1 || hints != 1 {
		return fmt.Errorf("%d errors and %d hints on stderr, want one each: %s", errs, hints, stderr)
	}
	return nil
}
