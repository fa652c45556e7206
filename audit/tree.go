package audit

import (
	"context"
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
)

// A Branch is a manifest in a tree.
type Branch struct {
	What         string             `json:"what"` // "index, 2 platforms", "linux/amd64", "signature", or the artifact type
	Role         string             `json:"role"` // root, child, referrer
	Descriptor   ocispec.Descriptor `json:"descriptor"`
	ArtifactType string             `json:"artifactType,omitempty"`
	Detail       string             `json:"detail,omitempty"` // of a signature: identity and until when it holds
	Children     []Branch           `json:"children,omitempty"`
	Referrers    []Branch           `json:"referrers,omitempty"`

	// Of a signature that verifies; the detail says the same in words.
	Identity   string     `json:"identity,omitempty"`
	HoldsUntil *time.Time `json:"holdsUntil,omitempty"`
	Reason     string     `json:"reason,omitempty"` // why it could not be read, or does not verify
	Again      bool       `json:"again,omitempty"`  // it stands elsewhere in the tree with all that belongs to it
}

// A Tree is an artifact and all that refers to it.
type Tree struct {
	Reference string             `json:"reference"`
	Root      Branch             `json:"root"`
	Skipped   []registry.Skipped `json:"skipped,omitempty"`
	Now       time.Time          `json:"now"`
}

// Survey builds the tree. What is reached by two ways is shown with all below it where it is met first.
func Survey(ctx context.Context, repo *registry.Repo, ref registry.Reference, root registry.Manifest, now time.Time) (Tree, error) {
	node, skipped, err := repo.Graph(ctx, root, registry.GraphOptions{})
	if err != nil {
		return Tree{}, fmt.Errorf("surveying %s: %w", ref, err)
	}
	g := grove{now: now, signatures: map[*registry.Node]Signature{}, shown: map[*registry.Node]bool{}}
	g.read(ctx, repo, node)
	if err := ctx.Err(); err != nil {
		return Tree{}, fmt.Errorf("surveying %s: %w", ref, err)
	}
	return Tree{Reference: ref.String(), Root: g.branch(node, registry.RoleRoot), Skipped: skipped, Now: now.UTC()}, nil
}

// A grove is a tree in the making.
type grove struct {
	now        time.Time
	signatures map[*registry.Node]Signature
	shown      map[*registry.Node]bool
}

// read reads the envelopes of all signatures of the graph at once; the manifests are there already.
func (g *grove) read(ctx context.Context, repo *registry.Repo, root *registry.Node) {
	type pair struct{ signature, subject *registry.Node }
	var pairs []pair
	for subject := range root.All {
		for _, r := range subject.Referrers {
			if r.IsSignature() && r.Malformed == nil {
				pairs = append(pairs, pair{r, subject})
			}
		}
	}
	found := make([]Signature, len(pairs))
	each(len(pairs), func(i int) {
		d := pairs[i].subject.Manifest.Descriptor
		found[i] = read(repo.SignatureOf(ctx, d, pairs[i].signature.Manifest), d, g.now)
	})
	for i, p := range pairs {
		g.signatures[p.signature] = found[i]
	}
}

func (g *grove) branch(n *registry.Node, role string) Branch {
	b := Branch{What: What(n.Parts), Role: role, Descriptor: n.Manifest.Descriptor, ArtifactType: n.Parts.ArtifactType}
	switch s, ok := g.signatures[n]; {
	case n.Malformed != nil:
		b.What, b.Reason, b.Detail = "malformed", reasonOf(n.Malformed), n.Malformed.Error()
	case ok:
		b.sign(s)
	case n.Platform != "" && n.Platform != "unknown/unknown":
		b.What = n.Platform
	case n.Platform != "":
		b.What = "attestation"
	}
	if g.shown[n] {
		b.Again = len(n.Children)+len(n.Referrers) > 0
		return b
	}
	g.shown[n] = true
	for _, child := range n.Children {
		b.Children = append(b.Children, g.branch(child, registry.RoleChild))
	}
	for _, r := range n.Referrers {
		b.Referrers = append(b.Referrers, g.branch(r, registry.RoleReferrer))
	}
	return b
}

func (b *Branch) sign(s Signature) {
	if s.Reason != "" {
		b.Reason, b.Detail = s.Reason, s.Detail
		return
	}
	b.Identity, b.HoldsUntil = s.Identity, s.HoldsUntil
	b.Detail = s.Identity
	if s.HoldsUntil != nil {
		b.Detail += ", until " + s.HoldsUntil.Format(time.DateOnly)
	}
}
