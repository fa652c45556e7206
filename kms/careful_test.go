package kms_test

import (
	"context"
	"crypto"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
)

// TestCareful: a PIN that is wrong is tried once, however many want a signature.
func TestCareful(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]error{
		"wrong PIN":  &kms.Error{Code: kms.CodeDenied, Class: kms.ErrService, Err: errors.New("CKR_PIN_INCORRECT")},
		"no PIN":     &kms.Error{Code: kms.CodeCredentials, Class: kms.ErrService, Err: errors.New("no PIN")},
		"passphrase": &kms.Error{Code: kms.CodeSecret, Class: kms.ErrSecret, Err: errors.New("wrong")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := &vault{key: certtest.Key("P-256")}
			r := v.remote()
			r.Careful = true
			r.Sign = func(context.Context, kms.SignRequest) ([]byte, error) {
				v.calls.Add(1)
				time.Sleep(20 * time.Millisecond)
				return nil, refusal
			}
			k := opened(t, r)
			m, counted := kms.Metered(k) // is as careful, together with k
			errs := make([]error, 16)
			var wg sync.WaitGroup
			for i := range errs {
				wg.Go(func() { _, errs[i] = []kms.Key{k, m}[i%2].Sign(t.Context(), nil, crypto.SHA256) })
			}
			wg.Wait()
			_, again := k.Sign(t.Context(), nil, crypto.SHA256)
			for _, err := range append(errs, again) {
				if !errors.Is(err, refusal) || !strings.HasPrefix(err.Error(), "signing with testkms:key/1: ") {
					t.Errorf("%v", err)
				}
			}
			if n := v.calls.Load(); n != 1 || counted.Load() > 1 {
				t.Errorf("it was tried %d times, %d counted", n, counted.Load())
			}
		})
	}
}

func TestCarefulFirstAlone(t *testing.T) {
	t.Parallel()
	v := &vault{key: certtest.Key("P-256")}
	var mu sync.Mutex
	var refuse bool
	now, most, atFirst := 0, 0, 0
	all := make(chan struct{})
	r := v.remote()
	r.Careful = true
	r.Sign = func(ctx context.Context, r kms.SignRequest) ([]byte, error) {
		mu.Lock()
		now++
		most = max(most, now)
		call := v.calls.Load()
		no := refuse
		mu.Unlock()
		switch {
		case no:
			v.calls.Add(1)
			return nil, &kms.Error{Code: kms.CodeDenied, Class: kms.ErrService, Err: errors.New("locked")}
		case call == 0:
			time.Sleep(20 * time.Millisecond)
			mu.Lock()
			atFirst = most
			mu.Unlock()
		default: // the others come together
			mu.Lock()
			if now == 5 {
				close(all)
			}
			mu.Unlock()
			select {
			case <-all:
			case <-time.After(10 * time.Second):
				t.Error("the others do not sign at once")
			}
		}
		sig, err := v.sign(ctx, r)
		mu.Lock()
		now--
		mu.Unlock()
		return sig, err
	}
	k := opened(t, r)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if _, err := k.Sign(t.Context(), nil, crypto.SHA256); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if atFirst != 1 || most != 5 {
		t.Errorf("%d during the first, %d at once after it", atFirst, most)
	}
	// A refusal later is the last one, too.
	mu.Lock()
	refuse = true
	mu.Unlock()
	before := v.calls.Load()
	for range 3 {
		if _, err := k.Sign(t.Context(), nil, crypto.SHA256); reason(t, err) != kms.CodeDenied {
			t.Errorf("%v", err)
		}
	}
	if n := v.calls.Load() - before; n != 1 {
		t.Errorf("%d calls after it was refused", n)
	}
}

// TestCarefulOtherFaults: only a refusal ends it, and only for keys that count refusals.
func TestCarefulOtherFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code    string
		careful bool
		calls   int64
	}{{kms.CodeUnusable, true, 3}, {kms.CodeService, true, 3}, {kms.CodeDenied, true, 1}, {kms.CodeDenied, false, 3}, {kms.CodeCredentials, false, 3}} {
		v := &vault{key: certtest.Key("P-256")}
		r := v.remote()
		r.Careful = c.careful
		r.Sign = func(context.Context, kms.SignRequest) ([]byte, error) {
			v.calls.Add(1)
			return nil, fault(c.code)
		}
		k := opened(t, r)
		for range 3 {
			if _, err := k.Sign(t.Context(), nil, crypto.SHA256); reason(t, err) != c.code {
				t.Errorf("%v", err)
			}
		}
		if n := v.calls.Load(); n != c.calls {
			t.Errorf("%s, careful %v: %d calls, want %d", c.code, c.careful, n, c.calls)
		}
	}
}

// TestCarefulIsCancelled: who waits for the first signature, behind a person who is looking for a PIN, can be told not to.
func TestCarefulIsCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vault{key: certtest.Key("P-256")}
		r := v.remote()
		r.Careful, r.Patience = true, time.Hour
		r.Sign = func(ctx context.Context, s kms.SignRequest) ([]byte, error) {
			time.Sleep(time.Minute)
			return v.sign(ctx, s)
		}
		k := opened(t, r)
		first := make(chan error, 1)
		go func() {
			_, err := k.Sign(t.Context(), nil, crypto.SHA256)
			first <- err
		}()
		synctest.Wait()
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := k.Sign(ctx, nil, crypto.SHA256); !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "signing with testkms:key/1: ") {
			t.Error(err)
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("it waited for %s", took)
		}
		if err := <-first; err != nil || v.calls.Load() != 1 {
			t.Errorf("%v, %d calls", err, v.calls.Load())
		}
	})
}
