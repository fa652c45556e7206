package trust

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust/revtest"
)

// A bulletin is where delegation documents are served: a repository that counts who opens it.
type bulletin struct {
	dir    string
	opened atomic.Int32
	err    error // of opening
}

func newBulletin(t testing.TB) *bulletin { return &bulletin{dir: t.TempDir()} }

func (b *bulletin) Open(ctx context.Context, _ registry.Reference) (*registry.Repo, error) {
	b.opened.Add(1)
	if b.err != nil {
		return nil, b.err
	}
	return clientOf().Open(ctx, registry.Reference{Kind: registry.Layout, Path: b.dir})
}

func clientOf() *registry.Client {
	c, err := registry.NewClient(registry.Options{})
	if err != nil {
		panic(err)
	}
	return c
}

// A posting is a document as it is put up; the zero value is as it should be.
type posting struct {
	by           *signatory // nil: unsigned
	claims       []string
	at           time.Time // of signing
	artifactType string
	mediaType    string
	layers       int
	corrupt      bool                                        // the signature is of other bytes
	note         string                                      // in the manifest
	bend         func(registry.Signature) registry.Signature // before it is attached
}

// put makes body the document with the tag v1.
func (b *bulletin) put(t testing.TB, body []byte, o posting) registry.Manifest {
	t.Helper()
	ctx := t.Context()
	kind := registry.Layout
	if strings.HasSuffix(b.dir, ".tar") {
		kind = registry.Archive
	}
	repo, err := clientOf().Create(ctx, registry.Reference{Kind: kind, Path: b.dir}, registry.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer repo.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	layer := ocispec.Descriptor{MediaType: DelegationType, Digest: digest.FromBytes(body), Size: int64(len(body))}
	if o.mediaType != "" {
		layer.MediaType = o.mediaType
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: DelegationType, Config: ocispec.DescriptorEmptyJSON,
	}
	if o.artifactType != "" {
		m.ArtifactType = o.artifactType
	}
	if o.note != "" {
		m.Annotations = map[string]string{"note": o.note}
	}
	for range max(1, o.layers) {
		m.Layers = append(m.Layers, layer)
	}
	raw, err := json.Marshal(m)
	must(err)
	manifest := registry.NewManifest(ocispec.MediaTypeImageManifest, raw)
	must(repo.PushBytes(ctx, ocispec.DescriptorEmptyJSON, []byte("{}")))
	must(repo.PushBytes(ctx, layer, body))
	must(repo.PushManifest(ctx, manifest))
	must(repo.Tag(ctx, manifest, "v1"))
	if o.by != nil {
		payload := payloadOf(manifest.Descriptor)
		if o.corrupt {
			payload.Digest = digest.FromString("another")
		}
		if o.claims != nil {
			payload.Annotations = map[string]string{envelope.ClaimsAnnotation: envelope.EncodeClaims(o.claims)}
		}
		if o.at.IsZero() {
			o.at = time.Now()
		}
		e, err := envelope.Sign(ctx, envelope.JWS, payload, kmstest.Key(o.by.key), o.by.chain, envelope.Options{SigningTime: o.at})
		must(err)
		signature := e.Bytes()
		if o.bend != nil {
			signature = o.bend(found(string(envelope.JWS), signature)).Envelope
		}
		sig := registry.ByArtifactType.Manifest(manifest.Descriptor, string(envelope.JWS), signature, nil)
		must(repo.PushSignature(ctx, manifest.Descriptor, sig, signature))
	}
	must(repo.Commit())
	return manifest
}

// desk is what tests of delegation share: the roots of the policy, and who is granted.
type desk struct {
	hub, ca, issuer, acme, other *signatory
	bulletin                     *bulletin
	sources                      *Sources
	opened                       time.Time // what documents go by, so that one made twice is the same
}

func newDesk(t testing.TB) *desk {
	d := &desk{hub: newSignatory("hub"), ca: newSignatory("signer of artifacts", organisation("Docker")), acme: newSignatory("acme"), other: newSignatory("other"), bulletin: newBulletin(t),
		opened: time.Now().UTC().Truncate(time.Second)}
	d.issuer = d.ca.under("delegations", organisation("Docker Delegations"))
	d.sources = &Sources{Open: d.bulletin.Open, State: filepath.Join(t.TempDir(), "state", "delegations.json")}
	return d
}

// run is another run of the same machine.
func (d *desk) run() *Sources { return &Sources{Open: d.sources.Open, State: d.sources.State} }

const delegating = `scopes:
  docker.io:
    trust: [hub]
    delegate: {root: ca, from: registry, at: "docker.io/trust/delegations:v1", identities: ["O=Docker Delegations"]%s}
  docker.io/vendor: [vendor]
  docker.io/closed: {reject: true}
mirrors:
  docker.io/acme2: [mirror.example/acme2]
`

func (d *desk) policy(t testing.TB, more string) *Policy {
	return rooted(t, map[string]*signatory{"hub": d.hub, "ca": d.ca, "vendor": d.other}, strings.Replace(delegating, "%s", more, 1))
}

// document is one that grants docker.io/acme2 to acme.
func (d *desk) document(edit func(*DelegationDocument)) []byte {
	now := d.opened
	doc := &DelegationDocument{Version: 3, Issued: now.Add(-time.Hour), Expires: now.Add(90 * 24 * time.Hour), Scope: "docker.io",
		Grants: []Grant{grantOf("docker.io/acme2", d.acme)}}
	if edit != nil {
		edit(doc)
	}
	b, err := doc.Encode()
	if err != nil {
		panic(err)
	}
	return b
}

func grantOf(scope string, by *signatory, identities ...string) Grant {
	return Grant{Scope: scope, Certificates: by.chain[len(by.chain)-1:], Identities: identities}
}

// raw is a document that Encode would refuse: a text with %s for the base64 of acme's root.
func (d *desk) raw(text string) []byte {
	b, err := json.Marshal(d.acme.root.Certificate.Raw)
	if err != nil {
		panic(err)
	}
	return []byte(strings.ReplaceAll(text, "$CERT", string(b)))
}

func (d *desk) judge(t testing.TB, p *Policy, reference string, src *Sources, by ...*signatory) Report {
	t.Helper()
	var sigs []registry.Signature
	for _, s := range by {
		sigs = append(sigs, s.sign(t, signing{}))
	}
	r, err := p.Examine(t.Context(), ref(t, reference), artifact, sigs, time.Now(), src)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The rows of T5, and what is beside them.
func TestT5Delegation(t *testing.T) {
	t.Parallel()
	const image = "docker.io/acme2/app:1"
	for name, c := range map[string]struct {
		doc     func(*desk) []byte
		posting func(*desk, *posting)
		policy  string
		ref     string
		by      func(*desk) []*signatory
		verdict string
		reason  string
		unasked bool // the document is not even looked for
	}{
		"valid, granted":                         {verdict: Accepted},
		"valid, granted to a repository":         {doc: grants("docker.io/acme2/app"), verdict: Accepted},
		"valid, not granted":                     {ref: "docker.io/acme3/app:1", verdict: Rejected, reason: codeNoTrusted},
		"no grant by a name that begins alike":   {ref: "docker.io/acme22/app:1", verdict: Rejected, reason: codeNoTrusted},
		"without grants":                         {doc: grants(), verdict: Rejected, reason: codeNoTrusted},
		"granted under another root's key":       {by: signers(func(d *desk) *signatory { return d.other }), verdict: Rejected, reason: codeNoTrusted},
		"unsigned document":                      {posting: func(_ *desk, p *posting) { p.by = nil }, verdict: Rejected, reason: codeDelegationUntrusted},
		"document signed by another root":        {posting: func(d *desk, p *posting) { p.by = d.hub }, verdict: Rejected, reason: codeDelegationUntrusted},
		"D3 document signed by another identity": {posting: func(d *desk, p *posting) { p.by = d.ca }, verdict: Rejected, reason: codeDelegationUntrusted},
		"D6 document signed by a granted key":    {posting: func(d *desk, p *posting) { p.by = d.acme }, verdict: Rejected, reason: codeDelegationUntrusted},
		"document with a signature of another":   {posting: func(_ *desk, p *posting) { p.corrupt = true }, verdict: Rejected, reason: codeDelegationUntrusted},
		"document that claims its place":         {posting: func(_ *desk, p *posting) { p.claims = []string{"docker.io/trust/delegations:v1"} }, verdict: Accepted},
		"document that claims another place":     {posting: func(_ *desk, p *posting) { p.claims = []string{"docker.io/trust/other:v1"} }, verdict: Rejected, reason: codeDelegationUntrusted},
		"of another artifact type":               {posting: func(_ *desk, p *posting) { p.artifactType = "application/json" }, verdict: Rejected, reason: codeDelegationMalformed},
		"of another media type":                  {posting: func(_ *desk, p *posting) { p.mediaType = "application/json" }, verdict: Rejected, reason: codeDelegationMalformed},
		"two layers":                             {posting: func(_ *desk, p *posting) { p.layers = 2 }, verdict: Rejected, reason: codeDelegationMalformed},
		"D7 expired":                             {doc: times(-48*time.Hour, -time.Hour), verdict: Rejected, reason: codeDelegationExpired},
		"D7 expires this second":                 {doc: times(-48*time.Hour, 0), verdict: Rejected, reason: codeDelegationExpired},
		"issued in the future":                   {doc: times(time.Hour, 48*time.Hour), verdict: Rejected, reason: codeDelegationAhead},
		"issued by a clock that is a bit ahead":  {doc: times(2*time.Minute, 48*time.Hour), verdict: Accepted},
		"D8 below min-version":                   {policy: ", min-version: 4", verdict: Rejected, reason: codeDelegationRollback},
		"D8 at min-version":                      {policy: ", min-version: 3", verdict: Accepted},
		"D4 scope above the policy's": {doc: func(d *desk) []byte { return d.document(func(doc *DelegationDocument) { doc.Scope = "*" }) },
			verdict: Rejected, reason: codeDelegationScope},
		"D4 scope beside the policy's": {doc: func(d *desk) []byte {
			return d.document(func(doc *DelegationDocument) {
				doc.Scope, doc.Grants = "quay.io", []Grant{grantOf("quay.io/acme2", d.acme)}
			})
		}, verdict: Rejected, reason: codeDelegationScope},
		"D4 scope under the policy's": {doc: func(d *desk) []byte {
			return d.document(func(doc *DelegationDocument) { doc.Scope = "docker.io/acme2" })
		},
			verdict: Accepted},
		"D5 the longest grant is exclusive": {doc: func(d *desk) []byte {
			return d.document(func(doc *DelegationDocument) {
				doc.Grants = append(doc.Grants, grantOf("docker.io/acme2/app", d.other))
			})
		}, verdict: Rejected, reason: codeNoTrusted},
		"D5 the longest grant decides": {doc: func(d *desk) []byte {
			return d.document(func(doc *DelegationDocument) {
				doc.Grants = append(doc.Grants, grantOf("docker.io/acme2/app", d.other))
			})
		}, by: signers(func(d *desk) *signatory { return d.other }), verdict: Accepted},
		"D5 own trust stands beside a grant": {by: signers(func(d *desk) *signatory { return d.hub }), verdict: Accepted, unasked: true},
		"D5 own trust beside both":           {by: signers(func(d *desk) *signatory { return d.acme }, func(d *desk) *signatory { return d.hub }), verdict: Accepted, unasked: true},
		"D1 an exclusive scope shields itself": {doc: grants("docker.io/vendor"), ref: "docker.io/vendor/app:1",
			verdict: Rejected, reason: codeNoTrusted, unasked: true},
		"D1 a scope that rejects": {doc: grants("docker.io/closed"), ref: "docker.io/closed/app:1", verdict: Rejected, reason: codeRejected, unasked: true},
		"M6 under a mirror":       {ref: "mirror.example/acme2/app:1", verdict: Accepted},
		"M6 by the mirror's name": {doc: grants("docker.io/acme3"), ref: "mirror.example/acme2/app:1", verdict: Rejected, reason: codeNoTrusted},
		"unsigned artifact":       {by: signers(), verdict: Rejected, reason: codeUnsigned, unasked: true},
		"granted to an identity": {doc: func(d *desk) []byte {
			return d.document(func(doc *DelegationDocument) { doc.Grants[0] = grantOf("docker.io/acme2", d.acme, "CN=acme") })
		}, verdict: Accepted},
		"granted to another identity": {doc: func(d *desk) []byte {
			return d.document(func(doc *DelegationDocument) { doc.Grants[0] = grantOf("docker.io/acme2", d.acme, "CN=acme 2") })
		}, verdict: Rejected, reason: codeMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			body := d.document(nil)
			if c.doc != nil {
				body = c.doc(d)
			}
			o := posting{by: d.issuer}
			if c.posting != nil {
				c.posting(d, &o)
			}
			d.bulletin.put(t, body, o)
			by := []*signatory{d.acme}
			if c.by != nil {
				by = c.by(d)
			}
			if c.ref == "" {
				c.ref = image
			}
			r := d.judge(t, d.policy(t, c.policy), c.ref, d.sources, by...)
			wantReport(t, r, c.verdict, c.reason)
			if asked := d.bulletin.opened.Load() > 0; asked == c.unasked {
				t.Errorf("asked for the document: %v", asked)
			}
			if c.unasked && r.Delegation != nil && r.Delegation.Status != DelegationNotAsked {
				t.Errorf("status %s", r.Delegation.Status)
			}
		})
	}
}

func grants(scopes ...string) func(*desk) []byte {
	return func(d *desk) []byte {
		return d.document(func(doc *DelegationDocument) {
			doc.Grants = nil
			for _, s := range scopes {
				doc.Grants = append(doc.Grants, grantOf(s, d.acme))
			}
		})
	}
}

// times are those of issuing and expiring from now on.
func times(issued, expires time.Duration) func(*desk) []byte {
	return func(d *desk) []byte {
		return d.document(func(doc *DelegationDocument) {
			now := time.Now()
			doc.Issued, doc.Expires = now.Add(issued), now.Add(expires)
		})
	}
}

func signers(of ...func(*desk) *signatory) func(*desk) []*signatory {
	return func(d *desk) []*signatory {
		var out []*signatory
		for _, f := range of {
			out = append(out, f(d))
		}
		return out
	}
}

// The inputs of P15: each voids the whole document, also the grant in it that is good.
func TestP15DelegationDocument(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	const good = `{"version":1,"issued":"2026-01-01T00:00:00Z","expires":"2026-06-01T00:00:00Z","scope":"docker.io","grants":[{"scope":"docker.io/acme2","certificates":[$CERT]}]}`
	if _, err := ParseDelegation(d.raw(good)); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	leaf, err := json.Marshal(d.acme.chain.Leaf().Raw)
	if err != nil {
		t.Fatal(err)
	}
	broken := string(d.raw("$CERT"))
	broken = broken[:60] + `\n` + broken[60:]
	nine := `"certificates":[` + strings.TrimSuffix(strings.Repeat("$CERT,", MaxGrantCertificates+1), ",") + `]`
	for name, c := range map[string]struct {
		old, new string // what of the good one is replaced
		code     string // "": malformed
		accept   bool
	}{
		"a member twice":                  {old: `"version":1`, new: `"version":1,"version":1`},
		"a member twice in a grant":       {old: `"scope":"docker.io/acme2"`, new: `"scope":"docker.io/acme2","scope":"docker.io/acme2"`},
		"a member twice by an escape":     {old: `"version":1`, new: `"version":1,"vers\u0069on":2`},
		"a member in another case":        {old: `"version":1`, new: `"Version":1`},
		"a case variant beside":           {old: `"version":1`, new: `"version":1,"VERSION":2`},
		"an unknown member":               {old: `"version":1`, new: `"version":1,"delegate":true`},
		"an unknown member of a grant":    {old: `"scope":"docker.io/acme2"`, new: `"scope":"docker.io/acme2","pin":"leaf"`},
		"no version":                      {old: `"version":1,`, new: ``},
		"no expires":                      {old: `"expires":"2026-06-01T00:00:00Z",`, new: ``},
		"no grants":                       {old: good[strings.Index(good, `,"grants"`) : len(good)-1], new: ``},
		"no certificates":                 {old: `,"certificates":[$CERT]`, new: ``},
		"version 2^64":                    {old: `"version":1`, new: `"version":18446744073709551616`},
		"version 2^64-1":                  {old: `"version":1`, new: `"version":18446744073709551615`, accept: true},
		"version 0":                       {old: `"version":1`, new: `"version":0`},
		"version -1":                      {old: `"version":1`, new: `"version":-1`},
		"version 1.0":                     {old: `"version":1`, new: `"version":1.0`},
		"version 1e0":                     {old: `"version":1`, new: `"version":1e0`},
		"version as text":                 {old: `"version":1`, new: `"version":"1"`},
		"version null":                    {old: `"version":1`, new: `"version":null`},
		"expires 9999":                    {old: `2026-06-01T00:00:00Z`, new: `9999-01-01T00:00:00Z`},
		"expires after 400 days":          {old: `2026-06-01T00:00:00Z`, new: `2027-02-05T00:00:00Z`, accept: true},
		"expires after 400 days and 1 s":  {old: `2026-06-01T00:00:00Z`, new: `2027-02-05T00:00:01Z`},
		"expires before it is issued":     {old: `2026-06-01T00:00:00Z`, new: `2025-06-01T00:00:00Z`},
		"expires when it is issued":       {old: `2026-06-01T00:00:00Z`, new: `2026-01-01T00:00:00Z`},
		"expires in another zone":         {old: `2026-06-01T00:00:00Z`, new: `2026-06-01T00:00:00+00:00`},
		"expires with fractions":          {old: `2026-06-01T00:00:00Z`, new: `2026-06-01T00:00:00.5Z`},
		"expires as a number":             {old: `"2026-06-01T00:00:00Z"`, new: `1780272000`},
		"expires on the 31st of June":     {old: `2026-06-01T00:00:00Z`, new: `2026-06-31T00:00:00Z`},
		"scope * with such a grant":       {old: `"scope":"docker.io",`, new: `"scope":"*",`, accept: true}, // which no policy but one for * takes
		"a grant for *":                   {old: `"scope":"docker.io/acme2"`, new: `"scope":"*"`, code: codeDelegationScope},
		"a grant outside":                 {old: `"scope":"docker.io/acme2"`, new: `"scope":"quay.io/acme2"`, code: codeDelegationScope},
		"a grant of a name alike":         {old: `"scope":"docker.io/acme2"`, new: `"scope":"docker.iox/acme2"`, code: codeDelegationScope},
		"a grant for the scope itself":    {old: `"scope":"docker.io/acme2"`, new: `"scope":"docker.io"`, accept: true},
		"a scope that is not canonical":   {old: `"scope":"docker.io/acme2"`, new: `"scope":"index.docker.io/acme2"`},
		"a scope in upper case":           {old: `"scope":"docker.io/acme2"`, new: `"scope":"DOCKER.io/acme2"`},
		"a scope with a port that is 443": {old: `"scope":"docker.io/acme2"`, new: `"scope":"docker.io:443/acme2"`},
		"a scope with a slash at its end": {old: `"scope":"docker.io/acme2"`, new: `"scope":"docker.io/acme2/"`},
		"a scope with a wildcard":         {old: `"scope":"docker.io/acme2"`, new: `"scope":"docker.io/*"`},
		"a scope with dots":               {old: `"scope":"docker.io/acme2"`, new: `"scope":"docker.io/../acme2"`},
		"an empty scope":                  {old: `"scope":"docker.io/acme2"`, new: `"scope":""`},
		"equal scopes":                    {old: `]}]}`, new: `]},{"scope":"docker.io/acme2","certificates":[$CERT]}]}`},
		"no certificate":                  {old: `[$CERT]`, new: `[]`},
		"the same certificate twice":      {old: `[$CERT]`, new: `[$CERT,$CERT]`},
		"nine certificates":               {old: `"certificates":[$CERT]`, new: nine},
		"a leaf that is not self-signed":  {old: `$CERT`, new: string(leaf)},
		"a certificate in PEM":            {old: `$CERT`, new: `"-----BEGIN CERTIFICATE-----"`},
		"a certificate with a line break": {old: `$CERT`, new: broken},
		"a certificate cut off":           {old: `[$CERT]`, new: `["MIIB"]`},
		"an empty list of identities":     {old: `"certificates"`, new: `"identities":[],"certificates"`},
		"an identity of nothing":          {old: `"certificates"`, new: `"identities":[""],"certificates"`},
		"an identity":                     {old: `"certificates"`, new: `"identities":["C=DE, O=Acme"],"certificates"`, accept: true},
		"an identity with half a pair":    {old: `"certificates"`, new: `"identities":["O=\ud800"],"certificates"`},
		"trailing data":                   {old: `]}]}`, new: `]}]}{}`},
		"trailing text":                   {old: `]}]}`, new: `]}]} x`},
		"a trailing comma":                {old: `]}]}`, new: `]}],}`},
		"a comment":                       {old: `{"version"`, new: `/* */{"version"`},
		"a byte order mark":               {old: `{"version"`, new: "\ufeff{\"version\""},
		"not UTF-8":                       {old: `docker.io/acme2`, new: "docker.io/acme\xff"},
		"a list":                          {old: good, new: `[]`},
		"nothing":                         {old: good, new: ``},
		"nested deeply":                   {old: `"version":1`, new: `"version":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.Count(good, c.old) == 0 {
				t.Fatalf("%q is not in the good one", c.old)
			}
			doc, err := ParseDelegation(d.raw(strings.Replace(good, c.old, c.new, 1)))
			if c.accept {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			if err == nil {
				t.Fatalf("accepted: %+v", doc)
			}
			if want := cmp.Or(c.code, codeDelegationMalformed); !errors.Is(err, ErrDelegation) || reasonOf(err, "") != want {
				t.Errorf("got %s: %v, want %s", reasonOf(err, ""), err, want)
			}
		})
	}
}

func TestDelegationDocumentLimits(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	doc := &DelegationDocument{Version: 1, Issued: time.Unix(0, 0), Expires: time.Unix(60, 0), Scope: "docker.io"}
	for i := range MaxGrants {
		doc.Grants = append(doc.Grants, grantOf(fmt.Sprintf("docker.io/acme%d", i), d.acme))
	}
	b, err := doc.Encode() // which reads it again
	if err != nil {
		t.Fatalf("%d grants: %v", MaxGrants, err)
	}
	doc.Grants = append(doc.Grants, grantOf("docker.io/one-too-many", d.acme))
	if _, err := doc.Encode(); !errors.Is(err, ErrDelegation) {
		t.Errorf("%d grants: %v", MaxGrants+1, err)
	}
	if _, err := ParseDelegation(append(b, make([]byte, MaxDelegation)...)); !errors.Is(err, ErrDelegation) || !strings.Contains(err.Error(), "16777216 bytes") {
		t.Errorf("more than 16 MiB: %v", err)
	}
}

// Documents are the same bytes whatever order their grants were given in.
func TestDelegationEncodeIsStable(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	list := []Grant{grantOf("docker.io/b", d.acme), grantOf("docker.io/a", d.other), grantOf("docker.io/a/x", d.acme)}
	one := d.document(func(doc *DelegationDocument) { doc.Grants = slices.Clone(list) })
	slices.Reverse(list)
	if two := d.document(func(doc *DelegationDocument) { doc.Grants = list }); string(one) != string(two) {
		t.Errorf("the order of grants shows:\n%s\n%s", one, two)
	}
}

func FuzzParseDelegation(f *testing.F) {
	d := newDesk(f)
	f.Add(d.document(nil))
	f.Add(d.raw(`{"version":1,"issued":"2026-01-01T00:00:00Z","expires":"2026-06-01T00:00:00Z","scope":"docker.io","grants":[]}`))
	f.Add([]byte(`{"version":18446744073709551616}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		doc, err := ParseDelegation(b)
		if err != nil {
			if !errors.Is(err, ErrDelegation) {
				t.Errorf("%v is not ErrDelegation", err)
			}
			return
		}
		again, err := doc.Encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		second, err := ParseDelegation(again)
		if err != nil || second.Version != doc.Version || second.Scope != doc.Scope || len(second.Grants) != len(doc.Grants) {
			t.Errorf("read again: %+v, %v", second, err)
		}
		for _, g := range doc.Grants {
			if !within(g.Scope, doc.Scope) || len(g.Certificates) == 0 || len(g.Certificates) > MaxGrantCertificates {
				t.Errorf("grant %s under %s", g.Scope, doc.Scope)
			}
		}
	})
}

// What D9 says: a document that cannot be had is not "no delegation".
func TestD9DocumentUnavailable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil  func(*desk)
		by     func(*desk) *signatory
		want   string
		reason string
	}{
		"not there":                        {func(*desk) {}, func(d *desk) *signatory { return d.acme }, Undetermined, codeDelegationUnavailable},
		"not there, own trust accepts":     {func(*desk) {}, func(d *desk) *signatory { return d.hub }, Accepted, ""},
		"registry down":                    {func(d *desk) { d.bulletin.err = registry.ErrUnavailable }, func(d *desk) *signatory { return d.acme }, Undetermined, codeDelegationUnavailable},
		"not authorised":                   {func(d *desk) { d.bulletin.err = registry.ErrUnauthorized }, func(d *desk) *signatory { return d.acme }, Undetermined, codeDelegationUnavailable},
		"nobody may be asked":              {func(d *desk) { d.sources.Open = nil }, func(d *desk) *signatory { return d.acme }, Undetermined, codeDelegationUnavailable},
		"nobody may be asked, own accepts": {func(d *desk) { d.sources.Open = nil }, func(d *desk) *signatory { return d.hub }, Accepted, ""},
		"a stranger, who may be granted":   {func(*desk) {}, func(d *desk) *signatory { return newSignatory("stranger") }, Undetermined, codeDelegationUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			c.spoil(d)
			wantReport(t, d.judge(t, d.policy(t, ""), "docker.io/acme2/app:1", d.sources, c.by(d)), c.want, c.reason)
		})
	}
	t.Run("pure judging asks nobody", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t)
		d.bulletin.put(t, d.document(nil), posting{by: d.issuer})
		r := d.policy(t, "").Judge(ref(t, "docker.io/acme2/app:1"), artifact, []registry.Signature{d.acme.sign(t, signing{})}, time.Now())
		if r.Verdict != Undetermined || d.bulletin.opened.Load() != 0 {
			t.Errorf("%s, opened %d times", r.Verdict, d.bulletin.opened.Load())
		}
	})
}

