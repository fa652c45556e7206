// Package trust judges signatures by a policy of scoped roots of trust.
//
// A policy says, in one YAML file, which roots may sign what: the longest scope that matches a reference is selected
// and decides alone, unless it says inherit. [Load] reads one and checks all of it, [Single] makes one of a root
// certificate, [Policy.Judge] is a pure function of policy, reference, signatures and time, and [Verify] fetches what
// it needs. Nothing here searches, orders or prefers: no signature and no scope can hide another.
package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/certchain"
)

// A Policy is a policy that loaded: it cannot fail later for a reason of configuration. It is never changed;
// [Policy.Narrow] makes another.
type Policy struct {
	file     string
	digest   string
	single   bool // made by Single
	roots    map[string]*root
	scopes   map[string]*scope // by canonical form
	mirrored map[string]string // what each mirror is a mirror of
	warnings []string
	narrow   narrowing

	revocation *revoking       // for scopes and entries without their own; nil: nothing is asked
	timestamps *timestamping   // for scopes and entries without their own; nil: timestamps are ignored
	stampings  []*timestamping // all of the file, in its order
	revokings  []*revoking     // all of the file, in its order
}

// A root is a name for certificates in which chains may end.
type root struct {
	name         string
	certificates []*x509.Certificate
	identities   identities // of the leaf; none: any
	pin          pin
	kind         kind
	used         bool
}

// A pin is where in a chain a root's certificate may stand (P9).
type pin string

const (
	pinRoot         pin = "root"         // last
	pinIntermediate pin = "intermediate" // anywhere but first
	pinLeaf         pin = "leaf"         // first
)

// A kind is which signing scheme a root is trusted for.
type kind string

const (
	kindCA        kind = "ca"
	kindAuthority kind = "signing-authority"
)

// Single is a whole policy of one root ("--root CERT [--identity DN]") for every reference: certificates that may
// stand last in a chain.
func Single(name string, roots []*x509.Certificate, ids []string) (*Policy, error) {
	wrong := func(code string, err error) error {
		return &LoadError{Code: code, Err: fmt.Errorf("root %s: %w", name, err)}
	}
	if len(roots) == 0 {
		return nil, wrong(codeRootFile, errors.New("no certificate"))
	}
	r := &root{name: name, certificates: distinct(roots), pin: pinRoot, kind: kindCA, used: true}
	p := &Policy{single: true, roots: map[string]*root{name: r}}
	for _, c := range r.certificates {
		if err := checkRoot(c, pinRoot); err != nil {
			return nil, wrong(codeRootInvalid, err)
		}
	}
	for _, text := range ids {
		id, err := parseIdentity(text)
		if err != nil {
			return nil, wrong(codeIdentity, fmt.Errorf("identity %q: %w", shorten(text), err))
		}
		r.identities = append(r.identities, id)
	}
	p.scopes = map[string]*scope{everything: {name: everything, rule: ruleTrust, trust: []entry{{root: r}}, enforce: true}}
	p.warnings = r.warnings()
	return p, nil
}

// A Narrowing can only turn acceptance into rejection.
type Narrowing struct {
	OnlyRoots    []string      // only these roots of those that a scope trusts
	RequireClaim bool          // as claims: tag where the scope asks less
	MaxAge       time.Duration // at most; 0: as the policy says
	Algorithms   []string      // only these of those that the policy allows
	Lists        *Lists        // what they cover must not be revoked; nil: none
}

type narrowing struct {
	roots        map[string]bool // nil: all
	requireClaim bool
	maxAge       time.Duration
	algorithms   algorithms
	lists        *Lists
}

