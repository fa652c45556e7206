package e2e

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/envelope"
)

// Attacks by way of certificates (X01 and on), at the command line, against a registry. X08 to X12 are in [TestCasesTimestamps], too,
// and those of revocation in files of their own.

// A pinnedRoot is how a policy names what it trusts: a certificate, its pin and kind if they are not the default.
type pinnedRoot struct {
	certificate *x509.Certificate
	pin, kind   string
}

// trusting writes a policy of one root for everything on the desk's registry, with further settings of the scope, and returns the
// arguments of judging by it.
func (d *desk) trusting(name string, r pinnedRoot, settings string) []string {
	d.file(name+".pem", certtest.PEM(r.certificate))
	policy := fmt.Appendf(nil, "version: 1\nroots:\n  pinned: {certificates: [%s.pem], pin: %s, kind: %s}\nscopes:\n  %q: {trust: [pinned]%s}\n",
		name, orElse(r.pin, "root"), orElse(r.kind, "ca"), d.f.Host, settings)
	return []string{"verify", d.ref, "--policy", d.file(name+".yaml", policy)}
}

// attached lists a signature by the desk's key below a chain.
func (d *desk) attached(chain []*x509.Certificate) *desk {
	d.f.attach(d.repo, d.subject, jwsType, newJWS(d.key, chain, d.subject).bytes())
	return d
}

// first wants the run's exit code, the verdict's reason and that of the only signature.
func (d *desk) first(t testing.TB, code int, verdict, signature string, args ...string) outcome {
	t.Helper()
	o := d.want(t, code, "", args...)
	if got := o.field(t, "reason"); got != verdict {
		t.Errorf("the verdict's reason is %q, want %q: %s", got, verdict, o.field(t, "detail"))
	}
	if got := o.field(t, "signatures.0.reason"); got != signature {
		t.Errorf("the signature's reason is %q, want %q: %s", got, signature, o.field(t, "signatures.0.detail"))
	}
	return o
}

// stock says what notation says of the desk's artifact by the same root, so that a row shows whom an attack would deceive.
func (d *desk) stock(t testing.TB, root *x509.Certificate) error {
	t.Helper()
	return judge.Verify(t.Context(), d.ref, root)
}

func TestX01SelfSigned(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for name, pinned := range map[string]func(d *desk) *x509.Certificate{
		"not pinned":                      func(d *desk) *x509.Certificate { return d.root.Certificate },
		"of the name of a pinned leaf":    func(*desk) *x509.Certificate { return certtest.SelfSigned(certtest.Key("P-256"), "lone") },
		"of the name of a pinned root":    func(*desk) *x509.Certificate { return certtest.Root("lone").Certificate },
		"of the name and key, not pinned": func(d *desk) *x509.Certificate { return certtest.SelfSigned(d.key, "lone") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			lone := certtest.SelfSigned(d.key, "lone")
			d.attached([]*x509.Certificate{lone})
			d.first(t, 1, "no-trusted-signature", "root-not-trusted", d.trusting("other", pinnedRoot{certificate: pinned(d)}, "")...)
			d.first(t, 0, "", "", d.trusting("lone", pinnedRoot{certificate: lone}, "")...)
			d.first(t, 0, "", "", d.trusting("lone-leaf", pinnedRoot{certificate: lone, pin: "leaf"}, "")...)
		})
	}
}

func TestX02ReissuedRoot(t *testing.T) {
	t.Parallel()
	d := newDesk(t, newFake(t), t.Name())
	again := certtest.RootWith(d.root.Key, "desk root")
	d.attached([]*x509.Certificate{d.leaf, d.ca.Certificate, again.Certificate})
	args := d.trusting("old", pinnedRoot{certificate: d.root.Certificate}, "")
	d.first(t, 1, "no-trusted-signature", "root-not-trusted", args...)
	if o := d.run(t, args...); !strings.Contains(o.stdout+o.stderr, "pin the new root under roots:") {
		t.Errorf("nobody says what to do\n%s%s", o.stdout, o.stderr)
	}
	// A root of the name alone is nobody's renewal.
	stranger := newDesk(t, d.f, t.Name()+"stranger")
	theirs := certtest.Root("desk root")
	stranger.attached(theirs.Chain(theirs.Leaf(stranger.key.Public(), "desk")))
	if o := stranger.run(t, stranger.trusting("old", pinnedRoot{certificate: stranger.root.Certificate}, "")...); o.code != 1 || strings.Contains(o.stdout+o.stderr, "pin the new root") {
		t.Errorf("exit code %d, and it is told to trust a stranger\n%s%s", o.code, o.stdout, o.stderr)
	}
	d.first(t, 0, "", "", d.trusting("new", pinnedRoot{certificate: again.Certificate}, "")...)
}