// TestDelegationUnasked: judging alone asks nobody, and does not take that for a document that grants nothing.
func TestDelegationUnasked(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	p := d.policy(t, "")
	judged := func(reference string, by ...*signatory) Report {
		var sigs []registry.Signature
		for _, s := range by {
			sigs = append(sigs, s.sign(t, signing{}))
		}
		return p.Judge(ref(t, reference), artifact, sigs, time.Now())
	}
	for name, c := range map[string]struct {
		verdict, reason string
		r               Report
	}{
		"a grant could help":            {Undetermined, codeNoDocument, judged("docker.io/acme2/app:v1", d.acme)},
		"it could, under the mirror":    {Undetermined, codeNoDocument, judged("mirror.example/acme2/app:v1", d.acme)},
		"the scope accepts by itself":   {Accepted, "", judged("docker.io/acme2/app:v1", d.acme, d.hub)},
		"there is nothing to help":      {Rejected, codeUnsigned, judged("docker.io/acme2/app:v1")},
		"the scope delegates nothing":   {Rejected, codeNoTrusted, judged("docker.io/vendor/app:v1", d.acme)},
		"the scope rejects in any case": {Rejected, codeRejected, judged("docker.io/closed/app:v1", d.acme)},
	} {
		if c.r.Verdict != c.verdict || c.r.Reason != c.reason {
			t.Errorf("%s: %s %s (%s), want %s %s", name, c.r.Verdict, c.r.Reason, c.r.Detail, c.verdict, c.reason)
		}
	}
}

