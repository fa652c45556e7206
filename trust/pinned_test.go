package trust

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust/revtest"
)

// TestX17AbovePinned: whoever has a signature can put certificates of his own above the one that is pinned, for the public key of the
// authority that stands there. They send nobody anywhere, and say nothing of revocation.
func TestX17AbovePinned(t *testing.T) {
	t.Parallel()
	top := certtest.Root("root")
	upper := top.Intermediate("upper")
	lower := authorityOf(t, upper.Intermediate("lower"))
	evil := authorityOf(t, certtest.Root("evil"))
	s := &signatory{key: certtest.Key("P-256")}
	s.chain = lower.Chain(lower.Leaf(s.key.Public(), "release", lower.NamesList()))
	leaf := s.chain.Leaf()
	genuine := s.sign(t, signing{})
	s.chain = append(s.chain[:2:2], evil.IntermediateWith(upper.Key, "upper", evil.NamesList(), evil.NamesResponder()).Certificate, evil.Certificate)
	beside := s.sign(t, signing{})
	s.chain = append(s.chain[:1:1], evil.IntermediateWith(lower.Key, "lower", evil.NamesList(), evil.NamesResponder()).Certificate, evil.Certificate)
	above := s.sign(t, signing{})

	for _, row := range []struct {
		name, policy, pem string
		sig               registry.Signature
	}{
		{"leaf, genuine", "leaf", string(certtest.PEM(leaf)), genuine},
		{"leaf, another authority of its issuer's key", "leaf", string(certtest.PEM(leaf)), above},
		{"leaf, another one above its issuer", "leaf", string(certtest.PEM(leaf)), beside},
		{"intermediate, genuine", "intermediate", string(certtest.PEM(lower.Certificate)), genuine},
		{"intermediate, another one above it", "intermediate", string(certtest.PEM(lower.Certificate)), beside},
	} {
		p, err := Load(folderOf(t, "version: 1\nroots: {it: {certificates: [it.pem], pin: "+row.policy+"}}\n"+
			"revocation: {check: enforce, network: true}\nscopes: {r.example: [it]}\n", map[string]string{"it.pem": row.pem}))
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.Examine(t.Context(), ref(t, "r.example/x:1"), artifact, sigs(row.sig), time.Now(), &Sources{HTTP: plain()})
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != Accepted {
			t.Errorf("%s: %s %s (%s)", row.name, r.Verdict, r.Reason, r.Detail)
		}
	}
	if asked := evil.Requests(); len(asked) > 0 {
		t.Errorf("a stranger was asked: %q", asked)
	}
	if len(lower.Requests()) == 0 {
		t.Error("the signer's authority was not asked")
	}

	// A list that revokes what stands above still counts, and so does a leaf that was revoked.
	authority := authorityOf(t, upper)
	authority.Revoke(lower.Certificate, revtest.Revoked{})
	p, err := Load(folderOf(t, "version: 1\nroots: {it: {certificates: [it.pem], pin: leaf}}\n"+
		"revocation: {check: enforce, crl: [upper.crl, lower.crl]}\nscopes: {r.example: [it]}\n",
		map[string]string{"it.pem": string(certtest.PEM(leaf)), "upper.crl": string(authority.List()), "lower.crl": string(lower.List())}))
	if err != nil {
		t.Fatal(err)
	}
	wantReport(t, p.Judge(ref(t, "r.example/x:1"), artifact, sigs(genuine), time.Now()), Rejected, codeRevoked)
	wantReport(t, p.Judge(ref(t, "r.example/x:1"), artifact, sigs(above), time.Now()), Accepted, "") // it is another certificate, and the leaf is trusted
}

