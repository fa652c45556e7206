// Package trust judges signatures by a policy of scoped roots of trust.
package trust

import (
	"crypto/x509"
	"errors"
	"time"

	"github.com/imprint-oci/imprint/registry"
)

var (
	// ErrPolicy: the policy does not load (exit 3). Errors are *LoadError.
	ErrPolicy = errors.New("trust policy")
)

// A LoadError says where a policy is wrong.
type LoadError struct {
	File         string
	Line, Column int // 1-based; 0: the whole file
	Code         string
	Err          error
}

func (e *LoadError) Error() string  { panic("door") }
func (e *LoadError) Unwrap() error  { return e.Err }
func (e *LoadError) Reason() string { return e.Code }

// A Policy is a policy that loaded: it cannot fail later for a reason of configuration.
type Policy struct{ _ struct{} }

// Load reads a policy file and every file that it names (POLICY.md section 2).
func Load(file string) (*Policy, error) { panic("door") }

// Single is a whole policy of one root ("--root CERT [--identity DN]") for every reference: certificates that may stand last in a chain.
func Single(name string, roots []*x509.Certificate, identities []string) (*Policy, error) {
	panic("door")
}

// A Narrowing can only turn acceptance into rejection.
type Narrowing struct {
	OnlyRoots    []string
	RequireClaim bool
	MaxAge       time.Duration
	Algorithms   []string
}

// Narrow returns a narrower policy. An unknown root's name is an error.
func (p *Policy) Narrow(n Narrowing) (*Policy, error) { panic("door") }

// File and Digest identify the policy (L4): where it was read, and the SHA-256 over its bytes and, by name, those of its files.
func (p *Policy) File() string   { panic("door") }
func (p *Policy) Digest() string { panic("door") }

// Warnings returns what loaded but deserves a look (unused roots, an expired root).
func (p *Policy) Warnings() []string { panic("door") }

// A ScopeInfo is one scope, for check and explain.
type ScopeInfo struct {
	Scope     string   `json:"scope"`
	File      string   `json:"file"`
	Line      int      `json:"line"`
	Rule      string   `json:"rule"`  // "trust", "reject"
	Trust     []string `json:"trust"` // roots effectively trusted, sorted
	Inherits  bool     `json:"inherits"`
	Enclosing string   `json:"enclosing,omitempty"`
	Claims    string   `json:"claims"`
	Enforced  bool     `json:"enforced"`
}

// RootInfo is one root.
type RootInfo struct {
	Name         string   `json:"name"`
	Certificates []string `json:"certificates"` // subject and thumbprint of each
	Identities   []string `json:"identities,omitempty"`
}

// A Summary is what `policy check` prints.
type Summary struct {
	File     string      `json:"file"`
	Digest   string      `json:"digest"`
	Roots    []RootInfo  `json:"roots"`
	Scopes   []ScopeInfo `json:"scopes"` // as a tree: each after its enclosing one
	Warnings []string    `json:"warnings,omitempty"`
}

func (p *Policy) Summary() Summary { panic("door") }

// An Explanation is which scope judges a reference and why.
type Explanation struct {
	Reference string     `json:"reference"`
	Selected  *ScopeInfo `json:"selected"` // nil: no-scope, rejected
	Matching  []string   `json:"matching"` // longest first
	Reason    string     `json:"reason,omitempty"`
	Text      string     `json:"text"`
}

// Explain says it without looking at any registry. ref must be remote.
func (p *Policy) Explain(ref registry.Reference) Explanation { panic("door") }

// Reasons returns the reason codes of this package with one sentence each.
func Reasons() map[string]string { panic("door") }
