package signer

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/revocation"
	"github.com/notaryproject/notation-core-go/revocation/result"
	"github.com/notaryproject/tspclient-go"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// authority starts a time-stamping authority.
func authority(t testing.TB, o tsatest.Options) *tsatest.Authority {
	t.Helper()
	a := tsatest.New(o)
	a.Start()
	t.Cleanup(a.Stop)
	return a
}

// stamperOf asks these authorities in turn and never waits.
func stamperOf(all ...*tsatest.Authority) *Stamper {
	s := &Stamper{Client: &http.Client{}, Clock: time.Now, pause: func(context.Context, time.Duration) error { return nil }}
	for _, a := range all {
		s.URLs = append(s.URLs, a.Start())
		s.Roots = append(s.Roots, a.Roots()...)
	}
	return s
}

// made signs something.
func made(t testing.TB, id identity, format envelope.Format, o envelope.Options) *envelope.Envelope {
	t.Helper()
	p := envelope.Payload{MediaType: someSubject.MediaType, Digest: someSubject.Digest, Size: someSubject.Size}
	if o.SigningTime.IsZero() {
		o.SigningTime = time.Now()
	}
	e, err := envelope.Sign(t.Context(), format, p, kmstest.Key(id.key), id.chain, o)
	must(t, err)
	return e
}

func verified(t testing.TB, e *envelope.Envelope) envelope.Content {
	t.Helper()
	c, err := e.Verify()
	must(t, err)
	return c
}

func ofAlgorithm(cn, algorithm string) identity {
	id := identity{key: certtest.Key(algorithm), root: certtest.Root("root of " + cn)}
	id.ca = id.root.Intermediate("ca of " + cn)
	id.chain = id.ca.Chain(id.ca.Leaf(id.key.Public(), cn))
	return id
}

func TestStamp(t *testing.T) {
	t.Parallel()
	tsa := authority(t, tsatest.Options{Accuracy: time.Second})
	for algorithm, hash := range map[string]string{"P-256": "2.16.840.1.101.3.4.2.1", "P-384": "2.16.840.1.101.3.4.2.2", "P-521": "2.16.840.1.101.3.4.2.3"} {
		for _, format := range []envelope.Format{envelope.JWS, envelope.COSE} {
			e := made(t, ofAlgorithm("release", algorithm), format, envelope.Options{})
			s := stamperOf(tsa)
			before := time.Now().Add(-time.Second)
			stamped, said, err := s.Stamp(t.Context(), e)
			must(t, err)
			c := verified(t, stamped)
			carried(t, verified(t, e), c)
			if found, err := StampOf(c, tsa.Roots()); err != nil || !found.At.Equal(said.At) || found.Authority != said.Authority {
				t.Errorf("%s %s: it has the timestamp %+v (%v), %+v was said", algorithm, format, found, err, said)
			}
			if said.At.Before(before) || said.At.After(time.Now()) || said.From != said.At.Add(-time.Second) || said.To != said.At.Add(time.Second) {
				t.Errorf("it says %v, from %v to %v", said.At, said.From, said.To)
			}
			if said.URL != tsa.Start() || said.Authority != "C=DE, ST=BE, O=Acme, CN=tsa" || !said.HoldsUntil.Equal(tsa.Certificate.NotAfter) {
				t.Errorf("it says %+v", said)
			}
			// The hash is that of the signature, as notation has it.
			token, err := tspclient.ParseSignedToken(c.Timestamp)
			must(t, err)
			info, err := token.Info()
			must(t, err)
			if got := info.MessageImprint.HashAlgorithm.Algorithm.String(); got != hash {
				t.Errorf("%s: hash %s, want %s", algorithm, got, hash)
			}
			if info.Nonce == nil {
				t.Error("no nonce")
			}
		}
	}
}

