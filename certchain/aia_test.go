package certchain_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
)

// at makes a certificate point at addresses.
func at(urls ...string) certtest.Edit {
	return func(c *x509.Certificate) { c.IssuingCertificateURL = urls }
}

// web answers for addresses, and counts.
type web struct {
	mu      sync.Mutex
	answers map[string][]byte
	asked   []string
}

func (w *web) get(_ context.Context, url string, limit int64) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, url)
	b, ok := w.answers[url]
	switch {
	case !ok:
		return nil, fmt.Errorf("fetching %s: it answers 404 Not Found", url)
	case int64(len(b)) > limit:
		return nil, fmt.Errorf("fetching %s: its answer is larger than %d bytes", url, limit)
	}
	return b, nil
}

// certsOnly is the degenerate PKCS#7 that authorities publish.
func certsOnly(certs ...*x509.Certificate) []byte {
	der := func(tag byte, parts ...[]byte) []byte {
		content := bytes.Join(parts, nil)
		return append([]byte{tag, 0x83, byte(len(content) >> 16), byte(len(content) >> 8), byte(len(content))}, content...)
	}
	short := func(tag byte, parts ...[]byte) []byte {
		content := bytes.Join(parts, nil)
		switch {
		case len(content) < 128:
			return append([]byte{tag, byte(len(content))}, content...)
		case len(content) < 256:
			return append([]byte{tag, 0x81, byte(len(content))}, content...)
		case len(content) < 1<<16:
			return append([]byte{tag, 0x82, byte(len(content) >> 8), byte(len(content))}, content...)
		}
		return der(tag, parts...)
	}
	var raw [][]byte
	for _, c := range certs {
		raw = append(raw, c.Raw)
	}
	oid := func(last byte) []byte { return []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 7, last} }
	signed := short(0x30, []byte{2, 1, 1}, short(0x31), short(0x30, oid(1)), short(0xa0, raw...), short(0xa1), short(0x31))
	return short(0x30, oid(2), short(0xa0, signed))
}

func labels(names map[*x509.Certificate]string, certs []*x509.Certificate) []string {
	out := []string{}
	for _, c := range certs {
		name := "?"
		for known, n := range names {
			if known.Equal(c) {
				name = n
			}
		}
		out = append(out, name)
	}
	return out
}

