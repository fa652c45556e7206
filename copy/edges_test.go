package copy_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/copy"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// Tags are written in the order in which they were said; one that came to name the same meanwhile is left alone.
func TestWriteTags(t *testing.T) {
	t.Parallel()
	s, dst := remote(t, regtest.WithAPIOnly)
	root := image(t, dst, "amd64", "layer")
	tags := []string{"c", "a", "d", "b"}
	checked, err := copy.CheckTags(ctx, dst, root.Descriptor.Digest, tags, nil)
	must(t, err)
	must(t, reopen(t, dst).Tag(ctx, root, "d"))
	s.Reset()
	written, err := copy.WriteTags(ctx, dst, root, checked)
	must(t, err)
	var put, status []string
	for _, r := range s.Requests() {
		if name := r.Path[strings.LastIndexByte(r.Path, '/')+1:]; r.Method == http.MethodPut && !strings.Contains(name, ":") {
			put = append(put, name)
		}
	}
	for _, tag := range written {
		status = append(status, tag.Status)
	}
	same(t, "written", []string{"c", "a", "b"}, put)
	same(t, "statuses", []string{copy.Written, copy.Written, copy.There, copy.Written}, status)
	if _, err := copy.CheckTags(ctx, dst, root.Descriptor.Digest, tags, []string{"[a"}); reason(err) != "copy-options" {
		t.Errorf("a pattern that is none: %v", err)
	}
}

// Data within a descriptor that is not the blob is not sent for it: the blob is.
func TestInlineDataThatLies(t *testing.T) {
	t.Parallel()
	src, dst := places[2].open(t), places[0].open(t)
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	m.SchemaVersion = 2
	m.Config = putBlob(t, src, ocispec.MediaTypeImageConfig, []byte(`{}`))
	layer := putBlob(t, src, ocispec.MediaTypeImageLayer, []byte("what it is"))
	layer.Data = []byte("what it isn"[:len("what it is")])
	layer.Data[0] = 'W'
	m.Layers = []ocispec.Descriptor{layer}
	root := encode(t, m.MediaType, m)
	must(t, src.PushManifest(ctx, root))
	_, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
	must(t, err)
	layer.Data = nil
	if b, err := dst.ReadBlob(ctx, layer, 100); err != nil || string(b) != "what it is" {
		t.Errorf("%q, %v", b, err)
	}
}

// What the destination has already a review cannot leave behind, and the result does not say so; what is added to
// something that stays behind stays with it.
func TestReviewLeavesWhatIsThere(t *testing.T) {
	t.Parallel()
	src, dst := places[2].open(t), places[0].open(t)
	root := image(t, src, "amd64", "layer")
	there := sign(t, src, root, "there")
	_, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
	must(t, err)
	left := refer(t, src, root, "application/x", "left")
	elsewhere := places[2].open(t)
	adds := []registry.Addition{{Subject: left.Descriptor, Manifest: refer(t, elsewhere, left, "application/y", "about what is left"), From: elsewhere}}
	r, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}, Review: func(context.Context, copy.Graph) (copy.Review, error) {
		return copy.Review{Leave: map[digest.Digest]string{there.Descriptor.Digest: "why", left.Descriptor.Digest: "why"}, Add: adds}, nil
	}})
	must(t, err)
	statuses := map[digest.Digest]string{}
	for _, o := range r.Objects {
		statuses[o.Descriptor.Digest] = o.Status + " " + o.Reason
	}
	same(t, "statuses", map[digest.Digest]string{
		root.Descriptor.Digest: "there ", there.Descriptor.Digest: "there ", left.Descriptor.Digest: "skipped why", adds[0].Manifest.Descriptor.Digest: "skipped why",
	}, statuses)
	if has, err := dst.HasManifest(ctx, adds[0].Manifest.Descriptor); has || err != nil {
		t.Errorf("what was added to what is left arrived (%v)", err)
	}
}

