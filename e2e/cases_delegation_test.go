package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// Delegation documents through the command and against a registry: who may issue them, what they grant, and what an attacker who
// serves them can do.

const delegationType = "application/vnd.imprint.delegation.v1+json"

// An office is a desk of tables with those who issue delegation documents.
type office struct {
	*tables
	documents string    // repository of the documents, in the registry
	opened    time.Time // what documents of hand go by, so that one made twice is the same
}

func newOffice(t testing.TB) *office {
	t.Helper()
	ca := newSignatory("hub-ca", ofOrganization("US", "CA", "Docker", "release"))
	issuer := &signatory{root: ca.root, key: certtest.Key("P-256")}
	issuer.chain = ca.root.Chain(ca.root.Leaf(issuer.key.Public(), "delegations", ofOrganization("US", "CA", "Docker", "delegations")))
	o := &office{newTables(t, map[string]*signatory{
		"mine": newSignatory("mine"), "vendor": newSignatory("vendor", ofOrganization("DE", "BE", "Vendor GmbH", "vendor")), "hub": newSignatory("hub"),
		"hub-ca": ca, "acme": newSignatory("acme"), "other": newSignatory("other"),
	}), "trust/delegations", time.Now().UTC()}
	o.by["issuer"] = issuer
	o.file("issuer.key", certtest.KeyPEM(issuer.key))
	o.file("issuer.pem", certtest.PEM(issuer.chain...))
	return o
}

func (o *office) at() string { return o.f.Host + "/" + o.documents + ":v1" }

// policy is the consumer's of T2, with a document at the registry.
func (o *office) policy(name, more string) string {
	return o.file(name, []byte(`version: 1
roots:
  mine:        {certificates: [mine.pem]}
  vendor:      {certificates: [vendor.pem], identities: ["C=DE, ST=BE, O=Vendor GmbH"]}
  hub:         {certificates: [hub.pem]}
  hub-ca:      {certificates: [hub-ca.pem]}
scopes:
  private-registry.example: [mine]
  docker.io:
    trust: [hub]
    delegate: {root: hub-ca, from: registry, at: "`+o.at()+`", identities: ["C=US, ST=CA, O=Docker, CN=delegations"], min-version: 1`+more+`}
  docker.io/vendor: [vendor]             # exclusive: neither hub nor delegated keys
  docker.io/vendor/legacy: {reject: true}
mirrors:
  docker.io/vendor: [mirror.acme.example/vendor]
  docker.io/acme2: [mirror.acme.example/acme2]
`))
}

// make makes a document with the command.
func (o *office) make(t testing.TB, out string, args ...string) string {
	t.Helper()
	out = filepath.Join(o.dir, out)
	o.want(t, 0, "", append([]string{"policy", "delegate", "make", "--out", out, "--overwrite"}, args...)...)
	return out
}

// grant makes the document that grants docker.io/acme2 to acme.
func (o *office) grant(t testing.TB, version string) string {
	t.Helper()
	return o.make(t, "delegations.json", "--scope", "docker.io", "--grant", "docker.io/acme2="+filepath.Join(o.dir, "acme.pem"), "--expires", "90d", "--version", version)
}

// publish is the arguments of publishing a document as its issuer.
func (o *office) publish(file string, more ...string) []string {
	return append([]string{"policy", "delegate", "publish", file, o.at(), "--key", "file:" + filepath.Join(o.dir, "issuer.key"), "--chain", filepath.Join(o.dir, "issuer.pem")}, more...)
}

// serve stands any bytes where the document is, signed by the names, whatever it says.
func (o *office) serve(body []byte, by ...string) ocispec.Descriptor {
	o.f.putBlob(body)
	o.f.putBlob([]byte("{}"))
	empty := ocispec.DescriptorEmptyJSON
	empty.Data = nil
	m, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "artifactType": delegationType,
		"config": empty, "layers": []ocispec.Descriptor{describe(delegationType, body)},
	})
	if err != nil {
		panic(err)
	}
	d := o.f.put(o.documents, "v1", ocispec.MediaTypeImageManifest, m)
	for _, name := range by {
		s := o.by[name]
		o.f.attach(o.documents, d, jwsType, newJWS(s.key, s.chain, d).bytes())
	}
	return d
}