// A run judges everything by one document, whatever the tag names meanwhile, and fetches it once.
func TestDelegationIsFetchedOnce(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.bulletin.put(t, d.document(nil), posting{by: d.issuer})
	p := d.policy(t, "")
	now := time.Now()
	sig := d.acme.sign(t, signing{})
	var wait sync.WaitGroup
	for i := range 200 {
		wait.Go(func() {
			r, err := p.Examine(t.Context(), ref(t, fmt.Sprintf("docker.io/acme2/app%d:1", i)), artifact, []registry.Signature{sig}, now, d.sources)
			if err != nil || r.Verdict != Accepted {
				t.Errorf("%s %s: %v", r.Verdict, r.Detail, err)
			}
		})
	}
	wait.Wait()
	if n := d.bulletin.opened.Load(); n != 1 {
		t.Errorf("opened %d times", n)
	}
	d.bulletin.put(t, d.document(func(doc *DelegationDocument) { doc.Version, doc.Grants = 4, nil }), posting{by: d.issuer})
	if r := d.judge(t, p, "docker.io/acme2/app:1", d.sources, d.acme); r.Verdict != Accepted || r.Delegation.Version != 3 {
		t.Errorf("another document in the same run: %+v", r.Delegation)
	}
	if r := d.judge(t, p, "docker.io/acme2/app:1", d.run(), d.acme); r.Reason != codeNoTrusted || r.Delegation.Version != 4 {
		t.Errorf("the next run: %s %+v", r.Reason, r.Delegation)
	}
}

