package envelope

import (
	"bytes"
	"context"
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
	"github.com/imprint-oci/imprint/kms"
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

// TestV09StockAcceptsUnknownCritical documents why imprint must not rely on crit with stock verifiers.
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

// A stockWriter makes envelopes as a plugin does that is written with notation's own library.
type stockWriter struct {
	writer
	t    *testing.T
	f    Format
	edit func(*stock.SignRequest)
}

func (w *stockWriter) SignEnvelope(_ context.Context, r kms.EnvelopeRequest) (kms.EnvelopeAnswer, error) {
	return kms.EnvelopeAnswer{Envelope: stockSignWith(w.t, w.f, w.key, w.chain, func(s *stock.SignRequest) {
		s.Payload = stock.Payload{ContentType: r.PayloadType, Content: r.Payload}
		if r.Expiry != 0 {
			s.Expiry = s.SigningTime.Add(r.Expiry)
		}
		if w.edit != nil {
			w.edit(s)
		}
	})}, nil
}

// TestSignWithStock: what notation's library writes is taken, with a verification plugin too, and its own verifier agrees.
func TestSignWithStock(t *testing.T) {
	t.Parallel()
	aws := func(s *stock.SignRequest) {
		s.SigningScheme = stock.SigningSchemeX509SigningAuthority
		s.ExtendedSignedAttributes = []stock.Attribute{
			{Key: attrPlugin, Value: "com.amazonaws.signer.notation.plugin", Critical: true},
			{Key: attrPluginVersion, Value: "1.0.0", Critical: true},
			{Key: "com.amazonaws.signer.signingJob", Value: "arn", Critical: true},
		}
	}
	for name, edit := range map[string]func(*stock.SignRequest){"plain": nil, "for a verification plugin": aws} {
		for _, f := range []Format{JWS, COSE} {
			for _, algorithm := range certtest.Algorithms {
				t.Run(name+" "+f.Short()+" "+algorithm, func(t *testing.T) {
					t.Parallel()
					w := &stockWriter{writer{forger: newForger(3, algorithm)}, t, f, edit}
					at := signedAt()
					m, err := SignWith(t.Context(), f, askedPayload(), w, nil, Options{SigningTime: at, Expiry: at.Add(time.Hour)})
					if err != nil {
						t.Fatal(err)
					}
					if (m.Plugin != "") != (edit != nil) || !m.Content.Payload.Equal(askedPayload()) {
						t.Errorf("plugin %q, payload %+v", m.Plugin, m.Content.Payload)
					}
					if _, err := stockVerify(f, m.Envelope.Bytes()); err != nil {
						t.Error(err)
					}
					if _, err := m.Envelope.Verify(); (err == nil) != (edit == nil) {
						t.Errorf("our own verifier: %v", err)
					}
				})
			}
		}
	}
}
