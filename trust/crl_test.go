package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/trust/revocation"
	"github.com/imprint-oci/imprint/trust/revtest"
)

// withSection writes a policy of one root and a section, beside files, and returns its name.
func withSection(t testing.TB, root *certtest.Authority, section string, files map[string]string) string {
	t.Helper()
	all := map[string]string{"root.pem": string(certtest.PEM(root.Certificate))}
	for name, content := range files {
		all[name] = content
	}
	return folderOf(t, "version: 1\nroots: {r: root.pem}\n"+section+"scopes: {harbor.example: [r]}\n", all)
}

func TestRevocationSection(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	der, pem := string(ca.List()), string(revtest.PEM(ca.List(), ca.List()))
	files := map[string]string{"a.crl": der, "crl/b.crl": der, "crl/c.pem": pem, "crl/.hidden": "junk", "sub/x/a.crl": der, "empty/.keep": "", "junk": "junk",
		"cert.pem": string(certtest.PEM(ca.Certificate)), "cut.pem": pem[:len(pem)-40]}
	for _, tt := range []struct {
		section, code, says string
		lists               int
	}{
		{"revocation: {check: enforce, crl: [a.crl]}\n", "", "", 1},
		{"revocation: {check: enforce, crl: [crl/]}\n", "", "", 3},
		{"revocation: {check: log, crl: [crl, a.crl], network: true}\n", "", "", 4},
		{"revocation: {check: log, network: true}\n", "", "", 0},
		{"revocation: {check: off}\n", "", "", 0},
		{"revocation: {check: off, crl: [a.crl]}\n", "", "", 1},
		{"revocation: {check: enforce, network: false, crl: [a.crl]}\n", "", "", 1},
		{"revocation: {crl: [a.crl]}\n", codeMissing, "check: enforce", 0},
		{"revocation: {}\n", codeMissing, "check: enforce", 0},
		{"revocation: enforce\n", codeType, "", 0},
		{"revocation: {check: strict, network: true}\n", codeValue, "", 0},
		{"revocation: {check: enforce}\n", codeValue, "nothing to look it up in", 0},
		{"revocation: {check: log, network: false}\n", codeValue, "nothing to look it up in", 0},
		{"revocation: {check: enforce, crl: []}\n", "*", "", 0},
		{"revocation: {check: enforce, crl: a.crl}\n", codeType, "", 0},
		{"revocation: {check: enforce, network: yes}\n", "*", "", 0},
		{"revocation: {mode: enforce, network: true}\n", codeKeyUnknown, "write check", 0},
		{"revocation: {check: enforce, ocsp: true}\n", codeKeyUnknown, "network: true", 0},
		{"revocation: {check: enforce, crl: [none.crl]}\n", codeListUnreadable, "none.crl", 0},
		{"revocation: {check: enforce, crl: [junk]}\n", codeListInvalid, "junk", 0},
		{"revocation: {check: enforce, crl: [cert.pem]}\n", codeListInvalid, "CERTIFICATE", 0},
		{"revocation: {check: enforce, crl: [cut.pem]}\n", codeListInvalid, "broken", 0},
		{"revocation: {check: enforce, crl: [empty]}\n", codeListInvalid, "no revocation list", 0},
		{"revocation: {check: enforce, crl: [sub]}\n", codeUnsafe, "sub/x", 0},
		{"revocation: {check: enforce, crl: [../a.crl]}\n", codePath, "", 0},
	} {
		t.Run(strings.TrimSpace(tt.section), func(t *testing.T) {
			t.Parallel()
			p, err := Load(withSection(t, ca.Authority, tt.section, files))
			switch {
			case tt.code == "*" && err == nil, tt.code == "" && err != nil:
				t.Fatal(err)
			case tt.code == "*":
			case tt.code != "":
				if e := loadError(t, err, tt.code, 3); !strings.Contains(e.Error(), tt.says) {
					t.Errorf("it says %v, want %q in it", e, tt.says)
				}
			default:
				if n := len(p.revocation.lists); n != tt.lists {
					t.Errorf("%d lists, want %d", n, tt.lists)
				}
			}
		})
	}
}

