package cmd

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// diagnose runs doctor and returns its checks by "section/name".
func (w *world) diagnose(code int, args ...string) map[string]ui.Check {
	w.t.Helper()
	got := w.want(code, append([]string{"doctor", "-o", "json"}, args...)...)
	var d struct {
		Kind, Reference string
		Checks          []ui.Check
	}
	if err := json.Unmarshal([]byte(got.out), &d); err != nil || d.Kind != "doctor" || len(lines(got.out)) != 1 {
		w.t.Fatalf("%q: %v", got.out, err)
	}
	out := map[string]ui.Check{}
	for _, c := range d.Checks {
		out[c.Section+"/"+c.Name] = c
	}
	return out
}

// expect compares the statuses of checks.
func expect(t *testing.T, got map[string]ui.Check, want map[string]string) {
	t.Helper()
	for name, status := range want {
		if c := got[name]; c.Status != status {
			t.Errorf("%s is %q (%s), want %q", name, c.Status, c.Detail, status)
		}
	}
	for name, c := range got {
		if want[name] == "" {
			t.Errorf("%s is %q (%s), and was not expected", name, c.Status, c.Detail)
		}
		if (c.Status == ui.Problem || c.Status == ui.Warning) && c.Hint == "" && name != "registry/to note" {
			t.Errorf("%s says not what to do: %s", name, c.Detail)
		}
		if c.Status == ui.Problem && c.Reason == "" {
			t.Errorf("%s has no reason code: %s", name, c.Detail)
		}
	}
}

func TestDoctorAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	expect(t, w.diagnose(0), map[string]string{
		"configuration/file": ui.OK, "configuration/policy": ui.OK, "configuration/credentials": ui.OK,
		"registry/registry": ui.NotChecked, "key/key": ui.NotChecked, "chain/chain": ui.NotChecked, "clock/clock": ui.NotChecked,
	})
	got := w.want(0, "doctor")
	for _, want := range []string{
		"ready  this machine\n", "\n  CONFIGURATION\n", "\n  CLOCK\n", w.path("home/.config/imprint/config.yaml"), w.path("etc/policy.yaml"), "\n3 ok, 4 not checked\n",
	} {
		if !strings.Contains(strings.Join(strings.Fields(got.out), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("no %q in\n%s", want, got.out)
		}
	}
	if files := w.tree("home"); len(files) != 0 {
		t.Errorf("it wrote %v", files)
	}
}

// TestDoctorOfRegistries: with and without the referrers API, reading only and writing.
func TestDoctorOfRegistries(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			w, s := newWorld(t), regtest.New(t, kind)
			w.keys(certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(40*24*time.Hour)))
			w.image("from", "a", "1")
			w.want(0, "copy", "oci:"+w.path("from")+":1", s.Host+"/app:1")
			s.Reset()
			flags := []string{s.Host + "/app:1", "--key", w.path("leaf.key"), "--chain", w.path("chain.pem")}
			want := map[string]string{
				"configuration/file": ui.OK, "configuration/policy": ui.OK, "configuration/credentials": ui.OK,
				"registry/reachable": ui.OK, "registry/authorised": ui.OK, "registry/artifact": ui.OK, "registry/referrers API": ui.OK,
				"registry/delete": ui.NotChecked, "registry/mount": ui.NotChecked, "registry/single upload": ui.NotChecked,
				"key/opens": ui.OK, "key/algorithm": ui.OK, "key/signs": ui.NotChecked,
				"chain/complete": ui.OK, "chain/rules": ui.OK, "chain/matches": ui.OK, "chain/holds": ui.OK, "clock/clock": ui.OK,
			}
			got := w.diagnose(0, flags...)
			expect(t, got, want)
			if n := s.Writes(); n != 0 {
				t.Errorf("%d requests that write", n)
			}
			api := map[regtest.Kind]string{regtest.WithAPI: "yes", regtest.WithoutAPI: "no"}[kind]
			if d := got["registry/referrers API"].Detail; !strings.HasPrefix(d, api) {
				t.Errorf("the referrers API: %s", d)
			}
			if d := got["key/algorithm"].Detail; d != "ES256 (EC-256)" {
				t.Errorf("algorithm %s", d)
			}

			for _, name := range []string{"registry/delete", "registry/mount", "registry/single upload", "registry/writing", "key/signs"} {
				want[name] = ui.OK
			}
			got = w.diagnose(0, append(flags, "--write")...)
			expect(t, got, want)
			if d := got["registry/single upload"].Detail; !strings.HasPrefix(d, api) {
				t.Errorf("single uploads: %s", d)
			}
		})
	}
}

