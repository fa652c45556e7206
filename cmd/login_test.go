package cmd

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/registry/regtest"
)

const (
	loginUser   = "octocat"
	loginSecret = "s3cret-correct-horse"
)

// basicLogin runs a registry that lets only loginUser in.
func basicLogin(t *testing.T) *regtest.Server {
	t.Helper()
	return regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != loginUser || password != loginSecret {
			w.Header().Set("Www-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
}

func (w *world) stdin(text string) { w.env.In = strings.NewReader(text) }

func TestLoginAndLogout(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), basicLogin(t)
	config := w.file("docker/config.json", `{"HttpHeaders":{"X":"y"}}`)
	w.stdin(loginSecret + "\r\n")
	got := w.want(0, "login", s.Host, "--username", loginUser, "--password-stdin")
	if want := "logged in  " + s.Host + " as octocat\n           kept in " + config + ", not encrypted\n"; got.out != want || got.err != "" {
		t.Errorf("got %q %q, want %q", got.out, got.err, want)
	}
	b, _ := os.ReadFile(config)
	if !strings.Contains(string(b), base64.StdEncoding.EncodeToString([]byte(loginUser+":"+loginSecret))) || !strings.Contains(string(b), `"X"`) {
		t.Errorf("docker's file is %s", b)
	}
	w.stdin(loginSecret)
	if got := w.want(0, "login", s.Host, "--username", loginUser, "--password-stdin", "-o", "json"); got.out != `{"kind":"login","host":"`+s.Host+`","username":"octocat","file":"`+config+`"}`+"\n" {
		t.Errorf("got %s", got.out)
	}
	for range 2 { // nothing there is no error
		if got := w.want(0, "logout", s.Host); got.out != "logged out  "+s.Host+"\n            nothing is kept for it in "+config+"\n" {
			t.Errorf("got %q", got.out)
		}
	}
	if b, _ := os.ReadFile(config); strings.Contains(string(b), s.Host) || !strings.Contains(string(b), `"X"`) {
		t.Errorf("after logout docker's file is %s", b)
	}
}

// TestLoginRefused: exit 5, and nothing is stored.
func TestLoginRefused(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), basicLogin(t)
	w.stdin(loginSecret + "x")
	got := w.want(5, "login", s.Host, "--username", loginUser, "--password-stdin")
	for _, want := range []string{"imprint: error: logging in to " + s.Host + ": ", "imprint: hint: nothing was stored: check user name and password"} {
		if !strings.Contains(got.err, want) {
			t.Errorf("no %q in %s", want, got.err)
		}
	}
	w.stdin(loginSecret + "x")
	if r := w.want(5, "login", s.Host, "--username", loginUser, "--password-stdin", "-o", "json").reason(t); r != "unauthorized" {
		t.Errorf("reason %q", r)
	}
	if files := w.tree("docker"); len(files) != 0 {
		t.Errorf("stored: %v", files)
	}
	w.stdin(loginSecret)
	if got := w.want(4, "login", "127.0.0.1:1", "--username", loginUser, "--password-stdin"); !strings.Contains(got.err, "127.0.0.1:1") {
		t.Errorf("nobody there: %s", got.err)
	}
}

func TestLoginAsksWithoutEcho(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), basicLogin(t)
	var prompts []string
	w.env.Terminal.Secret = func(_ context.Context, prompt string) ([]byte, error) {
		prompts = append(prompts, prompt)
		return []byte(loginSecret), nil
	}
	got := w.want(0, "login", s.Host, "--username", loginUser)
	if len(prompts) != 1 || prompts[0] != "Password of octocat at "+s.Host+": " {
		t.Errorf("asked %q", prompts)
	}
	if strings.Contains(got.out+got.err, loginSecret) {
		t.Errorf("the password was shown: %q %q", got.out, got.err)
	}
	w.env.Terminal.Secret = func(context.Context, string) ([]byte, error) { return nil, errNobody }
	for range 2 {
		if got := w.want(3, "login", s.Host, "--username", loginUser); !strings.Contains(got.err, "no terminal to ask at") || !strings.Contains(got.err, "imprint: hint: give it on standard input: --password-stdin") {
			t.Errorf("nobody to ask: %s", got.err)
		}
		w.env.Terminal.Secret = nil
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	w.env.Terminal.Secret = func(context.Context, string) ([]byte, error) {
		cancel(errors.New("enough"))
		return nil, context.Cause(ctx)
	}
	if got := w.runContext(ctx, "login", s.Host, "--username", loginUser); !strings.Contains(got.err, "enough") || got.code == 0 {
		t.Errorf("interrupted at the prompt: %d %s", got.code, got.err)
	}
}

