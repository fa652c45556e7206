package ui

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust"
)

// Verify writes a verdict and what it rests on.
func Verify(w io.Writer, r trust.Report) {
	word, style := r.Verdict, bad
	switch {
	case r.Verdict == trust.Accepted:
		style = good
	case r.Passed():
		word, style = r.Verdict+", not enforced:", open
	case r.Verdict == trust.Undetermined:
		style = open
	}
	headline(w, style, word, r.Reference, r.Reason)
	under(w, word, r.Digest.String())
	fmt.Fprintln(w)

	best := accepting(r)
	if best != nil {
		text := best.Identity
		if best.Root != "" {
			text += "     root " + best.Root
		}
		field(w, 2, "signed by", text)
	}
	if r.JudgedAs != "" {
		field(w, 2, "judged as", r.JudgedAs)
	}
	field(w, 2, "rule", rule(r))
	if best != nil {
		field(w, 2, "claims", claimed(r, *best))
		if len(best.Metadata) > 0 {
			field(w, 2, "metadata", pairs(best.Metadata))
		}
		if best.SignedAt != nil {
			field(w, 2, "signed", fmt.Sprintf("%s (%s), %s", minute(*best.SignedAt), age(*best.SignedAt, r.Now), expiry(*best, r)))
		}
		if text := stamped(r, *best); text != "" {
			field(w, 2, "timestamp", text)
		}
		switch {
		case best.HoldsUntil != nil:
			field(w, 2, "holds until", fmt.Sprintf("%s (%s)  first to expire: %s",
				day(*best.HoldsUntil), left(*best.HoldsUntil, r.Now), ending(best.FirstToEnd)))
		case best.Timestamp != nil && best.Timestamp.Status == trust.StampGood:
			field(w, 2, "holds until", "no end: its timestamp keeps it beyond the end of its chain")
		}
		field(w, 2, "revocation", r.Revocation)
	}
	if r.Verdict != trust.Accepted && r.Detail != "" && !told(r) {
		field(w, 2, "why", r.Detail)
	}
	for _, warning := range r.Warnings {
		field(w, 2, "to note", warning)
	}
	if r.Verdict != trust.Accepted && len(r.Signatures) > 0 {
		fmt.Fprintln(w)
		rejections(w, r)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, verifyCount(r))
}

// stamped says what was made of a signature's timestamp; nothing where there is none and none is asked for.
func stamped(r trust.Report, sig trust.Judged) string {
	s := sig.Timestamp
	switch {
	case s == nil && r.Scope != nil && r.Scope.Timestamps != nil:
		return "none: it is refused once a certificate has expired"
	case s == nil:
		return ""
	case s.Status == trust.StampIgnored:
		return s.Detail
	case s.Status == trust.StampRefused:
		return fmt.Sprintf("not accepted, and not asked for before a certificate has expired: %s (%s)", s.Detail, s.Reason)
	}
	text := minute(*s.At)
	if s.Accuracy != "" {
		text += " ± " + s.Accuracy
	}
	return fmt.Sprintf("%s by %s (root %s); revocation of the TSA not checked", text, common(s.By), common(s.Root))
}

// told reports whether the table of signatures says the verdict's detail.
func told(r trust.Report) bool {
	for _, sig := range r.Signatures {
		if sig.Detail == r.Detail {
			return true
		}
	}
	return false
}

// rejections is the table of signatures that were not accepted.
func rejections(w io.Writer, r trust.Report) {
	const by, why = 40, 40
	var rows [][]string
	for _, sig := range r.Signatures {
		if sig.Accepted {
			continue
		}
		signer := "unreadable"
		if sig.Identity != "" {
			signer = brief(sig.Identity)
			if root := rootOf(sig); root != "" {
				signer += " (root " + root + ")"
			}
		}
		rows = append(rows, []string{
			short(sig.Digest),
			strings.Join(fold(Escape(signer), by), "\n"),
			strings.Join(append(fold(Escape(sig.Detail), why), Escape(sig.Reason)), "\n"),
		})
	}
	if len(rows) > 0 {
		table(w, []column{{head: "SIGNATURE"}, {head: "SIGNED BY"}, {head: "WHY NOT"}}, rows)
	}
}

// VerifyLine writes a verdict in one line.
func VerifyLine(w io.Writer, r trust.Report) {
	style, text := bad, r.Reason
	switch {
	case r.Verdict == trust.Accepted:
		style = good
		if best := accepting(r); best != nil {
			text = best.Identity
		}
	case r.Passed():
		style, text = open, r.Reason+" (not enforced)"
	case r.Verdict == trust.Undetermined:
		style = open
	}
	fmt.Fprintf(w, "%s  %s  %s  %s\n", style.Render(Pad(r.Verdict, 12)), Escape(undigested(r.Reference)), short(r.Digest), Escape(text))
}