// A certificate that a policy pins as a root may also be issued by somebody else: chains that go on behind it end in his root.
func TestX03PinnedInTheMiddle(t *testing.T) {
	t.Parallel()
	d := newDesk(t, newFake(t), t.Name())
	attacker := certtest.Root("attacker")
	pinned := attacker.IntermediateWith(d.ca.Key, "desk CA")
	d.attached(pinned.Chain(pinned.Leaf(d.key.Public(), "desk")))
	o := d.first(t, 1, "no-trusted-signature", "root-not-trusted", d.trusting("middle", pinnedRoot{certificate: pinned.Certificate}, "")...)
	if why := o.field(t, "signatures.0.detail"); !strings.Contains(why, "attacker") {
		t.Errorf("where the chain ends is not said: %s", why)
	}
	d.first(t, 1, "no-trusted-signature", "root-not-trusted", d.trusting("middle-leaf", pinnedRoot{certificate: d.leaf, pin: "leaf"}, "")...)
	d.first(t, 0, "", "", d.trusting("middle-wanted", pinnedRoot{certificate: pinned.Certificate, pin: "intermediate"}, "")...)
	if err := d.stock(t, pinned.Certificate); err != nil {
		t.Errorf("notation refuses it, so that this row shows nothing: %v", err)
	}
	// Nor does it help to write the pinned root behind another, or another behind it.
	for name, chain := range map[string][]*x509.Certificate{
		"pinned root last":     {attacker.Leaf(d.key.Public(), "desk"), attacker.Certificate, d.root.Certificate},
		"attacker's root last": {d.leaf, d.ca.Certificate, d.root.Certificate, attacker.Certificate},
	} {
		at := newDesk(t, d.f, t.Name()+name)
		at.key = d.key
		at.attached(chain)
		at.first(t, 1, "no-trusted-signature", "chain-invalid", at.trusting("root", pinnedRoot{certificate: d.root.Certificate}, "")...)
	}
}

func TestX04PinnedLeafWithIssuers(t *testing.T) {
	t.Parallel()
	d := newDesk(t, newFake(t), t.Name())
	d.attached(d.chain())
	for _, pin := range []string{"root", "intermediate"} {
		o := d.want(t, 3, "policy-root-invalid", d.trusting("leaf-"+pin, pinnedRoot{certificate: d.leaf, pin: pin}, "")...)
		if !strings.Contains(o.stdout+o.stderr, "leaf") {
			t.Errorf("%s: %s%s", pin, o.stdout, o.stderr)
		}
	}
	d.want(t, 3, "policy-root-invalid", "verify", d.ref, "--root", d.file("leaf.pem", certtest.PEM(d.leaf)))
	d.first(t, 0, "", "", d.trusting("leaf", pinnedRoot{certificate: d.leaf, pin: "leaf"}, "")...)
	// The pin is of the certificate: neither its key with other issuers nor its name will do.
	for name, chain := range map[string][]*x509.Certificate{
		"the key below another root": certtest.Root("attacker").Chain(certtest.Root("attacker").Leaf(d.key.Public(), "desk")),
		"the leaf issued again":      d.ca.Chain(d.ca.Leaf(d.key.Public(), "desk")),
	} {
		at := newDesk(t, d.f, t.Name()+name)
		at.key = d.key
		reason, verdict := "root-not-trusted", "no-trusted-signature"
		if name == "the key below another root" { // two roots of one name: that chain does not hold together
			reason = "chain-invalid"
		}
		at.attached(chain)
		at.first(t, 1, verdict, reason, at.trusting("leaf", pinnedRoot{certificate: d.leaf, pin: "leaf"}, "")...)
	}
}