// text is a document of hand: a version, from when until when, and the rest of it.
func (o *office) text(version string, issued, expires time.Duration, scope, grants string) []byte {
	at := func(d time.Duration) string { return o.opened.Add(d).Format("2006-01-02T15:04:05Z") }
	cert := base64.StdEncoding.EncodeToString(o.by["acme"].root.Certificate.Raw)
	return []byte(strings.ReplaceAll(fmt.Sprintf(`{"version":%s,"issued":"%s","expires":"%s","scope":"%s","grants":[%s]}`,
		version, at(issued), at(expires), scope, grants), "$CERT", `"`+cert+`"`))
}

const day = 24 * time.Hour

// acme2 is the one grant of most documents.
const acme2 = `{"scope":"docker.io/acme2","certificates":[$CERT]}`

func (o *office) verify(t testing.TB, code int, verdict, reason, ref string, args ...string) outcome {
	t.Helper()
	out := o.run(t, append(append([]string{"verify", ref}, args...), "-o", "json")...)
	if out.code != code || out.field(t, "verdict") != verdict || out.field(t, "reason") != reason {
		t.Errorf("imprint verify %s %s: exit %d %s %s, want %d %s %s\n%s%s", ref, strings.Join(args, " "), out.code, out.field(t, "verdict"), out.field(t, "reason"),
			code, verdict, reason, out.stdout, out.stderr)
	}
	return out
}

// The column of T2 for the key that a document grants docker.io/acme2.
func TestT2DelegatedKey(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.want(t, 0, "", o.publish(o.grant(t, "1"))...)
	policy := o.policy("consumer.yaml", "")
	byGranted, byBoth := o.put("granted", "acme"), o.put("both", "acme", "hub")
	for reference, want := range map[string]string{
		"private-registry.example/a/b":        "no-trusted-signature",
		"docker.io/library/alpine":            "no-trusted-signature",
		"docker.io/acme2/x":                   "",
		"docker.io/acme22/x":                  "no-trusted-signature",
		"registry-1.docker.io/acme2/x":        "",
		"DOCKER.IO:443/acme2/x":               "",
		"mirror.acme.example/acme2/x":         "",
		"docker.io/vendor/app":                "no-trusted-signature",
		"docker.io/vendorx/app":               "no-trusted-signature",
		"docker.io/vendor/legacy/app":         "rejected-by-policy",
		"mirror.acme.example/vendor/app":      "no-trusted-signature",
		"mirror.acme.example/vendor/legacy/a": "rejected-by-policy",
		"mirror.acme.example/other/x":         "no-scope",
		"quay.io/x/y":                         "no-scope",
	} {
		t.Run(strings.ReplaceAll(reference, "/", " "), func(t *testing.T) {
			t.Parallel()
			code, verdict := 1, "rejected"
			if want == "" {
				code, verdict = 0, "accepted"
			}
			out := o.verify(t, code, verdict, want, byGranted, "--policy", policy, "--as", reference+":1.0")
			if want == "" {
				if got := out.field(t, "signatures.0.root"); got != "hub-ca:docker.io/acme2" {
					t.Errorf("accepted by %q", got)
				}
				if got := out.field(t, "delegation.version"); got != "1" {
					t.Errorf("version %q", got)
				}
			}
		})
	}
	// The policy's own key stands beside it (D5), and nobody needs the document for that.
	before := o.f.Count(func(r regtest.Request) bool { return strings.Contains(r.Path, o.documents) })
	o.verify(t, 0, "accepted", "", byBoth, "--policy", policy, "--as", "docker.io/library/alpine:1.0")
	if after := o.f.Count(func(r regtest.Request) bool { return strings.Contains(r.Path, o.documents) }); after != before {
		t.Errorf("%d requests for a document that nothing depended on", after-before)
	}
}