// VerifyHint says what to do about a rejection. It never suggests loosening the policy.
func VerifyHint(r trust.Report) string {
	switch r.Reason {
	case "claim-not-covered":
		var claims []string
		for _, sig := range r.Signatures {
			if sig.Reason == r.Reason {
				claims = append(claims, sig.Claims...)
			}
		}
		slices.Sort(claims)
		if claims = slices.Compact(claims); len(claims) > 0 {
			return fmt.Sprintf("this digest is signed as %s: deploy one of those, or ask its signer", list(claims))
		}
		return "this digest is signed as part of a release and claims no tag: use the release's own reference, or this digest without a tag"
	case "claims-missing":
		return "its signer can sign it again with a claim: imprint sign REF:TAG, or --claim TAG"
	case "unsigned":
		return "ask whoever built it for a signature; imprint tree " + r.Reference + " shows what refers to it"
	case "no-trusted-signature", "root-not-trusted":
		return "it is signed, by others than this scope trusts: imprint inspect " + r.Reference + " shows who"
	case "identity-mismatch":
		return "the root is trusted, this signer is not: imprint inspect " + r.Reference + " shows who signed"
	case "no-scope":
		return "the policy says nothing of this repository: imprint policy explain " + r.Reference + " shows what it says"
	case "rejected-by-policy":
		return "the policy refuses everything here; imprint policy explain " + r.Reference + " shows where"
	case "certificate-expired":
		return "its signature is still good, its chain has ended: whoever has the renewed chain can put it on with imprint rechain"
	case "expired", "too-old":
		return "ask its signer for a fresh signature, or use a newer release"
	case "timestamp-missing":
		return "the policy always asks for a timestamp; one can be put on without the key while the chain is valid: imprint timestamp " + r.Reference
	case "timestamp-outside-validity":
		return "the chain was not valid at the time of its timestamp; a fresh one needs no key while the chain is valid: imprint timestamp " + r.Reference
	case "timestamp-untrusted":
		return "it is not countersigned by an authority that the policy names: imprint inspect " + r.Reference + " shows by whom"
	case "unfetched":
		return "run it again when the registry answers"
	}
	return "imprint inspect " + r.Reference + " shows everything that its signatures say"
}

// accepting returns the accepted signature that holds longest: until then the verdict stands.
func accepting(r trust.Report) *trust.Judged {
	if r.Verdict != trust.Accepted {
		return nil
	}
	var best *trust.Judged
	for i, sig := range r.Signatures {
		if sig.Accepted && (best == nil || outlasts(sig.HoldsUntil, best.HoldsUntil)) {
			best = &r.Signatures[i]
		}
	}
	return best
}

// outlasts compares ends, of which nil is none.
func outlasts(a, b *time.Time) bool { return b != nil && (a == nil || a.After(*b)) }

// rootOf names the root that a signature was held against, or else the one that its chain ends in.
func rootOf(sig trust.Judged) string {
	if n := len(sig.Chain); sig.Root == "" && n > 0 {
		return common(sig.Chain[n-1].Subject)
	}
	return sig.Root
}

func rule(r trust.Report) string {
	if r.Scope == nil {
		if r.PolicyFile == "" {
			return "none"
		}
		return r.PolicyFile + "  no scope matches"
	}
	s := r.Scope
	says := s.Rule
	if s.Rule == "trust" {
		says = "trusts " + list(s.Trust)
	} else if s.Rule == "reject" {
		says = "rejects everything"
	}
	at := s.File
	if at != "" && s.Line > 0 {
		at = fmt.Sprintf("%s:%d", at, s.Line)
	}
	if s.File == "" || s.Scope == "" {
		return "--root alone: " + says
	}
	return fmt.Sprintf("%s  scope %s %s", at, s.Scope, says)
}

func claimed(r trust.Report, sig trust.Judged) string {
	name := r.Reference
	if r.JudgedAs != "" {
		name = r.JudgedAs
	}
	ref, err := registry.ParseReference(name)
	tag := ref.Tag
	switch {
	case err != nil || !sig.HasClaims:
		return "none: this signature says nothing of tags"
	case tag == "" && len(sig.Claims) == 0:
		return "no tag     none was asked for"
	case tag == "":
		return strings.Join(sig.Claims, ", ") + "     no tag was asked for"
	case len(sig.Claims) == 0:
		return "no tag"
	}
	verb := "cover"
	if len(sig.Claims) == 1 {
		verb = "covers"
	}
	return fmt.Sprintf("%s     %s the tag %s", strings.Join(sig.Claims, ", "), verb, tag)
}

func expiry(sig trust.Judged, r trust.Report) string {
	if sig.Expiry == nil {
		return "no expiry"
	}
	return fmt.Sprintf("expires %s (%s)", minute(*sig.Expiry), left(*sig.Expiry, r.Now))
}

func verifyCount(r trust.Report) string {
	n, of := 0, len(r.Signatures)
	for _, sig := range r.Signatures {
		if sig.Accepted {
			n++
		}
	}
	text := fmt.Sprintf("%d of %s accepted", n, plural(of, "signature"))
	if of == 0 && (r.Reason == "no-scope" || r.Reason == "rejected-by-policy") {
		return "rejected whatever its signatures say"
	}
	if of == 0 {
		return "no signature"
	}
	if r.Verdict == trust.Accepted && of > n {
		if of-n == 1 {
			return text + "; the other was not needed (imprint inspect shows it)"
		}
		return text + fmt.Sprintf("; the other %d were not needed (imprint inspect shows them)", of-n)
	}
	return text
}

// pairs writes metadata in the order of its names.
func pairs(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, ", ")
}
