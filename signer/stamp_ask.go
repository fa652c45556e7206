package signer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/notaryproject/notation-core-go/revocation"
	"github.com/notaryproject/notation-core-go/revocation/crl"
	"github.com/notaryproject/notation-core-go/revocation/purpose"
	"github.com/notaryproject/notation-core-go/revocation/result"
	"github.com/notaryproject/tspclient-go"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
)

const (
	maxReply = 1 << 20 // an answer is some 10 KiB

	// How often one authority is asked while it is busy or cannot be reached, and after which first pause (doubled each time, unless it
	// names another within reason).
	askTries   = 3
	askPause   = 250 * time.Millisecond
	askLongest = 10 * time.Second

	revocationTimeout = time.Minute
)

// ask gets a countersignature of message from one authority, and uses nothing of it before all of it is verified.
func (s *Stamper) ask(ctx context.Context, address string, message []byte, hash crypto.Hash) (answer, error) {
	shown := shownURL(address)
	// The library makes the nonce: what a caller could choose, a caller could get wrong.
	req, err := tspclient.NewRequest(tspclient.RequestOptions{Content: message, HashAlgorithm: hash})
	if err != nil {
		return answer{}, fmt.Errorf("making a timestamp request: %w", err)
	}
	before := s.Clock()
	resp, err := s.exchange(ctx, address, req)
	if err != nil {
		return answer{}, about(shown, err)
	}
	a, err := s.judge(req, resp, message)
	if err != nil {
		return answer{}, about(shown, err)
	}
	if err := timely(a.stamp.At, before, s.Clock()); err != nil {
		return answer{}, about(shown, err)
	}
	if err := s.checkRevocation(ctx, a.stamp.Chain); err != nil {
		return answer{}, about(shown, err)
	}
	a.url = shown
	return a, nil
}

// about names the authority that an error is about.
func about(shown string, err error) error {
	return fmt.Errorf("the time-stamping authority %s: %w", shown, err)
}

func lies(format string, args ...any) error {
	return &Error{codeTSAInvalid, fmt.Errorf(format, args...)}
}

// judge verifies an answer. The token's own signature comes first: what it says is worth reading only then (the order of the reference
// library's Response.Validate is the other one).
func (s *Stamper) judge(req *tspclient.Request, resp *tspclient.Response, message []byte) (answer, error) {
	if err := resp.Status.Err(); err != nil {
		return answer{}, &Error{codeTSARefused, fmt.Errorf("it refused: %w", err)}
	}
	token := resp.TimestampToken.FullBytes
	if len(token) == 0 {
		return answer{}, lies("it granted a timestamp and sent none")
	}
	st, err := envelope.VerifyTimestamp(token, message, s.Roots)
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown):
		return answer{}, err // the caller's roots do not fit
	case err != nil:
		return answer{}, lies("its answer does not verify: %w", err)
	}
	if err := resp.Validate(req); err != nil {
		return answer{}, lies("its answer is not to what was asked: %w", err)
	}
	if st.Accuracy > MaxAccuracy {
		return answer{}, lies("%w", inexact(st))
	}
	return answer{token: token, stamp: st}, nil
}

// timely refuses a time that is not now: it was asked for after before, and it was here before after.
func timely(at, before, after time.Time) error {
	if !at.Before(before.Add(-clockSkew)) && !at.After(after.Add(clockSkew)) {
		return nil
	}
	return &Error{codeTSAClock, fmt.Errorf("it says that it is %s, and the clock here says %s: one of the two is wrong", stamp(at), stamp(after))}
}

// exchange sends a request, again if that may help, and reads the answer.
func (s *Stamper) exchange(ctx context.Context, address string, req *tspclient.Request) (*tspclient.Response, error) {
	der, err := req.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encoding a timestamp request: %w", err)
	}
	wait := askPause
	for try := 1; ; try++ {
		b, again, err := s.post(ctx, address, der)
		if err == nil {
			return parseReply(b)
		}
		if again == never || try == askTries {
			return nil, err
		}
		if again > 0 {
			wait = time.Duration(again)
		}
		if err := sleep(ctx, s.pause, wait); err != nil {
			return nil, err
		}
		wait *= 2
	}
}

// again is whether, and after which pause at least, it may help to ask again.
type again time.Duration

const (
	never again = -1
	soon  again = 0
)

