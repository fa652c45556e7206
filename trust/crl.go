package trust

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/imprint-oci/imprint/certchain"
)

// MaxListBytes limits a revocation list, in a file and from the network.
const MaxListBytes = 32 << 20

// A list is a certificate revocation list (RFC 5280, section 5). Its entries stay where they are in its bytes: one of [MaxListBytes]
// may have a million.
type list struct {
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

// parseLists reads a list in DER, or one or more in PEM.
func parseLists(name string, b []byte) ([]*list, error) {
	if !bytes.Contains(b, []byte("-----BEGIN")) {
		l, err := parseList(name, b)
		if err != nil {
			return nil, err
		}
		return []*list{l}, nil
	}
	var out []*list
	for begun := bytes.Count(b, []byte("-----BEGIN")); begun > 0; begun-- {
		block, rest := pem.Decode(b)
		if block == nil {
			return nil, errors.New("a PEM block in it is broken")
		}
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("it holds a %s, where X509 CRL is meant", shorten(block.Type))
		}
		l, err := parseList(name, block.Bytes)
		if err != nil {
			return nil, err
		}
		out, b = append(out, l), rest
	}
	return out, nil
}

var errNoList = errors.New("it is no revocation list in DER or PEM")

// parseList reads a list. What it may be used for is said later: a list that is well formed and unfit is no error.
func parseList(name string, b []byte) (*list, error) {
	l := &list{name: name, raw: b, verified: map[[32]byte]error{}}
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

func (l *list) split(b []byte) (halves, error) {
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
func (l *list) index() error {
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
func (l *list) entryExtensions(b []byte) error {
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

func (l *list) serialAt(start uint32) []byte {
	_, entry, _, _ := der(l.entries[start:])
	_, serial, _, _ := der(entry)
	return serial
}

func (l *list) extensions() error {
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

func extension(all []pkix.Extension, id asn1.ObjectIdentifier) (value []byte, ok bool) {
	for _, e := range all {
		if e.Id.Equal(id) {
			return e.Value, true
		}
	}
	return nil, false
}

// issued reports whether the list is, by its name, of the certificate's issuer. Whether it really is, authentic says.
func (l *list) issued(cert *x509.Certificate) bool {
	return bytes.Equal(l.header.RawIssuer, cert.RawIssuer)
}

// authentic checks that issuer signed the list. A certificate of the same name with another key did not.
func (l *list) authentic(issuer *x509.Certificate) error {
	key := thumbprintOf(issuer)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err, ok := l.verified[key]; ok {
		return err
	}
	err := l.verify(issuer)
	l.verified[key] = err
	return err
}

func (l *list) verify(issuer *x509.Certificate) error {
	if !bytes.Equal(l.header.RawIssuer, issuer.RawSubject) {
		return fmt.Errorf("it is of %s", certchain.NameOf(l.header.RawIssuer))
	}
	switch l.header.SignatureAlgorithm {
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.MD5WithRSA, x509.MD2WithRSA, x509.UnknownSignatureAlgorithm:
		return fmt.Errorf("it is signed with %v", l.header.SignatureAlgorithm)
	}
	if err := l.header.CheckSignatureFrom(issuer); err != nil {
		return errors.New("the key of the certificate's issuer did not sign it")
	}
	return nil
}

// A said is what a list says of one certificate. It depends on no time.
type said struct {
	by      string
	unfit   string // why nothing
	apart   bool   // it is for certificates of another kind: as if it were not there
	from    time.Time
	until   time.Time // zero: it does not say
	entries []listed
	partial string // "": it is for all reasons
	number  *big.Int
	base    *big.Int
	scope   []byte
	partly  bool // there are delta lists, without which it is not all
}

// A listed is the entry of a certificate in a list.
type listed struct {
	since   time.Time
	reason  int
	invalid time.Time // since when the key is not to be believed; zero: it does not say
}

// about asks the list for a certificate.
func (l *list) about(cert, issuer *x509.Certificate) said {
	h := l.header
	s := said{by: l.name, from: h.ThisUpdate, until: h.NextUpdate, number: h.Number, base: l.base, scope: l.scope, partly: l.partly}
	if err := l.authentic(issuer); err != nil {
		s.unfit = err.Error()
		return s
	}
	if s.unfit = l.unfit; s.unfit != "" {
		return s
	}
	authority := cert.BasicConstraintsValid && cert.IsCA
	switch {
	case l.idp.users && authority:
		s.unfit, s.apart = "it is not of authorities' certificates", true
	case l.idp.authorities && !authority:
		s.unfit, s.apart = "it is of authorities' certificates only", true
	case l.idp.hasPointers:
		s.unfit, s.partial = fitting(cert, l.idp.names)
	}
	if l.idp.someReasons {
		s.partial = "it is for some reasons of revocation only"
	}
	if s.unfit != "" {
		return s
	}
	if _, ok := extension(cert.Extensions, oidFreshest); ok {
		s.partly = true
	}
	var err error
	if s.entries, err = l.find(cert.SerialNumber); err != nil {
		s.unfit = "its entry of this certificate is malformed"
	}
	return s
}

// fitting says why a list for one distribution point is not for a certificate (RFC 5280, 6.3.3 b 2 i).
func fitting(cert *x509.Certificate, names []string) (unfit, partial string) {
	value, ok := extension(cert.Extensions, oidPoints)
	if !ok {
		return "it is of one distribution point, and the certificate names none", ""
	}
	all, err := points(value)
	if err != nil {
		return "the certificate's distribution points are malformed", ""
	}
	unfit = "it is of another distribution point than the certificate names"
	for _, p := range all {
		if p.indirect || !slices.ContainsFunc(p.names, func(n string) bool { return slices.Contains(names, n) }) {
			continue
		}
		if !p.reasons {
			return "", ""
		}
		unfit, partial = "", "it is for some reasons of revocation only"
	}
	return unfit, partial
}

func (l *list) find(serial *big.Int) ([]listed, error) {
	want, err := asn1.Marshal(serial)
	if err != nil {
		return nil, err
	}
	_, want, _, _ = der(want)
	i := sort.Search(len(l.starts), func(i int) bool { return compareSerials(l.serialAt(l.starts[i]), want) >= 0 })
	var out []listed
	for ; i < len(l.starts) && bytes.Equal(l.serialAt(l.starts[i]), want); i++ {
		e, err := parseEntry(l.entries[l.starts[i]:])
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

func parseEntry(b []byte) (listed, error) {
	var raw struct {
		Serial     *big.Int
		Since      time.Time
		Extensions []pkix.Extension `asn1:"optional"`
	}
	if _, err := asn1.Unmarshal(b, &raw); err != nil {
		return listed{}, err
	}
	e := listed{since: raw.Since}
	for _, x := range raw.Extensions {
		switch {
		case x.Id.Equal(oidReason):
			var reason asn1.Enumerated
			if rest, err := asn1.Unmarshal(x.Value, &reason); err != nil || len(rest) > 0 {
				return e, errMalformed
			}
			e.reason = int(reason)
		case x.Id.Equal(oidInvalidity):
			at, err := parseInvalidity(x.Value)
			if err != nil {
				return e, err
			}
			e.invalid = at
		}
	}
	return e, nil
}

func parseInvalidity(value []byte) (time.Time, error) {
	var at time.Time
	if rest, err := asn1.UnmarshalWithParams(value, &at, "generalized"); err != nil || len(rest) > 0 {
		return at, errMalformed
	}
	return at, nil
}

// Reasons of RFC 5280, 5.3.1.
const (
	reasonHold   = 6
	reasonRemove = 8
)

var reasonNames = []string{"unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation",
	"certificateHold", "", "removeFromCRL", "privilegeWithdrawn", "aACompromise"}

func reasonName(n int) string {
	if n < 0 || n >= len(reasonNames) || reasonNames[n] == "" {
		return fmt.Sprintf("reason %d", n)
	}
	return reasonNames[n]
}

// counts reports whether an entry counts against what is proved to be from no later than proof; zero: nothing is proved.
func (e listed) counts(proof time.Time) bool {
	return proof.IsZero() || e.invalid.IsZero() || !proof.Before(e.invalid)
}

// A ruling is what becomes of a certificate by one source.
type ruling struct {
	status string
	by     string
	why    string
	entry  listed
	until  time.Time
}

// at judges what a full list and the delta lists say, at the time now, of what is proved to be from no later than proof.
func (s said) at(now, proof time.Time, deltas []said) ruling {
	unknown := func(format string, args ...any) ruling {
		return ruling{status: RevocationUnknown, by: s.by, why: fmt.Sprintf(format, args...)}
	}
	if s.unfit != "" {
		return unknown("%s", s.unfit)
	}
	// What is revoked for good stays so, also if the list is an old one.
	for _, from := range append([]said{s}, deltas...) {
		for _, e := range from.entries {
			if e.reason != reasonHold && e.reason != reasonRemove && e.counts(proof) {
				return ruling{status: RevocationRevoked, by: from.by, entry: e}
			}
		}
	}
	if s.base != nil {
		return unknown("it is a delta list, which says nothing without the list that it goes on from")
	}
	if why := timely(s.from, s.until, now); why != "" {
		return unknown("%s", why)
	}
	latest := s.held()
	for _, e := range s.entries {
		if e.reason == reasonRemove {
			return unknown("it takes back a revocation, which only a delta list may")
		}
	}
	out := ruling{status: RevocationGood, by: s.by, until: s.until}
	delta, why := s.next(now, deltas)
	switch {
	case delta != nil:
		out.by = delta.by
		if delta.until.Before(out.until) {
			out.until = delta.until
		}
		for _, e := range delta.entries {
			if latest == nil || e.since.After(latest.since) {
				latest = &e
			}
		}
	case s.partly:
		return unknown("there are delta lists to it, and %s", why)
	}
	if latest != nil && latest.reason == reasonHold && latest.counts(proof) {
		return ruling{status: RevocationRevoked, by: out.by, entry: *latest}
	}
	if s.partial != "" {
		return unknown("%s", s.partial)
	}
	return out
}

func (s said) held() *listed {
	var latest *listed
	for i, e := range s.entries {
		if e.reason == reasonHold && (latest == nil || e.since.After(latest.since)) {
			latest = &s.entries[i]
		}
	}
	return latest
}

// next finds the newest delta list that goes on from s (RFC 5280, 5.2.4).
func (s said) next(now time.Time, deltas []said) (best *said, why string) {
	why = "none is here"
	for i, d := range deltas {
		switch {
		case d.unfit != "":
			why = fmt.Sprintf("%s cannot be used: %s", d.by, d.unfit)
		case !bytes.Equal(d.scope, s.scope):
			why = fmt.Sprintf("%s is for another scope", d.by)
		case s.number == nil || d.number.Cmp(s.number) <= 0 || d.base.Cmp(s.number) > 0:
			why = fmt.Sprintf("%s does not go on from it", d.by)
		case timely(d.from, d.until, now) != "":
			why = fmt.Sprintf("%s cannot be used: %s", d.by, timely(d.from, d.until, now))
		case best == nil || d.number.Cmp(best.number) > 0:
			best = &deltas[i]
		}
	}
	return best, why
}

// timely says why a list or an answer does not hold at now.
func timely(from, until, now time.Time) string {
	switch {
	case from.After(now.Add(skew)):
		return fmt.Sprintf("it is from %s, which is yet to come", minute(from))
	case until.IsZero():
		return "it does not say until when it holds"
	case now.After(until):
		return fmt.Sprintf("it held until %s", minute(until))
	}
	return ""
}

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
