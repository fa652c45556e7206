package signer

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// status answers requests of a method whose path ends so.
func status(code int, method, suffix string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || !strings.HasSuffix(r.URL.Path, suffix) {
			return false
		}
		w.WriteHeader(code)
		return true
	}
}

func TestA22SignTwice(t *testing.T) {
	t.Parallel()
	inEachPlace(t, func(t *testing.T, p place) {
		id := newIdentity("release")
		subject := p.image(t, "app", "1.0")
		o := Options{Tag: "1.0", Metadata: map[string]string{"a": "b"}}
		first := p.sign(t, subject, id, o)
		second := p.sign(t, subject, id, o)
		if second.Written != 0 || second.There != 1 || second.KeyCalls != 0 || second.Signatures[0].Status != StatusAlreadySigned ||
			second.Signatures[0].Signature != first.Signatures[0].Signature || len(second.Warnings) != 0 {
			t.Errorf("second run: %+v", second)
		}
		if n := len(p.found(t, subject)); n != 1 {
			t.Errorf("%d signatures after the second run", n)
		}
		o.Again = true
		o.Now = time.Now().Add(time.Minute)
		if third := p.sign(t, subject, id, o); third.Written != 1 || len(p.found(t, subject)) != 2 {
			t.Errorf("with --again: %+v", third)
		}
	})
}

func TestA22WhatCountsAsSigned(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	id := newIdentity("release")
	now := time.Now()
	reissued := id
	reissued.chain = id.ca.Chain(id.ca.Leaf(id.key.Public(), "release"))
	for name, c := range map[string]struct {
		first, second Options
		id            identity
		there         bool
		warns         string
	}{
		"the same":                              {Options{}, Options{}, id, true, ""},
		"another key":                           {Options{}, Options{}, newIdentity("release"), false, ""},
		"another claim":                         {Options{Claims: []string{"1"}}, Options{Claims: []string{"1", "2"}}, id, false, ""},
		"other metadata":                        {Options{Metadata: map[string]string{"a": "1"}}, Options{Metadata: map[string]string{"a": "2"}}, id, false, ""},
		"expired since":                         {Options{Expiry: time.Hour}, Options{Expiry: time.Hour, Now: now.Add(2 * time.Hour)}, id, false, ""},
		"not yet expired":                       {Options{Expiry: time.Hour}, Options{Expiry: time.Hour, Now: now.Add(time.Minute)}, id, true, ""},
		"expires at this moment":                {Options{Expiry: time.Hour, Now: now}, Options{Expiry: time.Hour, Now: now.Add(time.Hour)}, id, false, ""},
		"without the expiry asked for":          {Options{}, Options{Expiry: time.Hour}, id, true, "without an expiry"},
		"with an expiry that was not asked for": {Options{Expiry: time.Hour}, Options{}, id, true, "signed already until"},
		"in the other format":                   {Options{}, Options{Format: envelope.COSE}, id, true, "signed already as jws"},
		"a leaf re-issued for the same key":     {Options{}, Options{}, reissued, false, ""}, // the annotation names another certificate: not read
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			subject := p.image(t, name, "")
			p.sign(t, subject, id, c.first)
			r := p.sign(t, subject, c.id, c.second)
			if got := r.There == 1 && r.Written == 0; got != c.there {
				t.Errorf("there: %v, want %v (%+v)", got, c.there, r)
			}
			if warned := strings.Join(r.Warnings, " "); !strings.Contains(warned, c.warns) || c.warns == "" && warned != "" {
				t.Errorf("warnings %q", r.Warnings)
			}
		})
	}
}

// A signature whose chain has ended meanwhile is none that a verifier takes.
func TestA22EndedChain(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	now := time.Now()
	short := newIdentity("release", certtest.Valid(now.Add(-time.Hour), now.Add(time.Hour)))
	long := short
	long.chain = short.ca.Chain(short.ca.Leaf(short.key.Public(), "release"))
	subject := p.image(t, "app", "")
	p.sign(t, subject, short, Options{})
	// Under an annotation that says nothing, the signature is read, and found to have ended.
	p.strip(t, subject)
	if r := p.sign(t, subject, long, Options{Now: now.Add(2 * time.Hour)}); r.Written != 1 {
		t.Errorf("%+v", r)
	}
}

