package keyfile_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/youmark/pkcs8"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/keyfile"
	"github.com/imprint-oci/imprint/kms/kmstest"
)

// write makes a key file of the owner's alone.
func write(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "release.key")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, path string, secrets ...string) (kms.Key, error) {
	t.Helper()
	var o kms.Options
	if len(secrets) > 0 {
		o.Secret = func(_ context.Context, prompt string) ([]byte, error) {
			if !strings.Contains(prompt, path) {
				t.Errorf("the prompt %q does not name the file", prompt)
			}
			return []byte(secrets[0]), nil
		}
	}
	return kms.Providers{"": keyfile.Open, "file": keyfile.Open}.Open(t.Context(), path, o)
}

func wantReason(t *testing.T, err error, code, says string) {
	t.Helper()
	var e *kms.Error
	if !errors.As(err, &e) || !errors.Is(err, kms.ErrInvalid) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if e.Code != code || !strings.Contains(err.Error(), says) {
		t.Errorf("got %s: %v\nwant %s: %s", e.Code, err, code, says)
	}
	if errors.Is(err, kms.ErrSecret) != (code == kms.CodeSecret) {
		t.Errorf("ErrSecret: %v", err)
	}
}

func marshal[T any](t *testing.T, f func(T) ([]byte, error), k T) []byte {
	t.Helper()
	b, err := f(k)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func block(typ string, b []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: b})
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, algorithm := range certtest.Algorithms {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			path := write(t, certtest.KeyPEM(certtest.Key(algorithm)))
			k, err := open(t, path)
			if err != nil {
				t.Fatal(err)
			}
			if id := k.(kms.Identifier).ID(); id != path {
				t.Errorf("ID %s, want %s", id, path)
			}
			if isRSA := strings.HasPrefix(algorithm, "RSA"); kms.Describe(k) != (kms.Description{PKCS1: isRSA}) {
				t.Errorf("it is described as %+v", kms.Describe(k))
			}
			kmstest.RunWith(t, k, kmstest.Options{Network: true})
			if err := kms.Probe(t.Context(), k); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	ec, rs := certtest.Key("P-384"), certtest.Key("RSA-2048")
	sec1 := marshal(t, x509.MarshalECPrivateKey, ec.(*ecdsa.PrivateKey))
	pkcs1, err := x509.MarshalPKCS8PrivateKey(rs)
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Version   int
		Algorithm asn1.RawValue
		Key       []byte
	}
	if _, err := asn1.Unmarshal(pkcs1, &info); err != nil {
		t.Fatal(err)
	}
	pkcs1 = info.Key
	p8ec, p8rsa := marshal(t, x509.MarshalPKCS8PrivateKey, any(ec)), marshal(t, x509.MarshalPKCS8PrivateKey, any(rs))
	root := certtest.Root("root")
	certs := certtest.PEM(root.Leaf(ec.Public(), "leaf"), root.Certificate)
	params := block("EC PARAMETERS", []byte{6, 5, 0x2b, 0x81, 4, 0, 0x22})
	pssOID := pssKey(t, info.Key, nil)
	for name, tt := range map[string]struct {
		in  []byte
		key crypto.Signer
	}{
		"PKCS#8 PEM EC":                   {block("PRIVATE KEY", p8ec), ec},
		"PKCS#8 PEM RSA":                  {block("PRIVATE KEY", p8rsa), rs},
		"PKCS#8 DER EC":                   {p8ec, ec},
		"PKCS#8 DER RSA":                  {p8rsa, rs},
		"SEC 1 PEM":                       {block("EC PRIVATE KEY", sec1), ec},
		"SEC 1 DER":                       {sec1, ec},
		"SEC 1 PEM after EC PARAMETERS":   {append(params, block("EC PRIVATE KEY", sec1)...), ec},
		"PKCS#1 PEM":                      {block("RSA PRIVATE KEY", pkcs1), rs},
		"PKCS#1 DER":                      {pkcs1, rs},
		"PKCS#8 under the name of SEC 1":  {block("EC PRIVATE KEY", p8ec), ec},
		"RSA-PSS OID without parameters":  {block("PRIVATE KEY", pssOID), rs},
		"A07 key after its certificates":  {append(slices.Clone(certs), block("PRIVATE KEY", p8ec)...), ec},
		"A07 key before its certificates": {append(block("PRIVATE KEY", p8ec), certs...), ec},
		"A07 CRLF":                        {bytes.ReplaceAll(block("PRIVATE KEY", p8ec), []byte("\n"), []byte("\r\n")), ec},
		"A07 BOM":                         {append([]byte("\xef\xbb\xbf"), block("PRIVATE KEY", p8ec)...), ec},
		"A07 text around":                 {slices.Concat([]byte("Bag Attributes\n    friendlyName: a\n"), block("PRIVATE KEY", p8ec), []byte("the end")), ec},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, err := open(t, write(t, tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if !tt.key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(k.Public()) {
				t.Error("another key")
			}
		})
	}
}

