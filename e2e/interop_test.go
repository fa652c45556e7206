package e2e

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/copy"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
	"github.com/imprint-oci/imprint/signer"
)

// A lineage is a chain of n certificates and what it becomes when it is renewed, for one leaf key.
type lineage struct {
	key      crypto.Signer
	old, new []*x509.Certificate
	roots    []*x509.Certificate // those of both
}

// newLineage makes a chain of n certificates and its renewal. Of one: the self-signed leaf made anew. Of two: the
// leaf re-issued by the root. Of three: the leaf re-issued under a new intermediate. Of four: the upper intermediate
// renewed, same name and key, all below kept.
func newLineage(n int, algorithm string) lineage {
	longer := certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(4*365*24*time.Hour))
	l := lineage{key: certtest.Key(algorithm)}
	if n == 1 {
		l.old = []*x509.Certificate{certtest.SelfSigned(l.key, "self-signed")}
		l.new = []*x509.Certificate{certtest.SelfSigned(l.key, "self-signed", longer)}
		l.roots = slices.Concat(l.old, l.new)
		return l
	}
	root := certtest.Root("interop root")
	l.roots = []*x509.Certificate{root.Certificate}
	switch n {
	case 2:
		l.old = root.Chain(root.Leaf(l.key.Public(), "leaf"))
		l.new = root.Chain(root.Leaf(l.key.Public(), "leaf", longer))
	case 3:
		l.old = func(a *certtest.Authority) []*x509.Certificate { return a.Chain(a.Leaf(l.key.Public(), "leaf")) }(root.Intermediate("CA 3"))
		l.new = func(a *certtest.Authority) []*x509.Certificate {
			return a.Chain(a.Leaf(l.key.Public(), "leaf", longer))
		}(root.Intermediate("CA 4"))
	case 4:
		upper := certtest.Key("P-256")
		before := root.IntermediateWith(upper, "upper CA", certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(30*24*time.Hour)))
		after := root.IntermediateWith(upper, "upper CA", longer)
		lower := before.Intermediate("lower CA")
		leaf := lower.Leaf(l.key.Public(), "leaf")
		l.old = lower.Chain(leaf)
		l.new = []*x509.Certificate{leaf, lower.Certificate, after.Certificate, root.Certificate}
	}
	return l
}

// opens opens a repository with imprint.
func opens(t testing.TB, ref string) (*registry.Repo, registry.Reference) {
	t.Helper()
	client, err := registry.NewClient(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := client.Create(t.Context(), r, registry.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = repo.Close() })
	return repo, r
}

// TestInterop: 6 algorithms × 2 formats × chains of 1 to 4 × 3 kinds of artifact. Signed by imprint, accepted by
// stock notation at level strict; again after rechain, each of the two signatures alone; again after copy to a
// registry without the referrers API.
func TestInterop(t *testing.T) {
	t.Parallel()
	source, dest := regtest.New(t, regtest.WithAPI), regtest.New(t, regtest.WithoutAPI)
	// CNCF distribution takes no OCI artifact manifests; cue-labs' registry with its API hidden does.
	hiding := regtest.Serve(t, hidden(ociserver.New(ocimem.New(), nil)))
	kinds := map[string]func(string) artifact{"image": image, "index": index, "artifact": artifactManifest}
	if n := len(certtest.Algorithms); n != 6 {
		t.Fatalf("%d algorithms, want the six of the Notary Project", n)
	}
	for _, algorithm := range certtest.Algorithms {
		for _, format := range []envelope.Format{envelope.JWS, envelope.COSE} {
			for n := 1; n <= 4; n++ {
				for kind, build := range kinds {
					t.Run(fmt.Sprintf("%s/%s/%d/%s", algorithm, format.Short(), n, kind), func(t *testing.T) {
						t.Parallel()
						l := newLineage(n, algorithm)
						name := strings.ToLower(fmt.Sprintf("/%s/%s/%d/%s", algorithm, format.Short(), n, kind))
						host := dest.Host
						if kind == "artifact" {
							host = hiding.Host
						}
						interop(t, l, format, build(name), source.Host+name, host+name)
					})
				}
			}
		}
	}
}

