package trust

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// A Looked is an artifact with all of its signatures, under the name by which a policy would judge it.
type Looked struct {
	Reference  registry.Reference
	Subject    ocispec.Descriptor
	Signatures []registry.Signature
}

// A Proposal is what a policy would have to hold in order to accept some artifacts. It is read off their signatures and therefore
// proves nothing: whoever may push to a repository can sign there, under a root of his own. It becomes a policy only for roots
// whose fingerprints somebody hands in ([Proposal.Choose]).
type Proposal struct {
	Artifacts   []ProposedArtifact `json:"artifacts"`
	Roots       []ProposedRoot     `json:"roots"`                 // by subject, then fingerprint
	Authorities []ProposedRoot     `json:"authorities,omitempty"` // of timestamps, from the tokens
	Scopes      []ProposedScope    `json:"scopes"`
	LeftOut     []LeftOut          `json:"leftOut,omitempty"`
	Notes       []string           `json:"notes,omitempty"`
	Now         time.Time          `json:"now"`

	marks  []proposedMark
	chosen bool
}

// A ProposedArtifact is what was looked at.
type ProposedArtifact struct {
	Reference  string        `json:"reference"`
	Digest     digest.Digest `json:"digest"`
	Signatures int           `json:"signatures"` // listed
	Usable     int           `json:"usable"`     // of those, what a policy could accept

	name string // without digest
}

// A ProposedRoot is a certificate that chains, or those of timestamps, end in.
type ProposedRoot struct {
	Name        string                `json:"name"` // in the policy
	File        string                `json:"file"` // relative to the policy
	Certificate certchain.Certificate `json:"certificate"`
	Signatures  int                   `json:"signatures"` // usable, under it
	Identities  []string              `json:"identities,omitempty"`

	certificate *x509.Certificate
}

// A ProposedScope is a repository, and who signed there.
type ProposedScope struct {
	Scope  string          `json:"scope"`
	Trust  []ProposedEntry `json:"trust"`
	Claims string          `json:"claims,omitempty"` // "tag": each signature claims the tag that was looked at
}

// A ProposedEntry is a root in a scope, with those who signed there under it.
type ProposedEntry struct {
	Root       string   `json:"root"`
	Identities []string `json:"identities,omitempty"`
}

// A LeftOut is a signature that no policy would accept, or an artifact without one.
type LeftOut struct {
	Reference string        `json:"reference"`
	Digest    digest.Digest `json:"digest"` // of the signature, or of the artifact
	Identity  string        `json:"identity,omitempty"`
	Reason    string        `json:"reason"`
	Detail    string        `json:"detail,omitempty"`
}

// A proposedMark is what one usable signature says.
type proposedMark struct {
	artifact  int
	scope     string
	tagged    bool // the artifact was asked for by a tag
	root      *x509.Certificate
	identity  string // as a policy writes it; empty: it has none that a policy could name
	core      digest.Digest
	claims    bool // some, or none by [] where no tag was asked for
	stamped   bool
	authority *x509.Certificate // root of its timestamp, if the token brings it
}

// Propose reads off what a policy would have to hold to accept the artifacts at the time now.
func Propose(artifacts []Looked, now time.Time) Proposal {
	p := Proposal{Now: now.UTC(), Artifacts: []ProposedArtifact{}}
	for i, a := range artifacts {
		about := ProposedArtifact{Reference: a.Reference.String(), Digest: a.Subject.Digest, Signatures: len(a.Signatures),
			name: a.Reference.With(a.Reference.Tag, "").String()}
		for _, sig := range a.Signatures {
			mark, left := look(a, sig, now)
			if left != nil {
				p.LeftOut = append(p.LeftOut, *left)
				continue
			}
			mark.artifact = i
			p.marks = append(p.marks, mark)
			about.Usable++
		}
		if len(a.Signatures) == 0 {
			p.LeftOut = append(p.LeftOut, LeftOut{Reference: about.Reference, Digest: a.Subject.Digest, Reason: codeUnsigned, Detail: "it has no signature"})
		}
		p.Artifacts = append(p.Artifacts, about)
	}
	slices.SortStableFunc(p.LeftOut, func(a, b LeftOut) int {
		return cmp.Or(strings.Compare(a.Reference, b.Reference), strings.Compare(a.Reason, b.Reason), strings.Compare(string(a.Digest), string(b.Digest)))
	})
	p.arrange()
	return p
}