func TestAIA(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	const up, upper = "http://ca.example/ca.crt", "http://ca.example/root.crt"
	key, issuerKey := certtest.Key("P-256"), certtest.Key("P-256")
	root := certtest.Root("root")
	ca := root.IntermediateWith(issuerKey, "ca", at(upper))
	renewed := root.IntermediateWith(issuerKey, "ca", at(upper), certtest.Valid(time.Now().Add(-day), time.Now().Add(3000*day)))
	namesake := root.Intermediate("ca", at(upper))
	leaf := ca.Leaf(key.Public(), "leaf", at("ldap://ca.example/cn=ca", up))
	// What anybody can make: a root that has issued an intermediate of the same name and key, and lasts longer.
	evil := certtest.Root("evil")
	forged := evil.IntermediateWith(issuerKey, "ca", at("http://evil.example/root.crt"), certtest.Valid(time.Now().Add(-day), time.Now().Add(9000*day)))
	names := map[*x509.Certificate]string{leaf: "leaf", ca.Certificate: "ca", renewed.Certificate: "renewed", root.Certificate: "root",
		namesake.Certificate: "namesake", evil.Certificate: "evil", forged.Certificate: "forged"}
	type list = []*x509.Certificate
	der := func(c *certtest.Authority) []byte { return c.Certificate.Raw }
	keyed := append(certtest.PEM(ca.Certificate), certtest.KeyPEM(key)...)
	many := bytes.Repeat(certtest.PEM(ca.Certificate), 10_000)

	for _, tt := range []struct {
		name  string
		certs list
		web   map[string][]byte
		found []string
		warns []string // each a part of one warning, in order
		asks  int
	}{
		{"DER, all the way up", list{leaf}, map[string][]byte{up: der(ca), upper: der(root)}, []string{"ca", "root"}, nil, 2},
		{"PEM", list{leaf}, map[string][]byte{up: certtest.PEM(ca.Certificate), upper: certtest.PEM(root.Certificate)}, []string{"ca", "root"}, nil, 2},
		{"PKCS#7 with all of them", list{leaf}, map[string][]byte{up: certsOnly(root.Certificate, ca.Certificate)}, []string{"ca", "root"},
			[]string{"404"}, 2},
		{"PKCS#7 in PEM", list{leaf}, map[string][]byte{up: pem.EncodeToMemory(&pem.Block{Type: "PKCS7", Bytes: certsOnly(ca.Certificate)}), upper: certsOnly(root.Certificate)},
			[]string{"ca", "root"}, nil, 2},
		{"a renewed one though nothing is missing", list{leaf, ca.Certificate, root.Certificate}, map[string][]byte{up: der(renewed), upper: der(root)},
			[]string{"renewed"}, nil, 2},
		{"nothing new", list{leaf, ca.Certificate, root.Certificate}, map[string][]byte{up: der(ca), upper: der(root)}, []string{}, nil, 2},
		{"what does not belong stays out", list{leaf}, map[string][]byte{up: certsOnly(namesake.Certificate, ca.Certificate, evil.Certificate), upper: der(root)},
			[]string{"ca", "root"}, nil, 2},
		{"a wrong one", list{leaf}, map[string][]byte{up: der(namesake)}, []string{}, []string{"whose key did not sign"}, 1},
		{"a wrong one beside a root", list{leaf, root.Certificate}, map[string][]byte{up: der(evil)}, []string{}, []string{"whose key did not sign"}, 1},
		{"a pointer that comes back to itself", list{leaf}, map[string][]byte{up: leaf.Raw}, []string{}, []string{"whose key did not sign"}, 1},
		{"none there", list{leaf}, nil, []string{}, []string{"404"}, 1},
		{"garbage", list{leaf}, map[string][]byte{up: []byte("<html>login</html>")}, []string{}, []string{"malformed-certificates"}, 1},
		{"nothing", list{leaf}, map[string][]byte{up: {}}, []string{}, []string{"no-certificates"}, 1},
		{"with a private key", list{leaf}, map[string][]byte{up: keyed}, []string{}, []string{"private-key"}, 1},
		{"10,000 certificates", list{leaf}, map[string][]byte{up: many}, []string{}, []string{"larger than 262144"}, 1},
		{"17 certificates", list{leaf}, map[string][]byte{up: bytes.Repeat(certtest.PEM(ca.Certificate), 17)}, []string{}, []string{"too-many-certificates"}, 1},
		{"the upper one fails, the lower one is found", list{leaf, root.Certificate}, map[string][]byte{up: der(ca), upper: []byte("x")}, []string{"ca"},
			[]string{"malformed-certificates"}, 2},
		{"another root beside ours", list{leaf, ca.Certificate, root.Certificate}, map[string][]byte{up: certsOnly(forged.Certificate, evil.Certificate), upper: der(root)},
			[]string{"forged"}, []string{"404", "another root"}, 3},
		{"another root where ours is given and the issuer missing", list{leaf, root.Certificate},
			map[string][]byte{up: certsOnly(forged.Certificate, evil.Certificate, ca.Certificate), upper: der(root)}, []string{"forged", "ca"}, []string{"404", "another root"}, 3},
		{"two roots where none is given", list{leaf}, map[string][]byte{up: certsOnly(forged.Certificate, evil.Certificate, ca.Certificate), upper: der(root)},
			[]string{"forged", "ca", "evil", "root"}, []string{"404"}, 3},
		{"a root has no issuer", list{root.Certificate}, nil, []string{}, nil, 0},
		{"no pointer, and no issuer", list{certtest.Root("x").Leaf(key.Public(), "lonely")}, nil, []string{}, []string{"does not say where"}, 0},
		{"no pointer, and none is needed", list{certtest.Root("x").Leaf(key.Public(), "lonely", at("ldap://ca.example/")), nil}, nil, []string{}, []string{"does not say where"}, 0},
		{"nothing at all", nil, nil, []string{}, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := &web{answers: tt.web}
			found, warnings := (&certchain.AIA{Get: w.get}).Complete(t.Context(), tt.certs)
			if diff := cmp.Diff(tt.found, labels(names, found)); diff != "" {
				t.Errorf("found (-want +got)\n%s", diff)
			}
			if len(warnings) != len(tt.warns) {
				t.Errorf("warnings %q, want %q", warnings, tt.warns)
			}
			for i, want := range tt.warns {
				if i < len(warnings) && !strings.Contains(warnings[i], want) {
					t.Errorf("warning %q, want one with %q", warnings[i], want)
				}
			}
			if len(w.asked) != tt.asks {
				t.Errorf("asked %q, want %d", w.asked, tt.asks)
			}
			// Whatever was found: with a root of ours no chain of another root comes of it.
			if slices.ContainsFunc(tt.certs, root.Certificate.Equal) && slices.ContainsFunc(tt.certs, leaf.Equal) {
				if chain, err := certchain.Build(leaf.PublicKey, slices.Concat(tt.certs, found), time.Now()); err == nil && !chain.Root().Equal(root.Certificate) {
					t.Errorf("the chain ends at %s", certchain.NameOf(chain.Root().RawSubject))
				}
			}
		})
	}
}

