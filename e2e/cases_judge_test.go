package e2e

import (
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/trust/revtest"
)

// What the selected scope's rule asks for, where in a chain a root stands, which kind it is of, and when a signature was valid: through
// the command, by exit code and reason.

// policy writes a policy of the desk's own registry and returns the arguments of verifying its artifact by it.
func (d *desk) policy(roots, scope, more string) string {
	return d.file("policy.yaml", fmt.Appendf(nil, "version: 1\nroots: %s\n%sscopes: {%q: %s}\n", roots, more, d.f.Host, scope))
}

// ghost lists a signature that cannot be fetched.
func (d *desk) ghost() {
	gone := describe(ocispec.MediaTypeImageManifest, []byte("gone "+d.repo+fmt.Sprint(len(d.f.referrers(d.repo, d.subject.Digest)))))
	gone.ArtifactType = signatureType
	d.f.list(d.repo, d.subject.Digest, gone)
}

func TestRules(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	other := newSignatory("other")
	for _, row := range []struct {
		name, scope string
		signed      string // by desk, other, twice (the desk's key under other), ghost
		code        int
		reason      string
	}{
		{"both", "{require: [[desk], [other]]}", "desk other", 0, ""},
		{"one of them", "{require: [[desk], [other]]}", "desk", 1, "require-unsatisfied"},
		{"neither", "{require: [[desk], [other]]}", "", 1, "unsigned"},
		{"one key under both", "{require: [[desk], [other]]}", "desk twice", 1, "key-used-twice"},
		{"one key under both, shared", "{require: [[desk], [other]], distinct: false}", "desk twice", 0, ""},
		{"greed fails", "{require: [[desk, other], [desk]]}", "desk other", 0, ""},
		{"two of two", "{require: [[desk, other], [desk, other]]}", "desk other", 0, ""},
		{"one that cannot be read could be the other", "{require: [[desk], [other]]}", "desk ghost", 4, "unfetched"},
		{"one that cannot be read cannot be two", "{require: [[desk], [other], [desk, other]]}", "desk ghost", 1, "require-unsatisfied"},
		{"one that cannot be read is not needed", "{require: [[desk], [other]]}", "desk other ghost", 0, ""},
		{"trust, one that cannot be read", "[desk]", "other ghost", 4, "unfetched"},
		{"unsigned is accepted", "HERE{accept: unsigned}", "", 0, ""},
		{"unsigned is accepted, and so is what is signed by anybody", "HERE{accept: unsigned}", "other", 0, ""},
		{"unsigned is accepted, whatever cannot be read", "HERE{accept: unsigned}", "ghost", 0, ""},
		{"rejected whatever is there", "{reject: true}", "desk ghost", 1, "rejected-by-policy"},
		{"only reported", "{require: [[desk], [other]], enforce: false}", "desk", 0, "require-unsatisfied"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, "rules "+row.name)
			d.file("other.pem", certtest.PEM(other.root.Certificate))
			for _, by := range strings.Fields(row.signed) {
				switch by {
				case "desk":
					f.attach(d.repo, d.subject, jwsType, d.jws().bytes())
				case "other":
					f.attach(d.repo, d.subject, jwsType, newJWS(other.key, other.chain, d.subject).bytes())
				case "twice":
					f.attach(d.repo, d.subject, coseType, newCOSE(d.key, other.root.Chain(other.root.Leaf(d.key.Public(), "desk")), d.subject).bytes())
				case "ghost":
					d.ghost()
				}
			}
			policy := d.policy("{desk: root.pem, other: other.pem}", row.scope, "")
			if scope, here := strings.CutPrefix(row.scope, "HERE"); here { // not of a whole host
				policy = d.file("here.yaml", fmt.Appendf(nil, "version: 1\nroots: {desk: root.pem, other: other.pem}\nscopes: {%q: %s}\n", f.Host+"/"+d.repo, scope))
			}
			o := d.want(t, row.code, "", "verify", d.ref, "--policy", policy)
			if got := o.field(t, "reason"); got != row.reason {
				t.Errorf("reason %q, want %q\n%s", got, row.reason, o.stdout)
			}
			if enforced := o.field(t, "enforced"); (enforced == "false") != strings.Contains(row.scope, "enforce: false") {
				t.Errorf("enforced: %s", enforced)
			}
			text := d.run(t, "verify", d.ref, "--policy", policy)
			if text.code != row.code {
				t.Errorf("exit %d as text", text.code)
			}
			for _, loose := range []string{"accept: unsigned", "enforce", "distinct", "ignore", "remove", "strict-x509: false"} {
				if hint := text.stderr; strings.Contains(hint, loose) {
					t.Errorf("a hint that loosens: %s", hint)
				}
			}
		})
	}
}

