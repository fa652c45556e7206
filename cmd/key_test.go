package cmd

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corex509 "github.com/notaryproject/notation-core-go/x509"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/kms"
)

const acme = "C=DE, ST=BE, O=Acme, CN=release"

// decode reads the one JSON line of an answer.
func decode(t *testing.T, got told, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(got.out), v); err != nil {
		t.Fatalf("%q: %v", got.out, err)
	}
}

// complains checks an error: one line, one hint, and what they say.
func complains(t *testing.T, got told, says, hint string) {
	t.Helper()
	said := lines(got.err)
	if len(said) != 2 || !strings.HasPrefix(said[0], "imprint: error: ") || !strings.HasPrefix(said[1], "imprint: hint: ") {
		t.Fatalf("want one error line and one hint:\n%s", got.err)
	}
	if !strings.Contains(said[0], says) || !strings.Contains(said[1], hint) {
		t.Errorf("want %q and %q:\n%s", says, hint, got.err)
	}
	if got.out != "" {
		t.Errorf("an error has no answer: %q", got.out)
	}
}

func TestKeyGenerateDev(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := w.path("imprint-dev")
	got := w.want(0, "key", "generate", "--dev", "--out", dir)
	for _, says := range []string{"generated  ", "DEVELOPMENT ONLY", "(30 days)", "next: ", "5 files written"} {
		if !strings.Contains(got.out, says) {
			t.Errorf("want %q in\n%s", says, got.out)
		}
	}
	for name, mode := range map[string]os.FileMode{"root.pem": 0o644, "intermediate.pem": 0o644, "leaf.key": 0o600, "chain.pem": 0o644, "policy.yaml": 0o644} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want mode %v", name, info, err, mode)
		}
	}
	left, err := filepath.Glob(w.path(".imprint-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	// What it wrote signs, and verifies by its root and by its policy.
	w.image("app", "one", "1.0", "r.example/app:1.0")
	sign := func(ref string) {
		w.want(0, "sign", ref, "--key", filepath.Join(dir, "leaf.key"), "--chain", filepath.Join(dir, "chain.pem"))
	}
	sign("oci:" + w.path("app") + ":1.0")
	w.want(0, "verify", "oci:"+w.path("app")+":1.0", "--root", filepath.Join(dir, "root.pem"))
	w.want(0, "verify", "oci:"+w.path("app")+":1.0", "--policy", filepath.Join(dir, "policy.yaml"), "--as", "r.example/app:1.0")
	w.want(0, "chain", "check", filepath.Join(dir, "chain.pem"), "--key", filepath.Join(dir, "leaf.key"))

	before := w.tree("imprint-dev")
	complains(t, w.want(3, "key", "generate", "--dev", "--out", dir), "exists, and --dev never overwrites", "--out DIR")
	complains(t, w.want(3, "key", "generate", "--dev", "--out", dir, "--overwrite"), "--dev never overwrites", "--out DIR")
	if after := w.tree("imprint-dev"); !maps.Equal(before, after) {
		t.Error("a second run changed the folder")
	}
	complains(t, w.want(8, "key", "generate", "--dev", "--out", w.path("no/such/folder")), "there is no folder", "make that folder first")
}

func TestKeyGenerate(t *testing.T) {
	t.Parallel()
	for _, algorithm := range certtest.Algorithms {
		if testing.Short() && strings.HasPrefix(algorithm, "RSA") {
			continue
		}
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			file := w.path("release.key")
			secret := w.file("secret", "correct horse\n")
			got := w.want(0, "key", "generate", file, "--algorithm", algorithm, "--passphrase-file", secret, "-o", "json")
			var g struct {
				Kind string
				ui.GeneratedKey
			}
			decode(t, got, &g)
			if g.Kind != "key-generate" || !g.Encrypted || g.File != file || g.Key.ID != file {
				t.Errorf("got %+v", g)
			}
			info, err := os.Stat(file)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info, err)
			}
			b, err := os.ReadFile(file)
			if err != nil || !strings.HasPrefix(string(b), "-----BEGIN ENCRYPTED PRIVATE KEY-----") {
				t.Errorf("it is not encrypted: %.40s, %v", b, err)
			}
			var shown ui.ShownKey
			decode(t, w.want(0, "key", "show", file, "--passphrase-file", secret, "--probe", "-o", "json"), &shown)
			if shown.SHA256 != g.Key.SHA256 || !shown.Probed {
				t.Errorf("show says %+v, generate %+v", shown, g.Key)
			}
			if got := w.want(3, "key", "show", file, "--passphrase-file", w.file("wrong", "x"), "-o", "json"); got.reason(t) != "key-secret" {
				t.Errorf("a wrong passphrase: %s", got.out)
			}
		})
	}
}

