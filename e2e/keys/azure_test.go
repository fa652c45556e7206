package keys

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms/kmstest/azuretest"
	"github.com/imprint-oci/imprint/kms/kmstest/wiretest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

const (
	azureVault = "acme.vault.azure.net"
	azureHSM   = "acme.managedhsm.azure.net"
	azureLogin = "login.microsoftonline.com"
	azureKey   = "azurekms://" + azureVault + "/release"
)

// newAzure makes a tenant with vaults behind a proxy, and a desk that has a client secret of it.
func newAzure(t testing.TB) (*desk, *azuretest.Server, *wiretest.World) {
	t.Helper()
	w, s := wiretest.New(t), azuretest.New(t)
	s.Serve(w)
	return newDesk(t, append(w.Environ(), s.Environ()...)...), s, w
}

// azureFails makes the first n requests for an operation fail.
func azureFails(n int, op string, f azuretest.Fault) func(string, int) azuretest.Fault {
	return func(asked string, i int) azuretest.Fault {
		if asked == op && i <= n {
			return f
		}
		return azuretest.None
	}
}

// The way of a publisher whose key is in a Key Vault or a Managed HSM: a request, a certificate, signatures that notation accepts. No
// host is asked but the vault and Entra ID.
func TestAzure(t *testing.T) {
	t.Parallel()
	for _, host := range []string{azureVault, azureHSM} {
		for _, algorithm := range certtest.Algorithms {
			t.Run(algorithm+" in "+host, func(t *testing.T) {
				t.Parallel()
				d, s, w := newAzure(t)
				v := s.AddKey("release", certtest.Key(algorithm))
				key := "azurekms://" + host + "/release"
				chain := d.certified(t, key)
				d.signs(t, key, "1", "--chain", chain)
				d.signs(t, "https://"+host+"/keys/release/"+v.ID, "1", "--chain", chain)
				// One signature for the request, one for each of two keys in each format.
				if n := s.Calls(azuretest.KeysSign); n != 5 {
					t.Errorf("%d signing calls", n)
				}
				if n := s.Calls(azuretest.CertificateGet) + s.Calls(azuretest.SecretGet); n != 0 {
					t.Errorf("%d requests for certificates that are in a file", n)
				}
				for _, agent := range s.Agents() {
					if !strings.HasPrefix(agent, "imprint/") {
						t.Fatalf("the service is told %q", agent)
					}
				}
				hosts := w.Asked()
				slices.Sort(hosts)
				if hosts := slices.Compact(hosts); !slices.Equal(hosts, []string{host, azureLogin}) {
					t.Errorf("connected to %q", hosts)
				}
				o := d.ok(t, "key", "show", key, "-o", "json")
				for member, want := range map[string]string{"id": key + "/" + v.ID, "version": v.ID} {
					if got := o.field(t, member); got != want {
						t.Errorf("%s: %q, want %q\n%s", member, got, want, o.stdout)
					}
				}
				if algorithm[:3] == "RSA" {
					d.certified(t, key, "--pkcs1")
				}
			})
		}
	}
}

// The leaf is read from the certificate object beside the key, of the key's version; --chain has what is above it.
func TestAzureCertificateObject(t *testing.T) {
	t.Parallel()
	for name, form := range map[string]string{
		"key": azureKey, "asked for": azureKey + "?chain=certificate", "URL": "https://" + azureVault + "/certificates/release",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, s, _ := newAzure(t)
			v := s.AddKey("release", certtest.Key("P-384"))
			kept := certificatesIn(t, d.certified(t, azureKey))
			s.Edit(func() { v.Certificates = kept })
			ca := d.file("issuers.pem", certtest.PEM(d.ca.Certificate, d.root.Certificate))
			d.signs(t, form, "1", "--chain", ca)
			d.refused(t, 3, "incomplete", []string{"Azure Key Vault"}, "sign", d.ref, "--key", form)
			config := d.file("config.yaml", []byte("keys:\n  release:\n    uri: "+form+"\n    chain: issuers.pem\n"))
			d.ok(t, "chain", "check", "--key", "release", "--config", config)
			if s.Calls(azuretest.CertificateGet) == 0 || s.Calls(azuretest.SecretGet) != 0 {
				t.Errorf("%d certificates and %d secrets were read", s.Calls(azuretest.CertificateGet), s.Calls(azuretest.SecretGet))
			}
			o := d.ok(t, "key", "show", form)
			if text := unwrapped(o.stdout); !strings.Contains(text, "CN=release") {
				t.Errorf("key show does not show the certificate:\n%s", o.stdout)
			}
		})
	}
}

