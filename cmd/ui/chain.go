package ui

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/certchain"
)

// A Chain is certificates that are, or were to be, a signing chain.
type Chain struct {
	Files        []string                `json:"files"`
	KeptAt       string                  `json:"keptAt,omitempty"` // key URI: certificates kept beside that key belong to it too
	Complete     bool                    `json:"complete"`         // leaf to root, in this order; else as they stand in the files
	Certificates []certchain.Certificate `json:"certificates"`
	HoldsFrom    *time.Time              `json:"holdsFrom,omitempty"`
	HoldsUntil   *time.Time              `json:"holdsUntil,omitempty"`
	FirstToEnd   string                  `json:"firstToEnd,omitempty"`
}

// A Finding is a rule that is broken.
type Finding struct {
	Reason      string `json:"reason"`
	Certificate string `json:"certificate,omitempty"` // its SHA-256
	Detail      string `json:"detail"`
}

// A ShownChain is what `chain show` says.
type ShownChain struct {
	Chain
	Finding *Finding `json:"finding,omitempty"` // why they are no chain
}

// ChainShow writes everything about certificates, in the order of the chain if they are one.
func ChainShow(w io.Writer, c ShownChain, now time.Time) {
	word := "chain"
	if c.Complete {
		headline(w, plain, word, names(c.Files), "")
	} else {
		word = "certificates"
		headline(w, open, word, names(c.Files), c.Finding.Reason)
	}
	for i, cert := range c.Certificates {
		fmt.Fprintln(w)
		field(w, 2, role(c.Chain, i), cert.Subject)
		field(w, 2, "", "sha256:"+cert.Thumbprint)
		if !cert.SelfSigned && (!c.Complete || i == len(c.Certificates)-1) {
			field(w, 2, "issued by", cert.Issuer)
		}
		field(w, 2, "key", cert.Key)
		field(w, 2, "serial", cert.Serial)
		field(w, 2, "valid", fmt.Sprintf("%s to %s, %s", minute(cert.NotBefore), minute(cert.NotAfter), lasting(cert, now)))
	}
	fmt.Fprintln(w)
	if c.Complete {
		field(w, 2, "holds until", holds(c.Chain, now))
	} else {
		field(w, 2, "no chain", c.Finding.Detail)
	}
	fmt.Fprintln(w)
	if c.Complete {
		fmt.Fprintf(w, "%s, leaf to root; not checked: imprint chain check does\n", plural(len(c.Certificates), "certificate"))
	} else {
		fmt.Fprintf(w, "%s, in the order of the file\n", plural(len(c.Certificates), "certificate"))
	}
}

// A CheckedChain is what `chain check` says.
type CheckedChain struct {
	Valid  bool      `json:"valid"`
	Reason string    `json:"reason,omitempty"` // that of the first finding
	At     time.Time `json:"at"`
	Chain
	Key        *Key      `json:"key,omitempty"`        // that it was compared with
	KeyMatches *bool     `json:"keyMatches,omitempty"` // the leaf is for that key
	Findings   []Finding `json:"findings"`
	Hint       string    `json:"hint,omitempty"`     // what to do about the first
	Calls      int       `json:"keyCalls,omitempty"` // that it took to learn which key it is
}

// ChainCheck writes whether a chain is good, and for how long.
func ChainCheck(w io.Writer, c CheckedChain) {
	if c.Valid {
		headline(w, good, "valid", c.from(), "")
	} else {
		headline(w, bad, "invalid", c.from(), c.Reason)
	}
	fmt.Fprintln(w)
	for _, f := range c.Findings {
		field(w, 2, "why", f.Detail)
	}
	field(w, 2, "at", minute(c.At))
	if c.HoldsUntil != nil {
		field(w, 2, "holds until", holds(c.Chain, c.At))
	}
	switch {
	case c.Key == nil:
		field(w, 2, "key", "not compared (--key)")
	case c.Key.SHA256 == "":
		field(w, 2, "key", "not compared: the plugin tells its public key with each signature alone")
	case c.KeyMatches == nil:
		field(w, 2, "key", "not compared: there is no chain to compare it with")
	case *c.KeyMatches:
		whole(w, 2, "key", nameOf(*c.Key))
		field(w, 2, "", "the leaf is for it")
	default:
		whole(w, 2, "key", nameOf(*c.Key))
		field(w, 2, "", "the leaf is for another key")
	}
	field(w, 2, "revocation", "not checked")
	fmt.Fprintln(w)
	chainTable(w, c.Chain, c.At)
	fmt.Fprintln(w)
	if c.Valid {
		fmt.Fprintf(w, "%s, leaf to root; every rule of the Notary Project holds%s\n", plural(len(c.Certificates), "certificate"), opening(c.Calls))
		return
	}
	fmt.Fprintf(w, "%s, %s broken%s\n", plural(len(c.Certificates), "certificate"), plural(len(c.Findings), "rule"), opening(c.Calls))
}

// opening says what it took to learn which key a key is: nothing, but of a plugin.
func opening(calls int) string {
	if calls == 0 {
		return ""
	}
	return "; " + plural(calls, "call") + " to the key service"
}

