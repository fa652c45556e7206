package audit

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// A place is a repository with what tests put into it.
type place struct {
	*registry.Repo
	server *regtest.Server
	ref    registry.Reference
}

func newPlace(t testing.TB, kind regtest.Kind) place {
	t.Helper()
	s := regtest.New(t, kind)
	c, err := registry.NewClient(registry.Options{})
	must(t, err)
	ref := registry.Reference{Kind: registry.Remote, Host: s.Host, Path: "team/app"}
	repo, err := c.Open(t.Context(), ref)
	must(t, err)
	return place{repo, s, ref}
}

func (p place) blob(t testing.TB, mediaType, content string) ocispec.Descriptor {
	t.Helper()
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(content), Size: int64(len(content))}
	must(t, p.PushBytes(t.Context(), d, []byte(content)))
	return d
}

func (p place) image(t testing.TB, seed string) registry.Manifest {
	t.Helper()
	return p.push(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: p.blob(t, ocispec.MediaTypeImageConfig, fmt.Sprintf(`{"author":%q}`, seed)), Layers: []ocispec.Descriptor{},
	})
}

func (p place) push(t testing.TB, mediaType string, v any) registry.Manifest {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	m := registry.NewManifest(mediaType, b)
	must(t, p.PushManifest(t.Context(), m))
	return m
}

func (p place) index(t testing.TB, children ...ocispec.Descriptor) registry.Manifest {
	t.Helper()
	return p.push(t, ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: children})
}

func on(m registry.Manifest, os, arch string) ocispec.Descriptor {
	d := m.Descriptor
	d.Platform = &ocispec.Platform{OS: os, Architecture: arch}
	return d
}

func (p place) attach(t testing.TB, subject registry.Manifest, artifactType string) registry.Manifest {
	t.Helper()
	b, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Config: p.blob(t, ocispec.MediaTypeEmptyJSON, "{}"), Layers: []ocispec.Descriptor{p.blob(t, "text/plain", artifactType)}, Subject: &subject.Descriptor,
	})
	must(t, err)
	return p.attachRaw(t, subject, b)
}

func (p place) attachRaw(t testing.TB, subject registry.Manifest, b []byte) registry.Manifest {
	t.Helper()
	m := registry.NewManifest(ocispec.MediaTypeImageManifest, b)
	must(t, p.Attach(t.Context(), subject.Descriptor, m))
	return m
}

func (p place) attachEnvelope(t testing.TB, subject registry.Manifest, format envelope.Format, b []byte) digest.Digest {
	t.Helper()
	m := registry.ByArtifactType.Manifest(subject.Descriptor, string(format), b, map[string]string{"com.example.note": "x"})
	must(t, p.PushSignature(t.Context(), subject.Descriptor, m, b))
	return m.Descriptor.Digest
}

