package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// A publisher has a key, a chain, and something to publish.
type publisher struct {
	*person
	roots []*x509.Certificate
	key   crypto.Signer
}

func newPublisher(t testing.TB) *publisher {
	t.Helper()
	key, chain := certtest.ChainOf(3, "P-256")
	p := &publisher{person: newPerson(t), roots: chain[2:], key: key}
	p.file("leaf.key", certtest.KeyPEM(key))
	p.file("chain.pem", certtest.PEM(chain...))
	p.file("sbom.json", []byte(`{"spdxVersion":"SPDX-2.3"}`))
	return p
}

func (p *publisher) at(name string) string { return filepath.Join(p.dir, name) }

// build makes a layout of an artifact, as a build would, and returns oci:DIR.
func (p *publisher) build(t testing.TB, name string, a artifact) string {
	t.Helper()
	dir := "oci:" + p.at(name)
	pushed(t, a, dir, "1.0")
	return dir
}

// publish is the arguments of publishing; more follow.
func (p *publisher) publish(from, to string, more ...string) []string {
	return append([]string{"publish", from, to, "--key", "file:" + p.at("leaf.key"), "--chain", p.at("chain.pem")}, more...)
}

// tarOf is an archive of a folder.
func tarOf(t testing.TB, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// guard lets a server's tags be written only; each write of one is held until notation-go has judged what the tag is going to name, and all
// that must be signed with it. It returns what was written unsigned, and how many tags were.
func guard(server *regtest.Server, roots []*x509.Certificate, also ...digest.Digest) (unsigned func() []string, tags func() int) {
	var mu sync.Mutex
	var faults []string
	written := map[string]bool{} // where ?tag= is not honoured, the same is written by name after it
	server.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		repo, name, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/")
		if r.Method != http.MethodPut || !ok {
			return false
		}
		names := r.URL.Query()["tag"]
		if !strings.Contains(name, ":") && !strings.HasPrefix(name, "sha256-") {
			names = append(names, name)
		}
		if len(names) == 0 {
			return false
		}
		body, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		mu.Lock()
		defer mu.Unlock()
		for _, name := range names {
			written[name] = true
		}
		for _, d := range append([]digest.Digest{digest.FromBytes(body)}, also...) {
			if err == nil {
				err = judge.Verify(context.Background(), server.Host+"/"+repo+"@"+d.String(), roots...)
			}
		}
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s: %v", names, err))
		}
		return false
	})
	return func() []string {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(faults)
		}, func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(written)
		}
}