// What an interrupted item was told is not what the next one is told.
func TestDelegationMemoForgetsInterruptions(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.bulletin.put(t, d.document(nil), posting{by: d.issuer})
	p, now := d.policy(t, ""), time.Now()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	in := p.scopes["docker.io"]
	if e := d.sources.document(ended, p, in, now); e.found == nil || e.found.Status == DelegationCounts {
		t.Errorf("in an ended context: %+v", e.found)
	}
	if e := d.sources.document(t.Context(), p, in, now); e.found == nil || e.found.Status != DelegationCounts {
		t.Errorf("after it: %+v", e.found)
	}
	// One that ends while it asks, likewise.
	ending, cancel := context.WithCancel(t.Context())
	src := d.run()
	src.Open = func(context.Context, registry.Reference) (*registry.Repo, error) {
		cancel()
		return nil, context.Canceled
	}
	if e := src.document(ending, p, in, now); e.found == nil || e.found.Status == DelegationCounts {
		t.Errorf("in an ending context: %+v", e.found)
	}
	src.Open = d.bulletin.Open
	if e := src.document(t.Context(), p, in, now); e.found == nil || e.found.Status != DelegationCounts {
		t.Errorf("after that: %+v", e.found)
	}
}

// The report says all of a document that counts, and nothing that an untrusted one says.
func TestDelegationReport(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	m := d.bulletin.put(t, d.document(nil), posting{by: d.issuer})
	r := d.judge(t, d.policy(t, ""), "docker.io/acme2/app:1", d.sources, d.acme)
	got := r.Delegation
	if got == nil || got.Status != DelegationCounts || got.Root != "ca" || got.Scope != "docker.io" || got.At != "docker.io/trust/delegations:v1" ||
		got.Digest != m.Descriptor.Digest || got.Version != 3 || got.Grants != 1 || got.Grant != "docker.io/acme2" ||
		!strings.Contains(got.SignedBy, "Docker Delegations") || got.Expires == nil || got.Issued == nil || got.Document == "" {
		t.Errorf("%+v", got)
	}
	if s := r.Signatures[0]; s.Root != "ca:docker.io/acme2" {
		t.Errorf("accepted by %q", s.Root)
	}
	d.bulletin.put(t, d.document(func(doc *DelegationDocument) { doc.Version = 9 }), posting{by: d.ca})
	got = d.judge(t, d.policy(t, ""), "docker.io/acme2/app:1", d.run(), d.acme).Delegation
	if got.Status != DelegationRefused || got.Version != 0 || got.Issued != nil || got.Document != "" || got.SignedBy != "" || got.Grant != "" {
		t.Errorf("of an untrusted document: %+v", got)
	}
	if r := d.judge(t, d.policy(t, ""), "quay.io/a/b:1", d.run(), d.acme); r.Delegation != nil {
		t.Errorf("without a scope: %+v", r.Delegation)
	}
}

