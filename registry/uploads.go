package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxUnasked bounds what is sent together with the request that might open an upload instead: where a registry
	// ignores it, it has travelled for nothing; and where it is there already, too.
	maxUnasked = 64 << 10
	// maxSingleUpload bounds what goes in one request where single-request uploads are known to be honoured: such a one
	// leaves nothing behind that could be gone on with when it breaks.
	maxSingleUpload = 4 << 20
	// uploadChunk is what goes at a time where a registry keeps nothing of a request that broke.
	uploadChunk = 32 << 20
	// cancelTime is what the closing of an upload session may take that nobody needs any more.
	cancelTime = time.Second
)

// An upload is one blob on its way into a repository (distribution specification, "Pushing blobs").
//
// When a request of a session breaks, the registry is asked what it has kept. Measured of a PUT whose connection broke
// in the middle: CNCF distribution v3 and ociserver keep everything that arrived, say so as soon as they have noticed
// (Range: 0-N), and go on with a PATCH at N+1. What keeps nothing (a proxy on the way that gathers whole requests) or
// takes no byte again (ECR, it is said) gets a new session, in chunks.
type upload struct {
	s    *remote
	d    ocispec.Descriptor
	from string // a repository of the registry that should hold it, "" if none is known
	feed *feed

	session *url.URL // where its next request goes; nil: none is open
	kept    int64    // bytes that the session holds
	best    int64    // the most that one ever held: what is beyond is progress
	atLeast int64    // OCI-Chunk-Min-Length
	chunk   int64    // bytes of one request; 0: all that are left

	broken   bool // the session's last request was not answered well: its status must be asked
	ending   bool // that request would have ended the upload
	outside  bool // it was answered 416
	single   bool // the last request was a single-request upload, which holds no session
	noSingle bool // that was refused: perhaps the shortcut, perhaps not
	doubted  bool // other bytes came, once
	tries    int  // without progress

	stuck time.Time // the first failure without progress; zero: there was none
}

// send stores a blob that this run does not know to be there.
func (s *remote) send(ctx context.Context, d ocispec.Descriptor, from string, body Body) (Sent, error) {
	u := &upload{s: s, d: d, from: from}
	u.feed = newFeed(ctx, d, body, func(ctx context.Context, try int, err error) error {
		wait, again := s.pauseUpload(ctx, try, err)
		if !again {
			return err
		}
		return s.client.retry.sleep(ctx, wait)
	})
	defer u.feed.close()
	if d.Size == 0 && d.Digest.Algorithm().FromBytes(nil) != d.Digest {
		return Sent{}, fail(codeDigest, "%w: blob %s is said to be empty, and is not", ErrDigestMismatch, d.Digest)
	}
	for {
		sent, err := u.step(ctx)
		if err != nil {
			err = u.recover(ctx, err)
		}
		if err != nil {
			u.feed.close()
			if u.session != nil && (ctx.Err() != nil || errors.Is(err, errSource) || !errors.Is(err, ErrUnavailable)) {
				s.abandon(ctx, u.session)
			}
			return Sent{Bytes: u.feed.travelled()}, err
		}
		if sent != nil {
			sent.Bytes = u.feed.travelled()
			return *sent, nil
		}
	}
}

// step sends what comes next, and returns how the blob came there once it is there.
func (u *upload) step(ctx context.Context) (*Sent, error) {
	switch {
	case u.session == nil:
		return u.begin(ctx)
	case u.broken:
		return u.status(ctx)
	}
	return u.transfer(ctx)
}

// transfer sends the next part of the blob, which ends the upload if it is the whole.
func (u *upload) transfer(ctx context.Context) (*Sent, error) {
	left := u.d.Size - u.kept
	if left == 0 || u.kept == 0 && (u.chunk == 0 || left <= u.chunk) {
		return u.end(ctx, left)
	}
	n := left
	if u.chunk > 0 {
		n = min(n, u.chunk)
	}
	u.ending = false
	resp, err := u.request(ctx, call{
		method: http.MethodPatch, url: u.session,
		header: map[string]string{"Content-Range": fmt.Sprintf("%d-%d", u.kept, u.kept+n-1)},
	}, u.kept, n)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, u.s.refused(resp)
	}
	discard(resp)
	kept := u.kept + n
	if resp.Header.Get("Range") != "" {
		kept = keptOf(resp)
	}
	if kept <= u.kept || kept > u.feed.reached() {
		u.outside = true
		return nil, fail(codeUnavailable, "%w: %s has lost what was sent to it", ErrUnavailable, u.s.host)
	}
	if resp.Header.Get("Location") != "" {
		if err := u.enter(resp); err != nil {
			return nil, err
		}
	}
	u.keeps(kept)
	return nil, nil
}

