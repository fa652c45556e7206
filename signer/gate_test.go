package signer

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// A slowKey takes its time, and counts how many ask it at once.
type slowKey struct {
	*kmstest.Signer
	now, peak atomic.Int64
}

func (k *slowKey) Sign(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	n := k.now.Add(1)
	defer k.now.Add(-1)
	for old := k.peak.Load(); n > old && !k.peak.CompareAndSwap(old, n); old = k.peak.Load() {
	}
	time.Sleep(30 * time.Millisecond)
	return k.Signer.Sign(ctx, message, opts)
}

func TestGateBoundsSignaturesOverAllCalls(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	id := newIdentity("release")
	key := &slowKey{Signer: kmstest.Key(id.key)}
	o := Options{Gate: make(chan struct{}, 2), Now: time.Now()}
	var calls sync.WaitGroup
	for i := range 8 {
		subject := p.image(t, fmt.Sprint("app", i), "")
		calls.Go(func() {
			if r, err := Sign(t.Context(), p.Repo, subject, key, id.chain, o); err != nil || r.Written != 1 {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	calls.Wait()
	if peak := key.peak.Load(); peak != 2 {
		t.Errorf("%d signatures were asked for at once, want 2", peak)
	}
	if len(o.Gate) != 0 {
		t.Errorf("%d did not leave the gate", len(o.Gate))
	}

	o.Gate <- struct{}{}
	o.Gate <- struct{}{}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if r, err := Sign(ctx, p.Repo, p.image(t, "waiting", ""), key, id.chain, o); !errors.Is(err, context.DeadlineExceeded) || r.Written != 0 {
		t.Errorf("at a closed gate: %+v, %v", r, err)
	}
}
