package ui

import (
	"cmp"
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
	if best != nil && len(r.Groups) == 0 {
		field(w, 2, "signed by", signedBy(*best))
	}
	if r.JudgedAs != "" {
		field(w, 2, "judged as", r.JudgedAs)
	}
	field(w, 2, "rule", rule(r))
	if text := delegated(r); text != "" {
		field(w, 2, "delegation", text)
	}
	if best != nil {
		if len(r.Groups) == 0 {
			field(w, 2, "claims", claimed(r, *best))
			if len(best.Metadata) > 0 {
				field(w, 2, "metadata", pairs(best.Metadata))
			}
			if best.SignedAt != nil {
				field(w, 2, "signed", fmt.Sprintf("%s (%s), %s", minute(*best.SignedAt), age(*best.SignedAt, r.Now), expiry(*best, r)))
			}
		}
		if text := stamped(r, *best); text != "" {
			field(w, 2, "timestamp", text)
		}
		field(w, 2, "holds until", acceptedUntil(r, *best))
		field(w, 2, "revocation", revoked(r, *best))
	}
	if r.Verdict != trust.Accepted && r.Detail != "" && !told(r) {
		field(w, 2, "why", r.Detail)
	}
	for _, warning := range r.Warnings {
		field(w, 2, "to note", warning)
	}
	if len(r.Groups) > 0 {
		fmt.Fprintln(w)
		groups(w, r)
	}
	if r.Verdict != trust.Accepted && slices.ContainsFunc(r.Signatures, func(sig trust.Judged) bool { return !sig.Accepted }) {
		fmt.Fprintln(w)
		rejections(w, r)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, verifyCount(r))
}

// signedBy names who signed, and each root that accepts it.
func signedBy(sig trust.Judged) string {
	var roots []string
	for _, by := range sig.AcceptedBy {
		roots = append(roots, by.Root)
	}
	if len(roots) == 0 && sig.Root != "" {
		roots = []string{sig.Root}
	}
	switch len(roots) {
	case 0:
		return sig.Identity
	case 1:
		return sig.Identity + "     root " + roots[0]
	}
	return sig.Identity + "     roots " + list(roots)
}

// acceptedUntil says until when the signature is accepted as it is.
func acceptedUntil(r trust.Report, sig trust.Judged) string {
	switch {
	case sig.HoldsUntil != nil && sig.FirstToEnd == "delegation":
		return fmt.Sprintf("%s (%s)  first to expire: the delegation", day(*sig.HoldsUntil), left(*sig.HoldsUntil, r.Now))
	case sig.HoldsUntil != nil:
		return fmt.Sprintf("%s (%s)  first to expire: %s", day(*sig.HoldsUntil), left(*sig.HoldsUntil, r.Now), ending(sig.FirstToEnd))
	case sig.Timestamp != nil && sig.Timestamp.Status == trust.StampGood:
		return "no end: its timestamp keeps it beyond the end of its chain"
	}
	return "no end: a signing authority vouches for the time at which it was made"
}

// revoked says what is known of the revocation of what the signature rests on.
func revoked(r trust.Report, sig trust.Judged) string {
	found := sig.Revocation
	if found == nil {
		return r.Revocation
	}
	var by, wrong []string
	for _, c := range found.Certificates {
		if c.By != "" && !slices.Contains(by, c.By) {
			by = append(by, c.By)
		}
		if c.Status == found.Status && c.Status != trust.RevocationGood {
			text := common(c.Certificate)
			if c.Detail != "" {
				text += " (" + c.Detail + ")"
			}
			wrong = append(wrong, text)
		}
	}
	from := ""
	if len(by) > 0 {
		from = ", by " + list(by)
	}
	switch found.Status {
	case trust.RevocationGood:
		return "not revoked" + from
	case trust.RevocationRevoked:
		return "REVOKED, which the policy does not enforce: " + list(wrong) + from
	case trust.RevocationUnknown:
		return "NOT KNOWN, which the policy does not enforce: " + list(wrong)
	case trust.RevocationNotChecked:
		if from != "" {
			return "not revoked" + from + ", as far as that was checked: not checked " + list(wrong)
		}
	case trust.RevocationNone:
		return "nothing to look it up in: no certificate names a list or a responder"
	}
	return r.Revocation
}