func nameOf(k Key) string {
	if k.ID != "" {
		return k.ID
	}
	return k.Key
}

// A BuiltChain is what `chain build` made.
type BuiltChain struct {
	Out string `json:"out,omitempty"`
	Chain
	LeftOut     []certchain.Certificate `json:"leftOut,omitempty"`
	Fetched     []string                `json:"fetched,omitempty"`     // SHA-256 of those of the chain that were in no file but published by it
	FetchedRoot string                  `json:"fetchedRoot,omitempty"` // the root, if it is one of them
	Key         *Key                    `json:"key,omitempty"`
	Calls       int                     `json:"keyCalls,omitempty"` // that it took to learn which key it is
	PEM         string                  `json:"pem"`
}

// ChainBuild writes which chain was built.
func ChainBuild(w io.Writer, c BuiltChain, now time.Time) {
	headline(w, good, "built", c.Out, "")
	fmt.Fprintln(w)
	field(w, 2, "identity", c.Certificates[0].Subject)
	if c.Key != nil {
		whole(w, 2, "key", nameOf(*c.Key))
		field(w, 2, "", "the leaf is for it")
	}
	field(w, 2, "holds until", holds(c.Chain, now))
	if c.FetchedRoot != "" {
		field(w, 2, "root", "fetched, and anybody on the way could have sent it: compare its fingerprint")
		field(w, 2, "", "sha256:"+c.FetchedRoot)
	}
	fmt.Fprintln(w)
	chainTable(w, c.Chain, now, c.Fetched...)
	for i, cert := range c.LeftOut {
		if i == 0 {
			fmt.Fprintln(w, "\n  left out:")
		}
		field(w, 4, cert.Thumbprint[:12], "  "+cert.Subject)
	}
	from := ""
	if len(c.Fetched) > 0 {
		from = fmt.Sprintf(", %d fetched", len(c.Fetched))
	}
	fmt.Fprintf(w, "\n%s, leaf to root%s; %d left out; 1 file written%s\n", plural(len(c.Certificates), "certificate"), from, len(c.LeftOut), opening(c.Calls))
}

// chainTable lists certificates, and marks the one that ends first and those that were fetched.
func chainTable(w io.Writer, c Chain, now time.Time, fetched ...string) {
	first := firstToEnd(c.Certificates)
	var rows [][]string
	for i, cert := range c.Certificates {
		mark := ""
		if i == first && c.Complete && len(c.Certificates) > 1 {
			mark = "first"
		}
		if slices.Contains(fetched, cert.Thumbprint) {
			mark = strings.TrimSpace(mark + " fetched")
		}
		rows = append(rows, []string{role(c, i), fit(common(cert.Subject), 36), cert.Thumbprint[:12], day(cert.NotAfter), lasting(cert, now), mark})
	}
	table(w, []column{{}, {head: "CERTIFICATE"}, {head: "SHA-256"}, {head: "UNTIL"}, {}, {}}, rows)
}

// firstToEnd returns the index of the certificate that ends first; of several it is the one nearest to the leaf.
func firstToEnd(certs []certchain.Certificate) int {
	first := 0
	for i, c := range certs {
		if c.NotAfter.Before(certs[first].NotAfter) {
			first = i
		}
	}
	return first
}

// lasting says how much time a certificate has left.
func lasting(c certchain.Certificate, now time.Time) string {
	switch {
	case now.After(c.NotAfter):
		return left(c.NotAfter, now)
	case now.Before(c.NotBefore):
		return "starts " + day(c.NotBefore)
	}
	return left(c.NotAfter, now) + " left"
}

// role is what the certificate does in the chain.
func role(c Chain, i int) string {
	cert := c.Certificates[i]
	switch {
	case c.Complete && i == 0:
		return "leaf"
	case cert.CA && cert.SelfSigned:
		return "root"
	case cert.CA:
		return "issuer"
	}
	return "leaf"
}

func holds(c Chain, now time.Time) string {
	until := fmt.Sprintf("%s (%s)", day(*c.HoldsUntil), left(*c.HoldsUntil, now))
	if c.HoldsFrom.After(*c.HoldsUntil) {
		return "never: " + day(*c.HoldsFrom) + " is when the last certificate starts, and " + day(*c.HoldsUntil) + " when the first ends"
	}
	if len(c.Certificates) > 1 {
		until += "  first to expire: " + common(c.FirstToEnd)
	}
	return until
}

// from names where the certificates were found.
func (c Chain) from() string {
	const kept = "what is kept beside the key"
	switch {
	case c.KeptAt == "":
		return names(c.Files)
	case len(c.Files) == 0:
		return kept
	}
	return names(c.Files) + " and " + kept
}

// names shortens a list of files.
func names(files []string) string {
	if len(files) > 3 {
		return fmt.Sprintf("%s and %s", strings.Join(files[:2], ", "), plural(len(files)-2, "more file"))
	}
	return strings.Join(files, ", ")
}