// Narrow returns a narrower policy. An unknown root's name, or an unknown algorithm, is an error.
func (p *Policy) Narrow(n Narrowing) (*Policy, error) {
	wrong := func(code, format string, args ...any) error {
		return &LoadError{File: p.file, Code: code, Err: fmt.Errorf(format, args...)}
	}
	out := *p
	if len(n.OnlyRoots) > 0 {
		out.narrow.roots = map[string]bool{}
		for _, name := range n.OnlyRoots {
			if p.roots[name] == nil {
				return nil, wrong(codeRootUnknown, "the policy has no root %q%s", name, suggest(name, p.rootNames()))
			}
			if p.narrow.roots == nil || p.narrow.roots[name] {
				out.narrow.roots[name] = true
			}
		}
	}
	out.narrow.requireClaim = p.narrow.requireClaim || n.RequireClaim
	if n.MaxAge < 0 {
		return nil, wrong(codeValue, "a maximal age of %v", n.MaxAge)
	}
	out.narrow.maxAge = shorter(p.narrow.maxAge, n.MaxAge)
	for _, a := range n.Algorithms {
		if !slices.Contains(allAlgorithms, a) {
			return nil, wrong(codeValue, "narrowing it: algorithm %q is none of %s%s", a, strings.Join(allAlgorithms, ", "), suggest(a, allAlgorithms))
		}
	}
	if len(n.Algorithms) > 0 {
		out.narrow.algorithms = p.narrow.algorithms.and(n.Algorithms)
	}
	out.narrow.lists = p.narrow.lists.and(n.Lists)
	return &out, nil
}

func (p *Policy) rootNames() []string { return slices.Sorted(maps.Keys(p.roots)) }

// shorter returns the smaller of two limits, of which 0 is none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// allAlgorithms are those of the Notary Project.
var allAlgorithms = []string{"PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}

// algorithms is a list of allowed ones; nil allows all.
type algorithms []string

func (a algorithms) allow(name string) bool { return a == nil || slices.Contains(a, name) }

// and returns what both lists allow; it is empty, not nil, if that is nothing.
func (a algorithms) and(b algorithms) algorithms {
	switch {
	case b == nil:
		return a
	case a == nil:
		return b
	}
	both := algorithms{}
	for _, name := range a {
		if slices.Contains(b, name) {
			both = append(both, name)
		}
	}
	return both
}

// File returns the name of the file that was read; it is empty for a policy of a single root.
func (p *Policy) File() string { return p.file }

// Digest identifies what the policy says (L4): the SHA-256, in hex, over the policy's bytes and, in the order of
// their names, each file that it names, preceded by its length as 8 bytes big-endian. Without such files it is what
// sha256sum prints of the policy. It is empty for a policy of a single root.
func (p *Policy) Digest() string { return p.digest }

func digestOf(policy []byte, files []named) string {
	h := sha256.New()
	h.Write(policy)
	files = slices.SortedFunc(slices.Values(files), func(a, b named) int { return strings.Compare(a.name, b.name) })
	for _, f := range files {
		// The policy's text holds no NUL and these lengths begin with one, so no byte can move from one file to the next unseen.
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(f.bytes))))
		h.Write(f.bytes)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Warnings returns what loaded but deserves a look: unused roots, and roots that are not valid at the time at.
func (p *Policy) Warnings(at time.Time) []string {
	out := slices.Clone(p.warnings)
	for _, name := range p.rootNames() {
		out = append(out, p.warningsAt(p.roots[name], at)...)
	}
	return append(out, p.listWarnings(at)...)
}

// warnings are those that no time changes.
func (r *root) warnings() []string {
	var out []string
	for _, c := range r.certificates {
		if r.pin == pinRoot && !certchain.Describe(c).SelfSigned {
			out = append(out, fmt.Sprintf("root %s: %s is not self-signed: it cannot stand last in a chain, so nothing is accepted by it",
				r.name, certchain.NameOf(c.RawSubject)))
		}
	}
	return out
}

func (p *Policy) warningsAt(r *root, at time.Time) []string {
	left := "nothing is accepted by it"
	if len(p.stampings) > 0 {
		left = "at most what has a timestamp from before is accepted by it"
	}
	var out []string
	for _, c := range r.certificates {
		switch {
		case at.After(c.NotAfter):
			out = append(out, fmt.Sprintf("root %s: %s expired %s: %s",
				r.name, certchain.NameOf(c.RawSubject), minute(c.NotAfter), left))
		case at.Before(c.NotBefore):
			out = append(out, fmt.Sprintf("root %s: %s is not valid before %s", r.name, certchain.NameOf(c.RawSubject), minute(c.NotBefore)))
		}
	}
	return out
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
