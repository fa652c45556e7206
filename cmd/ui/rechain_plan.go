package ui

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/signer"
)

// A RechainAsked is what a plan was asked for, as far as its screen says so.
type RechainAsked struct {
	All       bool
	Replacing []certchain.Certificate
	SignedBy  string
	EndsBy    time.Time
	Replace   bool
	Stamps    bool // --timestamp-url
	Limit     int
	Judged    bool // by a policy
}

// A RechainSum is what the plans of a dry run come to, however many they are: it takes as much memory as there are different chains.
type RechainSum struct {
	asked RechainAsked

	results   int
	first     signer.RechainResult
	repos     map[string]bool
	planned   int
	there     int
	skipped   int
	refused   int // of those skipped: told as failures too
	later     int
	leftOut   int
	size      int64
	breaks    map[string]int // of planned ones, by scheme
	restamped int
	groups    map[string]*chainGroup
	order     []*chainGroup
	ends      map[string]bool // days on which present chains end
	cells     map[cell]*outcomes
	sides     map[string]int
	notes     notes
}

// NewRechainSum returns the sum of no plan.
func NewRechainSum(asked RechainAsked) *RechainSum {
	return &RechainSum{
		asked: asked, repos: map[string]bool{}, breaks: map[string]int{}, groups: map[string]*chainGroup{}, ends: map[string]bool{},
		cells: map[cell]*outcomes{}, sides: map[string]int{},
	}
}

// Bounds of what a sum keeps.
const (
	maxGroups = 10_000
	maxNotes  = 200
	maxEnds   = 2
)

// A chainGroup is all signatures that get the same new chain.
type chainGroup struct {
	name, identity string
	then, now      time.Time
	n              int
	skipped        bool
}

// A cell is one of the table of verifiers: a row, and which kind of signatures.
type cell struct {
	row  int
	side string
}

// outcomes are what is said in a cell, and of how many signatures.
type outcomes struct {
	texts []string
	n     map[string]int
}

func (o *outcomes) add(text string) {
	if o.n == nil {
		o.n = map[string]int{}
	}
	if o.n[text] == 0 {
		if len(o.texts) == maxRows {
			text = "otherwise"
		}
		if o.n[text] == 0 {
			o.texts = append(o.texts, text)
		}
	}
	o.n[text]++
}

// Add counts what is planned for one artifact, or one signature.
func (s *RechainSum) Add(r signer.RechainResult) {
	if s.results++; s.results == 1 {
		s.first = signer.RechainResult{Reference: r.Reference, Digest: r.Digest}
	}
	s.leftOut += r.LeftOut
	if len(r.Plans) > 0 {
		if repo := repository(r.Reference); len(s.repos) < maxGroups {
			s.repos[repo] = true
		}
	}
	for _, p := range r.Plans {
		s.add(p)
	}
}

// repository cuts tag and digest off a reference.
func repository(reference string) string {
	name, _, _ := strings.Cut(reference, "@")
	if at := strings.LastIndexByte(name, ':'); at > strings.LastIndexByte(name, '/') && !strings.HasPrefix(name, "oci:") {
		return name[:at]
	}
	return name
}

func (s *RechainSum) add(p signer.Plan) {
	switch p.Status {
	case signer.StatusSkipped:
		s.skipped++
		s.refused += one(!withoutChain(p.Reason))
	case signer.StatusUnchanged, signer.StatusThere:
		s.there++
	case signer.StatusLater:
		s.later++
	default:
		s.planned++
		if e := p.Envelope(); e != nil {
			s.size += int64(len(e.Bytes()))
		}
		s.restamped += one(p.Restamp)
		if p.Breaks != "" {
			s.breaks[p.Scheme]++
		}
	}
	key := groupOf(p)
	g := s.groups[key]
	if g == nil && len(s.groups) == maxGroups {
		key = "others"
		g = s.groups[key]
	}
	if g == nil {
		g = &chainGroup{
			name: groupName(p), identity: groupIdentity(p),
			then: p.HoldsUntil, now: p.NowUntil, skipped: p.Status == signer.StatusSkipped,
		}
		if key == "others" {
			g.name, g.identity = "others", ""
		}
		s.groups[key] = g
		s.order = append(s.order, g)
	}
	g.n++
	if p.NowUntil.Before(g.now) {
		g.now = p.NowUntil
	}
	if p.HoldsUntil.Before(g.then) {
		g.then = p.HoldsUntil
	}
	s.judged(p)
	s.notes.of(p, s.results == 1 && !s.asked.All)
}

