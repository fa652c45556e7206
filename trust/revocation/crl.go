// Package revocation reads what says that certificates are revoked, lists (RFC 5280) and responders' answers (RFC 6960), and says what
// they come to for one certificate; it knows no policy and no network.
package revocation

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"
)

// MaxListBytes limits a revocation list, in a file and from the network: who reads one reads no more.
const MaxListBytes = 32 << 20

// A List is a certificate revocation list (RFC 5280, section 5). Its entries stay where they are in its bytes: one of [MaxListBytes]
// may have a million.
type List struct {
	name    string // file or URL
	raw     []byte
	header  *x509.RevocationList // all but the entries
	entries []byte
	starts  []uint32 // of each entry, in the order of their serials
	unfit   string   // why it may not be used for any certificate; "": it may
	idp     distribution
	scope   []byte   // the extension that idp was read from
	base    *big.Int // of a delta list: the number of the list that it goes on from
	deltas  []string // where its delta lists are; nil: none are named
	partly  bool     // it says that there are delta lists

	mu       sync.Mutex
	verified map[[32]byte]error
}

var (
	oidReason       = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidInvalidity   = asn1.ObjectIdentifier{2, 5, 29, 24}
	oidDelta        = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidDistribution = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidPoints       = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidFreshest     = asn1.ObjectIdentifier{2, 5, 29, 46}
)

// ParseLists reads a list in DER, or one or more in PEM. name is what is shown of where they are from. Errors say what is wrong with the
// bytes, and not whose they are.
func ParseLists(name string, b []byte) ([]*List, error) {
	if !bytes.Contains(b, []byte("-----BEGIN")) {
		l, err := ParseList(name, b)
		if err != nil {
			return nil, err
		}
		return []*List{l}, nil
	}
	var out []*List
	for begun := bytes.Count(b, []byte("-----BEGIN")); begun > 0; begun-- {
		block, rest := pem.Decode(b)
		if block == nil {
			return nil, errors.New("a PEM block in it is broken")
		}
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("it holds a %s, where X509 CRL is meant", shorten(block.Type))
		}
		l, err := ParseList(name, block.Bytes)
		if err != nil {
			return nil, err
		}
		out, b = append(out, l), rest
	}
	return out, nil
}

var errNoList = errors.New("it is no revocation list in DER or PEM")

// ParseList reads a list in DER (RFC 5280, 5.1) more strictly than crypto/x509 does. What it may be used for is said later: a list that is well formed and unfit is no error.
func ParseList(name string, b []byte) (*List, error) {
	l := &List{name: name, raw: b, verified: map[[32]byte]error{}}
	tbs, err := l.split(b)
	if err != nil {
		return nil, err
	}
	// crypto/x509 would make an object of some 300 bytes of each entry; it reads the header, which has no entries any more.
	if l.header, err = x509.ParseRevocationList(tbs.header); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoList, err)
	}
	l.header.RawTBSRevocationList, l.header.Raw = tbs.signed, nil
	if err := l.index(); err != nil {
		return nil, err
	}
	return l, l.extensions()
}

// halves are a list as it was signed, and the same without entries.
type halves struct{ signed, header []byte }

func (l *List) split(b []byte) (halves, error) {
	tag, outer, rest, ok := der(b)
	if !ok || tag != tagSequence || len(rest) > 0 {
		return halves{}, errNoList
	}
	tag, tbs, signature, ok := der(outer)
	if !ok || tag != tagSequence {
		return halves{}, errNoList
	}
	h := halves{signed: outer[:len(outer)-len(signature)]}
	// version, algorithm, issuer, thisUpdate, and nextUpdate where it is.
	at := tbs
	for i, want := range [][]byte{{tagInteger}, {tagSequence}, {tagSequence}, {tagUTC, tagTime}, {tagUTC, tagTime}} {
		tag, _, next, ok := der(at)
		if i == 4 && (len(at) == 0 || ok && !slices.Contains(want, tag)) {
			break
		}
		if !ok || !slices.Contains(want, tag) {
			return halves{}, errNoList
		}
		at = next
	}
	before := tbs[:len(tbs)-len(at)]
	if len(at) > 0 && at[0] == tagSequence {
		if _, l.entries, at, ok = der(at); !ok {
			return halves{}, errNoList
		}
	}
	h.header = wrap(tagSequence, slices.Concat(wrap(tagSequence, slices.Concat(before, at)), signature))
	return h, nil
}

