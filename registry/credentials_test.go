package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/registry/regtest"
)

func dockerDir(t testing.TB, config string) string {
	t.Helper()
	dir := t.TempDir()
	if config != "" {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// helpers puts docker-credential-NAME scripts into a folder that is the whole search path but for the shell's own.
func helpers(t *testing.T, scripts map[string]string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("helpers are shell scripts here")
	}
	dir := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+"/usr/bin"+string(os.PathListSeparator)+"/bin")
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestDockerCredentials(t *testing.T) {
	t.Parallel()
	config := `{
		"HttpHeaders": {"X": "y"},
		"auths": {
			"registry.example": {"auth": "` + b64("bot:pass:word") + `"},
			"registry.example:5000": {"username": "plain", "password": "words"},
			"https://legacy.example/v1/": {"auth": "` + b64("old:school") + `"},
			"https://index.docker.io/v1/": {"auth": "` + b64("hub:secret") + `"},
			"token.example": {"identitytoken": "refresh"},
			"azure.example": {"auth": "` + b64("00000000-0000-0000-0000-000000000000:") + `", "identitytoken": "refresh"},
			"access.example": {"registrytoken": "access"},
			"empty.example": {},
			"port.example:443": {"auth": "` + b64("with:port") + `"}
		}
	}`
	find := DockerCredentials(dockerDir(t, config))
	for host, want := range map[string]Credential{
		"registry.example":           {Username: "bot", Password: "pass:word"},
		"registry.example:5000":      {Username: "plain", Password: "words"},
		"registry.example:5001":      {},
		"evil.registry.example":      {},
		"registry.example.evil":      {},
		"legacy.example":             {Username: "old", Password: "school"},
		"docker.io":                  {Username: "hub", Password: "secret"},
		"token.example":              {RefreshToken: "refresh"},
		"azure.example":              {Username: "00000000-0000-0000-0000-000000000000", RefreshToken: "refresh"},
		"access.example":             {AccessToken: "access"},
		"empty.example":              {},
		"port.example":               {Username: "with", Password: "port"},
		"REGISTRY.example":           {},
		"registry.example/something": {},
	} {
		got, err := find(t.Context(), host)
		if err != nil || got != want {
			t.Errorf("%s: %#v %q, %v", host, got, got.Username, err)
		}
	}
	if got, err := DockerCredentials(dockerDir(t, ""))(t.Context(), "registry.example"); err != nil || got != (Credential{}) {
		t.Errorf("without a file: %v, %v", got, err)
	}
}

func TestP17BadConfig(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]string{
		"cut off":          `{"auths": {"registry.example": {"auth": "` + b64("u:"+testSecret),
		"no object":        `["auths"]`,
		"auths a list":     `{"auths": []}`,
		"auth a number":    `{"auths": {"registry.example": {"auth": 17}}}`,
		"auth not base64":  `{"auths": {"registry.example": {"auth": "` + testSecret + `!"}}}`,
		"auth has no name": `{"auths": {"registry.example": {"auth": "` + b64(testSecret) + `"}}}`,
		"huge":             `{"x":"` + strings.Repeat("x", maxDockerConfig) + `"}`,
	} {
		_, err := DockerCredentials(dockerDir(t, config))(t.Context(), "registry.example")
		if !errors.Is(err, ErrConfig) || reason(err) != "registry-config" {
			t.Errorf("%s: %v", name, err)
		}
		noSecret(t, err)
	}
	// docker login is writing: what is cut off now is whole in a moment.
	dir := dockerDir(t, `{"auths": {"registry.example":`)
	go func() {
		time.Sleep(configRetry / 4)
		path := filepath.Join(dir, "config.json")
		_ = os.WriteFile(path+".new", []byte(`{"auths": {"registry.example": {"auth": "`+b64("u:p")+`"}}}`), 0o600)
		_ = os.Rename(path+".new", path)
	}()
	if cred, err := DockerCredentials(dir)(t.Context(), "registry.example"); err != nil || cred.Username != "u" {
		t.Errorf("%v, %v", cred, err)
	}
}

