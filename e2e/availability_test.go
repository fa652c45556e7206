package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// A flood is an artifact to which anybody has attached a great many things, with one good signature behind them all.
type flood struct {
	*person
	server     *regtest.Server
	repo       string
	subject    ocispec.Descriptor
	listed     []ocispec.Descriptor // in the order of the list
	signatures int                  // of which so many say that they are signatures
	blobs      int                  // and so many of these have an envelope to be fetched
	refused    digest.Digest        // 403 is all that one hears of it
	ghost      digest.Digest        // listed, and gone
}

// put stores something without imprint's code.
func (f *flood) put(t testing.TB, path, mediaType string, b []byte) {
	t.Helper()
	if err := f.send(http.MethodPut, path, mediaType, b); err != nil {
		t.Fatal(err)
	}
}

func (f *flood) send(method, path, mediaType string, b []byte) error {
	r, err := http.NewRequest(method, "http://"+f.server.Host+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", mediaType)
	resp, err := floodClient.Do(r)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return nil
}

var floodClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}

func (f *flood) blob(t testing.TB, b []byte) {
	t.Helper()
	target, err := opened(f.server.Host + "/" + f.repo)
	if err != nil {
		t.Fatal(err)
	}
	d := describe("application/octet-stream", b)
	if there, err := target.Exists(t.Context(), d); err != nil || there {
		return
	}
	if err := target.Push(t.Context(), d, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
}

// attach stores a manifest that refers to the subject, and notes its entry for the list.
func (f *flood) attach(t testing.TB, m ocispec.Manifest) ocispec.Descriptor {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	d := describe(ocispec.MediaTypeImageManifest, b)
	f.put(t, "/v2/"+f.repo+"/manifests/"+d.Digest.String(), d.MediaType, b)
	d.ArtifactType = m.ArtifactType
	f.listed = append(f.listed, d)
	return d
}

// signature is a manifest of one; each has another annotation, so that none is there twice.
func (f *flood) signature(n int, mediaType string, envelope []byte, inline bool) ocispec.Manifest {
	m := signatureManifest(f.subject, mediaType, envelope)
	m.Annotations = map[string]string{"n": fmt.Sprint(n)}
	if inline {
		m.Layers[0].Data = envelope
	}
	return m
}

// newFlood attaches junk of so many, of every kind, and then what is good. Of the junk's envelopes, those that are not in their manifests
// have so many bytes more.
func newFlood(t testing.TB, kind regtest.Kind, junk, size int) *flood {
	t.Helper()
	f := &flood{person: newPerson(t), server: regtest.New(t, kind), repo: "team/flooded"}
	pushed(t, image("flooded "+string(kind)), f.server.Host+"/"+f.repo, "v1")
	f.subject = image("flooded " + string(kind)).descriptor
	attacker, chain := certtest.ChainOf(2, "P-256")
	theirs := newJWS(attacker, chain, f.subject).bytes()
	elsewhere := newJWS(attacker, chain, image("another").descriptor).bytes()
	garbage := []byte(`{"payload":"garbage"}`)
	large := []byte(`{"payload":"` + strings.Repeat("A", size) + `"}`)
	if size > 0 { // a member that nobody knows, and nobody signs
		x := newJWS(attacker, chain, f.subject).seal()
		x.header = strings.TrimSuffix(x.header, "}") + `,"com.example.x":"` + strings.Repeat("A", size) + `"}`
		theirs = x.bytes()
	}
	key, good := certtest.ChainOf(3, "P-256")
	ours := newCOSE(key, good, f.subject).bytes()
	for _, b := range [][]byte{theirs, elsewhere, garbage, large, ours, []byte("{}")} {
		f.blob(t, b)
	}
	wait := make(chan struct{}, 8) // the registry takes several at a time
	var all sync.WaitGroup
	var mu sync.Mutex
	entries := make([]ocispec.Descriptor, junk)
	for i := range junk {
		var m ocispec.Manifest
		blob, claims := 0, 1
		switch i % 8 {
		case 0, 1, 2: // not a signature
			m, claims = f.signature(i, "application/spdx+json", garbage, false), 0
			m.ArtifactType = []string{spdxType, "application/vnd.acme.report", "application/vnd.dev.cosign.artifact.sig.v1+json"}[i%8]
		case 3:
			m = f.signature(i, jwsType, large, true)
		case 4:
			m, blob = f.signature(i, coseType, large, false), 1
		case 5: // two layers
			m = f.signature(i, jwsType, theirs, false)
			m.Layers = append(m.Layers, m.Layers[0])
		case 6: // somebody's
			m, blob = f.signature(i, jwsType, theirs, false), 1
		case 7: // of something else
			m = f.signature(i, jwsType, elsewhere, true)
		}
		f.signatures += claims
		f.blobs += blob
		wait <- struct{}{}
		all.Go(func() {
			defer func() { <-wait }()
			b, _ := json.Marshal(m)
			d := describe(ocispec.MediaTypeImageManifest, b)
			err := f.send(http.MethodPut, "/v2/"+f.repo+"/manifests/"+d.Digest.String(), d.MediaType, b)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			d.ArtifactType = m.ArtifactType
			entries[i] = d
		})
	}
	all.Wait()
	f.listed = entries
	f.refused = f.attach(t, f.signature(-1, jwsType, theirs, false)).Digest
	f.ghost = f.attach(t, f.signature(-2, jwsType, theirs, false)).Digest
	f.attach(t, f.signature(-3, coseType, ours, false))
	f.signatures += 3
	f.blobs++
	if kind == regtest.WithoutAPI {
		b, _ := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: f.listed})
		f.put(t, "/v2/"+f.repo+"/manifests/"+strings.Replace(f.subject.Digest.String(), ":", "-", 1), ocispec.MediaTypeImageIndex, b)
	}
	f.server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		switch path.Base(r.URL.Path) {
		case f.refused.String():
			failure(w, http.StatusForbidden, "DENIED")
			return true
		case f.ghost.String():
			failure(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
			return true
		}
		return false
	})
	f.file("root.pem", certtest.PEM(good[2]))
	f.file("policy.yaml", fmt.Appendf(nil, "version: 1\nroots: {ours: root.pem}\nscopes: {%q: [ours]}\n", f.server.Host))
	f.server.Reset()
	return f
}

