package e2e

import (
	"crypto/x509"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/registry/regtest"
	"github.com/imprint-oci/imprint/trust/revtest"
)

func TestS35TagsAreClaimed(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine")
	_, pinned := s.image("app:1.0")
	s.sign("mine", pinned, "--claim", "1.0", "--claim", "1.0.3")
	for _, tag := range []string{"1.0.3", "2.0", "latest"} {
		must(t, image("app:1.0").push(s.Host+"/app", tag))
	}
	root := []string{"--root", s.at("mine.pem")}
	for _, tag := range []string{"1.0", "1.0.3"} {
		if got := s.accepts(s.Host+"/app:"+tag, root...).field(t, "signatures.0.claims"); got != `["1.0","1.0.3"]` {
			t.Errorf("claims %s", got)
		}
	}
	s.rejects("claim-not-covered", s.Host+"/app:2.0", root...)
	s.rejects("claim-not-covered", s.Host+"/app:latest", root...)
	s.accepts(pinned, root...) // bytes are named by themselves
}

// S36: several digests may hold one claim, so that an older one can be deployed again, until it expires.
func TestS36ClaimsStayWithOldDigests(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine")
	root := []string{"--root", s.at("mine.pem"), "--require-claim"}
	ref, older := s.push("app:1.0", image("older"))
	s.sign("mine", ref, "--expiry", "30d")
	_, newer := s.push("app:1.0", image("newer"))
	s.sign("mine", ref, "--move", "1.0")
	d := older[strings.Index(older, "@"):]
	s.accepts(ref, root...)
	s.accepts(newer, root...)
	must(t, image("older").push(s.Host+"/app", "1.0")) // back again
	s.accepts(ref, root...)
	s.accepts(ref+d, root...)
	start := s.now()
	s.now = func() time.Time { return start.AddDate(0, 0, 31) }
	s.rejects("expired", ref, root...)
	must(t, image("newer").push(s.Host+"/app", "1.0"))
	s.accepts(ref, root...)
}

// S37: what is valid and old is shown to be old, and can be refused.
func TestS37AgeIsVisible(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine")
	ref, _ := s.image("app:1.0")
	start := s.now()
	s.sign("mine", ref, "--expiry", "90d")
	root := []string{"--root", s.at("mine.pem")}
	policy := s.policy("scopes:\n  \"*\": {trust: [mine], max-age: 30d}\n")
	in := func(days int) { s.now = func() time.Time { return start.AddDate(0, 0, days) } }
	in(31)
	o := s.run(t, append([]string{"verify", ref}, root...)...)
	for _, words := range []string{"31 days ago", "expires " + start.AddDate(0, 0, 90).UTC().Format("2006-01-02")} {
		if o.code != 0 || !strings.Contains(o.stdout, words) {
			t.Errorf("%q is not said:\n%s", words, o.stdout)
		}
	}
	s.accepts(ref, append(root, "--max-age", "32d")...)
	s.rejects("too-old", ref, append(root, "--max-age", "30d")...)
	s.rejects("too-old", ref, "--policy", policy)
	in(29)
	s.accepts(ref, "--policy", policy)
	in(91)
	s.rejects("expired", ref, root...)
}

// S38: one signer does not give one tag to two digests, unless told that this tag moves.
func TestS38OneTagOneDigest(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine", "other")
	ref, _ := s.push("app:1.0", image("first"))
	s.sign("mine", ref)
	_, second := s.push("app:next", image("second"))
	before := s.writes()
	o := s.want(t, 1, "claim-moves", slices.Concat([]string{"sign", second, "--claim", "1.0"}, s.by("mine"))...)
	s.want(t, 1, "claim-moves", slices.Concat([]string{"sign", second, "--claim", "1.0", "--move", "2.*"}, s.by("mine"))...)
	if n := s.writes() - before; n != 0 || !strings.Contains(o.stdout, "1.0") {
		t.Errorf("%d writes\n%s", n, o.stdout)
	}
	s.sign("other", second, "--claim", "1.0") // whom the first signer does not bind
	s.sign("mine", second, "--claim", "1.0", "--move", "1.*")
}

// R03: content that its signer names for one registry is not accepted in another.
func TestR03OnlyWhereItWasSignedFor(t *testing.T) {
	t.Parallel()
	s := newScene(t, "acme")
	elsewhere := regtest.New(t, regtest.WithAPI)
	ref, pinned := s.image("prod/x:1")
	s.sign("acme", pinned, "--claim-name", s.Host+"/prod/x:1")
	s.does("copy", ref, elsewhere.Host+"/prod/x")
	policy := s.policy("scopes:\n  \"*\": {trust: [acme], claims: name}\n")
	s.accepts(ref, "--policy", policy)
	s.rejects("claim-not-covered", elsewhere.Host+"/prod/x:1", "--policy", policy)
	s.rejects("claim-not-covered", elsewhere.Host+"/prod/x"+pinned[strings.Index(pinned, "@"):], "--policy", policy)
	// The same content, but no signature that names a place.
	plain, _ := s.image("prod/y:1")
	s.sign("acme", plain, "--claim", "1")
	s.rejects("claim-not-covered", plain, "--policy", policy)
}