// pssKey wraps an RSA key under the OID of RSA-PSS, as openssl genpkey -algorithm RSA-PSS does.
func pssKey(t *testing.T, pkcs1, params []byte) []byte {
	t.Helper()
	oid := []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10}
	b, err := asn1.Marshal(struct {
		Version   int
		Algorithm asn1.RawValue
		Key       []byte
	}{0, asn1.RawValue{Tag: 16, IsCompound: true, Bytes: append(oid, params...)}, pkcs1})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// p8 makes a PKCS#8 structure of an algorithm that Go cannot marshal.
func p8(t *testing.T, params []byte, key []byte, oid ...int) []byte {
	t.Helper()
	o, err := asn1.Marshal(asn1.ObjectIdentifier(oid))
	if err != nil {
		t.Fatal(err)
	}
	b, err := asn1.Marshal(struct {
		Version   int
		Algorithm asn1.RawValue
		Key       []byte
	}{0, asn1.RawValue{Tag: 16, IsCompound: true, Bytes: append(o, params...)}, key})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	ec := certtest.Key("P-256")
	p8ec := marshal(t, x509.MarshalPKCS8PrivateKey, any(ec))
	good := block("PRIVATE KEY", p8ec)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := certtest.Root("root")
	certs := certtest.PEM(root.Leaf(ec.Public(), "leaf"), root.Certificate)
	legacy := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("0123456789abcdef"),
		Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00112233445566778899AABBCCDDEEFF"}})
	spki, err := x509.MarshalPKIXPublicKey(ec.Public())
	if err != nil {
		t.Fatal(err)
	}
	secp256k1 := []byte{6, 5, 0x2b, 0x81, 4, 0, 10}
	six, err := asn1.Marshal([]int{0, 7, 11, 13, 17, 19})
	if err != nil {
		t.Fatal(err)
	}
	pkcs12 := []byte{0x30, 0x10, 2, 1, 3, 0x30, 11, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1}
	for name, tt := range map[string]struct {
		in   []byte
		code string
		says string
	}{
		"empty":                         {nil, "key-format", "empty"},
		"garbage":                       {[]byte("hello"), "key-format", "neither PEM nor DER"},
		"bytes after DER":               {append(slices.Clone(p8ec), 0), "key-format", "1 bytes follow"},
		"DER cut off":                   {p8ec[:len(p8ec)-1], "key-format", "neither PEM nor DER"},
		"bytes after DER in PEM":        {block("PRIVATE KEY", append(slices.Clone(p8ec), 0)), "key-format", "1 bytes follow"},
		"A07 several keys":              {append(slices.Clone(good), good...), "key-format", "2 private keys"},
		"A07 certificates only":         {certs, "key-format", "no private key"},
		"A07 damaged PEM":               {append([]byte("-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n"), good...), "key-format", "damaged"},
		"A07 garbage of begin lines":    {bytes.Repeat([]byte("-----BEGIN A-----\n"), 50_000), "key-format", "64 PEM blocks"},
		"A07 larger than 1 MiB":         {append(slices.Clone(good), bytes.Repeat([]byte("\n"), 1<<20)...), "key-file", "1048576"},
		"A08 legacy encrypted PEM":      {legacy, "key-format", "Proc-Type: 4,ENCRYPTED), whose key derivation is one round of MD5; convert it: openssl pkcs8 -topk8 -in /"},
		"A08 PKCS#12":                   {pkcs12, "key-format", "PKCS#12 container; convert it: openssl pkcs12 -in "},
		"A08 OpenSSH":                   {block("OPENSSH PRIVATE KEY", []byte("openssh-key-v1")), "key-format", "ssh-keygen -p -m PKCS8"},
		"A08 PuTTY":                     {[]byte("PuTTY-User-Key-File-3: ecdsa-sha2-nistp256\r\n"), "key-format", "puttygen"},
		"A08 cosign":                    {block("ENCRYPTED SIGSTORE PRIVATE KEY", []byte("{}")), "key-format", "cosign"},
		"A08 OpenPGP":                   {block("PGP PRIVATE KEY BLOCK", []byte("x")), "key-format", "OpenPGP"},
		"A08 Java key store":            {[]byte("\xfe\xed\xfe\xed\x00\x00\x00\x02"), "key-format", "keytool"},
		"A08 JWK":                       {[]byte(`{"kty":"EC"}`), "key-format", "JWK"},
		"A08 another private key":       {block("TSS2 PRIVATE KEY", []byte("x")), "key-format", "TSS2 PRIVATE KEY"},
		"EC PARAMETERS only":            {block("EC PARAMETERS", secp256k1), "key-format", "EC parameters and no private key"},
		"public key":                    {block("PUBLIC KEY", spki), "key-format", "a public key and no private key"},
		"public key DER":                {spki, "key-format", "public key"},
		"certificate DER":               {root.Certificate.Raw, "key-format", "certificate"},
		"explicit curve":                {p8(t, []byte{0x30, 3, 2, 1, 1}, nil, 1, 2, 840, 10045, 2, 1), "key-format", "-param_enc named_curve"},
		"RSA-PSS with parameters":       {pssKey(t, []byte{0x30, 0}, []byte{0x30, 0}), "key-format", "RSA-PSS"},
		"broken RSA":                    {p8(t, []byte{5, 0}, []byte{0x30, 0}, 1, 2, 840, 113549, 1, 1, 1), "key-format", "not valid"},
		"A04 Ed25519":                   {certtest.KeyPEM(ed), "key-algorithm", "Ed25519"},
		"A04 P-224":                     {certtest.KeyPEM(certtest.Key("P-224")), "key-algorithm", "P-224"},
		"A04 secp256k1":                 {p8(t, secp256k1, nil, 1, 2, 840, 10045, 2, 1), "key-algorithm", "secp256k1"},
		"A04 DSA":                       {p8(t, nil, nil, 1, 2, 840, 10040, 4, 1), "key-algorithm", "DSA"},
		"A04 DSA in its own format":     {six, "key-algorithm", "DSA"},
		"A04 DSA in its own format PEM": {block("DSA PRIVATE KEY", six), "key-algorithm", "DSA"},
		"A04 X25519":                    {p8(t, nil, nil, 1, 3, 101, 110), "key-algorithm", "X25519"},
		"A04 unknown algorithm":         {p8(t, nil, nil, 1, 2, 3), "key-algorithm", "1.2.3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := write(t, tt.in)
			_, err := open(t, path)
			wantReason(t, err, tt.code, tt.says)
			if !strings.Contains(err.Error(), path) {
				t.Errorf("the error does not name the file: %v", err)
			}
		})
	}
}