// TestA20AuthoritiesThatLie: nothing is pushed, and the reason says what was wrong.
func TestA20AuthoritiesThatLie(t *testing.T) {
	t.Parallel()
	longAgo := certtest.Valid(time.Now().AddDate(-8, 0, 0), time.Now().AddDate(0, 0, -1))
	usage := func(critical bool, usages ...asn1.ObjectIdentifier) certtest.Edit {
		return func(c *x509.Certificate) {
			value, err := asn1.Marshal(usages)
			if err != nil {
				panic(err)
			}
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: critical, Value: value}}
		}
	}
	stamping, signing := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3}
	at := func(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(d) } }
	cases := map[string]lieCase{
		"wrong nonce":                  {tsatest.Options{Lie: tsatest.WrongNonce}, "tsa-invalid", "nonce", 0},
		"no nonce":                     {tsatest.Options{Lie: tsatest.NoNonce}, "tsa-invalid", "nonce", 0},
		"no certificate in the token":  {tsatest.Options{Lie: tsatest.NoCertificates}, "tsa-invalid", "certificate not found", 0},
		"SHA-1":                        {tsatest.Options{Lie: tsatest.SHA1Imprint}, "tsa-invalid", "hash", 0},
		"imprint of something else":    {tsatest.Options{Lie: tsatest.WrongImprint}, "tsa-invalid", "mismatched message", 0},
		"broken signature":             {tsatest.Options{Lie: tsatest.BrokenSign}, "tsa-invalid", "does not verify", 0},
		"digest of something else":     {tsatest.Options{Lie: tsatest.BrokenDigest}, "tsa-invalid", "digest", 0},
		"names another certificate":    {tsatest.Options{Lie: tsatest.OtherSigner}, "tsa-invalid", "does not match", 0},
		"rejected":                     {tsatest.Options{Lie: tsatest.Rejected}, "tsa-refused", "rejected", 0},
		"waiting":                      {tsatest.Options{Lie: tsatest.Waiting}, "tsa-refused", "status code 3", 0},
		"granted, without a token":     {tsatest.Options{Lie: tsatest.GrantedEmpty}, "tsa-invalid", "sent none", 0},
		"200 with HTML":                {tsatest.Options{Lie: tsatest.HTML}, "tsa-invalid", "text/html", 0},
		"200 with HTML as a reply":     {tsatest.Options{Lie: tsatest.HTMLAsReply}, "tsa-invalid", "no timestamp response", 0},
		"garbage":                      {tsatest.Options{Lie: tsatest.Garbage}, "tsa-invalid", "no timestamp response", 0},
		"bytes behind the answer":      {tsatest.Options{Lie: tsatest.Trailing}, "tsa-invalid", "4 bytes stand behind", 0},
		"100 MB":                       {tsatest.Options{Lie: tsatest.Huge}, "tsa-invalid", "more than 1048576 bytes", 0},
		"206":                          {tsatest.Options{Lie: tsatest.Status206}, "tsa-unavailable", "206", 0},
		"500":                          {tsatest.Options{Lie: tsatest.Status500}, "tsa-unavailable", "500", 3},
		"hangs":                        {tsatest.Options{Lie: tsatest.Hangs}, "tsa-unavailable", "no answer within", 0},
		"one byte now and then":        {tsatest.Options{Lie: tsatest.Slow}, "tsa-unavailable", "no answer within", 0},
		"redirect to a file":           {tsatest.Options{Lie: tsatest.Redirects, Redirect: "file:///etc/passwd"}, "tsa-unavailable", "unsupported protocol", 3},
		"certificate expired":          {tsatest.Options{Edits: []certtest.Edit{longAgo}}, "tsa-invalid", "expired", 0},
		"certificate not yet valid":    {tsatest.Options{Edits: []certtest.Edit{certtest.Valid(time.Now().AddDate(0, 0, 1), time.Now().AddDate(1, 0, 0))}}, "tsa-invalid", "expired or is not yet valid", 0},
		"EKU not critical":             {tsatest.Options{Edits: []certtest.Edit{usage(false, stamping)}}, "tsa-invalid", "critical", 0},
		"another EKU beside":           {tsatest.Options{Edits: []certtest.Edit{usage(true, stamping, signing)}}, "tsa-invalid", "only", 0},
		"EKU for code signing":         {tsatest.Options{Edits: []certtest.Edit{usage(true, signing)}}, "tsa-invalid", "incompatible key usage", 0},
		"a CA's certificate":           {tsatest.Options{Edits: []certtest.Edit{func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }}}, "tsa-invalid", "ca field", 0},
		"ten minutes ago":              {tsatest.Options{Now: at(-10 * time.Minute)}, "tsa-clock", "one of the two is wrong", 0},
		"in ten minutes":               {tsatest.Options{Now: at(10 * time.Minute)}, "tsa-clock", "one of the two is wrong", 0},
		"a year ago":                   {tsatest.Options{Now: at(-365 * 24 * time.Hour)}, "tsa-clock", "one of the two is wrong", 0},
		"exact to a year":              {tsatest.Options{Accuracy: 365 * 24 * time.Hour}, "tsa-invalid", "at most 1m0s", 0},
		"exact to a little over 1 min": {tsatest.Options{Accuracy: 61 * time.Second}, "tsa-invalid", "at most 1m0s", 0},
	}
	p := remote(t, regtest.New(t, regtest.WithAPI))
	subject := p.image(t, "app", "1.0")
	id := newIdentity("release")
	before := p.server.Writes()
	lie := func(c lieCase) func(t *testing.T) {
		return func(t *testing.T) {
			t.Parallel()
			tsa := authority(t, c.o)
			s := stamperOf(tsa)
			if c.code == "tsa-unavailable" {
				s.Timeout = 150 * time.Millisecond
			}
			r, err := p.trySign(t.Context(), subject, id, Options{Tag: "1.0", Timestamp: s})
			wantReason(t, err, c.code, ErrAuthority)
			if !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), tsa.Start()) {
				t.Errorf("error %q does not name %q and the authority", err, c.text)
			}
			if r.Written != 0 || r.Signatures[0].Status != StatusPlanned || r.Signatures[0].Timestamp != nil {
				t.Errorf("result %+v", r)
			}
			if got := tsa.Requests(); got != max(1, c.tries) {
				t.Errorf("%d requests, want %d", got, max(1, c.tries))
			}
		}
	}
	t.Run("lies", func(t *testing.T) {
		for name, c := range cases {
			t.Run(name, lie(c))
		}
	})
	if n := p.server.Writes() - before; n != 0 {
		t.Errorf("%d writes", n)
	}
	if n := len(p.found(t, subject)); n != 0 {
		t.Errorf("%d signatures were pushed", n)
	}
}

