package certchain_test

import (
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	now := time.Now()
	until := func(from, to time.Duration) certtest.Edit { return certtest.Valid(now.Add(from), now.Add(to)) }
	rootKey, issuerKey, leafKey := certtest.Key("P-256"), certtest.Key("P-256"), certtest.Key("P-256")
	root := certtest.RootWith(rootKey, "root", until(-100*day, 8000*day))
	rootAgain := certtest.RootWith(rootKey, "root", until(-100*day, 9000*day))
	root2 := certtest.Root("root 2", until(-100*day, 8000*day))
	ca := root.IntermediateWith(issuerKey, "ca", until(-30*day, 30*day))
	renewed := root.IntermediateWith(issuerKey, "ca", until(-20*day, 900*day))
	late := root.IntermediateWith(issuerKey, "ca", until(-time.Hour, 900*day))
	ahead := root.IntermediateWith(issuerKey, "ca", until(5*day, 900*day))
	gone := root.IntermediateWith(issuerKey, "ca", until(-30*day, -day))
	cross := root2.IntermediateWith(issuerKey, "ca", until(-20*day, 900*day))
	twin := certtest.Root("root", until(-100*day, 8000*day))
	twinned := twin.IntermediateWith(issuerKey, "ca", until(-20*day, 900*day))
	rekeyed := root.Intermediate("ca")
	leaf := ca.Leaf(leafKey.Public(), "leaf", until(-10*day, 300*day))
	leafRenewed := ca.Leaf(leafKey.Public(), "leaf", until(-9*day, 400*day))
	leafBelow2 := root2.Intermediate("ca 2").Leaf(leafKey.Public(), "leaf")
	renamed := ca.Leaf(leafKey.Public(), "other name", until(-10*day, 300*day))
	names := ca.Leaf(leafKey.Public(), "leaf", until(-10*day, 300*day), func(c *x509.Certificate) {
		c.URIs = []*url.URL{{Scheme: "https", Host: "ci.example"}}
	})
	another := ca.Leaf(certtest.Key("P-256").Public(), "leaf", until(-10*day, 300*day))
	wrong := ca.Leaf(leafKey.Public(), "leaf", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment })
	short := root.IntermediateWith(issuerKey, "ca", until(-30*day, 5*day))
	one := certtest.SelfSigned(leafKey, "alone", until(-day, 30*day))
	oneAgain := certtest.SelfSigned(leafKey, "alone", until(-day, 300*day))
	type list = []*x509.Certificate
	chain := list{leaf, ca.Certificate, root.Certificate}

	type want struct {
		answer  certchain.Answer
		kinds   []string // of the changes, leaf to root
		kept    []bool   // of the pins
		rechain bool
		from    bool // a countersignature may be older than the new chain
		shorter bool
		broken  string
	}
	for _, tt := range []struct {
		name     string
		old, new list
		want     want
	}{
		{"the same", chain, list{root.Certificate, leaf, ca.Certificate},
			want{answer: certchain.AnswerSame, kinds: []string{"same", "same", "same"}, kept: []bool{true, true}}},
		{"a part of the same", chain, list{ca.Certificate},
			want{answer: certchain.AnswerSame, kinds: []string{"same", "same", "same"}, kept: []bool{true, true}}},
		{"a renewed intermediate alone", chain, list{renewed.Certificate},
			want{answer: certchain.AnswerRechain, kinds: []string{"same", "renewed", "same"}, kept: []bool{false, true}, rechain: true}},
		{"a renewed intermediate, whole chains", chain, list{leaf, renewed.Certificate, root.Certificate},
			want{answer: certchain.AnswerRechain, kinds: []string{"same", "renewed", "same"}, kept: []bool{false, true}, rechain: true}},
		{"a root missing in the old", list{leaf, ca.Certificate}, list{leaf, renewed.Certificate, root.Certificate},
			want{answer: certchain.AnswerRechain, kinds: []string{"same", "renewed", "same"}, kept: []bool{false, true}, rechain: true}},
		{"a root missing in the new", chain, list{leaf, renewed.Certificate},
			want{answer: certchain.AnswerRechain, kinds: []string{"same", "renewed", "same"}, kept: []bool{false, true}, rechain: true}},
		{"one that begins after signing", chain, list{late.Certificate},
			want{answer: certchain.AnswerRechain, kinds: []string{"same", "renewed", "same"}, kept: []bool{false, true}, rechain: true, from: true}},
		{"one that begins in days", chain, list{ahead.Certificate},
			want{answer: certchain.AnswerRechain, kinds: []string{"same", "renewed", "same"}, kept: []bool{false, true}, rechain: true, from: true}},
		{"one that ends sooner", chain, list{short.Certificate},
			want{answer: certchain.AnswerRechain, kinds: []string{"same", "renewed", "same"}, kept: []bool{false, true}, rechain: true, shorter: true}},
		{"one that has ended", chain, list{leaf, gone.Certificate, root.Certificate},
			want{answer: certchain.AnswerUnfit, kinds: []string{"same", "renewed", "same"}, kept: []bool{false, true}, shorter: true, broken: "expired"}},
		{"a renewed leaf", chain, list{leafRenewed, ca.Certificate, root.Certificate},
			want{answer: certchain.AnswerRechain, kinds: []string{"renewed", "same", "same"}, kept: []bool{true, true}, rechain: true, from: true}},
		{"a renewed root of the same key", chain, list{rootAgain.Certificate},
			want{answer: certchain.AnswerTrustFirst, kinds: []string{"same", "same", "renewed"}, kept: []bool{true, false}, rechain: true}},
		{"cross-signed", chain, list{cross.Certificate, root2.Certificate},
			want{answer: certchain.AnswerTrustFirst, kinds: []string{"same", "cross-signed", "replaced"}, kept: []bool{false, false}, rechain: true}},
		{"cross-signed by a root of the same name", chain, list{twinned.Certificate, twin.Certificate},
			want{answer: certchain.AnswerTrustFirst, kinds: []string{"same", "cross-signed", "rekeyed"}, kept: []bool{false, false}, rechain: true}},
		{"re-issued below another root", chain, certtestChain(root2, leafBelow2),
			want{answer: certchain.AnswerUnfit, kinds: []string{"reissued", "gone", "gone"}, kept: []bool{false, false}, broken: "incomplete"}},
		{"another name for the same key", chain, list{renamed, ca.Certificate, root.Certificate},
			want{answer: certchain.AnswerTrustFirst, kinds: []string{"renamed", "same", "same"}, kept: []bool{true, true}, rechain: true}},
		{"other alternative names", chain, list{names, ca.Certificate, root.Certificate},
			want{answer: certchain.AnswerTrustFirst, kinds: []string{"renewed", "same", "same"}, kept: []bool{true, true}, rechain: true}},
		{"another key", chain, list{another, ca.Certificate, root.Certificate},
			want{answer: certchain.AnswerSignAgain, kinds: []string{"rekeyed", "same", "same"}, kept: []bool{true, true}}},
		{"another key, and no good chain", chain, list{another, gone.Certificate, root.Certificate},
			want{answer: certchain.AnswerSignAgain, kinds: []string{"rekeyed", "renewed", "same"}, kept: []bool{false, true}, shorter: true, broken: "expired"}},
		{"a leaf with wrong usages", chain, list{wrong, ca.Certificate, root.Certificate},
			want{answer: certchain.AnswerUnfit, kinds: []string{"renewed", "same", "same"}, kept: []bool{true, true}, broken: "leaf-key-usage"}},
		{"an intermediate of another key", chain, list{rekeyed.Certificate, root.Certificate},
			want{answer: certchain.AnswerReissue, kinds: []string{"gone", "rekeyed", "same"}, kept: []bool{false, true}}},
		{"authorities alone, renewed", list{ca.Certificate}, list{renewed.Certificate},
			want{answer: certchain.AnswerRechain, kinds: []string{"renewed"}, kept: []bool{false}}},
		{"authorities alone, one that has ended", list{ca.Certificate}, list{gone.Certificate},
			want{answer: certchain.AnswerUnfit, kinds: []string{"renewed"}, kept: []bool{false}, shorter: true, broken: "expired"}},
		{"authorities alone, cross-signed", list{ca.Certificate, root.Certificate}, list{cross.Certificate, root2.Certificate},
			want{answer: certchain.AnswerTrustFirst, kinds: []string{"cross-signed", "replaced"}, kept: []bool{false, false}}},
		{"authorities alone, another key", list{ca.Certificate, root.Certificate}, list{rekeyed.Certificate, root.Certificate},
			want{answer: certchain.AnswerReissue, kinds: []string{"rekeyed", "same"}, kept: []bool{false, true}}},
		{"old and new in one file", chain, list{leaf, ca.Certificate, renewed.Certificate, root.Certificate},
			want{answer: certchain.AnswerRechain, kinds: []string{"same", "renewed", "same"}, kept: []bool{false, true}, rechain: true}},
		{"self-signed leaves", list{one}, list{oneAgain},
			want{answer: certchain.AnswerTrustFirst, kinds: []string{"renewed"}, kept: []bool{false}, rechain: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := certchain.Compare(tt.old, tt.new, now)
			if err != nil {
				t.Fatal(err)
			}
			got := want{answer: c.Answer, rechain: c.Rechain, from: c.CountersignedFrom != nil, shorter: c.Shorter, broken: rule(c.Broken)}
			for _, ch := range c.Changes {
				got.kinds = append(got.kinds, ch.Kind)
			}
			for _, p := range c.Pins {
				got.kept = append(got.kept, p.Kept)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if c.Rechain && c.CountersignedFrom != nil && !c.CountersignedFrom.Equal(c.New.HoldsFrom) {
				t.Errorf("countersigned from %v, the new chain begins %v", c.CountersignedFrom, c.New.HoldsFrom)
			}
			for range 5 { // the order of certificates in files says nothing
				old, new := slices.Clone(tt.old), slices.Clone(tt.new)
				rand.Shuffle(len(old), func(i, j int) { old[i], old[j] = old[j], old[i] })
				rand.Shuffle(len(new), func(i, j int) { new[i], new[j] = new[j], new[i] })
				again, err := certchain.Compare(old, new, now)
				if err != nil {
					t.Fatal(err)
				}
				again.Broken, c.Broken = nil, nil
				if diff := cmp.Diff(c, again); diff != "" {
					t.Fatalf("in another order:\n%s", diff)
				}
			}
		})
	}
}

