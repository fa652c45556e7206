package revocation

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/trust/revtest"
)

// TestPoints: which list of one distribution point is for a certificate.
func TestPoints(t *testing.T) {
	t.Parallel()
	named := func(uris ...string) []byte {
		var names []byte
		for _, u := range uris {
			names = append(names, wrap(0x86, []byte(u))...)
		}
		return wrap(0xa0, wrap(0xa0, names))
	}
	point := func(parts ...[]byte) []byte { return wrap(tagSequence, slices.Concat(parts...)) }
	reasons, indirect := wrap(0x81, []byte{6, 0x40}), wrap(0xa2, wrap(0xa4, nil))
	relative := wrap(0xa0, wrap(0xa1, []byte{5, 0}))
	for _, tt := range []struct {
		what           string
		points         []byte // nil: the certificate has none
		list           []byte
		unfit, partial bool
	}{
		{"the same", point(point(named("http://a"))), named("http://a"), false, false},
		{"one of several names", point(point(named("ldap://a", "http://a"))), named("http://a", "http://b"), false, false},
		{"one of several points", point(point(named("http://a")), point(named("http://b"))), named("http://b"), false, false},
		{"another", point(point(named("http://a"))), named("http://b"), true, false},
		{"the certificate has none", nil, named("http://a"), true, false},
		{"malformed", []byte{0x30, 0x05}, named("http://a"), true, false},
		{"of another issuer", point(point(named("http://a"), indirect)), named("http://a"), true, false},
		{"for some reasons", point(point(named("http://a"), reasons)), named("http://a"), false, true},
		{"for some reasons, and for all", point(point(named("http://a"), reasons), point(named("http://a"))), named("http://a"), false, false},
		{"relative to the issuer", point(point(relative)), relative, false, false},
		{"relative, and another", point(point(relative)), named("http://a"), true, false},
	} {
		d, err := parseDistribution(wrap(tagSequence, tt.list))
		if err != nil {
			t.Fatalf("%s: %v", tt.what, err)
		}
		cert := &x509.Certificate{}
		if tt.points != nil {
			cert.Extensions = []pkix.Extension{{Id: oidPoints, Value: tt.points}}
		}
		unfit, partial := fitting(cert, d.names)
		if (unfit != "") != tt.unfit || (partial != "") != tt.partial {
			t.Errorf("%s: unfit %q, partial %q", tt.what, unfit, partial)
		}
	}
	for _, wrong := range [][]byte{{}, {0x30}, {0x31, 0}, {0x30, 3, 0x81, 1, 2}, {0x30, 3, 0x86, 1, 0xff}, {0x30, 6, 0x82, 1, 0xff, 0x81, 1, 0xff}, {0x30, 6, 0x81, 1, 0xff, 0x81, 1, 0xff},
		{0x30, 2, 0xa0, 0}, {0x30, 4, 0xa0, 2, 0xa0, 0}, {0x30, 3, 0x01, 1, 0xff}, {0x30, 0, 0}} {
		if d, err := parseDistribution(wrong); err == nil {
			t.Errorf("%x is %+v", wrong, d)
		}
	}
}

// TestDeltaListWithoutNumber: nothing can be told to go on from it.
func TestDeltaListWithoutNumber(t *testing.T) {
	t.Parallel()
	l := &List{header: &x509.RevocationList{Extensions: []pkix.Extension{{Id: oidDelta, Critical: true, Value: []byte{2, 1, 1}}}}}
	if err := l.extensions(); err != nil || l.unfit == "" {
		t.Errorf("a delta list without a number: %v, %q", err, l.unfit)
	}
}

