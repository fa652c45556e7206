package keys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms/kmstest/plugintest"
)

const pluginKey = "plugin:test?id=release"

// plugged returns a desk with the test plugin, which has a key of the algorithm certified by the desk's CA, and its configuration.
func plugged(t testing.TB, algorithm string) (*desk, *plugintest.Plugin, plugintest.Config) {
	t.Helper()
	p := plugintest.New(t)
	d := newDesk(t, "NOTATION_LIBEXEC="+p.Libexec)
	key := certtest.Key(algorithm)
	c := p.AddKey("release", key, d.ca.Chain(d.ca.Leaf(key.Public(), "release"))...)
	p.Default(c)
	return d, p, c
}

// TestPluginRaw: a plugin that makes signatures. Without --chain its certificates cost the first one.
func TestPluginRaw(t *testing.T) {
	t.Parallel()
	for _, algorithm := range certtest.Algorithms {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			d, _, _ := plugged(t, algorithm)
			d.signs(t, pluginKey, "2")
			chain := d.chainFor(certtest.Key("P-256").Public(), "unused")
			if strings.HasPrefix(algorithm, "RSA") { // certtest keeps those keys
				chain = d.chainFor(certtest.Key(algorithm).Public(), "release")
				d.signs(t, pluginKey, "1", "--chain", chain)
			} else {
				d.refused(t, 3, "key-options", []string{"the certificate to sign with is for"}, "sign", d.ref, "--key", pluginKey, "--chain", chain)
			}
		})
	}
}

// TestPluginRequest: a key behind a plugin gets another certificate.
func TestPluginRequest(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"P-521", "RSA-3072"} {
		d, _, _ := plugged(t, algorithm)
		chain := d.certified(t, pluginKey)
		d.signs(t, pluginKey, "1", "--chain", chain)
	}
}

// TestPluginShow: what a plugin's key is, and why one is of no use.
func TestPluginShow(t *testing.T) {
	t.Parallel()
	d, p, c := plugged(t, "P-384")
	o := d.ok(t, "key", "show", pluginKey, "-o", "json")
	for field, want := range map[string]string{"spec": "EC-384", "algorithm": "ES384", "keyCalls": "1", "service": "notation plugin test", "id": pluginKey} {
		if got := o.field(t, field); got != want {
			t.Errorf("%s is %q, want %q\n%s", field, got, want, o.stdout)
		}
	}
	p.Default(c.With("fault", "describe-key/set=keySpec=ED25519"))
	d.refused(t, 3, "key-algorithm", []string{`"ED25519"`, "P-256, P-384, P-521"}, "key", "show", pluginKey)
}

// TestPluginEnvelope: a plugin that makes whole envelopes, in both formats, with metadata and expiry.
func TestPluginEnvelope(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"P-256", "RSA-2048"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			d, p, c := plugged(t, algorithm)
			p.Default(c.With("capabilities", "ENVELOPE"))
			d.signs(t, pluginKey, "1")
			if n := p.Calls("generate-envelope"); n != len(formats) {
				t.Errorf("%d envelopes for %d signatures", n, len(formats))
			}
			d.signs(t, pluginKey, "1", "--expiry", "24h", "--metadata", "build=7")
			if n := p.Calls("generate-signature") + p.Calls("describe-key"); n != 0 {
				t.Errorf("%d calls that such a plugin does not know", n)
			}
		})
	}
}

