package trust

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/imprint-oci/imprint/trust/revocation"
)

const (
	revocationTime   = time.Minute      // for all that is asked about one certificate
	responderTime    = 15 * time.Second // for one answer of a responder
	revocationAsks   = 8                // certificates that are asked about at once
	maxAddresses     = 8                // of lists or responders, of one certificate
	maxAddress       = 2 << 10          // bytes of one
	revocationAgain  = 200 * time.Millisecond
	maxListsKept     = 128 << 20 // bytes of lists that are kept in memory for the next certificate
	maxAgeOfList     = 24 * time.Hour
	typeOCSPRequest  = "application/ocsp-request"
	typeOCSPResponse = "application/ocsp-response"
)

// revocationEvidence is what the network said, by certificate.
type revocationEvidence map[certificateKey]told

// told is all that was said of one certificate. It depends on no time.
type told struct {
	none    string // why nobody was asked; "": somebody was
	replies []revocation.Reply
	lists   []fetched
}

// fetched is what the list at one of a certificate's addresses says.
type fetched struct {
	failed string // why there is none
	list   revocation.Said
	deltas []revocation.Said
}

// at rules by what was told, on top of what lists say that were given. The order is the reference library's: a responder that says
// good or revoked decides, else every address of lists has to say good.
func (t told) at(now, proof time.Time, given revocation.Ruling) revocation.Ruling {
	if t.none != "" {
		if given.Why == "" {
			given.Why = t.none
		}
		return given
	}
	out := revocation.Ruling{Status: RevocationUnknown}
	note := func(r revocation.Ruling) {
		if out.Why == "" {
			out = r
		}
	}
	var good *revocation.Ruling
	for _, r := range t.replies {
		switch by := r.At(now, proof); by.Status {
		case RevocationRevoked:
			return by
		case RevocationGood:
			if good == nil {
				good = &by
			}
		default:
			note(by)
		}
	}
	all := len(t.lists) > 0
	var last revocation.Ruling
	for _, f := range t.lists {
		by := revocation.Ruling{Status: RevocationUnknown, By: f.list.By, Why: f.failed}
		if f.failed == "" {
			by = revocation.Judge(now, proof, []revocation.Said{f.list}, f.deltas)
		}
		switch by.Status {
		case RevocationRevoked:
			return by
		case RevocationGood:
			last = by
		default:
			all = false
			note(by)
		}
	}
	switch {
	case good != nil:
		return *good
	case all:
		return last
	}
	return out
}

// revocationMemo is what a run was told already: each certificate is asked about once.
type revocationMemo struct {
	mu    sync.Mutex
	slots chan struct{}
	told  map[certificateKey]*asking
	lists map[string]*fetching
	kept  int
}

type asking struct {
	done chan struct{}
	told *told // nil: it was given up
}

type fetching struct {
	done chan struct{}
	list *revocation.List
	err  error
}

// revocations asks for every certificate of the chains that their own lists do not decide, each once in a run and several at a time. Only
// chains that would be accepted otherwise may be handed in: who wrote the addresses in them is trusted then.
func (s *Sources) revocations(ctx context.Context, asks []question, now time.Time) revocationEvidence {
	out, seen := revocationEvidence{}, map[certificateKey]bool{}
	var mu sync.Mutex // of out
	var wait sync.WaitGroup
	for _, q := range asks {
		if q.rule == nil || !q.rule.network {
			continue
		}
		for i, cert := range q.chain[:len(q.chain)-1] {
			issuer := q.chain[i+1]
			key := keyOf(cert, issuer)
			if seen[key] || !asksNetwork(cert) {
				continue
			}
			seen[key] = true
			wait.Go(func() {
				t := s.about(ctx, cert, issuer, now)
				mu.Lock()
				defer mu.Unlock()
				out[key] = t
			})
		}
	}
	wait.Wait()
	return out
}

// about returns what is told of a certificate: by the memo, or by whom it names.
func (s *Sources) about(ctx context.Context, cert, issuer *x509.Certificate, now time.Time) told {
	if s.HTTP == nil {
		return told{none: "nobody was asked: this run is offline"}
	}
	m, key := &s.revocation, keyOf(cert, issuer)
	for {
		m.mu.Lock()
		if m.told == nil {
			m.told, m.lists, m.slots = map[certificateKey]*asking{}, map[string]*fetching{}, make(chan struct{}, revocationAsks)
		}
		a, known := m.told[key]
		if !known {
			a = &asking{done: make(chan struct{})}
			m.told[key] = a
		}
		m.mu.Unlock()
		if known {
			select {
			case <-a.done:
			case <-ctx.Done():
				return told{none: ctx.Err().Error()}
			}
			if a.told != nil {
				return *a.told
			}
			continue // who asked gave up
		}
		t := s.ask(ctx, cert, issuer, now)
		if ctx.Err() == nil {
			a.told = &t
		} else {
			m.mu.Lock()
			delete(m.told, key)
			m.mu.Unlock()
		}
		close(a.done)
		return t
	}
}

