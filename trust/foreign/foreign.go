// Package foreign says trust policies in the words of other verifiers.
//
// [Export] writes what a policy means for notation, Kyverno or Ratify. None of them can say all of it, so each thing that is
// lost is named as a [Loss] with the direction in which it goes. What would make the target accept more is left out of the
// document instead: the entry or the scope that it belongs to is rejected there. One thing alone cannot be rejected
// away, claims of tags under the default mode, and so is marked [Wider].
//
// [ImportNotation] and [ImportContainers] go the other way. Nothing here reads a registry or judges a signature.
package foreign

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust"
)

// A Target is whose words a policy is said in.
type Target string

const (
	Notation Target = "notation" // trustpolicy.json with its trust store
	Kyverno  Target = "kyverno"  // a ClusterPolicy
	Ratify   Target = "ratify"   // Verifier and KeyManagementProvider of Ratify 1
)

// Targets lists them.
func Targets() []Target { return []Target{Notation, Kyverno, Ratify} }

// An Effect is what a loss does.
type Effect string

const (
	Narrower Effect = "narrower" // less is accepted there
	Wider    Effect = "wider"    // more is accepted there
)

// A Loss is something that a policy says and its translation cannot say.
type Loss struct {
	Code   string `json:"code"`            // one of [Codes]
	Scope  string `json:"scope,omitempty"` // where; empty: the whole document
	Effect Effect `json:"effect"`
	Detail string `json:"detail"`
}

func (l Loss) String() string {
	if l.Scope == "" {
		return fmt.Sprintf("%s: %s", l.Code, l.Detail)
	}
	return fmt.Sprintf("%s: scope %s: %s", l.Code, l.Scope, l.Detail)
}

// The codes of losses.
const (
	lossAlgorithms = "algorithms"
	lossClaims     = "claims"
	lossIfPresent  = "claims-if-present"
	lossDelegate   = "delegate"
	lossEnforce    = "enforce"
	lossEverything = "everything"
	lossIdentities = "identities"
	lossKind       = "kind"
	lossMaxAge     = "max-age"
	lossPin        = "pin"
	lossPrefix     = "prefix"
	lossRequire    = "require"
	lossRevocation = "revocation"
	lossStrict     = "strict-x509"
	lossTimestamps = "timestamps"
	lossUnsigned   = "unsigned"

	lossBelow     = "below"
	lossLevel     = "level"
	lossScope     = "scope"
	lossSignature = "signature"
	lossTag       = "tag"
	lossTransport = "transport"
)

// Codes says in one sentence what each code of a loss means.
func Codes() map[string]string {
	return map[string]string{
		lossAlgorithms: "The target does not limit algorithms: what is trusted for some of them only is not trusted there.",
		lossClaims:     "The target does not look at claims: what is trusted only with a claim is not trusted there.",
		lossIfPresent: "The target does not look at claims: a digest is accepted there under any tag, also under one that its signature " +
			"does not claim. It is the only loss of an export by which more is accepted.",
		lossDelegate:   "The target reads no delegation documents: granted keys are not trusted there.",
		lossEnforce:    "The target only knows rules that are enforced: what is only reported here is rejected there.",
		lossEverything: `The target knows no longer scopes that would be an exception from "*": "*" is left out, and what is not listed is rejected.`,
		lossIdentities: "The target cannot say these identities, or not each for its root: what only they would allow is not accepted there.",
		lossKind:       "The target does not know this kind of root: it is not trusted there.",
		lossMaxAge:     "The target does not limit the age of signatures: what is trusted up to an age is not trusted there.",
		lossPin:        "The target cannot pin certificates at this place in the chain: they are not trusted there.",
		lossPrefix:     "The target knows repositories and no scopes that hold for what is below them: list the repositories with --batch.",
		lossRequire:    "The target cannot ask for several signatures, or not by different keys: everything in this scope is rejected there.",
		lossRevocation: "The target looks up revocation elsewhere: what is trusted by these lists is not trusted there.",
		lossStrict:     "The target does not judge certificates by all of X.509: what is trusted under strict-x509 only is not trusted there.",
		lossTimestamps: "The target cannot judge timestamps so, or not each root by its own: what only they would allow is not accepted there.",
		lossUnsigned:   "The target rejects what has no signature.",
		lossBelow: "An exact repository became a scope, which holds for what is below it too: what is in repositories below it is " +
			"judged by the same rule. More may be accepted.",
		lossLevel:     "A level that only logs failures is imported as one that enforces.",
		lossScope:     "The scope cannot be said in a policy of imprint: what is in it is rejected.",
		lossSignature: "Signatures of this kind are not imprint's: what they would allow is rejected.",
		lossTag:       "Scopes of one tag or digest do not exist in imprint: the whole repository is rejected.",
		lossTransport: "Only registries are judged by scopes: rules of other transports are not imported.",
	}
}