// TestPublishTagsLast: from a layout that skopeo made, an archive, standard input and files. At the moment at which a tag is written stock
// notation accepts what it is going to name, and what belongs to that.
func TestPublishTagsLast(t *testing.T) {
	t.Parallel()
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("skopeo is not installed: apt-get install skopeo")
	}
	p := newPublisher(t)
	built := p.build(t, "built", index("published"))
	run := func(t *testing.T, args ...string) []byte {
		t.Helper()
		c := exec.CommandContext(t.Context(), skopeo, append([]string{"--insecure-policy", "--override-os", "linux"}, args...)...)
		c.Env = append(slices.Clone(p.env), "TMPDIR="+p.dir)
		var stderr bytes.Buffer
		c.Stderr = &stderr
		out, err := c.Output()
		if err != nil {
			t.Fatalf("skopeo %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
		}
		return out
	}
	run(t, "copy", "--all", built+":1.0", "oci:"+p.at("layout")+":1.0")
	run(t, "copy", "--all", built+":1.0", "oci-archive:"+p.at("image.tar")+":1.0")
	archive, err := os.ReadFile(p.at("image.tar"))
	if err != nil {
		t.Fatal(err)
	}
	// skopeo compresses what is not: its digests are others than ours.
	made := func(ref string) (root digest.Digest, children []digest.Digest) {
		b := run(t, "inspect", "--raw", ref)
		var m ocispec.Index
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		for _, child := range m.Manifests {
			children = append(children, child.Digest)
		}
		return digest.FromBytes(b), children
	}
	for _, kind := range regtest.Kinds {
		for name, c := range map[string]struct {
			from  string
			stdin string
			more  []string
			image string // for skopeo
		}{
			"layout":  {from: "oci:" + p.at("layout"), image: "oci:" + p.at("layout") + ":1.0"},
			"archive": {from: "oci-archive:" + p.at("image.tar"), image: "oci-archive:" + p.at("image.tar") + ":1.0", more: []string{"--signature-format", "cose"}},
			"stdin":   {from: "-", stdin: string(archive), image: "oci-archive:" + p.at("image.tar") + ":1.0"},
			"file":    {from: p.at("sbom.json") + ":application/spdx+json", more: []string{"--artifact-type", "application/spdx+json"}},
		} {
			t.Run(name+" "+string(kind), func(t *testing.T) {
				t.Parallel()
				p := &publisher{person: &person{dir: p.dir, env: p.env, keys: p.keys, now: p.now, stdin: c.stdin}, roots: p.roots, key: p.key}
				server := regtest.New(t, kind)
				var root digest.Digest
				var also []digest.Digest
				if c.image != "" {
					root, also = made(c.image)
				}
				unsigned, tags := guard(server, p.roots, also...)
				args := p.publish(c.from, server.Host+"/team/app", append(c.more, "--tag", "1.0", "--tag", "latest", "--recursive",
					"--attach", p.at("sbom.json")+":application/spdx+json")...)
				o := p.want(t, 0, "", args...)
				if faults := unsigned(); len(faults) > 0 || tags() != 2 {
					t.Errorf("%d tags written; unsigned: %s", tags(), faults)
				}
				if c.image != "" && (o.field(t, "digest") != root.String() || len(also) != 2) {
					t.Errorf("published as %s, built as %s of %s", o.field(t, "digest"), root, also)
				}
				attached := o.field(t, "attached.0.digest")
				if err := judge.Verify(t.Context(), server.Host+"/team/app@"+attached, p.roots...); err != nil {
					t.Errorf("what was attached: %v", err)
				}
				if c.image != "" {
					pulled := "oci:" + filepath.Join(p.dir, "pulled "+name+" "+string(kind)) + ":latest"
					run(t, "copy", "--all", "--src-tls-verify=false", "docker://"+server.Host+"/team/app:latest", pulled)
					if err := judge.Verify(t.Context(), server.Host+"/team/app:latest", p.roots...); err != nil {
						t.Error(err)
					}
				}
				server.Reset()
				p.want(t, 0, "", args...)
				if n := server.Writes(); n != 0 {
					t.Errorf("%d writes the second time", n)
				}
			})
		}
	}
}

// A release is what a publish of [TestPublishKilled] is to leave.
type release struct {
	repo           string
	old, new, sbom digest.Digest
	roots          []*x509.Certificate
}

// check wants what must hold at every moment: a tag of the release, if there is one, names it and it is signed, and so is what is attached;
// latest names that or what it named before.
func (r release) check(t *testing.T, when string) {
	t.Helper()
	target, err := opened(r.repo)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"1.1", "latest"} {
		d, err := target.Resolve(t.Context(), tag)
		switch {
		case err != nil && tag == "1.1": // not there yet
		case err != nil:
			t.Errorf("%s: %s: %v", when, tag, err)
		case d.Digest == r.old && tag == "latest":
		case d.Digest != r.new:
			t.Errorf("%s: %s names %s", when, tag, d.Digest)
		default:
			r.signed(t, when, r.new, r.sbom)
		}
	}
}

func (r release) signed(t *testing.T, when string, digests ...digest.Digest) {
	t.Helper()
	for _, d := range digests {
		if err := judge.Verify(t.Context(), r.repo+"@"+d.String(), r.roots...); err != nil {
			t.Errorf("%s: %s: %v", when, d, err)
		}
	}
}

// done wants what an undisturbed publish leaves: both tags, and one signature each of the image and of what is attached.
func (r release) done(t *testing.T, when string) {
	t.Helper()
	r.check(t, when)
	target, err := opened(r.repo)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"1.1", "latest"} {
		if d, err := target.Resolve(t.Context(), tag); err != nil || d.Digest != r.new {
			t.Errorf("%s: %s names %s, %v", when, tag, d.Digest, err)
		}
	}
	for _, d := range []digest.Digest{r.new, r.sbom} {
		signatures, err := judge.Signatures(t.Context(), r.repo+"@"+d.String())
		if err != nil || len(signatures) != 1 {
			t.Errorf("%s: %s has the signatures %s, %v", when, d, signatures, err)
		}
	}
	r.signed(t, when, r.new, r.sbom)
	image, err := target.Resolve(t.Context(), r.new.String())
	if err != nil {
		t.Fatal(err)
	}
	refer, err := target.Predecessors(t.Context(), image)
	if err != nil || len(refer) != 2 {
		t.Errorf("%s: %d manifests refer to the image, want its signature and its SBOM: %v", when, len(refer), err)
	}
}

