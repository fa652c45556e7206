package trust

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	yaml "go.yaml.in/yaml/v4"

	"github.com/imprint-oci/imprint/registry"
)

// MaxCasesBytes limits a file of cases.
const MaxCasesBytes = 8 << 20

// Cases are a table of references, signatures that are supposed on them, and the verdicts that a policy ought to give.
type Cases struct {
	file       string
	at         time.Time // zero: the time of the run
	signatures map[string]*supposedNode
	cases      []caseNode
}

// A supposedNode is a signature under "signatures", as written.
type supposedNode struct {
	node                      *yaml.Node
	name                      string
	supposed                  Supposed
	age, expiry, ended, stamp *time.Duration
}

// A caseNode is one row.
type caseNode struct {
	node      *yaml.Node
	reference registry.Reference
	text      string   // of the signatures, as written
	names     []string // of the signatures; none: unsigned
	want      string
}

// A Case is what came of one row.
type Case struct {
	File       string `json:"file"`
	Line       int    `json:"line"`
	Column     int    `json:"column"`
	Reference  string `json:"reference"`
	Signatures string `json:"signatures"` // as written
	Want       string `json:"want"`       // a verdict, or a reason code
	Verdict    string `json:"verdict"`
	Reason     string `json:"reason,omitempty"`
	Detail     string `json:"detail,omitempty"`
	Scope      string `json:"scope,omitempty"` // that was selected
	ScopeLine  int    `json:"scopeLine,omitempty"`
	Passed     bool   `json:"passed"`
}

// A CasesReport is what came of all of them.
type CasesReport struct {
	File         string    `json:"file"`
	PolicyFile   string    `json:"policyFile,omitempty"`
	PolicyDigest string    `json:"policySha256,omitempty"`
	Now          time.Time `json:"now"` // that was judged at
	Cases        []Case    `json:"cases"`
	Failed       int       `json:"failed"`
	Scopes       int       `json:"scopes"`             // of the policy
	Untested     []string  `json:"untested,omitempty"` // scopes that no row selects
	Warnings     []string  `json:"warnings,omitempty"`
}

// Passed reports whether the policy gives every verdict that it ought to.
func (r CasesReport) Passed() bool { return r.Failed == 0 }

// Words that stand for signatures which no file has to define.
const (
	wordUnsigned  = "unsigned"
	wordStranger  = "stranger"
	wordDelegated = "delegated"
)

var (
	casesGrammar = grammar{
		known: []string{"version", "at", "signatures", "tests"},
		other: map[string]string{"policy": "the policy is named on the command line: --policy FILE", "cases": "write tests:", "roots": "roots are the policy's"},
	}
	supposedGrammar = grammar{
		known: []string{"root", "identity", "key", "claims", "algorithm", "age", "expiry", "timestamp", "certificate-ended", "revocation", "unfetched", "delegated"},
		other: map[string]string{
			"identities": "write identity: NAME, or identity: [NAME, NAME] for a certificate with several",
			"claim":      "write claims: [TAG]",
			"max-age":    "write age: 90d, which is how old the signature is",
			"verdict":    "verdicts stand under tests",
		},
	}
)

// LoadCases reads a file of cases. Errors are *[LoadError].
func LoadCases(file string) (*Cases, error) {
	wrong := func(code string, err error) error {
		return &LoadError{File: file, Code: code, Err: fmt.Errorf("reading the tests: %w", err)}
	}
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, wrong(codeUnreadable, bare(err))
	}
	defer f.Close()
	b, err := readChecked(f, MaxCasesBytes)
	if err != nil {
		return nil, wrong(codeOf(err, codeUnreadable), err)
	}
	return ParseCases(file, b)
}

// ParseCases reads cases; file names them in errors.
func ParseCases(file string, b []byte) (*Cases, error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, &LoadError{File: file, Code: codeSyntax, Err: errors.New("the file holds no tests")}
	}
	p := casesParser{document{file}, &Cases{file: file, signatures: map[string]*supposedNode{}}}
	top, err := p.parse(b)
	if err != nil {
		return nil, err
	}
	fields, err := p.object(top, "the tests", casesGrammar)
	if err != nil {
		return nil, err
	}
	v, ok := fields["version"]
	if !ok || v.value.Kind != yaml.ScalarNode || v.value.ShortTag() != "!!int" || v.value.Value != "1" {
		n := top
		if ok {
			n = v.value
		}
		return nil, p.wrong(n, codeVersion, "this imprint reads tests of version: 1")
	}
	if f, ok := fields["at"]; ok {
		if err := p.time(f.value); err != nil {
			return nil, err
		}
	}
	if f, ok := fields["signatures"]; ok {
		if err := p.signatures(f.value); err != nil {
			return nil, err
		}
	}
	f, ok := fields["tests"]
	if !ok {
		return nil, p.wrong(top, codeMissing, "the file has no tests")
	}
	if err := p.tests(f.value); err != nil {
		return nil, err
	}
	return p.cases, nil
}

type casesParser struct {
	document
	cases *Cases
}

