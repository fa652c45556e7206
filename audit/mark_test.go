package audit

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/registry"
)

// A clock counts in days from the time of the audit.
var auditTime = time.Date(2026, 11, 22, 8, 41, 0, 0, time.UTC)

func in(days int) time.Time { return auditTime.AddDate(0, 0, days) }

func valid(from, to int) certtest.Edit { return certtest.Valid(in(from), in(to)) }

var markSubject = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("app"), Size: 3}

// A house of certificates for the tests below: one root, intermediates that end at different times, and a stranger's root.
type house struct {
	root, stranger *certtest.Authority
	ca             *certtest.Authority // ends in 42 days
	key            crypto.Signer
	leaf           *x509.Certificate // ends in 300 days
	tsa, newTSA    *tsatest.Authority
	strangeTSA     *tsatest.Authority
}

func newHouse() house {
	h := house{root: certtest.Root("root", valid(-1000, 3000)), stranger: certtest.Root("root", valid(-1000, 3000)), key: certtest.Key("P-256")}
	h.ca = h.root.Intermediate("ca", valid(-400, 42))
	h.leaf = h.ca.Leaf(h.key.Public(), "release", valid(-300, 300))
	tsaRoot := certtest.Root("tsa root", valid(-1000, 3000))
	tsaCA := tsaRoot.Intermediate("tsa ca", valid(-1000, 3000))
	h.tsa = tsatest.New(tsatest.Options{Root: tsaRoot, CA: tsaCA, Edits: []certtest.Edit{valid(-900, 17)}})
	h.newTSA = tsatest.New(tsatest.Options{Root: tsaRoot, CA: tsaCA, Edits: []certtest.Edit{valid(-900, 900)}})
	strangeRoot := certtest.Root("tsa root", valid(-1000, 3000))
	h.strangeTSA = tsatest.New(tsatest.Options{Root: strangeRoot, CA: strangeRoot.Intermediate("tsa ca", valid(-1000, 3000)), Edits: []certtest.Edit{valid(-900, 2000)}})
	return h
}

// renewed is the chain with the intermediate renewed for some days from its start.
func (h house) renewed(from, to int) []*x509.Certificate {
	return h.root.IntermediateWith(h.ca.Key, "ca", valid(from, to)).Chain(h.leaf)
}

func (h house) old() []*x509.Certificate { return h.ca.Chain(h.leaf) }

func (h house) sign(t *testing.T, day int, chain []*x509.Certificate, o envelope.Options, claims ...string) *envelope.Envelope {
	t.Helper()
	o.SigningTime = in(day)
	p := envelope.Payload{MediaType: markSubject.MediaType, Digest: markSubject.Digest, Size: markSubject.Size}
	if claims != nil {
		p.Annotations = map[string]string{envelope.ClaimsAnnotation: envelope.EncodeClaims(claims)}
	}
	return sign(t, envelope.JWS, p, h.key, chain, o)
}

func withChain(t *testing.T, e *envelope.Envelope, chain []*x509.Certificate) *envelope.Envelope {
	t.Helper()
	n, err := e.WithChain(chain)
	must(t, err)
	return n
}

func stamped(t *testing.T, e *envelope.Envelope, a *tsatest.Authority, day int) *envelope.Envelope {
	t.Helper()
	n, err := e.WithTimestamp(a.Token(e.Unverified().Signature, in(day)))
	must(t, err)
	return n
}

// authority makes an envelope of the scheme of signing authorities, which imprint never writes.
func (h house) authority(t *testing.T, at time.Time, chain []*x509.Certificate) *envelope.Envelope {
	t.Helper()
	payload := fmt.Sprintf(`{"targetArtifact":{"mediaType":%q,"digest":%q,"size":%d}}`, markSubject.MediaType, markSubject.Digest, markSubject.Size)
	protected := fmt.Sprintf(`{"alg":"ES256","cty":%q,"crit":["io.cncf.notary.signingScheme","io.cncf.notary.authenticSigningTime"],`+
		`"io.cncf.notary.signingScheme":"notary.x509.signingAuthority","io.cncf.notary.authenticSigningTime":%q}`, envelope.PayloadType, at.Format(time.RFC3339))
	b64 := base64.RawURLEncoding.EncodeToString
	sum := sha256.Sum256([]byte(b64([]byte(protected)) + "." + b64([]byte(payload))))
	r, s, err := ecdsa.Sign(rand.Reader, h.key.(*ecdsa.PrivateKey), sum[:])
	must(t, err)
	raw := make([]byte, 64)
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	var x5c []string
	for _, c := range chain {
		x5c = append(x5c, base64.StdEncoding.EncodeToString(c.Raw))
	}
	b, err := json.Marshal(map[string]any{"payload": b64([]byte(payload)), "protected": b64([]byte(protected)), "header": map[string]any{"x5c": x5c}, "signature": b64(raw)})
	must(t, err)
	e, err := envelope.Parse(string(envelope.JWS), b)
	must(t, err)
	return e
}

