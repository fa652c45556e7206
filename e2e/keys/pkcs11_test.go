package keys

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/dir"
	"github.com/notaryproject/notation-go/plugin"
	notationregistry "github.com/notaryproject/notation-go/registry"
	"github.com/notaryproject/notation-go/signer"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms/kmstest/pkcs11test"
)

// The way of a publisher whose key is in a token: a request, a certificate in a file, signatures that notation accepts. The PIN
// comes each way that there is.
func TestPKCS11(t *testing.T) {
	t.Parallel()
	for i, algorithm := range certtest.Algorithms {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			h := hsm(t, nil, pkcs11test.Pair("release", 1, certtest.Key(algorithm)))
			d := tokened(t, h)
			key, more := h.URI("token=hsm;object=release"), []string(nil)
			switch i % 3 {
			case 0:
				more = []string{"--passphrase-file", d.pinFile()}
			case 1:
				key = h.URI("token=hsm;object=release", "pin-source="+d.pinFile())
			case 2:
				d.env = append(d.env, "IMPRINT_PASSPHRASE="+userPIN)
			}
			chain := d.certified(t, key, more...)
			if strings.HasPrefix(algorithm, "RSA") {
				d.certified(t, key, append([]string{"--pkcs1"}, more...)...)
			}
			d.signs(t, key, "1", append([]string{"--chain", chain}, more...)...)
		})
	}
}

// The certificates are on the token: the key's name is all that is needed.
func TestPKCS11KeptChain(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	for i, algorithm := range certtest.Algorithms {
		k := certtest.Key(algorithm)
		pair := pkcs11test.Pair("release", byte(0xa0+i), k, d.ca.Leaf(k.Public(), algorithm))
		h := hsm(t, d.ca.Chain(d.ca.Certificate)[1:], pair)
		d.file("pin", []byte(userPIN))
		d.seesTokens(h)
		key := h.URI("token=hsm;object=release", "pin-source="+d.pinFile())
		d.signs(t, key, "1")

		// Showing a key shows nobody its PIN.
		around := h.Around(t)
		d.seesTokens(around)
		shown := d.ok(t, "key", "show", around.URI("token=hsm;object=release"), "-o", "json")
		for field, want := range map[string]string{
			"service": "PKCS #11", "kept.certificates": "3", "kept.complete": "true", "keyCalls": "0",
			"id": around.URI(fmt.Sprintf("serial=%s;id=%%%02X", h.Token("hsm").Serial, 0xa0+i)),
		} {
			if got := shown.field(t, field); got != want {
				t.Errorf("%s: key show: %s is %q, want %q", algorithm, field, got, want)
			}
		}
		if n := around.Calls("C_Login"); n != 0 {
			t.Errorf("%s: key show logs in %d times", algorithm, n)
		}
	}
}

// The name that key show prints opens the same key.
func TestPKCS11Pinned(t *testing.T) {
	t.Parallel()
	h := hsm(t, nil, pkcs11test.Pair("release", 1, certtest.Key("P-256")), pkcs11test.Pair("other", 2, certtest.Key("P-384")))
	d := tokened(t, h)
	id := d.ok(t, "key", "show", h.URI("object=release"), "-o", "json").field(t, "id")
	chain := d.certified(t, id, "--passphrase-file", d.pinFile())
	d.signs(t, id, "1", "--chain", chain, "--passphrase-file", d.pinFile())
}

