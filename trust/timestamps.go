package trust

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
)

// When a timestamp counts.
const (
	useAlways    = "always"            // it is asked for, and lies inside every certificate
	useAfterward = "after-cert-expiry" // it is asked for once a certificate has expired
)

// A timestamping is a section "timestamps": whose countersignatures count, and when. It means what a trust store of
// kind tsa and verifyTimestamp mean to notation.
type timestamping struct {
	use   string
	roots []*x509.Certificate // sorted
	of    string              // what it stands at: "the policy", `scope "…"`, …
	line  int
}

var timestampsGrammar = grammar{
	known: []string{"roots", "use"},
	other: map[string]string{
		"certificates":    "write roots: [FILE]",
		"verifyTimestamp": "write use: always, or use: after-cert-expiry",
	},
}

func (p *parser) timestamps(f field, of string) (*timestamping, error) {
	n, what := f.value, "timestamps of "+of
	fields, err := p.object(n, what, timestampsGrammar)
	if err != nil {
		return nil, err
	}
	t := &timestamping{of: of, line: f.key.Line}
	roots, ok := fields["roots"]
	if !ok {
		return nil, p.wrong(n, codeMissing, "%s: no roots; a timestamp is only worth what its authority is: write roots: [FILE]", what)
	}
	items, err := p.list(roots.value, "roots of "+what)
	if err != nil {
		return nil, err
	}
	for _, item := range items {
		certs, source, err := p.pem(item, what)
		if err != nil {
			return nil, err
		}
		for _, c := range certs {
			if err := checkStampRoot(c); err != nil {
				return nil, p.wrong(item, codeRootInvalid, "%s: %s: %w", what, source, err)
			}
		}
		t.roots = append(t.roots, certs...)
	}
	// In an order of their own, so that of several paths to a root a report names the same one however they are listed.
	t.roots = distinct(t.roots)
	slices.SortFunc(t.roots, func(a, b *x509.Certificate) int { return bytes.Compare(a.Raw, b.Raw) })
	use, ok := fields["use"]
	if !ok {
		return nil, p.wrong(n, codeMissing, "%s: when? write use: %s, or use: %s", what, useAlways, useAfterward)
	}
	t.use, err = p.oneOf(use.value, "use of "+what, []string{useAlways, useAfterward})
	p.policy.stampings = append(p.policy.stampings, t)
	return t, err
}

// checkStampRoot says whether a certificate may be a root of time-stamping authorities. Each chain ends in a self-signed
// certificate, so that no further root can turn a good timestamp into a bad one.
func checkStampRoot(c *x509.Certificate) error {
	name := certchain.NameOf(c.RawSubject)
	if !certchain.Describe(c).SelfSigned {
		return fmt.Errorf("%s is not self-signed: name the root that the authority's chain ends in", name)
	}
	if !(c.BasicConstraintsValid && c.IsCA) && !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}) {
		return fmt.Errorf("%s is neither a certification authority nor a time-stamping authority", name)
	}
	return nil
}

// What became of a timestamp.
const (
	StampIgnored = "ignored" // nothing was asked of it
	StampGood    = "good"    // it verifies, and lies inside every certificate
	StampRefused = "refused" // Reason says why
)

// A Timestamp is what was made of a signature's countersignature. By, Root and the time are there only if it verifies.
type Timestamp struct {
	Status     string     `json:"status"`
	At         *time.Time `json:"at,omitempty"`
	Accuracy   string     `json:"accuracy,omitempty"`
	By         string     `json:"by,omitempty"`   // subject of the authority's certificate
	Root       string     `json:"root,omitempty"` // subject of the root that its chain ends in
	RootSHA256 string     `json:"rootSha256,omitempty"`
	Reason     string     `json:"reason,omitempty"`
	Detail     string     `json:"detail,omitempty"`
	// Revocation of the authority's certificates; nil: not looked at.
	Revocation *Revocation `json:"revocation,omitempty"`
}