func interop(t *testing.T, l lineage, format envelope.Format, a artifact, from, to string) {
	ctx, now := t.Context(), time.Now()
	ref := pushed(t, a, from, "v1")
	repo, r := opens(t, ref)
	subject, err := repo.Resolve(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	result, err := signer.Sign(ctx, repo, subject, kmstest.Key(l.key), l.old, signer.Options{
		Format: format, Claims: []string{"v1"}, Metadata: map[string]string{"build": "<8812>"}, Expiry: 24 * time.Hour, Agent: "imprint/test", Now: now,
	})
	if err != nil {
		t.Fatalf("signing: %v", err)
	}
	if result.Written != 1 {
		t.Fatalf("%d signatures written", result.Written)
	}
	judgeEach(t, ref, 1, l.roots)

	plans := rechained(t, repo, subject, l.new)
	if len(plans) != 1 || plans[0].Status != "written" {
		t.Fatalf("plans %+v", plans)
	}
	judgeEach(t, ref, 2, l.roots)
	sameBytes(t, ref, format, result.Signatures[0].Signature, plans[0].New)

	dst, _ := opens(t, to)
	if _, err := copy.Artifact(ctx, dst, repo, subject, copy.Options{Tags: []string{"v1"}}); err != nil {
		t.Fatalf("copying: %v", err)
	}
	judgeEach(t, to+":v1", 2, l.roots)
}

// rechained rechains all signatures of subject as the command does.
func rechained(t testing.TB, repo *registry.Repo, subject registry.Manifest, certs []*x509.Certificate) []signer.Plan {
	t.Helper()
	signatures, err := repo.Signatures(t.Context(), subject.Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	var plans []signer.Plan
	for _, s := range signatures {
		plan, err := signer.PlanRechain(s, signer.NewPool(certs), signer.RechainOptions{Now: time.Now()})
		if err != nil {
			t.Fatalf("planning: %v", err)
		}
		if plan, err = plan.Push(t.Context(), repo); err != nil {
			t.Fatalf("pushing: %v", err)
		}
		plans = append(plans, plan)
	}
	return plans
}

// judgeEach wants exactly n signatures at ref, each of which notation accepts alone.
func judgeEach(t testing.TB, ref string, n int, roots []*x509.Certificate) {
	t.Helper()
	signatures, err := judge.Signatures(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if len(signatures) != n {
		t.Fatalf("%s has %d signatures, want %d", ref, len(signatures), n)
	}
	for _, s := range signatures {
		if err := judge.VerifyOnly(t.Context(), ref, s, roots...); err != nil {
			t.Errorf("%s: notation rejects %s: %v", ref, s, err)
		}
	}
}

// sameBytes compares protected header, payload and signature of two envelopes, read by notation and taken apart here.
func sameBytes(t testing.TB, ref string, format envelope.Format, before, after digest.Digest) {
	t.Helper()
	var taken [2]map[string][]byte
	for i, d := range []digest.Digest{before, after} {
		mediaType, b, err := judge.Envelope(t.Context(), ref, d)
		if err != nil {
			t.Fatal(err)
		}
		if mediaType != string(format) {
			t.Errorf("%s is %s", d, mediaType)
		}
		taken[i] = apart(t, mediaType, b)
		for _, part := range []string{"protected", "payload", "signature"} {
			if len(taken[i][part]) == 0 {
				t.Fatalf("%s has no %s", d, part)
			}
		}
	}
	if !maps.EqualFunc(taken[0], taken[1], bytes.Equal) {
		t.Errorf("rechain changed signed bytes, or other unprotected members:\n%q\n%q", taken[0], taken[1])
	}
}

// TestNotationSigned: what notation signed is verified, listed, copied and rechained by imprint, and notation accepts the results.
func TestNotationSigned(t *testing.T) {
	t.Parallel()
	source, dest := regtest.New(t, regtest.WithoutAPI), regtest.New(t, regtest.WithAPI)
	for _, algorithm := range certtest.Algorithms {
		for _, format := range []envelope.Format{envelope.JWS, envelope.COSE} {
			for n := 1; n <= 4; n++ {
				t.Run(fmt.Sprintf("%s/%s/%d", algorithm, format.Short(), n), func(t *testing.T) {
					t.Parallel()
					l := newLineage(n, algorithm)
					name := strings.ToLower(fmt.Sprintf("/%s/%s/%d", algorithm, format.Short(), n))
					ref := pushed(t, image(name), source.Host+name, "v1")
					if err := judge.Sign(t.Context(), ref, l.key, l.old, judge.SignOptions{Format: format.Short(), Metadata: map[string]string{"a": "b"}, Expiry: time.Hour}); err != nil {
						t.Fatal(err)
					}
					p := newPerson(t)
					root := p.file("roots.pem", certtest.PEM(l.roots...))
					p.want(t, 0, "", "verify", ref, "--root", root)
					o := p.want(t, 0, "", "inspect", ref)
					if !strings.Contains(o.stdout, "notation-go/") {
						t.Errorf("inspect does not say who signed: %s", o.stdout)
					}
					before, err := judge.Signatures(t.Context(), ref)
					if err != nil {
						t.Fatal(err)
					}
					p.want(t, 0, "", "rechain", ref, "--chain", p.file("new.pem", certtest.PEM(l.new...)))
					after, err := judge.Signatures(t.Context(), ref)
					if err != nil {
						t.Fatal(err)
					}
					judgeEach(t, ref, 2, l.roots)
					i := slices.IndexFunc(after, func(d digest.Digest) bool { return d != before[0] })
					sameBytes(t, ref, format, before[0], after[i])
					p.want(t, 0, "", "copy", ref, dest.Host+name)
					judgeEach(t, dest.Host+name+":v1", 2, l.roots)
					p.want(t, 0, "", "verify", dest.Host+name+":v1", "--root", root)
				})
			}
		}
	}
}
