package azurekms

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/kms/kmstest/azuretest"
	"github.com/imprint-oci/imprint/kms/kmstest/wiretest"
)

// Most of these tests wait for a service's patience to end, not for a processor.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// A world is a tenant with vaults, and the way there: a proxy, TLS under the real names, and a client secret.
type world struct {
	*azuretest.Server
	wire *wiretest.World
	link link
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Server: azuretest.New(t), wire: wiretest.New(t)}
	w.Serve(w.wire)
	pem, err := os.ReadFile(w.wire.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	proxy, err := url.Parse(w.wire.Proxy)
	if err != nil {
		t.Fatal(err)
	}
	w.link = link{
		transport: &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots}},
		login: func(o policy.ClientOptions) (azcore.TokenCredential, error) {
			return azidentity.NewClientSecretCredential(w.Tenant, w.Client, w.Secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: o})
		},
	}
	return w
}

func (w *world) open(ctx context.Context, uri string, o kms.Options) (kms.Key, error) {
	u, err := kms.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	return open(ctx, u, o, w.link)
}

// opened opens a key that can be opened.
func (w *world) opened(t *testing.T, uri string) kms.Key {
	t.Helper()
	k, err := w.open(t.Context(), uri, kms.Options{Agent: "imprint/test"})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(ctx context.Context, k kms.Key) ([]byte, error) {
	a, err := kms.AlgorithmOf(k.Public())
	if err != nil {
		return nil, err
	}
	return k.Sign(ctx, []byte("a message"), a.SignerOpts())
}

// failure returns the reason and the remedy of an error of the service's, which must be one line that names the key.
func failure(t *testing.T, err error) (reason, remedy string) {
	t.Helper()
	var e *kms.Error
	if !errors.As(err, &e) {
		t.Fatalf("no error of a key: %v", err)
	}
	if kms.Reasons()[e.Code] == "" {
		t.Errorf("the reason %q is not listed", e.Code)
	}
	if text := err.Error() + e.Remedy; strings.ContainsAny(text, "\n\r\t") || len(text) > 1200 || strings.Contains(text, "canary") {
		t.Errorf("not one fit line: %q", text)
	}
	return e.Code, e.Remedy
}

const hsm = "azurekms://h.managedhsm.azure.net/"
const plain = "azurekms://v.vault.azure.net/"

func TestConformance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, algorithm := range certtest.Algorithms {
		for service, at := range map[string]string{"Azure Key Vault": plain, "Azure Managed HSM": hsm} {
			t.Run(algorithm+" in "+service, func(t *testing.T) {
				t.Parallel()
				name := "Key-" + algorithm + strings.Map(func(r rune) rune { return r | 0x20 }, service[6:9])
				v := w.AddKey(strings.ReplaceAll(name, " ", ""), certtest.Key(algorithm))
				k := w.opened(t, at+v.Name)
				kmstest.RunWith(t, k, kmstest.Options{Network: true})
				if err := kms.Probe(t.Context(), k); err != nil {
					t.Error(err)
				}
				d := kms.Describe(k)
				if id := k.(kms.Identifier).ID(); id != at+v.Name+"/"+v.ID || d.Version != v.ID || d.Service != service || !d.PKCS1 {
					t.Errorf("it is %s, %+v", id, d)
				}
			})
		}
	}
}

// Every cloud has its own token service, and its own resource.
func TestClouds(t *testing.T) {
	t.Parallel()
	for host, login := range map[string]string{
		"v.vault.azure.net": "login.microsoftonline.com", "h.managedhsm.azure.net": "login.microsoftonline.com",
		"v.vault.azure.cn": "login.chinacloudapi.cn", "h.managedhsm.azure.cn": "login.chinacloudapi.cn",
		"v.vault.usgovcloudapi.net": "login.microsoftonline.us", "h.managedhsm.usgovcloudapi.net": "login.microsoftonline.us",
	} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.AddKey("release", certtest.Key("P-256"))
			k := w.opened(t, "azurekms://"+host+"/release")
			if _, err := sign(t.Context(), k); err != nil {
				t.Fatal(err)
			}
			for _, asked := range w.wire.Asked() {
				if asked != host && asked != login {
					t.Errorf("%s was asked", asked)
				}
			}
			if c := w.Calls(azuretest.Challenge); c != 1 {
				t.Errorf("%d requests without a token", c)
			}
			if c := w.Calls(azuretest.Token); c != 1 {
				t.Errorf("%d tokens", c)
			}
			for _, agent := range w.Agents() {
				if !strings.HasPrefix(agent, "imprint/test ") {
					t.Errorf("the vault is told %q", agent)
				}
			}
		})
	}
}

// A key without a version is pinned to the one that it had when it was opened; the name is written as the service writes it.
func TestVersionIsPinned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.AddKey("Release", certtest.Key("P-256"))
	k := w.opened(t, "https://V.vault.azure.net/keys/release")
	w.AddKey("release", certtest.Key("P-256"))
	if id := k.(kms.Identifier).ID(); id != plain+"Release/"+first.ID {
		t.Errorf("ID %s", id)
	}
	if _, err := sign(t.Context(), k); err != nil {
		t.Errorf("after a rotation: %v", err)
	}
	again := w.opened(t, k.(kms.Identifier).ID())
	if _, err := sign(t.Context(), again); err != nil {
		t.Errorf("by its own ID: %v", err)
	}
	if kept := w.opened(t, plain+"release?chain=certificate"); !strings.HasSuffix(kept.(kms.Identifier).ID(), "?chain=certificate") {
		t.Errorf("ID %s", kept.(kms.Identifier).ID())
	}
}
