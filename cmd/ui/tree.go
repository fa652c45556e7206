package ui

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/audit"
)

// Tree writes an artifact and all that refers to it.
func Tree(w io.Writer, t audit.Tree) {
	fmt.Fprintln(w, Escape(t.Reference))
	fmt.Fprintln(w, Escape(t.Root.Descriptor.Digest.String()))
	fmt.Fprintln(w)
	var rows []treeRow
	collect(&rows, t.Root, "", "", t.Now)
	width, dates := 0, 0
	for _, r := range rows {
		width, dates = max(width, Width(r.name)), max(dates, Width(r.until))
	}
	width = min(width, 46)
	n := treeCount{}
	for _, r := range rows {
		line := Pad(cut(r.name, width), width) + "  " + Pad(short(r.branch.Descriptor.Digest), 12) + "  " +
			fmt.Sprintf("%8s", bytesOf(r.branch.Descriptor.Size))
		if r.until != "" {
			line += "  " + Pad(r.until, dates)
		}
		if r.detail != "" {
			line += "  " + cut(r.detail, Columns-Width(line)-2)
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
		n.add(r.branch)
	}
	for _, s := range t.Skipped {
		fmt.Fprintln(w)
		field(w, 0, "left out", fmt.Sprintf("%s: %s (%s)", short(s.Descriptor.Digest), s.Detail, s.Reason))
	}
	fmt.Fprintf(w, "\n%s, %s, %s\n", plural(n.images, "image manifest"), plural(n.signatures, "signature"), plural(n.others, "other referrer"))
}

type treeRow struct {
	name, until, detail string
	branch              audit.Branch
}

type treeCount struct{ images, signatures, others int }

func (n *treeCount) add(b audit.Branch) {
	switch {
	case b.Role != "referrer":
		n.images++
	case isSignature(b):
		n.signatures++
	default:
		n.others++
	}
}

func isSignature(b audit.Branch) bool { return b.What == "signature" }

// collect lists a branch with what is in it and then what refers to it, children first.
func collect(rows *[]treeRow, b audit.Branch, lead, below string, now time.Time) {
	name := Escape(b.What)
	until, detail := "", Escape(b.Detail)
	if b.HoldsUntil != nil {
		until, detail = fmt.Sprintf("%s (%s)", day(*b.HoldsUntil), left(*b.HoldsUntil, now)), Escape(brief(b.Identity))
	}
	if b.Again {
		until, detail = "", "shown above"
	}
	*rows = append(*rows, treeRow{lead + name, until, detail, b})
	all := append(append([]audit.Branch{}, b.Children...), b.Referrers...)
	for i, c := range all {
		if i == len(all)-1 {
			collect(rows, c, below+"└── ", below+"    ", now)
		} else {
			collect(rows, c, below+"├── ", below+"│   ", now)
		}
	}
}