// TestWritingUnderRequire: a signature that is renewed or countersigned is judged alone, and need not satisfy what several have to; one
// of a superseded pair may go.
func TestWritingUnderRequire(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := newDesk(t, f, "under require")
	other := newSignatory("other")
	d.file("other.pem", certtest.PEM(other.root.Certificate))
	tsa := tsatest.New(tsatest.Options{})
	url := tsa.Start()
	t.Cleanup(tsa.Stop)
	d.file("tsa.pem", certtest.PEM(tsa.Roots()...))
	policy := d.policy("{desk: root.pem, other: other.pem}", "{require: [[desk], [other]]}", "timestamps: {roots: [tsa.pem], use: after-cert-expiry}\n")
	longer := certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(300*24*time.Hour))
	d.want(t, 0, "", d.sign()...)
	f.attach(d.repo, d.subject, jwsType, newJWS(other.key, other.chain, d.subject).bytes())
	by := []string{"--policy", policy}
	d.want(t, 0, "", append([]string{"verify", d.ref}, by...)...)
	// The desk's root outlasts its leaf: a longer leaf supersedes.
	chain := d.root.Chain(d.root.Leaf(d.key.Public(), "desk", longer))
	o := d.want(t, 0, "", d.rechain(chain, append([]string{"--signed-by", "CN=desk", "--allow-shorter"}, by...)...)...)
	if got := o.field(t, "signatures.0.status"); got != "written" {
		t.Errorf("%s\n%s", got, o.stdout)
	}
	stranger := newSignatory("desk")
	d.refused2(t, 1, d.rechain(stranger.root.Chain(stranger.root.Leaf(d.key.Public(), "desk", longer)), append([]string{"--signed-by", "CN=desk", "--allow-shorter"}, by...)...)...)
	d.want(t, 0, "", append([]string{"timestamp", d.ref, "--timestamp-url", url, "--timestamp-roots", d.at("tsa.pem"), "--allow-private"}, by...)...)
	d.want(t, 0, "", append([]string{"verify", d.ref}, by...)...)
	d.want(t, 0, "", append([]string{"prune", d.ref, "--yes"}, by...)...)
	d.want(t, 0, "", append([]string{"verify", d.ref}, by...)...)
	// One of the two that are required cannot be deleted.
	two := newDesk(t, f, "require prune")
	two.file("other.pem", certtest.PEM(other.root.Certificate))
	by = []string{"--policy", two.policy("{desk: root.pem, other: other.pem}", "{require: [[desk], [other]]}", "")}
	f.attach(two.repo, two.subject, jwsType, two.jws().bytes())
	only := f.attach(two.repo, two.subject, jwsType, newJWS(other.key, other.chain, two.subject).bytes())
	two.refused(t, 1, "require-unsatisfied", append([]string{"prune", two.ref, "--yes", "--signature", only.Digest.String()}, by...)...)
	two.want(t, 0, "", append([]string{"verify", two.ref}, by...)...)
}

// refused2 wants an exit code and nothing more written than before.
func (d *desk) refused2(t testing.TB, code int, args ...string) {
	t.Helper()
	before := d.writes()
	d.want(t, code, "", args...)
	if n := d.writes(); n != before {
		t.Errorf("%d writes", n-before)
	}
}

// TestK24PinnedIntermediate: what is pinned stands in the old chain alone, so a new one is refused before anything is written.
func TestK24PinnedIntermediate(t *testing.T) {
	t.Parallel()
	d := newDesk(t, newFake(t), t.Name())
	d.file("ca.pem", certtest.PEM(d.ca.Certificate))
	policy := d.policy("{desk: {certificates: [ca.pem], pin: intermediate}}", "[desk]", "")
	f := d.f
	f.attach(d.repo, d.subject, jwsType, d.jws().bytes())
	d.want(t, 0, "", "verify", d.ref, "--policy", policy)
	longer := certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(400*24*time.Hour))
	renewed := d.root.IntermediateWith(d.ca.Key, "desk CA", longer)
	d.refused(t, 1, "no-trusted-signature", append(d.rechain(renewed.Chain(d.leaf), "--allow-shorter"), "--policy", policy)...)
	d.want(t, 0, "", "verify", d.ref, "--policy", policy)
	d.file("renewed.pem", certtest.PEM(renewed.Certificate))
	both := d.file("both.yaml", fmt.Appendf(nil, "version: 1\nroots: {desk: {certificates: [ca.pem, renewed.pem], pin: intermediate}}\nscopes: {%q: [desk]}\n", f.Host))
	d.want(t, 0, "", append(d.rechain(renewed.Chain(d.leaf), "--allow-shorter"), "--policy", both)...)
}

