package signer

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
)

// A Verdict is what verifiers of one setting say.
type Verdict struct {
	Setting envelope.Setting `json:"setting"`
	Old     bool             `json:"old"`
	New     bool             `json:"new"`
	Both    bool             `json:"both"` // side by side: verifiers try the next
	OldWhy  string           `json:"oldWhy,omitempty"`
	NewWhy  string           `json:"newWhy,omitempty"`
	// OldCause and NewCause say the same as OldWhy and NewWhy in the few words of a table.
	OldCause Cause `json:"-"`
	NewCause Cause `json:"-"`
}

// A Cause is why verifiers refuse a signature, without its times, so that thousands have the same.
type Cause struct {
	What        string // one of the constants below; "" of what passes
	Certificate string // the subject of the certificate that stands in the way, where one does
}

// The causes.
const (
	CauseExpired      = "expired"       // the signature's own expiry has passed
	CauseEnded        = "ended"         // a certificate has ended
	CauseNotBegun     = "not-begun"     // a certificate has not begun
	CauseNoTimestamp  = "no-timestamp"  // there is none, and one is required
	CauseUnreadable   = "unreadable"    // the timestamp is
	CauseStampOlder   = "stamp-older"   // the timestamp is older than a certificate
	CauseStampLater   = "stamp-later"   // … states a time after a certificate's end
	CauseSigningOlder = "signing-older" // the authentic signing time is older than a certificate
	CauseSigningLater = "signing-later"
)

// verdicts says what each kind of verifier says at a time of the present signature, the new one, and both side by side.
func (p *Plan) verdicts(new envelope.Content, at time.Time) (all []Verdict) {
	for _, s := range envelope.Settings() {
		v := Verdict{Setting: s}
		v.Old, v.OldWhy = passes(p.content, s, at)
		v.New, v.NewWhy = passes(new, s, at)
		if !v.Old {
			v.OldCause = causeOf(p.content, s, at)
		}
		if !v.New {
			v.NewCause = causeOf(new, s, at)
		}
		if p.Restamp {
			p.foresee(&v, new, at)
		}
		v.Both = v.Old || v.New
		all = append(all, v)
	}
	return all
}

// foresee says what verifiers will say of a new signature that is going to be countersigned now, inside of its chain.
func (p *Plan) foresee(v *Verdict, new envelope.Content, at time.Time) {
	_, end := new.Chain.HoldsUntil()
	expired := !new.Expiry.IsZero() && !new.Expiry.After(at)
	if v.Setting == envelope.Always || v.Setting == envelope.AfterCertExpiry && at.After(end) {
		if v.New = !expired; v.New {
			v.NewWhy, v.NewCause = "", Cause{}
		}
	}
}

// passes says what a verifier of setting s says of c: of its certificates, and of its expiry, which no setting forgives.
func passes(c envelope.Content, s envelope.Setting, now time.Time) (ok bool, why string) {
	if !c.Expiry.IsZero() && !c.Expiry.After(now) {
		return false, "it expired on " + stamp(c.Expiry)
	}
	return c.Passes(s, now)
}

// causeOf says in few words why [passes] says no.
func causeOf(c envelope.Content, s envelope.Setting, now time.Time) Cause {
	if !c.Expiry.IsZero() && !c.Expiry.After(now) {
		return Cause{What: CauseExpired}
	}
	_, end := c.Chain.HoldsUntil()
	switch {
	case c.Scheme == envelope.SchemeSigningAuthority:
		return outside(c.Chain, c.AuthenticTime, c.AuthenticTime, CauseSigningOlder, CauseSigningLater)
	case s == envelope.NoTSARoot, s == envelope.AfterCertExpiry && !now.After(end):
		return outside(c.Chain, now, now, CauseNotBegun, CauseEnded)
	}
	from, to, stamped, err := c.TimestampRange()
	switch {
	case err != nil:
		return Cause{What: CauseUnreadable}
	case !stamped:
		return Cause{What: CauseNoTimestamp}
	}
	return outside(c.Chain, from, to, CauseStampOlder, CauseStampLater)
}