// delegated says what became of the scope's delegation document; nothing where it did not matter.
func delegated(r trust.Report) string {
	d := r.Delegation
	if d == nil {
		return ""
	}
	switch d.Status {
	case trust.DelegationRefused:
		return fmt.Sprintf("refused: %s (%s)", d.Detail, d.Reason)
	case trust.DelegationUnavailable:
		return fmt.Sprintf("not to be had: %s (%s)", d.Detail, d.Reason)
	case trust.DelegationCounts:
		text := fmt.Sprintf("version %d of %s, by %s (root %s)", d.Version, d.At, common(d.SignedBy), d.Root)
		if d.Expires != nil {
			text += fmt.Sprintf(", until %s (%s)", day(*d.Expires), left(*d.Expires, r.Now))
		}
		if d.Grant == "" {
			return text + ", grants nothing here"
		}
		return text + ", grants " + d.Grant
	}
	return ""
}

// groups is the table of what the scope requires, and of what satisfies it.
func groups(w io.Writer, r trust.Report) {
	const of, by, when = 24, 30, 24
	rows := make([][]string, len(r.Groups))
	for i, g := range r.Groups {
		roots := strings.Join(g.Roots, " or ")
		if roots == "" {
			roots = "none of its roots is left"
		}
		row := []string{fmt.Sprint(i + 1), strings.Join(fold(Escape(roots), of), "\n")}
		at := slices.IndexFunc(r.Signatures, func(sig trust.Judged) bool { return g.Satisfied && sig.Digest == g.Signature })
		switch {
		case at >= 0:
			sig := r.Signatures[at]
			who := brief(sig.Identity) + " (root " + g.Root + ")"
			row = append(row, short(sig.Digest), strings.Join(append(fold(Escape(who), by), fold("claims "+Escape(cmp.Or(strings.Join(sig.Claims, ", "), "nothing")), by)...), "\n"), strings.Join(ages(r, sig, when), "\n"))
		case len(g.Shared) > 0:
			row = append(row, "none", strings.Join(fold("its only key is needed for group "+list(numbers(g.Shared))+", and one key stands for one group", by), "\n"))
		default:
			row = append(row, "none")
		}
		rows[i] = row
	}
	table(w, []column{{head: "GROUP", right: true}, {head: "ONE OF"}, {head: "SIGNATURE"}, {head: "SIGNED BY"}, {head: "SIGNED"}}, rows)
}

// ages says when a signature was made and when it ends by itself.
func ages(r trust.Report, sig trust.Judged, width int) []string {
	if sig.SignedAt == nil {
		return nil
	}
	lines := []string{minute(*sig.SignedAt), age(*sig.SignedAt, r.Now)}
	if sig.Expiry == nil {
		return append(lines, "no expiry")
	}
	return append(lines, fold(expiry(sig, r), width)...)
}

func numbers(of []int) []string {
	out := make([]string, len(of))
	for i, n := range of {
		out[i] = fmt.Sprint(n)
	}
	return out
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
	text = fmt.Sprintf("%s by %s (root %s)", text, common(s.By), common(s.Root))
	if s.Revocation == nil {
		text += "; revocation of the TSA not checked"
	}
	return text
}

// told reports whether the screen says the verdict's detail elsewhere.
func told(r trust.Report) bool {
	if r.Reason == "rejected-by-policy" || r.Delegation != nil && r.Delegation.Detail == r.Detail {
		return true
	}
	return slices.ContainsFunc(r.Signatures, func(sig trust.Judged) bool {
		return sig.Detail == r.Detail || sig.Unfetched && strings.HasSuffix(r.Detail, sig.Detail)
	})
}

