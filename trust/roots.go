package trust

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v4"

	"github.com/imprint-oci/imprint/certchain"
)

func (p *parser) roots(n *yaml.Node) error {
	fields, err := p.mapping(n, "roots")
	if err != nil {
		return err
	}
	if len(fields) == 0 {
		return p.wrong(n, codeValue, "roots is empty")
	}
	for _, f := range fields {
		if f.key.Value == "" {
			return p.wrong(f.key, codeValue, "a root needs a name")
		}
		if err := p.root(f); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) root(f field) error {
	r := &root{name: f.key.Value, pin: pinRoot, kind: kindCA}
	p.policy.roots[r.name] = r
	if f.value.Kind == yaml.ScalarNode { // short for {certificates: [FILE]}
		return p.certificate(r, f.value)
	}
	fields, err := p.object(f.value, "root "+r.name, rootGrammar)
	if err != nil {
		return err
	}
	if c, ok := fields["pin"]; ok {
		word, err := p.oneOf(c.value, "pin", []string{string(pinRoot), string(pinIntermediate), string(pinLeaf)})
		if err != nil {
			return err
		}
		r.pin = pin(word)
	}
	if c, ok := fields["kind"]; ok {
		word, err := p.oneOf(c.value, "kind", []string{string(kindCA), string(kindAuthority)})
		if err != nil {
			return err
		}
		r.kind = kind(word)
	}
	c, ok := fields["certificates"]
	if !ok {
		return p.wrong(f.value, codeMissing, "root %s has no certificates", r.name)
	}
	items, err := p.list(c.value, "certificates")
	if err != nil {
		return err
	}
	for _, item := range items {
		if err := p.certificate(r, item); err != nil {
			return err
		}
	}
	if c, ok := fields["identities"]; ok {
		r.identities, err = p.identities(c.value)
	}
	return err
}

// pem reads the certificates of a file, or of inline PEM, for what; source is where they were.
func (p *parser) pem(n *yaml.Node, what string) (certs []*x509.Certificate, source string, err error) {
	text, err := p.text(n, "a certificate of "+what)
	if err != nil {
		return nil, "", err
	}
	b, source := []byte(text), "inline certificate"
	if !strings.Contains(text, "-----BEGIN") {
		source = text
		if b, err = p.files.file(text, certchain.MaxBytes); err != nil {
			return nil, "", p.wrong(n, codeOf(err, codeRootFile), "%s: reading %s: %w", what, text, err)
		}
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, "", p.wrong(n, codeRootFile, "%s: %s is empty", what, source)
	}
	certs, err = certchain.Parse(b)
	if err != nil {
		return nil, "", p.wrong(n, codeRootFile, "%s: %s: %w", what, source, err)
	}
	if len(certs) == 0 {
		return nil, "", p.wrong(n, codeRootFile, "%s: %s holds no certificate", what, source)
	}
	return certs, source, nil
}

// certificate adds the certificates of a file, or of inline PEM, to r.
func (p *parser) certificate(r *root, n *yaml.Node) error {
	certs, what, err := p.pem(n, "root "+r.name)
	if err != nil {
		return err
	}
	for _, c := range certs {
		if err := checkRoot(c, r.pin); err != nil {
			return p.wrong(n, codeRootInvalid, "root %s: %s: %w", r.name, what, err)
		}
		switch other, ok := p.certs[string(c.Raw)]; {
		case ok && other.root == r:
			continue
		case ok:
			return p.wrong(n, codeRootDuplicate, "root %s: %s is already a certificate of root %s (%s): "+
				"one name for one certificate; an entry of trust takes its own identities",
				r.name, certchain.NameOf(c.RawSubject), other.root.name, p.at(other.node))
		}
		p.certs[string(c.Raw)] = at{r, n}
		r.certificates = append(r.certificates, c)
	}
	return nil
}

// checkRoot says whether a certificate may be trusted at all, and can stand where the pin says (P11).
func checkRoot(c *x509.Certificate, where pin) error {
	name, authority := certchain.NameOf(c.RawSubject), c.BasicConstraintsValid && c.IsCA
	switch {
	case where == pinLeaf && authority:
		return fmt.Errorf("%s is a certification authority, and never the leaf that pin: leaf asks for", name)
	case where == pinLeaf, authority:
		return nil
	case where == pinIntermediate:
		return fmt.Errorf("%s is no certification authority: it can only stand first, which says pin: leaf", name)
	case certchain.Describe(c).SelfSigned:
		return nil
	}
	return fmt.Errorf("%s is neither a certification authority nor a self-signed leaf: trust the root that its chain ends in, "+
		"or this leaf alone with pin: leaf", name)
}

// distinct drops what stands twice.
func distinct(certs []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range certs {
		if !slices.ContainsFunc(out, c.Equal) {
			out = append(out, c)
		}
	}
	return out
}

func (p *parser) identities(n *yaml.Node) (identities, error) {
	items, err := p.list(n, "identities")
	if err != nil {
		return nil, err
	}
	var out identities
	for _, item := range items {
		text, err := p.text(item, "an identity")
		if err != nil {
			return nil, err
		}
		id, err := parseIdentity(text)
		if err != nil {
			return nil, p.wrong(item, codeIdentity, "identity %q: %w", shorten(text), err)
		}
		out = append(out, id)
	}
	return out, nil
}