func (p casesParser) time(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		for _, layout := range []string{time.RFC3339, time.DateOnly} {
			if at, err := time.Parse(layout, n.Value); err == nil {
				p.cases.at = at
				return nil
			}
		}
	}
	return p.wrong(n, codeValue, "at must be a time, as 2026-11-22 or 2026-11-22T08:00:00Z, not %s", kindOf(n))
}

func (p casesParser) signatures(n *yaml.Node) error {
	fields, err := p.mapping(n, "signatures")
	if err != nil {
		return err
	}
	for _, f := range fields {
		name := f.key.Value
		switch {
		case name == wordUnsigned || name == wordStranger || name == wordDelegated:
			return p.wrong(f.key, codeValue, "%q has its own meaning here: choose another name", name)
		case name == "" || strings.TrimSpace(name) != name || strings.Contains(name, "+"):
			return p.wrong(f.key, codeValue, "the name of a signature, %q, has blanks around it, holds a +, or is empty", shorten(name))
		}
		s, err := p.signature(name, f.value)
		if err != nil {
			return err
		}
		p.cases.signatures[name] = s
	}
	return nil
}

func (p casesParser) signature(name string, n *yaml.Node) (*supposedNode, error) {
	what := fmt.Sprintf("signature %q", name)
	fields, err := p.object(n, what, supposedGrammar)
	if err != nil {
		return nil, err
	}
	s := &supposedNode{node: n, name: name}
	words := map[string]*string{"root": &s.supposed.Root, "key": &s.supposed.Key, "algorithm": &s.supposed.Algorithm, "revocation": &s.supposed.Revocation}
	spans := map[string]**time.Duration{"age": &s.age, "expiry": &s.expiry, "certificate-ended": &s.ended, "timestamp": &s.stamp}
	truths := map[string]*bool{"delegated": &s.supposed.Delegated, "unfetched": &s.supposed.Unfetched}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		v := fields[key].value
		var err error
		switch {
		case words[key] != nil:
			*words[key], err = p.text(v, key+" of "+what)
		case spans[key] != nil:
			*spans[key], err = p.span(v, key+" of "+what)
		case truths[key] != nil:
			*truths[key], err = p.truth(v, key+" of "+what)
		case key == "identity":
			s.supposed.Identities, err = p.texts(v, "identity of "+what)
		case key == "claims":
			if v.Kind == yaml.SequenceNode && len(v.Content) == 0 { // which is not the same as none
				s.supposed.Claims = []string{}
				continue
			}
			s.supposed.Claims, err = p.texts(v, "claims of "+what)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := s.supposed.check(); err != nil {
		return nil, p.wrong(n, codeValue, "%s: %w", what, err)
	}
	if s.supposed.Root != "" && s.supposed.Delegated {
		return nil, p.wrong(n, codeValue, "%s is under a root of the policy or under a key that is delegated, not both", what)
	}
	return s, nil
}

// texts reads a text, or a list of them.
func (p casesParser) texts(n *yaml.Node, what string) ([]string, error) {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		var err error
		if items, err = p.list(n, what); err != nil {
			return nil, err
		}
	}
	var out []string
	for _, item := range items {
		text, err := p.text(item, what)
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}

func (p casesParser) span(n *yaml.Node, what string) (*time.Duration, error) {
	d, err := (&parser{document: p.document}).age(n)
	if err != nil {
		return nil, p.wrong(n, codeValue, "%s must be a number of days, as 90d (or weeks w, hours h, minutes m; at most 100 years), not %s", what, kindOf(n))
	}
	return &d, nil
}

func (p casesParser) tests(n *yaml.Node) error {
	references, err := p.mapping(n, "tests")
	if err != nil {
		return err
	}
	for _, r := range references {
		ref, err := registry.ParseQualified(r.key.Value)
		if err != nil {
			return p.wrong(r.key, codeValue, "%q is no reference HOST/REPO[:TAG]: %w", shorten(r.key.Value), err)
		}
		rows, err := p.mapping(r.value, "the tests of "+r.key.Value)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return p.wrong(r.value, codeValue, "the tests of %s are empty", r.key.Value)
		}
		for _, row := range rows {
			c := caseNode{node: row.key, reference: ref, text: row.key.Value}
			if c.want, err = p.text(row.value, "a verdict"); err != nil {
				return err
			}
			if !slices.Contains(expectable(), c.want) {
				return p.wrong(row.value, codeValue, "%q is neither a verdict (%s, %s, %s) nor a reason code%s",
					shorten(c.want), Accepted, Rejected, Undetermined, suggest(c.want, expectable()))
			}
			if c.names, err = p.names(row.key); err != nil {
				return err
			}
			p.cases.cases = append(p.cases.cases, c)
		}
	}
	if len(p.cases.cases) == 0 {
		return p.wrong(n, codeValue, "tests is empty")
	}
	return nil
}

