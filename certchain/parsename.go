package certchain

import (
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxNameText bounds a distinguished name written by a person.
const maxNameText = 4 << 10

// ParseName reads a distinguished name strictly by RFC 4514 (multi-valued RDNs, escapes, hex values; at most 4 KiB).
// Attribute types are those of RFC 4514 and ST/S, O, OU, CN, C, L, STREET, DC, UID, SERIALNUMBER, E (emailAddress) or
// dotted OIDs. A duplicated attribute type in a single-valued position is an error for identities: only OU, DC and
// types given as OIDs may stand twice, and not with the same value.
//
// Beyond RFC 4514, spaces may follow a comma, as people write names. Empty names and values, quotes and unescaped spaces at the
// ends of a value are errors. Both orders, C first and CN first, are understood.
func ParseName(s string) (Name, error) {
	switch {
	case s == "":
		return Name{}, ruleError(ruleName, nil, "the distinguished name is empty")
	case len(s) > maxNameText:
		return Name{}, ruleError(ruleName, nil, "the distinguished name is longer than %d bytes", maxNameText)
	case !utf8.ValidString(s):
		return Name{}, ruleError(ruleName, nil, "the distinguished name is not UTF-8")
	}
	p := &nameParser{in: s}
	n, err := p.name()
	if err != nil {
		return Name{}, ruleError(ruleName, nil, "reading the distinguished name %q: %v", shorten(s), err)
	}
	if err := n.checkRepeats(); err != nil {
		return Name{}, err
	}
	n.rdns = certificateOrder(n.rdns)
	return n, nil
}

// checkRepeats refuses attributes that stand twice where a name has one: a reader could take either.
func (n Name) checkRepeats() error {
	all := n.attributes()
	for i, a := range all {
		for _, b := range all[:i] {
			if a.oid == b.oid && (!repeatable(a.oid) || a.equal(b)) {
				return ruleError(ruleNameDuplicate, nil, "the distinguished name has %s twice", typeName(a.oid))
			}
		}
	}
	return nil
}

// certificateOrder puts the RDNs in the order that certificates have. A name that is written as RFC 4514 has it, the most
// specific part first, is turned around before, so that several OU or DC end up in their order.
func certificateOrder(rdns []rdn) []rdn {
	first, last := rdns[0], rdns[len(rdns)-1]
	if first.rank() > last.rank() || first[0].oid == oidDomain && last[0].oid == oidDomain {
		slices.Reverse(rdns)
	}
	return byRank(rdns, rdn.rank)
}

// A nameParser reads the grammar of RFC 4514 section 3.
type nameParser struct {
	in string
}

func (p *nameParser) name() (Name, error) {
	var n Name
	for {
		r, err := p.rdn()
		if err != nil {
			return Name{}, err
		}
		n.rdns = append(n.rdns, r)
		if p.in == "" {
			return n, nil
		}
		p.in = strings.TrimLeft(p.in[1:], " ") // the comma
	}
}

func (p *nameParser) rdn() (rdn, error) {
	var r rdn
	for {
		a, err := p.attribute()
		if err != nil {
			return nil, err
		}
		r = append(r, a)
		if !strings.HasPrefix(p.in, "+") {
			return r, nil
		}
		p.in = strings.TrimLeft(p.in[1:], " ")
	}
}

func (p *nameParser) attribute() (attribute, error) {
	name, rest, ok := strings.Cut(p.in, "=")
	if !ok {
		return attribute{}, fmt.Errorf("%q is no attribute: write TYPE=value, and a comma in a value as \\,", shorten(p.in))
	}
	oid, err := typeOID(name)
	if err != nil {
		return attribute{}, err
	}
	p.in = rest
	if strings.HasPrefix(rest, "#") {
		return p.hexValue(oid)
	}
	text, err := p.value()
	if err != nil {
		return attribute{}, fmt.Errorf("%s: %w", typeName(oid), err)
	}
	return attribute{oid: oid, der: encodeString(oid, text), text: text, isText: true}, nil
}

// hexValue reads #hex: the DER of the value. A character string in it is compared like any other.
func (p *nameParser) hexValue(oid string) (attribute, error) {
	end := strings.IndexAny(p.in, ",+")
	if end < 0 {
		end = len(p.in)
	}
	der, err := hex.DecodeString(p.in[1:end])
	var v asn1.RawValue
	if err == nil {
		var rest []byte
		if rest, err = asn1.Unmarshal(der, &v); err == nil && len(rest) > 0 {
			err = fmt.Errorf("bytes follow")
		}
	}
	if err != nil {
		return attribute{}, fmt.Errorf("%s: %q is not the hex of one DER value", typeName(oid), shorten(p.in[:end]))
	}
	p.in = p.in[end:]
	text, ok := decodeString(v)
	if ok && text == "" {
		return attribute{}, fmt.Errorf("%s: the value is empty", typeName(oid))
	}
	return attribute{oid: oid, der: der, text: text, isText: ok}, nil
}

// value reads a string up to a separator and resolves its escapes.
func (p *nameParser) value() (string, error) {
	var b []byte
	spaced := false // the last character is a space that is not escaped
	for len(p.in) > 0 && p.in[0] != ',' && p.in[0] != '+' {
		r, size := utf8.DecodeRuneInString(p.in)
		switch {
		case r == '\\':
			c, n, err := unescape(p.in)
			if err != nil {
				return "", err
			}
			b, p.in, spaced = append(b, c), p.in[n:], false
			continue
		case strings.ContainsRune(`";<>`, r):
			return "", fmt.Errorf("%q must be escaped: \\%c", r, r)
		case unicode.IsControl(r):
			return "", fmt.Errorf("a control character must be escaped in hex")
		case r == ' ' && len(b) == 0:
			return "", fmt.Errorf("a space at the start of a value must be escaped")
		}
		b, p.in, spaced = append(b, p.in[:size]...), p.in[size:], r == ' '
	}
	switch {
	case len(b) == 0:
		return "", fmt.Errorf("the value is empty")
	case spaced:
		return "", fmt.Errorf("a space at the end of a value must be escaped")
	case !utf8.Valid(b):
		return "", fmt.Errorf("the escaped bytes are not UTF-8")
	}
	return string(b), nil
}

// unescape reads the escape at the start of s and returns its byte and length.
func unescape(s string) (c byte, n int, err error) {
	if len(s) >= 2 && strings.IndexByte(` "#+,;<=>\`, s[1]) >= 0 {
		return s[1], 2, nil
	}
	if len(s) >= 3 {
		if b, err := hex.DecodeString(s[1:3]); err == nil {
			return b[0], 3, nil
		}
	}
	return 0, 0, fmt.Errorf("a backslash escapes one of space \" # + , ; < = > \\ or two hex digits")
}
