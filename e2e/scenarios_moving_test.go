package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/fixture"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// renewed is a party whose authority was issued again for the same key, until later.
func (s *scene) renewed(p *party) string {
	ca := p.root.IntermediateWith(p.ca.Key, p.ca.Certificate.Subject.CommonName, certtest.Valid(time.Now().Add(-time.Hour), time.Now().AddDate(8, 0, 0)))
	return s.file("renewed.pem", certtest.PEM(ca.Chain(p.leaf)...))
}

// S02, R04: a signature is of a key, not of a registry: the same bytes are accepted wherever they lie.
func TestS02R04TrustIsByKey(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine")
	second, third := regtest.New(t, regtest.WithoutAPI), regtest.New(t, regtest.WithAPIOnly)
	ref, _ := s.image("app:1.0")
	s.sign("mine", ref)
	layout := "oci:" + s.at("between")
	s.does("copy", ref, second.Host+"/elsewhere")
	s.does("copy", second.Host+"/elsewhere:1.0", layout)
	s.does("copy", layout+":1.0", third.Host+"/a/third")
	s.accepts(layout+":1.0", "--root", s.at("mine.pem"))
	for _, at := range []string{ref, second.Host + "/elsewhere:1.0", third.Host + "/a/third:1.0"} {
		s.accepts(at, "--root", s.at("mine.pem"))
		if !slices.Equal(s.envelopes(at), s.envelopes(ref)) {
			t.Errorf("%s: other envelopes", at)
		}
	}
}

// S12: the chain is renewed, and what was signed stays as it was to the byte.
func TestS12ChainsAreReplaceable(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"jws", "cose"} {
		s := newScene(t, "mine")
		p := s.parties["mine"]
		ref, _ := s.image("app:1.0")
		s.sign("mine", ref, "--signature-format", format)
		before, err := judge.Signatures(t.Context(), ref)
		if err != nil || len(before) != 1 {
			t.Fatalf("%d signatures, %v", len(before), err)
		}
		s.renewed(p)
		o := s.does("rechain", ref, "--chain", s.at("renewed.pem"))
		now := digest.Digest(o.field(t, "signatures.0.new"))
		if now == "" || now == before[0] {
			t.Fatalf("no new signature:\n%s", o.stdout)
		}
		mediaType, old, err := judge.Envelope(t.Context(), ref, before[0])
		must(t, err)
		_, new, err := judge.Envelope(t.Context(), ref, now)
		must(t, err)
		a, b := apart(t, mediaType, old), apart(t, mediaType, new)
		for _, part := range []string{"protected", "payload", "signature"} {
			if len(a[part]) == 0 || !bytes.Equal(a[part], b[part]) {
				t.Errorf("%s: %s changed", format, part)
			}
		}
		if bytes.Equal(old, new) {
			t.Errorf("%s: the chain is the same", format)
		}
		repo, at := opens(t, ref)
		thumbprint := func(d digest.Digest) string {
			at.Tag, at.Digest = "", d
			m, err := repo.Resolve(t.Context(), at)
			must(t, err)
			var manifest ocispec.Manifest
			must(t, json.Unmarshal(m.Bytes, &manifest))
			return manifest.Annotations["io.cncf.notary.x509chain.thumbprint#S256"]
		}
		if thumbprint(now) == "" || thumbprint(now) == thumbprint(before[0]) {
			t.Errorf("%s: the thumbprints are %s, before %s", format, thumbprint(now), thumbprint(before[0]))
		}
		for _, d := range []digest.Digest{before[0], now} {
			if err := judge.VerifyOnly(t.Context(), ref, d, p.root.Certificate); err != nil {
				t.Errorf("%s: notation: %s: %v", format, d, err)
			}
		}
	}
}

// S13: all signatures of a repository get the renewed chain, however often the run is broken off. (Killed processes and a
// larger repository: TestRechainAllKilledOnTheWay.)
func TestS13AllChainsOfARepository(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine")
	const n = 12
	var refs []string
	for i := range n {
		ref, _ := s.push(fmt.Sprintf("app:%d", i), image(fmt.Sprint("s13 ", i)))
		refs = append(refs, ref)
	}
	s.sign("mine", refs[0], refs[1:]...)
	s.renewed(s.parties["mine"])
	args := []string{"rechain", "--all", s.Host + "/app", "--chain", s.at("renewed.pem"), "--replace", "--jobs", "2"}
	started := make(chan *os.Process, 1)
	var puts atomic.Int64
	s.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") && puts.Add(1) == 5 {
			_ = (<-started).Signal(os.Interrupt)
		}
		return false
	})
	c := s.start(t, args...)
	must(t, c.Start())
	started <- c.Process
	if _ = c.Wait(); c.ProcessState.ExitCode() != 130 {
		t.Fatalf("it was to be interrupted, and ended with %d", c.ProcessState.ExitCode())
	}
	s.Intercept(nil)
	for _, ref := range refs {
		s.accepts(ref, "--root", s.at("mine.pem"))
	}
	s.does(args...)
	for _, ref := range refs {
		o := s.accepts(ref, "--root", s.at("mine.pem"))
		until, err := time.Parse(time.RFC3339, o.field(t, "signatures.0.chain.1.notAfter"))
		if err != nil || o.field(t, "signatures.len") != "1" || until.Before(time.Now().AddDate(7, 0, 0)) {
			t.Errorf("%s: %s signatures, intermediate until %s, %v", ref, o.field(t, "signatures.len"), until, err)
		}
	}
}

