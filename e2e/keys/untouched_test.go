package keys

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms/kmstest/wiretest"
)

// What judges, renews and copies reads no credentials of a key service and asks none: every credential file is a FIFO, on which a
// reader would wait for ever, and every service a listener that counts.
func TestNothingOfKeyServicesIsTouched(t *testing.T) {
	t.Parallel()
	w := wiretest.New(t)
	service, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 100)
	go func() {
		for {
			c, err := service.Accept()
			if err != nil {
				return
			}
			c.Close()
			asked <- struct{}{}
		}
	}()
	t.Cleanup(func() { service.Close() })
	address := "http://" + service.Addr().String()

	d := newDesk(t, w.Environ()...)
	key := certtest.Key("P-256")
	chain := d.chainFor(key.Public(), "release")
	d.ok(t, "sign", d.ref, "--key", "file:"+d.file("release.key", certtest.KeyPEM(key)), "--chain", chain)
	renewed := d.root.Intermediate("keys CA")
	d.file("renewed.pem", certtest.PEM(renewed.Chain(renewed.Leaf(key.Public(), "release"))...))

	fifo := func(name string) string {
		path := filepath.Join(d.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fifo("home/.vault-token")
	fifo("home/.azure/msal_token_cache.json")
	fifo("home/.config/gcloud/application_default_credentials.json")
	d.env = append(d.env,
		"AWS_SHARED_CREDENTIALS_FILE="+fifo("aws-credentials"), "AWS_CONFIG_FILE="+fifo("aws-config"), "AWS_ENDPOINT_URL_KMS="+address,
		"GOOGLE_APPLICATION_CREDENTIALS="+fifo("google.json"),
		"AZURE_TENANT_ID=t", "AZURE_CLIENT_ID=c", "AZURE_CLIENT_SECRET=s", "AZURE_AUTHORITY_HOST="+address,
		"VAULT_ADDR="+address, "VAULT_CACERT="+fifo("vault-ca"), "BAO_ADDR="+address,
		"NOTATION_LIBEXEC="+filepath.Join(d.dir, "nowhere"))

	d.ok(t, "version")
	d.ok(t, "verify", d.ref, "--root", d.at("root.pem"))
	d.ok(t, "inspect", d.ref)
	d.ok(t, "rechain", d.ref, "--chain", d.at("renewed.pem"), "--allow-shorter")
	d.ok(t, "copy", d.ref, d.registry.Host+"/copy:v1", "--root", d.at("root.pem"))
	if refused := w.Refused(); len(refused) > 0 {
		t.Errorf("asked for %q", refused)
	}
	if n := len(asked); n > 0 {
		t.Errorf("%d connections to key services", n)
	}
	// The trap is one: signing does look there.
	d.env = append(d.env, "VAULT_CACERT=", "VAULT_TOKEN=x") // these two are read before anything is asked
	if o := d.run(t, "key", "show", "hashivault://release"); o.code == 0 || len(asked) == 0 {
		t.Errorf("key show asked %d times, exit code %d: %s", len(asked), o.code, o.stderr)
	}
}
