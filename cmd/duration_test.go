package cmd

import (
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for text, want := range map[string]struct {
		length time.Duration
		told   string
	}{
		"45s": {45 * time.Second, "45s"}, "30m": {30 * time.Minute, "30m"}, "12h": {12 * time.Hour, "12h"}, "90d": {90 * day, "90d"},
		"2w": {14 * day, "14d"}, "1w1d": {8 * day, "8d"}, "1d12h": {36 * time.Hour, "1d12h"},
	} {
		var d duration
		if err := d.Set(text); err != nil || time.Duration(d) != want.length || d.String() != want.told {
			t.Errorf("%s is %s, told as %q, %v", text, time.Duration(d), d.String(), err)
		}
	}
	for _, text := range []string{"", "0d", "-1d", "2W", "1d2w", "w", "2", "1.5w", "1w 1d", "99999999999999999999d", "16000w"} {
		d := duration(time.Second)
		if err := d.Set(text); err == nil || d != duration(time.Second) {
			t.Errorf("%q is %s, %v", text, time.Duration(d), err)
		}
	}
}
