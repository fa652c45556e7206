// Package ui turns results into text: functions from a value to what a person reads.
//
// The rules of every screen: the first word of the first line is the answer, and the only thing in colour; the full
// digest stands once, on a line of its own, elsewhere its first 12 hex digits; times are UTC to the minute with the
// age beside; names of certificates have C first; what was not checked is said; the last line counts. Nothing from
// outside reaches a terminal unescaped. Lines keep within 100 columns.
package ui

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Columns is how wide a screen is made.
const Columns = 100

// A Failure is an item of a batch that was not done.
type Failure struct {
	Item   []string
	Reason string
	Text   string // the whole error
	Detail string // what the reason code does not say; "": the end of Text
	Code   int    // exit code
}

// detail says why, without what a row says already.
func (f Failure) detail() string {
	if f.Detail != "" {
		return f.Detail
	}
	if n := len(f.Item); n > 0 {
		if _, why, ok := strings.Cut(f.Text, " "+f.Item[n-1]+": "); ok {
			return why
		}
	}
	return f.Text
}

// A Count is a number of things with the word for what became of them.
type Count struct {
	N    int
	Word string
}

// Counts are what became of the items of a batch.
type Counts struct {
	Items, Rejected, Failed, NotRun int
	Words                           []Count
	Key, Uses                       string // by which key, and how often it was used; "" by none
	Shard                           string // the share of a list that the items are, as 0/8; "" all of it
	DryRun                          bool
}

// Summary writes the last line of a batch.
func Summary(w io.Writer, c Counts) {
	var parts []string
	for _, n := range c.Words {
		parts = append(parts, number(n.N)+" "+n.Word)
	}
	rejected := c.Rejected
	for _, n := range c.Words { // a rejection that was shown is counted by its word
		if n.Word == "rejected" {
			rejected -= n.N
		}
	}
	for _, n := range []Count{{rejected, "refused"}, {c.Failed, "failed"}, {c.NotRun, "not run"}} {
		if n.N > 0 {
			parts = append(parts, number(n.N)+" "+n.Word)
		}
	}
	if len(c.Words)+c.Rejected > 0 { // lines stand above
		fmt.Fprintln(w)
	}
	uses := ""
	if c.Uses != "" {
		whole(w, 0, "key", c.Key)
		uses = "; " + c.Uses
	}
	of := plural(c.Items, "item")
	if c.Shard != "" {
		of += " of shard " + c.Shard
	}
	if len(parts) == 0 {
		fmt.Fprintf(w, "nothing to do: %s\n", of)
		return
	}
	end := ""
	if c.DryRun {
		end = ". Nothing was written."
	}
	fmt.Fprintf(w, "%s of %s%s%s\n", strings.Join(parts, ", "), of, uses, end)
}

// short is the beginning of a digest as screens show it.
func short(d digest.Digest) string {
	hex := string(d)
	if i := strings.IndexByte(hex, ':'); i >= 0 {
		hex = hex[i+1:]
	}
	if len(hex) > 12 {
		hex = hex[:12]
	}
	return Escape(hex)
}

// Pad fills s with blanks to width columns.
func Pad(s string, width int) string {
	if n := width - Width(s); n > 0 {
		return s + strings.Repeat(" ", n)
	}
	return s
}

// fit escapes s and cuts it to width columns, … for what is gone.
func fit(s string, width int) string { return cut(Escape(s), width) }

func cut(s string, width int) string {
	if Width(s) <= width {
		return s
	}
	out := ""
	for _, r := range s {
		if Width(out+string(r)) > width-1 {
			break
		}
		out += string(r)
	}
	return out + "…"
}

// middle escapes s and cuts it in the middle: how it ends tells it apart.
func middle(s string, width int) string {
	s = Escape(s)
	if Width(s) <= width {
		return s
	}
	end := tail(s, width/2)
	return cut(s, width-Width(end)+1) + strings.TrimPrefix(end, "…")
}

// minute writes a time to the minute, in UTC.
func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") + " UTC" }

func day(t time.Time) string { return t.UTC().Format("2006-01-02") }

// age says how long ago t was.
func age(t, now time.Time) string {
	d := now.Sub(t)
	if d < -time.Minute {
		return "in " + Span(-d)
	}
	if d < time.Minute {
		return "just now"
	}
	return Span(d) + " ago"
}

// left says how much time is left until t.
func left(t, now time.Time) string {
	if t.Sub(now) >= 0 { // by the minute, as times are shown: what was just made for 5 days has 5 days
		return Span(t.Truncate(time.Minute).Sub(now.Truncate(time.Minute)))
	}
	return "ended " + Span(now.Sub(t)) + " ago"
}

// undigested returns a reference without its digest, for lines that show the digest beside it.
func undigested(reference string) string {
	if i := strings.LastIndexByte(reference, '@'); i >= 0 && digest.Digest(reference[i+1:]).Validate() == nil {
		return reference[:i]
	}
	return reference
}

// abbreviated returns a reference with 12 digits of its digest.
func abbreviated(reference string) string {
	name, d, ok := strings.Cut(reference, "@sha256:")
	if !ok || len(d) != 64 {
		return reference
	}
	return name + "@" + d[:12]
}

// curtailed returns a sentence with 12 digits of each digest in it.
func curtailed(text string) string {
	const algorithm, digits = "sha256:", 64
	before, rest, ok := strings.Cut(text, algorithm)
	if !ok {
		return text
	}
	n := len(rest) - len(strings.TrimLeft(rest, "0123456789abcdef"))
	if n != digits {
		return before + algorithm + rest[:n] + curtailed(rest[n:])
	}
	return before + rest[:12] + curtailed(rest[n:])
}

// Span writes a length of time in its largest unit, rounded down: nobody is told of a day that is not there.
func Span(d time.Duration) string {
	const hours, days, years = time.Hour, 24 * time.Hour, 365 * 24 * time.Hour
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < hours:
		return plural(int(d/time.Minute), "minute")
	case d < 2*days:
		return plural(int(d/hours), "hour")
	case d < years:
		return plural(int(d/days), "day")
	}
	return plural(int(d/years), "year")
}

// one counts what is so.
func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// plural writes a number of things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return number(n) + " " + thing + "s"
}

// number writes n with commas between thousands.
func number(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// bytesOf writes a number of bytes in decimal units.
func bytesOf(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}
