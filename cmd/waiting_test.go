package cmd

import (
	"context"
	"strings"
	"testing"
	"time"
)

// Who waits for a key service is told why, once; not with -q, and nothing but JSON with -o json.
func TestWaitingForTheKeyService(t *testing.T) {
	t.Parallel()
	for name, told := range map[string]bool{"": true, "-q": false, "-o=json": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.cloud("awskms", &cloud{sign: func(ctx context.Context, _ int64) error {
				select {
				case <-time.After(3500 * time.Millisecond):
				case <-ctx.Done():
				}
				return ctx.Err()
			}})
			w.issued(c)
			args := []string{"key", "show", alias, "--probe"}
			if name != "" {
				args = append(args, name)
			}
			o := w.run(args...)
			const line = "imprint: still waiting for the key service: no answer yet\n"
			if o.code != 0 || strings.Count(o.err, line) != map[bool]int{true: 1}[told] {
				t.Errorf("exit code %d, it says %q", o.code, o.err)
			}
		})
	}
}