// verdicts audits envelopes as those of one artifact; what it says of each is "state until what", and who stands in for it.
func verdicts(t *testing.T, o Options, envelopes ...*envelope.Envelope) []string {
	t.Helper()
	if o.Now.IsZero() {
		o.Now = auditTime
	}
	a := New(o)
	var marks []*mark
	index := map[digest.Digest]int{}
	for i, e := range envelopes {
		m := registry.ByArtifactType.Manifest(markSubject, string(envelope.JWS), e.Bytes(), map[string]string{"n": fmt.Sprint(i)})
		index[m.Descriptor.Digest] = i
		marks = append(marks, a.mark(registry.Signature{
			Subject: markSubject, Descriptor: m.Descriptor, Manifest: m, MediaType: string(envelope.JWS), Envelope: e.Bytes(),
		}, markSubject))
	}
	a.settle(marks)
	var out []string
	for _, m := range marks {
		line := string(m.State)
		if m.State != StateCurrent {
			line += fmt.Sprintf(" by %d", index[m.By])
		}
		if m.Ends == nil {
			line += ", never ends"
		} else {
			line += fmt.Sprintf(", %d %s, %s", int(m.Ends.Sub(auditTime).Hours())/24, m.EndKind, m.Remedy)
		}
		out = append(out, line)
	}
	return out
}

