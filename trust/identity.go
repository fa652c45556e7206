package trust

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/imprint-oci/imprint/certchain"
)

// identities is a list of which a leaf must match one; an empty list asks nothing.
type identities []identity

func (ids identities) match(leaf *x509.Certificate) bool {
	if len(ids) == 0 {
		return true
	}
	return slices.ContainsFunc(ids, func(id identity) bool { return id.matches(leaf) })
}

func (ids identities) String() string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.text
	}
	return strings.Join(texts, " or ")
}

// An identity is a subset of a leaf's subject, or one of its subject alternative names.
type identity struct {
	text    string
	matches func(leaf *x509.Certificate) bool
}

const maxIdentity = 4 << 10

// parseIdentity reads "C=DE, ST=BE, O=Acme", "uri:https://ci.example/team/*", "dns:build.acme.example" or
// "email:release@acme.example". Subjects are compared attribute by attribute and never as text;
// alternative names exactly, but for a uri's last character *, which stands for any rest of the path.
func parseIdentity(s string) (identity, error) {
	if len(s) > maxIdentity {
		return identity{}, fmt.Errorf("more than %d bytes", maxIdentity)
	}
	id := identity{text: s}
	var err error
	switch kind, rest, _ := strings.Cut(s, ":"); kind {
	case "uri":
		id.matches, err = matchURI(rest)
	case "dns":
		id.matches, err = matchDNS(rest)
	case "email":
		id.matches, err = matchEmail(rest)
	case "x509.subject":
		err = errors.New(`write the subject alone, without "x509.subject:"`)
	default:
		var want certchain.Name
		if want, err = certchain.ParseName(s); err == nil {
			id.matches = func(leaf *x509.Certificate) bool {
				subject, err := certchain.NameFrom(leaf.RawSubject)
				return err == nil && subject.Contains(want)
			}
		}
	}
	return id, err
}

func matchURI(want string) (func(*x509.Certificate) bool, error) {
	prefix, open := strings.CutSuffix(want, "*")
	u, err := url.Parse(prefix)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme == "" || strings.Contains(prefix, "*"):
		return nil, errors.New("not a URI with at most one *, at its end")
	case open && (u.Host == "" || u.Path == ""):
		// https://ci.example* would also be https://ci.example.evil.example.
		return nil, errors.New("a * may only stand in the path, after the host and a /")
	}
	return func(leaf *x509.Certificate) bool {
		for _, have := range leaf.URIs {
			s := have.String()
			if s == want && !open {
				return true
			}
			if rest, ok := strings.CutPrefix(s, prefix); open && ok && rest != "" && !climbs(rest) {
				return true
			}
		}
		return false
	}, nil
}

// climbs reports whether a rest of a path may lead out of what stands before it.
func climbs(rest string) bool {
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		rest = rest[:i]
	}
	path, err := url.PathUnescape(rest)
	if err != nil || strings.ContainsAny(path, `%\`) {
		return true // what is escaped twice, or is a separator to some readers only
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == ".." || segment == "." {
			return true
		}
	}
	return false
}

func matchDNS(want string) (func(*x509.Certificate) bool, error) {
	if want == "" || strings.ContainsAny(want, "*/@: ") {
		return nil, errors.New("not one DNS name")
	}
	return func(leaf *x509.Certificate) bool {
		for _, have := range leaf.DNSNames {
			if equalASCII(have, want) {
				return true
			}
		}
		return false
	}, nil
}

func matchEmail(want string) (func(*x509.Certificate) bool, error) {
	at := strings.LastIndexByte(want, '@')
	if at <= 0 || at == len(want)-1 || strings.ContainsAny(want, "* ") {
		return nil, errors.New("not one e-mail address")
	}
	return func(leaf *x509.Certificate) bool {
		for _, have := range leaf.EmailAddresses {
			// The part before the @ is the host's own and may tell case apart (RFC 5321, 2.4).
			if i := strings.LastIndexByte(have, '@'); i >= 0 && have[:i] == want[:at] && equalASCII(have[i:], want[at:]) {
				return true
			}
		}
		return false
	}, nil
}

// equalASCII ignores the case of A to Z and of nothing else: Unicode's folding would take the Kelvin sign for a k.
func equalASCII(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
