package ui

import (
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// A Progress is how far copies are, at one moment.
type Progress struct {
	Items, Done, Running int // of Items that are to be done; with one item there is no telling of items
	// Sent has travelled; Covered is that and what did not have to; Total is what there is, as far as is known.
	Sent, Covered, Total int64
	Rate                 float64 // bytes a second
	// Left is the time that is left, 0 if nobody can tell; Guess: by the items that are done, not by what there is.
	Left  time.Duration
	Guess bool
	Bars  []Bar
}

// A Bar is one large object under way.
type Bar struct {
	Digest     digest.Digest
	Item       string // what it belongs to, "" if there is only one
	Sent, Size int64
}

const maxBars = 6

// ProgressFrame draws p for a terminal: lines of less than columns columns, at most rows of them.
func ProgressFrame(p Progress, columns, rows int) []string {
	// What a person types, ^C, is written after the last line.
	width := max(20, min(columns-5, Columns))
	var lines []string
	shown := min(len(p.Bars), maxBars, max(0, rows-2))
	column := 0
	for _, b := range p.Bars[:shown] {
		column = max(column, Width(bytesOf(b.Size)))
	}
	for _, b := range p.Bars[:shown] {
		lines = append(lines, barLine(b, width, column))
	}
	if more := len(p.Bars) - shown; more > 0 && rows > 1 {
		lines = append(lines, fmt.Sprintf("  … %s more", number(more)))
	}
	total := ProgressLine(p)
	for Width(total) > width {
		cut := strings.LastIndex(total, ", ")
		if cut < 0 {
			total = fit(total, width)
			break
		}
		total = total[:cut]
	}
	return append(lines, total)
}

// ProgressLine says p in one line: first what tells most.
func ProgressLine(p Progress) string {
	var parts []string
	if p.Items > 1 {
		parts = append(parts, fmt.Sprintf("%s of %s done", number(p.Done), number(p.Items)))
		if p.Running > 0 {
			parts = append(parts, number(p.Running)+" under way")
		}
		parts = append(parts, bytesOf(p.Sent)+" sent")
	} else {
		switch {
		case p.Total > 0:
			parts = append(parts, percent(p.Covered, p.Total), fmt.Sprintf("%s of %s", bytesOf(min(p.Covered, p.Total)), bytesOf(p.Total)))
		case p.Sent > 0:
			parts = append(parts, bytesOf(p.Sent)+" sent")
		default:
			return "reading the source"
		}
	}
	if p.Rate > 0 {
		parts = append(parts, rate(p.Rate))
	}
	if p.Left > 0 {
		about := ""
		if p.Guess {
			about = "about "
		}
		parts = append(parts, about+Remaining(p.Left)+" left")
	}
	return strings.Join(parts, ", ")
}

// barLine draws a bar with its figures, sizes in a column; what it belongs to is shown as far as there is room.
func barLine(b Bar, width, column int) string {
	head := fmt.Sprintf("  %s  ", short(b.Digest))
	figures := fmt.Sprintf("  %4s  %*s of %*s", percent(b.Sent, b.Size), column, bytesOf(min(b.Sent, b.Size)), column, bytesOf(b.Size))
	const least, most = 10, 30
	room := width - Width(head) - Width(figures) - len("[]")
	if room < least { // the figures say it all
		if Width(head+figures) > width+2 {
			return cut(head+percent(b.Sent, b.Size), width)
		}
		return head + figures[2:]
	}
	length, item := min(room, most), ""
	if b.Item != "" && room-least > 14 {
		length = max(least, min(most, room-2-Width(Escape(b.Item))))
		item = "  " + tail(b.Item, room-length-2)
	}
	full := length
	if b.Size > 0 {
		full = int(min(b.Sent, b.Size) * int64(length) / b.Size)
	}
	bar := strings.Repeat("=", full)
	if full < length {
		bar = Pad(bar+">", length)
	}
	return head + "[" + bar + "]" + figures + item
}

// percent is how much of total there is, rounded down: 100 % is all of it.
func percent(n, total int64) string {
	if total <= 0 || n >= total {
		return "100%"
	}
	return fmt.Sprintf("%d%%", int(float64(n)/float64(total)*100))
}

func rate(perSecond float64) string { return bytesOf(int64(perSecond)) + "/s" }

// Remaining writes a length of time that is left, with what matters of it.
func Remaining(d time.Duration) string {
	s := int((d + time.Second - 1) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 3600:
		return fmt.Sprintf("%d min", (s+59)/60)
	case s < 48*3600:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	}
	return plural(s/(24*3600), "day")
}

// Travelled says of one object that it was sent, and to which reference.
func Travelled(d digest.Digest, what string, size int64, item string) string {
	return fmt.Sprintf("sent %s  %s  %s  %s", short(d), Pad(what, len("signature")), padLeft(bytesOf(size), len("999.9 MB")), undigested(item))
}

func padLeft(s string, width int) string { return strings.Repeat(" ", max(0, width-Width(s))) + s }
