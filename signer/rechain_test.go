package signer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry"
)

// A pki is what the rows of K start from: a signature under an intermediate that ends in a month, and its renewal.
type pki struct {
	id      identity
	now     time.Time
	renewed *certtest.Authority // the intermediate: same name, same key, five years
	sig     registry.Signature
}

func newPKI(t testing.TB, edits ...certtest.Edit) pki {
	t.Helper()
	now := time.Now()
	id := identity{key: certtest.Key("P-256"), root: certtest.Root("root")}
	id.ca = id.root.Intermediate("ca", certtest.Valid(now.Add(-time.Hour), now.Add(days(30))))
	id.chain = id.ca.Chain(id.ca.Leaf(id.key.Public(), "release", edits...))
	return pki{
		id: id, now: now, renewed: id.root.IntermediateWith(id.ca.Key, "ca"),
		sig: signature(t, id, envelope.JWS, now, map[string]string{ocispec.AnnotationCreated: "2020-01-01T00:00:00Z"}),
	}
}

func (k pki) plan(given []*x509.Certificate, o RechainOptions) (Plan, error) {
	o.Now = k.now
	return PlanRechain(k.sig, NewPool(given), o)
}

func TestPlanRechain(t *testing.T) {
	t.Parallel()
	for _, format := range []envelope.Format{envelope.JWS, envelope.COSE} {
		k := newPKI(t)
		k.sig = signature(t, k.id, format, k.now, map[string]string{registry.AnnotationThumbprint: "stale", ocispec.AnnotationCreated: "2020-01-01T00:00:00Z"})
		p, err := k.plan([]*x509.Certificate{k.renewed.Certificate}, RechainOptions{})
		must(t, err)
		chain := certchain.Chain(k.renewed.Chain(k.id.chain.Leaf()))
		if p.Status != StatusPlanned || p.Changed || p.Anchor != "" || p.Reason != "" || len(p.Warnings) > 0 || p.New == p.Signature || p.Subject != someSubject.Digest {
			t.Errorf("%s: plan %+v", format, p)
		}
		if p.Identity != "C=DE, ST=BE, O=Acme, CN=release" || p.NewLeaf != p.Identity || !p.NowUntil.Equal(k.id.ca.Certificate.NotAfter) || !p.HoldsUntil.Equal(chain.Leaf().NotAfter) {
			t.Errorf("%s: identity %q, %q; now until %v, holds until %v", format, p.Identity, p.NewLeaf, p.NowUntil, p.HoldsUntil)
		}
		if diff := cmp.Diff(chain.Describe(), p.Chain); diff != "" {
			t.Errorf("%s: chain (-want +got):\n%s", format, diff)
		}
		proposed := p.Proposed()
		old, fresh := content(t, k.sig), content(t, proposed)
		carried(t, old, fresh)
		if !fresh.Chain.Equal(chain) || fresh.Agent != old.Agent || !fresh.Supersedes(old) {
			t.Errorf("%s: agent %q, supersedes %v", format, fresh.Agent, fresh.Supersedes(old))
		}
		if proposed.Descriptor.Digest != p.New || digest.FromBytes(proposed.Manifest.Bytes) != p.New || p.Core != old.CoreID() {
			t.Errorf("%s: proposed %s, new %s, core %s", format, proposed.Descriptor.Digest, p.New, p.Core)
		}
		want := []Verdict{
			{Setting: envelope.NoTSARoot, Old: true, New: true, Both: true},
			{Setting: envelope.Always},
			{Setting: envelope.AfterCertExpiry, Old: true, New: true, Both: true},
		}
		for i := range p.Verdicts {
			p.Verdicts[i].OldWhy, p.Verdicts[i].NewWhy = "", ""
			p.Verdicts[i].OldCause, p.Verdicts[i].NewCause = Cause{}, Cause{}
		}
		if diff := cmp.Diff(want, p.Verdicts); diff != "" {
			t.Errorf("%s: verdicts (-want +got):\n%s", format, diff)
		}
	}
}

// After the intermediate has ended, the old one fails and the new one passes: that is what rechain is for.
func TestPlanRechainAfterTheEnd(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	k.now = k.now.Add(days(40))
	p, err := k.plan([]*x509.Certificate{k.renewed.Certificate}, RechainOptions{Replace: true})
	must(t, err)
	if v := p.Verdicts[0]; v.Setting != envelope.NoTSARoot || v.Old || !v.New || !v.Both || v.OldWhy == "" {
		t.Errorf("verdict %+v", v)
	}
	unchanged, err := k.plan(k.id.chain, RechainOptions{})
	must(t, err)
	if unchanged.Status != StatusUnchanged || len(unchanged.Warnings) != 1 {
		t.Errorf("given its own chain: %+v", unchanged)
	}
}

