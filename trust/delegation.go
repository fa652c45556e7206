package trust

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	yaml "go.yaml.in/yaml/v4"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/registry"
)

// Where delegation documents come from.
const (
	fromRegistry = "registry"
	fromFile     = "file"
)

// A delegation is a section "delegate" of a scope: whose documents may grant keys there (D1). Scopes that mirrors generate share that
// of their original.
type delegation struct {
	scope      *scope // that it stands in
	root       *root
	identities identities // of who may issue documents (D3)
	from       string
	file       string             // of fromFile, as written
	at         registry.Reference // where the document is, or for a file, where it was published; zero: not said
	minVersion uint64
	line       int

	local *servedDocument // of fromFile, read at load
}

var delegateGrammar = grammar{
	known: []string{"root", "from", "at", "identities", "min-version"},
	other: map[string]string{
		"trust": "what the scope trusts by itself stands beside delegate",
		"file":  "write from: file:PATH",
	},
}

// delegation reads a section "delegate" of s, whose rule is trust.
func (p *parser) delegation(f field, s *scope) (*delegation, error) {
	what := fmt.Sprintf("delegate of scope %q", s.name)
	fields, err := p.object(f.value, what, delegateGrammar)
	if err != nil {
		return nil, err
	}
	for _, key := range []string{"root", "from", "identities"} {
		if _, ok := fields[key]; ok {
			continue
		}
		hint := map[string]string{
			"root":       "write root: NAME, of those who issue the document",
			"from":       "write from: registry with at: HOST/REPO:TAG, or from: file:PATH",
			"identities": "without them whoever signs artifacts under that root could issue delegations",
		}[key]
		return nil, p.wrong(f.value, codeMissing, "%s has no %s: %s", what, key, hint)
	}
	d := &delegation{scope: s, line: f.key.Line, minVersion: 1}
	if d.root, err = p.rootNamed(fields["root"].value); err != nil {
		return nil, err
	}
	if d.identities, err = p.identities(fields["identities"].value); err != nil {
		return nil, err
	}
	if v, ok := fields["min-version"]; ok {
		if d.minVersion, err = p.whole(v.value, "min-version of "+what); err != nil {
			return nil, err
		}
	}
	if v, ok := fields["at"]; ok {
		if d.at, err = p.documentAt(v.value, what); err != nil {
			return nil, err
		}
	}
	from, err := p.text(fields["from"].value, "from of "+what)
	if err != nil {
		return nil, err
	}
	path, isFile := strings.CutPrefix(from, fromFile+":")
	switch {
	case from == fromRegistry && d.at.Host == "":
		return nil, p.wrong(f.value, codeMissing, "%s: where? write at: HOST/REPO:TAG", what)
	case from == fromRegistry:
		d.from = fromRegistry
		return d, nil
	case !isFile || path == "":
		return nil, p.wrong(fields["from"].value, codeValue, "from of %s: %q is neither registry nor file:PATH", what, shorten(from))
	}
	d.from, d.file = fromFile, path
	if d.local, err = p.files.document(path); err != nil {
		return nil, p.wrong(fields["from"].value, codeOf(err, codeDelegateFile), "%s: reading %s: %w", what, path, err)
	}
	return d, nil
}

// documentAt reads where a document is.
func (p *parser) documentAt(n *yaml.Node, what string) (registry.Reference, error) {
	text, err := p.text(n, "at of "+what)
	if err != nil {
		return registry.Reference{}, err
	}
	ref, err := registry.ParseReference(text)
	switch {
	case err != nil:
		return ref, p.wrong(n, codeValue, "at of %s: %w", what, err)
	case ref.Kind != registry.Remote || ref.Host == "" || ref.Path == "" || ref.Tag == "" && ref.Digest == "":
		return ref, p.wrong(n, codeValue, "at of %s: %q is not HOST/REPO:TAG", what, shorten(text))
	}
	return ref, nil
}