// TestNextDelta: of several the newest that goes on from the list and holds now, and it may end sooner.
func TestNextDelta(t *testing.T) {
	t.Parallel()
	now := time.Now()
	hours := func(n int) time.Time { return now.Add(time.Duration(n) * time.Hour) }
	delta := func(base, number int64, until int, entries ...Entry) Said {
		return Said{By: big.NewInt(number).String(), base: big.NewInt(base), number: big.NewInt(number), from: hours(-1), until: hours(until), entries: entries}
	}
	hold, remove := Entry{Since: hours(-4), reason: reasonHold}, Entry{Since: hours(-3), reason: reasonRemove}
	again := Entry{Since: hours(-2), reason: reasonHold}
	full := Said{By: "full", number: big.NewInt(10), from: hours(-1), until: hours(9), partly: true, entries: []Entry{hold}}
	for _, tt := range []struct {
		what   string
		deltas []Said
		status string
		by     string
		until  int
	}{
		{"the newest", []Said{delta(9, 12, 5, remove), delta(9, 11, 3)}, "good", "12", 5},
		{"the newest, in another order", []Said{delta(9, 11, 3), delta(9, 12, 5, remove)}, "good", "12", 5},
		{"of the same number as the list", []Said{delta(9, 10, 5, remove)}, "unknown", "full", 0},
		{"older than the list", []Said{delta(8, 9, 5, remove)}, "unknown", "full", 0},
		{"that goes on from a newer list", []Said{delta(11, 12, 5, remove)}, "unknown", "full", 0},
		{"that goes on from the list", []Said{delta(10, 11, 5, remove)}, "good", "11", 5},
		{"over", []Said{delta(9, 12, -1, remove)}, "unknown", "full", 0},
		{"that holds longer than the list", []Said{delta(9, 12, 50, remove)}, "good", "12", 9},
		{"on hold again", []Said{delta(9, 12, 5, remove, again)}, "revoked", "12", 0},
		{"on hold again, in another order", []Said{delta(9, 12, 5, again, remove)}, "revoked", "12", 0},
	} {
		r := full.at(now, time.Time{}, tt.deltas)
		if r.Status != tt.status || r.By != tt.by || tt.until != 0 && !r.Until.Equal(hours(tt.until)) {
			t.Errorf("%s: %s by %s until %v (%s); want %s by %s", tt.what, r.Status, r.By, r.Until, r.Why, tt.status, tt.by)
		}
	}
}

// FuzzLists: what is taken for a list is one for crypto/x509 too, with the same entries.
func FuzzLists(f *testing.F) {
	ca := revtest.New(certtest.Root("root"))
	f.Cleanup(ca.Stop)
	for _, serial := range []int64{5, 1, 300} {
		ca.Revoke(&x509.Certificate{SerialNumber: big.NewInt(serial)}, revtest.Revoked{Reason: revtest.Hold, Invalid: time.Now()})
	}
	for _, lie := range []revtest.Lie{revtest.Works, revtest.InPEM, revtest.UsersOnly, revtest.OwnPoint, revtest.OtherIssuer, revtest.Forged, revtest.Stale,
		revtest.Future, revtest.NoNextUpdate, revtest.Delta, revtest.NamesDeltaLost, revtest.Indirect, revtest.UnknownExt, revtest.UnknownEntryExt,
		revtest.SHA1, revtest.AuthoritiesOnly, revtest.AttributesOnly, revtest.OtherPoint, revtest.SomeReasons, revtest.DoubleExt, revtest.Trailing,
		revtest.Garbage} {
		ca.Lie(lie)
		f.Add(ca.List())
	}
	f.Add(revtest.PEM(ca.List(), ca.DeltaList()))
	f.Fuzz(func(t *testing.T, b []byte) {
		lists, err := ParseLists("fuzz", b)
		if err != nil {
			return
		}
		for _, l := range lists {
			theirs, err := x509.ParseRevocationList(l.raw)
			if err != nil {
				t.Fatalf("crypto/x509: %v", err)
			}
			if len(theirs.RevokedCertificateEntries) != len(l.starts) || !bytes.Equal(theirs.RawIssuer, l.header.RawIssuer) ||
				!theirs.NextUpdate.Equal(l.header.NextUpdate) || !bytes.Equal(theirs.RawTBSRevocationList, l.header.RawTBSRevocationList) {
				t.Fatalf("crypto/x509 reads another list: %d entries, and %d here", len(theirs.RevokedCertificateEntries), len(l.starts))
			}
			for _, e := range theirs.RevokedCertificateEntries {
				found, err := l.find(e.SerialNumber)
				if err == nil && !slices.ContainsFunc(found, func(x Entry) bool { return x.Since.Equal(e.RevocationTime) && x.reason == e.ReasonCode }) {
					t.Fatalf("serial %v: crypto/x509 finds reason %d of %v, here is %v", e.SerialNumber, e.ReasonCode, e.RevocationTime, found)
				}
			}
			l.About(ca.Certificate, ca.Certificate)
		}
	})
}

// FuzzReplies: no answer makes it panic, and none that the issuer did not sign is of use.
func FuzzReplies(f *testing.F) {
	a := certtest.Root("root")
	cert := a.Leaf(certtest.Key("P-256").Public(), "release")
	nonce := make([]byte, 32)
	ask, err := Question(cert, a.Certificate, nonce)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ask)
	f.Add([]byte{0x30, 0x03, 0x0a, 0x01, 0x03})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r := ReadReply("fuzz", b, cert, a.Certificate, nonce); r.Unfit == "" {
			t.Fatalf("it is of use: %+v", r)
		}
	})
}