// stock returns notation-pkcs11 as notation-go runs it: with the environment of a process, which notation-go does not choose.
func stock(t testing.TB, h *pkcs11test.HSM) string {
	t.Helper()
	folder := t.TempDir()
	script := "#!/bin/sh\n"
	for _, variable := range h.Env {
		name, value, _ := strings.Cut(variable, "=")
		script += fmt.Sprintf("%s='%s'; export %s\n", name, value, name)
	}
	script += fmt.Sprintf("exec '%s' \"$@\"\n", filepath.Join(built, "notation-pkcs11"))
	path := filepath.Join(folder, "notation-pkcs11")
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// Stock notation signs with the same executable, and imprint accepts it.
func TestPKCS11NotationSigns(t *testing.T) {
	t.Parallel()
	for _, algorithm := range certtest.Algorithms {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			d.file("pin", []byte(userPIN+"\n"))
			k := certtest.Key(algorithm)
			leaf := d.ca.Leaf(k.Public(), algorithm)
			bare := pkcs11test.Pair("bare", 2, k)
			bare.NoPublic = true
			h := hsm(t, d.ca.Chain(d.ca.Certificate)[1:], pkcs11test.Pair("release", 1, k, leaf), bare)
			host, err := plugin.NewCLIPlugin(t.Context(), "pkcs11", stock(t, h))
			if err != nil {
				t.Fatal(err)
			}
			whole := d.file("chain.pem", certtest.PEM(d.ca.Chain(leaf)...))
			for _, c := range []struct {
				key    string
				config map[string]string
			}{
				{h.URI("token=hsm;object=release", "pin-source="+d.pinFile()), nil},
				{h.URI("token=hsm;id=%01"), map[string]string{"pin-source": d.pinFile()}},
				{h.URI("token=hsm;object=release"), map[string]string{"pin-source": d.pinFile(), "chain-file": whole}},
			} {
				s, err := signer.NewPluginSigner(host, c.key, c.config)
				if err != nil {
					t.Fatal(err)
				}
				for _, format := range []string{"application/jose+json", "application/cose"} {
					ref := d.image(t, t.Name()+c.key+format, "notation")
					r, err := remote.NewRepository(ref)
					if err != nil {
						t.Fatal(err)
					}
					r.PlainHTTP = true
					_, err = notation.Sign(t.Context(), s, notationregistry.NewRepository(r), notation.SignOptions{
						SignerSignOptions: notation.SignerSignOptions{SignatureMediaType: format}, ArtifactReference: r.Reference.Reference,
					})
					if err != nil {
						t.Fatalf("notation signs with %s in %s: %v", c.key, format, err)
					}
					d.accepted(t, ref)
					d.ok(t, "verify", ref, "--root", d.at("root.pem"))
				}
			}
		})
	}
}

// `notation plugin install` takes the executable.
func TestPKCS11NotationInstalls(t *testing.T) {
	t.Parallel()
	m := plugin.NewCLIManager(dir.NewSysFS(t.TempDir()))
	_, installed, err := m.Install(t.Context(), plugin.CLIInstallOptions{PluginPath: filepath.Join(built, "notation-pkcs11")})
	if err != nil {
		t.Fatal(err)
	}
	if installed.Name != "pkcs11" || fmt.Sprint(installed.Capabilities) != "[SIGNATURE_GENERATOR.RAW]" {
		t.Errorf("installed %+v", installed)
	}
}

// F32 and PIN: one login, whoever asks, and nothing pushed.
func TestPKCS11WrongPIN(t *testing.T) {
	t.Parallel()
	signs := certtest.Key("P-256")
	real := hsm(t, nil, pkcs11test.Pair("release", 1, signs))
	h := real.Around(t)
	d := tokened(t, h)
	chain := d.chainFor(signs.Public(), "release")
	key := h.URI("token=hsm;object=release")
	wrong := d.file("wrong", []byte("canary-wrong\n"))
	for _, c := range []struct{ uri, flag, value string }{
		{key, "--passphrase-file", wrong},
		{h.URI("token=hsm;object=release", "pin-source="+wrong), "--signature-format", "cose"},
	} {
		h.Reset()
		o := d.refused(t, 6, "key-denied", []string{"CKR_PIN_INCORRECT", h.Token("hsm").Serial}, "sign", d.ref, "--key", c.uri, "--chain", chain, c.flag, c.value)
		if strings.Contains(o.stdout+o.stderr, "canary-wrong") {
			t.Errorf("the PIN is in %s%s", o.stdout, o.stderr)
		}
		// refused runs imprint twice.
		if l, s := h.Calls("C_Login"), h.Calls("C_Sign"); l != 2 || s != 0 {
			t.Errorf("%d logins and %d signatures of two runs, want 2 and 0", l, s)
		}
	}

	// A batch of many shows it once, too.
	h.Reset()
	var refs []string
	for i := range 6 {
		refs = append(refs, d.image(t, fmt.Sprint("batch", i), fmt.Sprint("batch", i)))
	}
	before := d.writes()
	o := d.run(t, append([]string{"sign", "--key", key, "--chain", chain, "--passphrase-file", wrong}, refs...)...)
	if o.code != 6 || d.writes() != before {
		t.Errorf("exit code %d, %d writes\n%s%s", o.code, d.writes()-before, o.stdout, o.stderr)
	}
	if n := h.Calls("C_Login"); n != 1 {
		t.Errorf("a batch of six logs in %d times with a wrong PIN", n)
	}

	d.signs(t, key, "1", "--chain", chain, "--passphrase-file", d.pinFile())
}

