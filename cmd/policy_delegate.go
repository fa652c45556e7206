package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/imprint-oci/imprint/audit"
	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust"
)

func newPolicyDelegate(s *session) *cobra.Command {
	return family(&cobra.Command{
		Use:   "delegate COMMAND",
		Short: "make, publish and inspect delegation documents",
		Long: "A delegation document grants certificates for what is under a scope. It is signed, and served by a registry, and counts where a policy " +
			"says delegate: for its signer. How a policy says that: imprint help policy",
	}, newDelegateMake(s), newDelegatePublish(s), newDelegateInspect(s))
}

type delegateMakeInputs struct {
	scope      string
	grants     []string
	identities []string
	revoke     []string
	from       string
	version    string
	expires    duration
	out        string
	overwrite  bool
}

func newDelegateMake(s *session) *cobra.Command {
	var in delegateMakeInputs
	c := &cobra.Command{
		Use:   "make",
		Short: "write a delegation document, the first or the next version",
		Long: `Writes a delegation document: for each scope the certificates that chains may end in there. With --from it goes on from the
document in a file or a registry: its grants stay but for those named here, its version goes up by one, and it lasts as long as that one was
made for. The same inputs at the same time give the same bytes. It counts for nobody until it is signed: imprint policy delegate publish.`,
		Example: `  imprint policy delegate make --scope docker.io --grant docker.io/vendor2=vendor2.pem \
      --expires 90d --out delegations.json
  imprint policy delegate make --from old.json --grant docker.io/acme=acme.pem --out new.json
  imprint policy delegate make --from docker.io/trust/delegations:v1 --revoke docker.io/vendor2`,
		Args:        arguments(0, 0, ""),
		Annotations: map[string]string{exits: "0 written   3 usage, or the document would break a rule   4 registry   5 not authorised   8 local disk"},
		RunE:        s.run(func(ctx context.Context, _ []string) error { return runDelegateMake(ctx, s, in) }),
	}
	f := c.Flags()
	f.StringVar(&in.scope, "scope", "", "everything granted is under `SCOPE`, a host, a host with a path, or *")
	f.StringArrayVar(&in.grants, "grant", nil, "grant `SCOPE=FILE`, the certificates in a file; of one scope several files add up")
	f.StringArrayVar(&in.identities, "identity", nil, "of a grant only leaves of this identity: `[SCOPE=]IDENTITY`")
	f.StringArrayVar(&in.revoke, "revoke", nil, "leave out the grant for `SCOPE` that --from has")
	f.StringVar(&in.from, "from", "", "go on from the document in `FILE|REF`")
	f.StringVar(&in.version, "version", "", "the document's version is `N`; without: 1, or one more than --from")
	f.Var(&in.expires, "expires", "it counts for `DURATION` from now on, as 90d, 400d at most")
	f.StringVar(&in.out, "out", "", "write it to `FILE` instead of standard output")
	f.BoolVar(&in.overwrite, "overwrite", false, "replace the file if it exists")
	return c
}

func runDelegateMake(ctx context.Context, s *session, in delegateMakeInputs) error {
	if in.out != "" {
		if err := writable(in.out, in.overwrite); err != nil {
			return err
		}
	}
	before, err := in.before(ctx, s)
	if err != nil {
		return err
	}
	doc, err := in.document(s, before)
	if err != nil {
		return err
	}
	b, err := doc.Encode()
	if err != nil {
		return &handedIn{fmt.Errorf("policy delegate make: %w", err)}
	}
	if doc, err = trust.ParseDelegation(b); err != nil {
		return err
	}
	made := aboutDelegation(doc, b)
	made.File, made.Text, made.From = in.out, string(b), in.from
	made.Warnings = lateCertificates(doc)
	for _, w := range made.Warnings {
		s.warn("delegation", w)
	}
	if in.out == "" {
		if err := s.answer("policy-delegate-make", made, func(w io.Writer) { io.WriteString(w, made.Text) }); err != nil || s.json {
			return err
		}
		s.note("version %d for %s, until %s; it counts for nobody until it is signed", made.Version, made.Scope, made.Expires.Format(time.DateOnly))
		return nil
	}
	if err := s.write(in.out, b, 0o644, in.overwrite); err != nil {
		return err
	}
	return s.answer("policy-delegate-make", made, func(w io.Writer) { ui.DelegationMade(w, made, s.now) })
}

