package cmd

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/copy"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust"
)

// A customs is an image with an SBOM at a gate: both are signed by org and by another, the image besides by what is no signature.
type customs struct {
	*world
	repo        *registry.Repo
	root        registry.Manifest
	sbom        registry.Manifest
	mu          sync.Mutex
	asked       map[digest.Digest]int
	unreachable digest.Digest // a subject whose signatures cannot be fetched
}

func newCustoms(t *testing.T) *customs {
	t.Helper()
	c := &customs{world: newWorld(t), asked: map[digest.Digest]int{}}
	renewing(c.world)
	key, other := certtest.ChainOf(3, "P-256")
	c.file("other.key", string(certtest.KeyPEM(key)))
	c.file("other.pem", string(certtest.PEM(other...)))
	c.image("lay", "one", "1.0", "2.0")
	c.open()
	return c
}

func (c *customs) open() {
	c.t.Helper()
	client, err := registry.NewClient(registry.Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	if c.repo, err = client.Open(context.Background(), registry.Reference{Kind: registry.Layout, Path: c.path("lay")}); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { c.repo.Close() })
	if c.root, err = c.repo.Resolve(context.Background(), registry.Reference{Tag: "1.0"}); err != nil {
		c.t.Fatal(err)
	}
}

// attach attaches an artifact of one small blob and returns its manifest.
func (c *customs) attach(subject registry.Manifest, artifactType string, layers int) registry.Manifest {
	c.t.Helper()
	ctx := context.Background()
	blob := ocispec.Descriptor{MediaType: "application/x", Digest: digest.FromString("{}"), Size: 2}
	if err := c.repo.PushBytes(ctx, blob, []byte("{}")); err != nil {
		c.t.Fatal(err)
	}
	text := `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","artifactType":"` + artifactType + `","config":` + description(blob) +
		`,"layers":[` + strings.TrimSuffix(strings.Repeat(description(blob)+",", layers), ",") + `],"subject":` + description(subject.Descriptor) + `}`
	m := registry.NewManifest(ocispec.MediaTypeImageManifest, []byte(text))
	if err := c.repo.Attach(ctx, subject.Descriptor, m); err != nil {
		c.t.Fatal(err)
	}
	return m
}

func description(d ocispec.Descriptor) string {
	return `{"mediaType":"` + d.MediaType + `","digest":"` + d.Digest.String() + `","size":` + strconv.FormatInt(d.Size, 10) + `}`
}

// signed signs what ref names within the layout, by key "" or "other".
func (c *customs) signed(ref, key string, more ...string) digest.Digest {
	c.t.Helper()
	before := c.signatures()
	args := c.sign("oci:"+c.path("lay")+ref, more...)
	if key != "" {
		args = append([]string{"sign", "oci:" + c.path("lay") + ref, "--key", c.path("other.key"), "--chain", c.path("other.pem")}, more...)
	}
	c.want(0, append(args, "-q")...)
	c.open()
	for d := range c.signatures() {
		if !before[d] {
			return d
		}
	}
	c.t.Fatal("nothing was signed")
	return ""
}

func (c *customs) signatures() map[digest.Digest]bool {
	c.t.Helper()
	out := map[digest.Digest]bool{}
	for n := range c.graph().Root.All {
		if n.IsSignature() {
			out[n.Manifest.Descriptor.Digest] = true
		}
	}
	return out
}