func TestX05Issuers(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	edit := func(e func(c *x509.Certificate)) certtest.Edit { return e }
	for name, c := range map[string]struct{ root, ca []certtest.Edit }{
		"no authority":              {nil, []certtest.Edit{edit(func(c *x509.Certificate) { c.IsCA = false })}},
		"no basic constraints":      {nil, []certtest.Edit{edit(func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = false, false })}},
		"path length exceeded":      {[]certtest.Edit{edit(func(c *x509.Certificate) { c.MaxPathLenZero = true })}, nil},
		"may not sign certificates": {nil, []certtest.Edit{edit(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })}},
		"no key usage":              {nil, []certtest.Edit{edit(func(c *x509.Certificate) { c.KeyUsage = 0 })}},
		"key usage that is not critical": {nil, []certtest.Edit{edit(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{extension("keyUsage", false, []byte{3, 2, 1, 6})}
		})}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			root := certtest.Root("desk root", c.root...)
			ca := root.Intermediate("desk CA", c.ca...)
			d.attached(ca.Chain(ca.Leaf(d.key.Public(), "desk")))
			d.first(t, 1, "no-trusted-signature", "chain-invalid", d.trusting("root", pinnedRoot{certificate: root.Certificate}, "")...)
			d.first(t, 1, "no-trusted-signature", "chain-invalid", "verify", d.ref, "--root", d.at("root.pem"))
		})
	}
	t.Run("version 1", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, f, t.Name())
		// Certificates of version 1 have no extensions; Go does not read any in them.
		old := reissued(t, d.ca.Certificate, d.root, func(tbs []asn1.RawValue) []asn1.RawValue { return tbs[1 : len(tbs)-1] })
		d.f.attach(d.repo, d.subject, jwsType, newRawJWS(d.key, d.subject, d.leaf.Raw, old, d.root.Certificate.Raw).bytes())
		d.first(t, 1, "no-trusted-signature", "chain-invalid", d.verify()...)
	})
}

// Three rules that the specification lets verifiers pass over: notation does, imprint says so, and refuses under strict-x509.
func TestX06BeyondTheSpecification(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	odd := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 98}
	none := func(*x509.Certificate) {}
	for name, c := range map[string]struct {
		ca, leaf certtest.Edit
		rule     string // by which who signs is refused
	}{
		"name constraints violated": {
			func(c *x509.Certificate) {
				c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"acme.example"}
			},
			func(c *x509.Certificate) { c.DNSNames = []string{"evil.example"} },
			"name-constraints",
		},
		"unknown critical extension": {none, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: odd, Critical: true, Value: []byte{5, 0}}}
		}, "critical-extension"},
		"an authority for servers": {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, none, "ca-extended-key-usage"},
		"a leaf for anything":      {none, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, "leaf-extended-key-usage"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			ca := d.root.Intermediate("desk CA", c.ca)
			chain := ca.Chain(ca.Leaf(d.key.Public(), "desk", c.leaf))
			d.attached(chain)
			root := pinnedRoot{certificate: d.root.Certificate}
			o := d.first(t, 0, "", "", d.trusting("root", root, "")...)
			if o.field(t, "signatures.0.beyondSpec") == "" || !strings.Contains(o.stdout+o.stderr, "beyond-spec") {
				t.Errorf("nothing is said of it\n%s%s", o.stdout, o.stderr)
			}
			d.first(t, 1, "beyond-spec", "beyond-spec", d.trusting("strict", root, ", strict-x509: true")...)
			d.first(t, 0, "", "", d.trusting("lax", root, ", strict-x509: false")...)
			if err := d.stock(t, d.root.Certificate); err != nil {
				t.Errorf("notation refuses it: %v", err)
			}
			// Who signs is held to it.
			d.file("leaf.key", certtest.KeyPEM(d.key))
			d.file("odd.pem", certtest.PEM(chain...))
			d.want(t, 3, c.rule, "sign", d.ref, "--key", "file:"+d.at("leaf.key"), "--chain", d.at("odd.pem"))
		})
	}
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, f, t.Name())
		d.attached(d.chain())
		if o := d.first(t, 0, "", "", d.trusting("strict", pinnedRoot{certificate: d.root.Certificate}, ", strict-x509: true")...); o.field(t, "signatures.0.beyondSpec") != "" {
			t.Errorf("something is said of it\n%s", o.stdout)
		}
	})
}

