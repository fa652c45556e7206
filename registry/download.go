package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxBreaks bounds how often one download may break off, however much comes in between.
const maxBreaks = 100

// A download is a blob on its way. When its connection breaks, or hardly delivers anything, it goes on where it was
// (RFC 9110 section 14): what has arrived does not travel again, unless the registry knows no ranges. It
// hands out no byte beyond the blob's size; that they are the right ones is for the caller to check.
type download struct {
	ctx   context.Context
	stop  context.CancelFunc
	store *remote
	blob  ocispec.Descriptor

	mu      sync.Mutex // held while it reads: net/http may close a request's body meanwhile
	at      int64      // of the next byte
	from    *stretch   // nil: to be asked for
	breaks  int
	tries   int  // breaks without progress in between
	noRange bool // the registry was asked for a part, and sent something else
	err     error
}

// A stretch is one answer of the registry, with some or all of a blob's bytes.
type stretch struct {
	incoming
	cancel context.CancelCauseFunc
	skip   int64 // bytes before those that were asked for
	got    int64 // bytes of those that were asked for
	err    error // that the last read ended in
}

// blob begins a download. Everything up to the first byte is retried by the transport, later by the download.
func (s *remote) blob(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	w := &download{store: s, blob: d, at: offset}
	w.ctx, w.stop = context.WithCancel(ctx)
	if offset > 0 && offset == d.Size { // a range without bytes cannot be asked for
		w.err = io.EOF
		return w, nil
	}
	if err := w.ask(time.Now()); err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

// Read implements [io.Reader]. It returns when something has come, so that its time is time without progress.
func (w *download) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil || len(p) == 0 {
		return 0, w.err
	}
	for begin := time.Now(); ; {
		if w.from == nil {
			if err := w.ask(begin); err != nil {
				if w.err = w.again(err, begin); w.err != nil {
					return 0, w.err
				}
				continue
			}
		}
		n, err := w.from.read(p, w.blob.Size-w.at)
		if n > 0 {
			w.at += int64(n)
			return n, nil
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, errMore):
			w.err = fail(codeDigest, "%w: %s sent more than the %d bytes of blob %s", ErrDigestMismatch, w.store.host, w.blob.Size, w.blob.Digest)
		case w.at == w.blob.Size: // whatever it is, everything is here
			w.err = io.EOF
		default:
			w.err = w.broke(err, begin)
		}
		if w.err != nil {
			return 0, w.err
		}
	}
}

// errMore says that there are more bytes than there should be.
var errMore = errors.New("more bytes than there should be")

// read reads of the left bytes that are still wanted. When there are none it makes sure that nothing follows.
func (f *stretch) read(p []byte, left int64) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	if f.skip > 0 {
		var n int64
		n, f.err = io.CopyN(io.Discard, f, f.skip)
		f.skip -= n
		return 0, f.err
	}
	if left == 0 {
		var one [1]byte
		var n int
		if n, f.err = f.Read(one[:]); n > 0 {
			f.err = errMore
		}
		return 0, f.err
	}
	n, err := f.Read(p[:min(int64(len(p)), left)])
	f.got += int64(n)
	f.err = err
	return n, err
}

// drop ends a stretch and reports whether it was broken off for being slow.
func (f *stretch) drop() (slow bool) {
	slow = f.pace.end()
	_ = f.Close()
	f.cancel(nil)
	return slow
}

// broke ends a stretch that broke off with err, and waits until the next may be asked for, or says why there is none.
func (w *download) broke(err error, begin time.Time) error {
	f := w.from
	w.from = nil
	progress := int64(1)
	if f.drop() {
		err = errSlow
		progress = w.store.client.retry.patience.enough() // what trickles is none
	}
	if f.got >= progress {
		w.tries = 0
	}
	return w.again(err, begin)
}

// again waits until a stretch may be asked for after what ended in err, or returns what to say of it.
func (w *download) again(err error, begin time.Time) error {
	retry := w.store.client.retry
	w.tries++
	w.breaks++
	cause := err
	if own, ok := asOwnError(err); ok {
		if !isConnect(err) { // the transport has tried often enough
			return err
		}
		cause = errors.New(own.Error()) // to wait as for any other: a registry that is restarted was there before
	}
	wait, again := retry.pause(w.ctx, w.tries, nil, cause)
	needs := wait
	if errors.Is(err, errSlow) { // it may take as long again to find that out
		needs += retry.patience.window
	}
	if again && w.breaks < maxBreaks && time.Since(begin)+needs < retry.patience.object {
		if retry.sleep(w.ctx, wait) == nil {
			return nil
		}
	}
	where := fmt.Sprintf("blob %s broke off at byte %d of %d", w.blob.Digest, w.at, w.blob.Size)
	switch {
	case w.ctx.Err() != nil:
		return w.store.failed(w.ctx, err)
	case errors.Is(err, errSlow):
		return doing(where, slowError(w.store.host, retry.patience))
	case errors.Is(err, io.EOF): // it ended well, as far as HTTP can tell
		return fail(codeDigest, "%w: %s sent %d of the %d bytes of blob %s", ErrDigestMismatch, w.store.host, w.at, w.blob.Size, w.blob.Digest)
	}
	return doing(where, transportError(w.ctx, w.store.host, err))
}

