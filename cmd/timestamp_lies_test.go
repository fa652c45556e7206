package cmd

import (
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope/tsatest"
)

// TestA20AuthoritiesThatLie: whatever an authority answers, sign, timestamp and rechain end in 4 with the reason, and nothing is
// written.
func TestA20AuthoritiesThatLie(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	renewing(w)
	w.image("lay", "one", "1.0")
	w.image("lay", "bare", "bare")
	w.want(0, w.sign(w.ref("1.0"))...)

	// Its certificate is on the list that it points at.
	ca := tsatest.New(tsatest.Options{})
	var revoked *tsatest.Authority
	lists := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour),
			RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: revoked.Certificate.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)}}}
		b, err := x509.CreateRevocationList(rand.Reader, l, ca.CA.Certificate, ca.CA.Key)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(b)
	}))
	defer lists.Close()
	listed := tsatest.Options{Root: ca.Root, CA: ca.CA, Edits: []certtest.Edit{func(c *x509.Certificate) { c.CRLDistributionPoints = []string{lists.URL + "/tsa.crl"} }}}

	before := w.tree("lay")
	for name, c := range map[string]struct {
		o      tsatest.Options
		reason string
	}{
		"wrong nonce":                 {tsatest.Options{Lie: tsatest.WrongNonce}, "tsa-invalid"},
		"no nonce":                    {tsatest.Options{Lie: tsatest.NoNonce}, "tsa-invalid"},
		"no certificate in the token": {tsatest.Options{Lie: tsatest.NoCertificates}, "tsa-invalid"},
		"SHA-1":                       {tsatest.Options{Lie: tsatest.SHA1Imprint}, "tsa-invalid"},
		"imprint of something else":   {tsatest.Options{Lie: tsatest.WrongImprint}, "tsa-invalid"},
		"broken signature":            {tsatest.Options{Lie: tsatest.BrokenSign}, "tsa-invalid"},
		"certificate expired":         {tsatest.Options{Edits: []certtest.Edit{certtest.Valid(time.Now().AddDate(-8, 0, 0), time.Now().AddDate(0, 0, -1))}}, "tsa-invalid"},
		"certificate revoked":         {listed, "tsa-revoked"},
		"200 with HTML":               {tsatest.Options{Lie: tsatest.HTML}, "tsa-invalid"},
		"100 MB":                      {tsatest.Options{Lie: tsatest.Huge}, "tsa-invalid"},
		"redirect to a file":          {tsatest.Options{Lie: tsatest.Redirects, Redirect: "file:///etc/passwd"}, "url-not-allowed"},
		"206":                         {tsatest.Options{Lie: tsatest.Status206}, "tsa-unavailable"},
		"exact to a year":             {tsatest.Options{Accuracy: 365 * 24 * time.Hour}, "tsa-invalid"},
	} {
		tsa, flags := w.tsa(strings.ReplaceAll(name, " ", "-"), c.o)
		if name == "certificate revoked" {
			revoked = tsa
		}
		for _, args := range [][]string{w.sign(w.ref("bare")), {"timestamp", w.ref("1.0")}, {"rechain", w.ref("1.0"), "--chain", w.path("new.pem"), "--replace"}} {
			got := w.want(4, append(append(args, flags...), "-o", "json")...)
			if r := got.reason(t); r != c.reason || tsa.Requests() == 0 {
				t.Errorf("%s: %s: reason %s, want %s; %d requests", args[0], name, r, c.reason, tsa.Requests())
			}
		}
	}
	if diff := cmp.Diff(before, w.tree("lay")); diff != "" {
		t.Errorf("something was written:\n%s", diff)
	}
}
