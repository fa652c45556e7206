package ui

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/audit"
	"github.com/imprint-oci/imprint/certchain"
)

// A Delegation is a delegation document as it was made or found. Nothing says that it is trusted.
type Delegation struct {
	Reference  string            `json:"reference,omitempty"`
	File       string            `json:"file,omitempty"`
	From       string            `json:"from,omitempty"`     // that it was made of
	Digest     digest.Digest     `json:"digest,omitempty"`   // of its manifest
	Document   digest.Digest     `json:"document,omitempty"` // of the document itself
	Scope      string            `json:"scope"`
	Version    uint64            `json:"version"`
	Issued     time.Time         `json:"issued"`
	Expires    time.Time         `json:"expires"`
	Grants     []DelegationGrant `json:"grants"`
	Signatures []audit.Signature `json:"signatures,omitempty"`
	Text       string            `json:"text,omitempty"` // the document, where it was made
	Warnings   []string          `json:"warnings,omitempty"`
}

// A DelegationGrant is what a document grants for a scope.
type DelegationGrant struct {
	Scope        string                  `json:"scope"`
	Certificates []certchain.Certificate `json:"certificates"`
	Identities   []string                `json:"identities,omitempty"`
}

// A DelegationPublished is a document that was published, or would be.
type DelegationPublished struct {
	Published
	Delegation Delegation `json:"delegation"`
}

// DelegationMade writes what a new document says.
func DelegationMade(w io.Writer, d Delegation, now time.Time) {
	headline(w, good, "made", d.File, "")
	under(w, "made", d.Document.String())
	fmt.Fprintln(w)
	if d.From != "" {
		field(w, 2, "from", d.From)
	}
	delegationFields(w, d, now)
	fmt.Fprintln(w)
	delegationGrants(w, d.Grants, now)
	fmt.Fprintf(w, "\n%s; it counts for nobody until it is signed\n", grantCount(d.Grants))
	fmt.Fprintf(w, "Sign and publish it: imprint policy delegate publish %s HOST/REPO:TAG\n", Escape(d.File))
}

// DelegationInspect writes all that a document says, and who signed it.
func DelegationInspect(w io.Writer, d Delegation, now time.Time) {
	name := d.Reference
	if name == "" {
		name = d.File
	}
	fmt.Fprintln(w, Escape(name))
	if d.Digest != "" {
		fmt.Fprintln(w, Escape(d.Digest.String()))
	}
	fmt.Fprintf(w, "delegation document, %s\n\n", grantCount(d.Grants))
	delegationFields(w, d, now)
	field(w, 2, "document", d.Document.String())
	delegationSigners(w, d, now)
	if len(d.Grants) > 0 {
		fmt.Fprintln(w)
		delegationGrants(w, d.Grants, now)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "Whether it counts is for a policy to say, by who signed it: imprint verify says what became of it")
}

func delegationFields(w io.Writer, d Delegation, now time.Time) {
	field(w, 2, "scope", d.Scope)
	field(w, 2, "version", fmt.Sprint(d.Version))
	field(w, 2, "issued", fmt.Sprintf("%s (%s)", minute(d.Issued), age(d.Issued, now)))
	field(w, 2, "expires", fmt.Sprintf("%s (%s)", minute(d.Expires), left(d.Expires, now)))
}

// delegationSigners names who signed the document: whoever that is.
func delegationSigners(w io.Writer, d Delegation, now time.Time) {
	switch {
	case d.Reference == "":
		field(w, 2, "signed by", "nobody: it is a file, imprint policy delegate publish signs it")
	case len(d.Signatures) == 0:
		field(w, 2, "signed by", "nobody")
	}
	for i, sig := range d.Signatures {
		label := first(i, "signed by")
		if sig.Identity == "" || sig.Reason != "" || !sig.Covers {
			why := sig.Detail
			if why == "" {
				why = "it signs another artifact"
			}
			field(w, 2, label, fmt.Sprintf("signature %s is not good: %s", short(sig.Digest), why))
			continue
		}
		field(w, 2, label, sig.Identity)
		if n := len(sig.Chain); n > 0 {
			field(w, 2, "", "root "+sig.Chain[n-1].Subject)
			whole(w, 2, "", "sha256 "+sig.Chain[n-1].Thumbprint)
		}
		if sig.HoldsUntil != nil {
			field(w, 2, "", fmt.Sprintf("holds until %s (%s)", day(*sig.HoldsUntil), left(*sig.HoldsUntil, now)))
		}
	}
}

// delegationGrants writes each grant with what there is to compare: a fingerprint in full, on a line of its own.
func delegationGrants(w io.Writer, grants []DelegationGrant, now time.Time) {
	const indent = "    "
	for _, g := range grants {
		for _, l := range fold("GRANT "+Escape(g.Scope), Columns-2) {
			fmt.Fprintln(w, "  "+l)
		}
		for _, c := range g.Certificates {
			policyCertificate(w, c, indent, indent, now)
		}
		for _, id := range g.Identities {
			for _, l := range fold("only "+Escape(id), Columns-len(indent)) {
				fmt.Fprintln(w, indent+l)
			}
		}
	}
}

func grantCount(grants []DelegationGrant) string {
	n := 0
	for _, g := range grants {
		n += len(g.Certificates)
	}
	return plural(len(grants), "grant") + ", " + plural(n, "certificate")
}

// DelegationLine writes it in one line.
func DelegationLine(w io.Writer, d Delegation, now time.Time) {
	name := d.Reference
	if name == "" {
		name = d.File
	}
	var by []string
	for _, sig := range d.Signatures {
		if sig.Identity != "" && sig.Reason == "" && sig.Covers {
			by = append(by, brief(sig.Identity))
		}
	}
	signed := "signed by nobody"
	if len(by) > 0 {
		signed = "signed by " + strings.Join(by, ", ")
	}
	fmt.Fprintf(w, "%s  version %d for %s  %s  until %s (%s)  %s\n", Escape(name), d.Version, Escape(d.Scope), plural(len(d.Grants), "grant"),
		day(d.Expires), left(d.Expires, now), Escape(signed))
}

// DelegationPublish writes what publishing a document did, and what the document says.
func DelegationPublish(w io.Writer, p DelegationPublished, now time.Time) {
	Publish(w, p.Published, now)
	d := p.Delegation
	fmt.Fprintf(w, "Version %d for %s, %s, counts until %s (%s).\n", d.Version, Escape(d.Scope), grantCount(d.Grants), day(d.Expires), left(d.Expires, now))
}
