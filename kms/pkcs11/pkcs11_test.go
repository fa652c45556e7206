package pkcs11

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/kms/kmstest/pkcs11test"
	"github.com/imprint-oci/imprint/kms/pkcs11/cryptoki"
)

const userPIN = "canary-4711"

func secret(calls *int) kms.Options {
	return kms.Options{Secret: func(context.Context, string) ([]byte, error) {
		*calls++
		return []byte(userPIN), nil
	}}
}

// TestConformance opens keys in this process, which has one SoftHSM: it is not parallel, and no other test loads a module.
func TestConformance(t *testing.T) {
	token := pkcs11test.Token{Label: "hsm", PIN: userPIN}
	for i, algorithm := range certtest.Algorithms {
		token.Keys = append(token.Keys, pkcs11test.Pair(algorithm, byte(i+1), certtest.Key(algorithm)))
	}
	always := pkcs11test.Pair("always", 99, certtest.Key("P-256"))
	always.Always = true
	token.Keys = append(token.Keys, always)
	h := pkcs11test.New(t, token)
	for _, variable := range h.Env {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	for _, k := range token.Keys {
		t.Run(k.Label, func(t *testing.T) {
			asked := 0
			key, err := kms.Providers{"pkcs11": Open}.Open(t.Context(), h.URI("token=hsm;object="+k.Label), secret(&asked))
			if err != nil {
				t.Fatal(err)
			}
			if asked != 0 {
				t.Errorf("opening it asks for the PIN")
			}
			kmstest.RunWith(t, key, kmstest.Options{Network: true})
			if !k.Always && asked > 1 {
				t.Errorf("asked for the PIN %d times", asked)
			}
			if k.Always && asked < 20 {
				t.Errorf("asked for the PIN %d times, less than once per signature", asked)
			}
			if d := kms.Describe(key); d.Service != "PKCS #11" || d.PKCS1 != strings.HasPrefix(k.Label, "RSA") {
				t.Errorf("described as %+v", d)
			}
			if id := key.(kms.Identifier).ID(); !strings.Contains(id, "serial="+h.Token("hsm").Serial+";id=%") {
				t.Errorf("ID %s", id)
			}
			if certs, err := kms.Certificates(t.Context(), key); err != nil || len(certs) != 0 {
				t.Errorf("%d certificates, %v", len(certs), err)
			}
		})
	}
	t.Run("the error names the key, and not the file of its PIN", func(t *testing.T) {
		_, err := kms.Providers{"pkcs11": Open}.Open(t.Context(), h.URI("token=absent;object=o", "pin-source=/run/secrets/canary"), kms.Options{})
		if err == nil || !errors.Is(err, kms.ErrService) || !strings.Contains(err.Error(), "opening key pkcs11:token=absent;object=o?module-path=") ||
			strings.Contains(err.Error(), "canary") {
			t.Errorf("%v", err)
		}
	})
}

func TestParseSelector(t *testing.T) {
	t.Parallel()
	slot := uint(17)
	for uri, want := range map[string]*selector{
		"pkcs11:object=a%3bb%20c;id=%00%ff%41x;token=%2f": {object: "a;b c", id: []byte{0, 255, 'A', 'x'}, token: "/", class: cryptoki.ClassPrivateKey},
		"pkcs11:slot-id=17;type=cert?module-name=softhsm2&pin-source=/p%20q": {slot: &slot, class: cryptoki.ClassCertificate,
			moduleName: "softhsm2", pinSource: "/p q"},
		"pkcs11:model=m;serial=s;manufacturer=n;library-version=2.6;slot-description=d;type=public": {model: "m", serial: "s",
			manufacturer: "n", libraryVersion: "2.6", slotDescription: "d", class: cryptoki.ClassPublicKey},
	} {
		u, err := kms.ParseURI(uri)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseSelector(u)
		if err != nil {
			t.Errorf("%s: %v", uri, err)
		} else if diff := cmp.Diff(want, got, cmp.AllowUnexported(selector{})); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", uri, diff)
		}
	}
	for _, u := range []*url.URL{{Scheme: "file", Path: "/x"}, {Scheme: "pkcs11", Opaque: "later=1"}, {Scheme: "pkcs11", Opaque: "object=%zz"}, {Scheme: "pkcs11"}} {
		if sel, err := parseSelector(u); err == nil || !errors.Is(err, kms.ErrInvalid) {
			t.Errorf("%s: %+v, %v", u, sel, err)
		}
	}
}