// withoutChain reports whether a signature is skipped because nothing given is for it, or it is no proper one.
func withoutChain(reason string) bool {
	switch reason {
	case "", "leaf-key-differs", "not-issued-by", "signature-invalid", "chain-is-signed", "manifest-malformed":
		return true
	}
	return false
}

func groupOf(p signer.Plan) string {
	if p.Status == signer.StatusSkipped {
		return "skipped " + p.Reason + p.Identity
	}
	key := fmt.Sprint(p.Status, p.Changed)
	for _, c := range p.Chain {
		key += " " + c.Thumbprint
	}
	return key
}

// bare is a common name without its type.
func bare(dn string) string { return strings.TrimPrefix(common(dn), "CN=") }

func groupName(p signer.Plan) string {
	switch {
	case p.Status == signer.StatusSkipped && p.Reason == "leaf-key-differs":
		return "none of the given fits"
	case p.Status == signer.StatusSkipped:
		return "none: " + p.Reason
	}
	name := ""
	for i, c := range p.Chain {
		switch {
		case i == 0:
			name = common(c.Subject)
		case i < len(p.Chain)-1:
			name += ", " + bare(c.Subject)
		}
	}
	return name
}

func groupIdentity(p signer.Plan) string {
	switch {
	case p.Status == signer.StatusSkipped:
		return "leaf: " + common(p.Identity)
	case p.Status == signer.StatusUnchanged:
		return "has it"
	case p.Status == signer.StatusThere:
		return "there already"
	case p.Status == signer.StatusLater:
		return "after --limit"
	case p.Changed:
		return "changes"
	}
	return "unchanged"
}

// The rows of the table of verifiers.
const (
	rowOld = iota
	rowNoRoot
	rowAlways
	rowAfter
	rowPlan
	verifierRows
)

var rowSettings = map[int]envelope.Setting{rowNoRoot: envelope.NoTSARoot, rowAlways: envelope.Always, rowAfter: envelope.AfterCertExpiry}

// The kinds of signatures of which verifiers say different things.
const (
	sideStamped   = "timestamped"
	sidePlain     = "not timestamped"
	sideAuthority = "of signing authorities"
)

// judged counts what verifiers will say.
func (s *RechainSum) judged(p signer.Plan) {
	if p.Status != signer.StatusPlanned && p.Status != signer.StatusThere || len(p.Verdicts) == 0 {
		return
	}
	side := sidePlain
	switch {
	case p.Scheme == envelope.SchemeSigningAuthority:
		side = sideAuthority
	case p.Timestamped:
		side = sideStamped
	}
	s.sides[side]++
	if len(s.ends) < maxEnds {
		s.ends[day(p.NowUntil)] = true
	}
	then := p.Afterwards
	if len(then) == 0 { // the present chain has ended
		then = p.Verdicts
	}
	say := func(row int, text string) {
		key := cell{row, side}
		if s.cells[key] == nil {
			s.cells[key] = &outcomes{}
		}
		s.cells[key].add(text)
	}
	say(rowOld, passing(then, func(v signer.Verdict) bool { return v.Old }))
	for row, setting := range rowSettings {
		say(row, newVerdict(p, find(p.Verdicts, setting), find(then, setting)))
	}
	say(rowPlan, passing(then, func(v signer.Verdict) bool { return v.New || v.Both && !p.Replace }))
}

func find(all []signer.Verdict, setting envelope.Setting) signer.Verdict {
	if at := slices.IndexFunc(all, func(v signer.Verdict) bool { return v.Setting == setting }); at >= 0 {
		return all[at]
	}
	return signer.Verdict{}
}

