package keyfile

import (
	"context"
	"crypto"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"

	"github.com/youmark/pkcs8"

	"github.com/imprint-oci/imprint/kms"
)

// Bounds on what a file may ask of the key derivation: about 10 s and 1 GiB, far above what tools write.
const (
	maxIterations   = 10_000_000
	maxScryptMemory = 1 << 30
)

// iterations of PBKDF2-HMAC-SHA256 for new files: OWASP's figure of 2023, about 0.2 s.
const iterations = 600_000

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidScrypt = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}
)

// prfs are the pseudo-random functions of PBKDF2. SHA-1 is what a file that names none means.
var prfs = map[string]func() hash.Hash{
	"1.2.840.113549.2.7":  sha1.New,
	"1.2.840.113549.2.8":  sha256.New224,
	"1.2.840.113549.2.9":  sha256.New,
	"1.2.840.113549.2.10": sha512.New384,
	"1.2.840.113549.2.11": sha512.New,
}

// ciphers are those of the library: CBC all of them.
var ciphers = map[string]pkcs8.Cipher{
	pkcs8.AES128CBC.OID().String():    pkcs8.AES128CBC,
	pkcs8.AES192CBC.OID().String():    pkcs8.AES192CBC,
	pkcs8.AES256CBC.OID().String():    pkcs8.AES256CBC,
	pkcs8.TripleDESCBC.OID().String(): pkcs8.TripleDESCBC,
}

// unlock asks for the passphrase of an encrypted PKCS#8 structure and returns the PKCS#8 within. What the file asks for is
// checked first, so that nobody types a passphrase for a file that cannot be read.
func unlock(ctx context.Context, path string, der []byte, o kms.Options) ([]byte, error) {
	e, err := parseEncrypted(der)
	if err != nil {
		return nil, err
	}
	if o.Secret == nil {
		return nil, secret("it is encrypted and there is no passphrase")
	}
	passphrase, err := o.Secret(ctx, fmt.Sprintf("passphrase of %s: ", path))
	if err != nil {
		return nil, secret("asking for its passphrase: %w", err)
	}
	defer clear(passphrase)
	if len(passphrase) == 0 {
		return nil, secret("it is encrypted and the passphrase is empty")
	}
	return e.decrypt(passphrase)
}

func secret(text string, args ...any) error {
	return &kms.Error{Code: kms.CodeSecret, Class: kms.ErrSecret, Err: fmt.Errorf(text, args...)}
}

// An encrypted key: how to derive the cipher's key, and what to decrypt.
type encrypted struct {
	derive func(passphrase []byte, size int) ([]byte, error)
	cipher pkcs8.Cipher
	iv     []byte
	data   []byte
}

// parseEncrypted reads EncryptedPrivateKeyInfo (RFC 5958) with PBES2 (RFC 8018). The library would panic on an IV of another
// length and calls every unknown parameter a wrong password, so its parser is not used, only its ciphers.
func parseEncrypted(der []byte) (*encrypted, error) {
	var outer struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) > 0 {
		return nil, format("its encrypted PKCS#8 structure is damaged")
	}
	if !outer.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, convertible("an old encryption (OID %s, PKCS#5 v1.5 or PKCS#12)", outer.Algorithm.Algorithm)
	}
	var params struct{ KDF, Cipher pkix.AlgorithmIdentifier }
	if rest, err := asn1.Unmarshal(outer.Algorithm.Parameters.FullBytes, &params); err != nil || len(rest) > 0 {
		return nil, format("its PBES2 parameters are damaged")
	}
	e := &encrypted{data: outer.Data, cipher: ciphers[params.Cipher.Algorithm.String()]}
	if e.cipher == nil {
		return nil, convertible("the cipher with OID %s", params.Cipher.Algorithm)
	}
	if rest, err := asn1.Unmarshal(params.Cipher.Parameters.FullBytes, &e.iv); err != nil || len(rest) > 0 || len(e.iv) != e.cipher.IVSize() {
		return nil, format("the parameters of its cipher are damaged")
	}
	if len(e.data) == 0 || len(e.data)%e.cipher.IVSize() != 0 {
		return nil, format("its encrypted part is cut short")
	}
	var err error
	switch kdf := params.KDF.Algorithm; {
	case kdf.Equal(oidPBKDF2):
		e.derive, err = parsePBKDF2(params.KDF.Parameters.FullBytes)
	case kdf.Equal(oidScrypt):
		e.derive, err = parseScrypt(params.KDF.Parameters.FullBytes)
	default:
		err = convertible("the key derivation with OID %s", kdf)
	}
	return e, err
}

