package keys

import (
	"crypto/x509"
	"path/filepath"
	"testing"

	"github.com/imprint-oci/imprint/kms/kmstest/pkcs11test"
)

// userPIN is the PIN of every token here.
const userPIN = "canary-pin-4711"

// tokened returns a desk from which the tokens of h are seen, with the PIN in the file "pin".
func tokened(t testing.TB, h *pkcs11test.HSM, env ...string) *desk {
	t.Helper()
	d := newDesk(t, append(env, h.Env...)...)
	d.file("pin", []byte(userPIN+"\n"))
	return d
}

// hsm makes one token, named hsm, with keys, and with certificates that belong to none of them.
func hsm(t testing.TB, certificates []*x509.Certificate, keys ...pkcs11test.Key) *pkcs11test.HSM {
	t.Helper()
	return pkcs11test.New(t, pkcs11test.Token{Label: "hsm", PIN: userPIN, Keys: keys, Certificates: certificates})
}

// seesTokens makes the desk see other tokens than before.
func (d *desk) seesTokens(h *pkcs11test.HSM) { d.env = append(d.env, h.Env...) }

func (d *desk) pinFile() string { return filepath.Join(d.dir, "pin") }