// TestRevocationSectionsOfScopesAndEntries: the nearest one holds.
func TestRevocationSectionsOfScopesAndEntries(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	p, err := Load(folderOf(t, `version: 1
roots: {r: root.pem}
revocation: {check: log, network: true}
scopes:
  a.example: [r]
  b.example: {trust: [r], revocation: {check: enforce, crl: [a.crl]}}
  c.example: {trust: [{root: r, revocation: {check: off}}], revocation: {check: enforce, crl: [a.crl]}}
`, map[string]string{"root.pem": string(certtest.PEM(ca.Certificate)), "a.crl": string(ca.List())}))
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string][]string{
		"a.example/x:1": {"log", "told, not enforced, by what certificates name"},
		"b.example/x:1": {"enforce", "enforced, by 1 list"},
		"c.example/x:1": {"off", "enforced, by 1 list; an entry of its trust says otherwise"},
	} {
		c := court{policy: p, scope: p.selects(ref(t, host))}
		for e := range c.scope.entries() {
			if got := c.revoking(e).check; got != want[0] {
				t.Errorf("%s: %s, want %s", host, got, want[0])
			}
		}
		if got := p.revoked(c.scope); got != want[1] {
			t.Errorf("%s: the report says %q, want %q", host, got, want[1])
		}
	}
	given := &Lists{p.revokings[1].lists}
	narrowed, err := p.Narrow(Narrowing{Lists: given})
	if err != nil {
		t.Fatal(err)
	}
	twice, err := narrowed.Narrow(Narrowing{Lists: given})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := twice.revoked(nil), "told, not enforced, by what certificates name; enforced for what 2 lists given for this run cover"; got != want {
		t.Errorf("the report says %q, want %q", got, want)
	}
	none := &Policy{}
	if got, want := none.revoked(nil), "not checked: the policy has no revocation section"; got != want {
		t.Errorf("the report says %q, want %q", got, want)
	}
	none.single = true
	if got, want := none.revoked(nil), "not checked: a root certificate alone asks for none"; got != want {
		t.Errorf("the report says %q, want %q", got, want)
	}
	off := &Policy{revocation: &revoking{check: checkOff}}
	if got, want := off.revoked(nil), "not checked: the policy says check: off"; got != want {
		t.Errorf("the report says %q, want %q", got, want)
	}
}

// TestListsInDigest: a list is part of what the policy says (L4), whatever it is named.
func TestListsInDigest(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	digest := func(files map[string]string) string {
		t.Helper()
		p, err := Load(withSection(t, ca.Authority, "revocation: {check: enforce, crl: [crl]}\n", files))
		if err != nil {
			t.Fatal(err)
		}
		return p.Digest()
	}
	a, b := string(ca.List()), string(ca.List()) // each is signed anew
	one := digest(map[string]string{"crl/a": a})
	if one != digest(map[string]string{"crl/a": a, "crl/.x": "hidden"}) {
		t.Error("it depends on what is not read")
	}
	if one == digest(map[string]string{"crl/a": b}) || one == digest(map[string]string{"crl/a": a, "crl/b": b}) {
		t.Error("it does not depend on what is read")
	}
}

