package revocation

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sort"
	"time"
)

// Name is what the list was read as.
func (l *List) Name() string { return l.name }

// Bytes returns the list as it was read, in DER. They are not to be written to.
func (l *List) Bytes() []byte { return l.raw }

// Issuer returns the name in DER of who issued the list, by its own word.
func (l *List) Issuer() []byte { return l.header.RawIssuer }

// Until returns when the next list is promised; zero: it is not.
func (l *List) Until() time.Time { return l.header.NextUpdate }

// Untimely says why the list does not hold at a time; "": it does.
func (l *List) Untimely(at time.Time) string {
	return timely(l.header.ThisUpdate, l.header.NextUpdate, at)
}

// Unfit says why the list may not be used for any certificate; "": it may.
func (l *List) Unfit() string { return l.unfit }

// Delta reports whether the list only goes on from another one (RFC 5280, 5.2.4).
func (l *List) Delta() bool { return l.base != nil }

// Deltas returns the URIs at which its delta lists are, for choice (RFC 5280, 5.2.6). Who did not check who signed the list goes to none.
func (l *List) Deltas() []string { return l.deltas }

// Issued reports whether the list is, by its name, of the certificate's issuer. Whether it really is, [List.SignedBy] says.
func (l *List) Issued(cert *x509.Certificate) bool {
	return bytes.Equal(l.header.RawIssuer, cert.RawIssuer)
}

// SignedBy reports whether issuer, which has the name of the list's issuer, signed the list with an algorithm that is no broken one.
func (l *List) SignedBy(issuer *x509.Certificate) bool { return l.authentic(issuer) == nil }

// authentic checks that issuer signed the list. A certificate of the same name with another key did not.
func (l *List) authentic(issuer *x509.Certificate) error {
	key := sha256.Sum256(issuer.Raw)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err, ok := l.verified[key]; ok {
		return err
	}
	err := l.verify(issuer)
	l.verified[key] = err
	return err
}