// before is the document of --from, nil without it.
func (in delegateMakeInputs) before(ctx context.Context, s *session) (*trust.DelegationDocument, error) {
	if in.from == "" {
		return nil, nil
	}
	found, err := s.delegationAt(ctx, in.from)
	if err != nil {
		return nil, fmt.Errorf("going on from %s: %w", in.from, err)
	}
	return found.document, nil
}

// document makes the document of what was typed and of the one before.
func (in delegateMakeInputs) document(s *session, before *trust.DelegationDocument) (*trust.DelegationDocument, error) {
	now := s.now.UTC().Truncate(time.Second)
	doc := &trust.DelegationDocument{Version: 1, Issued: now, Scope: in.scope}
	lasts := time.Duration(in.expires)
	switch {
	case before == nil && in.scope == "":
		return nil, usageHint("as --scope docker.io: everything granted is under it", "--scope is missing")
	case before == nil && lasts == 0:
		return nil, usageHint("as --expires 90d: what is never renewed ends by itself", "--expires is missing")
	case before == nil && len(in.revoke) > 0:
		return nil, usageHint("name the document that has them: --from FILE", "--revoke without --from: there is nothing to leave out")
	case before == nil && len(in.grants) == 0:
		return nil, usageHint("as --grant docker.io/vendor2=vendor2.pem", "--grant is missing")
	case before != nil && in.scope != "" && in.scope != before.Scope:
		return nil, usageHint("a document for another scope is begun without --from", "--scope %s: the document of --from is for %s", in.scope, before.Scope)
	}
	if before != nil {
		if before.Version == 1<<64-1 {
			return nil, usage("the document of --from has the last version that there is")
		}
		doc.Version, doc.Scope, doc.Grants = before.Version+1, before.Scope, slices.Clone(before.Grants)
		if lasts == 0 {
			lasts = before.Expires.Sub(before.Issued)
		}
	}
	if err := in.numbered(doc, before); err != nil {
		return nil, err
	}
	doc.Expires = now.Add(lasts).Truncate(time.Second)
	if err := in.revoked(doc); err != nil {
		return nil, err
	}
	return doc, in.granted(s, doc)
}

// numbered gives the document the version of --version.
func (in delegateMakeInputs) numbered(doc, before *trust.DelegationDocument) error {
	if in.version == "" {
		return nil
	}
	var n uint64
	if _, err := fmt.Sscanf(in.version, "%d", &n); err != nil || n == 0 || fmt.Sprint(n) != in.version {
		return usage("--version %q: it is a whole number from 1 on", in.version)
	}
	if before != nil && n <= before.Version {
		return usageHint("leave --version out: it goes up by one", "--version %d: the document of --from has version %d, and verifiers that saw it refuse any other up to that",
			n, before.Version)
	}
	doc.Version = n
	return nil
}

func (in delegateMakeInputs) revoked(doc *trust.DelegationDocument) error {
	for _, scope := range in.revoke {
		i := slices.IndexFunc(doc.Grants, func(g trust.Grant) bool { return g.Scope == scope })
		if i < 0 {
			var has []string
			for _, g := range doc.Grants {
				has = append(has, g.Scope)
			}
			hint := "imprint policy delegate inspect " + in.from + " lists its grants"
			if near := nearest(scope, has); near != "" {
				hint = "did you mean " + near + "?"
			}
			return usageHint(hint, "--revoke %s: the document of --from grants nothing for that scope", scope)
		}
		doc.Grants = slices.Delete(doc.Grants, i, i+1)
	}
	return nil
}

