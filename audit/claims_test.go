package audit

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// TestAuditClaims: tags are held against claims only where a good signature of the repository claims any, and never against what
// another signer claims.
func TestAuditClaims(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Second)
	key, chain := certtest.ChainOf(3, "P-256")
	strangersKey, strange := certtest.ChainOf(3, "P-256") // of the same names, under another root
	type signature struct {
		on, of int // the artifact at which it is listed, and the one that it signs
		tags   []string
		ago    time.Duration
		theirs bool
	}
	for name, c := range map[string]struct {
		signed []signature // of an artifact tagged 1.0 and one tagged 2.0
		uses   bool
		want   []string
	}{
		"nobody claims anything": {[]signature{{0, 0, nil, 2, false}, {1, 1, nil, 1, false}}, false, nil},
		"only one is claimed": {[]signature{{0, 0, []string{"1.0"}, 2, false}, {1, 1, nil, 1, false}}, true,
			[]string{`:2.0 tag-unclaimed: TWO claims no tag, not "2.0"`}},
		"by a signature of something else": {[]signature{{0, 0, []string{"1.0"}, 2, false}, {1, 1, nil, 1, false}, {1, 0, []string{"2.0"}, 1, false}}, true, []string{
			`:2.0 tag-unclaimed: TWO claims no tag, not "2.0"`,
		}},
		"only by a signature of something else": {[]signature{{0, 0, nil, 2, false}, {1, 1, nil, 1, false}, {1, 0, []string{"2.0"}, 1, false}}, false, nil},
		"by a stranger for another":             {[]signature{{0, 0, []string{"1.0"}, 2, false}, {1, 1, []string{"2.0"}, 2, false}, {1, 1, []string{"1.0"}, 1, true}}, true, nil},
		"by the signer for another, later": {[]signature{{0, 0, []string{"1.0"}, 2, false}, {1, 1, []string{"1.0", "2.0"}, 1, false}}, true,
			[]string{`:1.0 tag-moved-back: 1.0 is at ONE, signed before TWO was for the same tag`}},
		"by the signer for another, earlier": {[]signature{{0, 0, []string{"1.0"}, 1, false}, {1, 1, []string{"1.0", "2.0"}, 2, false}}, true,
			[]string{`:1.0 claimed-twice: 1.0 is claimed for TWO as well`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, regtest.WithAPI)
			images := []registry.Manifest{p.image(t, "one"), p.image(t, "two")}
			for i, tag := range []string{"1.0", "2.0"} {
				must(t, p.Tag(t.Context(), images[i], tag))
			}
			for _, s := range c.signed {
				annotations := map[string]string{}
				if s.tags != nil {
					annotations[envelope.ClaimsAnnotation] = envelope.EncodeClaims(s.tags)
				}
				by, with := key, chain
				if s.theirs {
					by, with = strangersKey, strange
				}
				o := envelope.Options{SigningTime: now.Add(-s.ago * time.Minute)}
				p.attachEnvelope(t, images[s.on], envelope.JWS, sign(t, envelope.JWS, payloadOf(images[s.of], annotations), by, with, o).Bytes())
			}
			a := New(Options{Now: now})
			part, err := a.Repository(t.Context(), p.Repo)
			must(t, err)
			r := a.Report([]Surveyed{part})
			var got []string
			for i, a := range r.Artifacts { // of claims alone
				var kept []Finding
				for _, f := range a.Findings {
					switch f.Code {
					case codeUnclaimed, codeMovedBack, codeTwice:
						kept = append(kept, f)
					}
				}
				r.Artifacts[i].Findings = kept
			}
			got = findingsIn(r, map[string]digest.Digest{"ONE": images[0].Descriptor.Digest, "TWO": images[1].Descriptor.Digest})
			if diff := cmp.Diff(c.want, got); diff != "" || r.Repositories[0].Claims != c.uses {
				t.Errorf("it uses claims: %t, findings (-want +got):\n%s", r.Repositories[0].Claims, diff)
			}
		})
	}
}
