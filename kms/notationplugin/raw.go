package notationplugin

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync"

	"github.com/imprint-oci/imprint/kms"
)

const generateSignature = "generate-signature"

// A rawKey is a key of a plugin that makes signatures.
type rawKey struct {
	*plugin
	public    crypto.PublicKey
	algorithm kms.Algorithm
	expected  bool // public is what the caller expects, not what the plugin said
	bare      bool // the key may have no certificates
	warn      func(string)
	derOnce   sync.Once

	mu    sync.Mutex
	chain []*x509.Certificate // that came with a signature; nil: none yet
}

// openRaw asks for the key's spec, and learns its public key: the one that the caller expects, else that of the certificates
// which come with a signature.
func (p *plugin) openRaw(ctx context.Context, u *url.URL, o kms.Options) (kms.Key, error) {
	spec, _, err := p.describe(ctx)
	if err != nil {
		return nil, err
	}
	k := &rawKey{plugin: p, public: o.Leaf, expected: o.Leaf != nil, warn: o.Warn}
	var first *signed
	if k.public == nil {
		if first, err = p.first(ctx, spec); err != nil {
			return nil, err
		}
		k.public, k.chain = first.chain[0].PublicKey, first.chain
	}
	if k.algorithm, err = kms.AlgorithmOf(k.public); err != nil {
		return nil, err
	}
	switch {
	case k.algorithm.Spec == spec:
	case k.expected:
		return nil, kms.Invalid(kms.CodeOptions,
			"the certificate to sign with is for a key %s, the plugin's key is %s", k.algorithm.Spec, spec)
	default:
		return nil, p.broken(generateSignature, "its certificate is for a key %s, but describe-key said %s", k.algorithm.Spec, spec)
	}
	r := kms.Remote{
		URI: kms.Format(u), Service: "notation plugin " + p.name, Public: k.public,
		Sign: k.sign, Certificates: k.certificates, Jobs: jobs, Patience: p.patience,
	}
	if first != nil {
		r.Spent = first.calls
		if err := k.check(first); err != nil {
			return nil, err
		}
	}
	return r.Key()
}

// A signed is a message with what a plugin made of it.
type signed struct {
	message, signature []byte
	chain              []*x509.Certificate
	calls              int // that it took
}

// first has random bytes signed for the sake of the certificates that come with it.
func (p *plugin) first(ctx context.Context, spec string) (*signed, error) {
	s := &signed{message: make([]byte, 32)}
	rand.Read(s.message)
	err := kms.Ask(ctx, p.patience, func(ctx context.Context) error {
		s.calls++
		sig, m, err := p.signature(ctx, spec, s.message, nil)
		if err != nil {
			return err
		}
		s.signature = sig
		if s.chain, err = m.chain(); err != nil {
			return p.broken(generateSignature, "its answer %w", err)
		}
		if len(s.chain) == 0 {
			return p.broken(generateSignature, "its answer has an empty certificateChain")
		}
		return nil
	})
	return s, err
}

// check verifies a signature that [kms.Remote] does not see.
func (k *rawKey) check(s *signed) error {
	sig, err := k.der(s.message, s.signature)
	if err != nil {
		return err
	}
	if err := k.algorithm.Verify(k.public, s.message, sig); err != nil {
		return k.foreign(err)
	}
	return nil
}

func (k *rawKey) foreign(err error) error {
	return kms.Failure(kms.CodeSignature, "", "plugin %s: what came back is no signature of its certificate's key: %w", k.name, err)
}

// signature has one signature made. more is added to the configuration. What comes back is about the right key, and no more is
// known of it.
func (p *plugin) signature(ctx context.Context, spec string, message []byte, more map[string]string) ([]byte, members, error) {
	r := signatureRequest{p.keyRequest(), spec, hashes[spec].String(), append([]byte{}, message...)}
	if len(more) > 0 {
		r.Config = maps.Clone(r.Config)
		maps.Copy(r.Config, more)
	}
	m, err := p.askOnce(ctx, generateSignature, r)
	if err != nil {
		return nil, nil, err
	}
	if err := p.echo(generateSignature, m); err != nil {
		return nil, nil, err
	}
	sig, err := m.bytes("signature")
	if err != nil {
		return nil, nil, p.broken(generateSignature, "its answer %w", err)
	}
	return sig, m, nil
}