// end sends the last n bytes, and ends the upload.
func (u *upload) end(ctx context.Context, n int64) (*Sent, error) {
	// The digest is added to the query as it stands: its other parameters may be signed.
	at := *u.session
	q := "digest=" + url.QueryEscape(u.d.Digest.String())
	if at.RawQuery != "" {
		q = at.RawQuery + "&" + q
	}
	at.RawQuery = q
	u.ending = true
	resp, err := u.request(ctx, call{method: http.MethodPut, url: &at}, u.kept, n)
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusCreated, http.StatusNoContent, http.StatusOK:
		discard(resp)
		if u.noSingle {
			u.s.learnt.singleUpload.set(false)
		}
		return &Sent{}, nil
	}
	return nil, u.s.refused(resp)
}

// request sends n bytes of the blob, from an offset on. It is sent once: what comes after a failure depends on what has
// arrived ([upload.recover]).
func (u *upload) request(ctx context.Context, c call, from, n int64) (*http.Response, error) {
	c.action = actionPush
	if n > 0 {
		if c.header == nil {
			c.header = make(map[string]string)
		}
		c.header["Content-Type"] = "application/octet-stream"
		c.size = n
		c.open = func() (io.ReadCloser, error) { return u.feed.open(from, from+n), nil }
	}
	resp, err := u.s.do(withoutRetry(ctx), c)
	if source := u.feed.stop(); source != nil {
		if err == nil {
			discard(resp)
		}
		return nil, &sourceError{source}
	}
	return resp, err
}

// keeps notes what the session holds. Tries count only as long as nothing moves.
func (u *upload) keeps(n int64) {
	u.kept, u.broken, u.outside = n, false, false
	if n > u.best {
		u.best, u.tries, u.stuck = n, 0, time.Time{}
	}
}

// keptOf reads how many bytes a session holds (Range: 0-N). Nothing and one byte look the same ("0-0"): one is sent again.
func keptOf(resp *http.Response) int64 {
	_, last, ok := strings.Cut(strings.TrimPrefix(resp.Header.Get("Range"), "bytes="), "-")
	n, err := strconv.ParseInt(strings.TrimSpace(last), 10, 64)
	if !ok || err != nil || n <= 0 || n == math.MaxInt64 {
		return 0
	}
	return n + 1
}

// status finds out where to go on after a request of the session was not answered well.
func (u *upload) status(ctx context.Context) (*Sent, error) {
	s := u.s
	if u.ending && u.feed.reached() == u.d.Size {
		// Everything was sent: perhaps only the answer was lost.
		resp, err := s.exec(ctx, call{method: http.MethodHead, path: "blobs/" + u.d.Digest.String(), action: actionPull})
		switch {
		case err == nil && resp.StatusCode == http.StatusOK && (resp.ContentLength < 0 || resp.ContentLength == u.d.Size):
			return &Sent{}, nil
		case err != nil && !errors.Is(err, ErrNotFound):
			return nil, err
		}
		u.ending = false
	}
	resp, err := u.plain(withoutRetry(ctx), call{method: http.MethodGet, url: u.session})
	if err != nil {
		return nil, err
	}
	switch {
	case isTransient(resp.StatusCode):
		return nil, s.refused(resp)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		discard(resp)
		u.session = nil
		u.inChunks()
		return nil, nil
	}
	discard(resp)
	kept := keptOf(resp)
	if kept == 0 || kept > u.feed.reached() || u.outside && kept == u.kept {
		// It kept nothing, or what it says cannot be, or it refuses what it asks for (ECR answers 416 to a session that
		// begins again).
		s.abandon(ctx, u.session)
		u.session = nil
		u.inChunks()
		return nil, nil
	}
	if resp.Header.Get("Location") != "" {
		if err := u.enter(resp); err != nil {
			return nil, err
		}
	}
	u.keeps(kept)
	return nil, nil
}