func (l *List) verify(issuer *x509.Certificate) error {
	if !bytes.Equal(l.header.RawIssuer, issuer.RawSubject) {
		return errors.New("it is of another issuer")
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

// A Said is what a list says of one certificate. It depends on no time; [Judge] makes something of it at one.
type Said struct {
	By      string // the name of the list
	Unfit   string // why nothing; "": it is fit
	Apart   bool   // it is for certificates of another kind: as if it were not there
	from    time.Time
	until   time.Time // zero: it does not say
	entries []Entry
	partial string // "": it is for all reasons
	number  *big.Int
	base    *big.Int
	scope   []byte
	partly  bool // there are delta lists, without which it is not all
}

// An Entry is that of a certificate in a list, or in an answer (RFC 5280, 5.3).
type Entry struct {
	Since   time.Time
	reason  int
	invalid time.Time // since when the key is not to be believed; zero: it does not say
}

// About asks the list for a certificate of issuer. It never fails: whatever keeps the list from saying anything of the certificate, such as
// that issuer did not sign it, is in Unfit, and what is so stays unknown.
func (l *List) About(cert, issuer *x509.Certificate) Said {
	h := l.header
	s := Said{By: l.name, from: h.ThisUpdate, until: h.NextUpdate, number: h.Number, base: l.base, scope: l.scope, partly: l.partly}
	if err := l.authentic(issuer); err != nil {
		s.Unfit = err.Error()
		return s
	}
	if s.Unfit = l.unfit; s.Unfit != "" {
		return s
	}
	authority := cert.BasicConstraintsValid && cert.IsCA
	switch {
	case l.idp.users && authority:
		s.Unfit, s.Apart = "it is not of authorities' certificates", true
	case l.idp.authorities && !authority:
		s.Unfit, s.Apart = "it is of authorities' certificates only", true
	case l.idp.hasPointers:
		s.Unfit, s.partial = fitting(cert, l.idp.names)
	}
	if l.idp.someReasons {
		s.partial = "it is for some reasons of revocation only"
	}
	if s.Unfit != "" {
		return s
	}
	if _, ok := extension(cert.Extensions, oidFreshest); ok {
		s.partly = true
	}
	var err error
	if s.entries, err = l.find(cert.SerialNumber); err != nil {
		s.Unfit = "its entry of this certificate is malformed"
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

func (l *List) find(serial *big.Int) ([]Entry, error) {
	want, err := asn1.Marshal(serial)
	if err != nil {
		return nil, err
	}
	_, want, _, _ = der(want)
	i := sort.Search(len(l.starts), func(i int) bool { return compareSerials(l.serialAt(l.starts[i]), want) >= 0 })
	var out []Entry
	for ; i < len(l.starts) && bytes.Equal(l.serialAt(l.starts[i]), want); i++ {
		e, err := parseEntry(l.entries[l.starts[i]:])
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

func parseEntry(b []byte) (Entry, error) {
	var raw struct {
		Serial     *big.Int
		Since      time.Time
		Extensions []pkix.Extension `asn1:"optional"`
	}
	if _, err := asn1.Unmarshal(b, &raw); err != nil {
		return Entry{}, err
	}
	e := Entry{Since: raw.Since}
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

func extension(all []pkix.Extension, id asn1.ObjectIdentifier) (value []byte, ok bool) {
	for _, e := range all {
		if e.Id.Equal(id) {
			return e.Value, true
		}
	}
	return nil, false
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

// Cause names the reason of the revocation as RFC 5280, 5.3.1 does; one that it does not know is "reason N".
func (e Entry) Cause() string {
	if e.reason < 0 || e.reason >= len(reasonNames) || reasonNames[e.reason] == "" {
		return fmt.Sprintf("reason %d", e.reason)
	}
	return reasonNames[e.reason]
}

// counts reports whether an entry counts against what is proved to be from no later than proof; zero: nothing is proved.
func (e Entry) counts(proof time.Time) bool {
	return proof.IsZero() || e.invalid.IsZero() || !proof.Before(e.invalid)
}

// What a [Ruling] comes to.
const (
	Good    = "good"    // a list or a responder that holds now says so
	Revoked = "revoked" // it was revoked when it mattered
	Unknown = "unknown" // nobody who may say it said it
)

// A Ruling is what becomes of a certificate by one source.
type Ruling struct {
	Status string
	By     string    // the list or the responder that says so
	Why    string    // it is unknown
	Entry  Entry     // of what is revoked
	Until  time.Time // when what is good ends to be
}

// at judges what a full list and the delta lists say, at the time now, of what is proved to be from no later than proof.
func (s Said) at(now, proof time.Time, deltas []Said) Ruling {
	unknown := func(format string, args ...any) Ruling {
		return Ruling{Status: Unknown, By: s.By, Why: fmt.Sprintf(format, args...)}
	}
	if s.Unfit != "" {
		return unknown("%s", s.Unfit)
	}
	// What is revoked for good stays so, also if the list is an old one.
	for _, from := range append([]Said{s}, deltas...) {
		for _, e := range from.entries {
			if e.reason != reasonHold && e.reason != reasonRemove && e.counts(proof) {
				return Ruling{Status: Revoked, By: from.By, Entry: e}
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
	out := Ruling{Status: Good, By: s.By, Until: s.until}
	delta, why := s.next(now, deltas)
	switch {
	case delta != nil:
		out.By = delta.By
		if delta.until.Before(out.Until) {
			out.Until = delta.until
		}
		for _, e := range delta.entries {
			if latest == nil || e.Since.After(latest.Since) {
				latest = &e
			}
		}
	case s.partly:
		return unknown("there are delta lists to it, and %s", why)
	}
	if latest != nil && latest.reason == reasonHold && latest.counts(proof) {
		return Ruling{Status: Revoked, By: out.By, Entry: *latest}
	}
	if s.partial != "" {
		return unknown("%s", s.partial)
	}
	return out
}

func (s Said) held() *Entry {
	var latest *Entry
	for i, e := range s.entries {
		if e.reason == reasonHold && (latest == nil || e.Since.After(latest.Since)) {
			latest = &s.entries[i]
		}
	}
	return latest
}

// next finds the newest delta list that goes on from s (RFC 5280, 5.2.4).
func (s Said) next(now time.Time, deltas []Said) (best *Said, why string) {
	why = "none is here"
	for i, d := range deltas {
		switch {
		case d.Unfit != "":
			why = fmt.Sprintf("%s cannot be used: %s", d.By, d.Unfit)
		case !bytes.Equal(d.scope, s.scope):
			why = fmt.Sprintf("%s is for another scope", d.By)
		case s.number == nil || d.number.Cmp(s.number) <= 0 || d.base.Cmp(s.number) > 0:
			why = fmt.Sprintf("%s does not go on from it", d.By)
		case timely(d.from, d.until, now) != "":
			why = fmt.Sprintf("%s cannot be used: %s", d.By, timely(d.from, d.until, now))
		case best == nil || d.number.Cmp(best.number) > 0:
			best = &deltas[i]
		}
	}
	return best, why
}

// skew is how far the clock of who says something may be ahead of this one.
const skew = 5 * time.Minute

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

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

// Before reports whether l is an older list than other, of the same scope, by their numbers (RFC 5280, 5.2.3).
func (l *List) Before(other *List) bool {
	a, b := l.header.Number, other.header.Number
	return a != nil && b != nil && a.Cmp(b) < 0 && bytes.Equal(l.scope, other.scope) && (l.base == nil) == (other.base == nil)
}

// Judge rules by full lists and the delta lists beside them, at the time now, of what is proved to be from no later than proof; zero:
// nothing is proved. One that says revoked is enough, and else one that says good (RFC 5280, 5.2.4 and 6.3.3). By none at all it is unknown,
// and Why is empty.
func Judge(now, proof time.Time, full, deltas []Said) Ruling {
	out := Ruling{Status: Unknown}
	for _, s := range append(slices.Clip(full), deltas...) {
		r := s.at(now, proof, deltas)
		switch {
		case r.Status == Revoked && r.Entry.reason == reasonHold && lifted(s, now, proof, full, deltas):
		case r.Status == Revoked:
			return r
		case r.Status == Good && out.Status != Good, out.Why == "" && out.Status == Unknown:
			out = r
		}
	}
	return out
}

// lifted reports whether a newer list of the same scope no longer holds what s does.
func lifted(s Said, now, proof time.Time, full, deltas []Said) bool {
	return slices.ContainsFunc(full, func(newer Said) bool {
		return s.number != nil && newer.number != nil && newer.number.Cmp(s.number) > 0 && string(newer.scope) == string(s.scope) &&
			newer.at(now, proof, deltas).Status == Good
	})
}