// revoking makes a party whose chain can be revoked, with the lists of both authorities as they are now.
func (s *scene) revoking(name string, named ...certtest.Edit) (p *party, ca, root *revtest.CA) {
	s.t.Helper()
	a := certtest.Root(name + " root")
	i := a.Intermediate(name + " CA")
	ca, root = revtest.New(i), revtest.New(a)
	s.t.Cleanup(ca.Stop)
	s.t.Cleanup(root.Stop)
	return s.adds(name, a, i, certtest.Key("P-256"), named...), ca, root
}

// R15: in an air gap, with what was carried in and nothing else, revocation is judged too: no address that a certificate
// names is asked.
func TestR15AirGapWithRevocation(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	services := regtest.Serve(t, http.NotFoundHandler())
	_, ca, root := s.revoking("mine", func(c *x509.Certificate) {
		c.CRLDistributionPoints = []string{"http://" + services.Host + "/ca.crl"}
		c.OCSPServer = []string{"http://" + services.Host + "/ocsp"}
		c.IssuingCertificateURL = []string{"http://" + services.Host + "/ca.cer"}
	})
	ref, _ := s.image("app:1.0")
	s.sign("mine", ref)
	s.does("copy", ref, "oci-archive:"+s.at("carried.tar"))
	local := "oci-archive:" + s.at("carried.tar") + ":1.0"
	must(t, os.Mkdir(s.at("crl"), 0o700))
	lists := func() {
		s.file("crl/ca.crl", ca.List())
		s.file("crl/root.pem", revtest.PEM(root.List()))
	}
	lists()
	policy := s.policy("revocation: {check: enforce, crl: [crl/], network: false}\nscopes:\n  \"*\": [mine]\n")
	s.Server.Close() // the other side of the gap
	verify := append([]string{"verify", local}, asFor(policy, "inside.example/app:1.0")...)
	o := s.alone(verify...)
	if o.field(t, "verdict") != "accepted" || o.field(t, "signatures.0.revocation.status") != "good" {
		t.Errorf("verdict %s, revocation %s\n%s", o.field(t, "verdict"), o.field(t, "signatures.0.revocation.status"), o.stdout)
	}
	s.accepts(local, asFor(policy, "inside.example/app:1.0")...)
	ca.Revoke(s.parties["mine"].leaf, revtest.Revoked{Reason: revtest.KeyCompromise})
	lists()
	s.rejects("revoked", local, asFor(policy, "inside.example/app:1.0")...)
	if n := services.Count(nil) + len(ca.Requests()) + len(root.Requests()); n != 0 {
		t.Errorf("%d requests to addresses that the certificates name", n)
	}
	// Without the lists nothing is known, and that is not "not revoked".
	bare := s.policy("revocation: {check: enforce, crl: [crl/root.pem], network: false}\nscopes:\n  \"*\": [mine]\n")
	s.want(t, 4, "revocation-unknown", append([]string{"verify", local}, asFor(bare, "inside.example/app:1.0")...)...)
}

// R22, S42, and R33's revoked version: a key is disclosed. Its certificate is revoked, what it signed is blocked, and signed anew
// by another certificate it is accepted again. Claims say nothing of freshness: this, expiry and max-age do.
func TestS42R22KeyDisclosed(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	p, ca, root := s.revoking("mine")
	lists := func() { s.file("lists.pem", revtest.PEM(ca.List(), root.List())) }
	lists()
	policy := s.policy("revocation: {check: enforce, crl: [lists.pem]}\nscopes:\n  \"*\": [mine]\n")
	ref, pinned := s.image("app:1.0")
	s.sign("mine", ref, "--expiry", "60d")
	s.accepts(ref, "--policy", policy)
	ca.Revoke(p.leaf, revtest.Revoked{Reason: revtest.KeyCompromise})
	lists()
	s.rejects("revoked", ref, "--policy", policy)
	o := s.rejects("revoked", pinned, "--policy", policy)
	if got := o.field(t, "signatures.0.identity"); got != "C=DE, ST=BE, O=Acme, CN=mine" {
		t.Errorf("of whom it was is told %q", got)
	}
	s.adds("again", p.root, p.ca, certtest.Key("P-256"), named("Acme", "mine"))
	s.sign("again", ref, "--expiry", "60d")
	s.accepts(ref, "--policy", policy)
	start := s.now()
	s.now = func() time.Time { return start.AddDate(0, 0, 61) }
	s.rejects("expired", ref, "--root", s.at("mine.pem"))
	if text := string(read(t, "../docs/THREATS.md")); !strings.Contains(text, "freshness") && !strings.Contains(text, "rollback") {
		t.Error("the threat model does not say what claims leave open")
	}
}