// TestAIAHasBounds: authorities that go on for ever, each with a new address.
func TestAIAHasBounds(t *testing.T) {
	t.Parallel()
	t.Run("a line without end", func(t *testing.T) {
		t.Parallel()
		keys := []*certtest.Authority{certtest.Root("0")}
		answers := map[string][]byte{}
		for i := range 30 {
			next := keys[i].Intermediate(fmt.Sprint(i+1), at(fmt.Sprintf("http://ca.example/%d", i)))
			keys = append(keys, next)
			answers[fmt.Sprintf("http://ca.example/%d", i)] = keys[i].Certificate.Raw
		}
		leaf := keys[30].Leaf(certtest.Key("P-256").Public(), "leaf", at("http://ca.example/30"))
		answers["http://ca.example/30"] = keys[30].Certificate.Raw
		w := &web{answers: answers}
		found, _ := (&certchain.AIA{Get: w.get}).Complete(t.Context(), []*x509.Certificate{leaf})
		if len(found) != 8 || len(w.asked) != 8 {
			t.Errorf("%d found, %d asked", len(found), len(w.asked))
		}
	})
	t.Run("addresses without end", func(t *testing.T) {
		t.Parallel()
		var urls []string
		for i := range 100 {
			urls = append(urls, fmt.Sprintf("http://ca.example/%d", i))
		}
		root := certtest.Root("root")
		leaf := root.Leaf(certtest.Key("P-256").Public(), "leaf", at(urls...))
		w := &web{answers: map[string][]byte{urls[15]: root.Certificate.Raw, urls[16]: root.Certificate.Raw}}
		found, warnings := (&certchain.AIA{Get: w.get}).Complete(t.Context(), []*x509.Certificate{leaf})
		if len(w.asked) != 16 || len(found) != 1 || !strings.Contains(warnings[len(warnings)-1], "more than 16 addresses") {
			t.Errorf("%d asked, %d found, %q", len(w.asked), len(found), warnings)
		}
	})
	t.Run("issuers without end", func(t *testing.T) {
		t.Parallel()
		key := certtest.Key("P-256")
		answers, urls := map[string][]byte{}, []string{}
		root := certtest.Root("root")
		for i := range 3 {
			urls = append(urls, fmt.Sprintf("http://ca.example/%d", i))
			var certs []*x509.Certificate
			for range 16 {
				certs = append(certs, root.IntermediateWith(key, "ca").Certificate)
			}
			answers[urls[i]] = certsOnly(certs...)
		}
		leaf := root.IntermediateWith(key, "ca").Leaf(certtest.Key("P-256").Public(), "leaf", at(urls...))
		w := &web{answers: answers}
		found, warnings := (&certchain.AIA{Get: w.get}).Complete(t.Context(), []*x509.Certificate{leaf})
		if len(found) != 32 || !slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, "more than 32 issuers") }) {
			t.Errorf("%d found, %q", len(found), warnings)
		}
	})
	t.Run("a circle", func(t *testing.T) {
		t.Parallel()
		ka, kb := certtest.Key("P-256"), certtest.Key("P-256")
		a := certtest.RootWith(ka, "a").IntermediateWith(kb, "b", at("http://ca.example/a"))
		b := certtest.RootWith(kb, "b").IntermediateWith(ka, "a", at("http://ca.example/b"))
		w := &web{answers: map[string][]byte{"http://ca.example/a": b.Certificate.Raw, "http://ca.example/b": a.Certificate.Raw}}
		leaf := b.Leaf(certtest.Key("P-256").Public(), "leaf", at("http://ca.example/a"))
		found, warnings := (&certchain.AIA{Get: w.get}).Complete(t.Context(), []*x509.Certificate{leaf})
		if len(found) != 2 || len(w.asked) != 2 || len(warnings) != 0 {
			t.Errorf("%d found, asked %q, %q", len(found), w.asked, warnings)
		}
	})
	t.Run("warnings are fit for a terminal", func(t *testing.T) {
		t.Parallel()
		address := "http://ca.example/\x1b[2J" + strings.Repeat("x", 3000)
		leaf := certtest.Root("x").Leaf(certtest.Key("P-256").Public(), "leaf", at(address))
		w := &web{answers: map[string][]byte{address: []byte("x")}}
		_, warnings := (&certchain.AIA{Get: w.get}).Complete(t.Context(), []*x509.Certificate{leaf})
		if len(warnings) != 1 || len(warnings[0]) > 500 || strings.ContainsRune(warnings[0], 0x1b) {
			t.Errorf("%q", warnings)
		}
		if got := certchain.IssuerAddress(leaf); len(got) > 210 || strings.ContainsRune(got, 0x1b) {
			t.Errorf("%q", got)
		}
	})
}

