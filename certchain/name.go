package certchain

// A Name is a distinguished name: the parsed RDNs, types and value bytes kept, in the order of RFC 4514's text read from the left
// as written. Names are compared by type and value, never as text (CVE-2023-25656).
type Name struct {
	rdns []rdn
}

type rdn struct{} // the room decides

// ParseName reads a distinguished name strictly by RFC 4514 (multi-valued RDNs, escapes, hex values; at most 4 KiB). Attribute types are those of RFC 4514 and ST/S, O,
// OU, CN, C, L, STREET, DC, UID, SERIALNUMBER, E (emailAddress) or dotted OIDs. A duplicated attribute type in a single-valued position is an error for identities.
func ParseName(s string) (Name, error) { panic("door") }

// NameFrom reads a DER-encoded name (certificate.RawSubject).
func NameFrom(raw []byte) (Name, error) { panic("door") }

// NameOf renders a DER-encoded name the way every screen of imprint shows it: C first, then ST, L, O, OU, CN, others; ", " between; values
// escaped by RFC 4514, control and bidi characters too. A name that does not parse is rendered as hex.
func NameOf(raw []byte) string { panic("door") }

// String renders n as NameOf does.
func (n Name) String() string { panic("door") }

// DER encodes n, in the order that certificates have: C first.
func (n Name) DER() []byte { panic("door") }

// Contains reports whether every attribute of part stands in n with exactly the same value (type and characters; case and spaces count).
// It is how a trusted identity is compared with a leaf's subject.
func (n Name) Contains(part Name) bool { panic("door") }
