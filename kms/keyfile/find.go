package keyfile

import (
	"bytes"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/imprint-oci/imprint/kms"
)

// maxBlocks bounds the PEM blocks of a file: pem.Decode takes quadratic time over unfinished ones (GO-2025-4009).
const maxBlocks = 64

// convert is the command that turns nearly everything into what imprint reads.
const convert = "openssl pkcs8 -topk8 -in FILE -out NEW"

// find returns the DER of the one private key in a file, a copy, and whether it is an encrypted PKCS#8.
func find(data []byte) (der []byte, encrypted bool, err error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	blocks := countBlocks(data)
	switch {
	case blocks > maxBlocks:
		return nil, false, format("it holds more than %d PEM blocks", maxBlocks)
	case blocks > 0:
		return findPEM(data, blocks)
	}
	return findDER(data)
}

// countBlocks counts the lines that begin a PEM block.
func countBlocks(data []byte) int {
	begin := []byte("-----BEGIN ")
	n := bytes.Count(data, append([]byte("\n"), begin...))
	if bytes.HasPrefix(data, begin) {
		n++
	}
	return n
}

// companions are the blocks that stand beside a key and are passed over. EC PARAMETERS only repeats what the key says.
var companions = map[string]string{
	"CERTIFICATE":             "a certificate",
	"X509 CERTIFICATE":        "a certificate",
	"TRUSTED CERTIFICATE":     "a certificate",
	"CERTIFICATE REQUEST":     "a certificate request",
	"NEW CERTIFICATE REQUEST": "a certificate request",
	"X509 CRL":                "a revocation list",
	"PKCS7":                   "certificates",
	"CMS":                     "certificates",
	"PUBLIC KEY":              "a public key",
	"RSA PUBLIC KEY":          "a public key",
	"EC PARAMETERS":           "EC parameters",
	"DH PARAMETERS":           "DH parameters",
	"DSA PARAMETERS":          "DSA parameters",
}

func findPEM(data []byte, blocks int) (der []byte, encrypted bool, err error) {
	var keys []*pem.Block
	var beside []string
	defer func() {
		for _, b := range keys {
			clear(b.Bytes)
		}
	}()
	for range blocks {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			return nil, false, format("it holds a damaged PEM block")
		}
		if what, ok := companions[b.Type]; ok {
			beside = append(beside, what)
			continue
		}
		keys = append(keys, b)
	}
	switch {
	case len(keys) == 0:
		return nil, false, format("it holds %s and no private key", strings.Join(beside, ", "))
	case len(keys) > 1:
		return nil, false, format("it holds %d private keys: keep one key in a file", len(keys))
	}
	b := keys[0]
	if strings.Contains(b.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, false, format("it is encrypted in the legacy PEM format (Proc-Type: 4,ENCRYPTED), whose key derivation is one round of MD5; "+
			"convert it: %s", convert)
	}
	switch b.Type {
	case "PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY":
		return bytes.Clone(b.Bytes), false, nil
	case "ENCRYPTED PRIVATE KEY":
		return bytes.Clone(b.Bytes), true, nil
	}
	return nil, false, foreign(b.Type)
}

// foreign names a private key of a format that is not read, and what converts it.
func foreign(typ string) error {
	switch typ {
	case "OPENSSH PRIVATE KEY":
		return format("it is in the OpenSSH format; convert a copy of it: ssh-keygen -p -m PKCS8 -f COPY")
	case "DSA PRIVATE KEY":
		return kms.Invalid(kms.CodeAlgorithm, "the key is a DSA key: Notary Project signatures need RSA 2048, 3072, 4096 or ECDSA P-256, P-384, P-521")
	case "ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY":
		return format("it is in cosign's own format (scrypt and secretbox), which nothing converts: " +
			"use the key that was imported into cosign, or make one (imprint key generate)")
	case "PGP PRIVATE KEY BLOCK":
		return format("it is an OpenPGP key, which has no place in X.509 certificates: make a key (imprint key generate)")
	}
	return format("it holds a PEM block %q, which is no private key that imprint reads; try to convert it: %s", printable(typ), convert)
}