// TestPluginNamed: a key of the configuration with its plugin-config, and a plugin that throttles twice.
func TestPluginNamed(t *testing.T) {
	t.Parallel()
	d, p, c := plugged(t, "P-384")
	p.Default(plugintest.Config{"calls-file": c["calls-file"]}) // the rest is in the configuration
	d.refused(t, 6, "key-service", []string{"describe-key: VALIDATION_ERROR: no key"}, "sign", d.ref, "--key", pluginKey)

	config := func(more map[string]string) {
		text, err := json.Marshal(map[string]any{"keys": map[string]any{"release": map[string]any{"uri": pluginKey, "plugin-config": more}}})
		if err != nil {
			t.Fatal(err)
		}
		d.file("config.yaml", text) // JSON is YAML
	}
	config(c)
	d.signs(t, "release", "2", "--config", d.at("config.yaml"))
	config(c.With("fault", "error=THROTTLED").With("times", "2").With("calls-file", d.at("calls")))
	before := d.writes()
	o := d.ok(t, "sign", d.ref, "--key", "release", "--config", d.at("config.yaml"), "-o", "json")
	if got := o.field(t, "keyCalls"); got != "4" { // 2 refused, 1 for the chain, 1 for the signature
		t.Errorf("%s key calls\n%s", got, o.stdout)
	}
	if d.writes() == before {
		t.Error("nothing was pushed")
	}
	d.accepted(t, d.ref)
}

// TestPluginBatch: metadata and the key are asked for once, a signature is one process.
func TestPluginBatch(t *testing.T) {
	t.Parallel()
	const n = 5
	for _, capability := range []string{"RAW", "ENVELOPE"} {
		t.Run(capability, func(t *testing.T) {
			t.Parallel()
			d, p, c := plugged(t, "P-256")
			p.Default(c.With("capabilities", capability))
			args := []string{"sign"}
			for i := range n {
				args = append(args, d.image(t, fmt.Sprint("batch ", i), fmt.Sprint("b", i)))
			}
			d.ok(t, append(args, "--key", pluginKey)...)
			want := map[string]int{"get-plugin-metadata": 1, "describe-key": 1, "generate-signature": n + 1, "generate-envelope": 0}
			if capability == "ENVELOPE" {
				want = map[string]int{"get-plugin-metadata": 1, "describe-key": 0, "generate-signature": 0, "generate-envelope": n}
			}
			for command, times := range want {
				if got := p.Calls(command); got != times {
					t.Errorf("%s: %d times, want %d", command, got, times)
				}
			}
			for _, ref := range args[1:] {
				d.accepted(t, ref)
			}
		})
	}
}

// TestPluginFaults: a plugin that misbehaves ends in exit code 6, says how, and nothing is pushed.
func TestPluginFaults(t *testing.T) {
	t.Parallel()
	const raw, whole = "RAW", "ENVELOPE"
	for _, test := range []struct {
		capability, fault, reason, says string
	}{
		{raw, "crash", "key-plugin", "plugin test: generate-signature: it ended with exit status 3: boom"},
		{raw, "killed", "key-plugin", "signal: killed"},
		{raw, "huge", "key-plugin", "it wrote more than 16 MiB"},
		{raw, "flood", "key-plugin", "it wrote more than 16 MiB"},
		{raw, "garbage", "key-plugin", "no JSON object"},
		{raw, "set=keyId=other", "key-plugin", `about the key "other", not about "release"`},
		{raw, "describe-key/set=keyId=other", "key-plugin", `about the key "other"`},
		{raw, "get-plugin-metadata/set=name=other", "key-plugin", `it calls itself "other"`},
		{raw, "signature", "key-signature", "signature does not verify"},
		{raw, "chain-empty", "key-plugin", "an empty certificateChain"},
		{raw, "error=ACCESS_DENIED", "key-denied", "ACCESS_DENIED"},
		{raw, "error=ERROR", "key-service", "ERROR: as the test wants it"},
		{raw, "error=TIMEOUT", "key-unreachable", "TIMEOUT"},
		{raw, "error=THROTTLED", "key-throttled", "asked 8 times"},
		{whole, "crash", "key-plugin", "plugin test: generate-envelope: it ended with exit status 3: boom"},
		{whole, "huge", "key-plugin", "it wrote more than 16 MiB"},
		{whole, "set=signatureEnvelopeType=application-cose", "key-plugin", "it made an envelope of the type"},
		{whole, "envelope-long", "key-plugin", "more than 1048576"},
		{whole, "envelope-garbage", "key-misbehaved", "not JSON"},
		{whole, "payload-digest", "key-misbehaved", "it is about another artifact"},
		{whole, "payload-size", "key-misbehaved", "it is about another artifact"},
		{whole, "payload-member", "key-misbehaved", "\"unknown\": unknown member"},
		{whole, "payload-beside", "key-misbehaved", "its only member must be targetArtifact"},
		{whole, "payload-overridden", "key-misbehaved", "the signed annotation \"build\" is missing or changed"},
	} {
		t.Run(test.capability+" "+strings.ReplaceAll(test.fault, "/", " "), func(t *testing.T) {
			t.Parallel()
			d, p, c := plugged(t, "P-256")
			p.Default(c.With("capabilities", test.capability).With("fault", test.fault))
			d.refused(t, 6, test.reason, []string{test.says}, "sign", d.ref, "--key", pluginKey, "--metadata", "build=7")
		})
	}
}

