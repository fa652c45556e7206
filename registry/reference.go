package registry

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
)

// A Kind is where an artifact is.
type Kind int

const (
	Remote  Kind = iota // host[:port]/repo
	Layout              // oci:DIR
	Archive             // oci-archive:FILE.tar
	Files               // local files, see [Assemble]: Path lists them for people, and cannot be parsed
)

// A Reference names an artifact, or with neither Tag nor Digest a repository, a layout or an archive.
type Reference struct {
	Kind Kind
	// Host is canonical: lower case, no default port, no trailing dot, docker.io for its aliases.
	// Empty unless Remote.
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

const (
	layoutPrefix  = "oci:"
	archivePrefix = "oci-archive:"

	maxReference = 4 << 10 // bytes
	maxPath      = 255     // of a repository's path, as in the distribution grammar
	maxName      = 512     // of a layout's NAME
)

// ParseReference parses HOST[:PORT]/REPO[:TAG][@DIGEST], oci:DIR[:NAME][@DIGEST] or
// oci-archive:FILE.tar[:NAME][@DIGEST]. A name without a registry host is an error, never docker.io; so is
// docker.io/alpine (write docker.io/library/alpine). Digests are lower-case sha256 or sha512.
func ParseReference(s string) (Reference, error) {
	r, err := parseReference(s)
	if err != nil {
		return Reference{}, &Error{Code: codeReference, Err: fmt.Errorf("%w %q: %w", ErrReference, clip(s), err)}
	}
	return r, nil
}

// ParseQualified parses HOST[:PORT]/REPO[:TAG] in canonical form, for qualified claims and names; a digest is an error.
func ParseQualified(s string) (Reference, error) {
	r, err := parseReference(s)
	if err == nil && r.Kind != Remote {
		err = errors.New("write HOST/REPO or HOST/REPO:TAG")
	}
	if err == nil && r.Digest != "" {
		err = errors.New("a digest has no place here")
	}
	if err != nil {
		return Reference{}, &Error{Code: codeReference, Err: fmt.Errorf("%w %q: %w", ErrReference, clip(s), err)}
	}
	return r, nil
}

// clip keeps what is quoted in errors short.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

func parseReference(s string) (Reference, error) {
	switch {
	case s == "":
		return Reference{}, errors.New("it is empty")
	case len(s) > maxReference:
		return Reference{}, errors.New("it is too long")
	case !utf8.ValidString(s):
		return Reference{}, errors.New("it is not UTF-8")
	}
	for _, c := range s {
		if c < ' ' || c == 0x7f {
			return Reference{}, errors.New("it holds a control character")
		}
	}
	if rest, ok := strings.CutPrefix(s, layoutPrefix); ok {
		return parseLayout(Layout, rest)
	}
	if rest, ok := strings.CutPrefix(s, archivePrefix); ok {
		return parseLayout(Archive, rest)
	}
	return parseRemote(s)
}

// parseLayout parses what follows oci: or oci-archive:.
func parseLayout(k Kind, s string) (Reference, error) {
	r := Reference{Kind: k}
	if i := strings.LastIndexByte(s, '@'); i >= 0 && looksLikeDigest(s[i+1:]) {
		var err error
		if r.Digest, err = parseDigest(s[i+1:]); err != nil {
			return Reference{}, err
		}
		s = s[:i]
	}
	// A layout's path ends at its first colon that is not a drive's, an archive's at the first one after ".tar".
	from := 0
	switch {
	case k == Archive:
		i := strings.Index(s, ".tar")
		if i < 0 {
			return Reference{}, errors.New("the file name of an archive holds \".tar\", as in oci-archive:image.tar:1.0")
		}
		from = i
	case hasDrive(s):
		from = len("C:")
	}
	path, name := s, ""
	if i := strings.IndexByte(s[from:], ':'); i >= 0 {
		path, name = s[:from+i], s[from+i+1:]
		if name == "" {
			return Reference{}, errors.New("there is no name after the colon")
		}
	}
	if path == "" {
		if k == Layout {
			return Reference{}, errors.New("name the folder of the layout, as in oci:build:1.0")
		}
		return Reference{}, errors.New("name the file of the archive, as in oci-archive:image.tar:1.0")
	}
	if strings.HasPrefix(path, "//") {
		return Reference{}, fmt.Errorf("write %s without slashes after the colon", map[Kind]string{Layout: "oci:DIR",
			Archive: "oci-archive:FILE.tar"}[k])
	}
	if err := checkName(name); err != nil {
		return Reference{}, err
	}
	r.Path, r.Tag = path, name
	return r, nil
}

// hasDrive reports whether a path begins with a drive of Windows. It means the same everywhere: no NAME begins with a
// slash.
func hasDrive(path string) bool {
	if len(path) < 3 || path[1] != ':' || path[2] != '\\' && path[2] != '/' {
		return false
	}
	letter := path[0] | 0x20 // lower case
	return 'a' <= letter && letter <= 'z'
}

// checkName checks a layout's NAME. What other tools wrote into org.opencontainers.image.ref.name can be named too,
// so this is wider than tags and full names; but it is one word.
func checkName(name string) error {
	if len(name) > maxName {
		return errors.New("the name is too long")
	}
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return fmt.Errorf("the name holds %q; a name is a tag, or a full name as in harbor.example/db:16.4", c)
		}
	}
	return nil
}