// prepare puts an older release into a repository, and returns the new one with the arguments that publish it.
func (p *publisher) prepare(t *testing.T, repo, from string, a artifact) (release, []string) {
	t.Helper()
	old := image("older")
	pushed(t, old, repo, "latest")
	args := p.publish(from, repo, "--tag", "1.1", "--tag", "latest", "--move", "latest", "--attach", p.at("sbom.json")+":application/spdx+json")
	o := p.want(t, 0, "", append(slices.Clone(args), "--dry-run")...)
	r := release{repo: repo, old: old.descriptor.Digest, new: a.descriptor.Digest, sbom: digest.Digest(o.field(t, "attached.0.digest")), roots: p.roots}
	return r, args
}

// TestPublishKilled: killed at each request, the request delivered or not, no tag names anything unsigned, and the second run ends as an
// undisturbed one.
func TestPublishKilled(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		for _, delivered := range []bool{false, true} {
			t.Run(fmt.Sprintf("F38 %s delivered=%t", kind, delivered), func(t *testing.T) {
				t.Parallel()
				p := newPublisher(t)
				a := image("newer")
				from := p.build(t, "built", a)
				undisturbed := regtest.New(t, kind)
				r, args := p.prepare(t, undisturbed.Host+"/app", from, a)
				undisturbed.Reset()
				p.want(t, 0, "", args...)
				total := undisturbed.Count(nil)
				r.done(t, "undisturbed")
				// What is copied, signed twice, read back and tagged twice takes more than this.
				if total < 25 {
					t.Errorf("%d requests only", total)
				}
				var killed atomic.Int64
				var runs sync.WaitGroup
				slots := make(chan struct{}, 6) // they wait for lists to settle more than for a processor
				for n := 1; n <= total; n++ {
					slots <- struct{}{}
					runs.Go(func() {
						defer func() { <-slots }()
						server := regtest.New(t, kind)
						r, args := p.prepare(t, server.Host+"/app", from, a)
						o := killedAt(t, server, n, delivered, p.person, args)
						if o.code != 0 {
							killed.Add(1)
						}
						when := fmt.Sprintf("request %d of %d cut, exit code %d", n, total, o.code)
						r.check(t, when)
						if o := p.run(t, args...); o.code != 0 {
							t.Errorf("%s: the second run ends in %d: %s", when, o.code, o.stderr)
						}
						r.done(t, when)
					})
				}
				runs.Wait()
				// Requests travel beside one another, so that one run may need one less than another.
				if n := int(killed.Load()); n < total-2 {
					t.Errorf("%d of %d runs were killed", n, total)
				}
			})
		}
	}
}

// TestPublishSignals: the same with a process of its own, at a few requests.
func TestPublishSignals(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("imprint") // this test binary, by another name
	if err != nil {
		t.Fatal(err)
	}
	for _, signal := range []os.Signal{os.Interrupt, os.Kill} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			p := newPublisher(t)
			server := regtest.New(t, regtest.WithAPI)
			a := image("newer")
			from := p.build(t, "built", a)
			for _, n := range []int{4, 12, 20, 26, 31} {
				r, args := p.prepare(t, fmt.Sprintf("%s/killed%d", server.Host, n), from, a)
				reached := make(chan struct{})
				var seen atomic.Int64
				server.Intercept(func(http.ResponseWriter, *http.Request) bool {
					if seen.Add(1) == int64(n) {
						close(reached)
					}
					return false
				})
				c := exec.CommandContext(t.Context(), program, args...)
				c.Env = append(slices.Clone(p.env), "GORACE="+quickExit)
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan struct{})
				go func() { _ = c.Wait(); close(ended) }()
				select {
				case <-reached:
					_ = c.Process.Signal(signal)
					<-ended
				case <-ended: // it needed fewer requests than that
				}
				server.Intercept(nil)
				when := fmt.Sprintf("%s at request %d, exit code %d", signal, n, c.ProcessState.ExitCode())
				if code := c.ProcessState.ExitCode(); signal == os.Interrupt && code != 130 && code != 0 {
					t.Errorf("%s", when)
				}
				r.check(t, when)
				p.want(t, 0, "", args...)
				r.done(t, when)
			}
		})
	}
}

// A servedKey is a key at a service that may fail.
type servedKey struct {
	kms.Key
	calls atomic.Int64
	fails atomic.Bool
}