// The whole chain is read from the secret only where the URI says so, with a warning if the private key came along.
func TestAzureSecret(t *testing.T) {
	t.Parallel()
	for name, exportable := range map[string]bool{"exportable": true, "not exportable": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, s, _ := newAzure(t)
			v := s.AddKey("release", certtest.Key("P-256"))
			kept := certificatesIn(t, d.certified(t, azureKey))
			s.Edit(func() { v.Certificates, v.Exportable, v.PFX = kept, exportable, true })
			key := azureKey + "?chain=secret"
			d.signs(t, key, "1")
			d.ok(t, "chain", "check", "--key", key)
			o := d.ok(t, "sign", d.ref, "--key", key)
			if warned := strings.Contains(unwrapped(o.stderr), "private key, which has now passed through this machine"); warned != exportable {
				t.Errorf("warned %v:\n%s", warned, o.stderr)
			}
			b, err := x509.MarshalPKCS8PrivateKey(v.Signer)
			if err != nil {
				t.Fatal(err)
			}
			text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}))
			d.hides(t, o, strings.Split(text, "\n")[1], "PRIVATE KEY")
		})
	}
}

// certificatesIn reads a chain file.
func certificatesIn(t testing.TB, file string) []*x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var certs []*x509.Certificate
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, c)
	}
	return certs
}

