package kms_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/imprint-oci/imprint/kms"
)

// An answer is what a key service does when it is asked once.
type answer func(ctx context.Context) error

func says(e *kms.Error) answer { return func(context.Context) error { return e } }

func fault(code string) *kms.Error {
	return &kms.Error{Code: code, Class: kms.ErrService, Err: errors.New("the service says " + code), Remedy: "do something"}
}

func fine(context.Context) error { return nil }

func busy(ctx context.Context) error { return later(0)(ctx) }

func later(after time.Duration) answer {
	e := fault(kms.CodeThrottled)
	e.Temporary, e.After = true, after
	return says(e)
}

func final(code string) answer {
	e := fault(code)
	e.Final = true
	return says(e)
}

// silent never answers; its error is as providers make one of a deadline.
func silent(ctx context.Context) error {
	<-ctx.Done()
	e := fault(kms.CodeUnreachable)
	e.Err = ctx.Err()
	return e
}

func slowly(d time.Duration, a answer) answer {
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return a(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func times(n int, a answer, then ...answer) []answer {
	var list []answer
	for range n {
		list = append(list, a)
	}
	return append(list, then...)
}

// ask asks with the answers in turn, the last one for ever.
func ask(ctx context.Context, patience time.Duration, answers []answer) (calls int, took time.Duration, err error) {
	begun := time.Now()
	err = kms.Ask(ctx, patience, func(ctx context.Context) error {
		a := answers[min(calls, len(answers)-1)]
		calls++
		return a(ctx)
	})
	return calls, time.Since(begun), err
}

func TestF31Ask(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	unreachable, denied := says(fault(kms.CodeUnreachable)), says(fault(kms.CodeDenied))
	failing := func(context.Context) error {
		e := fault(kms.CodeService)
		e.Temporary = true
		return e
	}
	plain := errors.New("no error of a provider")
	for _, c := range []struct {
		name    string
		answers []answer
		calls   int
		least   time.Duration // that it takes
		most    time.Duration
		code    string // "": it ends well
		text    string // in the error
	}{
		{"at once", times(1, fine), 1, 0, 0, "", ""},
		{"throttled twice", times(2, busy, fine), 3, 300 * ms, 375 * ms, "", ""},
		{"failing seven times", times(7, failing, fine), 8, 10300 * ms, 12875 * ms, "", ""},
		{"throttled for ever", times(1, busy), 8, 6300 * ms, 12875 * ms, kms.CodeThrottled, "asked 8 times in "},
		{"failing for ever", times(1, failing), 8, 6300 * ms, 12875 * ms, kms.CodeService, "asked 8 times in "},
		{"unreachable once", times(1, unreachable, fine), 2, 500 * ms, 625 * ms, "", ""},
		{"unreachable for ever", times(1, unreachable), 3, 1500 * ms, 1875 * ms, kms.CodeUnreachable, "asked 3 times in "},
		{"unreachable between throttles", []answer{busy, busy, busy, unreachable, busy, unreachable, fine}, 7, 3800 * ms, 4750 * ms, "", ""},
		{"unreachable thrice between throttles", []answer{busy, unreachable, busy, unreachable, busy, unreachable, fine}, 6, 3600 * ms, 4500 * ms,
			kms.CodeUnreachable, "asked 6 times in "},
		{"denied", times(1, denied), 1, 0, 0, kms.CodeDenied, "the service says key-denied"},
		{"unreachable for good", times(1, final(kms.CodeUnreachable), fine), 1, 0, 0, kms.CodeUnreachable, "the service says key-unreachable"},
		{"throttled, then unreachable for good", times(1, busy, final(kms.CodeUnreachable), fine), 2, 100 * ms, 125 * ms, kms.CodeUnreachable, "the service says"},
		{"throttled, then denied", times(1, busy, denied), 2, 100 * ms, 125 * ms, kms.CodeDenied, "the service says key-denied"},
		{"no error of a provider", times(1, func(context.Context) error { return plain }), 1, 0, 0, "none", plain.Error()},
		{"wrapped", times(1, func(ctx context.Context) error { return fmt.Errorf("asking: %w", busy(ctx)) }, fine), 2, 100 * ms, 125 * ms, "", ""},

		{"silent", times(1, silent), 1, 13000 * ms, 13000 * ms, kms.CodeUnreachable, "no answer within 13s: context deadline exceeded"},
		{"silent, a plain error", times(1, slowly(time.Hour, fine)), 1, 13000 * ms, 13000 * ms, kms.CodeUnreachable, "no answer within 13s"},
		{"throttled, then silent", times(1, busy, silent), 2, 13100 * ms, 13125 * ms, kms.CodeUnreachable, "no answer within 13s"},
		{"unreachable, then silent", times(1, unreachable, silent), 2, 13000 * ms, 13000 * ms, kms.CodeUnreachable, "no answer within 13s"},
		{"slowly unreachable, then a plain error", times(1, slowly(5*time.Second, unreachable)), 3, 13000 * ms, 13000 * ms, kms.CodeUnreachable, "no answer within 13s"},
		{"very slowly unreachable", times(1, slowly(12950*ms, unreachable)), 1, 12950 * ms, 12950 * ms, kms.CodeUnreachable, "the service says key-unreachable"},
		{"slowly throttled", times(7, slowly(12*time.Second, busy), slowly(12*time.Second, fine)), 8, 8*12000*ms + 10300*ms, 8*12000*ms + 12875*ms, "", ""},

		{"asked to come later", times(1, later(3*time.Second), fine), 2, 3000 * ms, 3750 * ms, "", ""},
		{"asked to come at once", times(1, later(1), fine), 2, 100 * ms, 125 * ms, "", ""},
		{"asked to come tomorrow", times(1, later(24*time.Hour), fine), 2, 10000 * ms, 12500 * ms, "", ""},
		{"slow after a long pause", times(1, later(time.Hour), slowly(12*time.Second, fine)), 2, 22000 * ms, 24500 * ms, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for range 5 { // pauses are random
				synctest.Test(t, func(t *testing.T) {
					calls, took, err := ask(t.Context(), kms.DefaultPatience, c.answers)
					if calls != c.calls || took < c.least || took > c.most {
						t.Errorf("%d calls in %s, want %d in %s to %s", calls, took, c.calls, c.least, c.most)
					}
					switch {
					case c.code == "" && err != nil:
						t.Errorf("it ends with %v", err)
					case c.code == "":
						return
					case err == nil || !strings.Contains(err.Error(), c.text):
						t.Fatalf("%v does not say %q", err, c.text)
					case strings.Contains(err.Error(), "asked") != strings.Contains(c.text, "asked"):
						t.Errorf("%v", err)
					}
					if c.code == "none" {
						if !errors.Is(err, plain) {
							t.Errorf("%v", err)
						}
						return
					}
					var e *kms.Error
					if reason(t, err) != c.code || !errors.Is(err, kms.ErrService) || !errors.As(err, &e) {
						t.Errorf("%v has the code %s, want %s", err, reason(t, err), c.code)
					} else if e.Remedy == "" && !strings.Contains(c.name, "plain") {
						t.Errorf("what to do next is lost: %v", err)
					}
				})
			}
		})
	}
}

// TestAskDeadline: each call knows how long it may take.
func TestAskDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var left []time.Duration
		note := func(a answer) answer {
			return func(ctx context.Context) error {
				deadline, ok := ctx.Deadline()
				if !ok {
					t.Error("a call without a deadline")
				}
				left = append(left, time.Until(deadline))
				return a(ctx)
			}
		}
		_, _, err := ask(t.Context(), 4*time.Second, []answer{note(slowly(time.Second, says(fault(kms.CodeUnreachable)))), note(later(5 * time.Second)), note(fine)})
		if err != nil {
			t.Fatal(err)
		}
		if len(left) != 3 || left[0] != 4*time.Second || left[1] < 2375*time.Millisecond || left[1] > 2500*time.Millisecond || left[2] != 4*time.Second {
			t.Errorf("the calls had %s", left)
		}
	})
}