// whole reads a whole number from 1 to 2^64-1 in decimal.
func (p *parser) whole(n *yaml.Node, what string) (uint64, error) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!int" {
		if v, err := strconv.ParseUint(n.Value, 10, 64); err == nil && v > 0 && strconv.FormatUint(v, 10) == n.Value {
			return v, nil
		}
	}
	return 0, p.wrong(n, codeValue, "%s must be a whole number from 1 on, not %s", what, kindOf(n))
}

// What became of a scope's delegation document.
const (
	DelegationCounts      = "counts"
	DelegationRefused     = "refused"     // Reason says why; no grant of it counts
	DelegationUnavailable = "unavailable" // it could not be had, so what it grants is not known
	DelegationNotAsked    = "not-asked"   // nothing could have depended on it
)

// A Delegation is what became of the delegation document of the selected scope. What the document says is there only if it was
// signed by whom the policy names.
type Delegation struct {
	Status   string        `json:"status"`
	Root     string        `json:"root"`  // the policy's name of whose documents count
	Scope    string        `json:"scope"` // of the policy
	At       string        `json:"at"`
	Digest   digest.Digest `json:"digest,omitempty"`   // of its manifest
	Document digest.Digest `json:"document,omitempty"` // of the document itself
	SignedBy string        `json:"signedBy,omitempty"`
	Version  uint64        `json:"version,omitempty"`
	Issued   *time.Time    `json:"issued,omitempty"`
	Expires  *time.Time    `json:"expires,omitempty"`
	Grants   int           `json:"grants,omitempty"` // how many it has
	Grant    string        `json:"grant,omitempty"`  // the one that decides for the reference; empty: none does
	Reason   string        `json:"reason,omitempty"`
	Detail   string        `json:"detail,omitempty"`
	Warnings []string      `json:"warnings,omitempty"`
}

// delegationEvidence is the document of a scope, judged.
type delegationEvidence struct {
	found  *Delegation // nil: nobody asked for it yet
	grants map[string]entry
}

// granted returns what the document grants to the repository that is judged: the longest grant alone (D5), by the name that a mirror
// stands for (M6).
func (c court) granted() grant {
	if !c.delegates() {
		return grant{asked: true}
	}
	e := c.evidence.delegation
	switch {
	case e.found == nil:
		return grant{}
	case e.found.Status != DelegationCounts:
		return grant{asked: true, code: e.found.Reason, detail: e.found.Detail, unavailable: e.found.Status == DelegationUnavailable}
	}
	if g, ok := e.grants[c.grantScope()]; ok {
		return grant{asked: true, entries: []entry{g}}
	}
	return grant{asked: true}
}

// delegates reports whether a document could grant anything: the scope has it so, and the run is not narrowed to other roots.
func (c court) delegates() bool {
	return c.scope != nil && c.scope.delegate != nil && c.policy.admits(c.scope.delegate.root)
}

// grantScope is the longest grant of the document that matches what is judged.
func (c court) grantScope() string {
	name := repository(c.ref)
	if c.scope.mirrors != "" {
		name = repository(c.policy.original(c.ref))
	}
	for ok := true; ok; name, ok = enclosingName(name) {
		if _, granted := c.evidence.delegation.grants[name]; granted {
			return name
		}
	}
	return ""
}

// delegated is the report on the document of the selected scope; nil where it has none.
func (c court) delegated() *Delegation {
	if c.scope == nil || c.scope.delegate == nil {
		return nil
	}
	if e := c.evidence.delegation; e.found != nil {
		found := *e.found
		found.Grant = c.grantScope()
		return &found
	}
	return c.scope.delegate.report(DelegationNotAsked)
}

func (d *delegation) report(status string) *Delegation {
	at := d.at.String()
	if d.from == fromFile {
		at = fromFile + ":" + d.file
	}
	return &Delegation{Status: status, Root: d.root.name, Scope: d.scope.name, At: at}
}