// granted adds what --grant and --identity say. What they name anew takes the place of what the document before said of that scope.
func (in delegateMakeInputs) granted(s *session, doc *trust.DelegationDocument) error {
	anew := map[string]*trust.Grant{}
	var scopes []string
	for _, word := range in.grants {
		scope, file, ok := strings.Cut(word, "=")
		if !ok || scope == "" || file == "" {
			return usageHint("as --grant docker.io/vendor2=vendor2.pem", "--grant %s: it is written SCOPE=FILE", word)
		}
		certs, err := s.certificates([]string{file})
		if err != nil {
			return err
		}
		if anew[scope] == nil {
			anew[scope] = &trust.Grant{Scope: scope}
			scopes = append(scopes, scope)
		}
		for _, c := range certs {
			if !slices.ContainsFunc(anew[scope].Certificates, c.Equal) {
				anew[scope].Certificates = append(anew[scope].Certificates, c)
			}
		}
	}
	for _, word := range in.identities {
		scope, identity, ok := strings.Cut(word, "=")
		if !ok || anew[scope] == nil {
			if len(scopes) != 1 {
				return usageHint("say which: --identity SCOPE=IDENTITY", "--identity %s: it belongs to one --grant, and there are %d", word, len(scopes))
			}
			scope, identity = scopes[0], word
		}
		anew[scope].Identities = append(anew[scope].Identities, identity)
	}
	for _, scope := range scopes {
		doc.Grants = slices.DeleteFunc(doc.Grants, func(g trust.Grant) bool { return g.Scope == scope })
		doc.Grants = append(doc.Grants, *anew[scope])
	}
	return nil
}

// lateCertificates warns of certificates that end before the document does.
func lateCertificates(doc *trust.DelegationDocument) []string {
	var out []string
	for _, g := range doc.Grants {
		for _, c := range g.Certificates {
			if c.NotAfter.Before(doc.Expires) {
				out = append(out, fmt.Sprintf("what is granted for %s ends before the document: %s is valid until %s",
					g.Scope, certchain.NameOf(c.RawSubject), c.NotAfter.UTC().Format(time.DateOnly)))
			}
		}
	}
	return out
}

// aboutDelegation is a document as it is shown.
func aboutDelegation(doc *trust.DelegationDocument, b []byte) ui.Delegation {
	d := ui.Delegation{
		Document: digest.FromBytes(b), Version: doc.Version, Issued: doc.Issued, Expires: doc.Expires, Scope: doc.Scope, Grants: []ui.DelegationGrant{},
	}
	for _, g := range doc.Grants {
		d.Grants = append(d.Grants, ui.DelegationGrant{Scope: g.Scope, Certificates: certchain.Chain(g.Certificates).Describe(), Identities: g.Identities})
	}
	return d
}

// A foundDelegation is a document where it is.
type foundDelegation struct {
	document  *trust.DelegationDocument
	bytes     []byte
	reference registry.Reference // zero: a file
	manifest  registry.Manifest
	inspected *audit.Inspection // nil: a file, which nobody signed
}

// delegationAt reads the document that a word names: a file of JSON, or a reference. What could be both is refused.
func (s *session) delegationAt(ctx context.Context, word string) (foundDelegation, error) {
	var found foundDelegation
	ref, err := registry.ParseReference(word)
	isFile := !isLayout(word) && (isPath(word) || isThere(word))
	switch {
	case isFile && err == nil && !isPath(word) && ref.Kind == registry.Remote:
		return found, usageHint("write ./"+word+" for the file", "%s could be a file or a reference to a registry", word)
	case isFile:
		return delegationFile(word)
	case err != nil:
		if !strings.Contains(word, "/") && !strings.Contains(word, ":") {
			return delegationFile(word)
		}
		return found, err
	}
	repo, err := s.open(ctx, ref)
	if err != nil {
		return found, err
	}
	defer repo.Close()
	if ref.IsRepository() && ref.Kind != registry.Remote {
		found.manifest, err = repo.Only(ctx)
	} else {
		found.manifest, err = repo.Resolve(ctx, ref)
	}
	if err != nil {
		return found, err
	}
	found.reference = ref
	if found.bytes, err = trust.ReadDelegation(ctx, repo, found.manifest); err != nil {
		return found, err
	}
	if found.document, err = trust.ParseDelegation(found.bytes); err != nil {
		return found, err
	}
	inspected, err := audit.Inspect(ctx, repo, ref, found.manifest, s.now)
	found.inspected = &inspected
	return found, err
}

