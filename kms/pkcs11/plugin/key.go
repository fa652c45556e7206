package plugin

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/pkcs11"
)

// An opened key is the key of a request.
type opened struct {
	*pkcs11.Found
	algorithm kms.Algorithm
	file      []*x509.Certificate // of chain-file
}

// open finds the key of a request.
func (p *plugin) open(ctx context.Context, r *request) (*opened, error) {
	if err := r.checkKey(); err != nil {
		return nil, err
	}
	u, err := kms.ParseURI(r.KeyID)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "pkcs11" {
		return nil, kms.Invalid(kms.CodeURI, "the keyId is no pkcs11 key URI: write pkcs11:token=TOKEN;object=KEY")
	}
	k := new(opened)
	o := kms.Options{Config: map[string]string{"pin-source": r.Config.pinSource}}
	if len(r.Config.pin) > 0 {
		o.Secret = func(context.Context, string) ([]byte, error) { return bytes.Clone(r.Config.pin), nil }
	}
	if r.Config.chainFile != "" {
		if k.file, err = readChain(r.Config.chainFile); err != nil {
			return nil, err
		}
		o.Leaf = onlyLeaf(k.file)
	}
	if k.Found, err = pkcs11.Find(ctx, u, o); err != nil {
		return nil, err
	}
	if k.algorithm, err = kms.AlgorithmOf(k.Key.Public()); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// readChain reads certificates from a file.
func readChain(path string) ([]*x509.Certificate, error) {
	if !filepath.IsAbs(path) {
		return nil, kms.Invalid(kms.CodeOptions, "chain-file=%s is not absolute: nothing is read from the working folder", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, kms.Invalid(kms.CodeOptions, "reading chain-file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, certchain.MaxBytes+1))
	if err != nil {
		return nil, kms.Invalid(kms.CodeOptions, "reading chain-file: %w", err)
	}
	certs, err := certchain.Parse(b)
	if err != nil {
		return nil, kms.Invalid(kms.CodeOptions, "reading chain-file %s: %w", path, err)
	}
	return certs, nil
}

// onlyLeaf returns the public key of the one certificate that is no CA's, nil if there is not one.
func onlyLeaf(certs []*x509.Certificate) crypto.PublicKey {
	var pub crypto.PublicKey
	for _, c := range certs {
		if c.IsCA {
			continue
		}
		if pub != nil {
			return nil
		}
		pub = c.PublicKey
	}
	return pub
}

// chain returns the key's certificates, leaf first: those of the file if there is one, else the token's. If they may be missing,
// it returns what there is of them.
func (p *plugin) chain(ctx context.Context, r *request, k *opened) ([]*x509.Certificate, error) {
	if k.file != nil {
		chain, err := certchain.OrderFor(k.Key.Public(), k.file, p.now)
		if err != nil {
			return nil, kms.Invalid(kms.CodeOptions, "the certificates of chain-file %s: %w", r.Config.chainFile, err)
		}
		return chain, nil
	}
	kept, err := kms.Certificates(ctx, k.Key)
	if err != nil {
		return nil, err
	}
	if len(kept) == 0 {
		if r.Config.chainOptional {
			return nil, nil
		}
		return nil, noChain("the key %s has no certificate on the token", r.KeyID)
	}
	chain, err := certchain.OrderFor(k.Key.Public(), kept, p.now)
	switch {
	case err == nil:
		return chain, nil
	case r.Config.chainOptional:
		return kept, nil
	}
	return nil, noChain("the certificates on the token are no whole chain: %w", err)
}

func noChain(format string, args ...any) error {
	return kms.Failure(kms.CodeNotFound, "put the certificates, up to the root, on the token, or name a file of them: --plugin-config chain-file=FILE", format, args...)
}

type describeAnswer struct {
	KeyID   string `json:"keyId"`
	KeySpec string `json:"keySpec"`
	// Beyond the contract.
	PublicKey []byte   `json:"publicKey"`        // SubjectPublicKeyInfo, DER
	Chain     [][]byte `json:"certificateChain"` // DER, leaf first; as far as it is known
	URI       string   `json:"uri"`              // names the same key for good
}

func (p *plugin) describe(ctx context.Context, r *request) (any, error) {
	k, err := p.open(ctx, r)
	if err != nil {
		return nil, err
	}
	r.Config.chainOptional = true // whether it must be there is for the signature to say
	a, err := p.described(ctx, r, k)
	if err := errors.Join(err, ended(k.Close())); err != nil {
		return nil, err
	}
	return a, nil
}

func (p *plugin) described(ctx context.Context, r *request, k *opened) (*describeAnswer, error) {
	chain, err := p.chain(ctx, r, k)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(k.Key.Public())
	if err != nil {
		return nil, fmt.Errorf("encoding the public key: %w", err)
	}
	return &describeAnswer{r.KeyID, k.algorithm.Spec, der, raw(chain), k.id()}, nil
}

type signAnswer struct {
	KeyID     string   `json:"keyId"`
	Signature []byte   `json:"signature"`
	Algorithm string   `json:"signingAlgorithm"`
	Chain     [][]byte `json:"certificateChain"`
}

func (p *plugin) sign(ctx context.Context, r *request) (any, error) {
	if len(r.Payload) == 0 {
		return nil, invalid("the request has no payload")
	}
	k, err := p.open(ctx, r)
	if err != nil {
		return nil, err
	}
	a, err := p.signed(ctx, r, k)
	if err := errors.Join(err, ended(k.Close())); err != nil {
		return nil, err
	}
	return a, nil
}

func (p *plugin) signed(ctx context.Context, r *request, k *opened) (*signAnswer, error) {
	if r.KeySpec != k.algorithm.Spec || r.Hash != k.algorithm.Hash.String() {
		return nil, invalid("a signature by %.20q with %.20q was asked for, but the key is for %s with %s", r.KeySpec, r.Hash, k.algorithm.Spec, k.algorithm.Hash)
	}
	if r.Config.pkcs1 && !k.algorithm.PSS {
		return nil, invalid("padding=pkcs1 is for RSA keys, and the key is %s", k.algorithm.Spec)
	}
	// Before the signature: a key without certificates costs nobody a PIN.
	chain, err := p.chain(ctx, r, k)
	if err != nil {
		return nil, err
	}
	opts, name := k.algorithm.SignerOpts(), "ECDSA-"
	switch {
	case r.Config.pkcs1:
		opts, name = k.algorithm.Hash, "RSASSA-PKCS1-v1_5-"
	case k.algorithm.PSS:
		name = "RSASSA-PSS-"
	}
	sig, err := k.Key.Sign(ctx, r.Payload, opts)
	if err != nil {
		return nil, &shorter{err, "signing with " + k.id() + ": "}
	}
	if pub, ok := k.Key.Public().(*ecdsa.PublicKey); ok {
		if sig, err = sideBySide(pub, sig); err != nil {
			return nil, err
		}
	}
	return &signAnswer{r.KeyID, sig, name + k.algorithm.Hash.String(), raw(chain)}, nil
}

// shorter leaves out what hosts say themselves: which key it is about.
type shorter struct {
	error
	prefix string
}

func (s *shorter) Error() string { return strings.TrimPrefix(s.error.Error(), s.prefix) }
func (s *shorter) Unwrap() error { return s.error }

func (k *opened) id() string {
	if id, ok := k.Key.(kms.Identifier); ok {
		return id.ID()
	}
	return ""
}

// ended names an error of closing.
func ended(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("closing the PKCS #11 module: %w", err)
}

func raw(chain []*x509.Certificate) [][]byte {
	ders := [][]byte{} // [] in JSON, not null
	for _, c := range chain {
		ders = append(ders, c.Raw)
	}
	return ders
}

// sideBySide converts an ECDSA signature from DER, which was verified, to r and s as the contract's hosts put them into envelopes.
func sideBySide(pub *ecdsa.PublicKey, der []byte) ([]byte, error) {
	var sig struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &sig); err != nil || len(rest) > 0 {
		return nil, errors.New("converting the signature: it is no DER")
	}
	width := (pub.Curve.Params().N.BitLen() + 7) / 8
	out := make([]byte, 2*width)
	sig.R.FillBytes(out[:width])
	sig.S.FillBytes(out[width:])
	return out, nil
}
