package ui

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/imprint-oci/imprint/certchain"
)

// ComparedChains is what `chain compare` says.
type ComparedChains struct {
	OldFile string    `json:"oldFile"`
	NewFile string    `json:"newFile"`
	At      time.Time `json:"at"`
	certchain.Comparison
	Finding *Finding `json:"finding,omitempty"` // the rule that the new chain breaks
	Steps   []string `json:"steps"`             // what to do, in order
}

// ChainCompare writes what going from one chain to another means.
func ChainCompare(w io.Writer, c ComparedChains) {
	style, word := c.word()
	reason := ""
	if c.Finding != nil {
		reason = c.Finding.Reason
	}
	headline(w, style, word, c.OldFile+" -> "+c.NewFile, reason)
	fmt.Fprintln(w)
	c.leaves(w)
	lasts(w, "old", c.Old, c.At)
	lasts(w, "new", c.New, c.At)
	fmt.Fprintln(w)
	c.table(w)
	if c.Answer == certchain.AnswerSame {
		fmt.Fprintf(w, "\n%s, every one the same\n", plural(len(c.Changes), "certificate"))
		return
	}
	fmt.Fprintln(w)
	c.pins(w)
	fmt.Fprintln(w)
	field(w, 2, "signatures", c.signatures())
	if c.Finding != nil && c.Answer != certchain.AnswerUnfit {
		field(w, 2, "new chain", "nothing can be signed with it as it is: "+c.Finding.Detail)
	}
	if text := c.timestamps(); text != "" {
		field(w, 2, "timestamps", text)
	}
	for i, step := range c.Steps {
		label := ""
		if i == 0 {
			label = "do"
		}
		field(w, 2, label, fmt.Sprintf("%d. %s", i+1, step))
	}
	field(w, 2, "not seen", "which signatures there are: imprint audit; revocation: not checked")
	differ := 0
	for _, ch := range c.Changes {
		if ch.Kind != certchain.ChangeNone {
			differ++
		}
	}
	fmt.Fprintf(w, "\n%d of %d certificates changed\n", differ, len(c.Changes))
}

func (c ComparedChains) word() (lipgloss.Style, string) {
	switch c.Answer {
	case certchain.AnswerSame:
		return plain, "same"
	case certchain.AnswerRechain:
		return good, "rechain"
	case certchain.AnswerTrustFirst:
		return open, "trust first"
	case certchain.AnswerReissue:
		return open, "issue again"
	case certchain.AnswerSignAgain:
		return open, "sign again"
	}
	return bad, "unfit"
}

// leaves says whether the identity and the key stay.
func (c ComparedChains) leaves(w io.Writer) {
	if !c.Signing {
		field(w, 2, "identity", "not compared: a signing certificate is missing on one side or on both")
		return
	}
	from, to := c.Old.Certificates[0], c.New.Certificates[0]
	switch {
	case c.SameSubject && c.SameNames:
		field(w, 2, "identity", "unchanged: "+to.Subject)
	case c.SameSubject:
		field(w, 2, "identity", "unchanged: "+to.Subject)
		field(w, 2, "", "but its alternative names (URI, DNS, e-mail) differ")
	default:
		field(w, 2, "identity", "from "+from.Subject)
		field(w, 2, "", "to   "+to.Subject)
	}
	if c.SameKey {
		field(w, 2, "key", "unchanged, "+to.Key)
		return
	}
	field(w, 2, "key", "another: "+from.Key+" before, "+to.Key+" now")
}

func lasts(w io.Writer, which string, l certchain.Line, at time.Time) {
	first := ""
	for _, cert := range l.Certificates {
		if cert.Thumbprint == l.FirstToEnd && len(l.Certificates) > 1 {
			first = "  first to expire: " + common(cert.Subject)
			break
		}
	}
	text := fmt.Sprintf("holds until %s (%s)", day(l.HoldsUntil), left(l.HoldsUntil, at))
	if l.HoldsFrom.After(at) {
		text = fmt.Sprintf("holds from %s to %s", minute(l.HoldsFrom), day(l.HoldsUntil))
	}
	field(w, 2, which, text+first)
	if !l.Complete {
		field(w, 2, "", "a part of a chain")
	}
	if n := len(l.Borrowed); n > 0 {
		field(w, 2, "", plural(n, "certificate")+" taken from the other side, since its own file lacks "+them(n))
	}
}

func them(n int) string {
	if n == 1 {
		return "it"
	}
	return "them"
}

func (c ComparedChains) table(w io.Writer) {
	var rows [][]string
	for _, ch := range c.Changes {
		row := []string{ch.Role, "", "-", "-", "-", "-", c.changeText(ch)}
		if ch.Old != nil {
			row[1], row[2], row[3] = common(ch.Old.Subject), ch.Old.Thumbprint[:12], day(ch.Old.NotAfter)
		}
		if ch.New != nil {
			if ch.Old == nil || !ch.SameSubject {
				row[1] = strings.TrimPrefix(row[1]+"\n"+common(ch.New.Subject), "\n")
			}
			row[4], row[5] = ch.New.Thumbprint[:12], day(ch.New.NotAfter)
		}
		for i, line := range strings.Split(row[1], "\n") {
			if i == 0 {
				row[1] = middle(line, 22)
				continue
			}
			row[1] += "\n" + middle(line, 22)
		}
		rows = append(rows, row)
	}
	table(w, []column{{}, {head: "CERTIFICATE"}, {head: "OLD"}, {head: "UNTIL"}, {head: "NEW"}, {head: "UNTIL"}, {}}, rows)
}

