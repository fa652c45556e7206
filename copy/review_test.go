package copy_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/copy"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// A review that refuses is the error, as it is, and not a byte has moved.
func TestReviewRefuses(t *testing.T) {
	t.Parallel()
	src := places[0].open(t)
	rel := newRelease(t, src, "1")
	s, dst := remote(t, regtest.WithAPI)
	refused := errors.New("not for us")
	called := 0
	_, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1"}, Review: func(_ context.Context, g copy.Graph) (copy.Review, error) {
		called++
		if g.Root.Manifest.Descriptor.Digest != rel.root.Descriptor.Digest || len(g.Root.Children) != 2 {
			t.Errorf("graph: %+v", g.Root)
		}
		if w := writes(s); len(w) != 0 {
			t.Errorf("before the review answered: %q", w)
		}
		return copy.Review{}, refused
	}})
	if !errors.Is(err, refused) || called != 1 {
		t.Errorf("%v, asked %d times", err, called)
	}
	if w := writes(s); len(w) != 0 {
		t.Errorf("written: %q", w)
	}
}

// What a review leaves behind stays, with what refers to it; what was read for it is not downloaded again.
func TestReviewLeaves(t *testing.T) {
	t.Parallel()
	from, src := remote(t, regtest.WithAPI)
	root := image(t, src, "amd64", "layer")
	envelopes := []string{strings.Repeat("good", 5000), strings.Repeat("evil", 5000)} // too long to be inline
	good, evil := sign(t, src, root, envelopes[0]), sign(t, src, root, envelopes[1])
	below := refer(t, src, evil, "application/x", "about the evil one")
	src = reopen(t, src)
	from.Reset()
	for _, to := range places[:3] {
		dst := to.open(t)
		from.Reset()
		r, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}, Review: func(ctx context.Context, g copy.Graph) (copy.Review, error) {
			all, err := g.Signatures(ctx, g.Root)
			must(t, err)
			leave := map[digest.Digest]string{"sha256:0000": "not there"}
			for _, s := range all {
				must(t, s.Err)
				if string(s.Envelope) == envelopes[1] {
					leave[s.Descriptor.Digest] = "signature-untrusted"
				}
			}
			return copy.Review{Leave: leave, Warnings: []string{"one is evil"}}, nil
		}})
		must(t, err)
		same(t, "listed", []digest.Digest{good.Descriptor.Digest}, listed(t, dst, root))
		for _, o := range r.Objects {
			left := o.Descriptor.Digest == evil.Descriptor.Digest || o.Descriptor.Digest == below.Descriptor.Digest
			if left != (o.Status == copy.Skipped) || left && o.Reason != "signature-untrusted" {
				t.Errorf("%s: %+v", to.name, o)
			}
		}
		if !slices.Contains(r.Warnings, "one is evil") {
			t.Errorf("%s: %q", to.name, r.Warnings)
		}
		for _, e := range envelopes {
			d := digest.FromString(e).String()
			if n := from.Count(func(r regtest.Request) bool { return strings.HasSuffix(r.Path, "/blobs/"+d) }); n != 1 {
				t.Errorf("%s: an envelope was downloaded %d times", to.name, n)
			}
		}
		if has, err := dst.HasManifest(ctx, evil.Descriptor); has || err != nil {
			t.Errorf("%s: what was left behind arrived (%v)", to.name, err)
		}
	}
}

// Signatures for a review: the malformed and the missing are among them, with their errors.
func TestReviewSeesWhatIsWrong(t *testing.T) {
	t.Parallel()
	s, src := remote(t, regtest.WithAPI)
	root := image(t, src, "amd64", "layer")
	good := sign(t, src, root, "good")
	ghost := sign(t, src, root, "ghost")
	two := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: registry.ArtifactTypeSignature, Config: ocispec.DescriptorEmptyJSON,
		Layers: []ocispec.Descriptor{ocispec.DescriptorEmptyJSON, ocispec.DescriptorEmptyJSON}, Subject: &root.Descriptor}
	two.SchemaVersion = 2
	malformed := encode(t, two.MediaType, two)
	must(t, src.Attach(ctx, root.Descriptor, malformed))
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/manifests/"+ghost.Descriptor.Digest.String()) {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	})
	seen := map[digest.Digest]error{}
	_, err := copy.Artifact(ctx, places[2].open(t), reopen(t, src), root, copy.Options{Review: func(ctx context.Context, g copy.Graph) (copy.Review, error) {
		all, err := g.Signatures(ctx, g.Root)
		for _, s := range all {
			seen[s.Descriptor.Digest] = s.Err
		}
		return copy.Review{}, err
	}})
	must(t, err)
	if len(seen) != 3 || seen[good.Descriptor.Digest] != nil || !errors.Is(seen[ghost.Descriptor.Digest], registry.ErrNotFound) ||
		!errors.Is(seen[malformed.Descriptor.Digest], registry.ErrMalformed) {
		t.Errorf("%v", seen)
	}
}