// strip replaces the one signature of subject by the same without a thumbprint annotation.
func (p place) strip(t testing.TB, subject registry.Manifest) {
	t.Helper()
	sig := p.only(t, subject)
	m := registry.ByArtifactType.Manifest(subject.Descriptor, sig.MediaType, sig.Envelope, map[string]string{registry.AnnotationThumbprint: "not JSON"})
	must(t, p.PushSignature(t.Context(), subject.Descriptor, m, sig.Envelope))
	must(t, p.Detach(t.Context(), subject.Descriptor, sig.Descriptor.Digest))
}

// The chain is unsigned: our own signature under a stranger's root is not the one that verifiers take.
func TestAlreadySignedUnderAnotherRoot(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	id := newIdentity("release")
	stranger := id
	root := certtest.Root("stranger")
	stranger.chain = root.Chain(root.Leaf(id.key.Public(), "release"))
	subject := p.image(t, "app", "")
	p.sign(t, subject, stranger, Options{})
	p.strip(t, subject) // so that it is read
	if r := p.sign(t, subject, id, Options{}); r.Written != 1 || r.There != 0 {
		t.Errorf("%+v", r)
	}
}

// The annotation is a hint: one that is malformed is no reason to sign again, one that lies costs a second signature and no more.
func TestAlreadySignedByHint(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	id := newIdentity("release")
	subject := p.image(t, "app", "")
	p.sign(t, subject, id, Options{})
	p.strip(t, subject)
	if r := p.sign(t, subject, id, Options{}); r.There != 1 || r.Written != 0 {
		t.Errorf("under a malformed annotation: %+v", r)
	}
	foreign := p.image(t, "foreign", "")
	p.sign(t, foreign, newIdentity("other"), Options{})
	signature := p.only(t, foreign).Descriptor.Digest
	p.server.Reset()
	p.sign(t, foreign, id, Options{})
	if n := p.server.Count(func(r regtest.Request) bool { return strings.HasSuffix(r.Path, signature.String()) }); n != 0 {
		t.Errorf("a foreign signature was read %d times", n)
	}
}

// A hostile referrer that cannot be read never keeps anything from being signed; one that the registry does not give now does.
func TestAlreadySignedUnreadable(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	id := newIdentity("release")
	subject := p.image(t, "app", "")
	p.sign(t, subject, id, Options{})
	signature := p.only(t, subject).Descriptor.Digest
	p.server.Intercept(status(403, "GET", "/manifests/"+signature.String()))
	if _, err := p.trySign(t.Context(), subject, id, Options{}); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("error %v", err)
	}
	p.server.Intercept(status(404, "GET", "/manifests/"+signature.String()))
	if r := p.sign(t, subject, id, Options{Now: time.Now().Add(time.Minute)}); r.Written != 1 {
		t.Errorf("beside a ghost: %+v", r)
	}
}

