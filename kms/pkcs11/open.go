// Package pkcs11 signs with keys in PKCS #11 tokens: hardware security modules, smart cards, YubiKeys, SoftHSM.
//
// A key is named by a URI of RFC 7512. The module, which is a shared library of the token's vendor, runs in this process; the
// program imprint therefore does not import this package but starts notation-pkcs11, which does.
//
// The PIN is shown to a token only where a signature needs it, or where nothing that the token shows without it is the key
// that is meant. A PIN that was refused is never shown again: three of them lock a YubiKey.
package pkcs11

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/pkcs11/cryptoki"
)

const (
	// patience is for the person who touches the token or types at its pad, and for slow ones.
	patience = 5 * time.Minute
	jobs     = 8
)

// Open opens the key that a pkcs11: URI names. It is a [kms.Opener]. The module stays loaded, and the token logged in to, until
// the process ends; [Find] is for those who want an end before that.
//
// Config has one key, pin-source, which takes precedence over the URI's. Leaf is the public key where the token shows none.
func Open(ctx context.Context, u *url.URL, o kms.Options) (kms.Key, error) {
	f, err := Find(ctx, u, o)
	if err != nil {
		return nil, fmt.Errorf("opening key %s: %w", shown(u), err)
	}
	return f.Key, nil
}

// A Found is a key in a token.
type Found struct {
	// Key signs, knows its pinned URI ([kms.Identifier]) and its certificates ([kms.Certificates]): those for its public key, then
	// what the token has of their issuers.
	Key kms.Key

	key *key
}

// Close logs out and ends the module.
func (f *Found) Close() error { return f.key.token.close() }

// A key is a key pair in a token. The private key is looked up when it signs, since it may not show before the login.
type key struct {
	token  *token
	object object
	public crypto.PublicKey
}

// shown is the URI without where the PIN is: that file is nobody else's business.
func shown(u *url.URL) string {
	v := *u
	q := v.Query()
	q.Del("pin-source")
	v.RawQuery = encoded(q)
	return kms.Format(&v)
}

// encoded writes a query as RFC 7512 does, in which + is itself.
func encoded(q url.Values) string {
	return strings.NewReplacer("+", "%20", "%2F", "/", "%3A", ":").Replace(q.Encode())
}

// Find is [Open] for a caller that closes what it found. Its errors say only why.
func Find(ctx context.Context, u *url.URL, o kms.Options) (*Found, error) {
	sel, err := parseSelector(u)
	if err != nil {
		return nil, err
	}
	if source := o.Config["pin-source"]; source != "" {
		sel.pinSource = source
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path, err := sel.module()
	if err != nil {
		return nil, err
	}
	w := takeTurns(path)
	w.look(ctx)
	defer w.done()
	m, err := cryptoki.Load(path)
	if err != nil {
		w.close()
		return nil, unloadable(path, err)
	}
	k, err := sel.search(ctx, m, w, o)
	if err == nil {
		var f *Found
		if f, err = k.found(sel); err == nil {
			return f, nil
		}
	}
	w.done()
	w.close()
	return nil, errors.Join(err, m.Close())
}

func (k *key) found(sel *selector) (*Found, error) {
	if err := k.capable(); err != nil {
		return nil, err
	}
	_, isRSA := k.public.(*rsa.PublicKey)
	n := jobs
	if k.token.module.Alone() {
		n = 1
	}
	uri, err := kms.ParseURI(sel.pinned(k))
	if err != nil {
		return nil, err
	}
	remote, err := kms.Remote{
		URI: kms.Format(uri), Service: "PKCS #11", Public: k.public, Sign: k.sign, Raw: true, PKCS1: isRSA,
		Certificates: k.certificates, Jobs: n, Patience: patience, Careful: true,
	}.Key()
	if err != nil {
		return nil, err
	}
	return &Found{remote, k}, nil
}

// capable refuses a key whose token has no mechanism for it.
func (k *key) capable() error {
	a, err := kms.AlgorithmOf(k.public)
	if err != nil {
		return err
	}
	mech, name, other := cryptoki.MechECDSA, "CKM_ECDSA", "RSA keys"
	if a.PSS {
		mech, name, other = cryptoki.MechRSAPKCSPSS, "CKM_RSA_PKCS_PSS", "ECDSA keys on P-256, P-384 and P-521"
	}
	signs, err := k.token.module.Signs(k.token.slot, mech)
	if err != nil || signs {
		return err
	}
	return kms.Invalid(kms.CodeAlgorithm, "the token %s has no mechanism %s, so that its %s key makes no Notary Project signatures: use %s",
		k.token.name(), name, a.Spec, other)
}

// certificates returns the certificates for the public key, then what the token has of their issuers.
func (k *key) certificates(ctx context.Context) ([]*x509.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	defer k.token.alone()()
	s, err := k.token.session()
	if err != nil {
		return nil, refused(err)
	}
	defer k.token.done(s, nil)
	all, err := allCertificates(s)
	if err != nil {
		return nil, refused(err)
	}
	var chain []*x509.Certificate
	seen := map[*x509.Certificate]bool{}
	add := func(c *x509.Certificate) {
		if !seen[c] && len(chain) < kms.MaxCertificates {
			seen[c], chain = true, append(chain, c)
		}
	}
	for _, c := range all {
		if kms.SameKey(c.PublicKey, k.public) {
			add(c)
		}
	}
	for i := 0; i < len(chain); i++ {
		for _, c := range all {
			if string(c.RawSubject) == string(chain[i].RawIssuer) {
				add(c)
			}
		}
	}
	return chain, nil
}

// pinned returns the URI that names this key and no other, by what does not change: the token's serial number and the key's id.
func (sel *selector) pinned(k *key) string {
	var b strings.Builder
	b.WriteString("pkcs11:")
	attr := func(name, value string) {
		if value != "" {
			if b.Len() > len("pkcs11:") {
				b.WriteByte(';')
			}
			b.WriteString(name + "=" + value)
		}
	}
	if k.token.info.Serial == "" {
		attr("token", url.PathEscape(k.token.info.Label))
	}
	attr("serial", url.PathEscape(k.token.info.Serial))
	if len(k.object.id) == 0 || sel.object != "" && len(sel.id) > 0 {
		attr("object", url.PathEscape(k.object.label))
	}
	attr("id", percent(k.object.id))
	q := url.Values{}
	for name, value := range map[string]string{"module-path": sel.modulePath, "module-name": sel.moduleName, "pin-source": sel.pinSource} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if len(q) > 0 {
		b.WriteString("?" + encoded(q))
	}
	return b.String()
}

// percent writes an id as RFC 7512 does.
func percent(id []byte) string {
	var b strings.Builder
	for _, c := range id {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}