// TestA23NoPasswordInArguments: neither taken from there nor repeated.
func TestA23NoPasswordInArguments(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), basicLogin(t)
	w.setenv("IMPRINT_PASSWORD", loginSecret)
	for _, args := range [][]string{
		{"login", s.Host, "--username", loginUser, "--password", loginSecret},
		{"login", s.Host, "--username", loginUser, "--password=" + loginSecret},
		{"login", s.Host, "-p", loginSecret},
		{"login", s.Host, "-p" + loginSecret},
		{"login", "https://" + loginUser + ":" + loginSecret + "@" + s.Host, "--username", loginUser},
		{"login", loginUser + ":" + loginSecret + "@" + s.Host, "--username", loginUser},
		{"login", s.Host, "--username", loginUser},
		{"doctor", "https://" + loginUser + ":" + loginSecret + "@" + s.Host + "/app:1"},
		{"logout", "https://" + loginUser + ":" + loginSecret + "@" + s.Host},
	} {
		for _, more := range [][]string{nil, {"-o", "json"}} {
			if got := w.want(3, append(args, more...)...); strings.Contains(got.out+got.err, loginSecret) {
				t.Errorf("%s: the password is shown: %s%s", args, got.out, got.err)
			}
		}
	}
	if n := s.Count(nil); n != 0 {
		t.Errorf("%d requests were made", n)
	}
	got := w.want(3, "login", s.Host, "--username", loginUser, "--password", loginSecret)
	if !strings.Contains(got.err, "never stands on the command line") || !strings.Contains(got.err, "--password-stdin") {
		t.Errorf("it says %s", got.err)
	}
}

func TestLoginUsage(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), basicLogin(t)
	for _, tt := range []struct {
		name, args, stdin, says string
	}{
		{"no host", "login --username u", "", "imprint login takes HOST"},
		{"no user", "login HOST --password-stdin", "x", "as whom?"},
		{"a repository", "login ghcr.io/acme --username u", "", `"ghcr.io/acme" is more than a host`},
		{"a URL", "login https://ghcr.io --username u", "", "without the URL's scheme"},
		{"no host's name", "logout ghcr", "", `"ghcr" is not the host of a registry`},
		{"an empty password", "login HOST --username u --password-stdin", "\n", "standard input is empty"},
		{"two lines", "login HOST --username u --password-stdin", "a\nb\n", "more than one line"},
		{"too much", "login HOST --username u --password-stdin", strings.Repeat("a", maxPassword+1), "more than 65536 bytes"},
	} {
		w.stdin(tt.stdin)
		got := w.want(3, strings.Fields(strings.ReplaceAll(tt.args, "HOST", s.Host))...)
		if !strings.Contains(got.err, tt.says) || !strings.Contains(got.err, "imprint: hint: ") {
			t.Errorf("%s: %s", tt.name, got.err)
		}
	}
	if n := s.Count(nil); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

// TestA25NoHomeNoGuess: without a home nothing is looked up in the process's own.
func TestA25NoHomeNoGuess(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), basicLogin(t)
	w.env.Environ = []string{"XDG_CONFIG_HOME=" + w.path("home")}
	for _, args := range [][]string{{"login", s.Host, "--username", loginUser, "--password-stdin"}, {"logout", s.Host}} {
		w.stdin(loginSecret)
		if got := w.want(3, args...); !strings.Contains(got.err, "neither HOME nor DOCKER_CONFIG is set") {
			t.Errorf("%v: %s", args, got.err)
		}
	}
	w.env.Environ = nil
	if got := w.want(3, "logout", s.Host); !strings.Contains(got.err, "neither HOME nor XDG_CONFIG_HOME is set") {
		t.Error(got.err)
	}
}

func TestG03LoginSendsNothingToAStrangersRealm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	evil := regtest.Serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Www-Authenticate", `Bearer realm="http://localhost`+strings.TrimPrefix(evil.Host, "127.0.0.1")+`/token",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	w.stdin(loginSecret)
	got := w.want(5, "login", s.Host, "--username", loginUser, "--password-stdin")
	if !strings.Contains(got.err, "--trust-realm HOST") || strings.Contains(got.err, loginSecret) {
		t.Errorf("it says %s", got.err)
	}
	w.stdin(loginSecret)
	if r := w.want(5, "login", s.Host, "--username", loginUser, "--password-stdin", "-o", "json").reason(t); r != "realm-not-trusted" {
		t.Errorf("reason %q", r)
	}
	if n := evil.Count(nil); n != 0 {
		t.Errorf("the stranger got %d requests", n)
	}
	if files := w.tree("docker"); len(files) != 0 {
		t.Errorf("stored: %v", files)
	}
}