// inChunks makes the next session lose at most a chunk if it breaks, too.
func (u *upload) inChunks() {
	if u.d.Size > u.s.client.chunk {
		u.chunk = max(u.s.client.chunk, u.atLeast)
	}
}

// recover decides what a failure means: nil if the upload can go on, after the wait that [retrier.pause] tells.
func (u *upload) recover(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	if errors.Is(err, errSource) {
		if errors.Is(err, ErrDigestMismatch) {
			return u.doubt(ctx, err)
		}
		return err
	}
	if u.session == nil && !u.single { // asking and opening were tried often enough by the transport
		return err
	}
	e, isAnswer := answered(err)
	gone := isAnswer && (e.status == http.StatusNotFound && !e.has("NAME_UNKNOWN") || e.has("BLOB_UPLOAD_UNKNOWN") || e.has("BLOB_UPLOAD_INVALID"))
	switch {
	case isAnswer && e.status < 500 && u.d.Digest.Algorithm() != digest.SHA256 && (e.status == http.StatusBadRequest || e.has("DIGEST_INVALID") || e.has("UNSUPPORTED")):
		return unknownAlgorithm(err, u.s.host, u.d.Digest)
	case isAnswer && e.has("DIGEST_INVALID"): // what arrived is not what was sent, which was right
		return u.doubt(ctx, fail(codeDigest, "%w: %w", ErrDigestMismatch, err))
	case isAnswer && e.status == http.StatusRequestedRangeNotSatisfiable:
		u.outside = true
	case gone, errors.Is(err, ErrUnavailable):
	default:
		return err
	}
	u.tries++
	wait, again := u.s.pauseUpload(ctx, u.tries, err)
	now := u.s.client.retry.now()
	if u.stuck.IsZero() {
		u.stuck = now
	}
	if !again || now.Add(wait).Sub(u.stuck) > u.s.client.retry.patience.object {
		return err
	}
	if err := u.s.client.retry.sleep(ctx, wait); err != nil {
		return transportError(ctx, u.s.host, err)
	}
	u.broken = true
	if gone && !u.ending {
		u.session = nil
		u.inChunks()
	}
	return nil
}

// doubt begins again with a source that is opened anew, once: what came between may have been at fault.
func (u *upload) doubt(ctx context.Context, err error) error {
	if u.doubted {
		return err
	}
	u.doubted = true
	u.s.client.warn("digest-mismatch-once", u.d.Digest.String(), fmt.Sprintf("other bytes came for %s on their way to %s; sending it once more", u.d.Digest, u.s.host))
	u.feed.reset()
	if u.session != nil {
		u.s.abandon(ctx, u.session)
		u.session = nil
	}
	return nil
}

// unknownAlgorithm says of a refusal that the registry knows sha256 only, as most do.
func unknownAlgorithm(err error, host string, d digest.Digest) error {
	return fail(codeUnsupported, "%w: %s takes no %s digests: %w", ErrUnsupported, host, d.Algorithm(), err)
}

// pauseUpload is [retrier.pause] for an upload that ended in err.
func (s *remote) pauseUpload(ctx context.Context, try int, err error) (wait time.Duration, again bool) {
	if e, ok := answered(err); ok {
		resp := &http.Response{StatusCode: e.status, Header: http.Header{"Retry-After": {e.retryAfter}}}
		if !isTransient(e.status) { // the session is gone, not the registry
			resp.StatusCode = http.StatusServiceUnavailable
		}
		return s.client.retry.pause(ctx, try, resp, nil)
	}
	if own, ok := asOwnError(err); ok {
		err = own.Err // pause judges what the transport said, not what we made of it
	}
	return s.client.retry.pause(ctx, try, nil, err)
}

// abandon closes an upload session that nobody needs, if the registry lets us, in a second, also when ctx is done. Some
// want to be asked first where the session is now.
func (s *remote) abandon(ctx context.Context, session *url.URL) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer cancel()
	ctx = withoutRetry(ctx)
	for try := 1; ; try++ {
		resp, err := s.do(ctx, call{method: http.MethodDelete, url: session, action: actionPush})
		if err != nil {
			return
		}
		discard(resp)
		if try == 2 || resp.StatusCode < 300 || resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed {
			return
		}
		if resp, err = s.do(ctx, call{method: http.MethodGet, url: session, action: actionPush}); err != nil {
			return
		}
		discard(resp)
		if session, err = s.location(resp); err != nil {
			return
		}
	}
}