func (k *servedKey) ID() string { return "awskms:///alias/release" }

func (k *servedKey) Describe() kms.Description { return kms.Description{Service: "test KMS"} }

func (k *servedKey) Sign(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.calls.Add(1)
	if k.fails.Load() {
		return nil, &kms.Error{Code: kms.CodeUnreachable, Class: kms.ErrService, Err: fmt.Errorf("the service is away")}
	}
	return k.Key.Sign(ctx, message, opts)
}

// atService gives the publisher a key at a service, named awskms:///alias/release.
func (p *publisher) atService() *servedKey {
	k := &servedKey{Key: kmstest.Key(p.key)}
	p.keys = kms.Providers{"awskms": func(context.Context, *url.URL, kms.Options) (kms.Key, error) { return k, nil }}
	return k
}

func TestPublishKeyFails(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			p := newPublisher(t)
			k := p.atService()
			server := regtest.New(t, kind)
			a := image("newer")
			args := []string{"publish", p.build(t, "built", a), server.Host + "/app", "--tag", "1.1", "--key", "awskms:///alias/release", "--chain", p.at("chain.pem")}
			k.fails.Store(true)
			o := p.run(t, args...)
			if o.code != 6 || k.calls.Load() == 0 {
				t.Errorf("exit code %d after %d calls: %s", o.code, k.calls.Load(), o.stderr)
			}
			for _, says := range []string{"is at " + server.Host + "/app by digest", "no tag has moved", "running it again is safe", "call to the key service"} {
				if !strings.Contains(strings.Join(strings.Fields(o.stderr), " "), says) {
					t.Errorf("it does not say %q: %s", says, o.stderr)
				}
			}
			target, err := opened(server.Host + "/app")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := target.Resolve(t.Context(), "1.1"); err == nil {
				t.Error("the tag is there")
			}
			if _, err := target.Resolve(t.Context(), a.descriptor.Digest.String()); err != nil {
				t.Errorf("what was copied: %v", err)
			}
			k.fails.Store(false)
			server.Reset()
			p.want(t, 0, "", args...)
			layer := a.blobs[1].descriptor.Digest.String()
			if n := server.Count(func(r regtest.Request) bool {
				return r.Method == http.MethodPut && strings.Contains(r.Query+r.Path, layer)
			}); n != 0 {
				t.Errorf("the layer was sent again, %d times", n)
			}
			if err := judge.Verify(t.Context(), server.Host+"/app:1.1", p.roots...); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestF30ReadOnlyRegistry: a registry that takes no writes is found out before a call of the key service is spent.
func TestF30ReadOnlyRegistry(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		code   int
	}{
		"F30 405": {http.StatusMethodNotAllowed, 4},
		"F30 403": {http.StatusForbidden, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPublisher(t)
			k := p.atService()
			server := regtest.New(t, regtest.WithAPI)
			a := image("newer")
			from := p.build(t, "built", a)
			ref := pushed(t, a, server.Host+"/signed", "1")
			server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet || r.Method == http.MethodHead {
					return false
				}
				_, _ = io.Copy(io.Discard, r.Body)
				failure(w, c.status, "DENIED")
				return true
			})
			key := []string{"--key", "awskms:///alias/release", "--chain", p.at("chain.pem")}
			for _, args := range [][]string{{"publish", from, server.Host + "/app:1"}, {"sign", ref}, {"sign", ref, "--recursive", "--signature-format", "cose"}} {
				o := p.run(t, append(args, key...)...)
				if o.code != c.code || k.calls.Load() != 0 {
					t.Errorf("%s: exit code %d, %d calls of the key service: %s", args[0], o.code, k.calls.Load(), o.stderr)
				}
				if err := oneError(o.stdout, withoutWarnings(o.stderr)); err != nil {
					t.Error(err)
				}
			}
			server.Intercept(nil)
			server.Reset()
			p.want(t, 0, "", append([]string{"sign", ref}, key...)...)
			if n := k.calls.Load(); n != 1 {
				t.Errorf("%d calls of the key service, want 1", n)
			}
			// Once there, nothing is written to find out whether it could be.
			server.Reset()
			p.want(t, 0, "", append([]string{"sign", ref}, key...)...)
			if n := server.Writes(); n != 0 {
				t.Errorf("%d writes for what is signed already", n)
			}
		})
	}
}

