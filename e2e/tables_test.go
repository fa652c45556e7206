package e2e

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// The truth tables of trust policies (T1 to T4), through the command and against a registry: each cell is a run of imprint verify, and
// wants an exit code, a verdict and a reason. T5 is with the delegation documents.

// A signatory signs under a root of its own.
type signatory struct {
	root  *certtest.Authority
	key   crypto.Signer
	chain []*x509.Certificate
}

func newSignatory(name string, edits ...certtest.Edit) *signatory {
	root := certtest.Root(name + " root")
	key := certtest.Key("P-256")
	return &signatory{root, key, root.Chain(root.Leaf(key.Public(), name, edits...))}
}

func ofOrganization(country, province, organization, name string) certtest.Edit {
	return certtest.Subject(pkix.Name{Country: []string{country}, Province: []string{province}, Organization: []string{organization}, CommonName: name})
}

// A desk of tables: signatories whose roots are files of one person, and one image that stands in a repository of its own for each set
// of signatures.
type tables struct {
	*person
	f     *fake
	by    map[string]*signatory
	image artifact
}

func newTables(t testing.TB, by map[string]*signatory) *tables {
	t.Helper()
	d := &tables{person: newPerson(t), f: newFake(t), by: by, image: image("tables")}
	for name, s := range by {
		d.file(name+".pem", certtest.PEM(s.root.Certificate))
	}
	return d
}

// put stands the image in a repository, tagged v1, with a signature of each of the names.
func (d *tables) put(repo string, names ...string) (ref string) {
	subject := d.f.putArtifact(repo, "v1", d.image)
	for _, name := range names {
		s := d.by[name]
		d.f.attach(repo, subject, jwsType, newJWS(s.key, s.chain, subject).bytes())
	}
	return d.f.Host + "/" + repo + ":v1"
}

// column stands the image for one column of a table: "org+dev" or "none".
func (d *tables) column(i int, names string) (ref string) {
	if names == "none" {
		return d.put("column" + strconv.Itoa(i))
	}
	return d.put("column"+strconv.Itoa(i), strings.Split(names, "+")...)
}

// cell runs verify and wants what a table says.
func (d *tables) cell(t testing.TB, want, reason string, args ...string) outcome {
	t.Helper()
	o := d.run(t, append(append([]string{"verify"}, args...), "-o", "json")...)
	code, verdict := 0, "accepted"
	if want == "R" {
		code, verdict = 1, "rejected"
	}
	if o.code != code || o.field(t, "verdict") != verdict || o.field(t, "reason") != reason {
		t.Errorf("imprint verify %s: exit %d %s %s, want %d %s %s\n%s%s", strings.Join(args, " "), o.code, o.field(t, "verdict"), o.field(t, "reason"),
			code, verdict, reason, o.stdout, o.stderr)
	}
	return o
}

// why is the reason of a cell in a table where the only thing wrong with a signature can be whose it is.
func why(want, column string) string {
	switch {
	case want == "A":
		return ""
	case column == "none":
		return "unsigned"
	}
	return "no-trusted-signature"
}

func TestT1Clusters(t *testing.T) {
	t.Parallel()
	d := newTables(t, map[string]*signatory{
		"org": newSignatory("org", ofOrganization("US", "WA", "Acme", "org")), "dev": newSignatory("dev"), "dockerlib": newSignatory("dockerlib"),
		"wordpress": newSignatory("wordpress"), "unknown": newSignatory("unknown"),
	})
	policy := func(cluster, everywhere, dev string) string {
		return d.file(cluster+".yaml", []byte(`version: 1
roots:
  org:       {certificates: [org.pem], identities: ["C=US, ST=WA, O=Acme"]}
`+dev+`  dockerlib: dockerlib.pem
  wordpress: wordpress.pem
scopes:
  "*": `+everywhere+`
  mirror.acme.example/library: {trust: [dockerlib], inherit: true}
  mirror.acme.example/wordpress: {trust: [wordpress], inherit: true}
`))
	}
	clusters := map[string]string{"dev": policy("dev", "[org, dev]", "  dev:       dev.pem\n"), "prod": policy("prod", "[org]", "")}
	columns := []string{"org", "dev", "dockerlib", "wordpress", "dev+org", "none", "unknown+org"}
	refs := make([]string, len(columns))
	for i, names := range columns {
		refs[i] = d.column(i, names)
	}
	for _, row := range []struct{ image, cluster, want string }{
		{"mirror.acme.example/wordpress", "dev", "A A R A A R A"},
		{"mirror.acme.example/wordpress", "prod", "A R R A A R A"},
		{"mirror.acme.example/library/alpine", "dev", "A A A R A R A"},
		{"mirror.acme.example/library/alpine", "prod", "A R A R A R A"},
		{"ci.acme.example/team/api", "dev", "A A R R A R A"},
		{"ci.acme.example/team/api", "prod", "A R R R A R A"},
		{"mirror.acme.example/libraryx/y", "dev", "A A R R A R A"},
	} {
		t.Run(row.image+" in "+row.cluster, func(t *testing.T) {
			t.Parallel()
			for i, want := range strings.Fields(row.want) {
				d.cell(t, want, why(want, columns[i]), refs[i], "--policy", clusters[row.cluster], "--as", row.image+":1.0")
			}
		})
	}
}

