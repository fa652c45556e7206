package e2e

import (
	"crypto"
	"crypto/dsa" //nolint:staticcheck // a certificate of a DSA key is what must be refused
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
)

// What is wrong with a sign (A01 and on), through the command: exit code, reason code, and nothing written.

func TestCasesSignKey(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	run := func(name string, test func(t *testing.T, d *desk)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newDesk(t, f, t.Name()))
		})
	}

	run("A01 private key does not match the leaf", func(t *testing.T, d *desk) {
		d.file("leaf.key", certtest.KeyPEM(certtest.Key("P-256")))
		d.refused(t, 3, "key-mismatch", d.sign()...)
	})

	// A02, A03: the key service returns something that is not this key's strict signature.
	order := elliptic.P256().Params().N
	for name, misbehave := range map[string]func(k *ecdsa.PrivateKey, digest []byte) []byte{
		"another key version": func(_ *ecdsa.PrivateKey, digest []byte) []byte {
			return derOf(ecdsaSign(certtest.Key("P-256").(*ecdsa.PrivateKey), digest))
		},
		"another hash":   func(k *ecdsa.PrivateKey, digest []byte) []byte { return derOf(ecdsaSign(k, append(digest, 0)[1:])) },
		"raw r and s":    func(k *ecdsa.PrivateKey, digest []byte) []byte { r, s := ecdsaSign(k, digest); return rawOf(r, s) },
		"trailing byte":  func(k *ecdsa.PrivateKey, digest []byte) []byte { return append(derOf(ecdsaSign(k, digest)), 0) },
		"trailing inner": func(k *ecdsa.PrivateKey, digest []byte) []byte { return longerSequence(derOf(ecdsaSign(k, digest))) },
		"r is 0": func(k *ecdsa.PrivateKey, digest []byte) []byte {
			_, s := ecdsaSign(k, digest)
			return derOf(new(big.Int), s)
		},
		"s is n": func(k *ecdsa.PrivateKey, digest []byte) []byte { r, _ := ecdsaSign(k, digest); return derOf(r, order) },
		"s above n": func(k *ecdsa.PrivateKey, digest []byte) []byte {
			r, s := ecdsaSign(k, digest)
			return derOf(r, s.Add(s, order))
		},
		"s negative": func(k *ecdsa.PrivateKey, digest []byte) []byte {
			r, s := ecdsaSign(k, digest)
			return derOf(r, s.Neg(s))
		},
		"nothing": func(*ecdsa.PrivateKey, []byte) []byte { return nil },
	} {
		run("A02 "+name, func(t *testing.T, d *desk) {
			s := &service{public: d.key.Public(), sign: func(message []byte, opts crypto.SignerOpts) ([]byte, error) {
				return misbehave(d.key.(*ecdsa.PrivateKey), digestOf(message, opts)), nil
			}}
			d.serve(s)
			d.refused(t, 6, "key-misbehaved", "sign", d.ref, "--key", serviceKey, "--chain", d.at("chain.pem"))
			if n := s.calls.Load(); n != 1 {
				t.Errorf("%d calls", n)
			}
		})
	}
	for name, salt := range map[string]int{"A03 PSS salt of 20 bytes": 20, "A03 PSS salt as long as possible": rsa.PSSSaltLengthAuto, "A03 no PSS salt": 0} {
		run(name, func(t *testing.T, d *desk) {
			k := certtest.Key("RSA-2048").(*rsa.PrivateKey)
			d.file("chain.pem", certtest.PEM(d.ca.Chain(d.ca.Leaf(k.Public(), "rsa"))...))
			d.serve(&service{public: k.Public(), sign: func(message []byte, opts crypto.SignerOpts) ([]byte, error) {
				if salt == 0 { // PKCS#1 v1.5 has none
					return rsa.SignPKCS1v15(rand.Reader, k, opts.HashFunc(), digestOf(message, opts))
				}
				return pss(k, message, salt), nil
			}})
			for _, format := range []string{"jws", "cose"} {
				d.refused(t, 6, "key-misbehaved", "sign", d.ref, "--key", serviceKey, "--chain", d.at("chain.pem"), "--signature-format", format)
			}
		})
	}
	for name, misbehave := range map[string]func(sig []byte) []byte{
		"one byte longer":  func(sig []byte) []byte { return append([]byte{0}, sig...) },
		"one byte shorter": func(sig []byte) []byte { return sig[1:] },
		"one bit turned":   func(sig []byte) []byte { sig[9] ^= 1; return sig },
	} {
		run("A02 RSA, "+name, func(t *testing.T, d *desk) {
			k := certtest.Key("RSA-2048").(*rsa.PrivateKey)
			d.file("chain.pem", certtest.PEM(d.ca.Chain(d.ca.Leaf(k.Public(), "rsa"))...))
			d.serve(&service{public: k.Public(), sign: func(message []byte, _ crypto.SignerOpts) ([]byte, error) {
				return misbehave(pss(k, message, rsa.PSSSaltLengthEqualsHash)), nil
			}})
			for _, format := range []string{"jws", "cose"} {
				d.refused(t, 6, "key-misbehaved", "sign", d.ref, "--key", serviceKey, "--chain", d.at("chain.pem"), "--signature-format", format)
			}
		})
	}
	run("A02 the service fails", func(t *testing.T, d *desk) {
		d.serve(&service{public: d.key.Public(), sign: func([]byte, crypto.SignerOpts) ([]byte, error) {
			return nil, &kms.Error{Code: kms.CodeService, Class: kms.ErrService, Err: errors.New("access denied")}
		}})
		d.refused(t, 6, kms.CodeService, "sign", d.ref, "--key", serviceKey, "--chain", d.at("chain.pem"))
	})

	// A04: public keys that Notary does not know, in a certificate that is otherwise right.
	ed, _, _ := ed25519.GenerateKey(rand.Reader)
	for name, pub := range map[string]crypto.PublicKey{
		"RSA 2047": oddRSA(2047, 65537), "RSA 2041": oddRSA(2041, 65537), "RSA 1024": oddRSA(1024, 65537), "RSA 8192": oddRSA(8192, 65537),
		"RSA 2049": oddRSA(2049, 65537), "e is 1": oddRSA(2048, 1), "e is 3": oddRSA(2048, 3), "e is even": oddRSA(2048, 65538),
		"P-224": certtest.Key("P-224").Public(), "Ed25519": ed,
	} {
		run("A04 "+name, func(t *testing.T, d *desk) {
			s := &service{public: pub}
			d.file("chain.pem", certtest.PEM(d.ca.Chain(d.ca.Leaf(pub, "odd"))...))
			d.serve(s)
			d.refused(t, 3, "leaf-key-algorithm", "sign", d.ref, "--key", serviceKey, "--chain", d.at("chain.pem"))
			if s.calls.Load() != 0 {
				t.Error("the key was asked to sign")
			}
			// And with a usable key.
			d.refused(t, 3, "leaf-key-algorithm", d.sign()...)
		})
	}
	params := dsa.PublicKey{Parameters: dsa.Parameters{P: oddRSA(2048, 3).N, Q: oddRSA(256, 3).N, G: big.NewInt(4)}, Y: oddRSA(2047, 3).N}
	reasons := map[string]string{"secp256k1": "malformed-certificates", "DSA": "leaf-key-algorithm"}
	for name, spki := range map[string][]byte{
		"secp256k1": spkiOf(curve(asn1.ObjectIdentifier{1, 3, 132, 0, 10}), secp256k1G),
		"DSA": spkiOf(pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}, Parameters: asn1.RawValue{FullBytes: der(struct{ P, Q, G *big.Int }{params.P, params.Q, params.G})}},
			der(params.Y)),
	} {
		run("A04 "+name, func(t *testing.T, d *desk) {
			d.file("chain.pem", slices.Concat(withSPKI(d.leaf, spki, d.ca), certtest.PEM(d.ca.Certificate, d.root.Certificate)))
			d.refused(t, 3, reasons[name], d.sign()...)
		})
	}

	// A08: formats of keys that are not read are named, with what converts them.
	for name, key := range map[string]struct {
		file []byte
		says []string
	}{
		"legacy encrypted PEM": {pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00112233445566778899AABBCCDDEEFF"}, Bytes: make([]byte, 64)}), []string{"Proc-Type", "openssl "}},
		"PKCS#12":              {pkcs12, []string{"PKCS#12", "openssl "}},
		"OpenSSH":              {[]byte("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAAB\n-----END OPENSSH PRIVATE KEY-----\n"), []string{"OpenSSH"}},
		"a certificate only":   {certtest.PEM(certtest.Root("not a key").Certificate), []string{"no private key"}},
		"garbage":              {[]byte("this is no key"), nil},
		"empty":                {nil, nil},
	} {
		run("A08 "+name, func(t *testing.T, d *desk) {
			d.file("leaf.key", key.file)
			o := d.refused(t, 3, "key-format", d.sign()...)
			for _, s := range key.says {
				if !strings.Contains(o.field(t, "error"), s) {
					t.Errorf("the error does not name %q: %s", s, o.field(t, "error"))
				}
			}
		})
	}

	run("A09 readable by others", func(t *testing.T, d *desk) {
		if err := os.Chmod(d.at("leaf.key"), 0o644); err != nil {
			t.Fatal(err)
		}
		o := d.refused(t, 3, "key-permissions", d.sign()...)
		if !strings.Contains(o.stderr, "chmod 600") {
			t.Errorf("it is not said what helps: %s", o.stderr)
		}
	})
	run("A09 symlink that leaves its folder", func(t *testing.T, d *desk) {
		elsewhere := filepath.Join(t.TempDir(), "elsewhere.key")
		if err := os.Rename(d.at("leaf.key"), elsewhere); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(elsewhere, d.at("leaf.key")); err != nil {
			t.Fatal(err)
		}
		d.refused(t, 3, "key-file", d.sign()...)
	})
	run("A09 a secret of Kubernetes works", func(t *testing.T, d *desk) {
		mount := d.at("secret")
		data := filepath.Join(mount, "..2026_11_22")
		if err := os.MkdirAll(data, 0o700); err != nil {
			t.Fatal(err)
		}
		for from, to := range map[string]string{"..data": "..2026_11_22", "leaf.key": "..data/leaf.key"} {
			if err := os.Symlink(to, filepath.Join(mount, from)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(d.at("leaf.key"), filepath.Join(data, "leaf.key")); err != nil {
			t.Fatal(err)
		}
		d.want(t, 0, "", "sign", d.ref, "--key", "file:"+filepath.Join(mount, "leaf.key"), "--chain", d.at("chain.pem"))
	})
	run("A09 FIFO", func(t *testing.T, d *desk) {
		if err := os.Remove(d.at("leaf.key")); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(d.at("leaf.key"), 0o600); err != nil {
			t.Fatal(err)
		}
		d.refused(t, 3, "key-file", d.sign()...)
	})
	run("A09 /dev/zero", func(t *testing.T, d *desk) {
		d.refused(t, 3, "key-file", "sign", d.ref, "--key", "file:/dev/zero", "--chain", d.at("chain.pem"))
		d.refused(t, 3, "usage", d.sign("--chain", "/dev/zero")...)
	})
}

// rawOf writes r and s beside each other, as a service that speaks JOSE would.
func rawOf(r, s *big.Int) []byte {
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

// longerSequence puts a third integer into an ECDSA signature.
func longerSequence(sig []byte) []byte {
	fields := elements(sig)
	return sequence(append(fields, asn1.RawValue{FullBytes: der(big.NewInt(1))}))
}

func der(v any) []byte {
	b, err := asn1.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// curve identifies a public key on a named curve.
func curve(oid asn1.ObjectIdentifier) pkix.AlgorithmIdentifier {
	return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, Parameters: asn1.RawValue{FullBytes: der(oid)}}
}

// secp256k1G is that curve's base point: a public key that is on it.
var secp256k1G = func() []byte {
	x, _ := new(big.Int).SetString("79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798", 16)
	y, _ := new(big.Int).SetString("483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8", 16)
	return append([]byte{4}, rawOf(x, y)...)
}()

// pkcs12 is the outer form of a PFX of version 3, all that tells the format.
var pkcs12 = der(struct {
	Version int
	Content struct {
		Type asn1.ObjectIdentifier
		Body []byte `asn1:"explicit,tag:0"`
	}
}{3, struct {
	Type asn1.ObjectIdentifier
	Body []byte `asn1:"explicit,tag:0"`
}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}, make([]byte, 64)}})