// Narrowing only narrows: other roots alone leave no grant, and none is asked for; the delegating root leaves what it grants.
func TestDelegationNarrowed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		n       Narrowing
		verdict string
		asked   int32
	}{
		"to another root":         {Narrowing{OnlyRoots: []string{"hub"}}, Rejected, 0},
		"to the delegating root":  {Narrowing{OnlyRoots: []string{"ca"}}, Accepted, 1},
		"to other algorithms":     {Narrowing{Algorithms: []string{"PS256"}}, Rejected, 1},
		"to these algorithms":     {Narrowing{Algorithms: []string{"ES256"}}, Accepted, 1},
		"to claims":               {Narrowing{RequireClaim: true}, Rejected, 1},
		"to an age that it is of": {Narrowing{MaxAge: time.Hour}, Accepted, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			d.bulletin.put(t, d.document(nil), posting{by: d.issuer, at: time.Now().Add(-2 * time.Hour)})
			p, err := d.policy(t, "").Narrow(c.n)
			if err != nil {
				t.Fatal(err)
			}
			r := d.judge(t, p, "docker.io/acme2/app:1", d.sources, d.acme)
			if r.Verdict != c.verdict || d.bulletin.opened.Load() != c.asked {
				t.Errorf("%s %s (%s), asked %d times", r.Verdict, r.Reason, r.Detail, d.bulletin.opened.Load())
			}
		})
	}
}