// The column of the delegated key is with the delegation documents.
func TestT2ScopeSelection(t *testing.T) {
	t.Parallel()
	d := newTables(t, map[string]*signatory{
		"mine": newSignatory("mine"), "vendor": newSignatory("vendor", ofOrganization("DE", "BE", "Vendor GmbH", "vendor")), "hub": newSignatory("hub"),
	})
	policy := d.file("consumer.yaml", []byte(`version: 1
roots:
  mine:        {certificates: [mine.pem]}
  vendor:      {certificates: [vendor.pem], identities: ["C=DE, ST=BE, O=Vendor GmbH"]}
  hub:         {certificates: [hub.pem]}
scopes:
  private-registry.example: [mine]
  docker.io: [hub]
  docker.io/vendor: [vendor]             # exclusive
  docker.io/vendor/legacy: {reject: true}
mirrors:
  docker.io/vendor: [mirror.acme.example/vendor]
`))
	columns := []string{"mine", "vendor", "hub", "vendor+hub", "none"}
	refs := make([]string, len(columns))
	for i, names := range columns {
		refs[i] = d.column(i, names)
	}
	for _, row := range []struct{ reference, selected, want string }{
		{"private-registry.example/a/b", "private-registry.example", "A R R R R"},
		{"docker.io/library/alpine", "docker.io", "R R A A R"},
		{"docker.io/acme2/x", "docker.io", "R R A A R"},
		{"docker.io/vendor/app", "docker.io/vendor", "R A R A R"},
		{"docker.io/vendorx/app", "docker.io", "R R A A R"},
		{"docker.io/vendor/legacy/app", "docker.io/vendor/legacy", "R R R R R"},
		{"mirror.acme.example/vendor/app", "mirror.acme.example/vendor", "R A R A R"},
		{"mirror.acme.example/vendor/legacy/a", "mirror.acme.example/vendor/legacy", "R R R R R"},
		{"mirror.acme.example/other/x", "", "R R R R R"},
		{"quay.io/x/y", "", "R R R R R"},
		{"registry-1.docker.io/vendor/app", "docker.io/vendor", "R A R A R"},
		{"DOCKER.IO:443/vendor/app", "docker.io/vendor", "R A R A R"},
	} {
		t.Run(strings.ReplaceAll(row.reference, "/", " "), func(t *testing.T) {
			t.Parallel()
			for i, want := range strings.Fields(row.want) {
				reason := why(want, columns[i])
				switch {
				case row.selected == "":
					reason = "no-scope"
				case strings.HasSuffix(row.selected, "/legacy"):
					reason = "rejected-by-policy"
				}
				o := d.cell(t, want, reason, refs[i], "--policy", policy, "--as", row.reference+":1.0")
				if got := o.field(t, "scope.scope"); got != row.selected {
					t.Errorf("%s selects %q, want %q", row.reference, got, row.selected)
				}
			}
		})
	}
}

func TestT3Composition(t *testing.T) {
	t.Parallel()
	d := newTables(t, map[string]*signatory{"P": newSignatory("P"), "C": newSignatory("C")})
	columns := []string{"P", "C", "P+C", "none"}
	refs := make([]string, len(columns))
	for i, names := range columns {
		refs[i] = d.column(i, names)
	}
	const child = "  docker.io/vendor: "
	for i, row := range []struct{ entry, want string }{ // want: a load error's reason stands for the whole row
		{"", "A R A R"},
		{child + "{trust: [C]}", "R A A R"},
		{child + "{trust: [C], inherit: true}", "A A A R"},
		{child + "{trust: [P, C]}", "A A A R"},
		{child + "{reject: true}", "R R R R"},
		{child + "{require: [[P], [C]]}", "R R A R"},
		{child + "{require: [[P], [C]], inherit: true}", "policy-inherit"},
		{child + "{trust: []}", "policy-rule"},
		{child + "[C]\n  docker.io:443/vendor: [P]", "policy-scope-duplicate"},
		{child + "[C]\n  docker.io/vendor/app: {trust: [C], inherit: true}", "R A A R"}, // the grandchild, through an exclusive child
	} {
		t.Run(row.entry, func(t *testing.T) {
			t.Parallel()
			policy := d.file(fmt.Sprintf("t3-%d.yaml", i), []byte("version: 1\nroots: {P: P.pem, C: C.pem}\nscopes:\n  docker.io: [P]\n"+row.entry+"\n"))
			args := []string{"--policy", policy, "--as", "docker.io/vendor/app:1.0"}
			if !strings.Contains(row.want, " ") {
				d.want(t, 3, row.want, append([]string{"verify", refs[0]}, args...)...)
				return
			}
			for i, want := range strings.Fields(row.want) {
				reason := why(want, columns[i])
				switch {
				case strings.Contains(row.entry, "reject"):
					reason = "rejected-by-policy"
				case strings.Contains(row.entry, "require") && want == "R" && columns[i] != "none":
					reason = "require-unsatisfied"
				}
				d.cell(t, want, reason, append([]string{refs[i]}, args...)...)
			}
		})
	}
}