// S14: what a promotion asks its source for grows by a manifest and an envelope for each signature, no more.
func TestS14OneQueryForAll(t *testing.T) {
	t.Parallel()
	asked := map[int]int{}
	for _, n := range []int{1, 9} {
		s := newScene(t)
		a, err := fixture.Fan(t.Context(), s.Host+"/fan:1.0", n, fixture.Options{Layer: 1 << 10})
		must(t, err)
		s.Reset()
		s.does("copy", a.Reference, "oci:"+s.at("there"))
		asked[n] = s.Count(nil)
		if lists := s.Count(func(r regtest.Request) bool { return strings.Contains(r.Path, "/referrers/"+a.Root.Digest.String()) }); lists != 1 {
			t.Errorf("%d signatures: listed %d times", n, lists)
		}
	}
	if more := asked[9] - asked[1]; more > 8*2+8 { // and what refers to each signature is asked once
		t.Errorf("eight signatures more cost %d requests more", more)
	}
}

// S34: a reference is resolved once, and one digest is judged and told, whatever the tag names a moment later.
func TestS34TheTagMovesMeanwhile(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := newDesk(t, f, "s34")
	f.attach(d.repo, d.subject, jwsType, d.jws().bytes())
	moved := image("moved")
	resolved := 0
	f.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/manifests/v1") {
			resolved++
		}
		if strings.Contains(r.URL.Path, "/referrers/") { // after it was resolved
			f.putArtifact(d.repo, "v1", moved)
		}
		return false
	})
	o := d.want(t, 0, "", "verify", d.ref, "--root", d.at("root.pem"))
	if got := o.field(t, "digest"); got != d.subject.Digest.String() {
		t.Errorf("judged %s, want %s", got, d.subject.Digest)
	}
	if resolved != 1 {
		t.Errorf("the tag was resolved %d times", resolved)
	}
	f.Intercept(nil)
	o = d.want(t, 1, "unsigned", "verify", d.ref, "--root", d.at("root.pem"))
	if got := o.field(t, "digest"); got != moved.descriptor.Digest.String() {
		t.Errorf("judged %s, want %s", got, moved.descriptor.Digest)
	}
	// A gated copy takes what it judged.
	f.putArtifact(d.repo, "v1", image(d.repo))
	f.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/referrers/") {
			f.putArtifact(d.repo, "v1", moved)
		}
		return false
	})
	to := regtest.New(t, regtest.WithAPI)
	d.want(t, 0, "", "copy", d.ref, to.Host+"/app", "--root", d.at("root.pem"))
	repo, at := opens(t, to.Host+"/app:v1")
	m, err := repo.Resolve(t.Context(), at)
	if err != nil || m.Descriptor.Digest != d.subject.Digest {
		t.Errorf("copied %s, %v; judged %s", m.Descriptor.Digest, err, d.subject.Digest)
	}
	text := d.run(t, "verify", to.Host+"/app:v1", "--root", d.at("root.pem"))
	if !strings.Contains(text.stdout, d.subject.Digest.String()) {
		t.Errorf("the digest is not told:\n%s", text.stdout)
	}
}