// Additions that the source or the destination has already are no second ones; one that refers to another than it is
// added to is refused.
func TestReviewAddsWhatIsThere(t *testing.T) {
	t.Parallel()
	src := places[2].open(t)
	s, dst := remote(t, regtest.WithAPI)
	root := image(t, src, "amd64", "layer")
	there := refer(t, src, root, "application/x", "at the source")
	bare := image(t, src, "arm64", "nothing refers to it")
	elsewhere := places[2].open(t)
	onBare := refer(t, elsewhere, bare, "application/x", "added")
	add := func(root registry.Manifest, a registry.Addition) (copy.Result, error) {
		return copy.Artifact(ctx, reopen(t, dst), src, root, copy.Options{Tags: []string{"v" + root.Descriptor.Digest.Encoded()[:8]},
			Review: func(context.Context, copy.Graph) (copy.Review, error) {
				return copy.Review{Add: []registry.Addition{a}}, nil
			}})
	}
	r, err := add(root, registry.Addition{Subject: root.Descriptor, Manifest: there, From: src})
	must(t, err)
	if r.Referrers != 1 || len(r.Objects) != 2 || r.Written != 2 {
		t.Errorf("%+v", r)
	}
	a := registry.Addition{Subject: bare.Descriptor, Manifest: onBare, From: elsewhere}
	if r, err = add(bare, a); err != nil || r.Written != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	s.Reset()
	if r, err = add(bare, a); err != nil || r.Written != 0 || r.There != 2 {
		t.Errorf("again: %+v, %v", r, err)
	}
	if w := writes(s); len(w) != 0 {
		t.Errorf("again: %q", w)
	}
	if _, err := add(root, registry.Addition{Subject: root.Descriptor, Manifest: onBare, From: elsewhere}); reason(err) != "copy-options" {
		t.Errorf("a referrer of another: %v", err)
	}
	if w := writes(s); len(w) != 0 {
		t.Errorf("written: %q", w)
	}
}

// A review reads the signatures also where none goes along, and those that are only listed as such.
func TestReviewReadsSignatures(t *testing.T) {
	t.Parallel()
	s, src := remote(t, regtest.WithAPI)
	root := image(t, src, "amd64", "layer")
	good, other := sign(t, src, root, "good"), refer(t, src, root, "application/x", "no signature")
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/referrers/"+root.Descriptor.Digest.String()) {
			return false
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":%q,"manifests":[`, ocispec.MediaTypeImageIndex)
		for i, m := range []registry.Manifest{good, other} {
			fmt.Fprintf(w, `%s{"mediaType":%q,"digest":%q,"size":%d,"artifactType":%q}`, []string{"", ","}[i], m.Descriptor.MediaType, m.Descriptor.Digest,
				m.Descriptor.Size, registry.ArtifactTypeSignature)
		}
		fmt.Fprint(w, `]}`)
		return true
	})
	for _, referrers := range []string{copy.All, copy.Signatures, copy.None} {
		seen := map[digest.Digest]bool{}
		_, err := copy.Artifact(ctx, places[2].open(t), reopen(t, src), root, copy.Options{Referrers: referrers, Review: func(ctx context.Context, g copy.Graph) (copy.Review, error) {
			all, err := g.Signatures(ctx, g.Root)
			for _, s := range all {
				seen[s.Descriptor.Digest] = s.Err == nil
			}
			return copy.Review{}, err
		}})
		must(t, err)
		same(t, referrers, map[digest.Digest]bool{good.Descriptor.Digest: true, other.Descriptor.Digest: false}, seen)
	}
}

