package registry

import (
	"bytes"
	"context"
	"encoding"
	"errors"
	"hash"
	"io"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// goodRun is how much a source must give at a stretch for its earlier failures to be forgotten.
const goodRun = 1 << 20

// A feed hands a blob's bytes to one request after another, from wherever the registry wants them. Each byte is hashed
// the first time it passes, and the last ones are handed out only once all are known to be right. What must be sent
// again is read again, and not handed out before it proved to be the same: who completes an upload never completes a
// wrong blob, whether or not the registry computes the digest.
type feed struct {
	d     ocispec.Descriptor
	body  Body
	pause func(ctx context.Context, try int, err error) error // waits before a source that broke is opened again

	parent  context.Context
	ctx     context.Context // of what is open of the source
	cancel  context.CancelFunc
	current *portion

	mu     sync.Mutex // net/http reads in a goroutine of its own
	rc     io.ReadCloser
	at     int64 // where rc is
	run    int64 // bytes that rc gave
	tries  int
	hash   resumable
	hashed int64    // the hash is of the bytes before
	marks  [][]byte // what the hash was after each whole step
	again  []byte   // part of what is sent again, which is known to be right
	from   int64    // where it begins
	right  bool     // all were hashed, and are what d says
	small  []byte   // all that came, of a blob that may have to be sent twice before anything goes wrong
	high   int64    // the bytes before were handed out
	sent   int64    // bytes handed out, those handed out again too
	err    error    // why the source could not be read
}

// A resumable hash says where it is, and goes on from there.
type resumable interface {
	hash.Hash
	encoding.BinaryMarshaler
	encoding.BinaryUnmarshaler
}

func newHash(a digest.Algorithm) resumable { return a.Hash().(resumable) } // those of the standard library are

func newFeed(ctx context.Context, d ocispec.Descriptor, body Body, pause func(context.Context, int, error) error) *feed {
	f := &feed{d: d, body: body, pause: pause, parent: ctx, hash: newHash(d.Digest.Algorithm())}
	f.ctx, f.cancel = context.WithCancel(ctx)
	return f
}

// A portion is what one request takes of a feed.
type portion struct {
	f      *feed
	at     int64
	end    int64
	closed atomic.Bool
	done   atomic.Bool // everything was handed out
}

// open begins a portion, and ends the one before it.
func (f *feed) open(from, to int64) *portion {
	_ = f.stop()
	f.current = &portion{f: f, at: from, end: to}
	return f.current
}

// stop ends the current portion: nothing reads of it any more when stop returns. It returns why the source could not
// be read, if that is how it ended. What is open of the source stays so if all of the portion was taken, for the next one.
func (f *feed) stop() error {
	p := f.current
	if p == nil {
		return nil
	}
	f.current = nil
	p.closed.Store(true)
	unfinished := !p.done.Load()
	if unfinished {
		f.cancel() // a read that waits for the source ends now
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if unfinished {
		f.drop()
		f.ctx, f.cancel = context.WithCancel(f.parent)
	}
	err := f.err
	f.err = nil
	return err
}

// close ends everything.
func (f *feed) close() {
	_ = f.stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop()
	f.cancel()
}

// reset forgets what was read: the source is doubted.
func (f *feed) reset() {
	_ = f.stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop()
	f.hash.Reset()
	f.hashed, f.high, f.tries, f.right, f.small, f.marks, f.again = 0, 0, 0, false, nil, nil, nil
}

// reached is the end of what was ever handed out.
func (f *feed) reached() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.high
}

func (f *feed) travelled() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent
}

func (f *feed) drop() {
	if f.rc != nil {
		_ = f.rc.Close()
		f.rc = nil
	}
}

var errPortionEnded = errors.New("the request has ended")

func (p *portion) Read(b []byte) (int, error) {
	f := p.f
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case p.closed.Load():
		return 0, errPortionEnded
	case p.at == p.end:
		return 0, io.EOF
	case int64(len(b)) > p.end-p.at:
		b = b[:p.end-p.at]
	}
	n, err := f.read(p.at, b)
	if p.closed.Load() {
		return 0, errPortionEnded // whatever it was: the source was told to stop
	}
	p.at += int64(n)
	f.sent += int64(n)
	f.high = max(f.high, p.at)
	if err != nil {
		f.err = err
		return n, err
	}
	if p.at == p.end {
		p.done.Store(true)
	}
	return n, nil
}

// Close is called by net/http, perhaps while another goroutine of it reads.
func (p *portion) Close() error {
	p.closed.Store(true)
	return nil
}

// read reads at an offset. A source that breaks after it gave something is opened again where it broke; its own tries
// (registry.Repo.BlobFrom has some) are over by then.
func (f *feed) read(at int64, b []byte) (int, error) {
	if at < f.hashed {
		return f.reread(at, b)
	}
	f.again = nil
	for idle := 0; ; {
		if f.rc == nil || f.at != at {
			f.drop()
			rc, err := f.source(at)
			if err != nil {
				return 0, err
			}
			f.rc, f.at, f.run = rc, at, 0
		}
		n, err := f.rc.Read(b)
		if n > 0 {
			if err := f.took(b[:n]); err != nil {
				return 0, err
			}
			if f.at == f.d.Size || err == nil {
				return n, nil
			}
		}
		switch {
		case err == nil:
			if idle++; idle == 100 {
				return 0, io.ErrNoProgress
			}
			continue
		case errors.Is(err, io.EOF):
			return n, fail(codeDigest, "%w: blob %s ended %d bytes early: %w", ErrDigestMismatch, f.d.Digest, f.d.Size-f.at, io.ErrUnexpectedEOF)
		}
		if again := f.failed(err); again != nil {
			return n, again
		}
		if n > 0 {
			return n, nil
		}
	}
}