var errNoHost = errors.New("add the registry host; imprint never assumes docker.io")

// namesRegistry tells a registry's host from the first part of a path as Docker does: a registry's has a dot or a port,
// or is localhost.
func namesRegistry(host string) bool {
	return strings.ContainsAny(host, ".:") || strings.EqualFold(host, "localhost")
}

func parseRemote(s string) (Reference, error) {
	if i := strings.Index(s, "://"); i >= 0 {
		return Reference{}, fmt.Errorf("leave out %q", s[:i+3])
	}
	var r Reference
	name, pin, pinned := strings.Cut(s, "@")
	if pinned {
		var err error
		if r.Digest, err = parseDigest(pin); err != nil {
			return Reference{}, err
		}
	}
	host, path, ok := strings.Cut(name, "/")
	if !ok {
		if bare, _, _ := strings.Cut(host, ":"); strings.Contains(bare, ".") || bare == "localhost" {
			return Reference{}, errors.New("add the repository, as in registry.example/app")
		}
		return Reference{}, errNoHost
	}
	if !namesRegistry(host) {
		return Reference{}, errNoHost
	}
	var err error
	if r.Host, err = registryHost(host); err != nil {
		return Reference{}, err
	}
	if i := strings.LastIndexByte(path, ':'); i >= 0 {
		path, r.Tag = path[:i], path[i+1:]
		if !ValidTag(r.Tag) {
			return Reference{}, fmt.Errorf("%q is not a tag: letters, digits, underscores, dots and dashes, at most 128", clip(r.Tag))
		}
	}
	if err := checkPath(path); err != nil {
		return Reference{}, err
	}
	if r.Host == "docker.io" && !strings.Contains(path, "/") {
		return Reference{}, fmt.Errorf("write docker.io/library/%s", path)
	}
	r.Path = path
	return r, nil
}

// checkPath applies the distribution grammar to a repository's path.
func checkPath(path string) error {
	if path == "" {
		return errors.New("add the repository, as in registry.example/app")
	}
	if len(path) > maxPath {
		return fmt.Errorf("the repository's path is longer than %d characters", maxPath)
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "" {
			return errors.New("the repository's path has an empty part")
		}
		if strings.ToLower(part) != part {
			return fmt.Errorf("%q: repository paths are lower case; write %q", part, strings.ToLower(part))
		}
		if !pathComponent(part) {
			return fmt.Errorf("%q cannot be part of a repository's path: lower-case letters and digits, with . _ __ or dashes between them",
				clip(part))
		}
	}
	return nil
}

