package signer

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/notaryproject/notation-core-go/revocation"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms"
)

const (
	// clockSkew is how far the time of an authority may lie from ours. One that states last year's time, or next
	// year's, would let a signature outlive what it must not.
	clockSkew = 5 * time.Minute
	// MaxAccuracy is how inexact a countersignature's time may be.
	MaxAccuracy = time.Minute
	// stampsAtOnce bounds the requests under way at authorities, which are often public and throttle.
	stampsAtOnce = 8
	// stampPatience is after how many signatures in a row that no authority would countersign the others of a run are not tried.
	stampPatience = 16
)

// A Stamper has signatures countersigned by time-stamping authorities (RFC 3161). It is for one run: it remembers which authority
// answers, and what it found out of the revocation of its certificates. It may be used by several goroutines.
type Stamper struct {
	URLs   []string            // http or https; asked in turn, beginning with the one that answered last
	Roots  []*x509.Certificate // that an authority's chain must lead to; required
	Client *http.Client        // asks authorities and, of their certificates, CRL and OCSP. Whom it may connect to is its guard's business
	Clock  func() time.Time    // what time it is; required
	Warn   func(topic, text string)
	// Revocation judges the chains of authorities; nil is the reference library, which asks by Client.
	Revocation revocation.Validator
	Timeout    time.Duration // of one request to an authority; 0: 15 seconds

	once  sync.Once
	slots chan struct{}
	first atomic.Int32 // the index of the URL that answered last
	vain  atomic.Int32 // signatures in a row that nobody countersigned

	mu       sync.Mutex
	probe    sync.Mutex
	known    Stamped // what an authority answered; zero: none did yet
	lastVain error
	revoked  map[string]*standing
	told     map[string]bool
	pause    func(context.Context, time.Duration) error // nil: wait
}

// A Stamped is a countersignature that verified.
type Stamped struct {
	At   time.Time `json:"at"`
	From time.Time `json:"from"` // with To: At less and plus its accuracy
	To   time.Time `json:"to"`
	// Authority is the subject of the certificate that signed it.
	Authority  string    `json:"authority"`
	URL        string    `json:"url,omitempty"` // where it was asked for
	HoldsUntil time.Time `json:"holdsUntil"`    // when the first certificate of the authority's chain ends

	chain certchain.Chain
}

// Chain is the authority's chain, the certificate that signed first, a trusted root last.
func (s Stamped) Chain() certchain.Chain { return s.chain }

func stampedOf(s envelope.Stamp, url string) Stamped {
	_, until := s.Chain.HoldsUntil()
	return Stamped{
		At: s.At.UTC(), From: s.From.UTC(), To: s.To.UTC(), Authority: certchain.NameOf(s.Chain.Leaf().RawSubject),
		URL: url, HoldsUntil: until, chain: s.Chain,
	}
}

// StampOf returns the countersignature that c has, if it is of use to verifiers who trust one of roots: it verifies, is exact, and
// lies inside the validity of c's whole chain. Errors are *Error or *envelope.Error (timestamp-malformed, timestamp-untrusted,
// timestamp-outside-validity, timestamp-inexact).
func StampOf(c envelope.Content, roots []*x509.Certificate) (Stamped, error) {
	s, err := c.VerifyTimestamp(roots)
	if err != nil {
		return Stamped{}, err
	}
	if s.Accuracy > MaxAccuracy {
		return Stamped{}, &Error{codeInexact, inexact(s)}
	}
	if err := inside(c.Chain, s); err != nil {
		return Stamped{}, err
	}
	return stampedOf(s, ""), nil
}

func inexact(s envelope.Stamp) error {
	return fmt.Errorf("the timestamp says of itself that it may be wrong by %s; at most %s is taken", s.Accuracy, MaxAccuracy)
}