// names splits "org + vendor".
func (p casesParser) names(n *yaml.Node) ([]string, error) {
	if n.Value == wordUnsigned {
		return nil, nil
	}
	var out []string
	for name := range strings.SplitSeq(n.Value, "+") {
		name = strings.TrimSpace(name)
		switch {
		case name == "":
			return nil, p.wrong(n, codeValue, `%q: write the names of signatures with " + " between them, or %s`, shorten(n.Value), wordUnsigned)
		case name == wordUnsigned:
			return nil, p.wrong(n, codeValue, "%q: what has a signature is not %s", shorten(n.Value), wordUnsigned)
		case slices.Contains(out, name):
			return nil, p.wrong(n, codeValue, "%q names %s twice: two signatures by one key have two names, and key: of the same name", shorten(n.Value), name)
		}
		out = append(out, name)
	}
	return out, nil
}

// expectable are the verdicts, and the reason codes that a verdict can have.
func expectable() []string {
	out := []string{Accepted, Rejected, Undetermined}
	for code := range Reasons() {
		if !strings.HasPrefix(code, "policy-") {
			out = append(out, code)
		}
	}
	slices.Sort(out)
	return out
}

// Run holds p against the cases; now is when they are judged, unless the file says so. An error is of the file:
// it names what the policy does not have.
func (c *Cases) Run(p *Policy, now time.Time) (CasesReport, error) {
	if !c.at.IsZero() {
		now = c.at
	}
	out := CasesReport{
		File: c.file, PolicyFile: p.file, PolicyDigest: p.digest, Now: now.UTC(), Cases: []Case{}, Scopes: len(p.scopes), Warnings: p.Warnings(now),
	}
	w := newSupposition(p, now)
	made := map[string]*supposedContent{}
	for _, name := range slices.Sorted(maps.Keys(c.signatures)) { // also those of no row: a slip in one is told all the same
		s := c.signatures[name]
		if p.roots[name] != nil && s.supposed.Root != name {
			return out, c.wrong(s.node, codeValue, "signature %q has the name of another root of the policy: choose another", name)
		}
		content, err := w.content(s.at(now))
		if err != nil {
			return out, c.wrong(s.node, codeValue, "signature %q: %w", name, err)
		}
		made[name] = content
	}
	touched := map[string]bool{}
	for _, row := range c.cases {
		var contents []*supposedContent
		for _, name := range row.names {
			content := made[name]
			if content == nil {
				s, err := c.word(p, row, name)
				if err != nil {
					return out, err
				}
				if content, err = w.content(s); err != nil {
					return out, c.wrong(row.node, codeValue, "%w", err)
				}
				made[name] = content
			}
			contents = append(contents, content)
		}
		got := row.judge(w, c.file, contents)
		if !got.Passed {
			out.Failed++
		}
		touched[got.Scope] = true
		out.Cases = append(out.Cases, got)
	}
	for _, s := range tree(p.scopes) {
		if !touched[s.name] {
			out.Untested = append(out.Untested, s.name)
		}
	}
	return out, nil
}

func (c *Cases) wrong(n *yaml.Node, code, format string, args ...any) error {
	return document{c.file}.wrong(n, code, format, args...)
}

// word is a signature that a row names and "signatures" does not define: a plain one under a root, or one of the words.
func (c *Cases) word(p *Policy, row caseNode, name string) (Supposed, error) {
	switch {
	case name == wordStranger || name == wordDelegated:
		if p.roots[name] != nil {
			return Supposed{}, c.wrong(row.node, codeValue, "%q has its own meaning here, and the policy has a root of that name: define another name for that under signatures:", name)
		}
		return Supposed{Delegated: name == wordDelegated}, nil
	case p.roots[name] != nil:
		return Supposed{Root: name}, nil
	}
	known := slices.Concat(slices.Collect(maps.Keys(c.signatures)), p.rootNames(), []string{wordUnsigned, wordStranger, wordDelegated})
	slices.Sort(known)
	return Supposed{}, c.wrong(row.node, codeRootUnknown, "no signature and no root of the policy is named %q%s", shorten(name), suggest(name, known))
}

// at returns the signature as of the time now.
func (s *supposedNode) at(now time.Time) Supposed {
	out := s.supposed
	ago := func(d *time.Duration) time.Time {
		if d == nil {
			return time.Time{}
		}
		return now.Add(-*d)
	}
	out.SignedAt = now
	if s.age != nil {
		out.SignedAt = ago(s.age)
	}
	if s.expiry != nil {
		out.Expiry = out.SignedAt.Add(*s.expiry)
	}
	out.LeafEnds, out.Timestamp = ago(s.ended), ago(s.stamp)
	return out
}

func (row caseNode) judge(w *supposition, file string, contents []*supposedContent) Case {
	r := w.judge(row.reference, contents)
	got := Case{
		File: file, Line: row.node.Line, Column: row.node.Column, Reference: row.reference.String(), Signatures: row.text, Want: row.want,
		Verdict: r.Verdict, Reason: r.Reason, Detail: r.Detail,
	}
	if r.Scope != nil {
		got.Scope, got.ScopeLine = r.Scope.Scope, r.Scope.Line
	}
	got.Passed = row.want == r.Verdict || row.want == cmp.Or(r.Reason, r.Verdict)
	return got
}