// TestPublishForgetfulRegistry: a registry that answers well to a signature and lists nothing gets no tag.
func TestPublishForgetfulRegistry(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	server := regtest.New(t, regtest.WithAPI)
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			return false
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		_, _ = io.WriteString(w, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
		return true
	})
	p.want(t, 7, "referrers-unsettled", p.publish(p.build(t, "built", image("forgotten")), server.Host+"/app:1")...)
	if n := server.Count(func(r regtest.Request) bool {
		return r.Method == http.MethodPut && (strings.HasSuffix(r.Path, "/manifests/1") || strings.Contains(r.Query, "tag="))
	}); n != 0 {
		t.Errorf("the tag was written %d times", n)
	}
}

// TestPublishSourceDate: manifests that publish makes carry the time of SOURCE_DATE_EPOCH or none, so that they are the same every time.
func TestPublishSourceDate(t *testing.T) {
	t.Parallel()
	digests := map[string][]string{}
	for _, epoch := range []string{"", "", "1700000000", "1700000000", "0"} {
		p := newPublisher(t)
		if epoch != "" {
			p.env = append(p.env, "SOURCE_DATE_EPOCH="+epoch)
		}
		p.now = func() time.Time { return time.Now().Add(time.Duration(len(digests)) * time.Minute) }
		server := regtest.New(t, regtest.WithAPI)
		o := p.want(t, 0, "", p.publish(p.at("sbom.json"), server.Host+"/app:1", "--artifact-type", "application/spdx+json",
			"--attach", p.at("sbom.json")+":text/plain")...)
		digests[epoch] = append(digests[epoch], o.field(t, "digest")+" "+o.field(t, "attached.0.digest"))
		resp, err := http.Get("http://" + server.Host + "/v2/app/manifests/1")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		created := map[string]string{"": "", "1700000000": "2023-11-14T22:13:20Z", "0": "1970-01-01T00:00:00Z"}[epoch]
		if err != nil || strings.Contains(string(b), "image.created") != (created != "") || !strings.Contains(string(b), created) {
			t.Errorf("SOURCE_DATE_EPOCH=%s: %s", epoch, b)
		}
	}
	for epoch, d := range digests {
		if len(slices.Compact(d)) != 1 {
			t.Errorf("SOURCE_DATE_EPOCH=%s: digests %q", epoch, d)
		}
	}
	if digests[""][0] == digests["0"][0] || digests["0"][0] == digests["1700000000"][0] {
		t.Error("the time makes no difference")
	}
	p := newPublisher(t)
	plain := p.env
	for _, epoch := range []string{"yesterday", "-1", "1.5", "+1", "01", " 1", "253402300800", "99999999999999999999"} {
		p.env = append(slices.Clone(plain), "SOURCE_DATE_EPOCH="+epoch)
		p.want(t, 3, "usage", p.publish(p.at("sbom.json"), "oci:"+p.at("out"), "--artifact-type", "application/spdx+json")...)
	}
}

// TestPublishSources: what cannot be read is said, and nothing is written.
func TestPublishSources(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	built := p.build(t, "built", image("built"))
	archive := tarOf(t, p.at("built"))
	server := regtest.New(t, regtest.WithAPI)
	p.file("cut.tar", archive[:len(archive)/2])
	p.file("junk.tar", []byte(strings.Repeat("junk", 1000)))
	unreadable := p.file("unreadable", []byte("secret"))
	if err := os.Chmod(unreadable, 0); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		from, stdin string
		more        []string
		code        int
		reason      string
	}{
		"no such archive":         {from: "oci-archive:" + p.at("none.tar"), code: 4, reason: "not-found"},
		"no such layout":          {from: "oci:" + p.at("none"), code: 4, reason: "not-found"},
		"no such NAME":            {from: built + ":2.0", code: 4, reason: "not-found"},
		"an archive cut short":    {from: "oci-archive:" + p.at("cut.tar"), code: 4, reason: "manifest-malformed"},
		"junk":                    {from: "oci-archive:" + p.at("junk.tar"), code: 4, reason: "manifest-malformed"},
		"stdin cut short":         {from: "-", stdin: string(archive[:len(archive)/2]), code: 4, reason: "manifest-malformed"},
		"stdin of nothing":        {from: "-", code: 4, reason: "manifest-malformed"},
		"the digest is another":   {from: built + "@" + digest.FromString("another").String(), code: 4, reason: "not-found"},
		"an attachment that went": {from: built, more: []string{"--attach", p.at("gone.json") + ":text/plain"}, code: 3, reason: "usage"},
		"metadata of imprint":     {from: built, more: []string{"-m", "io.imprint.x=1"}, code: 3, reason: "metadata-invalid"},
		"an expiry behind":        {from: built, more: []string{"--expiry", "0s"}, code: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &publisher{person: &person{dir: p.dir, env: p.env, keys: p.keys, now: p.now, stdin: c.stdin}}
			o := p.want(t, c.code, c.reason, p.publish(c.from, server.Host+"/"+strings.ReplaceAll(strings.ToLower(name), " ", "-")+":1", c.more...)...)
			if err := oneError("", withoutWarnings(o.stderr)); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		if n := server.Writes(); n != 0 {
			t.Errorf("%d writes", n)
		}
	})
}

