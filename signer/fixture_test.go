package signer

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// A place is a repository to sign in.
type place struct {
	*registry.Repo
	server *regtest.Server // nil for a layout
	ref    registry.Reference
}

// inEachPlace runs f in a repository of each kind of registry and in a layout.
func inEachPlace(t *testing.T, f func(t *testing.T, p place)) {
	t.Helper()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			f(t, remote(t, regtest.New(t, kind)))
		})
	}
	t.Run("layout", func(t *testing.T) {
		t.Parallel()
		ref := registry.Reference{Kind: registry.Layout, Path: filepath.Join(t.TempDir(), "layout")}
		repo, err := client(t).Create(t.Context(), ref, registry.CreateOptions{})
		must(t, err)
		t.Cleanup(func() { _ = repo.Close() })
		f(t, place{Repo: repo, ref: ref})
	})
}

func client(t testing.TB) *registry.Client {
	t.Helper()
	c, err := registry.NewClient(registry.Options{})
	must(t, err)
	return c
}

// remote opens a repository by a client of its own, as another process would.
func remote(t testing.TB, s *regtest.Server) place {
	t.Helper()
	ref := registry.Reference{Kind: registry.Remote, Host: s.Host, Path: "team/app"}
	repo, err := client(t).Open(t.Context(), ref)
	must(t, err)
	return place{Repo: repo, server: s, ref: ref}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// image pushes an image whose digest depends on seed, under tag unless that is empty.
func (p place) image(t testing.TB, seed, tag string) registry.Manifest {
	t.Helper()
	return p.manifest(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Config: p.blob(t, ocispec.MediaTypeImageConfig, fmt.Sprintf(`{"architecture":"amd64","os":"linux","author":%q}`, seed)),
		Layers: []ocispec.Descriptor{p.blob(t, ocispec.MediaTypeImageLayer, "layer of "+seed)},
	}, tag)
}

func (p place) blob(t testing.TB, mediaType, content string) ocispec.Descriptor {
	t.Helper()
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(content), Size: int64(len(content))}
	must(t, p.PushBytes(t.Context(), d, []byte(content)))
	return d
}

func (p place) manifest(t testing.TB, mediaType string, m ocispec.Manifest, tag string) registry.Manifest {
	t.Helper()
	m.Versioned, m.MediaType = specs.Versioned{SchemaVersion: 2}, mediaType
	b, err := json.Marshal(m)
	must(t, err)
	pushed := registry.NewManifest(mediaType, b)
	if m.Subject != nil {
		must(t, p.Attach(t.Context(), *m.Subject, pushed))
		return pushed
	}
	return p.push(t, pushed, tag)
}

func (p place) push(t testing.TB, m registry.Manifest, tag string) registry.Manifest {
	t.Helper()
	must(t, p.PushManifest(t.Context(), m))
	must(t, p.Tag(t.Context(), m, tag))
	return m
}

// attach pushes an artifact that refers to subject.
func (p place) attach(t testing.TB, subject registry.Manifest, artifactType, content string) registry.Manifest {
	t.Helper()
	return p.manifest(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		ArtifactType: artifactType,
		Config:       p.blob(t, ocispec.MediaTypeEmptyJSON, "{}"),
		Layers:       []ocispec.Descriptor{p.blob(t, "text/plain", content)},
		Subject:      &subject.Descriptor,
	}, "")
}

// index pushes an index of images for linux/amd64 and linux/arm64.
func (p place) index(t testing.TB, seed, tag string) (index, amd64, arm64 registry.Manifest) {
	t.Helper()
	amd64, arm64 = p.image(t, seed+" amd64", ""), p.image(t, seed+" arm64", "")
	entry := func(m registry.Manifest, arch string) ocispec.Descriptor {
		d := m.Descriptor
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		return d
	}
	b, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{entry(amd64, "amd64"), entry(arm64, "arm64")},
	})
	must(t, err)
	return p.push(t, registry.NewManifest(ocispec.MediaTypeImageIndex, b), tag), amd64, arm64
}

