package pkcs11

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/pkcs11/cryptoki"
)

// maxCertificates bounds what is read of one token.
const maxCertificates = 512

// An object is a key pair as its private key, its public key or its certificate shows it.
type object struct {
	handle cryptoki.Object
	class  uint
	id     []byte
	label  string
}

// name is the object as a key URI names it, to people.
func (o object) name() string {
	var parts []string
	if o.label != "" {
		parts = append(parts, "object="+kms.Text(o.label))
	}
	if len(o.id) > 0 {
		parts = append(parts, "id="+percent(o.id))
	}
	if len(parts) == 0 {
		return "one without name and id"
	}
	return strings.Join(parts, ";")
}

// same reports whether two objects belong to one key pair: by CKA_ID, which is for that, or by label where there is none.
func (o object) same(p object) bool {
	if len(o.id) > 0 || len(p.id) > 0 {
		return string(o.id) == string(p.id)
	}
	return o.label == p.label
}

// search finds the key among the tokens that the URI may mean, without a PIN if the token shows enough of it.
func (sel *selector) search(ctx context.Context, m *cryptoki.Module, w turn, o kms.Options) (*key, error) {
	tokens, err := sel.tokens(m, w, pins{sel.pinSource, o.Secret})
	if err != nil {
		return nil, err
	}
	var found []*key
	for _, t := range tokens {
		objects, err := t.search(sel)
		if err != nil {
			return nil, fmt.Errorf("looking into the token %s: %w", t.name(), refused(err))
		}
		for _, obj := range objects {
			found = append(found, &key{token: t, object: obj})
		}
	}
	if len(found) == 0 {
		if found, err = sel.searchInside(ctx, tokens); err != nil {
			return nil, err
		}
	}
	if len(found) > 1 {
		return nil, problem(kms.CodeNotFound, "name one: add serial= or id= to the key URI", "%d keys match %s: %s",
			len(found), sel.wantsObject(), listed(found, func(k *key) string { return "serial=" + kms.Text(k.token.info.Serial) + ";" + k.object.name() }))
	}
	k := found[0]
	if k.public, err = k.findPublic(o.Leaf); err != nil {
		return nil, fmt.Errorf("reading the public key of %s in the token %s: %w", k.object.name(), k.token.name(), refused(err))
	}
	return k, nil
}

// searchInside looks again after showing the PIN, which makes private objects visible.
func (sel *selector) searchInside(ctx context.Context, tokens []*token) ([]*key, error) {
	var closed []*token
	for _, t := range tokens {
		if t.info.Flags&cryptoki.FlagLoginRequired != 0 {
			closed = append(closed, t)
		}
	}
	switch {
	case len(closed) == 0:
		return nil, sel.missing(tokens)
	case len(closed) > 1: // one PIN is not tried on several tokens
		return nil, problem(kms.CodeNotFound, "name one: add token= or serial= to the key URI", "%d tokens match %s, and none shows %s without its PIN: %s",
			len(closed), sel.wantsToken(), sel.wantsObject(), listed(closed, (*token).name))
	}
	t := closed[0]
	p := &pin{from: t.pins}
	defer p.wipe()
	s, err := t.session()
	if err != nil {
		return nil, refused(err)
	}
	err = t.login(ctx, s, p)
	t.done(s, nil)
	if err != nil {
		return nil, fmt.Errorf("the token shows no %s without its PIN: %w", sel.wantsObject(), err)
	}
	objects, err := t.search(sel)
	if err != nil {
		return nil, refused(err)
	}
	if len(objects) == 0 {
		return nil, sel.missing(tokens)
	}
	var found []*key
	for _, obj := range objects {
		found = append(found, &key{token: t, object: obj})
	}
	return found, nil
}

// missing is the error of a key that is not there. It names those that are.
func (sel *selector) missing(tokens []*token) error {
	var there []object
	for _, t := range tokens {
		objects, err := t.search(&selector{class: cryptoki.ClassPrivateKey})
		if err != nil {
			return refused(err)
		}
		there = append(there, objects...)
	}
	shows := "no key at all"
	if len(there) > 0 {
		shows = listed(there, object.name)
	}
	return problem(kms.CodeNotFound, "take object= or id= from what the token shows", "there is no %s in the token %s, which shows %s",
		sel.wantsObject(), listed(tokens, (*token).name), shows)
}

// search lists the keys that match: private keys that show, else public keys, else certificates of what is no CA.
func (t *token) search(sel *selector) ([]object, error) {
	defer t.alone()()
	s, err := t.session()
	if err != nil {
		return nil, err
	}
	var found []object
	classes := []uint{cryptoki.ClassPrivateKey, cryptoki.ClassPublicKey, cryptoki.ClassCertificate}
	if sel.class != cryptoki.ClassPrivateKey {
		classes = []uint{sel.class}
	}
	for _, class := range classes {
		if found, err = objects(s, class, sel.template(class)...); err != nil || len(found) > 0 {
			break
		}
	}
	t.done(s, err)
	return found, err
}

