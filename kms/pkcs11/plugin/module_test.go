package plugin_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms/kmstest/pkcs11test"
)

// What a module does wrong, and does not succeed with.
func TestBadModules(t *testing.T) {
	t.Parallel()
	key := certtest.Key("P-521")
	real := pkcs11test.New(t, pkcs11test.Token{Label: "hsm", PIN: pin, Keys: []pkcs11test.Key{pkcs11test.Pair("release", 1, key)}})
	ask := func(h *pkcs11test.HSM) outcome {
		return ask(t, h, "generate-signature", h.URI("object=release"), signing(t, key.Public(), "pin", pin, "chain", "optional"))
	}
	h := real.Around(t, "corrupt")
	ask(h).fails(t, "ERROR", "signature", "no signature of the key that was opened")
	if n := h.Calls("C_Sign"); n != 1 {
		t.Errorf("%d signatures", n)
	}
	ask(real.Around(t, "sign=0x50")).fails(t, "ACCESS_DENIED", "denied", "CKR_FUNCTION_CANCELED")
	ask(real.Around(t, "sign=0x5")).fails(t, "ERROR", "service", "CKR_GENERAL_ERROR")
	ask(real.Around(t, "initialize=0x5")).fails(t, "ERROR", "unreachable", "C_Initialize: CKR_GENERAL_ERROR")

	h = real.Around(t, "nolock")
	signs(t, h, h.URI("object=release"), key.Public(), "pin", pin, "chain", "optional")
	if locking, alone := h.Calls("C_Initialize locking"), h.Calls("C_Initialize alone"); locking != 1 || alone != 1 {
		t.Errorf("started %d times with locks and %d times without, want 1 and 1", locking, alone)
	}

	// About every fourth signature of P-521 has zeros in front of both numbers.
	h = real.Around(t, "short")
	for range 200 {
		signs(t, h, h.URI("object=release"), key.Public(), "pin", pin, "chain", "optional")
		if h.Calls("C_Sign short") > 0 {
			break
		}
	}
	if h.Calls("C_Sign short") == 0 {
		t.Error("no signature came short")
	}
}

func TestUnloadableModules(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "text.so")
	if err := os.WriteFile(text, []byte("no library\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ query, code, class, says string }{
		{"module-path=/nowhere/module.so", "ERROR", "unreachable", "/nowhere/module.so"},
		{"module-path=" + text, "ERROR", "unreachable", text},
		{"module-path=" + dir, "VALIDATION_ERROR", "uri", "is a folder"},
		{"module-path=" + dir + "&module-name=text", "ERROR", "unreachable", text},
		{"module-path=" + dir + "&module-name=absent", "ERROR", "unreachable", "module-name=absent"},
		{"module-path=module.so", "VALIDATION_ERROR", "uri", "not absolute"},
		{"module-name=no-such-module", "ERROR", "unreachable", "module-name=no-such-module"},
		{"module-name=../x", "VALIDATION_ERROR", "uri", "is no name"},
	} {
		ask(t, &pkcs11test.HSM{}, "describe-key", "pkcs11:object=o?"+c.query, nil).fails(t, c.code, c.class, c.says)
	}
	// A library that is no module.
	for _, library := range []string{"/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6", "/lib64/libm.so.6"} {
		if _, err := os.Stat(library); err == nil {
			ask(t, &pkcs11test.HSM{}, "describe-key", "pkcs11:object=o?module-path="+library, nil).fails(t, "ERROR", "unreachable", "C_GetFunctionList")
		}
	}
}

// Without a module in its URI a key is looked for in all that p11-kit knows.
func TestDefaultModule(t *testing.T) {
	t.Parallel()
	h := pkcs11test.New(t, pkcs11test.Token{Label: "by default", PIN: pin, Keys: []pkcs11test.Key{pkcs11test.Pair("release", 1, certtest.Key("P-256"))}})
	absent := t.Skip
	if os.Getenv("CI") != "" {
		absent = t.Fatal // .ci/run installs both
	}
	if _, err := os.Stat("/usr/share/p11-kit/modules/softhsm2.module"); err != nil {
		absent("p11-kit does not know SoftHSM here")
	}
	o := ask(t, h, "describe-key", "pkcs11:token=by%20default;object=release", nil)
	if o.failure.Metadata["class"] == "unreachable" {
		absent(o.failure.Message)
	}
	if uri, want := o.text(t, "uri"), "pkcs11:serial="+h.Token("by default").Serial+";id=%01"; uri != want {
		t.Errorf("%s, want %s", uri, want)
	}
}

func TestModuleName(t *testing.T) {
	t.Parallel()
	h := pkcs11test.New(t, pkcs11test.Token{Label: "hsm", PIN: pin, Keys: []pkcs11test.Key{pkcs11test.Pair("release", 1, certtest.Key("P-256"))}})
	if !strings.HasPrefix(h.Module, "/usr/lib/softhsm/") {
		t.Skip("SoftHSM is where modules are not looked for")
	}
	o := ask(t, h, "describe-key", "pkcs11:object=release?module-name=softhsm2", nil)
	if uri, want := o.text(t, "uri"), "pkcs11:serial="+h.Token("hsm").Serial+";id=%01?module-name=softhsm2"; uri != want {
		t.Errorf("%s, want %s", uri, want)
	}
}