// look judges one signature under its own root alone: what is not even accepted so is of no use to any policy.
func look(a Looked, sig registry.Signature, now time.Time) (proposedMark, *LeftOut) {
	left := func(reason, detail, identity string) (proposedMark, *LeftOut) {
		return proposedMark{}, &LeftOut{a.Reference.String(), sig.Descriptor.Digest, identity, reason, detail}
	}
	var content envelope.Content
	if sig.Err == nil {
		e, err := envelope.Parse(sig.MediaType, sig.Envelope)
		if err != nil {
			return left(reasonOf(err, codeMalformed), err.Error(), "")
		}
		if content, err = e.Verify(); err != nil {
			return left(reasonOf(err, codeMalformed), err.Error(), "")
		}
	} else {
		code, ok := malformed(sig.Err)
		if !ok {
			code = codeUnfetched
		}
		return left(code, sig.Err.Error(), "")
	}
	root := content.Chain.Root()
	leaf := content.Chain.Leaf()
	single, err := Single("it", []*x509.Certificate{root}, nil)
	if err != nil {
		return left(reasonOf(err, codeRootInvalid), err.Error(), certchain.NameOf(leaf.RawSubject))
	}
	judged := single.Judge(a.Reference, a.Subject, []registry.Signature{sig}, now).Signatures[0]
	if !judged.Accepted {
		return left(judged.Reason, judged.Detail, judged.Identity)
	}
	m := proposedMark{
		scope: repository(a.Reference), tagged: a.Reference.Tag != "", root: root, identity: identityOf(leaf), core: content.CoreID(),
		claims: judged.HasClaims, stamped: len(content.Timestamp) > 0,
	}
	if m.claims && m.tagged {
		code, _ := checkClaims(claimsTag, a.Reference, a.Reference, judged.Claims, true)
		m.claims = code == ""
	}
	for _, c := range content.TimestampCertificates() {
		if checkStampRoot(c) != nil {
			continue
		}
		if _, err := content.VerifyTimestamp([]*x509.Certificate{c}); err == nil {
			m.authority = c
			break
		}
	}
	return m, nil
}

// identityOf writes a leaf as identities take it: its subject; where that says nothing, the first of its alternative names. Several
// would be alternatives, and so would ask for less.
func identityOf(leaf *x509.Certificate) string {
	texts := []string{certchain.NameOf(leaf.RawSubject)}
	for _, u := range leaf.URIs {
		texts = append(texts, "uri:"+u.String())
	}
	for _, e := range leaf.EmailAddresses {
		texts = append(texts, "email:"+e)
	}
	for _, d := range leaf.DNSNames {
		texts = append(texts, "dns:"+d)
	}
	for _, text := range texts {
		if id, err := parseIdentity(text); err == nil && id.matches(leaf) {
			return text
		}
	}
	return ""
}

// Choose returns the proposal for these roots alone, of signatures and of timestamps, named by the SHA-256 of their certificates in
// hex. A fingerprint that no root has is an error, and so is one that is not whole: for the beginning of one a
// certificate can be made that has it too.
func (p Proposal) Choose(fingerprints []string) (Proposal, error) {
	chosen := map[string]bool{}
	for _, text := range fingerprints {
		print := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(text, "sha256:"), ":", ""))
		if !isFingerprint(print) {
			return Proposal{}, &chooseError{codeFingerprint, fmt.Sprintf("%q is no fingerprint: the SHA-256 of a certificate, whole, has 64 hex digits", shorten(text))}
		}
		if !slices.ContainsFunc(slices.Concat(p.Roots, p.Authorities), func(r ProposedRoot) bool { return r.Certificate.Thumbprint == print }) {
			return Proposal{}, &chooseError{codeRootNotFound, fmt.Sprintf("no signature was found under a root with the fingerprint %s", print)}
		}
		chosen[print] = true
	}
	out := p
	out.chosen = true
	out.marks = nil
	for _, m := range p.marks {
		if !chosen[certchain.Thumbprint(m.root)] {
			continue
		}
		if m.authority != nil && !chosen[certchain.Thumbprint(m.authority)] {
			m.authority = nil
		}
		out.marks = append(out.marks, m)
	}
	if len(out.marks) == 0 {
		return Proposal{}, &chooseError{codeRootNotFound, "the fingerprints are of roots of timestamps alone: none is of a root of signatures"}
	}
	out.Artifacts = slices.Clone(p.Artifacts)
	for i := range out.Artifacts {
		out.Artifacts[i].Usable = 0
	}
	for _, m := range out.marks {
		out.Artifacts[m.artifact].Usable++
	}
	out.arrange()
	return out, nil
}