// post sends one request and reads an answer of 200 and the type of RFC 3161, 3.4.
func (s *Stamper) post(ctx context.Context, address string, der []byte) ([]byte, again, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(der))
	if err != nil {
		return nil, never, &Error{codeNoAnswer, err}
	}
	req.Header.Set("Content-Type", tspclient.MediaTypeTimestampQuery)
	req.Header.Set("Accept", tspclient.MediaTypeTimestampReply)
	resp, err := s.Client.Do(req)
	if err != nil {
		return nil, retry(ctx, err), unanswered(ctx, s.timeout(), err)
	}
	defer resp.Body.Close()
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
	case code == http.StatusTooManyRequests, code >= 500 && code != http.StatusNotImplemented:
		return nil, later(resp.Header.Get("Retry-After")), &Error{codeNoAnswer, fmt.Errorf("it answers %s", resp.Status)}
	default:
		return nil, never, &Error{codeNoAnswer, fmt.Errorf("it answers %s", resp.Status)}
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || kind != tspclient.MediaTypeTimestampReply {
		return nil, never, lies("it answers with %q and not with %s: that is no time-stamping authority, or something stands before it",
			resp.Header.Get("Content-Type"), tspclient.MediaTypeTimestampReply)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return nil, retry(ctx, err), unanswered(ctx, s.timeout(), err)
	case len(b) > maxReply:
		return nil, never, lies("its answer has more than %d bytes", maxReply)
	}
	return b, never, nil
}

// unanswered is that no answer came. What the client itself did not permit keeps its own reason, since asking later does not help.
func unanswered(ctx context.Context, limit time.Duration, err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err // the address is told already
	}
	if guarded(err) {
		return err
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		// Not wrapped: it was our time limit for one of several, not the command's.
		return &Error{codeNoAnswer, fmt.Errorf("no answer within %s", limit)}
	}
	return &Error{codeNoAnswer, err}
}

// guarded reports whether err is that the client may not go there.
func guarded(err error) bool {
	switch codeOf(err) {
	case "url-not-allowed", "address-private", "redirect-refused":
		return true
	}
	return false
}

// retry says whether to ask again after an error of the network: not if all the time was used, nor if it was not permitted.
func retry(ctx context.Context, err error) again {
	if ctx.Err() != nil || guarded(err) {
		return never
	}
	return soon
}

// later reads Retry-After in seconds; a date, or too long a wait, is not followed.
func later(header string) again {
	n, err := strconv.Atoi(header)
	if err != nil || n < 0 || time.Duration(n)*time.Second > askLongest {
		return soon
	}
	return again(time.Duration(n) * time.Second)
}

// parseReply reads the DER of an answer, and nothing behind it.
func parseReply(b []byte) (*tspclient.Response, error) {
	var resp tspclient.Response
	rest, err := asn1.Unmarshal(b, &resp)
	switch {
	case err != nil:
		return nil, lies("its answer is no timestamp response: %w", err)
	case len(rest) > 0:
		return nil, lies("%d bytes stand behind its answer", len(rest))
	}
	return &resp, nil
}

// askRevocation has the reference library judge the revocation of an authority's chain. A certificate that names neither a list nor a
// responder cannot be asked about, and counts as good, as it does there.
func (s *Stamper) askRevocation(ctx context.Context, chain certchain.Chain) error {
	unknown := func(err error) error {
		return &Error{codeRevocation, fmt.Errorf("whether its certificates are revoked could not be determined: %w", err)}
	}
	judge := s.Revocation
	if judge == nil {
		lists, err := crl.NewHTTPFetcher(s.Client)
		if err != nil {
			return unknown(err)
		}
		judge, err = revocation.NewWithOptions(revocation.Options{OCSPHTTPClient: s.Client, CRLFetcher: lists, CertChainPurpose: purpose.Timestamping})
		if err != nil {
			return unknown(err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, revocationTimeout)
	defer cancel()
	results, err := judge.ValidateContext(ctx, revocation.ValidateContextOptions{CertChain: chain})
	if err != nil {
		return unknown(err)
	}
	if len(results) != len(chain) {
		return unknown(fmt.Errorf("there are %d results for %d certificates", len(results), len(chain)))
	}
	var undetermined error
	for i, r := range results {
		switch r.Result {
		case result.ResultOK, result.ResultNonRevokable:
		case result.ResultRevoked:
			return &Error{codeTSARevoked, fmt.Errorf("its certificate %s is revoked", certchain.NameOf(chain[i].RawSubject))}
		default:
			undetermined = unknown(fmt.Errorf("%s: %w", certchain.NameOf(chain[i].RawSubject), whyUnknown(r)))
		}
	}
	return undetermined
}

func whyUnknown(r *result.CertRevocationResult) error {
	for _, server := range r.ServerResults {
		if server.Error != nil {
			return server.Error
		}
	}
	return errors.New("nobody said")
}
