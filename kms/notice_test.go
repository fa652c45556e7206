package kms_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imprint-oci/imprint/kms"
)

// Who waits for longer than three seconds is told so once, and why; who does not wait long is told nothing.
func TestAskTellsWhoWaits(t *testing.T) {
	t.Parallel()
	const throttled = "the service says key-throttled"
	for name, c := range map[string]struct {
		answers []answer
		want    []string
	}{
		"at once":            {[]answer{fine}, nil},
		"two seconds":        {[]answer{slowly(2*time.Second, fine)}, nil},
		"silent at first":    {[]answer{slowly(4*time.Second, fine)}, []string{"no answer yet"}},
		"busy for long":      {[]answer{busy, busy, busy, busy, busy, busy, fine}, []string{throttled}},
		"busy, then working": {[]answer{busy, slowly(9*time.Second, fine)}, []string{throttled}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var told []string
				ctx := kms.WithNotice(t.Context(), func(why string) { told = append(told, why) })
				if _, _, err := ask(ctx, kms.DefaultPatience, c.answers); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if !slices.Equal(told, c.want) {
					t.Errorf("told %q, want %q", told, c.want)
				}
			})
		})
	}
}
