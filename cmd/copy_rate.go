package cmd

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// A byteRate is bytes a second, as people write it: 10MB, 5MiB, 500kB/s. Zero is no limit.
type byteRate struct {
	perSecond int64
	text      string
}

var errRate = errors.New("it is bytes a second with their unit, as 10MB or 5MiB")

// rateUnits are the units of a byteRate. No unit is none: 10 is more likely a mistake than ten bytes.
var rateUnits = map[string]float64{
	"B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
}

// Set reads a rate. It is the Set of pflag.Value.
func (r *byteRate) Set(text string) error {
	number := strings.TrimSuffix(text, "/s")
	unit := strings.TrimLeft(number, "0123456789.")
	number = strings.TrimSuffix(number, unit)
	n, err := strconv.ParseFloat(number, 64)
	n *= rateUnits[unit]
	// Below a kilobyte a second nothing ends.
	if err != nil || n < 1e3 || n > math.MaxInt64/2 {
		return errRate
	}
	*r = byteRate{int64(n), text}
	return nil
}

func (r *byteRate) String() string { return r.text }

// Type names the value in help.
func (r *byteRate) Type() string { return "string" }
