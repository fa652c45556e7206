package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/imprint-oci/imprint/certchain"
)

// DelegationType is the artifact type of a delegation document, and the media type of the one layer that holds it.
const DelegationType = "application/vnd.imprint.delegation.v1+json"

// Limits of a delegation document.
const (
	MaxDelegation        = 16 << 20 // bytes
	MaxGrants            = 10_000
	MaxGrantCertificates = 8   // per grant
	maxGrantIdentities   = 64  // per grant
	MaxDelegationDays    = 400 // between issued and expires
)

// ErrDelegation: a delegation document breaks its format. The reason is delegation-malformed, or delegation-scope where a grant
// reaches beyond the document's own scope.
var ErrDelegation = errors.New("delegation document")

type delegationError struct {
	code string
	err  error
}

func (e *delegationError) Error() string        { return e.err.Error() }
func (e *delegationError) Unwrap() error        { return e.err }
func (e *delegationError) Is(target error) bool { return target == ErrDelegation }
func (e *delegationError) Reason() string       { return e.code }

func undelegated(format string, args ...any) error {
	return &delegationError{codeDelegationMalformed, fmt.Errorf(format, args...)}
}

// A DelegationDocument says which certificates may sign what under its scope. Who may issue one, and whether it counts, is for a
// policy to say.
type DelegationDocument struct {
	Version uint64 // grows with each document for the same scope
	Issued  time.Time
	Expires time.Time
	Scope   string
	Grants  []Grant // by scope
}

// A Grant is certificates that chains may end in, for what is under a scope.
type Grant struct {
	Scope        string
	Certificates []*x509.Certificate
	Identities   []string // of the leaf; none: any

	identities identities
}

// ParseDelegation reads a delegation document strictly (D2): one JSON object that every reader understands alike, without unknown,
// missing or repeated members, scopes in canonical form and each once, grants inside the document's scope, at most 400 days. Errors
// are [ErrDelegation]. Nothing is said of who signed it or of the time now.
func ParseDelegation(b []byte) (*DelegationDocument, error) {
	if len(b) > MaxDelegation {
		return nil, undelegated("more than %d bytes", MaxDelegation)
	}
	if !utf8.Valid(b) {
		return nil, undelegated("not UTF-8")
	}
	if !json.Valid(b) {
		return nil, undelegated("not one JSON value")
	}
	r := &delegationReader{d: json.NewDecoder(bytes.NewReader(b))}
	r.d.UseNumber()
	doc := &DelegationDocument{Grants: []Grant{}}
	err := r.object("the document", nil, map[string]func() error{
		"version": func() (err error) { doc.Version, err = r.count("version"); return err },
		"issued":  func() (err error) { doc.Issued, err = r.time("issued"); return err },
		"expires": func() (err error) { doc.Expires, err = r.time("expires"); return err },
		"scope":   func() (err error) { doc.Scope, err = r.scope("scope"); return err },
		"grants": func() error {
			return r.list("grants", MaxGrants, func() error {
				g, err := r.grant(fmt.Sprintf("grant %d", len(doc.Grants)+1))
				doc.Grants = append(doc.Grants, g)
				return err
			})
		},
	})
	if err != nil {
		return nil, err
	}
	return doc, doc.check()
}

// check says whether what a document says holds together.
func (doc *DelegationDocument) check() error {
	if doc.Version == 0 {
		return undelegated("version 0: versions begin with 1")
	}
	if !doc.Expires.After(doc.Issued) {
		return undelegated("expires %s, which is not after it was issued, %s", second(doc.Expires), second(doc.Issued))
	}
	if doc.Expires.Sub(doc.Issued) > MaxDelegationDays*24*time.Hour {
		return undelegated("expires %s, more than %d days after it was issued, %s", second(doc.Expires), MaxDelegationDays, second(doc.Issued))
	}
	seen := make(map[string]bool, len(doc.Grants))
	for _, g := range doc.Grants {
		if !within(g.Scope, doc.Scope) {
			return &delegationError{codeDelegationScope, fmt.Errorf("it grants %s, which is not under its scope %s", g.Scope, doc.Scope)}
		}
		if seen[g.Scope] {
			return undelegated("two grants are for %s", g.Scope)
		}
		seen[g.Scope] = true
	}
	slices.SortFunc(doc.Grants, func(a, b Grant) int { return strings.Compare(a.Scope, b.Scope) })
	return nil
}

// within reports whether a scope is another or under it, by whole segments. Both are canonical.
func within(scope, other string) bool {
	return other == everything || scope == other || strings.HasPrefix(scope, other+"/")
}