// R38: a list that is over, or cannot be had, tells nothing: enforced it fails closed, logged it warns.
func TestR38StaleLists(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	_, ca, root := s.revoking("mine")
	ref, _ := s.image("app:1.0")
	s.sign("mine", ref)
	ca.Clock(func() time.Time { return time.Now().AddDate(0, 0, -10) }, 24*time.Hour)
	s.file("lists.pem", revtest.PEM(ca.List(), root.List()))
	check := func(how string) []string {
		return []string{"--policy", s.policy("revocation: {check: " + how + ", crl: [lists.pem]}\nscopes:\n  \"*\": [mine]\n")}
	}
	s.want(t, 4, "revocation-unknown", append([]string{"verify", ref}, check("enforce")...)...)
	o := s.accepts(ref, check("log")...)
	if got := o.field(t, "signatures.0.revocation.status"); got != "unknown" || !strings.Contains(o.field(t, "warnings"), "revo") {
		t.Errorf("status %s, warnings %s", got, o.field(t, "warnings"))
	}
	s.accepts(ref, check("off")...)
	ca.Clock(time.Now, 24*time.Hour)
	s.file("lists.pem", revtest.PEM(ca.List(), root.List()))
	if got := s.accepts(ref, check("enforce")...).field(t, "signatures.0.revocation.status"); got != "good" {
		t.Errorf("by a fresh list it is %s", got)
	}
}

// R37: a certificate that has expired takes its signatures along, but for those that a trusted authority dates before.
func TestR37TimestampsOutliveCertificates(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.joins("mine", certtest.Valid(time.Now().Add(-time.Hour), time.Now().AddDate(0, 1, 0)))
	tsa := tsatest.New(tsatest.Options{Accuracy: time.Second})
	stamp := []string{"--timestamp-url", tsa.Start(), "--timestamp-roots", s.file("tsa.pem", certtest.PEM(tsa.Roots()...)), "--allow-private"}
	t.Cleanup(tsa.Stop)
	stamped, _ := s.image("stamped:1.0")
	s.sign("mine", stamped, stamp...)
	bare, _ := s.image("bare:1.0")
	s.sign("mine", bare)
	with := s.policy("timestamps: {roots: [tsa.pem], use: after-cert-expiry}\nscopes:\n  \"*\": [mine]\n")
	without := s.policy("scopes:\n  \"*\": [mine]\n")
	for _, ref := range []string{stamped, bare} {
		s.accepts(ref, "--policy", with)
		s.accepts(ref, "--policy", without)
	}
	start := s.now()
	s.now = func() time.Time { return start.AddDate(0, 2, 0) }
	s.accepts(stamped, "--policy", with)
	s.rejects("certificate-expired", stamped, "--policy", without)
	s.rejects("certificate-expired", bare, "--policy", without)
	if o := s.want(t, 1, "", "verify", bare, "--policy", with); o.field(t, "reason") == "" {
		t.Errorf("no reason: %s", o.stdout)
	}
	if err := judge.VerifyAt(t.Context(), stamped, "", judge.AfterCertExpiry, []*x509.Certificate{s.parties["mine"].root.Certificate}, tsa.Roots()); err != nil {
		t.Errorf("notation, before the expiry: %v", err)
	}
}

// R27: the five threats that the older documents name.
func TestR27Threats(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	_, ca, root := s.revoking("mine")
	s.joins("attacker")
	lists := func() string {
		s.file("lists.pem", revtest.PEM(ca.List(), root.List()))
		return s.policy("revocation: {check: enforce, crl: [lists.pem]}\nscopes:\n  \"*\": {trust: [mine], algorithms: [ES256, ES384]}\n")
	}
	policy := lists()
	ref, _ := s.image("app:1.0")
	s.sign("mine", ref)
	s.accepts(ref, "--policy", policy)

	// On the way bytes are changed (every place: R21).
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/1.0") {
			s.Handler().ServeHTTP(&flipping{w}, r)
			return true
		}
		return false
	})
	if o := s.run(t, "verify", ref, "--policy", policy, "--timeout", "2s"); o.code == 0 {
		t.Errorf("changed on the way and accepted:\n%s", o.stdout)
	}
	s.Intercept(nil)

	// Weak algorithms.
	weak := certtest.Key("RSA-2048")
	s.adds("weak", s.parties["mine"].root, s.parties["mine"].ca, weak)
	byWeak, _ := s.image("weak:1.0")
	s.sign("weak", byWeak)
	s.rejects("algorithm-not-allowed", byWeak, "--policy", policy)

	// The repository and the keys that lie in it are the attacker's.
	planted, _ := s.image("planted:1.0")
	s.sign("attacker", planted)
	s.rejects("no-trusted-signature", planted, "--policy", policy)

	// A step of the supply chain is: what it makes is not signed.
	must(t, image("built by somebody").push(s.Host+"/app", "1.0"))
	s.rejects("unsigned", ref, "--policy", policy)
	must(t, image("app:1.0").push(s.Host+"/app", "1.0"))
	s.accepts(ref, "--policy", policy)

	// The signing key is.
	ca.Revoke(s.parties["mine"].leaf, revtest.Revoked{Reason: revtest.KeyCompromise})
	s.rejects("revoked", ref, "--policy", lists())
}