// Each state of a token, a key and a module says so, costs as few logins and signatures as can be, and leaves nothing in the registry.
func TestPKCS11Refusals(t *testing.T) {
	t.Parallel()
	key := certtest.Key("P-256")
	silent, secp := pkcs11test.Pair("silent", 3, certtest.Key("P-384")), pkcs11test.Pair("secp", 4, certtest.Key("P-521"))
	silent.NoSign, secp.Params = true, []byte{6, 5, 0x2b, 0x81, 4, 0, 10}
	// Tokens of its own for each: SoftHSM does not bear a look at what somebody logs in to through another module's file.
	around := func(t *testing.T, faults ...string) *pkcs11test.HSM {
		return pkcs11test.New(t,
			pkcs11test.Token{Label: "hsm", PIN: userPIN, Keys: []pkcs11test.Key{pkcs11test.Pair("release", 1, key), silent, secp}},
			pkcs11test.Token{Label: "spare", PIN: userPIN, Keys: []pkcs11test.Key{pkcs11test.Pair("release", 1, key)}}).Around(t, faults...)
	}
	for _, c := range []struct {
		name, faults, attributes string
		code                     int
		reason                   string
		says                     []string
		calls                    string // of the key, as imprint counts them
		logins, signs            int    // that reach the token, in each run
	}{
		{"wrong region: no such token", "", "token=absent;object=release", 6, "key-not-found", []string{`token "absent"`, "hsm (serial ", "spare (serial "}, "", 0, 0},
		{"no such key", "", "token=hsm;object=absent", 6, "key-not-found", []string{`object "absent"`, "object=release;id=%01"}, "", 1, 0},
		{"two tokens", "", "object=release", 6, "key-not-found", []string{"2 keys match", "serial="}, "", 0, 0},
		{"two keys", "", "token=hsm", 6, "key-not-found", []string{"3 keys match", "object=silent;id=%03"}, "", 0, 0},
		{"F32 disabled: may not sign", "", "token=hsm;object=silent", 6, "key-unusable", []string{"CKA_SIGN"}, "1", 1, 0},
		{"secp256k1", "", "token=hsm;object=secp", 3, "key-algorithm", []string{"secp256k1", "P-256, P-384, P-521"}, "", 0, 0},
		{"F32 locked", "locked", "token=hsm;object=release", 6, "key-unusable", []string{"is locked"}, "1", 0, 0},
		{"F32 locks", "login=0xA4", "token=hsm;object=release", 6, "key-unusable", []string{"CKR_PIN_LOCKED"}, "1", 1, 0},
		{"F31 endpoint dead: does not start", "initialize=0x30", "token=hsm;object=release", 6, "key-unreachable", []string{"CKR_DEVICE_ERROR"}, "", 0, 0},
		{"F34 wrong signature", "corrupt", "token=hsm;object=release", 6, "key-signature", []string{"no signature of the key"}, "1", 1, 1},
		{"F33 crashes when it has signed", "crash", "token=hsm;object=release", 6, "key-plugin", []string{"exit status 2", "SIGABRT"}, "1", 1, 1},
		{"F32 cancelled at the token", "sign=0x50", "token=hsm;object=release", 6, "key-denied", []string{"CKR_FUNCTION_CANCELED"}, "1", 1, 1},
		{"F32 expired PIN", "login=0xA3", "token=hsm;object=release", 6, "key-unusable", []string{"CKR_PIN_EXPIRED"}, "1", 1, 0},
		{"F32 refuses the PIN", "login=0xA0", "token=hsm;object=release", 6, "key-denied", []string{"CKR_PIN_INCORRECT"}, "1", 1, 0},
		{"F31 failing", "sign=0x30", "token=hsm;object=release", 6, "key-service", []string{"CKR_DEVICE_ERROR"}, "1", 1, 1},
		{"F33 gone when it signs", "sign=0x32", "token=hsm;object=release", 6, "key-unreachable", []string{"CKR_DEVICE_REMOVED"}, "1", 1, 1},
		{"F33 gone at the login", "login=0xE0", "token=hsm;object=release", 6, "key-unreachable", []string{"CKR_TOKEN_NOT_PRESENT"}, "1", 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := around(t, c.faults)
			d := tokened(t, h)
			pub := key.Public()
			if strings.Contains(c.attributes, "silent") {
				pub = silent.Signer.Public()
			}
			chain := d.chainFor(pub, "release")
			o := d.refused(t, c.code, c.reason, c.says, "sign", d.ref, "--key", h.URI(c.attributes), "--chain", chain, "--passphrase-file", d.pinFile())
			if got := o.field(t, "keyCalls"); got != c.calls {
				t.Errorf("%q key calls, want %q\n%s", got, c.calls, o.stdout)
			}
			if l, s := h.Calls("C_Login"), h.Calls("C_Sign"); l != 2*c.logins || s != 2*c.signs { // refused runs imprint twice
				t.Errorf("%d logins and %d signatures of two runs, want %d and %d", l, s, 2*c.logins, 2*c.signs)
			}
		})
	}
	t.Run("key show", func(t *testing.T) {
		t.Parallel()
		h := around(t)
		d := tokened(t, h)
		d.refused(t, 3, "key-algorithm", []string{"secp256k1", "RSA 2048, 3072, 4096 or ECDSA P-256, P-384, P-521"}, "key", "show", h.URI("token=hsm;object=secp"))
		if n := h.Calls("C_Login"); n != 0 {
			t.Errorf("%d logins", n)
		}
	})
	t.Run("no module", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t)
		d.refused(t, 6, "key-unreachable", []string{"/nowhere/module.so"}, "key", "show", "pkcs11:object=o?module-path=/nowhere/module.so")
	})
	t.Run("no PIN", func(t *testing.T) {
		t.Parallel()
		h := around(t)
		d := tokened(t, h)
		d.refused(t, 6, "key-credentials", []string{"PIN", "hsm"}, "sign", d.ref, "--key", h.URI("token=hsm;object=release"), "--chain", d.chainFor(key.Public(), "release"))
		if n := h.Calls("C_Login"); n != 0 {
			t.Errorf("%d logins without a PIN", n)
		}
	})
	t.Run("no certificate", func(t *testing.T) {
		t.Parallel()
		h := around(t)
		d := tokened(t, h)
		d.refused(t, 3, "usage", []string{"certificate"}, "sign", d.ref, "--key", h.URI("token=hsm;object=release"), "--passphrase-file", d.pinFile())
		if n := h.Calls("C_Login"); n != 0 {
			t.Errorf("%d logins for a key without certificates", n)
		}
	})
}

// What a module prints does not get into the answers, and one that cannot lock is called by one at a time.
func TestPKCS11OddModules(t *testing.T) {
	t.Parallel()
	signs := certtest.Key("P-256")
	h := hsm(t, nil, pkcs11test.Pair("release", 1, signs)).Around(t, "noise", "nolock")
	d := tokened(t, h)
	chain := d.chainFor(signs.Public(), "release")
	d.signs(t, h.URI("object=release"), "1", "--chain", chain, "--passphrase-file", d.pinFile())
	d.refused(t, 6, "key-not-found", []string{`object "absent"`}, "key", "show", h.URI("object=absent"), "--passphrase-file", d.pinFile())
}
