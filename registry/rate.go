package registry

import (
	"bytes"
	"context"
	"io"

	"golang.org/x/time/rate"
)

// A bandwidth is shared by all bodies of one direction (Options.MaxRate); nil is unbounded.
type bandwidth struct {
	limiter *rate.Limiter
	most    int // bytes that are taken at once: so few that a line is used evenly
}

// The share of a second that is taken at once, and its bounds.
const (
	burstsPerSecond = 50
	leastBurst      = 512
	mostBurst       = 1 << 20
)

func newBandwidth(bytesPerSecond int64) *bandwidth {
	if bytesPerSecond <= 0 {
		return nil
	}
	burst := int(min(max(bytesPerSecond/burstsPerSecond, leastBurst), mostBurst))
	return &bandwidth{limiter: rate.NewLimiter(rate.Limit(bytesPerSecond), burst), most: burst}
}

// cut shortens a buffer to what may be taken at once.
func (b *bandwidth) cut(p []byte) []byte {
	if b != nil && len(p) > b.most {
		return p[:b.most]
	}
	return p
}

// take waits until n bytes, which are no more than cut allowed, may have travelled.
func (b *bandwidth) take(ctx context.Context, n int) error {
	if b == nil || n == 0 {
		return nil
	}
	return b.limiter.WaitN(ctx, n)
}

// reader reads bytes in memory at that rate.
func (b *bandwidth) reader(ctx context.Context, p []byte) io.ReadCloser {
	r := io.NopCloser(bytes.NewReader(p))
	if b == nil {
		return r
	}
	return &measured{ctx: ctx, ReadCloser: r, band: b}
}

type measured struct {
	io.ReadCloser
	ctx  context.Context
	band *bandwidth
}

func (m *measured) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(m.band.cut(p))
	if err == nil {
		err = m.band.take(m.ctx, n)
	}
	return n, err
}
