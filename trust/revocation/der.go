package revocation

import "bytes"

// Tags of DER.
const (
	tagBoolean  = 0x01
	tagInteger  = 0x02
	tagOctets   = 0x04
	tagOID      = 0x06
	tagEnum     = 0x0a
	tagUTC      = 0x17
	tagTime     = 0x18
	tagSequence = 0x30
)

// der reads one element: a tag of one byte, and the shortest form of a length of at most 4 bytes.
func der(b []byte) (tag byte, content, rest []byte, ok bool) {
	if len(b) < 2 || b[0]&0x1f == 0x1f {
		return 0, nil, nil, false
	}
	tag, n, b := b[0], int(b[1]), b[2:]
	if n >= 0x80 {
		bytes := n & 0x7f
		if bytes == 0 || bytes > 4 || len(b) < bytes || b[0] == 0 {
			return 0, nil, nil, false
		}
		n = 0
		for _, c := range b[:bytes] {
			n = n<<8 | int(c)
		}
		if n < 0x80 {
			return 0, nil, nil, false
		}
		b = b[bytes:]
	}
	if n < 0 || n > len(b) {
		return 0, nil, nil, false
	}
	return tag, b[:n], b[n:], true
}

func wrap(tag byte, content []byte) []byte {
	out := []byte{tag}
	switch n := len(content); {
	case n < 0x80:
		out = append(out, byte(n))
	case n <= 0xff:
		out = append(out, 0x81, byte(n))
	case n <= 0xffff:
		out = append(out, 0x82, byte(n>>8), byte(n))
	case n <= 0xffffff:
		out = append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	default:
		out = append(out, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(out, content...)
}

// minimal reports whether an INTEGER is in its shortest form, so that equal numbers are equal bytes.
func minimal(b []byte) bool {
	return len(b) > 0 && (len(b) == 1 || !(b[0] == 0 && b[1] < 0x80 || b[0] == 0xff && b[1] >= 0x80))
}

func compareSerials(a, b []byte) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return bytes.Compare(a, b)
}
