package ui

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/audit"
	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
)

// Inspect writes everything that the signatures of an artifact say. It never says "trusted".
func Inspect(w io.Writer, in audit.Inspection) {
	fmt.Fprintln(w, Escape(in.Reference))
	fmt.Fprintln(w, Escape(in.Digest.String()))
	about := []string{plural(len(in.Signatures), "signature")}
	for _, t := range slices.Sorted(maps.Keys(in.Referrers)) {
		about = append(about, fmt.Sprintf("%d %s", in.Referrers[t], Escape(t)))
	}
	for i, l := range fold(fmt.Sprintf("%s, %s; %s", Escape(in.What), bytesOf(in.Artifact.Size), strings.Join(about, ", ")), Columns-2) {
		if i > 0 {
			l = "  " + l
		}
		fmt.Fprintln(w, l)
	}
	all := true
	shown := map[digest.Digest]bool{}
	for _, sig := range in.Signatures {
		fmt.Fprintln(w)
		inspectSignature(w, sig, in, shown[sig.Core])
		shown[sig.Core] = sig.Core != ""
		all = all && sig.Valid && sig.Covers
	}
	fmt.Fprintln(w)
	switch {
	case len(in.Signatures) == 0:
		fmt.Fprintln(w, "It is not signed.")
	case all && len(in.Signatures) == 1:
		fmt.Fprintln(w, "The signature matches its certificate. Whether that certificate is trusted: imprint verify")
	case all:
		fmt.Fprintln(w, "Each signature matches its certificate. Whether that certificate is trusted: imprint verify")
	default:
		fmt.Fprintln(w, "Not every signature is good: see above. Whether those that are may be trusted: imprint verify")
	}
}

// inspectSignature writes one signature; again means that the same one was shown with another chain.
func inspectSignature(w io.Writer, sig audit.Signature, in audit.Inspection, again bool) {
	head := "signature " + short(sig.Digest)
	if sig.Format != "" {
		head += fmt.Sprintf("   %s, %s, %s", strings.ToUpper(sig.Format), sig.Algorithm, sig.Scheme)
	}
	fmt.Fprintln(w, headRight(Escape(head), sameAs(sig)))
	if sig.Reason != "" {
		field(w, 2, "wrong", sig.Detail+" ("+sig.Reason+")")
		if sig.Identity == "" {
			return
		}
	} else if !sig.Covers {
		field(w, 2, "wrong", "it signs another artifact")
	}
	if !again {
		inspectContent(w, sig, in)
	}
	chain(w, sig.Chain, in.Now)
	if sig.HoldsUntil != nil {
		field(w, 2, "holds until", fmt.Sprintf("%s (%s)", day(*sig.HoldsUntil), left(*sig.HoldsUntil, in.Now)))
	}
	field(w, 2, "verifiers", verifiers(sig))
}

// inspectContent writes what was signed, and when.
func inspectContent(w io.Writer, sig audit.Signature, in audit.Inspection) {
	field(w, 2, "made with", sig.Identity)
	field(w, 2, "claims", inspectClaims(sig))
	if len(sig.Metadata) > 0 {
		field(w, 2, "metadata", pairs(sig.Metadata))
	}
	if sig.SignedAt != nil {
		by := ""
		if sig.Agent != "" {
			by = " by " + sig.Agent
		}
		when := fmt.Sprintf("%s (%s)%s", minute(*sig.SignedAt), age(*sig.SignedAt, in.Now), by)
		if sig.Expiry == nil {
			when += ", no expiry"
		}
		field(w, 2, "signed", when)
	}
	if sig.Expiry != nil {
		field(w, 2, "expires", minute(*sig.Expiry)+" ("+left(*sig.Expiry, in.Now)+")")
	}
	if sig.Timestamp != nil {
		field(w, 2, "timestamp", stampedBy(sig, in.Now))
	} else {
		field(w, 2, "timestamp", "none")
	}
}

// stampedBy says when a signature was countersigned, by whom, and until when that one's certificate is valid. The token is taken at its word.
func stampedBy(sig audit.Signature, now time.Time) string {
	at := minute(*sig.Timestamp)
	if sig.TSA == nil {
		return at + " (not checked)"
	}
	return fmt.Sprintf("%s by %s (not checked), TSA certificate until %s (%s)", at, sig.TSA.Subject, day(sig.TSA.NotAfter), left(sig.TSA.NotAfter, now))
}

// headRight puts a remark at a fixed place of a head line, or below it.
func headRight(head, remark string) string {
	if remark == "" {
		return head
	}
	if Width(head) < 58 && 60+Width(remark) <= Columns {
		return Pad(head, 60) + remark
	}
	return head + "\n  " + remark
}

func sameAs(sig audit.Signature) string {
	if len(sig.SameAs) == 0 {
		return ""
	}
	var others []string
	for _, d := range sig.SameAs {
		others = append(others, short(d))
	}
	switch {
	case len(sig.Supersedes) > 0:
		return "newer chain of " + list(others)
	case !sig.Newest:
		return "older chain of " + list(others)
	}
	return "same signature as " + list(others)
}

func inspectClaims(sig audit.Signature) string {
	switch {
	case !sig.HasClaims:
		return "none"
	case len(sig.Claims) == 0:
		return "no tag (it was signed as part of something else)"
	}
	return strings.Join(sig.Claims, ", ")
}

// chain writes the certificates of a chain, leaf first, and which ends first.
func chain(w io.Writer, certs []certchain.Certificate, now time.Time) {
	if len(certs) == 0 {
		return
	}
	first := firstToEnd(certs)
	width := 0
	for _, c := range certs {
		width = max(width, Width(fit(common(c.Subject), 36)))
	}
	label := "chain"
	for i, c := range certs {
		end := left(c.NotAfter, now)
		if !c.NotAfter.Before(now) {
			end += " left"
		}
		mark := ""
		if i == first && len(certs) > 1 {
			mark = "  first"
		}
		fmt.Fprintf(w, "  %s%s  %s to %s  %14s%s\n", Pad(label, labelWidth), Pad(fit(common(c.Subject), 36), width),
			day(c.NotBefore), day(c.NotAfter), end, mark)
		label = ""
	}
}

// verifiers says in which settings stock verifiers who trust the root accept the signature now.
func verifiers(sig audit.Signature) string {
	var out []string
	for _, s := range envelope.Settings() {
		if ok, known := sig.Verifiers[s]; known && ok {
			out = append(out, setting(s)+": pass")
		} else if known {
			out = append(out, setting(s)+": fail")
		}
	}
	if len(out) == 0 {
		return "unknown"
	}
	return strings.Join(out, "   ")
}

// setting names a way in which verifiers judge time.
func setting(s envelope.Setting) string {
	switch s {
	case envelope.NoTSARoot:
		return "no TSA root"
	case envelope.Always:
		return "TSA root, always"
	case envelope.AfterCertExpiry:
		return "TSA root, afterCertExpiry"
	}
	return string(s)
}