// R14, R16: promoted inside one registry and out of it, everything that validation needs goes along, levels of referrers
// too, and within one registry no blob is sent.
func TestR14R16PromotionTakesEverything(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	a, err := fixture.Multi(t.Context(), s.Host+"/dev/app:1.0", fixture.Options{Layer: 1 << 10})
	must(t, err)
	want, err := fixture.Walk(t.Context(), a.Reference)
	must(t, err)
	s.Reset()
	s.does("copy", a.Reference, s.Host+"/prod/app")
	sent := s.Count(func(r regtest.Request) bool {
		return r.Write() && strings.Contains(r.Path, "/blobs/") && !strings.Contains(r.Query, "mount=")
	})
	if sent != 0 {
		t.Errorf("%d blobs were sent within one registry", sent)
	}
	archive := "oci-archive:" + s.at("archive.tar")
	s.does("copy", s.Host+"/prod/app:1.0", archive)
	other := regtest.New(t, regtest.WithoutAPI)
	s.does("copy", archive+":1.0", other.Host+"/restored")
	for _, at := range []string{s.Host + "/prod/app:1.0", other.Host + "/restored:1.0"} {
		got, err := fixture.Walk(t.Context(), at)
		must(t, err)
		if got.Root != want.Root || got.Referrers() != want.Referrers() || want.Referrers() != 19 {
			t.Errorf("%s: %s with %d referrers, want %s with %d", at, got.Root, got.Referrers(), want.Root, want.Referrers())
		}
		for _, d := range a.Images[:2] { // the index and a platform
			if err := judge.Verify(t.Context(), strings.TrimSuffix(at, ":1.0")+"@"+d.Digest.String(), a.Chain[2]); err != nil {
				t.Errorf("%s: notation: %v", at, err)
			}
		}
	}
}

// R20: content that appears under a tag without a signature is found, and what was there before is as good as ever.
func TestR20OverwrittenTag(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine", "attacker")
	root := []string{"--root", s.at("mine.pem")}
	ref, pinned := s.image("app:1.0")
	s.sign("mine", ref)
	s.accepts(ref, root...)
	must(t, image("planted").push(s.Host+"/app", "1.0"))
	s.rejects("unsigned", ref, root...)
	s.sign("attacker", ref)
	s.rejects("no-trusted-signature", ref, root...)
	s.accepts(pinned, root...)
	// Recovered.
	must(t, image("app:1.0").push(s.Host+"/app", "1.0"))
	s.accepts(ref, root...)
}

// R21, R40: the registry and the way to it are not trusted. Whatever of the bytes is changed, nothing is accepted or stored.
func TestR21R40TamperedOnTheWay(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine")
	ref, pinned := s.image("app:1.0")
	s.sign("mine", pinned)
	layer := image("app:1.0").blobs[1].descriptor.Digest.String()
	signatures, err := judge.Signatures(t.Context(), ref)
	must(t, err)
	d := pinned[strings.Index(pinned, "@")+1:]
	for name, c := range map[string]struct {
		part   string
		code   int
		copied bool // only a copy reads it
	}{
		"manifest":           {"/manifests/" + d, 4, false},
		"layer":              {"/blobs/" + layer, 4, true},
		"signature manifest": {"/manifests/" + signatures[0].String(), 4, false},
		"list of referrers":  {"/referrers/", 1, false},
	} {
		s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, c.part) {
				return false
			}
			if c.part == "/referrers/" {
				w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
				_, _ = io.WriteString(w, `{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageIndex+`","manifests":[]}`)
				return true
			}
			s.Handler().ServeHTTP(&flipping{w}, r)
			return true
		})
		if !c.copied {
			if o := s.run(t, "verify", pinned, "--root", s.at("mine.pem"), "--timeout", "3s", "-o", "json"); o.code != c.code {
				t.Errorf("%s: verify: exit %d, want %d\n%s%s", name, o.code, c.code, o.stdout, o.stderr)
			}
		}
		to := regtest.New(t, regtest.WithAPI)
		o := s.run(t, "copy", pinned, to.Host+"/app", "--tag", "1.0", "--root", s.at("mine.pem"), "--timeout", "3s", "-o", "json")
		if o.code == 0 {
			t.Errorf("%s: copied\n%s", name, o.stdout)
		}
		if n := to.Count(func(r regtest.Request) bool { return r.Write() && strings.Contains(r.Path, "/manifests/") }); n != 0 {
			t.Errorf("%s: %d manifests were written at the destination", name, n)
		}
		s.Intercept(nil)
	}
	s.accepts(pinned, "--root", s.at("mine.pem"))
}

// flipping changes a bit of what passes.
type flipping struct{ http.ResponseWriter }

func (f *flipping) Unwrap() http.ResponseWriter { return f.ResponseWriter }

func (f *flipping) Write(b []byte) (int, error) {
	c := bytes.Clone(b)
	if len(c) > 0 {
		c[len(c)/2] ^= 1
	}
	return f.ResponseWriter.Write(c)
}

