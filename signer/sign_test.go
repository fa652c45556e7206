package signer

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

func TestSign(t *testing.T) {
	t.Parallel()
	inEachPlace(t, func(t *testing.T, p place) {
		id := newIdentity("release")
		subject := p.image(t, "app", "1.4.2")
		now := time.Now()
		r := p.sign(t, subject, id, Options{Tag: "1.4.2", Claims: []string{"1.4", "1.4.2", "registry.example/app:1.4"}, Metadata: map[string]string{"build": "8812"},
			Expiry: days(90), Agent: "imprint/test", Now: now})

		signed := now.UTC().Truncate(time.Second)
		expiry := signed.Add(days(90))
		claims := []string{"1.4", "1.4.2", "registry.example/app:1.4"}
		want := Result{
			Reference: p.ref.With("1.4.2", "").String(), Digest: subject.Descriptor.Digest,
			Identity: "C=DE, ST=BE, O=Acme, CN=release", Key: "memory", Algorithm: "ES256", Format: "jws",
			Claims: claims, Metadata: map[string]string{"build": "8812"}, SignedAt: signed, Expiry: &expiry, HoldsUntil: expiry, FirstToEnd: "expiry",
			Chain: id.chain.Describe(), Written: 1, KeyCalls: 1,
			Signatures: []Signed{{What: "image", Subject: subject.Descriptor, Status: StatusNew, Claims: claims, Signature: p.only(t, subject).Descriptor.Digest}},
		}
		if diff := cmp.Diff(want, r); diff != "" {
			t.Errorf("result (-want +got):\n%s", diff)
		}

		sig := p.only(t, subject)
		c := p.found(t, subject)[sig.Descriptor.Digest]
		payload := envelope.Payload{
			MediaType: subject.Descriptor.MediaType, Digest: subject.Descriptor.Digest, Size: subject.Descriptor.Size,
			Annotations: map[string]string{"build": "8812", envelope.ClaimsAnnotation: `["1.4","1.4.2","registry.example/app:1.4"]`},
		}
		if diff := cmp.Diff(payload, c.Payload); diff != "" {
			t.Errorf("payload (-want +got):\n%s", diff)
		}
		if !c.SigningTime.Equal(signed) || !c.Expiry.Equal(expiry) || c.Agent != "imprint/test" || c.Format != envelope.JWS {
			t.Errorf("signed %v, expiry %v, agent %q, format %q", c.SigningTime, c.Expiry, c.Agent, c.Format)
		}
		var thumbprints []string
		must(t, json.Unmarshal([]byte(sig.Annotations[registry.AnnotationThumbprint]), &thumbprints))
		if diff := cmp.Diff(id.chain.Thumbprints(), thumbprints); diff != "" {
			t.Errorf("thumbprints (-want +got):\n%s", diff)
		}
		if got := sig.Annotations[ocispec.AnnotationCreated]; got != signed.Format(time.RFC3339) {
			t.Errorf("created %q", got)
		}
	})
}

func TestSignWithoutClaims(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	for name, o := range map[string]Options{
		"by digest":           {},
		"with --no-claims":    {Tag: "1.0", NoClaims: true},
		"COSE, by its digest": {Format: envelope.COSE},
	} {
		subject := p.image(t, name, "1.0")
		r := p.sign(t, subject, newIdentity("release"), o)
		c := p.found(t, subject)[r.Signatures[0].Signature]
		if _, present, err := c.Payload.Claims(); present || err != nil || !r.NoClaims || len(r.Claims) > 0 {
			t.Errorf("%s: claims are there: %v (%v), result %v", name, c.Payload.Annotations, err, r.Claims)
		}
	}
}

func TestSignDryRun(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	index, _, _ := p.index(t, "app", "1.0")
	id := newIdentity("release")
	key := &spyKey{Signer: id.key}
	p.server.Reset()
	r, err := Sign(t.Context(), p.Repo, index, key, id.chain, Options{Tag: "1.0", Recursive: true, DryRun: true, Now: time.Now()})
	must(t, err)
	if p.server.Writes() != 0 || key.used.Load() != 0 || r.KeyCalls != 0 || r.Written != 0 {
		t.Errorf("%d writes, key used %d times; result %+v", p.server.Writes(), key.used.Load(), r)
	}
	if len(r.Signatures) != 3 || r.Signatures[0].Status != StatusPlanned || r.Signatures[2].Status != StatusPlanned {
		t.Errorf("signatures %+v", r.Signatures)
	}
}

