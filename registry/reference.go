package registry

import (
	"errors"

	"github.com/opencontainers/go-digest"
)

// A Kind is where an artifact is.
type Kind int

const (
	Remote  Kind = iota // host[:port]/repo
	Layout              // oci:DIR
	Archive             // oci-archive:FILE.tar
)

// A Reference names an artifact, or with neither Tag nor Digest a repository, a layout or an archive (DESIGN.md section 3).
type Reference struct {
	Kind Kind
	// Host is canonical (POLICY.md N2): lower case, no :443, no trailing dot, docker.io for its aliases. Empty unless Remote.
	Host string
	// Path is the repository's path below the host, or the folder or file.
	Path string
	// Tag is the tag, or the NAME of a layout or archive (a tag or a full name).
	Tag string
	// Digest pins the bytes; with Tag both must agree.
	Digest digest.Digest
}

// ErrReference: the text is not a reference. Errors say what is wrong and wrap it.
var ErrReference = errors.New("invalid reference")

// ParseReference parses HOST[:PORT]/REPO[:TAG][@DIGEST], oci:DIR[:NAME][@DIGEST] or oci-archive:FILE.tar[:NAME][@DIGEST]. A name without a registry host is an error,
// never docker.io; so is docker.io/alpine (write docker.io/library/alpine). Digests are lower-case sha256 or sha512.
func ParseReference(s string) (Reference, error) { panic("door") }

// String renders r so that ParseReference reads it back.
func (r Reference) String() string { panic("door") }

// Repository returns r without tag and digest.
func (r Reference) Repository() Reference { r.Tag, r.Digest = "", ""; return r }

// With returns r naming another tag, or digest; empty ones are left out.
func (r Reference) With(tag string, d digest.Digest) Reference { r.Tag, r.Digest = tag, d; return r }

// IsRepository reports whether r has neither tag nor digest.
func (r Reference) IsRepository() bool { return r.Tag == "" && r.Digest == "" }

// FullName returns the remote reference that a layout's or archive's NAME spells when it is a full name (host/repo:tag); ok is false otherwise.
func (r Reference) FullName() (Reference, bool) { panic("door") }

// ValidTag reports whether s fits the distribution specification's grammar of tags.
func ValidTag(s string) bool { panic("door") }

// ParseRepository parses HOST[:PORT]/REPO in canonical form, for scopes and qualified claims; ParseQualified HOST/REPO[:TAG].
func ParseQualified(s string) (Reference, error) { panic("door") }