func TestEncrypted(t *testing.T) {
	t.Parallel()
	key := certtest.Key("P-256")
	kdfs := map[string]pkcs8.KDFOpts{
		"PBKDF2-SHA1":   pkcs8.PBKDF2Opts{SaltSize: 8, IterationCount: 2048, HMACHash: crypto.SHA1},
		"PBKDF2-SHA256": pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: 2048, HMACHash: crypto.SHA256},
		"scrypt":        pkcs8.ScryptOpts{SaltSize: 16, CostParameter: 1024, BlockSize: 8, ParallelizationParameter: 1},
	}
	for name, kdf := range kdfs {
		for _, c := range []pkcs8.Cipher{pkcs8.AES128CBC, pkcs8.AES192CBC, pkcs8.AES256CBC, pkcs8.TripleDESCBC} {
			der, err := pkcs8.MarshalPrivateKey(key, []byte("s3cret"), &pkcs8.Opts{Cipher: c, KDFOpts: kdf})
			if err != nil {
				t.Fatal(err)
			}
			for _, in := range [][]byte{der, block("ENCRYPTED PRIVATE KEY", der)} {
				k, err := open(t, write(t, in), "s3cret")
				if err != nil {
					t.Errorf("%s with cipher %s: %v", name, c.OID(), err)
				} else if !key.Public().(*ecdsa.PublicKey).Equal(k.Public()) {
					t.Errorf("%s with cipher %s: another key", name, c.OID())
				}
			}
			_, err = open(t, write(t, der), "wrong")
			wantReason(t, err, "key-secret", "wrong passphrase")
		}
	}
}