func TestX07WeakCryptography(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	weakly := func(c *x509.Certificate, by crypto.Signer) *x509.Certificate {
		return recut(c, &pattern{sha1: true}, by)
	}
	for name, c := range map[string]struct {
		chain  func(d *desk) []*x509.Certificate
		reason string // "": accepted
	}{
		"root of RSA-1024": {func(d *desk) []*x509.Certificate {
			r := certtest.RootWith(certtest.Key("RSA-1024"), "weak root")
			return r.Chain(r.Leaf(d.key.Public(), "desk"))
		}, "certificate-weak"},
		"authority of RSA-1024": {func(d *desk) []*x509.Certificate {
			ca := d.root.IntermediateWith(certtest.Key("RSA-1024"), "weak CA")
			return ca.Chain(ca.Leaf(d.key.Public(), "desk"))
		}, "certificate-weak"},
		"authority of P-224": {func(d *desk) []*x509.Certificate {
			ca := d.root.IntermediateWith(certtest.Key("P-224"), "weak CA")
			return ca.Chain(ca.Leaf(d.key.Public(), "desk"))
		}, "certificate-weak"},
		"leaf issued with SHA-1": {func(d *desk) []*x509.Certificate {
			return d.ca.Chain(weakly(d.leaf, d.ca.Key))
		}, "chain-invalid"},
		"authority issued with SHA-1": {func(d *desk) []*x509.Certificate {
			return []*x509.Certificate{d.leaf, weakly(d.ca.Certificate, d.root.Key), d.root.Certificate}
		}, "chain-invalid"},
		// notation takes SHA-1 where the chain is one certificate; the last one is trusted for being itself.
		"a chain of one, signed with SHA-1": {func(d *desk) []*x509.Certificate {
			return []*x509.Certificate{weakly(certtest.SelfSigned(d.key, "lone"), d.key)}
		}, ""},
		"authority of RSA-2048": {func(d *desk) []*x509.Certificate {
			ca := d.root.IntermediateWith(certtest.Key("RSA-2048"), "sound CA")
			return ca.Chain(ca.Leaf(d.key.Public(), "desk"))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			chain := c.chain(d)
			d.attached(chain)
			args := d.trusting("root", pinnedRoot{certificate: chain[len(chain)-1]}, "")
			switch c.reason {
			case "":
				d.first(t, 0, "", "", args...)
			case "chain-invalid": // nobody could say whose it is
				d.first(t, 1, "no-trusted-signature", c.reason, args...)
			default:
				d.first(t, 1, c.reason, c.reason, args...)
				if err := d.stock(t, chain[len(chain)-1]); err != nil {
					t.Errorf("notation refuses it: %v", err)
				}
			}
		})
	}
}

// Every certificate must hold, not only the leaf (CVE-2026-24122), and the one that does not is named.
func TestX08Expired(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	now := time.Now()
	past, future := certtest.Valid(now.AddDate(-1, 0, 0), now.Add(-time.Hour)), certtest.Valid(now.Add(time.Hour), now.AddDate(1, 0, 0))
	good := certtest.Valid(now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0))
	for _, which := range []string{"root", "CA", "leaf"} {
		for _, when := range []string{"expired", "not yet valid"} {
			t.Run(which+" "+when, func(t *testing.T) {
				t.Parallel()
				edit := func(of string) certtest.Edit {
					switch {
					case of != which:
						return good
					case when == "expired":
						return past
					}
					return future
				}
				d := newDesk(t, f, t.Name())
				root := certtest.Root("validity root", edit("root"))
				ca := root.Intermediate("validity CA", edit("CA"))
				d.attached(ca.Chain(ca.Leaf(d.key.Public(), "validity leaf", edit("leaf"))))
				reason := map[string]string{"expired": "certificate-expired", "not yet valid": "certificate-not-yet-valid"}[when]
				o := d.first(t, 1, reason, reason, d.trusting("root", pinnedRoot{certificate: root.Certificate}, "")...)
				if why := o.field(t, "signatures.0.detail"); !strings.Contains(why, "validity "+which) {
					t.Errorf("it is not named: %s", why)
				}
				if err := d.stock(t, root.Certificate); err == nil {
					t.Error("notation accepts it")
				}
			})
		}
	}
}