func TestDelegateLoad(t *testing.T) {
	t.Parallel()
	s := newSignatory("root")
	const good = `{root: ca, from: registry, at: "docker.io/trust/delegations:v1", identities: ["O=D"], min-version: 2}`
	for name, c := range map[string]struct {
		delegate string
		code     string
	}{
		"good":                      {good, ""},
		"a digest":                  {strings.Replace(good, ":v1", "@sha256:"+strings.Repeat("0", 64), 1), ""},
		"no root":                   {strings.Replace(good, "root: ca, ", "", 1), codeMissing},
		"an unknown root":           {strings.Replace(good, "root: ca", "root: cb", 1), codeRootUnknown},
		"no from":                   {strings.Replace(good, "from: registry, ", "", 1), codeMissing},
		"from elsewhere":            {strings.Replace(good, "from: registry", "from: https", 1), codeValue},
		"from: file without PATH":   {strings.Replace(good, "from: registry", `from: "file:"`, 1), codeValue},
		"no at":                     {strings.Replace(good, `at: "docker.io/trust/delegations:v1", `, "", 1), codeMissing},
		"at a repository":           {strings.Replace(good, ":v1", "", 1), codeValue},
		"at a layout":               {strings.Replace(good, "docker.io/trust/delegations:v1", "oci:dir:v1", 1), codeValue},
		"at no reference":           {strings.Replace(good, "docker.io/trust/delegations:v1", "delegations:v1", 1), codeValue},
		"no identities":             {strings.Replace(good, `identities: ["O=D"], `, "", 1), codeMissing},
		"empty identities":          {strings.Replace(good, `["O=D"]`, `[]`, 1), codeValue},
		"min-version 0":             {strings.Replace(good, "2}", "0}", 1), codeValue},
		"min-version -1":            {strings.Replace(good, "2}", "-1}", 1), codeValue},
		"min-version 0x2":           {strings.Replace(good, "2}", "0x2}", 1), codeValue},
		"min-version as text":       {strings.Replace(good, "2}", `"2"}`, 1), codeValue},
		"min-version 2^64":          {strings.Replace(good, "2}", "18446744073709551616}", 1), codeValue},
		"min-version 2^64-1":        {strings.Replace(good, "2}", "18446744073709551615}", 1), ""},
		"an unknown key":            {strings.Replace(good, "2}", "2, max-version: 3}", 1), codeKeyUnknown},
		"no mapping":                {"ca", codeType},
		"a file that is not there":  {`{root: ca, from: "file:gone.tar", identities: ["O=D"]}`, codeDelegateFile},
		"a file above":              {`{root: ca, from: "file:../gone.tar", identities: ["O=D"]}`, codePath},
		"a file that is no archive": {`{root: ca, from: "file:roots/ca.pem", identities: ["O=D"]}`, codeDelegateFile},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := "version: 1\nroots: {ca: roots/ca.pem}\nscopes:\n  docker.io:\n    trust: [ca]\n    delegate: " + c.delegate + "\n"
			_, err := Load(folderOf(t, text, map[string]string{"roots/ca.pem": s.pem()}))
			if c.code == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			loadError(t, err, c.code, 0)
		})
	}
	for _, rule := range []string{"reject: true", "require: [[ca]]", "accept: unsigned"} {
		text := "version: 1\nroots: {ca: roots/ca.pem}\nscopes:\n  docker.io/x:\n    " + rule + "\n    delegate: " + good + "\n  quay.io: [ca]\n"
		_, err := Load(folderOf(t, text, map[string]string{"roots/ca.pem": s.pem()}))
		loadError(t, err, codeRule, 0)
	}
	if _, err := Load(folderOf(t, "version: 1\nroots: {ca: roots/ca.pem, hub: roots/hub.pem}\nscopes:\n  docker.io:\n    trust: [hub]\n    delegate: "+good+"\n",
		map[string]string{"roots/ca.pem": s.pem(), "roots/hub.pem": newSignatory("hub").pem()})); err != nil {
		t.Errorf("a root that only delegates is used: %v", err)
	}
}

