package cmd

import (
	"errors"
	"math"
	"strconv"
	"time"
)

// A duration is a flag like 2w, 90d, 12h, 30m or 45s, or several in that order: 1d12h. It is never zero or negative.
type duration time.Duration

func (d *duration) Type() string { return "duration" }

// String writes the duration as Set reads it, in days and less; "" is none.
func (d *duration) String() string {
	if *d == 0 {
		return ""
	}
	out, rest := "", time.Duration(*d)
	for _, u := range durationUnits[1:] { // 30d reads better than 4w2d
		if n := rest / u.length; n > 0 {
			out += strconv.FormatInt(int64(n), 10) + string(u.letter)
			rest %= u.length
		}
	}
	return out
}

var durationUnits = []struct {
	letter byte
	length time.Duration
}{{'w', 7 * 24 * time.Hour}, {'d', 24 * time.Hour}, {'h', time.Hour}, {'m', time.Minute}, {'s', time.Second}}

var errDuration = errors.New("a duration is written as 2w, 90d, 12h, 30m or 45s")

func (d *duration) Set(s string) error {
	var sum time.Duration
	next := 0
	for i := 0; i < len(s); {
		start := i
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		if i == start || i == len(s) {
			return errDuration
		}
		n, err := strconv.ParseInt(s[start:i], 10, 64)
		if err != nil {
			return errors.New("that is longer than can be reckoned with")
		}
		u := next
		for u < len(durationUnits) && durationUnits[u].letter != s[i] {
			u++
		}
		if u == len(durationUnits) {
			return errDuration
		}
		length := durationUnits[u].length
		if n > int64((math.MaxInt64-sum)/length) {
			return errors.New("that is longer than can be reckoned with")
		}
		sum += time.Duration(n) * length
		next = u + 1
		i++
	}
	if sum <= 0 {
		return errors.New("a duration is longer than nothing, as 90d")
	}
	*d = duration(sum)
	return nil
}
