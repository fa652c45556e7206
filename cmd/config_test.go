package cmd

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

const gcpVersion = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"

// TestConfigPrecedence: the command line before the environment before the file.
func TestConfigPrecedence(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name            string
		file, env, flag string
		json            bool
	}{
		{"nothing", "", "", "", false},
		{"file", "json", "", "", true},
		{"environment", "", "json", "", true},
		{"flag", "", "", "json", true},
		{"environment before file", "json", "text", "", false},
		{"flag before environment", "", "json", "text", false},
		{"flag before file", "json", "", "text", false},
		{"flag before both", "json", "json", "text", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if tt.file != "" {
				w.file("home/.config/imprint/config.yaml", "output: "+tt.file+"\n")
			}
			if tt.env != "" {
				w.setenv("IMPRINT_OUTPUT", tt.env)
			}
			args := []string{"version"}
			if tt.flag != "" {
				args = append(args, "--output", tt.flag)
			}
			if got := strings.HasPrefix(w.want(0, args...).out, "{"); got != tt.json {
				t.Errorf("JSON output: %v, want %v", got, tt.json)
			}
		})
	}
}

// TestConfigFirstFoundIsUsedWhole: named on the command line, else in the environment, else the user's, else the machine's.
func TestConfigFirstFoundIsUsedWhole(t *testing.T) {
	t.Parallel()
	const text, json = "output: text\n", "output: json\n"
	w := newWorld(t)
	w.file("etc/config.yaml", json)
	if out := w.want(0, "version").out; !strings.HasPrefix(out, "{") {
		t.Errorf("the machine's configuration is not used: %s", out)
	}
	w.file("home/.config/imprint/config.yaml", "jobs: 4\n")
	if out := w.want(0, "version").out; strings.HasPrefix(out, "{") {
		t.Errorf("the machine's configuration is used beside the user's: %s", out)
	}
	w.setenv("IMPRINT_CONFIG", w.file("named.yaml", json))
	if out := w.want(0, "version").out; !strings.HasPrefix(out, "{") {
		t.Errorf("IMPRINT_CONFIG is not used: %s", out)
	}
	if out := w.want(0, "version", "--config", w.file("flag.yaml", text)).out; strings.HasPrefix(out, "{") {
		t.Errorf("--config is not used: %s", out)
	}
	w.want(3, "version", "--config", w.path("absent.yaml"))
}

