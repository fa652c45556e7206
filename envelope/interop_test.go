package envelope

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	stock "github.com/notaryproject/notation-core-go/signature"
	_ "github.com/notaryproject/notation-core-go/signature/cose"
	_ "github.com/notaryproject/notation-core-go/signature/jws"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms/kmstest"
)

// matrix runs test for six algorithms, two formats and chains of one to four.
func matrix(t *testing.T, test func(t *testing.T, f Format, n int, algorithm string)) {
	for _, algorithm := range certtest.Algorithms {
		for _, f := range []Format{JWS, COSE} {
			for n := 1; n <= 4; n++ {
				t.Run(fmt.Sprintf("%s %s chain of %d", algorithm, f.Short(), n), func(t *testing.T) {
					t.Parallel()
					test(t, f, n, algorithm)
				})
			}
		}
	}
}

// stockVerify lets notation-core-go verify.
func stockVerify(f Format, b []byte) (*stock.EnvelopeContent, error) {
	e, err := stock.ParseEnvelope(string(f), b)
	if err != nil {
		return nil, err
	}
	return e.Verify()
}

func TestStockVerifiesOurs(t *testing.T) {
	t.Parallel()
	matrix(t, func(t *testing.T, f Format, n int, algorithm string) {
		key, chain := certtest.ChainOf(n, algorithm)
		p := somePayload()
		p.Annotations = map[string]string{ClaimsAnnotation: `["1.4"]`}
		now := signedAt()
		e, err := Sign(t.Context(), f, p, kmstest.Key(key), chain, Options{SigningTime: now, Expiry: now.Add(time.Hour), Agent: "imprint"})
		if err != nil {
			t.Fatal(err)
		}
		got, err := stockVerify(f, e.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		var payload struct{ TargetArtifact Payload }
		if err := json.Unmarshal(got.Payload.Content, &payload); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(p, payload.TargetArtifact); d != "" || got.Payload.ContentType != PayloadType {
			t.Errorf("payload of type %s: %s", got.Payload.ContentType, d)
		}
		a := got.SignerInfo.SignedAttributes
		if !a.SigningTime.Equal(now) || !a.Expiry.Equal(now.Add(time.Hour)) || a.SigningScheme != SchemeX509 || len(a.ExtendedAttributes) != 0 {
			t.Errorf("attributes %+v", a)
		}
		if got.SignerInfo.UnsignedAttributes.SigningAgent != "imprint" || len(got.SignerInfo.CertificateChain) != n {
			t.Errorf("agent %q, chain of %d", got.SignerInfo.UnsignedAttributes.SigningAgent, len(got.SignerInfo.CertificateChain))
		}
	})
}

// stockSign lets notation-core-go sign.
func stockSign(t testing.TB, f Format, n int, algorithm string, edit func(*stock.SignRequest)) ([]byte, []*x509.Certificate) {
	t.Helper()
	key, chain := certtest.ChainOf(n, algorithm)
	return stockSignWith(t, f, key, chain, edit), chain
}

func stockSignWith(t testing.TB, f Format, key crypto.Signer, chain []*x509.Certificate, edit func(*stock.SignRequest)) []byte {
	t.Helper()
	signer, err := stock.NewLocalSigner(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	r := &stock.SignRequest{
		Payload:       stock.Payload{ContentType: PayloadType, Content: []byte(goodPayload)},
		Signer:        signer,
		SigningTime:   signedAt(),
		SigningScheme: stock.SigningSchemeX509,
		SigningAgent:  "notation",
	}
	if edit != nil {
		edit(r)
	}
	e, err := stock.NewEnvelope(string(f))
	if err != nil {
		t.Fatal(err)
	}
	b, err := e.Sign(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWeVerifyStock(t *testing.T) {
	t.Parallel()
	matrix(t, func(t *testing.T, f Format, n int, algorithm string) {
		now := signedAt()
		b, chain := stockSign(t, f, n, algorithm, func(r *stock.SignRequest) {
			r.SigningTime = now
			r.Expiry = now.Add(time.Hour)
			r.ExtendedSignedAttributes = []stock.Attribute{{Key: "com.example.build", Value: "7"}}
		})
		got, err := judge(f, b)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Payload.Equal(somePayload()) || !got.Chain.Equal(chain) || got.Agent != "notation" || got.Scheme != SchemeX509 {
			t.Errorf("content %+v", got)
		}
		if !got.SignedAt().Equal(now) || !got.Expiry.Equal(now.Add(time.Hour)) {
			t.Errorf("signed at %v until %v", got.SignedAt(), got.Expiry)
		}
		if d := cmp.Diff([]string{"com.example.build"}, got.Extended); d != "" {
			t.Error(d)
		}
		theirs, err := stockVerify(f, b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(theirs.Payload.Content, got.Signed) || !bytes.Equal(theirs.SignerInfo.Signature, got.Signature) {
			t.Error("other bytes than notation-core-go sees")
		}
	})
}

func TestWeVerifyStockSigningAuthority(t *testing.T) {
	t.Parallel()
	for _, f := range []Format{JWS, COSE} {
		now := signedAt()
		b, _ := stockSign(t, f, 2, "P-256", func(r *stock.SignRequest) {
			r.SigningTime = now
			r.SigningScheme = stock.SigningSchemeX509SigningAuthority
		})
		c, err := judge(f, b)
		if err != nil {
			t.Fatal(err)
		}
		if !c.SigningTime.IsZero() || !c.AuthenticTime.Equal(now) || !c.SignedAt().Equal(now) || c.Scheme != SchemeSigningAuthority {
			t.Errorf("%s: %+v", f.Short(), c)
		}
	}
}

// TestV09StockAcceptsUnknownCritical documents why imprint must not rely on crit with stock verifiers (INTEROP.md 3d).
func TestV09StockAcceptsUnknownCritical(t *testing.T) {
	t.Parallel()
	for _, f := range []Format{JWS, COSE} {
		b, _ := stockSign(t, f, 1, "P-256", func(r *stock.SignRequest) {
			r.ExtendedSignedAttributes = []stock.Attribute{{Key: "com.example.x", Value: "7", Critical: true}}
		})
		if _, err := stockVerify(f, b); err != nil {
			t.Errorf("%s: stock refuses: %v", f.Short(), err)
		}
		_, err := judge(f, b)
		wantReason(t, err, codeCriticalUnknown)
	}
}