// Encode writes the document as [ParseDelegation] reads it: the same document gives the same bytes. Errors are [ErrDelegation].
func (doc *DelegationDocument) Encode() ([]byte, error) {
	type grant struct {
		Scope        string   `json:"scope"`
		Certificates [][]byte `json:"certificates"`
		Identities   []string `json:"identities,omitempty"`
	}
	out := struct {
		Version uint64  `json:"version"`
		Issued  string  `json:"issued"`
		Expires string  `json:"expires"`
		Scope   string  `json:"scope"`
		Grants  []grant `json:"grants"`
	}{doc.Version, doc.Issued.UTC().Format(time.RFC3339), doc.Expires.UTC().Format(time.RFC3339), doc.Scope, []grant{}}
	for _, g := range doc.Grants {
		one := grant{Scope: g.Scope, Identities: g.Identities, Certificates: [][]byte{}}
		for _, c := range g.Certificates {
			one.Certificates = append(one.Certificates, c.Raw)
		}
		out.Grants = append(out.Grants, one)
	}
	slices.SortFunc(out.Grants, func(a, b grant) int { return strings.Compare(a.Scope, b.Scope) })
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(out); err != nil {
		return nil, undelegated("%w", err)
	}
	// What is written is what will be read.
	if _, err := ParseDelegation(b.Bytes()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// A delegationReader reads JSON, of which it is known that it is valid, member by member.
type delegationReader struct {
	d *json.Decoder
}

func (r *delegationReader) token(what string) (json.Token, error) {
	t, err := r.d.Token()
	if err != nil {
		return nil, undelegated("%s: %w", what, err)
	}
	return t, nil
}

// object reads an object whose members are exactly those of fields, but for the optional ones, each once.
func (r *delegationReader) object(what string, optional []string, fields map[string]func() error) error {
	t, err := r.token(what)
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return undelegated("%s is not an object", what)
	}
	seen := map[string]bool{}
	for r.d.More() {
		t, err := r.token(what)
		if err != nil {
			return err
		}
		name, _ := t.(string)
		read := fields[name]
		if read == nil {
			return undelegated("%s has a member %q, which means nothing", what, shorten(name))
		}
		if seen[name] {
			return undelegated("%s has the member %q twice", what, name)
		}
		seen[name] = true
		if err := read(); err != nil {
			return err
		}
	}
	for name := range fields {
		if !seen[name] && !slices.Contains(optional, name) {
			return undelegated("%s has no %q", what, name)
		}
	}
	_, err = r.token(what)
	return err
}

// list reads a list of at most so many items.
func (r *delegationReader) list(what string, most int, item func() error) error {
	t, err := r.token(what)
	if err != nil {
		return err
	}
	if t != json.Delim('[') {
		return undelegated("%s is not a list", what)
	}
	for n := 0; r.d.More(); n++ {
		if n == most {
			return undelegated("%s has more than %d items", what, most)
		}
		if err := item(); err != nil {
			return err
		}
	}
	_, err = r.token(what)
	return err
}

func (r *delegationReader) text(what string) (string, error) {
	t, err := r.token(what)
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	switch {
	case !ok:
		return "", undelegated("%s is not a string", what)
	case strings.ContainsRune(s, utf8.RuneError): // what half a surrogate pair becomes
		return "", undelegated("%s holds a character that is none", what)
	}
	return s, nil
}

// count reads a whole number that every reader takes for the same one.
func (r *delegationReader) count(what string) (uint64, error) {
	t, err := r.token(what)
	if err != nil {
		return 0, err
	}
	number, ok := t.(json.Number)
	if !ok {
		return 0, undelegated("%s is not a number", what)
	}
	n, err := strconv.ParseUint(number.String(), 10, 64)
	if err != nil {
		return 0, undelegated("%s %s is not a whole number below 2^64", what, shorten(number.String()))
	}
	return n, nil
}

// time reads a time in UTC and whole seconds, in its one spelling (RFC 3339).
func (r *delegationReader) time(what string) (time.Time, error) {
	s, err := r.text(what)
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse("2006-01-02T15:04:05Z", s)
	if err != nil || t.Format("2006-01-02T15:04:05Z") != s {
		return time.Time{}, undelegated("%s %q is no time as 2026-01-31T12:00:00Z", what, shorten(s))
	}
	return t, nil
}

// scope reads a scope that is in canonical form already: a signer and a reader mean the same by it.
func (r *delegationReader) scope(what string) (string, error) {
	s, err := r.text(what)
	if err != nil {
		return "", err
	}
	name, err := canonicalScope(s)
	switch {
	case err != nil:
		return "", undelegated("%s %q: %w", what, shorten(s), err)
	case name != s:
		return "", undelegated("%s %q is not in canonical form: write %s", what, shorten(s), name)
	}
	return s, nil
}

func (r *delegationReader) grant(what string) (g Grant, err error) {
	err = r.object(what, []string{"identities"}, map[string]func() error{
		"scope": func() (err error) { g.Scope, err = r.scope("the scope of " + what); return err },
		"certificates": func() error {
			return r.list("certificates of "+what, MaxGrantCertificates, func() error {
				c, err := r.certificate("a certificate of " + what)
				if err == nil && slices.ContainsFunc(g.Certificates, c.Equal) {
					err = undelegated("%s has a certificate twice", what)
				}
				g.Certificates = append(g.Certificates, c)
				return err
			})
		},
		"identities": func() error {
			err := r.list("identities of "+what, maxGrantIdentities, func() error {
				text, err := r.text("an identity of " + what)
				if err != nil {
					return err
				}
				id, err := parseIdentity(text)
				if err != nil {
					return undelegated("identity %q of %s: %w", shorten(text), what, err)
				}
				g.Identities, g.identities = append(g.Identities, text), append(g.identities, id)
				return nil
			})
			if err == nil && len(g.Identities) == 0 {
				err = undelegated("%s has an empty list of identities: without the list anybody under its certificates is meant", what)
			}
			return err
		},
	})
	if err == nil && len(g.Certificates) == 0 {
		err = undelegated("%s has no certificate", what)
	}
	return g, err
}

// certificate reads the DER of one that a chain may end in.
func (r *delegationReader) certificate(what string) (*x509.Certificate, error) {
	s, err := r.text(what)
	if err != nil {
		return nil, err
	}
	if len(s) > certchain.MaxBytes || strings.ContainsAny(s, "\r\n") { // line breaks, which decoding passes over
		return nil, undelegated("%s is no base64 of a DER certificate", what)
	}
	der, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, undelegated("%s: %w", what, err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, undelegated("%s: %w", what, err)
	}
	if err := checkRoot(c, pinRoot); err != nil {
		return nil, undelegated("%s: %w", what, err)
	}
	return c, nil
}
