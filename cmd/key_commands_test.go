package cmd

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/kms"
)

// TestChainCheckOfIssuers: a file of authorities alone is completed by what is kept beside the key, as imprint sign does it.
func TestChainCheckOfIssuers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.cloud("awskms", &cloud{})
	own := w.issued(c)
	w.file("ca.pem", string(certtest.PEM(own[1], own[2])))
	w.file("root.pem", string(certtest.PEM(own[2])))
	var checked ui.CheckedChain
	check := func(code int, args ...string) {
		t.Helper()
		checked = ui.CheckedChain{}
		decode(t, w.want(code, append([]string{"chain", "check", "-o", "json"}, args...)...), &checked)
	}
	c.kept = own[:1]
	if check(0, w.path("ca.pem"), "--key", alias); !checked.Valid || checked.KeptAt != pinned || len(checked.Certificates) != 3 || !*checked.KeyMatches {
		t.Errorf("%+v", checked)
	}
	if out := w.want(0, "chain", "check", w.path("ca.pem"), "--key", alias).out; !strings.Contains(out, "ca.pem and what is kept beside the key\n") {
		t.Error(out)
	}
	if check(3, w.path("root.pem"), "--key", alias); checked.Reason != "incomplete" || checked.KeptAt != pinned {
		t.Errorf("%+v", checked)
	}
	// A service that keeps none: what is missing is the certificate, not another authority.
	c.kept = nil
	got := w.want(3, "chain", "check", w.path("ca.pem"), "--key", alias)
	if !strings.Contains(got.out, "key-mismatch") || !strings.Contains(got.err, "imprint: hint: get a certificate for it: imprint key csr "+alias) ||
		!strings.Contains(got.err, "imprint chain check FILE --key "+alias) {
		t.Errorf("%s%s", got.out, got.err)
	}
	// A chain with its leaf, and a key in a file, are what they are.
	asked := c.asked.Load()
	check(0, w.path("chain.pem"), "--key", alias)
	w.file("own.key", string(certtest.KeyPEM(c.key)))
	if check(3, w.path("ca.pem"), "--key", w.path("own.key")); checked.Reason != "leaf-basic-constraints" || c.asked.Load() != asked {
		t.Errorf("%+v, asked %d times", checked, c.asked.Load()-asked)
	}
	// It has no --chain.
	if got := w.want(3, "chain", "check", "--key", w.path("own.key")); strings.Contains(got.err, "--chain") || !strings.Contains(got.err, "imprint chain check FILE") {
		t.Error(got.err)
	}
	if got := w.want(3, "chain", "check", "--key", alias); strings.Contains(got.err, "--chain") || !strings.Contains(got.err, "imprint key csr "+alias) {
		t.Error(got.err)
	}
}

// TestChainBuildOfIssuers: chain build completes a file of authorities alone as imprint sign does, too.
func TestChainBuildOfIssuers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.cloud("awskms", &cloud{})
	own := w.issued(c)
	c.kept = own[:1]
	var built ui.BuiltChain
	decode(t, w.want(0, "chain", "build", w.path("ca.pem"), "--key", alias, "-o", "json"), &built)
	if built.KeptAt != pinned || len(built.Certificates) != 3 || len(built.LeftOut) != 0 || built.PEM != string(certtest.PEM(own...)) {
		t.Errorf("%+v", built)
	}
	asked := c.asked.Load()
	decode(t, w.want(0, "chain", "build", w.path("chain.pem"), "--key", alias, "-o", "json"), &built)
	if c.asked.Load() != asked {
		t.Error("it asked for certificates that are in the file")
	}
	c.kept = nil
	complains(t, w.want(3, "chain", "build", w.path("ca.pem"), "--key", alias), "none of the 2 certificates is for the key", "get a certificate for it: imprint key csr "+alias)
	c.keepsFrom = denied(kms.CodeDenied, "allow secrets/get")
	complains(t, w.want(6, "chain", "build", w.path("ca.pem"), "--key", alias), "the service said no", "allow secrets/get")
}