// passing says under which settings something passes.
func passing(all []signer.Verdict, passes func(signer.Verdict) bool) string {
	set := map[envelope.Setting]bool{}
	for _, v := range all {
		if passes(v) {
			set[v.Setting] = true
		}
	}
	no, always, after := set[envelope.NoTSARoot], set[envelope.Always], set[envelope.AfterCertExpiry]
	switch {
	case no && always && after:
		return "pass"
	case always && after:
		return "pass with a TSA root"
	case no && after:
		return "pass, not under always"
	case no && always:
		return "pass, not under afterCertExpiry"
	case no:
		return "pass without a TSA root"
	case always:
		return "pass under always alone"
	case after:
		return "pass under afterCertExpiry alone"
	}
	return "fail"
}

// newVerdict says what verifiers of one setting will say of the new chain alone, now and once the present one has ended.
func newVerdict(p signer.Plan, now, then signer.Verdict) string {
	switch {
	case then.New && p.Restamp && then.Setting == envelope.Always:
		return "pass by the new timestamp"
	case then.New:
		return "pass"
	case now.New:
		return "pass until " + day(p.HoldsUntil)
	case now.Old || then.Old:
		return "FAIL: " + cause(then.NewCause)
	}
	return "not accepted before or after: " + cause(then.NewCause)
}

// cause says why verifiers refuse a signature.
func cause(c signer.Cause) string {
	who := bare(c.Certificate)
	switch c.What {
	case signer.CauseExpired:
		return "the signature expired"
	case signer.CauseEnded:
		return who + " has ended"
	case signer.CauseNotBegun:
		return who + " has not begun"
	case signer.CauseNoTimestamp:
		return "no timestamp"
	case signer.CauseUnreadable:
		return "timestamp is unreadable"
	case signer.CauseStampOlder:
		return "timestamp is older than " + who
	case signer.CauseStampLater:
		return "timestamp is later than " + who
	case signer.CauseSigningOlder:
		return "signing time is older than " + who
	case signer.CauseSigningLater:
		return "signing time is later than " + who
	}
	return "refused"
}

// Write writes what putting new chains on would do, and what each kind of verifier would say.
func (s *RechainSum) Write(w io.Writer, failed []Failure) {
	s.head(w, failed)
	s.chains(w)
	s.verifiers(w)
	var text strings.Builder
	if s.planned > 0 {
		field(&text, 2, "writes", s.writes())
	}
	s.addNotes()
	s.notes.write(&text)
	if s.asked.All {
		field(&text, 2, "not seen", "digests that no tag, index or fallback tag leads to; give them with --batch")
	}
	if text.Len() > 0 {
		fmt.Fprintf(w, "\n%s", text.String())
	}
	refused(w, failed)
	fmt.Fprintf(w, "\n%s\n", s.last(failed))
}

func (s *RechainSum) head(w io.Writer, failed []Failure) {
	if s.results == 1 && len(failed) == 0 && !s.asked.All {
		headline(w, plain, "plan", s.first.Reference, "")
		under(w, "plan", s.first.Digest.String())
		return
	}
	n := s.planned + s.there + s.skipped + s.later
	about := fmt.Sprintf("%s in %s", plural(n, "signature"), number(len(s.repos))+map[bool]string{true: " repository", false: " repositories"}[len(s.repos) == 1])
	if len(s.repos) == maxGroups {
		about = fmt.Sprintf("%s in more than %s repositories", plural(n, "signature"), number(maxGroups))
	}
	var and []string
	verb := map[bool]string{true: "has ", false: "have "}[n == 1]
	if len(s.asked.Replacing) > 0 {
		var names []string
		for _, c := range s.asked.Replacing {
			names = append(names, fmt.Sprintf("%s (until %s)", common(c.Subject), day(c.NotAfter)))
		}
		and = append(and, verb+strings.Join(names, " or "))
	}
	if !s.asked.EndsBy.IsZero() {
		and = append(and, verb+"a chain that ends by "+day(s.asked.EndsBy))
	}
	if s.asked.SignedBy != "" {
		and = append(and, map[bool]string{true: "is", false: "are"}[n == 1]+" by "+s.asked.SignedBy)
	}
	for i, line := range fold(strings.TrimSpace(about+" "+strings.Join(and, " and ")), Columns-len("plan  ")) {
		if i == 0 {
			headline(w, plain, "plan", line, "")
			continue
		}
		under(w, "plan", line)
	}
}