// V12: a signature of a signing authority counts under a root of that kind alone, and no other does there.
func TestV12SigningAuthority(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for _, format := range []string{jwsType, coseType} {
		for _, scheme := range []string{envelope.SchemeX509, envelope.SchemeSigningAuthority} {
			t.Run(format+" "+scheme, func(t *testing.T) {
				t.Parallel()
				d := newDesk(t, f, t.Name())
				now := time.Now()
				begun, ended := now.AddDate(-1, 0, 0).Truncate(time.Second), now.Add(-24*time.Hour).Truncate(time.Second)
				root := certtest.Root("authority's root", certtest.Valid(begun.AddDate(-1, 0, 0), now.AddDate(9, 0, 0)))
				for _, at := range []struct {
					name   string
					signed time.Time
					until  time.Time // of the leaf
					reason string    // under a root of its own kind, of a signing authority
				}{
					{"valid now", begun.Add(time.Hour), now.AddDate(1, 0, 0), ""},
					{"expired since", begun.Add(time.Hour), ended, ""},
					{"from before the leaf", begun.Add(-time.Hour), now.AddDate(1, 0, 0), "certificate-not-yet-valid"},
					{"from after its end", ended.Add(time.Hour), ended, "certificate-expired"},
				} {
					own := newDesk(t, f, t.Name()+at.name)
					chain := root.Chain(root.Leaf(own.key.Public(), "authority", certtest.Valid(begun, at.until)))
					p := &pit{now: now, subject: own.subject, key: own.key}
					b := p.seal(trap{format: format, scheme: scheme, old: chain}, at.signed, time.Time{}, nil)
					f.attach(own.repo, own.subject, format, b)
					reason := map[bool]string{true: at.reason, false: ""}[scheme == envelope.SchemeSigningAuthority]
					if scheme == envelope.SchemeX509 && at.until.Before(now) {
						reason = "certificate-expired"
					}
					kinds := map[bool][2]string{true: {"signing-authority", "ca"}, false: {"ca", "signing-authority"}}[scheme == envelope.SchemeSigningAuthority]
					code := 0
					if reason != "" {
						code = 1
					}
					if scheme == envelope.SchemeSigningAuthority || at.reason == "" { // else its claimed time means nothing
						o := own.want(t, code, reason, own.trusting("own", pinnedRoot{certificate: root.Certificate, kind: kinds[0]}, "")...)
						err := judge.VerifyAt(t.Context(), own.ref, "", judge.NoTSARoot, []*x509.Certificate{root.Certificate}, nil)
						if (err == nil) != (code == 0) {
							t.Errorf("%s: notation says %v, imprint\n%s", at.name, err, o.stdout)
						}
					}
					own.first(t, 1, "kind-not-trusted", "kind-not-trusted", own.trusting("other", pinnedRoot{certificate: root.Certificate, kind: kinds[1]}, "")...)
				}
				d.want(t, 1, "unsigned", d.verify()...)
			})
		}
	}
}

// Where an age is asked for, one that is yet to begin is none.
func TestMaxAge(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	now := time.Now()
	for reason, signed := range map[string]time.Time{"": now.Add(-time.Hour), "too-old": now.AddDate(0, 0, -31), "signed-in-the-future": now.Add(time.Hour)} {
		t.Run(orElse(reason, "accepted"), func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			p := &pit{now: now, subject: d.subject, key: d.key}
			f.attach(d.repo, d.subject, jwsType, p.seal(trap{format: jwsType, scheme: envelope.SchemeX509, old: d.chain()}, signed, time.Time{}, nil))
			d.first(t, map[bool]int{true: 0, false: 1}[reason == ""], reason, reason, d.trusting("aged", pinnedRoot{certificate: d.root.Certificate}, ", max-age: 30d")...)
			d.first(t, 0, "", "", d.trusting("ageless", pinnedRoot{certificate: d.root.Certificate}, "")...)
		})
	}
}