func TestPassphrase(t *testing.T) {
	t.Parallel()
	_, text, err := keyfile.Generate("P-256", []byte("s3cret"))
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, text)
	// An encrypted key may be read by others.
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = open(t, path)
	wantReason(t, err, "key-secret", "no passphrase")
	_, err = open(t, path, "")
	wantReason(t, err, "key-secret", "empty")
	_, err = open(t, path, "wrong")
	wantReason(t, err, "key-secret", "wrong passphrase")

	asked := errors.New("nobody there")
	u, err := kms.ParseURI(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = keyfile.Open(t.Context(), u, kms.Options{Secret: func(context.Context, string) ([]byte, error) { return nil, asked }})
	if wantReason(t, err, "key-secret", "nobody there"); !errors.Is(err, asked) {
		t.Errorf("the cause is lost: %v", err)
	}

	secret := []byte("s3cret")
	k, err := keyfile.Open(t.Context(), u, kms.Options{Secret: func(context.Context, string) ([]byte, error) { return secret, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(secret, make([]byte, len(secret))) {
		t.Error("the passphrase is still in memory")
	}
	if err := kms.Probe(t.Context(), k); err != nil {
		t.Error(err)
	}
	for name, b := range map[string][]byte{"last byte changed": flipLast(t, text), "text cut off": text[:len(text)-60]} {
		if _, err := open(t, write(t, b), "s3cret"); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// flipLast changes the last byte of a PEM block, which is in the last cipher block.
func flipLast(t *testing.T, text []byte) []byte {
	t.Helper()
	b, _ := pem.Decode(text)
	b.Bytes[len(b.Bytes)-1] ^= 1
	return pem.EncodeToMemory(b)
}

// What a file asks of the decryption is judged before anybody types a passphrase.
func TestEncryptedRefuses(t *testing.T) {
	t.Parallel()
	seq := func(parts ...any) asn1.RawValue {
		var b []byte
		for _, p := range parts {
			if v, ok := p.(asn1.RawValue); ok {
				b = append(b, marshal(t, func(v asn1.RawValue) ([]byte, error) { return asn1.Marshal(v) }, v)...)
				continue
			}
			b = append(b, marshal(t, asn1Marshal, p)...)
		}
		return asn1.RawValue{Tag: 16, IsCompound: true, Bytes: b}
	}
	oid := func(arcs ...int) asn1.ObjectIdentifier { return arcs }
	pbes2, pbkdf2, scrypt := oid(1, 2, 840, 113549, 1, 5, 13), oid(1, 2, 840, 113549, 1, 5, 12), oid(1, 3, 6, 1, 4, 1, 11591, 4, 11)
	aes := seq(oid(2, 16, 840, 1, 101, 3, 4, 1, 42), make([]byte, 16))
	kdf := seq(pbkdf2, seq(make([]byte, 8), 1000))
	data := make([]byte, 32)
	file := func(kdf, cipher asn1.RawValue, data []byte) []byte {
		return marshal(t, asn1Marshal, any(seq(seq(pbes2, seq(kdf, cipher)), data)))
	}
	for name, tt := range map[string]struct {
		in   []byte
		says string
	}{
		"A08 PKCS#12's encryption": {marshal(t, asn1Marshal, any(seq(seq(oid(1, 2, 840, 113549, 1, 12, 1, 3), seq()), data))), "openssl pkcs8 -topk8 -v2 aes-256-cbc"},
		"unknown cipher":           {file(kdf, seq(oid(1, 2, 3), make([]byte, 16)), data), "cipher with OID 1.2.3"},
		"unknown derivation":       {file(seq(oid(1, 2, 3), seq()), aes, data), "key derivation with OID 1.2.3"},
		"unknown function":         {file(seq(pbkdf2, seq(make([]byte, 8), 1000, seq(oid(1, 2, 3)))), aes, data), "OID 1.2.3"},
		"IV of 15 bytes":           {file(kdf, seq(oid(2, 16, 840, 1, 101, 3, 4, 1, 42), make([]byte, 15)), data), "cipher are damaged"},
		"no data":                  {file(kdf, aes, nil), "cut short"},
		"31 bytes of data":         {file(kdf, aes, data[:31]), "cut short"},
		"no iterations":            {file(seq(pbkdf2, seq(make([]byte, 8), 0)), aes, data), "0 iterations"},
		"2^31 iterations":          {file(seq(pbkdf2, seq(make([]byte, 8), 1<<31)), aes, data), "2147483648 iterations"},
		"scrypt of 16 GiB":         {file(seq(scrypt, seq(make([]byte, 8), 1<<24, 8, 1)), aes, data), "asks for too much"},
		"scrypt with N of -1":      {file(seq(scrypt, seq(make([]byte, 8), -1, 8, 1)), aes, data), "asks for too much"},
		"bytes after":              {append(file(kdf, aes, data), 0), "follow"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, err := kms.ParseURI(write(t, tt.in))
			if err != nil {
				t.Fatal(err)
			}
			_, err = keyfile.Open(t.Context(), u, kms.Options{Secret: func(context.Context, string) ([]byte, error) {
				t.Error("a passphrase was asked for")
				return []byte("x"), nil
			}})
			wantReason(t, err, "key-format", tt.says)
		})
	}
}

func asn1Marshal(v any) ([]byte, error) { return asn1.Marshal(v) }

func TestGenerate(t *testing.T) {
	t.Parallel()
	for _, algorithm := range certtest.Algorithms {
		for _, passphrase := range []string{"", "päss wörd"} {
			if strings.HasPrefix(algorithm, "RSA") && (testing.Short() || passphrase != "") {
				continue // the encryption does not know the kind of key
			}
			t.Run(fmt.Sprintf("%s %q", algorithm, passphrase), func(t *testing.T) {
				t.Parallel()
				k, text, err := keyfile.Generate(algorithm, []byte(passphrase))
				if err != nil {
					t.Fatal(err)
				}
				again, err := open(t, write(t, text), passphrase)
				if err != nil {
					t.Fatal(err)
				}
				if !again.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(k.Public()) {
					t.Error("another key")
				}
				a, err := kms.AlgorithmOf(k.Public())
				if err != nil || strings.TrimPrefix(a.Spec, "EC-") != strings.TrimPrefix(algorithm, "P-") {
					t.Errorf("%+v, %v", a, err)
				}
				if err := kms.Probe(t.Context(), k); err != nil {
					t.Error(err)
				}
			})
		}
	}
	_, _, err := keyfile.Generate("Ed25519", nil)
	wantReason(t, err, "key-algorithm", "P-256, P-384")
}

// A cancelled context is nobody's wrong input.
func TestCancelled(t *testing.T) {
	t.Parallel()
	u, err := kms.ParseURI(write(t, certtest.KeyPEM(certtest.Key("P-256"))))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := keyfile.Open(ctx, u, kms.Options{}); !errors.Is(err, context.Canceled) || errors.Is(err, kms.ErrInvalid) {
		t.Errorf("%v", err)
	}
}
