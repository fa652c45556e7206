package cmd

import (
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// A fleet is many signed artifacts in the repositories of one registry, whose intermediate is going to end: signers of one authority,
// some signatures countersigned, and that authority renewed with the same name and key.
type fleet struct {
	*world
	server *regtest.Server
	root   *certtest.Authority
	old    *certtest.Authority
	new    *certtest.Authority
	tsa    *tsatest.Authority
	made   time.Time // when everything was signed
	signer map[string]crypto.Signer
	leaf   map[string]certchain.Chain
}

func newFleet(t *testing.T, kind regtest.Kind) *fleet {
	t.Helper()
	f := &fleet{
		world: newWorld(t), server: regtest.New(t, kind), made: time.Now().Add(-24 * time.Hour),
		signer: map[string]crypto.Signer{}, leaf: map[string]certchain.Chain{},
	}
	long := certtest.Valid(time.Now().Add(-1000*time.Hour), time.Now().Add(3000*24*time.Hour))
	f.root = certtest.Root("Acme Root", long)
	f.old = f.root.Intermediate("Acme CA 3", certtest.Valid(time.Now().Add(-900*time.Hour), time.Now().Add(20*24*time.Hour)))
	f.new = f.root.IntermediateWith(f.old.Key, "Acme CA 3", certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(900*24*time.Hour)))
	f.tsa = tsatest.New(tsatest.Options{})
	f.file("root.pem", string(certtest.PEM(f.root.Certificate)))
	f.file("old.pem", string(certtest.PEM(f.old.Certificate)))
	f.file("new.pem", string(certtest.PEM(f.new.Certificate)))
	f.file("tsa.pem", string(certtest.PEM(f.tsa.Roots()...)))
	for _, cn := range []string{"release", "payments"} {
		f.identity(cn, f.old)
	}
	return f
}

// identity makes a signer under an authority.
func (f *fleet) identity(cn string, ca *certtest.Authority) {
	key := certtest.Key("P-256")
	f.signer[cn] = key
	f.leaf[cn] = ca.Chain(ca.Leaf(key.Public(), cn, certtest.Valid(time.Now().Add(-800*time.Hour), time.Now().Add(400*24*time.Hour))))
}

// lookout is what a test calls itself where it looks at a registry beside imprint.
const lookout = "lookout"

// repo opens a repository of the registry.
func (f *fleet) repo(path string) *registry.Repo {
	f.t.Helper()
	c, err := registry.NewClient(registry.Options{UserAgent: lookout})
	if err != nil {
		f.t.Fatal(err)
	}
	repo, err := c.Open(context.Background(), registry.Reference{Kind: registry.Remote, Host: f.server.Host, Path: path})
	if err != nil {
		f.t.Fatal(err)
	}
	return repo
}

// artifact pushes an image under a tag.
func (f *fleet) artifact(path, tag string) ocispec.Descriptor {
	f.t.Helper()
	repo, ctx := f.repo(path), context.Background()
	config := []byte(`{"os":"linux","architecture":"amd64"}`)
	layer := []byte("layer of " + path + ":" + tag)
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, b := range []struct {
		mediaType string
		b         []byte
	}{{ocispec.MediaTypeImageConfig, config}, {ocispec.MediaTypeImageLayer, layer}} {
		d := ocispec.Descriptor{MediaType: b.mediaType, Digest: digest.FromBytes(b.b), Size: int64(len(b.b))}
		if err := repo.PushBytes(ctx, d, b.b); err != nil {
			f.t.Fatal(err)
		}
		if b.mediaType == ocispec.MediaTypeImageConfig {
			m.Config = d
		} else {
			m.Layers = append(m.Layers, d)
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		f.t.Fatal(err)
	}
	manifest := registry.NewManifest(ocispec.MediaTypeImageManifest, b)
	if err := repo.PushManifest(ctx, manifest); err != nil {
		f.t.Fatal(err)
	}
	if err := repo.Tag(ctx, manifest, tag); err != nil {
		f.t.Fatal(err)
	}
	return manifest.Descriptor
}

// signed attaches a signature of cn, countersigned a minute later if stamped.
func (f *fleet) signed(path string, subject ocispec.Descriptor, cn string, format envelope.Format, stamped bool) digest.Digest {
	f.t.Helper()
	ctx := context.Background()
	e, err := envelope.Sign(ctx, format, envelope.Payload{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
		kmstest.Key(f.signer[cn]), f.leaf[cn], envelope.Options{SigningTime: f.made, Agent: "somebody/1"})
	if err != nil {
		f.t.Fatal(err)
	}
	if stamped {
		if e, err = e.WithTimestamp(f.tsa.Token(e.Unverified().Signature, f.made.Add(time.Minute))); err != nil {
			f.t.Fatal(err)
		}
	}
	m := registry.ByArtifactType.Manifest(subject, string(format), e.Bytes(), map[string]string{ocispec.AnnotationCreated: "2026-01-01T00:00:00Z"})
	if err := f.repo(path).PushSignature(ctx, subject, m, e.Bytes()); err != nil {
		f.t.Fatal(err)
	}
	return m.Descriptor.Digest
}

// fill signs n artifacts in each repository, each by release in JWS and by payments in COSE; of the first every third is countersigned.
func (f *fleet) fill(n int, paths ...string) {
	f.t.Helper()
	var wg sync.WaitGroup
	turns := make(chan struct{}, 8)
	for _, path := range paths {
		for i := range n {
			turns <- struct{}{}
			wg.Go(func() {
				defer func() { <-turns }()
				d := f.artifact(path, fmt.Sprintf("v%d", i))
				f.signed(path, d, "release", envelope.JWS, i%3 == 0)
				f.signed(path, d, "payments", envelope.COSE, false)
			})
		}
	}
	wg.Wait()
}

// listed returns the contents of all signatures of an artifact.
func (f *fleet) listed(path string, subject ocispec.Descriptor) (out []envelope.Content) {
	f.t.Helper()
	sigs, err := f.repo(path).Signatures(context.Background(), subject)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, sig := range sigs {
		if sig.Err != nil {
			f.t.Fatal(sig.Err)
		}
		e, err := envelope.Parse(sig.MediaType, sig.Envelope)
		if err != nil {
			f.t.Fatal(err)
		}
		c, err := e.Verify()
		if err != nil {
			f.t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// A rechained is what is read of a line of rechain.
type rechained struct {
	Kind       string
	Reference  string
	Item       []string
	Reason     string
	Signatures []struct {
		Signature, New digest.Digest
		Status, Reason string
		NewTimestamp   bool
	}
	Statuses map[string]int
	ExitCode int
	NotSeen  string
	Failed   int
	Rejected int
}

func (g told) rechained(t testing.TB) (results []rechained, sum rechained) {
	t.Helper()
	for _, l := range lines(g.out) {
		var r rechained
		if err := json.Unmarshal([]byte(l), &r); err != nil {
			t.Fatalf("%v: %s", err, l)
		}
		if r.Kind == "summary" {
			sum = r
			continue
		}
		results = append(results, r)
	}
	return results, sum
}

// in runs with a text on standard input.
func (w *world) in(text io.Reader, code int, args ...string) told {
	w.t.Helper()
	before := w.env.In
	w.env.In = text
	defer func() { w.env.In = before }()
	return w.want(code, args...)
}