// TestX02Hint: a root that was made again by who holds its key is not trusted; the hint says what to compare, and where to pin it.
func TestX02Hint(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for name, c := range map[string]struct {
		root func(d *desk) *certtest.Authority
		want bool
	}{
		"by the same key": {func(d *desk) *certtest.Authority { return certtest.RootWith(d.root.Key, "desk root") }, true},
		"by another key":  {func(*desk) *certtest.Authority { return certtest.Root("desk root") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			root := c.root(d)
			f.attach(d.repo, d.subject, jwsType, newJWS(d.key, root.Chain(root.Leaf(d.key.Public(), "desk")), d.subject).bytes())
			policy := d.policy("{org: root.pem}", "[org]", "")
			o := d.want(t, 1, "root-not-trusted", "verify", d.ref, "--policy", policy)
			if got := o.field(t, "reason"); got != "no-trusted-signature" {
				t.Error(got)
			}
			if got := d.run(t, "verify", d.ref, "--policy", policy).stderr; strings.Contains(got, "pin the new root under roots:") != c.want {
				t.Error(got)
			}
		})
	}
}

// asAuthority bends a JWS into the scheme of signing authorities, with the time that it vouches for.
func asAuthority(j *jws, at time.Time) *jws {
	const signing = "io.cncf.notary.signingTime"
	i := strings.Index(j.protected, signing+`":"`) + len(signing) + 3
	k := i + strings.IndexByte(j.protected[i:], '"')
	j.protected = j.protected[:i] + at.UTC().Format(time.RFC3339) + j.protected[k:]
	return j.replace(`"notary.x509"`, `"notary.x509.signingAuthority"`).
		replace(signing, "io.cncf.notary.authenticSigningTime").
		replace(`"crit":["io.cncf.notary.signingScheme"]`, `"crit":["io.cncf.notary.signingScheme","io.cncf.notary.authenticSigningTime"]`)
}

// TestV12Kinds: a signing authority has a kind of root of its own, and its certificates are judged at its time.
func TestV12Kinds(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	now := time.Now()
	ended := now.Add(-24 * time.Hour).Truncate(time.Second)
	root := certtest.Root("authority root", certtest.Valid(now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0)))
	for _, row := range []struct {
		name, kind string
		at         time.Time // zero: a signature of a CA's
		reason     string
	}{
		{"signing authority under a CA root", "ca", ended.Add(-time.Hour), "kind-not-trusted"},
		{"of a CA under a signing authority", "signing-authority", time.Time{}, "kind-not-trusted"},
		{"while its chain held, which has expired", "signing-authority", ended.Add(-time.Hour), ""},
		{"after its chain had expired", "signing-authority", ended.Add(time.Second), "certificate-expired"},
		{"before its chain began", "signing-authority", now.Add(-48*time.Hour - time.Minute), "certificate-not-yet-valid"},
		{"in the future", "signing-authority", now.Add(time.Hour), "signed-in-the-future"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			d.file("root.pem", certtest.PEM(root.Certificate))
			j := newJWS(d.key, root.Chain(root.Leaf(d.key.Public(), "desk", certtest.Valid(now.Add(-48*time.Hour), ended))), d.subject)
			if !row.at.IsZero() {
				j = asAuthority(j, row.at)
			}
			f.attach(d.repo, d.subject, jwsType, j.bytes())
			code := 0
			if row.reason != "" {
				code = 1
			}
			d.want(t, code, row.reason, "verify", d.ref, "--policy", d.policy("{desk: {certificates: [root.pem], kind: "+row.kind+"}}", "[desk]", ""))
		})
	}
}

