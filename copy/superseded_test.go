package copy_test

import (
	"crypto"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/copy"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry"
)

// A hierarchy issues chains for one leaf key, each later one holding longer.
type hierarchy struct {
	key   crypto.Signer
	root  *certtest.Authority
	chain []certchain.Chain
}

func newHierarchy(root *certtest.Authority, key crypto.Signer, n int) hierarchy {
	h := hierarchy{key: key, root: root}
	for i := range n {
		from := time.Now().Add(-time.Hour)
		issuer := root.Intermediate("intermediate")
		h.chain = append(h.chain, issuer.Chain(issuer.Leaf(key.Public(), "release", certtest.Valid(from, from.AddDate(1+i, 0, 0)))))
	}
	return h
}

func (h hierarchy) sign(t testing.TB, f envelope.Format, m registry.Manifest) *envelope.Envelope {
	t.Helper()
	d := m.Descriptor
	e, err := envelope.Sign(ctx, f, envelope.Payload{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}, kmstest.Key(h.key), h.chain[0],
		envelope.Options{SigningTime: time.Now().Truncate(time.Second)})
	must(t, err)
	return e
}

// attach stores an envelope as a signature of subject.
func attach(t testing.TB, r *registry.Repo, subject registry.Manifest, f envelope.Format, e *envelope.Envelope) registry.Manifest {
	t.Helper()
	prints, err := json.Marshal(e.Unverified().Chain.Thumbprints())
	must(t, err)
	m := registry.ByArtifactType.Manifest(subject.Descriptor, string(f), e.Bytes(), map[string]string{registry.AnnotationThumbprint: string(prints)})
	must(t, r.PushSignature(ctx, subject.Descriptor, m, e.Bytes()))
	return m
}

func listed(t testing.TB, r *registry.Repo, subject registry.Manifest) []digest.Digest {
	t.Helper()
	list, err := r.Referrers(ctx, subject.Descriptor, "")
	must(t, err)
	var out []digest.Digest
	for _, ref := range list {
		out = append(out, ref.Digest)
	}
	slices.Sort(out)
	return out
}

func TestC08StaleChainStaysAway(t *testing.T) {
	t.Parallel()
	for _, f := range []envelope.Format{envelope.JWS, envelope.COSE} {
		for _, to := range places[:3] {
			t.Run(f.Short()+" to "+to.name, func(t *testing.T) {
				t.Parallel()
				h := newHierarchy(certtest.Root("root"), certtest.Key("P-256"), 2)
				src, dst := places[2].open(t), to.open(t)
				root := image(t, src, "amd64", "layer")
				old := h.sign(t, f, root)
				stale := attach(t, src, root, f, old)
				below := refer(t, src, stale, "application/x", "about the stale signature")
				_, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}, Referrers: copy.None})
				must(t, err)
				renewed, err := old.WithChain(h.chain[1])
				must(t, err)
				fresh := attach(t, dst, root, f, renewed)

				r, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
				must(t, err)
				same(t, "listed", []digest.Digest{fresh.Descriptor.Digest}, listed(t, dst, root))
				statuses := map[digest.Digest]string{}
				for _, o := range r.Objects {
					statuses[o.Descriptor.Digest] = o.Status + " " + o.Reason
				}
				same(t, "statuses", map[digest.Digest]string{root.Descriptor.Digest: "there ", stale.Descriptor.Digest: "superseded superseded", below.Descriptor.Digest: "superseded superseded"}, statuses)

				_, err = copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}, Downgrade: true})
				must(t, err)
				both := []digest.Digest{fresh.Descriptor.Digest, stale.Descriptor.Digest}
				slices.Sort(both)
				same(t, "listed after --downgrade", both, listed(t, dst, root))
			})
		}
	}
}

// What only looks like a longer chain of the same signature keeps nothing away.
func TestC08NotSuperseded(t *testing.T) {
	t.Parallel()
	key := certtest.Key("P-256")
	h := newHierarchy(certtest.Root("root"), key, 3)
	otherRoot := newHierarchy(certtest.Root("root"), key, 3) // the same name and leaf key under a root of somebody's own
	for name, there := range map[string]func(t *testing.T, src registry.Manifest, e *envelope.Envelope) *envelope.Envelope{
		"another root": func(t *testing.T, _ registry.Manifest, e *envelope.Envelope) *envelope.Envelope {
			e, err := e.WithChain(otherRoot.chain[2])
			must(t, err)
			return e
		},
		"another signature": func(t *testing.T, root registry.Manifest, _ *envelope.Envelope) *envelope.Envelope {
			other := h
			other.key = certtest.Key("P-256")
			other.chain = newHierarchy(h.root, other.key, 3).chain[2:]
			return other.sign(t, envelope.JWS, root)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, dst := places[0].open(t), places[1].open(t)
			root := image(t, src, "amd64", "layer")
			e := h.sign(t, envelope.JWS, root)
			signature := attach(t, src, root, envelope.JWS, e)
			_, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}, Referrers: copy.None})
			must(t, err)
			attach(t, dst, root, envelope.JWS, there(t, root, e))
			r, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
			must(t, err)
			if list := listed(t, dst, root); !slices.Contains(list, signature.Descriptor.Digest) || len(list) != 2 {
				t.Errorf("listed: %v; %+v", list, r.Objects)
			}
		})
	}
}