// sign is the Sign of a [kms.Remote].
func (k *rawKey) sign(ctx context.Context, r kms.SignRequest) ([]byte, error) {
	var more map[string]string
	if r.PKCS1 {
		more = map[string]string{"padding": "pkcs1"}
	}
	sig, m, err := k.signature(ctx, k.algorithm.Spec, r.Message, more)
	if err != nil {
		return nil, err
	}
	if m.has("signingAlgorithm") && !r.PKCS1 {
		if a, err := m.text("signingAlgorithm"); err != nil {
			return nil, k.broken(generateSignature, "its answer %w", err)
		} else if want := signingAlgorithm(k.algorithm); a != want {
			return nil, k.broken(generateSignature, "it signed by %s, not by %s", kms.Text(a), want)
		}
	}
	if err := k.checkChain(m, r.Message, sig); err != nil {
		return nil, err
	}
	return k.der(r.Message, sig)
}

// checkChain checks the certificates that came with a signature and keeps the first.
func (k *rawKey) checkChain(m members, message, sig []byte) error {
	if k.bare && !m.has("certificateChain") {
		return nil
	}
	chain, err := m.chain()
	if err != nil {
		return k.broken(generateSignature, "its answer %w", err)
	}
	if len(chain) == 0 {
		if k.bare {
			return nil
		}
		return k.broken(generateSignature, "its answer has an empty certificateChain")
	}
	if !kms.SameKey(k.public, chain[0].PublicKey) {
		return k.otherLeaf(chain[0], message, sig)
	}
	k.keep(chain)
	return nil
}

func (k *rawKey) keep(chain []*x509.Certificate) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.chain == nil {
		k.chain = chain
	}
}

// otherLeaf says that leaf, which came with a signature, is not for the key that was opened. If the signature is not that key's
// either, and none ever was, it is the caller who expects another key.
func (k *rawKey) otherLeaf(leaf *x509.Certificate, message, sig []byte) error {
	k.mu.Lock()
	never := k.chain == nil
	k.mu.Unlock()
	if k.expected && never && k.check(&signed{message: message, signature: sig}) != nil {
		return kms.Invalid(kms.CodeOptions,
			"the certificate to sign with is for another key than the plugin's own (%s)", kms.Text(leaf.Subject.String()))
	}
	return k.broken(generateSignature,
		"its certificate (%s) is for another key than the one that was opened", kms.Text(leaf.Subject.String()))
}

// der converts an ECDSA signature. The specification does not say how one is written; notation takes it as r and s side by side.
// A plugin that answers with DER is understood as long as that verifies.
func (k *rawKey) der(message, sig []byte) ([]byte, error) {
	pub, ok := k.public.(*ecdsa.PublicKey)
	if !ok {
		return sig, nil
	}
	der, err := kms.DERFromRaw(pub, sig)
	if err == nil {
		return der, nil
	}
	if k.algorithm.Verify(pub, message, sig) != nil {
		return nil, k.foreign(err)
	}
	k.derOnce.Do(func() {
		if k.warn != nil {
			k.warn(fmt.Sprintf("the plugin %s writes ECDSA signatures as DER: other hosts of plugins make broken envelopes of that", k.name))
		}
	})
	return sig, nil
}

// certificates returns those that came with a signature, and has one made if there was none yet.
func (k *rawKey) certificates(ctx context.Context) ([]*x509.Certificate, error) {
	k.mu.Lock()
	chain := slices.Clone(k.chain)
	k.mu.Unlock()
	if chain != nil || k.bare {
		return chain, nil
	}
	first, err := k.first(ctx, k.algorithm.Spec)
	if err != nil {
		return nil, err
	}
	if !kms.SameKey(k.public, first.chain[0].PublicKey) {
		return nil, k.otherLeaf(first.chain[0], first.message, first.signature)
	}
	k.keep(first.chain)
	return first.chain, nil
}