// An expiry that has passed is not mended by a chain, and the plan says so.
func TestPlanRechainExpired(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	e, err := envelope.Sign(t.Context(), envelope.JWS, envelope.Payload{MediaType: someSubject.MediaType, Digest: someSubject.Digest, Size: someSubject.Size},
		kmstest.Key(k.id.key), k.id.chain, envelope.Options{SigningTime: k.now, Expiry: k.now.Add(time.Hour)})
	must(t, err)
	k.sig, k.now = enveloped(e.Bytes(), envelope.JWS, nil), k.now.Add(2*time.Hour)
	p, err := k.plan([]*x509.Certificate{k.renewed.Certificate}, RechainOptions{})
	must(t, err)
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "expired") || !p.HoldsUntil.Equal(p.NowUntil) {
		t.Errorf("warnings %q, holds until %v, now until %v", p.Warnings, p.HoldsUntil, p.NowUntil)
	}
	for _, v := range p.Verdicts {
		if v.Old || v.New || v.Both || v.NewWhy == "" {
			t.Errorf("verdict %+v", v)
		}
	}
}

func TestRechainRefusals(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	leaf, root := k.id.chain.Leaf(), k.id.root.Certificate
	now := k.now
	otherLeaf := k.id.ca.Leaf(certtest.Key("P-256").Public(), "release")
	renamed := k.renewed.Leaf(k.id.key.Public(), "somebody else")
	namesake := k.id.root.Intermediate("ca") // the same name, another key
	elsewhere := certtest.Root("elsewhere")
	subordinate := k.id.root.Intermediate("new ca")
	strangerCA := certtest.Root("unknown root").IntermediateWith(k.id.ca.Key, "ca")
	expiredRoot := certtest.RootWith(k.id.root.Key, "root", certtest.Valid(now.Add(-days(30)), now.Add(-days(1))))
	past := certtest.Valid(now.Add(-days(30)), now.Add(-time.Hour))
	shorter := certtest.Valid(now.Add(-time.Hour), now.Add(days(20)))
	usage := func(u x509.KeyUsage) certtest.Edit { return func(c *x509.Certificate) { c.KeyUsage = u } }
	constrained := func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"allowed.example"}
	}
	zero := func(c *x509.Certificate) { c.MaxPathLenZero = true }
	inner := k.id.root.Intermediate("outer", zero).Intermediate("inner")
	named := newPKI(t, func(c *x509.Certificate) { c.DNSNames = []string{"other.example"} })
	selfSigned := certtest.SelfSigned(certtest.Key("P-256"), "self-signed")

	for name, c := range map[string]struct {
		pki    pki
		given  []*x509.Certificate
		o      RechainOptions
		reason string
	}{
		"K01 leaf of another key, same issuers":        {k, k.id.ca.Chain(otherLeaf), RechainOptions{}, "leaf-key-differs"},
		"K01 leaf of another key alone":                {k, []*x509.Certificate{otherLeaf}, RechainOptions{}, "leaf-key-differs"},
		"K01 leaf of another key, other issuers":       {k, newIdentity("other").chain, RechainOptions{}, "leaf-key-differs"},
		"K01 leaf of another key and a new issuer":     {k, subordinate.Chain(subordinate.Leaf(certtest.Key("P-256").Public(), "release")), RechainOptions{}, "leaf-key-differs"},
		"K01 self-signed leaf of another key":          {k, []*x509.Certificate{selfSigned}, RechainOptions{}, "leaf-key-differs"},
		"K01 an issuer that has nothing to do with it": {k, []*x509.Certificate{elsewhere.Certificate}, RechainOptions{}, "leaf-key-differs"},
		"K01 a new issuer without a leaf of its own":   {k, []*x509.Certificate{subordinate.Certificate, root}, RechainOptions{}, "leaf-key-differs"},
		"K02 same key, other subject":                  {k, k.renewed.Chain(renamed), RechainOptions{}, "identity-changes"},
		"K02 same key, other subject, other CA":        {k, subordinate.Chain(subordinate.Leaf(k.id.key.Public(), "somebody else")), RechainOptions{}, "identity-changes"},
		"K02 same key, other attribute": {k, k.renewed.Chain(k.renewed.Leaf(k.id.key.Public(), "release", certtest.Subject(pkix.Name{
			Country: []string{"DE"}, Province: []string{"BE"}, Organization: []string{"Acme", "Acme"}, CommonName: "release"}))), RechainOptions{}, "identity-changes"},
		"K03 issuer of the same name, other key":            {k, []*x509.Certificate{namesake.Certificate}, RechainOptions{}, "not-issued-by"},
		"K03 with the present leaf and root":                {k, []*x509.Certificate{leaf, namesake.Certificate, root}, RechainOptions{}, "not-issued-by"},
		"K03 under a re-issued leaf":                        {k, []*x509.Certificate{subordinate.Leaf(k.id.key.Public(), "release"), k.id.root.Intermediate("new ca").Certificate, root}, RechainOptions{}, "not-issued-by"},
		"K04 name constraints violated":                     {named, []*x509.Certificate{named.id.root.IntermediateWith(named.id.ca.Key, "ca", constrained).Certificate}, RechainOptions{}, "name-constraints"},
		"K04 path length of zero above an issuer":           {k, inner.Chain(inner.Leaf(k.id.key.Public(), "release")), RechainOptions{}, "path-length"},
		"K04 issuer that may not sign certificates":         {k, []*x509.Certificate{k.id.root.IntermediateWith(k.id.ca.Key, "ca", usage(x509.KeyUsageCRLSign)).Certificate}, RechainOptions{}, "ca-key-usage"},
		"K06 expired intermediate":                          {k, []*x509.Certificate{k.id.root.IntermediateWith(k.id.ca.Key, "ca", past).Certificate}, RechainOptions{}, "expired"},
		"K06 expired root":                                  {k, []*x509.Certificate{k.renewed.Certificate, expiredRoot.Certificate}, RechainOptions{}, "expired"},
		"K06 expired leaf":                                  {k, k.renewed.Chain(k.renewed.Leaf(k.id.key.Public(), "release", past)), RechainOptions{}, "expired"},
		"K06 not yet valid":                                 {k, []*x509.Certificate{k.id.root.IntermediateWith(k.id.ca.Key, "ca", certtest.Valid(now.Add(time.Hour), now.Add(days(900)))).Certificate}, RechainOptions{}, "not-yet-valid"},
		"K07 no root for the new intermediate":              {k, []*x509.Certificate{strangerCA.Certificate}, RechainOptions{}, "chain-incomplete"},
		"K07 no issuer for the re-issued leaf":              {k, []*x509.Certificate{subordinate.Leaf(k.id.key.Public(), "release")}, RechainOptions{}, "chain-incomplete"},
		"K07 the root is cross-signed, not self-signed":     {k, []*x509.Certificate{k.renewed.Certificate, elsewhere.IntermediateWith(k.id.root.Key, "root").Certificate}, RechainOptions{}, "chain-incomplete"},
		"K10 an older intermediate":                         {k, []*x509.Certificate{k.id.root.IntermediateWith(k.id.ca.Key, "ca", shorter).Certificate}, RechainOptions{}, "ends-earlier"},
		"K10 an older intermediate with leaf and root":      {k, k.id.root.IntermediateWith(k.id.ca.Key, "ca", shorter).Chain(leaf), RechainOptions{}, "ends-earlier"},
		"K10 a re-issued leaf that ends earlier":            {k, k.renewed.Chain(k.renewed.Leaf(k.id.key.Public(), "release", shorter)), RechainOptions{}, "ends-earlier"},
		"K10 one second earlier":                            {k, []*x509.Certificate{k.id.root.IntermediateWith(k.id.ca.Key, "ca", certtest.Valid(now.Add(-time.Hour), k.id.ca.Certificate.NotAfter.Add(-time.Second))).Certificate}, RechainOptions{}, "ends-earlier"},
		"K02 and --allow-shorter does not allow another DN": {k, k.renewed.Chain(renamed), RechainOptions{AllowShorter: true}, "identity-changes"},
		"K10 and --allow-identity-change allows no shorter": {k, []*x509.Certificate{k.id.root.IntermediateWith(k.id.ca.Key, "ca", shorter).Certificate}, RechainOptions{AllowIdentityChange: true}, "ends-earlier"},
		"K01 and no flag allows another key":                {k, k.id.ca.Chain(otherLeaf), RechainOptions{AllowIdentityChange: true, AllowShorter: true, Replace: true}, "leaf-key-differs"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := c.pki.plan(c.given, c.o)
			if err == nil {
				t.Fatalf("planned: %s until %v", p.Status, p.HoldsUntil)
			}
			wantReason(t, err, c.reason, nil)
			if p.Status != StatusSkipped || p.Reason != c.reason || p.Detail == "" || p.Envelope() != nil || p.Signature != c.pki.sig.Descriptor.Digest || p.Identity == "" {
				t.Errorf("plan %+v", p)
			}
			if p.Proposed().Descriptor.Digest != c.pki.sig.Descriptor.Digest {
				t.Error("what is refused proposes something else than what is there")
			}
		})
	}
}