func TestInspect(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, kind)
			now := time.Now()
			subject := p.image(t, "app")
			root := certtest.Root("root")
			ca := root.Intermediate("ca", certtest.Valid(now.Add(-time.Hour), now.Add(40*24*time.Hour)))
			key := certtest.Key("P-384")
			chain := ca.Chain(ca.Leaf(key.Public(), "release"))
			renewed := root.IntermediateWith(ca.Key, "ca").Chain(chain[0])
			signed := now.UTC().Truncate(time.Second)

			old := sign(t, envelope.JWS, payloadOf(subject, map[string]string{envelope.ClaimsAnnotation: `["1.4","1.4.2"]`, "build": "8812"}), key, chain,
				envelope.Options{SigningTime: signed, Agent: "imprint/1"})
			fresh, err := old.WithChain(renewed)
			must(t, err)
			oldDigest, freshDigest := p.attachEnvelope(t, subject, envelope.JWS, old.Bytes()), p.attachEnvelope(t, subject, envelope.JWS, fresh.Bytes())
			expiring := sign(t, envelope.COSE, payloadOf(subject, map[string]string{envelope.ClaimsAnnotation: "[]"}), key, chain,
				envelope.Options{SigningTime: signed.Add(time.Minute), Expiry: signed.Add(time.Hour)})
			expiringDigest := p.attachEnvelope(t, subject, envelope.COSE, expiring.Bytes())
			garbage := p.attachEnvelope(t, subject, envelope.JWS, []byte(`{"payload":1}`))
			p.attach(t, subject, "application/spdx+json")
			p.attach(t, subject, "text/markdown")

			ref := p.ref.With("", subject.Descriptor.Digest)
			in, err := Inspect(t.Context(), p.Repo, ref, subject, now)
			must(t, err)
			if in.Reference != ref.String() || in.Digest != subject.Descriptor.Digest || in.What != "image" || len(in.Signatures) != 4 {
				t.Fatalf("inspection %+v", in)
			}
			if diff := cmp.Diff(map[string]int{"application/spdx+json": 1, "text/markdown": 1}, in.Referrers); diff != "" {
				t.Errorf("referrers (-want +got):\n%s", diff)
			}
			var order []digest.Digest
			for _, s := range in.Signatures {
				order = append(order, s.Digest)
			}
			if diff := cmp.Diff([]digest.Digest{oldDigest, freshDigest, expiringDigest, garbage}, order); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
			content, err := old.Verify()
			must(t, err)
			until := ca.Certificate.NotAfter.UTC()
			want := Signature{
				Digest: oldDigest, Core: content.CoreID(), SameAs: []digest.Digest{freshDigest}, Valid: true, Covers: true,
				Format: "jws", Algorithm: "ES384", Scheme: envelope.SchemeX509, Agent: "imprint/1", Identity: "C=DE, ST=BE, O=Acme, CN=release",
				Claims: []string{"1.4", "1.4.2"}, HasClaims: true, Metadata: map[string]string{"build": "8812"},
				SignedAt: &signed, HoldsUntil: &until, FirstToEnd: "C=DE, ST=BE, O=Acme, CN=ca", Chain: certchain.Chain(chain).Describe(),
				Verifiers:   map[envelope.Setting]bool{envelope.NoTSARoot: true, envelope.Always: false, envelope.AfterCertExpiry: true},
				Annotations: map[string]string{"com.example.note": "x"},
			}
			unexported := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".content" }, cmp.Ignore())
			if diff := cmp.Diff(want, in.Signatures[0], unexported); diff != "" {
				t.Errorf("the old one (-want +got):\n%s", diff)
			}
			newest := in.Signatures[1]
			if !newest.Newest || len(newest.Supersedes) != 1 || newest.Supersedes[0] != oldDigest || newest.Core != want.Core || newest.FirstToEnd != "C=DE, ST=BE, O=Acme, CN=release" {
				t.Errorf("the new one: %+v", newest)
			}
			short := in.Signatures[2]
			if short.FirstToEnd != "expiry" || !short.HoldsUntil.Equal(signed.Add(time.Hour)) || !short.HasClaims || short.Claims == nil || len(short.Claims) != 0 ||
				short.Metadata != nil || short.Format != "cose" || !short.Newest || short.SameAs != nil {
				t.Errorf("the expiring one: %+v", short)
			}
			bad := in.Signatures[3]
			if bad.Valid || bad.Newest || bad.Reason != "envelope-malformed" || bad.Detail == "" || bad.Claims == nil {
				t.Errorf("the garbage: %+v", bad)
			}
			// After its expiry no kind of verifier takes it.
			later, err := Inspect(t.Context(), p.Repo, ref, subject, now.Add(2*time.Hour))
			must(t, err)
			if v := later.Signatures[2].Verifiers; v[envelope.NoTSARoot] || v[envelope.AfterCertExpiry] {
				t.Errorf("after its expiry: %v", v)
			}
		})
	}
}

