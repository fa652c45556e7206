package certchain

import (
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// attributeTypes are the types with names, in the order in which certificates have them. Screens show DC among the last.
var attributeTypes = []struct {
	oid        string
	names      []string // the first is the one shown; upper case
	repeatable bool
	ia5        bool // encoded as IA5String, any other as PrintableString where that will do, else UTF8String
}{
	{oid: oidDomain, names: []string{"DC"}, repeatable: true, ia5: true},
	{oid: oidCountry, names: []string{"C"}},
	{oid: oidProvince, names: []string{"ST", "S"}},
	{oid: "2.5.4.7", names: []string{"L"}},
	{oid: oidOrganization, names: []string{"O"}},
	{oid: "2.5.4.11", names: []string{"OU"}, repeatable: true},
	{oid: "2.5.4.3", names: []string{"CN"}},
	{oid: "2.5.4.9", names: []string{"STREET"}},
	{oid: "0.9.2342.19200300.100.1.1", names: []string{"UID"}},
	{oid: "2.5.4.5", names: []string{"SERIALNUMBER"}},
	{oid: "1.2.840.113549.1.9.1", names: []string{"E", "EMAILADDRESS", "EMAIL"}, ia5: true},
}

const (
	oidDomain       = "0.9.2342.19200300.100.1.25"
	oidCountry      = "2.5.4.6"
	oidProvince     = "2.5.4.8"
	oidOrganization = "2.5.4.10"
)

// typeName returns the short name of an attribute type, or its OID.
func typeName(oid string) string {
	for _, t := range attributeTypes {
		if t.oid == oid {
			return t.names[0]
		}
	}
	return oid
}

// typeOID returns the OID for a name or a dotted OID as RFC 4514 section 2.3 writes it.
func typeOID(name string) (string, error) {
	upper := name
	if isASCII(name) { // U+017F is an S in upper case
		upper = strings.ToUpper(name)
	}
	for _, t := range attributeTypes {
		for _, n := range t.names {
			if n == upper {
				return t.oid, nil
			}
		}
	}
	if name != "" && '0' <= name[0] && name[0] <= '9' {
		return name, checkOID(name)
	}
	return "", fmt.Errorf("the attribute type %q is not known: write its OID in digits", shorten(name))
}

// checkOID accepts what encodes to an OID and reads back as the same text.
func checkOID(s string) error {
	bad := fmt.Errorf("%q is no OID", shorten(s))
	arcs := strings.Split(s, ".")
	if len(arcs) < 2 || len(arcs) > 20 {
		return bad
	}
	for i, arc := range arcs {
		n, err := strconv.ParseUint(arc, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != arc || i == 0 && n > 2 || i == 1 && arcs[0] != "2" && n > 39 {
			return bad
		}
	}
	var back asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(encodeOID(s), &back); err != nil || back.String() != s {
		return bad
	}
	return nil
}

// encodeOID encodes an OID that checkOID accepted or that was decoded.
func encodeOID(s string) []byte {
	var oid asn1.ObjectIdentifier
	for arc := range strings.SplitSeq(s, ".") {
		n, _ := strconv.Atoi(arc)
		oid = append(oid, n)
	}
	der, _ := asn1.Marshal(oid)
	return der
}

func repeatable(oid string) bool {
	for _, t := range attributeTypes {
		if t.oid == oid {
			return t.repeatable
		}
	}
	return true // what an unknown type allows is not known
}

// encodeString encodes text in the string type that the attribute has in certificates.
func encodeString(oid, text string) []byte {
	tag := asn1.TagUTF8String
	if isPrintable(text) {
		tag = asn1.TagPrintableString
	}
	for _, t := range attributeTypes {
		if t.oid == oid && t.ia5 && isASCII(text) {
			tag = asn1.TagIA5String
		}
	}
	return tlv(byte(tag), []byte(text))
}

const (
	tagUniversalString = 28
	tagVisibleString   = 26
)

// decodeString returns the characters of an ASN.1 string. Where the bytes break the rules of their type, or mean different
// characters to different readers (T61String beyond ASCII), it reports false.
func decodeString(v asn1.RawValue) (string, bool) {
	if v.Class != asn1.ClassUniversal || v.IsCompound {
		return "", false
	}
	s := string(v.Bytes)
	switch v.Tag {
	case asn1.TagUTF8String:
		return s, utf8.ValidString(s)
	case asn1.TagPrintableString:
		return s, isPrintable(s)
	case asn1.TagIA5String, asn1.TagT61String, tagVisibleString:
		return s, isASCII(s)
	case asn1.TagNumericString:
		return s, strings.Trim(s, "0123456789 ") == ""
	case asn1.TagBMPString:
		return decodeBMP(v.Bytes)
	case tagUniversalString:
		return decodeUniversal(v.Bytes)
	}
	return "", false
}

// decodeBMP reads UCS-2, which has no surrogates.
func decodeBMP(b []byte) (string, bool) {
	if len(b)%2 != 0 {
		return "", false
	}
	var s strings.Builder
	for ; len(b) > 0; b = b[2:] {
		r := rune(binary.BigEndian.Uint16(b))
		if utf16.IsSurrogate(r) {
			return "", false
		}
		s.WriteRune(r)
	}
	return s.String(), true
}

func decodeUniversal(b []byte) (string, bool) {
	if len(b)%4 != 0 {
		return "", false
	}
	var s strings.Builder
	for ; len(b) > 0; b = b[4:] {
		r := binary.BigEndian.Uint32(b)
		if r > unicode.MaxRune || !utf8.ValidRune(rune(r)) {
			return "", false
		}
		s.WriteRune(rune(r))
	}
	return s.String(), true
}

// isPrintable reports whether s is of PrintableString's characters. Like Go and OpenSSL it lets * and & pass, which
// many authorities write.
func isPrintable(s string) bool {
	for _, r := range s {
		ok := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(" '()+,-./:=?*&", r)
		if !ok {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// escape writes a value by RFC 4514 section 2.4 and, beyond it, everything as hex that a screen would hide or obey:
// control characters, bidirectional overrides, invisible and private characters.
func escape(s string) string {
	var b strings.Builder
	for i, r := range s {
		last := i+utf8.RuneLen(r) == len(s)
		switch {
		case strings.ContainsRune(`"+,;<>\`, r), i == 0 && (r == ' ' || r == '#'), last && r == ' ':
			b.WriteByte('\\')
			b.WriteRune(r)
		case !unicode.IsPrint(r):
			for _, c := range []byte(string(r)) {
				fmt.Fprintf(&b, `\%02X`, c)
			}
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func shorten(s string) string {
	const most = 40
	if len(s) > most {
		s = s[:most] + "…"
	}
	return s
}