// What Go's parser does not know, or was once made to fall over by, is refused, takes little memory, and hides nothing.
func TestX18OddCertificates(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	dsa := func() []byte {
		parameters, _ := asn1.Marshal(struct{ P, Q, G int }{23, 11, 4})
		y, _ := asn1.Marshal(8)
		return spkiOf(pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}, Parameters: asn1.RawValue{FullBytes: parameters}}, y)
	}
	unknown := func() []byte {
		return spkiOf(pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 3, 4, 5}}, []byte{1, 2, 3})
	}
	secp256k1 := func() []byte {
		curve, _ := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 132, 0, 10})
		return spkiOf(pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, Parameters: asn1.RawValue{FullBytes: curve}}, append([]byte{4}, make([]byte, 64)...))
	}
	key := func(spki []byte) func([]asn1.RawValue) []asn1.RawValue {
		return func(tbs []asn1.RawValue) []asn1.RawValue { tbs[6] = asn1.RawValue{FullBytes: spki}; return tbs }
	}
	serial := func(der ...byte) func([]asn1.RawValue) []asn1.RawValue {
		return func(tbs []asn1.RawValue) []asn1.RawValue { tbs[1] = asn1.RawValue{FullBytes: der}; return tbs }
	}
	names := func(n int) certtest.Edit {
		return func(c *x509.Certificate) {
			for i := range n {
				c.DNSNames = append(c.DNSNames, fmt.Sprintf("a%d.example", i))
			}
		}
	}
	type rewrite = func([]asn1.RawValue) []asn1.RawValue
	for name, c := range map[string]struct {
		leaf, ca rewrite
		edit     certtest.Edit
		code     int
		reasons  []string // of the signature: any
	}{
		"DSA in the leaf":            {leaf: key(dsa()), code: 1, reasons: []string{"chain-invalid", "chain-malformed", "algorithm-not-allowed"}},
		"DSA in the authority":       {ca: key(dsa()), code: 1, reasons: []string{"chain-invalid", "chain-malformed"}},
		"unknown in the leaf":        {leaf: key(unknown()), code: 1, reasons: []string{"chain-invalid", "chain-malformed", "algorithm-not-allowed"}},
		"unknown in the authority":   {ca: key(unknown()), code: 1, reasons: []string{"chain-invalid", "chain-malformed"}},
		"secp256k1 in the leaf":      {leaf: key(secp256k1()), code: 1, reasons: []string{"chain-malformed"}},
		"secp256k1 in the authority": {ca: key(secp256k1()), code: 1, reasons: []string{"chain-malformed"}},
		"negative serial":            {leaf: serial(2, 1, 0x80), code: 1, reasons: []string{"chain-malformed"}},
		"negative serial of the CA":  {ca: serial(2, 1, 0x80), code: 1, reasons: []string{"chain-malformed"}},
		"serial zero":                {leaf: serial(2, 1, 0), code: 1, reasons: []string{"certificate-weak"}},
		"serial zero of the CA":      {ca: serial(2, 1, 0), code: 1, reasons: []string{"certificate-weak"}},
		"10,000 names":               {edit: names(10_000), code: 1, reasons: []string{"chain-malformed"}},
		"3,000 names":                {edit: names(3_000), code: 0, reasons: []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			ca, leaf := d.ca.Certificate.Raw, d.leaf.Raw
			if c.edit != nil {
				leaf = d.ca.Leaf(d.key.Public(), "desk", c.edit).Raw
			}
			if c.ca != nil {
				ca = reissued(t, d.ca.Certificate, d.root, c.ca)
			}
			if c.leaf != nil {
				leaf = reissued(t, d.leaf, d.ca, c.leaf)
			}
			d.f.attach(d.repo, d.subject, jwsType, newRawJWS(d.key, d.subject, leaf, ca, d.root.Certificate.Raw).bytes())
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			o := d.want(t, c.code, "", d.verify()...)
			runtime.ReadMemStats(&after)
			if got := o.field(t, "signatures.0.reason"); !slices.Contains(c.reasons, got) {
				t.Errorf("reason %q, want one of %q: %s", got, c.reasons, o.field(t, "signatures.0.detail"))
			}
			// Other tests allocate, too; what is meant is that no list of names grows to gigabytes.
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<30 {
				t.Errorf("%d bytes were allocated", grown)
			}
			if c.code != 0 {
				d.attached(d.chain())
				d.want(t, 0, "", d.verify()...)
			}
			// What looks at signatures without judging them must stand it, too.
			for _, args := range [][]string{{"inspect", d.ref}, {"tree", d.ref}} {
				if o := d.run(t, args...); strings.Contains(o.stderr, "panic") || o.code == 8 {
					t.Errorf("imprint %s: exit code %d\n%s", args[0], o.code, o.stderr)
				}
			}
		})
	}
}

// reissued rewrites a certificate's fields and has its issuer sign it again. Go may not be able to read what results.
func reissued(t testing.TB, c *x509.Certificate, issuer *certtest.Authority, rewrite func(tbs []asn1.RawValue) []asn1.RawValue) []byte {
	t.Helper()
	var outer struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	unmarshal(c.Raw, &outer)
	tbs := sequence(rewrite(elements(outer.TBS.FullBytes)))
	block, _ := pem.Decode(resigned(tbs, outer.Algorithm, issuer))
	if bytes.Equal(block.Bytes, c.Raw) {
		t.Fatal("nothing was rewritten")
	}
	return block.Bytes
}

// newRawJWS is newJWS of certificates that Go need not be able to read.
func newRawJWS(key crypto.Signer, subject ocispec.Descriptor, ders ...[]byte) *jws {
	j := newJWS(key, nil, subject)
	for _, der := range ders {
		j.x5c = append(j.x5c, base64.StdEncoding.EncodeToString(der))
	}
	return j
}
