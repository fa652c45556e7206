package certchain

import (
	"crypto/x509"
	"encoding/asn1"
)

var (
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
)

// signedData is the degenerate SignedData of RFC 2315 section 9 that carries certificates: no content, nobody signs.
type signedData struct {
	Version          int
	DigestAlgorithms asn1.RawValue
	ContentInfo      struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"optional,explicit,tag:0"`
	}
	Certificates asn1.RawValue `asn1:"optional,tag:0"`
	CRLs         asn1.RawValue `asn1:"optional,tag:1"` // openssl crl2pkcs7 always writes it
	SignerInfos  asn1.RawValue
}

// parsePKCS7 reads the certificates of a PKCS#7 structure. One that signs something is refused: it is not what a CA hands
// out, and its certificates are not meant as a chain.
func parsePKCS7(der []byte) ([]*x509.Certificate, error) {
	var outer struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"explicit,tag:0"`
	}
	rest, err := asn1.Unmarshal(der, &outer)
	switch {
	case err != nil:
		return nil, ruleError(rulePKCS7, nil, "its PKCS#7 structure is malformed or not DER; "+
			"convert it: openssl pkcs7 -in FILE -print_certs -out NEW (-inform DER if it is not PEM)")
	case len(rest) > 0:
		return nil, ruleError(rulePKCS7, nil, "%d bytes follow its PKCS#7 structure", len(rest))
	case !outer.Type.Equal(oidSignedData):
		return nil, ruleError(rulePKCS7, nil, "its PKCS#7 structure is of the type %s, not certificates (signedData)", outer.Type)
	}
	var sd signedData
	if rest, err = asn1.Unmarshal(outer.Content.Bytes, &sd); err != nil || len(rest) > 0 {
		return nil, ruleError(rulePKCS7, nil, "the signedData in its PKCS#7 structure is malformed")
	}
	if !isSet(sd.DigestAlgorithms) || !isSet(sd.SignerInfos) {
		return nil, ruleError(rulePKCS7, nil, "the signedData in its PKCS#7 structure is malformed")
	}
	if !sd.ContentInfo.Type.Equal(oidData) || len(sd.ContentInfo.Content.FullBytes) > 0 || len(sd.SignerInfos.Bytes) > 0 {
		return nil, ruleError(rulePKCS7, nil, "its PKCS#7 structure is a signed message: only certificates are read")
	}
	var ders [][]byte
	for in := sd.Certificates.Bytes; len(in) > 0; {
		var one asn1.RawValue
		if in, err = asn1.Unmarshal(in, &one); err != nil {
			return nil, ruleError(rulePKCS7, nil, "certificate %d in its PKCS#7 structure is malformed", len(ders)+1)
		}
		if one.Class != asn1.ClassUniversal || one.Tag != asn1.TagSequence {
			return nil, ruleError(rulePKCS7, nil, "its PKCS#7 structure holds something that is no X.509 certificate")
		}
		if ders = append(ders, one.FullBytes); len(ders) > MaxCertificates {
			return nil, ruleError(ruleCount, nil, "there are more than %d certificates", MaxCertificates)
		}
	}
	if len(ders) == 0 {
		return nil, ruleError(ruleEmpty, nil, "its PKCS#7 structure holds no certificate")
	}
	return parseAll(ders)
}

func isSet(v asn1.RawValue) bool {
	return v.Class == asn1.ClassUniversal && v.Tag == asn1.TagSet && v.IsCompound
}