// An entry that does not say its type may be a signature.
func TestSignaturesWithoutType(t *testing.T) {
	t.Parallel()
	s, src := remote(t, regtest.WithAPI)
	root := image(t, src, "amd64", "layer")
	signature, other := sign(t, src, root, "good"), refer(t, src, root, "application/x", "no signature")
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/referrers/"+root.Descriptor.Digest.String()) {
			return false
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%[2]q,"digest":%q,"size":%d},{"mediaType":%[2]q,"digest":%[5]q,"size":%d,"artifactType":"application/x"}]}`,
			ocispec.MediaTypeImageIndex, signature.Descriptor.MediaType, signature.Descriptor.Digest, signature.Descriptor.Size, other.Descriptor.Digest, other.Descriptor.Size)
		return true
	})
	dst := places[2].open(t)
	_, err := copy.Artifact(ctx, dst, reopen(t, src), root, copy.Options{Tags: []string{"1"}, Referrers: copy.Signatures})
	must(t, err)
	same(t, "listed", []digest.Digest{signature.Descriptor.Digest}, listed(t, dst, root))
}

// A referrer that breaks the specification may be refused, and stays behind then. A destination that did not say so
// has refused nothing: the copy fails, and no tag is written.
func TestMalformedAndNotRefused(t *testing.T) {
	t.Parallel()
	src := places[2].open(t)
	root := image(t, src, "amd64", "layer")
	layer := putBlob(t, src, "application/octet-stream", []byte("x"))
	two := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: registry.ArtifactTypeSignature, Config: ocispec.DescriptorEmptyJSON, Subject: &root.Descriptor}
	two.SchemaVersion = 2
	two.Layers = []ocispec.Descriptor{layer}
	b := strings.Replace(string(encode(t, two.MediaType, two).Bytes), `"artifactType"`, `"artifactType": "application/x", "artifactType"`, 1)
	twice := registry.NewManifest(two.MediaType, []byte(b))
	must(t, src.Attach(ctx, root.Descriptor, twice))
	for status, want := range map[int]error{http.StatusForbidden: registry.ErrUnauthorized, http.StatusServiceUnavailable: registry.ErrUnavailable} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			s, dst := remote(t, regtest.WithAPI)
			s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, twice.Descriptor.Digest.String()) {
					return false
				}
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(status)
				return true
			})
			if _, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}}); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
			if _, err := dst.Tagged(ctx, "1"); !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("the tag: %v", err)
			}
		})
	}
}

// Not even the envelope of a chain that the destination has superseded travels, of a child of an index that is new.
func TestC08NothingOfAStaleChainTravels(t *testing.T) {
	t.Parallel()
	h := newHierarchy(certtest.Root("root"), certtest.Key("P-256"), 2)
	src := places[2].open(t)
	s, dst := remote(t, regtest.WithAPI)
	child := image(t, src, "amd64", "layer")
	x := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{child.Descriptor}}
	x.SchemaVersion = 2
	root := encode(t, x.MediaType, x)
	must(t, src.PushManifest(ctx, root))
	old := h.sign(t, envelope.JWS, child)
	stale := attach(t, src, child, envelope.JWS, old)
	_, err := copy.Artifact(ctx, dst, src, child, copy.Options{Tags: []string{"child"}, Referrers: copy.None})
	must(t, err)
	renewed, err := old.WithChain(h.chain[1])
	must(t, err)
	fresh := attach(t, dst, child, envelope.JWS, renewed)
	s.Reset()
	_, err = copy.Artifact(ctx, reopen(t, dst), src, root, copy.Options{Tags: []string{"1"}})
	must(t, err)
	same(t, "listed", []digest.Digest{fresh.Descriptor.Digest}, listed(t, dst, child))
	d := digest.FromBytes(old.Bytes()).String()
	for _, r := range s.Requests() {
		if r.Write() && (strings.Contains(r.Path+r.Query, d) || strings.Contains(r.Query, strings.Replace(d, ":", "%3A", 1)) || strings.HasSuffix(r.Path, stale.Descriptor.Digest.String())) {
			t.Errorf("%s %s %s", r.Method, r.Path, r.Query)
		}
	}
}

// linux/arm is linux/arm/v7 where there is no other arm.
func TestPlatformVariant(t *testing.T) {
	t.Parallel()
	src := places[2].open(t)
	x := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	x.SchemaVersion = 2
	for _, variant := range []string{"v6", "v7"} {
		d := image(t, src, "arm", variant).Descriptor
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm", Variant: variant}
		x.Manifests = append(x.Manifests, d)
	}
	both := encode(t, x.MediaType, x)
	x.Manifests = x.Manifests[1:]
	one := encode(t, x.MediaType, x)
	m, err := copy.ForPlatform(ctx, src, one, "linux/arm")
	must(t, err)
	same(t, "the only one", x.Manifests[0].Digest, m.Descriptor.Digest)
	m, err = copy.ForPlatform(ctx, src, both, "linux/arm/v7")
	must(t, err)
	same(t, "that was named", x.Manifests[0].Digest, m.Descriptor.Digest)
	if _, err := copy.ForPlatform(ctx, src, both, "linux/arm"); !errors.Is(err, copy.ErrPlatform) {
		t.Errorf("one of two: %v", err)
	}
}

// Copied by digest, an artifact is the one that a layout holds.
func TestByDigestIsListed(t *testing.T) {
	t.Parallel()
	src, dst := places[0].open(t), places[2].open(t)
	rel := newRelease(t, src, "1.0")
	_, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{})
	must(t, err)
	only, err := reopen(t, dst).Only(ctx)
	must(t, err)
	same(t, "what the layout holds", rel.root.Descriptor.Digest, only.Descriptor.Digest)
}

// Progress tells what travelled from what did not have to.
func TestProgressStatus(t *testing.T) {
	t.Parallel()
	s, elsewhere := regtest.New(t, regtest.WithAPI), regtest.New(t, regtest.WithAPI)
	c := client(t) // that knows where blobs are
	src, err := c.Open(ctx, reference(t, s.Host+"/team/app"))
	must(t, err)
	root := image(t, src, "amd64", "layer")
	for want, at := range map[string]*regtest.Server{copy.There: s, copy.Copied: elsewhere} {
		dst, err := c.Open(ctx, reference(t, at.Host+"/team/another"))
		must(t, err)
		var mu sync.Mutex
		ended := map[string]int{}
		_, err = copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}, Progress: func(e copy.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Kind == copy.EventEnd && e.What == "blob" {
				ended[e.Status]++
			}
		}})
		must(t, err)
		same(t, "blobs", map[string]int{want: 2}, ended)
	}
}

// Tags that cannot be listed are an error only to who asked for those made of digests; one that is gone by the time it is
// read is none.
func TestDigestTagsThatCannotBeHad(t *testing.T) {
	t.Parallel()
	s, src := remote(t, regtest.WithAPI)
	root := image(t, src, "amd64", "layer")
	gone := "sha256-" + root.Descriptor.Digest.Encoded() + ".sig"
	must(t, src.Tag(ctx, image(t, src, "", "cosign's signature"), gone))
	refuse := func(suffix string, status int) {
		s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, suffix) {
				return false
			}
			w.WriteHeader(status)
			return true
		})
	}
	refuse("/tags/list", http.StatusForbidden)
	_, err := copy.Artifact(ctx, places[0].open(t), reopen(t, src), root, copy.Options{Tags: []string{"1"}, DryRun: true})
	must(t, err)
	_, dst := remote(t, regtest.WithAPI)
	if _, err := copy.Artifact(ctx, dst, reopen(t, src), root, copy.Options{Tags: []string{"1"}, DigestTags: true}); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("asked for: %v", err)
	}
	if _, err := dst.Tagged(ctx, "1"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("the tag: %v", err)
	}
	refuse("/manifests/"+gone, http.StatusNotFound)
	r, err := copy.Artifact(ctx, dst, reopen(t, src), root, copy.Options{Tags: []string{"1"}, DigestTags: true})
	must(t, err)
	if len(r.DigestTags) != 0 || r.Tags[0].Status != copy.Written {
		t.Errorf("%+v", r)
	}
}

// Only a tag is new, and the review takes a while: who takes the tag meanwhile keeps it.
func TestC07TagTakenDuringTheReview(t *testing.T) {
	t.Parallel()
	src := places[2].open(t)
	root := image(t, src, "amd64", "ours")
	_, dst := remote(t, regtest.WithAPI)
	_, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1.0"}})
	must(t, err)
	theirs := image(t, dst, "amd64", "theirs")
	_, err = copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"latest"}, Review: func(ctx context.Context, _ copy.Graph) (copy.Review, error) {
		time.Sleep(1100 * time.Millisecond) // a look at the tags counts for a second
		return copy.Review{}, dst.SetTags(ctx, theirs, "latest")
	}})
	if !errors.Is(err, registry.ErrTagMoves) || reason(err) != "tag-moves" {
		t.Errorf("%v (%s)", err, reason(err))
	}
	if d, err := dst.Tagged(ctx, "latest"); err != nil || d != theirs.Descriptor.Digest {
		t.Errorf("latest names %s, %v", d, err)
	}
}
