package tsatest

import (
	"crypto"
	"crypto/x509"
	"net/http"
	"testing"
	"time"

	"github.com/notaryproject/tspclient-go"

	"github.com/imprint-oci/imprint/envelope"
)

// ask asks an authority with the reference client and verifies what it says.
func ask(t *testing.T, o Options) error {
	t.Helper()
	a := New(o)
	url := a.Start()
	defer a.Stop()
	message := []byte("a primitive signature")
	q, err := tspclient.NewRequest(tspclient.RequestOptions{Content: message, HashAlgorithm: crypto.SHA384})
	if err != nil {
		t.Fatal(err)
	}
	client, err := tspclient.NewHTTPTimestamper(&http.Client{Timeout: 2 * time.Second}, url)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Timestamp(t.Context(), q)
	if err != nil {
		return err
	}
	if a.Requests() != 1 {
		t.Errorf("%d requests", a.Requests())
	}
	s, err := envelope.VerifyTimestamp(answer.TimestampToken.FullBytes, message, a.Roots())
	if err != nil {
		return err
	}
	if !s.Chain.Equal(a.Chain()) || time.Since(s.At).Abs() > 5*time.Second || s.Accuracy != o.Accuracy {
		t.Errorf("stamp %+v", s)
	}
	_, err = envelope.VerifyTimestamp(answer.TimestampToken.FullBytes, message, New(Options{}).Roots())
	if err == nil {
		t.Error("accepted below another root")
	}
	return nil
}

func TestAuthority(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{}, {Accuracy: time.Second}, {Accuracy: 1500 * time.Millisecond}, {Name: "other"}} {
		if err := ask(t, o); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// Each of these is noticed by the reference client. Trailing bytes are not, nor is a wrong time: both are for imprint to notice.
func TestLies(t *testing.T) {
	t.Parallel()
	for _, lie := range []Lie{WrongNonce, NoNonce, NoCertificates, SHA1Imprint, WrongImprint, BrokenSign, BrokenDigest, OtherSigner, Rejected,
		Waiting, GrantedEmpty, HTML, HTMLAsReply, Status500, Status206, Huge, Slow, Hangs, Garbage} {
		t.Run(string(lie), func(t *testing.T) {
			t.Parallel()
			err := ask(t, Options{Lie: lie})
			t.Log(err)
			if err == nil {
				t.Error("believed")
			}
		})
	}
}

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*x509.Certificate){
		"not critical": func(c *x509.Certificate) {
			c.ExtraExtensions = nil
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}
		},
		"code signing": func(c *x509.Certificate) {
			c.ExtraExtensions = nil
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
		},
		"no usage":       func(c *x509.Certificate) { c.ExtraExtensions = nil },
		"expired, today": func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) },
	} {
		o := Options{}
		o.Edits = append(o.Edits, edit)
		if err := ask(t, o); err == nil {
			t.Errorf("%s: believed", name)
		}
	}
}