func TestKeyGeneratePassphrases(t *testing.T) {
	t.Parallel()
	answers := func(words ...string) func(context.Context, string) ([]byte, error) {
		return func(context.Context, string) ([]byte, error) {
			if len(words) == 0 {
				return nil, errors.New("asked too often")
			}
			word := words[0]
			words = words[1:]
			return []byte(word), nil
		}
	}
	for _, tt := range []struct {
		name      string
		args      []string
		env       string
		secret    func(context.Context, string) ([]byte, error)
		code      int
		says      string
		encrypted bool
	}{
		{name: "asked twice", secret: answers("a b", "a b"), encrypted: true},
		{name: "two that differ", secret: answers("a", "b"), code: 3, says: "differ"},
		{name: "empty", secret: answers("", ""), code: 3, says: "empty"},
		{name: "nobody to ask", code: 3, says: "no terminal to ask at"},
		{name: "a terminal that is none", secret: func(context.Context, string) ([]byte, error) { return nil, errNobody }, code: 3, says: "no terminal to ask at"},
		{name: "from the environment", env: "a b", encrypted: true},
		{name: "plaintext when told to", args: []string{"--allow-plaintext"}},
		{name: "plaintext and a passphrase", args: []string{"--allow-plaintext", "--passphrase-fd", "7"}, code: 3, says: "exclude each other"},
		{name: "an algorithm that is none", args: []string{"--allow-plaintext", "--algorithm", "P-224"}, code: 3, says: `unknown algorithm "P-224"`},
		{name: "A04 an edwards curve", args: []string{"--allow-plaintext", "--algorithm", "Ed25519"}, code: 3, says: "unknown algorithm"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.env.Terminal.Secret = tt.secret
			if tt.env != "" {
				w.setenv("IMPRINT_PASSPHRASE", tt.env)
			}
			file := w.path("new.key")
			got := w.want(tt.code, append([]string{"key", "generate", file}, tt.args...)...)
			b, err := os.ReadFile(file)
			if tt.code != 0 {
				complains(t, got, tt.says, "")
				if err == nil {
					t.Error("a file was written all the same")
				}
				return
			}
			if err != nil || strings.Contains(string(b), "ENCRYPTED") != tt.encrypted {
				t.Errorf("%.40s, %v", b, err)
			}
			if strings.Contains(got.out, "NOT encrypted") == tt.encrypted {
				t.Errorf("what it says: %s", got.out)
			}
		})
	}
}

// TestPlaintextIsNotAmbient: neither the environment nor the configuration makes a key that anybody can use.
func TestPlaintextIsNotAmbient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.setenv("IMPRINT_ALLOW_PLAINTEXT", "true")
	w.setenv("IMPRINT_DEV", "true")
	got := w.want(3, "key", "generate", w.path("new.key"))
	if !strings.Contains(got.err, "no passphrase") {
		t.Error(got.err)
	}
	if _, err := os.Stat(w.path("new.key")); err == nil {
		t.Error("a file was written")
	}
}

func TestKeyFilesAreNotOverwritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	key, old := w.path("leaf.key"), w.file("there", "precious")
	link := w.path("link")
	if err := os.Symlink(old, link); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{old, link} {
		for _, args := range [][]string{
			{"key", "generate", file, "--allow-plaintext"},
			{"key", "generate", "--out", file, "--allow-plaintext"},
			{"key", "csr", key, "--subject", acme, "--out", file},
			{"key", "self-sign", key, "--subject", acme, "--out", file},
			{"chain", "build", w.path("chain.pem"), "--out", file},
		} {
			complains(t, w.want(3, args...), "exists", "")
		}
	}
	complains(t, w.want(3, "key", "generate", w.dir, "--allow-plaintext"), "is a folder", "")
	complains(t, w.want(3, "key", "generate", "a.key", "--out", "b.key"), "name two files", "")
	complains(t, w.want(3, "key", "generate", "file:"+old, "--allow-plaintext"), old+" exists", "")
	complains(t, w.want(3, "key", "generate", "awskms:///alias/release", "--allow-plaintext"), "is no file", "imprint key csr")
	complains(t, w.want(8, "key", "generate", w.path("no/such/folder/a.key"), "--allow-plaintext"), "there is no folder", "make that folder first")
	if b, err := os.ReadFile(old); err != nil || string(b) != "precious" {
		t.Fatalf("%q, %v", b, err)
	}
	w.want(0, "key", "csr", key, "--subject", acme, "--out", link, "--overwrite")
	if b, _ := os.ReadFile(old); string(b) != "precious" {
		t.Error("--overwrite went through a symbolic link")
	}
	w.want(0, "key", "generate", old, "--allow-plaintext", "--overwrite")
	if info, err := os.Stat(old); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestKeyShowRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	plain, err := os.ReadFile(w.path("leaf.key"))
	if err != nil {
		t.Fatal(err)
	}
	open := w.file("open.key", string(plain))
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ file, reason string }{
		"A08 legacy encrypted PEM": {w.file("legacy.key", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"), "key-format"},
		"A08 OpenSSH":              {w.file("ssh.key", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"), "key-format"},
		"A09 readable by others":   {open, "key-permissions"},
		"A09 a device":             {"/dev/zero", "key-file"},
		"no file":                  {w.path("none.key"), "key-file"},
		"an unknown scheme":        {"nokms://x", "key-scheme"},
		"no key but a certificate": {w.path("chain.pem"), "key-format"},
	} {
		got := w.want(3, "key", "show", tt.file, "-o", "json")
		if r := got.reason(t); r != tt.reason {
			t.Errorf("%s: reason %s, want %s", name, r, tt.reason)
		}
		complains(t, w.want(3, "key", "csr", tt.file, "--subject", acme), "", "")
	}
}

func TestKeyShowNamedKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	chain := w.keys()
	w.file("home/.config/imprint/config.yaml", "keys:\n  release: file:"+w.path("leaf.key")+"\n")
	var shown ui.ShownKey
	decode(t, w.want(0, "key", "show", "release", "-o", "json"), &shown)
	block, _ := pem.Decode([]byte(shown.PublicKey))
	if shown.Key.Key != "release" || shown.ID != w.path("leaf.key") || shown.Spec != "EC-256" || shown.Algorithm != "ES256" || shown.Probed ||
		string(block.Bytes) != string(chain[0].RawSubjectPublicKeyInfo) {
		t.Errorf("got %+v", shown)
	}
	complains(t, w.want(3, "key", "show", "relaese"), `no key is named "relaese"`, "did you mean release?")
}

// TestKeyCertificates: requests and self-signed certificates of all six algorithms, judged by others.
func TestKeyCertificates(t *testing.T) {
	t.Parallel()
	for _, algorithm := range certtest.Algorithms {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			signer := certtest.Key(algorithm)
			key := w.file("release.key", string(certtest.KeyPEM(signer)))
			san := "uri:https://ci.acme.example/release"

			got := w.want(0, "key", "csr", key, "--subject", acme, "--san", san)
			block, rest := pem.Decode([]byte(got.out))
			if block == nil || len(rest) > 0 {
				t.Fatalf("standard output is not the request alone: %q", got.out)
			}
			csr, err := x509.ParseCertificateRequest(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if err := csr.CheckSignature(); err != nil {
				t.Error(err)
			}
			if certchain.NameOf(csr.RawSubject) != acme || len(csr.URIs) != 1 || !equalKeys(csr.PublicKey, signer.Public()) {
				t.Errorf("it asks for %s, %v", certchain.NameOf(csr.RawSubject), csr.URIs)
			}

			file := w.path("release.pem")
			var made ui.SelfSigned
			decode(t, w.want(0, "key", "self-sign", key, "--subject", acme, "--san", san, "--valid-for", "90d", "--out", file, "-o", "json"), &made)
			b, err := os.ReadFile(file)
			if err != nil || string(b) != made.PEM {
				t.Fatalf("the file is not what was answered: %v", err)
			}
			certs, err := certchain.Parse(b)
			if err != nil || len(certs) != 1 {
				t.Fatal(certs, err)
			}
			if err := corex509.ValidateCodeSigningCertChain(certs, nil); err != nil {
				t.Errorf("notation-core-go: %v", err)
			}
			if d := time.Until(certs[0].NotAfter); d > 90*24*time.Hour || d < 89*24*time.Hour {
				t.Errorf("it lasts %v", d)
			}
			w.image("app", "one", "1.0")
			w.want(0, "sign", "oci:"+w.path("app")+":1.0", "--key", key, "--chain", file)
			w.want(0, "verify", "oci:"+w.path("app")+":1.0", "--root", file)

			openssl, err := exec.LookPath("openssl")
			if err != nil {
				t.Skip("openssl is not here to ask")
			}
			if out, err := exec.Command(openssl, "req", "-verify", "-noout", "-in", w.file("release.csr", got.out)).CombinedOutput(); err != nil || !strings.Contains(string(out), "OK") {
				t.Errorf("openssl req: %v\n%s", err, out)
			}
			if out, err := exec.Command(openssl, "verify", "-check_ss_sig", "-CAfile", file, file).CombinedOutput(); err != nil {
				t.Errorf("openssl verify: %v\n%s", err, out)
			}
		})
	}
}

func equalKeys(a, b crypto.PublicKey) bool {
	switch a := a.(type) {
	case *ecdsa.PublicKey:
		return a.Equal(b)
	case *rsa.PublicKey:
		return a.Equal(b)
	}
	return false
}

func TestKeyRequestsThatAreWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	key := w.path("leaf.key")
	for _, command := range []string{"csr", "self-sign"} {
		for name, tt := range map[string]struct {
			args       []string
			says, hint string
		}{
			"no subject":          {nil, "no subject", "--subject"},
			"half a subject":      {[]string{"--subject", "CN=release"}, "incomplete-subject", "--subject"},
			"no DN":               {[]string{"--subject", "release"}, "malformed-name", "--subject"},
			"two organisations":   {[]string{"--subject", "C=DE, ST=BE, O=A, O=B"}, "duplicate-attribute", "--subject"},
			"a name that is none": {[]string{"--subject", acme, "--san", "ip:here"}, "alternative-name", "uri:https://"},
			"two keys":            {[]string{"--subject", acme, "other.key"}, "one too many", "usage:"},
		} {
			t.Run(command+", "+name, func(t *testing.T) {
				t.Parallel()
				out := w.path(command + name)
				got := w.want(3, append([]string{"key", command, key, "--out", out}, tt.args...)...)
				complains(t, got, tt.says, tt.hint)
				if _, err := os.Stat(out); err == nil {
					t.Error("a file was written all the same")
				}
			})
		}
	}
	complains(t, w.want(3, "key", "self-sign", key, "--subject", acme, "--valid-for", "10y"), "--valid-for", "")
	complains(t, w.want(3, "key", "self-sign", key, "--subject", acme, "--valid-for", "90000000d"), "", "")
}