// The rows of T5, an image signed by the granted key.
func TestT5Delegation(t *testing.T) {
	t.Parallel()
	valid := func(o *office) []byte { return o.text("3", -time.Hour, 90*day, "docker.io", acme2) }
	for name, c := range map[string]struct {
		body    func(*office) []byte
		by      string // who signs the document; "": the issuer
		policy  string
		as      string
		seen    func(*office) []byte // what an earlier run was shown
		reason  string
		verdict string // "": rejected, or accepted without a reason
	}{
		"valid, granted":               {body: valid},
		"valid, version seen before":   {body: valid, seen: valid},
		"valid, newer than seen":       {body: valid, seen: func(o *office) []byte { return o.text("2", -2*time.Hour, 90*day, "docker.io", acme2) }},
		"valid, not granted":           {body: valid, as: "docker.io/acme3/app:1", reason: "no-trusted-signature"},
		"signed by R, wrong identity":  {body: valid, by: "hub-ca", reason: "delegation-untrusted"},
		"signed by another root":       {body: valid, by: "hub", reason: "delegation-untrusted"},
		"signed by the granted key":    {body: valid, by: "acme", reason: "delegation-untrusted"},
		"unsigned":                     {body: valid, by: "-", reason: "delegation-untrusted"},
		"expired":                      {body: func(o *office) []byte { return o.text("3", -10*day, -time.Hour, "docker.io", acme2) }, reason: "delegation-expired"},
		"issued tomorrow":              {body: func(o *office) []byte { return o.text("3", day, 10*day, "docker.io", acme2) }, reason: "delegation-issued-in-the-future"},
		"version lower than seen":      {body: valid, seen: func(o *office) []byte { return o.text("4", -time.Hour, 90*day, "docker.io", acme2) }, reason: "delegation-rollback"},
		"version lower than asked for": {body: valid, policy: ", min-version: 4", reason: "delegation-rollback"},
		"same version, other digest":   {body: valid, seen: func(o *office) []byte { return o.text("3", -2*time.Hour, 90*day, "docker.io", acme2) }, reason: "delegation-equivocation"},
		"a grant outside its scope": {body: func(o *office) []byte {
			return o.text("3", -time.Hour, 90*day, "docker.io", acme2+`,{"scope":"quay.io/x","certificates":[$CERT]}`)
		}, reason: "delegation-scope"},
		"its scope outside the policy's": {body: func(o *office) []byte {
			return o.text("3", -time.Hour, 90*day, "*", acme2)
		}, reason: "delegation-scope"},
		"a scope twice": {body: func(o *office) []byte { return o.text("3", -time.Hour, 90*day, "docker.io", acme2+","+acme2) }, reason: "delegation-malformed"},
		"404":           {reason: "delegation-unavailable", verdict: "undetermined"},
		"an exclusive scope": {body: func(o *office) []byte {
			return o.text("3", -time.Hour, 90*day, "docker.io", strings.ReplaceAll(acme2, "acme2", "vendor"))
		}, as: "docker.io/vendor/app:1", reason: "no-trusted-signature"},
		"P15 a member twice": {body: func(o *office) []byte {
			return []byte(replaced(string(valid(o)), `"version":3`, `"version":3,"version":4`))
		}, reason: "delegation-malformed"},
		"P15 version 2^64": {body: func(o *office) []byte { return o.text("18446744073709551616", -time.Hour, 90*day, "docker.io", acme2) }, reason: "delegation-malformed"},
		"P15 expires 9999": {body: func(o *office) []byte {
			return []byte(replaced(string(valid(o)), o.opened.Add(90*day).Format(`"expires":"2006-01-02T`), `"expires":"9999-12-31T`))
		}, reason: "delegation-malformed"},
		"P15 expires in 100 years": {body: func(o *office) []byte { return o.text("3", -time.Hour, 100*365*day, "docker.io", acme2) }, reason: "delegation-malformed"},
		"P15 scope *": {body: func(o *office) []byte {
			return o.text("3", -time.Hour, 90*day, "docker.io", `{"scope":"*","certificates":[$CERT]}`)
		}, reason: "delegation-scope"},
		"P15 trailing data": {body: func(o *office) []byte { return append(valid(o), "{}"...) }, reason: "delegation-malformed"},
		"P15 no JSON":       {body: func(*office) []byte { return []byte("<html>") }, reason: "delegation-malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			image, own := o.put("image", "acme"), o.put("own", "hub")
			if c.as == "" {
				c.as = "docker.io/acme2/app:1"
			}
			policy := o.policy("policy.yaml", "")
			if c.policy != "" {
				b, err := os.ReadFile(policy)
				if err != nil {
					t.Fatal(err)
				}
				policy = o.file("policy.yaml", []byte(replaced(string(b), ", min-version: 1", c.policy)))
			}
			args := []string{"--policy", policy, "--as", c.as}
			if c.seen != nil {
				o.serve(c.seen(o), "issuer")
				o.verify(t, 0, "accepted", "", image, args...)
			}
			by := c.by
			if by == "" {
				by = "issuer"
			}
			switch {
			case c.body == nil:
			case by == "-":
				o.serve(c.body(o))
			default:
				o.serve(c.body(o), by)
			}
			code, verdict := 1, "rejected"
			switch {
			case c.verdict == "undetermined":
				code, verdict = 4, c.verdict
			case c.reason == "":
				code, verdict = 0, "accepted"
			}
			o.verify(t, code, verdict, c.reason, image, args...)
			// Whatever becomes of the document, what the scope trusts by itself stays trusted (D5), and is nowhere widened.
			if !strings.Contains(c.as, "vendor") {
				o.verify(t, 0, "accepted", "", own, args...)
			}
		})
	}
}