// hides wants none of the canaries in what was said, nor in any file under the desk.
func (d *desk) hides(t testing.TB, o outcome, canaries ...string) {
	t.Helper()
	spoken := o.stdout + o.stderr
	err := filepath.WalkDir(d.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || filepath.Ext(path) == ".key" {
			return err
		}
		b, err := os.ReadFile(path)
		spoken += string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, canary := range canaries {
		if canary == "" || strings.Contains(spoken, canary) {
			t.Errorf("%q is repeated:\n%s%s", canary, o.stdout, o.stderr)
		}
	}
}

// What goes wrong for good: exit code 6, the reason, the calls that it cost, and nothing written.
func TestAzureFaults(t *testing.T) {
	t.Parallel()
	const sign, read = azuretest.KeysSign, azuretest.KeysGet
	const named = "--vault-name acme --name release"
	for name, tt := range map[string]struct {
		op     string
		fault  azuretest.Fault
		reason string
		calls  string // of the key, as imprint counts them
		says   []string
	}{
		"F31 throttled for ever":  {sign, azuretest.Throttled, "key-throttled", "8", []string{"too many requests", "asked 8 times"}},
		"F31 failing for ever":    {sign, azuretest.Failing, "key-service", "8", []string{"unexpected error"}},
		"F32 denied":              {sign, azuretest.Denied, "key-denied", "1", []string{"keys/sign at " + azureVault, `hint: allow keys/sign: assign the role "Key Vault Crypto User"`}},
		"F32 denied to read":      {read, azuretest.DeniedByPolicy, "key-denied", "", []string{"does not have keys get permission", `hint: allow keys/get: assign the role "Key Vault Crypto User"`}},
		"F32 firewalled":          {read, azuretest.Firewalled, "key-denied", "", []string{"Client address is not authorized", "firewall"}},
		"F32 disabled":            {sign, azuretest.Disabled, "key-unusable", "1", []string{"KeyDisabled", "hint: enable it: `az keyvault key set-attributes " + named + " --enabled true`"}},
		"F32 disabled to read":    {read, azuretest.Disabled, "key-unusable", "", []string{"KeyDisabled", "--enabled true"}},
		"F32 expired key":         {sign, azuretest.KeyExpired, "key-unusable", "1", []string{"KeyExpired", "--expires"}},
		"F32 pending deletion":    {read, azuretest.Deleting, "key-unusable", "", []string{"being deleted", "hint: bring it back: `az keyvault key recover " + named}},
		"expired token":           {sign, azuretest.TokenExpired, "key-login-expired", "1", []string{"token is expired", "az login"}},
		"expired secret":          {azuretest.Token, azuretest.SecretExpired, "key-login-expired", "", []string{"AADSTS7000222", "hint: the client secret has expired"}},
		"F33 always lost":         {sign, azuretest.Lost, "key-unreachable", "3", []string{"reaching " + azureVault}},
		"F34 another key":         {sign, azuretest.OtherKey, "key-signature", "1", []string{"no signature of the key that was opened"}},
		"F34 another version":     {sign, azuretest.OtherVersion, "key-signature", "1", []string{"another key signed"}},
		"wrong salt":              {sign, azuretest.LongSalt, "key-signature", "1", []string{"salt is not as long as the hash"}},
		"truncated digest":        {sign, azuretest.ShortDigest, "key-signature", "1", []string{"no signature of the key that was opened"}},
		"redirected":              {sign, azuretest.Redirected, "key-service", "1", []string{"307"}},
		"an answer without end":   {read, azuretest.Huge, "key-service", "", []string{"more than 1048576 bytes"}},
		"an answer that is none":  {read, azuretest.Garbage, "key-service", "", []string{"the answer cannot be read"}},
		"F34 rotated and unasked": {read, azuretest.OtherVersion, "key-service", "", []string{"was asked for /keys/release/"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, s, w := newAzure(t)
			key := certtest.Key("P-256")
			if tt.fault == azuretest.LongSalt {
				key = certtest.Key("RSA-2048")
			}
			v := s.AddKey("release", key)
			if tt.fault == azuretest.OtherKey || tt.fault == azuretest.OtherVersion {
				s.AddKey("release", certtest.Key("P-256"))
			}
			chain := d.chainFor(key.Public(), "release")
			s.Fault(azureFails(forEver, tt.op, tt.fault))
			o := d.refused(t, 6, tt.reason, tt.says, "sign", d.ref, "--key", azureKey+"/"+v.ID, "--chain", chain)
			if got := o.field(t, "keyCalls"); got != tt.calls {
				t.Errorf("%s key calls, want %s\n%s", got, tt.calls, o.stdout)
			}
			spent(t, tt.calls, s.Calls(sign))
			if o.took > 15*time.Second {
				t.Errorf("it took %s", o.took)
			}
			d.hides(t, o, s.Secret)
			if slices.Contains(w.Asked(), "elsewhere.example") {
				t.Error("it followed a redirection")
			}
		})
	}
}

// What is wrong with the key or its certificate is said before anything is signed.
func TestAzureUnusable(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		key    string
		set    func(s *azuretest.Server, v *azuretest.Version)
		code   int
		reason string
		says   []string
	}{
		"no key":     {azureKey + "s", nil, 6, "key-not-found", []string{"KeyNotFound", "hint: check the vault, the name and the version: `az keyvault key list-versions"}},
		"no version": {azureKey + "/0123456789abcdef0123456789abcdef", nil, 6, "key-not-found", []string{"KeyNotFound"}},
		"disabled":   {azureKey, func(_ *azuretest.Server, v *azuretest.Version) { v.Disabled = true }, 6, "key-unusable", []string{"is disabled", "--enabled true"}},
		"expired":    {azureKey, func(_ *azuretest.Server, v *azuretest.Version) { v.Expires = time.Now().Add(-time.Hour) }, 6, "key-unusable", []string{"expired at"}},
		"for encryption": {azureKey, func(_ *azuretest.Server, v *azuretest.Version) { v.Ops = []string{"wrapKey"} }, 6, "key-unusable",
			[]string{"is not for signing, only for wrapKey", "--ops sign verify"}},
		"P-256K": {azureKey, func(_ *azuretest.Server, v *azuretest.Version) {
			v.JWK = func(j map[string]any) { j["crv"] = "P-256K" }
		}, 3, "key-algorithm",
			[]string{"P-256K", "RSA 2048, 3072, 4096 or ECDSA P-256, P-384, P-521"}},
		"symmetric": {azureKey, func(_ *azuretest.Server, v *azuretest.Version) {
			v.JWK = func(j map[string]any) { j["kty"] = "oct-HSM" }
		}, 3, "key-algorithm",
			[]string{"oct-HSM", "RSA 2048, 3072, 4096 or ECDSA P-256, P-384, P-521"}},
		"another vault's answer": {azureKey, func(_ *azuretest.Server, v *azuretest.Version) {
			v.JWK = func(j map[string]any) { j["kid"] = "https://other.vault.azure.net/keys/release/" + v.ID }
		}, 6, "key-service", []string{"https://other.vault.azure.net/"}},
		"certificate of the newest version": {azureKey, func(s *azuretest.Server, _ *azuretest.Version) {
			s.Fault(azureFails(forEver, azuretest.CertificateGet, azuretest.OtherVersion))
		}, 6, "key-service", []string{"was asked for /certificates/release/"}},
		"no certificate": {azureKey + "?chain=certificate", func(_ *azuretest.Server, v *azuretest.Version) { v.Certificates = nil }, 6, "key-not-found",
			[]string{"CertificateNotFound"}},
		"certificate denied": {azureKey + "?chain=certificate", func(s *azuretest.Server, _ *azuretest.Version) {
			s.Fault(azureFails(forEver, azuretest.CertificateGet, azuretest.Denied))
		}, 6, "key-denied", []string{`hint: allow certificates/get: assign the role "Key Vault Reader"`}},
		"secret denied": {azureKey + "?chain=secret", func(s *azuretest.Server, _ *azuretest.Version) {
			s.Fault(azureFails(forEver, azuretest.SecretGet, azuretest.Denied))
		}, 6, "key-denied", []string{`hint: allow secrets/get: assign the role "Key Vault Secrets User"`}},
		"PKCS #12": {azureKey + "?chain=secret", func(_ *azuretest.Server, v *azuretest.Version) { v.PFX, v.Converts = true, false }, 6, "key-service",
			[]string{"openssl pkcs12"}},
		"no certificate anywhere": {azureKey, func(_ *azuretest.Server, v *azuretest.Version) { v.Certificates = nil }, 3, "", nil},
		"a chain in an HSM":       {"azurekms://" + azureHSM + "/release?chain=secret", nil, 3, "key-uri", []string{"keeps no certificates"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, s, _ := newAzure(t)
			v := s.AddKey("release", certtest.Key("P-256"))
			s.Edit(func() {
				v.Certificates = d.ca.Chain(d.ca.Leaf(v.Signer.Public(), "release"))
				if tt.set != nil {
					tt.set(s, v)
				}
			})
			key := tt.key
			if strings.HasPrefix(name, "certificate of") {
				key += "/" + v.ID
				s.Edit(func() { s.AddKey("release", certtest.Key("P-256")).Certificates = v.Certificates })
			}
			if tt.reason == "" {
				if o := d.run(t, "sign", d.ref, "--key", key); o.code != tt.code || !strings.Contains(unwrapped(o.stderr), "hint: get a certificate for it") {
					t.Errorf("exit code %d\n%s", o.code, o.stderr)
				}
			} else {
				d.refused(t, tt.code, tt.reason, tt.says, "sign", d.ref, "--key", key, "--chain", d.at("ca.pem"))
			}
			if n := s.Calls(azuretest.KeysSign); n != 0 {
				t.Errorf("%d signing calls", n)
			}
		})
	}
}

