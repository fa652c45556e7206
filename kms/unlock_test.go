package kms_test

import (
	"context"
	"crypto"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
)

var errLocked = &kms.Error{Code: kms.CodeCredentials, Class: kms.ErrService, Err: errors.New("no PIN")}

// lockable is a key that signs once open is set. unlock is its Unlock.
func lockable(t *testing.T, open *atomic.Bool, unlock func(context.Context, error) error) (kms.Key, *vault) {
	t.Helper()
	v := &vault{key: certtest.Key("P-256")}
	r := v.remote()
	r.Careful, r.Unlock, r.Patience = true, unlock, time.Second
	r.Sign = func(ctx context.Context, s kms.SignRequest) ([]byte, error) {
		if !open.Load() {
			v.calls.Add(1)
			return nil, errLocked
		}
		return v.sign(ctx, s)
	}
	return opened(t, r), v
}

// TestUnlock: a person is asked once, may take longer than the service, and the refusal is no signing call.
func TestUnlock(t *testing.T) {
	t.Parallel()
	var open atomic.Bool
	var asked atomic.Int64
	k, v := lockable(t, &open, func(ctx context.Context, refusal error) error {
		asked.Add(1)
		if !errors.Is(refusal, errLocked) {
			t.Errorf("told %v", refusal)
		}
		if _, limited := ctx.Deadline(); limited && ctx.Err() != nil {
			t.Errorf("a person has no time: %v", ctx.Err())
		}
		time.Sleep(1500 * time.Millisecond)
		open.Store(true)
		return ctx.Err()
	})
	m, counted := kms.Metered(k)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := m.Sign(t.Context(), []byte("message"), crypto.SHA256); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if asked.Load() != 1 || counted.Load() != 8 || v.calls.Load() != 9 {
		t.Errorf("asked %d times, %d calls counted, %d made; want 1, 8, 9", asked.Load(), counted.Load(), v.calls.Load())
	}
}

// TestUnlockInVain: what is refused again is not asked for a third time, and what nobody can hand in is the error.
func TestUnlockInVain(t *testing.T) {
	t.Parallel()
	gone := &kms.Error{Code: kms.CodeCredentials, Class: kms.ErrService, Err: errors.New("nobody there")}
	for name, test := range map[string]struct {
		unlock error
		want   error
		calls  int64
	}{
		"refused again": {nil, errLocked, 2},
		"nobody there":  {gone, gone, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var open atomic.Bool
			var asked atomic.Int64
			k, v := lockable(t, &open, func(context.Context, error) error {
				asked.Add(1)
				return test.unlock
			})
			m, counted := kms.Metered(k)
			for range 3 {
				if _, err := m.Sign(t.Context(), nil, crypto.SHA256); !errors.Is(err, test.want) {
					t.Errorf("%v, want %v", err, test.want)
				}
			}
			if asked.Load() != 1 || v.calls.Load() != test.calls || counted.Load() != 1 {
				t.Errorf("asked %d times, %d calls made, %d counted", asked.Load(), v.calls.Load(), counted.Load())
			}
		})
	}
}

// TestSpent: what opening the key cost is in the first count, and only there.
func TestSpent(t *testing.T) {
	t.Parallel()
	v := &vault{key: certtest.Key("P-256")}
	r := v.remote()
	r.Spent = 1
	k := opened(t, r)
	first, one := kms.Metered(k)
	second, two := kms.Metered(k)
	for _, m := range []kms.Key{first, second} {
		if _, err := m.Sign(t.Context(), nil, crypto.SHA256); err != nil {
			t.Fatal(err)
		}
	}
	if one.Load() != 2 || two.Load() != 1 {
		t.Errorf("counted %d and %d, want 2 and 1", one.Load(), two.Load())
	}
}

// TestUnlockAfterOtherFaults: of the calls before a person was asked only the refusal was no use of the key.
func TestUnlockAfterOtherFaults(t *testing.T) {
	t.Parallel()
	var open atomic.Bool
	var tries atomic.Int64
	v := &vault{key: certtest.Key("P-256")}
	r := v.remote()
	r.Careful = true
	r.Unlock = func(context.Context, error) error {
		open.Store(true)
		return nil
	}
	r.Sign = func(ctx context.Context, s kms.SignRequest) ([]byte, error) {
		switch n := tries.Add(1); {
		case n <= 2 || n == 4:
			return nil, &kms.Error{Code: kms.CodeThrottled, Class: kms.ErrService, Err: errors.New("busy"), Temporary: true}
		case !open.Load():
			return nil, errLocked
		}
		return v.sign(ctx, s)
	}
	m, counted := kms.Metered(opened(t, r))
	if _, err := m.Sign(t.Context(), nil, crypto.SHA256); err != nil {
		t.Fatal(err)
	}
	if tries.Load() != 5 || counted.Load() != 4 {
		t.Errorf("%d calls made, %d counted, want 5 and 4", tries.Load(), counted.Load())
	}
}

// TestUnlockGivenUp: who gives up while a person is asked gets no signature, and nobody behind is kept waiting.
func TestUnlockGivenUp(t *testing.T) {
	t.Parallel()
	var open atomic.Bool
	asked := make(chan struct{})
	k, v := lockable(t, &open, func(ctx context.Context, _ error) error {
		close(asked)
		<-ctx.Done()
		return ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := k.Sign(ctx, nil, crypto.SHA256)
		first <- err
	}()
	<-asked
	short, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	if _, err := k.Sign(short, nil, crypto.SHA256); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	open.Store(true)
	if _, err := k.Sign(t.Context(), nil, crypto.SHA256); err != nil || v.calls.Load() != 2 {
		t.Errorf("%v after %d calls", err, v.calls.Load())
	}
}