// A File is one file of a translation, named relative to its folder, with / between.
type File struct {
	Name    string
	Content []byte
}

// A Translation is a policy in other words.
type Translation struct {
	Files  []File // the document last, so that it never stands without what it names
	Losses []Loss // by scope, then code
	Notes  []string
}

// Unaccepted returns the losses whose code is not in accepted.
func (t Translation) Unaccepted(accepted []string) []Loss {
	var out []Loss
	for _, l := range t.Losses {
		if !slices.Contains(accepted, l.Code) {
			out = append(out, l)
		}
	}
	return out
}

// A Repository is one that a prefix scope stands for.
type Repository struct {
	Reference registry.Reference
	Written   string // as it was written: targets compare names character by character
}

// ParseRepository reads HOST/REPO; a tag or digest after it counts for nothing.
func ParseRepository(text string) (Repository, error) {
	written, _, _ := strings.Cut(text, "@")
	ref, err := registry.ParseQualified(written)
	if err != nil {
		return Repository{}, err
	}
	if ref.Tag != "" {
		written = strings.TrimSuffix(written, ":"+ref.Tag)
	}
	ref.Tag = ""
	return Repository{ref, written}, nil
}

func (r Repository) name() string { return r.Reference.Host + "/" + r.Reference.Path }

// ErrNothing: nothing of a policy can be said in the words of the target.
var ErrNothing = errors.New("nothing is left")

// Export says a policy in the words of a target. repos are the repositories that its scopes stand for, nil if they were not
// listed; a target that knows prefixes does not need them. The losses are for the caller to accept or not.
func Export(v trust.View, to Target, repos []Repository) (Translation, error) {
	x := newExporter(v, to)
	err := x.export(repos)
	return x.Translation, err
}

func newExporter(v trust.View, to Target) *exporter {
	return &exporter{view: v, to: to, seen: map[any]bool{}, self: map[*x509.Certificate]bool{},
		who: map[Target]string{Notation: "notation", Kyverno: "Kyverno", Ratify: "Ratify"}[to]}
}

func (x *exporter) export(repos []Repository) error {
	to := x.to
	var err error
	switch to {
	case Notation:
		err = x.notation(repos)
	case Ratify:
		err = x.ratify(repos)
	case Kyverno:
		if repos != nil {
			return fmt.Errorf("exporting to %s: it knows prefixes, so there are no repositories to list", to)
		}
		err = x.kyverno()
	default:
		return fmt.Errorf("exporting to %q: it is none of %v", to, Targets())
	}
	sortLosses(x.Losses)
	return err
}

// Losses returns what an export would lose.
func Losses(v trust.View, to Target) []Loss {
	x := newExporter(v, to)
	x.unwritten = true
	_ = x.export(nil) // that nothing is left, the losses say
	return x.Losses
}

// An exporter gathers a translation.
type exporter struct {
	view trust.View
	to   Target
	who  string       // to, as its people write it
	seen map[any]bool // losses and notes
	// unwritten: only the losses are wanted; documents of a hundred thousand scopes take long to write.
	unwritten bool
	// self says of certificates whether they are self-signed: each is in the roots of many scopes.
	self map[*x509.Certificate]bool
	Translation
}

func (x *exporter) lose(code, scope string, effect Effect, format string, args ...any) {
	l := Loss{code, scope, effect, fmt.Sprintf(format, args...)}
	if x.first(l) {
		x.Losses = append(x.Losses, l)
	}
}

func (x *exporter) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); x.first(n) {
		x.Notes = append(x.Notes, n)
	}
}

func (x *exporter) first(v any) bool {
	if x.seen[v] {
		return false
	}
	x.seen[v] = true
	return true
}

func (x *exporter) selfSigned(c *x509.Certificate) bool {
	self, known := x.self[c]
	if !known {
		self = certchain.Describe(c).SelfSigned
		x.self[c] = self
	}
	return self
}

func (x *exporter) add(name string, content []byte) { x.Files = append(x.Files, File{name, content}) }

func sortLosses(losses []Loss) {
	slices.SortStableFunc(losses, func(a, b Loss) int {
		return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Detail, b.Detail))
	})
}