// TestDoctorOfAnEmptyRegistry: before anything is there, only writing can tell.
func TestDoctorOfAnEmptyRegistry(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), regtest.New(t, regtest.WithAPI)
	if c := w.diagnose(0, s.Host+"/app")["registry/referrers API"]; c.Status != ui.NotChecked || !strings.Contains(c.Detail, "no repository app") {
		t.Errorf("%+v", c)
	}
	if c := w.diagnose(0, s.Host+"/app", "--write")["registry/referrers API"]; c.Status == ui.Problem {
		t.Errorf("%+v", c)
	}
	// A registry that lets us read and not write: the exit code says so, and what was read stays.
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		return false
	})
	got := w.diagnose(5, s.Host+"/app", "--write")
	if c := got["registry/writing"]; c.Status != ui.Problem || c.Reason != "forbidden" || got["registry/reachable"].Status != ui.OK {
		t.Errorf("%+v", got)
	}
}

// TestDoctorExitCodes: of several problems the first one's, in the order of the screen.
func TestDoctorExitCodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	_, other := certtest.ChainOf(3, "P-256")
	w.file("other.pem", string(certtest.PEM(other...)))
	w.file("part.pem", string(certtest.PEM(other[:2]...)))
	expired, chain := certtest.ChainOf(2, "P-256", certtest.Valid(time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)))
	w.file("old.key", string(certtest.KeyPEM(expired)))
	w.file("old.pem", string(certtest.PEM(chain...)))
	soon, chain := certtest.ChainOf(2, "P-256", certtest.Valid(time.Now().Add(-48*time.Hour), time.Now().Add(72*time.Hour)))
	w.file("soon.key", string(certtest.KeyPEM(soon)))
	w.file("soon.pem", string(certtest.PEM(chain...)))
	w.file("bad.yaml", "version: 1\nroots: {}\nscope: {}\n")
	locked, gone := basicLogin(t), "127.0.0.1:1"
	empty := regtest.New(t, regtest.WithAPI)
	for _, tt := range []struct {
		name  string
		code  int
		check string
		args  []string
	}{
		{"a policy that does not load", 3, "configuration/policy", []string{"--policy", w.path("bad.yaml")}},
		{"nobody there", 4, "registry/reachable", []string{gone + "/app"}},
		{"not authorised", 5, "registry/authorised", []string{locked.Host + "/app"}},
		{"no such artifact", 4, "registry/artifact", []string{empty.Host + "/app:1"}},
		{"no such layout", 4, "registry/opened", []string{"oci:" + w.path("nowhere") + ":1"}},
		{"no such key", 3, "key/opens", []string{"--key", w.path("nowhere.key")}},
		{"another key's chain", 3, "chain/matches", []string{"--key", w.path("leaf.key"), "--chain", w.path("other.pem")}},
		{"a chain without its root", 3, "chain/complete", []string{"--chain", w.path("part.pem")}},
		{"a chain that ended", 3, "chain/holds", []string{"--key", w.path("old.key"), "--chain", w.path("old.pem")}},
		{"the registry before the key", 5, "registry/authorised", []string{locked.Host + "/app", "--key", w.path("nowhere.key")}},
		{"the policy before the registry", 3, "configuration/policy", []string{gone + "/app", "--policy", w.path("bad.yaml")}},
	} {
		c := w.diagnose(tt.code, tt.args...)[tt.check]
		if c.Status != ui.Problem || c.Reason == "" || c.Hint == "" || strings.Contains(c.Hint, "imprint doctor") {
			t.Errorf("%s: %s is %+v", tt.name, tt.check, c)
		}
		if got := w.want(tt.code, append([]string{"doctor"}, tt.args...)...); !strings.HasPrefix(got.out, "broken  ") || got.err != "imprint: hint: what to do stands beside each problem; the first decides the exit code\n" {
			t.Errorf("%s: %s%s", tt.name, got.out, got.err)
		}
	}
	got := w.diagnose(0, "--key", w.path("soon.key"), "--chain", w.path("soon.pem"))
	if c := got["chain/holds"]; c.Status != ui.Warning || !strings.Contains(c.Detail, "only 2 days more") || !strings.Contains(c.Hint, "imprint rechain") {
		t.Errorf("a chain that ends soon: %+v", c)
	}
	if got := w.want(3, "doctor", "app:1"); !strings.Contains(got.err, "imprint: hint: ") {
		t.Errorf("no reference: %s", got.err)
	}
}