// A wayward key signs with another key than it shows.
type wayward struct {
	kms.Key
	other kms.Key
	err   error
}

func (k wayward) Sign(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if k.err != nil {
		return nil, k.err
	}
	return k.other.Sign(ctx, message, opts)
}

// TestKeyServiceFails: exit 6, and nothing is written.
func TestKeyServiceFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	other := w.file("other.key", string(certtest.KeyPEM(certtest.Key("P-256"))))
	file := w.env.Keys["file"]
	open := func(service error) kms.Opener {
		return func(ctx context.Context, _ *url.URL, o kms.Options) (kms.Key, error) {
			a, err := file(ctx, &url.URL{Scheme: "file", Path: w.path("leaf.key")}, o)
			if err != nil {
				return nil, err
			}
			b, err := file(ctx, &url.URL{Scheme: "file", Path: other}, o)
			return wayward{a, b, service}, err
		}
	}
	w.env.Keys["wrongkms"] = open(nil)
	w.env.Keys["downkms"] = open(kms.Service("the service is down"))
	for key, want := range map[string]string{"wrongkms://k": "key-signature", "downkms://k": "key-service"} {
		for name, args := range map[string][]string{
			"A02 csr":       {"key", "csr", key, "--subject", acme, "--out", w.path("out.pem")},
			"A02 self-sign": {"key", "self-sign", key, "--subject", acme, "--out", w.path("out.pem")},
			"A02 probe":     {"key", "show", key, "--probe"},
		} {
			complains(t, w.want(6, args...), "", "")
			if r := w.want(6, append(args, "-o", "json")...).reason(t); r != want {
				t.Errorf("%s of %s: reason %s, want %s", name, key, r, want)
			}
		}
		w.want(0, "key", "show", key) // free: no signature
	}
	if _, err := os.Stat(w.path("out.pem")); err == nil {
		t.Error("a file was written all the same")
	}
}

// TestKeyScreensFit: 100 columns, whatever the names.
func TestKeyScreensFit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key, chain := certtest.ChainOf(4, "RSA-4096", certtest.Valid(time.Now().Add(-900*24*time.Hour), time.Now().Add(-400*24*time.Hour)))
	w.file("k.key", string(certtest.KeyPEM(key)))
	w.file("c.pem", string(certtest.PEM(chain...)))
	long := "C=DE, ST=BE, O=" + strings.Repeat("Acme and sons ", 4) + "GmbH, CN=" + strings.Repeat("release ", 6) + "2026"
	for code, all := range map[int][][]string{
		0: {
			{"key", "show", w.path("k.key")},
			{"key", "self-sign", w.path("k.key"), "--subject", long, "--out", w.path("s.pem")},
			{"key", "csr", w.path("k.key"), "--subject", long, "--out", w.path("s.csr")},
			{"chain", "show", w.path("c.pem")},
			{"chain", "show", w.path("c.pem"), w.path("root.pem")},
		},
		3: {{"chain", "check", w.path("c.pem")}},
	} {
		w.file("root.pem", string(certtest.PEM(certtest.Root("other").Certificate)))
		for _, args := range all {
			for _, l := range lines(w.want(code, args...).out) {
				// Paths and commands to copy are as long as they are.
				if ui.Width(l) > ui.Columns && !strings.Contains(l, w.dir) {
					t.Errorf("%s: %d columns: %s", args[:2], ui.Width(l), l)
				}
			}
		}
	}
}