func delegationFile(path string) (foundDelegation, error) {
	b, err := readAs(path, path, trust.MaxDelegation)
	if err != nil {
		return foundDelegation{}, err
	}
	doc, err := trust.ParseDelegation(b)
	if err != nil {
		return foundDelegation{}, &handedIn{fmt.Errorf("reading %s: %w", path, err)}
	}
	return foundDelegation{document: doc, bytes: b}, nil
}

func newDelegateInspect(s *session) *cobra.Command {
	var in batchFlags
	c := &cobra.Command{
		Use:   "inspect FILE|REF…",
		Short: "what a delegation document grants, until when, and who signed it",
		Long: `Shows a delegation document: every grant with the fingerprints of its certificates to compare, until when it counts, and who signed it.
It reads only, takes nothing down, and never says whether the document is trusted: that is for a policy to say.`,
		Example: `  imprint policy delegate inspect docker.io/trust/delegations:v1
  imprint policy delegate inspect delegations.json -o json`,
		Args:        arguments(1, many, "FILE|REF…"),
		Annotations: map[string]string{exits: "0 shown, whatever it says   3 usage, or a file that is no delegation document   4 registry, or what is there is no delegation document   5 not authorised"},
		RunE: s.run(func(ctx context.Context, args []string) error {
			items, err := in.items(s, args, form{words: 1}, "FILE|REF…")
			if err != nil {
				return err
			}
			return runBatch(ctx, s, in, items, batch[ui.Delegation]{
				kind: "policy-delegate-inspect",
				do: func(ctx context.Context, it item) (ui.Delegation, error) {
					found, err := s.delegationAt(ctx, it[0])
					if err != nil {
						return ui.Delegation{}, fmt.Errorf("policy delegate inspect %s: %w", it[0], err)
					}
					d := aboutDelegation(found.document, found.bytes)
					if d.File = it[0]; found.inspected != nil {
						d.File, d.Reference, d.Digest = "", found.reference.String(), found.manifest.Descriptor.Digest
						d.Signatures = found.inspected.Signatures
					}
					return d, nil
				},
				full: func(w io.Writer, d ui.Delegation) { ui.DelegationInspect(w, d, s.now) },
				line: func(w io.Writer, d ui.Delegation) { ui.DelegationLine(w, d, s.now) },
				word: func(ui.Delegation) string { return "inspected" },
			})
		}),
	}
	in.bind(c)
	return c
}

func newDelegatePublish(s *session) *cobra.Command {
	var in signingFlags
	c := &cobra.Command{
		Use:   "publish FILE DST",
		Short: "sign a delegation document and publish it, the tag last",
		Long: `Publishes a delegation document as an artifact, signs it there, reads the signature back as any verifier would, and then writes the tag.
The tag moves by itself from an older version of the document to a newer one, and never back. The key is that of whom policies name under
delegate: identities, which should sign nothing else.`,
		Example: `  imprint policy delegate publish delegations.json docker.io/trust/delegations:v1 \
      --key delegations --chain chain.pem --dry-run`,
		Args: arguments(2, 2, "FILE DST"),
		Annotations: map[string]string{exits: "0 published, or published already   1 a newer version is there   3 usage, key or chain   4 registry   " +
			"5 not authorised   6 key service   7 partly done, run it again   8 local disk"},
		RunE: s.run(func(ctx context.Context, args []string) error {
			return runDelegatePublish(ctx, s, in, args[0], args[1])
		}),
	}
	in.bind(c)
	f := c.Flags()
	f.Lookup("move").Usage = "tags and claims that match `PATTERN` may leave what is no delegation document"
	f.Lookup("recursive").Hidden = true // a document has no parts
	return c
}