func (f *flood) ref() string { return f.server.Host + "/" + f.repo + ":v1" }

// A thousand referrers of any kind, one that is refused, a ghost and two layers do not keep anybody from the one good signature behind
// them, nor does judging them take more than their number asks for.
func TestAvailability(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind regtest.Kind
		size int
	}{{regtest.WithAPI, 0}, {regtest.WithoutAPI, 0}, {regtest.WithAPI, 16 << 10}} {
		t.Run(fmt.Sprintf("%s %d", c.kind, c.size), func(t *testing.T) {
			t.Parallel()
			f := newFlood(t, c.kind, 1000, c.size)
			o, memory, took := f.judge(t)
			if o.code != 0 {
				t.Fatalf("exit code %d\n%s", o.code, o.stderr)
			}
			if got := o.field(t, "signatures.len"); got != fmt.Sprint(f.signatures) {
				t.Errorf("%s signatures in the report, %d are listed", got, f.signatures)
			}
			asked := map[string]int{}
			for _, r := range f.server.Requests() {
				asked[r.Method+" "+r.Path]++
			}
			for _, d := range f.listed {
				if n := asked["GET /v2/"+f.repo+"/manifests/"+d.Digest.String()]; d.ArtifactType != signatureType && n > 0 {
					t.Errorf("%s is of type %s and was fetched", d.Digest, d.ArtifactType)
				} else if n > 1 && d.Digest != f.ghost {
					t.Errorf("%s was fetched %d times", d.Digest, n)
				}
			}
			// The artifact, its list, and again when something of it is gone; of each signature its manifest and perhaps an envelope.
			const around, looks = 8, 4
			pages := 0
			for what, n := range asked {
				if strings.Contains(what, "/referrers/") || strings.Contains(what, "/manifests/sha256-") {
					pages += n
				}
			}
			total := f.server.Count(nil)
			if bound := around + looks + f.signatures + f.blobs; total > bound {
				t.Errorf("%d requests, want at most %d\n%s", total, bound, strings.Join(slices.Sorted(maps.Keys(asked))[:20], "\n"))
			}
			if pages > 2*looks {
				t.Errorf("the list was read %d times", pages)
			}
			t.Logf("%d requests for %d signatures among %d referrers (%d of lists), %s, %d KiB of memory", total, f.signatures, len(f.listed), pages, took.Round(time.Millisecond), memory)
			// The program as it is shipped has 26 MiB before it reads anything, which leaves so much of 64 MiB; these tests and all that they
			// need are in this one, too. BenchmarkVerifyFlood measures the other.
			const most = (64 - 26) << 10
			if _, idle, _ := f.measured(t, "version"); !raced && memory > idle+most {
				t.Errorf("it took %d KiB of memory, %d before it began", memory, idle)
			}
			reasons := map[string]int{}
			for _, m := range reasonsIn(t, o) {
				reasons[m]++
			}
			want := map[string]int{"": 1, "envelope-malformed": 125, "format-mismatch": 125, "manifest-malformed": 125, "root-not-trusted": 125, "payload-mismatch": 125, "unfetched": 2}
			if diff := cmp.Diff(want, reasons); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// reasonsIn lists the reason of each signature in a report.
func reasonsIn(t testing.TB, o outcome) []string {
	t.Helper()
	var report struct {
		Signatures []struct{ Reason string }
	}
	if err := json.Unmarshal([]byte(o.stdout), &report); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, s := range report.Signatures {
		out = append(out, s.Reason)
	}
	return out
}

// judge verifies in a process of its own, and says how much memory it had at most, in KiB; 0 where nobody tells.
func (f *flood) judge(t testing.TB) (o outcome, memory int64, took time.Duration) {
	t.Helper()
	return f.measured(t, "verify", f.ref(), "--policy", path.Join(f.dir, "policy.yaml"), "-o", "json")
}

func (p *person) measured(t testing.TB, args ...string) (o outcome, memory int64, took time.Duration) {
	t.Helper()
	c := p.start(t, args...)
	c.Env = append(c.Env, "GOMEMLIMIT=40MiB") // these tests and all that they need are in the program, too
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	began := time.Now()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	done, most := make(chan struct{}), make(chan int64)
	go func() { most <- peakOf(c.Process.Pid, done) }()
	_ = c.Wait()
	took = time.Since(began)
	close(done)
	return outcome{c.ProcessState.ExitCode(), stdout.String(), stderr.String()}, <-most >> 10, took
}