// chains writes the table of new chains: of many those of most signatures.
func (s *RechainSum) chains(w io.Writer) {
	if len(s.order) == 0 {
		return
	}
	groups := slices.Clone(s.order)
	slices.SortStableFunc(groups, func(a, b *chainGroup) int {
		return cmp.Or(one(a.skipped)-one(b.skipped), cmp.Compare(b.n, a.n), cmp.Compare(a.name, b.name))
	})
	var rows [][]string
	rest := 0
	for i, g := range groups {
		if i >= maxRows && len(groups) > maxRows+1 {
			rest += g.n
			continue
		}
		then := until(g.then)
		if g.skipped {
			then = "-"
		}
		rows = append(rows, []string{g.name, number(g.n), then, until(g.now), g.identity})
	}
	if rest > 0 {
		rows = append(rows, []string{fmt.Sprintf("… %s more", number(len(groups)-maxRows)), number(rest)})
	}
	fmt.Fprintln(w)
	table(w, []column{{head: "NEW CHAIN", most: 40}, {head: "SIGNATURES", right: true}, {head: "HOLD UNTIL"}, {head: "NOW UNTIL"},
		{head: "IDENTITY", most: 20}}, rows)
}

// verifiers writes what verifiers who trust the root will say once the present chains have ended, which is what it is all for.
func (s *RechainSum) verifiers(w io.Writer) {
	if len(s.sides) == 0 {
		return
	}
	ends := "its end"
	if len(s.ends) == 1 {
		for d := range s.ends {
			ends = d
		}
	}
	plan := "old and new side by side (this plan)"
	if s.asked.Replace {
		plan = "new in the place of old (this plan)"
	}
	labels := [verifierRows]string{
		rowOld:    "after " + ends + ", old chain only",
		rowNoRoot: "new chain, no TSA root (Kyverno policy)",
		rowAlways: "new chain, TSA root, always",
		rowAfter:  "new chain, TSA root, afterCertExpiry",
		rowPlan:   plan,
	}
	columns := []column{{head: "VERIFIERS"}}
	rows := make([][]string, verifierRows)
	for row := range rows {
		rows[row] = []string{labels[row]}
	}
	var sides []string
	for _, side := range []string{sideStamped, sidePlain, sideAuthority} {
		if s.sides[side] > 0 {
			sides = append(sides, side)
		}
	}
	width := (Columns-2-Width(labels[rowNoRoot]))/len(sides) - 2
	for _, side := range sides {
		columns = append(columns, column{head: number(s.sides[side]) + " " + side})
		for row := range rows {
			rows[row] = append(rows[row], s.cells[cell{row, side}].text(width))
		}
	}
	fmt.Fprintln(w)
	table(w, columns, rows)
}

// text writes a cell: where not all have the same, each with its count, the most first.
func (o *outcomes) text(width int) string {
	if o == nil {
		return ""
	}
	texts := slices.Clone(o.texts)
	slices.SortStableFunc(texts, func(a, b string) int { return cmp.Compare(o.n[b], o.n[a]) })
	var lines []string
	for _, t := range texts {
		if len(texts) > 1 {
			t = number(o.n[t]) + " " + t
		}
		lines = append(lines, fold(t, max(width, 16))...)
	}
	return strings.Join(lines, "\n")
}

func (s *RechainSum) writes() string {
	stays := "old ones stay"
	if s.asked.Replace {
		stays = "old ones are deleted once the new ones are listed"
	}
	return fmt.Sprintf("%s (%s); %s; no tag changes; no key is used", plural(s.planned, "new referrer"), bytesOf(s.size), stays)
}