// TestDoctorClock: a skew of more than five minutes is a warning, and no more.
func TestDoctorClock(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	for skew, says := range map[time.Duration]string{
		0: "agrees with " + s.Host, 4 * time.Minute: "agrees with ", -4 * time.Minute: "agrees with ",
		7*time.Minute + 30*time.Second: "7 minutes ahead of " + s.Host, -49 * time.Hour: "2 days behind " + s.Host,
	} {
		w := newWorld(t)
		w.env.Now = func() time.Time { return time.Now().Add(skew) }
		c := w.diagnose(0, s.Host+"/app")["clock/clock"]
		if !strings.HasPrefix(c.Detail, says) || (c.Status == ui.Warning) != (skew.Abs() > maxSkew) {
			t.Errorf("%s off: %+v", skew, c)
		}
	}
	w := newWorld(t)
	w.env.Now = func() time.Time { return time.Now().Add(time.Hour) }
	if got := w.want(0, "doctor", s.Host+"/app"); !strings.HasPrefix(got.out, "ready, with warnings  ") {
		t.Errorf("got\n%s", got.out)
	}
	silent := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Date"] = nil
		w.WriteHeader(http.StatusNotFound)
	}))
	if c := w.diagnose(0, silent.Host+"/app")["clock/clock"]; c.Status != ui.NotChecked {
		t.Errorf("a registry that tells no time: %+v", c)
	}
}

// TestDoctorLooksOnWhenSettingsAreBroken: the reason is a check, and what else can be looked at is.
func TestDoctorLooksOnWhenSettingsAreBroken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	s := regtest.New(t, regtest.WithAPI)
	file := w.file("home/.config/imprint/config.yaml", "chian: chain.pem\n")
	w.setenv("IMPRINT_KEY", w.path("leaf.key"))
	got := w.diagnose(3, s.Host+"/app", "--chain", w.path("chain.pem"))
	if c := got["configuration/file"]; c.Status != ui.Problem || c.Detail != file+`:1:1: unknown key "chian", did you mean "chain"?` || c.Reason != "config-unknown-key" {
		t.Errorf("%+v", c)
	}
	for _, name := range []string{"registry/reachable", "key/opens", "chain/matches", "clock/clock"} {
		if got[name].Status != ui.OK {
			t.Errorf("%s: %+v", name, got[name])
		}
	}
	w.setenv("IMPRINT_TIMEOUT", "soon")
	w.file("home/.config/imprint/config.yaml", "chain: chain.pem\n")
	if c := w.diagnose(3)["configuration/file"]; c.Status != ui.Problem || !strings.Contains(c.Detail, "IMPRINT_TIMEOUT") {
		t.Errorf("a variable that is wrong: %+v", c)
	}
}