// TestCallsForCertificates: requests and self-signed certificates say what they cost, also when they fail.
func TestCallsForCertificates(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"csr", "self-sign"} {
		w := newWorld(t)
		c := w.cloud("awskms", &cloud{})
		args := []string{"key", command, alias, "--subject", acme}
		var got struct{ KeyCalls int }
		decode(t, w.want(0, append(args, "-o", "json")...), &got)
		if got.KeyCalls != 1 || c.calls.Load() != 1 {
			t.Errorf("%s: %d calls counted, %d made", command, got.KeyCalls, c.calls.Load())
		}
		if out := w.want(0, append(args, "--out", w.path("out"))...).out; !strings.HasSuffix(out, "\n1 file written; 1 call to the key service\n") {
			t.Error(out)
		}
		c.sign = func(context.Context, int64) error { return denied(kms.CodeDenied, "") }
		failed := w.want(6, args...)
		complains(t, failed, "(1 call to the key service)", "permissions")
		if n := strings.Count(failed.err, pinned); n != 1 {
			t.Errorf("%s: the key is named %d times: %s", command, n, failed.err)
		}
		got.KeyCalls = 0
		if decode(t, w.want(6, append(args, "-o", "json")...), &got); got.KeyCalls != 1 {
			t.Errorf("%s: %d calls counted", command, got.KeyCalls)
		}
	}
	w := newWorld(t)
	w.cloud("awskms", &cloud{sign: func(context.Context, int64) error { return denied(kms.CodeDenied, "") }})
	var got struct{ KeyCalls int }
	if decode(t, w.want(6, "key", "show", alias, "--probe", "-o", "json"), &got); got.KeyCalls != 1 {
		t.Errorf("key show --probe: %d calls counted", got.KeyCalls)
	}
	if failed := w.want(6, "key", "show", alias, "--probe"); strings.Count(failed.err, pinned) != 1 {
		t.Errorf("the key is named more than once: %s", failed.err)
	}
}

// TestRequestIsCheckedFirst: what the arguments say is wrong before a key is opened, and before anybody pays for a signature.
func TestRequestIsCheckedFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.cloud("awskms", &cloud{})
	w.mkdir("folder")
	if err := os.Symlink(os.DevNull, w.path("null")); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"csr", "self-sign"} {
		key := []string{"key", command, alias}
		complains(t, w.want(3, append(key, "--subject", "CN=release")...), `--subject "CN=release": the subject lacks C`, "by C, ST and O")
		complains(t, w.want(3, append(key, "--subject", acme, "--san", "not a name")...), `"not a name" is no DNS name`, "uri:https://")
		complains(t, w.want(8, append(key, "--subject", acme, "--out", w.path("none/x"))...), "there is no folder", "make that folder first")
		for _, out := range []string{"folder", "null"} { // a rename would put a file in the place of a device
			complains(t, w.want(3, append(key, "--subject", acme, "--overwrite", "--out", w.path(out))...), "is no file", "standard output")
		}
	}
	if c.opened.Load() != 0 {
		t.Errorf("the key was opened %d times", c.opened.Load())
	}
	if _, err := os.Readlink(w.path("null")); err != nil {
		t.Error(err)
	}
	own := w.issued(c)
	w.file("all.pem", string(certtest.PEM(own...)))
	complains(t, w.want(3, "chain", "build", w.path("all.pem"), "--overwrite", "--out", w.path("null")), "is no file", "standard output")
	// A link to a file is replaced, as before.
	if err := os.Symlink(w.path("all.pem"), w.path("link")); err != nil {
		t.Fatal(err)
	}
	w.want(0, "chain", "build", w.path("all.pem"), "--overwrite", "--out", w.path("link"))
}

// TestHintsOfKeyCommands: a hint speaks of what was being done.
func TestHintsOfKeyCommands(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	complains(t, w.want(3, "key", "show", "./none.key"), "no such file", "imprint key generate")
	open := w.file("open.key", string(certtest.KeyPEM(certtest.Key("P-256"))))
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	complains(t, w.want(3, "key", "show", open), "mode 0644", "chmod 600")
	for _, code := range []string{kms.CodeSignature, kms.CodeService} {
		c := w.cloud("awskms", &cloud{sign: func(context.Context, int64) error { return denied(code, "") }})
		for _, args := range [][]string{{"key", "show", alias, "--probe"}, {"key", "csr", alias, "--subject", acme}} {
			if got := w.want(6, args...); strings.Contains(got.err, "pushed") {
				t.Error(got.err)
			}
		}
		c.sign, c.keepsFrom = nil, denied(code, "")
		if got := w.want(0, "key", "show", alias); strings.Contains(got.err, "pushed") || !strings.Contains(got.out, "see the warning") {
			t.Errorf("%s%s", got.out, got.err)
		}
	}
	absolute := w.path("none.pem")
	w.cloud("awskms", &cloud{})
	if got := w.want(3, "sign", "oci:lay:1.0", "--key", alias, "--chain", absolute); strings.Contains(got.err, "relative path") || !strings.Contains(got.err, "spelled") {
		t.Error(got.err)
	}
	if got := w.want(3, "sign", "oci:lay:1.0", "--key", alias, "--chain", filepath.Base(absolute)); !strings.Contains(got.err, "relative path") {
		t.Error(got.err)
	}
}