// TestAIAAsksOnce: in a run over many signatures each address is asked once, in whatever order and by however many at a time.
func TestAIAAsksOnce(t *testing.T) {
	t.Parallel()
	root := certtest.Root("root")
	ca := root.Intermediate("ca", at("http://ca.example/root"))
	leaf := ca.Leaf(certtest.Key("P-256").Public(), "leaf", at("http://ca.example/missing", "http://ca.example/ca"))
	w := &web{answers: map[string][]byte{"http://ca.example/ca": ca.Certificate.Raw, "http://ca.example/root": root.Certificate.Raw}}
	a := &certchain.AIA{Get: w.get}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			found, warnings := a.Complete(t.Context(), []*x509.Certificate{leaf})
			if len(found) != 2 || len(warnings) != 1 {
				t.Errorf("found %d, %q", len(found), warnings)
			}
		})
	}
	all.Wait()
	slices.Sort(w.asked)
	if diff := cmp.Diff([]string{"http://ca.example/ca", "http://ca.example/missing", "http://ca.example/root"}, w.asked); diff != "" {
		t.Error(diff)
	}
}

func TestAIASlowAndInterrupted(t *testing.T) {
	t.Parallel()
	root := certtest.Root("root")
	pointing := func(urls ...string) []*x509.Certificate {
		return []*x509.Certificate{root.Leaf(certtest.Key("P-256").Public(), "leaf", at(urls...))}
	}
	t.Run("a slow host is asked once, others are asked", func(t *testing.T) {
		t.Parallel()
		var asked []string
		a := &certchain.AIA{Get: func(_ context.Context, url string, _ int64) ([]byte, error) {
			asked = append(asked, url)
			if strings.Contains(strings.ToLower(url), "slow") {
				return nil, fmt.Errorf("fetching %s: %w", url, context.DeadlineExceeded)
			}
			return root.Certificate.Raw, nil
		}}
		found, warnings := a.Complete(t.Context(), pointing("http://SLOW.example/1", "http://slow.example/2", "http://slow.example/3", "http://fast.example/"))
		_, _ = a.Complete(t.Context(), pointing("http://slow.example/4"))
		want := []string{"http://SLOW.example/1", "http://fast.example/"}
		if diff := cmp.Diff(want, asked); diff != "" || len(found) != 1 || len(warnings) != 3 {
			t.Errorf("%s, %d found, %q", diff, len(found), warnings)
		}
	})
	t.Run("what was interrupted is asked again", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		var n atomic.Int64
		a := &certchain.AIA{Get: func(ctx context.Context, _ string, _ int64) ([]byte, error) {
			if n.Add(1) == 1 {
				cancel()
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return root.Certificate.Raw, nil
		}}
		found, warnings := a.Complete(ctx, pointing("http://ca.example/", "http://ca.example/2"))
		if len(found) != 0 || len(warnings) != 2 {
			t.Errorf("%d found, %q", len(found), warnings)
		}
		found, warnings = a.Complete(t.Context(), pointing("http://ca.example/"))
		if len(found) != 1 || len(warnings) != 0 || n.Load() != 2 {
			t.Errorf("%d found, %q, %d asked", len(found), warnings, n.Load())
		}
	})
	t.Run("each answer has its time", func(t *testing.T) {
		t.Parallel()
		var left time.Duration
		a := &certchain.AIA{Get: func(ctx context.Context, _ string, _ int64) ([]byte, error) {
			if end, ok := ctx.Deadline(); ok {
				left = time.Until(end)
			}
			return nil, errors.New("no")
		}}
		a.Complete(t.Context(), pointing("http://ca.example/"))
		if left <= 0 || left > 20*time.Second {
			t.Errorf("%v for an answer", left)
		}
	})
}