// index notes where the entries are, and refuses what is none.
func (l *List) index() error {
	sorted := true
	var last []byte
	for b := l.entries; len(b) > 0; {
		start := len(l.entries) - len(b)
		tag, entry, rest, ok := der(b)
		if !ok || tag != tagSequence {
			return fmt.Errorf("%w: entry %d is malformed", errNoList, len(l.starts)+1)
		}
		tag, serial, after, ok := der(entry)
		if !ok || tag != tagInteger || !minimal(serial) {
			return fmt.Errorf("%w: the serial of entry %d is malformed", errNoList, len(l.starts)+1)
		}
		tag, at, after, ok := der(after)
		if !ok || !aTime(tag, at) {
			return fmt.Errorf("%w: the time of entry %d is malformed", errNoList, len(l.starts)+1)
		}
		if len(after) > 0 {
			if err := l.entryExtensions(after); err != nil {
				return fmt.Errorf("%w: extensions of entry %d: %w", errNoList, len(l.starts)+1, err)
			}
		}
		sorted = sorted && compareSerials(last, serial) <= 0
		last, b = serial, rest
		l.starts = append(l.starts, uint32(start))
	}
	if !sorted {
		slices.SortStableFunc(l.starts, func(a, b uint32) int { return compareSerials(l.serialAt(a), l.serialAt(b)) })
	}
	return nil
}

var errMalformed = errors.New("malformed")

// entryExtensions looks for critical ones that nobody here knows: such a list must not be used for any certificate (RFC 5280, 5.3).
func (l *List) entryExtensions(b []byte) error {
	tag, all, rest, ok := der(b)
	if !ok || tag != tagSequence || len(rest) > 0 {
		return errMalformed
	}
	for len(all) > 0 {
		var one []byte
		if tag, one, all, ok = der(all); !ok || tag != tagSequence {
			return errMalformed
		}
		tag, id, one, ok := der(one)
		if !ok || tag != tagOID || !whole(id) {
			return errMalformed
		}
		var critical bool
		if len(one) > 0 && one[0] == tagBoolean {
			var said []byte
			if _, said, one, ok = der(one); !ok {
				return errMalformed
			}
			var err error
			if critical, err = truthOf(said); err != nil {
				return err
			}
		}
		tag, value, rest, ok := der(one)
		if !ok || tag != tagOctets || len(rest) > 0 {
			return errMalformed
		}
		if bytes.Equal(id, []byte{0x55, 29, 21}) { // reasonCode
			if tag, reason, rest, ok := der(value); !ok || tag != tagEnum || len(rest) > 0 || len(reason) != 1 {
				return errMalformed
			}
		}
		// invalidityDate is known whether or not it is critical; nothing else may be.
		if critical && !bytes.Equal(id, []byte{0x55, 29, 24}) {
			l.unfit = "an entry has a critical extension that imprint does not know"
		}
	}
	return nil
}

// whole reports whether an OBJECT IDENTIFIER is one: its last number ends, and none begins with nothing.
func whole(id []byte) bool {
	for i, c := range id {
		if c == 0x80 && (i == 0 || id[i-1] < 0x80) {
			return false
		}
	}
	return len(id) > 0 && id[len(id)-1] < 0x80
}

// aTime reports whether a time is in the one form that RFC 5280, 5.1.2.4 has for it.
func aTime(tag byte, b []byte) bool {
	layout := map[byte]string{tagUTC: "060102150405Z", tagTime: "20060102150405Z"}[tag]
	_, err := time.Parse(layout, string(b))
	return layout != "" && len(b) == len(layout) && err == nil
}

func (l *List) serialAt(start uint32) []byte {
	_, entry, _, _ := der(l.entries[start:])
	_, serial, _, _ := der(entry)
	return serial
}

func (l *List) extensions() error {
	seen := map[string]bool{}
	for _, e := range l.header.Extensions {
		id := e.Id.String()
		if seen[id] {
			return fmt.Errorf("%w: extension %s stands twice", errNoList, id)
		}
		seen[id] = true
		var err error
		switch {
		case e.Id.Equal(oidDistribution):
			l.scope = e.Value
			l.idp, err = parseDistribution(e.Value)
		case e.Id.Equal(oidDelta):
			l.base, err = parseNumber(e.Value)
		case e.Critical:
			l.unfit = fmt.Sprintf("it has the critical extension %s, which imprint does not know", id)
		case e.Id.Equal(oidFreshest):
			l.partly = true
			l.deltas, err = freshest(e.Value)
		}
		if err != nil {
			return fmt.Errorf("%w: extension %s: %w", errNoList, id, err)
		}
	}
	switch {
	case l.idp.indirect:
		l.unfit = "it is an indirect list, of certificates of other issuers too, which imprint does not use"
	case l.idp.attributes:
		l.unfit = "it is of attribute certificates only"
	case l.base != nil && l.header.Number == nil:
		l.unfit = "it is a delta list without a number"
	}
	return nil
}