func TestSignAnyMediaTypeAsServed(t *testing.T) {
	t.Parallel()
	inEachPlace(t, func(t *testing.T, p place) {
		const docker = "application/vnd.docker.distribution.manifest.v2+json"
		p.manifest(t, docker, ocispec.Manifest{
			Config: p.blob(t, "application/vnd.docker.container.image.v1+json", `{}`),
			Layers: []ocispec.Descriptor{p.blob(t, "application/vnd.docker.image.rootfs.diff.tar.gzip", "layer")},
		}, "docker")
		subject, err := p.Resolve(t.Context(), p.ref.With("docker", ""))
		must(t, err)
		r := p.sign(t, subject, newIdentity("release"), Options{})
		if c := p.found(t, subject)[r.Signatures[0].Signature]; c.Payload.MediaType != docker {
			t.Errorf("signed as %q", c.Payload.MediaType)
		}
	})
}

// A10: what was resolved is what is signed, wherever the tag goes; and the tag is not asked again.
func TestA10TagMovesAfterResolving(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	first := p.image(t, "first", "1.0")
	resolved, err := p.Resolve(t.Context(), p.ref.With("1.0", ""))
	must(t, err)
	second := p.image(t, "second", "1.0")
	p.server.Reset()
	r := p.sign(t, resolved, newIdentity("release"), Options{Tag: "1.0"})
	if r.Digest != first.Descriptor.Digest || len(p.found(t, first)) != 1 || len(p.found(t, second)) != 0 {
		t.Errorf("signed %s; first has %d signatures, second %d", r.Digest, len(p.found(t, first)), len(p.found(t, second)))
	}
	if n := p.server.Count(func(r regtest.Request) bool { return strings.HasSuffix(r.Path, "/manifests/1.0") }); n != 0 {
		t.Errorf("the tag was asked %d times again", n)
	}
}

// A12, A14, A15: what different parsers read differently is never signed, whatever way it comes in.
func TestAmbiguousManifestsAreNeverSigned(t *testing.T) {
	t.Parallel()
	const config = `"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}`
	for name, body := range map[string]string{
		"A12 manifests and layers":     `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `",` + config + `,"layers":[],"manifests":[]}`,
		"A12 another media type":       `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `",` + config + `,"layers":[]}`,
		"A14 duplicate member":         `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `",` + config + `,"layers":[],"layers":[]}`,
		"A15 size that is a float":     `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `",` + strings.Replace(config, `"size":2`, `"size":2e0`, 1) + `,"layers":[]}`,
		"A15 size beyond all integers": `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `",` + strings.Replace(config, `"size":2`, `"size":9223372036854775808`, 1) + `,"layers":[]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := remote(t, regtest.New(t, regtest.WithAPI))
			id := newIdentity("release")
			key := &spyKey{Signer: id.key}
			p.server.Reset()
			_, err := Sign(t.Context(), p.Repo, registry.NewManifest(ocispec.MediaTypeImageManifest, []byte(body)), key, id.chain, Options{Now: time.Now()})
			wantReason(t, err, "ambiguous-manifest", registry.ErrAmbiguous)
			if key.used.Load() != 0 || p.server.Writes() != 0 {
				t.Errorf("key used %d times, %d writes", key.used.Load(), p.server.Writes())
			}
		})
	}
}

func TestA01WrongKeyOrChain(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	subject := p.image(t, "app", "1.0")
	id := newIdentity("release")
	other := newIdentity("other")
	for _, c := range []struct {
		name   string
		key    crypto.Signer
		chain  certchain.Chain
		reason string
		target error
	}{
		{"A01 key of another leaf", other.key, id.chain, "key-mismatch", certchain.ErrKeyMismatch},
		{"A06 no root", id.key, id.chain[:2], "incomplete", certchain.ErrIncomplete},
		{"A06 no chain", id.key, nil, "no-certificates", nil},
	} {
		key := &spyKey{Signer: c.key}
		p.server.Reset()
		r, err := Sign(t.Context(), p.Repo, subject, key, c.chain, Options{Tag: "1.0", Now: time.Now()})
		wantReason(t, err, c.reason, c.target)
		if key.used.Load() != 0 || p.server.Count(nil) != 0 || r.Written != 0 {
			t.Errorf("%s: key used %d times, %d requests, result %+v", c.name, key.used.Load(), p.server.Count(nil), r)
		}
	}
}

