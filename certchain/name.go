package certchain

import (
	"bytes"
	"cmp"
	"encoding/asn1"
	"encoding/hex"
	"slices"
	"strings"
)

// maxName bounds a distinguished name in DER; certificates are smaller than that anyway.
const maxName = MaxCertificate

// A Name is a distinguished name: the parsed RDNs, types and value bytes kept, in the order that certificates have, C first.
// Names are compared by type and value, never as text (CVE-2023-25656).
type Name struct {
	rdns []rdn
}

// An rdn is one relative distinguished name: mostly one attribute, several if it is multi-valued.
type rdn []attribute

// An attribute is a type and a value. A value that is a character string is compared by its characters, whichever of the
// ASN.1 string types it is written in; any other value, and a string whose characters are not certain, by its DER.
type attribute struct {
	oid    string // dotted
	der    []byte // the value, tag and length included
	text   string
	isText bool
}

func (a attribute) equal(b attribute) bool {
	if a.oid != b.oid || a.isText != b.isText {
		return false
	}
	if a.isText {
		return a.text == b.text
	}
	return bytes.Equal(a.der, b.der)
}

// Empty reports whether n has no attribute.
func (n Name) Empty() bool { return len(n.rdns) == 0 }

// NameFrom reads a DER-encoded name (certificate.RawSubject).
func NameFrom(raw []byte) (Name, error) {
	if len(raw) > maxName {
		return Name{}, ruleError(ruleName, nil, "a distinguished name takes %d bytes", len(raw))
	}
	malformed := ruleError(ruleName, nil, "a distinguished name is malformed DER")
	var sets []asn1.RawValue
	if rest, err := asn1.Unmarshal(raw, &sets); err != nil || len(rest) > 0 {
		return Name{}, malformed
	}
	var n Name
	for _, set := range sets {
		if !isSet(set) || len(set.Bytes) == 0 {
			return Name{}, malformed
		}
		var r rdn
		for in := set.Bytes; len(in) > 0; {
			var pair struct {
				Type  asn1.ObjectIdentifier
				Value asn1.RawValue
			}
			rest, err := asn1.Unmarshal(in, &pair)
			if err != nil {
				return Name{}, malformed
			}
			// encoding/asn1 passes over further members of a SEQUENCE; a pair has none.
			if again, err := asn1.Marshal(pair); err != nil || !bytes.Equal(again, in[:len(in)-len(rest)]) {
				return Name{}, malformed
			}
			text, ok := decodeString(pair.Value)
			r = append(r, attribute{oid: pair.Type.String(), der: pair.Value.FullBytes, text: text, isText: ok})
			in = rest
		}
		n.rdns = append(n.rdns, r)
	}
	return n, nil
}

// NameOf renders a DER-encoded name the way every screen of imprint shows it: C first, then ST, L, O, OU, CN, others;
// ", " between; values escaped by RFC 4514, control and bidi characters too. A name that does not parse is rendered
// as hex.
func NameOf(raw []byte) string {
	n, err := NameFrom(raw)
	if err != nil {
		const most = 128
		if len(raw) > most {
			return "#" + hex.EncodeToString(raw[:most]) + "…"
		}
		return "#" + hex.EncodeToString(raw)
	}
	return n.String()
}

// String renders n as NameOf does.
func (n Name) String() string {
	var b strings.Builder
	for i, r := range byRank(n.rdns, rdn.shownRank) {
		if i > 0 {
			b.WriteString(", ")
		}
		for j, a := range r {
			if j > 0 {
				b.WriteByte('+')
			}
			b.WriteString(typeName(a.oid))
			b.WriteByte('=')
			if a.isText {
				b.WriteString(escape(a.text))
			} else {
				b.WriteString("#" + hex.EncodeToString(a.der))
			}
		}
	}
	return b.String()
}

// byRank sorts; what has the same rank stays in its order.
func byRank(rdns []rdn, rank func(rdn) int) []rdn {
	s := slices.Clone(rdns)
	slices.SortStableFunc(s, func(a, b rdn) int { return cmp.Compare(rank(a), rank(b)) })
	return s
}

// rank is the place that certificates give the RDN.
func (r rdn) rank() int {
	best := len(attributeTypes)
	for _, a := range r {
		for i, t := range attributeTypes {
			if t.oid == a.oid {
				best = min(best, i)
			}
		}
	}
	return best
}

// shownRank is the place that screens give the RDN: C before DC.
func (r rdn) shownRank() int {
	if n := r.rank(); n > 0 {
		return n
	}
	return len(attributeTypes)
}

// DER encodes n, in the order that certificates have: C first. What came from a certificate keeps its order and encoding.
func (n Name) DER() []byte {
	var body []byte
	for _, r := range n.rdns {
		var pairs [][]byte
		for _, a := range r {
			pairs = append(pairs, tlv(0x30, append(encodeOID(a.oid), a.der...)))
		}
		slices.SortFunc(pairs, bytes.Compare) // DER orders the members of a SET OF
		body = append(body, tlv(0x31, bytes.Join(pairs, nil))...)
	}
	return tlv(0x30, body)
}

// tlv encodes a value under a universal tag. Marshal of a RawValue cannot fail.
func tlv(tag byte, content []byte) []byte {
	der, _ := asn1.Marshal(asn1.RawValue{Tag: int(tag & 0x1f), IsCompound: tag&0x20 != 0, Bytes: content})
	return der
}

// Contains reports whether every attribute of part stands in n with exactly the same value (type and characters; case
// and spaces count). It is how a trusted identity is compared with a leaf's subject. An empty part is in nothing, and
// an attribute that n has twice though names have it once (two O) matches nothing: which of the two is meant is not
// for us to guess.
func (n Name) Contains(part Name) bool {
	if part.Empty() {
		return false
	}
	for _, want := range part.attributes() {
		same, found := 0, false
		for _, have := range n.attributes() {
			if have.oid == want.oid {
				same++
				found = found || have.equal(want)
			}
		}
		if !found || same > 1 && !repeatable(want.oid) {
			return false
		}
	}
	return true
}

func (n Name) attributes() []attribute {
	var all []attribute
	for _, r := range n.rdns {
		all = append(all, r...)
	}
	return all
}

// SameName reports whether two DER-encoded names name the same thing: attribute by attribute, in the same order, the same types and
// characters, in whichever of the ASN.1 string types they are written, so that an authority which goes over from PrintableString to
// UTF8String has named nobody else. It is stricter than RFC 5280 section 7.1, which also ignores case and repeated spaces: two names
// that it takes for one are one by every reading. A name that does not parse equals the same bytes alone.
func SameName(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	m, err := NameFrom(a)
	if err != nil {
		return false
	}
	n, err := NameFrom(b)
	return err == nil && slices.EqualFunc(m.rdns, n.rdns, rdn.equal)
}

// equal compares two sets of attributes.
func (r rdn) equal(o rdn) bool {
	if len(r) != len(o) {
		return false
	}
	left := slices.Clone(o)
	for _, a := range r {
		at := slices.IndexFunc(left, a.equal)
		if at < 0 {
			return false
		}
		left = slices.Delete(left, at, at+1)
	}
	return true
}