func parsePBKDF2(der []byte) (func([]byte, int) ([]byte, error), error) {
	var p struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	if rest, err := asn1.Unmarshal(der, &p); err != nil || len(rest) > 0 {
		return nil, format("the parameters of its key derivation (PBKDF2) are damaged")
	}
	if p.Iterations < 1 || p.Iterations > maxIterations {
		return nil, format("its key derivation (PBKDF2) asks for %d iterations: at most %d are done", p.Iterations, maxIterations)
	}
	newHash := sha1.New
	if len(p.PRF.Algorithm) > 0 {
		if newHash = prfs[p.PRF.Algorithm.String()]; newHash == nil {
			return nil, convertible("PBKDF2 with the function of OID %s", p.PRF.Algorithm)
		}
	}
	return func(passphrase []byte, size int) ([]byte, error) {
		if p.KeyLength != 0 && p.KeyLength != size {
			return nil, format("its key derivation makes %d bytes, its cipher needs %d", p.KeyLength, size)
		}
		return pbkdf2.Key(newHash, string(passphrase), p.Salt, p.Iterations, size)
	}, nil
}

func parseScrypt(der []byte) (func([]byte, int) ([]byte, error), error) {
	var p struct {
		Salt      []byte
		N, R, P   int
		KeyLength int `asn1:"optional"`
	}
	if rest, err := asn1.Unmarshal(der, &p); err != nil || len(rest) > 0 {
		return nil, format("the parameters of its key derivation (scrypt) are damaged")
	}
	small := func(n, most int) bool { return n > 0 && n <= most }
	if !small(p.N, maxScryptMemory) || !small(p.R, 1<<16) || !small(p.P, 16) || 128*int64(p.N)*int64(p.R) > maxScryptMemory {
		return nil, format("its key derivation (scrypt) asks for too much: N=%d, r=%d, p=%d", p.N, p.R, p.P)
	}
	opts := pkcs8.ScryptOpts{CostParameter: p.N, BlockSize: p.R, ParallelizationParameter: p.P}
	return func(passphrase []byte, size int) ([]byte, error) {
		if p.KeyLength != 0 && p.KeyLength != size {
			return nil, format("its key derivation makes %d bytes, its cipher needs %d", p.KeyLength, size)
		}
		key, _, err := opts.DeriveKey(passphrase, p.Salt, size)
		return key, err
	}, nil
}

func convertible(what string, args ...any) error {
	return format("it is encrypted by "+what+", which imprint does not read; "+
		"convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -in FILE -out NEW", args...)
}

// errPassphrase: CBC cannot tell the two apart.
var errPassphrase = errors.New("wrong passphrase, or the file is damaged")

// decrypt returns the PKCS#8 structure within.
func (e *encrypted) decrypt(passphrase []byte) ([]byte, error) {
	key, err := e.derive(passphrase, e.cipher.KeySize())
	if err != nil {
		return nil, format("deriving the key of its cipher: %w", err)
	}
	defer clear(key)
	plain, err := e.cipher.Decrypt(key, e.iv, e.data)
	if err != nil {
		return nil, format("decrypting it: %w", err)
	}
	// A wrong passphrase passes the padding by chance, once in 256, but not the structure too.
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > e.cipher.IVSize() || pad > len(plain) {
		clear(plain)
		return nil, secret("%w", errPassphrase)
	}
	for _, b := range plain[len(plain)-pad:] {
		if int(b) != pad {
			clear(plain)
			return nil, secret("%w", errPassphrase)
		}
	}
	plain = plain[:len(plain)-pad]
	if shape, err := shapeOf(plain); err != nil || shape != "INTEGER SEQUENCE" {
		clear(plain)
		return nil, secret("%w", errPassphrase)
	}
	return plain, nil
}

// encode writes a private key as PKCS#8 PEM, encrypted if there is a passphrase.
func encode(private any, passphrase []byte) ([]byte, error) {
	if len(passphrase) == 0 {
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			return nil, err
		}
		defer clear(der)
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	}
	der, err := pkcs8.MarshalPrivateKey(private, passphrase, &pkcs8.Opts{
		Cipher:  pkcs8.AES256CBC,
		KDFOpts: pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: iterations, HMACHash: crypto.SHA256},
	})
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}), nil
}
