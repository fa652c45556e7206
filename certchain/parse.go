package certchain

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"strings"
)

// Parse reads certificates in any order from PEM (text between the blocks, CRLF and a BOM are fine; blocks other than
// certificates are an error that names them, a private key above all), DER (one or several, concatenated) or PKCS#7 (PEM or
// DER, certificates only). Certificates are returned in the order of the file, duplicates included.
func Parse(b []byte) ([]*x509.Certificate, error) {
	if len(b) > MaxBytes {
		return nil, ruleError(ruleFileSize, nil, "the certificates take %d bytes, at most %d are read", len(b), MaxBytes)
	}
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	n := countBlocks(b)
	switch {
	case n > MaxCertificates:
		// Counted before pem.Decode, which takes quadratic time over unfinished blocks (GO-2025-4009).
		return nil, ruleError(ruleCount, nil, "there are %d PEM blocks, at most %d are read", n, MaxCertificates)
	case n > 0:
		return parsePEM(b, n)
	case len(bytes.TrimSpace(b)) == 0:
		return nil, ruleError(ruleEmpty, nil, "there is nothing in it")
	}
	return parseDER(b)
}

// countBlocks counts the lines that begin a PEM block.
func countBlocks(b []byte) int {
	begin := []byte("-----BEGIN ")
	n := bytes.Count(b, append([]byte("\n"), begin...))
	if bytes.HasPrefix(b, begin) {
		n++
	}
	return n
}

// parsePEM decodes the n blocks that were counted. pem.Decode passes over damaged ones in silence; here each must be there.
func parsePEM(b []byte, n int) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for i := range n {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return nil, ruleError(ruleMalformed, nil, "PEM block %d of %d is damaged", i+1, n)
		}
		var more []*x509.Certificate
		var err error
		switch {
		case block.Type == "CERTIFICATE" || block.Type == "X509 CERTIFICATE":
			more, err = parseOne(block.Bytes)
		case block.Type == "PKCS7" || block.Type == "CMS":
			more, err = parsePKCS7(block.Bytes)
		default:
			err = unexpected(block.Type)
		}
		clear(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, more...)
	}
	if len(certs) > MaxCertificates {
		return nil, tooMany(len(certs))
	}
	return certs, nil
}

func unexpected(typ string) error {
	switch {
	case strings.HasSuffix(typ, "PRIVATE KEY") || typ == "PGP PRIVATE KEY BLOCK":
		return ruleError(rulePrivateKey, nil, "it holds a private key, which does not belong among certificates: keep it in a file of its own, and out of what is handed around")
	case typ == "TRUSTED CERTIFICATE":
		return ruleError(ruleBlock, nil, "it holds OpenSSL's TRUSTED CERTIFICATE; convert it: openssl x509 -in FILE -out NEW")
	}
	const most = 40
	if len(typ) > most {
		typ = typ[:most] + "…"
	}
	return ruleError(ruleBlock, nil, "it holds a PEM block %q, which is no certificate", typ)
}

func tooMany(n int) error {
	return ruleError(ruleCount, nil, "there are %d certificates, at most %d are read", n, MaxCertificates)
}

// parseDER reads what is not PEM: PKCS#7, or certificates one after the other.
func parseDER(b []byte) ([]*x509.Certificate, error) {
	switch first := firstMember(b); {
	case first.Class == asn1.ClassUniversal && first.Tag == asn1.TagOID:
		return parsePKCS7(b)
	case first.Class == asn1.ClassUniversal && first.Tag == asn1.TagInteger:
		return nil, ruleError(rulePrivateKey, nil, "it holds a private key or a PKCS#12 container, not certificates "+
			"(from PKCS#12: openssl pkcs12 -in FILE -nokeys -out NEW)")
	case first.FullBytes == nil:
		return nil, ruleError(ruleMalformed, nil, "it is neither PEM nor DER: there is no -----BEGIN line and no DER sequence")
	}
	var ders [][]byte
	for len(b) > 0 {
		var one asn1.RawValue
		rest, err := asn1.Unmarshal(b, &one)
		if err != nil {
			if len(ders) == 0 {
				return nil, ruleError(ruleMalformed, nil, "it is no certificate: %v", err)
			}
			return nil, ruleError(ruleMalformed, nil, "%d bytes follow certificate %d and are no certificate", len(b), len(ders))
		}
		if ders = append(ders, one.FullBytes); len(ders) > MaxCertificates {
			return nil, ruleError(ruleCount, nil, "there are more than %d certificates", MaxCertificates)
		}
		b = rest
	}
	return parseAll(ders)
}

// firstMember returns the first member of the outer SEQUENCE, or nothing.
func firstMember(b []byte) asn1.RawValue {
	var outer, first asn1.RawValue
	if _, err := asn1.Unmarshal(b, &outer); err != nil || outer.Class != asn1.ClassUniversal || outer.Tag != asn1.TagSequence {
		return asn1.RawValue{}
	}
	if _, err := asn1.Unmarshal(outer.Bytes, &first); err != nil {
		return asn1.RawValue{}
	}
	return first
}

func parseAll(ders [][]byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, der := range ders {
		one, err := parseOne(der)
		if err != nil {
			return nil, err
		}
		certs = append(certs, one...)
	}
	return certs, nil
}

// parseOne reads exactly one certificate.
func parseOne(der []byte) ([]*x509.Certificate, error) {
	if len(der) > MaxCertificate {
		return nil, ruleError(ruleCertificateSize, nil, "a certificate takes %d bytes, at most %d are read", len(der), MaxCertificate)
	}
	cert, err := x509.ParseCertificate(bytes.Clone(der))
	if err != nil {
		return nil, ruleError(ruleMalformed, nil, "a certificate cannot be parsed: %s", plain(err))
	}
	return []*x509.Certificate{cert}, nil
}
