package ui

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/signer"
)

// SignWord says what became of an artifact that was to be signed.
func SignWord(r signer.Result) string {
	switch {
	case r.DryRun:
		return "planned"
	case r.Written > r.Stamped:
		return "signed"
	case r.Stamped > 0:
		return "timestamped"
	}
	return "already signed"
}

// Sign writes what signing did.
func Sign(w io.Writer, r signer.Result, now time.Time) {
	word, style := SignWord(r), good
	if r.DryRun {
		word, style = "plan", plain
	}
	headline(w, style, word, r.Reference, "")
	under(w, word, r.Digest.String())
	fmt.Fprintln(w)
	signFields(w, r, now)
	fmt.Fprintln(w)
	planned := signTable(w, r)
	fmt.Fprintln(w)
	switch {
	case r.DryRun:
		fmt.Fprintf(w, "%s to write, %d there already. Nothing was written.\n", plural(planned, "signature"), r.There)
	case r.Written == 0:
		spent := ""
		if r.KeyCalls > 0 { // who signs was known only then
			spent = "; " + KeyCalls(r)
		}
		fmt.Fprintf(w, "already signed by this key: nothing was written%s\n", spent)
	default:
		fmt.Fprintf(w, "%s written, %d there already; %s\n", plural(r.Written, "signature"), r.There, KeyCalls(r))
		stampedBeside(w, r)
	}
}

// stampedBeside says what a timestamp on what was signed already came to.
func stampedBeside(w io.Writer, r signer.Result) {
	if r.Stamped > 0 {
		fmt.Fprintf(w, "%s had no timestamp: put beside it with one, without the key\n", plural(r.Stamped, "signature"))
	}
}

// signFields writes who signs what, and how long it holds.
func signFields(w io.Writer, r signer.Result, now time.Time) {
	unknown := len(r.Chain) == 0 // a plugin that makes whole envelopes tells it in them
	if unknown {
		field(w, 2, "identity", "not known before the key has signed")
	} else {
		field(w, 2, "identity", r.Identity)
	}
	if r.Key != "" {
		whole(w, 2, "key", r.Key)
	}
	field(w, 2, "algorithm", strings.TrimPrefix(r.Algorithm+", "+strings.ToUpper(r.Format), ", "))
	field(w, 2, "claims", signClaims(r))
	if len(r.Metadata) > 0 {
		field(w, 2, "metadata", pairs(r.Metadata))
	}
	if r.Expiry != nil {
		field(w, 2, "expiry", minute(*r.Expiry)+" ("+left(*r.Expiry, now)+")")
	}
	if !unknown {
		field(w, 2, "timestamp", signStamp(r))
		field(w, 2, "holds until", fmt.Sprintf("%s (%s)  first to expire: %s", day(r.HoldsUntil), left(r.HoldsUntil, now), ending(r.FirstToEnd)))
	}
}

// signStamp says what the countersignature of the artifact's own signature states.
func signStamp(r signer.Result) string {
	if len(r.Signatures) > 0 && r.Signatures[0].Timestamp != nil {
		return stampField(*r.Signatures[0].Timestamp)
	}
	if r.Authority != "" {
		return "to be had from " + authorityOf(signer.Stamped{URL: r.Authority}) + ", which answers"
	}
	return "none: the signature holds as long as its certificates"
}

// signTable writes what was signed, or is to be, and returns how much is to be.
func signTable(w io.Writer, r signer.Result) (planned int) {
	rows := make([][]string, 0, len(r.Signatures))
	for _, sig := range r.Signatures {
		status := sig.Status
		switch status {
		case signer.StatusAlreadySigned:
			status = "there already"
		case signer.StatusTimestamped:
			status = "new, with a timestamp"
		case signer.StatusPlanned:
			status = "to be signed"
			if sig.Present != "" {
				status = "to be timestamped"
			}
			planned++
		}
		rows = append(rows, []string{middle(sig.What, 54), short(sig.Subject.Digest), short(sig.Signature), status})
	}
	table(w, []column{{head: what(r)}, {head: "SUBJECT"}, {head: "SIGNATURE"}, {}}, rows)
	return planned
}

// KeyCalls counts what was asked of the key: calls to its service, repeated ones too, or uses of a key in a file.
func KeyCalls(r signer.Result) string {
	scheme, _, ok := strings.Cut(r.Key, ":")
	if ok && len(scheme) > 1 && scheme != "file" && !strings.ContainsAny(scheme, `/\.`) {
		return plural(r.KeyCalls, "call") + " to the key service"
	}
	return plural(r.KeyCalls, "use") + " of the key"
}

func what(r signer.Result) string {
	if r.DryRun {
		return "TO SIGN"
	}
	return "SIGNED"
}

// SignLine writes it in one line.
func SignLine(w io.Writer, r signer.Result, now time.Time) {
	style := good
	if r.DryRun {
		style = plain
	}
	until := ""
	if len(r.Chain) > 0 {
		until = ", holds until " + day(r.HoldsUntil)
	}
	fmt.Fprintf(w, "%s  %s  %s  %s%s\n", style.Render(Pad(SignWord(r), 14)), Escape(undigested(r.Reference)), short(r.Digest),
		plural(len(r.Signatures), "signature"), until)
}

func signClaims(r signer.Result) string {
	switch {
	case r.NoClaims:
		return "left out: this signature says nothing of tags"
	case len(r.Claims) == 0:
		return "none: no tag was named"
	}
	return strings.Join(r.Claims, ", ") + "     under another tag, imprint verify will not accept this digest"
}

// ending says what ends first.
func ending(first string) string {
	if first == "expiry" {
		return "the signature's own expiry"
	}
	return common(first)
}