// inside refuses a countersignature whose whole range of time the chain does not cover.
func inside(chain certchain.Chain, s envelope.Stamp) error {
	if covers(chain, s.From, s.To) {
		return nil
	}
	_, until := chain.HoldsUntil()
	return &Error{codeOutside, fmt.Errorf("the timestamp, %s, does not lie inside the validity of the chain, %s to %s",
		stamp(s.At), stamp(chain.HoldsFrom()), stamp(until))}
}

// CanStamp says why a countersignature made at now would be of no use to a signature, nil if it would: its chain must be valid, or
// nobody accepts the two together; and under the scheme signingAuthority nobody looks at one.
func CanStamp(c envelope.Content, now time.Time) error {
	if c.Scheme == envelope.SchemeSigningAuthority {
		return &Error{codeIgnored, errors.New("its signing authority vouches for the time by itself, and no verifier looks at a timestamp beside that")}
	}
	if !c.Expiry.IsZero() && !c.Expiry.After(now) {
		return &Error{codeExpired, fmt.Errorf("it expired on %s, and no timestamp forgives that", stamp(c.Expiry))}
	}
	if err := c.Chain.Check(now); err != nil {
		return fmt.Errorf("a timestamp of now counts only with a chain that is valid now: %w", err)
	}
	return nil
}

// Stamp returns e with a new countersignature in the place of any that it has, and nothing else changed.
//
// The authorities are asked in turn until one gives a good one. It is good if the reference libraries verify it up to one of Roots, the
// answer is to this very request (imprint, nonce), no certificate of the authority is revoked, its time is ours, and it lies inside e's chain.
// What cannot gain by one ([CanStamp]) is refused before anybody is asked.
//
// Errors are *Error: tsa-unavailable, tsa-refused, tsa-invalid, tsa-clock, tsa-revoked, tsa-revocation-unknown (each wraps
// [ErrAuthority]), timestamp-outside-validity, timestamp-ignored, expired; those of e.Verify; timestamp-untrusted of envelope; or a rule of certchain's.
func (s *Stamper) Stamp(ctx context.Context, e *envelope.Envelope) (*envelope.Envelope, Stamped, error) {
	c, err := e.Verify()
	if err != nil {
		return nil, Stamped{}, fmt.Errorf("what is to be timestamped: %w", err)
	}
	if err := CanStamp(c, s.Clock()); err != nil {
		return nil, Stamped{}, err
	}
	alg, err := kms.AlgorithmOf(c.Chain.Leaf().PublicKey)
	if err != nil {
		return nil, Stamped{}, err
	}
	// The hash is the signature's, as notation has it.
	a, err := s.askAny(ctx, c.Signature, alg.Hash)
	if err != nil {
		return nil, Stamped{}, err
	}
	if err := inside(c.Chain, a.stamp); err != nil {
		return nil, Stamped{}, err
	}
	stamped, err := e.WithTimestamp(a.token)
	if err != nil {
		return nil, Stamped{}, err
	}
	return stamped, stampedOf(a.stamp, a.url), nil
}

// Probe finds out whether there is an authority that countersigns, and until when its certificates last: once in a run, since any good
// answer says it. It asks for a countersignature of nothing.
func (s *Stamper) Probe(ctx context.Context) (Stamped, error) {
	s.probe.Lock()
	defer s.probe.Unlock()
	s.mu.Lock()
	known := s.known
	s.mu.Unlock()
	if known.chain != nil {
		return known, nil
	}
	nothing := make([]byte, 32)
	if _, err := rand.Read(nothing); err != nil {
		return Stamped{}, err
	}
	a, err := s.askAny(ctx, nothing, crypto.SHA256)
	if err != nil {
		return Stamped{}, err
	}
	return stampedOf(a.stamp, a.url), nil
}

// An answer is a token that verified.
type answer struct {
	token []byte
	stamp envelope.Stamp
	url   string // as it may be shown
}