func parseNumber(value []byte) (*big.Int, error) {
	n := new(big.Int)
	if rest, err := asn1.Unmarshal(value, &n); err != nil || len(rest) > 0 || n.Sign() < 0 {
		return nil, errMalformed
	}
	return n, nil
}

// A distribution is what an issuingDistributionPoint says of a list (RFC 5280, 5.2.5).
type distribution struct {
	names                              []string // of the distribution point; nil: of all
	users, authorities, attributes     bool
	indirect, someReasons, hasPointers bool
}

func parseDistribution(value []byte) (distribution, error) {
	var d distribution
	tag, all, rest, ok := der(value)
	if !ok || tag != tagSequence || len(rest) > 0 {
		return d, errMalformed
	}
	last := -1
	for len(all) > 0 {
		var content []byte
		if tag, content, all, ok = der(all); !ok || int(tag&0x1f) <= last || tag&0xc0 != 0x80 {
			return d, errMalformed
		}
		last = int(tag & 0x1f)
		var err error
		switch tag {
		case 0xa0:
			d.hasPointers = true
			d.names, err = pointNames(content)
		case 0x81:
			d.users, err = truthOf(content)
		case 0x82:
			d.authorities, err = truthOf(content)
		case 0x83:
			d.someReasons = true
		case 0x84:
			d.indirect, err = truthOf(content)
		case 0x85:
			d.attributes, err = truthOf(content)
		default:
			err = errMalformed
		}
		if err != nil {
			return d, err
		}
	}
	return d, nil
}

func truthOf(content []byte) (bool, error) {
	if len(content) != 1 || content[0] != 0 && content[0] != 0xff {
		return false, errMalformed
	}
	return content[0] != 0, nil
}

// pointNames returns the names of a distribution point, each as it is encoded: they are compared, never read.
func pointNames(b []byte) ([]string, error) {
	tag, content, rest, ok := der(b)
	if !ok || len(rest) > 0 {
		return nil, errMalformed
	}
	switch tag {
	case 0xa1: // relative to the issuer
		return []string{string(b)}, nil
	case 0xa0:
	default:
		return nil, errMalformed
	}
	var names []string
	for len(content) > 0 {
		_, _, rest, ok := der(content)
		if !ok {
			return nil, errMalformed
		}
		names, content = append(names, string(content[:len(content)-len(rest)])), rest
	}
	if names == nil {
		return nil, errMalformed
	}
	return names, nil
}

// A point is where a certificate, or a list, says that lists of it are (RFC 5280, 4.2.1.13).
type point struct {
	names    []string
	reasons  bool // the lists there are for some reasons only
	indirect bool // they are of somebody else
}

func points(value []byte) ([]point, error) {
	tag, all, rest, ok := der(value)
	if !ok || tag != tagSequence || len(rest) > 0 {
		return nil, errMalformed
	}
	var out []point
	for len(all) > 0 {
		var one []byte
		if tag, one, all, ok = der(all); !ok || tag != tagSequence {
			return nil, errMalformed
		}
		var p point
		for len(one) > 0 {
			var content []byte
			if tag, content, one, ok = der(one); !ok {
				return nil, errMalformed
			}
			var err error
			switch tag {
			case 0xa0:
				p.names, err = pointNames(content)
			case 0x81:
				p.reasons = true
			case 0xa2:
				p.indirect = true
			default:
				err = errMalformed
			}
			if err != nil {
				return nil, err
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// freshest returns the URIs of a freshestCRL extension.
func freshest(value []byte) ([]string, error) {
	all, err := points(value)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range all {
		for _, name := range p.names {
			if tag, uri, _, ok := der([]byte(name)); ok && tag == 0x86 {
				out = append(out, string(uri))
			}
		}
	}
	return out, nil
}

// shorten makes of a stranger's text what may be shown.
func shorten(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
