package signer

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// TestCheckBeforeTheSubjectIsThere: who holds the claims is found out of a subject that is nowhere yet.
func TestCheckBeforeTheSubjectIsThere(t *testing.T) {
	t.Parallel()
	inEachPlace(t, func(t *testing.T, p place) {
		id := newIdentity("release")
		held := p.image(t, "old", "1.0")
		p.sign(t, held, id, Options{Tag: "1.0"})
		coming := registry.NewManifest(held.Descriptor.MediaType, append(slices.Clone(held.Bytes), ' '))
		check := func(o Options) error {
			o.Now = time.Now()
			return Check(t.Context(), p.Repo, coming, kmstest.Key(id.key), id.chain, o)
		}
		wantReason(t, check(Options{Claims: []string{"1.0"}}), "claim-moves", ErrClaimMoves)
		must(t, check(Options{Claims: []string{"1.0"}, Move: []string{"1.*"}}))
		must(t, check(Options{Tag: "1.1", Tags: []string{"1.0"}})) // the caller has looked
		must(t, check(Options{Claims: []string{"1.1"}}))
		wantReason(t, check(Options{Claims: []string{"not a tag"}}), "claim-invalid", ErrClaim)
		wantReason(t, Check(t.Context(), p.Repo, coming, kmstest.Key(id.key), id.chain, Options{Now: time.Now().AddDate(90, 0, 0)}), "clock", ErrClock)
		if got, err := p.HasManifest(t.Context(), coming.Descriptor); err != nil || got {
			t.Errorf("the subject came to be there: %t, %v", got, err)
		}
	})
}

// TestSignAlso: what is named beside the subject is signed too, once, and claims nothing; the tags are claimed by the subject.
func TestSignAlso(t *testing.T) {
	t.Parallel()
	inEachPlace(t, func(t *testing.T, p place) {
		id := newIdentity("release")
		image := p.image(t, "one", "")
		sbom := p.attach(t, image, "application/spdx+json", "what is in it")
		other := p.attach(t, image, "application/vnd.example", "not asked for")
		o := Options{Tag: "1.0", Tags: []string{"latest"}, Claims: []string{"1"}, Also: []registry.Manifest{sbom, sbom, image}, ReadBack: true}
		r := p.sign(t, image, id, o)
		if r.Written != 2 || r.Signatures[1].What != "application/spdx+json" || !slices.Equal(r.Claims, []string{"1", "1.0", "latest"}) {
			t.Errorf("%+v", r)
		}
		for subject, want := range map[digest.Digest][]string{image.Descriptor.Digest: {"1", "1.0", "latest"}, sbom.Descriptor.Digest: {}} {
			for _, m := range []registry.Manifest{image, sbom} {
				if m.Descriptor.Digest != subject {
					continue
				}
				for d, c := range p.found(t, m) {
					claims, present, err := c.Payload.Claims()
					if err != nil || !present || !slices.Equal(claims, want) {
						t.Errorf("%s claims %q, %t, %v; want %q", d, claims, present, err, want)
					}
				}
			}
		}
		if n := len(p.found(t, other)); n != 0 {
			t.Errorf("%d signatures of what was not named", n)
		}
		if again := p.sign(t, image, id, o); again.Written != 0 || again.There != 2 || again.KeyCalls != 0 {
			t.Errorf("the second time %+v", again)
		}
		// In the graph and named beside it: once.
		if r := p.sign(t, image, id, Options{Tag: "1.0", Tags: o.Tags, Claims: o.Claims, Also: o.Also, Recursive: true}); r.Written != 1 || r.There != 2 {
			t.Errorf("recursively %+v", r)
		}
	})
}

// TestReadBack: what the registry takes well and then does not give, or gives otherwise, is not said to be signed.
func TestReadBack(t *testing.T) {
	t.Parallel()
	id := newIdentity("release")
	for name, c := range map[string]struct {
		is     func(r *http.Request) bool
		answer func(w http.ResponseWriter)
		times  int64
		reason string
	}{
		"not there for a while": {isSignature, func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }, 2, ""},
		"never there":           {isSignature, func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }, 1 << 30, registry.CodeUnsettled},
		"forbidden":             {isSignature, func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) }, 1 << 30, "forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := remote(t, regtest.New(t, regtest.WithAPI))
			image := p.image(t, "one", "1.0")
			var left atomic.Int64
			left.Store(c.times)
			var written atomic.Bool
			p.server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
					written.Store(true)
				}
				if !written.Load() || !c.is(r) || left.Add(-1) < 0 {
					return false
				}
				c.answer(w)
				return true
			})
			r, err := p.trySign(t.Context(), image, id, Options{Tag: "1.0", ReadBack: true})
			if c.reason == "" {
				must(t, err)
				return
			}
			wantReason(t, err, c.reason, nil)
			if r.Written != 1 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// isSignature: a look at a manifest by its digest.
