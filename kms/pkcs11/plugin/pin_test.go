package plugin_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms/kmstest/pkcs11test"
)

// A PIN that is refused was shown once, and no signature was asked for.
func TestWrongPIN(t *testing.T) {
	t.Parallel()
	key := certtest.Key("P-256")
	h := pkcs11test.New(t, pkcs11test.Token{Label: "hsm", PIN: pin, Keys: []pkcs11test.Key{pkcs11test.Pair("release", 1, key)}}).Around(t)
	uri := h.URI("token=hsm;object=release")
	const wrong = "canary-wrong"
	o := ask(t, h, "generate-signature", uri, signing(t, key.Public(), "chain", "optional", "pin", wrong))
	o.fails(t, "ACCESS_DENIED", "denied", "CKR_PIN_INCORRECT", h.Token("hsm").String())
	if strings.Contains(o.stderr, wrong) {
		t.Errorf("the PIN is in the error: %s", o.stderr)
	}
	if l, s := h.Calls("C_Login"), h.Calls("C_Sign"); l != 1 || s != 0 {
		t.Errorf("%d logins and %d signatures, want 1 and 0", l, s)
	}
	if o.failure.Metadata["ask"] != "" {
		t.Error("it asks for a PIN again")
	}
	signs(t, h, uri, key.Public(), "chain", "optional", "pin", pin) // nothing is locked
}

func TestMissingPIN(t *testing.T) {
	t.Parallel()
	key := certtest.Key("P-256")
	h := pkcs11test.New(t, pkcs11test.Token{Label: "hsm", PIN: pin, Keys: []pkcs11test.Key{pkcs11test.Pair("release", 1, key)}}).Around(t)
	for _, given := range [][]string{nil, {"pin", ""}} {
		o := ask(t, h, "generate-signature", h.URI("token=hsm;object=release"), signing(t, key.Public(), append(given, "chain", "optional")...))
		o.fails(t, "ACCESS_DENIED", "credentials", "needs its PIN", h.Token("hsm").String())
		if o.failure.Metadata["ask"] != "pin" || o.failure.Metadata["token"] != h.Token("hsm").String() {
			t.Errorf("it does not ask for the PIN: %s", o.stderr)
		}
	}
	if n := h.Calls("C_Login"); n != 0 {
		t.Errorf("%d logins without a PIN", n)
	}
}

// The states of a PIN that only hardware has.
func TestStatesOfPIN(t *testing.T) {
	t.Parallel()
	key := certtest.Key("P-256")
	real := pkcs11test.New(t, pkcs11test.Token{Label: "hsm", PIN: pin, Keys: []pkcs11test.Key{pkcs11test.Pair("release", 1, key)}})
	for _, c := range []struct {
		name, fault, pin string
		code, class      string
		says             string
		logins           int
	}{
		{"locked before", "locked", pin, "ACCESS_DENIED", "unusable", "is locked", 0},
		{"locked meanwhile", "login=0xA4", pin, "ACCESS_DENIED", "unusable", "CKR_PIN_LOCKED", 1},
		{"expired", "login=0xA3", pin, "ACCESS_DENIED", "unusable", "CKR_PIN_EXPIRED", 1},
		{"never set", "login=0x102", pin, "ACCESS_DENIED", "unusable", "CKR_USER_PIN_NOT_INITIALIZED", 1},
		{"last try fails", "final", "wrong", "ACCESS_DENIED", "denied", "one try is left", 1},
		{"last try, nobody asked yet", "final", "", "ACCESS_DENIED", "credentials", "one try is left", 0},
		{"device fails", "login=0x30", pin, "ERROR", "service", "CKR_DEVICE_ERROR", 1},
		{"token gone", "login=0xE0", pin, "ERROR", "unreachable", "CKR_TOKEN_NOT_PRESENT", 1}, // three tries would be three PINs
		{"vendor's own", "login=0x80000123", pin, "ERROR", "service", "CKR_VENDOR_DEFINED+0x123", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := real.Around(t, c.fault)
			o := ask(t, h, "generate-signature", h.URI("object=release"), signing(t, key.Public(), "chain", "optional", "pin", c.pin))
			o.fails(t, c.code, c.class, c.says)
			if n := h.Calls("C_Login"); n != c.logins {
				t.Errorf("%d logins, want %d", n, c.logins)
			}
		})
	}
	t.Run("last try succeeds", func(t *testing.T) {
		t.Parallel()
		h := real.Around(t, "final")
		signs(t, h, h.URI("object=release"), key.Public(), "chain", "optional", "pin", pin)
	})
	t.Run("pad", func(t *testing.T) {
		t.Parallel()
		h := real.Around(t, "pinpad")
		h.Env = append(h.Env, "PROXY_PIN="+pin)
		signs(t, h, h.URI("object=release"), key.Public(), "chain", "optional")
		if n := h.Calls("C_Login 1 pad"); n != 1 {
			t.Errorf("%d logins at the pad", n)
		}
	})
}