// D9, S24: whatever keeps the document away, it is never taken for "no delegation", and never widens trust.
func TestD9DocumentKeptAway(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args  []string
		spoil func(*office)
	}{
		"offline": {args: []string{"--offline"}, spoil: func(o *office) { o.serve(o.text("3", -time.Hour, 90*day, "docker.io", acme2), "issuer") }},
		"401": {spoil: func(o *office) {
			o.f.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "trust/delegations") {
					w.WriteHeader(http.StatusUnauthorized)
				}
				return strings.Contains(r.URL.Path, "trust/delegations")
			})
		}},
		"the document's bytes are others": {spoil: func(o *office) {
			body := o.text("3", -time.Hour, 90*day, "docker.io", acme2)
			o.serve(body, "issuer")
			d := describe(delegationType, body).Digest
			o.f.mu.Lock()
			o.f.blobs[d] = []byte(strings.Replace(string(body), "acme2", "acme3", 1))
			o.f.mu.Unlock()
		}},
		"its bytes are gone": {spoil: func(o *office) {
			body := o.text("3", -time.Hour, 90*day, "docker.io", acme2)
			o.serve(body, "issuer")
			o.f.mu.Lock()
			delete(o.f.blobs, describe(delegationType, body).Digest)
			o.f.mu.Unlock()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			image, own, policy := o.put("image", "acme"), o.put("own", "hub"), o.policy("policy.yaml", "")
			c.spoil(o)
			args := append([]string{"--policy", policy, "--as", "docker.io/acme2/app:1"}, c.args...)
			o.verify(t, 4, "undetermined", "delegation-unavailable", image, args...)
			o.verify(t, 0, "accepted", "", own, args...)
			out := o.want(t, 4, "delegation-unavailable", append([]string{"verify", image}, args...)...)
			if out.code != 4 {
				t.Error(out.stderr)
			}
		})
	}
}