// TestAIAReadsWhatOpenSSLWrites: the PKCS#7 of authorities' own tools.
func TestAIAReadsWhatOpenSSLWrites(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("no openssl here")
	}
	root := certtest.Root("root")
	ca := root.Intermediate("ca")
	dir := t.TempDir()
	in := filepath.Join(dir, "in.pem")
	if err := os.WriteFile(in, certtest.PEM(ca.Certificate, root.Certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	leaf := ca.Leaf(certtest.Key("P-256").Public(), "leaf", at("http://ca.example/p7c"))
	for _, form := range []string{"DER", "PEM"} {
		out, err := exec.Command("openssl", "crl2pkcs7", "-nocrl", "-certfile", in, "-outform", form).Output()
		if err != nil {
			t.Fatal(err)
		}
		w := &web{answers: map[string][]byte{"http://ca.example/p7c": out}}
		found, warnings := (&certchain.AIA{Get: w.get}).Complete(t.Context(), []*x509.Certificate{leaf})
		if len(found) != 2 || len(warnings) != 0 {
			t.Errorf("%s: %d found, %q", form, len(found), warnings)
		}
	}
}

func FuzzAIA(f *testing.F) {
	root := certtest.Root("root")
	ca := root.Intermediate("ca", at("http://ca.example/"))
	leaf := ca.Leaf(certtest.Key("P-256").Public(), "leaf", at("http://ca.example/"))
	f.Add(ca.Certificate.Raw)
	f.Add(certtest.PEM(ca.Certificate, root.Certificate))
	f.Add(certsOnly(ca.Certificate, root.Certificate))
	f.Add(append(ca.Certificate.Raw, root.Certificate.Raw...))
	f.Add(certtest.KeyPEM(certtest.Key("P-256")))
	f.Fuzz(func(t *testing.T, answer []byte) {
		a := &certchain.AIA{Get: func(context.Context, string, int64) ([]byte, error) { return answer, nil }}
		found, _ := a.Complete(t.Context(), []*x509.Certificate{leaf, root.Certificate})
		for _, c := range found {
			if !bytes.Equal(c.RawSubject, leaf.RawIssuer) || leaf.CheckSignatureFrom(c) != nil {
				t.Fatalf("found %s, which issued nothing", certchain.NameOf(c.RawSubject))
			}
		}
	})
}