func TestCredentialHelper(t *testing.T) {
	helpers(t, map[string]string{
		"good":   `read host; [ "$1" = get ] && echo "{\"ServerURL\":\"$host\",\"Username\":\"of $host\",\"Secret\":\"s\"}"`,
		"token":  `echo '{"Username":"<token>","Secret":"refresh"}'`,
		"absent": `echo "credentials not found in native keychain"; exit 1`,
	})
	find := DockerCredentials(dockerDir(t, `{"credsStore":"good","credHelpers":{"token.example":"token","absent.example":"absent"},
		"auths":{"absent.example":{"auth":"`+b64("not:this")+`"}}}`))
	for host, want := range map[string]Credential{
		"registry.example": {Username: "of registry.example", Password: "s"},
		"docker.io":        {Username: "of https://index.docker.io/v1/", Password: "s"},
		"token.example":    {RefreshToken: "refresh"},
		"absent.example":   {},
	} {
		if got, err := find(t.Context(), host); err != nil || got != want {
			t.Errorf("%s: %q, %v", host, got.Username, err)
		}
	}
}

func TestF22HelperFails(t *testing.T) {
	helpers(t, map[string]string{
		"crash":   `echo "the keychain is locked"; exit 3`,
		"leak":    `echo '{"Username":"u","Secret":"` + testSecret + `"}'; exit 1`,
		"hang":    `exec sleep 60`,
		"orphan":  `sleep 60 & echo "{}"; wait`,
		"flood":   `exec cat /dev/zero`,
		"nothing": ``,
		"garbage": `echo hello ` + testSecret,
	})
	for helper, text := range map[string]string{
		"crash": "the keychain is locked", "leak": "exit status 1", "hang": "did not answer", "orphan": "did not answer", "flood": "more than",
		"nothing": "no credential", "garbage": "no credential", "absent": "not found",
	} {
		config, err := readDockerConfig(t.Context(), filepath.Join(dockerDir(t, `{"credHelpers":{"registry.example":"`+helper+`"}}`), "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		config.timeout = 10 * time.Second
		if text == "did not answer" {
			config.timeout = 500 * time.Millisecond
		}
		begin := time.Now()
		_, err = config.credential(t.Context(), "registry.example")
		if !errors.Is(err, ErrUnauthorized) || reason(err) != "credential-helper" || !strings.Contains(err.Error(), "docker-credential-"+helper) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", helper, err)
		}
		noSecret(t, err)
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%s took %s", helper, took)
		}
	}
}

// The helper's failure is what the person reads, not that the registry wanted a credential.
func TestF22HelperFailsInUse(t *testing.T) {
	helpers(t, map[string]string{"crash": `echo "the keychain is locked"; exit 3`})
	s := basicRegistry(t, http.NotFoundHandler())
	r := openTest(t, newTestClient(t, Options{Credentials: DockerCredentials(dockerDir(t, `{"credsStore":"crash"}`))}), s.Host, "app")
	_, err := r.Tagged(t.Context(), "v1")
	if !errors.Is(err, ErrUnauthorized) || reason(err) != "credential-helper" || !strings.Contains(err.Error(), "docker-credential-crash") {
		t.Error(err)
	}
	if s.Count(withAuthorization) != 0 {
		t.Error("something was sent all the same")
	}
}