func TestK02IdentityChangeAllowed(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	p, err := k.plan(k.renewed.Chain(k.renewed.Leaf(k.id.key.Public(), "somebody else")), RechainOptions{})
	wantReason(t, err, "identity-changes", nil)
	if p.NewLeaf != "C=DE, ST=BE, O=Acme, CN=somebody else" || !strings.Contains(p.Detail, "CN=release") || !strings.Contains(p.Detail, "CN=somebody else") {
		t.Errorf("refused plan shows %q, %q", p.NewLeaf, p.Detail)
	}
	p, err = k.plan(k.renewed.Chain(k.renewed.Leaf(k.id.key.Public(), "somebody else")), RechainOptions{AllowIdentityChange: true})
	must(t, err)
	if p.Status != StatusPlanned || !p.Changed || p.Identity == p.NewLeaf {
		t.Errorf("plan %+v", p)
	}
}

// An authority that has come to write UTF8String where it wrote PrintableString names the same signer.
func TestK02SameNameInAnotherStringType(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	name := bytes.ReplaceAll(k.id.chain.Leaf().RawSubject, append([]byte{0x13, 7}, "release"...), append([]byte{0x0c, 7}, "release"...))
	if bytes.Equal(name, k.id.chain.Leaf().RawSubject) {
		t.Fatal("the name has no PrintableString: this test proves nothing")
	}
	again := k.renewed.Leaf(k.id.key.Public(), "release", func(c *x509.Certificate) { c.RawSubject = name })
	p, err := k.plan(k.renewed.Chain(again), RechainOptions{})
	if err != nil || p.Status != StatusPlanned || p.Changed {
		t.Errorf("%s, changed %v, %v", p.Status, p.Changed, err)
	}
}