// compareStamps orders what became of timestamps, the best first, so that of equal entries a report always tells the same.
func compareStamps(a, b *Timestamp) int {
	rank := []string{StampGood, StampRefused, StampIgnored}
	if a == nil || b == nil {
		return cmp.Compare(presence(b), presence(a))
	}
	return cmp.Or(
		cmp.Compare(slices.Index(rank, a.Status), slices.Index(rank, b.Status)),
		strings.Compare(a.RootSHA256, b.RootSHA256),
		strings.Compare(a.Reason, b.Reason),
		strings.Compare(a.Detail, b.Detail),
	)
}

func presence(t *Timestamp) int {
	if t == nil {
		return 0
	}
	return 1
}

// maxAccuracy is how wide a timestamp may be: one that is for any time in a year is for none.
const maxAccuracy = time.Minute

// stamp judges the countersignature of content, which has one, by the rule.
func (c court) stamp(rule *timestamping, content envelope.Content) (*Timestamp, *envelope.Stamp) {
	verified, err := c.supposed.countersigned(rule, content)
	if err != nil {
		return &Timestamp{Status: StampRefused, Reason: reasonOf(err, codeStampUntrusted), Detail: err.Error()}, nil
	}
	root := verified.Chain.Root()
	t := &Timestamp{
		Status:     StampGood,
		At:         new(verified.At.UTC()),
		By:         certchain.NameOf(verified.Chain.Leaf().RawSubject),
		Root:       certchain.NameOf(root.RawSubject),
		RootSHA256: certchain.Thumbprint(root),
	}
	if verified.Accuracy > 0 {
		t.Accuracy = verified.Accuracy.String()
	}
	refuse := func(code, format string, args ...any) (*Timestamp, *envelope.Stamp) {
		t.Status, t.Reason, t.Detail = StampRefused, code, fmt.Sprintf(format, args...)
		return t, nil
	}
	for i, cert := range verified.Chain {
		if why := weak(cert, i == len(verified.Chain)-1); why != "" {
			return refuse(codeWeak, "the timestamp is by %s: %s %s", t.By, certchain.NameOf(cert.RawSubject), why)
		}
	}
	if verified.Accuracy > maxAccuracy {
		return refuse(codeStampInexact, "the timestamp is accurate to %s; at most %s is believed", verified.Accuracy, maxAccuracy)
	}
	if verified.At.After(c.now.Add(skew)) {
		return refuse(codeStampAhead, "the timestamp says %s, which is yet to come", minute(verified.At))
	}
	for _, cert := range content.Chain {
		name := certchain.NameOf(cert.RawSubject)
		if verified.From.Before(cert.NotBefore) {
			return refuse(codeStampOutside, "the timestamp, %s, may be before %s, when %s begins", second(verified.At), second(cert.NotBefore), name)
		}
		if verified.To.After(cert.NotAfter) {
			return refuse(codeStampOutside, "the timestamp, %s, may be after %s, when %s ended", second(verified.At), second(cert.NotAfter), name)
		}
	}
	return t, &verified
}

// verify holds the countersignature against all roots as notation does, and if that fails against each alone: which of
// several paths is looked at must not make a further root a reason to reject (P13).
func (t *timestamping) verify(content envelope.Content) (envelope.Stamp, error) {
	stamp, err := content.VerifyTimestamp(t.roots)
	if err == nil || len(t.roots) == 1 || !errors.Is(err, envelope.ErrTimestamp) {
		return stamp, err
	}
	for i := range t.roots {
		if stamp, err := content.VerifyTimestamp(t.roots[i : i+1]); err == nil {
			return stamp, nil
		}
	}
	return stamp, err
}

