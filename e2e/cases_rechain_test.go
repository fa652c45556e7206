package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// What is wrong with a rechain (K01 and on), through the command. K16 to K18 are in races_test.go.

// signed attaches a signature of the desk's key, made by hand, and returns its digest.
func (d *desk) signed() digest.Digest {
	return d.f.attach(d.repo, d.subject, jwsType, d.jws().bytes()).Digest
}

// rechain is the arguments of rechaining the desk's artifact with certificates.
func (d *desk) rechain(certs []*x509.Certificate, more ...string) []string {
	return append([]string{"rechain", d.ref, "--chain", d.file("new.pem", certtest.PEM(certs...))}, more...)
}

// listed returns the digests of the desk's signatures.
func (d *desk) listed() []digest.Digest {
	var out []digest.Digest
	for _, r := range d.f.referrers(d.repo, d.subject.Digest) {
		if r.ArtifactType == signatureType {
			out = append(out, r.Digest)
		}
	}
	return out
}

// x5cOf returns the chain of the desk's signature of that digest, read without imprint.
func (d *desk) x5cOf(t testing.TB, signature string) []*x509.Certificate {
	t.Helper()
	_, b, err := judge.Envelope(t.Context(), d.ref, digest.Digest(signature))
	if err != nil {
		t.Fatal(err)
	}
	var e struct {
		Header struct {
			X5C [][]byte `json:"x5c"`
		} `json:"header"`
	}
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	var out []*x509.Certificate
	for _, der := range e.Header.X5C {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func TestCasesRechain(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	run := func(name string, test func(t *testing.T, d *desk)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newDesk(t, f, t.Name()))
		})
	}
	now, year := time.Now(), 365*24*time.Hour
	longer := certtest.Valid(now.Add(-time.Hour), now.Add(4*year))
	renewed := func(d *desk) []*x509.Certificate { // the desk's leaf, issued again by a new intermediate
		ca := d.root.Intermediate("desk CA 2")
		return ca.Chain(ca.Leaf(d.key.Public(), "desk", longer))
	}

	run("K01 the leaf is for another key", func(t *testing.T, d *desk) {
		d.signed()
		key := certtest.Key("P-256")
		d.refused(t, 3, "leaf-key-differs", d.rechain(d.ca.Chain(d.ca.Leaf(key.Public(), "desk", longer)))...)
		// In a batch such signatures are passed over.
		other := newDesk(t, f, t.Name()+"other")
		stranger, chain := certtest.ChainOf(3, "P-256")
		f.attach(other.repo, other.subject, jwsType, newJWS(stranger, chain, other.subject).bytes())
		list := d.file("list", []byte(d.ref+"\n"+other.ref+"\n"))
		o := d.want(t, 0, "", "rechain", "--batch", list, "--chain", d.file("new.pem", certtest.PEM(renewed(d)...)))
		docs, err := documents(o.stdout)
		if err != nil || len(docs) != 3 {
			t.Fatalf("%d lines, %v: %s", len(docs), err, o.stdout)
		}
		if v, _ := lookup(docs[1], "signatures.0.status"); v != "skipped" {
			t.Errorf("the other's is %v: %s", v, o.stdout)
		}
		if len(other.listed()) != 1 || len(d.listed()) != 2 {
			t.Errorf("%d and %d signatures", len(d.listed()), len(other.listed()))
		}
		// None of them: what was handed in is wrong.
		nobodys := certtest.Root("nobody's root").Intermediate("nobody's CA")
		d.want(t, 3, "leaf-key-differs", "rechain", "--batch", list, "--chain", d.file("none.pem", certtest.PEM(nobodys.Chain(nobodys.Leaf(key.Public(), "desk", longer))...)))
		// What has the given issuer already is as it should be, though the leaf beside it is another's.
		o = d.want(t, 0, "", "rechain", "--batch", list, "--chain", d.file("ours.pem", certtest.PEM(d.ca.Chain(d.ca.Leaf(key.Public(), "desk", longer))...)))
		if !strings.Contains(o.stdout, `"unchanged"`) || len(d.listed()) != 2 {
			t.Errorf("%d signatures: %s", len(d.listed()), o.stdout)
		}
	})
	run("K02 another subject", func(t *testing.T, d *desk) {
		d.signed()
		for _, ca := range []*certtest.Authority{d.ca, certtest.Root("other root").Intermediate("other CA")} {
			chain := ca.Chain(ca.Leaf(d.key.Public(), "renamed", longer))
			d.refused(t, 3, "identity-changes", d.rechain(chain)...)
		}
		chain := d.ca.Chain(d.ca.Leaf(d.key.Public(), "renamed", longer))
		o := d.want(t, 0, "", d.rechain(chain, "--allow-identity-change", "--allow-shorter", "--dry-run")...)
		if o.field(t, "signatures.0.identityChanged") != "true" || !strings.Contains(o.field(t, "signatures.0.newIdentity"), "renamed") || !strings.Contains(o.field(t, "signatures.0.identity"), "desk") {
			t.Errorf("the two names are not told: %s", o.stdout)
		}
		d.env = append(d.env, "IMPRINT_ALLOW_IDENTITY_CHANGE=true")
		d.refused(t, 3, "identity-changes", d.rechain(chain)...)
	})
	run("K03 an intermediate of the same name and another key", func(t *testing.T, d *desk) {
		d.signed()
		d.refused(t, 3, "not-issued-by", d.rechain([]*x509.Certificate{d.root.Intermediate("desk CA", longer).Certificate})...)
	})
	for name, c := range map[string]struct {
		chain func(d *desk) []*x509.Certificate
		rule  string
	}{
		"K04 name constraints": {func(d *desk) []*x509.Certificate {
			ca := d.root.Intermediate("narrow CA", func(c *x509.Certificate) {
				c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"good.example"}
			})
			return ca.Chain(ca.Leaf(d.key.Public(), "desk", longer, func(c *x509.Certificate) { c.DNSNames = []string{"evil.example"} }))
		}, "name-constraints"},
		"K04 path length": {func(d *desk) []*x509.Certificate {
			ca := d.root.Intermediate("short CA", func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }).Intermediate("below")
			return ca.Chain(ca.Leaf(d.key.Public(), "desk", longer))
		}, "path-length"},
		"K04 no certificate signing": {func(d *desk) []*x509.Certificate {
			ca := d.root.Intermediate("weak CA", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })
			return ca.Chain(ca.Leaf(d.key.Public(), "desk", longer))
		}, "ca-key-usage"},
		"K06 expired root": {func(d *desk) []*x509.Certificate {
			root := certtest.Root("old root", certtest.Valid(now.Add(-year), now.Add(-time.Hour)))
			return root.Chain(root.Leaf(d.key.Public(), "desk", longer))
		}, "expired"},
		"K06 expired intermediate": {func(d *desk) []*x509.Certificate {
			ca := d.root.Intermediate("old CA", certtest.Valid(now.Add(-year), now.Add(-time.Hour)))
			return ca.Chain(ca.Leaf(d.key.Public(), "desk", longer))
		}, "expired"},
		"K07 no root": {func(d *desk) []*x509.Certificate {
			ca := certtest.Root("unknown root").Intermediate("unknown CA")
			return ca.Chain(ca.Leaf(d.key.Public(), "desk", longer))[:2]
		}, "chain-incomplete"},
		"K07 a root that is not self-signed": {func(d *desk) []*x509.Certificate {
			ca := certtest.Root("above").Intermediate("so-called root")
			return ca.Chain(ca.Leaf(d.key.Public(), "desk", longer))[:2]
		}, "chain-incomplete"},
		"K10 a shorter life": {func(d *desk) []*x509.Certificate {
			return d.ca.Chain(d.ca.Leaf(d.key.Public(), "desk", certtest.Valid(now.Add(-time.Hour), now.Add(24*time.Hour))))
		}, "ends-earlier"},
	} {
		run(name, func(t *testing.T, d *desk) {
			d.signed()
			d.refused(t, 3, c.rule, d.rechain(c.chain(d))...)
			if n := len(d.listed()); n != 1 {
				t.Errorf("%d signatures", n)
			}
		})
	}
	run("K05 cross-signed to another root", func(t *testing.T, d *desk) {
		d.signed()
		root2 := certtest.Root("second root")
		cross := root2.IntermediateWith(d.ca.Key, "desk CA", longer)
		certs := []*x509.Certificate{cross.Certificate, root2.Certificate}
		d.refused(t, 1, "no-trusted-signature", d.rechain(certs, "--allow-shorter", "--root", d.at("root.pem"))...)
		o := d.want(t, 0, "", d.rechain(certs, "--allow-shorter")...)
		if got := o.field(t, "signatures.0.anchorsAt"); !strings.Contains(got, "second root") {
			t.Errorf("it is not told where the chain ends: %q", got)
		}
		if err := judge.Verify(t.Context(), d.ref, root2.Certificate); err != nil {
			t.Error(err)
		}
	})
	run("K08 shuffled", func(t *testing.T, d *desk) {
		d.signed()
		chain := renewed(d)
		want := d.want(t, 0, "", d.rechain(chain, "--dry-run")...).field(t, "signatures.0.new")
		for range 4 {
			chain = append(chain[1:], chain[0])
			if got := d.want(t, 0, "", d.rechain(chain, "--dry-run")...).field(t, "signatures.0.new"); got != want || got == "" {
				t.Errorf("digest %q, sorted %q", got, want)
			}
		}
		if got := d.want(t, 0, "", d.rechain(chain)...).field(t, "signatures.0.new"); got != want {
			t.Errorf("wrote %s, planned %s", got, want)
		}
	})
	run("K09 what does not belong", func(t *testing.T, d *desk) {
		d.signed()
		chain := renewed(d)
		want := d.want(t, 0, "", d.rechain(chain, "--dry-run")...).field(t, "signatures.0.new")
		more := append(slices.Clone(chain), certtest.Root("unrelated").Certificate, d.root.Certificate, certtest.RootWith(d.root.Key, "desk root").Certificate)
		o := d.want(t, 0, "", d.rechain(more)...)
		got := d.x5cOf(t, o.field(t, "signatures.0.new"))
		if !slices.EqualFunc(got, chain, (*x509.Certificate).Equal) && o.field(t, "signatures.0.new") != want {
			t.Errorf("%d certificates written, want the chain of %d", len(got), len(chain))
		}
		if len(got) != 3 {
			t.Errorf("%d certificates", len(got))
		}
	})
	run("K12 authentic signing time outside the new chain", func(t *testing.T, d *desk) {
		const scheme, signingTime = "io.cncf.notary.signingScheme", "io.cncf.notary.signingTime"
		j := d.jws().replace(`"`+scheme+`":"notary.x509"`, `"`+scheme+`":"notary.x509.signingAuthority"`).
			replace(signingTime, "io.cncf.notary.authenticSigningTime").
			replace(`"crit":["`+scheme+`"]`, `"crit":["`+scheme+`","io.cncf.notary.authenticSigningTime"]`)
		d.f.attach(d.repo, d.subject, jwsType, j.bytes())
		late := d.root.IntermediateWith(d.ca.Key, "desk CA", certtest.Valid(time.Now().Add(-time.Second), now.Add(3*year)))
		certs := []*x509.Certificate{late.Certificate}
		d.refused(t, 3, "would-break-timestamp", d.rechain(certs, "--allow-shorter", "--replace")...)
		o := d.want(t, 0, "", d.rechain(certs, "--allow-shorter")...)
		if o.field(t, "signatures.0.verifiers.len") != "3" {
			t.Errorf("what verifiers say is not told: %s", o.stdout)
		}
		if n := len(d.listed()); n != 2 {
			t.Errorf("%d signatures", n)
		}
	})
	run("K13 the present signature is invalid", func(t *testing.T, d *desk) {
		j := d.jws()
		j.key = certtest.Key("P-256")
		d.f.attach(d.repo, d.subject, jwsType, j.bytes())
		d.refused(t, 1, "signature-invalid", d.rechain(renewed(d))...)
		// A good one beside it is rechained all the same.
		d.signed()
		o := d.want(t, 0, "signature-invalid", d.rechain(renewed(d))...)
		if a, b := o.field(t, "signatures.0.status"), o.field(t, "signatures.1.status"); a != "skipped" || b != "written" {
			t.Errorf("the invalid one is %s, the good one %s", a, b)
		}
		if n := len(d.listed()); n != 3 {
			t.Errorf("%d signatures", n)
		}
	})
	run("K14 the chain is signed, JWS", func(t *testing.T, d *desk) {
		j := d.jws()
		d.f.attach(d.repo, d.subject, jwsType, j.with(`"x5c":["`+j.x5c[0]+`"]`).bytes())
		d.refused(t, 3, "chain-is-signed", d.rechain(renewed(d))...)
	})
	run("K14 the chain is signed, COSE", func(t *testing.T, d *desk) {
		c := d.cose()
		d.f.attach(d.repo, d.subject, coseType, c.add(c.unprotected[0]).bytes())
		d.refused(t, 3, "chain-is-signed", d.rechain(renewed(d))...)
	})
	for _, mediaType := range []string{jwsType, coseType} {
		run("K15 unknown unprotected members "+mediaType, func(t *testing.T, d *desk) {
			var b []byte
			if mediaType == jwsType {
				s := d.jws().seal()
				s.header = replaced(s.header, "{", `{"org.example.x":[1, {"b":"\u003c"}],`)
				s.header = replaced(s.header, `]}`, `],"org.example.y":1.50}`)
				b = s.bytes()
			} else {
				c := d.cose()
				c.unprotected = append([]pair{at("org.example.x", []any{1, map[string]int{"b": 2}}), at(999, 1.5)}, c.unprotected...)
				c.unprotected = append(c.unprotected, at("org.example.y", []byte{1, 2}))
				b = c.bytes()
			}
			d.f.attach(d.repo, d.subject, mediaType, b)
			o := d.want(t, 0, "", d.rechain(renewed(d))...)
			_, after, err := judge.Envelope(t.Context(), d.ref, digest.Digest(o.field(t, "signatures.0.new")))
			if err != nil {
				t.Fatal(err)
			}
			if got, want := apart(t, mediaType, after), apart(t, mediaType, b); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
				t.Errorf("members changed:\n%q\n%q", got, want)
			}
			judgeEach(t, d.ref, 2, []*x509.Certificate{d.root.Certificate})
		})
	}
	for name, status := range map[string]int{"405": http.StatusMethodNotAllowed, "403": http.StatusForbidden, "409": http.StatusConflict} {
		t.Run("K19 DELETE answers "+name, func(t *testing.T) {
			t.Parallel()
			own := newFake(t)
			d := newDesk(t, own, t.Name())
			old := d.signed()
			own.Intercept(undeletable(status, "/v2/"+d.repo+"/"))
			o := d.want(t, 0, "", d.rechain(renewed(d), "--replace")...)
			if got := o.field(t, "signatures.0.status"); got != "old-left" {
				t.Errorf("status %s", got)
			}
			if n := strings.Count(o.stderr, "imprint: warning: "); n != 1 {
				t.Errorf("%d warnings: %s", n, o.stderr)
			}
			if l := d.listed(); len(l) != 2 || !slices.Contains(l, old) {
				t.Errorf("signatures %v", l)
			}
		})
	}
	run("K20 the old one comes back from elsewhere", func(t *testing.T, d *desk) {
		stale := d.jws().bytes()
		old := f.attach(d.repo, d.subject, jwsType, stale)
		d.want(t, 0, "", d.rechain(renewed(d), "--replace")...)
		if l := d.listed(); len(l) != 1 || l[0] == old.Digest {
			t.Fatalf("signatures %v", l)
		}
		f.attach(d.repo, d.subject, jwsType, stale)
		// Its chain has ended by now; the renewed one carries the artifact.
		d.now = func() time.Time { return d.leaf.NotAfter.Add(time.Hour) }
		o := d.want(t, 0, "", d.verify()...)
		for i, s := range d.listed() {
			accepted, digest := o.field(t, fmt.Sprintf("signatures.%d.accepted", i)), o.field(t, fmt.Sprintf("signatures.%d.digest", i))
			if want := fmt.Sprint(digest != old.Digest.String()); accepted != want {
				t.Errorf("%s (of %s): accepted %s, want %s", digest, s, accepted, want)
			}
		}
		if got := o.field(t, "signatures.len"); got != "2" {
			t.Errorf("%s signatures", got)
		}
		// audit shows it, prune deletes it and nothing else.
		if o := d.want(t, 0, "signature-superseded", "audit", d.ref).report(t); o.field(t, "counts.needless") != "1" || o.field(t, "counts.current") != "1" {
			t.Errorf("the audit: %s", o.stdout)
		}
		d.want(t, 0, "", "prune", d.ref, "--yes")
		if l := d.listed(); len(l) != 1 || l[0] == old.Digest {
			t.Errorf("pruned: signatures %v", l)
		}
	})
	run("K22 annotations are kept", func(t *testing.T, d *desk) {
		b := d.jws().bytes()
		m := signatureManifest(d.subject, jwsType, b)
		m.Annotations = map[string]string{"org.example.note": "keep <me>", ocispec.AnnotationCreated: "2024-02-03T04:05:06Z",
			"io.cncf.notary.x509chain.thumbprint#S256": `["00"]`}
		d.f.attachManifest(d.repo, d.subject, m, b)
		chain := renewed(d)
		o := d.want(t, 0, "", d.rechain(chain)...)
		var after ocispec.Manifest
		f.mu.Lock()
		raw := f.manifests[d.repo+"@"+o.field(t, "signatures.0.new")].b
		f.mu.Unlock()
		if err := json.Unmarshal(raw, &after); err != nil {
			t.Fatal(err)
		}
		var prints []string
		for _, c := range chain {
			prints = append(prints, fmt.Sprintf("%x", sha256.Sum256(c.Raw)))
		}
		want, _ := json.Marshal(prints)
		for name, value := range map[string]string{"org.example.note": "keep <me>", ocispec.AnnotationCreated: "2024-02-03T04:05:06Z", "io.cncf.notary.x509chain.thumbprint#S256": string(want)} {
			if after.Annotations[name] != value {
				t.Errorf("%s is %q, want %q", name, after.Annotations[name], value)
			}
		}
	})
	run("K23 the same chain", func(t *testing.T, d *desk) {
		d.signed()
		o := d.want(t, 0, "", d.rechain(d.chain())...)
		if got := o.field(t, "signatures.0.status"); got != "unchanged" || d.writes() != 0 {
			t.Errorf("status %s, %d writes", got, d.writes())
		}
		o = d.want(t, 0, "", d.rechain(d.chain(), "--replace")...)
		if got := o.field(t, "signatures.0.status"); got != "unchanged" || d.writes() != 0 || len(d.listed()) != 1 {
			t.Errorf("with --replace: status %s, %d writes", got, d.writes())
		}
	})
	run("K25 another key under which the signature verifies", func(t *testing.T, d *desk) {
		// Each ECDSA signature verifies under two public keys at least, which anyone can compute from it; a CA may
		// certify the second. (For RSA such keys have exponents that crypto/x509 does not read.)
		s := d.jws().seal()
		d.f.attach(d.repo, d.subject, jwsType, s.bytes())
		twin := twinKey(t, s, d.key.Public().(*ecdsa.PublicKey))
		evil := certtest.Root("evil root")
		leaf := evil.Leaf(twin, "desk", longer)
		d.refused(t, 3, "leaf-key-differs", d.rechain(evil.Chain(leaf))...)
		d.refused(t, 3, "leaf-key-differs", d.rechain(evil.Chain(leaf), "--allow-identity-change")...)

		// The thief's envelope is right in itself, and trusted by nobody who pins a root.
		var x5c []string
		for _, c := range evil.Chain(leaf) {
			x5c = append(x5c, base64.StdEncoding.EncodeToString(c.Raw))
		}
		header, _ := json.Marshal(map[string]any{"x5c": x5c})
		s.header = string(header)
		stolen := newDesk(t, f, t.Name()+"stolen")
		stolen.subject = f.putArtifact(stolen.repo, "v1", image(d.repo))
		f.attach(stolen.repo, stolen.subject, jwsType, s.bytes())
		o := stolen.want(t, 1, "root-not-trusted", "verify", stolen.ref, "--root", d.at("root.pem"))
		if o.field(t, "signatures.0.core") == "" {
			t.Error("the stolen envelope does not verify in itself: this test proves nothing")
		}
		ours := d.want(t, 0, "", d.verify()...)
		if o.field(t, "signatures.0.core") == ours.field(t, "signatures.0.core") {
			t.Error("two keys, one core id")
		}
	})
	t.Run("K26 the registry goes on showing the old list", func(t *testing.T) {
		t.Parallel()
		own := newFake(t)
		d := newDesk(t, own, t.Name())
		old := d.signed()
		stale := own.referrers(d.repo, d.subject.Digest)
		own.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/referrers/") {
				return false
			}
			writeJSON(w, ocispec.MediaTypeImageIndex, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: stale})
			return true
		})
		again := d.rechain(renewed(d), "--replace")
		d.want(t, 7, "referrers-unsettled", again...)
		if n := own.Count(func(r regtest.Request) bool { return r.Method == http.MethodDelete }); n != 0 || !slices.Contains(d.listed(), old) {
			t.Errorf("%d deletes", n)
		}
		// Once it shows what it has, the same command ends well.
		own.Intercept(nil)
		d.want(t, 0, "", again...)
		if now := d.listed(); len(now) != 1 || now[0] == old {
			t.Errorf("listed afterwards: %v, was %s", now, old)
		}
	})
}