// What a review adds arrives like the source's own referrers, and once.
func TestReviewAdds(t *testing.T) {
	t.Parallel()
	for _, to := range places {
		t.Run(to.name, func(t *testing.T) {
			t.Parallel()
			src, dst := places[2].open(t), to.open(t)
			rel := newRelease(t, src, "1")
			elsewhere := places[2].open(t)
			image := rel.children[0]
			add := func(subject registry.Manifest, envelope string) registry.Addition {
				m := registry.ByArtifactType.Manifest(subject.Descriptor, "application/jose+json", []byte(envelope), map[string]string{registry.AnnotationThumbprint: "[]"})
				return registry.Addition{Subject: subject.Descriptor, Manifest: m, Blobs: map[digest.Digest][]byte{digest.FromString(envelope): []byte(envelope)}}
			}
			long := strings.Repeat("long", 5000)
			other := refer(t, elsewhere, image, "application/x", "from elsewhere")
			adds := []registry.Addition{add(rel.root, "added"), add(image, long), {Subject: image.Descriptor, Manifest: other, From: elsewhere}}
			for i := range 2 {
				r, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1"}, Review: func(context.Context, copy.Graph) (copy.Review, error) {
					return copy.Review{Add: adds}, nil
				}})
				must(t, err)
				same(t, "counts", []int{3, 3, 7, []int{13, 0}[i]}, []int{r.Images, r.Referrers, r.Signatures, r.Written})
				added := 0
				for _, o := range r.Objects {
					if o.Added {
						added++
					}
				}
				if added != len(adds) {
					t.Errorf("%d objects are said to be added", added)
				}
			}
			for _, a := range adds {
				if !slices.Contains(listed(t, dst, registry.Manifest{Descriptor: a.Subject}), a.Manifest.Descriptor.Digest) {
					t.Errorf("%s is not listed", a.Manifest.Descriptor.Digest)
				}
				parts, err := a.Manifest.Parse()
				must(t, err)
				d := parts.Layers[0]
				d.Data = nil
				if _, err := dst.ReadBlob(ctx, d, 1<<20); err != nil {
					t.Error(err)
				}
			}
		})
	}
	t.Run("to what is not copied", func(t *testing.T) {
		t.Parallel()
		src := places[2].open(t)
		root, other := image(t, src, "amd64", "a"), image(t, src, "amd64", "b")
		s, dst := remote(t, regtest.WithAPI)
		for _, a := range []registry.Addition{
			{Subject: other.Descriptor, Manifest: refer(t, src, other, "application/x", "x")},
			{Subject: root.Descriptor, Manifest: other},
		} {
			_, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}, Review: func(context.Context, copy.Graph) (copy.Review, error) {
				return copy.Review{Add: []registry.Addition{a}}, nil
			}})
			if reason(err) != "copy-options" {
				t.Errorf("%v (%s)", err, reason(err))
			}
		}
		if w := writes(s); len(w) != 0 {
			t.Errorf("written: %q", w)
		}
	})
}