func TestSignRecursive(t *testing.T) {
	t.Parallel()
	inEachPlace(t, func(t *testing.T, p place) {
		id := newIdentity("release")
		index, amd64, arm64 := p.index(t, "app", "1.0")
		sbom := p.attach(t, amd64, "application/spdx+json", "sbom")
		scan := p.attach(t, sbom, "application/sarif+json", "scan of the sbom")
		notes := p.attach(t, index, "text/markdown", "notes")
		p.sign(t, arm64, newIdentity("somebody else"), Options{})

		o := Options{Tag: "1.0", Recursive: true}
		r := p.sign(t, index, id, o)
		type line struct {
			What   string
			Digest digest.Digest
			Claims []string
		}
		var got []line
		for _, s := range r.Signatures {
			got = append(got, line{s.What, s.Subject.Digest, s.Claims})
			if s.Status != StatusNew {
				t.Errorf("%s is %s", s.What, s.Status)
			}
		}
		want := []line{
			{"index, 2 platforms", index.Descriptor.Digest, []string{"1.0"}},
			{"linux/amd64", amd64.Descriptor.Digest, nil},
			{"linux/arm64", arm64.Descriptor.Digest, nil},
			{"text/markdown", notes.Descriptor.Digest, nil},
			{"application/spdx+json of linux/amd64", sbom.Descriptor.Digest, nil},
			{"application/sarif+json of application/spdx+json of linux/amd64", scan.Descriptor.Digest, nil},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if r.Written != 6 || r.KeyCalls != 6 || r.There != 0 {
			t.Errorf("written %d, there %d, key calls %d", r.Written, r.There, r.KeyCalls)
		}
		for i, m := range []registry.Manifest{index, amd64, arm64, notes, sbom, scan} {
			c := p.found(t, m)[r.Signatures[i].Signature]
			claims, present, err := c.Payload.Claims()
			if i == 0 && !slices.Equal(claims, []string{"1.0"}) || i > 0 && len(claims) > 0 || !present || err != nil || c.Payload.Digest != m.Descriptor.Digest {
				t.Errorf("%s signs %s and claims %q, %v, %v", r.Signatures[i].What, c.Payload.Digest, claims, present, err)
			}
		}
		if c := p.found(t, amd64)[r.Signatures[1].Signature]; c.Payload.Annotations[envelope.ClaimsAnnotation] != "[]" {
			t.Errorf("the child's claims are %q", c.Payload.Annotations[envelope.ClaimsAnnotation])
		}

		if p.server != nil {
			p.server.Reset()
		}
		again := p.sign(t, index, id, o)
		// Each manifest is listed once and read once, and so is our own signature of each.
		if kind := regtest.WithAPI; p.server != nil && p.server.Kind == kind && p.server.Count(nil) > 6+5+6 {
			t.Errorf("%d requests", p.server.Count(nil))
		}
		if again.Written != 0 || again.There != 6 || again.KeyCalls != 0 {
			t.Errorf("second run: written %d, there %d, key calls %d", again.Written, again.There, again.KeyCalls)
		}
		p.attach(t, arm64, "application/spdx+json", "a later sbom")
		later := p.sign(t, index, id, o)
		if later.Written != 1 || later.There != 6 || later.KeyCalls != 1 {
			t.Errorf("with one more: written %d, there %d, key calls %d", later.Written, later.There, later.KeyCalls)
		}
	})
}

func TestSignRecursiveWithoutClaims(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	index, amd64, _ := p.index(t, "app", "1.0")
	r := p.sign(t, index, newIdentity("release"), Options{Tag: "1.0", Recursive: true, NoClaims: true})
	for i, m := range []registry.Manifest{index, amd64} {
		if c := p.found(t, m)[r.Signatures[i].Signature]; len(c.Payload.Annotations) > 0 {
			t.Errorf("%s: %v", r.Signatures[i].What, c.Payload.Annotations)
		}
	}
	// Without any tag or claim the root has none either, but what is below it must not pass for a release.
	index, amd64, _ = p.index(t, "by digest", "")
	r = p.sign(t, index, newIdentity("release"), Options{Recursive: true})
	if c := p.found(t, index)[r.Signatures[0].Signature]; len(c.Payload.Annotations) > 0 {
		t.Errorf("root: %v", c.Payload.Annotations)
	}
	if c := p.found(t, amd64)[r.Signatures[1].Signature]; c.Payload.Annotations[envelope.ClaimsAnnotation] != "[]" {
		t.Errorf("child: %v", c.Payload.Annotations)
	}
}

// Who finds the root signed finds all of it signed: the root is last, and not at all if something below it fails.
func TestSignRecursiveRootLast(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	p := remote(t, s)
	id := newIdentity("release")
	index, amd64, arm64 := p.index(t, "app", "1.0")
	key := &failingKey{Signer: kmstest.Key(id.key), after: 1}
	r, err := Sign(t.Context(), p.Repo, index, key, id.chain, Options{Tag: "1.0", Recursive: true, Now: time.Now()})
	if !errors.Is(err, errKey) {
		t.Fatalf("error %v", err)
	}
	if r.Written != 1 || r.Signatures[0].Status != StatusPlanned || len(p.found(t, index)) != 0 || len(p.found(t, amd64))+len(p.found(t, arm64)) != 1 {
		t.Errorf("result %+v", r)
	}
	r = p.sign(t, index, id, Options{Tag: "1.0", Recursive: true})
	if r.Written != 2 || r.There != 1 {
		t.Errorf("second run: written %d, there %d", r.Written, r.There)
	}
	s.Reset()
	index, _, _ = p.index(t, "another", "2.0")
	s.Reset()
	r = p.sign(t, index, id, Options{Tag: "2.0", Recursive: true})
	var puts []string
	for _, q := range s.Requests() {
		if q.Method == http.MethodPut && strings.Contains(q.Path, "/manifests/") {
			puts = append(puts, q.Path)
		}
	}
	if len(puts) != 3 || !strings.HasSuffix(puts[2], r.Signatures[0].Signature.String()) {
		t.Errorf("manifests were put in this order: %q; the root's is %s", puts, r.Signatures[0].Signature)
	}
}

func TestSignRecursiveSkipsMalformedReferrers(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	subject := p.image(t, "app", "1.0")
	bad := p.attachRaw(t, subject, `{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageManifest+`","artifactType":"text/x","artifactType":"text/y",`+
		`"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[],`+
		`"subject":{"mediaType":"`+ocispec.MediaTypeImageManifest+`","digest":"`+subject.Descriptor.Digest.String()+`","size":1}}`)
	r := p.sign(t, subject, newIdentity("release"), Options{Tag: "1.0", Recursive: true})
	if r.Written != 1 || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], bad.Descriptor.Digest.String()) {
		t.Errorf("written %d, warnings %q", r.Written, r.Warnings)
	}
}