// certtestChain is a leaf and a root that has not issued it.
func certtestChain(root *certtest.Authority, leaf *x509.Certificate) []*x509.Certificate {
	return []*x509.Certificate{leaf, root.Certificate}
}

func rule(err error) string {
	var e *certchain.RuleError
	if errors.As(err, &e) {
		return e.Rule
	}
	return ""
}

func TestCompareRefuses(t *testing.T) {
	t.Parallel()
	root := certtest.Root("root")
	a, b := root.Leaf(certtest.Key("P-256").Public(), "a"), root.Leaf(certtest.Key("P-256").Public(), "b")
	good := []*x509.Certificate{a, root.Certificate}
	for _, tt := range []struct {
		name     string
		old, new []*x509.Certificate
		rule     string
	}{
		{"two leaves", []*x509.Certificate{a, b, root.Certificate}, good, "unrelated"},
		{"two leaves in the new", good, []*x509.Certificate{a, b, root.Certificate}, "unrelated"},
		{"two authorities", good, []*x509.Certificate{root.Certificate, certtest.Root("other").Certificate}, "unrelated"},
		{"none", nil, good, "no-certificates"},
		{"nil", good, []*x509.Certificate{nil}, "no-certificates"},
	} {
		if _, err := certchain.Compare(tt.old, tt.new, time.Now()); rule(err) != tt.rule {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.rule)
		}
	}
}

