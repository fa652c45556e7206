package tsatest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"time"
)

var (
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidTSTInfo       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSigningCertV2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA1          = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidECDSASHA256   = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidPolicy        = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 7}
)

// tstInfo is RFC 3161, 2.4.2, in the part that we write.
type tstInfo struct {
	Version  int
	Policy   asn1.ObjectIdentifier
	Imprint  imprint
	Serial   *big.Int
	Time     time.Time     `asn1:"generalized"`
	Accuracy asn1.RawValue `asn1:"optional"`
	Nonce    *big.Int      `asn1:"optional"`
}

type imprint struct {
	Algorithm pkix.AlgorithmIdentifier
	Hash      []byte
}

// accuracy encodes a whole number of seconds and milliseconds; nothing for zero.
func accuracy(d time.Duration) asn1.RawValue {
	if d == 0 {
		return asn1.RawValue{}
	}
	inner := must(asn1.Marshal(int64(d / time.Second)))
	if millis := d % time.Second / time.Millisecond; millis > 0 {
		b := must(asn1.Marshal(int64(millis)))
		b[0] = 0x80
		inner = append(inner, b...)
	}
	return asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: inner}
}

type attribute struct {
	Type   asn1.ObjectIdentifier
	Values asn1.RawValue
}

func set(content []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSet, IsCompound: true, Bytes: content}
}

// signedData wraps a TSTInfo into the SignedData of RFC 5652, signed by the authority's certificate.
func (a *Authority) signedData(info []byte, o shape) []byte {
	digest := sha256.Sum256(info)
	if o.brokenDigest {
		digest[0] ^= 1
	}
	named := a.Certificate
	if o.nameOther != nil {
		named = o.nameOther
	}
	hash := sha256.Sum256(named.Raw)
	attributes := [][]byte{
		must(asn1.Marshal(attribute{oidContentType, set(must(asn1.Marshal(oidTSTInfo)))})),
		must(asn1.Marshal(attribute{oidMessageDigest, set(must(asn1.Marshal(digest[:])))})),
		must(asn1.Marshal(attribute{oidSigningCertV2, set(must(asn1.Marshal(signingCertificateV2{[]essCertID{{hash[:]}}})))})),
	}
	slices.SortFunc(attributes, bytes.Compare) // DER: a set is sorted
	inner := bytes.Join(attributes, nil)
	toSign := sha256.Sum256(must(asn1.Marshal(set(inner))))
	signature := must(a.key.Sign(rand.Reader, toSign[:], crypto.SHA256))
	if o.brokenSignature {
		signature[len(signature)-1] ^= 1
	}
	sha := pkix.AlgorithmIdentifier{Algorithm: oidSHA256}
	signer := must(asn1.Marshal(struct {
		Version    int
		SID        issuerAndSerial
		Digest     pkix.AlgorithmIdentifier
		Attributes asn1.RawValue
		Algorithm  pkix.AlgorithmIdentifier
		Signature  []byte
	}{1, issuerAndSerial{asn1.RawValue{FullBytes: a.Certificate.RawIssuer}, a.Certificate.SerialNumber}, sha,
		asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner},
		pkix.AlgorithmIdentifier{Algorithm: oidECDSASHA256}, signature}))
	var certs []byte
	if !o.noCertificates {
		chain := a.Chain()
		if !a.o.BringRoot {
			chain = chain[:len(chain)-1]
		}
		for _, c := range chain {
			certs = append(certs, c.Raw...)
		}
	}
	content := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: must(asn1.Marshal(info))}
	encapsulated := must(asn1.Marshal(struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue
	}{oidTSTInfo, content}))
	body := must(asn1.Marshal(3))
	body = append(body, must(asn1.Marshal(set(must(asn1.Marshal(sha)))))...)
	body = append(body, encapsulated...)
	if len(certs) > 0 {
		body = append(body, must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: certs}))...)
	}
	body = append(body, must(asn1.Marshal(set(signer)))...)
	sequence := must(asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: body}))
	return must(asn1.Marshal(struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue
	}{oidSignedData, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: sequence}}))
}

type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

type signingCertificateV2 struct{ Certs []essCertID }

// essCertID leaves out the hash algorithm, which is SHA-256 by default (RFC 5035).
type essCertID struct{ Hash []byte }

// shape is how a token is wrong.
type shape struct {
	noCertificates, brokenSignature, brokenDigest bool
	nameOther                                     *x509.Certificate
}

func must[T any](v T, err error) T {
	if err != nil {
		panic("tsatest: " + err.Error())
	}
	return v
}