func (c ComparedChains) changeText(ch certchain.Change) string {
	switch ch.Kind {
	case certchain.ChangeGone:
		if !c.New.Complete {
			return "not given"
		}
	case certchain.ChangeNone:
		return "same"
	case certchain.ChangeReplaced:
		return "another"
	case certchain.ChangeRekeyed:
		return "another key"
	case certchain.ChangeRenamed:
		return "another name"
	case certchain.ChangeReissued:
		return "re-issued"
	case certchain.ChangeAdded:
		return "added"
	}
	return ch.Kind
}

// pins says what becomes of verifiers, by what they have in their trust stores.
func (c ComparedChains) pins(w io.Writer) {
	var rows [][]string
	for _, p := range c.Pins {
		needs := "nothing"
		switch {
		case p.Kept:
		case p.Instead != "":
			needs = "to trust " + p.Instead[:12] + " first"
		case c.New.Complete:
			needs = "one of the new chain"
		default:
			needs = "unknown: NEW is a part"
		}
		rows = append(rows, []string{p.Role + " " + fit(common(p.Subject), 28), p.Certificate[:12], pinnedBy(p), needs})
	}
	table(w, []column{{head: "WHO PINS"}, {}, {}, {head: "NEEDS"}}, rows)
	if c.Signing && (!c.SameSubject || !c.SameNames) {
		field(w, 2, "names", "verifiers that name the identity (identities, trustedIdentities) have to name the new one too, first")
	}
}

func pinnedBy(p certchain.Pin) string {
	if p.Role == certchain.RoleIssuer {
		return "notation, Ratify, Kyverno"
	}
	return "imprint and all others"
}

// signatures says what becomes of what is signed.
func (c ComparedChains) signatures() string {
	switch {
	case c.Finding != nil && c.Answer == certchain.AnswerUnfit:
		return "cannot take the new certificates: " + c.Finding.Detail
	case c.Answer == certchain.AnswerSignAgain:
		return "cannot take the new chain: it is for another key. They stay as good as the old chain, until " + day(c.Old.HoldsUntil)
	case c.Answer == certchain.AnswerReissue:
		return "cannot take the new certificates: none of them issued what is signed with. A certificate re-issued below them for the same key can be taken"
	case !c.Signing:
		return "below the old certificates can take the new ones"
	}
	text := "under the old chain take the new one; no key is needed, and what was signed stays as it is"
	if c.New.HoldsFrom.After(c.At) {
		text += "; not before " + minute(c.New.HoldsFrom)
	}
	return text
}

// timestamps explains the trap of a chain that begins after a countersignature.
func (c ComparedChains) timestamps() string {
	switch {
	case !c.Rechain:
		return ""
	case c.CountersignedFrom == nil:
		return "the new chain begins no later than the old one: every countersignature stays inside of it"
	}
	return fmt.Sprintf("what was countersigned before %s lies outside of the new chain: verifiers with a TSA root and `always` refuse it there. "+
		"Beside the old signature it harms nobody; with --replace it would. --timestamp-url renews the countersignature in the same step, "+
		"though never an authentic signing time", minute(*c.CountersignedFrom))
}

// RotationSteps says what to do, in order.
func RotationSteps(c ComparedChains) []string {
	var steps []string
	moved := func() {
		root := c.New.Certificates[len(c.New.Certificates)-1]
		pinned := func(p certchain.Pin) bool { return p.Certificate == root.Thumbprint }
		if root.SelfSigned && !slices.ContainsFunc(c.Pins, pinned) {
			steps = append(steps, "have verifiers trust the new root, beside the old one: sha256:"+root.Thumbprint)
		}
		if c.Signing && (!c.SameSubject || !c.SameNames) {
			steps = append(steps, "have verifiers that name the identity accept the new one too")
		}
	}
	flags := ""
	if c.Signing && !c.SameSubject {
		flags += " --allow-identity-change"
	}
	if c.Shorter {
		flags += " --allow-shorter"
	}
	switch c.Answer {
	case certchain.AnswerRechain, certchain.AnswerTrustFirst:
		moved()
		steps = append(steps, "imprint rechain REF… --chain "+ShellWord(c.NewFile)+flags+" --dry-run, then without --dry-run")
	case certchain.AnswerSignAgain:
		moved()
		steps = append(steps, "sign again with the new key: imprint sign REF… --key KEY --chain "+ShellWord(c.NewFile))
	case certchain.AnswerReissue:
		steps = append(steps, "have the signing certificates issued again for the same keys: imprint audit --certificates DIR writes them out",
			"imprint chain compare again, with a re-issued one")
	}
	if steps == nil {
		steps = []string{}
	}
	return steps
}