func TestP16HelperNames(t *testing.T) {
	t.Parallel()
	for _, helper := range []string{"../../x", "a b", "a/b", "A", "x;reboot", "x\n", ".", "ä"} {
		config, _ := json.Marshal(map[string]any{"credHelpers": map[string]string{"registry.example": helper}})
		_, err := DockerCredentials(dockerDir(t, string(config)))(t.Context(), "registry.example")
		if !errors.Is(err, ErrConfig) || reason(err) != "registry-config" {
			t.Errorf("%q: %v", helper, err)
		}
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	s := basicRegistry(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	c := newTestClient(t, Options{})
	dir := dockerDir(t, `{"HttpHeaders":{"X":"y"},"auths":{"other.example":{"auth":"`+b64("o:p")+`"}}}`)
	err := Login(t.Context(), c, dir, s.Host, Credential{Username: testUser, Password: testSecret + "x"})
	if !errors.Is(err, ErrUnauthorized) || reason(err) != "unauthorized" {
		t.Errorf("a wrong password: %v", err)
	}
	noSecret(t, err)
	if n := s.Count(withAuthorization); n != 1 {
		t.Errorf("a wrong password was sent %d times", n)
	}
	find := DockerCredentials(dir)
	if got, err := find(t.Context(), s.Host); err != nil || got != (Credential{}) {
		t.Errorf("it was stored: %v, %v", got, err)
	}
	right := Credential{Username: testUser, Password: testSecret}
	if err := Login(t.Context(), c, dir, s.Host, right); err != nil {
		t.Fatal(err)
	}
	if got, err := find(t.Context(), s.Host); err != nil || got != right {
		t.Errorf("%v, %v", got, err)
	}
	if helper, file, err := CredentialStore(t.Context(), dir, s.Host); err != nil || helper != "" || file != filepath.Join(dir, "config.json") {
		t.Errorf("it is said to be in %q, %q: %v", helper, file, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "config.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := Logout(t.Context(), dir, s.Host); err != nil {
		t.Fatal(err)
	}
	if err := Logout(t.Context(), dir, s.Host); err != nil {
		t.Errorf("a second time: %v", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	_ = json.Unmarshal([]byte(`{"HttpHeaders":{"X":"y"},"auths":{"other.example":{"auth":"`+b64("o:p")+`"}}}`), &want)
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what else was in the file (-before +after):\n%s", diff)
	}
}

func TestLoginWithHelper(t *testing.T) {
	kept := filepath.Join(t.TempDir(), "kept")
	helpers(t, map[string]string{"file": `case $1 in store) cat > ` + kept + `;; erase) rm ` + kept + `;; get) cat ` + kept + `;; esac`})
	s := newTokenRegistry(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	// The root of a registry belongs to no repository: any token will do.
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		return r.URL.Path == "/v2/" && strings.HasPrefix(r.Header.Get("Authorization"), "Bearer token-")
	})
	dir := dockerDir(t, `{"credsStore":"file"}`)
	want := Credential{Username: testUser, Password: testSecret}
	if err := Login(t.Context(), newTestClient(t, Options{}), dir, s.Host, want); err != nil {
		t.Fatal(err)
	}
	if got, err := DockerCredentials(dir)(t.Context(), s.Host); err != nil || got != want {
		t.Errorf("%v, %v", got, err)
	}
	if helper, _, err := CredentialStore(t.Context(), dir, s.Host); err != nil || helper != "docker-credential-file" {
		t.Errorf("it is said to be with %q: %v", helper, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil || strings.Contains(string(b), "auth") {
		t.Errorf("%s, %v", b, err)
	}
	if err := Logout(t.Context(), dir, s.Host); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(kept); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the helper keeps it: %v", err)
	}
}

// A registry that asks nobody has not judged the credential; it is stored, and that is said.
func TestLoginUnchecked(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	var warned []string
	c := newTestClient(t, Options{Warn: func(code, _ string) { warned = append(warned, code) }})
	if err := Login(t.Context(), c, dockerDir(t, ""), s.Host, Credential{Username: "u", Password: "p"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"login-unchecked"}, warned); diff != "" {
		t.Error(diff)
	}
}

func TestLoginNobodyThere(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Login(ctx, newTestClient(t, Options{}), dockerDir(t, ""), "127.0.0.1:1", Credential{Username: "u", Password: "p"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	err := Login(t.Context(), newTestClient(t, Options{}), dockerDir(t, ""), "127.0.0.1:1", Credential{Username: "u", Password: "p"})
	if !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}