// step is how far the marks of a hash lie apart: what is sent again is read again from the mark before on, and at most
// one step of it is in memory.
func (f *feed) step() int64 { return max(1<<20, f.d.Size>>16) }

// reread reads what has passed before.
func (f *feed) reread(at int64, b []byte) (int, error) {
	if f.hashed == f.d.Size && !f.right { // whoever was to be told had gone
		return 0, fail(codeDigest, "%w: blob %s came otherwise", ErrDigestMismatch, f.d.Digest)
	}
	if at < f.from || at >= f.from+int64(len(f.again)) {
		if err := f.load(at / f.step()); err != nil {
			return 0, err
		}
	}
	return copy(b, f.again[at-f.from:]), nil
}

// load reads a step once more, as far as it has passed, and compares what the hash comes to with what it came to.
func (f *feed) load(step int64) error {
	f.again = nil
	from := step * f.step()
	b := make([]byte, min(f.step(), f.hashed-from))
	for n := 0; n < len(b); {
		got, err := f.pull(from+int64(n), b[n:])
		if err != nil {
			return err
		}
		n += got
	}
	h := newHash(f.d.Digest.Algorithm())
	if step > 0 {
		if err := h.UnmarshalBinary(f.marks[step-1]); err != nil {
			return err
		}
	}
	h.Write(b)
	now, err := h.MarshalBinary()
	if err != nil {
		return err
	}
	var before []byte
	if int64(len(b)) == f.step() {
		before = f.marks[step]
	} else if before, err = f.hash.MarshalBinary(); err != nil {
		return err
	}
	if !bytes.Equal(now, before) {
		return fail(codeDigest, "%w: blob %s came otherwise when some of it had to be read again", ErrDigestMismatch, f.d.Digest)
	}
	f.again, f.from = b, from
	return nil
}

// pull reads what is not hashed any more.
func (f *feed) pull(at int64, b []byte) (int, error) {
	for idle := 0; ; {
		if f.rc == nil || f.at != at {
			f.drop()
			rc, err := f.source(at)
			if err != nil {
				return 0, err
			}
			f.rc, f.at, f.run = rc, at, 0
		}
		n, err := f.rc.Read(b)
		f.at += int64(n)
		f.run += int64(n)
		switch {
		case n > 0:
			return n, nil
		case err == nil:
			if idle++; idle == 100 {
				return 0, io.ErrNoProgress
			}
			continue
		case errors.Is(err, io.EOF):
			return 0, fail(codeDigest, "%w: blob %s ended early when some of it had to be read again: %w", ErrDigestMismatch, f.d.Digest, io.ErrUnexpectedEOF)
		}
		if err := f.failed(err); err != nil {
			return 0, err
		}
	}
}

// source opens the source. Of a blob that goes along with a request which may open an upload instead, the source is
// asked once only.
func (f *feed) source(at int64) (io.ReadCloser, error) {
	if f.d.Size > maxUnasked {
		return f.body(f.ctx, at)
	}
	if f.small == nil {
		rc, err := f.body(f.ctx, 0)
		if err != nil {
			return nil, err
		}
		f.small, err = io.ReadAll(io.LimitReader(rc, f.d.Size+1))
		_ = rc.Close()
		if err != nil {
			f.small = nil
			return nil, err
		}
	}
	return io.NopCloser(bytes.NewReader(f.small[min(at, int64(len(f.small))):])), nil
}

// failed waits until the source may be opened again, or returns why it may not.
func (f *feed) failed(err error) error {
	f.drop()
	if !errors.Is(err, ErrUnavailable) || f.run == 0 {
		return err
	}
	if f.run >= goodRun {
		f.tries = 0
	}
	f.tries++
	return f.pause(f.ctx, f.tries, err)
}

// took hashes the bytes that were just read for the first time, and with the last of them judges the blob.
func (f *feed) took(b []byte) error {
	f.run += int64(len(b))
	f.at += int64(len(b))
	for len(b) > 0 {
		n := min(int64(len(b)), f.step()-f.hashed%f.step())
		f.hash.Write(b[:n])
		f.hashed += n
		b = b[n:]
		if f.hashed%f.step() == 0 {
			mark, err := f.hash.MarshalBinary()
			if err != nil {
				return err
			}
			f.marks = append(f.marks, mark)
		}
	}
	if f.at < f.d.Size {
		return nil
	}
	var one [1]byte
	switch n, err := io.ReadFull(f.rc, one[:]); {
	case n > 0:
		return fail(codeDigest, "%w: blob %s is longer than the %d bytes of its descriptor", ErrDigestMismatch, f.d.Digest, f.d.Size)
	case errors.Is(err, ErrDigestMismatch): // the source itself says that more would follow; that it broke off now is no matter
		return err
	}
	if got := digest.NewDigest(f.d.Digest.Algorithm(), f.hash); got != f.d.Digest {
		return fail(codeDigest, "%w: blob %s came as %s", ErrDigestMismatch, f.d.Digest, got)
	}
	f.right = true
	return nil
}

// A sourceError wraps why the source of an upload failed: then not the registry is at fault.
type sourceError struct{ err error }

// errSource marks an upload that failed because the source did.
var errSource = errors.New("reading what is to be uploaded")

func (e *sourceError) Error() string        { return errSource.Error() + ": " + e.err.Error() }
func (e *sourceError) Unwrap() error        { return e.err }
func (e *sourceError) Is(target error) bool { return target == errSource }