// FuzzSelector: what kms.ParseURI lets through is read or refused, and what is read says what it wants.
func FuzzSelector(f *testing.F) {
	for _, seed := range []string{"pkcs11:token=a;object=b", "pkcs11:id=%00%ff;type=cert?module-name=x", "pkcs11:slot-id=18446744073709551615", "pkcs11:slot-id=-1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		u, err := kms.ParseURI(uri)
		if err != nil || u.Scheme != "pkcs11" {
			return
		}
		sel, err := parseSelector(u)
		if err != nil {
			if !errors.Is(err, kms.ErrInvalid) {
				t.Errorf("%s: %v", uri, err)
			}
			return
		}
		if sel.wantsToken() == "" || sel.wantsObject() == "" {
			t.Errorf("%s wants nothing", uri)
		}
		k := &key{token: &token{info: cryptoki.TokenInfo{Serial: "s"}}, object: object{id: sel.id, label: sel.object}}
		pinned, err := kms.ParseURI(sel.pinned(k))
		if err != nil {
			if len(sel.id) == 0 && sel.object != "" && strings.ContainsFunc(sel.object+sel.modulePath+sel.moduleName+sel.pinSource, unicode.IsControl) {
				return
			}
			t.Fatalf("%s is pinned as %s: %v", uri, sel.pinned(k), err)
		}
		again, err := parseSelector(pinned)
		if err != nil || !slices.Equal(again.id, sel.id) || len(sel.id) == 0 && again.object != sel.object || again.modulePath != sel.modulePath {
			t.Errorf("%s is pinned as %s", uri, kms.Format(pinned))
		}
	})
}

// A pinned URI is one that kms.ParseURI leaves as it is, and that asks for the same key.
func TestPinned(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sel   selector
		token cryptoki.TokenInfo
		key   object
		want  string
	}{
		{selector{}, cryptoki.TokenInfo{Label: "t", Serial: "0a1"}, object{id: []byte{1, 0xa4}, label: "l"}, "pkcs11:serial=0a1;id=%01%A4"},
		{selector{object: "l"}, cryptoki.TokenInfo{Label: "t", Serial: "s/;?"}, object{label: "l;m n"}, "pkcs11:serial=s%2F%3B%3F;object=l%3Bm%20n"},
		{selector{object: "l", id: []byte{1}}, cryptoki.TokenInfo{Serial: "s"}, object{id: []byte{1}, label: "l"}, "pkcs11:serial=s;object=l;id=%01"},
		{selector{modulePath: "/a b/c++.so", pinSource: "/p"}, cryptoki.TokenInfo{Label: "t"}, object{id: []byte("x")},
			"pkcs11:token=t;id=%78?module-path=/a%20b/c%2B%2B.so&pin-source=/p"},
	} {
		k := &key{token: &token{info: c.token}, object: c.key}
		got := c.sel.pinned(k)
		if got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
		u, err := kms.ParseURI(got)
		if err != nil {
			t.Fatal(err)
		}
		if again := kms.Format(u); again != got {
			t.Errorf("%s is rewritten as %s", got, again)
		}
		sel, err := parseSelector(u)
		if err != nil || !slices.Equal(sel.id, c.key.id) || sel.serial != c.token.Serial || sel.modulePath != c.sel.modulePath || sel.pinSource != c.sel.pinSource {
			t.Errorf("%s is read as %+v, %v", got, sel, err)
		}
	}
}

// Some modules leave out zeros in front of r and s.
func TestWidened(t *testing.T) {
	t.Parallel()
	pub := &certtest.Key("P-256").(*ecdsa.PrivateKey).PublicKey
	if pub.Curve != elliptic.P256() {
		t.Fatal(pub.Curve)
	}
	row := func(n int, b byte) []byte { return slices.Repeat([]byte{b}, n) }
	for _, c := range []struct{ in, want []byte }{
		{slices.Concat(row(32, 1), row(32, 2)), slices.Concat(row(32, 1), row(32, 2))},
		{slices.Concat(row(31, 1), row(31, 2)), slices.Concat(row(1, 0), row(31, 1), row(1, 0), row(31, 2))},
		{slices.Concat(row(1, 1), row(1, 2)), slices.Concat(row(31, 0), row(1, 1), row(31, 0), row(1, 2))},
		{row(63, 1), row(63, 1)}, {row(70, 1), row(70, 1)}, {nil, nil},
	} {
		if got := widened(pub, c.in); !slices.Equal(got, c.want) {
			t.Errorf("%x becomes %x, want %x", c.in, got, c.want)
		}
	}
}

// The default module is one that shows every token of the system, or there is a plain word that it is not installed.
func TestDefaultModule(t *testing.T) {
	t.Parallel()
	path, err := (&selector{}).module()
	var e *kms.Error
	switch {
	case err == nil && !strings.Contains(path, "p11-kit"):
		t.Errorf("%s", path)
	case err != nil && (!errors.As(err, &e) || e.Code != kms.CodeUnreachable || !strings.Contains(err.Error(), "p11-kit-proxy")):
		t.Errorf("%v", err)
	}
}