// TestF36SpoolDiskFull: standard input that does not fit where it is spooled is the local disk's fault; nothing is published.
func TestF36SpoolDiskFull(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	p.build(t, "built", image("built"))
	server := regtest.New(t, regtest.WithAPI)
	p.env = append(p.env, "TMPDIR="+p.at("there is no such folder"))
	p.stdin = string(tarOf(t, p.at("built")))
	o := p.process(t, append(p.publish("-", server.Host+"/app:1"), "-o", "json")...)
	if o.code != 8 || o.field(t, "reason") != "disk" || server.Writes() != 0 {
		t.Errorf("exit code %d, %d writes: %s%s", o.code, server.Writes(), o.stdout, o.stderr)
	}
}

// TestPublishArchiveInPlace: an archive on standard input that is a file is read where it lies, and left as it was.
func TestPublishArchiveInPlace(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	a := image("in place")
	p.build(t, "built", a)
	b := tarOf(t, p.at("built"))
	path := p.file("image.tar", b)
	server := regtest.New(t, regtest.WithoutAPI)
	o := p.want(t, 0, "", p.publish("oci-archive:"+path, server.Host+"/app:1")...)
	if o.field(t, "digest") != a.descriptor.Digest.String() {
		t.Error(o.stdout)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(after, b) {
		t.Errorf("the archive was changed: %v", err)
	}
	if err := judge.Verify(t.Context(), server.Host+"/app:1", p.roots...); err != nil {
		t.Error(err)
	}
}

// TestPublishLayout: in a layout too the NAME comes last, and what a failed run left is gone on from.
func TestPublishLayout(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	k := p.atService()
	from, to := p.build(t, "built", index("layout")), "oci:"+p.at("published")
	args := []string{"publish", from, to + ":1.1", "--recursive", "--key", "awskms:///alias/release", "--chain", p.at("chain.pem")}
	k.fails.Store(true)
	p.want(t, 6, "", args...)
	p.want(t, 4, "not-found", "inspect", to+":1.1")
	k.fails.Store(false)
	o := p.want(t, 0, "", args...)
	if o.field(t, "copied.written") != "0" || o.field(t, "signed.written") != "5" {
		t.Error(o.stdout)
	}
	if err := judge.Verify(t.Context(), to+":1.1", p.roots...); err != nil {
		t.Error(err)
	}
	calls := k.calls.Load()
	p.want(t, 0, "", args...)
	if n := k.calls.Load(); n != calls {
		t.Errorf("%d more calls of the key service for what is signed", n-calls)
	}
}

// TestPublishTagTakenMeanwhile: a tag that somebody else wrote while the release was on its way is not overwritten, and no other is written.
func TestPublishTagTakenMeanwhile(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			p := newPublisher(t)
			server := regtest.New(t, kind)
			repo := server.Host + "/app"
			theirs := image("theirs")
			pushed(t, theirs, repo, "")
			var once sync.Once
			server.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				// A manifest of that size is the signature, with its envelope: the tags have been looked at by then.
				if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/sha256") && r.ContentLength > 2000 {
					once.Do(func() {
						if err := theirs.push(repo, "latest"); err != nil {
							t.Error(err)
						}
					})
				}
				return false
			})
			p.want(t, 1, "tag-moves", p.publish(p.build(t, "built", image("ours")), repo, "--tag", "1.1", "--tag", "latest")...)
			target, err := opened(repo)
			if err != nil {
				t.Fatal(err)
			}
			if d, err := target.Resolve(t.Context(), "latest"); err != nil || d.Digest != theirs.descriptor.Digest {
				t.Errorf("latest names %s, %v", d.Digest, err)
			}
			if _, err := target.Resolve(t.Context(), "1.1"); err == nil {
				t.Error("the other tag was written")
			}
		})
	}
}