// A key of CKA_ALWAYS_AUTHENTICATE (YubiKey 9c) wants the PIN for each signature besides the login.
func TestAlwaysAuthenticate(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"P-256", "RSA-2048"} {
		key := certtest.Key(algorithm)
		pair := pkcs11test.Pair("release", 1, key)
		pair.Always = true
		h := pkcs11test.New(t, pkcs11test.Token{Label: "hsm", PIN: pin, Keys: []pkcs11test.Key{pair}}).Around(t)
		signs(t, h, h.URI("object=release"), key.Public(), "chain", "optional", "pin", pin)
		if user, once := h.Calls("C_Login 1"), h.Calls("C_Login 2"); user != 1 || once != 1 {
			t.Errorf("%d logins of the user and %d for the signature, want 1 and 1", user, once)
		}
		h.Reset()
		ask(t, h, "generate-signature", h.URI("object=release"), signing(t, key.Public(), "chain", "optional", "pin", "wrong")).
			fails(t, "ACCESS_DENIED", "denied", "CKR_PIN_INCORRECT")
		if n := h.Calls("C_Login"); n != 1 {
			t.Errorf("%d logins with a wrong PIN", n)
		}
	}
}

func TestPINSource(t *testing.T) {
	t.Parallel()
	key := certtest.Key("P-256")
	h := pkcs11test.New(t, pkcs11test.Token{Label: "hsm", PIN: pin, Keys: []pkcs11test.Key{pkcs11test.Pair("release", 1, key)}}).Around(t)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("pin", pin+"\n")
	for _, source := range []string{good, file("crlf", pin+"\r\n"), file("bare", pin), "file:" + good, "file://" + good} {
		signs(t, h, h.URI("object=release", "pin-source="+source), key.Public(), "chain", "optional")
	}
	// The configuration's comes before the URI's, and a file before a PIN that is for whatever key.
	signs(t, h, h.URI("object=release", "pin-source=/nowhere"), key.Public(), "chain", "optional", "pin-source", good, "pin", "wrong")

	h.Reset()
	for source, says := range map[string]string{
		"/nowhere/pin":                          "/nowhere/pin",
		"pin":                                   "not absolute",
		"|cat " + good:                          "program",
		dir:                                     "directory",
		file("long", strings.Repeat("1", 1025)): "longer than 1024",
		file("two", pin+"\nother\n"):            "more than one line",
		file("none", "\n"):                      "empty",
	} {
		o := ask(t, h, "generate-signature", h.URI("object=release", "pin-source="+source), signing(t, key.Public(), "chain", "optional"))
		o.fails(t, "ACCESS_DENIED", "credentials", says)
		if o.failure.Metadata["ask"] != "" {
			t.Errorf("pin-source=%s: it asks for a PIN: %s", source, o.stderr)
		}
		if strings.Contains(o.stderr, pin) && !strings.Contains(source, pin) {
			t.Errorf("pin-source=%s: the PIN is in %s", source, o.stderr)
		}
	}
	if n := h.Calls("C_Login"); n != 0 {
		t.Errorf("%d logins without a PIN", n)
	}
}
