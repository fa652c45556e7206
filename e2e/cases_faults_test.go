package e2e

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// What goes wrong on the way (F21 to F27), through the command.

// docker writes the person's config.json.
func (p *person) docker(t testing.TB, config string) {
	t.Helper()
	dir := filepath.Join(p.dir, "home", ".docker")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

// helper puts a credential helper on the person's path.
func (p *person) helper(t testing.TB, name, script string) {
	t.Helper()
	dir := filepath.Join(p.dir, "bin")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p.env = append(p.env, "PATH="+dir+":"+os.Getenv("PATH"))
}

// locked serves what it is given to whoever has the password.
func locked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "somebody" || password != "right" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			failure(w, http.StatusUnauthorized, "UNAUTHORIZED")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func TestCasesFaultCredentials(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	server := regtest.Serve(t, locked(f))
	auth := func(password string) string { return base64.StdEncoding.EncodeToString([]byte("somebody:" + password)) }

	t.Run("F21 wrong credentials", func(t *testing.T) {
		t.Parallel()
		alone := regtest.Serve(t, locked(f))
		d := newDesk(t, f, t.Name())
		d.ref = alone.Host + "/" + d.repo + ":v1"
		d.docker(t, fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, alone.Host, auth("wrong")))
		for _, args := range [][]string{d.sign(), d.verify(), {"inspect", d.ref}, {"rechain", d.ref, "--chain", d.at("chain.pem")}, {"copy", d.ref, f.Host + "/copied"}} {
			alone.Reset()
			began := time.Now()
			o := d.want(t, 5, "unauthorized", args...)
			d.clean(t, o)
			// Wrong passwords lock accounts: the wrong one is sent once.
			if n := alone.Count(func(r regtest.Request) bool { return r.Header.Get("Authorization") != "" }); n != 1 {
				t.Errorf("%s: the credential was sent %d times", args[0], n)
			}
			if n := alone.Writes(); n != 0 {
				t.Errorf("%s: %d writes", args[0], n)
			}
			if time.Since(began) > 5*time.Second {
				t.Errorf("%s took %s", args[0], time.Since(began))
			}
		}
		alone.Reset()
		d.stdin = "wrong"
		d.want(t, 5, "unauthorized", "login", alone.Host, "--username", "somebody", "--password-stdin")
		if n := alone.Count(func(r regtest.Request) bool { return r.Header.Get("Authorization") != "" }); n != 1 {
			t.Errorf("login: the credential was sent %d times", n)
		}
	})
	t.Run("F21 no credentials, then the right ones", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, f, t.Name())
		d.ref = server.Host + "/" + d.repo + ":v1"
		d.refused(t, 5, "unauthorized", d.sign()...)
		d.stdin = "right"
		d.want(t, 0, "", "login", server.Host, "--username", "somebody", "--password-stdin")
		d.want(t, 0, "", d.sign()...)
		d.want(t, 0, "", d.verify()...)
		d.want(t, 0, "", "logout", server.Host)
		d.want(t, 5, "unauthorized", d.verify()...)
	})

	for name, c := range map[string]struct {
		script string
		code   int
	}{
		"F22 a helper that works":      {`echo '{"Username":"somebody","Secret":"right"}'`, 0},
		"F22 a helper that crashes":    {`echo "no keyring here" >&2; exit 1`, 5},
		"F22 a helper that is killed":  {`kill -9 $$`, 5},
		"F22 a helper that says junk":  {`echo junk`, 5},
		"F22 a helper that never ends": {`exec sleep 600`, 5},
		"F22 a helper without end":     {`exec yes '{"Username":"somebody"'`, 5},
		"F22 a helper that is missing": {"", 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, f, t.Name())
			d.ref = server.Host + "/" + d.repo + ":v1"
			d.docker(t, fmt.Sprintf(`{"credHelpers":{%q:"test-helper"}}`, server.Host))
			if c.script != "" {
				d.helper(t, "test-helper", c.script)
			}
			began := time.Now()
			o := d.process(t, append(d.sign(), "-o", "json")...)
			if o.code != c.code {
				t.Errorf("exit code %d, want %d: %s", o.code, c.code, o.stderr)
			}
			if c.code != 0 {
				d.clean(t, o)
				if !strings.Contains(o.stderr, "test-helper") {
					t.Errorf("the helper is not named: %s", o.stderr)
				}
				if got := o.field(t, "reason"); got != "credential-helper" {
					t.Errorf("reason %q", got)
				}
			}
			if took := time.Since(began); took > 45*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
	t.Run("P16 a helper's name that is a path", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, f, t.Name())
		d.ref = server.Host + "/" + d.repo + ":v1"
		d.helper(t, "evil", `touch "$HOME/ran"; echo '{"Username":"somebody","Secret":"right"}'`)
		d.docker(t, fmt.Sprintf(`{"credHelpers":{%q:"../bin/docker-credential-evil"}}`, server.Host))
		if o := d.process(t, d.sign()...); o.code != 3 && o.code != 5 {
			t.Errorf("exit code %d: %s", o.code, o.stderr)
		}
		if _, err := os.Stat(filepath.Join(d.dir, "home", "ran")); err == nil {
			t.Error("it ran")
		}
	})
}