// What passes costs further calls, which are counted, and leaves one signature.
func TestAzureSignsAgain(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault azuretest.Fault
		times int
		calls string
	}{
		"F31 throttled twice": {azuretest.Throttled, 2, "3"},
		"F31 failing once":    {azuretest.Failing, 1, "2"},
		"F33 answer lost":     {azuretest.Lost, 1, "2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, s, _ := newAzure(t)
			v := s.AddKey("release", certtest.Key("P-384"))
			s.Fault(azureFails(tt.times, azuretest.KeysSign, tt.fault))
			o := d.ok(t, "sign", d.ref, "--key", azureKey, "--chain", d.chainFor(v.Signer.Public(), "release"), "-o", "json")
			if calls, written := o.field(t, "keyCalls"), o.field(t, "written"); calls != tt.calls || written != "1" {
				t.Errorf("%s key calls, %s signatures, want %s, 1\n%s", calls, written, tt.calls, o.stdout)
			}
			manifests := d.registry.Count(func(r regtest.Request) bool {
				return r.Method == http.MethodPut && strings.Contains(r.Path, "/manifests/")
			})
			if manifests != 1 {
				t.Errorf("%d manifests written", manifests)
			}
			d.accepted(t, d.ref)
		})
	}
}

// A service that cannot be reached ends the run within 15 s, and is named.
func TestAzureDead(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		kill func(*azuretest.Server, *wiretest.World)
		says string
		most time.Duration
	}{
		"F31 closed":       {func(_ *azuretest.Server, w *wiretest.World) { w.Remove(".vault.azure.net") }, "reaching " + azureVault, 5 * time.Second},
		"F31 silent":       {func(_ *azuretest.Server, w *wiretest.World) { w.Silence(".vault.azure.net") }, azureVault, 15 * time.Second},
		"F31 silent login": {func(_ *azuretest.Server, w *wiretest.World) { w.Silence(azureLogin) }, azureLogin, 15 * time.Second},
		"no login":         {func(_ *azuretest.Server, w *wiretest.World) { w.Remove(azureLogin) }, "reaching " + azureLogin, 5 * time.Second},
		"F31 dumb": {func(s *azuretest.Server, _ *wiretest.World) {
			s.Fault(azureFails(forEver, azuretest.KeysGet, azuretest.Silent))
		}, "no answer within 13s", 15 * time.Second},
		"F31 dumb when signing": {func(s *azuretest.Server, _ *wiretest.World) {
			s.Fault(azureFails(forEver, azuretest.KeysSign, azuretest.Silent))
		}, "no answer within 13s", 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, s, w := newAzure(t)
			v := s.AddKey("release", certtest.Key("P-256"))
			chain := d.chainFor(v.Signer.Public(), "release")
			tt.kill(s, w)
			o := d.refused(t, 6, "key-unreachable", []string{tt.says}, "sign", d.ref, "--key", azureKey, "--chain", chain)
			if o.took > tt.most {
				t.Errorf("it took %s", o.took)
			}
		})
	}
	t.Run("unknown CA", func(t *testing.T) {
		t.Parallel()
		d, s, _ := newAzure(t)
		s.AddKey("release", certtest.Key("P-256"))
		d.env = append(d.env, "SSL_CERT_FILE="+d.at("root.pem"))
		d.refused(t, 6, "key-unreachable", []string{"x509: certificate signed by unknown authority"}, "key", "show", azureKey)
	})
}

