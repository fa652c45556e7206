package vault

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest/vaulttest"
)

// TestSettings: where address, token, namespace and mount come from, and which goes first.
func TestSettings(t *testing.T) {
	s, other := vaulttest.New(t), vaulttest.New(t)
	s.Mount("team/transit")
	s.Mount("ns1/transit")
	s.AddKey("release", certtest.Key("P-256"))
	s.AddKeyAt("team/transit", "release", certtest.Key("P-384"))
	s.AddKeyAt("ns1/transit", "release", certtest.Key("P-521"))
	other.Close()
	home := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(home, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	t.Cleanup(proxy.Close)
	tokenFile := write("token", vaulttest.Root+"\n", 0o600)
	tests := map[string]struct {
		env  map[string]string
		uri  string
		spec string // "": refused, as follows
		code string
		says string
	}{
		"VAULT_":                {env: map[string]string{"VAULT_ADDR": s.URL, "VAULT_TOKEN": vaulttest.Root}, uri: "hashivault://release", spec: "EC-256"},
		"BAO_":                  {env: map[string]string{"BAO_ADDR": s.URL, "BAO_TOKEN": vaulttest.Root}, uri: "openbao://release", spec: "EC-256"},
		"BAO_ for Vault":        {env: map[string]string{"BAO_ADDR": s.URL, "BAO_TOKEN": vaulttest.Root}, uri: "hashivault://release", spec: "EC-256"},
		"BAO_ before VAULT_":    {env: map[string]string{"BAO_ADDR": s.URL, "VAULT_ADDR": other.URL, "VAULT_TOKEN": "x", "BAO_TOKEN": vaulttest.Root}, uri: "hashivault://release", spec: "EC-256"},
		"URI before variables":  {env: map[string]string{"BAO_ADDR": other.URL, "VAULT_AGENT_ADDR": other.URL, "VAULT_TOKEN": vaulttest.Root, "VAULT_NAMESPACE": "ns9"}, uri: "hashivault://release?namespace=ns1&addr=" + url.QueryEscape(s.URL), spec: "EC-521"},
		"agent":                 {env: map[string]string{"VAULT_ADDR": other.URL, "VAULT_AGENT_ADDR": s.URL, "VAULT_TOKEN": vaulttest.Root}, uri: "hashivault://release", spec: "EC-256"},
		"namespace":             {env: map[string]string{"VAULT_ADDR": s.URL, "VAULT_TOKEN": vaulttest.Root, "VAULT_NAMESPACE": "ns1"}, uri: "hashivault://release", spec: "EC-521"},
		"sigstore's mount":      {env: map[string]string{"VAULT_ADDR": s.URL, "VAULT_TOKEN": vaulttest.Root, "TRANSIT_SECRET_ENGINE_PATH": "team/transit"}, uri: "hashivault://release", spec: "EC-384"},
		"URI's mount before it": {env: map[string]string{"VAULT_ADDR": s.URL, "VAULT_TOKEN": vaulttest.Root, "TRANSIT_SECRET_ENGINE_PATH": "x"}, uri: "hashivault://release?mount=team/transit", spec: "EC-384"},
		"sigstore's odd mount":  {env: map[string]string{"VAULT_ADDR": s.URL, "TRANSIT_SECRET_ENGINE_PATH": "a/../b"}, uri: "hashivault://release", code: kms.CodeURI, says: "TRANSIT_SECRET_ENGINE_PATH"},
		"response wrapping":     {env: map[string]string{"VAULT_ADDR": s.URL, "VAULT_TOKEN": vaulttest.Root, "BAO_WRAP_TTL": "60s"}, uri: "hashivault://release", spec: "EC-256"},
		"repetitions asked for": {env: map[string]string{"VAULT_ADDR": s.URL, "VAULT_TOKEN": "unknown", "VAULT_MAX_RETRIES": "5"}, uri: "hashivault://release", code: kms.CodeExpired, says: "invalid token"},
		"token with line break": {env: map[string]string{"VAULT_ADDR": s.URL, "VAULT_TOKEN": vaulttest.Root + "\n"}, uri: "hashivault://release", spec: "EC-256"},
		"token of two lines":    {env: map[string]string{"VAULT_ADDR": s.URL, "VAULT_TOKEN": vaulttest.Root + "\nx"}, uri: "hashivault://release", code: kms.CodeCredentials, says: "characters that no token has"},
		"token file":            {env: map[string]string{"VAULT_ADDR": s.URL, "BAO_TOKEN_PATH": tokenFile}, uri: "hashivault://release", spec: "EC-256"},
		"no token":              {env: map[string]string{"VAULT_ADDR": s.URL}, uri: "hashivault://release", code: kms.CodeCredentials, says: "no token for Vault at " + s.URL},
		"empty BAO_TOKEN":       {env: map[string]string{"VAULT_ADDR": s.URL, "BAO_TOKEN": "", "VAULT_TOKEN": vaulttest.Root}, uri: "openbao://release", code: kms.CodeCredentials, says: "no token for OpenBao at " + s.URL},
		"no address":            {env: map[string]string{"VAULT_TOKEN": vaulttest.Root, "VAULT_SKIP_VERIFY": "perhaps"}, uri: "hashivault://release", code: kms.CodeCredentials, says: "SKIP_VERIFY"},
		"address without http":  {env: map[string]string{"VAULT_ADDR": "vault:8200"}, uri: "hashivault://release", code: kms.CodeUnreachable, says: "no URL of the form"},
		"address with password": {env: map[string]string{"VAULT_ADDR": strings.Replace(other.URL, "://", "://user:"+vaulttest.Root+"@", 1)}, uri: "hashivault://release", code: kms.CodeUnreachable, says: other.URL},
		"proxy with password":   {env: map[string]string{"VAULT_ADDR": s.URL, "VAULT_PROXY_ADDR": "http://user:" + vaulttest.Root + "@%zz"}, uri: "hashivault://release", code: kms.CodeCredentials, says: "invalid URL escape"},
		"proxy that refuses":    {env: map[string]string{"VAULT_ADDR": "https://vault.example", "VAULT_TOKEN": vaulttest.Root, "VAULT_PROXY_ADDR": proxy.URL}, uri: "hashivault://release", code: kms.CodeUnreachable, says: "reaching Vault at https://vault.example: the proxy " + strings.TrimPrefix(proxy.URL, "http://") + " answers 403 Forbidden"},
		"helper":                {env: map[string]string{"VAULT_ADDR": s.URL, "VAULT_CONFIG_PATH": write("vault.hcl", fmt.Sprintf("# set by hand\ntoken_helper = %q\n", write("helper", "#!/bin/sh\n[ \"$*\" = get ] && printf '%s' "+vaulttest.Root+"\n", 0o700)), 0o600)}, uri: "hashivault://release", spec: "EC-256"},
		"helper that fails":     {env: map[string]string{"VAULT_ADDR": s.URL, "VAULT_CONFIG_PATH": write("bad.hcl", fmt.Sprintf("token_helper = %q\n", write("bad", "#!/bin/sh\necho "+vaulttest.Root+"; exit 3\n", 0o700)), 0o600)}, uri: "hashivault://release", code: kms.CodeCredentials, says: "exit status 3"},
		"helper that floods":    {env: map[string]string{"VAULT_ADDR": s.URL, "VAULT_CONFIG_PATH": write("flood.hcl", fmt.Sprintf("token_helper = %q\n", write("flood", "#!/bin/sh\nyes\n", 0o700)), 0o600)}, uri: "hashivault://release", code: kms.CodeCredentials, says: "asking the token helper"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(name, "helper") && runtime.GOOS == "windows" {
				t.Skip("the helpers are shell scripts")
			}
			t.Setenv("HOME", filepath.Join(home, "nobody"))
			t.Setenv("USERPROFILE", filepath.Join(home, "nobody"))
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			before := len(s.Seen())
			k, err := kms.Providers{"hashivault": Open, "openbao": Open}.Open(t.Context(), tt.uri, kms.Options{})
			if tt.code != "" {
				if err == nil {
					t.Fatal("opened")
				}
				remedy := ""
				switch tt.code {
				case kms.CodeCredentials, kms.CodeUnreachable, kms.CodeExpired:
					remedy = "VAULT_"
				}
				wants(t, err, tt.code, tt.says, remedy)
				if n := len(s.Seen()) - before; n > 1 {
					t.Errorf("%d requests", n)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			a, err := kms.AlgorithmOf(k.Public())
			if err != nil || a.Spec != tt.spec {
				t.Errorf("%s, want %s: another key was opened: %v", a.Spec, tt.spec, err)
			}
			if _, err := signed(t, k); err != nil {
				t.Error(err)
			}
			if id := k.(kms.Identifier).ID(); strings.Contains(id, vaulttest.Root) || !strings.Contains(id, "version=1") || !strings.Contains(id, "mount=") {
				t.Errorf("ID %s", id)
			}
		})
	}
	t.Run("token of a login", func(t *testing.T) {
		t.Setenv("HOME", home)
		t.Setenv("USERPROFILE", home)
		write(".vault-token", vaulttest.Root, 0o600)
		if _, err := key(t, s, "release"); err != nil {
			t.Error(err)
		}
		if err := os.Mkdir(filepath.Join(home, ".vault"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := key(t, s, "release"); err != nil {
			t.Errorf("a folder of that name is no configuration: %v", err)
		}
		write(".vault-token", strings.Repeat("x", maxToken+1), 0o600)
		_, err := key(t, s, "release")
		wants(t, err, kms.CodeCredentials, "longer than", "vault login")
	})
}

func TestWarnsOfPlainHTTP(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"https://vault.example": false, "http://vault.example:8200": true, "http://10.0.0.1": true, "http://127.0.0.1:8200": false,
		"http://[::1]:8200": false, "http://localhost:8200": false, "unix:///run/vault.sock": false,
	} {
		if got := plainHTTP(addr); got != want {
			t.Errorf("%s: %t", addr, got)
		}
	}
}

// TestWarns: whoever opens a key hears that its token is not encrypted on the way, before it is sent.
func TestWarns(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{"http://vault.example:8200": "the token goes to Vault at http://vault.example:8200 without encryption", "https://vault.example": ""} {
		var said string
		if _, err := newEngine(t.Context(), parsed(t, "hashivault://release?addr="+addr), kms.Options{Warn: func(text string) { said += text }}); err != nil {
			t.Fatal(err)
		}
		if said != want {
			t.Errorf("%s: %q, want %q", addr, said, want)
		}
	}
}

func FuzzSignature(f *testing.F) {
	e := &engine{place: place{version: 7, mount: "transit", name: "x"}}
	for _, text := range []string{"vault:v7:3q2+7w==", "vault:v7:", "vault:v07:3q2+7w==", "vault:v8:3q2+7w==", "vault:v7:3q2-7w==", "vault:v7:3q2+7w", "vault:v7:3q2+\n7w==", "bao:v7:3q2+7w=="} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		sig, err := e.signature(text)
		if err != nil {
			if sig != nil {
				t.Error("a signature beside an error")
			}
			return
		}
		again, encErr := e.signature(text)
		if encErr != nil || string(again) != string(sig) || !strings.HasPrefix(text, "vault:v7:") || len(sig) == 0 {
			t.Errorf("%q is no signature of version 7", text)
		}
	})
}

func TestSignatureText(t *testing.T) {
	t.Parallel()
	e := &engine{place: place{version: 7, mount: "transit", name: "x"}}
	for text, ok := range map[string]bool{
		"vault:v7:3q2+7w==": true, "": false, "vault:v7:": false, "vault:v7": false, "vault:v07:3q2+7w==": false, "vault:v8:3q2+7w==": false, "vault:v77:3q2+7w==": false,
		"vault:v7:3q2-7w==": false, "vault:v7:3q2+7w": false, "vault:v7:3q2+\n7w==": false, "vault:v7:3q2+7w==\n": false, "bao:v7:3q2+7w==": false,
		"vault:v7:vault:v7:3q2+7w==": false, " vault:v7:3q2+7w==": false, "vault:v7:3q2+7x==": false, "vault:vv7:3q2+7w==": false,
	} {
		if _, err := e.signature(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		} else if err != nil {
			wants(t, err, kms.CodeSignature, "", "")
		}
	}
}

// TestWarnsOfAnotherServer: a URI may come from a page on the web, and the token is not for whoever wrote that.
func TestWarnsOfAnotherServer(t *testing.T) {
	t.Setenv("VAULT_TOKEN", "s.token")
	for _, c := range []struct {
		variable, addr string
		warns          bool
	}{
		{"https://vault.example:8200", "https://other.example:8200", true},
		{"https://vault.example:8200", "https://vault.example", true},
		{"https://vault.example:8200", "https://VAULT.example:8200", false},
		{"https://vault.example:8200/", "https://vault.example:8200", false},
		{"", "https://other.example", false},
	} {
		t.Setenv("VAULT_ADDR", c.variable)
		said := ""
		u := parsed(t, "hashivault://release?addr="+url.QueryEscape(c.addr))
		if _, err := newEngine(t.Context(), u, kms.Options{Warn: func(text string) { said += text }}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(said, "VAULT_ADDR"); got != c.warns || c.warns && !strings.Contains(said, c.addr) {
			t.Errorf("%s instead of %s: %q", c.addr, c.variable, said)
		}
	}
}