// delegationMemo is what a run was told of documents: each is fetched once, so that all it judges is judged by the same one.
type delegationMemo struct {
	served memo[string, servedAnswer]
	judged memo[judgedKey, delegationEvidence]
}

type judgedKey struct {
	delegation *delegation
	algorithms string // that the run is narrowed to
	now        time.Time
}

type servedAnswer struct {
	document *servedDocument
	err      error
}

// A memo answers each question once; who asks meanwhile waits for the answer.
type memo[K comparable, V any] struct {
	mu    sync.Mutex
	cells map[K]*memoCell[V]
}

type memoCell[V any] struct {
	turn  chan struct{}
	known bool
	value V
}

// answer returns what find said for key before, or what it says now. An answer that only comes of the end of ctx is not kept.
func (m *memo[K, V]) answer(ctx context.Context, key K, find func() V) V {
	m.mu.Lock()
	if m.cells == nil {
		m.cells = map[K]*memoCell[V]{}
	}
	cell := m.cells[key]
	if cell == nil {
		cell = &memoCell[V]{turn: make(chan struct{}, 1)}
		m.cells[key] = cell
	}
	m.mu.Unlock()
	select {
	case cell.turn <- struct{}{}:
	case <-ctx.Done():
		return find() // which ends at once
	}
	defer func() { <-cell.turn }()
	if cell.known {
		return cell.value
	}
	value := find()
	if ctx.Err() == nil {
		cell.known, cell.value = true, value
	}
	return value
}

// document returns the delegation document of s, judged by p at now.
func (s *Sources) document(ctx context.Context, p *Policy, in *scope, now time.Time) delegationEvidence {
	if in == nil || in.delegate == nil {
		return delegationEvidence{}
	}
	if s == nil {
		s = &Sources{}
	}
	key := judgedKey{in.delegate, strings.Join(p.narrow.algorithms, " "), now}
	return s.delegation.judged.answer(ctx, key, func() delegationEvidence { return s.judgeDocument(ctx, p, in.delegate, now) })
}

// A trouble is why no grant of a document counts.
type trouble struct {
	code   string
	err    error
	absent bool // it could not be had
}

func (t *trouble) Error() string { return t.err.Error() }
func (t *trouble) Unwrap() error { return t.err }

func refuse(code, format string, args ...any) error {
	return &trouble{code: code, err: fmt.Errorf(format, args...)}
}

func unavailable(format string, args ...any) error {
	return &trouble{code: codeDelegationUnavailable, err: fmt.Errorf(format, args...), absent: true}
}

// judgeDocument finds the document and holds it against all that D3 to D8 ask of it, in the order of what it costs an attacker: who
// signed it comes before anything that it says is looked at.
func (s *Sources) judgeDocument(ctx context.Context, p *Policy, d *delegation, now time.Time) delegationEvidence {
	found := d.report(DelegationCounts)
	doc, err := s.believe(ctx, p, d, now, found)
	if err == nil {
		return delegationEvidence{found: found, grants: d.entries(doc)}
	}
	found.Status, found.Reason, found.Detail = DelegationRefused, codeDelegationMalformed, err.Error()
	var t *trouble
	var state *stateError
	var format *delegationError
	switch {
	case errors.As(err, &state):
		found.Reason = state.code
		if state.down {
			found.Status = DelegationUnavailable
		}
	case errors.As(err, &t):
		found.Reason = t.code
		if t.absent {
			found.Status = DelegationUnavailable
		}
	case errors.As(err, &format):
		found.Reason = format.code
	}
	return delegationEvidence{found: found}
}