// pathComponent: [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*
func pathComponent(s string) bool {
	for i := 0; i < len(s); {
		start := i
		for i < len(s) && lowerAlnum(s[i]) {
			i++
		}
		if i == start {
			return false
		}
		if i == len(s) {
			return true
		}
		sep := i
		for i < len(s) && !lowerAlnum(s[i]) {
			i++
		}
		switch sep := s[sep:i]; {
		case sep == ".", sep == "_", sep == "__", strings.Trim(sep, "-") == "":
		default:
			return false
		}
	}
	return false
}

func lowerAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// looksLikeDigest tells a digest from the rest of a path or name that holds an @.
func looksLikeDigest(s string) bool {
	algorithm, _, ok := strings.Cut(s, ":")
	return ok && (strings.EqualFold(algorithm, "sha256") || strings.EqualFold(algorithm, "sha512"))
}

// parseDigest accepts lower-case sha256 and sha512. It runs before any path or URL is built from a digest.
func parseDigest(s string) (digest.Digest, error) {
	algorithm, hex, ok := strings.Cut(s, ":")
	if !ok {
		return "", fmt.Errorf("%q is not a digest, as in sha256:…", clip(s))
	}
	length := map[string]int{"sha256": 64, "sha512": 128}[algorithm]
	if length == 0 {
		return "", fmt.Errorf("%q is not a digest algorithm that imprint knows (sha256, sha512)", clip(algorithm))
	}
	if len(hex) != length {
		return "", fmt.Errorf("a %s digest has %d hexadecimal digits, this one %d", algorithm, length, len(hex))
	}
	for i := range len(hex) {
		if c := hex[i]; !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return "", errors.New("a digest is written in lower-case hexadecimal digits")
		}
	}
	return digest.Digest(s), nil
}

// String renders r so that ParseReference reads it back.
func (r Reference) String() string {
	var b strings.Builder
	switch r.Kind {
	case Layout:
		b.WriteString(layoutPrefix)
	case Archive:
		b.WriteString(archivePrefix)
	case Files:
	default:
		b.WriteString(r.Host)
		b.WriteByte('/')
	}
	b.WriteString(r.Path)
	if r.Tag != "" {
		b.WriteByte(':')
		b.WriteString(r.Tag)
	}
	if r.Digest != "" {
		b.WriteByte('@')
		b.WriteString(string(r.Digest))
	}
	return b.String()
}

// Repository returns r without tag and digest.
func (r Reference) Repository() Reference { r.Tag, r.Digest = "", ""; return r }

// With returns r naming another tag, or digest; empty ones are left out.
func (r Reference) With(tag string, d digest.Digest) Reference { r.Tag, r.Digest = tag, d; return r }

// IsRepository reports whether r has neither tag nor digest.
func (r Reference) IsRepository() bool { return r.Tag == "" && r.Digest == "" }

// FullName returns the remote reference that a layout's or archive's NAME spells when it is a full name
// (host/repo:tag); ok is false otherwise.
func (r Reference) FullName() (Reference, bool) {
	if r.Kind == Remote || r.Tag == "" {
		return Reference{}, false
	}
	full, err := parseRemote(r.Tag)
	if err != nil || full.Tag == "" || full.Digest != "" {
		return Reference{}, false
	}
	return full, true
}

// BareTag returns the tag that r goes by: that of the full name where a layout's or archive's NAME is one, else Tag.
func (r Reference) BareTag() string {
	if full, ok := r.FullName(); ok {
		return full.Tag
	}
	return r.Tag
}

// ValidTag reports whether s fits the distribution specification's grammar of tags.
func ValidTag(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		word := lowerAlnum(c) || 'A' <= c && c <= 'Z' || c == '_'
		if !word && (i == 0 || c != '.' && c != '-') {
			return false
		}
	}
	return true
}
