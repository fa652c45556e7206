package ui

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/signer"
)

// PruneWord says what became of an artifact whose superseded signatures were to go.
func PruneWord(r signer.PruneResult) string {
	n := pruneCounts(r)
	switch {
	case n[signer.PruneDeleted]+n[signer.PruneUnlisted] > 0:
		return "pruned"
	case n[signer.PruneGoes]+n[signer.PruneUnlists] > 0:
		return "planned"
	case n[signer.PruneLeft] > 0:
		return "old-left"
	}
	return "kept"
}

func pruneCounts(r signer.PruneResult) map[string]int {
	n := map[string]int{}
	for _, s := range r.Signatures {
		n[s.Status]++
	}
	return n
}

// Prune writes what goes, what stays and why.
func Prune(w io.Writer, r signer.PruneResult) {
	word, style := PruneWord(r), good
	if r.DryRun {
		word, style = "plan", plain
	}
	headline(w, style, word, r.Reference, "")
	under(w, word, r.Digest.String())
	if len(r.Signatures) > 0 {
		fmt.Fprintln(w)
		var rows [][]string
		for _, s := range r.Signatures {
			rows = append(rows, []string{short(s.Signature), common(s.Identity), endOf(s.HoldsUntil), s.Status, s.Reason, pruneFor(s)})
		}
		table(w, []column{{head: "SIGNATURE"}, {head: "SIGNED BY", most: 24}, {head: "HOLDS UNTIL"}, {}, {head: "WHY"}, {}}, rows)
	}
	var notes strings.Builder
	pruneNotes(&notes, r)
	if notes.Len() > 0 {
		fmt.Fprintf(w, "\n%s", notes.String())
	}
	fmt.Fprintf(w, "\n%s\n", pruneSum(r))
}

func endOf(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return day(*t)
}

// pruneFor names the other signature that decides.
func pruneFor(s signer.PrunedSignature) string {
	if s.Survivor == "" {
		return ""
	}
	if s.Status == signer.PruneStays {
		return "beside " + short(s.Survivor)
	}
	return "by " + short(s.Survivor)
}

// pruneNotes says what the table has no room for: why something stays that is superseded, and who loses what goes.
func pruneNotes(w io.Writer, r signer.PruneResult) {
	label := "to note"
	rows := 0
	note := func(text string) {
		if rows++; rows <= maxRows {
			field(w, 2, label, curtailed(text))
		}
		label = ""
	}
	seen := map[string]bool{}
	for _, s := range r.Signatures {
		if s.Status == signer.PruneStays && s.Detail != "" || s.Status == signer.PruneUnlists {
			note(fmt.Sprintf("%s %s: %s", short(s.Signature), s.Status, s.Detail))
		}
		if len(s.OnlyHere) == 0 || s.Status == signer.PruneStays {
			continue
		}
		var names []string
		key := ""
		for _, c := range s.OnlyHere {
			names = append(names, fmt.Sprintf("%s (%s)", common(c.Subject), c.Thumbprint[:min(len(c.Thumbprint), 12)]))
			key += c.Thumbprint
		}
		if !seen[key] {
			seen[key] = true
			note("verifiers that trust one of these itself, and not the root, have only what goes: " + list(names))
		}
	}
	if r.Left != "" {
		note(r.Left)
	}
	for _, text := range r.Warnings {
		note(text)
	}
	if rows > maxRows {
		field(w, 2, "", fmt.Sprintf("… %s more: -o json", number(rows-maxRows)))
	}
}

func pruneSum(r signer.PruneResult) string {
	n := pruneCounts(r)
	of := plural(len(r.Signatures), "signature")
	goes := n[signer.PruneGoes] + n[signer.PruneUnlists]
	done := n[signer.PruneDeleted] + n[signer.PruneUnlisted]
	switch {
	case r.DryRun && goes > 0:
		return fmt.Sprintf("%s of %s to delete: add --yes. Nothing was written.", number(goes), of)
	case r.DryRun:
		return fmt.Sprintf("nothing to delete: %s. Nothing was written.", of)
	case done > 0:
		text := fmt.Sprintf("%s of %s deleted", number(done), of)
		if n[signer.PruneLeft] > 0 {
			text += fmt.Sprintf(", %s left by the registry", number(n[signer.PruneLeft]))
		}
		return text
	case n[signer.PruneLeft] > 0:
		return fmt.Sprintf("%s of %s superseded, and left by the registry", number(n[signer.PruneLeft]), of)
	}
	return "nothing to delete: " + of
}

// PruneLine writes it in one line.
func PruneLine(w io.Writer, r signer.PruneResult) {
	n := pruneCounts(r)
	goes, done := n[signer.PruneGoes]+n[signer.PruneUnlists], n[signer.PruneDeleted]+n[signer.PruneUnlisted]
	text := plural(n[signer.PruneStays], "signature")
	switch {
	case goes > 0 && done > 0: // interrupted, or refused, half-way
		text = fmt.Sprintf("%s deleted, %s still to delete, %s kept", number(done), number(goes), number(n[signer.PruneStays]))
	case goes > 0:
		text = fmt.Sprintf("%s to delete, %s kept", number(goes), number(n[signer.PruneStays]))
	case done > 0:
		text = fmt.Sprintf("%s deleted, %s kept", number(done), number(n[signer.PruneStays]))
	}
	if n[signer.PruneLeft] > 0 {
		text += fmt.Sprintf(", %s left by the registry", number(n[signer.PruneLeft]))
	}
	style := good
	if r.DryRun {
		style = plain
	}
	fmt.Fprintf(w, "%s  %s  %s  %s\n", style.Render(Pad(PruneWord(r), 8)), Escape(undigested(r.Reference)), short(r.Digest), text)
}