func (s *Sources) believe(ctx context.Context, p *Policy, d *delegation, now time.Time, found *Delegation) (*DelegationDocument, error) {
	served, err := s.serve(ctx, d)
	if err != nil {
		return nil, err
	}
	found.Digest = served.manifest.Digest
	// By the same court as artifacts, for a scope that trusts the root's issuers alone (D3, D6).
	ref := d.at
	if d.at.Host == "" {
		ref = registry.Reference{Kind: registry.Archive, Path: d.file, Digest: served.manifest.Digest}
	}
	report, err := d.issuing(p).Examine(ctx, ref, served.manifest, served.signatures, now, s)
	if err != nil {
		return nil, unavailable("judging the delegation document %s: %w", found.At, err)
	}
	switch report.Verdict {
	case Accepted:
	case Undetermined:
		return nil, unavailable("who signed the delegation document %s could not be found out (%s): %s", found.At, report.Reason, report.Detail)
	default:
		return nil, refuse(codeDelegationUntrusted, "the delegation document %s is not signed by whom the policy names (%s): %s", found.At, report.Reason, report.Detail)
	}
	found.Warnings = report.Warnings
	for _, j := range report.Signatures {
		if j.Accepted {
			found.SignedBy = j.Identity
			break
		}
	}
	body, err := served.body(ctx)
	if err != nil {
		return nil, documentError("reading the delegation document "+found.At, err)
	}
	doc, err := ParseDelegation(body)
	if err != nil {
		return nil, fmt.Errorf("the delegation document %s: %w", found.At, err)
	}
	found.Document, found.Grants = digest.FromBytes(body), len(doc.Grants)
	found.Version, found.Issued, found.Expires = doc.Version, &doc.Issued, &doc.Expires
	return doc, s.admit(ctx, d, doc, now, found)
}

// admit checks what an issuer may have said when it was true, and is not now.
func (s *Sources) admit(ctx context.Context, d *delegation, doc *DelegationDocument, now time.Time, found *Delegation) error {
	switch {
	case !within(doc.Scope, d.scope.name):
		return refuse(codeDelegationScope, "the delegation document is for %s, which is not under the policy's scope %s", doc.Scope, d.scope.name)
	case doc.Issued.After(now.Add(skew)):
		return refuse(codeDelegationAhead, "the delegation document was issued %s, which is yet to come", minute(doc.Issued))
	case !now.Before(doc.Expires):
		return refuse(codeDelegationExpired, "the delegation document of version %d expired %s", doc.Version, minute(doc.Expires))
	case doc.Version < d.minVersion:
		return refuse(codeDelegationRollback, "the delegation document is of version %d; the policy asks for %d at least", doc.Version, d.minVersion)
	}
	if s.State == "" {
		found.Warnings = append(slices.Clone(found.Warnings), fmt.Sprintf(
			"delegation for %s: no state is kept, so an older document than before would not be noticed; min-version alone holds", found.Scope))
		return nil
	}
	var roots []string
	for _, c := range d.root.certificates {
		roots = append(roots, certchain.Thumbprint(c))
	}
	return remember(ctx, s.State, roots, d.scope.name, doc.Version, found.Document)
}

// issuing is the policy by which a document is judged: the root and the identities of who may issue one, with what the scope and the
// file say of algorithms, time and revocation.
func (d *delegation) issuing(p *Policy) *Policy {
	out := *p
	out.single = true
	out.narrow.roots, out.narrow.requireClaim, out.narrow.maxAge = nil, false, 0
	of := d.scope.settings
	out.scopes = map[string]*scope{everything: {
		name: everything, line: d.line, rule: ruleTrust, enforce: true, strictX509: d.scope.strictX509,
		trust:    []entry{{root: d.root, identities: d.identities}},
		settings: settings{algorithms: of.algorithms, timestamps: of.timestamps, revocation: of.revocation},
	}}
	return &out
}

// entries are what the document grants, by scope.
func (d *delegation) entries(doc *DelegationDocument) map[string]entry {
	out := make(map[string]entry, len(doc.Grants))
	for _, g := range doc.Grants {
		out[g.Scope] = entry{root: &root{
			name:         d.root.name + ":" + g.Scope,
			certificates: g.Certificates,
			identities:   g.identities,
			pin:          pinRoot,
			kind:         kindCA,
			used:         true,
		}}
	}
	return out
}