// mostRejections is how many signatures the table of those that were not accepted shows. Whoever may push can make thousands.
const mostRejections = 12

// mostUnreadable is how many of them may be such as say nothing of who signed.
const mostUnreadable = 3

// rejections is the table of signatures that were not accepted: those first that got as far as a root of the scope's.
func rejections(w io.Writer, r trust.Report) {
	const by, why = 40, 40
	sigs := slices.DeleteFunc(slices.Clone(r.Signatures), func(sig trust.Judged) bool { return sig.Accepted })
	slices.SortStableFunc(sigs, func(a, b trust.Judged) int { return cmp.Compare(distance(r, a), distance(r, b)) })
	var rows [][]string
	unreadable := 0
	for _, sig := range sigs {
		if distance(r, sig) == unread {
			unreadable++
		}
		if len(rows) == mostRejections || unreadable > mostUnreadable {
			break
		}
		said := []string{"unreadable"}
		if sig.Unfetched {
			said = []string{"not known"}
		}
		if sig.Identity != "" {
			text := brief(sig.Identity)
			if root := rootOf(sig); root != "" {
				text += " (root " + root + ")"
			}
			said = fold(Escape(text), by)
			if sig.SignedAt != nil {
				said = append(said, fold(fmt.Sprintf("signed %s, %s", age(*sig.SignedAt, r.Now), expiry(sig, r)), by)...)
			}
		}
		rows = append(rows, []string{
			short(sig.Digest),
			strings.Join(said, "\n"),
			strings.Join(append(lines(curtailed(sig.Detail), why), Escape(sig.Reason)), "\n"),
		})
	}
	table(w, []column{{head: "SIGNATURE"}, {head: "SIGNED BY"}, {head: "WHY NOT"}}, rows)
	if more := len(sigs) - len(rows); more > 0 {
		fmt.Fprintf(w, "  … %s more: -o json\n", number(more))
	}
}

// lines folds text; there is none of no text.
func lines(text string, width int) []string {
	if text == "" {
		return nil
	}
	return fold(Escape(text), width)
}

// unread is the distance of what is no signature to anybody.
const unread = 4

// distance says how far from being accepted a signature is: what the verdict tells of first, then what has a root of the scope's, then
// what may have one, and whatever anybody can put there last.
func distance(r trust.Report, sig trust.Judged) int {
	switch {
	case sig.Reason == r.Reason && sig.Root != "":
		return 0
	case sig.Root != "":
		return 1
	case sig.Unfetched:
		return 2
	case sig.Identity != "":
		return 3
	}
	return unread
}