func TestK05CrossSigned(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	root2 := certtest.Root("root two")
	cross := root2.IntermediateWith(k.id.ca.Key, "ca")
	p, err := k.plan([]*x509.Certificate{cross.Certificate, root2.Certificate}, RechainOptions{})
	must(t, err)
	if p.Anchor != "C=DE, ST=BE, O=Acme, CN=root two" || p.Status != StatusPlanned || len(p.Warnings) != 1 {
		t.Errorf("anchor %q, status %s, warnings %q", p.Anchor, p.Status, p.Warnings)
	}
	if content(t, p.Proposed()).Supersedes(content(t, k.sig)) {
		t.Error("under another root it supersedes")
	}
	// With a way to the root that verifiers have pinned, of the same length of life, that one is taken.
	until := certtest.Valid(k.now.Add(-time.Hour), k.now.Add(days(100)))
	for range 4 {
		again := []*x509.Certificate{root2.IntermediateWith(k.id.ca.Key, "ca", until).Certificate, root2.Certificate,
			k.id.root.IntermediateWith(k.id.ca.Key, "ca", until).Certificate}
		p, err = k.plan(again, RechainOptions{})
		must(t, err)
		if p.Anchor != "" || !p.HoldsUntil.Equal(again[2].NotAfter) {
			t.Errorf("anchor %q, until %v", p.Anchor, p.HoldsUntil)
		}
	}
}

func TestK08OrderAndK09ExtrasChangeNothing(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	chain := k.renewed.Chain(k.renewed.Leaf(k.id.key.Public(), "release"))
	sorted, err := k.plan(chain, RechainOptions{})
	must(t, err)
	other := newIdentity("other")
	pool := slices.Concat(chain, other.chain, []*x509.Certificate{k.id.root.Certificate, k.id.root.Certificate, certtest.Root("root").Certificate, certtest.Root("second root").Certificate},
		other.ca.Chain(other.ca.Leaf(certtest.Key("P-384").Public(), "web")))
	for range 20 {
		rand.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
		p, err := k.plan(pool, RechainOptions{})
		must(t, err)
		if p.New != sorted.New || len(p.Chain) != 3 {
			t.Fatalf("new %s of %d certificates, sorted input gives %s", p.New, len(p.Chain), sorted.New)
		}
	}
}

// The longest lasting of what was given, whichever of leaf and issuers that is.
func TestRechainTakesTheLongest(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	for i, until := range []time.Duration{days(60), days(90), days(75)} {
		given := []*x509.Certificate{}
		for _, d := range []time.Duration{days(50), until, days(40)} {
			given = append(given, k.id.root.IntermediateWith(k.id.ca.Key, "ca", certtest.Valid(k.now.Add(-time.Hour), k.now.Add(d))).Certificate)
		}
		p, err := k.plan(given, RechainOptions{})
		must(t, err)
		if !p.HoldsUntil.Equal(given[1].NotAfter) {
			t.Errorf("%d: until %v, want %v", i, p.HoldsUntil, given[1].NotAfter)
		}
		// What was done is found done, with all of them given again.
		k2 := k
		k2.sig = p.Proposed()
		again, err := k2.plan(given, RechainOptions{})
		must(t, err)
		if again.Status != StatusUnchanged {
			t.Errorf("%d: again is %s", i, again.Status)
		}
	}
}