// TestPluginConfigIsForPlugins: a configuration that would have no effect is a mistake.
func TestPluginConfigIsForPlugins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for uri, code := range map[string]int{alias: 3, "./x.key": 3, "plugin:none?id=k": 6, "pkcs11:object=k": 6} {
		w.file("conf.yaml", "keys:\n  release: {uri: '"+uri+"', plugin-config: {a: b}}\n")
		got := w.run("key", "show", "release", "--config", w.path("conf.yaml"))
		if strings.Contains(got.err, "conf.yaml:2:") != (code == 3) || code == 3 && !strings.Contains(got.err, "plugin-config") {
			t.Errorf("%s: %s", uri, got.err)
		}
	}
}

// TestPlanOfWholeEnvelopes: what is not known beforehand is left out of JSON, not said as nothing.
func TestPlanOfWholeEnvelopes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env.Keys["plugin"] = func(context.Context, *url.URL, kms.Options) (kms.Key, error) {
		return enveloper{new(atomic.Int64)}, nil
	}
	w.image("lay", "one", "1.0")
	got := w.want(0, "sign", "oci:"+w.path("lay")+":1.0", "--key", "plugin:com.example.envelopes?id=k", "--dry-run", "-o", "json")
	for _, absent := range []string{"0001-01-01", `"holdsUntil"`, `"firstToEnd"`, `"chain"`, `"identity"`, `"algorithm"`} {
		if strings.Contains(got.out, absent) {
			t.Errorf("%s in %s", absent, got.out)
		}
	}
}

// TestCallsOfOpening: a plugin signs in order to tell its public key; whoever makes it do so is told.
func TestCallsOfOpening(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.cloud("plugin", &cloud{spent: 1, service: "notation plugin x", pinned: "plugin:x?id=k"})
	c.kept = w.issued(c)
	const key = "plugin:x?id=k"
	for name, args := range map[string][]string{
		"check": {"chain", "check", "--key", key}, "build": {"chain", "build", w.path("chain.pem"), "--key", key},
		"show": {"key", "show", key}, "doctor": {"doctor", "--key", key},
	} {
		var got struct{ KeyCalls int }
		if decode(t, w.want(0, append(args, "-o", "json")...), &got); got.KeyCalls != 1 {
			t.Errorf("%s: %d calls counted", name, got.KeyCalls)
		}
	}
	for _, args := range [][]string{{"chain", "check", "--key", key}, {"chain", "build", w.path("chain.pem"), "--key", key, "--out", w.path("out.pem")}, {"doctor", "--key", key}} {
		if out := w.want(0, args...).out; !strings.HasSuffix(out, "; 1 call to the key service\n") {
			t.Error(out)
		}
	}
	var got struct{ KeyCalls int }
	if decode(t, w.want(0, "doctor", "--key", key, "--write", "-o", "json"), &got); got.KeyCalls != 2 {
		t.Errorf("doctor --write: %d calls counted", got.KeyCalls)
	}
	var checked ui.CheckedChain
	got2 := w.want(3, "chain", "check", "--key", key, "--at", "2100-01-01", "-o", "json")
	if decode(t, got2, &checked); checked.Hint == "" || !strings.Contains(got2.err, "imprint: hint: "+checked.Hint) {
		t.Errorf("%+v %s", checked, got2.err)
	}
}

// full is a standard output on a full disk.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestNothingIsSaidOfALostAnswer: what to do with an answer is not said if it could not be written.
func TestNothingIsSaidOfALostAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.issued(w.cloud("awskms", &cloud{}))
	for _, args := range [][]string{{"key", "csr", alias, "--subject", acme}, {"chain", "build", w.path("chain.pem")}} {
		var said bytes.Buffer
		env := w.env
		env.Out, env.Err = full{}, &said
		if code := Run(t.Context(), args, env); code != 8 || !strings.HasPrefix(said.String(), "imprint: error: writing the answer: ") {
			t.Errorf("exit %d: %s", code, said.String())
		}
	}
}
