package ui

import (
	"fmt"
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