func TestK10ShorterAllowed(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	older := k.id.root.IntermediateWith(k.id.ca.Key, "ca", certtest.Valid(k.now.Add(-time.Hour), k.now.Add(days(20))))
	p, err := k.plan([]*x509.Certificate{older.Certificate}, RechainOptions{AllowShorter: true})
	must(t, err)
	if p.Status != StatusPlanned || !p.HoldsUntil.Equal(older.Certificate.NotAfter) {
		t.Errorf("plan %s until %v", p.Status, p.HoldsUntil)
	}
}

func TestK12Timestamps(t *testing.T) {
	t.Parallel()
	now := time.Now()
	made := now.Add(-days(10)) // when it was signed and stamped
	long := certtest.Valid(now.Add(-days(300)), now.Add(days(30)))
	id := identity{key: certtest.Key("P-256"), root: certtest.Root("root", certtest.Valid(now.Add(-days(900)), now.Add(days(900))))}
	id.ca = id.root.Intermediate("ca", long)
	id.chain = id.ca.Chain(id.ca.Leaf(id.key.Public(), "release", certtest.Valid(now.Add(-days(300)), now.Add(days(300)))))
	late := []*x509.Certificate{id.root.IntermediateWith(id.ca.Key, "ca", certtest.Valid(now.Add(-days(5)), now.Add(days(600)))).Certificate}
	backdated := []*x509.Certificate{id.root.IntermediateWith(id.ca.Key, "ca", certtest.Valid(now.Add(-days(20)), now.Add(days(600)))).Certificate}
	plain := signature(t, id, envelope.JWS, made, nil)
	garbage := editHeader(t, plain, func(h map[string]json.RawMessage) {
		h["io.cncf.notary.timestampSignature"] = json.RawMessage(`"Z2FyYmFnZQ=="`)
	})

	for name, c := range map[string]struct {
		sig    registry.Signature
		given  []*x509.Certificate
		breaks bool
	}{
		"K12 timestamp before the new intermediate":              {stamped(t, plain, made), late, true},
		"K12 timestamp inside a back-dated one":                  {stamped(t, plain, made), backdated, false},
		"K12 authentic signing time before the new intermediate": {authentic(t, id, made), late, true},
		"K12 authentic signing time inside a back-dated one":     {authentic(t, id, made), backdated, false},
		"K12 no timestamp": {plain, late, false},
		"K12 timestamp whose accuracy reaches out of the chain":   {stamped(t, plain, now.Add(-days(5))), late, true},
		"K12 timestamp that nobody accepts: before the old chain": {stamped(t, plain, now.Add(-days(400))), late, false},
		"K12 timestamp that cannot be read":                       {garbage, late, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			beside, err := PlanRechain(c.sig, NewPool(c.given), RechainOptions{Now: now})
			must(t, err)
			if beside.Status != StatusPlanned || (len(beside.Warnings) > 0) != c.breaks {
				t.Errorf("beside the old one: %s, warnings %q", beside.Status, beside.Warnings)
			}
			old, fresh := content(t, c.sig), content(t, beside.Proposed())
			carried(t, old, fresh)
			if !bytes.Equal(old.Timestamp, fresh.Timestamp) {
				t.Error("the timestamp was not carried")
			}
			for _, v := range beside.Verdicts {
				if v.Both != (v.Old || v.New) || v.Old && c.breaks && !v.Both {
					t.Errorf("verdict %+v", v)
				}
			}
			replaced, err := PlanRechain(c.sig, NewPool(c.given), RechainOptions{Now: now, Replace: true})
			if !c.breaks {
				must(t, err)
				return
			}
			if err == nil {
				t.Fatal("may replace it")
			}
			wantReason(t, err, "would-break-timestamp", nil)
			if replaced.Status != StatusSkipped {
				t.Errorf("status %s", replaced.Status)
			}
		})
	}
}