func TestInspectWhatDoesNotHold(t *testing.T) {
	t.Parallel()
	p := newPlace(t, regtest.WithAPI)
	now := time.Now()
	subject, other := p.image(t, "app"), p.image(t, "other")
	key, chain := certtest.ChainOf(3, "P-256")
	o := envelope.Options{SigningTime: now}
	foreign := p.attachEnvelope(t, subject, envelope.JWS, sign(t, envelope.JWS, payloadOf(other, nil), key, chain, o).Bytes())
	// The primitive signature of another envelope under this one's header.
	var a, b map[string]json.RawMessage
	must(t, json.Unmarshal(sign(t, envelope.JWS, payloadOf(subject, nil), key, chain, o).Bytes(), &a))
	must(t, json.Unmarshal(sign(t, envelope.JWS, payloadOf(other, nil), key, chain, o).Bytes(), &b))
	a["signature"] = b["signature"]
	mixed, err := json.Marshal(a)
	must(t, err)
	forged := p.attachEnvelope(t, subject, envelope.JWS, mixed)
	ghost := p.attachEnvelope(t, subject, envelope.JWS, sign(t, envelope.JWS, payloadOf(subject, map[string]string{"a": "b"}), key, chain, o).Bytes())
	twoLayers := p.attachRaw(t, subject, []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},`+
		`"layers":[{"mediaType":"application/jose+json","digest":%q,"size":2},{"mediaType":"application/jose+json","digest":%q,"size":2}],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
		ocispec.MediaTypeImageManifest, registry.ArtifactTypeSignature, ocispec.DescriptorEmptyJSON.Digest, ocispec.DescriptorEmptyJSON.Digest, ocispec.DescriptorEmptyJSON.Digest,
		subject.Descriptor.MediaType, subject.Descriptor.Digest, subject.Descriptor.Size)))
	p.server.Intercept(notFound(ghost))

	in, err := Inspect(t.Context(), p.Repo, p.ref, subject, now)
	must(t, err)
	want := map[digest.Digest]struct {
		reason        string
		valid, covers bool
	}{
		foreign:                     {"signs-another", true, false},
		forged:                      {"signature-invalid", false, true},
		ghost:                       {"not-found", false, false},
		twoLayers.Descriptor.Digest: {"manifest-malformed", false, false},
	}
	if len(in.Signatures) != len(want) {
		t.Fatalf("%d signatures", len(in.Signatures))
	}
	for _, s := range in.Signatures {
		w := want[s.Digest]
		if s.Reason != w.reason || s.Valid != w.valid || s.Covers != w.covers || s.Detail == "" {
			t.Errorf("%s: reason %q (%s), valid %v, covers %v; want %+v", s.Digest, s.Reason, s.Detail, s.Valid, s.Covers, w)
		}
		if s.Core != "" && !s.Valid {
			t.Errorf("%s has a core id although it does not verify", s.Digest)
		}
	}
}

func TestInspectUnsigned(t *testing.T) {
	t.Parallel()
	p := newPlace(t, regtest.WithoutAPI)
	in, err := Inspect(t.Context(), p.Repo, p.ref, p.image(t, "app"), time.Now())
	must(t, err)
	b, err := json.Marshal(in)
	must(t, err)
	if !strings.Contains(string(b), `"signatures":[]`) {
		t.Errorf("JSON %s", b)
	}
}

// Everything is read with one list and one request for each signature.
func TestInspectRequests(t *testing.T) {
	t.Parallel()
	p := newPlace(t, regtest.WithAPI)
	subject := p.image(t, "app")
	for i := range 3 {
		key, chain := certtest.ChainOf(3, "P-256")
		p.attachEnvelope(t, subject, envelope.JWS, sign(t, envelope.JWS, payloadOf(subject, nil), key, chain, envelope.Options{SigningTime: time.Now().Add(time.Duration(i) * time.Second)}).Bytes())
	}
	p.attach(t, subject, "application/spdx+json")
	p.server.Reset()
	p.server.Latency(60 * time.Millisecond)
	_, err := Inspect(t.Context(), p.Repo, p.ref, subject, time.Now())
	must(t, err)
	if n, trips := p.server.Count(nil), p.server.RoundTrips(); n != 4 || trips != 2 {
		t.Errorf("%d requests, %d in a row", n, trips)
	}
}