// TestTimeStampingAuthorities: an authority whose certificate has expired since still counts, one that had expired does not; one that
// was revoked does not, where revocation is looked up.
func TestTimeStampingAuthorities(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	now := time.Now()
	begun, ended := now.Add(-50*24*time.Hour).Truncate(time.Second), now.Add(-24*time.Hour).Truncate(time.Second)
	inside := begun.Add(24 * time.Hour)
	long := certtest.Valid(now.AddDate(-5, 0, 0), now.AddDate(5, 0, 0))
	root := certtest.Root("stamped root", long)
	tsaRoot := certtest.Root("tsa root", long)
	tsaCA := tsaRoot.Intermediate("tsa ca", long)
	authority := func(name string, from, to time.Time) *tsatest.Authority {
		return tsatest.New(tsatest.Options{Name: name, Root: tsaRoot, CA: tsaCA, Edits: []certtest.Edit{certtest.Valid(from, to)}})
	}
	mine, gone := authority("mine", begun.Add(-time.Hour), now.AddDate(1, 0, 0)), authority("gone", begun.Add(-time.Hour), inside.Add(time.Hour))
	revoked := authority("revoked", begun.Add(-time.Hour), now.AddDate(1, 0, 0))
	lists := map[string][]byte{}
	for name, a := range map[string]*certtest.Authority{"signer": root, "tsa-root": tsaRoot, "tsa-ca": tsaCA} {
		ca := revtest.New(a)
		t.Cleanup(ca.Stop)
		if name == "tsa-ca" {
			ca.Revoke(revoked.Certificate, revtest.Revoked{At: now.Add(-time.Hour), Reason: revtest.KeyCompromise})
		}
		lists[name+".crl"] = ca.List()
	}
	const enforce = "revocation: {check: enforce, crl: [signer.crl, tsa-root.crl, tsa-ca.crl]}\n"
	for _, row := range []struct {
		name       string
		tsa        *tsatest.Authority
		at         time.Time
		lasts      bool // the chain holds today
		use        string
		revocation string
		reason     string // "": accepted
	}{
		{"expired chain, no timestamp", nil, time.Time{}, false, "after-cert-expiry", "", "certificate-expired"},
		{"expired chain, token from before", mine, inside, false, "after-cert-expiry", "", ""},
		{"expired chain, token from after", mine, ended.Add(time.Hour), false, "after-cert-expiry", "", "timestamp-outside-validity"},
		{"TSA that has expired since", gone, inside, false, "after-cert-expiry", "", ""},
		{"TSA that had expired", gone, inside.Add(2 * time.Hour), false, "after-cert-expiry", "", "timestamp-untrusted"},
		{"TSA that had expired, always", gone, inside.Add(2 * time.Hour), true, "always", "", "timestamp-untrusted"},
		{"TSA whose lists are good", mine, inside, false, "after-cert-expiry", enforce, ""},
		{"TSA revoked", revoked, inside, false, "after-cert-expiry", enforce, "revoked"},
		{"TSA revoked, always", revoked, inside, true, "always", enforce, "revoked"},
		{"TSA revoked, which nobody asks about", revoked, inside, false, "always", "", ""},
		{"TSA revoked, of a token that does not count yet", revoked, inside, true, "after-cert-expiry", enforce, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			until := ended
			if row.lasts {
				until = now.AddDate(0, 0, 20)
			}
			chain := root.Chain(root.Leaf(d.key.Public(), "desk", certtest.Valid(begun, until)))
			e, err := envelope.Parse(jwsType, newJWS(d.key, chain, d.subject).bytes())
			if err != nil {
				t.Fatal(err)
			}
			if row.tsa != nil {
				if e, err = e.WithTimestamp(row.tsa.Token(e.Unverified().Signature, row.at)); err != nil {
					t.Fatal(err)
				}
			}
			f.attach(d.repo, d.subject, jwsType, e.Bytes())
			for name, b := range lists {
				d.file(name, b)
			}
			d.file("stamped.pem", certtest.PEM(root.Certificate))
			d.file("tsa.pem", certtest.PEM(tsaRoot.Certificate))
			policy := d.policy("{r: stamped.pem}", "[r]", row.revocation+"timestamps: {roots: [tsa.pem], use: "+row.use+"}\n")
			code := 0
			if row.reason != "" {
				code = 1
			}
			o := d.want(t, code, "", "verify", d.ref, "--policy", policy)
			if got := o.field(t, "reason"); got != row.reason {
				t.Errorf("reason %q, want %q: %s", got, row.reason, o.field(t, "detail"))
			}
			// Without a section the same is judged at today's time.
			without := d.file("without.yaml", fmt.Appendf(nil, "version: 1\nroots: {r: stamped.pem}\nscopes: {%q: [r]}\n", f.Host))
			if row.lasts {
				d.want(t, 0, "", "verify", d.ref, "--policy", without)
			} else {
				d.want(t, 1, "certificate-expired", "verify", d.ref, "--policy", without)
			}
		})
	}
}