// A timestamp that is older than the renewed intermediate.
func TestRechainVerdicts(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	late := k.id.root.IntermediateWith(k.id.ca.Key, "ca", certtest.Valid(k.now.Add(-time.Minute), k.now.Add(days(900))))
	k.sig = stamped(t, k.sig, k.now.Add(-30*time.Minute))
	p, err := k.plan([]*x509.Certificate{late.Certificate}, RechainOptions{})
	must(t, err)
	for i, want := range []Verdict{
		{Setting: envelope.NoTSARoot, Old: true, New: true, Both: true},
		{Setting: envelope.Always, Old: true, New: false, Both: true},
		{Setting: envelope.AfterCertExpiry, Old: true, New: true, Both: true},
		// Once the old chain has ended:
		{Setting: envelope.NoTSARoot, Old: false, New: true, Both: true},
		{Setting: envelope.Always, Old: true, New: false, Both: true},
		{Setting: envelope.AfterCertExpiry, Old: true, New: true, Both: true},
	} {
		got := slices.Concat(p.Verdicts, p.Afterwards)[i]
		if (got.NewWhy != "") == got.New || (got.OldWhy != "") == got.Old {
			t.Errorf("verdict without a why: %+v", got)
		}
		if (got.NewCause == Cause{}) != got.New || (got.OldCause == Cause{}) != got.Old {
			t.Errorf("verdict without a cause: %+v", got)
		}
		got.OldWhy, got.NewWhy, got.OldCause, got.NewCause = "", "", Cause{}, Cause{}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestK13InvalidSignature(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	given := []*x509.Certificate{k.renewed.Certificate}
	flipped := k.sig
	flipped.Envelope = bytes.Clone(k.sig.Envelope)
	at := bytes.Index(flipped.Envelope, []byte(`"signature":"`)) + len(`"signature":"`) + 20
	flipped.Envelope[at] = map[bool]byte{true: 'B', false: 'A'}[flipped.Envelope[at] == 'A']
	elsewhere := k.sig
	elsewhere.Subject.Digest = digest.FromString("another artifact")
	resized := k.sig
	resized.Subject.Size++
	garbage := k.sig
	garbage.Envelope = []byte("{}")
	otherType := k.sig
	otherType.MediaType = string(envelope.COSE)
	for name, sig := range map[string]registry.Signature{
		"K13 another signature byte": flipped, "K13 of another artifact": elsewhere, "K13 of another size": resized, "K13 not an envelope": garbage, "K13 the other format": otherType,
	} {
		p, err := PlanRechain(sig, NewPool(given), RechainOptions{Now: k.now})
		if err == nil {
			t.Errorf("%s: planned", name)
			continue
		}
		wantReason(t, err, "signature-invalid", nil)
		if p.Status != StatusSkipped {
			t.Errorf("%s: %s", name, p.Status)
		}
	}
	unread := registry.Signature{Subject: someSubject, Descriptor: k.sig.Descriptor, Err: registry.ErrUnavailable}
	if _, err := PlanRechain(unread, NewPool(given), RechainOptions{Now: k.now}); err == nil || !strings.Contains(err.Error(), registry.ErrUnavailable.Error()) {
		t.Errorf("unread: %v", err)
	}
}

func TestK14ChainIsSigned(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	var x5c [][]byte
	for _, c := range k.id.chain {
		x5c = append(x5c, c.Raw)
	}
	encoded, err := json.Marshal(x5c)
	must(t, err)
	inJWS := jws(t, k.id, `{"alg":"ES256","cty":"application/vnd.cncf.notary.payload.v1+json","crit":["io.cncf.notary.signingScheme"],`+
		`"io.cncf.notary.signingScheme":"notary.x509","io.cncf.notary.signingTime":"`+k.now.UTC().Format(time.RFC3339)+`","x5c":`+string(encoded)+`}`)
	inCOSE := coseWith(t, k.id, signature(t, k.id, envelope.COSE, k.now, nil), true, 33, x5c)
	for name, sig := range map[string]registry.Signature{"K14 JWS": inJWS, "K14 COSE": inCOSE} {
		_, err := PlanRechain(sig, NewPool([]*x509.Certificate{k.renewed.Certificate}), RechainOptions{Now: k.now})
		if err == nil {
			t.Errorf("%s: planned", name)
			continue
		}
		wantReason(t, err, "chain-is-signed", envelope.ErrChainSigned)
	}
}

func TestK15UnknownMembersAreKept(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	given := []*x509.Certificate{k.renewed.Certificate}

	noted := editHeader(t, k.sig, func(h map[string]json.RawMessage) { h["com.example.note"] = json.RawMessage(`{"a":[1,2.50,"<&>"]}`) })
	p, err := PlanRechain(noted, NewPool(given), RechainOptions{Now: k.now})
	must(t, err)
	carried(t, content(t, noted), content(t, p.Proposed()))
	var whole struct{ Header map[string]json.RawMessage }
	must(t, json.Unmarshal(p.Envelope().Bytes(), &whole))
	if got := string(whole.Header["com.example.note"]); got != `{"a":[1,2.50,"<&>"]}` {
		t.Errorf("JWS member became %s", got)
	}

	labelled := coseWith(t, k.id, signature(t, k.id, envelope.COSE, k.now, nil), false, "com.example.note", []any{1, "x"})
	p, err = PlanRechain(labelled, NewPool(given), RechainOptions{Now: k.now})
	must(t, err)
	carried(t, content(t, labelled), content(t, p.Proposed()))
	entry := append(encodeCBOR(t, "com.example.note"), encodeCBOR(t, []any{1, "x"})...)
	if !bytes.Contains(p.Envelope().Bytes(), entry) {
		t.Error("the COSE entry is gone")
	}
	// But for the chain, not a byte differs: neither before its first certificate (less the heads that state lengths)
	// nor after its last.
	around := func(b []byte, first, last *x509.Certificate) (before, after []byte) {
		return b[:bytes.Index(b, first.Raw)-3], b[bytes.Index(b, last.Raw)+len(last.Raw):]
	}
	leaf, root := k.id.chain.Leaf(), k.id.chain.Root()
	before, after := around(labelled.Envelope, leaf, root)
	newBefore, newAfter := around(p.Envelope().Bytes(), leaf, root)
	if !bytes.Equal(before, newBefore) || !bytes.Equal(after, newAfter) {
		t.Error("more than the chain changed")
	}
}

func TestK16SameDigestOnEveryMachine(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	first, err := k.plan([]*x509.Certificate{k.renewed.Certificate}, RechainOptions{})
	must(t, err)
	// Another machine, later, which was given more and replaces.
	k.now = k.now.Add(days(3))
	second, err := k.plan(slices.Concat([]*x509.Certificate{k.id.root.Certificate, k.renewed.Certificate}, newIdentity("other").chain), RechainOptions{Replace: true})
	must(t, err)
	if first.New != second.New {
		t.Errorf("%s and %s", first.New, second.New)
	}
}

func TestK22AnnotationsAreKept(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	k.sig = enveloped(k.sig.Envelope, envelope.JWS, map[string]string{
		ocispec.AnnotationCreated: "2020-01-01T00:00:00Z", "com.example.build": "<8812>", registry.AnnotationThumbprint: `["of the old one"]`,
	})
	p, err := k.plan([]*x509.Certificate{k.renewed.Certificate}, RechainOptions{})
	must(t, err)
	thumbprints, err := json.Marshal(certchain.Chain(k.renewed.Chain(k.id.chain.Leaf())).Thumbprints())
	must(t, err)
	want := map[string]string{ocispec.AnnotationCreated: "2020-01-01T00:00:00Z", "com.example.build": "<8812>", registry.AnnotationThumbprint: string(thumbprints)}
	var m ocispec.Manifest
	must(t, json.Unmarshal(p.Proposed().Manifest.Bytes, &m))
	if diff := cmp.Diff(want, m.Annotations); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if k.sig.Annotations[registry.AnnotationThumbprint] != `["of the old one"]` {
		t.Error("planning changed the signature that it was given")
	}
}

func TestK23SameChain(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	for name, given := range map[string][]*x509.Certificate{
		"the chain itself":         k.id.chain,
		"shuffled":                 {k.id.chain[2], k.id.chain[0], k.id.chain[1]},
		"its issuers":              k.id.chain[1:],
		"its intermediate":         k.id.chain[1:2],
		"nothing":                  nil,
		"with others besides":      slices.Concat(k.id.chain, newIdentity("other").chain),
		"intermediate and another": {k.id.chain[1], certtest.Root("another").Certificate},
	} {
		for _, replace := range []bool{false, true} {
			p, err := k.plan(given, RechainOptions{Replace: replace})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if p.Status != StatusUnchanged || p.New != "" || p.Envelope() != nil || p.Proposed().Descriptor.Digest != k.sig.Descriptor.Digest || !p.HoldsUntil.Equal(p.NowUntil) {
				t.Errorf("%s: %+v", name, p)
			}
		}
	}
}

func TestPlanRechainThere(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	given := []*x509.Certificate{k.renewed.Certificate}
	p, err := k.plan(given, RechainOptions{})
	must(t, err)
	listed := Among([]registry.Signature{k.sig, p.Proposed()})
	if p, err = k.plan(given, RechainOptions{Siblings: listed}); err != nil || p.Status != StatusThere {
		t.Errorf("status %s, %v", p.Status, err)
	}
	if p, err = k.plan(given, RechainOptions{Siblings: listed, Replace: true}); err != nil || p.Status != StatusPlanned {
		t.Errorf("with the old one to delete: status %s, %v", p.Status, err)
	}
}

// K25: under the key that ECDSA lets anybody compute, the signature verifies; it is another key all the same.
func TestK25SignatureVerifiesUnderAnotherKey(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	crafted := otherKey(t, k.sig, k.id.key.Public().(*ecdsa.PublicKey))
	given := k.renewed.Chain(k.renewed.Leaf(crafted, "release"))
	_, err := k.plan(given, RechainOptions{AllowIdentityChange: true, AllowShorter: true})
	must(t, err) // the renewed intermediate fits, and serves the signature's own leaf
	p, err := k.plan(append([]*x509.Certificate{given[0]}, k.id.chain[1:]...), RechainOptions{AllowIdentityChange: true, AllowShorter: true})
	wantReason(t, err, "leaf-key-differs", nil)
	if p.Envelope() != nil {
		t.Error("there is an envelope")
	}
	e, err := envelope.Parse(k.sig.MediaType, k.sig.Envelope)
	must(t, err)
	_, err = e.WithChain(given)
	wantReason(t, err, "leaf-key-differs", nil)
}

// Two signatures of an artifact by two keys under one intermediate, one file for both: each keeps its own leaf.
// K25 of RSA: with the exponent 1 a modulus can be computed under which any signature opens to the same encoded message. Neither is
// such a key taken for the one that signed, nor does anything verify by it.
func TestK25CraftedModulus(t *testing.T) {
	t.Parallel()
	root := certtest.Root("root")
	key := certtest.Key("RSA-2048").(*rsa.PrivateKey)
	id := identity{key: key, root: root, chain: root.Chain(root.Leaf(key.Public(), "release"))}
	now := time.Now()
	var sig registry.Signature
	var crafted *rsa.PublicKey
	for range 100 {
		sig = signature(t, id, envelope.JWS, now, nil)
		opened := new(big.Int)
		s := new(big.Int).SetBytes(content(t, sig).Signature)
		opened.Exp(s, big.NewInt(int64(key.E)), key.N)
		n := new(big.Int).Sub(s, opened)
		if n.Cmp(opened) > 0 && n.BitLen() == 2048 {
			crafted = &rsa.PublicKey{N: n, E: 1}
			if new(big.Int).Mod(s, n).Cmp(opened) != 0 {
				t.Fatal("the modulus is wrong: this test proves nothing")
			}
			break
		}
	}
	if crafted == nil {
		t.Skip("no such modulus in a hundred signatures") // one of a few signatures has one
	}
	evil := certtest.Root("evil root")
	thief := evil.Chain(evil.Leaf(crafted, "release"))
	for _, o := range []RechainOptions{{}, {AllowIdentityChange: true, AllowShorter: true}} {
		o.Now = now
		_, err := PlanRechain(sig, NewPool(thief), o)
		wantReason(t, err, "leaf-key-differs", nil)
	}
	e, err := envelope.Parse(sig.MediaType, sig.Envelope)
	must(t, err)
	if stolen, err := e.WithChain(certchain.Chain(thief)); err == nil {
		t.Errorf("an envelope of the crafted key: %s", stolen.Unverified().Algorithm)
	}
}

func TestRechainOneFileForAll(t *testing.T) {
	t.Parallel()
	k := newPKI(t)
	second := k.id
	second.key = certtest.Key("P-384")
	second.chain = k.id.ca.Chain(k.id.ca.Leaf(second.key.Public(), "web"))
	sigs := []registry.Signature{k.sig, signature(t, second, envelope.COSE, k.now, nil)}
	for i, sig := range sigs {
		p, err := PlanRechain(sig, NewPool([]*x509.Certificate{k.renewed.Certificate}), RechainOptions{Now: k.now})
		must(t, err)
		if p.Identity != p.NewLeaf || p.Status != StatusPlanned {
			t.Errorf("%d: %+v", i, p)
		}
	}
	// A folder of re-issued leaves: each signature finds its own.
	subordinate := k.id.root.Intermediate("new ca")
	folder := []*x509.Certificate{subordinate.Certificate, subordinate.Leaf(k.id.key.Public(), "release"), subordinate.Leaf(second.key.Public(), "web")}
	for i, sig := range sigs {
		p, err := PlanRechain(sig, NewPool(folder), RechainOptions{Now: k.now})
		must(t, err)
		if p.Identity != p.NewLeaf || p.Chain[0].Issuer != "C=DE, ST=BE, O=Acme, CN=new ca" {
			t.Errorf("%d: %+v", i, p)
		}
	}
}
