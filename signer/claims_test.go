package signer

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

func TestA17CanonicalClaims(t *testing.T) {
	t.Parallel()
	got, err := CanonicalClaims([]string{"v2", "1.4", "v2"}, []string{"Registry.Example:443/app:1.4", "index.docker.io/library/app", "registry.example/app:1.4"})
	must(t, err)
	want := []string{"1.4", "docker.io/library/app", "registry.example/app:1.4", "v2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, err := CanonicalClaims(nil, nil); err != nil || got == nil || len(got) != 0 {
		t.Errorf("of nothing: %#v, %v", got, err)
	}
	for _, tag := range []string{"", "../x", "a b", "-a", ".a", strings.Repeat("x", 129), "registry.example/app:1.4", "a:b", "a@b", "ä", "a\n"} {
		_, err := CanonicalClaims([]string{tag}, nil)
		wantReason(t, err, "claim-invalid", ErrClaim)
	}
	for _, name := range []string{"", "app", "app:1.4", "registry.example/App:1", "registry.example/../app:1", "https://registry.example/app", "registry.example/app:a b", "docker.io/alpine",
		"registry.example/app@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "oci:app:1"} {
		if _, err := CanonicalClaims(nil, []string{name}); err == nil {
			t.Errorf("%q is a name", name)
		} else {
			wantReason(t, err, "claim-invalid", ErrClaim)
		}
	}
}

func TestA17InvalidClaimsAreNotSigned(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	subject := p.image(t, "app", "1.0")
	id := newIdentity("release")
	for name, o := range map[string]Options{
		"bad tag":             {Claims: []string{"a b"}},
		"bad name":            {Claims: []string{"registry.example/App"}},
		"claims and none":     {Claims: []string{"1.0"}, NoClaims: true},
		"malformed --move":    {Tag: "1.0", Move: []string{"[a"}},
		"more than 64 KiB":    {Claims: manyTags()},
		"tag by which, a NUL": {Tag: "1\x00"},
	} {
		p.server.Reset()
		_, err := p.trySign(t.Context(), subject, id, o)
		if !errors.Is(err, ErrClaim) || p.server.Count(nil) != 0 {
			t.Errorf("%s: %v, %d requests", name, err, p.server.Count(nil))
		}
	}
}

func manyTags() []string {
	var tags []string
	for i := range 600 {
		tags = append(tags, strings.Repeat("x", 120)+string(rune('a'+i%26))+string(rune('a'+i/26)))
	}
	return tags
}