func TestAskCancelled(t *testing.T) {
	t.Parallel()
	ended := errors.New("the person pressed Ctrl-C")
	for _, c := range []struct {
		name    string
		after   time.Duration // when the context ends
		answers []answer
		calls   int
	}{
		{"before", 0, times(1, fine), 0},
		{"during a call", time.Second, times(1, silent), 1},
		{"during the second call", time.Second, times(1, busy, silent), 2},
		{"during a pause", time.Second, times(1, later(10*time.Second), fine), 1},
		{"while it answers", time.Second, times(1, func(context.Context) error {
			time.Sleep(time.Second + 1)
			return fault(kms.CodeDenied)
		}), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				if c.after == 0 {
					cancel(ended)
				} else {
					time.AfterFunc(c.after, func() { cancel(ended) })
				}
				calls, took, err := ask(ctx, kms.DefaultPatience, c.answers)
				if calls != c.calls || took > c.after+1 || !errors.Is(err, ended) {
					t.Errorf("%v after %d calls in %s", err, calls, took)
				}
				cancel(nil)
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		calls, took, err := ask(ctx, kms.DefaultPatience, times(1, silent))
		if calls != 1 || took != time.Second || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, kms.ErrService) {
			t.Errorf("our own deadline: %v after %d calls in %s", err, calls, took)
		}
	})
	// What was done in time counts, even if nobody waits any more.
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		_, _, err := ask(ctx, kms.DefaultPatience, times(1, func(context.Context) error { cancel(); return nil }))
		if err != nil {
			t.Errorf("a signature that was made is thrown away: %v", err)
		}
	})
}

func TestText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                "",
		"plain":                           "plain",
		"User is not authorized. ":        "User is not authorized",
		"one\r\n\ttwo\u2028three  four..": "one two three four",
		"\x1b[31mred\x1b[0m\x00\x07":      "[31mred[0m",
		"\u202egnp.exe":                   "gnp.exe", // right-to-left override
		"bad \xff UTF-8":                  "bad UTF-8",
		"schlüssel – 鍵":                   "schlüssel – 鍵",
		strings.Repeat("x", 300):          strings.Repeat("x", 300),
		strings.Repeat("x", 301):          strings.Repeat("x", 297) + "…",
		strings.Repeat("x", 296) + "鍵鍵":   strings.Repeat("x", 296) + "…",
	} {
		got := kms.Text(in)
		if got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
		if len(got) > 300 || !utf8.ValidString(got) {
			t.Errorf("Text(%q) has %d bytes", in, len(got))
		}
	}
}
