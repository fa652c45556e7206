package e2e

import (

	//nolint:staticcheck // a certificate of a DSA key is what must be refused

	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

func TestCasesSignFlags(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	run := func(name string, test func(t *testing.T, d *desk)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newDesk(t, f, t.Name()))
		})
	}

	for name, value := range map[string]string{"markup": "a <b> & 'c' \"d\"", "line separators": "a\u2028b\u2029c", "control": "a\x01b\x1b[31m\n\x7f", "astral": "\U0001F9ED", "empty": ""} {
		run("A16 "+name+" round-trips", func(t *testing.T, d *desk) {
			for _, format := range []string{"jws", "cose"} {
				d.want(t, 0, "", d.sign("-m", "key="+value, "--signature-format", format, "--again")...)
			}
			o := d.want(t, 0, "", "verify", d.ref, "--root", d.at("root.pem"))
			for i := range 2 {
				if got := o.field(t, fmt.Sprintf("signatures.%d.metadata.key", i)); got != value {
					t.Errorf("metadata is %q, want %q", got, value)
				}
			}
		})
	}
	for name, pairs := range map[string][]string{
		"NUL":                     {"key=a\x00b"},
		"invalid UTF-8":           {"key=a\xffb"},
		"invalid UTF-8 in a name": {"k\xff=a"},
		"a mebibyte":              {"key=" + strings.Repeat("a", 1<<20)},
		"10,000 keys": slices.Collect(func(yield func(string) bool) {
			for i := range 10_000 {
				if !yield(fmt.Sprintf("key%d=value", i)) {
					return
				}
			}
		}),
		"a reserved name":    {"io.cncf.notary.x=1"},
		"imprint's own name": {"io.imprint.claims=[]"},
	} {
		run("A16 "+name, func(t *testing.T, d *desk) {
			var args []string
			for _, p := range pairs {
				args = append(args, "-m", p)
			}
			d.refused(t, 3, "metadata-invalid", d.sign(args...)...)
		})
	}
	run("A16 no name", func(t *testing.T, d *desk) { d.refused(t, 3, "usage", d.sign("-m", "=a")...) })
	run("A16 no value", func(t *testing.T, d *desk) { d.refused(t, 3, "usage", d.sign("-m", "key")...) })

	for name, args := range map[string][]string{
		"path": {"--claim", "../x"}, "space": {"--claim", "1 .0"}, "too long": {"--claim", strings.Repeat("a", 129)}, "empty": {"--claim", ""},
		"leading dot": {"--claim", ".1"}, "a slash": {"--claim", "registry.example/app:1"}, "not ASCII": {"--claim", "１"},
		"no host": {"--claim-name", "app:1"}, "a digest": {"--claim-name", "registry.example/app@sha256:" + strings.Repeat("0", 64)},
		"upper case": {"--claim-name", "registry.example/App:1"}, "userinfo": {"--claim-name", "docker.io@evil.example/app:1"},
		"with --no-claims": {"--no-claims", "--claim", "1"},
	} {
		reason := "claim-invalid"
		if slices.Contains(args, "--no-claims") || slices.Contains(args, "") {
			reason = "usage" // the flags exclude each other, whatever the claim; and no flag that takes a list is empty
		}
		run("A17 "+name, func(t *testing.T, d *desk) {
			d.refused(t, 3, reason, d.sign(args...)...)
		})
	}
	run("A17 names are canonical", func(t *testing.T, d *desk) {
		o := d.want(t, 0, "", d.sign("--claim-name", "Index.Docker.io/library/app:1", "--claim-name", "registry.example:443/app", "--claim", "b", "--claim", "a", "--claim", "b")...)
		if got, want := o.field(t, "claims"), `["a","b","docker.io/library/app:1","registry.example/app","v1"]`; got != want {
			t.Errorf("claims %s, want %s", got, want)
		}
	})

	for _, expiry := range []string{"0", "0s", "-1h", "9999999h9999999999999d", "9999999h", "9999999999h", "soon", "", "1e3h"} {
		run("A18 expiry "+expiry, func(t *testing.T, d *desk) {
			d.refused(t, 3, "usage", d.sign("--expiry="+expiry)...)
		})
	}
	run("A18 expiry after the leaf's end warns", func(t *testing.T, d *desk) {
		o := d.want(t, 0, "", d.sign("--expiry", "87600h")...)
		if !strings.Contains(o.stderr, "warning: ") || !strings.Contains(o.stderr, "expir") {
			t.Errorf("no warning: %s", o.stderr)
		}
	})

	for _, year := range []int{1970, 2100} {
		run(fmt.Sprintf("A19 the clock says %d", year), func(t *testing.T, d *desk) {
			d.now = func() time.Time { return time.Date(year, 1, 2, 3, 4, 5, 0, time.UTC) }
			d.env = append(d.env, "SOURCE_DATE_EPOCH=1700000000")
			d.refused(t, 3, "clock", d.sign()...)
		})
	}
	run("A19 SOURCE_DATE_EPOCH is not the signing time", func(t *testing.T, d *desk) {
		d.env = append(d.env, "SOURCE_DATE_EPOCH=1")
		o := d.want(t, 0, "", d.sign()...)
		if at, err := time.Parse(time.RFC3339, o.field(t, "signedAt")); err != nil || time.Since(at) > time.Hour {
			t.Errorf("signed at %s, %v", at, err)
		}
	})

	run("A21 a claim that another digest holds by the same identity", func(t *testing.T, d *desk) {
		d.want(t, 0, "", d.sign("--claim", "1.0")...)
		f.putArtifact(d.repo, "1.0", image(d.repo)) // the tag, at the first digest
		other := f.putArtifact(d.repo, "v2", image("other "+d.repo))
		before := d.writes()
		d.ref = f.Host + "/" + d.repo + "@" + other.Digest.String()
		d.want(t, 1, "claim-moves", d.sign("--claim", "1.0")...)
		d.want(t, 1, "claim-moves", d.sign("--claim-name", d.f.Host+"/"+d.repo+":1.0")...)
		d.want(t, 1, "claim-moves", d.sign("--claim", "1.0", "--move", "2.*")...)
		d.want(t, 3, "usage", d.sign("--claim", "1.0", "--move", "[")...)
		d.env = append(d.env, "IMPRINT_MOVE=1.0")
		d.want(t, 1, "claim-moves", d.sign("--claim", "1.0")...)
		if n := d.writes(); n != before {
			t.Errorf("%d writes", n-before)
		}
		d.want(t, 0, "", d.sign("--claim", "1.0", "--move", "1.*")...)
	})
	run("A22 signing twice", func(t *testing.T, d *desk) {
		d.want(t, 0, "", d.sign()...)
		before := d.writes()
		o := d.want(t, 0, "", d.sign()...)
		if o.field(t, "written") != "0" || o.field(t, "alreadySigned") != "1" || o.field(t, "keyCalls") != "0" || d.writes() != before {
			t.Errorf("%s, %d writes", o.stdout, d.writes()-before)
		}
		if n := len(f.referrers(d.repo, d.subject.Digest)); n != 1 {
			t.Errorf("%d signatures", n)
		}
		d.want(t, 0, "", d.sign("--again")...)
		if n := len(f.referrers(d.repo, d.subject.Digest)); n != 2 {
			t.Errorf("%d signatures after --again", n)
		}
	})

	run("A23 secrets are not said", func(t *testing.T, d *desk) {
		const secret, token = "hunter2-secret", "aHVudGVyMi10b2tlbg"
		encrypted := d.at("locked.key")
		d.env = append(d.env, "IMPRINT_PASSPHRASE="+secret)
		if err := os.MkdirAll(filepath.Join(d.dir, "home/.docker"), 0o700); err != nil {
			t.Fatal(err)
		}
		auth := base64.StdEncoding.EncodeToString([]byte("somebody:" + secret))
		d.file("home/.docker/config.json", fmt.Appendf(nil, `{"auths":{%q:{"auth":%q},"127.0.0.1:1":{"auth":%q,"identitytoken":%q}}}`, f.Host, auth, auth, token))
		d.file("locked.key", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n"))
		locked := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			failure(w, http.StatusUnauthorized, "UNAUTHORIZED")
		}))
		var said strings.Builder
		for _, args := range [][]string{
			d.sign(), {"sign", d.ref, "--key", encrypted, "--chain", d.at("chain.pem")},
			{"sign", d.ref, "--key", "hashivault://key?token=" + secret, "--chain", d.at("chain.pem")},
			{"verify", "127.0.0.1:1/app:v1", "--root", d.at("root.pem"), "--timeout", "1s"},
			{"verify", locked.Host + "/app:v1", "--root", d.at("root.pem")},
			{"verify", "https://user:" + secret + "@127.0.0.1/app:v1", "--root", d.at("root.pem")},
			{"login", locked.Host, "--username", "somebody", "--password-stdin"},
			{"login", locked.Host, "--username", "somebody", "--password", secret},
			{"doctor", d.ref},
		} {
			for _, more := range [][]string{nil, {"-o", "json"}} {
				d.stdin = secret
				o := d.run(t, append(slices.Clone(args), more...)...)
				said.WriteString(o.stdout + o.stderr)
			}
		}
		for _, s := range []string{secret, token, auth} {
			if i := strings.Index(said.String(), s); i >= 0 {
				t.Errorf("a secret is said: %s", said.String()[max(0, i-200):min(said.Len(), i+200)])
			}
		}
		if d.run(t, "login", locked.Host, "--password", secret).code != 3 {
			t.Error("login takes a password from its arguments")
		}
	})

	run("A24 escape codes are escaped", func(t *testing.T, d *desk) {
		const evil = "red\x1b[31m\nnext\rback\u202eright"
		leaf := d.ca.Leaf(d.key.Public(), "x", certtest.Subject(pkix.Name{Country: []string{"DE"}, Province: []string{"BE"}, Organization: []string{"Acme"}, CommonName: evil}))
		d.file("chain.pem", certtest.PEM(d.ca.Chain(leaf)...))
		m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.x", Config: ocispec.DescriptorEmptyJSON,
			Layers: []ocispec.Descriptor{}, Annotations: map[string]string{"title" + evil: evil}}
		m.SchemaVersion = 2
		b, _ := json.Marshal(m)
		f.put(d.repo, "v1", ocispec.MediaTypeImageManifest, b)
		f.putBlob([]byte("{}"))
		// A hostile referrer with it in its artifact type and annotations.
		f.putArtifact(d.repo, "", sbom(describe(ocispec.MediaTypeImageManifest, b), "s"))
		var said strings.Builder
		for _, args := range [][]string{
			d.sign("-m", "key"+"=va"+evil), {"verify", d.ref, "--root", d.at("root.pem")}, {"verify", d.ref, "--root", d.at("chain.pem")},
			{"inspect", d.ref}, {"tree", d.ref}, {"verify", f.Host + "/" + evil + ":v1", "--root", d.at("root.pem")},
			{"rechain", d.ref, "--chain", d.at("chain.pem"), "--dry-run"},
		} {
			o := d.run(t, args...)
			said.WriteString(o.stdout + o.stderr)
			if j := d.run(t, append(slices.Clone(args), "-o", "json")...); j.stdout != "" {
				if _, err := documents(j.stdout); err != nil {
					t.Errorf("imprint %s: %v", args[0], err)
				}
			}
		}
		for _, bad := range []string{"\x1b", "\r", "\u202e", "\nnext"} {
			if i := strings.Index(said.String(), bad); i >= 0 {
				t.Errorf("%q is written to the terminal: %q", bad, said.String()[max(0, i-100):min(said.Len(), i+100)])
			}
		}
	})

	run("A25 HOME is unset", func(t *testing.T, d *desk) {
		d.env = []string{"PATH=/bin"}
		o := d.refused(t, 3, "usage", d.sign()...)
		if !strings.Contains(o.stderr, "HOME") {
			t.Errorf("HOME is not named: %s", o.stderr)
		}
		d.env = []string{"HOME=relative"}
		d.refused(t, 3, "usage", d.sign()...)
	})
	run("A25 a configuration that others may write", func(t *testing.T, d *desk) {
		dir := d.at("home/.config/imprint")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		d.file("home/.config/imprint/config.yaml", []byte("jobs: 4\n"))
		d.want(t, 0, "", d.sign("--dry-run")...)
		if err := os.Chmod(filepath.Join(dir, "config.yaml"), 0o666); err != nil {
			t.Fatal(err)
		}
		d.refused(t, 3, "config-unsafe", d.sign()...)
	})
	run("A25 a configuration folder that others may write", func(t *testing.T, d *desk) {
		dir := d.at("home/.config/imprint")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		d.file("home/.config/imprint/config.yaml", []byte("jobs: 4\n"))
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		d.refused(t, 3, "config-unsafe", d.sign()...)
	})
	run("A25 a configuration folder that is a symlink", func(t *testing.T, d *desk) {
		elsewhere := t.TempDir()
		if err := os.WriteFile(filepath.Join(elsewhere, "config.yaml"), []byte("key: file:stolen.key\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(d.at("home/.config"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(elsewhere, d.at("home/.config/imprint")); err != nil {
			t.Fatal(err)
		}
		d.refused(t, 3, "config-unsafe", "sign", d.ref, "--chain", d.at("chain.pem"))
	})
	run("A25 nothing is read from the working folder", func(t *testing.T, d *desk) {
		d.file("config.yaml", []byte("key: file:leaf.key\n"))
		d.file("policy.yaml", []byte("version: 1\n"))
		d.refused(t, 3, "usage", "sign", d.ref, "--chain", d.at("chain.pem"))
		d.refused(t, 3, "no-policy", "verify", d.ref)
	})
}