func isSignature(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/sha256:")
}

// TestReadBackAnother: a signature that says something else than was to be signed is none of ours, though it verifies.
func TestReadBackAnother(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	id := newIdentity("release")
	image := p.image(t, "one", "1.0")
	s := newSigning(p.Repo, image, kmstest.Key(id.key), Options{Tag: "1.0", ReadBack: true, Now: time.Now()})
	must(t, s.prepare(id.chain))
	must(t, s.run(t.Context()))
	must(t, s.compare(t.Context(), s.targets[0]))

	claims := s.claims
	s.claims = []string{"2.0"}
	if err := s.compare(t.Context(), s.targets[0]); !errors.Is(err, errNotYet) {
		t.Errorf("claims differ: %v", err)
	}
	s.claims = claims
	other := s.targets[0]
	other.content = envelope.Content{}
	if err := s.compare(t.Context(), other); !errors.Is(err, errNotYet) {
		t.Errorf("the core id differs: %v", err)
	}
}

// A servedKey is at a service.
type servedKey struct{ *spyKey }

func (servedKey) Describe() kms.Description { return kms.Description{Service: "test KMS"} }

// TestF30ProbeBeforeTheKey: a registry that takes no writes costs no call of a key service; one of a key in a file costs nothing.
func TestF30ProbeBeforeTheKey(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		p := remote(t, regtest.New(t, kind))
		id := newIdentity("release")
		image := p.image(t, "one", "1.0")
		key := servedKey{&spyKey{Signer: id.key}}
		readOnly := func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodGet || r.Method == http.MethodHead {
				return false
			}
			w.WriteHeader(http.StatusMethodNotAllowed)
			return true
		}
		p = remote(t, p.server) // a client that has written nothing yet
		p.server.Intercept(readOnly)
		_, err := Sign(t.Context(), p.Repo, image, key, id.chain, Options{Tag: "1.0", Now: time.Now()})
		if err == nil || key.used.Load() != 0 {
			t.Errorf("%s: %v after %d calls", kind, err, key.used.Load())
		}
		if _, err := Sign(t.Context(), p.Repo, image, key, id.chain, Options{Tag: "1.0", Now: time.Now(), DryRun: true}); err != nil {
			t.Errorf("%s: a dry run writes: %v", kind, err)
		}
		p.server.Intercept(nil)
		_, err = Sign(t.Context(), p.Repo, image, key, id.chain, Options{Tag: "1.0", Now: time.Now()})
		must(t, err)
		p = remote(t, p.server)
		p.server.Intercept(readOnly)
		r, err := Sign(t.Context(), p.Repo, image, key, id.chain, Options{Tag: "1.0", Now: time.Now()})
		if err != nil || r.There != 1 || key.used.Load() != 1 {
			t.Errorf("%s: signed already, and %v; %+v", kind, err, r)
		}
	}
}

// TestReadBackEach: every signature is read back, not the first alone, and one that is stored and not listed is not there.
func TestReadBackEach(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	id := newIdentity("release")
	image := p.image(t, "one", "1.0")
	sbom := p.attach(t, image, "application/spdx+json", "what is in it")
	var written atomic.Bool
	p.server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			written.Store(true)
		}
		if !written.Load() || !strings.HasSuffix(r.URL.Path, "/referrers/"+sbom.Descriptor.Digest.String()) {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	r, err := p.trySign(t.Context(), image, id, Options{Tag: "1.0", Also: []registry.Manifest{sbom}, ReadBack: true})
	if err == nil || r.Written != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	wantReason(t, err, "forbidden", nil)
}

// TestReadBackOfNoClaims: a signature that claims nothing, and says so, is another than one that leaves it open.
func TestReadBackOfNoClaims(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	id := newIdentity("release")
	image := p.image(t, "one", "1.0")
	sbom := p.attach(t, image, "application/spdx+json", "what is in it")
	s := newSigning(p.Repo, image, kmstest.Key(id.key), Options{Tag: "1.0", Also: []registry.Manifest{sbom}, ReadBack: true, Now: time.Now()})
	must(t, s.prepare(id.chain))
	must(t, s.run(t.Context()))
	must(t, s.compare(t.Context(), s.targets[1]))
	s.o.NoClaims = true
	if err := s.compare(t.Context(), s.targets[1]); !errors.Is(err, errNotYet) {
		t.Errorf("claims are open: %v", err)
	}
}