// A document in a file comes with its signatures, is part of the policy's digest, and needs no network.
func TestDelegationFromFile(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	policyOf := func(t *testing.T, from, more string, bring func(dir string)) (*Policy, error) {
		t.Helper()
		file := folderOf(t, "version: 1\nroots: {ca: ca.pem, hub: hub.pem}\nscopes:\n  docker.io:\n    trust: [hub]\n    delegate: {root: ca, from: \"file:"+
			from+"\", identities: [\"O=Docker Delegations\"]"+more+"}\n", map[string]string{"ca.pem": d.ca.pem(), "hub.pem": d.hub.pem()})
		bring(filepath.Dir(file))
		return Load(file)
	}
	layout := func(body []byte, o posting) func(string) {
		return func(dir string) { (&bulletin{dir: filepath.Join(dir, "delegations")}).put(t, body, o) }
	}
	local := func() *Sources { return &Sources{State: filepath.Join(t.TempDir(), "delegations.json")} }
	p, err := policyOf(t, "delegations", "", layout(d.document(nil), posting{by: d.issuer}))
	if err != nil {
		t.Fatal(err)
	}
	wantReport(t, d.judge(t, p, "docker.io/acme2/app:1", local(), d.acme), Accepted, "")
	wantReport(t, d.judge(t, p, "docker.io/acme3/app:1", local(), d.acme), Rejected, codeNoTrusted)
	if r := d.judge(t, p, "docker.io/acme2/app:1", local(), d.acme); r.Delegation.At != "file:delegations" {
		t.Errorf("at %s", r.Delegation.At)
	}
	other, err := policyOf(t, "delegations", "", layout(d.document(func(doc *DelegationDocument) { doc.Version = 8 }), posting{by: d.issuer}))
	if err != nil {
		t.Fatal(err)
	}
	if p.Digest() == other.Digest() {
		t.Error("the policy's digest does not tell two documents apart")
	}
	// What was published elsewhere claims that place: with at it is judged by it.
	claiming := layout(d.document(nil), posting{by: d.issuer, claims: []string{"docker.io/trust/delegations:v1"}})
	for more, want := range map[string]string{"": Accepted, `, at: "docker.io/trust/delegations:v1"`: Accepted, `, at: "docker.io/trust/delegations:v2"`: Rejected} {
		p, err := policyOf(t, "delegations", more, claiming)
		if err != nil {
			t.Fatal(err)
		}
		if r := d.judge(t, p, "docker.io/acme2/app:1", local(), d.acme); r.Verdict != want {
			t.Errorf("claims at %q: %s %s", more, r.Verdict, r.Detail)
		}
	}
	p, err = policyOf(t, "delegations", "", layout(d.document(nil), posting{by: d.ca}))
	if err != nil {
		t.Fatal(err)
	}
	wantReport(t, d.judge(t, p, "docker.io/acme2/app:1", local(), d.acme), Rejected, codeDelegationUntrusted)
	for name, c := range map[string]struct {
		bring func(string)
		code  string
	}{
		"of another type": {layout(d.document(nil), posting{by: d.issuer, artifactType: "application/json"}), codeDelegateFile},
		"two of them": {func(dir string) {
			layout(d.document(nil), posting{by: d.issuer})(dir)
			layout(d.document(func(doc *DelegationDocument) { doc.Version = 8 }), posting{by: d.issuer})(dir)
			addName(t, filepath.Join(dir, "delegations"))
		}, codeDelegateFile},
		"an index that everybody may write": {func(dir string) {
			layout(d.document(nil), posting{by: d.issuer})(dir)
			if err := os.Chmod(filepath.Join(dir, "delegations", "index.json"), 0o666); err != nil {
				t.Fatal(err)
			}
		}, codeUnsafe},
		"a symlink out of the folder": {func(dir string) {
			out := filepath.Join(t.TempDir(), "out")
			(&bulletin{dir: out}).put(t, d.document(nil), posting{by: d.issuer})
			if err := os.Symlink(out, filepath.Join(dir, "delegations")); err != nil {
				t.Fatal(err)
			}
		}, codePath},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := policyOf(t, "delegations", "", c.bring)
			loadError(t, err, c.code, 0)
		})
	}
}

