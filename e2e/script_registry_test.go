package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry/regtest"
)

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
	use(ts, neg, args, 1, 1, "registry down|gone|unauthorized|liar|blobless|undeletable|up")
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
	// blobless serves no blob: signatures that are not in their manifests cannot be fetched.
	"blobless": func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		failure(w, http.StatusServiceUnavailable, "UNAVAILABLE")
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

// oneError checks what a failing run says: one error, one hint, nothing as an answer. Lines that go on are indented. What had
// travelled until then may be said before.
func oneError(stdout, stderr string) error {
	if stdout != "" {
		return fmt.Errorf("stdout holds an answer: %s", stdout)
	}
	var errs, hints int
	for line := range strings.Lines(stderr) {
		switch {
		case strings.HasPrefix(line, "imprint: sent ") && errs == 0:
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