func runDelegatePublish(ctx context.Context, s *session, in signingFlags, file, at string) error {
	found, err := delegationFile(file)
	if err != nil {
		return err
	}
	dst, err := publishTo(at)
	switch {
	case err != nil:
		return err
	case dst.Tag == "":
		return usageHint("as "+at+":v1: policies name the tag", "%s: a delegation document is published under a tag", at)
	case !s.now.Before(found.document.Expires):
		return usageHint("imprint policy delegate make --from "+file+" --out NEW", "%s: it expired %s", file, found.document.Expires.Format(time.DateOnly))
	}
	moves, err := s.newer(ctx, dst, found)
	if err != nil {
		return fmt.Errorf("policy delegate publish %s to %s: %w", file, dst, err)
	}
	if moves {
		in.move = append(slices.Clone(in.move), dst.BareTag())
	}
	p := &publisher{publishInputs: publishInputs{signingFlags: in, artifactType: trust.DelegationType}, s: s, alone: true}
	if err := p.check(); err != nil {
		return err
	}
	path := file
	if !isPath(file) {
		path = "./" + file
	}
	it := item{path + ":" + trust.DelegationType, at}
	if _, err := p.parse(it); err != nil {
		return err
	}
	if p.pen, err = in.open(ctx, s, 1); err != nil {
		return err
	}
	p.progress = s.newProgress()
	defer p.progress.end()
	about := aboutDelegation(found.document, found.bytes)
	return runBatch(ctx, s, batchFlags{jobs: 1}, []item{it}, batch[ui.DelegationPublished]{
		kind: "policy-delegate-publish",
		do: func(ctx context.Context, it item) (ui.DelegationPublished, error) {
			r, err := p.do(ctx, it)
			r.Files = []string{file}
			return ui.DelegationPublished{Published: r, Delegation: about}, err
		},
		full:  func(w io.Writer, r ui.DelegationPublished) { ui.DelegationPublish(w, r, s.now) },
		line:  func(w io.Writer, r ui.DelegationPublished) { ui.PublishLine(w, r.Published) },
		word:  func(r ui.DelegationPublished) string { return ui.PublishWord(r.Published) },
		calls: func(r ui.DelegationPublished) int { return r.Signed.KeyCalls },
		uses:  p.pen.uses,
	})
}

// A staleDelegation is that a newer document, or another of the same version, is where one was to be published.
type staleDelegation struct{ err error }

func (e *staleDelegation) Error() string  { return e.err.Error() }
func (e *staleDelegation) Reason() string { return "delegation-not-newer" }
func (e *staleDelegation) exitCode() int  { return exitRejected }

// newer reports whether dst holds an older document, whose tag the new one takes. What is no document is left to --move.
func (s *session) newer(ctx context.Context, dst registry.Reference, found foundDelegation) (moves bool, err error) {
	repo, err := s.open(ctx, dst)
	if err == nil {
		defer repo.Close()
		var m registry.Manifest
		if m, err = repo.Resolve(ctx, dst); err == nil {
			var b []byte
			if b, err = trust.ReadDelegation(ctx, repo, m); err == nil {
				moves, err = weighVersions(b, found)
			}
		}
	}
	if errors.Is(err, registry.ErrNotFound) || errors.Is(err, trust.ErrDelegation) || errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return moves, err
}

// weighVersions does so for the bytes that are there. The error of what is no document is [trust.ErrDelegation].
func weighVersions(there []byte, found foundDelegation) (moves bool, err error) {
	before, err := trust.ParseDelegation(there)
	switch {
	case err != nil:
		return false, err
	case string(there) == string(found.bytes):
		return true, nil // published already, or its tag is being written again
	case before.Scope != found.document.Scope:
		return false, &staleDelegation{fmt.Errorf("the document there is for %s, and this one for %s: give it a tag of its own", before.Scope, found.document.Scope)}
	case before.Version > found.document.Version:
		return false, &staleDelegation{fmt.Errorf("version %d is there, and this one is version %d: verifiers that saw it would refuse this one", before.Version, found.document.Version)}
	case before.Version == found.document.Version:
		return false, &staleDelegation{fmt.Errorf("another document of version %d is there: verifiers that saw it would refuse this one", before.Version)}
	}
	return true, nil
}