// addNotes adds what is to be known of all together.
func (s *RechainSum) addNotes() {
	stamps, authentic := s.breaks[envelope.SchemeX509], s.breaks[envelope.SchemeSigningAuthority]
	if stamps > 0 {
		s.notes.add(fmt.Sprintf("--replace would break %s under TSA root, always: it refuses those; --timestamp-url renews %s timestamp in the same step and lifts that",
			plural(stamps, "signature"), map[bool]string{true: "its", false: "their"}[stamps == 1]))
	}
	if authentic > 0 {
		s.notes.add(fmt.Sprintf("--replace would break %s of a signing authority, whose time is older than the new chain: it refuses those; no timestamp mends that",
			plural(authentic, "signature")))
	}
	if s.restamped > 0 {
		text := fmt.Sprintf("%s a new timestamp when this is run: a plan asks no authority, so the new digests are not known yet",
			map[bool]string{true: "1 gets", false: number(s.restamped) + " get"}[s.restamped == 1])
		if s.asked.Judged {
			text += ", and the policy judges them then, before anything is written"
		}
		s.notes.add(text)
	}
}

// last is the line that counts.
func (s *RechainSum) last(failed []Failure) string {
	var parts []string
	have := func(n int) string { return map[bool]string{true: "has", false: "have"}[n == 1] }
	if s.results == 1 && !s.asked.All || s.planned == 0 {
		parts = append(parts, fmt.Sprintf("%s to write, %s unchanged.", number(s.planned), number(s.there)))
	} else if s.there > 0 {
		parts = append(parts, fmt.Sprintf("%s %s it already.", number(s.there), have(s.there)))
	}
	if n := s.skipped - s.refused; n > 0 {
		parts = append(parts, fmt.Sprintf("%s %s no new chain: skipped.", number(n), have(n)))
	}
	if s.later > 0 {
		parts = append(parts, fmt.Sprintf("%s more than --limit.", number(s.later)))
	}
	if s.leftOut > 0 {
		parts = append(parts, fmt.Sprintf("%s left out.", number(s.leftOut)))
	}
	if len(failed) > 0 {
		parts = append(parts, fmt.Sprintf("%s refused.", plural(len(failed), "artifact")))
	}
	parts = append(parts, "Nothing was written.")
	if s.planned > 10 && s.asked.Limit == 0 {
		parts = append(parts, "Try a few first: --limit 10")
	}
	return strings.Join(parts, " ")
}

// notes are what is to be known, each once with how often it was said.
type notes struct {
	texts []string
	n     map[string]int
	more  int
}

func (s *notes) add(text string) {
	if s.n == nil {
		s.n = map[string]int{}
	}
	switch {
	case s.n[text] > 0:
	case len(s.texts) == maxNotes:
		s.more++
		return
	default:
		s.texts = append(s.texts, text)
	}
	s.n[text]++
}

// of adds what is to be known of a plan. That one would break is said of each only where they are few.
func (s *notes) of(p signer.Plan, few bool) {
	if p.Changed && p.Status != signer.StatusSkipped {
		s.add(fmt.Sprintf("the identity changes from %s to %s", p.Identity, p.NewLeaf))
	}
	for _, text := range p.Warnings {
		if few || p.Breaks == "" || !strings.HasPrefix(text, p.Breaks) {
			s.add(text)
		}
	}
}

func (s *notes) write(w io.Writer) {
	label := "to note"
	for i, text := range s.texts {
		if i == maxRows {
			field(w, 2, "", fmt.Sprintf("… %s more", number(len(s.texts)+s.more-maxRows)))
			break
		}
		if n := s.n[text]; n > 1 {
			text = fmt.Sprintf("%s (%s)", text, plural(n, "signature"))
		}
		field(w, 2, label, text)
		label = ""
	}
}

// passed says of how many out of all verifiers say yes.
func passed(n, of int) string {
	switch n {
	case of:
		return "pass"
	case 0:
		return "fail"
	}
	return fmt.Sprintf("%s of %s pass", number(n), number(of))
}