func (c *customs) graph() copy.Graph {
	c.t.Helper()
	root, _, err := c.repo.Graph(context.Background(), c.root, registry.GraphOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return copy.Graph{Root: root, Signatures: func(ctx context.Context, n *registry.Node) ([]registry.Signature, error) {
		d := n.Manifest.Descriptor
		c.mu.Lock()
		c.asked[d.Digest]++
		c.mu.Unlock()
		sigs, err := c.repo.Signatures(ctx, d)
		if d.Digest == c.unreachable {
			for i := range sigs {
				sigs[i] = registry.Signature{Subject: sigs[i].Subject, Descriptor: sigs[i].Descriptor, Err: registry.ErrUnavailable}
			}
		}
		return sigs, err
	}}
}

func (c *customs) gate(policy string) gate {
	c.t.Helper()
	g := gate{now: c.env.Now(), as: registry.Reference{Host: "reg.example", Path: "app"}}
	if policy == "" {
		return g
	}
	var err error
	if g.policy, err = trust.Load(c.policy("p.yaml", policy)); err != nil {
		c.t.Fatal(err)
	}
	return g
}

func (c *customs) review(g gate, tags ...string) (copy.Review, error) {
	p := passage{
		source:      registry.Reference{Kind: registry.Layout, Path: c.path("lay"), Tag: "1.0"},
		destination: registry.Reference{Host: "harbor.example", Path: "prod/app"}, tags: tags,
	}
	clear(c.asked)
	review := g.review(p)
	if review == nil {
		return copy.Review{}, errors.New("nothing is asked")
	}
	return review(context.Background(), c.graph())
}

func (c *customs) refused(err error, code int, why string) {
	c.t.Helper()
	if exitCode(err) != code || reason(err) != why {
		c.t.Errorf("exit %d %s, want %d %s: %v", exitCode(err), reason(err), code, why, err)
	}
	h := hint(err)
	for _, loose := range []string{"enforce", "ignore", "remove", "accept: unsigned", "without --policy", "--root"} {
		if strings.Contains(h, loose) {
			c.t.Errorf("a hint that loosens: %s", h)
		}
	}
}

// TestC06OnlyAccepted: every signature of the graph that the policy does not accept for what it refers to stays behind with its
// reason, and nothing else does; each subject is asked for once.
func TestC06OnlyAccepted(t *testing.T) {
	t.Parallel()
	c := newCustoms(t)
	c.sbom = c.attach(c.root, "application/spdx+json", 1)
	plain := c.attach(c.sbom, "application/vnd.example.note", 1) // refers to the SBOM, and is no signature
	at := "@" + c.sbom.Descriptor.Digest.String()
	good, bad := c.signed(":1.0", ""), c.signed(":1.0", "other")
	goodBelow, badBelow := c.signed(at, "", "--no-claims"), c.signed(at, "other", "--no-claims")
	two := c.attach(c.root, registry.ArtifactTypeSignature, 2).Descriptor.Digest
	onBad := c.attach(registry.Manifest{Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: two,
		Size: c.manifest(two).Descriptor.Size}}, registry.ArtifactTypeSignature, 1).Descriptor.Digest

	g := c.gate(`reg.example: {trust: [org], claims: tag}`)
	if r, err := c.review(g, "1.0"); err != nil || len(r.Leave) > 0 {
		t.Errorf("without --only-accepted: %v, %v", r.Leave, err)
	}
	if len(c.asked) != 1 {
		t.Errorf("%d subjects were asked for, and the root's alone are judged", len(c.asked))
	}
	g.onlyAccepted = true
	r, err := c.review(g, "1.0")
	if err != nil {
		t.Fatal(err)
	}
	want := map[digest.Digest]string{bad: "root-not-trusted", badBelow: "root-not-trusted", two: "manifest-malformed", onBad: r.Leave[onBad]}
	if diff := cmp.Diff(want, r.Leave); diff != "" || r.Leave[onBad] == "" {
		t.Error(diff)
	}
	for _, d := range []digest.Digest{good, goodBelow, plain.Descriptor.Digest, c.sbom.Descriptor.Digest} {
		if why, left := r.Leave[d]; left {
			t.Errorf("%s is left behind: %s", d, why)
		}
	}
	for d, n := range c.asked {
		if n != 1 {
			t.Errorf("%s was asked for %d times", d, n)
		}
	}
	// Of several tags a signature need only claim one; the root must pass under each.
	_, err = c.review(g, "1.0", "2.0")
	c.refused(err, 1, "claim-not-covered")
	again := c.signed(":2.0", "", "--again", "--claim", "2.0", "--move", "*")
	if r, err = c.review(g, "1.0", "2.0"); err != nil || r.Leave[good] != "" || r.Leave[again] != "" {
		t.Errorf("%v, %v", r.Leave, err)
	}
}

func (c *customs) manifest(d digest.Digest) registry.Manifest {
	c.t.Helper()
	for n := range c.graph().Root.All {
		if n.Manifest.Descriptor.Digest == d {
			return n.Manifest
		}
	}
	c.t.Fatal("no manifest ", d)
	return registry.Manifest{}
}

// TestOnlyAcceptedOfNothing: an artifact that would arrive without any accepted signature is refused, also by a scope that only
// reports; a signature that cannot be fetched now is neither left behind nor taken for unsigned.
func TestOnlyAcceptedOfNothing(t *testing.T) {
	t.Parallel()
	c := newCustoms(t)
	c.signed(":1.0", "other")
	for _, policy := range []string{`reg.example: {trust: [org]}`, `reg.example: {trust: [org], enforce: false}`} {
		g := c.gate(policy)
		g.onlyAccepted = true
		_, err := c.review(g, "1.0")
		c.refused(err, 1, "no-trusted-signature")
	}
	g := c.gate(`reg.example: {trust: [org], enforce: false}`)
	r, err := c.review(g, "1.0")
	if err != nil || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "no-trusted-signature") {
		t.Errorf("a scope that only reports: %v, %q", err, r.Warnings)
	}
	c.sbom = c.attach(c.root, "application/spdx+json", 1)
	c.signed("@"+c.sbom.Descriptor.Digest.String(), "", "--no-claims")
	c.signed(":1.0", "")
	g = c.gate(`reg.example: {trust: [org]}`)
	g.onlyAccepted, c.unreachable = true, c.sbom.Descriptor.Digest
	_, err = c.review(g, "1.0")
	if exitCode(err) != 4 || !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("exit %d: %v", exitCode(err), err)
	}
	c.unreachable = c.root.Descriptor.Digest
	_, err = c.review(g, "1.0")
	c.refused(err, 4, "unfetched")
	if err := (gate{onlyAccepted: true}).check(); exitCode(err) != 3 {
		t.Errorf("--only-accepted without a policy: %v", err)
	}
	if (gate{}).review(passage{tags: []string{"1.0"}}) != nil {
		t.Error("a review where nothing is asked")
	}
}