// TestPluginTolerated: DER for r and s is understood, and warned of; a plugin may add annotations to what it signs.
func TestPluginTolerated(t *testing.T) {
	t.Parallel()
	t.Run("DER", func(t *testing.T) {
		t.Parallel()
		d, p, c := plugged(t, "P-256")
		p.Default(c.With("fault", "der"))
		d.signs(t, pluginKey, "2")
		o := d.ok(t, "sign", d.image(t, "der", "der"), "--key", pluginKey)
		if n := strings.Count(unwrapped(o.stderr), "writes ECDSA signatures as DER"); n != 1 {
			t.Errorf("warned %d times\n%s", n, o.stderr)
		}
	})
	t.Run("annotations", func(t *testing.T) {
		t.Parallel()
		d, p, c := plugged(t, "P-256")
		p.Default(c.With("capabilities", "ENVELOPE").With("fault", "payload-annotated"))
		d.signs(t, pluginKey, "1", "--metadata", "build=7")
	})
}

// TestPluginFaultsSigning: with --chain a key opens without a signature, so that each of these comes when it signs: exit code, reason,
// the calls that were made and counted, and nothing pushed, in both formats.
func TestPluginFaultsSigning(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault, algorithm string
		reason, says     string
		calls            string
	}{
		"F31 throttled for ever":       {"error=THROTTLED", "P-256", "key-throttled", "asked 8 times", "8"},
		"F31 it cannot reach its own":  {"error=TIMEOUT", "P-256", "key-unreachable", "asked 3 times", "3"},
		"F32 denied":                   {"error=ACCESS_DENIED", "P-256", "key-denied", "ACCESS_DENIED: as the test wants it", "1"},
		"F32 disabled":                 {"error=VALIDATION_ERROR", "P-256", "key-service", "VALIDATION_ERROR: as the test wants it", "1"},
		"F33 crashes when it signs":    {"crash", "P-256", "key-plugin", "it ended with exit status 3: boom", "1"},
		"F34 another key":              {"leaf", "P-256", "key-plugin", "is for another key than the one that was opened", "1"},
		"F34 a signature of something": {"signature", "P-384", "key-signature", "no signature of the key that was opened", "1"},
		"F34 an RSA signature of sth":  {"signature", "RSA-2048", "key-signature", "no signature of the key that was opened", "1"},
		"A03 wrong salt":               {"salt", "RSA-2048", "key-signature", "salt is not as long as the hash", "1"},
		"truncated":                    {"set=signature=AAAA", "P-256", "key-signature", "3 bytes instead of r and s of 32 bytes each", "1"},
		"wrong echo":                   {"set=keyId=other", "P-256", "key-plugin", `about the key "other", not about "release"`, "1"},
		"100 MB":                       {"huge", "P-256", "key-plugin", "it wrote more than 16 MiB", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, p, c := plugged(t, tt.algorithm)
			p.Default(c.With("fault", tt.fault))
			formats := formats
			if strings.HasPrefix(name, "F31") { // by design they take their time
				formats = formats[:1]
			}
			for _, format := range formats {
				before := p.Calls("generate-signature")
				o := d.refused(t, 6, tt.reason, []string{tt.says, "signing with " + pluginKey}, "sign", d.ref, "--key", pluginKey, "--chain", c["chain-file"],
					"--signature-format", format)
				if got := o.field(t, "keyCalls"); got != tt.calls {
					t.Errorf("%s: %s key calls, want %s\n%s", format, got, tt.calls, o.stdout)
				}
				spent(t, tt.calls, p.Calls("generate-signature")-before)
			}
		})
	}
}