// TestF41OneNow: whatever the clock does during a run, a run judges at one time.
func TestF41OneNow(t *testing.T) {
	t.Parallel()
	d := newDesk(t, newFake(t), t.Name())
	start := time.Now()
	d.want(t, 0, "", d.sign("--expiry", "1h")...)
	other := newSignatory("other")
	d.file("other.pem", certtest.PEM(other.root.Certificate))
	d.f.attach(d.repo, d.subject, jwsType, newJWS(other.key, other.chain, d.subject).bytes())
	policy := d.policy("{desk: root.pem, other: other.pem}", "{require: [[desk], [other]], max-age: 1d}", "")
	var calls atomic.Int64
	d.now = func() time.Time { return start.Add(time.Duration(calls.Add(1)-1) * 100 * 24 * time.Hour) }
	o := d.want(t, 0, "", "verify", d.ref, "--policy", policy)
	if got := o.field(t, "now"); !strings.HasPrefix(got, start.UTC().Format("2006-01-02T15:04:05")) {
		t.Errorf("judged at %s, begun at %s", got, start.UTC())
	}
	d.now = func() time.Time { return start.Add(2 * time.Hour) }
	d.want(t, 1, "expired", "verify", d.ref, "--policy", policy)
}

// TestP10OrderOfTheRegistry: in whatever order the registry lists signatures, the same bytes are answered.
func TestP10OrderOfTheRegistry(t *testing.T) {
	t.Parallel()
	d := newDesk(t, newFake(t), t.Name())
	now := time.Now().Truncate(time.Second)
	d.now = func() time.Time { return now }
	other := newSignatory("other")
	d.file("other.pem", certtest.PEM(other.root.Certificate))
	for range 3 {
		d.f.attach(d.repo, d.subject, jwsType, d.jws().bytes())
		d.f.attach(d.repo, d.subject, coseType, newCOSE(other.key, other.chain, d.subject).bytes())
		d.f.attach(d.repo, d.subject, jwsType, newJWS(d.key, other.chain, d.subject).bytes()) // of another key than its leaf's
		d.ghost()
	}
	key := d.repo + "@" + d.subject.Digest.String()
	for scope, code := range map[string]int{"[desk, other]": 0, "{require: [[desk, other], [other]]}": 0, "{trust: [desk], claims: tag}": 4, "{require: [[desk], [other]], claims: name}": 4} {
		policy := d.policy("{desk: root.pem, other: other.pem}", scope, "")
		var want outcome
		for i := range 25 {
			d.f.mu.Lock()
			listed := slices.Clone(d.f.listed[key])
			rand.Shuffle(len(listed), func(i, j int) { listed[i], listed[j] = listed[j], listed[i] })
			d.f.listed[key] = listed
			d.f.mu.Unlock()
			format := []string{"json", "text"}[i%2]
			o := d.run(t, "verify", d.ref, "--policy", policy, "-o", format)
			if o.code != code {
				t.Fatalf("%s: exit %d, want %d\n%s", scope, o.code, code, o.stdout)
			}
			if i < 2 {
				want.stdout, want.stderr = want.stdout+o.stdout, o.stderr
			} else if !strings.Contains(want.stdout, o.stdout) {
				t.Fatalf("%s: another order answers otherwise:\n%s\n%s", scope, want.stdout, o.stdout)
			}
		}
	}
}

// TestX06StrictX509: a chain that other verifiers accept is accepted with a word about it, and refused where the scope says strict-x509.
func TestX06StrictX509(t *testing.T) {
	t.Parallel()
	d := newDesk(t, newFake(t), t.Name())
	ca := d.root.Intermediate("servers only", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	d.f.attach(d.repo, d.subject, jwsType, newJWS(d.key, ca.Chain(ca.Leaf(d.key.Public(), "desk")), d.subject).bytes())
	o := d.want(t, 0, "", "verify", d.ref, "--policy", d.policy("{desk: root.pem}", "[desk]", ""))
	if !strings.Contains(o.field(t, "warnings.0"), "beyond-spec") || !strings.Contains(o.field(t, "signatures.0.beyondSpec"), "code signing") {
		t.Error(o.stdout)
	}
	d.want(t, 1, "beyond-spec", "verify", d.ref, "--policy", d.policy("{desk: root.pem}", "{trust: [desk], strict-x509: true}", ""))
}