type lieCase struct {
	o     tsatest.Options
	code  string
	text  string // in the error
	tries int    // 0: 1
}

// TestStampWithinBounds: what is just good enough.
func TestStampWithinBounds(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(d) } }
	e := made(t, newIdentity("release"), envelope.JWS, envelope.Options{})
	for name, o := range map[string]tsatest.Options{
		"exact to a minute":  {Accuracy: time.Minute},
		"four minutes ago":   {Now: at(-4 * time.Minute)},
		"in four minutes":    {Now: at(4 * time.Minute)},
		"says nothing of it": {},
	} {
		if _, _, err := stamperOf(authority(t, o)).Stamp(t.Context(), e); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStampUntrusted: the caller's roots are not the authority's.
func TestStampUntrusted(t *testing.T) {
	t.Parallel()
	tsa := authority(t, tsatest.Options{})
	s := stamperOf(tsa)
	s.Roots = tsatest.New(tsatest.Options{}).Roots() // the same names, another key
	_, _, err := s.Stamp(t.Context(), made(t, newIdentity("release"), envelope.JWS, envelope.Options{}))
	wantReason(t, err, "timestamp-untrusted", envelope.ErrTimestamp)
	if errors.Is(err, ErrAuthority) {
		t.Error("that is not the authority's fault")
	}
	s.URLs = append(s.URLs, authority(t, tsatest.Options{Lie: tsatest.Status500}).Start())
	_, _, err = s.Stamp(t.Context(), made(t, newIdentity("release"), envelope.JWS, envelope.Options{}))
	wantReason(t, err, "timestamp-untrusted", envelope.ErrTimestamp)
}

// TestF35AllAuthoritiesDown: nothing is pushed, all are named, and what one of them answered is the reason.
func TestF35AllAuthoritiesDown(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithoutAPI))
	subject := p.image(t, "app", "1.0")
	id := newIdentity("release")
	gone := authority(t, tsatest.Options{})
	url := gone.Start()
	gone.Stop()
	down := authority(t, tsatest.Options{Lie: tsatest.Status500})
	writes := p.server.Writes()

	s := stamperOf(down)
	s.URLs = append(s.URLs, url)
	_, err := p.trySign(t.Context(), subject, id, Options{Tag: "1.0", Timestamp: s})
	wantReason(t, err, "tsa-unavailable", ErrAuthority)
	for _, part := range []string{down.Start(), url, "500", "connection refused"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
	if down.Requests() != askTries {
		t.Errorf("%d requests, want %d", down.Requests(), askTries)
	}
	refusing := authority(t, tsatest.Options{Lie: tsatest.Rejected})
	s.URLs = append(s.URLs, refusing.Start())
	_, err = p.trySign(t.Context(), subject, id, Options{Tag: "1.0", Timestamp: s})
	wantReason(t, err, "tsa-refused", ErrAuthority)
	if n := p.server.Writes() - writes; n != 0 {
		t.Errorf("%d writes", n)
	}
	_, err = p.trySign(t.Context(), subject, id, Options{Tag: "1.0", Timestamp: &Stamper{Clock: time.Now}})
	wantReason(t, err, "tsa-unavailable", ErrAuthority)
}

