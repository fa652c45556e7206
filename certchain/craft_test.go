package certchain

import (
	"bytes"
	"crypto"
	_ "crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"os"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// sequence wraps members into a SEQUENCE.
func sequence(members ...[]byte) []byte { return tlv(0x30, bytes.Join(members, nil)) }

func oidDER(t testing.TB, arcs ...int) []byte { return der(t, asn1.ObjectIdentifier(arcs)) }

// members splits a SEQUENCE.
func members(t testing.TB, seq []byte) [][]byte {
	t.Helper()
	var parts []asn1.RawValue
	if rest, err := asn1.Unmarshal(seq, &parts); err != nil || len(rest) > 0 {
		t.Fatalf("no sequence: %v", err)
	}
	var out [][]byte
	for _, p := range parts {
		out = append(out, p.FullBytes)
	}
	return out
}

// recraft changes members of the TBSCertificate and the algorithm, keeping the signature.
// The members: 0 version, 1 serial, 2 algorithm, 3 issuer, 4 validity, 5 subject, 6 key.
func recraft(t testing.TB, raw []byte, change map[int][]byte) []byte {
	t.Helper()
	outer := members(t, raw)
	tbs := members(t, outer[0])
	for i, b := range change {
		tbs[i] = b
		if i == 2 {
			outer[1] = b
		}
	}
	outer[0] = sequence(tbs...)
	return sequence(outer...)
}

// weaklySigned signs a certificate again with a broken hash.
func weaklySigned(t testing.TB, c *x509.Certificate, by crypto.Signer, hash string) *x509.Certificate {
	t.Helper()
	algorithm, h := sequence(oidDER(t, 1, 2, 840, 10045, 4, 1)), crypto.SHA1 // ecdsa-with-SHA1
	if hash == "MD5" {
		algorithm, h = sequence(oidDER(t, 1, 2, 840, 113549, 1, 1, 4), []byte{5, 0}), crypto.MD5
	}
	raw := resign(t, recraft(t, c.Raw, map[int][]byte{2: algorithm}), by, h)
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// oidsSecp256k1 makes a SubjectPublicKeyInfo of a curve that Go does not know.
func oidsSecp256k1(t testing.TB) []byte {
	point := append([]byte{4}, bytes.Repeat([]byte{7}, 64)...)
	return sequence(
		sequence(oidDER(t, 1, 2, 840, 10045, 2, 1), oidDER(t, 1, 3, 132, 0, 10)),
		der(t, asn1.BitString{Bytes: point, BitLength: len(point) * 8}))
}

// unknownKey makes a SubjectPublicKeyInfo of an algorithm that nobody knows.
func unknownKey(t testing.TB) []byte {
	return sequence(sequence(oidDER(t, 1, 2, 3, 4, 5)), der(t, asn1.BitString{Bytes: []byte{1, 2, 3}, BitLength: 24}))
}

// dsaKey makes a SubjectPublicKeyInfo of a DSA key.
func dsaKey(t testing.TB) []byte {
	params := sequence(der(t, 23), der(t, 11), der(t, 4))
	y := der(t, 8)
	return sequence(
		sequence(oidDER(t, 1, 2, 840, 10040, 4, 1), params),
		der(t, asn1.BitString{Bytes: y, BitLength: len(y) * 8}))
}

// withKey issues a leaf whose key is replaced, signed again by the authority. It returns nil if Go does not parse it.
func withKey(t testing.TB, a *certtest.Authority, spki func(testing.TB) []byte) *x509.Certificate {
	t.Helper()
	leaf := a.Leaf(certtest.Key("P-256").Public(), "leaf")
	cert, err := x509.ParseCertificate(resign(t, recraft(t, leaf.Raw, map[int][]byte{6: spki(t)}), a.Key, crypto.SHA256))
	if err != nil {
		return nil
	}
	return cert
}

// resign replaces the signature of a certificate.
func resign(t testing.TB, raw []byte, by crypto.Signer, hash crypto.Hash) []byte {
	t.Helper()
	outer := members(t, raw)
	h := hash.New()
	h.Write(outer[0])
	sig, err := by.Sign(rand.Reader, h.Sum(nil), hash)
	if err != nil {
		t.Fatal(err)
	}
	outer[2] = der(t, asn1.BitString{Bytes: sig, BitLength: len(sig) * 8})
	return sequence(outer...)
}

// weakRSA returns a key of 1024 bits, smaller than certtest makes them.
func weakRSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
