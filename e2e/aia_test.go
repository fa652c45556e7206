package e2e

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// TestAIAHostile: what a certificate's pointers lead to, through the command, under the guard as it is by default. A proxy of the
// test stands for the internet, since the guard lets nobody reach this machine. Whatever comes, no address of the inside is asked
// for, and nothing is written but a chain that proves itself.
func TestAIAHostile(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	root, key := certtest.Root("desk root"), certtest.Key("P-256")
	near := certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(48*time.Hour))
	far := certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(900*24*time.Hour))
	ca, renewed := root.IntermediateWith(key, "desk CA", near), root.IntermediateWith(key, "desk CA", far)
	namesake := root.Intermediate("desk CA", far)
	// Anybody can make one: of our intermediate's name and key, under a root of his own.
	forged := certtest.Root("evil root", far).IntermediateWith(key, "desk CA", far)

	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		told   string // in a warning; "": there is none
		asked  int    // requests at most
		status string // of the signature
	}{
		"a renewed one": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(renewed.Certificate.Raw) }, "", 1, "written"},
		"redirects to a private address": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusFound)
		}, "(address-private)", 1, "unchanged"},
		"redirects to this machine": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://localhost/", http.StatusFound)
		}, "(address-private)", 1, "unchanged"},
		"redirects to a file": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, "(url-not-allowed)", 1, "unchanged"},
		"redirects in a circle": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.String(), http.StatusFound)
		}, "(redirect-refused)", 6, "unchanged"},
		"huge": {func(w http.ResponseWriter, _ *http.Request) {
			for range 64 {
				_, _ = w.Write(make([]byte, 64<<10))
			}
		}, "(answer-too-large)", 1, "unchanged"},
		"another's of the name": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(namesake.Certificate.Raw) }, "whose key did not sign", 1, "unchanged"},
		"under a root of his own": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(certtest.PEM(forged.Chain(forged.Certificate)[1:]...))
		}, "sends another root", 1, "unchanged"},
		"html":      {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>log in</html>")) }, "no certificates that can be used", 1, "unchanged"},
		"not there": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, "404 Not Found", 1, "unchanged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const where = "http://ca.example/desk-ca.crt"
			var mu sync.Mutex
			var asked []string
			internet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				asked = append(asked, r.URL.String())
				mu.Unlock()
				c.answer(w, r)
			}))
			defer internet.Close()
			d := newDesk(t, f, t.Name())
			d.env = append(d.env, "HTTP_PROXY="+internet.URL, "http_proxy="+internet.URL)
			d.root, d.ca = root, ca
			d.leaf = ca.Leaf(d.key.Public(), "desk", func(c *x509.Certificate) { c.IssuingCertificateURL = []string{where} })
			d.signed()

			o := d.process(t, "rechain", d.ref, "--aia", "-o", "json")
			if got := o.field(t, "signatures.0.status"); o.code != 0 || got != c.status {
				t.Errorf("exit code %d, %s, want %s\n%s%s", o.code, got, c.status, o.stdout, o.stderr)
			}
			said := strings.Join(strings.Fields(o.stderr), " ")
			if warned := strings.Contains(said, "imprint: warning: "); warned != (c.told != "") || !strings.Contains(said, c.told) {
				t.Errorf("want a warning with %q: %s", c.told, o.stderr)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(asked) == 0 || len(asked) > c.asked {
				t.Errorf("asked for %q", asked)
			}
			for _, a := range asked {
				if a != where {
					t.Errorf("%s was asked for", a)
				}
			}
			switch n := len(d.listed()); {
			case c.status == "unchanged" && n != 1:
				t.Errorf("%d signatures", n)
			case c.status == "written":
				got := d.x5cOf(t, o.field(t, "signatures.0.new"))
				if len(got) != 3 || !got[1].Equal(renewed.Certificate) || !got[2].Equal(root.Certificate) {
					t.Errorf("a chain of %d", len(got))
				}
			}
		})
	}
}