// A remark waits for nobody and costs no download.
func TestRemark(t *testing.T) {
	t.Parallel()
	from, src := remote(t, regtest.WithAPI)
	root := image(t, src, "amd64", "layer")
	envelope := strings.Repeat("long", 5000)
	sign(t, src, root, envelope)
	src = reopen(t, src)
	from.Reset()
	var asked atomic.Int32
	r, err := copy.Artifact(ctx, places[0].open(t), src, root, copy.Options{Tags: []string{"1"}, Remark: func(ctx context.Context, g copy.Graph) []string {
		asked.Add(1)
		all, err := g.Signatures(ctx, g.Root)
		if err != nil || len(all) != 1 || string(all[0].Envelope) != envelope {
			t.Errorf("%v, %v", all, err)
		}
		return []string{"remarkable"}
	}})
	must(t, err)
	if asked.Load() != 1 || !slices.Contains(r.Warnings, "remarkable") {
		t.Errorf("asked %d times, %q", asked.Load(), r.Warnings)
	}
	if n := from.Count(func(r regtest.Request) bool { return strings.HasSuffix(r.Path, digest.FromString(envelope).String()) }); n != 1 {
		t.Errorf("the envelope was downloaded %d times", n)
	}
}

// cosign's tags go along if asked for, by the rules of all tags; the fallback tag never does.
func TestDigestTags(t *testing.T) {
	t.Parallel()
	for _, from := range places[:3] {
		for _, to := range places {
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				t.Parallel()
				src, dst := from.open(t), to.open(t)
				rel := newRelease(t, src, "1")
				child := rel.children[0].Descriptor.Digest.Encoded()
				unrelated := image(t, src, "amd64", "unrelated")
				cosign := map[string]registry.Manifest{
					"sha256-" + rel.root.Descriptor.Digest.Encoded() + ".sig": image(t, src, "", "cosign's signature"),
					"sha256-" + child + ".att":                                image(t, src, "", "cosign's attestation"),
				}
				for tag, m := range cosign {
					must(t, src.Tag(ctx, m, tag))
				}
				must(t, src.Tag(ctx, unrelated, "sha256-"+unrelated.Descriptor.Digest.Encoded()+".sig"))
				if from.name != "without-api" {
					must(t, src.Tag(ctx, unrelated, "sha256-"+child))
				}
				plan, err := copy.Artifact(ctx, dst, src, rel.root, copy.Options{Tags: []string{"1"}, DryRun: true})
				must(t, err)
				if n := len(slices.DeleteFunc(plan.Warnings, func(w string) bool { return !strings.Contains(w, "--digest-tags") })); n != 2 {
					t.Errorf("a plan without the option: %q", plan.Warnings)
				}
				o := copy.Options{Tags: []string{"1"}, DigestTags: true}
				r, err := copy.Artifact(ctx, dst, src, rel.root, o)
				must(t, err)
				if len(r.DigestTags) != 2 || r.Images != 5 {
					t.Errorf("%+v, %d images", r.DigestTags, r.Images)
				}
				for _, tag := range r.DigestTags {
					want := cosign[tag.Tag].Descriptor.Digest
					if d, err := dst.Tagged(ctx, tag.Tag); err != nil || d != want || tag.Digest != want || tag.Status != copy.Written {
						t.Errorf("%+v: %s, %v", tag, d, err)
					}
				}
				same(t, "graph", state(t, src, rel.root), state(t, dst, rel.root))
				for tag, err := range dst.Tags(ctx) {
					must(t, err)
					if tag == "sha256-"+unrelated.Descriptor.Digest.Encoded()+".sig" || to.name != "without-api" && tag == "sha256-"+child {
						t.Errorf("%s was copied", tag)
					}
				}
				again, err := copy.Artifact(ctx, dst, src, rel.root, o)
				must(t, err)
				if again.Written != 0 || again.DigestTags[0].Status != copy.There || again.Tags[0].Status != copy.There {
					t.Errorf("again: %d written, %+v", again.Written, again.DigestTags)
				}
				if to.name == "archive" {
					return
				}
				// One that would move is refused before anything is written.
				moved := r.DigestTags[0].Tag
				must(t, src.Tag(ctx, image(t, src, "", "another"), moved))
				if _, err := copy.Artifact(ctx, dst, src, rel.root, o); reason(err) != "tag-moves" {
					t.Errorf("%v (%s)", err, reason(err))
				}
				o.Move = []string{"sha256-*.sig", "sha256-*.att"}
				r, err = copy.Artifact(ctx, dst, src, rel.root, o)
				must(t, err)
				if r.DigestTags[0].Status != copy.Moved {
					t.Errorf("%+v", r.DigestTags)
				}
			})
		}
	}
}