// addName adds a second artifact to a layout.
func addName(t *testing.T, dir string) {
	t.Helper()
	ctx := t.Context()
	repo, err := clientOf().Open(ctx, registry.Reference{Kind: registry.Layout, Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer repo.Close()
	raw := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	m := registry.NewManifest(ocispec.MediaTypeImageIndex, raw)
	if err := repo.PushManifest(ctx, m); err != nil {
		t.Fatal(err)
	}
	if err := repo.Tag(ctx, m, "second"); err != nil {
		t.Fatal(err)
	}
}

// An issuer whose certificate was revoked issues nothing: the document is judged by the revocation that holds for the scope (D3).
func TestDelegationIssuerRevoked(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	authority := revtest.New(d.ca.root)
	t.Cleanup(authority.Stop)
	d.bulletin.put(t, d.document(nil), posting{by: d.issuer})
	policyBy := func(list []byte) *Policy {
		t.Helper()
		p, err := Load(folderOf(t, `version: 1
roots: {hub: hub.pem, ca: ca.pem}
scopes:
  docker.io:
    trust: [hub]
    revocation: {check: enforce, crl: [ca.crl]}
    delegate: {root: ca, from: registry, at: "docker.io/trust/delegations:v1", identities: ["O=Docker Delegations"]}
  quay.io: {trust: [hub]}
`, map[string]string{"hub.pem": d.hub.pem(), "ca.pem": d.ca.pem(), "ca.crl": string(list)}))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	// A list of the issuer's authority says nothing of acme's: that stays unknown, and is told as that, the document counting.
	r := d.judge(t, policyBy(authority.List()), "docker.io/acme2/app:1", d.run(), d.acme)
	if r.Delegation.Status != DelegationCounts || r.Verdict != Undetermined {
		t.Errorf("good: %s %s, %+v", r.Verdict, r.Reason, r.Delegation)
	}
	authority.Revoke(d.issuer.chain.Leaf(), revtest.Revoked{})
	r = d.judge(t, policyBy(authority.List()), "docker.io/acme2/app:1", d.run(), d.acme)
	wantReport(t, r, Rejected, codeDelegationUntrusted)
	if !strings.Contains(r.Detail, "revoked") {
		t.Errorf("%s", r.Detail)
	}
	// Nothing is known of the issuer: then nothing is known of what it grants.
	other := revtest.New(d.acme.root)
	t.Cleanup(other.Stop)
	r = d.judge(t, policyBy(other.List()), "docker.io/acme2/app:1", d.run(), d.acme)
	wantReport(t, r, Undetermined, codeDelegationUnavailable)
}

// A signature that cannot be had could be one by a granted key, also where the run is narrowed to what is granted.
func TestDelegationUnfetched(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.bulletin.put(t, d.document(nil), posting{by: d.issuer})
	away := registry.Signature{Subject: artifact, Descriptor: describe("away"), Err: registry.ErrUnavailable}
	whole := d.policy(t, "")
	narrowed, err := whole.Narrow(Narrowing{OnlyRoots: []string{"ca"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*Policy{"whole": whole, "narrowed": narrowed} {
		r, err := p.Examine(t.Context(), ref(t, "docker.io/acme2/app:1"), artifact, []registry.Signature{away}, time.Now(), d.run())
		if err != nil || r.Verdict != Undetermined {
			t.Errorf("%s: %s %s: %v", name, r.Verdict, r.Reason, err)
		}
	}
}

// Warnings of a document reach the report, and with it the person.
func TestDelegationWarnings(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.bulletin.put(t, d.document(nil), posting{by: d.issuer})
	src := d.run()
	src.State = ""
	r := d.judge(t, d.policy(t, ""), "docker.io/acme2/app:1", src, d.acme)
	if !strings.Contains(strings.Join(r.Warnings, "\n"), "no state is kept") {
		t.Errorf("%q", r.Warnings)
	}
}

// An archive is bounded, part of the digest, and no device.
func TestDelegationArchive(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	text := func(from string) string {
		return "version: 1\nroots: {ca: ca.pem, hub: hub.pem}\nscopes:\n  docker.io:\n    trust: [hub]\n    delegate: {root: ca, from: \"file:" + from + "\", identities: [\"CN=x\"]}\n"
	}
	for name, c := range map[string]struct {
		size int64
		code string
	}{"empty": {0, codeDelegateFile}, "too large": {maxDelegationArchive + 1, codeTooLarge}} {
		file := folderOf(t, text("d.tar"), map[string]string{"ca.pem": d.ca.pem(), "hub.pem": d.hub.pem(), "d.tar": ""})
		if err := os.Truncate(filepath.Join(filepath.Dir(file), "d.tar"), c.size); err != nil {
			t.Fatal(err)
		}
		_, err := Load(file)
		if e := loadError(t, err, c.code, 6); !strings.Contains(e.Error(), "d.tar") {
			t.Errorf("%s: %v", name, e)
		}
	}
	digests := map[string]bool{}
	for version := range uint64(2) {
		file := folderOf(t, text("d.tar"), map[string]string{"ca.pem": d.ca.pem(), "hub.pem": d.hub.pem()})
		(&bulletin{dir: filepath.Join(filepath.Dir(file), "d.tar")}).put(t, d.document(func(doc *DelegationDocument) { doc.Version = version + 1 }), posting{by: d.issuer})
		p, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		digests[p.Digest()] = true
	}
	if len(digests) != 2 {
		t.Error("the policy's digest does not tell two archives apart")
	}
}

// One document in two manifests is one document (D8).
func TestDelegationInAnotherManifest(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	p, body := d.policy(t, ""), d.document(nil)
	for _, note := range []string{"", "packed again"} {
		d.bulletin.put(t, body, posting{by: d.issuer, note: note})
		wantReport(t, d.judge(t, p, "docker.io/acme2/app:1", d.run(), d.acme), Accepted, "")
	}
}

// What the scope's strict-x509 asks of chains, it asks of the issuer's.
func TestDelegationStrictX509(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	lax := d.ca.root.Intermediate("tls only", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	chain := lax.Chain(lax.Leaf(d.issuer.key.Public(), "delegations", organisation("Docker Delegations")))
	d.bulletin.put(t, d.document(nil), posting{by: d.issuer, bend: func(sig registry.Signature) registry.Signature { return withX5C(t, sig, chain) }})
	for more, want := range map[string]string{"": DelegationCounts, "\n    strict-x509: true": DelegationRefused} {
		p := rooted(t, map[string]*signatory{"hub": d.hub, "ca": d.ca}, "scopes:\n  docker.io:\n    trust: [hub]"+more+
			"\n    delegate: {root: ca, from: registry, at: \"docker.io/trust/delegations:v1\", identities: [\"O=Docker Delegations\"]}\n")
		if got := d.judge(t, p, "docker.io/acme2/app:1", d.run(), d.acme).Delegation; got.Status != want {
			t.Errorf("strict %q: %s %s", more, got.Status, got.Detail)
		}
	}
}

// What the scope asks of signatures, it asks of the document's too.
func TestDelegationByTheScopesSettings(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.bulletin.put(t, d.document(nil), posting{by: d.issuer})
	for setting, why := range map[string]string{
		"algorithms: [PS256]":                               codeAlgorithm,
		"timestamps: {roots: [roots/hub.pem], use: always}": codeStampMissing,
		"max-age: 1m":    "",
		"claims: ignore": "",
	} {
		p := rooted(t, map[string]*signatory{"hub": d.hub, "ca": d.ca}, "scopes:\n  docker.io:\n    trust: [hub]\n    "+setting+
			"\n    delegate: {root: ca, from: registry, at: \"docker.io/trust/delegations:v1\", identities: [\"O=Docker Delegations\"]}\n")
		got := d.judge(t, p, "docker.io/acme2/app:1", d.run(), d.acme).Delegation
		switch {
		case why == "" && got.Status != DelegationCounts:
			t.Errorf("%s: %+v", setting, got)
		case why != "" && (got.Reason != codeDelegationUntrusted || !strings.Contains(got.Detail, "("+why+")")):
			t.Errorf("%s: %+v, want it refused for %s", setting, got, why)
		}
	}
}

// A scope of the file under a mirror is no mirror's: what its own document grants is looked up by its own name.
func TestDelegationUnderAMirrorByItself(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.bulletin.put(t, d.document(func(doc *DelegationDocument) {
		doc.Scope, doc.Grants = "mirror.example/acme2/own", []Grant{grantOf("mirror.example/acme2/own", d.acme)}
	}), posting{by: d.issuer})
	p := rooted(t, map[string]*signatory{"hub": d.hub, "ca": d.ca}, `scopes:
  docker.io: [hub]
  mirror.example/acme2/own:
    trust: [hub]
    delegate: {root: ca, from: registry, at: "docker.io/trust/delegations:v1", identities: ["O=Docker Delegations"]}
mirrors:
  docker.io/acme2: [mirror.example/acme2]
`)
	wantReport(t, d.judge(t, p, "mirror.example/acme2/own/app:1", d.run(), d.acme), Accepted, "")
	wantReport(t, d.judge(t, p, "mirror.example/acme2/app:1", d.run(), d.acme), Rejected, codeNoTrusted)
}

// A document is asked for only for a signature that it could make count: of this artifact, by a chain that may be looked at.
func TestDelegationIsNotAskedForWhatItCannotHelp(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.bulletin.err = registry.ErrUnavailable
	p, at := d.policy(t, ""), ref(t, "docker.io/acme2/app:1")
	another := payloadOf(describe("another"))
	for name, sig := range map[string]registry.Signature{
		"of another artifact": d.acme.sign(t, signing{payload: &another}),
		"that is broken":      found(string(envelope.JWS), []byte("{")),
	} {
		got, err := p.Examine(t.Context(), at, artifact, sigs(sig), time.Now(), d.run())
		if err != nil {
			t.Fatal(err)
		}
		wantReport(t, got, Rejected, codeNoTrusted)
		if n := d.bulletin.opened.Load(); n > 0 {
			t.Errorf("%s: the document was asked for", name)
		}
	}
	got, err := p.Examine(t.Context(), at, artifact, sigs(d.acme.sign(t, signing{})), time.Now(), d.run())
	if err != nil {
		t.Fatal(err)
	}
	wantReport(t, got, Undetermined, codeDelegationUnavailable)
}