func TestA21ClaimMoves(t *testing.T) {
	t.Parallel()
	inEachPlace(t, func(t *testing.T, p place) {
		id := newIdentity("release")
		renewed := id // the same subject with another key: the same signer to those who judge
		renewed.key = certtest.Key("P-256")
		renewed.chain = id.ca.Chain(id.ca.Leaf(renewed.key.Public(), "release"))
		old, newer := p.image(t, "old", "1.4"), p.image(t, "newer", "new")
		p.sign(t, old, id, Options{Tag: "1.4", Claims: []string{"1.4-alpine"}})
		here := p.ref.String()

		for name, c := range map[string]struct {
			id      identity
			o       Options
			refused bool
		}{
			"claimed by the same signer":          {id, Options{Claims: []string{"1.4"}}, true},
			"by the same signer's next key":       {renewed, Options{Claims: []string{"1.4"}}, true},
			"among others":                        {id, Options{Tag: "new", Claims: []string{"1.4", "free"}}, true},
			"dry run":                             {id, Options{Claims: []string{"1.4"}, DryRun: true}, true},
			"another pattern may move":            {id, Options{Claims: []string{"1.4"}, Move: []string{"1.5*", "4"}}, true},
			"--again grants nothing":              {id, Options{Claims: []string{"1.4"}, Again: true}, true},
			"by another signer":                   {newIdentity("other"), Options{Claims: []string{"1.4"}}, false},
			"a tag that does not exist":           {id, Options{Claims: []string{"free"}}, false},
			"claimed there, but no tag names it":  {id, Options{Claims: []string{"1.4-alpine"}}, false},
			"--move":                              {id, Options{Claims: []string{"1.4"}, Move: []string{"1.4"}}, false},
			"--move by a glob":                    {id, Options{Claims: []string{"1.4"}, Move: []string{"x", "1.*"}}, false},
			"no claims at all":                    {id, Options{Tag: "new", NoClaims: true}, false},
			"another repository of the same name": {id, Options{Claims: []string{"elsewhere.example/team/app:1.4"}}, false},
			"a name without a tag":                {id, Options{Claims: []string{"elsewhere.example/team/app"}}, false},
		} {
			before := len(p.found(t, newer))
			r, err := p.trySign(t.Context(), newer, c.id, c.o)
			if c.refused {
				if err == nil {
					t.Errorf("%s: signed", name)
					continue
				}
				wantReason(t, err, "claim-moves", ErrClaimMoves)
				if r.KeyCalls != 0 || len(p.found(t, newer)) != before {
					t.Errorf("%s: key used %d times, %d signatures more", name, r.KeyCalls, len(p.found(t, newer))-before)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if p.ref.Kind != registry.Remote {
			return
		}
		qualified := p.image(t, "qualified", "2.0")
		p.sign(t, qualified, id, Options{Claims: []string{here + ":2.0"}})
		_, err := p.trySign(t.Context(), newer, id, Options{Claims: []string{here + ":2.0"}})
		wantReason(t, err, "claim-moves", ErrClaimMoves)
		// Here a bare claim and a qualified one are the same claim.
		_, err = p.trySign(t.Context(), newer, id, Options{Claims: []string{"2.0"}})
		wantReason(t, err, "claim-moves", ErrClaimMoves)
		_, err = p.trySign(t.Context(), newer, id, Options{Claims: []string{here + ":1.4"}})
		wantReason(t, err, "claim-moves", ErrClaimMoves)
		p.sign(t, newer, id, Options{Claims: []string{here + ":2.0"}, Move: []string{"2.0"}})
	})
}

// A21: who holds a claim cannot be told while the signatures cannot be read: that is no leave to sign.
func TestA21UnreadableIsNotFree(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	id := newIdentity("release")
	old, newer := p.image(t, "old", "1.4"), p.image(t, "newer", "new")
	p.sign(t, old, id, Options{Tag: "1.4"})
	signature := p.only(t, old).Descriptor.Digest
	p.server.Intercept(status(403, "GET", "/manifests/"+signature.String()))
	r, err := p.trySign(t.Context(), newer, id, Options{Claims: []string{"1.4"}, Now: time.Now()})
	if !errors.Is(err, registry.ErrUnauthorized) || r.KeyCalls != 0 {
		t.Errorf("error %v, %d key calls", err, r.KeyCalls)
	}
}

// A layout that is known by full names holds its tags under them.
func TestA21LayoutOfFullNames(t *testing.T) {
	t.Parallel()
	ref := registry.Reference{Kind: registry.Layout, Path: t.TempDir() + "/layout"}
	repo, err := client(t).Create(t.Context(), ref, registry.CreateOptions{})
	must(t, err)
	p := place{Repo: repo, ref: ref}
	id := newIdentity("release")
	old, newer := p.image(t, "old", "harbor.example/db:16.4"), p.image(t, "newer", "harbor.example/db:16.5")
	r := p.sign(t, old, id, Options{Tag: "harbor.example/db:16.4"})
	if diff := cmp.Diff([]string{"16.4"}, r.Claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	for _, claim := range []string{"16.4"} {
		_, err = p.trySign(t.Context(), newer, id, Options{Tag: "harbor.example/db:16.5", Claims: []string{claim}})
		wantReason(t, err, "claim-moves", ErrClaimMoves)
	}
	p.sign(t, newer, id, Options{Tag: "harbor.example/db:16.5"})
}
