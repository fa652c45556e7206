package foreign

import (
	"encoding/asn1"
	"fmt"
	"maps"
	"slices"
	"strings"

	"crypto/x509/pkix"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/trust"
)

// A subject is an identity as notation has it: attributes, each once, of which a leaf's subject must have all.
type subject map[string]string

// names are subjects of which a leaf must have one; nil: any leaf.
type names []subject

// maxNames limits how many identities come of combining those of roots and entries.
const maxNames = 1000

// attributes are the types by the names that notation reads out of a leaf; it cannot match others.
var attributes = map[string]string{
	"2.5.4.6":  "C",
	"2.5.4.8":  "ST",
	"2.5.4.7":  "L",
	"2.5.4.10": "O",
	"2.5.4.11": "OU",
	"2.5.4.3":  "CN",
	"2.5.4.9":  "STREET",
	"2.5.4.5":  "SERIALNUMBER",
	"2.5.4.17": "POSTALCODE",
}

var attributeOrder = []string{"C", "ST", "L", "STREET", "POSTALCODE", "O", "OU", "CN", "SERIALNUMBER"}

// required are what notation wants in each identity.
var required = []string{"C", "ST", "O"}

// names returns what a leaf must be called for an entry: one of the root's and one of the entry's. Identities that notation cannot
// say are left out.
func (x *exporter) names(s trust.ScopeView, e trust.EntryView, silent func(code, why string)) names {
	var out names
	for _, list := range [][]string{e.Root.Identities, e.Identities} {
		if len(list) == 0 {
			continue
		}
		some := names{}
		for _, text := range list {
			sub, why := subjectOf(text)
			if why != "" {
				x.lose(lossIdentities, s.Name, Narrower, "root %s: the identity %q is left out: %s", e.Root.Name, text, why)
				continue
			}
			some = append(some, sub)
		}
		if len(out)*len(some) > maxNames {
			silent(lossIdentities, "its identities and those of the entry come to too many")
			return names{}
		}
		out = out.and(some)
	}
	// Only what is combined must have what notation asks for.
	whole := names{}
	for _, sub := range out {
		if missing := sub.lacks(); missing != "" {
			x.lose(lossIdentities, s.Name, Narrower, "root %s: the identity %q is left out: notation asks each identity for %s", e.Root.Name, sub, missing)
			continue
		}
		whole = append(whole, sub)
	}
	if len(whole) == 0 {
		silent(lossIdentities, "none of its identities can be said in the words of notation")
	}
	return whole.least()
}

func subjectOf(text string) (sub subject, why string) {
	switch kind, _, _ := strings.Cut(text, ":"); kind {
	case "uri", "dns", "email":
		return nil, "notation looks at subjects only, not at alternative names"
	}
	n, err := certchain.ParseName(text)
	if err != nil {
		return nil, err.Error()
	}
	var sets []asn1.RawValue
	if _, err := asn1.Unmarshal(n.DER(), &sets); err != nil {
		return nil, err.Error()
	}
	sub = subject{}
	for _, set := range sets {
		var pairs []pkix.AttributeTypeAndValue
		if _, err := asn1.UnmarshalWithParams(set.FullBytes, &pairs, "set"); err != nil {
			return nil, "one of its values is no text"
		}
		if len(pairs) != 1 {
			return nil, "notation knows no attributes of several values"
		}
		name, ok := attributes[pairs[0].Type.String()]
		value, text := pairs[0].Value.(string)
		switch {
		case !ok:
			return nil, fmt.Sprintf("notation does not know the attribute %s", pairs[0].Type)
		case !text || value == "":
			return nil, "one of its values is no text"
		case sub[name] != "":
			return nil, "notation knows each attribute once, and it has two " + name
		}
		sub[name] = value
	}
	return sub, ""
}

func (s subject) lacks() string {
	for _, name := range required {
		if s[name] == "" {
			return name
		}
	}
	return ""
}

// String writes s by RFC 4514.
func (s subject) String() string {
	var parts []string
	for _, name := range attributeOrder {
		if v, ok := s[name]; ok {
			parts = append(parts, name+"="+escape(v))
		}
	}
	return strings.Join(parts, ",")
}

// escape writes in hex what has a meaning of its own anywhere in a name.
func escape(value string) string {
	var b strings.Builder
	for i := range len(value) {
		c := value[i]
		edge := i == 0 || i == len(value)-1
		switch {
		case strings.IndexByte(`,+"\<>;=#`, c) >= 0, c == ' ' && edge, c < ' ', c == 0x7f:
			fmt.Fprintf(&b, `\%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// under reports whether whoever is called s is called general too.
func (s subject) under(general subject) bool {
	for name, value := range general {
		if s[name] != value {
			return false
		}
	}
	return true
}

// and returns what is in both.
func (n names) and(m names) names {
	switch {
	case n == nil:
		return m
	case m == nil:
		return n
	}
	out := names{}
	for _, a := range n {
		for _, b := range m {
			if both, ok := merge(a, b); ok {
				out = append(out, both)
			}
		}
	}
	return out.least()
}

func merge(a, b subject) (subject, bool) {
	out := maps.Clone(a)
	for name, value := range b {
		if have, ok := out[name]; ok && have != value {
			return nil, false
		}
		out[name] = value
	}
	return out, true
}

// least drops what another one covers, as notation demands, and sorts.
func (n names) least() names {
	if n == nil {
		return nil
	}
	out := names{}
	for i, s := range n {
		covered := slices.ContainsFunc(n[:i], func(o subject) bool { return s.under(o) }) ||
			slices.ContainsFunc(n[i+1:], func(o subject) bool { return s.under(o) && !o.under(s) })
		if !covered {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b subject) int { return strings.Compare(a.String(), b.String()) })
	return out
}

func (n names) equal(m names) bool {
	return (n == nil) == (m == nil) && slices.EqualFunc(n, m, func(a, b subject) bool { return maps.Equal(a, b) })
}

// texts is n as trustedIdentities.
func (n names) texts() []string {
	if n == nil {
		return []string{"*"}
	}
	out := []string{}
	for _, s := range n {
		out = append(out, "x509.subject:"+s.String())
	}
	return out
}
