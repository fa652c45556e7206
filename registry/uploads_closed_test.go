package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
)

// A request may end at the very moment in which the last bytes prove to be wrong, so that nobody is told: what is sent
// after it gets none of them either.
func TestC01NobodyWasTold(t *testing.T) {
	t.Parallel()
	right := randomBytes(100_000, 13)
	wrong := bytes.Clone(right)
	wrong[7] ^= 1
	var first *portion
	f := newFeed(t.Context(), blobOf(right), func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(&closing{bytes.NewReader(wrong[offset:]), func() { _ = first.Close() }}), nil
	}, func(_ context.Context, _ int, err error) error { return err })
	defer f.close()
	first = f.open(0, int64(len(right)))
	if _, err := io.ReadAll(first); !errors.Is(err, errPortionEnded) {
		t.Fatal(err)
	}
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f.open(0, int64(len(right))))
	if !errors.Is(err, ErrDigestMismatch) || len(b) == len(right) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// A closing reader calls what ends a request as soon as it has given its last byte.
type closing struct {
	*bytes.Reader
	end func()
}

func (c *closing) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if c.Len() == 0 {
		c.end()
	}
	return n, err
}
