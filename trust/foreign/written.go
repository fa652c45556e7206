package foreign

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// An Imported is a policy of imprint that was made of another.
type Imported struct {
	From   string // "notation", "containers"
	Losses []Loss // by scope, then code
	Notes  []string

	roots  []importedRoot
	stamps []importedRoot // of time-stamping authorities
	scopes []importedScope
	named  map[Loss]bool // are in Losses
}

type importedRoot struct {
	name, kind, pin string
	certs           []*x509.Certificate
}

type importedScope struct {
	name, rule string // rule as a line of YAML; empty: trust
	entries    []importedEntry
	use        string // of timestamps; empty: none
	stamps     []string
	revocation string // as a line of YAML; empty: none
}

type importedEntry struct {
	root       string
	identities []string
}

// Unaccepted returns the losses whose code is not in accepted.
func (m *Imported) Unaccepted(accepted []string) []Loss {
	return Translation{Losses: m.Losses}.Unaccepted(accepted)
}

func (m *Imported) lose(code, scope string, effect Effect, format string, args ...any) {
	if l := (Loss{code, scope, effect, fmt.Sprintf(format, args...)}); !m.named[l] {
		m.named[l] = true
		m.Losses = append(m.Losses, l)
	}
}

// Inline returns the policy in one piece, its certificates in it.
func (m *Imported) Inline() []byte {
	return m.yaml(func(r importedRoot, indent string) string {
		text := "|\n"
		for line := range strings.Lines(string(pemOf(r.certs))) {
			text += indent + line
		}
		return strings.TrimSuffix(text, "\n")
	})
}

// Files returns the policy as a file of that name and its certificates in the folder roots beside it.
func (m *Imported) Files(name string) []File {
	var out []File
	for _, r := range slices.Concat(m.roots, m.stamps) {
		out = append(out, File{r.file(), pemOf(r.certs)})
	}
	return append(out, File{name, m.yaml(func(r importedRoot, _ string) string { return scalar(r.file()) })})
}

func (r importedRoot) file() string { return "roots/" + r.name + ".pem" }

// yaml writes the policy; source is how certificates are named at an indentation.
func (m *Imported) yaml(source func(r importedRoot, indent string) string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Imported from %s.\nversion: 1\n", map[string]string{"notation": "a trust policy of notation", "containers": "a policy.json of containers/image"}[m.From])
	if len(m.roots) > 0 {
		b.WriteString("roots:\n")
	}
	for _, r := range m.roots {
		fmt.Fprintf(&b, "  %s:\n    certificates:\n      - %s\n", scalar(r.name), source(r, "        "))
		if r.pin != "root" {
			fmt.Fprintf(&b, "    pin: %s\n", r.pin)
		}
		if r.kind != "ca" {
			fmt.Fprintf(&b, "    kind: %s\n", r.kind)
		}
	}
	b.WriteString("scopes:\n")
	for _, s := range m.scopes {
		fmt.Fprintf(&b, "  %s:\n", scalar(s.name))
		if s.rule != "" {
			fmt.Fprintf(&b, "    %s\n", s.rule)
			continue
		}
		b.WriteString("    trust:\n")
		for _, e := range s.entries {
			if len(e.identities) == 0 {
				fmt.Fprintf(&b, "      - %s\n", scalar(e.root))
				continue
			}
			fmt.Fprintf(&b, "      - root: %s\n        identities:\n", scalar(e.root))
			for _, id := range e.identities {
				fmt.Fprintf(&b, "          - %s\n", quoted(id))
			}
		}
		b.WriteString("    claims: ignore\n")
		if s.use != "" {
			fmt.Fprintf(&b, "    timestamps:\n      use: %s\n      roots:\n", s.use)
			for _, name := range s.stamps {
				at := slices.IndexFunc(m.stamps, func(r importedRoot) bool { return r.name == name })
				fmt.Fprintf(&b, "        - %s\n", source(m.stamps[at], "          "))
			}
		}
		fmt.Fprintf(&b, "    %s\n", s.revocation)
	}
	return b.Bytes()
}

// plainScalar is what YAML takes for nothing but text, but for the words that mean something to one of its versions.
var (
	plainScalar = regexp.MustCompile(`^[a-z]([a-z0-9./_-]*[a-z0-9])?$`)
	yamlWords   = []string{"true", "false", "yes", "no", "on", "off", "y", "n", "null"}
)

func scalar(s string) string {
	if plainScalar.MatchString(s) && !slices.Contains(yamlWords, s) {
		return s
	}
	return quoted(s)
}

// quoted writes a string of JSON, which is one of YAML.
func quoted(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string and a buffer
	return strings.TrimSuffix(b.String(), "\n")
}