// helper installs a credential helper in PATH. Tests that use it are not parallel.
func (w *world) helper(name, script string) {
	w.t.Helper()
	file := w.file("bin/docker-credential-"+name, "#!/bin/sh\n"+script+"\n")
	if err := os.Chmod(file, 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.t.Setenv("PATH", w.path("bin")+string(filepath.ListSeparator)+os.Getenv("PATH"))
}

func TestP16LoginWithCredentialHelpers(t *testing.T) {
	w, s := newWorld(t), basicLogin(t)
	w.helper("keeps", `case $1 in store) cat > `+w.path("kept")+`;; erase) cat >/dev/null; rm -f `+w.path("kept")+`;; esac`)
	w.helper("fails", `cat >/dev/null; echo "the vault is locked"; exit 1`)
	w.helper("floods", `cat >/dev/null; exec head -c 1073741824 /dev/zero`)
	config := w.file("docker/config.json", `{"credHelpers":{"`+s.Host+`":"keeps"}}`)
	before, _ := os.ReadFile(config)
	login := []string{"login", s.Host, "--username", loginUser, "--password-stdin"}
	w.stdin(loginSecret)
	if got := w.want(0, login...); got.out != "logged in  "+s.Host+" as octocat\n           kept by docker-credential-keeps, as "+config+" says\n" {
		t.Errorf("got %q", got.out)
	}
	if b, _ := os.ReadFile(w.path("kept")); !strings.Contains(string(b), loginSecret) || !strings.Contains(string(b), s.Host) {
		t.Errorf("the helper keeps %s", b)
	}
	if after, _ := os.ReadFile(config); string(after) != string(before) {
		t.Errorf("docker's file became %s", after)
	}
	w.want(0, "logout", s.Host)
	if _, err := os.Stat(w.path("kept")); err == nil {
		t.Error("the helper keeps it after logout")
	}

	for name, tt := range map[string]struct {
		config string
		code   int
		reason string
	}{
		"P16 a path":               {`{"credHelpers":{"HOST":"../../x"}}`, 3, "registry-config"},
		"P16 spaces":               {`{"credHelpers":{"HOST":"keeps x"}}`, 3, "registry-config"},
		"P16 it exits 1":           {`{"credHelpers":{"HOST":"fails"}}`, 5, "credential-helper"},
		"P16 1 GB":                 {`{"credHelpers":{"HOST":"floods"}}`, 5, "credential-helper"},
		"P16 there is none":        {`{"credsStore":"nowhere"}`, 5, "credential-helper"},
		"P17 cut off":              {`{"auths":{"HOST":{"auth":"`, 3, "registry-config"},
		"P17 not of docker's form": {`{"auths":[]}`, 3, "registry-config"},
	} {
		text := strings.ReplaceAll(tt.config, "HOST", s.Host)
		w.file("docker/config.json", text)
		w.stdin(loginSecret)
		begin := time.Now()
		got := w.want(tt.code, append(login, "-o", "json")...)
		if r := got.reason(t); r != tt.reason {
			t.Errorf("%s: reason %q: %s", name, r, got.err)
		}
		if !strings.Contains(got.err, "imprint: hint: ") || strings.Contains(got.err+got.out, loginSecret) {
			t.Errorf("%s: it says %s", name, got.err)
		}
		if after, _ := os.ReadFile(config); string(after) != text {
			t.Errorf("%s: docker's file became %s", name, after)
		}
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
}

// TestP16LoginForAnotherHost: what docker keeps for one host is never shown to another.
func TestP16LoginForAnotherHost(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), basicLogin(t)
	auth := base64.StdEncoding.EncodeToString([]byte(loginUser + ":" + loginSecret))
	w.file("docker/config.json", `{"auths":{"`+s.Host+`0":{"auth":"`+auth+`"},"`+s.Host[:len(s.Host)-1]+`":{"auth":"`+auth+`"}}}`)
	w.want(5, "doctor", s.Host+"/app")
	if n := s.Count(func(r regtest.Request) bool { return r.Header.Get("Authorization") != "" }); n != 0 {
		t.Errorf("a credential was sent %d times", n)
	}
}