// TestStampSeveralInTurn: the next is asked where one fails, and from then on first.
func TestStampSeveralInTurn(t *testing.T) {
	t.Parallel()
	down, lies, good := authority(t, tsatest.Options{Lie: tsatest.Status500}), authority(t, tsatest.Options{Lie: tsatest.WrongNonce}), authority(t, tsatest.Options{})
	s := stamperOf(down, lies, good)
	var warned []string
	s.Warn = func(topic, text string) { warned = append(warned, topic+": "+text) }
	e := made(t, newIdentity("release"), envelope.COSE, envelope.Options{})
	for range 5 {
		_, said, err := s.Stamp(t.Context(), e)
		must(t, err)
		if said.URL != good.Start() {
			t.Fatalf("stamped by %s", said.URL)
		}
	}
	if down.Requests() != askTries || lies.Requests() != 1 || good.Requests() != 5 {
		t.Errorf("%d, %d and %d requests", down.Requests(), lies.Requests(), good.Requests())
	}
	if len(warned) != 2 || !strings.Contains(warned[0], down.Start()) || !strings.Contains(warned[1], "nonce") || !strings.HasPrefix(warned[1], "timestamp: ") {
		t.Errorf("warned %q", warned)
	}
	good.Stop() // then round about to the others
	if _, _, err := s.Stamp(t.Context(), e); err == nil {
		t.Error("no error")
	}
	if down.Requests() != 2*askTries || lies.Requests() != 2 {
		t.Errorf("%d and %d requests", down.Requests(), lies.Requests())
	}
}

// TestStampGivesUp: a run of thousands does not ask thousands of times where nobody answers.
func TestStampGivesUp(t *testing.T) {
	t.Parallel()
	var up atomic.Bool
	tsa := authority(t, tsatest.Options{})
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		tsa.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	e := made(t, newIdentity("release"), envelope.JWS, envelope.Options{})
	try := func(s *Stamper, n int) (failed int) {
		for range n {
			if _, _, err := s.Stamp(t.Context(), e); err != nil {
				wantReason(t, err, "tsa-unavailable", ErrAuthority)
				failed++
			}
		}
		return failed
	}
	s := stamperOf(tsa)
	s.URLs = []string{proxy.URL}
	try(s, stampPatience-1)
	up.Store(true)
	if failed := try(s, 2); failed != 0 {
		t.Errorf("%d failed after %d failures: too little patience", failed, stampPatience-1)
	}
	up.Store(false)
	try(s, stampPatience)
	up.Store(true)
	if failed := try(s, 3); failed != 3 {
		t.Errorf("%d of 3 failed: it does not give up", failed)
	}
}