// A12: an index with a child that different parsers read differently is not signed as a whole, nor is anything else of it.
func TestA12SignRecursiveAmbiguousChild(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	good := p.image(t, "good", "")
	bad := p.push(t, registry.NewManifest(ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageManifest+`","config":{"mediaType":"application/vnd.oci.empty.v1+json",`+
		`"digest":"`+p.blob(t, ocispec.MediaTypeEmptyJSON, "{}").Digest.String()+`","size":2},"layers":[],"layers":[]}`)), "")
	b, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{good.Descriptor, bad.Descriptor}})
	must(t, err)
	index := p.push(t, registry.NewManifest(ocispec.MediaTypeImageIndex, b), "1.0")
	r, err := p.trySign(t.Context(), index, newIdentity("release"), Options{Tag: "1.0", Recursive: true})
	wantReason(t, err, "ambiguous-manifest", registry.ErrAmbiguous)
	if r.KeyCalls != 0 || len(p.found(t, good)) != 0 {
		t.Errorf("%d key calls, %d signatures", r.KeyCalls, len(p.found(t, good)))
	}
}

func (p place) attachRaw(t testing.TB, subject registry.Manifest, body string) registry.Manifest {
	t.Helper()
	p.blob(t, ocispec.MediaTypeEmptyJSON, "{}")
	m := registry.NewManifest(ocispec.MediaTypeImageManifest, []byte(body))
	must(t, p.Attach(t.Context(), subject.Descriptor, m))
	return m
}

// The budget of the issue: with the referrers API, without authentication, beside a foreign signature. The GET of the
// tag is the caller's.
func TestSignRequestBudget(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind     regtest.Kind
		requests int
		trips    int
		claims   []string
	}{
		{regtest.WithAPI, 9, 4, nil},
		{regtest.WithAPI, 9, 4, []string{"free"}},
		{regtest.WithoutAPI, 0, 0, nil}, // 4 more, and the settling; counted below
	} {
		s := regtest.New(t, c.kind)
		p := remote(t, s)
		p.image(t, "app", "1.0")
		subject, err := p.Resolve(t.Context(), p.ref.With("1.0", ""))
		must(t, err)
		p.sign(t, subject, newIdentity("other"), Options{})

		id := newIdentity("release")
		fresh := remote(t, s)
		s.Reset()
		s.Latency(60 * time.Millisecond)
		subject, err = fresh.Resolve(t.Context(), fresh.ref.With("1.0", ""))
		must(t, err)
		fresh.sign(t, subject, id, Options{Tag: "1.0", Claims: c.claims})
		s.Latency(0)
		var list []string
		for _, r := range s.Requests() {
			list = append(list, r.Method+" "+r.Path)
		}
		t.Logf("%s: %d requests, %d in a row:\n%s", c.kind, len(list), s.RoundTrips(), strings.Join(list, "\n"))
		if c.kind == regtest.WithoutAPI {
			// Besides the nine: two uploads take two requests each, the list is asked for twice; then the index is
			// read, written, read, and read again once it has settled.
			if len(list) > 9+4+1 {
				t.Errorf("%d requests", len(list))
			}
			continue
		}
		if len(list) > c.requests || s.RoundTrips() > c.trips {
			t.Errorf("%s: %d requests of %d, %d in a row of %d", c.kind, len(list), c.requests, s.RoundTrips(), c.trips)
		}
	}
}