func TestSameName(t *testing.T) {
	t.Parallel()
	name := func(rdns ...[]byte) []byte { return tlv(0x30, rdns...) }
	oids := map[string][]byte{"C": {0x55, 4, 6}, "O": {0x55, 4, 10}, "OU": {0x55, 4, 11}, "CN": {0x55, 4, 3}}
	pair := func(typ string, tag byte, value string) []byte {
		return tlv(0x30, tlv(0x06, oids[typ]), tlv(tag, []byte(value)))
	}
	rdn := func(pairs ...[]byte) []byte { return tlv(0x31, pairs...) }
	const utf8, printable, ia5, t61, bmp = 12, 19, 22, 20, 30
	base := name(rdn(pair("C", printable, "DE")), rdn(pair("O", printable, "Acme")), rdn(pair("CN", utf8, "release")))
	for _, tt := range []struct {
		what string
		b    []byte
		same bool
	}{
		{"the same bytes", base, true},
		{"UTF8String instead of PrintableString", name(rdn(pair("C", printable, "DE")), rdn(pair("O", utf8, "Acme")), rdn(pair("CN", printable, "release"))), true},
		{"BMPString", name(rdn(pair("C", printable, "DE")), rdn(pair("O", bmp, "\x00A\x00c\x00m\x00e")), rdn(pair("CN", ia5, "release"))), true},
		{"another case", name(rdn(pair("C", printable, "DE")), rdn(pair("O", utf8, "ACME")), rdn(pair("CN", utf8, "release"))), false},
		{"another space", name(rdn(pair("C", printable, "DE")), rdn(pair("O", utf8, "Acme ")), rdn(pair("CN", utf8, "release"))), false},
		{"another order", name(rdn(pair("O", printable, "Acme")), rdn(pair("C", printable, "DE")), rdn(pair("CN", utf8, "release"))), false},
		{"one less", name(rdn(pair("C", printable, "DE")), rdn(pair("O", printable, "Acme"))), false},
		{"one more", name(rdn(pair("C", printable, "DE")), rdn(pair("O", printable, "Acme")), rdn(pair("CN", utf8, "release")), rdn(pair("OU", utf8, "x"))), false},
		{"another type", name(rdn(pair("C", printable, "DE")), rdn(pair("OU", printable, "Acme")), rdn(pair("CN", utf8, "release"))), false},
		{"in one set", name(rdn(pair("C", printable, "DE"), pair("O", printable, "Acme")), rdn(pair("CN", utf8, "release"))), false},
		{"T61String beyond ASCII", name(rdn(pair("C", printable, "DE")), rdn(pair("O", t61, "Acm\xe9")), rdn(pair("CN", utf8, "release"))), false},
		{"NUL", name(rdn(pair("C", printable, "DE")), rdn(pair("O", utf8, "Acme\x00x")), rdn(pair("CN", utf8, "release"))), false},
		{"a look-alike", name(rdn(pair("C", printable, "DE")), rdn(pair("O", utf8, "Аcme")), rdn(pair("CN", utf8, "release"))), false},
		{"garbage", []byte("garbage"), false},
		{"cut off", base[:len(base)-1], false},
	} {
		if got := certchain.SameName(base, tt.b); got != tt.same {
			t.Errorf("%s: %v", tt.what, got)
		}
		if got := certchain.SameName(tt.b, base); got != tt.same {
			t.Errorf("%s, the other way round: %v", tt.what, got)
		}
	}
	two := name(rdn(pair("O", printable, "a"), pair("OU", printable, "b")))
	if !certchain.SameName(two, name(rdn(pair("OU", utf8, "b"), pair("O", utf8, "a")))) {
		t.Error("a set of two has no order")
	}
	if certchain.SameName(name(rdn(pair("OU", printable, "a"), pair("OU", utf8, "a"))), name(rdn(pair("OU", printable, "a"), pair("OU", utf8, "b")))) {
		t.Error("one attribute was matched twice")
	}
	if !certchain.SameName([]byte("garbage"), []byte("garbage")) {
		t.Error("the same bytes")
	}
}

// tlv encodes a value under a tag.
func tlv(tag byte, parts ...[]byte) []byte {
	var content []byte
	for _, p := range parts {
		content = append(content, p...)
	}
	if len(content) > 127 {
		return append([]byte{tag, 0x81, byte(len(content))}, content...)
	}
	return append([]byte{tag, byte(len(content))}, content...)
}