func TestRequireSignature(t *testing.T) {
	t.Parallel()
	c := newCustoms(t)
	g := c.gate("")
	g.requireSignature = true
	_, err := c.review(g, "1.0")
	c.refused(err, 1, "unsigned")
	c.attach(c.root, registry.ArtifactTypeSignature, 2)
	_, err = c.review(g, "1.0")
	c.refused(err, 1, "signature-invalid")
	c.signed(":1.0", "other")
	r, err := c.review(g, "1.0", "2.0")
	if err != nil || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "no signature claims the tag 2.0 (they claim 1.0)") {
		t.Errorf("%v, %q", err, r.Warnings)
	}
	c.unreachable = c.root.Descriptor.Digest
	_, err = c.review(g, "1.0")
	if exitCode(err) != 4 || !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("a signature that cannot be fetched: exit %d: %v", exitCode(err), err)
	}
}

// TestCopyChain: signatures of the whole graph get a new chain beside the old one; what is judged is what arrives.
func TestCopyChain(t *testing.T) {
	t.Parallel()
	c := newCustoms(t)
	s := newSession(c.env)
	chain, err := s.certificates([]string{c.path("new.pem")})
	if err != nil {
		t.Fatal(err)
	}
	g := c.gate("")
	g.chain = chain
	r, err := c.review(g, "1.0")
	if err != nil || len(r.Add) > 0 || len(r.Warnings) != 1 {
		t.Errorf("unsigned: %v, %q", err, r.Warnings)
	}
	foreign := c.signed(":1.0", "other")
	_, err = c.review(g, "1.0")
	c.refused(err, 3, "leaf-key-differs")

	c.sbom = c.attach(c.root, "application/spdx+json", 1)
	c.signed(":1.0", "")
	c.signed("@"+c.sbom.Descriptor.Digest.String(), "", "--no-claims")
	r, err = c.review(g, "1.0")
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Add) != 2 || !slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.HasPrefix(w, "1 signature keeps its chain") }) {
		t.Fatalf("%d added, %q", len(r.Add), r.Warnings)
	}
	subjects := map[digest.Digest]bool{}
	for _, a := range r.Add {
		subjects[a.Subject.Digest] = true
		parts, err := a.Manifest.Parse()
		if err != nil || parts.Subject == nil || parts.Subject.Digest != a.Subject.Digest {
			t.Fatalf("%+v, %v", parts, err)
		}
		for _, d := range append(slices.Clone(parts.Layers), *parts.Config) {
			if digest.FromBytes(a.Blobs[d.Digest]) != d.Digest {
				t.Errorf("blob %s is not at hand", d.Digest)
			}
		}
		e, err := envelope.Parse(parts.Layers[0].MediaType, a.Blobs[parts.Layers[0].Digest])
		if err != nil {
			t.Fatal(err)
		}
		content, err := e.Verify()
		if err != nil || content.Payload.Digest != a.Subject.Digest || !content.Chain[0].Equal(chain[0]) {
			t.Errorf("the renewed signature: %v", err)
		}
	}
	if want := map[digest.Digest]bool{c.root.Descriptor.Digest: true, c.sbom.Descriptor.Digest: true}; !maps.Equal(subjects, want) {
		t.Errorf("added to %v", subjects)
	}
	for d, n := range c.asked {
		if n != 1 {
			t.Errorf("%s was asked for %d times", d, n)
		}
	}

	// Only the new chain is valid by then: it is judged with the others, and the old one stays behind.
	g = c.gate(`reg.example: [org]`)
	g.now = g.now.AddDate(0, 0, 150)
	_, err = c.review(gate{policy: g.policy, as: g.as, now: g.now}, "1.0")
	c.refused(err, 1, "certificate-expired")
	g.chain, g.onlyAccepted = chain, true
	r, err = c.review(g, "1.0")
	if err != nil || len(r.Add) != 2 || len(r.Leave) != 3 || r.Leave[foreign] != "root-not-trusted" {
		t.Errorf("%d added, %v left, %v", len(r.Add), r.Leave, err)
	}
	// A renewed signature that the policy does not accept is not added either.
	g.policy, err = trust.Load(c.policy("q.yaml", `reg.example: [org]`))
	if err != nil {
		t.Fatal(err)
	}
	g.now = c.env.Now()
	strange := certtest.Root("Strange Root")
	key := chain[0].PublicKey
	g.chain = strange.Chain(strange.Leaf(key, "release", certtest.Valid(g.now.AddDate(0, 0, -1), g.now.AddDate(9, 0, 0))))
	r, err = c.review(g, "1.0")
	if err != nil || len(r.Add) != 0 || !slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.Contains(w, "is not renewed") }) {
		t.Errorf("%d added, %q, %v", len(r.Add), r.Warnings, err)
	}
}