// validity checks that every certificate was valid when it mattered: now, or where the rule has it so, at the time of
// the countersignature, or at that for which a signing authority vouches (Notary Project, trust store and trust policy
// specification, "Signature Verification", authentic timestamp; the same decisions as notation's).
func (c court) validity(t *trial, rule *timestamping, content envelope.Content) (p proof, code, detail string) {
	stamped := len(content.Timestamp) > 0
	if content.Scheme == envelope.SchemeSigningAuthority {
		if stamped {
			t.stamp = &Timestamp{Status: StampIgnored, Detail: "not looked at: the signing authority vouches for its time"}
		}
		t.endless = true
		code, detail = c.vouched(content)
		return proof{at: content.AuthenticTime, counts: true}, code, detail
	}
	switch {
	case stamped && rule != nil:
		t.stamp, p.stamp = c.stamp(rule, content)
	case stamped:
		t.stamp = &Timestamp{Status: StampIgnored, Detail: c.policy.unstamped()}
	}
	if p.stamp != nil {
		p.at, t.endless = p.stamp.To, true
	}
	expired := slices.ContainsFunc(content.Chain, func(cert *x509.Certificate) bool { return c.now.After(cert.NotAfter) })
	if rule == nil || rule.use == useAfterward && !expired {
		code, detail = c.validNow(content)
		return p, code, detail
	}
	p.counts = true
	switch {
	case t.stamp == nil && rule.use == useAlways:
		return p, codeStampMissing, "it has no timestamp, and the policy always asks for one"
	case t.stamp == nil:
		code, detail = c.validNow(content)
		return p, code, detail + ", and it has no timestamp from before"
	}
	return p, t.stamp.Reason, t.stamp.Detail
}

// vouched checks every certificate at the time for which a signing authority vouches; whether they ended since does not matter.
func (c court) vouched(content envelope.Content) (code, detail string) {
	at := content.AuthenticTime
	if at.After(c.now.Add(skew)) {
		return codeAhead, fmt.Sprintf("signed %s, which is yet to come", minute(at))
	}
	for _, cert := range content.Chain {
		name := certchain.NameOf(cert.RawSubject)
		if at.After(cert.NotAfter) {
			return codeCertExpired, fmt.Sprintf("signed %s, and %s ended %s", second(at), name, second(cert.NotAfter))
		}
		if at.Before(cert.NotBefore) {
			return codeCertNotYet, fmt.Sprintf("signed %s, and %s was not valid before %s", second(at), name, second(cert.NotBefore))
		}
	}
	return "", ""
}

// validNow checks every certificate at the time of judging.
func (c court) validNow(content envelope.Content) (code, detail string) {
	for _, cert := range content.Chain {
		if c.now.After(cert.NotAfter) {
			return codeCertExpired, fmt.Sprintf("%s expired %s", certchain.NameOf(cert.RawSubject), minute(cert.NotAfter))
		}
	}
	for _, cert := range content.Chain {
		if c.now.Before(cert.NotBefore) {
			return codeCertNotYet, fmt.Sprintf("%s is not valid before %s", certchain.NameOf(cert.RawSubject), minute(cert.NotBefore))
		}
	}
	return "", ""
}

// unstamped says why timestamps are not looked at where no section says so.
func (p *Policy) unstamped() string {
	if p.single {
		return "not looked at: a root certificate alone names no time-stamping authority"
	}
	return "not looked at: the policy has no timestamps section"
}

// stamping returns the section that holds for the entries of s without one of their own; nil: none.
func (p *Policy) stamping(s *scope) *timestamping {
	if s != nil && s.timestamps != nil {
		return s.timestamps
	}
	return p.timestamps
}

// stamps says what is made of timestamps, for a report.
func (p *Policy) stamps(s *scope) string {
	rule := p.stamping(s)
	text := p.unstamped()
	if rule != nil {
		text = "asked for once a certificate has expired"
		if rule.use == useAlways {
			text = "always asked for"
		}
		if p.revocation == nil && (s == nil || s.revocation == nil) {
			text += "; revocation of the authority not checked"
		}
	}
	if s != nil && s.rule != ruleReject {
		for e := range s.entries() {
			if e.timestamps != nil && e.timestamps != rule {
				return text + "; an entry of its trust says otherwise"
			}
		}
	}
	return text
}

func second(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