func TestDoctorNamesSources(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	file := w.file("home/.config/imprint/config.yaml", "key: release\nkeys:\n  release: {key: "+w.path("leaf.key")+", chain: "+w.path("chain.pem")+"}\n  spare: "+w.path("leaf.key")+"\n")
	w.setenv("IMPRINT_JOBS", "4")
	w.setenv("IMPRINT_TIMEOUT", "1m")
	got := w.diagnose(0)
	if c := got["configuration/file"]; c.Detail != file {
		t.Errorf("%+v", c)
	}
	if c := got["configuration/settings"]; c.Detail != "--key from "+file+":1; --timeout from IMPRINT_TIMEOUT" {
		t.Errorf("%+v", c)
	}
	if got["key/opens"].Status != ui.OK || got["chain/matches"].Status != ui.OK {
		t.Errorf("the named key and its chain were not looked at: %+v", got)
	}
	w.file("home/.config/imprint/config.yaml", "keys:\n  release: "+w.path("leaf.key")+"\n")
	if c := w.diagnose(0)["key/key"]; c.Status != ui.NotChecked || !strings.HasSuffix(c.Hint, "the configuration names release") {
		t.Errorf("%+v", c)
	}
}

// TestA25DoctorShowsUnsafeSettings: no home, a folder that is a link, a file that anybody may write.
func TestA25DoctorShowsUnsafeSettings(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(w *world){
		"no home": func(w *world) { w.env.Environ = nil },
		"a linked folder": func(w *world) {
			w.file("elsewhere/config.yaml", "")
			w.mkdir("home/.config")
			w.link("elsewhere", "home/.config/imprint")
		},
		"writable by anyone": func(w *world) { w.chmod(w.file("home/.config/imprint/config.yaml", ""), 0o666) },
	} {
		w := newWorld(t)
		breaks(w)
		got := w.diagnose(3)
		if c := got["configuration/file"]; c.Status != ui.Problem {
			t.Errorf("%s: %+v", name, c)
		}
		if got["chain/chain"].Status != ui.NotChecked {
			t.Errorf("%s: it did not look on", name)
		}
	}
}

func (w *world) link(to, name string) {
	w.t.Helper()
	if err := os.Symlink(w.path(to), w.path(name)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) chmod(file string, mode os.FileMode) {
	w.t.Helper()
	if err := os.Chmod(file, mode); err != nil {
		w.t.Fatal(err)
	}
}

// TestA23DoctorKeepsSecrets: neither a password nor a token of docker's configuration is shown; who logs in is.
func TestA23DoctorKeepsSecrets(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t), basicLogin(t)
	w.stdin(loginSecret)
	w.want(0, "login", s.Host, "--username", loginUser, "--password-stdin")
	s.Reset()
	for _, format := range []string{"text", "json"} {
		got := w.run("doctor", s.Host+"/app", "-o", format)
		if strings.Contains(got.out+got.err, loginSecret) || !strings.Contains(got.out, loginUser) {
			t.Errorf("got\n%s%s", got.out, got.err)
		}
	}
	if !slices.ContainsFunc(s.Requests(), func(r regtest.Request) bool { return r.Header.Get("Authorization") != "" }) {
		t.Error("nobody logged in: the test proves nothing")
	}
}

// What a policy that delegates remembers is looked at before verify has to refuse by it.
func TestDoctorDelegations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	exampleRoots(w)
	w.setenv("IMPRINT_POLICY", w.file("p.yaml", "version: 1\nroots: {org: roots/org.pem, hub: roots/mine.pem}\nscopes:\n"+
		"  a.example: {trust: [org], delegate: {root: hub, from: registry, at: \"a.example/d:1\", identities: [\"O=hub\"]}}\n"))
	w.setenv("IMPRINT_STATE", w.path("state"))
	file := w.path("state/delegations.json")
	one := func(code int, status, words string) {
		t.Helper()
		var got struct {
			Checks []struct{ Name, Status, Detail, Reason string }
		}
		if err := json.Unmarshal([]byte(w.want(code, "doctor", "-o", "json").out), &got); err != nil {
			t.Fatal(err)
		}
		for _, c := range got.Checks {
			if c.Name == "delegations" {
				if c.Status != status || !strings.Contains(c.Detail, words) || !strings.Contains(c.Detail, file) || c.Reason != "" && c.Reason != "delegation-state" {
					t.Errorf("%+v", c)
				}
				return
			}
		}
		t.Errorf("nothing of delegations in %+v", got.Checks)
	}
	one(0, "ok", "none seen yet")
	w.file("state/delegations.json", "{")
	one(3, "problem", "cannot be trusted")
}