func TestWhatCountsAndWhatEndsIt(t *testing.T) {
	t.Parallel()
	h := newHouse()
	first := h.sign(t, -200, h.old(), envelope.Options{}, "1.4")
	expiring := envelope.Options{Expiry: in(30)}
	trusted := Options{TimestampRoots: h.tsa.Roots()}
	otherCA := h.root.Intermediate("other ca", valid(-400, 1000))
	elsewhere := otherCA.Chain(otherCA.Leaf(h.key.Public(), "release", valid(-300, 500)))
	shortLeaf := h.ca.Leaf(h.key.Public(), "release", valid(-300, 20))
	renamed := h.root.IntermediateWith(h.ca.Key, "ca", valid(-400, 900)).Leaf(h.key.Public(), "another", valid(-300, 800))
	endingRoot := certtest.Root("ending root", valid(-1000, 10))
	single := certtest.SelfSigned(h.key, "alone", valid(-300, 60))
	strange := func(to int) []*x509.Certificate {
		ca := h.stranger.Intermediate("ca", valid(-400, to))
		return ca.Chain(ca.Leaf(h.key.Public(), "release", valid(-300, to)))
	}
	for name, tc := range map[string]struct {
		o    Options
		of   []*envelope.Envelope
		want []string
	}{
		"an intermediate ends first": {of: []*envelope.Envelope{first}, want: []string{"current, 42 intermediate, rechain"}},
		"the leaf ends first":        {of: []*envelope.Envelope{h.sign(t, -200, h.ca.Chain(shortLeaf), envelope.Options{})}, want: []string{"current, 20 leaf, rechain-leaf"}},
		"the root ends first": {
			of:   []*envelope.Envelope{h.sign(t, -200, endingRoot.Chain(endingRoot.Leaf(h.key.Public(), "release", valid(-300, 300))), envelope.Options{})},
			want: []string{"current, 10 root, rechain"},
		},
		"a self-signed certificate":  {of: []*envelope.Envelope{h.sign(t, -200, []*x509.Certificate{single}, envelope.Options{})}, want: []string{"current, 60 leaf, sign"}},
		"its own expiry":             {of: []*envelope.Envelope{h.sign(t, -200, h.old(), expiring)}, want: []string{"current, 30 expiry, sign"}},
		"an expiry beyond the chain": {of: []*envelope.Envelope{h.sign(t, -200, h.old(), envelope.Options{Expiry: in(99)})}, want: []string{"current, 42 intermediate, rechain"}},
		"rechained":                  {of: []*envelope.Envelope{first, withChain(t, first, h.renewed(-400, 200))}, want: []string{"superseded by 1, 42 intermediate, rechain", "current, 200 intermediate, rechain"}},
		"rechained, a leaf under another intermediate of the root": {
			of:   []*envelope.Envelope{first, withChain(t, first, elsewhere)},
			want: []string{"superseded by 1, 42 intermediate, rechain", "current, 500 leaf, rechain-leaf"},
		},
		"a stranger's chain for the same key": {of: []*envelope.Envelope{first, withChain(t, first, strange(2000))}, want: []string{
			"current, 42 intermediate, rechain", "current, 2000 leaf, rechain-leaf",
		}},
		"another name": {of: []*envelope.Envelope{first, withChain(t, first, h.root.IntermediateWith(h.ca.Key, "ca", valid(-400, 900)).Chain(renamed))}, want: []string{
			"current, 42 intermediate, rechain", "current, 800 leaf, rechain-leaf",
		}},
		"signed again":                  {of: []*envelope.Envelope{first, h.sign(t, -10, h.renewed(-400, 200), envelope.Options{}, "1.4")}, want: []string{"replaced by 1, 42 intermediate, rechain", "current, 200 intermediate, rechain"}},
		"signed again with more claims": {of: []*envelope.Envelope{first, h.sign(t, -10, h.renewed(-400, 200), envelope.Options{}, "1.4", "1")}, want: []string{"replaced by 1, 42 intermediate, rechain", "current, 200 intermediate, rechain"}},
		"signed again with other claims": {of: []*envelope.Envelope{first, h.sign(t, -10, h.renewed(-400, 200), envelope.Options{}, "1.5")}, want: []string{
			"current, 42 intermediate, rechain", "current, 200 intermediate, rechain",
		}},
		"signed again without claims": {of: []*envelope.Envelope{first, h.sign(t, -10, h.renewed(-400, 200), envelope.Options{})}, want: []string{
			"current, 42 intermediate, rechain", "current, 200 intermediate, rechain",
		}},
		"signed again before the expiry": {
			of:   []*envelope.Envelope{h.sign(t, -200, h.old(), expiring), h.sign(t, -10, h.old(), envelope.Options{Expiry: in(40)})},
			want: []string{"replaced by 1, 30 expiry, sign", "current, 40 expiry, sign"},
		},
		"signed again, with an earlier expiry": {
			of:   []*envelope.Envelope{first, h.sign(t, -10, h.renewed(-400, 200), expiring, "1.4")},
			want: []string{"current, 42 intermediate, rechain", "replaced by 0, 30 expiry, sign"},
		},
		"signed twice, lasting as long": {
			of:   []*envelope.Envelope{first, h.sign(t, -100, h.old(), envelope.Options{}, "1.4")},
			want: []string{"replaced by 1, 42 intermediate, rechain", "current, 42 intermediate, rechain"},
		},
		"timestamped, the chain has ended": {
			o:  trusted,
			of: []*envelope.Envelope{stamped(t, h.sign(t, -200, h.renewed(-400, -5), envelope.Options{}), h.tsa, -199)}, want: []string{"current, 17 tsa, rechain-timestamp"},
		},
		"timestamped": {of: []*envelope.Envelope{stamped(t, first, h.tsa, -199)}, want: []string{"current, 17 tsa, timestamp"}},
		"timestamped, and the chain has ended": {
			o: Options{Now: in(45)}, of: []*envelope.Envelope{stamped(t, first, h.newTSA, -199)}, want: []string{"current, 42 intermediate, rechain"},
		},
		"the timestamp lies outside the chain": {
			of: []*envelope.Envelope{stamped(t, withChain(t, first, h.renewed(-100, 200)), h.tsa, -199)}, want: []string{"current, 200 intermediate, rechain"},
		},
		"timestamped anew by the same authority": {
			of:   []*envelope.Envelope{stamped(t, first, h.tsa, -199), stamped(t, first, h.newTSA, -1)},
			want: []string{"replaced by 1, 17 tsa, timestamp", "current, 42 intermediate, rechain"},
		},
		"timestamped anew by a stranger": {
			of:   []*envelope.Envelope{stamped(t, first, h.tsa, -199), stamped(t, first, h.strangeTSA, -1)},
			want: []string{"current, 17 tsa, timestamp", "current, 42 intermediate, rechain"},
		},
		"stripped of its timestamp": {
			of:   []*envelope.Envelope{stamped(t, first, h.tsa, -199), first},
			want: []string{"current, 17 tsa, timestamp", "replaced by 0, 42 intermediate, rechain"},
		},
		"rechained past its timestamp": {
			// Who goes by the timestamp still needs the old one; its chain's end is nobody's worry any more.
			of:   []*envelope.Envelope{stamped(t, first, h.tsa, -199), withChain(t, stamped(t, first, h.tsa, -199), h.renewed(-100, 200))},
			want: []string{"current, 17 tsa, timestamp", "current, 200 intermediate, rechain"},
		},
		"roots given: a good timestamp outlives the chain":     {o: trusted, of: []*envelope.Envelope{stamped(t, first, h.newTSA, -199)}, want: []string{"current, 900 tsa, timestamp"}},
		"roots given: a stranger's timestamp is worth nothing": {o: trusted, of: []*envelope.Envelope{stamped(t, first, h.strangeTSA, -199)}, want: []string{"current, 42 intermediate, rechain"}},
		"roots given: no timestamp":                            {o: trusted, of: []*envelope.Envelope{first}, want: []string{"current, 42 intermediate, rechain"}},
		"a signing authority":                                  {of: []*envelope.Envelope{h.authority(t, in(-200), h.old())}, want: []string{"current, never ends"}},
		"prune says what is superseded": {
			o: Options{Superseded: func(sigs []registry.Signature) map[digest.Digest]digest.Digest {
				return map[digest.Digest]digest.Digest{sigs[0].Descriptor.Digest: sigs[1].Descriptor.Digest}
			}},
			of: []*envelope.Envelope{first, withChain(t, first, h.renewed(-400, 200))}, want: []string{"superseded by 1, 42 intermediate, rechain", "current, 200 intermediate, rechain"},
		},
		"prune would keep it": {
			o:  Options{Superseded: func([]registry.Signature) map[digest.Digest]digest.Digest { return nil }},
			of: []*envelope.Envelope{first, withChain(t, first, h.renewed(-400, 200))}, want: []string{"replaced by 1, 42 intermediate, rechain", "current, 200 intermediate, rechain"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := verdicts(t, tc.o, tc.of...)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheSameManifestTwiceOver(t *testing.T) {
	t.Parallel()
	h := newHouse()
	e := h.sign(t, -200, h.old(), envelope.Options{})
	got := verdicts(t, Options{}, e, e, e)
	slices.Sort(got)
	if got[0] != "current, 42 intermediate, rechain" || !strings.HasPrefix(got[1], "duplicate by ") || !strings.HasPrefix(got[2], "duplicate by ") {
		t.Errorf("%q", got)
	}
}

// Whatever copies there are, some current signature lasts as long as the longest of them did: nothing is left out that everybody
// relies on. And a stranger's copies never move when the audit's own signatures end.
func TestNothingThatCountsIsLost(t *testing.T) {
	t.Parallel()
	h := newHouse()
	random := mathrand.New(mathrand.NewPCG(5, 22))
	firsts := []*envelope.Envelope{h.sign(t, -200, h.old(), envelope.Options{}, "1.4"), h.sign(t, -20, h.old(), envelope.Options{Expiry: in(60)}, "1.4")}
	chains := [][]*x509.Certificate{h.old()}
	for range 6 {
		chains = append(chains, h.renewed(-400+random.IntN(300), 10+random.IntN(400)))
	}
	strangers := h.stranger.IntermediateWith(h.ca.Key, "ca", valid(-400, 2500))
	strange := strangers.Chain(strangers.Leaf(h.key.Public(), "release", valid(-300, 2400)))
	for range 60 {
		var set []*envelope.Envelope
		for range 1 + random.IntN(5) {
			e := withChain(t, firsts[random.IntN(len(firsts))], chains[random.IntN(len(chains))])
			if random.IntN(2) == 0 {
				e = stamped(t, e, []*tsatest.Authority{h.tsa, h.newTSA}[random.IntN(2)], -19+random.IntN(15))
			}
			set = append(set, e)
		}
		own := endsOf(t, set)
		for name, end := range longest(t, set) {
			if !slices.ContainsFunc(own, func(e ending) bool { return !e.at.Before(end) }) {
				t.Fatalf("%s: until %s, and what counts ends %v", name, end, own)
			}
		}
		forged := stamped(t, withChain(t, set[0], strange), h.strangeTSA, -19)
		with := endsOf(t, append(slices.Clone(set), forged))
		for _, e := range own {
			if !slices.Contains(with, e) {
				t.Fatalf("a stranger's copy hides that something ends at %s (%s): %v", e.at, e.kind, with)
			}
		}
	}
}

// endsOf returns what ends the signatures that count.
func endsOf(t *testing.T, set []*envelope.Envelope) (out []ending) {
	t.Helper()
	a := New(Options{Now: auditTime})
	var marks []*mark
	for i, e := range set {
		m := registry.ByArtifactType.Manifest(markSubject, string(envelope.JWS), e.Bytes(), map[string]string{"n": fmt.Sprint(i)})
		marks = append(marks, a.mark(registry.Signature{Subject: markSubject, Descriptor: m.Descriptor, Manifest: m, MediaType: string(envelope.JWS), Envelope: e.Bytes()}, markSubject))
	}
	a.settle(marks)
	for _, m := range marks {
		if m.State == StateCurrent {
			for _, e := range m.endings {
				out = append(out, ending{at: e.at, kind: e.kind})
			}
		}
	}
	return out
}

// longest returns until when the longest lasting chain holds, reckoned without the code under test.
func longest(t *testing.T, set []*envelope.Envelope) map[string]time.Time {
	t.Helper()
	out := map[string]time.Time{}
	for _, e := range set {
		c, err := e.Verify()
		must(t, err)
		_, until := c.Chain.HoldsUntil()
		if !c.Expiry.IsZero() && c.Expiry.Before(until) {
			until = c.Expiry
		}
		if until.After(out["chains"]) {
			out["chains"] = until
		}
	}
	return out
}