// TestStampRetries: what may pass is asked again, after the pause that the authority names.
func TestStampRetries(t *testing.T) {
	t.Parallel()
	tsa := authority(t, tsatest.Options{})
	for name, c := range map[string]struct {
		status int
		after  string
		busy   int // answers
		pauses []time.Duration
		failed bool
	}{
		"503 twice":            {503, "", 2, []time.Duration{askPause, 2 * askPause}, false},
		"503 three times":      {503, "", 3, []time.Duration{askPause, 2 * askPause}, true},
		"429, after 3 seconds": {429, "3", 1, []time.Duration{3 * time.Second}, false},
		"429, after an hour":   {429, "3600", 1, []time.Duration{askPause}, false},
		"429, negative":        {429, "-3", 1, []time.Duration{askPause}, false},
		"404":                  {404, "", 1, nil, true},
		"501":                  {501, "", 1, nil, true},
		"cut off":              {0, "", 1, []time.Duration{askPause}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			var nonces sync.Map
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/timestamp-query" {
					t.Errorf("%s with %q", r.Method, r.Header.Get("Content-Type"))
				}
				n := asked.Add(1)
				if int(n) > c.busy {
					tsa.ServeHTTP(w, r)
					return
				}
				b, _ := io.ReadAll(r.Body)
				nonces.Store(string(b), true)
				if c.status == 0 {
					panic(http.ErrAbortHandler)
				}
				if c.after != "" {
					w.Header().Set("Retry-After", c.after)
				}
				w.WriteHeader(c.status)
			}))
			defer server.Close()
			s := stamperOf(tsa)
			s.URLs = []string{server.URL}
			var pauses []time.Duration
			s.pause = func(_ context.Context, d time.Duration) error { pauses = append(pauses, d); return nil }
			_, _, err := s.Stamp(t.Context(), made(t, newIdentity("release"), envelope.JWS, envelope.Options{}))
			if (err != nil) != c.failed {
				t.Errorf("error %v", err)
			}
			if !slices.Equal(pauses, c.pauses) {
				t.Errorf("pauses %v, want %v", pauses, c.pauses)
			}
		})
	}
}

func TestStampInterrupted(t *testing.T) {
	t.Parallel()
	cause := errors.New("SIGINT")
	e := made(t, newIdentity("release"), envelope.JWS, envelope.Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not notice that the client has gone
		cancel(cause)
		<-r.Context().Done()
	}))
	defer hangs.Close()
	s := stamperOf(authority(t, tsatest.Options{}))
	s.URLs = []string{hangs.URL}
	if _, _, err := s.Stamp(ctx, e); !errors.Is(err, cause) {
		t.Errorf("error %v", err)
	}
	if _, _, err := s.Stamp(ctx, e); !errors.Is(err, cause) {
		t.Errorf("begun all the same: %v", err)
	}
	if s.vain.Load() != 0 {
		t.Error("an interruption counts as a failure of the authority")
	}
}