// enough is how many bytes are progress, of a body that was broken off for being slow.
func (p patience) enough() int64 { return int64(float64(p.floor) * p.window.Seconds()) }

// ask asks for what is missing. begin is when something came for the last time.
func (w *download) ask(begin time.Time) error {
	if w.at > 0 && !w.noRange {
		f, err := w.store.stretch(w.ctx, w.blob, w.at, begin)
		if !errors.Is(err, errNoRange) {
			w.from = f
			return err
		}
		w.noRange = true
	}
	f, err := w.store.stretch(w.ctx, w.blob, 0, begin)
	if err != nil {
		return err
	}
	f.skip = w.at
	w.from = f
	return nil
}

// errNoRange says that a part was asked for and none came.
var errNoRange = errors.New("no ranges")

// stretch asks for a blob from an offset on, and waits for the beginning of the answer.
func (s *remote) stretch(ctx context.Context, d ocispec.Descriptor, offset int64, begin time.Time) (*stretch, error) {
	c := call{method: http.MethodGet, path: "blobs/" + d.Digest.String(), action: actionPull}
	if offset > 0 {
		// Closed: some registries answer 416 to a range without an end.
		c.header = map[string]string{"Range": fmt.Sprintf("bytes=%d-%d", offset, d.Size-1)}
	}
	by := begin.Add(s.client.retry.patience.object)
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, answerByKey{}, by))
	late := time.AfterFunc(time.Until(by), func() { cancel(errLate) })
	resp, err := s.do(ctx, c)
	if err != nil {
		late.Stop()
		cancel(nil)
		return nil, err
	}
	f := &stretch{cancel: cancel}
	f.incoming = incoming{ctx: ctx, body: resp.Body, pace: newPace(s.client.retry.patience, cancel), band: s.client.down}
	if !late.Stop() {
		err = s.failed(ctx, errLate)
	} else {
		err = s.fits(resp, d, &f.skip, offset)
	}
	if err != nil {
		f.drop()
		return nil, err
	}
	return f, nil
}

// fits reports whether an answer has the bytes that were asked for.
func (s *remote) fits(resp *http.Response, d ocispec.Descriptor, skip *int64, offset int64) error {
	switch {
	case resp.StatusCode == http.StatusOK:
		if resp.ContentLength >= 0 && resp.ContentLength != d.Size {
			return fail(codeDigest, "%w: %s announces %d bytes of blob %s, its descriptor %d", ErrDigestMismatch, s.host, resp.ContentLength, d.Digest, d.Size)
		}
		*skip = offset
		return nil
	case offset == 0:
		return s.refused(resp)
	case resp.StatusCode == http.StatusPartialContent && rangeFits(resp.Header.Get("Content-Range"), offset, d.Size):
		return nil
	case resp.StatusCode == http.StatusPartialContent, resp.StatusCode == http.StatusRequestedRangeNotSatisfiable, resp.StatusCode == http.StatusNotImplemented:
		return errNoRange
	}
	return s.refused(resp)
}

// rangeFits reports whether Content-Range (RFC 9110 section 14.4) begins at offset and belongs to something of that
// size. It may end early: then the rest is asked for.
func rangeFits(s string, offset, size int64) bool {
	unit, rest, _ := strings.Cut(strings.TrimSpace(s), " ")
	bounds, total, ok := strings.Cut(rest, "/")
	first, last, dash := strings.Cut(bounds, "-")
	from, err1 := strconv.ParseInt(first, 10, 64)
	to, err2 := strconv.ParseInt(last, 10, 64)
	return strings.EqualFold(unit, "bytes") && ok && dash && err1 == nil && err2 == nil && from == offset && to >= from && to < size &&
		(total == "*" || total == strconv.FormatInt(size, 10))
}

// Close implements [io.Closer].
func (w *download) Close() error {
	w.stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.from != nil {
		w.from.drop()
		w.from = nil
	}
	if w.err == nil {
		w.err = errClosed
	}
	return nil
}

var errClosed = errors.New("reading a blob that was closed")
