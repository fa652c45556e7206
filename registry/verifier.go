package registry

import (
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// verifying wraps rc so that it ends well only if it holds exactly what d says.
func verifying(rc io.ReadCloser, d ocispec.Descriptor) io.ReadCloser {
	if v, ok := rc.(*verifier); ok && v.d.Digest == d.Digest && v.d.Size == d.Size && v.left == d.Size {
		return v
	}
	return &verifier{rc: rc, d: d, left: d.Size, hash: d.Digest.Algorithm().Hash()}
}

// A verifier hands out at most the descriptor's size and reports io.EOF only if the digest is right. The last bytes
// are handed out once all are known to be right: who sends them on as they come never completes a wrong blob.
type verifier struct {
	rc   io.ReadCloser
	d    ocispec.Descriptor
	left int64
	hash hash.Hash
	err  error
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	if v.left == 0 { // a blob of no bytes
		v.err = v.end()
		return 0, v.err
	}
	if int64(len(p)) > v.left {
		p = p[:v.left]
	}
	n, err := v.rc.Read(p)
	v.hash.Write(p[:n])
	v.left -= int64(n)
	switch {
	case v.left == 0:
		if v.err = v.end(); !errors.Is(v.err, io.EOF) {
			return 0, v.err
		}
		return n, nil
	case errors.Is(err, io.EOF):
		v.err = fail(codeDigest, "%w: blob %s ended %d bytes early: %w", ErrDigestMismatch, v.d.Digest, v.left, io.ErrUnexpectedEOF)
	case err != nil:
		v.err = fmt.Errorf("reading blob %s: %w", v.d.Digest, err)
	}
	return n, v.err
}

// end checks that nothing follows and that the digest is right.
func (v *verifier) end() error {
	var one [1]byte
	n, err := io.ReadFull(v.rc, one[:])
	if n > 0 {
		return fail(codeDigest, "%w: blob %s is longer than the %d bytes of its descriptor", ErrDigestMismatch, v.d.Digest, v.d.Size)
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading blob %s: %w", v.d.Digest, err)
	}
	if got := digest.NewDigest(v.d.Digest.Algorithm(), v.hash); got != v.d.Digest {
		return fail(codeDigest, "%w: blob %s came back as %s", ErrDigestMismatch, v.d.Digest, got)
	}
	return io.EOF
}

func (v *verifier) Close() error { return v.rc.Close() }