// TestStampUseless: what cannot gain by a timestamp asks nobody.
func TestStampUseless(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ended := newIdentity("ended", certtest.Valid(now.Add(-20*time.Hour), now.Add(-time.Hour)))
	tsa := authority(t, tsatest.Options{})
	s := stamperOf(tsa)
	for name, c := range map[string]struct {
		e    *envelope.Envelope
		code string
	}{
		"chain ended":       {made(t, ended, envelope.JWS, envelope.Options{SigningTime: now.Add(-10 * time.Hour)}), "expired"},
		"expired":           {made(t, newIdentity("x"), envelope.JWS, envelope.Options{SigningTime: now.Add(-2 * time.Hour), Expiry: now.Add(-time.Hour)}), "expired"},
		"ended, COSE":       {made(t, ended, envelope.COSE, envelope.Options{SigningTime: now.Add(-10 * time.Hour)}), "expired"},
		"signing authority": {must1(envelope.Parse(string(envelope.JWS), authentic(t, newIdentity("authority"), now).Envelope)), "timestamp-ignored"},
	} {
		_, _, err := s.Stamp(t.Context(), c.e)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantReason(t, err, c.code, nil)
	}
	if tsa.Requests() != 0 {
		t.Errorf("%d requests", tsa.Requests())
	}
	// A chain that ends so soon that the time may lie after it.
	brink := newIdentity("brink", certtest.Valid(now.AddDate(0, 0, -1), now.Add(20*time.Second)))
	_, _, err := stamperOf(authority(t, tsatest.Options{Accuracy: 40 * time.Second})).Stamp(t.Context(), made(t, brink, envelope.JWS, envelope.Options{}))
	wantReason(t, err, "timestamp-outside-validity", nil)
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A verdictOn is a validator that says what it is told to.
type verdictOn struct {
	asked  atomic.Int64
	result func(n int64) ([]result.Result, error)
}

func (v *verdictOn) ValidateContext(_ context.Context, o revocation.ValidateContextOptions) ([]*result.CertRevocationResult, error) {
	all, err := v.result(v.asked.Add(1))
	var out []*result.CertRevocationResult
	for _, r := range all {
		one := &result.CertRevocationResult{Result: r}
		if r == result.ResultUnknown {
			one.ServerResults = []*result.ServerResult{{Result: r, Error: errors.New("the responder is asleep")}}
		}
		out = append(out, one)
	}
	return out, err
}

// TestA20Revocation: of each answer of the library, and how often it is asked in a run.
func TestA20Revocation(t *testing.T) {
	t.Parallel()
	const ok, none, unknown, revoked = result.ResultOK, result.ResultNonRevokable, result.ResultUnknown, result.ResultRevoked
	tsa := authority(t, tsatest.Options{})
	e := made(t, newIdentity("release"), envelope.JWS, envelope.Options{})
	for name, c := range map[string]struct {
		results []result.Result
		err     error
		code    string // "": accepted
		text    string
		asked   int64 // for 6 signatures
	}{
		"good":                       {[]result.Result{ok, ok, none}, nil, "", "", 1},
		"nobody to ask":              {[]result.Result{none, none, none}, nil, "", "", 1},
		"leaf revoked":               {[]result.Result{revoked, ok, none}, nil, "tsa-revoked", "CN=tsa is revoked", 1},
		"CA revoked":                 {[]result.Result{ok, revoked, none}, nil, "tsa-revoked", "CN=tsa ca is revoked", 1},
		"leaf unknown, CA revoked":   {[]result.Result{unknown, revoked, none}, nil, "tsa-revoked", "CN=tsa ca is revoked", 1},
		"leaf unknown":               {[]result.Result{unknown, ok, none}, nil, "tsa-revocation-unknown", "asleep", standingTries},
		"CA unknown":                 {[]result.Result{none, unknown, none}, nil, "tsa-revocation-unknown", "CN=tsa ca", standingTries},
		"says nothing of the others": {[]result.Result{ok}, nil, "tsa-revocation-unknown", "1 results for 3", standingTries},
		"fails":                      {nil, errors.New("bad chain"), "tsa-revocation-unknown", "bad chain", standingTries},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := stamperOf(tsa)
			v := &verdictOn{result: func(int64) ([]result.Result, error) { return c.results, c.err }}
			s.Revocation = v
			var wg sync.WaitGroup
			for range 6 {
				wg.Go(func() {
					_, _, err := s.Stamp(t.Context(), e)
					if c.code == "" {
						if err != nil {
							t.Error(err)
						}
						return
					}
					var coded interface{ Reason() string }
					if !errors.As(err, &coded) || coded.Reason() != c.code || !strings.Contains(err.Error(), c.text) || !errors.Is(err, ErrAuthority) {
						t.Errorf("error %v, want %s", err, c.code)
					}
				})
			}
			wg.Wait()
			if got := v.asked.Load(); got != c.asked {
				t.Errorf("asked %d times, want %d", got, c.asked)
			}
		})
	}
	t.Run("unknown at first", func(t *testing.T) {
		t.Parallel()
		s := stamperOf(tsa)
		s.Revocation = &verdictOn{result: func(n int64) ([]result.Result, error) {
			if n == 1 {
				return []result.Result{unknown, none, none}, nil
			}
			return []result.Result{ok, none, none}, nil
		}}
		_, _, err := s.Stamp(t.Context(), e)
		wantReason(t, err, "tsa-revocation-unknown", ErrAuthority)
		_, _, err = s.Stamp(t.Context(), e)
		must(t, err)
	})
}