// A02, A03: a key service that returns something else is found out before anything is pushed.
func TestA02KeyMisbehaves(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	ec, other := newIdentity("release"), newIdentity("other")
	rsaKey := certtest.Key("RSA-2048").(*rsa.PrivateKey)
	rsaID := identity{key: rsaKey, chain: ec.ca.Chain(ec.ca.Leaf(rsaKey.Public(), "rsa"))}
	for name, c := range map[string]struct {
		id   identity
		sign func([]byte, crypto.SignerOpts) ([]byte, error)
	}{
		"A02 another key version": {ec, func(m []byte, o crypto.SignerOpts) ([]byte, error) {
			return kmstest.Key(other.key).Sign(t.Context(), m, o)
		}},
		"A02 trailing byte": {ec, func(m []byte, o crypto.SignerOpts) ([]byte, error) {
			sig, err := kmstest.Key(ec.key).Sign(t.Context(), m, o)
			return append(sig, 0), err
		}},
		"A02 nothing": {ec, func([]byte, crypto.SignerOpts) ([]byte, error) { return nil, nil }},
		"A03 salt of another length": {rsaID, func(m []byte, o crypto.SignerOpts) ([]byte, error) {
			h := o.HashFunc().New()
			h.Write(m)
			return rsa.SignPSS(rand.Reader, rsaKey, o.HashFunc(), h.Sum(nil), &rsa.PSSOptions{SaltLength: 20})
		}},
	} {
		subject := p.image(t, name, "")
		p.server.Reset()
		r, err := Sign(t.Context(), p.Repo, subject, &spyKey{Signer: c.id.key, sign: c.sign}, c.id.chain, Options{Now: time.Now()})
		if !errors.Is(err, envelope.ErrKeyMisbehaved) {
			t.Errorf("%s: %v", name, err)
		}
		if p.server.Writes() != 0 || r.Written != 0 || r.KeyCalls != 1 || r.Signatures[0].Status != StatusPlanned {
			t.Errorf("%s: %d writes, result %+v", name, p.server.Writes(), r)
		}
	}
}

func TestA16Metadata(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	many := map[string]string{}
	for i := range 10_000 {
		many[digest.FromBytes([]byte{byte(i), byte(i >> 8)}).Encoded()] = "x"
	}
	for name, metadata := range map[string]map[string]string{
		"A16 invalid UTF-8 in a value":  {"a": "\xff"},
		"A16 invalid UTF-8 in a name":   {"a\xc3": "b"},
		"A16 NUL":                       {"a": "b\x00c"},
		"A16 newline in a name":         {"a\nb": "c"},
		"A16 a MiB":                     {"a": strings.Repeat("x", 1<<20)},
		"A16 64 KiB and one":            {"a": strings.Repeat("x", 64<<10)},
		"A16 ten thousand names":        many,
		"A16 the Notary Project's name": {"io.cncf.notary.x": "y"},
		"A16 our own name":              {envelope.ClaimsAnnotation: `["latest"]`},
		"A16 no name":                   {"": "b"},
	} {
		id := newIdentity("release")
		p.server.Reset()
		_, err := p.trySign(t.Context(), registry.NewManifest(ocispec.MediaTypeImageManifest, []byte("{}")), id, Options{Metadata: metadata})
		if err == nil {
			t.Errorf("%s: signed", name)
			continue
		}
		wantReason(t, err, "metadata-invalid", ErrClaim)
		if p.server.Count(nil) != 0 {
			t.Errorf("%s: %d requests", name, p.server.Count(nil))
		}
	}
}