// TestConfigErrors: what is wrong is named with file, line and column, and with the nearest name.
func TestConfigErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, reason, says string }{
		{"a typo", "jobs: 4\n# x\noutptu: json\n", "config-unknown-key", `:3:1: unknown key "outptu", did you mean "output"?`},
		{"a typo in a key", "keys:\n  release:\n    key: file:/k\n    chian: c.pem\n", "config-unknown-key", `:4:5: unknown key "chian", did you mean "chain"?`},
		{"nothing near", "frobnicate-the-widget: 1\n", "config-unknown-key", `:1:1: unknown key "frobnicate-the-widget"`},
		{"a key twice", "jobs: 4\njobs: 5\n", "config-duplicate", `:2:1: "jobs" stands twice: already in line 1`},
		{"an anchor", "jobs: &j 4\n", "config-malformed", ":1:7: anchors"},
		{"a merge key", "<<: {jobs: 4}\n", "config-malformed", ":1:1:"},
		{"a tag", "output: !!str json\n", "config-malformed", ":1:9: tags"},
		{"two documents", "jobs: 4\n---\njobs: 5\n", "config-malformed", "a second document"},
		{"not YAML", "jobs: [4\n", "config-malformed", ":1:"},
		{"a list", "- jobs\n", "config-malformed", ":1:1:"},
		{"nested values", "trust-realm:\n  - [a, b]\n", "config-malformed", ":2:5:"},
		{"a missing value", "output:\n", "config-malformed", ":1:8: a value is missing"},
		{"a key without URI", "keys:\n  release: {chain: c.pem}\n", "config-malformed", ":2:3: the key \"release\" says no `uri:`"},
		{"two URIs", "keys:\n  release: {uri: a.key, key: b.key}\n", "config-duplicate", ":2:25:"},
		{"a URI of two slashes", "keys:\n  release:\n    uri: awskms://alias/release\n", "key-uri", ":3:10: awskms://alias/release names the key as a host: write awskms:///alias/release"},
		{"a short URI that is wrong", "keys:\n  release: hashivault://k?token=s3cret\n", "key-uri", ":2:12: "},
		{"a PIN in a URI", "keys:\n  release: {uri: 'pkcs11:object=k?pin-value=s3cret'}\n", "key-uri", ":2:18: the pkcs11 key URI contains a PIN"},
		{"a key by the name of another", "keys:\n  release: {uri: other}\n", "key-uri", ":2:18: "},
		{"a default key that is wrong", "key: awskms://alias/release\n", "key-uri", ":1:6: "},
		{"a list of URIs", "keys:\n  release: {uri: [a.key, b.key]}\n", "config-malformed", ":2:18: one value"},
		{"an empty URI", "keys:\n  release: {uri: ''}\n", "config-malformed", ":2:18: one value"},
		{"a number for a plugin", "keys:\n  release:\n    uri: plugin:x?id=k\n    plugin-config:\n      slot: 9\n", "config-malformed", ":5:13: a text is expected here: write the value of slot in quotes"},
		{"a truth value for a plugin", "keys:\n  release: {uri: 'plugin:x?id=k', plugin-config: {self_signed: true}}\n", "config-malformed", ":2:64: a text"},
		{"a list for a plugin", "keys:\n  release: {uri: 'plugin:x?id=k', plugin-config: {a: [b]}}\n", "config-malformed", ":2:54: a text"},
		{"a text where a mapping belongs", "keys:\n  release: {uri: 'plugin:x?id=k', plugin-config: a=b}\n", "config-malformed", ":2:50:"},
		{"an anchor for a plugin", "keys:\n  release: {uri: 'plugin:x?id=k', plugin-config: {a: &b c}}\n", "config-malformed", ":2:54: anchors"},
		{"the name of a key that reads as a path", "keys:\n  a.key: file:/k\n", "config-malformed", ":2:3:"},
		{"a grant", "move: [latest]\n", "config-refused", `:1:1: "move" is never taken from a file`},
		{"a weakening", "plain-http: true\n", "config-refused", `:1:1: "plain-http"`},
		{"an allowance", "allow-shorter: true\n", "config-refused", `:1:1: "allow-shorter"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			file := w.file("home/.config/imprint/config.yaml", tt.text)
			got := w.want(3, "version", "-o", "json")
			if r := got.reason(t); r != tt.reason {
				t.Errorf("reason %s, want %s", r, tt.reason)
			}
			if !strings.Contains(got.err, "imprint: error: "+file) || !strings.Contains(got.err, tt.says) {
				t.Errorf("error %q, want %s and %q in it", got.err, file, tt.says)
			}
		})
	}
}

func TestConfigEmptyIsNone(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "# only words\n", "---\n", "\n\n"} {
		w := newWorld(t)
		w.file("home/.config/imprint/config.yaml", text)
		w.want(0, "version")
	}
}

func TestConfigValueOfTheWrongKindNamesItsPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	file := w.file("home/.config/imprint/config.yaml", "output: text\njobs: many\n")
	if got := w.want(3, "verify", "oci:x:1"); !strings.Contains(got.err, file+":2: jobs: ") {
		t.Errorf("error %q, want the place", got.err)
	}
	w.setenv("IMPRINT_JOBS", "lots")
	if got := w.want(3, "verify", "oci:x:1"); !strings.Contains(got.err, "IMPRINT_JOBS: ") {
		t.Errorf("error %q, want the variable", got.err)
	}
}

// TestNeverFromTheEnvironment: what grants or weakens counts on the command line only, and a variable that tries is named.
func TestNeverFromTheEnvironment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	first := w.image("lay", "one", "1.0")
	w.want(0, w.sign("oci:"+w.path("lay")+":1.0")...)
	second := w.image("lay", "two", "2.0")
	copyTo := []string{"copy", "oci:" + w.path("lay") + ":1.0", "oci:" + w.path("dst") + ":latest"}
	w.want(0, copyTo...)
	copyTo[1] = "oci:" + w.path("lay") + ":2.0"
	w.setenv("IMPRINT_MOVE", "*")
	got := w.want(1, copyTo...)
	if !strings.Contains(got.err, "warning: IMPRINT_MOVE is ignored") {
		t.Errorf("stderr %q, want a warning of the variable", got.err)
	}
	if first == second {
		t.Fatal("the two images are one")
	}
	w.want(0, append(copyTo, "--move", "latest")...)
	for _, name := range []string{"yes", "move", "again", "downgrade", "plain-http", "allow-shorter", "allow-identity-change", "allow-private"} {
		if !neverAmbient(name) {
			t.Errorf("--%s may come from the environment", name)
		}
	}
}

func TestMisspelledVariableIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.setenv("IMPRINT_OUTPTU", "json")
	if got := w.want(0, "version"); !strings.Contains(got.err, "did you mean IMPRINT_OUTPUT?") {
		t.Errorf("stderr %q", got.err)
	}
}

// TestVariableOfAListHasOneValueALine: distinguished names hold commas.
func TestVariableOfAListHasOneValueALine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	w.setenv("IMPRINT_CLAIM", "1.1\n1.2\n")
	if got := w.want(0, w.sign("oci:"+w.path("lay")+":1.0")...); !strings.Contains(got.out, "1.0, 1.1, 1.2") {
		t.Errorf("claims in %s, want all three", got.out)
	}
}

// TestRelativePathsStartAtTheConfiguration: wherever the command runs.
func TestRelativePathsStartAtTheConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0", "2.0")
	config := w.file("conf.yaml", "keys:\n  release: {key: \"file:leaf.key\", chain: chain.pem}\n  short: ./leaf.key\nroot: root.pem\n")
	w.want(0, "sign", "oci:"+w.path("lay")+":1.0", "--key", "release", "--config", config)
	w.want(0, "sign", "oci:"+w.path("lay")+":2.0", "--key", "short", "--chain", w.path("chain.pem"), "--config", config)
	w.want(0, "verify", "oci:"+w.path("lay")+":1.0", "--config", config)
}

// TestChainBeforeConfiguration: the certificates that are named on the command line or in the environment count, not those of the key.
func TestChainBeforeConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	config := w.file("conf.yaml", "keys:\n  release: {key: leaf.key, chain: absent.pem}\n")
	args := []string{"sign", "oci:" + w.path("lay") + ":1.0", "--key", "release", "--config", config, "--dry-run"}
	complains(t, w.want(3, args...), "absent.pem", "")
	w.want(0, append(args, "--chain", w.path("chain.pem"))...)
	v := *w
	v.env.Environ = append(slices.Clone(w.env.Environ), "IMPRINT_CHAIN="+w.path("chain.pem"))
	v.want(0, args...)
}

func TestNamedKeyThatIsNotThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keys()
	w.image("lay", "one", "1.0")
	w.file("home/.config/imprint/config.yaml", "keys:\n  release: file:/k\n")
	got := w.want(3, "sign", "oci:"+w.path("lay")+":1.0", "--key", "relaese", "--chain", w.path("chain.pem"))
	if !strings.Contains(got.err, `no key is named "relaese" in the configuration`) || !regexp.MustCompile(`did you mean "?release"?\?`).MatchString(got.err) {
		t.Errorf("stderr %q", got.err)
	}
}

// TestNothingIsReadFromTheWorkingFolder: a checkout must not choose a key, a plugin or an endpoint. (Not parallel: it changes the
// working folder.)
func TestNothingIsReadFromTheWorkingFolder(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"config.yaml", "imprint.yaml", ".imprint.yaml", ".config/imprint/config.yaml", "imprint/config.yaml"} {
		w.file("checkout/"+name, "output: json\n")
	}
	w.keys()
	w.image("lay", "one", "1.0")
	for _, name := range []string{"policy.yaml", "imprint/policy.yaml", ".config/imprint/policy.yaml"} {
		w.file("checkout/"+name, "version: 1\n")
	}
	t.Chdir(w.path("checkout"))
	if out := w.want(0, "version").out; strings.HasPrefix(out, "{") {
		t.Errorf("a file of the working folder is used: %s", out)
	}
	if got := w.want(3, "verify", "oci:"+w.path("lay")+":1.0", "-o", "json"); got.reason(t) != "no-policy" {
		t.Errorf("reason %s, want no-policy", got.reason(t))
	}
}

// TestA25Environment: no home, a relative one, folders and files that somebody else could have chosen.
func TestA25Environment(t *testing.T) {
	t.Parallel()
	t.Run("A25 HOME unset", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.env.Environ = nil
		if got := w.want(3, "version"); !strings.Contains(got.err, "neither HOME nor XDG_CONFIG_HOME is set") {
			t.Errorf("stderr %q", got.err)
		}
		w.want(0, "version", "--config", w.file("c.yaml", ""))
	})
	t.Run("A25 HOME relative", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.env.Environ = []string{"HOME=checkout"}
		if got := w.want(3, "version"); !strings.Contains(got.err, "HOME is not an absolute path") {
			t.Errorf("stderr %q", got.err)
		}
	})
	t.Run("A25 configuration folder is a symbolic link", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.file("elsewhere/config.yaml", "output: json\n")
		w.mkdir("home/.config")
		if err := os.Symlink(w.path("elsewhere"), w.path("home/.config/imprint")); err != nil {
			t.Fatal(err)
		}
		if got := w.want(3, "version", "-o", "json"); got.reason(t) != "config-unsafe" || !strings.Contains(got.err, "symbolic link") {
			t.Errorf("stderr %q", got.err)
		}
	})
	for name, chmod := range map[string]string{"file": "home/.config/imprint/config.yaml", "folder": "home/.config/imprint"} {
		t.Run("A25 anybody may write the "+name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			file := w.file("home/.config/imprint/config.yaml", "output: text\n")
			if err := os.Chmod(w.path(chmod), 0o777); err != nil {
				t.Fatal(err)
			}
			got := w.want(3, "version", "-o", "json")
			if got.reason(t) != "config-unsafe" || !strings.Contains(got.err, "anybody may write") {
				t.Errorf("stderr %q", got.err)
			}
			w.want(3, "version", "--config", file)
		})
	}
	t.Run("A25 configuration is no regular file", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.want(3, "version", "--config", w.mkdir("folder"))
		w.want(3, "version", "--config", "/dev/zero")
	})
	t.Run("A25 configuration is too large", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.want(3, "version", "--config", w.file("big.yaml", "#"+strings.Repeat("x", maxConfig)))
	})
}

func TestNearest(t *testing.T) {
	t.Parallel()
	names := []string{"output", "jobs", "policy", "chain"}
	for word, want := range map[string]string{"outptu": "output", "polcy": "policy", "chian": "chain", "jbos": "jobs", "frobnicate": "", "x": ""} {
		if got := nearest(word, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestKeyNames(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{"release": true, "release-2026": true, "a.key": false, "./a": false, "file:a": false, `c\k`: false, "": false} {
		if got := isKeyName(s); got != want {
			t.Errorf("isKeyName(%q) = %v, want %v", s, got, want)
		}
	}
	r := configReader{dir: "/etc/imprint"}
	for in, want := range map[string]string{
		"file:k.key": "file:/etc/imprint/k.key", "./k.key": "/etc/imprint/k.key", "k.key": "/etc/imprint/k.key",
		"sub/k.key": "/etc/imprint/sub/k.key", "/k.key": "/k.key", "file:/k.key": "file:/k.key", "file:///k.key": "file:/k.key",
		"file:a%20b%25": "file:/etc/imprint/a%20b%25", "a%20b?#.key": "/etc/imprint/a%20b?#.key",
		"awskms:///alias/release": "awskms:///alias/release", "release": "release", gcpVersion: gcpVersion,
		// The paths inside are the service's.
		"pkcs11:object=k?module-path=lib/p.so&pin-source=run/pin": "pkcs11:object=k?module-path=lib/p.so&pin-source=run/pin",
		"plugin:com.example?id=keys/k.key":                        "plugin:com.example?id=keys/k.key",
	} {
		if got, err := r.located("key", &yaml.Node{}, in); got != want || err != nil {
			t.Errorf("located(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	if got, err := r.located("policy", nil, "p.yaml"); got != filepath.Join("/etc/imprint", "p.yaml") || err != nil {
		t.Errorf("policy at %q, %v", got, err)
	}
	if got, err := r.located("output", nil, "json"); got != "json" || err != nil {
		t.Errorf("output became %q, %v", got, err)
	}
}