// undeletable answers DELETE below a path with a status.
func undeletable(status int, below string) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodDelete || !strings.HasPrefix(r.URL.Path, below) {
			return false
		}
		failure(w, status, "UNSUPPORTED")
		return true
	}
}

// twinKey computes the other public key under which an ES256 signature verifies: Q = (s·(−R) − z·G)/r.
func twinKey(t *testing.T, e *sealed, own *ecdsa.PublicKey) *ecdsa.PublicKey {
	t.Helper()
	curve := elliptic.P256()
	n := curve.Params().N
	raw := unb64(e.signature)
	r, s := new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])
	z := sha256.Sum256([]byte(strings.Trim(e.protected, `"`) + "." + strings.Trim(e.payload, `"`)))
	inverse := new(big.Int).ModInverse(r, n)
	// y² = x³ − 3x + b
	p := curve.Params().P
	y2 := new(big.Int).Exp(r, big.NewInt(3), p)
	y2.Sub(y2, new(big.Int).Mul(big.NewInt(3), r)).Add(y2, curve.Params().B).Mod(y2, p)
	y := new(big.Int).ModSqrt(y2, p)
	if y == nil {
		t.Fatal("r is no coordinate of the curve")
	}
	for _, y := range []*big.Int{y, new(big.Int).Sub(p, y)} {
		//nolint:staticcheck // arithmetic on points is what is done here
		sx, sy := curve.ScalarMult(r, y, s.Bytes())
		minus := new(big.Int).Sub(n, new(big.Int).Mod(new(big.Int).SetBytes(z[:]), n))
		zx, zy := curve.ScalarBaseMult(minus.Bytes())
		qx, qy := curve.Add(sx, sy, zx, zy)
		qx, qy = curve.ScalarMult(qx, qy, inverse.Bytes())
		q := &ecdsa.PublicKey{Curve: curve, X: qx, Y: qy}
		if !ecdsa.Verify(q, z[:], r, s) {
			t.Fatal("the computed key does not verify")
		}
		if !q.Equal(own) {
			return q
		}
	}
	t.Fatal("no other key")
	return nil
}