// A servedDocument is a delegation document as it was found, of which nothing is proved.
type servedDocument struct {
	manifest   ocispec.Descriptor
	signatures []registry.Signature
	body       func(context.Context) ([]byte, error)
}

// serve finds the document: the one that was read with the policy, or the registry's, the same one for the whole run.
func (s *Sources) serve(ctx context.Context, d *delegation) (*servedDocument, error) {
	if d.from == fromFile {
		return d.local, nil
	}
	if s.Open == nil {
		return nil, unavailable("the delegation document %s was not asked for: no registry may be asked for it in this run", d.at)
	}
	a := s.delegation.served.answer(ctx, d.at.String(), func() servedAnswer {
		repo, err := s.Open(ctx, d.at)
		if err != nil {
			return servedAnswer{err: err}
		}
		m, err := repo.Resolve(ctx, d.at)
		if err != nil {
			return servedAnswer{err: err}
		}
		document, err := serveDocument(ctx, repo, m)
		return servedAnswer{document, err}
	})
	if a.err != nil {
		return nil, documentError("reading the delegation document "+d.at.String(), a.err)
	}
	return a.document, nil
}

// documentError tells what is wrong with a document for everybody from what could not be had.
func documentError(doing string, err error) error {
	for _, is := range []error{registry.ErrMalformed, registry.ErrAmbiguous, registry.ErrTooLarge, ErrDelegation} {
		if errors.Is(err, is) {
			return refuse(codeDelegationMalformed, "%s: %w", doing, err)
		}
	}
	return unavailable("%s: %w", doing, err)
}

// serveDocument looks at what m, which is in repo, is: an artifact of the type of delegation documents with one layer of that type.
func serveDocument(ctx context.Context, repo *registry.Repo, m registry.Manifest) (*servedDocument, error) {
	layer, err := delegationLayer(m)
	if err != nil {
		return nil, err
	}
	signatures, err := repo.Signatures(ctx, m.Descriptor)
	if err != nil {
		return nil, fmt.Errorf("listing its signatures: %w", err)
	}
	var once memo[struct{}, bodyAnswer]
	return &servedDocument{m.Descriptor, signatures, func(ctx context.Context) ([]byte, error) {
		a := once.answer(ctx, struct{}{}, func() bodyAnswer {
			b, err := repo.ReadBlob(ctx, layer, MaxDelegation)
			return bodyAnswer{b, err}
		})
		return a.body, a.err
	}}, nil
}

type bodyAnswer struct {
	body []byte
	err  error
}

// delegationLayer is the layer of an artifact that holds a delegation document.
func delegationLayer(m registry.Manifest) (ocispec.Descriptor, error) {
	parts, err := m.Parse()
	switch {
	case err != nil:
		return ocispec.Descriptor{}, err
	case parts.Shape != registry.ShapeImage || parts.ArtifactType != DelegationType:
		return ocispec.Descriptor{}, undelegated("%s is no artifact of type %s", m.Descriptor.Digest, DelegationType)
	case len(parts.Layers) != 1 || parts.Layers[0].MediaType != DelegationType:
		return ocispec.Descriptor{}, undelegated("%s does not have one layer, of type %s", m.Descriptor.Digest, DelegationType)
	}
	return parts.Layers[0], nil
}

// ReadDelegation returns the bytes of the delegation document that m holds, an artifact of [DelegationType] in repo, for
// [ParseDelegation]. Nothing is proved of it, and nothing taken down. What is no such artifact is [ErrDelegation].
func ReadDelegation(ctx context.Context, repo *registry.Repo, m registry.Manifest) ([]byte, error) {
	layer, err := delegationLayer(m)
	if err != nil {
		return nil, err
	}
	return repo.ReadBlob(ctx, layer, MaxDelegation)
}