// VerifyLine writes a verdict in one line.
func VerifyLine(w io.Writer, r trust.Report) {
	style, text := bad, r.Reason
	switch {
	case r.Verdict == trust.Accepted:
		style = good
		text = "no signature is asked for"
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
		for _, sig := range r.Signatures {
			if n := len(sig.Chain); sig.Reissued != "" && n > 0 {
				return fmt.Sprintf("its root is another certificate of the name and the key of root %s: if whoever runs it confirms sha256 %s, pin the new root under roots:",
					sig.Reissued, sig.Chain[n-1].Thumbprint)
			}
		}
		return "it is signed, by others than this scope trusts: imprint inspect " + r.Reference + " shows who"
	case "identity-mismatch":
		return "the root is trusted, this signer is not: imprint inspect " + r.Reference + " shows who signed"
	case "no-scope":
		return "the policy says nothing of this repository: imprint policy explain " + cmp.Or(r.JudgedAs, r.Reference) + " shows what it says"
	case "rejected-by-policy":
		return "the policy refuses everything here; imprint policy explain " + cmp.Or(r.JudgedAs, r.Reference) + " shows where"
	case "require-unsatisfied":
		return "it lacks a signature of a group that the scope requires: ask whoever signs for that group"
	case "key-used-twice":
		return "the scope asks for different keys: ask another signer of one of the groups for a signature"
	case "delegation-unavailable":
		return "run it again when the registry answers: whether a delegation covers it could not be found out"
	case "delegation-untrusted", "delegation-expired", "delegation-rollback", "delegation-equivocation", "delegation-scope", "delegation-malformed":
		return "the delegation document does not count, so no key that it names does: tell whoever issues it"
	case "delegation-state":
		return "what was seen of delegation documents cannot be told from the state file: its owner has to look at it"
	case "revoked":
		return "a certificate that it rests on was revoked: ask its signer for a signature by another one"
	case "revocation-unknown":
		return "run it again when the list or the responder answers, or hand in lists: --crl FILE"
	case "kind-not-trusted":
		return "its scheme is not the one that the root is trusted for: imprint inspect " + r.Reference + " shows it"
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

// accepting returns the accepted signature that holds longest: until then the verdict stands. Where several are required it is the one
// of them that ends first.
func accepting(r trust.Report) *trust.Judged {
	if r.Verdict != trust.Accepted {
		return nil
	}
	var best *trust.Judged
	for i, sig := range r.Signatures {
		if !sig.Accepted {
			continue
		}
		required := slices.ContainsFunc(r.Groups, func(g trust.Group) bool { return g.Signature == sig.Digest })
		switch {
		case len(r.Groups) > 0 && !required:
		case best == nil, len(r.Groups) == 0 && outlasts(sig.HoldsUntil, best.HoldsUntil), len(r.Groups) > 0 && outlasts(best.HoldsUntil, sig.HoldsUntil):
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
	switch s.Rule {
	case "trust":
		says = "trusts " + list(s.Trust)
		if len(s.Trust) == 0 {
			says = "trusts no root that this run is not narrowed out of"
		}
	case "reject":
		says = "rejects everything"
	case "accept-unsigned", "accept: unsigned":
		says = "accepts what is unsigned"
	case "require":
		says = "requires a signature of each of " + plural(len(r.Groups), "group")
		if !s.Shared {
			says += ", by different keys"
		}
	}
	at := s.File
	if at != "" && s.Line > 0 {
		at = fmt.Sprintf("%s:%d", at, s.Line)
	}
	if s.File == "" || s.Scope == "" {
		return "--root alone: " + says
	}
	if s.Mirrors != "" {
		says += ", as " + s.Mirrors + " does, which it mirrors"
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
	if !slices.ContainsFunc(sig.Claims, func(claim string) bool {
		return claim == tag || strings.HasSuffix(claim, ":"+tag) || strings.Contains(claim, "/") && !strings.Contains(claim[strings.LastIndexByte(claim, '/'):], ":")
	}) {
		return strings.Join(sig.Claims, ", ") + "     not compared: the policy ignores claims here"
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
	n, of, satisfied := 0, len(r.Signatures), 0
	for _, sig := range r.Signatures {
		if sig.Accepted {
			n++
		}
	}
	for _, g := range r.Groups {
		if g.Satisfied {
			satisfied++
		}
	}
	text := fmt.Sprintf("%s of %s accepted", number(n), plural(of, "signature"))
	switch {
	case r.Verdict == trust.Accepted && n == 0:
		if of == 0 {
			return "no signature; this scope asks for none"
		}
		return text + "; this scope asks for none"
	case of == 0 && (r.Reason == "no-scope" || r.Reason == "rejected-by-policy"):
		return "rejected whatever its signatures say"
	case of == 0:
		return "no signature"
	case len(r.Groups) > 0:
		return text + fmt.Sprintf("; %d of %s satisfied", satisfied, plural(len(r.Groups), "group"))
	case r.Verdict == trust.Accepted && of-n == 1:
		return text + "; the other was not needed (imprint inspect shows it)"
	case r.Verdict == trust.Accepted && of > n:
		return text + fmt.Sprintf("; the other %s were not needed (imprint inspect shows them)", number(of-n))
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