func (s *Sources) ask(ctx context.Context, cert, issuer *x509.Certificate, now time.Time) told {
	select {
	case s.revocation.slots <- struct{}{}:
		defer func() { <-s.revocation.slots }()
	case <-ctx.Done():
		return told{none: ctx.Err().Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, revocationTime)
	defer cancel()
	if len(cert.OCSPServer) > maxAddresses || len(cert.CRLDistributionPoints) > maxAddresses {
		return told{none: fmt.Sprintf("nobody was asked: it names more than %d addresses", maxAddresses)}
	}
	var t told
	for _, address := range cert.OCSPServer {
		r := s.respond(ctx, address, cert, issuer)
		t.replies = append(t.replies, r)
		if r.Unfit == "" {
			if status := r.At(now, time.Time{}).Status; status == RevocationGood || status == RevocationRevoked {
				return t
			}
		}
	}
	for _, address := range cert.CRLDistributionPoints {
		t.lists = append(t.lists, s.listed(ctx, address, cert, issuer, now))
	}
	return t
}

// respond asks a responder.
func (s *Sources) respond(ctx context.Context, address string, cert, issuer *x509.Certificate) revocation.Reply {
	nonce := make([]byte, 32) // RFC 9654
	if _, err := rand.Read(nonce); err != nil {
		return revocation.Reply{By: shownAddress(address), Unfit: err.Error()}
	}
	body, err := revocation.Question(cert, issuer, nonce)
	if err != nil {
		return revocation.Reply{By: shownAddress(address), Unfit: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, responderTime)
	defer cancel()
	b, err := s.exchange(ctx, http.MethodPost, address, body, revocation.MaxReplyBytes, typeOCSPRequest, typeOCSPResponse)
	if err != nil {
		return revocation.Reply{By: shownAddress(address), Unfit: err.Error()}
	}
	return revocation.ReadReply(shownAddress(address), b, cert, issuer, nonce)
}

// listed asks a list, which may be in the cache, for a certificate.
func (s *Sources) listed(ctx context.Context, address string, cert, issuer *x509.Certificate, now time.Time) fetched {
	fails := func(by string, err error) fetched {
		return fetched{failed: err.Error(), list: revocation.Said{By: shownAddress(by)}}
	}
	l, err := s.fetchList(ctx, address, issuer, now)
	if err != nil {
		return fails(address, err)
	}
	f := fetched{list: about(l, cert, issuer)}
	if f.list.Unfit != "" {
		return f // whoever wrote it, perhaps on the way, sends us nowhere
	}
	// Delta lists have the scope of the list that names them: their addresses are for choice.
	for i, at := range l.Deltas()[:min(len(l.Deltas()), maxAddresses)] {
		d, err := s.fetchList(ctx, at, issuer, now)
		switch {
		case err == nil && d.Delta():
			f.deltas = append(f.deltas, about(d, cert, issuer))
			return f
		case err == nil:
			err = errors.New("it is no delta list")
			fallthrough
		default:
			if i == min(len(l.Deltas()), maxAddresses)-1 {
				f.deltas = append(f.deltas, revocation.Said{By: shownAddress(at), Unfit: err.Error()})
			}
		}
	}
	return f
}

// fetchList returns the list at an address: the one that this run has, a cached one, or a new one.
func (s *Sources) fetchList(ctx context.Context, address string, issuer *x509.Certificate, now time.Time) (*revocation.List, error) {
	m := &s.revocation
	for {
		m.mu.Lock()
		f, known := m.lists[address]
		if !known {
			f = &fetching{done: make(chan struct{})}
			m.lists[address] = f
		}
		m.mu.Unlock()
		if known {
			select {
			case <-f.done:
			case <-ctx.Done():
				return nil, because(ctx)
			}
			if f.list != nil || f.err != nil {
				return f.list, f.err
			}
			continue // it was given up, or is not kept
		}
		l, err := s.getList(ctx, address, issuer, now)
		m.mu.Lock()
		keep := ctx.Err() == nil && (l == nil || m.kept+len(l.Bytes()) <= maxListsKept)
		if keep {
			f.list, f.err = l, err
			if l != nil {
				m.kept += len(l.Bytes())
			}
		} else {
			delete(m.lists, address)
		}
		m.mu.Unlock()
		close(f.done)
		return l, err
	}
}

// getList prefers a cached list that holds now, is signed by issuer, and was fetched today: a new one may come before the old one ends.
func (s *Sources) getList(ctx context.Context, address string, issuer *x509.Certificate, now time.Time) (*revocation.List, error) {
	cached, at := s.cached(address)
	usable := cached != nil && cached.SignedBy(issuer) && cached.Untimely(now) == ""
	if usable && !at.Before(now.Add(-maxAgeOfList)) && !at.After(now.Add(skew)) {
		return cached, nil
	}
	b, err := s.exchange(ctx, http.MethodGet, address, nil, revocation.MaxListBytes, "", "")
	if err != nil {
		if usable {
			s.warn("revocation-list-old", fmt.Sprintf("the revocation list %s could not be fetched (%v); the one of %s is used, which holds until %s",
				shownAddress(address), err, minute(at), minute(cached.Until())))
			return cached, nil
		}
		return nil, err
	}
	l, err := revocation.ParseList(shownAddress(address), b) // DER, and nothing else, by RFC 5280, 4.2.1.13
	if err != nil {
		return nil, err
	}
	if l.SignedBy(issuer) {
		if usable && l.Before(cached) {
			return cached, nil // it came of somebody on the way, or of a server that has not heard yet
		}
		s.keep(address, l)
	}
	return l, nil
}

func (s *Sources) warn(code, message string) {
	if s.Warn != nil {
		s.Warn(code, message)
	}
}

// exchange asks an address, which is http, once more if that may help, and reads an answer of 200. kind is the type that the answer must
// have, if it says any; "": any.
func (s *Sources) exchange(ctx context.Context, method, address string, body []byte, limit int64, sends, kind string) ([]byte, error) {
	if len(address) > maxAddress {
		return nil, fmt.Errorf("its address takes more than %d bytes", maxAddress)
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, errors.New("its address is no URL")
	case u.Scheme != "http":
		return nil, fmt.Errorf("its address is not http, and only that is asked (%s)", shorten(u.Scheme))
	}
	b, again, err := s.exchangeOnce(ctx, method, address, body, limit, sends, kind)
	if err == nil || !again {
		return b, err
	}
	select {
	case <-time.After(revocationAgain):
	case <-ctx.Done():
		return nil, err
	}
	b, _, err = s.exchangeOnce(ctx, method, address, body, limit, sends, kind)
	return b, err
}

func (s *Sources) exchangeOnce(ctx context.Context, method, address string, body []byte, limit int64, sends, kind string) (b []byte, again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, false, errors.New("its address is no URL")
	}
	if sends != "" {
		req.Header.Set("Content-Type", sends)
		req.Header.Set("Accept", kind)
	}
	resp, err := s.HTTP.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, false, because(ctx)
		}
		var of *url.Error
		if errors.As(err, &of) {
			err = of.Err // the address is told already
		}
		return nil, !forbidden(err), err
	}
	defer resp.Body.Close()
	if code := resp.StatusCode; code != http.StatusOK {
		return nil, code == http.StatusTooManyRequests || code >= 500, fmt.Errorf("it answers %d %s", code, http.StatusText(code))
	}
	if got := resp.Header.Get("Content-Type"); kind != "" && got != "" {
		if is, _, err := mime.ParseMediaType(got); err != nil || is != kind {
			return nil, false, fmt.Errorf("it answers with %q, not %s", shorten(got), kind)
		}
	}
	if resp.ContentLength > limit {
		return nil, false, fmt.Errorf("its answer takes more than %d bytes", limit)
	}
	b, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case int64(len(b)) > limit:
		return nil, false, fmt.Errorf("its answer takes more than %d bytes", limit)
	case ctx.Err() != nil:
		return nil, false, because(ctx)
	case err != nil:
		return nil, true, err
	}
	return b, false, nil
}

// because says in words why a context ended.
func because(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errors.New("no answer came in time")
	}
	return context.Cause(ctx)
}

// forbidden reports whether the client did not go there, or waited long enough, so that asking again does not help.
func forbidden(err error) bool {
	var late net.Error
	return errors.As(err, &late) && late.Timeout() || slices.Contains([]string{"url-not-allowed", "address-private", "redirect-refused", "too-large", "timeout"}, reasonOf(err, ""))
}

// shownAddress is an address of a certificate as people are shown it.
func shownAddress(address string) string {
	if u, err := url.Parse(address); err == nil && len(address) <= maxAddress {
		return u.Redacted()
	}
	return shorten(address)
}
