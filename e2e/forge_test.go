package e2e

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"sync/atomic"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
)

// A service is a key service of a test: a key that does what the test wants, and counts.
type service struct {
	public crypto.PublicKey
	sign   func(message []byte, opts crypto.SignerOpts) ([]byte, error) // nil: an error
	calls  atomic.Int64
}

func (s *service) Public() crypto.PublicKey { return s.public }

func (s *service) Sign(_ context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.calls.Add(1)
	if s.sign == nil {
		return nil, errors.New("this key never signs")
	}
	return s.sign(message, opts)
}

// serviceKey names the key of a person's service.
const serviceKey = "awskms:///alias/release"

// serve lets the person have the key of a service at serviceKey.
func (p *person) serve(s *service) *person {
	p.keys["awskms"] = func(context.Context, *url.URL, kms.Options) (kms.Key, error) { return s, nil }
	return p
}

// digestOf hashes as a key service does.
func digestOf(message []byte, opts crypto.SignerOpts) []byte {
	h := opts.HashFunc().New()
	h.Write(message)
	return h.Sum(nil)
}

// derOf encodes r and s as ECDSA signatures are in ASN.1.
func derOf(r, s *big.Int) []byte {
	b, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	if err != nil {
		panic(err)
	}
	return b
}

func ecdsaSign(k *ecdsa.PrivateKey, digest []byte) (r, s *big.Int) {
	r, s, err := ecdsa.Sign(rand.Reader, k, digest)
	if err != nil {
		panic(err)
	}
	return r, s
}

// oddRSA is an RSA public key of some modulus nobody knows the factors of, and any exponent.
func oddRSA(bits, e int) *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	low, err := rand.Int(rand.Reader, n)
	if err != nil {
		panic(err)
	}
	return &rsa.PublicKey{N: n.Add(n, low).SetBit(n, 0, 1), E: e}
}

// withSPKI makes leaf a certificate for any public key: spki is put into it and issuer signs again. It returns PEM,
// since Go may not parse the result.
func withSPKI(leaf *x509.Certificate, spki []byte, issuer *certtest.Authority) []byte {
	var outer struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	unmarshal(leaf.Raw, &outer)
	fields := elements(outer.TBS.FullBytes)
	fields[6] = asn1.RawValue{FullBytes: spki} // version, serial, algorithm, issuer, validity, subject, public key
	return resigned(sequence(fields), outer.Algorithm, issuer)
}

// resigned has an issuer of P-256 sign what is to be a certificate, and returns PEM.
func resigned(tbs []byte, algorithm asn1.RawValue, issuer *certtest.Authority) []byte {
	digest := sha256.Sum256(tbs)
	sig := derOf(ecdsaSign(issuer.Key.(*ecdsa.PrivateKey), digest[:]))
	der, err := asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, algorithm, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// spkiOf encodes a public key of any algorithm.
func spkiOf(algorithm pkix.AlgorithmIdentifier, key []byte) []byte {
	b, err := asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}{algorithm, asn1.BitString{Bytes: key, BitLength: 8 * len(key)}})
	if err != nil {
		panic(err)
	}
	return b
}

func elements(der []byte) []asn1.RawValue {
	var s []asn1.RawValue
	unmarshal(der, &s)
	return s
}

func sequence(fields []asn1.RawValue) []byte {
	b, err := asn1.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return b
}

func unmarshal(der []byte, v any) {
	if rest, err := asn1.Unmarshal(der, v); err != nil || len(rest) > 0 {
		panic(errors.Join(err, errors.New("forge: not that structure")))
	}
}

// extension makes an extension that replaces the one that Go would write.
func extension(id string, critical bool, value any) pkix.Extension {
	var oid asn1.ObjectIdentifier
	switch id {
	case "keyUsage":
		oid = asn1.ObjectIdentifier{2, 5, 29, 15}
	case "basicConstraints":
		oid = asn1.ObjectIdentifier{2, 5, 29, 19}
	case "nameConstraints":
		oid = asn1.ObjectIdentifier{2, 5, 29, 30}
	default:
		panic(id)
	}
	b, ok := value.([]byte)
	if !ok {
		var err error
		if b, err = asn1.Marshal(value); err != nil {
			panic(err)
		}
	}
	return pkix.Extension{Id: oid, Critical: critical, Value: b}
}