// C09: the old chain and the new one at the source both arrive, in whatever order runs were interrupted.
func TestC09BothChainsTravel(t *testing.T) {
	t.Parallel()
	h := newHierarchy(certtest.Root("root"), certtest.Key("P-256"), 2)
	src, dst := places[0].open(t), places[0].open(t)
	root := image(t, src, "amd64", "layer")
	old := h.sign(t, envelope.JWS, root)
	renewed, err := old.WithChain(h.chain[1])
	must(t, err)
	attach(t, src, root, envelope.JWS, old)
	_, err = copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}, Referrers: copy.None})
	must(t, err)
	attach(t, src, root, envelope.JWS, renewed)
	attach(t, dst, root, envelope.JWS, renewed) // as an interrupted run leaves it
	_, err = copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
	must(t, err)
	same(t, "listed", listed(t, src, root), listed(t, dst, root))
	if n := len(listed(t, dst, root)); n != 2 {
		t.Errorf("%d signatures", n)
	}
}

// Anyone who may push can make a chain for a public key under a root of his own, and have it end in 2099. At the source
// or at the destination, it never makes copy drop the genuine signature.
func TestC08AttackersChain(t *testing.T) {
	t.Parallel()
	key := certtest.Key("P-256")
	genuine := newHierarchy(certtest.Root("root"), key, 2)
	attackers := certtest.Root("root")
	intermediate := attackers.Intermediate("intermediate")
	from := time.Now().Add(-time.Hour)
	forged := intermediate.Chain(intermediate.Leaf(key.Public(), "release", certtest.Valid(from, time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC))))
	for _, f := range []envelope.Format{envelope.JWS, envelope.COSE} {
		for _, to := range places[:3] {
			for _, side := range []string{"source", "destination", "both"} {
				t.Run(f.Short()+" to "+to.name+", forged in "+side, func(t *testing.T) {
					t.Parallel()
					src, dst := places[2].open(t), to.open(t)
					root := image(t, src, "amd64", "layer")
					e := genuine.sign(t, f, root)
					signature := attach(t, src, root, f, e)
					longer, err := e.WithChain(forged)
					must(t, err)
					if side != "source" {
						_, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}, Referrers: copy.None})
						must(t, err)
						attach(t, dst, root, f, longer)
					}
					if side != "destination" {
						attach(t, src, root, f, longer)
					}
					r, err := copy.Artifact(ctx, dst, src, root, copy.Options{Tags: []string{"1"}})
					must(t, err)
					if list := listed(t, dst, root); len(list) != 2 || !slices.Contains(list, signature.Descriptor.Digest) {
						t.Errorf("listed: %v; %+v", list, r.Objects)
					}
				})
			}
		}
	}
}

// C08: the destination is asked for every signature that would be sent, though no tag names root, or only a child is there.
func TestC08AskedWithoutTag(t *testing.T) {
	t.Parallel()
	for _, to := range places[:3] {
		for _, whole := range []bool{true, false} {
			t.Run(to.name, func(t *testing.T) {
				t.Parallel()
				h := newHierarchy(certtest.Root("root"), certtest.Key("P-256"), 2)
				src, dst := places[2].open(t), to.open(t)
				rel := newRelease(t, src, "1")
				child := rel.children[0]
				old := h.sign(t, envelope.JWS, child)
				stale := attach(t, src, child, envelope.JWS, old)
				begin := child
				if whole {
					begin = rel.root
				}
				_, err := copy.Artifact(ctx, dst, src, begin, copy.Options{Referrers: copy.None})
				must(t, err)
				renewed, err := old.WithChain(h.chain[1])
				must(t, err)
				attach(t, dst, child, envelope.JWS, renewed)
				r, err := copy.Artifact(ctx, reopen(t, dst), src, rel.root, copy.Options{Tags: []string{"1"}})
				must(t, err)
				at := slices.IndexFunc(r.Objects, func(o copy.Object) bool { return o.Descriptor.Digest == stale.Descriptor.Digest })
				if r.Objects[at].Status != copy.Superseded || slices.Contains(listed(t, dst, child), stale.Descriptor.Digest) {
					t.Errorf("%+v", r.Objects[at])
				}
			})
		}
	}
}
