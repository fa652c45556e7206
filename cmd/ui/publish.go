package ui

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/copy"
	"github.com/imprint-oci/imprint/signer"
)

// A Published is what publish did, or would do.
type Published struct {
	Source      string           `json:"source,omitempty"` // a layout, an archive, "-"
	Files       []string         `json:"files,omitempty"`  // or what the artifact was made of
	Destination string           `json:"destination"`
	Reference   string           `json:"reference"` // what was published: by its first tag, else its digest
	Digest      digest.Digest    `json:"digest"`
	MediaType   string           `json:"mediaType"`
	Tags        []copy.TagResult `json:"tags"`
	Attached    []Attached       `json:"attached,omitempty"`
	Copied      copy.Result      `json:"copied"`
	Signed      signer.Result    `json:"signed"`
	DryRun      bool             `json:"dryRun,omitempty"`
	Warnings    []string         `json:"warnings,omitempty"`
}

// An Attached is a file that was published as a referrer of the artifact.
type Attached struct {
	File         string        `json:"file"`
	ArtifactType string        `json:"artifactType"`
	Digest       digest.Digest `json:"digest"`
}

// PublishWord says what became of an artifact that was to be published.
func PublishWord(p Published) string {
	switch {
	case p.DryRun:
		return "planned"
	case p.Copied.Written > 0 || p.Signed.Written > 0 || tagsWritten(p) > 0:
		return "published"
	}
	return "already published"
}

func tagsWritten(p Published) int {
	n := 0
	for _, t := range p.Tags {
		if t.Status == copy.Written || t.Status == copy.Moved {
			n++
		}
	}
	return n
}

// name is the destination with its first tag.
func (p Published) name() string { return undigested(p.Reference) }

func (p Published) from() string {
	if len(p.Files) > 0 {
		return strings.Join(p.Files, ", ")
	}
	if p.Source == "-" {
		return "an archive on standard input"
	}
	return p.Source
}

// Publish writes what publishing one artifact did.
func Publish(w io.Writer, p Published, now time.Time) {
	word, style := PublishWord(p), good
	if p.DryRun {
		word, style = "plan", plain
	}
	headline(w, style, word, p.name(), "")
	under(w, word, p.Digest.String())
	fmt.Fprintln(w)
	field(w, 2, "from", p.from())
	signFields(w, p.Signed, now)
	for i, t := range p.Tags {
		field(w, 2, first(i, "tags"), tagLine(t))
	}
	if len(p.Tags) == 0 {
		field(w, 2, "tags", "none: it is found by its digest alone")
	}
	for i, a := range p.Attached {
		field(w, 2, first(i, "attached"), a.File+"  "+a.ArtifactType)
	}
	field(w, 2, sentLabel(p), sentLine(p.Copied))
	leftBehind(w, p.Copied)

	fmt.Fprintln(w)
	planned := signTable(w, p.Signed)
	fmt.Fprintln(w)
	if p.DryRun {
		toCopy := 0
		for _, o := range p.Copied.Objects {
			toCopy += one(o.Status == copy.Planned)
		}
		fmt.Fprintf(w, "%s to copy, %s to make, %s to write. Nothing was written.\n",
			plural(toCopy, "manifest"), plural(planned, "signature"), plural(tagsPlanned(p), "tag"))
		fmt.Fprintln(w, "Run this plan: the same command without --dry-run")
		return
	}
	fmt.Fprintf(w, "%s copied, %s there already; ", plural(p.Copied.Written, "manifest"), number(p.Copied.There))
	fmt.Fprintf(w, "%s made, %s there already; ", plural(p.Signed.Written, "signature"), number(p.Signed.There))
	fmt.Fprintf(w, "%s\n", KeyCalls(p.Signed))
	stampedBeside(w, p.Signed)
}

// first is a label where a list begins.
func first(i int, label string) string {
	if i > 0 {
		return ""
	}
	return label
}

func tagsPlanned(p Published) int {
	n := 0
	for _, t := range p.Tags {
		n += one(t.Status == copy.Planned)
	}
	return n
}

func sentLabel(p Published) string {
	if p.DryRun {
		return "to send"
	}
	return "sent"
}

func sentLine(r copy.Result) string {
	sent := bytesOf(r.Bytes)
	if r.Mounted > 0 {
		sent += ", and " + bytesOf(r.Mounted) + " mounted"
	}
	return sent
}

// PublishLine writes it in one line.
func PublishLine(w io.Writer, p Published) {
	style, sent := good, "sent"
	if p.DryRun {
		style, sent = plain, "to send"
	}
	fmt.Fprintf(w, "%s  %s  %s  %s, %s %s\n", style.Render(Pad(PublishWord(p), 17)), Escape(p.name()), short(p.Digest),
		plural(len(p.Signed.Signatures), "signature"), bytesOf(p.Copied.Bytes), sent)
}