func TestCasesFaultReferrers(t *testing.T) {
	t.Parallel()

	t.Run("F23 a registry without the referrers API", func(t *testing.T) {
		t.Parallel()
		for _, h := range []string{"distribution", "hidden"} {
			server := regtest.New(t, regtest.WithoutAPI)
			if h == "hidden" {
				server = regtest.Serve(t, hidden(regtest.New(t, regtest.WithAPI).Handler()))
			}
			p := newPerson(t)
			key, chain := certtest.ChainOf(3, "P-256")
			args := []string{"--key", p.file("leaf.key", certtest.KeyPEM(key)), "--chain", p.file("chain.pem", certtest.PEM(chain...))}
			a := image("f23")
			ref := pushed(t, a, server.Host+"/app", "v1")
			p.want(t, 0, "", append([]string{"sign", ref}, args...)...)
			tag := strings.Replace(a.descriptor.Digest.String(), ":", "-", 1)
			if n := server.Count(func(r regtest.Request) bool {
				return r.Method == http.MethodPut && strings.HasSuffix(r.Path, "/"+tag) && r.Status == http.StatusCreated
			}); n != 1 {
				t.Errorf("%s: the fallback tag was written %d times", h, n)
			}
			judgeEach(t, ref, 1, chain[2:])
			p.want(t, 0, "", "verify", ref, "--root", p.file("root.pem", certtest.PEM(chain[2])))
		}
	})

	t.Run("F24 two writers of the fallback index", func(t *testing.T) {
		t.Parallel()
		server := regtest.New(t, regtest.WithoutAPI)
		root := certtest.Root("f24 root")
		for round := range 20 {
			repo := fmt.Sprintf("%s/f24-%d", server.Host, round)
			ref := pushed(t, image("f24"), repo, "v1")
			var wg sync.WaitGroup
			for i := range 2 {
				p := newPerson(t)
				key := certtest.Key("P-256")
				chain := p.file("chain.pem", certtest.PEM(root.Chain(root.Leaf(key.Public(), fmt.Sprintf("signer %d", i)))...))
				args := []string{"sign", ref, "--no-claims", "--key", p.file("leaf.key", certtest.KeyPEM(key)), "--chain", chain}
				wg.Go(func() { p.want(t, 0, "", args...) })
			}
			wg.Wait()
			judgeEach(t, ref, 2, []*x509.Certificate{root.Certificate})
		}
	})
	t.Run("F24 a barrier between reading and writing", func(t *testing.T) {
		t.Parallel()
		// Both have read the index before either writes: the second PUT overwrites the first, which must be noticed.
		server := regtest.New(t, regtest.WithoutAPI)
		root := certtest.Root("f24 root")
		a := image("f24")
		ref := pushed(t, a, server.Host+"/app", "v1")
		tag := "/manifests/" + strings.Replace(a.descriptor.Digest.String(), ":", "-", 1)
		arrived, both := make(chan struct{}, 100), make(chan struct{})
		server.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, tag) {
				arrived <- struct{}{}
				select {
				case <-both:
				case <-time.After(10 * time.Second):
				}
			}
			return false
		})
		go func() {
			<-arrived
			<-arrived
			close(both)
		}()
		var wg sync.WaitGroup
		for i := range 2 {
			p := newPerson(t)
			key := certtest.Key("P-256")
			chain := p.file("chain.pem", certtest.PEM(root.Chain(root.Leaf(key.Public(), fmt.Sprintf("signer %d", i)))...))
			args := []string{"sign", ref, "--no-claims", "--key", p.file("leaf.key", certtest.KeyPEM(key)), "--chain", chain}
			wg.Go(func() { p.want(t, 0, "", args...) })
		}
		wg.Wait()
		judgeEach(t, ref, 2, []*x509.Certificate{root.Certificate})
	})

	t.Run("F25 old indexes that cannot be deleted", func(t *testing.T) {
		t.Parallel()
		server := regtest.New(t, regtest.WithoutAPI)
		server.Intercept(undeletable(http.StatusMethodNotAllowed, "/v2/"))
		p := newPerson(t)
		key, chain := certtest.ChainOf(3, "P-256")
		args := []string{"--key", p.file("leaf.key", certtest.KeyPEM(key)), "--chain", p.file("chain.pem", certtest.PEM(chain...))}
		ref := pushed(t, image("f25"), server.Host+"/app", "v1")
		p.want(t, 0, "", append([]string{"sign", ref}, args...)...)
		p.want(t, 0, "", append([]string{"sign", ref, "--again"}, args...)...)
		judgeEach(t, ref, 2, chain[2:])
	})

	t.Run("F26 a registry that gains the referrers API", func(t *testing.T) {
		t.Parallel()
		f := newFake(t)
		d := newDesk(t, f, t.Name())
		api := func(on bool) {
			f.mu.Lock()
			f.noAPI = !on
			f.mu.Unlock()
		}
		api(false)
		d.want(t, 0, "", d.sign()...)
		tag := strings.Replace(d.subject.Digest.String(), ":", "-", 1)
		f.mu.Lock()
		fallback, ok := f.manifests[d.repo+":"+tag]
		f.mu.Unlock()
		if !ok {
			t.Fatal("no fallback index")
		}
		// The API lists nothing yet: the tag still counts, and is not written anew.
		api(true)
		d.want(t, 0, "", d.verify()...)
		o := d.want(t, 0, "", d.sign()...)
		if o.field(t, "alreadySigned") != "1" {
			t.Errorf("not found any more: %s", o.stdout)
		}
		// A registry that gains the API indexes what it holds.
		f.mu.Lock()
		for key, m := range f.manifests {
			if strings.HasPrefix(key, d.repo+"@") && strings.Contains(string(m.b), `"subject"`) {
				f.mu.Unlock()
				entry := describe(m.mediaType, m.b)
				entry.ArtifactType = signatureType
				f.list(d.repo, d.subject.Digest, entry)
				f.mu.Lock()
				break
			}
		}
		f.mu.Unlock()
		d.want(t, 0, "", d.sign("--again")...)
		o = d.want(t, 0, "", d.verify()...)
		if n := o.field(t, "signatures.len"); n != "2" {
			t.Errorf("%s signatures, want 2: none lost, none twice", n)
		}
		f.mu.Lock()
		now := f.manifests[d.repo+":"+tag]
		f.mu.Unlock()
		if now.digest != fallback.digest {
			t.Error("the fallback index was written though there is an API")
		}
		judgeEach(t, d.ref, 2, []*x509.Certificate{d.root.Certificate})
	})
	t.Run("G12 a fallback tag that is an image", func(t *testing.T) {
		t.Parallel()
		f := newFake(t)
		f.noAPI = true
		d := newDesk(t, f, t.Name())
		tag := strings.Replace(d.subject.Digest.String(), ":", "-", 1)
		taken := f.putArtifact(d.repo, tag, image("taken"))
		if o := d.run(t, append(d.sign(), "-o", "json")...); o.code == 0 {
			t.Errorf("signed: %s", o.stdout)
		}
		f.mu.Lock()
		now := f.manifests[d.repo+":"+tag]
		f.mu.Unlock()
		if now.digest != taken.Digest {
			t.Error("the image was overwritten")
		}
	})

	for _, kind := range regtest.Kinds {
		t.Run("F27 a registry without DELETE "+string(kind), func(t *testing.T) {
			t.Parallel()
			server := regtest.New(t, kind)
			server.Intercept(undeletable(http.StatusMethodNotAllowed, "/v2/"))
			l := newLineage(3, "P-256")
			ref := pushed(t, image("f27"), server.Host+"/app", "v1")
			if err := judge.Sign(t.Context(), ref, l.key, l.old, judge.SignOptions{}); err != nil {
				t.Fatal(err)
			}
			p := newPerson(t)
			o := p.want(t, 0, "", "rechain", ref, "--chain", p.file("new.pem", certtest.PEM(l.new...)), "--replace")
			if got := o.field(t, "signatures.0.status"); got != "old-left" {
				t.Errorf("status %s", got)
			}
			if n := strings.Count(o.stderr, "imprint: warning: "); n != 1 {
				t.Errorf("%d warnings: %s", n, o.stderr)
			}
			if err := judge.Verify(t.Context(), ref, l.roots...); err != nil {
				t.Error(err)
			}
			// Again: nothing more to do, and it still ends well.
			p.want(t, 0, "", "rechain", ref, "--chain", filepath.Join(p.dir, "new.pem"), "--replace")
			if err := judge.Verify(t.Context(), ref, l.roots...); err != nil {
				t.Error(err)
			}
		})
	}
}
