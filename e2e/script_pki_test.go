package e2e

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

func cmdPKI(ts *testscript.TestScript, neg bool, args []string) {
	use(ts, neg, args, 0, 0, "pki")
	for name, b := range certificates() {
		ts.Check(os.WriteFile(ts.MkAbs(name), b, 0o600))
	}
}

// certificates makes one hierarchy, what becomes of it with time, and others, as files:
//
//	leaf.key chain.pem root.pem   root, intermediate, leaf; the leaf's key
//	ca.pem leaf.pem               the intermediate and the leaf alone
//	renewed-ca.pem renewed.pem    the intermediate renewed (same name and key, two years longer), and the chain with it
//	reissued-leaf.pem ca4.pem reissued.pem   the leaf re-issued for the same key by another intermediate of the same root, longer; the chain
//	shorter.pem                   the chain with an intermediate that ends sooner
//	renamed.pem                   the chain with a leaf of another subject for the same key
//	no-root.pem expired.pem expired-ca.pem   the chain without its root; with an expired leaf; with an expired intermediate
//	other.key other.pem other-root.pem       another hierarchy
//	second.key second.pem         another key and leaf under the same root
//	self.key self.pem             a self-signed leaf
func certificates() map[string][]byte {
	now := time.Now()
	year := 365 * 24 * time.Hour
	key := certtest.Key("P-256")
	root := certtest.Root("Acme Root")
	caKey := certtest.Key("P-256")
	ca := root.IntermediateWith(caKey, "Acme CA 3", certtest.Valid(now.Add(-24*time.Hour), now.Add(60*24*time.Hour)))
	renewedCA := root.IntermediateWith(caKey, "Acme CA 3", certtest.Valid(now.Add(-time.Hour), now.Add(2*year)))
	shortCA := root.IntermediateWith(caKey, "Acme CA 3", certtest.Valid(now.Add(-time.Hour), now.Add(30*24*time.Hour)))
	expiredCA := root.IntermediateWith(caKey, "Acme CA 3", certtest.Valid(now.Add(-year), now.Add(-time.Hour)))
	ca4 := root.Intermediate("Acme CA 4")
	leaf := ca.Leaf(key.Public(), "release 2026")
	reissued := ca4.Leaf(key.Public(), "release 2026", certtest.Valid(now.Add(-time.Minute), now.Add(2*year)))
	expired := ca.Leaf(key.Public(), "release 2026", certtest.Valid(now.Add(-year), now.Add(-time.Hour)))
	secondKey := certtest.Key("P-256")
	otherKey := certtest.Key("P-256")
	otherRoot := certtest.Root("Other Root")
	selfKey := certtest.Key("P-256")
	return map[string][]byte{
		"leaf.key": certtest.KeyPEM(key), "chain.pem": certtest.PEM(ca.Chain(leaf)...), "root.pem": certtest.PEM(root.Certificate),
		"ca.pem": certtest.PEM(ca.Certificate), "leaf.pem": certtest.PEM(leaf),
		"renewed-ca.pem": certtest.PEM(renewedCA.Certificate), "renewed.pem": certtest.PEM(renewedCA.Chain(leaf)...),
		"ca4.pem": certtest.PEM(ca4.Certificate), "reissued-leaf.pem": certtest.PEM(reissued), "reissued.pem": certtest.PEM(ca4.Chain(reissued)...),
		"shorter.pem": certtest.PEM(shortCA.Chain(leaf)...), "renamed.pem": certtest.PEM(ca.Chain(ca.Leaf(key.Public(), "renamed"))...),
		"no-root.pem": certtest.PEM(leaf, ca.Certificate), "expired.pem": certtest.PEM(ca.Chain(expired)...),
		"expired-ca.pem": certtest.PEM(expiredCA.Chain(leaf)...),
		"other.key":      certtest.KeyPEM(otherKey), "other.pem": certtest.PEM(otherRoot.Chain(otherRoot.Leaf(otherKey.Public(), "other"))...),
		"other-root.pem": certtest.PEM(otherRoot.Certificate),
		"second.key":     certtest.KeyPEM(secondKey), "second.pem": certtest.PEM(ca.Chain(ca.Leaf(secondKey.Public(), "second"))...),
		"self.key": certtest.KeyPEM(selfKey), "self.pem": certtest.PEM(certtest.SelfSigned(selfKey, "self-signed")),
	}
}

// parseCertificates reads PEM certificates without imprint's code.
func parseCertificates(b []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("no certificates")
	}
	return out, nil
}

// parseKey reads a PKCS#8 key without imprint's code.
func parseKey(b []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	return key.(crypto.Signer), nil
}

func readCertificates(ts *testscript.TestScript, file string) []*x509.Certificate {
	certs, err := parseCertificates([]byte(ts.ReadFile(file)))
	ts.Check(err)
	return certs
}