// R26: each error says what was done to which thing, why, and what to do next.
func TestR26ErrorsSayWhatWhereAndNext(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine", "other")
	ref, _ := s.image("app:1.0")
	s.sign("other", ref)
	missing := s.Host + "/nowhere:1.0"
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{3, ref, []string{"verify", ref}},
		{4, missing, []string{"verify", missing, "--root", s.at("mine.pem")}},
		{3, "no.pem", []string{"verify", ref, "--root", s.at("no.pem")}},
		{3, "app:1.0", []string{"verify", "app:1.0", "--root", s.at("mine.pem")}},
		{3, "--rooot", []string{"verify", ref, "--rooot", "x"}},
		{3, "no.key", []string{"sign", ref, "--key", s.at("no.key"), "--chain", s.at("mine-chain.pem")}},
		{3, s.at("other.key"), []string{"sign", ref, "--key", s.at("other.key"), "--chain", s.at("mine-chain.pem")}},
		{4, missing, []string{"copy", missing, s.Host + "/to"}},
		{3, "policy-1.yaml:6:", []string{"policy", "check", "--policy", s.policy("scopes:\n  r.example: {trsut: [mine]}\n")}},
	} {
		o := s.run(t, c.args...)
		if o.code != c.code || !strings.Contains(o.stderr, c.says) {
			t.Errorf("imprint %q: exit %d, want %d; %q is not said:\n%s", c.args, o.code, c.code, c.says, o.stderr)
		}
		if err := oneError(o.stdout, o.stderr); err != nil {
			t.Errorf("imprint %q: %v", c.args, err)
		}
	}
	// A verdict is an answer, and says the same on stdout.
	o := s.run(t, "verify", ref, "--root", s.at("mine.pem"))
	if o.code != 1 || !strings.HasPrefix(o.stdout, "rejected") || !strings.Contains(o.stdout, "root-not-trusted") || !strings.Contains(o.stderr, "imprint: hint: ") {
		t.Errorf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
}

// R28: a machine reads what was found, for each signature, by codes that stay.
func TestR28ReportsForMachines(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine", "other")
	ref, pinned := s.image("app:1.0")
	s.sign("other", ref)
	s.sign("mine", ref, "--claim", "1.0")
	second, _ := s.image("unsigned:1.0")
	o := s.accepts(ref, "--root", s.at("mine.pem"))
	docs, err := documents(o.stdout)
	must(t, err)
	list, _ := lookup(docs[0], "signatures")
	reasons := map[string]int{}
	for _, sig := range list.([]any) {
		reason, _ := lookup(sig, "reason")
		accepted, _ := lookup(sig, "accepted")
		reasons[fmt.Sprint(reason, accepted)]++
	}
	if reasons["root-not-trustedfalse"] != 1 || len(reasons) != 2 {
		t.Errorf("reasons %v", reasons)
	}
	if got := ref + " " + pinned[strings.Index(pinned, "@")+1:]; o.field(t, "reference")+" "+o.field(t, "digest") != got || o.field(t, "now") == "" {
		t.Errorf("of what and when is not told: %s", o.stdout)
	}
	batch := s.want(t, 1, "unsigned", "verify", ref, second, "--root", s.at("mine.pem"))
	if got := batch.field(t, "kind"); got != "summary" {
		t.Errorf("the last line is a %s", got)
	}
}

// R33: every version can be judged by its digest, however old and wherever the tag points now.
func TestR33OldVersions(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine")
	var pinned []string
	for i := range 3 {
		a := image(fmt.Sprint("version ", i))
		ref, at := s.push("app:latest", a)
		s.sign("mine", ref, "--move", "latest")
		pinned = append(pinned, at)
	}
	for _, ref := range pinned {
		if got := s.accepts(ref, "--root", s.at("mine.pem")).field(t, "digest"); !strings.HasSuffix(ref, got) {
			t.Errorf("judged %s, want %s", got, ref)
		}
	}
}

// S39: years pass with files and a registry alone; nobody signs again, and no service runs.
func TestS39NoServiceSignsAgain(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	root := certtest.Root("root")
	brief := func(until time.Time) certtest.Edit { return certtest.Valid(time.Now().Add(-time.Hour), until) }
	caKey, key := certtest.Key("P-256"), certtest.Key("P-256")
	ca := root.IntermediateWith(caKey, "CA", brief(time.Now().AddDate(1, 0, 0)))
	s.adds("mine", root, ca, key, brief(time.Now().AddDate(5, 0, 0)))
	ref, _ := s.image("app:1.0")
	s.sign("mine", ref)
	must(t, os.Remove(s.at("mine.key")))
	start := time.Now()
	in := func(months int) { s.now = func() time.Time { return start.AddDate(0, months, 0) } }
	in(11)
	s.accepts(ref, "--root", s.at("mine.pem"))
	in(13)
	s.rejects("certificate-expired", ref, "--root", s.at("mine.pem"))
	later := root.IntermediateWith(caKey, "CA", brief(time.Now().AddDate(6, 0, 0)))
	s.file("renewed.pem", certtest.PEM(later.Chain(s.parties["mine"].leaf)...))
	s.does("rechain", ref, "--chain", s.at("renewed.pem"))
	in(50)
	s.accepts(ref, "--root", s.at("mine.pem"))
}