// found returns the signatures listed at subject with what they say; each must verify.
func (p place) found(t testing.TB, subject registry.Manifest) map[digest.Digest]envelope.Content {
	t.Helper()
	sigs, err := p.Signatures(t.Context(), subject.Descriptor)
	must(t, err)
	all := map[digest.Digest]envelope.Content{}
	for _, sig := range sigs {
		must(t, sig.Err)
		e, err := envelope.Parse(sig.MediaType, sig.Envelope)
		must(t, err)
		c, err := e.Verify()
		must(t, err)
		all[sig.Descriptor.Digest] = c
	}
	return all
}

// only returns the one signature of subject.
func (p place) only(t testing.TB, subject registry.Manifest) registry.Signature {
	t.Helper()
	sigs, err := p.Signatures(t.Context(), subject.Descriptor)
	must(t, err)
	if len(sigs) != 1 {
		t.Fatalf("%d signatures, want 1", len(sigs))
	}
	must(t, sigs[0].Err)
	return sigs[0]
}

// An identity is a key with a chain for it.
type identity struct {
	key   crypto.Signer
	chain certchain.Chain
	root  *certtest.Authority
	ca    *certtest.Authority
}

func newIdentity(cn string, edits ...certtest.Edit) identity {
	id := identity{key: certtest.Key("P-256"), root: certtest.Root("root of " + cn)}
	id.ca = id.root.Intermediate("ca of " + cn)
	id.chain = id.ca.Chain(id.ca.Leaf(id.key.Public(), cn, edits...))
	return id
}

// sign signs and must succeed.
func (p place) sign(t testing.TB, subject registry.Manifest, id identity, o Options) Result {
	t.Helper()
	r, err := p.trySign(t.Context(), subject, id, o)
	must(t, err)
	return r
}

func (p place) trySign(ctx context.Context, subject registry.Manifest, id identity, o Options) (Result, error) {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	return Sign(ctx, p.Repo, subject, kmstest.Key(id.key), id.chain, o)
}

// A spyKey fails the test's expectations if it is used.
type spyKey struct {
	crypto.Signer
	used atomic.Int64
	sign func(message []byte, opts crypto.SignerOpts) ([]byte, error) // nil: properly
}

func (k *spyKey) Sign(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.used.Add(1)
	if k.sign != nil {
		return k.sign(message, opts)
	}
	return kmstest.Key(k.Signer).Sign(ctx, message, opts)
}

// wantReason demands an error with the code that wraps target (nil: any).
func wantReason(t testing.TB, err error, code string, target error) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", code)
	}
	var coded interface{ Reason() string }
	if !errors.As(err, &coded) || coded.Reason() != code {
		t.Fatalf("error %q has not the reason %s", err, code)
	}
	if Reasons()[code]+certchain.Reasons()[code]+envelope.Reasons()[code]+registry.Reasons()[code] == "" {
		t.Errorf("the reason %s is listed nowhere", code)
	}
	if target != nil && !errors.Is(err, target) {
		t.Fatalf("error %q does not wrap %q", err, target)
	}
}

func digests[V any](m map[digest.Digest]V) []digest.Digest {
	var list []digest.Digest
	for d := range m {
		list = append(list, d)
	}
	slices.Sort(list)
	return list
}

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

// carried demands that the signed bytes of both are the same, byte for byte.
func carried(t testing.TB, old, new envelope.Content) {
	t.Helper()
	if !bytes.Equal(old.Protected, new.Protected) || !bytes.Equal(old.Signed, new.Signed) || !bytes.Equal(old.Signature, new.Signature) {
		t.Error("protected header, payload or signature are not the same bytes")
	}
	if old.CoreID() == "" || old.CoreID() != new.CoreID() {
		t.Errorf("core ids %q and %q, want the same", old.CoreID(), new.CoreID())
	}
}

var errKey = errors.New("the key service is tired")

// A failingKey signs a number of times and then no more.
type failingKey struct {
	*kmstest.Signer
	after int64
	calls atomic.Int64
}

func (k *failingKey) Sign(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if k.calls.Add(1) > k.after {
		return nil, errKey
	}
	return k.Signer.Sign(ctx, message, opts)
}