// TestA20RevocationLists: the reference library itself, with lists that it fetches by the client.
func TestA20RevocationLists(t *testing.T) {
	t.Parallel()
	ca := tsatest.New(tsatest.Options{})
	now := time.Now()
	list := func(revoked ...*big.Int) []byte {
		l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour)}
		for _, serial := range revoked {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: now.Add(-time.Minute)})
		}
		return must1(x509.CreateRevocationList(rand.Reader, l, ca.CA.Certificate, ca.CA.Key))
	}
	for name, c := range map[string]struct {
		answer func(tsa *tsatest.Authority) []byte
		code   string
	}{
		"not on it": {func(*tsatest.Authority) []byte { return list(big.NewInt(1)) }, ""},
		"on it":     {func(a *tsatest.Authority) []byte { return list(a.Certificate.SerialNumber) }, "tsa-revoked"},
		"no list":   {func(*tsatest.Authority) []byte { return []byte("<html>") }, "tsa-revocation-unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			var tsa *tsatest.Authority
			lists := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				w.Write(c.answer(tsa))
			}))
			defer lists.Close()
			tsa = authority(t, tsatest.Options{Root: ca.Root, CA: ca.CA, Edits: []certtest.Edit{
				func(c *x509.Certificate) { c.CRLDistributionPoints = []string{lists.URL + "/tsa.crl"} }}})
			s := stamperOf(tsa)
			e := made(t, newIdentity("release"), envelope.COSE, envelope.Options{})
			for range 2 {
				_, _, err := s.Stamp(t.Context(), e)
				if c.code == "" {
					must(t, err)
					continue
				}
				wantReason(t, err, c.code, ErrAuthority)
			}
			if asked.Load() == 0 || c.code == "" && asked.Load() != 1 {
				t.Errorf("the list was fetched %d times", asked.Load())
			}
		})
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	tsa := authority(t, tsatest.Options{})
	s := stamperOf(tsa)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			known, err := s.Probe(t.Context())
			if err != nil || !known.HoldsUntil.Equal(tsa.Certificate.NotAfter) || len(known.Chain()) != 3 || known.URL != tsa.Start() {
				t.Errorf("%+v, %v", known, err)
			}
		})
	}
	wg.Wait()
	if tsa.Requests() != 1 {
		t.Errorf("%d requests, want 1", tsa.Requests())
	}
	s = stamperOf(tsa) // what was stamped says as much
	_, _, err := s.Stamp(t.Context(), made(t, newIdentity("release"), envelope.JWS, envelope.Options{}))
	must(t, err)
	_, err = s.Probe(t.Context())
	must(t, err)
	if tsa.Requests() != 2 {
		t.Errorf("%d requests, want 2", tsa.Requests())
	}
	_, err = stamperOf(authority(t, tsatest.Options{Lie: tsatest.Rejected})).Probe(t.Context())
	wantReason(t, err, "tsa-refused", ErrAuthority)
}

func TestStampOf(t *testing.T) {
	t.Parallel()
	now := time.Now()
	id := newIdentity("release")
	e := made(t, id, envelope.JWS, envelope.Options{})
	signature := verified(t, e).Signature
	good, rough := tsatest.New(tsatest.Options{}), tsatest.New(tsatest.Options{Accuracy: 61 * time.Second})
	for name, c := range map[string]struct {
		tsa  *tsatest.Authority
		at   time.Time
		code string
	}{
		"good":                       {good, now, ""},
		"another authority's":        {tsatest.New(tsatest.Options{}), now, "timestamp-untrusted"},
		"inexact":                    {rough, now, "timestamp-inexact"},
		"before the chain begins":    {good, now.AddDate(0, 0, -2), "timestamp-outside-validity"},
		"after the chain has ended":  {good, now.AddDate(2, 0, 0), "timestamp-outside-validity"},
		"just after the chain began": {good, id.chain.HoldsFrom().Add(time.Second), ""},
	} {
		stamped, err := e.WithTimestamp(c.tsa.Token(signature, c.at))
		must(t, err)
		_, err = StampOf(verified(t, stamped), slices.Concat(good.Roots(), rough.Roots()))
		if c.code == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantReason(t, err, c.code, nil)
	}
	_, err := StampOf(verified(t, e), good.Roots())
	wantReason(t, err, "timestamp-malformed", nil)
}