// TestPluginHangs: a plugin that never answers is ended after half a minute, with all that it started.
func TestPluginHangs(t *testing.T) {
	t.Parallel()
	d, p, c := plugged(t, "P-256")
	p.Default(c.With("fault", "hang").With("pids-file", d.at("pids")))
	o := d.run(t, "sign", d.ref, "--key", pluginKey, "--chain", c["chain-file"], "-o", "json")
	if o.code != 6 || o.field(t, "reason") != "key-unreachable" || o.field(t, "keyCalls") != "1" || d.writes() != 0 {
		t.Errorf("exit code %d, %d writes\n%s%s", o.code, d.writes(), o.stdout, o.stderr)
	}
	if o.took < 29*time.Second || o.took > 40*time.Second {
		t.Errorf("it took %s", o.took)
	}
	if left, err := plugintest.Left(d.at("pids")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestPluginMissing: no such plugin, or a name that is none.
func TestPluginMissing(t *testing.T) {
	t.Parallel()
	d, p, _ := plugged(t, "P-256")
	d.refused(t, 6, "key-plugin", []string{"opening key plugin:absent?id=k: no plugin absent is installed", p.Libexec}, "sign", d.ref, "--key", "plugin:absent?id=k")
	d.refused(t, 3, "key-uri", []string{"names no plugin"}, "key", "show", "plugin:../test?id=k")
	// What the working folder holds is no plugin.
	plugintest.InstallAt(t, filepath.Join(d.dir, "plugins", "absent", "notation-absent"))
	plugintest.InstallAt(t, filepath.Join(d.dir, "notation-absent"))
	d.refused(t, 6, "key-plugin", []string{"no plugin absent is installed"}, "sign", d.ref, "--key", "plugin:absent?id=k")
}

// TestPluginInterrupted: whoever loses patience takes the plugin, and what that has started, along.
func TestPluginInterrupted(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		d, p, c := plugged(t, "P-256")
		pids := d.at("pids")
		p.Default(c.With("fault", "hang").With("pids-file", pids))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		run := exec.CommandContext(ctx, filepath.Join(built, "imprint"), "sign", d.ref, "--key", pluginKey)
		run.Env, run.Dir = slices.Clone(d.env), d.dir
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		for {
			if b, err := os.ReadFile(pids); err == nil && strings.Count(string(b), "\n") == 2 {
				break
			}
			if ctx.Err() != nil {
				t.Fatal("the plugin was never started")
			}
			time.Sleep(10 * time.Millisecond)
		}
		begun := time.Now()
		if err := run.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if err := run.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 128+int(signal) {
			t.Errorf("%s: %v", signal, err)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("%s: it took %s to end", signal, took)
		}
		for until := time.Now().Add(3 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			left, err := plugintest.Left(pids)
			if err != nil {
				t.Fatal(err)
			}
			if len(left) == 0 {
				break
			}
			if time.Now().After(until) {
				t.Fatalf("%s: left behind: %s", signal, left)
			}
		}
		if n := d.writes(); n != 0 {
			t.Errorf("%d writes", n)
		}
	}
}

// TestPluginSecrets: imprint's own passphrase is not for plugins.
func TestPluginSecrets(t *testing.T) {
	t.Parallel()
	d, p, c := plugged(t, "P-256")
	p.Default(c.With("record-file", d.at("record")))
	d.env = append(d.env, "IMPRINT_PASSPHRASE=canary-passphrase")
	d.ok(t, "sign", d.ref, "--key", pluginKey)
	b, err := os.ReadFile(d.at("record"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), "generate-signature") || strings.Contains(string(b), "canary") {
		t.Errorf("the plugin was told\n%s", b)
	}
}