// findDER looks at the outer structure of a file that is not PEM.
func findDER(data []byte) (der []byte, encrypted bool, err error) {
	text := bytes.TrimSpace(data)
	switch {
	case len(text) == 0:
		return nil, false, format("it is empty")
	case bytes.HasPrefix(text, []byte("PuTTY-User-Key-File-")):
		return nil, false, format("it is in the PuTTY format; convert it: puttygen FILE -O private-openssh -o COPY && ssh-keygen -p -m PKCS8 -f COPY")
	case text[0] == '{':
		return nil, false, format("it is JSON (a JWK?), not PEM or DER")
	case bytes.HasPrefix(data, []byte("\xfe\xed\xfe\xed")):
		return nil, false, format("it is a Java key store; convert it: " +
			"keytool -importkeystore -srckeystore FILE -destkeystore NEW.p12 -deststoretype PKCS12 && openssl pkcs12 -in NEW.p12 -nocerts -out NEW")
	}
	shape, err := shapeOf(data)
	if err != nil {
		return nil, false, format("it is neither PEM nor DER: no -----BEGIN line, and %w", err)
	}
	switch shape {
	case "INTEGER OCTETS", "INTEGER SEQUENCE", "INTEGER INTEGER":
		if shape == "INTEGER SEQUENCE" && version(data) == 3 {
			return nil, false, format("it is a PKCS#12 container; convert it: openssl pkcs12 -in FILE -nocerts -out NEW (the chain: -cacerts -nokeys)")
		}
		return bytes.Clone(data), false, nil
	case "SEQUENCE OCTETS":
		return bytes.Clone(data), true, nil
	case "SEQUENCE SEQUENCE":
		return nil, false, format("it holds a certificate or request and no private key")
	case "SEQUENCE BITS":
		return nil, false, format("it holds a public key and no private key")
	case "OID CONTEXT":
		return nil, false, format("it is PKCS#7, which holds certificates and no private key")
	}
	return nil, false, format("it is DER, but no private key that imprint reads; try to convert it: openssl pkcs8 -topk8 -inform DER -in FILE -out NEW")
}

// shapeOf names the first two members of the outer SEQUENCE, which tell the formats of keys apart.
func shapeOf(der []byte) (string, error) {
	members, err := firstTwo(der)
	if err != nil {
		return "", err
	}
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = tagName(m)
	}
	return strings.Join(names, " "), nil
}

func firstTwo(der []byte) ([]asn1.RawValue, error) {
	var outer asn1.RawValue
	rest, err := asn1.Unmarshal(der, &outer)
	switch {
	case err != nil || outer.Class != asn1.ClassUniversal || outer.Tag != asn1.TagSequence:
		return nil, errors.New("no DER sequence")
	case len(rest) > 0:
		return nil, fmt.Errorf("%d bytes follow the DER structure", len(rest))
	}
	var members []asn1.RawValue
	for in := outer.Bytes; len(in) > 0 && len(members) < 2; {
		var m asn1.RawValue
		if in, err = asn1.Unmarshal(in, &m); err != nil {
			return nil, errors.New("the DER structure is damaged")
		}
		members = append(members, m)
	}
	return members, nil
}

func tagName(v asn1.RawValue) string {
	if v.Class != asn1.ClassUniversal {
		return "CONTEXT"
	}
	switch v.Tag {
	case asn1.TagInteger:
		return "INTEGER"
	case asn1.TagSequence:
		return "SEQUENCE"
	case asn1.TagOctetString:
		return "OCTETS"
	case asn1.TagBitString:
		return "BITS"
	case asn1.TagOID:
		return "OID"
	}
	return "OTHER"
}

// version returns the first member of the outer SEQUENCE if it is a one-byte INTEGER, else -1.
func version(der []byte) int {
	members, err := firstTwo(der)
	if err != nil || len(members) == 0 || len(members[0].Bytes) != 1 {
		return -1
	}
	return int(members[0].Bytes[0])
}

func format(text string, args ...any) error {
	return kms.Invalid(kms.CodeFormat, text, args...)
}

// printable shortens what a file says of itself before it is shown.
func printable(s string) string {
	const most = 40
	if len(s) > most {
		s = s[:most] + "…"
	}
	return s
}