// D8 through the command: where the memory lies, and that it is never begun anew.
func TestD8StateOfTheCommand(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	image, own, policy := o.put("image", "acme"), o.put("own", "hub"), o.policy("policy.yaml", "")
	args := []string{"--policy", policy, "--as", "docker.io/acme2/app:1"}
	o.serve(o.text("5", -time.Hour, 90*day, "docker.io", acme2), "issuer")
	state := filepath.Join(o.dir, "home", ".local", "state", "imprint", "delegations.json")
	o.verify(t, 0, "accepted", "", own, args...)
	if _, err := os.Stat(state); err == nil {
		t.Error("what nothing depended on was taken down")
	}
	o.verify(t, 0, "accepted", "", image, args...)
	b, err := os.ReadFile(state)
	if err != nil || !strings.Contains(string(b), `"version": 5`) {
		t.Fatalf("%s, %v", b, err)
	}
	o.serve(o.text("4", -time.Hour, 90*day, "docker.io", acme2), "issuer")
	o.verify(t, 1, "rejected", "delegation-rollback", image, args...)
	// Another place begins for itself; IMPRINT_STATE comes before XDG_STATE_HOME.
	elsewhere := filepath.Join(o.dir, "elsewhere")
	home := o.env
	o.env = append(home[:len(home):len(home)], "XDG_STATE_HOME="+filepath.Join(o.dir, "xdg"), "IMPRINT_STATE="+elsewhere)
	o.verify(t, 0, "accepted", "", image, args...)
	if _, err := os.Stat(filepath.Join(elsewhere, "delegations.json")); err != nil {
		t.Error(err)
	}
	o.env = append(home[:len(home):len(home)], "XDG_STATE_HOME="+filepath.Join(o.dir, "xdg"))
	o.verify(t, 0, "accepted", "", image, args...)
	if _, err := os.Stat(filepath.Join(o.dir, "xdg", "imprint", "delegations.json")); err != nil {
		t.Error(err)
	}
	o.env = home
	// Torn in the middle: rejected, now and later, and left as it is.
	if err := os.WriteFile(state, b[:len(b)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		o.verify(t, 1, "rejected", "delegation-state", image, args...)
	}
	o.verify(t, 0, "accepted", "", own, args...)
	if left, err := os.ReadFile(state); err != nil || len(left) != len(b)/2 {
		t.Errorf("%s, %v", left, err)
	}
	// What cannot be taken down is not believed.
	if err := os.RemoveAll(filepath.Dir(state)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Dir(state), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o.verify(t, 4, "undetermined", "delegation-state", image, args...)
	o.verify(t, 0, "accepted", "", own, args...)
}

// A batch of a thousand asks for the document once.
func TestDelegationOfABatch(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.put("team/image", "acme")
	o.serve(o.text("1", -time.Hour, 90*day, o.f.Host, strings.ReplaceAll(acme2, "docker.io/acme2", o.f.Host+"/team")), "issuer")
	policy := o.file("policy.yaml", []byte("version: 1\nroots: {hub: hub.pem, hub-ca: hub-ca.pem}\nscopes:\n  "+o.f.Host+`:
    trust: [hub]
    delegate: {root: hub-ca, from: registry, at: "`+o.at()+`", identities: ["CN=delegations"]}
`))
	var list strings.Builder
	for range 1000 {
		fmt.Fprintln(&list, o.f.Host+"/team/image:v1")
	}
	out := o.run(t, "verify", "--policy", policy, "--batch", o.file("list", []byte(list.String())), "-o", "json")
	if out.code != 0 || strings.Count(out.stdout, `"verdict":"accepted"`) != 1000 {
		t.Fatalf("exit %d, %d accepted: %s", out.code, strings.Count(out.stdout, `"verdict":"accepted"`), out.stderr)
	}
	if n := o.f.Count(func(r regtest.Request) bool { return strings.Contains(r.Path, o.documents) }); n > 5 { // document, list, signature, its envelope, bytes
		t.Errorf("%d requests for the document", n)
	}
}

// S09: no flag and no document takes a key from a registry that no root of the policy answers for.
func TestS09NoTrustOnFirstUse(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	image := o.put("image", "acme")
	o.serve(o.text("1", -time.Hour, 90*day, "docker.io", acme2), "acme")
	policy := o.policy("policy.yaml", "")
	for range 2 { // the first contact stores nothing that the second would believe
		o.verify(t, 1, "rejected", "delegation-untrusted", image, "--policy", policy, "--as", "docker.io/acme2/app:1")
	}
	if _, err := os.Stat(filepath.Join(o.dir, "home", ".local", "state", "imprint", "delegations.json")); err == nil {
		t.Error("an untrusted document was taken down")
	}
}

// S10, R24: a document made, signed and published by the command; notation-go accepts its signature; it is granted under the CA that the
// policy pins, and under no other.
func TestS10PublishDelegation(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	file := o.grant(t, "1")
	published := o.want(t, 0, "", o.publish(file)...)
	if err := judge.Verify(t.Context(), o.at(), o.by["issuer"].root.Certificate); err != nil {
		t.Errorf("notation-go: %v", err)
	}
	if got := published.field(t, "delegation.version"); got != "1" {
		t.Errorf("version %q", got)
	}
	again := o.want(t, 0, "", o.publish(file)...)
	if n := again.field(t, "signed.written"); n != "0" && n != "" {
		t.Errorf("signed again: %s", n)
	}
	image, policy := o.put("image", "acme"), o.policy("policy.yaml", "")
	args := []string{"--policy", policy, "--as", "docker.io/acme2/app:1"}
	o.verify(t, 0, "accepted", "", image, args...)

	// The next version: one more grant, one less; the tag moves by itself.
	next := o.make(t, "next.json", "--from", o.at(), "--grant", "docker.io/other="+filepath.Join(o.dir, "other.pem"), "--revoke", "docker.io/acme2")
	o.want(t, 0, "", o.publish(next)...)
	o.verify(t, 1, "rejected", "no-trusted-signature", image, args...)
	o.verify(t, 0, "accepted", "", o.put("others", "other"), "--policy", policy, "--as", "docker.io/other/app:1")
	// And never back, nor to another document of that version.
	o.want(t, 1, "delegation-not-newer", o.publish(file)...)
	rival := o.make(t, "rival.json", "--from", file, "--expires", "10d")
	o.want(t, 1, "delegation-not-newer", o.publish(rival)...)
	if out := o.want(t, 0, "", "policy", "delegate", "inspect", o.at()); out.field(t, "version") != "2" {
		t.Errorf("the tag moved: %s", out.stdout)
	}
	// A dry run writes nothing.
	writes := o.f.Writes()
	o.want(t, 0, "", o.publish(o.make(t, "third.json", "--from", next), "--dry-run")...)
	if n := o.f.Writes(); n != writes {
		t.Errorf("%d writes in a dry run", n-writes)
	}
}

// S20: each key has its scope inside that of the root.
func TestS20GrantOutsideVoidsTheDocument(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.want(t, 3, "delegation-scope", "policy", "delegate", "make", "--scope", "docker.io/team", "--expires", "90d", "--out", filepath.Join(o.dir, "x.json"),
		"--grant", "docker.io/acme2="+filepath.Join(o.dir, "acme.pem"))
	if _, err := os.Stat(filepath.Join(o.dir, "x.json")); err == nil {
		t.Error("it was written all the same")
	}
	o.serve(o.text("1", -time.Hour, 90*day, "docker.io/team", `{"scope":"docker.io/team/a","certificates":[$CERT]},`+acme2), "issuer")
	policy := o.policy("policy.yaml", "")
	image := o.put("image", "acme")
	for _, as := range []string{"docker.io/acme2/app:1", "docker.io/team/a:1"} {
		o.verify(t, 1, "rejected", "delegation-scope", image, "--policy", policy, "--as", as)
	}
}

// R16: copy takes a document with its signature along; from the copy it counts as from the original, without a network.
func TestR16CopyMovesDelegation(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.want(t, 0, "", o.publish(o.grant(t, "1"))...)
	image := o.put("image", "acme")
	policyFrom := func(name, from string) string {
		return o.file(name, []byte("version: 1\nroots: {hub: hub.pem, hub-ca: hub-ca.pem}\nscopes:\n  docker.io:\n    trust: [hub]\n    delegate: {root: hub-ca, from: \""+
			from+"\", identities: [\"CN=delegations\"], at: \""+o.at()+"\"}\n"))
	}
	for name, to := range map[string]string{"a layout": "oci:" + filepath.Join(o.dir, "delegations"), "an archive": "oci-archive:" + filepath.Join(o.dir, "delegations.tar")} {
		o.want(t, 0, "", "copy", o.at(), to)
		policy := policyFrom(strings.ReplaceAll(name, " ", "-")+".yaml", "file:"+filepath.Base(to))
		out := o.verify(t, 0, "accepted", "", image, "--policy", policy, "--as", "docker.io/acme2/app:1", "--offline")
		if !strings.HasPrefix(out.field(t, "delegation.at"), "file:delegations") {
			t.Errorf("%s: from %s", name, out.field(t, "delegation.at"))
		}
		if out := o.want(t, 0, "", "policy", "delegate", "inspect", to); out.field(t, "version") != "1" || !strings.Contains(out.stdout, "CN=delegations") {
			t.Errorf("%s: %s", name, out.stdout)
		}
		before := o.want(t, 0, "", "policy", "check", "--policy", policy).field(t, "policySha256")
		if before == "" {
			before = o.want(t, 0, "", "policy", "check", "--policy", policy).field(t, "digest")
		}
		if before == "" {
			t.Errorf("%s: the policy has no digest", name)
		}
	}
	// To another registry, where notation-go finds it too.
	second := newFake(t)
	to := second.Host + "/mirror/delegations:v1"
	o.want(t, 0, "", "copy", o.at(), to)
	if err := judge.Verify(t.Context(), to, o.by["issuer"].root.Certificate); err != nil {
		t.Errorf("notation-go at the copy: %v", err)
	}
}

// What was typed wrong is said, and nothing is written.
func TestDelegateMakeRefuses(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	pem := filepath.Join(o.dir, "acme.pem")
	first := o.grant(t, "7")
	o.file("leaf.pem", certtest.PEM(o.by["acme"].chain[0]))
	o.file("none.pem", []byte("none"))
	grant := "docker.io/acme2=" + pem
	for name, c := range map[string]struct {
		reason string
		args   []string
	}{
		"no scope":                    {"usage", []string{"--grant", grant, "--expires", "9d"}},
		"no expires":                  {"usage", []string{"--scope", "docker.io", "--grant", grant}},
		"no grant":                    {"usage", []string{"--scope", "docker.io", "--expires", "9d"}},
		"401 days":                    {"delegation-malformed", []string{"--scope", "docker.io", "--grant", grant, "--expires", "401d"}},
		"a grant without a file":      {"usage", []string{"--scope", "docker.io", "--grant", "docker.io/acme2", "--expires", "9d"}},
		"a file that is not there":    {"usage", []string{"--scope", "docker.io", "--grant", "docker.io/acme2=gone.pem", "--expires", "9d"}},
		"a file without certificates": {"malformed-certificates", []string{"--scope", "docker.io", "--grant", "docker.io/acme2=" + filepath.Join(o.dir, "none.pem"), "--expires", "9d"}},
		"a leaf":                      {"delegation-malformed", []string{"--scope", "docker.io", "--grant", "docker.io/acme2=" + filepath.Join(o.dir, "leaf.pem"), "--expires", "9d"}},
		"an alias":                    {"delegation-malformed", []string{"--scope", "index.docker.io", "--grant", "index.docker.io/acme2=" + pem, "--expires", "9d"}},
		"an identity for whom":        {"usage", []string{"--scope", "docker.io", "--grant", grant, "--grant", "docker.io/b=" + pem, "--identity", "O=Acme", "--expires", "9d"}},
		"no identity":                 {"delegation-malformed", []string{"--scope", "docker.io", "--grant", grant, "--identity", "nobody", "--expires", "9d"}},
		"version 0":                   {"usage", []string{"--scope", "docker.io", "--grant", grant, "--expires", "9d", "--version", "0"}},
		"version 2^64":                {"usage", []string{"--scope", "docker.io", "--grant", grant, "--expires", "9d", "--version", "18446744073709551616"}},
		"version 1x":                  {"usage", []string{"--scope", "docker.io", "--grant", grant, "--expires", "9d", "--version", "1x"}},
		"a version as before":         {"usage", []string{"--from", first, "--version", "7"}},
		"another scope than before":   {"usage", []string{"--from", first, "--scope", "quay.io"}},
		"revoking nothing":            {"usage", []string{"--scope", "docker.io", "--grant", grant, "--expires", "9d", "--revoke", "docker.io/x"}},
		"revoking what is not there":  {"usage", []string{"--from", first, "--revoke", "docker.io/acme22"}},
		"from what is no document":    {"delegation-malformed", []string{"--from", pem}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(o.dir, strings.ReplaceAll(name, " ", "-")+".out")
			got := o.want(t, 3, c.reason, append([]string{"policy", "delegate", "make", "--out", out}, c.args...)...)
			if err := oneError("", withoutWarnings(got.stderr)); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(out); err == nil {
				t.Error("something was written")
			}
		})
	}
	t.Run("never over another file", func(t *testing.T) {
		t.Parallel()
		before, err := os.ReadFile(first)
		if err != nil {
			t.Fatal(err)
		}
		o.want(t, 3, "usage", "policy", "delegate", "make", "--from", first, "--out", first)
		if after, err := os.ReadFile(first); err != nil || string(after) != string(before) {
			t.Errorf("%v", err)
		}
	})
	t.Run("to standard output, the same bytes", func(t *testing.T) {
		t.Parallel()
		o2 := *o.person
		now := time.Now()
		o2.now = func() time.Time { return now }
		args := []string{"policy", "delegate", "make", "--scope", "docker.io", "--grant", grant, "--identity", "docker.io/acme2=CN=acme", "--expires", "400d"}
		one := o2.run(t, args...)
		two := o2.run(t, args...)
		if one.code != 0 || one.stdout != two.stdout || !json.Valid([]byte(one.stdout)) || !strings.Contains(one.stdout, `"CN=acme"`) {
			t.Errorf("exit %d\n%s%s", one.code, one.stdout, one.stderr)
		}
	})
}

// What inspect shows: all there is to compare, and never that it is trusted.
func TestDelegateInspect(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.want(t, 0, "", o.publish(o.grant(t, "1"))...)
	for _, word := range []string{o.at(), filepath.Join(o.dir, "delegations.json")} {
		out := o.run(t, "policy", "delegate", "inspect", word)
		if out.code != 0 || !strings.Contains(out.stdout, certchain.Thumbprint(o.by["acme"].root.Certificate)) || strings.Contains(strings.ToLower(out.stdout), "trusted") {
			t.Errorf("exit %d\n%s%s", out.code, out.stdout, out.stderr)
		}
	}
	if out := o.run(t, "policy", "delegate", "inspect", o.at()); !strings.Contains(out.stdout, "CN=delegations") {
		t.Errorf("who signed it is not said:\n%s", out.stdout)
	}
	// What a stranger put up is shown, with who signed it, and nothing taken down.
	o.serve(o.text("9", -time.Hour, 90*day, "docker.io", acme2), "acme")
	if out := o.want(t, 0, "", "policy", "delegate", "inspect", o.at()); out.field(t, "version") != "9" || out.field(t, "signatures.0.identity") == "" {
		t.Errorf("%s", out.stdout)
	}
	o.serve([]byte("{}"), "issuer")
	o.want(t, 4, "delegation-malformed", "policy", "delegate", "inspect", o.at())
	o.want(t, 4, "delegation-malformed", "policy", "delegate", "inspect", o.put("image"))
	o.want(t, 4, "not-found", "policy", "delegate", "inspect", o.f.Host+"/nothing:v1")
	o.want(t, 3, "usage", "policy", "delegate", "inspect", "gone.json")
}