// TestGivenGoodAsks (P13): a list of --crl from which a certificate is missing does not hide that the network says it was revoked, and
// none lifts what a list of the policy says.
func TestGivenGoodAsks(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	s := &signatory{root: ca.Authority, key: certtest.Key("P-256")}
	s.chain = ca.Chain(ca.Leaf(s.key.Public(), "release", ca.NamesList()))
	sig := s.sign(t, signing{})
	older := &Lists{ruled(t, checkOff, false, ca.List()).lists}
	ca.Revoke(s.chain.Leaf(), revtest.Revoked{Reason: revtest.Hold})
	held := ca.List()
	examine := func(section string, given *Lists, src *Sources) Report {
		t.Helper()
		p, err := Load(folderOf(t, "version: 1\nroots: {it: it.pem}\nrevocation: {"+section+"}\nscopes: {r.example: [it]}\n",
			map[string]string{"it.pem": s.pem(), "held.crl": string(held)}))
		if err != nil {
			t.Fatal(err)
		}
		if p, err = p.Narrow(Narrowing{Lists: given}); err != nil {
			t.Fatal(err)
		}
		r, err := p.Examine(t.Context(), ref(t, "r.example/x:1"), artifact, sigs(sig), time.Now(), src)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	const network = "check: enforce, network: true"
	wantReport(t, examine(network, nil, &Sources{HTTP: plain()}), Rejected, codeRevoked)
	wantReport(t, examine(network, older, &Sources{HTTP: plain()}), Rejected, codeRevoked)
	wantReport(t, examine(network, older, &Sources{}), Accepted, "") // offline it is what there is
	wantReport(t, examine(network, nil, &Sources{}), Undetermined, codeRevocationUnknown)

	ca.RevokeInDelta(s.chain.Leaf(), revtest.Revoked{Reason: revtest.Remove, At: time.Now()})
	lifts := &Lists{ruled(t, checkOff, false, ca.DeltaList()).lists}
	wantReport(t, examine("check: enforce, crl: [held.crl]", nil, &Sources{}), Rejected, codeRevoked)
	wantReport(t, examine("check: enforce, crl: [held.crl]", lifts, &Sources{}), Rejected, codeRevoked)

	ca.Lie(revtest.Down)
	wantReport(t, examine(network, older, &Sources{HTTP: plain()}), Accepted, "")
	wantReport(t, examine(network, nil, &Sources{HTTP: plain()}), Undetermined, codeRevocationUnknown)
}

// TestRoundsAreEnough: a signature that is found to be revoked in two steps, by its own authority and then by that of its timestamp, leaves
// room for asking of the document and of whom it grants.
func TestRoundsAreEnough(t *testing.T) {
	t.Parallel()
	d, w := newDesk(t), newStampedWorld(t)
	lost := w.begin.Add(10 * aDay)
	root, stamping := authorityOf(t, w.s.root), authorityOf(t, w.tsa.CA)
	tsa := tsatest.New(tsatest.Options{Root: w.tsa.Root, CA: w.tsa.CA, Edits: []certtest.Edit{stamping.NamesList()}})
	stamping.Revoke(tsa.Certificate, revtest.Revoked{Reason: revtest.KeyCompromise})
	w.s.chain = root.Chain(root.Leaf(w.s.key.Public(), "lost", certtest.Valid(w.begin, w.end), root.NamesList()))
	root.Revoke(w.s.chain.Leaf(), revtest.Revoked{Reason: revtest.KeyCompromise, Invalid: lost})
	lostOne := w.with(w.sign(signing{}), w.at(tsa, w.begin.Add(aDay)))
	granted := authorityOf(t, d.acme.root)
	d.acme.chain = granted.Chain(granted.Leaf(d.acme.key.Public(), "acme", granted.NamesList()))
	d.bulletin.put(t, d.document(nil), posting{by: d.issuer})

	d.hub = w.s
	p := rooted(t, map[string]*signatory{"hub": d.hub, "ca": d.ca, "vendor": d.other}, fmt.Sprintf(
		"revocation: {check: enforce, network: true}\ntimestamps: {roots: [%q], use: after-cert-expiry}\n", certtest.PEM(tsa.Root.Certificate))+
		strings.Replace(delegating, "%s", "", 1))
	src := d.run()
	src.HTTP = plain()
	r, err := p.Examine(t.Context(), ref(t, "docker.io/acme2/x:1"), artifact, sigs(lostOne, d.acme.sign(t, signing{})), time.Now(), src)
	if err != nil {
		t.Fatal(err)
	}
	wantReport(t, r, Accepted, "")
	if len(stamping.Requests()) != 1 || len(root.Requests()) != 1 || len(granted.Requests()) != 1 {
		t.Errorf("asked %q, %q, %q", root.Requests(), stamping.Requests(), granted.Requests())
	}
}

// TestX17DeltasOfAStranger: a list that the issuer did not sign, which anybody on the way may send, leads nowhere else.
func TestX17DeltasOfAStranger(t *testing.T) {
	t.Parallel()
	ca, forger := authorityOf(t, certtest.Root("root")), authorityOf(t, certtest.Root("root"))
	forger.Lie(revtest.NamesDelta)
	found, code, detail := standingOf(t, &Sources{HTTP: plain()}, ruled(t, checkEnforce, true), chainOf(ca, forger.NamesList()), time.Time{})
	wantStanding(t, found, code, detail, RevocationUnknown)
	if asked := forger.Requests(); len(asked) != 1 || asked[0] != "GET /ca.crl" {
		t.Errorf("asked %q", asked)
	}
}

// TestX15CacheIsNotRolledBack: an older list that still holds, served by whoever is on the way, does not take the place of a newer one.
func TestX15CacheIsNotRolledBack(t *testing.T) {
	t.Parallel()
	top := certtest.Root("root")
	older, newer := authorityOf(t, top), authorityOf(t, top)
	chain := chainOf(older, older.NamesList())
	newer.Revoke(chain.Leaf(), revtest.Revoked{})
	src := func(kept []byte, age time.Duration) *Sources {
		s := &Sources{HTTP: plain(), Cache: t.TempDir()}
		if kept != nil {
			name, day := s.cacheName(older.ListURL()), time.Now().Add(-age)
			if err := os.WriteFile(name, kept, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(name, day, day); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
	list := newer.List()
	newer.Lie(revtest.Forged)
	for _, row := range []struct {
		name string
		kept []byte
		age  time.Duration
		want string
	}{
		{"nothing kept", nil, 0, RevocationGood},
		{"a newer one", list, 25 * time.Hour, RevocationRevoked},
		{"a newer one of a day that is yet to come", list, -48 * time.Hour, RevocationRevoked},
		{"a newer one, forged", newer.List(), 25 * time.Hour, RevocationGood},
	} {
		found, code, detail := standingOf(t, src(row.kept, row.age), ruled(t, checkEnforce, true), chain, time.Time{})
		t.Log(row.name)
		wantStanding(t, found, code, detail, row.want)
	}
	if n := len(older.Requests()); n != 4 {
		t.Errorf("%d requests", n)
	}
}

// TestDelegationFileIsTheDigests: a document in a layout is the one that the policy's digest covers, also if the layout is exchanged while
// the policy loads.
func TestDelegationFileIsTheDigests(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	dir := t.TempDir()
	d.bulletin.dir = filepath.Join(dir, "document")
	d.bulletin.put(t, d.document(nil), posting{by: d.issuer})
	files := &folder{path: dir}
	defer files.close()
	if _, err := files.document("document"); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(d.bulletin.dir); err != nil {
		t.Fatal(err)
	}
	d.bulletin.put(t, d.document(func(doc *DelegationDocument) { doc.Version = 1 }), posting{by: d.issuer})
	if _, err := files.document("document"); !errors.Is(err, errChanged) {
		t.Errorf("another document than the digest is of: %v", err)
	}
}