func isFingerprint(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

type chooseError struct{ code, why string }

func (e *chooseError) Error() string        { return e.why }
func (e *chooseError) Reason() string       { return e.code }
func (e *chooseError) Is(target error) bool { return target == ErrPolicy }

// arrange makes roots and scopes of the marks.
func (p *Proposal) arrange() {
	p.Roots, p.Authorities, p.Scopes, p.Notes = []ProposedRoot{}, nil, []ProposedScope{}, nil
	cores := map[string]map[digest.Digest]bool{} // of a root: copies of one signature with several chains are one
	roots, authorities := map[string]*x509.Certificate{}, map[string]*x509.Certificate{}
	rootless := false
	for _, m := range p.marks {
		print := certchain.Thumbprint(m.root)
		roots[print] = m.root
		if cores[print] == nil {
			cores[print] = map[digest.Digest]bool{}
		}
		cores[print][m.core] = true
		if m.authority != nil {
			print := certchain.Thumbprint(m.authority)
			authorities[print] = m.authority
			if cores[print] == nil {
				cores[print] = map[digest.Digest]bool{}
			}
			cores[print][m.core] = true
		}
		rootless = rootless || m.stamped && m.authority == nil
	}
	named := map[string]bool{"unsigned": true, "stranger": true, "delegated": true} // these mean something to policy test
	p.Roots = proposeRoots(roots, cores, "", named)
	p.Authorities = proposeRoots(authorities, cores, "tsa-", named)
	name := map[string]string{}
	for _, r := range p.Roots {
		name[r.Certificate.Thumbprint] = r.Name
	}
	p.proposeScopes(name)
	for i := range p.Roots {
		all := map[string]bool{}
		for _, m := range p.marks {
			if m.root.Equal(p.Roots[i].certificate) && m.identity != "" {
				all[m.identity] = true
			}
		}
		p.Roots[i].Identities = slices.Sorted(maps.Keys(all))
	}
	if rootless && !p.chosen {
		p.Notes = append(p.Notes, "timestamps were found whose token does not bring the root of its authority: get that from its operator for a section timestamps:")
	}
	for _, m := range p.marks {
		if m.identity == "" {
			p.Notes = append(p.Notes, fmt.Sprintf("a leaf under root %s has no name that a policy could ask for: any leaf under that root would do", name[certchain.Thumbprint(m.root)]))
		}
	}
	slices.Sort(p.Notes)
	p.Notes = slices.Compact(p.Notes)
}

func proposeRoots(found map[string]*x509.Certificate, cores map[string]map[digest.Digest]bool, prefix string, taken map[string]bool) []ProposedRoot {
	out := make([]ProposedRoot, 0, len(found))
	same := map[string]int{}
	for print, c := range found {
		name := prefix + plainName(c)
		same[name]++
		out = append(out, ProposedRoot{Name: name, Certificate: certchain.Describe(c), Signatures: len(cores[print]), certificate: c})
	}
	for i := range out {
		// Two certificates of one name both get their fingerprint's beginning: neither is the real one for coming first.
		if same[out[i].Name] > 1 || taken[out[i].Name] {
			out[i].Name += "-" + out[i].Certificate.Thumbprint[:8]
		}
		out[i].File = "roots/" + out[i].Name + ".pem"
	}
	slices.SortFunc(out, func(a, b ProposedRoot) int {
		return cmp.Or(strings.Compare(a.Certificate.Subject, b.Certificate.Subject), strings.Compare(a.Certificate.Thumbprint, b.Certificate.Thumbprint))
	})
	return out
}

// plainName makes a root's name, and its file's, of its common name: letters, digits and hyphens alone, since anybody may have
// chosen it.
func plainName(c *x509.Certificate) string {
	const most = 32
	var b strings.Builder
	for _, r := range strings.ToLower(cmp.Or(c.Subject.CommonName, strings.Join(c.Subject.Organization, " "))) {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() == most {
			break
		}
	}
	return cmp.Or(strings.Trim(b.String(), "-"), "root")
}

func (p *Proposal) proposeScopes(name map[string]string) {
	type entry map[string]map[string]bool // root → identities
	scopes := map[string]entry{}
	claims := map[string]bool{}
	asked := map[string]bool{} // a tag was
	for _, m := range p.marks {
		s := scopes[m.scope]
		if s == nil {
			s = entry{}
			scopes[m.scope], claims[m.scope] = s, true
		}
		root := name[certchain.Thumbprint(m.root)]
		if s[root] == nil {
			s[root] = map[string]bool{}
		}
		s[root][m.identity] = true
		claims[m.scope] = claims[m.scope] && m.claims
		asked[m.scope] = asked[m.scope] || m.tagged
	}
	for _, scope := range slices.Sorted(maps.Keys(scopes)) {
		s := ProposedScope{Scope: scope}
		for _, root := range slices.Sorted(maps.Keys(scopes[scope])) {
			e := ProposedEntry{Root: root}
			if ids := scopes[scope][root]; !ids[""] { // one without a name, and to ask the others for theirs would refuse it
				e.Identities = slices.Sorted(maps.Keys(ids))
			}
			s.Trust = append(s.Trust, e)
		}
		if claims[scope] && asked[scope] {
			s.Claims = string(claimsTag)
		}
		p.Scopes = append(p.Scopes, s)
	}
}

// A ProposedFile is a file of a policy's folder.
type ProposedFile struct {
	Name    string // "policy.yaml", "roots/NAME.pem"
	Content []byte
}

// Files writes the policy of a proposal that was chosen: the certificates first, the policy last.
func (p Proposal) Files() []ProposedFile {
	var out []ProposedFile
	for _, r := range slices.Concat(p.Roots, p.Authorities) {
		out = append(out, ProposedFile{r.File, certchain.Chain{r.certificate}.PEM()})
	}
	return append(out, ProposedFile{"policy.yaml", p.policy()})
}

func (p Proposal) policy() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Written by imprint policy init on %s, from the signatures on\n", minute(p.Now))
	for _, a := range p.Artifacts {
		fmt.Fprintf(&b, "#   %s@%s\n", a.name, a.Digest)
	}
	b.WriteString("# for roots whose fingerprints were handed in. imprint help policy says what else a policy can ask.\nversion: 1\nroots:\n")
	for _, r := range p.Roots {
		fmt.Fprintf(&b, "  # %s\n  # sha256 %s\n  %s: {certificates: [%s]", strconv.Quote(r.Certificate.Subject), r.Certificate.Thumbprint, quoted(r.Name), quoted(r.File))
		if ids := p.everywhere(r.Name); len(ids) > 0 {
			fmt.Fprintf(&b, ", identities: [%s]", quotedList(ids))
		}
		b.WriteString("}\n")
	}
	if len(p.Authorities) > 0 {
		var files []string
		for _, r := range p.Authorities {
			fmt.Fprintf(&b, "# sha256 %s\n", r.Certificate.Thumbprint)
			files = append(files, r.File)
		}
		fmt.Fprintf(&b, "timestamps: {roots: [%s], use: %s}\n", quotedList(files), useAfterward)
	}
	b.WriteString("scopes:\n")
	for _, s := range p.Scopes {
		var entries []string
		for _, e := range s.Trust {
			switch {
			case len(e.Identities) > 0 && len(p.everywhere(e.Root)) == 0:
				entries = append(entries, fmt.Sprintf("{root: %s, identities: [%s]}", quoted(e.Root), quotedList(e.Identities)))
			default:
				entries = append(entries, quoted(e.Root))
			}
		}
		if len(entries) > 1 {
			b.WriteString("  # one signature by any of these is enough; to ask for one of each: require: [[…], […]]\n")
		}
		fmt.Fprintf(&b, "  %s: {trust: [%s]", quoted(s.Scope), strings.Join(entries, ", "))
		if s.Claims != "" {
			fmt.Fprintf(&b, ", claims: %s", s.Claims)
		}
		b.WriteString("}\n")
	}
	return b.Bytes()
}

// everywhere returns the identities of a root that are the same in all scopes, and so stand with the root.
func (p Proposal) everywhere(root string) []string {
	var ids []string
	first := true
	for _, s := range p.Scopes {
		for _, e := range s.Trust {
			switch {
			case e.Root != root:
			case first:
				ids, first = e.Identities, false
			case !slices.Equal(ids, e.Identities):
				return nil
			}
		}
	}
	return ids
}

// quoted writes a text so that YAML reads it back whatever it holds; plain words stay as they are.
func quoted(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz-./") == "" && strings.Trim(s[:1], "abcdefghijklmnopqrstuvwxyz") == "" && !slices.Contains([]string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}, s) {
		return s
	}
	return strconv.Quote(s)
}

func quotedList(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = strconv.Quote(w)
	}
	return strings.Join(out, ", ")
}