// Who is not logged in is told how to, and what is secret appears nowhere, whatever is asked to be logged.
func TestAzureCredentials(t *testing.T) {
	t.Parallel()
	const setThem = "hint: set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or run `az login`"
	for name, tt := range map[string]struct {
		env  []string
		set  func(s *azuretest.Server)
		code string
		says []string
	}{
		"none":               {[]string{"AZURE_TENANT_ID="}, nil, "key-credentials", []string{"EnvironmentCredential: missing environment variable AZURE_TENANT_ID", setThem}},
		"half of them":       {[]string{"AZURE_CLIENT_SECRET="}, nil, "key-credentials", []string{"Only AZURE_TENANT_ID and AZURE_CLIENT_ID are set", setThem}},
		"in GitHub Actions":  {[]string{"AZURE_TENANT_ID=", "GITHUB_ACTIONS=true"}, nil, "key-credentials", []string{setThem, "permissions: id-token: write"}},
		"no az":              {[]string{"AZURE_TOKEN_CREDENTIALS=AzureCLICredential", "PATH=/nonexistent"}, nil, "key-credentials", []string{"AzureCLICredential", setThem}},
		"no tool":            {[]string{"AZURE_TOKEN_CREDENTIALS=dev", "PATH=/nonexistent"}, nil, "key-credentials", []string{"AzureCLICredential: ", "; nor is there a token from AzureDeveloperCLICredential, AzurePowerShellCredential", setThem}},
		"no such credential": {[]string{"AZURE_TOKEN_CREDENTIALS=Nobody"}, nil, "key-credentials", []string{`invalid AZURE_TOKEN_CREDENTIALS value "Nobody"`}},
		"wrong secret":       {[]string{"AZURE_CLIENT_SECRET=canary-wrong-secret"}, nil, "key-credentials", []string{"AADSTS7000215: Invalid client secret provided", "hint: AZURE_CLIENT_SECRET"}},
		"another tenant":     {[]string{"AZURE_TENANT_ID=00000000-1111-2222-3333-444444444444"}, nil, "key-credentials", []string{"the vault's tenant is 72f988bf-86f1-41af-91ab-2d7cd011db47"}},
		"expired":            {nil, func(s *azuretest.Server) { s.Fault(azureFails(forEver, azuretest.Token, azuretest.SecretExpired)) }, "key-login-expired", []string{"AADSTS7000222"}},
		"a false challenge":  {nil, func(s *azuretest.Server) { s.Resource = "https://graph.microsoft.com" }, "key-service", []string{`wants a token for "https://graph.microsoft.com" instead of https://vault.azure.net: none was sent`}},
		"a false authority":  {nil, func(s *azuretest.Server) { s.Authority = "x" }, "key-service", []string{`names the token service "x"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, s, _ := newAzure(t)
			v := s.AddKey("release", certtest.Key("P-256"))
			if tt.set != nil {
				s.Edit(func() { tt.set(s) })
			}
			d.env = append(d.env, tt.env...)
			args := []string{"sign", d.ref, "--key", azureKey, "--chain", d.chainFor(v.Signer.Public(), "release")}
			o := d.refused(t, 6, tt.code, tt.says, args...)
			d.hides(t, o, s.Secret, "canary-wrong-secret", "token-")
			o = d.run(t, args...)
			d.hides(t, o, s.Secret, "canary-wrong-secret", "token-", "-----------")
			if o.took > 15*time.Second {
				t.Errorf("it took %s", o.took)
			}
			if n := s.Calls(azuretest.KeysGet); n != 0 {
				t.Errorf("%d requests with a token", n)
			}
			if tt.code == "key-service" && s.Calls(azuretest.Token) != 0 {
				t.Errorf("%d tokens were asked for", s.Calls(azuretest.Token))
			}
		})
	}
	for name, fault := range map[string]azuretest.Fault{"log of success": azuretest.None, "log of failure": azuretest.Denied} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, s, _ := newAzure(t)
			v := s.AddKey("release", certtest.Key("P-256"))
			s.Edit(func() { v.Certificates, v.Exportable = d.ca.Chain(d.ca.Leaf(v.Signer.Public(), "release")), true })
			d.env = append(d.env, "AZURE_SDK_GO_LOGGING=all")
			s.Fault(azureFails(forEver, azuretest.KeysSign, fault))
			o := d.run(t, "sign", d.ref, "--key", azureKey+"?chain=secret")
			if want := map[azuretest.Fault]int{azuretest.None: 0, azuretest.Denied: 6}[fault]; o.code != want {
				t.Errorf("exit code %d\n%s", o.code, o.stderr)
			}
			d.hides(t, o, s.Secret, "token-", "PRIVATE KEY-", "Bearer token")
		})
	}
}