// claiming is a JWS with claims; nil claims nothing, not even that there is no tag.
func (s *signatory) claiming(subject ocispec.Descriptor, claims []string) *jws {
	j := newJWS(s.key, s.chain, subject)
	if claims == nil {
		return j
	}
	var quoted []string
	for _, c := range claims {
		quoted = append(quoted, strconv.Quote(c))
	}
	j.payload = replaced(j.payload, "}}", `,"annotations":{"io.imprint.claims":`+strconv.Quote("["+strings.Join(quoted, ",")+"]")+`}}}`)
	return j
}

func TestT4Claims(t *testing.T) {
	t.Parallel()
	d := newTables(t, map[string]*signatory{"k": newSignatory("k")})
	modes := []string{"ignore", "if-present", "tag", "name"}
	policies := map[string]string{}
	for _, mode := range modes {
		policies[mode] = d.file(mode+".yaml", []byte(`version: 1
roots: {k: k.pem}
scopes:
  r.example: {trust: [k], claims: `+mode+`}
  evil.example: {trust: [k], claims: `+mode+`}
mirrors:
  r.example: [m.example]
`))
	}
	const byDigest = "@D"
	for i, row := range []struct {
		claims    []string
		reference string
		want      string
	}{
		{nil, "r.example/x:1.0", "A A R R"},
		{nil, "r.example/x@D", "A A A R"},
		{[]string{}, "r.example/x:1.0", "A R R R"},
		{[]string{}, "r.example/x@D", "A A A R"},
		{[]string{"r.example/x"}, "r.example/x:1.0", "A A R A"},
		{[]string{"1.0"}, "r.example/x:1.0", "A A A R"},
		{[]string{"1.0"}, "r.example/x:2.0", "A R R R"},
		{[]string{"1.0"}, "r.example/x@D", "A A A R"},
		{[]string{"r.example/x:1.0"}, "r.example/x:1.0", "A A A A"},
		{[]string{"r.example/x:1.0"}, "m.example/x:1.0", "A A A A"},
		{[]string{"r.example/x:1.0"}, "evil.example/x:1.0", "A R R R"},
		{[]string{"r.example/x:1.0"}, "evil.example/x@D", "A A A R"},
		{[]string{"r.example/x"}, "r.example/x@D", "A A A A"},
		// Of a mirror, too, a claim is of one repository: that of another one, or of what is beside it, covers nothing.
		{[]string{"r.example/y:1.0"}, "m.example/x:1.0", "A R R R"},
		{[]string{"m.example/x:1.0"}, "r.example/x:1.0", "A R R R"},
	} {
		t.Run(fmt.Sprintf("%q %s", row.claims, strings.ReplaceAll(row.reference, "/", " ")), func(t *testing.T) {
			t.Parallel()
			repo := fmt.Sprintf("t4-%d", i)
			ref := d.put(repo)
			subject := d.image.descriptor
			d.f.attach(repo, subject, jwsType, d.by["k"].claiming(subject, row.claims).bytes())
			as, digested := strings.CutSuffix(row.reference, byDigest)
			if digested {
				ref = strings.TrimSuffix(ref, ":v1") + "@" + subject.Digest.String()
			}
			for i, want := range strings.Fields(row.want) {
				reason := ""
				switch {
				case want == "A":
				case row.claims == nil:
					reason = "claims-missing"
				default:
					reason = "claim-not-covered"
				}
				d.cell(t, want, reason, ref, "--policy", policies[modes[i]], "--as", as)
			}
		})
	}
	t.Run("two digests claim one tag, and the tag is of the older", func(t *testing.T) {
		t.Parallel()
		older, newer := image("older"), image("newer")
		for _, a := range []artifact{newer, older} { // the tag is that of the last
			subject := d.f.putArtifact("t4-two", "1.0", a)
			j := d.by["k"].claiming(subject, []string{"1.0"})
			if a.descriptor.Digest == older.descriptor.Digest {
				i := strings.Index(j.protected, `signingTime":"`) + len(`signingTime":"`)
				j.protected = j.protected[:i] + time.Now().UTC().Add(-5*24*time.Hour).Format(time.RFC3339) + j.protected[i+len(time.RFC3339)-5:]
			}
			d.f.attach("t4-two", subject, jwsType, j.bytes())
		}
		ref := d.f.Host + "/t4-two:1.0"
		for i, want := range strings.Fields("A A A R") {
			reason := ""
			if want == "R" {
				reason = "claim-not-covered"
			}
			d.cell(t, want, reason, ref, "--policy", policies[modes[i]], "--as", "r.example/x:1.0")
		}
		args := []string{"verify", ref, "--policy", policies["tag"], "--as", "r.example/x:1.0"}
		if o := d.run(t, args...); !strings.Contains(o.stdout, "5 days ago") {
			t.Errorf("its age is not told:\n%s", o.stdout)
		}
		d.cell(t, "R", "too-old", append(args[1:], "--max-age", "4d")...)
	})
}