// objects lists what matches, each key pair once; two private keys are two.
func objects(s *cryptoki.Session, class uint, template ...cryptoki.Attribute) ([]object, error) {
	handles, err := s.Find(template...)
	if err != nil {
		return nil, err
	}
	var found []object
next:
	for _, h := range handles {
		o := object{handle: h, class: class}
		if o.id, err = s.Attribute(h, cryptoki.AttrID); err != nil {
			return nil, err
		}
		label, err := s.Attribute(h, cryptoki.AttrLabel)
		if err != nil {
			return nil, err
		}
		o.label = string(label)
		if class == cryptoki.ClassCertificate {
			if c, err := certificate(s, h); err != nil || c == nil || c.IsCA {
				continue
			}
		}
		for _, p := range found {
			if class != cryptoki.ClassPrivateKey && p.same(o) {
				continue next
			}
		}
		found = append(found, o)
	}
	return found, nil
}

// findPublic reads the public key: of the public key object, else of the certificate, else of the private key if it shows one.
// If the token shows none, it is what the caller expects, and the first signature proves it.
func (k *key) findPublic(leaf crypto.PublicKey) (crypto.PublicKey, error) {
	defer k.token.alone()()
	s, err := k.token.session()
	if err != nil {
		return nil, err
	}
	pub, err := k.readPublic(s)
	k.token.done(s, err)
	switch {
	case err != nil || pub != nil:
		return pub, err
	case leaf != nil:
		return leaf, nil
	}
	return nil, problem(kms.CodeUnusable, "put its certificate beside it: pkcs11-tool --module MODULE --write-object leaf.der --type cert --id ID",
		"the token shows neither a public key nor a certificate for it")
}

func (k *key) readPublic(s *cryptoki.Session) (crypto.PublicKey, error) {
	var found []crypto.PublicKey
	add := func(pub crypto.PublicKey) {
		for _, p := range found {
			if kms.SameKey(p, pub) {
				return
			}
		}
		found = append(found, pub)
	}
	publics, err := s.Find(k.beside(cryptoki.ClassPublicKey)...)
	if err != nil {
		return nil, err
	}
	for _, h := range publics {
		pub, err := publicKey(s, h)
		if err != nil {
			return nil, err
		}
		add(pub)
	}
	if len(found) == 0 {
		certs, err := s.Find(k.beside(cryptoki.ClassCertificate)...)
		if err != nil {
			return nil, err
		}
		for _, h := range certs {
			if c, err := certificate(s, h); err != nil {
				return nil, err
			} else if c != nil && !c.IsCA {
				add(c.PublicKey)
			}
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, problem(kms.CodeUnusable, "give each key pair and its certificate an id of their own", "the token has %d public keys under that name", len(found))
	case k.object.class == cryptoki.ClassPrivateKey:
		return publicKey(s, k.object.handle)
	}
	return nil, nil
}

// beside is the search for the objects of a class that belong to the key.
func (k *key) beside(class uint) []cryptoki.Attribute {
	t := []cryptoki.Attribute{cryptoki.Number(cryptoki.AttrClass, class)}
	if len(k.object.id) > 0 {
		return append(t, cryptoki.Attribute{Type: cryptoki.AttrID, Value: k.object.id})
	}
	return append(t, cryptoki.Attribute{Type: cryptoki.AttrLabel, Value: []byte(k.object.label)})
}

// certificate reads a certificate object; nil if it is none of X.509.
func certificate(s *cryptoki.Session, h cryptoki.Object) (*x509.Certificate, error) {
	if typ, err := s.Number(h, cryptoki.AttrCertificateType); err == nil && typ != cryptoki.CertificateX509 {
		return nil, nil
	}
	der, err := s.Attribute(h, cryptoki.AttrValue)
	if err != nil || der == nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading a certificate: %w", err)
	}
	return c, nil
}

// allCertificates reads all certificates of the token that can be read.
func allCertificates(s *cryptoki.Session) ([]*x509.Certificate, error) {
	handles, err := s.Find(cryptoki.Number(cryptoki.AttrClass, cryptoki.ClassCertificate))
	if err != nil {
		return nil, err
	}
	if len(handles) > maxCertificates {
		return nil, fmt.Errorf("the token has %d certificates, at most %d are read", len(handles), maxCertificates)
	}
	var certs []*x509.Certificate
	for _, h := range handles {
		if c, err := certificate(s, h); err == nil && c != nil { // another's certificate may be as odd as it likes
			certs = append(certs, c)
		}
	}
	return certs, nil
}