func TestA16MetadataRoundTrips(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	metadata := map[string]string{"html": `<&>"\`, "lines": "a\u2028b\nc", "emoji": "\U0001F512", "empty": "", "control": "\x01\x7f", "long": strings.Repeat("x", 60<<10)}
	for _, format := range []envelope.Format{envelope.JWS, envelope.COSE} {
		subject := p.image(t, string(format), "")
		r := p.sign(t, subject, newIdentity("release"), Options{Metadata: metadata, Format: format})
		if diff := cmp.Diff(metadata, p.found(t, subject)[r.Signatures[0].Signature].Payload.Annotations); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
}

func TestA18Expiry(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	id := newIdentity("release")
	subject := p.image(t, "app", "")
	for _, d := range []time.Duration{-time.Hour, -1, 1, time.Second - 1} {
		_, err := p.trySign(t.Context(), subject, id, Options{Expiry: d})
		wantReason(t, err, "expiry-invalid", ErrClock)
	}
	far := newIdentity("far", certtest.Valid(time.Now().Add(-time.Hour), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)))
	far.root = certtest.Root("far root", certtest.Valid(time.Now().Add(-time.Hour), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)))
	far.chain = far.root.Chain(far.root.Leaf(far.key.Public(), "far", certtest.Valid(time.Now().Add(-time.Hour), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC))))
	_, err := p.trySign(t.Context(), subject, far, Options{Now: time.Date(9990, 1, 1, 0, 0, 0, 0, time.UTC), Expiry: days(36500)})
	wantReason(t, err, "expiry-invalid", ErrClock)

	r := p.sign(t, subject, id, Options{Expiry: days(3650)})
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "CN=release") || !r.HoldsUntil.Equal(id.chain.Leaf().NotAfter) || r.FirstToEnd != "C=DE, ST=BE, O=Acme, CN=release" {
		t.Errorf("beyond the chain: holds until %v by %s, warnings %q", r.HoldsUntil, r.FirstToEnd, r.Warnings)
	}
}

func TestA19Clock(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	id := newIdentity("release")
	subject := p.image(t, "app", "1.0")
	for name, now := range map[string]time.Time{
		"1970": time.Unix(0, 0), "2100": time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		key := &spyKey{Signer: id.key}
		p.server.Reset()
		_, err := Sign(t.Context(), p.Repo, subject, key, id.chain, Options{Tag: "1.0", Now: now})
		if !errors.Is(err, ErrClock) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wantReason(t, err, "clock", ErrClock)
		if key.used.Load() != 0 || p.server.Count(nil) != 0 {
			t.Errorf("%s: key used %d times, %d requests", name, key.used.Load(), p.server.Count(nil))
		}
	}
	for _, now := range []time.Time{id.chain.Leaf().NotBefore, id.chain.Leaf().NotAfter} {
		p.sign(t, subject, id, Options{Tag: "1.0", Now: now, Again: true})
	}
}

// A06: one certificate out of date is that certificate's fault, not the clock's.
func TestA06OutOfDate(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	id := newIdentity("release")
	subject := p.image(t, "app", "1.0")
	for reason, now := range map[string]time.Time{
		"not-yet-valid": id.chain.Leaf().NotBefore.Add(-time.Minute),
		"expired":       id.chain.Leaf().NotAfter.Add(time.Minute),
	} {
		key := &spyKey{Signer: id.key}
		id.chain[1].NotBefore = id.chain.Leaf().NotBefore.Add(-time.Hour)
		_, err := Sign(t.Context(), p.Repo, subject, key, id.chain, Options{Tag: "1.0", Now: now})
		wantReason(t, err, reason, nil)
		if err != nil && !strings.Contains(err.Error(), "CN=release") || key.used.Load() != 0 {
			t.Errorf("%s: key used %d times: %v", reason, key.used.Load(), err)
		}
	}
}

// Every error of the registry's side leaves the result saying what is not done.
func TestSignRegistryDown(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	p := remote(t, s)
	id := newIdentity("release")
	subject := p.image(t, "app", "1.0")
	key := &spyKey{Signer: id.key}
	s.Close()
	r, err := Sign(t.Context(), p.Repo, subject, key, id.chain, Options{Tag: "1.0", Now: time.Now()})
	if !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	if key.used.Load() != 0 || r.Written != 0 || r.Signatures[0].Status != StatusPlanned {
		t.Errorf("key used %d times, result %+v", key.used.Load(), r)
	}
}