// askAny asks the authorities in turn.
func (s *Stamper) askAny(ctx context.Context, message []byte, hash crypto.Hash) (answer, error) {
	if len(s.URLs) == 0 {
		return answer{}, &Error{codeNoAnswer, errors.New("no time-stamping authority is given")}
	}
	s.once.Do(func() { s.slots = make(chan struct{}, stampsAtOnce) })
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return answer{}, context.Cause(ctx)
	}
	if s.vain.Load() >= stampPatience {
		s.mu.Lock()
		defer s.mu.Unlock()
		return answer{}, s.lastVain
	}

	var failed []error
	var passed []string
	first := int(s.first.Load())
	for i := range s.URLs {
		at := (first + i) % len(s.URLs)
		a, err := s.ask(ctx, s.URLs[at], message, hash)
		if ctx.Err() != nil {
			return answer{}, context.Cause(ctx)
		}
		if err != nil {
			failed, passed = append(failed, err), append(passed, s.URLs[at])
			continue
		}
		s.first.Store(int32(at))
		s.vain.Store(0)
		s.passedOver(passed, failed)
		s.mu.Lock()
		s.known = stampedOf(a.stamp, a.url)
		s.mu.Unlock()
		return a, nil
	}
	err := allFailed(failed)
	s.mu.Lock()
	s.lastVain = err
	s.mu.Unlock()
	s.vain.Add(1)
	return answer{}, err
}

// passedOver says once of each authority that another had to be asked in its place.
func (s *Stamper) passedOver(urls []string, failed []error) {
	if s.Warn == nil {
		return
	}
	for i, u := range urls {
		s.mu.Lock()
		told := s.told[u]
		if s.told == nil {
			s.told = map[string]bool{}
		}
		s.told[u] = true
		s.mu.Unlock()
		if !told {
			s.Warn("timestamp", fmt.Sprintf("another time-stamping authority was asked: %v", failed[i]))
		}
	}
}

// allFailed is one error of all: with the reason of the first authority that answered, if any did, since that says most.
func allFailed(failed []error) error {
	if len(failed) == 1 {
		return failed[0]
	}
	most := slices.IndexFunc(failed, func(err error) bool { return codeOf(err) != codeNoAnswer })
	code := codeOf(failed[max(most, 0)])
	texts := make([]string, len(failed))
	for i, err := range failed {
		texts[i] = err.Error()
	}
	err := errors.New(strings.Join(texts, "; "))
	if code == codeUntrusted {
		return &Error{code, fmt.Errorf("%w: %w", envelope.ErrTimestamp, err)}
	}
	return &Error{code, err}
}

func codeOf(err error) string {
	var coded interface{ Reason() string }
	if errors.As(err, &coded) {
		return coded.Reason()
	}
	return ""
}

// shownURL is an authority as people are shown it.
func shownURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "a URL that cannot be read"
	}
	return u.Redacted()
}

// A standing is what is known of the revocation of an authority's chain.
type standing struct {
	mu    sync.Mutex
	tries int
	ended bool // err is the answer
	err   error
}

// standingTries is how often it is asked whether certificates are revoked, as long as that cannot be determined.
const standingTries = 3

// checkRevocation refuses an authority whose chain has a revoked certificate, or one of which that cannot be determined. It asks once in a
// run for each chain: a new list within the run would come too late for what was countersigned a moment ago anyway.
func (s *Stamper) checkRevocation(ctx context.Context, chain certchain.Chain) error {
	key := strings.Join(chain.Thumbprints(), " ")
	s.mu.Lock()
	if s.revoked == nil {
		s.revoked = map[string]*standing{}
	}
	known := s.revoked[key]
	if known == nil {
		known = &standing{}
		s.revoked[key] = known
	}
	s.mu.Unlock()

	known.mu.Lock()
	defer known.mu.Unlock()
	if known.ended {
		return known.err
	}
	err := s.askRevocation(ctx, chain)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	known.tries++
	known.err = err
	known.ended = codeOf(err) != codeRevocation || known.tries == standingTries
	return err
}

func (s *Stamper) timeout() time.Duration { return cmp.Or(s.Timeout, 15*time.Second) }