func TestListFiles(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	dir := t.TempDir()
	write := func(name string, b []byte, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	refused := func(code string, names ...string) {
		t.Helper()
		_, err := ReadLists(names)
		loadError(t, err, code, 0)
	}
	good := write("good.crl", ca.List(), 0o600)
	for _, names := range [][]string{{good}, {good, good}, {dir + "/./good.crl"}} {
		if l, err := ReadLists(names); err != nil || len(l.lists) != len(names) || l.lists[0].Name() != names[0] {
			t.Errorf("%q: %v", names, err)
		}
	}
	other := write("another.crl", ca.List(), 0o600)
	for _, names := range [][]string{{good, other}, {other, good}} {
		if l, err := ReadLists(names); err != nil || l.lists[0].Name() != other || l.lists[1].Name() != good {
			t.Errorf("%q: %v", names, err)
		}
	}
	// Where a person says so, a name may lead up.
	up, err := filepath.Rel(must(os.Getwd()), good)
	if err != nil || !strings.HasPrefix(up, "..") {
		t.Fatalf("%s %v", up, err)
	}
	if l, err := ReadLists([]string{up}); err != nil || l.lists[0].Name() != up {
		t.Errorf("%s: %v", up, err)
	}
	// As a ConfigMap of Kubernetes lays it out.
	write("map/..2026/a.crl", ca.List(), 0o644)
	for link, to := range map[string]string{"..data": "..2026", "a.crl": "..data/a.crl"} {
		if err := os.Symlink(to, filepath.Join(dir, "map", link)); err != nil {
			t.Fatal(err)
		}
	}
	if l, err := ReadLists([]string{filepath.Join(dir, "map")}); err != nil || len(l.lists) != 1 {
		t.Errorf("a ConfigMap: %v", err)
	}
	refused(codeListUnreadable, filepath.Join(dir, "none"))
	refused(codeUnsafe, write("everybodys.crl", ca.List(), 0o646))
	refused(codeListInvalid, write("junk", []byte("junk"), 0o600))
	refused(codeTooLarge, write("huge", make([]byte, revocation.MaxListBytes+1), 0o600))
	many := filepath.Join(dir, "many")
	for i := range maxListFiles + 1 {
		write("many/"+big.NewInt(int64(i)).String(), nil, 0o600)
	}
	refused(codeTooLarge, many)

	// The policy's folder is as far as its lists go.
	if err := os.Symlink(good, filepath.Join(dir, "map", "out.crl")); err != nil {
		t.Fatal(err)
	}
	file := withSection(t, ca.Authority, "revocation: {check: enforce, crl: [crl]}\n", map[string]string{"crl/a.crl": string(ca.List())})
	if err := os.Symlink(good, filepath.Join(filepath.Dir(file), "crl", "out.crl")); err != nil {
		t.Fatal(err)
	}
	_, err = Load(file)
	loadError(t, err, codePath, 3)
}

// Lists for a run are added to those that there are, which others may have added others to.
func TestListsAreAdded(t *testing.T) {
	t.Parallel()
	a, b, c := &revocation.List{}, &revocation.List{}, &revocation.List{}
	roomy := &Lists{append(make([]*revocation.List, 0, 8), a)}
	with := roomy.and(&Lists{[]*revocation.List{b}})
	if other := roomy.and(&Lists{[]*revocation.List{c}}); !slices.Equal(with.all(), []*revocation.List{a, b}) || !slices.Equal(other.all(), []*revocation.List{a, c}) || len(roomy.lists) != 1 {
		t.Errorf("got %v and %v of %v", with.all(), other.all(), roomy.lists)
	}
	if none := (*Lists)(nil); none.and(roomy) != roomy || roomy.and(none) != roomy || none.and(none).all() != nil {
		t.Error("nothing is not nothing")
	}
}

// All lists together are bounded, and so are all files of a policy, however small each is.
func TestListsAreBoundedTogether(t *testing.T) {
	t.Parallel()
	list := authorityOf(t, certtest.Root("root")).List()
	at := filepath.Join(t.TempDir(), "a.crl")
	if err := os.WriteFile(at, list, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, over := range []int{0, 1} {
		files := &folder{path: "."}
		files.read = []named{{"before", make([]byte, maxListsRead-len(list)+over)}} // nobody writes to it, so that it takes no memory
		if _, err := files.lists(at); (err != nil) != (over > 0) || err != nil && codeOf(err, "") != codeTooLarge {
			t.Errorf("%d bytes too many: %v", over, err)
		}
		files.close()
		files = &folder{path: ".", bytes: maxFiles - int64(len(list)) + int64(over)}
		if _, err := files.file(at, revocation.MaxListBytes); (err != nil) != (over > 0) || err != nil && codeOf(err, "") != codeTooLarge {
			t.Errorf("of all files, %d bytes too many: %v", over, err)
		}
		files.close()
	}
}

func TestListWarnings(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	files := map[string]string{"good.crl": string(ca.List())}
	ca.Lie(revtest.Indirect)
	files["indirect.crl"] = string(ca.List())
	p, err := Load(withSection(t, ca.Authority, "revocation: {check: enforce, crl: [good.crl, indirect.crl]}\n", files))
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[time.Time][]string{
		time.Now():                      {"indirect.crl is of no use"},
		time.Now().Add(100 * time.Hour): {"good.crl of C=DE, ST=BE, O=Acme, CN=root: it held until", "indirect.crl is of no use"},
	} {
		got := p.Warnings(at)
		if len(got) != len(want) || !slices.EqualFunc(got, want, strings.Contains) {
			t.Errorf("warnings %q, want %q", got, want)
		}
	}
}

// TestManyEntries: of a long list the entry is found, in whatever order they stand.
func TestManyEntries(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	var chains []certchain.Chain
	for _, serial := range []int64{1, 127, 128, 255, 256, 65535, 1 << 40, 3, 2} {
		chains = append(chains, chainOf(ca, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(serial) }))
	}
	for i, chain := range chains {
		if i%2 == 0 {
			ca.Revoke(chain.Leaf(), revtest.Revoked{Reason: i % 6})
		}
	}
	rule := ruled(t, checkEnforce, false, ca.List())
	for i, chain := range chains {
		found, code, detail := standingOf(t, &Sources{}, rule, chain, time.Time{})
		if want := []string{"revoked", "good"}[i%2]; found.Status != want {
			t.Errorf("serial %d is %s, want %s", chain.Leaf().SerialNumber, found.Status, want)
		} else {
			wantStanding(t, found, code, detail, want)
		}
	}
}

// TestListsThatNameDeltas: a certificate may say so, too; and a delta list has a number.
func TestListsThatNameDeltas(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	names := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 46}, Value: append([]byte{0x30, 16, 0x30, 14, 0xa0, 12, 0xa0, 10, 0x86, 8}, "http://a"...)}}
	}
	chain := chainOf(ca, names)
	found, code, detail := standingOf(t, &Sources{}, ruled(t, checkEnforce, false, ca.List()), chain, time.Time{})
	wantStanding(t, found, code, detail, "unknown")
	found, code, detail = standingOf(t, &Sources{}, ruled(t, checkEnforce, false, ca.List(), ca.DeltaList()), chain, time.Time{})
	wantStanding(t, found, code, detail, "good")
}

// TestListOfSomebodyElse: whose list it is that came from where the certificate points is told by name.
func TestListOfSomebodyElse(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	chain := chainOf(ca, ca.NamesList())
	ca.Lie(revtest.OtherIssuer)
	found, code, detail := standingOf(t, &Sources{HTTP: plain()}, ruled(t, checkEnforce, true), chain, time.Time{})
	wantStanding(t, found, code, detail, "unknown")
	if !strings.Contains(detail, "/ca.crl: it is of C=") {
		t.Errorf("it says %q", detail)
	}
}