// outside names the first certificate that is not valid all the time from from to to.
func outside(chain certchain.Chain, from, to time.Time, before, after string) Cause {
	for _, cert := range chain {
		switch {
		case from.Before(cert.NotBefore):
			return Cause{before, subjectOf(cert)}
		case to.After(cert.NotAfter):
			return Cause{after, subjectOf(cert)}
		}
	}
	return Cause{}
}

func subjectOf(c *x509.Certificate) string { return certchain.NameOf(c.RawSubject) }

// checkTimes refuses to replace a signature whose stated time (the timestamp's, or the authentic signing time) the
// new chain does not cover: verifiers that go by that time would refuse the new one. Side by side with the old one it
// harms nobody.
func (p *Plan) checkTimes(new envelope.Content) error {
	old, why := p.content, ""
	from, to, stamped, err := new.TimestampRange()
	switch {
	case p.Restamp: // the time that it states will be one of the new chain
	case err != nil:
		why = fmt.Sprintf("its timestamp cannot be read (%v), so nobody can say whether the new chain covers it", err)
	case stamped && !covers(new.Chain, from, to) && covers(old.Chain, from, to):
		why = fmt.Sprintf("its timestamp, %s, lies outside the validity of the new chain, which begins %s", stamp(from), stamp(new.Chain.HoldsFrom()))
	case !new.AuthenticTime.IsZero() && !covers(new.Chain, new.AuthenticTime, new.AuthenticTime) && covers(old.Chain, old.AuthenticTime, old.AuthenticTime):
		why = fmt.Sprintf("its authentic signing time, %s, lies outside the validity of the new chain, which begins %s",
			stamp(new.AuthenticTime), stamp(new.Chain.HoldsFrom()))
	}
	for _, v := range p.Verdicts {
		if why == "" && v.Old && !v.New {
			why = fmt.Sprintf("verifiers of the setting %s accept the present signature and would refuse the new one: %s", v.Setting, v.NewWhy)
		}
	}
	if p.Breaks = why; why == "" {
		return nil
	}
	if p.Replace {
		return &Error{codeTimestamp, fmt.Errorf("replacing it would break it for some verifiers: %s", why)}
	}
	p.warn("%s; the present one has to stay beside it", why)
	return nil
}

// checkAuthority refuses to take a countersignature that is of use away from verifiers who trust its authority and not that of the new one;
// new is nil as long as that is not known. Beside the old signature the new one harms nobody.
func (p *Plan) checkAuthority(new *Stamped, roots []*x509.Certificate) error {
	if !p.Replace || !ofUse(p.content) {
		return nil
	}
	return breaksStamp(p.content, new, roots)
}

// ofUse is whether anybody may go by the countersignature of c: it can be read, and is of the time when the chain held.
func ofUse(c envelope.Content) bool {
	from, to, stamped, err := c.TimestampRange()
	return err == nil && stamped && covers(c.Chain, from, to)
}

// breaksStamp says why the countersignature of c may not be exchanged for new.
func breaksStamp(c envelope.Content, new *Stamped, roots []*x509.Certificate) error {
	refuse := func(why string) error {
		return &Error{codeTimestamp, fmt.Errorf("replacing it would break it for some verifiers: %s", why)}
	}
	old, err := c.VerifyTimestamp(roots)
	if errors.Is(err, envelope.ErrTimestamp) {
		return refuse("its timestamp is none under the roots given, but may be one under those that others trust")
	}
	// One that nobody can read is no loss.
	if err == nil && new != nil && !old.Chain.Root().Equal(new.chain.Root()) {
		return refuse(fmt.Sprintf("its timestamp leads to %s, the new one to %s", subjectOf(old.Chain.Root()), subjectOf(new.chain.Root())))
	}
	return nil
}

func covers(chain certchain.Chain, from, to time.Time) bool {
	_, until := chain.HoldsUntil()
	return !from.Before(chain.HoldsFrom()) && !to.After(until)
}
